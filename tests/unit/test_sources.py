"""Sources from settings: each kind is built, credentials come from outside and never show."""

import io
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.http_client import Limits
from scheduler.core.errors import GridtideError, InvalidConfigError, InvalidInputError
from scheduler.core.forecast import Scope, SignalKind
from scheduler.core.timegrid import Window
from scheduler.ports import ForecastSource
from scheduler.server.source_settings import TOKEN_ENV, Kind, SourceSettings, WeatherSettings
from scheduler.server.sources import SourceBuilder, build_weather, credential
from tests.fakes.clock import ManualClock
from tests.fakes.loopback_http import LoopbackServer, json_reply

SECRET = "s3cr3t-that-nobody-may-see"
NOW = datetime(2026, 1, 20, 14, tzinfo=UTC)
NAMES = {"DE": "germany"}


def builder(**fields: object) -> SourceBuilder:
    return SourceBuilder(
        kind=(SignalKind.AVERAGE, Scope.LIFECYCLE),
        zone_ids=frozenset({"DE"}),
        clock=ManualClock(NOW),
        **fields,  # type: ignore[arg-type]
    )


def settings(kind: str, tmp_path: Path, **fields: object) -> SourceSettings:
    """The least that this kind needs."""
    needs: dict[str, object] = {}
    if kind == "trace":
        needs["path"] = tmp_path / "trace.csv"
        (tmp_path / "trace.csv").write_text("zone,time,g_per_kwh\nDE,2026-01-20T00:00:00Z,300\n")
    if kind == "carbon_aware_sdk":
        needs["url"] = "https://carbon.example.org"
    if kind in {"carbon_aware_sdk", "watttime"}:
        needs["names"] = NAMES
    return SourceSettings(kind=kind, **(needs | fields))  # type: ignore[arg-type]


def secret(kind: str) -> str:
    return f"user:{SECRET}" if kind == "watttime" else SECRET


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOKEN_ENV.values():
        monkeypatch.delenv(name, raising=False)


# -------------------------------------------------------------------------------- every kind

NAME_OF: dict[str, str] = {"trace": "trace:trace.csv"}


@pytest.mark.parametrize("kind", Kind.__args__)  # type: ignore[attr-defined]
def test_every_kind_is_built_and_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind in TOKEN_ENV:
        monkeypatch.setenv(TOKEN_ENV[kind], secret(kind))
    source = builder().build(settings(kind, tmp_path))
    assert source.info.name.startswith(NAME_OF.get(kind, kind))
    assert source.info.zone_ids


def test_what_two_zones_ask_of_one_source_goes_through_one_adapter() -> None:
    made = builder()
    first = made.build(SourceSettings(kind="energinet"))
    assert made.build(SourceSettings(kind="energinet")) is first
    mirror = SourceSettings(kind="energinet", url="https://mirror.example.org")
    assert made.build(mirror) is not first


def test_limits_and_waits_can_be_given() -> None:
    waits: list[float] = []
    made = builder(limits=Limits(attempts=2), wait=waits.append)
    with LoopbackServer(json_reply({}, status=429, headers={"Retry-After": "3"})) as api:
        source = made.build(SourceSettings(kind="energy_charts", url=api.url))
        assert isinstance(source, ForecastSource)
        with pytest.raises(GridtideError, match="answered 429 \\(2 tries\\)"):
            source.fetch_forecast("DE", Scope.LIFECYCLE, Window(NOW, NOW))
    assert waits == [3.0]


# ------------------------------------------------------------------------------- credentials


