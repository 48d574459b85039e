"""`gridtide forecast`: from files as of the past, from the service, ingest and scores."""

import csv
import gzip
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.forecast import Quality, Scope, SignalKind
from scheduler.core.forecasting.vintages import Vintage
from scheduler.core.timegrid import format_instant
from scheduler.ports import SeriesKey
from scheduler.server.wiring import Service
from tests.fakes.energy_charts import FakeEnergyCharts
from tests.fakes.loopback_http import json_reply, refused_url
from tests.integration.api_world import api, write_settings
from tests.integration.cli_world import Ran, Run
from tests.unit.core.builders import series

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = 50
ISSUED = BEGIN + 45 * DAY
FEED = Path(__file__).parents[3] / "shared" / "data" / "feed" / "emaps_live_feed_2021_2022.csv.gz"
NO_SERVICE = "http://127.0.0.1:9"


def grams(zone: str, hour: int) -> float:
    """A day and a slower swing; France at a tenth of Germany."""
    level = 300 + 80 * math.sin(2 * math.pi * hour / 24) + 10 * math.sin(2 * math.pi * hour / 301)
    return round(level / (10 if zone == "FR" else 1), 3)


def hour_rows(*zones: str, step_min: int = 60, offset_min: int = 0) -> list[tuple[str, str, float]]:
    steps = DAYS * 24 * 60 // step_min
    at = [BEGIN + timedelta(minutes=offset_min + step_min * step) for step in range(steps)]
    return [
        (zone, format_instant(one), grams(zone, int((one - BEGIN) / HOUR)))
        for zone in zones
        for one in at
    ]


