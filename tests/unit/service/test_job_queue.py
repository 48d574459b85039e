"""Submissions that come together: whose fault it is when the store refuses them."""

from collections.abc import Sequence

import pytest

from scheduler.core.errors import DuplicateJobError, StoreError
from scheduler.core.job import JobRecord
from scheduler.ports import NewJob
from scheduler.service.job_queue import Submission
from tests.unit.service.world import Make, World, make_job


def asked(world: World, count: int) -> list[Submission]:
    return [Submission(job=make_job(world.clock, f"j{number}")) for number in range(count)]


def test_store_that_does_not_answer_is_asked_once_for_all(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer may have been lost: asked again under another call, it would refuse what it has."""
    world, calls = make(), list[int]()

    def add_jobs(jobs: Sequence[NewJob]) -> list[JobRecord]:
        calls.append(len(jobs))
        raise StoreError("it may or may not have happened")

    monkeypatch.setattr(world.store, "add_jobs", add_jobs)
    answers = world.queue.submit_each(asked(world, 3))
    assert calls == [3]
    assert [type(one) for one in answers] == [StoreError] * 3


def test_one_that_is_refused_does_not_take_the_others_with_it(make: Make) -> None:
    world = make()
    one, other, third = asked(world, 3)
    first = Submission(job=one.job, idempotency_key="k", request_digest="d")
    misused = Submission(job=other.job, idempotency_key="k", request_digest="e")
    world.queue.submit_each([first])
    refused, stored = world.queue.submit_each([misused, third])
    assert isinstance(refused, DuplicateJobError)
    assert isinstance(stored, JobRecord)
    assert len(world.store.active_jobs()) == 2
