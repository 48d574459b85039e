"""What a server does so that acknowledged writes last, and what is to be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from adapters.store.redis_address import RedisAddress
from adapters.store.redis_link import RedisLink
from adapters.store.redis_terms import RedisWait
from scheduler.core.errors import StoreError
from scheduler.ports import Check

Durability = Literal["machine", "process", "nothing", "unknown"]

_CONFIG: Final = (
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "save",
    "maxmemory",
    "maxmemory-policy",
)
_WAITAOF_FROM: Final = (7, 2)
_SURVIVES: Final[Mapping[Durability, str]] = {
    "machine": "acknowledged writes survive the loss of the machine's power",
    "process": "acknowledged writes survive the end of the server's process, not the loss of the machine's power",
    "nothing": "acknowledged writes may be lost when the server stops",
    "unknown": "whether acknowledged writes survive the end of the server is unknown: it does not tell",
}
_ADVICE: Final = (
    "; set appendonly yes and appendfsync always, without no-appendfsync-on-rewrite (or store.wait)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What the server tells of itself; None for what it does not tell.

    Args:
        appendfsync: `always`, `everysec` or `no`.
        rests_while_rewriting: it syncs nothing while it rewrites its file (`no-appendfsync-on-rewrite`).
        eviction: what it does where memory is full (`maxmemory-policy`).
        maxmemory: bytes; 0 for no limit.
        used_memory: bytes, without what does not count against the limit.
    """

    version: tuple[int, ...] | None = None
    role: str | None = None
    replicas: int | None = None
    has_aof: bool | None = None
    appendfsync: str | None = None
    rests_while_rewriting: bool = False
    snapshots: str | None = None
    maxmemory: int | None = None
    used_memory: int | None = None
    eviction: str | None = None
    last_aof_write_is_ok: bool = True
    last_snapshot_is_ok: bool = True

    @property
    def can_wait_for_disk(self) -> bool:
        """Whether it has WAITAOF."""
        return self.version is not None and self.version >= _WAITAOF_FROM

    @property
    def evicts_jobs(self) -> bool:
        """Whether it throws any key of ours away where memory is full."""
        return bool(self.maxmemory) and (self.eviction or "").startswith("allkeys")

    @property
    def evicts_notes(self) -> bool:
        """Whether it throws away what expires: the lease, and the notes by which a repeated call is known."""
        return bool(self.maxmemory) and (self.eviction or "").startswith("volatile")

    @property
    def is_full(self) -> bool:
        """Whether it refuses writes until there is room; one that evicts jobs makes room."""
        if not self.maxmemory or self.used_memory is None:
            return False
        return self.used_memory > self.maxmemory and not self.evicts_jobs


def read_facts(link: RedisLink) -> ServerFacts:
    """What the server tells. Raises StoreError where it does not answer at all."""
    info = _parse_info(_ask(link, "INFO"))
    config = dict[str, str]()
    for name in _CONFIG:
        config |= _parse_config(_ask(link, "CONFIG", "GET", name))
    aof = config.get("appendonly", {"1": "yes", "0": "no"}.get(info.get("aof_enabled", "")))
    return ServerFacts(
        version=_version(info.get("redis_version")),
        role=info.get("role"),
        replicas=_count(info.get("connected_slaves")),
        has_aof=None if aof is None else aof == "yes",
        appendfsync=config.get("appendfsync"),
        rests_while_rewriting=config.get("no-appendfsync-on-rewrite") == "yes",
        snapshots=config.get("save"),
        maxmemory=_count(config.get("maxmemory", info.get("maxmemory"))),
        eviction=config.get("maxmemory-policy", info.get("maxmemory_policy")),
        used_memory=_used_memory(info),
        last_aof_write_is_ok=info.get("aof_last_write_status", "ok") == "ok",
        last_snapshot_is_ok=info.get("rdb_last_bgsave_status", "ok") == "ok",
    )


def durability_of(facts: ServerFacts, wait: RedisWait) -> Durability:
    """What an acknowledged write survives.

    Copies on replicas do not count: which replica takes over, and whether a server that lost its data
    empties them, is not for us to know.
    """
    if facts.has_aof is None:
        return "unknown"
    if not facts.has_aof:
        return "nothing"
    # The reply comes after the file was written, so that only the power can take it from the page cache.
    is_synced = facts.appendfsync == "always" and not facts.rests_while_rewriting
    return "machine" if is_synced or wait.is_on_disk else "process"