@pytest.mark.parametrize("kind", sorted(TOKEN_ENV))
def test_missing_credential_names_the_variable(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        builder().build(settings(kind, tmp_path))
    assert f"{kind} needs a credential: the variable {TOKEN_ENV[kind]} is empty" in str(
        caught.value
    )
    with pytest.raises(InvalidConfigError, match="the variable MY_KEY is empty"):
        builder().build(settings(kind, tmp_path, token_env="MY_KEY"))


@pytest.mark.parametrize("kind", sorted(TOKEN_ENV))
def test_credential_comes_from_a_file(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{secret(kind)}\n")
    assert builder().build(settings(kind, tmp_path, token_file=file)).info.zone_ids
    assert credential(kind, None, file) == secret(kind)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty or no plain text"),
        (b"two\nlines", "is empty or no plain text"),
        ("schlüssel".encode(), "is empty or no plain text"),
        (b"\xff\xfe", "cannot be read: it is not UTF-8 text"),
        (None, "cannot be read: No such file or directory; it must be a file with"),
    ],
)
def test_file_that_holds_no_credential_is_named_and_not_repeated(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidConfigError) as caught:
        credential("eia", None, file)
    assert says in caught.value.message
    assert str(file) in caught.value.message
    assert "two" not in caught.value.message


@pytest.mark.parametrize("given", [SECRET, f"{SECRET}:", f":{SECRET}"])
def test_login_of_watttime_is_user_and_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("WATTTIME_LOGIN", given)
    with pytest.raises(InvalidConfigError, match="must be user:password") as caught:
        builder().build(settings("watttime", tmp_path))
    assert SECRET not in repr((caught.value, caught.value.fields))


@pytest.mark.parametrize("kind", sorted(TOKEN_ENV))
def test_secret_shows_nowhere(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_ENV[kind], secret(kind))
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        # A server that repeats what it was sent.
        with LoopbackServer(_repeat) as api:
            made = settings(kind, tmp_path, url=api.url)
            source = builder(limits=Limits(attempts=1)).build(made)
            shown = [repr(made), made.model_dump_json(), repr(source), repr(vars(source))]
            for zone_id in sorted(source.info.zone_ids)[:1]:
                scope = next(iter(source.info.scopes[zone_id]))
                for fetch in ("fetch_forecast", "fetch_actuals"):
                    if not hasattr(source, fetch):
                        continue
                    with pytest.raises(GridtideError) as caught:
                        getattr(source, fetch)(zone_id, scope, Window(NOW, NOW))
                    shown += [repr(caught.value), str(caught.value), repr(caught.value.fields)]
            # It was sent, or what stands for it.
            assert api.asked
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(before)
    shown.append(log.getvalue())
    assert [text for text in shown if SECRET in text] == []


def _repeat(to: object) -> None:
    path, headers = to.path, dict(to.headers.items())  # type: ignore[attr-defined]
    json_reply({"error": f"{path} {headers}"}, status=401)(to)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", [f"https://user:{SECRET}@example.org", f"https://example.org/?key={SECRET}"]
)
def test_url_that_holds_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        builder().build(SourceSettings(kind="energy_charts", url=url))
    assert SECRET not in repr((caught.value.message, caught.value.fields))


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        ("entsoe", {}, "(entsoe): entsoe needs a credential: the variable ENTSOE_TOKEN is empty"),
        ("eia", {"token_file": "none"}, "(eia): eia: token_file none cannot be read: No such"),
        (
            "energy_charts",
            {"url": "ftp://example.org"},
            "(energy_charts): url: 'ftp://example.org' must be http or https and a host, such as",
        ),
        ("trace", {"path": "none.csv"}, "(trace): none.csv: "),
    ],
)
def test_error_says_first_where_the_source_stands(
    tmp_path: Path, kind: str, fields: dict[str, object], says: str
) -> None:
    place = "gridtide.yaml: intensity.zones.DE.0"
    with pytest.raises(InvalidInputError) as caught:
        builder().build(settings(kind, tmp_path, **fields), place)
    assert caught.value.message.startswith(f"{place} {says}")
    assert caught.value.fields["place"] == place


def test_bad_login_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTTIME_LOGIN", SECRET)
    with pytest.raises(InvalidConfigError) as caught:
        builder().build(settings("watttime", tmp_path), "intensity.sources.1")
    assert caught.value.message == (
        "intensity.sources.1 (watttime): watttime: the credential must be user:password, "
        "and that of the variable WATTTIME_LOGIN is not"
    )


def test_error_of_the_weather_says_first_where_it_stands() -> None:
    wrong = WeatherSettings(kind="open_meteo", url="example.org")
    with pytest.raises(InvalidConfigError) as caught:
        build_weather(wrong, ["DE"], ManualClock(NOW))
    assert caught.value.message.startswith(
        "intensity.weather (open_meteo): url: 'example.org' must be http or https"
    )


