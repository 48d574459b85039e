"""An archive on a disk that fails, wholly or for writing."""

from collections.abc import Callable
from typing import Any, Final

from scheduler.core.errors import StoreError
from scheduler.ports import IntensityArchive

_WRITES: Final = frozenset(
    {
        "claim",
        "renew",
        "put_state",
        "add_actuals",
        "add_sightings",
        "add_vintage",
        "add_runs",
        "forget",
    }
)


class BrokenArchive:
    """Refuses every call, or only writes where there is an archive behind it; can be mended."""

    def __init__(self, behind: IntensityArchive | None = None) -> None:
        self._behind = behind
        self.is_broken = True

    def close(self) -> None:
        if self._behind is not None:
            self._behind.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*args: object, **fields: object) -> object:
            behind = self._behind
            if behind is None or (self.is_broken and name in _WRITES):
                raise StoreError("the disk is full", path="/intensity.db")
            return getattr(behind, name)(*args, **fields)

        return answer
