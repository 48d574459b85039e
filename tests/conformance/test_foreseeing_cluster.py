"""One suite for every `ForeseeingCluster`, on a cluster with 8 CPU and 2 H100 that others use as well."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_adopting import AdoptingSlurmCluster
from adapters.cluster.slurm_commands import HereRunner
from adapters.cluster.slurm_outlook import OUT_S
from adapters.cluster.slurm_request import SlurmDevice
from scheduler.core.errors import ClusterUnavailableError
from scheduler.ports import ForeseeingCluster
from tests.fakes.clock import ManualClock
from tests.fakes.slurm.setting_up import NODES, FakeSlurm, set_up
from tests.fakes.slurm.setting_up_rest import USER, FakeRest, stop_rest
from tests.unit.cluster.rest_world import H100, fake_place, open_rest

HOUR_S = 3600
Level = tuple[str, int, int, int]


class WallClock(ManualClock):
    """Its service lives on wall time."""

    def at_wall(self, wall_s: float) -> datetime:
        return datetime.fromtimestamp(wall_s, UTC)


@dataclass
class Shared:
    """A cluster, and what others do on it."""

    cluster: ForeseeingCluster
    slurm: FakeSlurm
    me: str
    now_s: int
    make_silent: Callable[[], None]

    def theirs(self, hours: int, **fields: Any) -> None:
        self.slurm.add("their job", user="stranger", limit_s=hours * HOUR_S, **fields)

    def levels(self) -> list[Level]:
        """Accelerator, devices, and from which hour to which they are taken."""
        return [
            (
                one.accelerator,
                one.gpus,
                round((one.window.start_at.timestamp() - self.now_s) / HOUR_S),
                round((one.window.end_at.timestamp() - self.now_s) / HOUR_S),
            )
            for one in self.cluster.outlook().taken
        ]


def open_commands(kind: type[SlurmCluster], root: Path, now_s: int, **fields: Any) -> Shared:
    slurm = set_up(root / "slurm")
    cluster = kind(
        "fake",
        accelerators={"CPU": SlurmDevice(), "H100": H100},
        root=root / "shared",
        clock=WallClock(),
        runner=HereRunner(conf=slurm.conf, programs=slurm.programs),
        **fields,
    )
    me = slurm.add("probe", state="COMPLETED")
    user = slurm.jobs()[int(me) - 1]["user"]
    return Shared(cluster, slurm, user, now_s, lambda: slurm.configure(faults={"scontrol": "down"}))


def open_requests(dialect: str, root: Path, now_s: int) -> Shared:
    place = fake_place(root / "slurm", dialect)
    slurm = set_up(root / "slurm")
    rest = FakeRest(slurm, place.url)
    cluster = open_rest(root, place, clock=WallClock())
    return Shared(cluster, slurm, USER, now_s, lambda: rest.tell(fault="down"))


CLUSTERS: dict[str, Callable[[Path, int], Shared]] = {
    "slurm_fake": partial(open_commands, SlurmCluster),
    "slurm_adopting_fake": partial(open_commands, AdoptingSlurmCluster, adopts="all"),
    "slurm_rest_old_fake": partial(open_requests, "old"),
    "slurm_rest_new_fake": partial(open_requests, "new"),
}


@pytest.fixture(params=list(CLUSTERS))
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    yield CLUSTERS[request.param](tmp_path, int(time.time()))
    stop_rest(tmp_path / "slurm")


def test_idle_cluster_has_all_its_devices(shared: Shared) -> None:
    assert isinstance(shared.cluster, ForeseeingCluster)
    outlook = shared.cluster.outlook()
    assert (dict(outlook.totals), outlook.taken) == ({"CPU": 8, "H100": 2}, ())


def test_jobs_of_others_are_taken_until_their_time_is_up(shared: Shared) -> None:
    shared.theirs(3, cpus=2)
    shared.theirs(5, cpus=1, gpus=1, nodes="fake-g1", partition="gpu")
    assert shared.levels() == [("CPU", 2, 0, 3), ("H100", 1, 0, 5)]


def test_jobs_of_others_are_theirs_whatever_they_are_called(shared: Shared) -> None:
    for name in ("gt-a.1.0", "a|b\nc", ""):
        shared.slurm.add(name, user="stranger", limit_s=3 * HOUR_S, cpus=1)
    assert shared.levels() == [("CPU", 3, 0, 3)]


def test_other_jobs_of_the_same_user_are_taken(shared: Shared) -> None:
    shared.slurm.add("by hand", user=shared.me, limit_s=3 * HOUR_S, cpus=1)
    assert shared.levels() == [("CPU", 1, 0, 3)]


def test_runs_of_this_service_are_not_taken(shared: Shared) -> None:
    asks = "gridtide:key=a.1.0;asks=H100:2"
    where = {"nodes": "fake-g1", "partition": "gpu", "gpus": 2}
    shared.slurm.add("gt-a.1.0", user=shared.me, comment=asks, **where)
    assert shared.levels() == []


def test_jobs_that_wait_or_have_ended_take_nothing(shared: Shared) -> None:
    shared.theirs(3, state="PENDING", nodes="", cpus=4, held=True)
    shared.theirs(3, state="COMPLETED", cpus=4, end_s=shared.now_s)
    assert shared.levels() == []


def test_nodes_out_of_service_are_taken_for_a_while(shared: Shared) -> None:
    cpu, gpu = NODES
    shared.slurm.configure(nodes=[cpu, gpu | {"state": "IDLE+DRAIN"}])
    assert shared.levels() == [("H100", 2, 0, round(OUT_S / HOUR_S))]
    assert shared.cluster.outlook().totals["H100"] == 2


def test_reservations_are_taken_from_start_to_end(shared: Shared) -> None:
    begin_s = shared.now_s + 2 * HOUR_S
    whole = {"name": "w", "start_s": begin_s, "end_s": begin_s + HOUR_S, "nodes": "fake-g1"}
    some = whole | {"name": "s", "nodes": "fake-c1", "cpus": 3}
    shared.slurm.configure(reservations=[whole, some])
    assert shared.levels() == [("CPU", 3, 2, 3), ("H100", 2, 2, 3)]


def test_job_in_a_reservation_is_counted_once(shared: Shared) -> None:
    times = {"start_s": shared.now_s - 60, "end_s": shared.now_s + 4 * HOUR_S}
    shared.slurm.configure(reservations=[{"name": "w", "nodes": "fake-c1", **times}])
    shared.theirs(2, cpus=2, reservation="w")
    assert shared.levels() == [("CPU", 8, 0, 4)]


def test_silent_cluster_says_so(shared: Shared) -> None:
    shared.make_silent()
    with pytest.raises(ClusterUnavailableError):
        shared.cluster.outlook()
