"""Looks at a store on Redis from outside: nothing is made, changed or locked."""

from contextlib import closing
from typing import Final

from adapters.store.redis_address import RedisAddress
from adapters.store.redis_durability import durability_checks, read_facts, require_wait
from adapters.store.redis_keys import prefix, schema_key
from adapters.store.redis_link import RedisLink
from adapters.store.redis_migrations import SCHEMA, require_known
from adapters.store.redis_pools import Pools, open_pools
from adapters.store.redis_terms import RedisTerms
from scheduler.core.errors import StoreError
from scheduler.ports import Check

_DATA: Final = ("jobs", "heads", "events", "entries", "documents")
"""Keys that are nowhere without a schema version beside them."""


def examine(address: RedisAddress, terms: RedisTerms, *, pools: Pools | None = None) -> list[Check]:
    """What is to be said of the server, and of the store on it.

    `pools` is where connections come from, if not from the address.

    Raises:
        StoreError: the server cannot be reached or asked, or holds a store that cannot be used.
    """
    pools = open_pools(address, terms) if pools is None else pools
    with closing(RedisLink(address, terms, pools, schema="")) as link:
        facts = read_facts(link)
        require_wait(address, facts, terms.wait)
        found = link.ask("GET", schema_key(address.name))
        checks = durability_checks(address, facts, terms.wait)
        if found is not None:
            require_known(str(address), str(found), SCHEMA)
            return checks
        _require_empty(link, prefix(address.name))
        text = f"{address}: no store there yet; the first start makes one (where there was one, restore its backup first)"
        return [*checks, Check(subject="store", is_ok=True, detail=text)]


def _require_empty(link: RedisLink, at: str) -> None:
    """Raises StoreError where there is data of a store, but no schema version."""
    for name in _DATA:
        if link.ask("EXISTS", at + name):
            raise StoreError(
                f"{link.address} holds {at + name} but no schema version, and cannot be opened: restore a backup, or give "
                "the store another #name",
                server=str(link.address),
            )
