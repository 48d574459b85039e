"""Plans of files: what goes in, what comes out, and what is refused."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.hardware_tables import load_hardware
from scheduler.core.errors import InvalidConfigError, InvalidDataError, InvalidInputError
from scheduler.server import cli
from scheduler.server.plan_documents import Timing, plan_file

Document = dict[str, Any]
NOW = "2022-03-01T00:00:00Z"
FILE: Document = {
    "schema": "gridtide/snapshot/v1",
    "now": NOW,
    "slot": "1h",
    "horizon": "12h",
    "clusters": [
        {
            "id": "de-a",
            "region": "eu-de",
            "zone": "DE",
            "pue": 1.2,
            "price_per_gpu_hour": 2.0,
            "capacity": {"H100": 8, "XYZ": 4},
            "reserved": [
                {"accelerator": "H100", "gpus": 4, "start": NOW, "end": "2022-03-01T03:00:00Z"}
            ],
        }
    ],
    "intensity": {
        "DE": {
            "signal": "average",
            "start": NOW,
            "step": "1h",
            "g_per_kwh": [400, 300, 200, 100, 100, 300, 400, 400, 400, None],
        }
    },
    "jobs": [
        {
            "id": "big",
            "duration": "2h",
            "deadline": "2022-03-01T08:00:00Z",
            "resources": {"accelerators": "H100:8"},
            "power_w": 5000,
        },
        {"id": "cpu", "duration": "2h", "patience": "6h", "resources": {"accelerators": "H100:4"}},
    ],
}


def planned(**changes: Any) -> Document:
    return plan_file(copy.deepcopy(FILE) | changes, load_hardware())


def test_plan_of_a_file_has_placements_totals_and_a_certificate() -> None:
    made = planned()
    assert made["schema"] == "gridtide/plan/v1"
    big, small = made["placements"]
    assert big["segments"] == [
        {"start": "2022-03-01T03:00:00Z", "end": "2022-03-01T05:00:00Z", "gpus": 8}
    ]
    assert big["energy_kwh"] == pytest.approx(12)
    assert big["emissions_g"] == pytest.approx(1200)
    assert big["baseline_g"] == pytest.approx(5 * 1.2 * 700)
    assert small["segments"][0]["start"] == "2022-03-01T01:00:00Z"
    assert made["emissions_g"] == pytest.approx(big["emissions_g"] + small["emissions_g"])
    assert made["lower_bound_g"] <= made["emissions_g"]
    assert made["gap"] == pytest.approx(made["emissions_g"] / made["lower_bound_g"] - 1)
    assert "less than running at once" in big["reasons"][0]


def test_job_past_its_deadline_or_beyond_the_forecast_is_unplaced_with_its_reason() -> None:
    late = {"id": "late", "duration": "2h", "deadline": "2022-02-01T00:00:00Z"}
    gap = {
        "id": "gap",
        "duration": "2h",
        "not_before": "2022-03-01T09:00:00Z",
        "deadline": "2022-03-01T12:00:00Z",
        "resources": {"accelerators": "H100:1"},
    }
    nowhere = {"id": "none", "duration": "2h", "patience": "1h", "regions": ["eu-de"]}
    made = planned(jobs=[late, gap, nowhere])
    assert {one["job"]: one["reason"] for one in made["unplaced"]} == {
        "late": "PAST_DEADLINE",
        "gap": "NO_FORECAST",
        "none": "NOT_ALLOWED",
    }
    assert made["emissions_g"] == 0


def _job(**changes: Any) -> list[Document]:
    return [FILE["jobs"][0] | changes]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": "gridtide/plan/v1"}, "a mapping with schema gridtide/snapshot/v1"),
        ({"now": "2022-03-01T00:00:00"}, "now: .*offset"),
        ({"slot": "7m"}, "does not divide a day"),
        ({"horizon": "0h"}, "horizon"),
        ({"clusters": []}, "the fleet is empty"),
        ({"intensity": {}}, "zone 'DE' is missing"),
        (
            {"intensity": {"DE": FILE["intensity"]["DE"] | {"g_per_kwh": [-1.0]}}},
            "outside 0 to 3000",
        ),
        ({"intensity": {"DE": FILE["intensity"]["DE"] | {"g_per_kwh": []}}}, "g_per_kwh"),
        ({"jobs": FILE["jobs"] * 2}, "is used twice"),
        ({"jobs": [{"duration": "1h"}]}, r"jobs\.0\.id: None must be a text"),
        ({"jobs": _job(durration="1h")}, r"jobs\.0 \(big\): durration: unknown field"),
        ({"jobs": _job(regions=["eu-dee"])}, "did you mean eu-de"),
        ({"jobs": _job(resources={"accelerators": "XYZ:1"}, power_w=None)}, "power_w: 'XYZ'"),
        ({"jobs": _job(resources={"accelerators": "QQQ:1"})}, "not in the hardware table"),
        ({"jobs": _job(duration="0h")}, "longer than 0"),
        ({"clsters": []}, "did you mean clusters"),
    ],
)
def test_wrong_file_is_refused_naming_the_field(changes: Document, says: str) -> None:
    with pytest.raises((InvalidDataError, InvalidInputError, InvalidConfigError), match=says):
        planned(**changes)


def test_stated_power_makes_hardware_of_any_name_usable() -> None:
    made = planned(jobs=_job(resources={"accelerators": "XYZ:4"}))
    assert made["placements"][0]["accelerator"] == "XYZ"


def test_time_limit_still_gives_a_plan() -> None:
    ticks = iter(range(10_000))
    made = plan_file(FILE, load_hardware(), timing=Timing(1.0, lambda: float(next(ticks))))
    assert len(made["placements"]) == 2


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gridtide", "plan", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_command_prints_json_or_a_table_and_needs_no_service(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(FILE), encoding="utf-8")
    code, out, _ = run("--snapshot", str(path), "--format", "json", "--time-limit", "30s")
    assert code == 0
    assert len(json.loads(out)["placements"]) == 2
    code, out, _ = run("--snapshot", str(path))
    assert code == 0
    assert "2 placed, 0 not" in out


def test_command_refuses_files_that_cannot_be_planned(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.yaml"
    path.write_text("now: [", encoding="utf-8")
    for words, says in (
        ((), "give either"),
        (("--snapshot", str(path)), "not valid YAML"),
        (("--snapshot", str(tmp_path / "none.json")), "no such file"),
        (("--snapshot", str(tmp_path)), "cannot be read"),
        (("--snapshot", str(path), "--time-limit", "3"), "no unit"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert says in err
