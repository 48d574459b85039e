"""Lists of nodes as Slurm shortens them: `gpu[01-03,07],rack[0-1]n[1-2],login`. Pure."""

import itertools
import re
from collections.abc import Iterator
from typing import Final

_ITEM: Final = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")
_GROUP: Final = re.compile(r"\[([^\]]*)\]")
_NONE: Final = frozenset({"", "(null)", "None", "None assigned", "N/A"})


def expand_nodes(text: str) -> tuple[str, ...]:
    """The names of the nodes, in the order of the list; empty where it names none."""
    if text.strip() in _NONE:
        return ()
    return tuple(name for item in _ITEM.findall(text) for name in _names(item.strip()))


def _names(item: str) -> Iterator[str]:
    # Splitting by the brackets leaves fixed text and ranges in turns.
    parts = _GROUP.split(item)
    choices = [list(_numbers(part)) if index % 2 else [part] for index, part in enumerate(parts)]
    return ("".join(chosen) for chosen in itertools.product(*choices))


def _numbers(ranges: str) -> Iterator[str]:
    """The numbers of `01-03,07`, as wide as the first of each range."""
    for one in ranges.split(","):
        low, _, high = one.partition("-")
        if low.isdecimal() and high.isdecimal():
            yield from (str(n).zfill(len(low)) for n in range(int(low), int(high) + 1))
        else:
            yield one
