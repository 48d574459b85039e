"""A store on Redis as the source or the target of a copy."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from adapters.store.codec import decode_entry, decode_record, to_json
from adapters.store.redis_address import RedisAddress
from adapters.store.redis_keys import prefix, schema_key
from adapters.store.redis_link import Argument, RedisLink, Reply
from adapters.store.redis_migrations import COPYING, new_schema, open_schema
from adapters.store.redis_pools import Pools, open_pools
from adapters.store.redis_rows import entry_mark, job_row, present, unmarked
from adapters.store.redis_scripts import ScriptName, bare_script, get_script, load_text
from adapters.store.redis_terms import RedisTerms
from adapters.store.transfer import KINDS, Kind, Row, flat
from scheduler.core.errors import StoreError
from scheduler.core.job import JobState

_PAGE: Final = 500


class _RedisRows:
    """All rows of a store whose schema key holds what the link expects."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    @property
    def name(self) -> str:
        """Where it is."""
        return str(self._link.address)

    def counts(self) -> Mapping[Kind, int]:
        """How many of each kind it holds."""
        _, *counts = self._call("counts")
        return {kind: int(present(count)) for kind, count in zip(KINDS, counts, strict=True)}

    def pages(self, kind: Kind, *, after_seq: int = 0) -> Iterator[list[Row]]:
        """All rows of a kind, each once."""
        match kind:
            case "jobs":
                for state in JobState:
                    yield from self._jobs(state)
            case "events":
                yield from self._events(after_seq)
            case "entries":
                yield from self._entries()
            case "documents":
                _, *found = self._call("export_documents")
                yield list(zip(found[::2], found[1::2], strict=True))

    def close(self) -> None:
        """Leaves the server."""
        self._link.close()

    def _jobs(self, state: JobState) -> Iterator[list[Row]]:
        last = ""
        while True:
            _, *found = self._call("export_jobs", state.value, last, _PAGE)
            if not found:
                return
            members, texts, heads = found[::3], found[1::3], found[2::3]
            yield [_read_job(text, head) for text, head in zip(texts, heads, strict=True)]
            last = present(members[-1])

    def _events(self, after_seq: int) -> Iterator[list[Row]]:
        while True:
            _, *found = self._call("events", after_seq + 1, _PAGE, "", "")
            if not found:
                return
            pairs = zip(found[::2], found[1::2], strict=True)
            rows: list[Row] = [
                (int(present(seq)), *json.loads(present(text))) for seq, text in pairs
            ]
            yield rows
            after_seq = int(present(found[-2]))

    def _entries(self) -> Iterator[list[Row]]:
        low = "-"
        while True:
            _, *found = self._call("entries", "time", low, "+", _PAGE)
            if not found:
                return
            texts = [present(text) for text in found[1::2]]
            yield [(decode_entry(text).job_id, text) for text in texts]
            low = f"({present(found[-2])}"

    def _call(self, name: ScriptName, *args: Argument) -> Reply:
        return self._link.call(get_script(name), *args)


class RedisSource(_RedisRows):
    """A store that is copied. It must not be in use.

    Raises:
        StoreError: there is none, it cannot be used, or a process works with it.
    """

    def __init__(
        self, address: RedisAddress, terms: RedisTerms, *, pools: Pools | None = None
    ) -> None:
        pools = open_pools(address, terms) if pools is None else pools
        link = RedisLink(address, terms, pools, schema="")
        super().__init__(link)
        with ExitStack() as stack:
            stack.callback(link.close)
            if link.ask("GET", schema_key(address.name)) is None:
                raise StoreError(
                    f"{address} holds no store; nothing was copied", server=str(address)
                )
            _require_idle(link)
            open_schema(link)
            stack.pop_all()


class RedisTarget(_RedisRows):
    """An empty place for a store, or a copy that was cut off."""

    def __init__(
        self, address: RedisAddress, terms: RedisTerms, *, pools: Pools | None = None
    ) -> None:
        pools = open_pools(address, terms) if pools is None else pools
        super().__init__(RedisLink(address, terms, pools, schema=""))

    def begin(self, source: str) -> None:
        """Makes it ready, or goes on with a copy of the same source that was cut off."""
        _require_idle(self._link)
        schema = COPYING + source
        script = bare_script("begin_copy", load_text("begin_copy"))
        word, found = self._link.run(script, schema)
        if word != "ok":
            what = (found or "").removeprefix(COPYING)
            raise StoreError(
                f"{self.name} holds {'an unfinished copy of ' + what if what != found else 'a store'}; it was left as it "
                "is: name another #name or database, or remove its keys",
                server=self.name,
            )
        self._link.schema = schema

    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Writes rows; those that are there already may come again."""
        match kind:
            case "jobs":
                self._call("import_jobs", *flat([_write_job(row) for row in rows]))
            case "events":
                self._call("import_events", *flat([_write_event(row) for row in rows]))
            case "entries":
                self._call("import_entries", *flat([_write_entry(row) for row in rows]))
            case "documents":
                for key, text in rows:
                    self._call("put_document", str(key), str(text))

    def last_seq(self) -> int:
        """Number of the newest event that it holds; 0 for none."""
        found = self._link.ask("GET", prefix(self._link.address.name) + "seq")
        return int(found or 0)

    def finish(self) -> None:
        """From now on it is a store."""
        script = bare_script("advance", load_text("advance"))
        self._link.run(script, self._link.schema, new_schema())


def _require_idle(link: RedisLink) -> None:
    """Refuses a store whose lease somebody has, before anything is changed: what is acknowledged later would stay behind."""
    holder = link.ask("GET", prefix(link.address.name) + "lease")
    if holder is not None:
        raise StoreError(
            f"{link.address} is in use: {holder} (machine, process) has its lease; nothing was copied: stop every "
            "service on it, or wait until the lease of one that was killed ends (store.lease), and try again",
            server=str(link.address),
            holder=str(holder),
        )


def _read_job(text: str | None, head: str | None) -> Row:
    *_, key, digest = json.loads(present(head))
    record = present(text)
    return decode_record(record).job.job_id, record, unmarked(key), unmarked(digest)


def _write_job(row: Row) -> tuple[str, ...]:
    _, text, key, digest = row
    text, key, digest = (
        str(text),
        None if key is None else str(key),
        None if digest is None else str(digest),
    )
    return job_row(decode_record(text), text, key, digest)


def _write_event(row: Row) -> tuple[str, ...]:
    seq, at_us, kind, job_id, state, detail = row
    return str(seq), str(job_id or ""), str(kind), to_json(at_us, kind, job_id, state, detail)


def _write_entry(row: Row) -> tuple[str, ...]:
    job_id, text = row
    return str(job_id), str(text), entry_mark(decode_entry(str(text)))