def write_csv(path: Path, head: str, rows: list[tuple[Any, ...]]) -> Path:
    lines = [head, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_history(folder: Path, rows: list[tuple[str, str, float]], name: str = "past.csv") -> str:
    return str(write_csv(folder / name, "zone,time,g_per_kwh", rows))


@pytest.fixture
def history(tmp_path: Path) -> str:
    return write_history(tmp_path, hour_rows("DE", "FR"))


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRIDTIDE_URL", NO_SERVICE)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "100")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def rows_of(ran: Ran) -> list[dict[str, str]]:
    assert ran.code == 0, ran.err
    return list(csv.DictReader(ran.out.splitlines()))


def issue(run: Run, history: str, *words: str, at: datetime = ISSUED) -> Ran:
    return run("forecast", "--history", history, "--issued-at", format_instant(at), *words)


# ----------------------------------------------------------------------------- from files


def test_csv_has_a_row_an_hour_with_quantiles_in_order(run: Run, history: str) -> None:
    ran = issue(run, history, "--zone", "DE", "--horizon", "96h", "--format", "csv")
    assert ran.out.startswith("zone,issued_at,time,g_per_kwh,p10,p50,p90\n")
    assert ran.err == ""
    rows = rows_of(ran)
    assert [row["time"] for row in rows] == [format_instant(ISSUED + HOUR * n) for n in range(96)]
    assert {(row["zone"], row["issued_at"]) for row in rows} == {("DE", format_instant(ISSUED))}
    first = int((ISSUED - BEGIN) / HOUR)
    for hour, row in enumerate(rows):
        assert float(row["p10"]) <= float(row["p50"]) <= float(row["p90"])
        assert float(row["p50"]) == float(row["g_per_kwh"])
        assert float(row["g_per_kwh"]) == pytest.approx(grams("DE", first + hour), rel=0.15)


def test_quantiles_are_those_asked_for_in_order(run: Run, history: str) -> None:
    words = ("--zone", "DE", "--horizon", "90m", "--quantiles", "0.75, 0.05,0.025,0.05")
    ran = issue(run, history, *words, "--format", "csv")
    assert ran.out.splitlines()[0] == "zone,issued_at,time,g_per_kwh,p2.5,p05,p75"
    assert len(rows_of(ran)) == 2


def test_nothing_later_than_its_time_is_used(run: Run, tmp_path: Path) -> None:
    """Rows that end later, and runs that were issued later, could as well not exist."""
    at = ISSUED + timedelta(minutes=40)
    rows = hour_rows("DE", step_min=30, offset_min=15)
    known = [row for row in rows if datetime.fromisoformat(row[1]) + HOUR / 2 <= at]
    changed = [*known, *((zone, time, 1500.0) for zone, time, _ in rows[len(known) :])]
    published = published_rows(range(20, 46), minutes=10) + published_rows(range(45, 50), 45)
    weather = weather_rows()
    said = []
    for name, part in (("all", rows), ("known", known), ("changed", changed)):
        past = write_history(tmp_path, part, f"{name}.csv")
        is_all = name == "all"
        fore = write_csv(
            tmp_path / f"fore-{name}.csv",
            "zone,issued_at,time,g_per_kwh",
            [one for one in published if is_all or datetime.fromisoformat(one[1]) <= at],
        )
        sky = write_csv(
            tmp_path / f"sky-{name}.csv",
            WEATHER,
            [one for one in weather if is_all or datetime.fromisoformat(one[1]) <= at],
        )
        files = ("--published", str(fore), "--weather", str(sky))
        said.append(issue(run, past, "--zone", "DE", "--format", "csv", *files, at=at).out)
    assert said[0] == said[1] == said[2]
    assert said[0].splitlines()[1].split(",")[2] == format_instant(ISSUED + HOUR)
    used = issue(run, str(tmp_path / "all.csv"), "--format", "json", *files, at=at).json()
    assert used["sources"][0]["source"] == "built-in (ridge+weather+published)"


WEATHER = (
    "zone,issued_at,time,wind_speed_ms,irradiance_wm2,temperature_c,dewpoint_c,precipitation_mm"
)


def published_rows(days: range, minutes: int) -> list[tuple[Any, ...]]:
    """Forecasts that are right but for their level, issued so many minutes past midnight."""
    return [
        (
            "DE",
            format_instant(BEGIN + DAY * day + timedelta(minutes=minutes)),
            format_instant(BEGIN + DAY * day + HOUR * hour),
            1.2 * grams("DE", 24 * day + hour),
        )
        for day in days
        for hour in range(72)
    ]


def weather_rows() -> list[tuple[Any, ...]]:
    """Runs every six hours, known ten minutes later; and a wild one at ten to one of the last day."""
    issues = [BEGIN + 6 * HOUR * run + timedelta(minutes=10) for run in range(DAYS * 4)]
    wild = ISSUED + timedelta(minutes=50)
    return [
        (
            "DE",
            format_instant(issued),
            format_instant(issued.replace(minute=0) + HOUR * hour),
            *(5 + math.sin(number + hour) + 40 * (issued == wild), 0, 10, 8, 0),
        )
        for number, issued in enumerate([*issues, wild])
        for hour in range(0, 97, 3)
    ]


def test_a_published_forecast_that_was_issued_by_then_is_blended_in(
    run: Run, history: str, tmp_path: Path
) -> None:
    path = write_csv(
        tmp_path / "fore.csv", "zone,issued_at,time,g_per_kwh", published_rows(range(20, 46), 0)
    )
    zones = ("--zone", "DE", "--zone", "FR")
    ran = issue(run, history, *zones, "--published", str(path), "--format", "json")
    document = ran.json()
    assert document["schema"] == "gridtide/forecasts/v1"
    methods = [one["sources"][0]["source"] for one in document["forecasts"]]
    assert methods == ["built-in (ridge+published)", "built-in (ridge)"]
    assert f"{path}: no rows of zone FR" in ran.err


def test_a_batch_has_both_ends_and_is_what_single_forecasts_are(run: Run, history: str) -> None:
    span = ("--issued-from", "2025-02-14T00:00:00Z", "--issued-to", "2025-02-16T00:00:00Z")
    words = ("--zone", "DE", "--zone", "FR", "--horizon", "24h", "--format", "csv")
    rows = rows_of(run("forecast", "--history", history, *span, *words))
    issues = [format_instant(datetime(2025, 2, day, tzinfo=UTC)) for day in (14, 15, 16)]
    assert list(dict.fromkeys((row["zone"], row["issued_at"]) for row in rows)) == [
        (zone, one) for zone in ("DE", "FR") for one in issues
    ]
    assert len(rows) == 2 * 3 * 24
    single = issue(run, history, *words, at=datetime.fromisoformat(issues[0]))
    assert [row for row in rows if row["issued_at"] == issues[0]] == rows_of(single)
    twice_a_day = run("forecast", "--history", history, *span, *words, "--every", "13h")
    assert len({row["issued_at"] for row in rows_of(twice_a_day)}) == 4


def test_the_same_from_parquet_with_extra_columns(run: Run, history: str, tmp_path: Path) -> None:
    zones, times, values = zip(*hour_rows("DE", "FR"), strict=True)
    path = tmp_path / "past.parquet"
    columns = {
        "zone": pa.array(zones).dictionary_encode(),
        "time": pa.array(
            [datetime.fromisoformat(one) for one in times], pa.timestamp("ms", tz="UTC")
        ),
        "g_per_kwh": values,
        "g_direct": [None] * len(values),
        "kind": pa.array(["average"] * len(values)).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), path)
    words = ("--zone", "FR", "--format", "csv")
    assert issue(run, str(path), *words).out == issue(run, history, *words).out


