"""Nearest valid names, for errors that help."""

import difflib
from collections.abc import Iterable


def nearest(given: str, valid: Iterable[str], *, limit: int = 3) -> list[str]:
    """The valid names that are most like the given one, best first; case does not matter."""
    by_folded = {name.casefold(): name for name in sorted(set(valid))}
    folded = given.casefold()
    near = difflib.get_close_matches(folded, by_folded, n=4 * limit, cutoff=0.6)
    near.sort(key=lambda name: (_edits(folded, name), name[:1] != folded[:1]))
    return [by_folded[name] for name in near[:limit]]


def _edits(one: str, other: str) -> int:
    """Letters left out, put in, taken for another, or swapped with the next, from one to the other.

    Source: the optimal string alignment distance.
    """
    before, row = list[int](), list(range(len(other) + 1))
    for i, letter in enumerate(one):
        before, last, row = row, before, [i + 1]
        for j, wanted in enumerate(other):
            edits = min(before[j + 1] + 1, row[j] + 1, before[j] + (letter != wanted))
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                edits = min(edits, last[j - 1] + 1)
            row.append(edits)
    return row[-1]


def suggest(given: str, valid: Iterable[str], *, limit: int = 3) -> str:
    """A sentence end for an error: the nearest names, or all of them where they are few.

    Comparison ignores case. Empty where there are no valid names at all.
    """
    names = sorted(set(valid))
    near = nearest(given, names, limit=limit)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    if not names:
        return "none is configured"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")
