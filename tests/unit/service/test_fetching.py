"""When sources are asked, for what, by whom, and what is kept of their answers."""

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from adapters.grid.energinet import LIMITS, Energinet
from adapters.http_client import HttpClient
from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecast import IntensitySeries, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import SlotGrid, Window
from scheduler.ports import FetchState, Quota, SeriesKey
from scheduler.service.fetching import CLAIM_S, Fetcher, FetchPlan, Link, Source
from scheduler.service.forecaster import Forecaster
from tests.fakes.clock import ManualClock
from tests.fakes.energinet import FakeEnerginet
from tests.unit.service.world import START, DailySource

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WAVE = [300.0 + 100 * np.sin(hour * 2 * np.pi / 24) for hour in range(24)]


class Watched(DailySource):
    """A live source that notes what it is asked for, and whose sides can be made to misbehave."""

    def __init__(
        self, *, name: str = "live", zones: tuple[str, ...] = ("DE",), **info: object
    ) -> None:
        super().__init__(dict.fromkeys(zones, WAVE), name=name, is_live=True)
        self.info = replace(self.info, **info)  # type: ignore[arg-type]
        self.asked: list[tuple[str, str, Window]] = []
        self.says: dict[str, Callable[[IntensitySeries], IntensitySeries]] = {}

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.asked]

    def fetch_forecast(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        self.asked.append(("forecast", zone_id, window))
        return self._said("forecast", super().fetch_forecast(zone_id, scope, window))

    def fetch_actuals(self, zone_id: str, scope: Scope, window: Window) -> IntensitySeries:
        self.asked.append(("actuals", zone_id, window))
        return self._said("actuals", super().fetch_actuals(zone_id, scope, window))

    def _said(self, kind: str, series: IntensitySeries) -> IntensitySeries:
        return self.says.get(kind, lambda one: one)(series)


def unavailable(_: IntensitySeries) -> IntensitySeries:
    raise ForecastUnavailableError("nothing there", source="live")


def adapter_bug(_: IntensitySeries) -> IntensitySeries:
    raise KeyError("co2")


class Desk:
    """A fetcher on a clock, over an archive."""

    def __init__(
        self,
        *sources: Source,
        zones: tuple[str, ...] = ("DE",),
        clock: ManualClock | None = None,
        archive: SqliteIntensityArchive | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.clock = clock or ManualClock(START)
        self.archive = archive or SqliteIntensityArchive(None)
        links = {
            zone: [
                Link(
                    one,
                    SeriesKey(
                        one.info.name, zone, one.info.signal, next(iter(one.info.scopes[zone]))
                    ),
                )
                for one in sources
            ]
            for zone in zones
        }
        self.links = [link for chain in links.values() for link in chain]
        self.fetcher = Fetcher(
            links=links,
            scope=self.links[0].key.scope,
            clock=self.clock,
            archive=self.archive,
            chance=chance,
        )

    def fetch(self, *, history: timedelta = timedelta(), since: datetime | None = None) -> bool:
        plan = FetchPlan(since=since or self.clock.now(), horizon=2 * DAY, history=history)
        return self.fetcher.fetch(plan)

    def state(self, index: int = 0) -> FetchState:
        return self.archive.state(self.links[index].key)

    @property
    def wait_s(self) -> int:
        """Seconds from now to the next try."""
        return self.state().next_s - int(self.clock.now().timestamp())

    def actuals(self, days: float = 1000) -> IntensitySeries | None:
        now_s = int(self.clock.now().timestamp())
        since_s = now_s - round(days * 86_400)
        return self.archive.actuals(self.links[0].key, since_s=since_s, until_s=now_s)


# --------------------------------------------------------------------------------- cadence


def test_source_is_asked_on_its_cadence() -> None:
    source = Watched(cadence_s=900)
    desk = Desk(source)
    assert desk.fetch()
    assert desk.wait_s == 900
    desk.clock.move(seconds=899)
    assert not desk.fetch()
    desk.clock.move(seconds=1)
    assert desk.fetch()
    assert source.kinds() == ["forecast", "forecast"]


def test_breaks_grow_to_an_hour_and_end_with_the_first_success() -> None:
    source = Watched(cadence_s=900)
    source.fails = True
    desk = Desk(source)
    waits = []
    for _ in range(6):
        assert not desk.fetch()
        waits.append(desk.wait_s)
        desk.clock.move(seconds=desk.wait_s)
    assert waits == [300, 600, 1200, 2400, 3600, 3600]
    assert (desk.state().failures, desk.state().error) == (6, "live is down")
    assert desk.state().fetched_s is None
    source.fails = False
    assert desk.fetch()
    assert (desk.wait_s, desk.state().failures, desk.state().error) == (900, 0, None)


def test_breaks_are_no_shorter_than_the_cadence_allows_at_first_nor_longer_than_it() -> None:
    quick, slow = Watched(cadence_s=60), Watched(cadence_s=6 * 3600)
    for source, longest in ((quick, 3600), (slow, 6 * 3600)):
        source.fails = True
        desk = Desk(source)
        desk.fetch()
        assert desk.wait_s == min(300, source.info.cadence_s)
        for _ in range(12):
            desk.clock.move(seconds=desk.wait_s)
            desk.fetch()
        assert desk.wait_s == longest


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_server_that_says_when_to_come_again_is_asked_no_sooner(is_wrapped: bool) -> None:
    def busy(_: IntensitySeries) -> IntensitySeries:
        asked = ForecastUnavailableError("answered 429", retry_after_s=7200)
        if is_wrapped:
            raise ForecastUnavailableError("live: too many") from asked
        raise asked

    source = Watched(cadence_s=900)
    source.says["forecast"] = busy
    desk = Desk(source)
    desk.fetch()
    assert desk.wait_s == 7200
    # One that says nothing gets the usual break, of the second failure.
    source.says["forecast"] = unavailable
    desk.clock.move(seconds=7200)
    desk.fetch()
    assert desk.wait_s == 600


def test_quota_spaces_the_fetches_of_all_zones() -> None:
    # 2 zones with a forecast and actual values each: 4 requests, at 10 a 3600 s, take 1440 s.
    source = Watched(zones=("DE", "FR"), quota=Quota(requests=10, per_s=3600), cadence_s=300)
    desk = Desk(source, zones=("DE", "FR"))
    desk.fetch()
    assert desk.wait_s == 1440
    generous = Watched(quota=Quota(requests=100, per_s=60), cadence_s=300)
    desk = Desk(generous)
    desk.fetch()
    assert desk.wait_s == 300


def test_fetches_are_put_off_at_random_by_up_to_a_tenth_and_alike_for_all_zones() -> None:
    source = Watched(zones=("DE", "FR"), cadence_s=1000)
    desk = Desk(source, zones=("DE", "FR"), chance=random.Random(7))
    waits = []
    for _ in range(20):
        desk.fetch()
        waits.append(desk.wait_s)
        assert desk.state(0).next_s == desk.state(1).next_s
        desk.clock.move(seconds=desk.wait_s)
    assert all(1000 <= wait <= 1100 for wait in waits)
    assert max(waits) - min(waits) > 50


def test_only_the_named_source_is_asked() -> None:
    one, other = Watched(name="one"), Watched(name="other")
    desk = Desk(one, other)
    assert desk.fetcher.names == ("one", "other")
    plan = FetchPlan(since=START, horizon=DAY, history=timedelta())
    assert desk.fetcher.fetch(plan, name="other")
    assert (len(one.asked), len(other.asked)) == (0, 1)


def test_clock_that_was_set_back_stops_no_fetch() -> None:
    source = Watched()
    desk = Desk(source, clock=ManualClock(START + 400 * DAY))
    desk.fetch(history=10 * DAY)
    desk.clock.at = START
    assert desk.fetch(history=10 * DAY)
    assert desk.wait_s == 60
    assert source.kinds()[-2:] == ["forecast", "actuals"]


# ----------------------------------------------------------------------------- two replicas


def test_replicas_make_one_fetch_and_both_serve_it() -> None:
    clock, archive, source = ManualClock(START), SqliteIntensityArchive(None), Watched()
    one, two = (
        Forecaster(
            chains={"DE": [source]},
            scope=Scope.LIFECYCLE,
            clock=clock,
            max_age=6 * HOUR,
            archive=archive,
        )
        for _ in range(2)
    )
    assert one.refresh(since=START, horizon=DAY)
    assert two.refresh(since=START, horizon=DAY)
    assert source.kinds() == ["forecast"]
    grid = SlotGrid(origin_at=START, slot_s=3600, n_slots=24)
    matrices = [forecaster.matrix(grid) for forecaster in (one, two)]
    assert matrices[0].mg_per_kwh.tolist() == matrices[1].mg_per_kwh.tolist()
    assert matrices[0].layers == matrices[1].layers
    assert not two.refresh(since=START, horizon=DAY)


def test_second_replica_asks_for_no_zone_while_the_first_is_at_it() -> None:
    archive = SqliteIntensityArchive(None)
    source = Watched(zones=("DE", "FR"))
    desks = [Desk(source, zones=("DE", "FR"), archive=archive) for _ in range(2)]

    def meanwhile(series: IntensitySeries) -> IntensitySeries:
        assert not desks[1].fetch()
        return series

    source.says["forecast"] = meanwhile
    assert desks[0].fetch()
    assert [zone for _, zone, _ in source.asked] == ["DE", "FR"]


def test_replica_that_died_while_it_fetched_is_replaced_after_its_claim() -> None:
    source = Watched()
    desk = Desk(source)

    def die(_: IntensitySeries) -> IntensitySeries:
        raise SystemExit

    source.says["forecast"] = die
    with pytest.raises(SystemExit):
        desk.fetch()
    source.says.clear()
    desk.clock.move(seconds=CLAIM_S - 1)
    assert not desk.fetch()
    desk.clock.move(seconds=1)
    assert desk.fetch()


def test_claims_last_for_a_while_after_each_step_of_a_slow_fetch(tmp_path: Path) -> None:
    clock = ManualClock(START)
    source = Watched(zones=("DE", "FR"))
    path = tmp_path / "intensity.db"
    with (
        closing(SqliteIntensityArchive(path)) as ours,
        closing(SqliteIntensityArchive(path)) as theirs,
    ):
        desk = Desk(source, zones=("DE", "FR"), clock=clock, archive=ours)
        other = Desk(source, zones=("DE", "FR"), clock=clock, archive=theirs)

        def take_long(series: IntensitySeries) -> IntensitySeries:
            clock.move(seconds=CLAIM_S - 1)
            assert not other.fetch()
            return series

        source.says = {"forecast": take_long, "actuals": take_long}
        assert desk.fetch(history=DAY)
        assert source.kinds() == ["forecast", "actuals"] * 2


# ---------------------------------------------------------------------------------- history


def test_history_is_fetched_backwards_in_pieces_until_its_goal() -> None:
    source = Watched(cadence_s=3600)
    desk = Desk(source)
    turns, waits = [], []
    for _ in range(5):
        assert desk.fetch(history=100 * DAY)
        turns.append([(kind, window) for kind, _, window in source.asked])
        source.asked.clear()
        waits.append(desk.wait_s)
        desk.clock.move(seconds=desk.wait_s)
    assert waits == [60, 60, 60, 60, 3600]
    assert [[kind for kind, _ in turn] for turn in turns] == [
        ["forecast", "actuals"],
        *[["actuals"]] * 4,
    ]
    pieces = [turn[-1][1] for turn in turns[1:]]
    assert pieces[0].end_at == START + timedelta(minutes=1) - 3 * DAY
    assert all(after.end_at == one.start_at for one, after in pairwise(pieces))
    assert [one.duration_s / 86_400 for one in pieces[:3]] == [30, 30, 30]
    assert pieces[3].duration_s / 86_400 == pytest.approx(7, abs=0.01)
    known = desk.actuals()
    assert known is not None
    assert known.edges_s[0] == pytest.approx((START - 100 * DAY).timestamp(), abs=3600)
    assert (known.mg_per_kwh >= 0).all()
    # From here on only what is new, and what may have been revised.
    desk.fetch(history=100 * DAY)
    assert source.kinds() == ["forecast", "actuals"]
    assert source.asked[1][2].duration_s == 3 * 86_400
    assert desk.wait_s == 3600


def test_history_goes_no_further_back_than_the_source_has_any() -> None:
    source = Watched(history_s=2 * 86_400)
    desk = Desk(source)
    desk.fetch(history=400 * DAY)
    assert desk.wait_s == 1800
    assert source.asked[-1][2].duration_s == 2 * 86_400


def test_history_that_is_shorter_than_declared_ends_where_it_fails_and_costs_no_forecast() -> None:
    source = Watched(cadence_s=1800)

    def young(series: IntensitySeries) -> IntensitySeries:
        if series.edges_s[0] < (START - 20 * DAY).timestamp():
            raise ForecastUnavailableError("the reply is empty", source="live")
        return series

    source.says["actuals"] = young
    desk = Desk(source)
    waits = []
    for _ in range(8):
        desk.fetch(history=400 * DAY)
        waits.append(desk.wait_s)
        if waits[-1] == 1800:
            errors = desk.state().error
        desk.clock.move(seconds=desk.wait_s)
    # The newest, a piece that fails; three times so, then only the newest.
    assert waits == [60, 1800, 60, 1800, 60, 1800, 1800, 1800]
    assert errors is None
    assert source.kinds() == ["forecast", "actuals", "actuals"] * 3 + ["forecast", "actuals"] * 2


def test_failed_piece_is_named_and_does_not_count_as_a_failure_of_the_source() -> None:
    source = Watched()
    desk = Desk(source)
    desk.fetch(history=400 * DAY)
    source.says["actuals"] = unavailable
    desk.clock.move(seconds=60)
    assert not desk.fetch(history=400 * DAY)
    assert desk.state().error == "history before 2026-02-27T00:01:00Z: nothing there"
    assert (desk.state().failures, desk.wait_s) == (0, 1800)


def test_values_of_a_time_when_nobody_asked_are_fetched_later() -> None:
    source = Watched(history_s=5 * 86_400)
    desk = Desk(source)
    desk.fetch(history=5 * DAY)
    desk.clock.move(days=10)
    desk.fetch(history=5 * DAY)
    known = desk.actuals()
    assert known is not None
    assert (known.mg_per_kwh >= 0).all()
    assert known.edges_s[0] == int((START - 3 * DAY).timestamp())


def test_revised_values_replace_those_before_and_what_was_known_then_is_kept() -> None:
    source = Watched()
    desk = Desk(source)
    desk.fetch(since=START - DAY)
    source.day_g = {"DE": [one + 10 for one in WAVE]}
    desk.clock.move(minutes=30)
    desk.fetch(since=START - DAY)
    now, before = (
        desk.actuals(),
        desk.archive.actuals(
            desk.links[0].key,
            since_s=0,
            until_s=2 * int(START.timestamp()),
            seen_by_s=int(START.timestamp()),
        ),
    )
    assert now is not None
    assert before is not None
    assert now.mg_per_kwh[0] == before.mg_per_kwh[0] + 10_000


# ------------------------------------------------------------------------------- sides apart


def test_actual_values_come_although_the_forecast_fails() -> None:
    source = Watched()
    source.says["forecast"] = unavailable
    desk = Desk(source)
    assert desk.fetch(since=START - DAY)
    assert desk.actuals() is not None
    assert (desk.state().error, desk.state().failures, desk.wait_s) == ("nothing there", 1, 300)


def test_fault_of_an_adapter_stops_no_other_zone_and_is_shown() -> None:
    source = Watched(zones=("DE", "FR"))
    source.says["forecast"] = lambda one: adapter_bug(one) if one.zone_id == "DE" else one
    desk = Desk(source, zones=("DE", "FR"))
    with capture_logs() as logs:
        assert desk.fetch()
    assert desk.state(0).error == "live: KeyError, which is an error of the adapter; the log has it"
    assert desk.state(1).fetched_s is not None
    assert [(log["event"], log["log_level"]) for log in logs] == [("forecast_fetch_broke", "error")]


def test_source_of_the_past_that_nobody_asks_anything_of_stays_unfetched() -> None:
    class Past(Watched):
        fetch_forecast = None  # type: ignore[assignment]

    source = Past()
    desk = Desk(source)
    assert not desk.fetch()
    assert (source.asked, desk.state().fetched_s, desk.wait_s) == ([], None, 1800)


# ---------------------------------------------------------------------------- plausibility


def zeros(series: IntensitySeries) -> IntensitySeries:
    return replace(series, mg_per_kwh=np.zeros_like(series.mg_per_kwh))


def in_kilograms(series: IntensitySeries) -> IntensitySeries:
    return replace(series, mg_per_kwh=series.mg_per_kwh // 1000)


def of_another_zone(series: IntensitySeries) -> IntensitySeries:
    return replace(series, zone_id="FR")


def from_the_future(series: IntensitySeries) -> IntensitySeries:
    late = replace(series.provenance, issued_at=START + 90 * DAY)
    return replace(series, provenance=late)


@pytest.mark.parametrize("kind", ["forecast", "actuals"])
@pytest.mark.parametrize(
    ("says", "why"),
    [
        (zeros, "falls to 0 g/kWh, in a zone that never was below 200"),
        (in_kilograms, "another unit"),
        (of_another_zone, "is about zone FR, not DE"),
        (from_the_future, "in the future: a clock is wrong"),
    ],
)
def test_what_cannot_be_true_is_not_kept(
    says: Callable[[IntensitySeries], IntensitySeries], why: str, kind: str
) -> None:
    source = Watched(history_s=30 * 86_400)
    desk = Desk(source)
    for _ in range(3):
        desk.fetch(history=30 * DAY)
        desk.clock.move(seconds=desk.wait_s)
    before, vintages = desk.actuals(), len(desk.archive.vintages(desk.links[0].key, since_s=0))
    source.says[kind] = says
    desk.clock.move(hours=2)
    desk.fetch(history=30 * DAY)
    error = desk.state().error or ""
    assert error.startswith("live: what it says about zone DE ")
    assert error.endswith(why)
    assert before is not None
    after = desk.actuals()
    assert after is not None
    # The other side came nevertheless.
    is_other_kept = len(desk.archive.vintages(desk.links[0].key, since_s=0)) == vintages + 1
    assert is_other_kept == (kind == "actuals")
    assert (len(after.mg_per_kwh) > len(before.mg_per_kwh)) == (kind == "forecast")


def test_source_without_a_past_is_judged_by_its_earlier_forecasts() -> None:
    class Ahead(Watched):
        fetch_actuals = None  # type: ignore[assignment]

    source = Ahead()
    desk = Desk(source)
    for _ in range(6):
        assert desk.fetch()
        desk.clock.move(days=1)
    source.says["forecast"] = in_kilograms
    assert not desk.fetch()
    assert "another unit" in (desk.state().error or "")


def test_forecast_is_kept_with_the_time_at_which_it_was_known_and_made() -> None:
    source = Watched()
    desk = Desk(source)
    desk.fetch()
    (vintage,) = desk.archive.vintages(desk.links[0].key, since_s=0)
    assert vintage.issued_s == int(START.timestamp())
    assert vintage.series.provenance.issued_at == START
    made_at = START - HOUR
    source.says["forecast"] = lambda one: replace(
        one, provenance=replace(one.provenance, issued_at=made_at)
    )
    desk.clock.move(minutes=30)
    desk.fetch()
    vintage = desk.archive.vintages(desk.links[0].key, since_s=0)[-1]
    assert vintage.issued_s == int(desk.clock.now().timestamp())
    assert vintage.series.provenance.issued_at == made_at


# ----------------------------------------------------------- two zones in one request: Energinet


def test_both_zones_of_denmark_come_in_one_request_and_history_within_the_quota() -> None:
    clock = ManualClock(datetime(2026, 1, 20, 14, tzinfo=UTC))
    with FakeEnerginet(clock.now(), clock) as api:
        http = HttpClient(api.url, limits=LIMITS)
        desk = Desk(
            Energinet(http, clock=clock),
            zones=("DK-DK1", "DK-DK2"),
            clock=clock,
            chance=random.Random(3),
        )
        errors = []
        for _ in range(6):
            desk.fetch(history=20 * DAY)
            errors += [desk.state(0).error, desk.state(1).error]
            clock.move(seconds=max(60, desk.wait_s))
            api.now = clock.now()
        http.close()
        assert errors == [None] * 12
        # Two datasets at first and on every cadence, one piece of history between.
        assert len(api.asked) == 2 * 5 + 1
        assert desk.links[1].key.signal is SignalKind.AVERAGE
    for index in (0, 1):
        reached = desk.state(index).reached_s or 0
        goal = datetime(2025, 12, 31, 14, tzinfo=UTC).timestamp()
        assert reached == pytest.approx(goal, abs=86_400)


def test_quality_of_kept_values_is_the_sources() -> None:
    provenance = Provenance(
        source="live", signal=SignalKind.AVERAGE, scope=Scope.LIFECYCLE, quality=Quality.MEASURED
    )
    desk = Desk(Watched())
    desk.fetch(since=START - DAY)
    found = desk.actuals()
    assert found is not None
    assert found.provenance == provenance