def test_only_zone_of_a_file_need_not_be_named_and_may_go_by_any_name(
    run: Run, tmp_path: Path
) -> None:
    past = write_history(tmp_path, hour_rows("FR"))
    unnamed = issue(run, past, "--format", "csv")
    assert {row["zone"] for row in rows_of(unnamed)} == {"FR"}
    assert issue(run, past, "eu-west-3", "--format", "csv").out == unnamed.out


def test_json_is_the_document_of_the_service(run: Run, history: str) -> None:
    document = issue(run, history, "--zone", "DE", "--horizon", "3h", "--format", "json").json()
    assert document["schema"] == "gridtide/forecast/v1"
    assert (document["zone"], document["step"]) == ("DE", "1h")
    assert document["issued_at"] == format_instant(ISSUED)
    first, *_ = document["points"]
    assert set(first) == {
        *("time", "g_per_kwh", "p10", "p50", "p90", "source", "issued_at", "quality", "is_fallback")
    }
    assert first["is_fallback"] is False


def test_table_is_a_chart_and_many_are_a_line_each(run: Run, history: str) -> None:
    chart = issue(run, history, "--zone", "DE").out
    assert chart.startswith("DE  g/kWh; mean ")
    assert "left of ┊ measured" in chart
    assert "built-in (ridge), issued Sat 15 Feb 2025 00:00" in chart
    assert max(map(len, chart.splitlines())) <= 100
    span = ("--issued-from", "2025-02-10T00:00:00Z", "--issued-to", "2025-02-15T00:00:00Z")
    lines = run("forecast", "--history", history, "--zone", "DE", *span).out.splitlines()
    assert len(lines) == 1 + 6
    assert lines[0].split()[:2] == ["zone", "issued"]
    assert float(lines[1].split()[-1]) < 10  # per cent of error: the truth is in the file


