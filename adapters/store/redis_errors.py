"""What a server's refusals mean, in words for the one who has to do something about it."""

import re
from typing import Final

import redis

from adapters.store.redis_address import RedisAddress
from scheduler.core.errors import StoreError

_CODES: Final = re.compile(
    r"\b(OOM|READONLY|NOPERM|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|LOADING|BUSY|WRONGPASS"
    r"|NOAUTH|NOSCRIPT|WRONGTYPE)\b"
)
_WITHIN_SCRIPTS: Final = {
    "NOPERM": re.compile(r"user executing the script can't|ACL failure in script"),
    "TRYAGAIN": re.compile(r"attempted to access a non local key"),
}
"""How a server says within a script what it has a code for elsewhere."""
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
    "WRONGTYPE": "holds a key of ours with something else in it: restore a backup, or give the store another #name",
}
_UNKNOWN_USER: Final = frozenset({"WRONGPASS", "NOAUTH"})
PASSING: Final = frozenset(
    {"MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "LOADING", "BUSY"}
)
"""Refusals that wrote nothing and may be gone a moment later."""


def code_of(error: redis.RedisError) -> str:
    """The code of a refusal, or an empty text."""
    if isinstance(error, redis.AuthenticationError):
        return "NOAUTH" if "required" in str(error) else "WRONGPASS"
    for code, pattern in _WITHIN_SCRIPTS.items():
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
        f"{address} {what} ({error})",
        server=str(address),
        cause=code or str(error),
        is_refusal=code not in _UNKNOWN_USER,
    )


def unreachable(address: RedisAddress, error: Exception) -> StoreError:
    """The StoreError where nothing was sent."""
    return StoreError(
        f"{address} cannot be reached; nothing was written: see that it runs and that store names it ({error})",
        server=str(address),
        cause=str(error),
    )


def lost(address: RedisAddress, error: Exception, *, is_write: bool) -> StoreError:
    """The StoreError where something was sent and no answer came."""
    what = (
        "the write may or may not have happened; doing it again is harmless"
        if is_write
        else "nothing was written"
    )
    return StoreError(
        f"{address} did not answer; {what} ({error})",
        server=str(address),
        cause=str(error),
    )
