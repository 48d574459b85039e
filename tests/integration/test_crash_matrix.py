"""The service dies at each point of submit, plan, dispatch, watch and account in turn: nothing is lost, nothing done twice."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from scheduler.core.job import JobRecord
from scheduler.service import dispatcher, watcher
from tests.conformance.stores import STORES
from tests.fakes.mortal import Fate
from tests.integration.crash_matrix import Ending, Morning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
Live = Callable[[int | None], Ending]
"""A morning on a store of its own whose service dies at that point."""


@pytest.fixture
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    numbers = itertools.count()

    def once(dies_at: int | None) -> Ending:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        with STORES[request.param](folder) as open_store:
            return Morning(open_store, folder, Fate(dies_at)).live_through()

    return once


def faults_at(live: Live, points: Sequence[int]) -> list[str]:
    """What went wrong, by the point at which the service died."""
    found = []
    for number in points:
        ending = live(number)
        found += [f"{number}, {ending.points[number]}: {fault}" for fault in ending.faults]
    return found


@pytest.mark.parametrize("live", ["sqlite", "fakeredis"], indirect=True)
def test_death_at_the_first_and_the_last_of_each_kind_of_point(live: Live) -> None:
    undisturbed = live(None)
    assert undisturbed.faults == []
    assert undisturbed.pauses == 1
    kinds = set(undisturbed.points)
    # Each stage is among them.
    for call in ("add_jobs", "update_job", "submit", "pause", "cancel", "put_entry"):
        assert any(point.endswith(f".{call}") for point in kinds), call
    last = len(undisturbed.points) - 1
    firsts = {undisturbed.points.index(kind) for kind in kinds}
    lasts = {last - undisturbed.points[::-1].index(kind) for kind in kinds}
    assert faults_at(live, sorted(firsts | lasts)) == []


@pytest.mark.external
@pytest.mark.parametrize("live", ["sqlite", "redis"], indirect=True)
def test_death_at_every_point(live: Live, request: pytest.FixtureRequest) -> None:
    undisturbed = live(None)
    points = range(len(undisturbed.points))
    kinds = Counter(point.partition(" ")[2] for point in undisturbed.points)
    print(f"{len(points)} points: {dict(kinds)}")
    assert faults_at(live, points) == []


@pytest.mark.parametrize("live", ["fakeredis"], indirect=True)
def test_matrix_finds_a_service_that_starts_a_run_under_a_new_name_after_a_restart(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, calls = dispatcher.run_name, itertools.count()

    def forgetful(record: JobRecord) -> str:
        return f"{right(record)}.{next(calls)}"

    points = live(None).points
    monkeypatch.setattr(dispatcher, "run_name", forgetful)
    monkeypatch.setattr(watcher, "run_name", right)
    assert faults_at(live, [points.index("after cluster.submit")])
