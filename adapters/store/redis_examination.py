"""Looks at a store on Redis from outside: nothing is made, changed or locked."""

from contextlib import closing

from adapters.store.redis_address import RedisAddress
from adapters.store.redis_durability import durability_checks, read_facts, require_wait
from adapters.store.redis_keys import schema_key
from adapters.store.redis_link import RedisLink
from adapters.store.redis_migrations import SCHEMA, require_known
from adapters.store.redis_pools import open_pools
from adapters.store.redis_terms import RedisTerms
from scheduler.ports import Check


def examine(address: RedisAddress, terms: RedisTerms) -> list[Check]:
    """What is to be said of the server, and of the store on it.

    Raises:
        StoreError: the server cannot be reached or asked, or holds a store that cannot be used.
    """
    link = RedisLink(address, terms, open_pools(address, terms), schema="")
    with closing(link):
        facts = read_facts(link)
        require_wait(address, facts, terms.wait)
        found = link.ask("GET", schema_key(address.name))
        if found is not None:
            require_known(str(address), str(found), SCHEMA)
        return durability_checks(address, facts, terms.wait)
