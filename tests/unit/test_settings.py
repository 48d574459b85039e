"""Settings: what is refused, and how the message helps."""

from pathlib import Path

import pytest

from adapters.store.intensity_archive import SqliteIntensityArchive
from scheduler.core.errors import InvalidConfigError, InvalidInputError
from scheduler.server.settings import Settings, is_loopback, load_settings
from scheduler.server.wiring import (
    build_clock,
    build_fleet,
    build_forecaster,
    doctor,
    load_hardware,
)

MINIMAL = "clusters:\n  - {id: a, region: home, zone: DE, capacity: {CPU: 2}}\n"


def _cluster(more: str) -> str:
    return MINIMAL.replace("{CPU: 2}}", f"{{CPU: 2}}, {more}}}")


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gridtide.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _load(tmp_path: Path, text: str) -> Settings:
    settings = load_settings(_written(tmp_path, text))
    hardware = load_hardware()
    fleet = build_fleet(settings, hardware)
    build_forecaster(settings, fleet, build_clock(settings), SqliteIntensityArchive(None))
    return settings


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
        (MINIMAL + "server: {max_body_time: 0.01}", "server.max_body_time: 0.01 s is not possible"),
        (MINIMAL + "server: {max_body_time: 2h}", "must be from 0.1 s to 1h"),
        (MINIMAL + "server: {max_body_time: .nan}", "server.max_body_time"),
        (MINIMAL + "retention: {ended_jobs: 23h, archive: a}", "23h is too short"),
        (MINIMAL + "retention: {ended_jobs: 90d}", "retention.archive: Field required"),
        (MINIMAL + "planning: {slot: 7m}", "divide a day"),
        (MINIMAL + "planning: {slot: 900}", "no unit"),
        (MINIMAL + "intensity: {sources: [{kind: trace}]}", "needs a path"),
        (MINIMAL.replace("DE", "DEE"), "did you mean DE"),
        (MINIMAL.replace("DE", "GB"), "set intensity.scope"),
        (MINIMAL + "intensity: {history: 36h}", "intensity.history: 1d12h is too little to learn"),
        (
            MINIMAL
            + "intensity: {sources: [{kind: typical_week}, {kind: eia, token_env: NO_KEY}]}",
            "gridtide.yaml: intensity.sources.1 (eia): eia needs a credential: the variable NO_KEY",
        ),
        (
            MINIMAL + "intensity: {zones: {Germany: [{kind: energinet, url: 'ftp://a.example'}]}}",
            "gridtide.yaml: intensity.zones.DE.0 (energinet): url: 'ftp://a.example' must be http",
        ),
        (
            MINIMAL + "intensity: {weather: {kind: open_meteo, places: {DE: [53.6, 10.0]}}}",
            "write DE: [[53.6, 10.0]]",
        ),
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
        (
            MINIMAL.replace("DE", "us-esat-1"),
            "gridtide.yaml: clusters.0.zone: 'us-esat-1' is not a zone, cloud region, country or site "
            "that is known; did you mean us-east-1",
        ),
        (MINIMAL.replace("DE", "US"), "clusters.0.zone: 'US' can be US-CAL-BANC, "),
        (MINIMAL.replace("DE", "IT"), "clusters.0.zone: 'IT' can be IT-CNO, "),
        (MINIMAL.replace("DE", "us-west-2"), "no configured source serves zone 'US-NW-PACW'"),
        (
            MINIMAL.replace("DE", "'47.56,7.59'"),
            "clusters.0.zone: '47.56,7.59' is 74 km from Zurich in CH, the nearest place known; "
            "beyond 50 km name the zone",
        ),
        (MINIMAL.replace("DE", "'0,0'"), "clusters.0.zone: '0,0': the nearest place known is"),
        (
            MINIMAL + "intensity: {zones: {DE: [{kind: typical_week}, {kind: energinet}]}}",
            "intensity.zones.DE.1: energinet does not serve zone DE as average/lifecycle; it serves DK-",
        ),
        (
            MINIMAL.replace("DE", "GB")
            + "intensity: {zones: {GB: [{kind: national_grid_gb}]}, sources: [{kind: typical_week}]}",
            "intensity.zones.GB.0: national_grid_gb does not serve zone GB as average/lifecycle; "
            "it serves zone GB as average in scope direct",
        ),
        (
            MINIMAL + "intensity: {zones: {DEE: [{kind: typical_week}]}}",
            "intensity.zones.DEE: 'DEE' is not a zone",
        ),
        (
            MINIMAL
            + "intensity: {zones: {DEU: [{kind: typical_week}], de: [{kind: typical_week}]}}",
            "intensity.zones.de: is zone DE, and so is 'DEU'",
        ),
        (MINIMAL + "sites: {my-dc: DEE}", "sites.my-dc: 'DEE' is not a zone"),
        (MINIMAL + "sites: {a: b, b: DE}", "sites.a: 'b' is not a zone"),
        (MINIMAL + "sites: {us-east-1: DE}", "sites.us-east-1: means zone US-MIDA-PJM already"),
        (MINIMAL + "sites: {US: DE}", "sites.US: means several zones already"),
        (MINIMAL.replace("DE", "my-d") + "sites: {my-dc: DE}", "did you mean my-dc"),
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


