"""Kueue and MultiKueue with the whole service: queues, users' queued Jobs, and the dispatcher as a process of its own."""

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.core.timegrid import format_instant
from tests.integration.crash_run import fast_clock
from tests.integration.kubernetes_world import kube_cluster
from tests.integration.slurm_world import ServiceProcess, have_ended, trace, wait_for_jobs
from tests.unit.cluster.kube_user import KubeUser, appended
from tests.unit.cluster.kube_world import KubeBed
from tests.unit.cluster.kueue_world import CHECK, QUEUE, KueueAdmin, kueue_bed, stay
from tests.unit.cluster.runs import lines, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MINUTE = timedelta(minutes=1)
SPEED = 20.0
WORKERS = {"w-north": "north", "w-south": "south"}
MULTI = "multikueue"
CPU = {"cpu": "1"}
Document = dict[str, Any]


@pytest.fixture
def bed() -> Iterator[KubeBed]:
    bed = kueue_bed("hub", "north", "south")
    yield bed
    for name in ("hub", *WORKERS.values()):
        bed.fault(name)


@pytest.fixture
def admins(bed: KubeBed) -> dict[str, KueueAdmin]:
    found = {name: KueueAdmin(bed.admin(name)) for name in ("hub", *WORKERS.values())}
    found["hub"].make_workers_once(MULTI, WORKERS)
    found["south"].make_check(CHECK)
    return found


@pytest.fixture
def queue(admins: dict[str, KueueAdmin]) -> Iterator[str]:
    """A queue in each cluster: of MultiKueue in the hub, with our check in the south."""
    name = f"q{uuid.uuid4().hex[:8]}"
    for cluster, admin in admins.items():
        admin.make_queue(name, checks={"hub": (MULTI,)}.get(cluster, ()), cpu=16)
    admins["south"].make_queue(f"{name}-checked", checks=(CHECK,), cpu=16)
    yield name
    for admin in admins.values():
        admin.forget(name)
    admins["south"].forget(f"{name}-checked")


@pytest.fixture
def serve(tmp_path: Path, bed: KubeBed) -> Iterator[Callable[..., ServiceProcess]]:
    services = list[ServiceProcess]()

    def begin(**settings: Any) -> ServiceProcess:
        known = {"planning": {"tick_every": 0.3, "slot": "1m", "horizon": "4h"}}
        one = ServiceProcess(tmp_path, known | settings)
        services.append(one)
        one.start()
        one.wait_until_up()
        return one

    yield begin
    for service in services:
        service.kill()


@pytest.fixture
def hub(bed: KubeBed) -> Iterator[KubeUser]:
    one = KubeUser(bed.admin("hub"))
    yield one
    one.finish()


@pytest.fixture
def south(bed: KubeBed) -> Iterator[KubeUser]:
    one = KubeUser(bed.admin("south"))
    yield one
    one.finish()


def clusters(folder: Path, bed: KubeBed, **kubernetes: Any) -> list[Document]:
    prefix = f"g{uuid.uuid4().hex[:8]}-"
    return [
        kube_cluster(folder, name, bed, prefix=prefix, **kubernetes) for name in WORKERS.values()
    ]


def multikueue(bed: KubeBed, **changes: Any) -> Document:
    return {
        "context": "hub-gridtide",
        "kubeconfig": str(bed.kubeconfig),
        "namespaces": ["training"],
        "check": MULTI,
        "clusters": WORKERS,
    } | changes


def words(*, minutes: float, duration: str = "1m") -> dict[str, str]:
    at = datetime.now(UTC).replace(microsecond=0) + minutes * MINUTE
    return {"deadline": format_instant(at), "duration": duration}


def jobs_of(service: ServiceProcess) -> list[Document]:
    found: list[Document] = service.get("/v1/jobs?limit=100")["jobs"]
    return found


