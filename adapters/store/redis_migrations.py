"""The schema on Redis, as the ordered steps that led to it. A step that was released never changes."""

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

COPYING: Final = "copying:"
"""What the schema key begins with while a copy into the store is not finished."""


def version_of(migrations: Sequence[str]) -> int:
    """The version to which they lead."""
    return len(migrations) + 1


SCHEMA: Final = str(version_of(MIGRATIONS))


def open_schema(link: RedisLink, migrations: Sequence[str] = MIGRATIONS) -> tuple[int, int]:
    """Makes the store where there is none, and brings it up to date; versions before and after.

    Raises:
        StoreError: it is damaged, newer, or an unfinished copy; nothing was changed.
    """
    newest = version_of(migrations)
    word, found = link.run(bare_script("open", load_text("open")), str(newest))
    if word == "damaged":
        raise StoreError(
            f"{link.address} holds {found} but no schema version; it was left as it is: restore a backup, or give the "
            "store another #name",
            server=str(link.address),
        )
    before = require_known(str(link.address), found or "", newest)
    for version in range(before, newest):
        step = bare_script(f"migration {version}", migrations[version - 1])
        while link.run(step)[0] != "done":
            pass
        link.run(bare_script("advance", load_text("advance")), str(version), str(version + 1))
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
    if not found.isdecimal() or not 1 <= int(found) <= newest:
        raise StoreError(
            f"{address} has schema version {found}, this Gridtide knows 1 to {newest}; upgrade Gridtide, or restore "
            "the backup from before the upgrade",
            server=address,
            version=found,
        )
    return int(found)
