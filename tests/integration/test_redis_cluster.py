"""A store on a real Redis Cluster: on one node by its hash tag, also while that is another one's turn."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from adapters.store.redis import RedisStore
from adapters.store.redis_address import RedisAddress, parse_address
from scheduler.core.errors import StoreError
from scheduler.core.job import JobState
from tests.conformance.test_job_store import add, event, ids, move, queued
from tests.fakes.redis_server import SYNCED, RedisServer, free_port

pytestmark = pytest.mark.external
_PREFIX = "{gridtide:moved}:"


class Cluster:
    """Two nodes: the second has the slots to 8000, the first those after."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [
            RedisServer(folder / name, *SYNCED, "--cluster-enabled", "yes", *self._bus())
            for name in ("one", "two")
        ]

    @staticmethod
    def _bus() -> tuple[str, str]:
        return "--cluster-port", str(free_port())

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.one, self.two = (node.client() for node in self.nodes)
        self.one.execute_command("CLUSTER", "ADDSLOTSRANGE", 8001, 16383)
        self.two.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8000)
        bus = self.two.config_get("cluster-port")["cluster-port"]
        self.one.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[1].port, bus)
        for client in (self.one, self.two):
            _await_whole(client)

    def stop(self) -> None:
        for client in (self.one, self.two):
            client.close()
        for node in self.nodes:
            node.kill()

    def address(self, name: str) -> RedisAddress:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return parse_address(f"redis+cluster://{hosts}#{name}")

    def set_slot(self, slot: int, *, source: str, goal: str, is_done: bool) -> None:
        """Begins, or ends, the move of a slot from the second node to the first."""
        if is_done:
            for client in (self.one, self.two):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", goal)
        else:
            self.one.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source)
            self.two.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", goal)

    def move_key(self, key: str) -> None:
        self.two.execute_command("MIGRATE", "127.0.0.1", self.nodes[0].port, key, 0, 5000)


def _await_whole(client: redis.Redis) -> None:
    ready = threading.Event()
    for _ in range(400):
        info = client.execute_command("CLUSTER", "INFO")
        told = info if isinstance(info, dict) else dict(one.split(":") for one in info.split())
        if told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == 2:
            return
        ready.wait(0.05)
    raise AssertionError(f"the cluster does not come up: {told}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    made.start()
    yield made
    made.stop()


def test_store_lives_on_one_node_of_a_cluster_by_its_hash_tag(cluster: Cluster) -> None:
    for name in ("a", "b", "c", "d"):  # of slots on both nodes
        store = RedisStore(cluster.address(name))
        add(store, queued(name), queued("other"))
        moved = move(queued(name), JobState.HELD)
        store.update_job(moved, event(moved, "held"))
        assert store.get_job(name) == moved
        assert [one.kind for one in store.events(job_id=name)] == ["submitted", "held"]
        assert len(store.active_jobs()) == 2
        store.close()
    assert min(cluster.one.dbsize(), cluster.two.dbsize()) > 0


@pytest.mark.parametrize("first", ["seq", "events", "jobs:state:queued", "calls", "schema"])
def test_slot_that_moves_leaves_no_write_half_done(cluster: Cluster, first: str) -> None:
    slot = int(cluster.one.cluster("KEYSLOT", _PREFIX))
    assert slot <= 8000  # the second node's
    store = RedisStore(cluster.address("moved"))
    add(store, *(queued(f"j{number}") for number in range(5)))
    before = store.events()
    source, goal = (one.execute_command("CLUSTER", "MYID") for one in (cluster.two, cluster.one))
    keys = cluster.two.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    cluster.set_slot(slot, source=source, goal=goal, is_done=False)
    # Whichever key goes first: a write needs all of them, and must notice before it writes any.
    for key in sorted(keys, key=lambda one: not one.startswith(_PREFIX + first)):
        if cluster.two.exists(key):
            cluster.move_key(key)
        if key.startswith(_PREFIX + first):
            with pytest.raises(StoreError, match="is moving the store to another node"):
                add(store, queued("late"))
    cluster.set_slot(slot, source=source, goal=goal, is_done=True)
    assert store.events() == before
    assert sorted(ids(store.active_jobs())) == [f"j{number}" for number in range(5)]
    add(store, queued("after"))
    assert [one.seq for one in store.events()] == list(range(1, 7))
    store.close()
