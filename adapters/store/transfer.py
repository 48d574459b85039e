"""Moving all that a store holds to another one, so that nothing is lost and nothing changed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal, Protocol

from scheduler.core.errors import StoreError

Kind = Literal["jobs", "events", "entries", "documents"]
Row = tuple[str | int | None, ...]
"""Of a job: id, record, idempotency key, request digest. Of an event: seq, time in µs, kind, job id, state,
detail. Of an entry: job id, text. Of a document: key, text."""

KINDS: Final[tuple[Kind, ...]] = ("jobs", "events", "entries", "documents")
_DIGEST_BITS: Final = 256


class Source(Protocol):
    """A store that is read whole."""

    @property
    def name(self) -> str:
        """Where it is; the same each time."""
        ...

    def counts(self) -> Mapping[Kind, int]:
        """How many of each kind it holds."""
        ...

    def pages(self, kind: Kind, *, after_seq: int = 0) -> Iterator[list[Row]]:
        """All rows of a kind, each once; of the events only those after a number, in order."""
        ...

    def close(self) -> None:
        """Releases the store."""
        ...


class Target(Source, Protocol):
    """A store that is filled. It cannot be used as one before `finish`."""

    def begin(self, source: str) -> None:
        """Makes it ready, or goes on with a copy of the same source that was cut off.

        Raises:
            StoreError: it holds something else; nothing was changed.
        """
        ...

    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Writes rows; those that are there already may come again."""
        ...

    def last_seq(self) -> int:
        """Number of the newest event that it holds; 0 for none."""
        ...

    def finish(self) -> None:
        """From now on it is a store."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What was read of a kind: so many rows, and a digest that does not depend on their order."""

    count: int
    digest: str


Report = Callable[[str, int, int], None]
"""Told what is being done, with which kind, how many of them are done, and how many there are."""


def copy_store(source: Source, target: Target, report: Report) -> Mapping[Kind, Summary]:
    """Copies everything, reads both stores again, and releases the target once they are alike.

    Raises:
        StoreError: the target holds something else, a store failed, or they differ at the end. What was
            copied is kept: the same call goes on.
    """
    target.begin(source.name)
    counts = source.counts()
    for kind in KINDS:
        after_seq = target.last_seq() if kind == "events" else 0
        n_done = 0
        for rows in source.pages(kind, after_seq=after_seq):
            target.put(kind, rows)
            n_done += len(rows)
            report(f"copying {kind}", n_done, counts[kind])
    found = {kind: _verify(source, target, kind, report) for kind in KINDS}
    target.finish()
    return found


def summarise(store: Source, kind: Kind, report: Callable[[int], None]) -> Summary:
    """Count and digest of all rows of a kind."""
    total, count = 0, 0
    for rows in store.pages(kind):
        for row in rows:
            text = json.dumps(row, ensure_ascii=False)
            total += int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
        count += len(rows)
        report(len(rows))
    # A sum, for stores may give their rows in different orders.
    return Summary(count=count, digest=f"{total % (1 << _DIGEST_BITS):064x}")


def _verify(source: Source, target: Target, kind: Kind, report: Report) -> Summary:
    total, n_done = 2 * source.counts()[kind], 0

    def advance(n_rows: int) -> None:
        nonlocal n_done
        n_done += n_rows
        report(f"comparing {kind}", n_done, total)

    wanted, found = (summarise(one, kind, advance) for one in (source, target))
    if wanted != found:
        raise StoreError(
            f"{kind}: {source.name} holds {wanted.count} (digest {wanted.digest[:12]}), {target.name} holds "
            f"{found.count} (digest {found.digest[:12]}): the source changed while it was copied, or the target is "
            "damaged; stop Gridtide, remove what was copied, and copy again",
            kind=kind,
        )
    return wanted


def flat(rows: Sequence[Sequence[str]]) -> list[str]:
    """The values of all rows, one after the other."""
    return list(chain.from_iterable(rows))