def require_wait(address: RedisAddress, facts: ServerFacts, wait: RedisWait) -> None:
    """Refuses to wait for what the server cannot confirm.

    Raises:
        StoreError: `aof: local` on a server without WAITAOF, or without an append-only file.
    """
    if not wait.is_on_disk:
        return
    if facts.version is not None and not facts.can_wait_for_disk:
        version = ".".join(map(str, facts.version))
        raise StoreError(
            f"{address} is Redis {version}, which cannot confirm its disk; set store.wait.aof to none and appendfsync "
            "to always on the server, or use Redis 7.2",
            server=str(address),
        )
    if facts.has_aof is False:
        raise StoreError(
            f"{address} keeps no append-only file, so store.wait.aof: local can never be met; set appendonly yes",
            server=str(address),
        )


def durability_checks(address: RedisAddress, facts: ServerFacts, wait: RedisWait) -> list[Check]:
    """What `doctor` and `/readyz` say of a server that answers."""
    word = durability_of(facts, wait)
    detail = (
        f"{address}: {_SURVIVES[word]} ({_settings(facts)}){'' if word == 'machine' else _ADVICE}"
    )
    lacks_replicas = facts.replicas is not None and facts.replicas < wait.replicas
    if wait.replicas and not lacks_replicas:
        confirm = "replica confirms" if wait.replicas == 1 else "replicas confirm"
        detail += f"; {wait.replicas} {confirm} each of them"
    checks = [Check(subject="store", is_ok=True, detail=detail)]
    checks += [
        Check(subject=subject, is_ok=False, detail=f"{address}: {text}")
        for is_so, subject, text in _troubles(facts, wait, lacks_replicas=lacks_replicas)
        if is_so
    ]
    if address.is_exposed:
        text = f"{address}: jobs cross the network unencrypted; rediss:// would encrypt them"
        checks.append(Check(subject="network of the store", is_ok=True, detail=text))
    return checks


def _troubles(
    facts: ServerFacts, wait: RedisWait, *, lacks_replicas: bool
) -> list[tuple[bool, str, str]]:
    """Whether there is one, whose it is, and what to say: those of `store` keep it from working, the others are for people."""
    evicts = "when memory is full the server throws away"
    mend = f"(maxmemory-policy {facts.eviction}); set it to noeviction"
    return [
        (
            facts.role == "slave",
            "store",
            "the server is a replica that only reads; name the primary, or the sentinels",
        ),
        (
            lacks_replicas,
            "store",
            f"{_replicas(facts.replicas or 0)} connected, store.wait.replicas wants {wait.replicas}: no write is "
            "confirmed",
        ),
        (
            not (facts.last_aof_write_is_ok and facts.last_snapshot_is_ok),
            "store",
            "the server failed to write its own disk; look at its log",
        ),
        (
            facts.is_full,
            "store",
            f"memory is full ({facts.used_memory} bytes of maxmemory {facts.maxmemory}): the server refuses writes until "
            "there is room; raise maxmemory or free some memory",
        ),
        (facts.evicts_jobs, "memory of the store", f"{evicts} jobs {mend}"),
        (
            facts.evicts_notes,
            "memory of the store",
            f"{evicts} the lease and the notes of calls, so that who plans may change and a call that is sent again may "
            f"be done twice {mend}",
        ),
    ]


def _replicas(count: int) -> str:
    return "1 replica is" if count == 1 else f"{count or 'no'} replicas are"


def _settings(facts: ServerFacts) -> str:
    version = "Redis" if facts.version is None else f"Redis {'.'.join(map(str, facts.version))}"
    if facts.has_aof is None:
        return f"{version}, persistence unknown"
    if not facts.has_aof:
        told = facts.snapshots is not None
        snapshots = (
            (f"save '{facts.snapshots}'" if facts.snapshots else "no snapshots")
            if told
            else "save unknown"
        )
        return f"{version}, appendonly no, {snapshots}"
    rests = ", no-appendfsync-on-rewrite yes" if facts.rests_while_rewriting else ""
    return f"{version}, appendonly yes, appendfsync {facts.appendfsync or 'unknown'}{rests}"


def _ask(link: RedisLink, *words: str) -> object:
    """The answer; None where the server refuses to tell: some hosts forbid CONFIG."""
    try:
        return link.ask(*words)
    except StoreError as error:
        if error.fields.get("is_refusal"):
            return None
        raise


def _parse_info(reply: object) -> dict[str, str]:
    lines = (line.partition(":") for line in str(reply or "").splitlines())
    return {key: value for key, colon, value in lines if colon}


def _parse_config(reply: object) -> dict[str, str]:
    pairs = [str(one) for one in reply] if isinstance(reply, list) else []
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _used_memory(info: Mapping[str, str]) -> int | None:
    used = _count(info.get("used_memory"))
    return None if used is None else used - (_count(info.get("mem_not_counted_for_evict")) or 0)


def _version(text: str | None) -> tuple[int, ...] | None:
    parts = (text or "").split(".")
    return tuple(int(part) for part in parts) if all(map(str.isdecimal, parts)) else None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