@pytest.mark.parametrize(
    ("name", "zone_id"),
    [
        ("DE", "DE"),
        ("de", "DE"),
        ("eu-central-1b", "DE"),
        ("Germany West Central", "DE"),
        ("'52.5,13.4'", "DE"),
        ("10Y1001A1001A83F", "DE"),
        ("my-dc", "DE"),
        ("us-east-1", "US-MIDA-PJM"),
        ("ERCO", "US-TEX-ERCO"),
        ("FRA", "FR"),
        # Several zones for others, but one for the typical week.
        ("SE", "SE"),
    ],
)
def test_zone_of_a_cluster_goes_by_any_of_its_names(
    tmp_path: Path, name: str, zone_id: str
) -> None:
    text = MINIMAL.replace("DE", name) + "sites: {my-dc: germanynorth}"
    assert _load(tmp_path, text).clusters[0].zone == zone_id


def test_chain_of_a_zone_goes_by_any_of_its_names(tmp_path: Path) -> None:
    chain = "[{kind: national_grid_gb}, {kind: typical_week}]"
    text = MINIMAL.replace("DE", "lab") + (
        f"sites: {{lab: UK}}\nintensity: {{scope: direct, zones: {{eu-west-2: {chain}}}}}"
    )
    settings = _load(tmp_path, text)
    assert settings.sites == {"lab": "GB"}
    assert settings.clusters[0].zone == "GB"
    assert [source.kind for source in settings.intensity.zones["GB"]] == [
        "national_grid_gb",
        "typical_week",
    ]


TRACE = """zone,time,g_per_kwh
home,2021-06-01T00:00:00Z,100
home,2021-06-01T01:00:00Z,110
CISO,2021-06-01T00:00:00Z,200
CISO,2021-06-01T01:00:00Z,210
"""
TRACED = "intensity: {sources: [{kind: trace, path: mine.csv}, {kind: typical_week}]}\n"


@pytest.mark.parametrize(
    ("name", "zone_id"),
    [
        ("home", "home"),
        ("my-dc", "home"),
        # What the file calls a zone is that zone, though it would be another one elsewhere.
        ("CISO", "CISO"),
        ("ciso", "US-CAL-CISO"),
        ("DE", "DE"),
    ],
)
def test_trace_may_have_zones_of_its_own(tmp_path: Path, name: str, zone_id: str) -> None:
    (tmp_path / "mine.csv").write_text(TRACE, encoding="utf-8")
    text = MINIMAL.replace("DE", name) + TRACED + "sites: {my-dc: home}"
    assert _load(tmp_path, text).clusters[0].zone == zone_id


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL.replace("DE", "hoem") + TRACED, "clusters.0.zone: 'hoem' is not a zone"),
        (MINIMAL.replace("DE", "hoem") + TRACED, "'home' is a zone of a source"),
        (MINIMAL.replace("DE", "us-esat-1") + TRACED, "did you mean us-east-1"),
        (MINIMAL + TRACED + "sites: {home: DE}", "sites.home: means zone home already"),
    ],
)
def test_slip_is_refused_though_a_trace_may_have_any_zone(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "mine.csv").write_text(TRACE, encoding="utf-8")
    with pytest.raises(InvalidConfigError) as caught:
        load_settings(_written(tmp_path, text))
    assert says in caught.value.message


