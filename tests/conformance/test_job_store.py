"""One suite for every `JobStore`."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest

from scheduler.core.errors import (
    ConflictError,
    DuplicateJobError,
    InvalidInputError,
    NotFoundError,
    StaleRecordError,
    StoreError,
)
from scheduler.core.forecast import Quality
from scheduler.core.job import (
    ACTIVE_STATES,
    ENDED_STATES,
    TRANSITIONS,
    JobId,
    JobRecord,
    JobState,
    Placement,
    Wanted,
    next_record,
)
from scheduler.core.ledger import LedgerEntry, Reading, build_entry
from scheduler.core.terms import Interruptible
from scheduler.core.timegrid import Window
from scheduler.ports import Event, JobStore, NewJob
from tests.conformance.stores import PARAMS, STORES, OpenStore
from tests.unit.core.builders import T0, at, baseline, job, option, provenance, record, run

S = JobState


@pytest.fixture(params=PARAMS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same store again on each call."""
    opened: list[JobStore] = []
    with STORES[request.param](tmp_path) as open_once:

        def open_again() -> JobStore:
            opened.append(open_once())
            return opened[-1]

        yield open_again
        for store in opened:
            store.close()


@pytest.fixture
def store(open_store: OpenStore) -> JobStore:
    return open_store()


def queued(name: str, *, submitted: float = 0, project: str = "default") -> JobRecord:
    wanted = job(job_id=JobId(name), project=project, submitted_at=T0 + timedelta(hours=submitted))
    return record(S.QUEUED, job=wanted)


def event(of: JobRecord, kind: str = "submitted", detail: str = "") -> Event:
    return Event(at=of.updated_at, kind=kind, job_id=of.job.job_id, state=of.state, detail=detail)


def new(of: JobRecord, *, key: str | None = None, digest: str | None = None) -> NewJob:
    return NewJob(record=of, event=event(of), idempotency_key=key, request_digest=digest)


def add(store: JobStore, *records: JobRecord) -> None:
    store.add_jobs([new(one) for one in records])


def move(of: JobRecord, to: JobState) -> JobRecord:
    return next_record(of, to, at=of.updated_at + timedelta(minutes=1), reason=f"now {to}")


def ids(records: list[JobRecord]) -> list[str]:
    return [one.job.job_id for one in records]


def entry_of(
    name: str, *, submitted: float = 0, quality: Quality = Quality.MEASURED, grams: float = 1.0
) -> LedgerEntry:
    ended = record(
        S.SUCCEEDED,
        [run(submitted, submitted + 1)],
        job=job(job_id=JobId(name), submitted_at=at(submitted)),
    )
    reading = Reading(integral_mg_s=grams * 3.6e6, provenance=provenance(quality=quality))
    return build_entry(ended, zone_by_cluster={"c-de": ("r-de", "DE")}, read=lambda *_: reading)


def full_record() -> JobRecord:
    """Every field away from its default."""
    wanted = job(
        job_id=JobId("full"),
        name="finetune-7b",
        command=("python", "train.py", "--name", "Größe 大 🌱 \n\"'\\"),
        start_by_at=at(12.5),
        duration_p95_s=5 * 3600,
        interruptible=Interruptible(min_chunk_s=1, checkpoint_cost_s=2, max_interruptions=3),
        options=(option(), option(accelerator="A100", gpus=8, num_nodes=2, power_w=0.1 + 0.2)),
        regions=("r-de", "r-fr"),
        forbid_regions=("r-us",),
        priority=-7,
        project="nlp",
        max_retries=2,
        env=(("KEY", "v=1"), ("EMPTY", "")),
        workdir="/data/ä b",
    )
    placement = Placement(
        job_id=wanted.job_id,
        cluster_id="c-de",
        region_id="r-de",
        zone_id="DE",
        option=1,
        accelerator="A100",
        gpus=8,
        power_w=1234.5,
        pue=1.23,
        segments=(Window(at(1), at(2)), Window(at(3), at(4))),
        energy_kwh=1 / 3,
        planned_g=1e-7,
        provenance=provenance(quality=Quality.TYPICAL, is_fallback=True, issued_at=at(-1)),
    )
    return record(
        S.SUSPENDED,
        [run(1, 2, ref="4711", exit_code=75, work_s=3599.999999, energy_kwh=0.5, planned_g=2.5)],
        job=wanted,
        baseline=baseline(planned_g=None),
        wanted=Wanted.HOLD,
        placement=placement,
        reason="checkpointed",
        is_degraded=True,
        is_pinned=True,
    )


