"""What is free: no more than the settings say, than nodes have, and than quotas leave."""

from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from adapters.cluster.kube_capacity import (
    LOOK_AGAIN_S,
    TOO_MANY_S,
    KubeCapacity,
    is_scarce,
    parse_node,
    quantity,
)
from adapters.cluster.kube_objects import KubeDevice
from adapters.cluster.kube_refusals import KubeRefusedError
from scheduler.core.timegrid import Window
from tests.fakes.loopback_http import Exchange, LoopbackServer, json_reply
from tests.unit.cluster.kube_api import client_to, close_all, status_reply

NO_RIGHT = status_reply(
    403, reason="Forbidden", message='User "u" cannot list resource "nodes" in API group ""'
)
DEVICES = {
    "CPU": KubeDevice(resource="cpu"),
    "H100": KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "h100"}),
    "A100": KubeDevice(resource="nvidia.com/gpu", node_selector={"gpu": "a100"}),
}
CONFIGURED = {"CPU": 100, "H100": 8, "A100": 4}


@pytest.fixture(autouse=True)
def _closed_afterwards() -> Iterator[None]:
    yield
    close_all()


def node(name: str, *, gpu: str = "h100", is_ready: bool = True, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"gpu": gpu}},
        "spec": fields,
        "status": {
            "allocatable": {"cpu": "15500m", "nvidia.com/gpu": "4"},
            "conditions": [{"type": "Ready", "status": "True" if is_ready else "Unknown"}],
        },
    }


def quota(resource: str, hard: str, used: str) -> dict[str, Any]:
    return {"status": {"hard": {resource: hard}, "used": {resource: used}}}