def test_html_is_a_page_with_the_past_week_and_what_came(
    run: Run, history: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ran = issue(run, history, "--zone", "DE", "--html", str(page), "--format", "csv")
    assert f"wrote {page}" in ran.err
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    for kind in ("band", "past", "came", "ahead"):
        assert f'<path class="{kind}"' in text
    assert "Sat 08 Feb" in text
    nowhere = issue(run, history, "--zone", "DE", "--html", str(tmp_path / "none" / "x.html"))
    assert (nowhere.code, nowhere.out) == (2, "")


def test_a_feed_counts_only_as_it_was_seen_by_then(run: Run, tmp_path: Path) -> None:
    rows = [
        (zone, format_instant(datetime.fromisoformat(at) + 2 * HOUR), at, value)
        for zone, at, value in hour_rows("DE")
    ]
    later = [(zone, "2025-02-20T00:00:00Z", at, 2 * value) for zone, _, at, value in rows[:1000]]
    head = "zone,fetched_at,time,g_per_kwh"
    one = write_csv(tmp_path / "one.csv", head, rows)
    two = write_csv(tmp_path / "two.csv", head, rows + later)
    words = ("--zone", "DE", "--format", "csv")
    assert issue(run, str(one), *words).out == issue(run, str(two), *words).out
    late = datetime(2025, 2, 20, 1, tzinfo=UTC)
    assert issue(run, str(one), *words, at=late).out != issue(run, str(two), *words, at=late).out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--zone", "DEE"), 2, "no rows of zone 'DEE'; did you mean DE?"),
        ((), 2, "zone: name one or more with --zone; {past} has DE, FR"),
        (
            ("--zone", "DE", "--issued-at", "2025-02-15T00:00:00"),
            2,
            "issued_at: '2025-02-15T00:00:00'",
        ),
        (("--zone", "DE", "--issued-at", "soon"), 2, "issued_at: 'soon' is not an ISO 8601 time"),
        (("--zone", "DE", "--issued-at", "2024-12-31T00:00:00Z"), 3, "from 2025-01-01T00:00:00Z"),
        (("--zone", "DE", "--issued-at", "2025-01-01T20:00:00Z"), 3, "a day of history or more"),
        (("--zone", "DE", "--issued-at", "2025-02-27T01:00:00Z"), 3, "to 2025-02-20T00:00:00Z"),
        (("--zone", "DE", "--quantiles", "0,0.5"), 2, "quantiles: '0' is not a number between"),
        (("--zone", "DE", "--quantiles", "half"), 2, "quantiles: 'half'"),
        (("--zone", "DE", "--quantiles", "nan"), 2, "quantiles: 'nan'"),
        (("--zone", "DE", "--horizon", "15d"), 2, "horizon: '15d' is more than 14d"),
        (("--zone", "DE", "--horizon", "400d"), 2, "longer than 0 s and at most 14d"),
        (("--zone", "DE", "--issued-at", "10 May"), 2, "issued_at: '10 May' is not an ISO 8601"),
        (("--zone", "DE", "--issued-at", "2025-02-10"), 2, "issued_at: '2025-02-10' is not an"),
        (
            ("--zone", "DE", "--issued-at", "2025-03-27T02:00:00+01:00"),
            3,
            "issued_at: 2025-03-27T02:00:00+01:00 cannot be forecast",
        ),
        (("--zone", "DE", "--horizon", "96"), 2, "horizon: '96' has no unit"),
        (("--zone", "DE", "--every", "1h"), 2, "give either --issued-at T"),
        (("--zone", "DE", "--issued-from", "2025-02-01T00:00:00Z"), 2, "give either --issued-at"),
        (("--zone", "DE", "--weather", "{past}"), 2, "column 'issued_at' is missing"),
        (("--zone", "DE", "--published", "no.csv"), 2, "no.csv: cannot be read"),
        (("--zone", "DE", "--format", "html"), 2, "'html' is not one of"),
        (("--zone", "DE", "--issued", "x"), 2, "No such option"),
    ],
)
def test_bad_words_are_one_clear_line(
    run: Run, history: str, words: tuple[str, ...], code: int, says: str
) -> None:
    given = [word.format(past=history) for word in words]
    at = () if "--issued-at" in given else ("--issued-at", format_instant(ISSUED))
    ran = run("forecast", "--history", history, *at, *given)
    assert (ran.code, ran.out) == (code, "")
    assert says.format(past=history) in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("span", "says"),
    [
        (("2025-02-10T00:00:00Z", "2025-02-09T00:00:00Z", "24h"), "comes before issued_from"),
        (("2025-01-10T00:00:00Z", "2025-02-09T00:00:00Z", "1m"), "after 43201 forecasts"),
    ],
)
def test_batches_that_cannot_be_are_refused(
    run: Run, history: str, span: tuple[str, str, str], says: str
) -> None:
    words = ("--issued-from", span[0], "--issued-to", span[1], "--every", span[2])
    ran = run("forecast", "--history", history, "--zone", "DE", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_too_many_charts_for_a_page_are_refused(run: Run, history: str, tmp_path: Path) -> None:
    span = ("--issued-from", "2025-02-10T00:00:00Z", "--issued-to", "2025-02-15T00:00:00Z")
    words = ("--every", "1h", "--html", str(tmp_path / "page.html"))
    ran = run("forecast", "--history", history, "--zone", "DE", *span, *words)
    assert ran.code == 2
    assert "html: 121 charts" in ran.err


def test_a_file_of_both_kinds_is_refused(run: Run, tmp_path: Path) -> None:
    rows = [(*row, "average") for row in hour_rows("DE")]
    rows += [(*row, "marginal") for row in hour_rows("FR")]
    path = write_csv(tmp_path / "both.csv", "zone,time,g_per_kwh,kind", rows)
    ran = issue(run, str(path), "--zone", "DE")
    assert ran.code == 2
    assert "average and marginal intensity cannot be mixed" in ran.err


def test_usage_names_only_what_people_type(run: Run) -> None:
    ran = run("forecast", "DE", "--format", "xml")
    assert ran.code == 2
    usage, hint, *_ = ran.err.splitlines()
    assert usage.endswith("gridtide forecast [OPTIONS] [ZONE]")
    assert hint.endswith("gridtide forecast --help' for help.")


def test_values_in_another_unit_or_all_zero_are_doubted(run: Run, tmp_path: Path) -> None:
    rows = [
        (zone, at, value / 1000 if zone == "DE" else 0) for zone, at, value in hour_rows("DE", "FR")
    ]
    path = write_history(tmp_path, rows)
    ran = issue(run, path, "--zone", "DE", "--zone", "FR", "--format", "csv")
    assert ran.code == 0
    assert f"{path}: zone DE: median of 0.3 g/kWh: is the unit g/kWh?" in ran.err
    assert f"{path}: zone FR: all 1,200 values are zero: is something missing?" in ran.err
    fair = write_history(tmp_path, hour_rows("DE"), "fair.csv")
    issued = format_instant(ISSUED)
    said = [("DE", issued, format_instant(ISSUED + hour * HOUR), 0.25) for hour in range(24)]
    published = write_csv(tmp_path / "said.csv", "zone,issued_at,time,g_per_kwh", said)
    ran = issue(run, fair, "--published", str(published), "--format", "csv")
    assert ran.err == f"{published}: zone DE: median of 0.25 g/kWh: is the unit g/kWh?\n"


def test_rows_without_a_value_are_counted_in_a_line(run: Run, tmp_path: Path) -> None:
    rows = [
        (zone, at, ("", "nan")[row] if row < 2 else value)
        for row, (zone, at, value) in enumerate(hour_rows("DE"))
    ]
    path = write_csv(tmp_path / "past.csv", "zone,time,g_per_kwh", rows)
    ran = issue(run, str(path), "--format", "csv")
    assert ran.err == f"{path}: 2 of 1,200 rows have no value; they count as missing time\n"


def test_table_says_which_signal_the_file_holds(run: Run, tmp_path: Path) -> None:
    rows = [(*row, "marginal") for row in hour_rows("DE")]
    path = write_csv(tmp_path / "m.csv", "zone,time,g_per_kwh,kind", rows)
    assert "signal: marginal intensity" in issue(run, str(path)).err


def test_help_names_every_form_and_nothing_heavy_is_imported_for_it(run: Run) -> None:
    for words in (("forecast", "--help"), ("forecast", "DE", "--help")):
        text = run(*words).out
        assert "[ZONE] | COMMAND" in text
        for part in ("--history", "--issued-from", "  ingest ", "  score "):
            assert part in text
    assert "--provider" in run("forecast", "ingest", "--help").out
    assert run("forecast").code == 2


# ----------------------------------------------------------------------------- from the service


def test_service_is_asked_by_any_name_of_the_zone(run: Run, service: Service) -> None:
    service.cycle.tick()
    chart = run("forecast", "DE", "--horizon", "6h")
    assert chart.out.startswith("DE  g/kWh; mean ")
    assert "typical_week (typical, not measured)" in chart.out
    for name in ("DE", "deu", "eu-central-1", "gcp:europe-west3-a", "azure/germanywestcentral"):
        document = run("forecast", name, "--horizon", "6h", "--format", "json").json()
        assert (document["schema"], document["zone"]) == ("gridtide/forecast/v1", "DE")
    point = document["points"][0]
    assert point["source"] == document["sources"][0]["source"]
    assert (point["quality"], point["is_fallback"], point["p10"]) == ("typical", False, None)
    rows = rows_of(run("forecast", "--zone", "DE", "--horizon", "6h", "--format", "csv"))
    assert len(rows) > 20
    assert {(row["zone"], row["quality"], row["p90"]) for row in rows} == {("DE", "typical", "")}


def test_page_of_the_service_has_no_past(run: Run, service: Service, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("forecast", "DE", "--html", str(page)).code == 0
    assert 'class="ahead"' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("DEE",), "zone 'DEE' has no cluster here; did you mean DE"),
        (("us-esat-1",), "did you mean us-east-1"),
        (("us-east-1",), "zone 'US-MIDA-PJM' (us-east-1) has no cluster here"),
        (("SE",), "'SE' can be SE-SE1"),
        (("DE", "--horizon", "6"), "no unit"),
        (("DE", "--horizon", "15d"), "horizon: '15d' is more than 14d"),
        (("DE", "--zone", "FR"), "zone: name one"),
        (("--horizon", "6h"), "zone: name one"),
        (("DE", "--weather", "x.csv"), "weather: needs --history FILE"),
        (("DE", "--issued-at", "2025-01-01T00:00:00Z"), "issued-at: needs --history FILE"),
        (("score", "DEE"), "did you mean DE"),
        (("score", "--history", "x.csv"), "give both --history FILE and --published FILE"),
        (("ingest",), "give either a FILE or --provider KIND"),
        (("ingest", "x.csv"), "say how the source of the file is called"),
        (("ingest", "x.csv", "--source", "built-in"), "cannot be the name of a source"),
        (("ingest", "x.csv", "--source", "eia"), "source: 'eia' is a live source, whose own"),
        (("ingest", "x.csv", "--source", "a", "--since", "1d"), "since: only with --provider"),
        (("ingest", "x.csv", "--source", "a"), "x.csv: cannot be read"),
        (("ingest", "x.csv", "--source", "a", "--signal", "mean"), "signal: 'mean' is not average"),
        (("ingest", "x.csv", "--source", "a", "--scope", "x"), "scope: 'x' is not lifecycle or"),
        (("ingest", "--provider", "energy_chart", "--zone", "DE"), "did you mean energy_charts"),
        (("ingest", "--provider", "trace", "--zone", "DE"), "'trace' is no provider"),
        (("ingest", "--provider", "energy_charts"), "zone: name one with --zone"),
        (("ingest", "--provider", "energy_charts", "--zone", "GB"), "does not serve that zone"),
        (
            ("ingest", "--provider", "energy_charts", "--zone", "DE", "--scope", "direct"),
            "it states lifecycle",
        ),
        (("ingest", "--provider", "carbon_aware_sdk", "--zone", "DE"), "needs the url"),
        (("ingest", "--provider", "entsoe", "--zone", "DE"), "ENTSOE_TOKEN"),
        (
            ("ingest", "--provider", "energy_charts", "--zone", "DE", "--since", "2099-01-01T00Z"),
            "is not in the past",
        ),
        (
            ("ingest", "--provider", "energy_charts", "--zone", "DE", "--source", "x"),
            "source: a provider states its own",
        ),
    ],
)
def test_bad_words_to_the_service_are_one_clear_line(
    run: Run, service: Service, words: tuple[str, ...], says: str
) -> None:
    ran = run("forecast", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_without_a_service_it_says_how_to_start_one(run: Run) -> None:
    ran = run("forecast", "DE")
    assert (ran.code, ran.out) == (1, "")
    assert "gridtide serve" in ran.err


# ----------------------------------------------------------------------------- ingest


def test_a_file_is_ingested_once_and_the_service_sees_it(
    run: Run, service: Service, history: str
) -> None:
    words = ("forecast", "ingest", history, "--source", "grid-operator")
    document = run(*words, "--format", "json").json()
    assert document["schema"] == "gridtide/ingest/v1"
    count = DAYS * 24
    assert [document[name] for name in ("rows", "new", "revised", "repeated")] == [
        *(2 * count, 2 * count, 0, 0)
    ]
    assert document["zones"][0] == {
        "zone": "DE",
        "rows": count,
        "new": count,
        "revised": 0,
        "repeated": 0,
        "from": "2025-01-01T00:00:00Z",
        "to": "2025-02-20T00:00:00Z",
    }
    again = run(*words)
    assert "2,400 rows of grid-operator (average, lifecycle): 0 new, 0 revised, 2,400 repe" in (
        again.err
    )
    assert again.out.splitlines()[0].split() == [
        *("zone", "rows", "new", "revised", "repeated", "from", "to")
    ]
    keys = service.archive.known_series()
    assert SeriesKey("grid-operator", "FR", SignalKind.AVERAGE, Scope.LIFECYCLE) in keys


def test_only_named_zones_with_kind_and_scope_of_the_words(
    run: Run, service: Service, history: str
) -> None:
    words = ("--source", "a", "--zone", "FR", "--signal", "marginal", "--scope", "direct")
    rows = rows_of(run("forecast", "ingest", history, *words, "--format", "csv"))
    assert [row["zone"] for row in rows] == ["FR"]
    key = SeriesKey("a", "FR", SignalKind.MARGINAL, Scope.DIRECT)
    assert service.archive.known_series() == [key]


def test_kind_of_the_file_counts_and_must_not_be_contradicted(
    run: Run, service: Service, tmp_path: Path
) -> None:
    rows = [("DE", "2025-01-01T00:00:00Z", 1, "marginal")]
    path = str(write_csv(tmp_path / "m.csv", "zone,time,g_per_kwh,kind", rows))
    words = ("forecast", "ingest", path, "--source", "a")
    refused = run(*words, "--signal", "average")
    assert (refused.code, refused.out) == (2, "")
    assert "says marginal" in refused.err
    assert run(*words, "--format", "json").json()["signal"] == "marginal"


def test_a_file_with_an_error_changes_nothing(run: Run, service: Service, tmp_path: Path) -> None:
    rows = [("DE", "2025-01-01T00:00:00Z", 1), ("FR", "2999-01-01T00:00:00Z", 1)]
    path = str(write_csv(tmp_path / "m.csv", "zone,time,g_per_kwh", rows))
    ran = run("forecast", "ingest", path, "--source", "a")
    assert (ran.code, ran.out) == (2, "")
    assert "m.csv:3: time" in ran.err
    assert service.archive.known_series() == []


def test_a_file_in_another_unit_does_not_revise_what_is_known(
    run: Run, service: Service, tmp_path: Path
) -> None:
    words = ("forecast", "ingest")
    good = write_history(tmp_path, hour_rows("DE"))
    assert run(*words, good, "--source", "a").code == 0
    in_kg = [(zone, at, value / 1000) for zone, at, value in hour_rows("FR", "DE")]
    bad = write_history(tmp_path, in_kg, "kg.csv")
    ran = run(*words, bad, "--source", "a")
    assert (ran.code, ran.out) == (2, "")
    assert "kg.csv: zone DE: the median of the hours that source a has already" in ran.err
    assert "from 300 to 0.3 g/kWh" in ran.err
    assert [key.zone_id for key in service.archive.known_series()] == ["DE"]
    other = run(*words, bad, "--source", "b")
    assert other.code == 0
    assert "kg.csv: zone DE: median of 0.3 g/kWh: is the unit g/kWh?" in other.err
    revised = write_history(
        tmp_path, [(zone, at, value / 40) for zone, at, value in hour_rows("DE")], "other.csv"
    )
    assert run(*words, revised, "--source", "a", "--format", "json").json()["revised"] == 1200


def test_polled_feed_is_ingested_with_its_revisions_in_seconds(run: Run, service: Service) -> None:
    if not FEED.exists():
        pytest.skip("needs the recorded feed in ../shared/data/feed")
    began = time.process_time()
    document = run("forecast", "ingest", str(FEED), "--source", "feed", "--format", "json").json()
    assert time.process_time() - began < 10
    with gzip.open(FEED, "rt", encoding="utf-8") as file:
        polls = sorted(csv.DictReader(file), key=lambda row: row["fetched_at"])
    last: dict[tuple[str, str], str] = {}
    counts = {"new": 0, "revised": 0, "repeated": 0}
    for row in polls:
        hour = row["zone"], row["time"]
        is_known, is_same = hour in last, last.get(hour) == row["g_per_kwh"]
        counts["new" if not is_known else "repeated" if is_same else "revised"] += 1
        last[hour] = row["g_per_kwh"]
    assert {name: document[name] for name in counts} == counts
    assert document["rows"] == len(polls) > 53_000
    again = run("forecast", "ingest", str(FEED), "--source", "feed", "--format", "json").json()
    assert again["repeated"] == len(polls)


@pytest.fixture
def provider() -> Iterator[FakeEnergyCharts]:
    with FakeEnergyCharts(datetime.now(UTC)) as fake:
        yield fake


def provider_settings(folder: Path, url: str) -> tuple[str, ...]:
    sources = [{"kind": "energy_charts", "url": url}, {"kind": "typical_week"}]
    path = write_settings(folder, intensity={"sources": sources})
    return ("forecast", "ingest", "--provider", "energy_charts", "--config", str(path))


def test_a_provider_is_asked_in_pieces_by_any_name_of_the_zone(
    run: Run, tmp_path: Path, provider: FakeEnergyCharts
) -> None:
    words = provider_settings(tmp_path, provider.url)
    ran = run(*words, "--zone", "eu-central-1", "--since", "70d", "--format", "json")
    document = ran.json()
    assert len(provider.asked) == 3
    (zone,) = document["zones"]
    assert zone["zone"] == "DE"
    assert 70 * 96 - 12 < zone["rows"] == zone["new"] <= 70 * 96
    assert document["source"] == "energy_charts"
    again = run(*words, "--zone", "DE", "--since", "70d", "--format", "json").json()
    assert again["new"] <= 1
    assert again["repeated"] >= zone["rows"] - 1
    archive = SqliteIntensityArchive(Path(document["archive"]))
    (key,) = archive.known_series()
    archive.close()
    assert key == SeriesKey("energy_charts", "DE", SignalKind.AVERAGE, Scope.LIFECYCLE)


def test_a_provider_that_fails_midway_leaves_what_came(
    run: Run, tmp_path: Path, provider: FakeEnergyCharts
) -> None:
    words = (*provider_settings(tmp_path, provider.url), "--zone", "FR", "--format", "json")
    provider.misbehave(
        lambda to: to.reply(json.dumps(provider.columns(to.path)).encode()),
        always=json_reply({"detail": "no such country"}, status=404),
    )
    ran = run(*words, "--since", "2025-09-01T00:00:00Z")
    assert ran.code == 1
    assert ran.json()["rows"] > 600
    assert ran.json()["error"]
    assert "what came before that is kept; run it again to go on" in ran.err
    nothing = run(*words, "--since", "1d")
    assert (nothing.code, nothing.out) == (1, "")


def test_a_provider_that_is_not_there_is_a_failure(run: Run, tmp_path: Path) -> None:
    words = provider_settings(tmp_path, "http://127.0.0.1:1")
    ran = run(*words, "--zone", "FR", "--since", "1h")
    assert (ran.code, ran.out) == (1, "")
    assert "/co2eq no answer" in ran.err


def test_what_was_ingested_is_what_the_service_forecasts_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [{"kind": "energy_charts", "url": refused_url()}, {"kind": "typical_week"}]
    with api(tmp_path, intensity={"sources": sources}) as (client, service):
        monkeypatch.setenv("GRIDTIDE_URL", str(client.base_url))
        monkeypatch.chdir(tmp_path)
        hour = service.clock.now().replace(minute=0, second=0, microsecond=0)
        rows = [
            ("DE", format_instant(hour - HOUR * ago), grams("DE", hour.hour - ago % 24))
            for ago in range(1, 24 * 20)
        ]
        past = write_history(tmp_path, rows)
        assert run("forecast", "ingest", past, "--source", "grid-operator").code == 0
        service.forecaster.remake(2 * DAY)
        ran = run("forecast", "DE", "--format", "json")
        points = ran.json()["points"]
        first = points[0]
        assert first["source"] == "built-in (level, history of grid-operator)"
        assert first["is_fallback"] is True
        assert first["quality"] == "forecast"
        assert datetime.fromisoformat(first["issued_at"]) <= service.clock.now()
        assert all(one["p10"] <= one["g_per_kwh"] <= one["p90"] for one in points)
        chart = run("forecast", "DE").out
        assert "░ from p10 to p90" in chart
        assert "!!!!" in chart
        assert "(! fallback)" in chart


# ----------------------------------------------------------------------------- scores


def test_scores_of_a_file_are_errors_by_day(run: Run, history: str, tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "fore.csv", "zone,issued_at,time,g_per_kwh", published_rows(range(20, 30), 0)
    )
    words = ("forecast", "score", "DE", "--history", history, "--published", str(path))
    document = run(*words, "--format", "json").json()
    assert document["schema"] == "gridtide/forecast-scores/v1"
    (score,) = document["scores"]
    assert (score["zone"], score["source"], score["forecasts"]) == ("DE", "fore.csv", 10)
    assert score["mape"][:4] == [pytest.approx(0.2, abs=1e-4)] * 3 + [None]
    assert score["bias"] == pytest.approx(0.2, abs=1e-4)
    assert (score["coverage"], score["kept"]) == (None, pytest.approx(1.0))
    (row,) = rows_of(run(*words, "--format", "csv"))
    assert float(row["mape_d1"]) == pytest.approx(0.2, abs=1e-4)
    assert row["mape_d4"] == ""
    table = run(*words)
    assert table.out.splitlines()[1].split() == [
        *("DE", "fore.csv", "10", "20.0", "20.0", "20.0", "+20.0", "-", "100.0")
    ]
    assert "saving kept" in table.err


def test_what_forecast_writes_score_reads_with_its_quantiles(
    run: Run, history: str, tmp_path: Path
) -> None:
    span = ("--issued-from", "2025-02-10T00:00:00Z", "--issued-to", "2025-02-15T00:00:00Z")
    made = run("forecast", "--history", history, "--zone", "DE", *span, "--format", "csv").out
    path = tmp_path / "made.csv"
    path.write_text(made, encoding="utf-8")
    words = ("--history", history, "--published", str(path), "--zone", "DE", "--format", "json")
    (score,) = run("forecast", "score", *words).json()["scores"]
    assert score["forecasts"] == 6
    assert 0 <= score["mape"][0] < 0.1
    assert 0 < score["coverage"] <= 1


def test_service_scores_what_it_archived(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [{"kind": "energy_charts", "url": refused_url()}, {"kind": "typical_week"}]
    with api(tmp_path, intensity={"sources": sources}) as (client, service):
        monkeypatch.setenv("GRIDTIDE_URL", str(client.base_url))
        assert run("forecast", "score").out.startswith("no forecast has come true yet")
        now_s = int(service.clock.now().timestamp()) // 3600 * 3600
        begin_s = now_s - 48 * 3600
        key = SeriesKey("energy_charts", "DE", SignalKind.AVERAGE, Scope.LIFECYCLE)
        begin = datetime.fromtimestamp(begin_s, UTC)
        truth = series([100.0] * 48, start=begin, quality=Quality.MEASURED)
        said = series([110.0] * 96, start=begin)
        service.archive.add_actuals(key, truth, seen_s=now_s)
        service.archive.add_vintage(key, Vintage(begin_s, said))
        document = client.get("/v1/forecasts/DE/score").json()
        (score,) = document["scores"]
        assert (score["source"], score["forecasts"]) == ("energy_charts", 1)
        assert score["mape"] == [pytest.approx(0.1)] * 2 + [None] * 5
        assert run("forecast", "score", "eu-central-1", "--format", "json").json() == document
        (row,) = rows_of(run("forecast", "score", "--format", "csv"))
        assert (row["zone"], float(row["bias"])) == ("DE", pytest.approx(0.1))
        assert "+10.0" in run("forecast", "score").out


def test_startup_stays_cheap() -> None:
    script = (
        "import time; import scheduler.server.cli; print(time.process_time())"
        "; import sys; print([n for n in ('numpy', 'httpx', 'rich.table') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    spent, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(spent) < 1.0
