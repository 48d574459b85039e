"""Nearest valid names, for errors that help."""

import difflib
from collections.abc import Iterable


def suggest(given: str, valid: Iterable[str], *, limit: int = 3) -> str:
    """A sentence end for an error: the nearest names, or all of them where they are few.

    Comparison ignores case. Empty where there are no valid names at all.
    """
    names = sorted(set(valid))
    by_folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(given.casefold(), by_folded, n=limit, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(by_folded[name] for name in near) + "?"
    if not names:
        return "none is configured"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")
