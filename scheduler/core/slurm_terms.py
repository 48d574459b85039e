"""What a job asks of Slurm beside its devices. Which of it a site takes is the site's to say."""

import re
from dataclasses import dataclass, replace
from typing import Final

from scheduler.core.terms import require
from scheduler.core.units import format_duration

MAX_CHARS: Final = 1024
TEXT_FORM: Final = f"a text of 1 to {MAX_CHARS} characters without line breaks and NUL"
_TEXTS: Final = ("partition", "account", "qos", "constraint", "licenses", "reservation")
_FILES: Final = ("output", "error")
_NAME_MARK: Final = re.compile(r"%(%|\d*x)")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSlurm:
    """Terms of one job, each as sbatch takes it; None: as its cluster's settings say.

    Args:
        time_limit_s: after so many seconds Slurm ends a run.
        output: pattern of a file name, relative to the working directory; `error` likewise.
        options: further options of sbatch, without dashes; an empty value for one without a value.

    Raises:
        InvalidJobError: a text that cannot be one argument of a command.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    licenses: str | None = None
    reservation: str | None = None
    time_limit_s: int | None = None
    output: str | None = None
    error: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in (*_TEXTS, *_FILES):
            value = getattr(self, name)
            if value is not None:
                _require_text(f"slurm.{name}", value, is_empty_allowed=False)
        for name, value in self.options:
            _require_text(f"slurm.options.{name}", value, is_empty_allowed=True)

    def asked(self) -> dict[str, str]:
        """Every term that the job states, by the name of its field, as a text for people."""
        texts = {name: getattr(self, name) for name in (*_TEXTS, *_FILES)}
        if self.time_limit_s is not None:
            texts["time_limit"] = format_duration(self.time_limit_s)
        if self.options:
            texts["options"] = ", ".join(f"{name}={value}" for name, value in self.options)
        return {name: text for name, text in texts.items() if text is not None}

    def named(self, name: str) -> "JobSlurm":
        """The same with `%x` in names of files as the user means it: the job's own name, not the run's."""

        def put(pattern: str | None) -> str | None:
            return pattern and _NAME_MARK.sub(
                lambda mark: mark[0] if mark[1] == "%" else name, pattern
            )

        return replace(self, output=put(self.output), error=put(self.error))


def _require_text(field: str, value: str, *, is_empty_allowed: bool) -> None:
    is_one_line = not any(ord(one) < 0x20 or ord(one) == 0x7F for one in value)
    is_encodable = not any(0xD800 <= ord(one) <= 0xDFFF for one in value)
    is_fitting = len(value) <= MAX_CHARS and (is_empty_allowed or bool(value.strip()))
    require(is_one_line and is_encodable and is_fitting, field, value, TEXT_FORM)
