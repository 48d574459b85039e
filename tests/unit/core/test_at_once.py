"""A start that is wanted at once: where room comes first, whether or not there is any."""

from dataclasses import replace

from scheduler.core.planner.search import WindowSearch
from tests.unit.core.builders import cluster, hours_of, request, reservation, snapshot

BOTH = (cluster("DE"), cluster("FR"))


def search(*, de_until: float = 0, fr_until: float = 0, grams: int = 48) -> WindowSearch:
    """Two clusters of one device, each taken until some hour."""
    reserved = [
        reservation(0, until, name=name)
        for name, until in (("c-de", de_until), ("c-fr", fr_until))
        if until
    ]
    day = {"DE": [100.0] * grams, "FR": [50.0] * grams}
    return WindowSearch(snapshot(day, clusters=BOTH, reserved=reserved))


def test_it_starts_where_room_comes_first() -> None:
    found = search(de_until=5, fr_until=3).at_once(request(clusters=BOTH, earliest=1))
    assert found is not None
    assert found.cluster_id == "c-fr"
    assert hours_of(found) == [(1, 3)], "at once: its cluster has the last word"
    assert found.planned_g == 100  # 1 kW for 2 h at 50 g/kWh


def test_of_clusters_where_room_comes_at_the_same_time_the_cleanest_is_taken() -> None:
    found = search().at_once(request(clusters=BOTH))
    assert found is not None
    assert (found.cluster_id, hours_of(found)) == ("c-fr", [(0, 2)])


def test_where_nothing_has_room_its_first_choice_is_taken() -> None:
    found = search(de_until=48, fr_until=48).at_once(request(clusters=BOTH, deadline=3))
    assert found is not None
    assert (found.cluster_id, hours_of(found)) == ("c-de", [(0, 2)])


def test_it_needs_no_forecast() -> None:
    found = search(grams=0).at_once(request(clusters=BOTH))
    assert found is not None
    assert found.planned_g is None


def test_choice_that_would_end_beyond_the_horizon_is_left_out() -> None:
    long, short = request(clusters=BOTH[:1], hours=49), request(clusters=BOTH[1:], hours=2)
    made = search(fr_until=48)
    assert made.at_once(long) is None
    found = made.at_once(replace(short, choices=(*long.choices, *short.choices)))
    assert found is not None
    assert found.cluster_id == "c-fr"


def test_job_that_no_cluster_may_run_has_no_start() -> None:
    assert search().at_once(request(clusters=())) is None
