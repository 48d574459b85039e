"""The guard: which Jobs of users it starts, when, and which it leaves alone."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_guard import KubeGuard, SafeStart
from adapters.cluster.kube_kinds import JOB
from adapters.cluster.kube_link import KubeLink
from adapters.cluster.kube_login import KubeconfigLogin
from adapters.cluster.kube_native_record import (
    ADOPTED,
    CANCELLED,
    GUARD,
    HOLD,
    PAUSED,
    REFUSED_WORDS,
    RELEASED,
    SINCE,
    WORDS_OF,
    parse_native,
)
from adapters.cluster.kube_records import DEVICES
from adapters.hardware_tables import load_hardware
from scheduler.core.timegrid import format_instant
from scheduler.server.safe_starts import SafeStarts
from tests.fakes.clock import ManualClock
from tests.unit.cluster.kube_user import KubeUser, appended
from tests.unit.cluster.kube_world import NAMESPACE, client_of, running_bed
from tests.unit.cluster.runs import lines, wait_until
from tests.unit.cluster.test_kube_native_record import native

CREATED = datetime(2026, 3, 2, tzinfo=UTC)
NOW = CREATED + timedelta(hours=10)
DEADLINE = CREATED + timedelta(hours=24)
WORDS = {"deadline": format_instant(DEADLINE), "duration": "4h"}
OWN = DEADLINE - timedelta(hours=4, minutes=2)
"""The latest safe start by the words, two minutes before the latest start."""
EARLIER = CREATED + timedelta(hours=3)


@pytest.fixture
def guard() -> KubeGuard:
    client = KubeClient(KubeLink(KubeconfigLogin("none", paths=[])))
    starts = SafeStarts(load_hardware())
    return KubeGuard(
        client, find_safe_start=starts.find, clock=ManualClock(NOW), wall=NOW.timestamp
    )


def test_words_alone_say_when(guard: KubeGuard) -> None:
    assert guard.due_at(native(WORDS)) == OWN
    patient = {"patience": "5h", "duration": "4h"}
    assert guard.due_at(native(patient)) == CREATED + timedelta(hours=5, minutes=-2)
    limited = native({"patience": "5h"}, activeDeadlineSeconds=3600)
    assert guard.due_at(limited) == CREATED + timedelta(hours=5, minutes=-2)


def test_mark_of_the_service_goes_first(guard: KubeGuard) -> None:
    job = native(WORDS)
    notes = {GUARD: format_instant(EARLIER), ADOPTED: "job", WORDS_OF: job.digest}
    assert guard.due_at(native(WORDS, notes=notes)) == EARLIER


def test_words_that_were_changed_since_go_before_the_mark(guard: KubeGuard) -> None:
    notes = {GUARD: format_instant(EARLIER), ADOPTED: "job", WORDS_OF: "older"}
    assert guard.due_at(native(WORDS, notes=notes)) == OWN
    wrong = WORDS | {"duration": "long"}
    assert guard.due_at(native(wrong, notes=notes)) == EARLIER, "unless they are wrong"


ODD = [
    {"deadline": "9999-12-31T23:59:59-14:00"},
    {"deadline": "0001-01-01T00:00:00+14:00"},
    {"duration": "9" * 400 + "d"},
    {"duration": "9" * 5000 + "h"},
    {"duration-p95": "9" * 400 + "d"},
    {"not-before": "9999-12-31T23:59:59-14:00"},
    {"start-by": "0001-01-01T00:00:00+14:00"},
    {"priority": "9" * 5000},
    {"power-w": "1e999"},
    {"max-cost": "nan"},
    {"deadline": "\ud800"},
]
"""Words that no program should stumble over."""


@pytest.mark.parametrize("odd", ODD)
def test_odd_words_say_nothing(guard: KubeGuard, odd: dict[str, str]) -> None:
    words = WORDS | {key.replace("-", "_"): text for key, text in odd.items()}
    assert guard.due_at(native(words)) is None


@pytest.mark.parametrize(
    "notes",
    [
        {GUARD: "9999-12-31T23:59:59-14:00"},
        {GUARD: "0001-01-01T00:00:00+14:00"},
        {SINCE: "9999-12-31T23:59:59-14:00"},
        {DEVICES: "H100:²"},
        {DEVICES: "H100:" + "9" * 5000},
    ],
)
def test_odd_marks_are_none(guard: KubeGuard, notes: dict[str, str]) -> None:
    assert guard.due_at(native(WORDS, notes=notes)) == OWN


def test_one_that_cannot_be_understood_costs_no_other_its_start(guard: KubeGuard) -> None:
    def stumble(words: object, since_at: datetime, limit_s: int | None) -> SafeStart | None:
        raise OverflowError("odd")

    guard._find_safe_start = stumble
    job = native(WORDS)
    swept = guard.sweep([job])
    assert swept.started == ()
    assert "OverflowError" in swept.failed[job.label]


@pytest.mark.parametrize(
    "notes",
    [
        {HOLD: "true"},
        {CANCELLED: "2026-03-02T01:00:00Z"},
        {RELEASED: "2026-03-02T01:00:00Z"},  # suspended by hand after that
    ],
)
def test_users_hand_goes_first(guard: KubeGuard, notes: dict[str, str]) -> None:
    assert guard.due_at(native(WORDS, notes=notes)) is None


def test_paused_job_is_started_at_its_mark(guard: KubeGuard) -> None:
    notes = {PAUSED: "2026-03-02T01:00:00Z", GUARD: format_instant(EARLIER)}
    assert guard.due_at(native(WORDS, notes=notes)) == EARLIER


def test_refused_job_is_left_as_it_was_refused(guard: KubeGuard) -> None:
    digest = native(WORDS).digest
    assert guard.due_at(native(WORDS, notes={REFUSED_WORDS: digest})) is None
    assert guard.due_at(native(WORDS, notes={REFUSED_WORDS: "other"})) == OWN


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"deadline": "soon", "duration": "4h"},
        {"deadline": format_instant(DEADLINE)},
        {"dedline": "x"},
    ],
)
def test_without_words_that_say_when_it_is_left_alone(
    guard: KubeGuard, words: dict[str, str]
) -> None:
    assert guard.due_at(native(words)) is None


def test_what_runs_is_over_or_is_kueues_is_left_alone(guard: KubeGuard) -> None:
    assert guard.due_at(native(WORDS, suspend=False)) is None
    assert guard.due_at(native(WORDS, labels={"kueue.x-k8s.io/queue-name": "q"})) is None
    assert guard.due_at(native(WORDS, meta={"deletionTimestamp": "2026-03-02T01:00:00Z"})) is None


def test_safe_start_tells_the_deadline_too() -> None:
    found = SafeStarts(load_hardware()).find(WORDS, CREATED, None)
    assert found == SafeStart(start_at=OWN, deadline_at=DEADLINE)


@pytest.fixture
def user() -> Iterator[KubeUser]:
    one = KubeUser(running_bed().admin("east"))
    yield one
    one.finish()


@pytest.fixture
def watch() -> Iterator[Callable[[datetime], KubeGuard]]:
    """Makes guards that may what the role grants."""
    clients = list[KubeClient]()

    def build(now: datetime) -> KubeGuard:
        clients.append(client_of(running_bed(), "east-gridtide"))
        starts = SafeStarts(load_hardware())
        clock = ManualClock(now)
        return KubeGuard(clients[-1], find_safe_start=starts.find, clock=clock, wall=now.timestamp)

    yield build
    for one in clients:
        one.link.close()


def in_time(now: datetime, **by: float) -> dict[str, str]:
    return {"deadline": format_instant(now + timedelta(**by)), "duration": "1m"}


def test_look_starts_what_is_due_once_whoever_looks(
    user: KubeUser, watch: Callable[[datetime], KubeGuard], tmp_path: Path
) -> None:
    ran, now = tmp_path / "ran", datetime.now(UTC).replace(microsecond=0)
    soon, later = in_time(now, minutes=2), in_time(now, hours=2)
    first, second = (user.create(soon, script=appended(ran, name)) for name in ("a", "b"))
    waiting = user.create(later, script=appended(ran, "c"))
    # Not before they were created, by the server's clock.
    looks = [watch(now + timedelta(seconds=30)).look(NAMESPACE, JOB) for _ in range(2)]
    started = [label for look in looks for label in look.started]
    assert sorted(started) == sorted(f"{NAMESPACE}/{name}" for name in user.names[:2])
    assert all(not look.failed for look in looks)
    assert user.is_suspended(waiting)
    wait_until(lambda: len(lines(ran)) == 2, "both have run")
    for ref in (first, second):
        assert [reason for reason, _ in user.events(ref)] == ["GridtideStarted"]


def test_change_between_list_and_start_is_not_overwritten(
    user: KubeUser, watch: Callable[[datetime], KubeGuard]
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    ref = user.create(in_time(now, minutes=2))
    seen = parse_native(user.job(ref))
    user.annotate(ref, hold="true")
    missed = list[object]()
    swept = watch(now + timedelta(seconds=30)).sweep([seen], missed=missed.append)
    assert (swept.started, missed) == ((), [seen])
    assert user.is_suspended(ref)


def test_one_that_cannot_be_started_keeps_no_other_from_it(
    user: KubeUser, watch: Callable[[datetime], KubeGuard]
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    bad, good = (user.create(in_time(now, minutes=2)) for _ in range(2))
    bed, name = running_bed(), bad.split("/")[1]
    bed.fault("east", status=422, count=1, match=f"PATCH .*/jobs/{name}")
    try:
        swept = watch(now + timedelta(seconds=30)).look(NAMESPACE, JOB)
    finally:
        bed.fault("east")
    assert swept.started == (f"{NAMESPACE}/{good.split('/')[1]}",)
    assert swept.failed.keys() == {f"{NAMESPACE}/{name}"}
