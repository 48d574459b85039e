"""The keys of a store on Redis.

All of one store begin with its prefix, `{gridtide:NAME}:`. What stands in braces is the hash tag of
Redis Cluster: every key of a store is in one slot, so that a script may work on all of them.

| key | type | holds |
|---|---|---|
| `schema` | string | version of this table; `copying:...` while a copy into the store is not finished |
| `jobs` | hash | job id → the record as JSON |
| `heads` | hash | job id → `[version, state, time, project, name, key, digest]`: what scripts need of a record |
| `keys` | hash | idempotency key → `[job id, digest]` |
| `jobs:state:STATE` | sorted set | `TIME` + job id of the jobs in that state |
| `jobs:project:STATE:PROJECT` | sorted set | the same, of one project |
| `jobs:succeeded:LENGTH:PROJECT:NAME` | sorted set | the same, of the jobs of that name that succeeded |
| `changes` | stream | job id → version of the newest 100,000 writes of jobs or a few more: what to read again |
| `seq` | string | number of the newest event |
| `events` | stream | id `SEQ-0`, field `e`: `[time in µs, kind, job id, state, detail]` |
| `events:job:ID` | sorted set | numbers of the events of a job |
| `events:kind:KIND` | stream | ids of the events of a kind; its fields are empty |
| `entries` | hash | job id → the ledger entry as JSON |
| `entries:marks` | hash | job id → `1` where the entry is settled, else `0`; then `TIME` |
| `entries:time` | sorted set | `TIME` + job id of all entries |
| `entries:unsettled` | sorted set | the same, of those that are not settled |
| `documents` | hash | key → text |
| `calls:CALLER` | hash | the newest call in each lane of a process, by which a repeated one is known; kept a day |
| `lease` | string | which process runs the cycle; expires unless it is renewed |
| `fence` | string | number of the newest lease; who writes with an older one is refused |

`TIME` is the submission in microseconds as 16 hexadecimal digits, so that members sort by it and
then by job id (every score is 0). `LENGTH` is that of the project in bytes.
"""

import re
from typing import Final

from scheduler.core.errors import InvalidConfigError

NAME_FORM: Final = "1 to 63 of a-z, 0-9 and -"
_NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
_TIME_ZERO: Final = 1 << 62
"""Added to the time, so that times before 1970 sort before those after."""
_TIME_DIGITS: Final = 16


def schema_key(name: str) -> str:
    """The key by which scripts know the store; all others are told from it.

    Raises:
        InvalidConfigError: no name of a store.
    """
    if not _NAME.fullmatch(name):
        raise InvalidConfigError(
            f"store: {name!r:.80} is no name of a store; it must be {NAME_FORM}",
            field="store",
            value=name[:80],
            valid=NAME_FORM,
        )
    return f"{{gridtide:{name}}}:schema"


def prefix(name: str) -> str:
    """What every key of the store begins with."""
    return schema_key(name).removesuffix("schema")


def time_digits(at_us: int) -> str:
    """A time in microseconds since 1970, so written that texts sort as the times do."""
    return f"{at_us + _TIME_ZERO:0{_TIME_DIGITS}x}"


def split_member(member: str) -> tuple[int, str]:
    """Time in microseconds and job id of a member of an index."""
    return int(member[:_TIME_DIGITS], 16) - _TIME_ZERO, member[_TIME_DIGITS:]
