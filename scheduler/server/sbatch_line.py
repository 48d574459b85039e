"""The command line of `gridtide sbatch`, taken apart: our words, sbatch's options, the script. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from scheduler.core.errors import InvalidInputError
from scheduler.core.names import suggest
from scheduler.server.native_jobs import WORDS
from scheduler.server.sbatch_options import LETTERS, OPTIONS, Takes

_DRY_RUN: Final = "dry_run"
_FLAGS: Final = ("interruptible", _DRY_RUN)
_MERGED: Final = "comment"
"""The one option of sbatch that is not passed on as it is: ours is written behind it."""

AskSite = Callable[[], Mapping[str, Takes]]
"""Tells the options of the site's own sbatch, by long name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SbatchLine:
    """A command line, or what the directives of a script make of one.

    Args:
        words: what the user states to us, by names of a job document's fields.
        options: the values of sbatch's options, by long name; the last of each, None without a value.
        passed: sbatch's options as they were written, without any comment.
        script: the script with its arguments, and `--` before it where there was one.
    """

    words: Mapping[str, str]
    options: Mapping[str, str | None]
    passed: tuple[str, ...]
    script: tuple[str, ...]
    is_dry_run: bool = False

    @property
    def script_name(self) -> str | None:
        """The script's name; None where sbatch reads it from its input, or is given its text."""
        named = self.script[1:] if self.script[:1] == ("--",) else self.script
        return named[0] if named else None


def split_line(
    arguments: Sequence[str], *, ask_site: AskSite, takes_words: bool = True
) -> SbatchLine:
    """Splits what stands behind `gridtide sbatch`, or behind `#SBATCH`, where our words are none.

    Raises:
        InvalidInputError: an option that neither we nor sbatch know, or one without its value.
    """
    return _Splitter(arguments, ask_site, takes_words=takes_words).split()


class _Splitter:
    def __init__(self, arguments: Sequence[str], ask_site: AskSite, *, takes_words: bool) -> None:
        self._left = list(reversed(arguments))
        self._ask_site = ask_site
        self._own = (*WORDS, _DRY_RUN) if takes_words else ()
        self._words: dict[str, str] = {}
        self._options: dict[str, str | None] = {}
        self._passed: list[str] = []

    def split(self) -> SbatchLine:
        while self._left and self._left[-1].startswith("-") and self._left[-1] not in ("-", "--"):
            word = self._left.pop()
            if word.startswith("--"):
                self._long(word)
            else:
                self._letters(word)
        is_dry_run = self._words.pop(_DRY_RUN, None) is not None
        return SbatchLine(
            words=self._words,
            options=self._options,
            passed=tuple(self._passed),
            script=tuple(reversed(self._left)),
            is_dry_run=is_dry_run,
        )

    def _long(self, word: str) -> None:
        name, sign, value = word[2:].partition("=")
        own = name.replace("-", "_")
        if own in self._own:
            stated = value if sign else self._own_value(name, own)
            if not _is_of_sbatch(own, stated):
                self._state(own, stated)
                return
            self._keep(own, stated, (f"--{name}={stated}",))
            return
        full, takes = self._find(name, has_value=bool(sign))
        if sign:
            self._keep(full, value, (word,))
        elif takes is Takes.VALUE:
            value = self._value(word)
            self._keep(full, value, (word, value))
        else:
            self._keep(full, None, (word,))

    def _own_value(self, name: str, own: str) -> str:
        return "yes" if own in _FLAGS else self._value(f"--{name}")

    def _state(self, own: str, value: str) -> None:
        if own in self._words and own != _DRY_RUN:
            raise InvalidInputError(
                f"{own}: stated twice: {self._words[own]!r} and {value!r}; state it once",
                field=own,
                value=value,
            )
        self._words[own] = value

    def _letters(self, word: str) -> None:
        """One word of letters: flags, and at most one option with its value at the end."""
        for index, letter in enumerate(word[1:], start=2):
            name = LETTERS.get(letter)
            if name is None:
                self._fail(
                    f"-{letter}", "is no option of sbatch that is known here", valid="its long form"
                )
            takes, rest = OPTIONS[name], word[index:]
            if takes is Takes.NOTHING:
                self._options[name] = None
                continue
            if takes is Takes.VALUE and not rest:
                value = self._value(f"-{letter}")
                self._keep(name, value, (word, value))
            else:
                self._keep(name, rest or None, (word,))
            return
        self._passed.append(word)

    def _keep(self, name: str, value: str | None, written: tuple[str, ...]) -> None:
        self._options[name] = value
        if name != _MERGED:
            self._passed += written

    def _value(self, word: str) -> str:
        if not self._left:
            self._fail(word, "needs a value", valid=f"{word} VALUE")
        return self._left.pop()

    def _find(self, name: str, *, has_value: bool) -> tuple[str, Takes]:
        """The full name of an option that may be cut short, and whether it takes a value."""
        if name in OPTIONS:
            return name, OPTIONS[name]
        matches = [full for full in OPTIONS if name and full.startswith(name)]
        if len(matches) == 1:
            (full,) = matches
            if full in self._own:
                self._fail(
                    f"--{name}", f"may mean two things: write --{full} in full", valid=f"--{full}"
                )
            return full, OPTIONS[full]
        if len(matches) > 1:
            self._fail(
                f"--{name}",
                f"may mean {' or '.join(f'--{one}' for one in matches)}",
                valid="its full name",
            )
        if has_value:
            return name, Takes.VALUE  # sbatch may know it; what is its value is plain to see
        site = self._ask_site()
        if name not in site:
            known = (one.replace("_", "-") for one in (*self._own, *OPTIONS, *site))
            self._fail(
                f"--{name}",
                f"is an option neither here nor of sbatch; {suggest(name, known)}",
                valid=f"--{name}=VALUE for an option of sbatch that its help does not list",
            )
        return name, site[name]

    def _fail(self, word: str, why: str, *, valid: str) -> NoReturn:
        raise InvalidInputError(f"{word}: {why}", field=word, value=word, valid=valid)


def _is_of_sbatch(own: str, value: str) -> bool:
    """Whether an option that both have is meant for sbatch: `--signal=USR1@60` goes by the time limit."""
    return own == "signal" and ("@" in value or value.upper().startswith(("R:", "RB:", "BR:")))


def directives(script: str) -> Iterator[str]:
    """The texts of the lines that speak to sbatch: those before the first command.

    A line of another kind, such as `#SBATCH hetjob`, is a text without an option.
    """
    for line in script.split("\n"):
        if line.startswith("#SBATCH"):
            yield line.removeprefix("#SBATCH").strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            return
