"""Sightings in the archive: revisions are kept, repeats are not, and a second time changes nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.ports import SeriesKey, SightingCount, Sightings
from scheduler.service.sparing_archive import SparingArchive

KEY = SeriesKey("grid-operator", "DE", SignalKind.AVERAGE, Scope.LIFECYCLE)
HOUR = 3600
FEED = [(0, 10, 3700), (0, 12, 7300), (1, 20, 7300), (0, 12, 9000), (1, 20, 9000)]


def sightings(rows: Sequence[tuple[int, int, int]]) -> Sightings:
    """From hour, grams and when they were seen."""
    hours, grams, seen = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Sightings(hours * HOUR, (hours + 1) * HOUR, grams * 1000, seen)


def add(
    archive: SqliteIntensityArchive | SparingArchive, rows: Sequence[tuple[int, int, int]]
) -> SightingCount:
    return archive.add_sightings(KEY, sightings(rows), quality=Quality.MEASURED)


def known(archive: SqliteIntensityArchive, seen_by_s: int | None = None) -> list[int]:
    found = archive.actuals(KEY, since_s=0, until_s=10 * HOUR, seen_by_s=seen_by_s)
    return [] if found is None else (found.mg_per_kwh // 1000).tolist()


@pytest.fixture
def archive(tmp_path: Path) -> SqliteIntensityArchive:
    return SqliteIntensityArchive(tmp_path / "intensity.db")


def test_new_revised_and_repeated_values_are_told_apart(archive: SqliteIntensityArchive) -> None:
    assert add(archive, FEED) == SightingCount(new=2, revised=1, repeated=2)
    assert known(archive) == [12, 20]
    assert known(archive, seen_by_s=5000) == [10]


def test_the_same_again_is_all_repeats_in_any_order(archive: SqliteIntensityArchive) -> None:
    add(archive, FEED)
    assert add(archive, FEED[::-1]) == SightingCount(repeated=5)
    assert known(archive, seen_by_s=5000) == [10]


def test_what_was_seen_before_goes_before(archive: SqliteIntensityArchive) -> None:
    add(archive, [(0, 12, 9000)])
    assert add(archive, [(0, 10, 4000)]) == SightingCount(revised=1)
    assert known(archive) == [12]
    assert known(archive, seen_by_s=8000) == [10]


def test_no_sightings_are_no_change(archive: SqliteIntensityArchive) -> None:
    none = np.empty(0, dtype=np.int64)
    empty = Sightings(none, none, none, none)
    assert archive.add_sightings(KEY, empty, quality=Quality.MEASURED) == SightingCount()
    assert archive.known_series() == []


def test_the_spare_takes_what_the_first_cannot(archive: SqliteIntensityArchive) -> None:
    spare = SqliteIntensityArchive(None)
    sparing = SparingArchive(archive, spare)
    archive.close()
    assert add(sparing, FEED).new == 2
    assert known(spare) == [12, 20]