# -------------------------------------------------------------------------------- one record


def test_job_comes_back_as_it_was_stored(store: JobStore) -> None:
    stored = full_record()
    assert store.add_jobs([new(stored)]) == [stored]
    assert store.get_job("full") == stored


def test_request_is_known_by_its_key_and_its_digest(store: JobStore) -> None:
    one, other = queued("a"), queued("b")
    store.add_jobs([new(one, key="k", digest="d"), new(other, key="l")])
    assert store.known_job("k", "d") == one
    assert store.known_job("l", None) == other
    assert store.known_job("m", "d") is None
    for digest in ("other", None, ""):
        with pytest.raises(DuplicateJobError, match="another request, which became job a"):
            store.known_job("k", digest)


def test_unknown_job_is_not_found(store: JobStore) -> None:
    with pytest.raises(NotFoundError) as caught:
        store.get_job("nobody")
    assert caught.value.fields["job_id"] == "nobody"


def test_times_keep_their_microseconds(store: JobStore) -> None:
    exact = T0 + timedelta(microseconds=123_457)
    stored = replace(queued("exact"), updated_at=exact)
    add(store, stored)
    assert store.get_job("exact").updated_at == exact
    assert store.events()[0].at == exact


def test_event_in_another_time_zone_is_the_same_instant(store: JobStore) -> None:
    berlin = datetime(2026, 3, 2, 1, tzinfo=timezone(timedelta(hours=1)))
    store.add_event(Event(at=berlin, kind="refused", job_id=None))
    (stored,) = store.events()
    assert stored.at == T0
    assert stored.at.tzinfo is UTC


def test_durability_is_one_of_the_declared_words(store: JobStore) -> None:
    assert store.durability in {"machine", "process", "nothing", "unknown"}


def test_store_that_works_says_so_in_its_checks(store: JobStore) -> None:
    checks = store.checks()
    assert [one.subject for one in checks] == ["store"]
    assert checks[0].is_ok


# ------------------------------------------------------------------------------------ adding


def test_each_added_job_appends_its_event(store: JobStore) -> None:
    add(store, queued("a"), queued("b"))
    assert [(one.kind, one.job_id, one.state) for one in store.events()] == [
        ("submitted", "a", S.QUEUED),
        ("submitted", "b", S.QUEUED),
    ]


def test_adding_nothing_stores_nothing(store: JobStore) -> None:
    assert store.add_jobs([]) == []
    assert store.list_jobs() == ([], None)


def test_taken_job_id_is_refused_and_the_stored_job_stays(store: JobStore) -> None:
    first = queued("a")
    add(store, first)
    with pytest.raises(DuplicateJobError) as caught:
        add(store, replace(first, reason="another"))
    assert caught.value.fields["job_id"] == "a"
    assert store.get_job("a") == first
    assert len(store.events()) == 1


def test_one_refused_job_of_a_batch_leaves_none_of_it(store: JobStore) -> None:
    add(store, queued("taken"))
    with pytest.raises(DuplicateJobError):
        add(store, queued("before"), queued("taken"), queued("after"))
    assert ids(store.list_jobs()[0]) == ["taken"]
    assert [one.job_id for one in store.events()] == ["taken"]


def test_known_key_with_the_same_request_returns_the_first_job(store: JobStore) -> None:
    first = queued("a")
    store.add_jobs([new(first, key="k", digest="d")])
    assert store.add_jobs([new(queued("b"), key="k", digest="d")]) == [first]
    assert ids(store.list_jobs()[0]) == ["a"]
    assert len(store.events()) == 1


def test_repeated_request_returns_the_job_as_it_is_now(store: JobStore) -> None:
    first = queued("a")
    store.add_jobs([new(first, key="k", digest="d")])
    held = move(first, S.HELD)
    store.update_job(held, event(held))
    assert store.add_jobs([new(queued("b"), key="k", digest="d")]) == [held]


def test_known_key_with_another_request_is_refused(store: JobStore) -> None:
    store.add_jobs([new(queued("a"), key="k", digest="d")])
    with pytest.raises(DuplicateJobError) as caught:
        store.add_jobs([new(queued("b"), key="k", digest="other")])
    assert caught.value.fields["idempotency_key"] == "k"
    assert caught.value.fields["job_id"] == "a"
    with pytest.raises(NotFoundError):
        store.get_job("b")


