"""Reading JSON of slurmrestd, whose shapes differ between versions. Pure: documents in, values out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = Mapping[str, Any]
_EMPTY: Final[Document] = {}
_TOO_BIG: Final = 1e18
"""Counters gone wrong, 18446744073709551614 and such, and what JSON calls Infinity and NaN."""
NOTHING_FOUND: Final = 9003
"""slurmrestd calls an empty answer of the accounts an error."""


@dataclass(frozen=True, slots=True)
class SlurmError:
    """One entry of `errors`; `number` is None where there is none."""

    number: int | None
    text: str


def mapping(value: object) -> Document:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else _EMPTY


def entries(document: Document, key: str) -> list[Document]:
    """The objects in the list of that name."""
    listed = document.get(key)
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def text(value: object) -> str:
    """The value where it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def words(value: object) -> list[str]:
    """The texts of a list."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def number(value: object) -> int | None:
    """An integer, plain or as `{"set": true, "infinite": false, "number": N}`; None where unset."""
    if isinstance(value, dict):
        is_number = value.get("set") is True and value.get("infinite") is not True
        value = value.get("number") if is_number else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) < _TOO_BIG else None


def instant(value: object) -> float | None:
    """Seconds since the epoch; None where unset, for which 0 stands as well."""
    seconds = number(value)
    return float(seconds) if seconds else None


def errors(document: Document) -> list[SlurmError]:
    """What Slurm complains of, wherever the version puts it; empty results are no complaint."""
    return [
        error
        for error in (*_listed(document), *_of_signals(document))
        if error.number not in (0, NOTHING_FOUND)
    ]


def sentence(complaints: list[SlurmError]) -> str:
    """The complaints on one line, each once."""
    return "; ".join(dict.fromkeys(one.text for one in complaints))


def is_empty(document: Document) -> bool:
    """Whether it says that nothing was found, and nothing else."""
    return bool(entries(document, "errors")) and not errors(document)


def about(document: Document | None) -> Document:
    """What slurmrestd says of itself beside every answer: `release`, and from 24.05 on `cluster`."""
    meta = mapping((document or {}).get("meta"))
    return mapping(meta.get("slurm", meta.get("Slurm")))


def _listed(document: Document) -> Iterator[SlurmError]:
    for one in entries(document, "errors"):
        known = (one.get(key) for key in ("error_number", "error_code", "errno"))
        parts = [text(one.get("error")), text(one.get("description"))]
        said = ": ".join(dict.fromkeys(part.strip() for part in parts if part.strip()))
        yield SlurmError(next((n for n in known if isinstance(n, int)), None), said or str(one))


def _of_signals(document: Document) -> Iterator[SlurmError]:
    """From 24.05 on, what became of a signal is told per job."""
    for one in entries(document, "status"):
        error = mapping(one.get("error"))
        code = number(error.get("code"))
        if code:
            yield SlurmError(code, text(error.get("string")) or text(error.get("message")))