@pytest.fixture
def dispatch() -> Iterator[Callable[[ServiceProcess], "subprocess.Popen[bytes]"]]:
    """Starts dispatchers, killed at the end."""
    started = list["subprocess.Popen[bytes]"]()

    def begin(service: ServiceProcess) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "scheduler.server.cli", "dispatcher", "--every", "1s"]
        with (service.folder / "dispatcher.log").open("ab") as log:
            one = subprocess.Popen(
                [*command, "--config", str(service.config)], stdout=log, stderr=log
            )
        started.append(one)
        return one

    yield begin
    for one in started:
        one.kill()
        one.wait()


def test_jobs_of_the_service_go_through_the_queue_of_their_cluster(
    serve: Callable[..., ServiceProcess],
    bed: KubeBed,
    admins: dict[str, KueueAdmin],
    queue: str,
    tmp_path: Path,
) -> None:
    admins["south"].stop(queue)
    service = serve(
        intensity=trace(tmp_path, {"DE": [400.0], "FR": [50.0]}, step=MINUTE),
        clusters=clusters(tmp_path, bed, kueue={"queue": queue}, start_within="4s"),
    )
    spec = {
        "name": "train",
        "command": ["/bin/sh", "-c", f"echo ran >> {tmp_path}/ran"],
        "duration": "1m",
        "patience": "5m",
        "resources": {"accelerators": "CPU:1"},
    }
    job_id = service.post("/v1/jobs", spec)["id"]
    path = f"/v1/jobs/{job_id}"
    waiting = "queued in Kueue"
    wait_until(
        lambda: waiting in str(service.get(path)["reason"]), "it says why it waits", within_s=60
    )
    # Nothing is admitted in the clean south: it is taken back, and runs in the north.
    (found,) = wait_for_jobs(lambda: [service.get(path)], have_ended, within_s=90)
    assert found["state"] == "succeeded", found
    assert lines(tmp_path / "ran") == ["ran"]
    (entry,) = service.get("/v1/reports")["entries"]
    assert [run["cluster"] for run in entry["runs"]] == ["north"]


def test_users_queued_jobs_start_in_their_window_and_none_slips_past_our_check(
    serve: Callable[..., ServiceProcess],
    south: KubeUser,
    bed: KubeBed,
    queue: str,
    tmp_path: Path,
) -> None:
    ran = tmp_path / "ran"
    labels = {QUEUE: f"{queue}-checked"}
    terms: Document = {"labels": labels, "suspend": False, "limits": CPU}
    # Dirty for eight minutes of the service's clock, then clean.
    service = serve(
        clock=fast_clock(SPEED),
        intensity=trace(tmp_path, {"FR": [800.0] * 8 + [50.0] * 60}, step=MINUTE, after_g=800.0),
        clusters=clusters(tmp_path, bed, adopt=True, kueue={"check": CHECK})[1:],
    )
    begun_at = datetime.now(UTC)
    stated = words(minutes=60)
    refs = [south.create(stated, script=appended(ran, f"j{n}"), **terms) for n in range(5)]
    silent = south.create({}, script=appended(ran, "silent"), **terms)
    wait_until(lambda: lines(ran) == ["silent"], "one that does not ask runs at once", within_s=60)
    assert all(map(south.is_suspended, refs))
    ended = wait_for_jobs(
        lambda: jobs_of(service),
        lambda jobs: len(jobs) == len(refs) and have_ended(jobs),
        within_s=120,
    )
    assert {one["state"] for one in ended} == {"succeeded"}, service.log[-3000:]
    starts = [datetime.fromisoformat(one["started_at"]) for one in ended]
    assert min(starts) >= begun_at + 6 * MINUTE, "none began where it was dirty"
    assert sorted(lines(ran)) == [*(f"j{n}" for n in range(5)), "silent"]
    assert {south.note(ref, "status") for ref in refs} == {"started as planned"}
    assert south.note(silent, "status") is None