def test_archive_of_ended_jobs_is_beside_the_settings(tmp_path: Path) -> None:
    settings = _load(tmp_path, MINIMAL + "retention: {ended_jobs: 90d, archive: old}")
    assert settings.retention is not None
    assert (settings.retention.ended_jobs, settings.retention.archive) == (
        90 * 86_400,
        tmp_path / "old",
    )


def test_doctor_sees_an_archive_that_cannot_be_written(tmp_path: Path) -> None:
    def said(archive: str) -> list[tuple[bool, str]]:
        text = MINIMAL + f"retention: {{ended_jobs: 90d, archive: {archive}}}"
        return [
            (one.is_ok, one.detail)
            for one in doctor(_written(tmp_path, text))
            if one.subject == "retention"
        ]

    assert said("old/er") == [(True, f"archive in {tmp_path / 'old/er'}")]
    (tmp_path / "file").touch()
    ((is_ok, detail),) = said("file")
    assert not is_ok
    assert "cannot be written" in detail


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


def test_slurm_cluster_keeps_everything_on_the_shared_disk(tmp_path: Path) -> None:
    text = """
clusters:
  - id: hpc
    kind: slurm
    region: eu
    zone: DE
    capacity: {H100: 8, CPU: 64}
    root: shared/gridtide
    slurm: {conf: slurm.conf, partition: gpu, time_limit: 2d, devices: {H100: {gres: "gpu:h100"}}}
"""
    (cluster,) = load_settings(_written(tmp_path, text)).clusters
    assert cluster.slurm is not None
    assert cluster.root == tmp_path / "shared/gridtide"
    assert cluster.checkpoints == tmp_path / "shared/gridtide/checkpoints"
    assert cluster.slurm.conf == tmp_path / "slurm.conf"
    assert cluster.slurm.terms()["time_limit_s"] == 172_800


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("kind: slurm", "kind: slurm needs slurm"),
        ("slurm: {}", "kind: slurm needs slurm"),
        ("kind: slurm, slurm: {}", "root is needed"),
        ("kind: slurm, slurm: {}, root: x, pass_env: [PATH]", "pass_env"),
        ("kind: slurm, slurm: {qoss: gpu}, root: x", "qos"),
    ],
)
def test_slurm_settings_that_cannot_be_are_refused(tmp_path: Path, more: str, says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        load_settings(_written(tmp_path, _cluster(more)))


def test_common_list_may_hold_sources_that_serve_some_zones_and_doctor_says_which(
    tmp_path: Path,
) -> None:
    text = MINIMAL + "intensity: {sources: [{kind: energinet}, {kind: typical_week}]}"
    found = [one for one in doctor(_written(tmp_path, text)) if one.subject == "intensity sources"]
    assert [(one.is_ok, one.detail) for one in found] == [
        (True, "some do not serve every zone in this signal and scope: DE without energinet")
    ]
    alone = MINIMAL + "intensity: {sources: [{kind: typical_week}]}"
    subjects = [one.subject for one in doctor(_written(tmp_path, alone))]
    assert "intensity sources" not in subjects


def test_gpus_of_a_slurm_cluster_need_a_gres(tmp_path: Path) -> None:
    text = _cluster("kind: slurm, slurm: {}, root: x").replace("{CPU: 2}", "{CPU: 2, H100: 4}")
    with pytest.raises(InvalidConfigError, match="how H100 is asked for is missing"):
        load_settings(_written(tmp_path, text))
