"""The schema on Redis, as the ordered steps that led to it. A step that was released never changes."""

import secrets
from collections.abc import Sequence
from typing import Final

from adapters.store.redis_link import RedisLink
from adapters.store.redis_scripts import bare_script, load_text
from scheduler.core.errors import StoreError

_NOTES_CHANGES: Final = """
-- Version 2 notes changes, and whoever does not must not write any more: there is nothing else to do.
return {"done"}
"""
MIGRATIONS: Final[Sequence[str]] = (_NOTES_CHANGES,)
"""Step i leads from version i + 1 to i + 2: a script that is called until it answers `done`.

It does a bounded piece of the work a call, so that the server goes on for others, and each piece may
come twice: it may be stopped half-way, and two processes may run it at the same time.
"""

_ID_BYTES: Final = 6
COPYING: Final = "copying:"
"""What the schema key begins with while a copy into the store is not finished."""


def version_of(migrations: Sequence[str]) -> int:
    """The version to which they lead."""
    return len(migrations) + 1


SCHEMA: Final = version_of(MIGRATIONS)


def new_schema(version: int = SCHEMA) -> str:
    """What the schema key of a new store holds: the version, and a name that no other store has.

    So a server that was emptied and got a new store is not taken for the one that a process knows.
    """
    return f"{version}:{secrets.token_hex(_ID_BYTES)}"


def store_id(schema: str) -> str:
    """The name in what the schema key holds; empty for a store of the first version."""
    return schema.partition(":")[2]


def open_schema(
    link: RedisLink, migrations: Sequence[str] = MIGRATIONS, *, makes: bool = True
) -> tuple[int, int]:
    """Makes the store where there is none, and brings it up to date; versions before and after.

    From then on the link works with this store alone.

    Args:
        link: to its server.
        migrations: steps of the schema.
        makes: False for who must not make a store.

    Raises:
        StoreError: it is damaged, newer, or an unfinished copy, or may not be made; nothing was changed.
    """
    newest = version_of(migrations)
    wanted = new_schema(newest) if makes else ""
    word, found = link.run(bare_script("open", load_text("open")), wanted)
    if word == "none":
        raise StoreError(
            f"{link.address} holds no store, and this process does not make one: start one that schedules first; if "
            "there was a store, the server was emptied or started without its data: restore a backup",
            server=str(link.address),
            is_missing=True,
        )
    if word == "damaged":
        raise StoreError(
            f"{link.address} holds {found} but no schema version; it was left as it is: restore a backup, or give the "
            "store another #name",
            server=str(link.address),
        )
    schema = found or ""
    before = require_known(str(link.address), schema, newest)
    for version in range(before, newest):
        step = bare_script(f"migration {version}", migrations[version - 1])
        while link.run(step)[0] != "done":
            pass
        name = store_id(schema)
        after = f"{version + 1}:{name}" if name else new_schema(version + 1)
        # Where another process did the same at the same time, its word holds.
        _, now = link.run(bare_script("advance", load_text("advance")), schema, after)
        schema = now or ""
    link.schema = schema
    return before, newest


def require_known(address: str, found: str, newest: int) -> int:
    """The version as a number.

    Raises:
        StoreError: a newer version, or the copy into the store is not finished.
    """
    if found.startswith(COPYING):
        raise StoreError(
            f"{address} holds an unfinished copy; run the same `gridtide store copy` again, it goes on where it stopped",
            server=address,
        )
    version = found.partition(":")[0]
    if not version.isdecimal() or not 1 <= int(version) <= newest:
        raise StoreError(
            f"{address} has schema version {version}, this Gridtide knows 1 to {newest}; upgrade Gridtide, or restore "
            "the backup from before the upgrade",
            server=address,
            version=version,
        )
    return int(version)
