"""What a server's refusals mean, in words for the one who has to do something about it."""

import re
from typing import Final

import redis
import redis.sentinel

from adapters.store.redis_address import RedisAddress
from scheduler.core.errors import StoreError

_CODES: Final = re.compile(
    r"\b(OOM|READONLY|NOPERM|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|LOADING|BUSY|WRONGPASS"
    r"|NOAUTH|NOSCRIPT|WRONGTYPE)\b"
)
_BY_WORDS: Final = {
    "NOPERM": re.compile(r"user executing the script can't|ACL failure in script"),
    "TRYAGAIN": re.compile(r"attempted to access a non local key"),
    "NODB": re.compile(r"DB index is out of range|invalid DB index"),
    "NOSENTINEL": re.compile(r"unknown command '?SENTINEL", re.IGNORECASE),
}
"""What a server has no code for, be it only within a script, by its words."""
_NOTHING: Final = "nothing was written"
_WORDS: Final = {
    "OOM": f"is full (maxmemory); {_NOTHING}: raise maxmemory or free some memory, then try again",
    "READONLY": f"is a replica that only reads; {_NOTHING}: let the store name the primary, or its sentinels",
    "NOPERM": "does not allow its user what the store needs: see deploy/redis/README.md for the rights",
    "MISCONF": f"cannot write its own disk and therefore refuses writes; {_NOTHING}: look at its log and its disk",
    "NOREPLICAS": f"has fewer replicas than its min-replicas-to-write; {_NOTHING}: look after the replicas",
    "MASTERDOWN": f"is a replica without its primary; {_NOTHING}: wait for the failover, or mend it",
    "CLUSTERDOWN": f"is a cluster that is not whole; {_NOTHING}: mend it (CLUSTER INFO tells what is missing)",
    "TRYAGAIN": f"is moving the store to another node; {_NOTHING}: try again when that is done",
    "MOVED": f"moved the store to another node; {_NOTHING}: try again",
    "ASK": f"is moving the store to another node; {_NOTHING}: try again when that is done",
    "LOADING": f"is loading its data; {_NOTHING}: try again in a while",
    "BUSY": f"is held up by a script of someone else; {_NOTHING}: try again, or end that script",
    "WRONGPASS": "refuses the user or the password: set the variable or file of store.password_env or password_file",
    "NOAUTH": "wants a password: set store.password_env or store.password_file",
    "NODB": "has no database of that number: store.url must end with one from 0 to `databases` - 1 of the server (/15 as "
    "it comes)",
    "NOSENTINEL": "is asked as a sentinel and is none: store.url must name the sentinels, or begin with redis:// or "
    "rediss://",
    "WRONGTYPE": "holds a key of ours with something else in it: restore a backup, or give the store another #name",
}
_NO_ENTRY: Final = frozenset({"WRONGPASS", "NOAUTH", "NODB", "NOSENTINEL"})
"""Refusals of whatever is asked."""
_INNER: Final = re.compile(r"<[^<>]*>")
_SENTINEL: Final = re.compile(r"\bhost=([^,()]+),port=(\d+)")
_MOST: Final = 200
PASSING: Final = frozenset(
    {"MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "LOADING", "BUSY"}
)
"""Refusals that wrote nothing and may be gone a moment later."""


def code_of(error: redis.RedisError) -> str:
    """The code of a refusal, or an empty text."""
    if isinstance(error, redis.AuthenticationError):
        return "NOAUTH" if "required" in str(error) else "WRONGPASS"
    for code, pattern in _BY_WORDS.items():
        if pattern.search(str(error)):
            return code
    found = _CODES.search(str(error))
    names = {
        redis.ReadOnlyError: "READONLY",
        redis.exceptions.NoPermissionError: "NOPERM",
        redis.OutOfMemoryError: "OOM",
        redis.BusyLoadingError: "LOADING",
        redis.exceptions.NoScriptError: "NOSCRIPT",
        redis.exceptions.MovedError: "MOVED",
        redis.exceptions.AskError: "ASK",
        redis.exceptions.TryAgainError: "TRYAGAIN",
        redis.exceptions.MasterDownError: "MASTERDOWN",
        redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    }
    # The client takes the code off the errors that it knows.
    known = next((code for kind, code in names.items() if isinstance(error, kind)), "")
    return known or (found[1] if found else "")


def refusal(address: RedisAddress, error: redis.RedisError) -> StoreError:
    """The StoreError for what the server answered."""
    code = code_of(error)
    what = _WORDS.get(code, "refused")
    return StoreError(
        f"{address} {what} ({_words(error)})",
        server=str(address),
        cause=code or _words(error),
        is_refusal=code not in _NO_ENTRY,
    )


def unreachable(address: RedisAddress, error: Exception) -> StoreError:
    """The StoreError where nothing was sent."""
    return StoreError(
        f"{address} cannot be reached; nothing was written: see that it runs and that store names it{_hint(address, error)} "
        f"({_words(error)})",
        server=str(address),
        cause=_words(error),
    )


def lost(address: RedisAddress, error: Exception, *, is_write: bool) -> StoreError:
    """The StoreError where something was sent and no answer came."""
    what = (
        "the write may or may not have happened: a request that is repeated with its Idempotency-Key is done once"
        if is_write
        else "nothing was written"
    )
    return StoreError(
        f"{address} did not answer; {what} ({_words(error)})",
        server=str(address),
        cause=_words(error),
    )


def _hint(address: RedisAddress, error: Exception) -> str:
    """What to look at where an end may speak TLS and the other not."""
    said, other = _words(error), address.other_scheme
    if address.is_tls and "CERTIFICATE_VERIFY_FAILED" in said:
        return "; its certificate must name the host, and be of an authority in store.ca_file or of the system's"
    if address.is_tls and re.search(r"Timeout|timed out|WRONG_VERSION_NUMBER|RECORD_LAYER", said):
        return f"; is its port one without TLS? Then the URL begins with {other}://"
    if not address.is_tls and re.search(r"[Cc]onnection reset|[Cc]onnection closed", said):
        return f"; is its port one of TLS? Then the URL begins with {other}://"
    return ""


def _words(error: Exception) -> str:
    """What the client says, short and without its inner objects."""
    said = str(error)
    if isinstance(error, redis.sentinel.MasterNotFoundError):
        silent = ", ".join(f"{host}:{port}" for host, port in _SENTINEL.findall(said))
        said = "no sentinel names a primary of that service"
        return f"{said}; without an answer: {silent}" if silent else said
    while said != (shorter := _INNER.sub("", said)):
        said = shorter
    return said if len(said) <= _MOST else f"{said[: _MOST - 3]}..."
