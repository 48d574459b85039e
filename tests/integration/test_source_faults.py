"""Everything that a server can do wrong leaves the service planning, each step down marked and told.

The real wiring, from settings to plans, with servers on loopback and a clock that is moved: first the
last good data within its age limit, then the built-in forecast, then the typical week.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.hardware_tables import load_hardware
from adapters.http_client import Limits
from scheduler.core.forecast import ForecastMatrix, Provenance, Quality, Scope, SignalKind
from scheduler.core.timegrid import SlotGrid, Window, format_instant
from scheduler.ports import SeriesKey
from scheduler.server.checks import archive_check, source_checks
from scheduler.server.settings import Settings
from scheduler.server.sources import SourceBuilder
from scheduler.server.stores import open_archive
from scheduler.server.wiring import (
    build_fleet,
    build_forecaster,
    doctor,
)
from tests.fakes.clock import ManualClock
from tests.fakes.energy_charts import FakeEnergyCharts
from tests.fakes.loopback_http import (
    Behaviour,
    cut_off,
    drip_body,
    drip_headers,
    gzip_bomb,
    hang_up,
    json_reply,
    raw_reply,
    redirect,
    reset,
    silence,
)
from tests.fakes.national_grid_gb import FakeNationalGridGB, instant, minute

NOW = datetime(2026, 1, 20, 14, tzinfo=UTC)
HOUR = timedelta(hours=1)
HORIZON = timedelta(hours=48)
LIMITS = Limits(max_body_bytes=300_000, attempts=2)
SHORT = Limits(read_s=0.04, total_s=0.1, attempts=2)
HTML = "text/html"
MB_10 = b"[" + b" " * 10_000_000 + b"]"


class Site:
    """One zone with a source and the typical week after it, as the settings would build them."""

    def __init__(
        self,
        folder: Path,
        clock: ManualClock,
        zone: str,
        *,
        limits: Limits = LIMITS,
        **intensity: object,
    ) -> None:
        settings = Settings(
            clusters=[{"id": "a", "region": "r", "zone": zone, "capacity": {"H100": 8}}],  # type: ignore[list-item]
            intensity={"history": "10d", **intensity},  # type: ignore[arg-type]
        )
        chosen = settings.intensity
        self.waits: list[float] = []
        self.clock, self.zone = clock, zone
        self.archive = open_archive(folder / "intensity.db")
        builder = SourceBuilder(
            kind=(chosen.signal, chosen.scope),
            zone_ids=frozenset({zone}),
            clock=clock,
            limits=limits,
            wait=self.waits.append,
        )
        fleet = build_fleet(settings, load_hardware())
        self.forecaster = build_forecaster(settings, fleet, clock, self.archive, builder=builder)

    def refresh(self, *, times: int = 1) -> bool:
        """As the timers do, once a minute."""
        is_new = False
        for _ in range(times):
            is_new = self.forecaster.refresh(since=self.clock.now(), horizon=HORIZON)
            self.clock.move(seconds=90)
        return is_new

    def matrix(self, hours: int = 48) -> ForecastMatrix:
        origin_at = self.clock.now().replace(minute=0, second=0)
        return self.forecaster.matrix(SlotGrid(origin_at=origin_at, slot_s=3600, n_slots=hours))

    @property
    def rests_on(self) -> Provenance:
        """What a plan of the next hours rests on; every hour to come has a value above zero."""
        matrix = self.matrix()
        assert (matrix.layer >= 0).all()
        assert (matrix.mg_per_kwh > 0).all()
        origin_at = matrix.grid.origin_at
        found = matrix.provenance(self.zone, Window(origin_at, origin_at + 6 * HOUR))
        assert found is not None
        return found

    def layers(self) -> list[tuple[str, bool]]:
        """First word of each source in order of preference, and whether it is a fallback."""
        return [(one.source.split(" ")[0], one.is_fallback) for one in self.matrix().layers[0]]

    def doctor(self) -> dict[str, tuple[bool, str]]:
        checks = [archive_check(self.archive), *source_checks(self.forecaster)]
        return {one.subject: (one.is_ok, one.detail) for one in checks}

    @property
    def told(self) -> tuple[bool, str]:
        """What doctor says of the live source."""
        return next(
            said
            for subject, said in self.doctor().items()
            if subject.startswith(f"intensity {self.zone} ") and "built-in" not in subject
        )

    @property
    def told_of_plans(self) -> tuple[bool, str]:
        return self.doctor()[f"plans in {self.zone} rest on"]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeNationalGridGB]:
    with FakeNationalGridGB(NOW) as api:
        yield api


class Britain(Site):
    """Great Britain, whose server knows the time."""

    def __init__(
        self, folder: Path, api: FakeNationalGridGB, *, now: datetime = NOW, **intensity: object
    ) -> None:
        api.misbehave()
        api.now = now
        api.asked.clear()
        sources = [{"kind": "national_grid_gb", "url": api.url}, {"kind": "typical_week"}]
        super().__init__(
            folder, ManualClock(now), "GB", scope="direct", sources=sources, **intensity
        )
        self.api = api

    def later(self, **by: float) -> bool:
        self.clock.move(**by)
        self.api.now = self.clock.now()
        return self.refresh()


@pytest.fixture
def gb(tmp_path: Path, server: FakeNationalGridGB) -> Iterator[Britain]:
    """With ten days of history, and a forecast that is new."""
    site = Britain(tmp_path, server)
    with closing(site.archive):
        site.refresh(times=3)
        assert site.told[0]
        assert site.layers() == [
            ("built-in", False),
            ("national_grid_gb", False),
            ("typical_week", True),
        ]
        yield site


Period = dict[str, Any]


def figures(**change: Callable[[Any], object]) -> Callable[[list[Period]], object]:
    """Changes figures of every period; those that are not known yet stay so."""

    def changed(data: list[Period]) -> object:
        for period in data:
            for name, of in change.items():
                if period["intensity"][name] is not None:
                    period["intensity"][name] = of(period["intensity"][name])
        return data

    return changed


def both(of: Callable[[Any], object]) -> Callable[[list[Period]], object]:
    return figures(forecast=of, actual=of)


def of_yesterday(data: list[Period]) -> object:
    for period in data:
        for edge in ("from", "to"):
            period[edge] = minute(instant(period[edge]) - timedelta(days=1))
    return data


def contradicting(data: list[Period]) -> object:
    again = json.loads(json.dumps(data[0]))
    again["intensity"] = {"forecast": 999, "actual": 999}
    return [*data, again]


SLOW_FAULTS: list[tuple[Behaviour, str]] = [
    (silence, "no answer: ReadTimeout (2 tries)"),
    (drip_body(), "took longer than 0.1 s"),
    (drip_headers, "took longer than 0.1 s"),
]

SERVER_FAULTS: list[tuple[str, Behaviour, str]] = [
    ("cut off", cut_off(b'{"data": []}'), "no answer: RemoteProtocolError"),
    ("reset", reset, "no answer: ReadError"),
    ("hangs up", hang_up, "no answer: RemoteProtocolError"),
    ("gzip bomb", gzip_bomb(20_000_000), "more than 300000 bytes"),
    ("gzip in gzip", gzip_bomb(2_000_000, times=2), "in encoding 'gzip, gzip'"),
    (
        "broken gzip",
        raw_reply(b"{}", headers={"Content-Encoding": "gzip"}),
        "cannot be decompressed",
    ),
    ("10 MB page", raw_reply(MB_10), "more than 300000 bytes"),
    ("html for data", raw_reply(b"<html>", content_type=HTML), "text/html instead of JSON"),
    ("no content type", raw_reply(b"{}", content_type=None), "no content type instead of JSON"),
    ("redirect loop", redirect("/intensity"), "redirects more than 3 times"),
    ("redirect elsewhere", redirect("http://elsewhere.example/"), "redirects to http://elsewhere"),
    ("401", json_reply({}, status=401), "answered 401"),
    ("403 html", raw_reply(b"<html>", status=403, content_type=HTML), "answered 403"),
    ("404", json_reply({}, status=404), "answered 404"),
    ("429", json_reply({}, status=429), "answered 429 (2 tries)"),
    ("500", json_reply({}, status=500), "answered 500 (2 tries)"),
    ("502 html", raw_reply(b"<html>", status=502, content_type=HTML), "answered 502 (2 tries)"),
    ("503", json_reply({}, status=503), "answered 503 (2 tries)"),
    ("no body", raw_reply(b""), "broken JSON"),
    ("half a document", raw_reply(b'{"data": [{"from": "2026'), "broken JSON"),
    ("no content", lambda to: to.reply(b"", status=204), "the reply has no data"),
    ("other document", json_reply({"error": {"code": "no"}}), "the reply has no data"),
    ("NaN document", raw_reply(b'{"data": NaN}'), "the reply has no data"),
    ("deep", raw_reply(b"[" * 100_000), "broken JSON"),
]

DATA_FAULTS: list[tuple[str, Callable[[list[Period]], object], str]] = [
    ("empty", lambda data: [], "the reply is empty"),
    ("NaN", both(lambda value: float("nan")), "finite number"),
    ("infinite", both(lambda value: float("inf")), "finite number"),
    ("text", both(str), "valid number"),
    ("zeros", both(lambda value: 0), "cannot be true"),
    ("negative", both(lambda value: -value), "cannot be true"),
    ("1000 times too much", both(lambda value: value * 1000), "cannot be true"),
    ("1000 times too little", both(lambda value: value / 1000), "another unit"),
    ("yesterday's", of_yesterday, "stale"),
    ("contradicting itself", contradicting, "two values for"),
]


def goes_down_step_by_step(site: Britain, says: str) -> None:
    """From the last good data to the built-in forecast and the typical week."""
    issued_at = site.matrix().layers[0][1].issued_at
    # 1. Within the age limit: the last good data, with the time at which they were made.
    site.later(hours=5)
    assert site.layers()[:2] == [("built-in", False), ("national_grid_gb", False)]
    assert site.matrix().layers[0][1].issued_at == issued_at
    assert site.rests_on.source.startswith(
        "built-in (level+published, history of national_grid_gb)"
    )
    is_ok, detail = site.told
    assert is_ok
    assert says in detail
    # 2. Beyond it: the built-in forecast, from the history that is there.
    site.later(hours=2)
    assert site.layers() == [("built-in", True), ("typical_week", True)]
    assert (site.rests_on.is_fallback, site.rests_on.quality) == (True, Quality.FORECAST)
    is_ok, detail = site.told
    assert not is_ok
    assert says in detail
    assert site.told_of_plans[0]
    assert site.told_of_plans[1].startswith("built-in (")
    assert site.told_of_plans[1].endswith("; a fallback")
    # 3. A week after the last value: the typical week.
    site.later(days=7)
    assert site.layers() == [("typical_week", True)]
    assert (site.rests_on.is_fallback, site.rests_on.quality) == (True, Quality.TYPICAL)
    assert site.told_of_plans == (True, "typical_week (typical, not measured); a fallback")
    assert not site.doctor()["intensity GB built-in"][0]
    # What accounts of that time read says so too.
    hour_ago = site.clock.now() - HOUR
    reading = site.forecaster.read("GB", Window(hour_ago, hour_ago + HOUR / 2))
    assert reading is not None
    assert (reading.provenance.quality, reading.provenance.is_fallback) == (Quality.TYPICAL, True)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [one[1:] for one in SERVER_FAULTS],
    ids=[one[0] for one in SERVER_FAULTS],
)
def test_server_that_fails_leaves_the_service_planning(
    gb: Britain, behaviour: Behaviour, says: str
) -> None:
    gb.api.misbehave(always=behaviour)
    goes_down_step_by_step(gb, says)


@pytest.mark.parametrize(("behaviour", "says"), SLOW_FAULTS, ids=["silent", "body", "headers"])
def test_server_that_is_slow_leaves_the_service_planning(
    gb: Britain, tmp_path: Path, behaviour: Behaviour, says: str
) -> None:
    # Restarted, so that only the faults are cut short, not the good answers of a busy machine.
    site = Britain(tmp_path, gb.api, now=gb.clock.now(), limits=SHORT)
    with closing(site.archive):
        site.api.misbehave(always=behaviour)
        goes_down_step_by_step(site, says)


@pytest.mark.parametrize(
    ("change", "says"), [one[1:] for one in DATA_FAULTS], ids=[one[0] for one in DATA_FAULTS]
)
def test_data_that_cannot_be_true_leave_the_service_planning(
    gb: Britain, change: Callable[[list[Period]], object], says: str
) -> None:
    gb.api.serve_changed(change)
    goes_down_step_by_step(gb, says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (figures(forecast=lambda value: None), "no value from"),
        (figures(forecast=lambda value: 200), "h: stuck"),
        (figures(forecast=lambda value: value / 1000), "another unit"),
    ],
    ids=["null", "stuck", "unit"],
)
def test_forecasts_that_fail_alone_leave_the_built_in_with_ever_newer_history(
    gb: Britain, change: Callable[[list[Period]], object], says: str
) -> None:
    gb.api.serve_changed(change)
    for _ in range(2):
        gb.later(hours=7)
    assert gb.layers() == [("built-in", True), ("typical_week", True)]
    assert says in gb.told[1]
    assert not gb.told[0]
    gb.later(days=9)
    gb.later(hours=2)
    assert gb.layers()[0] == ("built-in", True)
    hour_ago = gb.clock.now() - 3 * HOUR
    reading = gb.forecaster.read("GB", Window(hour_ago, hour_ago + HOUR))
    assert reading is not None
    assert (reading.provenance.quality, reading.provenance.is_fallback) == (
        Quality.ESTIMATED,
        False,
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda data: list(reversed(data)),
        lambda data: [*data, *data],
        lambda data: [{**period, "new": {"field": 1}} for period in data],
    ],
    ids=["out of order", "duplicates", "unknown fields"],
)
def test_oddities_that_say_the_same_cost_nothing(
    gb: Britain, change: Callable[[list[Period]], object]
) -> None:
    gb.api.serve_changed(change)
    assert gb.later(hours=7)
    assert gb.layers()[:2] == [("built-in", False), ("national_grid_gb", False)]
    assert gb.told[0]
    assert ";" not in gb.told[1]


@pytest.mark.parametrize(("after", "waited"), [("7", 7.0), ("86400", 30.0)])
def test_retry_after_is_heeded_for_as_long_as_a_fetch_may_take(
    gb: Britain, after: str, waited: float
) -> None:
    gb.api.misbehave(json_reply({}, status=429, headers={"Retry-After": after}))
    gb.later(hours=2)
    assert gb.waits == [waited]
    assert gb.told[0]


def test_server_that_asks_for_hours_is_left_alone_for_hours(gb: Britain) -> None:
    asks = {"Retry-After": str(5 * 3600)}
    gb.api.misbehave(always=json_reply({}, status=429, headers=asks))
    gb.later(hours=1)
    gb.api.misbehave()
    gb.api.asked.clear()
    gb.later(hours=4, minutes=55)
    assert gb.api.asked == []
    # Half an hour later by chance.
    gb.later(minutes=40)
    assert gb.told[0]
    assert gb.api.asked != []


def test_breaks_grow_so_that_a_server_in_need_is_left_alone(gb: Britain) -> None:
    gb.api.misbehave(always=json_reply({}, status=503))
    gb.later(minutes=40)
    gb.api.asked.clear()
    for _ in range(12 * 60):
        gb.refresh()
        gb.clock.move(seconds=-30)
    # Twelve hours with a look every minute: at 5, 15, 35 and 75 min, and then once an hour, of which
    # each is a forecast and actual values, two tries each.
    tries = len(gb.api.asked) / 4
    assert 12 <= tries <= 15


def test_service_is_itself_again_when_the_server_is(gb: Britain) -> None:
    gb.api.misbehave(always=json_reply({}, status=500))
    gb.later(days=8)
    assert gb.layers() == [("typical_week", True)]
    gb.api.misbehave()
    assert gb.later(hours=2)
    assert gb.layers()[:2] == [("built-in", False), ("national_grid_gb", False)]
    assert gb.told[0]
    # The days between were fetched, too.
    missed = gb.clock.now() - timedelta(days=5)
    reading = gb.forecaster.read("GB", Window(missed, missed + HOUR))
    assert reading is not None
    assert reading.provenance.quality is Quality.ESTIMATED


def test_restart_during_a_fault_keeps_the_last_good_data(gb: Britain, tmp_path: Path) -> None:
    gb.later(hours=1)
    before = gb.matrix()
    again = Britain(tmp_path, gb.api, now=gb.clock.now())
    with closing(again.archive):
        gb.api.misbehave(always=reset)
        # The same plans from the first moment, before anything is fetched.
        assert again.matrix().mg_per_kwh.tolist() == before.mg_per_kwh.tolist()
        assert again.matrix().layers == before.layers
        again.later(minutes=40)
        assert again.layers()[:2] == [("built-in", False), ("national_grid_gb", False)]


def test_without_the_built_in_the_last_good_data_serve_as_they_were(
    tmp_path: Path, server: FakeNationalGridGB
) -> None:
    site = Britain(tmp_path, server, built_in=False)
    with closing(site.archive):
        site.refresh()
        server.misbehave(always=reset)
        site.later(hours=5)
        matrix = site.matrix(hours=10)
        starts = [matrix.grid.origin_at + hour * HOUR for hour in range(10)]
        # Mean of two half-hours, which are one apart.
        assert (matrix.mg_per_kwh[0] / 1000).tolist() == [
            server.forecast_g(at) + 0.5 for at in starts
        ]
        assert site.layers() == [("national_grid_gb", False), ("typical_week", True)]
        site.later(hours=2)
        assert site.layers() == [("typical_week", True)]


def test_archive_that_cannot_be_used_leaves_the_service_planning(
    tmp_path: Path, server: FakeNationalGridGB
) -> None:
    (tmp_path / "intensity.db").write_bytes(b"not a database" * 100)
    site = Britain(tmp_path, server)
    with closing(site.archive):
        site.refresh(times=3)
        assert site.layers()[:2] == [("built-in", False), ("national_grid_gb", False)]
        is_ok, detail = site.doctor()["intensity archive"]
        assert not is_ok
        assert "no SQLite database; it was left as it is" in detail


def test_doctor_says_until_when_another_process_fetches(
    tmp_path: Path, server: FakeNationalGridGB
) -> None:
    site, now_s = Britain(tmp_path, server), int(NOW.timestamp())
    key = SeriesKey("national_grid_gb", "", SignalKind.AVERAGE, Scope.DIRECT)
    subject = "intensity GB national_grid_gb"
    with closing(site.archive), closing(open_archive(tmp_path / "intensity.db")) as other:
        assert site.doctor()[subject][1] == "not fetched yet"
        assert other.claim(key, now_s=now_s, until_s=now_s + 120) is not None
        until = format_instant(NOW + timedelta(seconds=120))
        assert site.doctor()[subject][1] == f"being fetched by another process until {until}"


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"not a database" * 100, (False, "no SQLite database")), (None, None)],
    ids=["garbage", "none"],
)
def test_doctor_without_a_service_looks_at_the_archive_and_makes_none(
    tmp_path: Path, content: bytes | None, says: tuple[bool, str] | None
) -> None:
    config = tmp_path / "gridtide.yaml"
    config.write_text(
        "clusters: [{id: a, region: r, zone: DE, capacity: {H100: 8}}]\nstore: {path: gridtide.db}\n"
    )
    archive = tmp_path / "intensity.db"
    if content is not None:
        archive.write_bytes(content)
    found = [one for one in doctor(config) if one.subject == "intensity archive"]
    assert [one.is_ok for one in found] == ([] if says is None else [says[0]])
    assert says is None or says[1] in found[0].detail
    assert archive.exists() == (content is not None)


# ------------------------------------------------- days of 23 and 25 hours, and the turn of the year


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        # Known to the end of the next day in Berlin: that of 29 March is 22:00 UTC, 32 h away.
        (datetime(2026, 3, 28, 14, tzinfo=UTC), 32),
        # That of 25 October is 23:00 UTC.
        (datetime(2026, 10, 24, 14, tzinfo=UTC), 33),
        (datetime(2025, 12, 31, 14, tzinfo=UTC), 33),
    ],
    ids=["23 hours", "25 hours", "new year"],
)
def test_days_of_any_length_are_covered_without_a_hole(
    tmp_path: Path, now: datetime, hours: int
) -> None:
    clock = ManualClock(now)
    with FakeEnergyCharts(now) as api:
        sources = [{"kind": "energy_charts", "url": api.url}, {"kind": "typical_week"}]
        site = Site(tmp_path, clock, "DE", sources=sources, built_in=False)
        with closing(site.archive):
            site.refresh()
            matrix = site.matrix()
            assert matrix.layer[0].tolist() == [0] * hours + [1] * (48 - hours)
            starts = [now + hour * HOUR for hour in range(hours)]
            # Four quarters, one apart each.
            assert (matrix.mg_per_kwh[0, :hours] / 1000).tolist() == [
                api.forecast_g(at) + 1.5 for at in starts
            ]
            clock.at = now + 2 * timedelta(days=1)
            api.now = clock.now()
            site.forecaster.refresh(since=now, horizon=HORIZON)
            day = Window(now, now + 40 * HOUR)
            reading = site.forecaster.read("DE", day)
            assert reading is not None
            assert reading.provenance.quality is Quality.ESTIMATED
            quarters = now.timestamp() + np.arange(160) * 900
            truth = [api.reported_g(datetime.fromtimestamp(at_s, UTC)) for at_s in quarters]
            assert reading.integral_mg_s == pytest.approx(sum(truth) * 1000 * 900)


def test_built_in_goes_over_the_turn_of_the_year_and_the_change_of_clocks(tmp_path: Path) -> None:
    for name, now in (
        ("a", datetime(2025, 12, 31, 20, tzinfo=UTC)),
        ("b", datetime(2026, 3, 28, 22, tzinfo=UTC)),
    ):
        clock = ManualClock(now)
        with FakeEnergyCharts(now) as api:
            sources = [{"kind": "energy_charts", "url": api.url}, {"kind": "typical_week"}]
            site = Site(tmp_path / name, clock, "DE", sources=sources)
            with closing(site.archive):
                site.refresh(times=3)
                assert site.rests_on.source.startswith("built-in (level+published")
                assert (site.matrix().layer == 0).all()
