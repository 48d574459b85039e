"""Connections to whichever server has the store now: a server, the primary of sentinels, or a node of a cluster."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import BlockingConnectionPool, Connection, ConnectionPool, SSLConnection
from redis.retry import Retry
from redis.sentinel import Sentinel

from adapters.store.redis_address import Host, RedisAddress
from adapters.store.redis_keys import schema_key
from adapters.store.redis_terms import RedisTerms


class Pools(Protocol):
    """Where connections to the store come from."""

    def pool(self) -> ConnectionPool:
        """Connections to the server that has the store. Raises RedisError where none is known."""
        ...

    def look_again(self) -> None:
        """The server failed, or said that it is another one: it is looked for anew."""
        ...

    def close(self) -> None:
        """Closes every connection."""
        ...


class ServerPools:
    """Connections of one pool: to a server, or to whichever one sentinels call the primary."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def pool(self) -> ConnectionPool:
        """The one pool."""
        return self._pool

    def look_again(self) -> None:
        """Nothing to do: a new connection asks the sentinels, and one that was closed is not lent."""

    def close(self) -> None:
        """Closes every connection."""
        self._pool.disconnect()


class ClusterPools:
    """Connections to the node of a cluster that has the slot of the store.

    Args:
        options: of every connection.
        open_pool: the pool of a node.
    """

    def __init__(
        self,
        address: RedisAddress,
        options: dict[str, Any],
        open_pool: Callable[[Host], ConnectionPool],
    ) -> None:
        self._nodes = [ClusterNode(host, port) for host, port in address.hosts]
        self._options = options
        self._open_pool = open_pool
        self._key = schema_key(address.name)
        self._lock = threading.Lock()
        self._here: Host | None = None
        # Those of former nodes too: others may be using their connections.
        self._pools: dict[Host, ConnectionPool] = {}

    def pool(self) -> ConnectionPool:
        """The pool of the node."""
        with self._lock:
            if self._here is None:
                self._here = self._find()
            if self._here not in self._pools:
                self._pools[self._here] = self._open_pool(self._here)
            return self._pools[self._here]

    def look_again(self) -> None:
        """The nodes are asked anew which slots they have."""
        with self._lock:
            self._here = None

    def close(self) -> None:
        """Closes every connection."""
        for pool in self._pools.values():
            pool.disconnect()

    def _find(self) -> Host:
        try:
            with RedisCluster(
                startup_nodes=self._nodes, require_full_coverage=False, **self._options
            ) as cluster:
                node = cluster.get_node_from_key(self._key)
        except redis.exceptions.RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error
        if node is None:
            raise redis.ConnectionError("no node of the cluster has the slot of the store")
        return str(node.host), int(node.port)


def open_pools(address: RedisAddress, terms: RedisTerms) -> Pools:
    """What the address asks for. Connects only when a connection is wanted."""
    options = _options(address, terms)
    if address.kind == "sentinel":
        # Sentinels have users of their own, if any: the password of the store is not for them.
        asked = {key: value for key, value in options.items() if key.endswith("_timeout")}
        asked |= {"username": terms.sentinel_user, "password": terms.sentinel_password}
        sentinel = Sentinel(address.hosts, sentinel_kwargs=asked)
        assert address.service is not None
        client = sentinel.master_for(address.service, ssl=address.is_tls, db=address.db, **options)
        return ServerPools(client.connection_pool)

    def open_pool(host: Host) -> ConnectionPool:
        return BlockingConnectionPool(
            max_connections=terms.max_connections,
            timeout=terms.timeout_s,
            connection_class=SSLConnection if address.is_tls else Connection,
            host=host[0],
            port=host[1],
            db=address.db,
            **options,
        )

    if address.kind == "cluster":
        return ClusterPools(address, options | {"ssl": address.is_tls}, open_pool)
    return ServerPools(open_pool(address.hosts[0]))


def _options(address: RedisAddress, terms: RedisTerms) -> dict[str, Any]:
    # Calls are sent again by the link, which knows what may be; the client itself never does.
    options: dict[str, Any] = {
        "username": address.username,
        "password": terms.password,
        "socket_connect_timeout": terms.timeout_s,
        "socket_timeout": terms.timeout_s + terms.wait.timeout_s * terms.wait.is_needed,
        "decode_responses": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.is_tls:
        options |= {"ssl_check_hostname": True}  # redis-py 5 leaves it out
    if address.is_tls and terms.ca_file is not None:
        options |= {"ssl_ca_certs": str(terms.ca_file)}
    return options
