"""To whom a Workload is offered, and when: by its words, the plan, and what becomes of earlier offers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_link import KubeLink
from adapters.cluster.kube_login import KubeconfigLogin
from adapters.cluster.kube_native_record import HOLD, STATUS, KubeNative
from adapters.cluster.kube_objects import KubeDevice
from adapters.cluster.kueue_nominations import Offer
from adapters.cluster.kueue_records import KubeWorkload, parse_workload
from adapters.hardware_tables import load_hardware
from adapters.http_client import Stop
from scheduler.client import ServiceUnreachableError
from scheduler.core.errors import InfeasibleError, InvalidConfigError
from scheduler.core.timegrid import format_instant
from scheduler.server.multikueue_checks import multikueue_checks
from scheduler.server.multikueue_dispatcher import MultiKueueDispatcher, build_dispatcher
from scheduler.server.multikueue_plans import REPLAN_S, Worker, WorkerPlans
from scheduler.server.multikueue_settings import MultiKueueSettings
from scheduler.server.safe_starts import SafeStarts
from scheduler.server.settings import load_settings
from tests.fakes.clock import ManualClock
from tests.unit.cluster.kueue_world import KueueAdmin, kueue_bed
from tests.unit.cluster.test_kube_native_record import gpus, native

CREATED = datetime(2026, 3, 2, tzinfo=UTC)
DEADLINE = CREATED + timedelta(hours=24)
WORDS = {"deadline": format_instant(DEADLINE), "duration": "4h"}
LATEST = DEADLINE - timedelta(hours=4, minutes=2)
NEXT_S = 300
CPU = {"CPU": KubeDevice(resource="cpu")}
H100 = {"H100": KubeDevice(resource="nvidia.com/gpu")}
WORKERS = (
    Worker(name="w-a", cluster_id="a", devices=CPU | H100, capacity={"CPU": 8, "H100": 8}),
    Worker(name="w-b", cluster_id="b", devices=CPU, capacity={"CPU": 8}),
    Worker(name="w-c", cluster_id="c", devices=CPU, capacity={"CPU": 8}),
)
Document = dict[str, Any]


@dataclass
class Service:
    """Answers with starts by cluster, best first; or raises."""

    starts: dict[str, datetime] = field(default_factory=dict)
    error: Exception | None = None
    asked: list[tuple[Document, tuple[str, ...]]] = field(default_factory=list)

    def __call__(self, document: Document, clusters: Sequence[str]) -> Document:
        self.asked.append((document, tuple(clusters)))
        if self.error is not None:
            raise self.error
        ranked = [
            {
                "cluster": one,
                "start": format_instant(at),
                "emissions_g": 2800.0,
                "energy_kwh": 20.0,
            }
            for one, at in self.starts.items()
        ]
        return {"ranked": ranked, "placement": None}


@dataclass
class World:
    service: Service
    clock: ManualClock
    now_s: float = 0.0

    def __post_init__(self) -> None:
        settings = MultiKueueSettings(
            context="hub",
            namespaces=["ml"],
            check="multikueue",
            clusters={one.name: one.cluster_id for one in WORKERS},
            next_after="5m",  # type: ignore[arg-type]
        )
        self.plans = WorkerPlans(
            WORKERS,
            self.service,
            starts=SafeStarts(load_hardware()),
            clock=self.clock,
            monotonic=lambda: self.now_s,
        )
        self.dispatcher = MultiKueueDispatcher(
            KubeClient(KubeLink(KubeconfigLogin("none", paths=[]))),
            settings,
            self.plans,
            clock=self.clock,
            monotonic=lambda: self.now_s,
        )

    def offer(self, job: KubeNative | None, *nominated: str) -> Offer:
        """In a look of its own."""
        self.plans.begin()
        return self.dispatcher.offer(replace(WAITING, nominated=nominated), job)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.clock.move(seconds=seconds)


WAITING: KubeWorkload = parse_workload(
    {"metadata": {"name": "job-mine-1", "namespace": "ml"}, "spec": {}, "status": {}}
)


@pytest.fixture
def world() -> World:
    starts = {"b": CREATED + timedelta(hours=10), "a": CREATED + timedelta(hours=9)}
    return World(Service(starts), ManualClock(CREATED + timedelta(hours=1)))


def test_it_is_held_without_a_nomination_until_its_window_and_then_goes_to_the_best(
    world: World,
) -> None:
    held = world.offer(native(WORDS))
    assert held.names == ()
    assert held.words == (
        "planned for 2026-03-02T10:00Z in w-b at 140 g/kWh, offered to all workers by 2026-03-02T19:58Z at the latest"
    )
    world.wait(9 * 3600)
    assert world.offer(native(WORDS)) == Offer(names=("w-b",), words="offered to w-b")


def test_next_of_the_ranking_comes_when_the_first_does_not_admit(world: World) -> None:
    world.wait(9 * 3600)
    job = native(WORDS, notes={STATUS: "offered to w-b"})
    assert world.offer(job).names == ("w-b",)
    assert world.offer(job, "w-b") == Offer(names=("w-b",), words="offered to w-b")
    world.wait(NEXT_S)
    assert world.offer(job, "w-b") == Offer(names=("w-b", "w-a"), words="offered to w-b, w-a")
    assert world.offer(job, "w-b", "w-a").names == ("w-b", "w-a"), "its time begins anew"
    world.wait(NEXT_S)
    # Those that the plan has no place for come last.
    assert world.offer(job, "w-b", "w-a").names == ("w-b", "w-a", "w-c")


def test_at_its_latest_safe_start_all_get_it_whatever_the_service_says(world: World) -> None:
    world.clock.at = LATEST
    asked = len(world.service.asked)
    offer = world.offer(native(WORDS), "w-c")
    assert offer.names == ("w-c", "w-a", "w-b")
    assert offer.words == (
        "offered to all workers: its latest safe start, 2026-03-02T19:58Z, has come"
    )
    assert len(world.service.asked) == asked


def test_silent_service_is_waited_for_a_while_and_then_all_get_it(world: World) -> None:
    world.service.error = ServiceUnreachableError("no service at http://x")
    held = world.offer(native(WORDS))
    assert held == Offer(names=(), words="waits for a plan: no service at http://x")
    world.wait(NEXT_S)
    offer = world.offer(native(WORDS))
    assert offer.names == ("w-a", "w-b", "w-c")
    assert offer.words == "offered to all workers: no service at http://x"


def test_plan_that_is_known_holds_while_the_service_is_away_which_is_asked_once_a_look(
    world: World,
) -> None:
    world.offer(native(WORDS))
    world.service.error = ServiceUnreachableError("no service at http://x")
    world.wait(REPLAN_S)
    asked = len(world.service.asked)
    for _ in range(3):
        assert world.dispatcher.offer(WAITING, native(WORDS)).names == ()
    assert len(world.service.asked) == asked + 1
    world.wait(9 * 3600)
    assert world.offer(native(WORDS)).names == ("w-b",), "as it was planned"


def told(offer: Offer) -> KubeNative:
    """The Job, with the status that its user was given."""
    return native(WORDS, notes={STATUS: offer.words})


def test_dispatcher_that_begins_while_the_service_is_away_goes_by_the_plan_at_the_job(
    world: World,
) -> None:
    first = world.offer(native(WORDS))
    other = World(Service(error=ServiceUnreachableError("no service at http://x")), world.clock)
    for _ in range(3):
        assert other.offer(told(first)) == first, "nothing is written anew"
        other.wait(NEXT_S)
    other.wait(9 * 3600)
    assert other.offer(told(first)) == Offer(names=("w-b",), words="offered to w-b")


@pytest.mark.parametrize(
    "status",
    [
        "planned for 2026-03-02T10:00Z in w-x at 140 g/kWh, offered to all workers by then",
        "planned for 2026-93-02T10:00Z in w-b at 140 g/kWh, offered to all workers by then",
        "planned for tomorrow",
    ],
)
def test_status_that_is_no_plan_of_these_workers_is_none(world: World, status: str) -> None:
    world.service.error = ServiceUnreachableError("no service at http://x")
    offer = world.offer(native(WORDS, notes={STATUS: status}))
    assert offer.words.startswith("waits for a plan")


def test_of_two_dispatchers_the_one_with_the_older_plan_takes_over_the_newer(world: World) -> None:
    mine = world.offer(native(WORDS))
    assert world.offer(told(mine)) == mine
    later = {"a": CREATED + timedelta(hours=12), "b": CREATED + timedelta(hours=13)}
    other = World(Service(later), world.clock)
    newer = other.offer(told(mine))
    assert newer.words.startswith("planned for 2026-03-02T12:00Z in w-a")
    for one in (world, other, world, other):
        assert one.offer(told(newer)) == newer
    assert len(world.service.asked) == len(other.service.asked) == 1
    # It is its own again once it is old.
    world.wait(REPLAN_S)
    assert world.offer(told(newer)).words == mine.words


@pytest.mark.parametrize(
    "answer", [{"hello": 1}, {"ranked": [], "placement": None}, {"ranked": [{"cluster": "b"}]}]
)
def test_answer_that_is_no_plan_is_as_good_as_none(world: World, answer: Document) -> None:
    world.plans._ask = lambda *_: answer
    held = world.offer(native(WORDS))
    assert held.names == ()
    assert "no plan of several clusters" in held.words
    world.clock.at = LATEST
    assert world.offer(native(WORDS)).names == ("w-a", "w-b", "w-c")


def test_plan_is_asked_for_again_now_and_then_and_when_the_words_change(world: World) -> None:
    for _ in range(3):
        world.offer(native(WORDS))
    assert len(world.service.asked) == 1
    world.offer(native(WORDS | {"duration": "5h"}))
    assert len(world.service.asked) == 2
    world.wait(REPLAN_S)
    world.offer(native(WORDS | {"duration": "5h"}))
    assert len(world.service.asked) == 3


def test_service_is_asked_for_the_clusters_that_have_the_devices(world: World) -> None:
    pauses = {"interruptible": "yes", "min_chunk": "1h"}
    words = {"patience": "20h", "duration": "4h", "priority": "3"} | pauses
    world.offer(native(words, containers=gpus("2"), parallelism=2, completions=2))
    ((document, clusters),) = world.service.asked
    assert clusters == ("a",)
    assert document == {
        "name": "multikueue",
        "command": ["multikueue:ml/mine"],
        "resources": {"accelerators": "H100:4", "num_nodes": 2},
        "duration": "4h",
        "priority": 3,
        # Since the Job was created: 4h + 20h.
        "deadline": format_instant(DEADLINE),
    }


def test_devices_that_go_by_several_names_are_choices(world: World) -> None:
    other = replace(
        WORKERS[1],
        devices={"A100": KubeDevice(resource="nvidia.com/gpu")},
        capacity={"A100": 4},
    )
    plans = WorkerPlans(
        (WORKERS[0], other),
        world.service,
        starts=SafeStarts(load_hardware()),
        clock=world.clock,
    )
    wish = plans.wish(native(WORDS, containers=gpus("2")))
    assert wish.document["resources"] == {
        "any_of": [
            {"accelerators": "H100:2", "num_nodes": 1},
            {"accelerators": "A100:2", "num_nodes": 1},
        ]
    }


def test_without_words_it_goes_to_the_best_now(world: World) -> None:
    limited = native({}, activeDeadlineSeconds=7200)
    assert world.offer(limited) == Offer(names=("w-b",), words="offered to w-b")
    ((document, _),) = world.service.asked
    assert (document["duration"], document["patience"]) == ("7200s", "10s")


def test_held_by_its_user_it_is_offered_to_nobody_even_late(world: World) -> None:
    world.clock.move(days=3)
    offer = world.offer(native(WORDS, notes={HOLD: "true"}))
    assert offer.names == ()
    assert offer.words.startswith("held by its user")


@pytest.mark.parametrize(
    ("words", "containers", "why"),
    [
        ({"deadline": "soon", "duration": "4h"}, None, "its words do not say until when"),
        ({"dedline": "x"}, None, "dedline: not a word that can be stated"),
        (WORDS, [{"resources": {"limits": {"amd.com/gpu": "1"}}}], "it asks for amd.com/gpu"),
    ],
    ids=["wrong deadline", "wrong word", "other devices"],
)
def test_what_cannot_be_planned_is_kueues_to_place(
    world: World, words: dict[str, str], containers: list[Document] | None, why: str
) -> None:
    offer = world.offer(native(words, containers=containers))
    assert offer.names == ("w-a", "w-b", "w-c")
    assert offer.words.startswith(f"offered to all workers: {why}")


def test_what_cannot_be_done_in_time_is_offered_to_all_at_once(world: World) -> None:
    world.service.error = InfeasibleError("it cannot finish by then")
    offer = world.offer(native(WORDS))
    assert offer.names == ("w-a", "w-b", "w-c")
    assert offer.words == "offered to all workers: it cannot finish by then"


def test_workload_of_another_kind_is_offered_to_all(world: World) -> None:
    assert world.offer(None).names == ("w-a", "w-b", "w-c")


def settings_with(folder: Path, **multikueue: Any) -> Path:
    path = folder / "gridtide.yaml"
    kubernetes = {"context": "a", "image": "python:3.12"}
    kubeconfig = {
        "clusters": [{"name": "hub", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "hub", "user": {"token": "t"}}],
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "hub"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), encoding="utf-8")
    cluster = {
        "id": "a",
        "kind": "kubernetes",
        "region": "eu-a",
        "zone": "DE",
        "capacity": {"CPU": 8},
        "kubernetes": kubernetes,
    }
    known = {
        "context": "hub",
        "kubeconfig": "kubeconfig",
        "namespaces": ["ml"],
        "check": "multikueue",
        "clusters": {"w-a": "a"},
    }
    document = {"clusters": [cluster], "multikueue": known | multikueue}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_settings_make_a_dispatcher_whose_kubeconfig_lies_beside_them(tmp_path: Path) -> None:
    settings = load_settings(settings_with(tmp_path))
    assert build_dispatcher(settings, stop=Stop()) is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"clusters": {"w-a": "x"}},
            "multikueue.clusters.w-a: 'x' is no cluster of kind kubernetes; clusters are a",
        ),
        ({"context": "none"}, "multikueue: .*none"),
        ({"in_cluster": True}, "context and in_cluster: give one of them"),
        ({"namespaces": ["ml", "ml"]}, "name each namespace once"),
        ({"clusters": {}}, "multikueue.clusters"),
    ],
)
def test_wrong_settings_are_refused_by_their_name(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidConfigError, match=said):
        build_dispatcher(load_settings(settings_with(tmp_path, **changes)), stop=Stop())


def test_without_a_manager_there_is_nothing_to_nominate(tmp_path: Path) -> None:
    path = settings_with(tmp_path)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    del document["multikueue"]
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(InvalidConfigError, match="nothing to nominate; set it"):
        build_dispatcher(load_settings(path), stop=Stop())


def test_doctor_says_what_the_manager_cluster_lacks(tmp_path: Path) -> None:
    assert multikueue_checks(load_settings(settings_with(tmp_path))) != []
    bed = kueue_bed("hub")
    KueueAdmin(bed.admin("hub")).make_workers_once("doctored", {"w-a": "east"})

    def said(context: str, **changes: object) -> list[tuple[bool, str]]:
        path = settings_with(
            tmp_path,
            context=context,
            kubeconfig=str(bed.kubeconfig),
            namespaces=["training"],
            check="doctored",
            **changes,
        )
        return [(one.is_ok, one.detail) for one in multikueue_checks(load_settings(path))]

    assert said("hub-gridtide") == [(True, "workers are nominated in namespace training: w-a")]
    ((is_ok, detail),) = said("hub", clusters={"w-x": "a"})
    assert (is_ok, detail[:28]) == (False, "MultiKueue has no worker w-x")
    ((is_ok, detail),) = said("hub-nobody")
    assert not is_ok
    assert "may not get workloads, list workloads, patch workloads/status, list jobs" in detail
    ((is_ok, detail),) = said("east")
    assert (is_ok, detail[:38]) == (False, "the manager cluster does not serve kue")
    ((is_ok, detail),) = said("none")
    assert not is_ok
    assert "none" in detail


def test_doctor_is_silent_without_a_manager_cluster(tmp_path: Path) -> None:
    path = settings_with(tmp_path)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    del document["multikueue"]
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert multikueue_checks(load_settings(path)) == []