def test_secret_goes_over_https_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIA_API_KEY", SECRET)
    with pytest.raises(InvalidConfigError, match="must be https"):
        builder().build(settings("eia", tmp_path, url="http://example.org"))


# --------------------------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "nuclear"}, "Input should be 'typical_week'"),
        ({"kind": "trace"}, "a trace needs a path"),
        ({"kind": "eia", "path": "a.csv"}, "only a trace takes one"),
        ({"kind": "typical_week", "url": "https://a.example"}, "typical_week takes no url"),
        ({"kind": "trace", "path": "a.csv", "url": "https://a.example"}, "trace takes no url"),
        ({"kind": "carbon_aware_sdk", "names": NAMES}, "needs the url"),
        ({"kind": "carbon_aware_sdk", "url": "https://a.example"}, "need names, such as"),
        ({"kind": "watttime"}, "need names, such as"),
        ({"kind": "eia", "names": NAMES}, "only they take them"),
        ({"kind": "energinet", "token_env": "A"}, "energinet takes no token"),
        ({"kind": "energinet", "token_file": "a"}, "energinet takes no token"),
        ({"kind": "eia", "token_env": "A", "token_file": "a"}, "give one of them"),
        ({"kind": "eia", "version": "v4"}, "only electricity_maps takes a version"),
        ({"kind": "electricity_maps", "version": "v5"}, "Input should be 'v3' or 'v4'"),
        ({"kind": "eia", "token": SECRET}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    fields: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        SourceSettings(**fields)  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "other"}, "Input should be 'open_meteo'"),
        ({"kind": "open_meteo", "places": {"DE": [[91, 0]]}}, "is not a latitude"),
        ({"kind": "open_meteo", "places": {"DE": [[0, -181]]}}, "is not a latitude"),
        ({"kind": "open_meteo", "places": {"DE": [["nan", 0]]}}, "is not a latitude"),
        ({"kind": "open_meteo", "places": {"DE": []}}, "places.DE: give at least one"),
        (
            {"kind": "open_meteo", "places": {"DE": [53.6, 10.0]}},
            "DE: [53.6, 10.0] is not a list of [latitude, longitude]; write DE: [[53.6, 10.0]]",
        ),
        ({"kind": "open_meteo", "places": {"DE": 53.6}}, "write DE: [[53.6, 10.0]]"),
        ({"kind": "open_meteo", "places": [53.6, 10.0]}, "valid dictionary"),
        ({"kind": "open_meteo", "token_env": "A", "token_file": "a"}, "give one of them"),
    ],
)
def test_weather_settings_that_cannot_be_are_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WeatherSettings(**fields)  # type: ignore[arg-type]
    assert says in str(caught.value)


# ----------------------------------------------------------------------------------- weather


def test_weather_of_zones_comes_from_one_source() -> None:
    one = WeatherSettings(kind="open_meteo", places={"site": [(52.5, 13.4)]})
    built = build_weather(one, ["DE", "site"], ManualClock(NOW))
    assert set(built) == {"DE", "site"}
    assert built["DE"] is built["site"]
    assert built["DE"].info.zone_ids == {"DE", "site"}
    assert build_weather(None, ["DE"], ManualClock(NOW)) == {}


def test_zone_that_lies_nobody_knows_where_needs_places() -> None:
    with pytest.raises(InvalidConfigError, match="where zone 'site' lies is not known") as caught:
        build_weather(WeatherSettings(kind="open_meteo"), ["site"], ManualClock(NOW))
    assert caught.value.fields["valid"] == "{site: [[52.5, 13.4]]}"


def test_key_of_the_weather_comes_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    one = WeatherSettings(kind="open_meteo", token_env="WEATHER_KEY")
    with pytest.raises(InvalidConfigError, match="the variable WEATHER_KEY is empty"):
        build_weather(one, ["DE"], ManualClock(NOW))
    monkeypatch.setenv("WEATHER_KEY", SECRET)
    built = build_weather(one, ["DE"], ManualClock(NOW))
    assert SECRET not in repr((one, built, vars(built["DE"])))