def test_batch_may_hold_repeats_and_new_jobs(store: JobStore) -> None:
    first, second = queued("a"), queued("c")
    store.add_jobs([new(first, key="k", digest="d")])
    batch = [new(queued("b"), key="k", digest="d"), new(second)]
    assert store.add_jobs(batch) == [first, second]
    assert [one.job_id for one in store.events()] == ["a", "c"]


def test_same_key_twice_in_one_batch_is_one_job(store: JobStore) -> None:
    first = queued("a")
    batch = [new(first, key="k", digest="d"), new(queued("b"), key="k", digest="d")]
    assert store.add_jobs(batch) == [first, first]
    assert ids(store.list_jobs()[0]) == ["a"]


def test_jobs_without_a_key_are_never_repeats_of_each_other(store: JobStore) -> None:
    add(store, queued("a"))
    add(store, queued("b"))
    assert len(store.list_jobs()[0]) == 2


def test_key_is_free_again_when_its_batch_was_refused(store: JobStore) -> None:
    add(store, queued("taken"))
    with pytest.raises(DuplicateJobError):
        store.add_jobs([new(queued("a"), key="k", digest="d"), new(queued("taken"))])
    second = queued("b")
    assert store.add_jobs([new(second, key="k", digest="other")]) == [second]


# ----------------------------------------------------------------------------------- listing


def test_jobs_are_listed_newest_submission_first(store: JobStore) -> None:
    add(store, queued("b", submitted=2), queued("c", submitted=3), queued("a", submitted=1))
    listed, cursor = store.list_jobs()
    assert ids(listed) == ["c", "b", "a"]
    assert cursor is None


