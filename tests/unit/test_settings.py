"""Settings: what is refused, and how the message helps."""

from pathlib import Path

import pytest

from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.errors import InvalidConfigError, InvalidInputError
from scheduler.server.settings import is_loopback, load_settings
from scheduler.server.wiring import build_clock, build_fleet, build_forecaster, load_hardware

MINIMAL = "clusters:\n  - {id: a, region: home, zone: DE, capacity: {CPU: 2}}\n"


def _cluster(more: str) -> str:
    return MINIMAL.replace("{CPU: 2}}", f"{{CPU: 2}}, {more}}}")


def _load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gridtide.yaml"
    path.write_text(text, encoding="utf-8")
    settings = load_settings(path)
    hardware = load_hardware()
    fleet = build_fleet(settings, hardware)
    build_forecaster(settings, fleet, build_clock(settings), SqliteIntensityArchive(None))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clusters: [", ":1:12: not valid YAML"),
        ("- a", "a mapping"),
        ("server: {}", "clusters: Field required"),
        (MINIMAL + "planning: {slot: [.nan]}", "planning.slot.0: nan is not a finite number"),
        (MINIMAL + "sever: {}", "did you mean server"),
        (MINIMAL + "server: {prot: 1}", "server.prot: unknown field; did you mean port"),
        (MINIMAL + "server: {host: 0.0.0.0}", "token_hashes"),
        (MINIMAL + "server: {token_hashes: [secret]}", "never the token itself"),
        (MINIMAL + "planning: {slot: 7m}", "divide a day"),
        (MINIMAL + "planning: {slot: 900}", "no unit"),
        (MINIMAL + "intensity: {sources: [{kind: trace}]}", "needs a path"),
        (MINIMAL.replace("DE", "DEE"), "did you mean DE"),
        (MINIMAL.replace("DE", "GB"), "set intensity.scope"),
        (MINIMAL.replace("CPU", "CPUX"), "did you mean CPU"),
        (MINIMAL.replace("CPU: 2", "CPU: -2"), "negative"),
        ("clusters: []", "clusters"),
        (_cluster("pue: [1.2, 1.3]"), "clusters.0.pue: 2 values; give one number, or 24"),
        (_cluster(f"pue: {[0.9] * 24}"), "clusters.0.pue: 0.9 is not a PUE"),
        (_cluster("pue: cold"), "clusters.0.pue: 'cold' is not a PUE"),
        (_cluster("price_per_gpu_hour: -1"), "clusters.0.price_per_gpu_hour"),
        (_cluster("queue_wait: 5"), "clusters.0.queue_wait: 5 has no unit"),
        (MINIMAL + "data_moves: {gb_per_s: 0}", "data_moves.gb_per_s"),
        (MINIMAL + "data_moves: {kwh_per_g: 1}", "did you mean kwh_per_gb"),
    ],
)
def test_wrong_settings_are_refused_with_file_key_and_valid_form(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        _load_or_wrap(tmp_path, text)
    assert says in caught.value.message


def _load_or_wrap(tmp_path: Path, text: str) -> None:
    try:
        _load(tmp_path, text)
    except InvalidConfigError:
        raise
    except InvalidInputError as error:
        raise InvalidConfigError(error.message, **error.fields) from error


def test_missing_file_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"gridtide\.example\.yaml"):
        load_settings(tmp_path / "none.yaml")


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gridtide.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    settings = load_settings(path)
    assert settings.store.path == tmp_path / "gridtide-data/gridtide.db"
    assert settings.clusters[0].root == tmp_path / "gridtide-data/a"
    assert settings.clusters[0].checkpoints == tmp_path / "gridtide-data/checkpoints"


def test_variables_override_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gridtide.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    monkeypatch.setenv("GRIDTIDE_SERVER__PORT", "9001")
    assert load_settings(path).server.port == 9001


def test_price_wait_and_hourly_pue_reach_the_fleet(tmp_path: Path) -> None:
    path = tmp_path / "gridtide.yaml"
    more = f"pue: {[1.1] * 12 + [1.3] * 12}, price_per_gpu_hour: 2.5, queue_wait: 20m"
    path.write_text(_cluster(more), encoding="utf-8")
    (made,) = build_fleet(load_settings(path), load_hardware())
    assert made.pue == pytest.approx(1.2)
    assert made.pue_by_hour == (1.1,) * 12 + (1.3,) * 12
    assert (made.price_per_gpu_hour, made.queue_wait_s) == (2.5, 1200)


def test_variable_overrides_what_moving_data_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gridtide.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    monkeypatch.setenv("GRIDTIDE_DATA_MOVES__KWH_PER_GB", "0.06")
    assert load_settings(path).data_moves.kwh_per_gb == 0.06


def test_shipped_example_is_valid() -> None:
    settings = load_settings(Path("configs/gridtide.example.yaml"))
    assert settings.planning.slot == 900


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example.org", False),
    ],
)
def test_loopback_is_recognised(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local
