"""A process that dies at one chosen point: before or after any call to its store or its clusters."""

from typing import Any, Final

WRITES: Final = frozenset(
    {
        "add_jobs",
        "update_job",
        "add_event",
        "put_entry",
        "put_document",
        "remove_jobs",
        "write",
        "take_lease",
        "drop_lease",
        "submit",
        "pause",
        "resume",
        "cancel",
    }
)
"""Calls that change something; after one that only reads, nothing is other than before the next call."""


class KilledError(BaseException):
    """The process is no more. No `except Exception` of the service holds it up."""


class Fate:
    """Counts the points that a process passes, and ends it at one of them.

    Args:
        dies_at: number of that point, from 0; None for a process that is left alone.
    """

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.passed: list[str] = []

    @property
    def is_dead(self) -> bool:
        return self.dies_at is not None and len(self.passed) > self.dies_at

    def pass_by(self, point: str) -> None:
        if self.is_dead:
            raise KilledError("a dead process asks for nothing")
        self.passed.append(point)
        if self.is_dead:
            raise KilledError(point)


class Mortal:
    """What a process calls, with a point of death before each call, and after each that changes something."""

    def __init__(self, inner: Any, name: str, fate: Fate) -> None:
        self._inner, self._name, self._fate = inner, name, fate

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._inner, attribute)
        if not callable(found) or attribute == "tell_ends":
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._fate.pass_by(f"before {self._name}.{attribute}")
            answer = found(*args, **kwargs)
            if attribute in WRITES:
                self._fate.pass_by(f"after {self._name}.{attribute}")
            return answer

        return call
