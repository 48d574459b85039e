"""Arrays: one document, many jobs, each planned by itself.

A job array of Slurm starts as one; its tasks would share a window, a place and an entry in the ledger. As jobs of
their own each runs in its own cleanest hour, anywhere, and finds the variables of an array in its environment.
"""

import re
from typing import Any, Final

from scheduler.core.errors import InvalidJobError

MAX_TASKS: Final = 100_000
MAX_INDEX: Final = 4_000_000
"""Slurm's own limit for MaxArraySize."""
_FORM: Final = "indices such as 0-9, 1,3,7 or 0-100:10"
_PART: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?")
_INDEX_MARK: Final = re.compile(r"%(%|\d*a)")


def parse_array(text: str) -> list[int]:
    """The indices of a text as sbatch takes it, in order.

    Raises:
        InvalidJobError: not of that form, an index twice, or too many.
    """
    if "%" in text:
        raise _refused(
            text,
            "how many run at once is for the plan to say, within the clusters' capacity; leave out %",
        )
    found: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise _refused(text, f"{part!r} is no index and no range")
        low, high, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if high < low or step < 1 or high > MAX_INDEX:
            raise _refused(
                text, f"{part!r} must rise, in steps of 1 or more, to at most {MAX_INDEX}"
            )
        found += range(low, min(high, low + step * MAX_TASKS) + 1, step)
        if len(found) > MAX_TASKS:
            raise _refused(text, f"these are more than {MAX_TASKS} tasks")
    if len(set(found)) < len(found):
        raise _refused(text, "an index is there twice")
    return sorted(found)


def expand(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The documents of its tasks, where it has a field `array`; else the document itself.

    Raises:
        InvalidJobError: an array that cannot be read, or variables that it sets itself.
    """
    if document.get("array") is None:
        return [document]
    indices = parse_array(str(document["array"]))
    common = {key: value for key, value in document.items() if key != "array"}
    return [_task(common, index, indices) for index in indices]


def _task(common: dict[str, Any], index: int, indices: list[int]) -> dict[str, Any]:
    name, env, slurm = (common.get(key) for key in ("name", "env", "slurm"))
    own = {
        "SLURM_ARRAY_TASK_ID": str(index),
        "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
        "SLURM_ARRAY_TASK_MIN": str(indices[0]),
        "SLURM_ARRAY_TASK_MAX": str(indices[-1]),
    }
    changes: dict[str, Any] = {"env": {**env, **own} if isinstance(env, dict) else env or own}
    if isinstance(name, str):
        changes["name"] = f"{name}-{index}"
    if isinstance(slurm, dict):
        changes["slurm"] = {key: _named(key, value, index) for key, value in slurm.items()}
    return common | changes


def _named(key: str, value: object, index: int) -> object:
    """The pattern of a file name with the index in it, as sbatch would put it there."""
    if key not in ("output", "error") or not isinstance(value, str):
        return value

    def put(mark: re.Match[str]) -> str:
        width = mark[1].removesuffix("a")
        return mark[0] if mark[1] == "%" else str(index).zfill(int(width or 0))

    return _INDEX_MARK.sub(put, value)


def _refused(text: str, why: str) -> InvalidJobError:
    return InvalidJobError(
        f"array: {text!r}: {why}; write {_FORM}", field="array", value=text, valid=_FORM
    )