def test_dispatcher_holds_until_the_window_and_nominates_the_cleanest_worker(
    serve: Callable[..., ServiceProcess],
    dispatch: Callable[[ServiceProcess], "subprocess.Popen[bytes]"],
    hub: KubeUser,
    bed: KubeBed,
    admins: dict[str, KueueAdmin],
    queue: str,
    tmp_path: Path,
) -> None:
    ran = tmp_path / "ran"
    # What has no plan is offered to all, and begins in the north: so one that does not was ranked.
    grams = {"FR": [150.0] * 72, "DE": [800.0] * 12 + [50.0] * 60}
    service = serve(
        clock=fast_clock(SPEED),
        intensity=trace(tmp_path, grams, step=MINUTE, after_g=800.0),
        clusters=clusters(tmp_path, bed),
        multikueue=multikueue(bed),
    )
    terms: Document = {"labels": {QUEUE: queue}, "suspend": False, "limits": CPU}
    asks = [hub.create(words(minutes=60), script=appended(ran, f"j{n}"), **terms) for n in range(3)]
    silent = hub.create({}, script=appended(ran, "silent"), **terms)
    names = [ref.split("/")[1] for ref in asks]
    begun_at = datetime.now(UTC)
    killed = dispatch(service)
    wait_until(
        lambda: all("planned for" in str(hub.note(ref, "status")) for ref in asks),
        "all are planned",
        within_s=60,
    )
    status = str(hub.note(asks[0], "status"))
    assert " in w-north at 50 g/kWh, offered to all workers by " in status
    wait_until(lambda: lines(ran) == ["silent"], "one that says nothing runs at once", within_s=60)
    assert admins["hub"].status(silent.split("/")[1])["clusterName"] == "w-south", (
        "cleaner for an hour from now"
    )
    # Killed at any instant, another one goes on; a reply that is lost changes nothing.
    killed.kill()
    killed.wait()
    bed.fault("hub", afterServing=True, drop=True, count=2, match="PATCH .*/workloads/.*/status")
    stay(lambda: lines(ran) == ["silent"], "the others are held")
    dispatch(service)
    dispatch(service)  # and two of them are not one too many
    wait_until(lambda: len(lines(ran)) == 4, "all run", within_s=120)
    clean_s = 12 * 60 / SPEED - 60 / SPEED  # the trace began with its minute
    assert (datetime.now(UTC) - begun_at).total_seconds() >= clean_s - 15
    wait_until(
        lambda: all(admins["hub"].said(one, "Finished") == "True" for one in names), "all end"
    )
    assert {admins["hub"].status(one)["clusterName"] for one in names} == {"w-north"}
    assert sorted(lines(ran)) == ["j0", "j1", "j2", "silent"], "each ran once"
    assert "GridtideOffered" in dict(hub.events(asks[0]))


def test_with_the_service_gone_all_workers_get_it_at_its_latest_safe_start(
    serve: Callable[..., ServiceProcess],
    dispatch: Callable[[ServiceProcess], "subprocess.Popen[bytes]"],
    hub: KubeUser,
    bed: KubeBed,
    queue: str,
    tmp_path: Path,
) -> None:
    ran = tmp_path / "ran"
    # Cleaner from minute to minute: the plan is to begin as late as can be.
    falling = [800.0 - 50 * minute for minute in range(12)]
    service = serve(
        intensity=trace(tmp_path, {"DE": falling, "FR": falling}, step=MINUTE),
        clusters=clusters(tmp_path, bed),
        multikueue=multikueue(bed),
    )
    asked_at = datetime.now(UTC)
    terms: Document = {"labels": {QUEUE: queue}, "suspend": False, "limits": CPU}
    ref = hub.create(words(minutes=3.5), script=appended(ran, "x"), **terms)
    dispatch(service)
    wait_until(lambda: "planned for" in str(hub.note(ref, "status")), "it is held", within_s=60)
    service.kill()
    wait_until(lambda: lines(ran) == ["x"], "it runs", within_s=120)
    safe = timedelta(minutes=2.5) - timedelta(seconds=GUARD_BEFORE_S)
    assert datetime.now(UTC) >= asked_at + safe - timedelta(seconds=1)
    assert str(hub.note(ref, "status")).startswith("offered to all workers: its latest safe start")