def test_pages_hold_every_job_once_even_of_one_instant(store: JobStore) -> None:
    names = [f"j{number:02}" for number in range(23)]
    for number, name in enumerate(names):
        wanted = job(job_id=JobId(name), submitted_at=at(number // 5))
        add(store, record(sorted(S)[number % len(S)], job=wanted))
    pages, cursor = [], None
    while True:
        page, cursor = store.list_jobs(after=cursor, limit=4)
        pages.append(ids(page))
        if cursor is None:
            break
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 3]
    assert [name for page in pages for name in page] == ids(store.list_jobs()[0])
    assert sorted(name for page in pages for name in page) == names


def test_last_page_that_is_just_full_has_no_cursor(store: JobStore) -> None:
    add(store, queued("a"), queued("b"))
    listed, cursor = store.list_jobs(limit=2)
    assert len(listed) == 2
    assert cursor is None


def test_jobs_added_while_paging_do_not_shift_the_next_page(store: JobStore) -> None:
    add(store, *(queued(f"j{number}", submitted=number) for number in range(4)))
    first, cursor = store.list_jobs(limit=2)
    add(store, queued("late", submitted=9))
    second, _ = store.list_jobs(limit=2, after=cursor)
    assert ids(first) + ids(second) == ["j3", "j2", "j1", "j0"]


def test_filters_by_state_and_project_hold_together_and_on_every_page(store: JobStore) -> None:
    for number in range(6):
        one = queued(f"j{number}", submitted=number, project="nlp" if number % 2 else "cv")
        add(store, one)
        if number >= 3:
            store.update_job(move(one, S.HELD))
    assert ids(store.list_jobs(project="nlp")[0]) == ["j5", "j3", "j1"]
    assert ids(store.list_jobs(states=frozenset({S.HELD}))[0]) == ["j5", "j4", "j3"]
    held_nlp = frozenset({S.HELD})
    page, cursor = store.list_jobs(states=held_nlp, project="nlp", limit=1)
    assert ids(page) == ["j5"]
    page, cursor = store.list_jobs(states=held_nlp, project="nlp", limit=1, after=cursor)
    assert (ids(page), cursor) == (["j3"], None)
    both = frozenset({S.HELD, S.QUEUED})
    assert ids(store.list_jobs(states=both)[0]) == ["j5", "j4", "j3", "j2", "j1", "j0"]


def test_no_state_at_all_lists_nothing(store: JobStore) -> None:
    add(store, queued("a"))
    assert store.list_jobs(states=frozenset()) == ([], None)


@pytest.mark.parametrize("cursor", ["", "x", "ä", "!!!!", "MTIz", "a" * 500, "LTE6", "\0"])
def test_foreign_cursor_is_refused(store: JobStore, cursor: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        store.list_jobs(after=cursor)
    assert caught.value.fields["field"] == "after"


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one_is_refused(store: JobStore, limit: int) -> None:
    with pytest.raises(InvalidInputError):
        store.list_jobs(limit=limit)
    with pytest.raises(InvalidInputError):
        store.events(limit=limit)


def test_active_jobs_are_all_that_have_not_ended_oldest_first(store: JobStore) -> None:
    states = sorted(S)
    for number, state in enumerate(states):
        wanted = job(job_id=JobId(state), submitted_at=at(-number))
        add(store, record(state, job=wanted))
    expected = [state.value for state in reversed(states) if state in ACTIVE_STATES]
    assert ids(store.active_jobs()) == expected


# ---------------------------------------------------------------------------------- updating


def test_jobs_that_succeeded_are_found_by_name_and_project_newest_first(store: JobStore) -> None:
    for index, (name, project, state) in enumerate(
        [
            ("train", "nlp", S.SUCCEEDED),
            ("train", "nlp", S.FAILED),
            ("train", "vision", S.SUCCEEDED),
            ("other", "nlp", S.SUCCEEDED),
            ("train", "nlp", S.SUCCEEDED),
            ("train", "nlp", S.QUEUED),
            ("train", "nlp", S.SUCCEEDED),
        ]
    ):
        made = job(job_id=JobId(f"j{index}"), name=name, project=project, submitted_at=at(index))
        add(store, record(state, job=made))
    found = store.succeeded_jobs(name="train", project="nlp")
    assert [one.job.job_id for one in found] == ["j6", "j4", "j0"]
    assert found[:2] == store.succeeded_jobs(name="train", project="nlp", limit=2)
    assert store.succeeded_jobs(name="trai", project="nlp") == []


def test_every_legal_state_change_is_stored_with_its_event_in_order(store: JobStore) -> None:
    changes = [(a, b) for a, following in TRANSITIONS.items() for b in sorted(following)]
    for before, after in changes:
        one = record(before, job=job(job_id=JobId(f"{before}-{after}")))
        add(store, one)
        changed = move(one, after)
        store.update_job(changed, event(changed, "changed", f"{before} to {after}"))
        assert store.get_job(one.job.job_id) == changed
    for before, after in changes:
        logged = store.events(job_id=f"{before}-{after}")
        assert [(one.kind, one.state) for one in logged] == [
            ("submitted", before),
            ("changed", after),
        ]
    sequence = [one.seq for one in store.events()]
    assert all(low < high for low, high in pairwise([0, *sequence]))
    assert len(sequence) == 2 * len(changes)


def test_events_of_one_update_keep_their_order(store: JobStore) -> None:
    one = queued("a")
    add(store, one)
    held = move(one, S.HELD)
    store.update_job(held, *(event(held, f"step_{number}") for number in range(5)))
    assert [one.kind for one in store.events(kind=None)][1:] == [
        f"step_{number}" for number in range(5)
    ]


def test_stale_version_is_refused_and_writes_nothing(store: JobStore) -> None:
    one = queued("a")
    add(store, one)
    held = move(one, S.HELD)
    store.update_job(held, event(held))
    late = move(one, S.CANCELLED)
    with pytest.raises(StaleRecordError) as caught:
        store.update_job(late, event(late, "cancelled"), entry=entry_of("a"))
    assert caught.value.fields["job_id"] == "a"
    assert store.get_job("a") == held
    assert len(store.events()) == 2
    assert store.entries() == []


def test_skipped_version_is_refused(store: JobStore) -> None:
    one = queued("a")
    add(store, one)
    with pytest.raises(StaleRecordError):
        store.update_job(replace(one, version=one.version + 2))
    with pytest.raises(StaleRecordError):
        store.update_job(one)
    assert store.get_job("a") == one


def test_update_of_an_unknown_job_writes_nothing(store: JobStore) -> None:
    one = move(queued("nobody"), S.HELD)
    with pytest.raises(NotFoundError):
        store.update_job(one, event(one), entry=entry_of("nobody"))
    assert store.events() == []
    assert store.entries() == []


def test_updated_job_leaves_the_list_of_its_old_state(store: JobStore) -> None:
    one = record(S.RUNNING, job=job(job_id=JobId("a")))
    add(store, one)
    store.update_job(move(one, S.SUCCEEDED))
    assert store.active_jobs() == []
    assert store.list_jobs(states=frozenset({S.RUNNING})) == ([], None)
    assert ids(store.list_jobs(states=ENDED_STATES)[0]) == ["a"]


def test_entry_is_stored_together_with_the_change(store: JobStore) -> None:
    one = record(S.RUNNING, job=job(job_id=JobId("a")))
    add(store, one)
    done = move(one, S.SUCCEEDED)
    entry = entry_of("a")
    store.update_job(done, event(done, "succeeded"), entry=entry)
    assert store.entries() == [entry]
    assert store.get_job("a") == done


def test_refused_entry_takes_the_change_and_its_events_with_it(store: JobStore) -> None:
    one = record(S.RUNNING, job=job(job_id=JobId("a")))
    add(store, one)
    settled = entry_of("a")
    store.put_entry(settled)
    done = move(one, S.SUCCEEDED)
    with pytest.raises(ConflictError):
        store.update_job(done, event(done), entry=entry_of("a", grams=2))
    assert store.get_job("a") == one
    assert len(store.events()) == 1
    assert store.entries() == [settled]


# ------------------------------------------------------------------------------------ events


def test_events_are_filtered_by_job_kind_and_place(store: JobStore) -> None:
    add(store, queued("a"), queued("b"))
    store.add_event(Event(at=T0, kind="refused", job_id=None, detail="too late"))
    assert [one.kind for one in store.events(job_id="a")] == ["submitted"]
    assert [one.job_id for one in store.events(kind="submitted")] == ["a", "b"]
    (refused,) = store.events(kind="refused")
    assert (refused.job_id, refused.state, refused.detail) == (None, None, "too late")
    assert store.events(job_id="a", kind="refused") == []
    assert store.events(job_id="nobody") == []


def test_events_are_read_on_from_the_last_one_seen(store: JobStore) -> None:
    for number in range(7):
        store.add_event(Event(at=T0, kind=f"k{number}", job_id=None))
    seen: list[str] = []
    last = 0
    while page := store.events(after_seq=last, limit=3):
        assert len(page) <= 3
        seen += [one.kind for one in page]
        last = page[-1].seq
    assert seen == [f"k{number}" for number in range(7)]


# ------------------------------------------------------------------------------------ ledger


def test_provisional_entry_is_replaced_by_the_settled_one(store: JobStore) -> None:
    provisional = entry_of("a", quality=Quality.FORECAST)
    assert not provisional.is_settled
    store.put_entry(provisional)
    assert store.entries(unsettled_only=True) == [provisional]
    settled = entry_of("a", grams=3)
    store.put_entry(settled)
    assert store.entries() == [settled]
    assert store.entries(unsettled_only=True) == []


def test_settled_entry_never_changes(store: JobStore) -> None:
    settled = entry_of("a")
    store.put_entry(settled)
    store.put_entry(settled)
    for other in (entry_of("a", grams=2), entry_of("a", quality=Quality.FORECAST)):
        with pytest.raises(ConflictError):
            store.put_entry(other)
    assert store.entries() == [settled]


def test_entries_are_those_submitted_within_the_half_open_window(store: JobStore) -> None:
    for hour in (3, 1, 2):
        store.put_entry(entry_of(f"h{hour}", submitted=hour))
    assert [one.job_id for one in store.entries()] == ["h1", "h2", "h3"]
    within = store.entries(from_at=at(1), to_at=at(3))
    assert [one.job_id for one in within] == ["h1", "h2"]
    assert [one.job_id for one in store.entries(from_at=at(1.001))] == ["h2", "h3"]
    assert store.entries(from_at=at(2), to_at=at(2)) == []


# --------------------------------------------------------------------------------- documents


def test_document_is_replaced_and_unknown_ones_are_none(store: JobStore) -> None:
    assert store.get_document("clock") is None
    store.put_document("clock", "one")
    store.put_document("clock", "two")
    store.put_document("Clock", "other")
    assert store.get_document("clock") == "two"
    assert store.get_document("Clock") == "other"


@pytest.mark.parametrize(
    "text",
    ["", "naïve Ω 大 🌱", "a\0b", "line\r\nline\u2028", "'; DROP TABLE jobs; --", "x" * 3_000_000],
)
def test_any_text_comes_back_unchanged(store: JobStore, text: str) -> None:
    store.put_document(text[:100], text)
    assert store.get_document(text[:100]) == text


def test_ids_keys_and_details_may_be_any_unicode(store: JobStore) -> None:
    one = record(S.QUEUED, job=job(job_id=JobId("jöb-🌱'\"%_"), project="проект"))
    store.add_jobs([new(one, key="clé 大", digest="δ")])
    store.add_event(Event(at=T0, kind="refused", job_id=None, detail="🌱 zu spät\0"))
    assert store.get_job(one.job.job_id) == one
    assert store.list_jobs(project="проект")[0] == [one]
    assert store.add_jobs([new(queued("b"), key="clé 大", digest="δ")]) == [one]
    assert store.events(kind="refused")[0].detail == "🌱 zu spät\0"


def test_cursor_stands_after_a_job_of_any_name(store: JobStore) -> None:
    names = ["a:b", "🌱", "\n", "a"]
    add(store, *(queued(name, submitted=-number * 1e5) for number, name in enumerate(names)))
    seen, cursor = [], None
    for _ in names:
        (one,), cursor = store.list_jobs(limit=1, after=cursor)
        seen.append(one.job.job_id)
    assert seen == names


# ------------------------------------------------------------------------------- many writers


def test_concurrent_writers_lose_nothing(store: JobStore) -> None:
    def submit(worker: int) -> None:
        for number in range(25):
            add(store, queued(f"w{worker}-{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit, range(8)))
    expected = {f"w{worker}-{number}" for worker in range(8) for number in range(25)}
    assert set(ids(store.list_jobs(limit=1000)[0])) == expected
    logged = store.events()
    assert {one.job_id for one in logged} == expected
    assert len({one.seq for one in logged}) == len(logged) == 200
    for worker in range(8):
        mine = [one.job_id for one in logged if str(one.job_id).startswith(f"w{worker}-")]
        assert mine == [f"w{worker}-{number}" for number in range(25)]


def test_of_writers_with_the_same_version_exactly_one_wins(store: JobStore) -> None:
    one = queued("a")
    add(store, one)
    together = threading.Barrier(8)

    def hold(worker: int) -> bool:
        held = replace(move(one, S.HELD), reason=f"by {worker}")
        together.wait()
        try:
            store.update_job(held, event(held, "held", f"by {worker}"))
        except StaleRecordError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(hold, range(8)))
    assert won.count(True) == 1
    assert store.get_job("a").reason == f"by {won.index(True)}"
    assert [one.detail for one in store.events(kind="held")] == [f"by {won.index(True)}"]


def test_counter_raised_by_many_writers_with_retries_is_exact(store: JobStore) -> None:
    add(store, queued("a"))

    def raise_priority(_: int) -> None:
        while True:
            now = store.get_job("a")
            raised = replace(
                now,
                job=replace(now.job, priority=now.job.priority + 1),
                version=now.version + 1,
            )
            try:
                store.update_job(raised, event(raised, "raised"))
            except StaleRecordError:
                continue
            return

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(raise_priority, range(30)))
    assert store.get_job("a").job.priority == 30
    assert len(store.events(kind="raised")) == 30


def test_simultaneous_repeats_of_one_request_become_one_job(store: JobStore) -> None:
    together = threading.Barrier(8)

    def submit(worker: int) -> str:
        together.wait()
        (stored,) = store.add_jobs([new(queued(f"w{worker}"), key="k", digest="d")])
        return stored.job.job_id

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(submit, range(8)))
    assert len(answers) == 1
    assert ids(store.list_jobs()[0]) == list(answers)
    assert len(store.events()) == 1


def test_readers_see_whole_transactions_only(store: JobStore) -> None:
    one = queued("a")
    add(store, one)
    done = threading.Event()
    seen: list[tuple[int, int]] = []

    def watch() -> None:
        while not done.is_set():
            n_events = len(store.events(kind="raised"))
            seen.append((store.get_job("a").version, n_events))

    watcher = threading.Thread(target=watch)
    watcher.start()
    now = one
    for _ in range(50):
        now = replace(now, version=now.version + 1)
        store.update_job(now, event(now, "raised"))
    done.set()
    watcher.join()
    # The version was read after the events, so it is never behind them: 1 + one per event.
    assert all(version >= 1 + n_events for version, n_events in seen)
    assert store.get_job("a").version == 51


def test_many_jobs_at_once(store: JobStore) -> None:
    many = [queued(f"j{number:04}", submitted=number / 100) for number in range(2000)]
    store.add_jobs([new(one) for one in many])
    assert len(store.active_jobs()) == 2000
    page, cursor = store.list_jobs(limit=1999)
    assert len(page) == 1999
    assert ids(store.list_jobs(after=cursor)[0]) == ["j0000"]


def test_thirty_two_writers_lose_no_update_and_readers_see_no_gap(store: JobStore) -> None:
    """Everybody adds jobs, raises one of four counters, and logs; a reader follows the events meanwhile."""
    n_writers, n_rounds = 32, 4
    counters = [f"counter-{number}" for number in range(4)]
    add(store, *(queued(name) for name in counters))
    followed: list[int] = []
    done = threading.Event()

    def follow() -> None:
        while True:
            is_last = done.is_set()
            page = store.events(after_seq=followed[-1] if followed else 0, limit=7)
            followed.extend(one.seq for one in page)
            if is_last and not page:
                return

    def raise_counter(name: str) -> None:
        while True:
            now = store.get_job(name)
            raised = replace(
                now, job=replace(now.job, priority=now.job.priority + 1), version=now.version + 1
            )
            try:
                store.update_job(raised, event(raised, "raised"), entry=entry_of(name, grams=1))
            except StaleRecordError:
                continue
            return

    def write(worker: int) -> None:
        for number in range(n_rounds):
            add(store, queued(f"w{worker}-{number}", submitted=number))
            raise_counter(counters[(worker + number) % 4])
            store.add_event(Event(at=T0, kind="noted", job_id=None, detail=f"{worker}-{number}"))

    reader = threading.Thread(target=follow)
    reader.start()
    with ThreadPoolExecutor(n_writers) as pool:
        list(pool.map(write, range(n_writers)))
    done.set()
    reader.join()

    n_done = n_writers * n_rounds
    assert [store.get_job(name).job.priority for name in counters] == [n_done // 4] * 4
    assert [store.get_job(name).version for name in counters] == [1 + n_done // 4] * 4
    assert len(store.list_jobs(limit=1000)[0]) == len(store.active_jobs()) == n_done + 4
    assert len({one.detail for one in store.events(kind="noted")}) == n_done
    assert len(store.events(kind="raised")) == n_done
    # Three events a round and one for each counter: every number once, none skipped on the way.
    assert followed == list(range(1, 3 * n_done + 4 + 1))
    assert [one.job_id for one in store.entries()] == counters


# ---------------------------------------------------------------------------------- removing


def end(store: JobStore, record: JobRecord, *, entry: LedgerEntry | None = None) -> JobRecord:
    done = move(record, S.CANCELLED)
    store.update_job(done, event(done, "cancelled"), entry=entry)
    return done


def test_removed_jobs_are_gone_with_their_events_and_keys_and_nothing_else(store: JobStore) -> None:
    old, kept = queued("old"), queued("kept", submitted=1)
    store.add_jobs([new(old, key="k", digest="d"), new(kept, key="l", digest="d")])
    end(store, old, entry=entry_of("old"))
    stays = end(store, kept)
    store.add_event(Event(at=T0, kind="cancelled", job_id=None))
    store.remove_jobs(["old", "nobody"])
    with pytest.raises(NotFoundError):
        store.get_job("old")
    assert store.list_jobs()[0] == store.list_jobs(states=ENDED_STATES)[0] == [stays]
    assert store.list_jobs(project="default")[0] == [stays]
    assert [(one.kind, one.job_id) for one in store.events()] == [
        ("submitted", "kept"),
        ("cancelled", "kept"),
        ("cancelled", None),
    ]
    assert store.events(job_id="old") == []
    assert [one.job_id for one in store.events(kind="cancelled")] == ["kept", None]
    assert ids_of_entries(store) == ["old"]
    # Id and key are free again, and the numbers of events go on.
    newest = store.events()[-1].seq
    again = store.add_jobs([new(queued("old"), key="k", digest="other")])
    assert ids(again) == ["old"]
    (first,) = store.events(job_id="old")
    assert first.seq > newest


def ids_of_entries(store: JobStore) -> list[str]:
    return [one.job_id for one in store.entries()]


def test_job_that_has_not_ended_keeps_all_of_them_from_being_removed(store: JobStore) -> None:
    over, runs = queued("over"), queued("runs")
    add(store, over, runs)
    over = end(store, over)
    before = store.events()
    with pytest.raises(ConflictError, match="runs"):
        store.remove_jobs(["over", "runs"])
    assert store.get_job("over") == over
    assert store.events() == before


def test_succeeded_jobs_that_were_removed_are_not_learned_from(store: JobStore) -> None:
    one = queued("a")
    add(store, one)
    for state in (S.PLANNED, S.DISPATCHING, S.DISPATCHED, S.RUNNING, S.SUCCEEDED):
        one = move(one, state)
        store.update_job(one, event(one, str(state)))
    assert store.succeeded_jobs(name=one.job.name, project="default") == [one]
    store.remove_jobs(["a"])
    assert store.succeeded_jobs(name=one.job.name, project="default") == []


def test_what_was_removed_stays_so_after_reopening(open_store: OpenStore) -> None:
    store = open_store()
    one, other = queued("a"), queued("b")
    add(store, one, other)
    end(store, one)
    store.remove_jobs(["a"])
    store.close()
    again = open_store()
    assert ids(again.list_jobs()[0]) == ["b"]
    assert [event.job_id for event in again.events()] == ["b"]


def test_jobs_submitted_before_an_instant_are_listed_page_by_page(store: JobStore) -> None:
    add(store, *(queued(f"j{hour}", submitted=hour) for hour in range(6)))
    before = T0 + timedelta(hours=4)
    page, cursor = store.list_jobs(submitted_before=before, limit=3)
    assert ids(page) == ["j3", "j2", "j1"]
    rest, end_of_list = store.list_jobs(submitted_before=before, after=cursor, limit=3)
    assert (ids(rest), end_of_list) == (["j0"], None)
    assert store.list_jobs(submitted_before=T0)[0] == []


# ------------------------------------------------------------------------------------ closing


def test_everything_is_there_after_reopening(open_store: OpenStore) -> None:
    store = open_store()
    stored = full_record()
    store.add_jobs([new(stored, key="k", digest="d")])
    going = move(stored, S.RUNNING)
    store.update_job(going, event(going, "resumed"))
    entry = entry_of("full")
    store.put_entry(entry)
    store.put_document("d", "text")
    before = store.events()
    store.close()

    again = open_store()
    assert again.get_job("full") == going
    assert again.events() == before
    assert again.entries() == [entry]
    assert again.get_document("d") == "text"
    assert again.add_jobs([new(queued("b"), key="k", digest="d")]) == [going]


def test_sequence_of_events_goes_on_after_reopening(open_store: OpenStore) -> None:
    store = open_store()
    store.add_event(Event(at=T0, kind="before", job_id=None))
    (before,) = store.events()
    store.close()
    again = open_store()
    again.add_event(Event(at=T0, kind="after", job_id=None))
    (after,) = again.events(after_seq=before.seq)
    assert after.kind == "after"


def test_closed_store_refuses_every_call(store: JobStore) -> None:
    one = queued("a")
    add(store, one)
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: add(store, queued("b")),
        lambda: store.get_job("a"),
        store.list_jobs,
        store.active_jobs,
        lambda: store.update_job(move(one, S.HELD)),
        lambda: store.add_event(event(one)),
        store.events,
        lambda: store.put_entry(entry_of("a")),
        store.entries,
        lambda: store.put_document("k", "text"),
        lambda: store.get_document("k"),
        lambda: store.remove_jobs(["a"]),
    ]
    for call in calls:
        with pytest.raises(StoreError):
            call()


def test_writes_under_way_are_finished_by_close(open_store: OpenStore) -> None:
    store = open_store()
    acknowledged: list[str] = []

    def submit(worker: int) -> None:
        for number in range(1000):
            name = f"w{worker}-{number}"
            try:
                add(store, queued(name))
            except StoreError:
                return
            acknowledged.append(name)

    threads = [threading.Thread(target=submit, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 20:
        threads[0].join(0.001)
    store.close()
    for thread in threads:
        thread.join()
    stored = set(ids(open_store().list_jobs(limit=10_000)[0]))
    assert stored == set(acknowledged)