class World:
    """A server with nodes and quotas, either of which may be kept from us; and what we hold."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] | None = None
        self.quotas: list[dict[str, Any]] | None = None
        self.taken: dict[str, int] = {}
        self.begun: dict[str, int] | None = None
        self.now_s = 0.0

    def __call__(self, to: Exchange) -> None:
        items = self.nodes if "/nodes" in to.path else self.quotas
        (NO_RIGHT if items is None else json_reply({"metadata": {}, "items": items}))(to)

    def capacity(self, server: LoopbackServer) -> KubeCapacity:
        return KubeCapacity(
            client_to(server),
            namespace="ml",
            configured=CONFIGURED,
            devices=DEVICES,
            taken=lambda: self.taken,
            begun=lambda: self.taken if self.begun is None else self.begun,
            steady=lambda: self.now_s,
        )


def test_settings_are_believed_where_nothing_may_be_listed_less_what_we_hold() -> None:
    world = World()
    world.taken = {"H100": 3, "gone": 5}
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        assert capacity.free() == {"CPU": 100, "H100": 5, "A100": 4}
        assert capacity.words() == "the settings"


def test_no_more_than_the_nodes_have_that_the_pods_may_go_to() -> None:
    world = World()
    world.nodes = [node("a"), node("b", is_ready=False), node("c", unschedulable=True)]
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        assert capacity.free() == {"CPU": 15, "H100": 4, "A100": 0}
        assert capacity.words() == "the settings and 1 nodes that may take pods"


def test_no_more_than_the_least_that_quotas_leave_whatever_they_call_it() -> None:
    world = World()
    world.quotas = [
        quota("requests.nvidia.com/gpu", "10", "4"),
        quota("requests.nvidia.com/gpu", "6", "4"),
        quota("cpu", "8", "500m"),
        {},
    ]
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        assert capacity.free() == {"CPU": 7, "H100": 2, "A100": 2}
        assert capacity.words() == "the settings and quotas on cpu, nvidia.com/gpu"


def test_quota_that_was_seen_some_time_ago_counts_what_was_started_since() -> None:
    world = World()
    world.quotas = [quota("requests.nvidia.com/gpu", "6", "1")]
    world.taken = {"H100": 1}
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        assert capacity.free()["H100"] == 5
        world.taken = {"H100": 3, "A100": 1}
        assert capacity.free()["H100"] == 2
        # What has ended since is seen when the quota is looked at again.
        world.taken = {}
        assert capacity.free()["H100"] == 5
        assert len(server.asked) == 2
        world.quotas = [quota("requests.nvidia.com/gpu", "6", "0")]
        world.now_s = LOOK_AGAIN_S
        assert capacity.free()["H100"] == 6
        assert len(server.asked) == 4


def test_quota_that_is_exceeded_leaves_nothing() -> None:
    world = World()
    world.quotas = [quota("requests.nvidia.com/gpu", "2", "4")]
    with LoopbackServer(world) as server:
        assert world.capacity(server).free()["H100"] == 0


def test_other_refusals_are_no_capacity() -> None:
    with LoopbackServer(status_reply(401)) as server, pytest.raises(KubeRefusedError):
        World().capacity(server).free()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4", 4),
        ("1500m", Fraction(3, 2)),
        ("64Gi", 64 * 2**30),
        ("2k", 2000),
        ("0.5", Fraction(1, 2)),
        (3, 3),
        ("", 0),
        ("many", 0),
        ("1..5", 0),
        ("5x", 0),
        (None, 0),
    ],
)
def test_quantities_are_exact(text: object, number: Fraction) -> None:
    assert quantity(text) == number


def test_node_without_a_word_on_its_state_takes_no_pods() -> None:
    assert parse_node({"metadata": {"name": "a"}}) is None


NO_NODE = (
    "Unschedulable: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
)


@pytest.mark.parametrize(
    ("why", "labels", "missing"),
    [
        ("0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 Insufficient cpu.", None, 7),
        ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", {"own": "x"}, 7),
        ("exceeded quota: q, requested: requests.nvidia.com/gpu=2, used: …, limited: …", None, 7),
        ("insufficient unused quota for nvidia.com/gpu in flavor h, 1 more needed", None, 7),
        (NO_NODE, {"gpu": "h100"}, 7),
        (NO_NODE, {"gpu": "h100", "own": "x"}, 0),
        (NO_NODE, None, 0),
        ("0/2 nodes are available: 2 Insufficient memory.", {"gpu": "h100"}, 0),
        ("0/2 nodes are available: 2 node(s) had volume node affinity conflict.", None, 0),
        ("exceeded quota: q, requested: memory=2Ti, used: memory=0, limited: memory=1Ti", None, 0),
        ("ImagePullBackOff: Back-off pulling image", {"gpu": "h100"}, 0),
        ("no reason is known", {"gpu": "h100"}, 0),
    ],
)
def test_start_that_failed_costs_others_only_what_was_not_there_and_for_a_while(
    why: str, labels: dict[str, str] | None, missing: int
) -> None:
    world = World()
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        capacity.note_unstarted("H100", 2, why, labels=labels)
        assert capacity.missing()["H100"] == missing
        world.now_s = TOO_MANY_S
        assert capacity.missing()["H100"] == 0


@pytest.mark.parametrize(
    ("why", "is_queued", "missing"),
    [
        ("queued in Kueue (ours): ClusterQueue team is inactive", True, 8),
        ("queued in Kueue (ours): LocalQueue ours doesn't exist", True, 8),
        ("queued in Kueue (theirs): ClusterQueue theirs is inactive", False, 0),
        ("queued in Kueue (ours): not looked at yet", True, 0),
    ],
)
def test_queue_that_lets_nobody_through_has_nothing_for_others_either(
    why: str,
    is_queued: bool,
    missing: int,
) -> None:
    world = World()
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        capacity.note_unstarted("H100", 1, why, is_queued=is_queued)
        assert capacity.missing()["H100"] == missing


def test_what_is_tried_again_is_no_sign_that_there_is_something_for_it() -> None:
    world = World()
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        capacity.note_unstarted("H100", 1, "2 Insufficient nvidia.com/gpu.")
        assert capacity.missing()["H100"] == 8
        world.taken, world.begun = {"H100": 1}, {}
        assert capacity.missing()["H100"] == 8
        world.begun = {"H100": 1}
        assert capacity.missing()["H100"] == 7


def test_start_of_a_device_that_the_settings_have_no_more_is_no_news() -> None:
    world = World()
    with LoopbackServer(world) as server:
        capacity = world.capacity(server)
        capacity.note_unstarted("B200", 2, "2 Insufficient nvidia.com/gpu.")
        assert not any(capacity.missing().values())


def test_outlook_tells_what_no_node_has_from_what_may_be_free_again() -> None:
    world = World()
    world.nodes = [node("a"), node("b", gpu="a100")]
    world.quotas = [quota("requests.nvidia.com/gpu", "6", "5")]
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC))
    with LoopbackServer(world) as server:
        told = world.capacity(server).outlook("east", window)
    assert {one.accelerator: one.gpus for one in told.taken} == {"CPU": 70, "H100": 4}
    assert {one.accelerator: one.gpus for one in told.passing} == {"H100": 3, "A100": 3}
    assert {one.window for one in (*told.taken, *told.passing)} == {window}


def test_scarce_is_only_what_is_named_in_full() -> None:
    assert not is_scarce("cpu", "1 Insufficient cpu-shares.example.com")
