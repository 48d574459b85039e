"""The command line against a running service: what it prints, where, and how it ends."""

import csv
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scheduler.server.wiring import Service
from tests.integration.api_world import write_settings
from tests.integration.cli_world import Ran, Run

HEAVY = ("httpx", "numpy", "pydantic", "fastapi", "rich.table", "apscheduler", "uvicorn", "yaml")


def submit(run: Run, *options: str, command: str = "train.py") -> Ran:
    base = ("submit", "--deadline", "+30h", "--gpus", "CPU:1", "--duration", "2h")
    return run(*base, *options, "--", "python", command)


def test_help_is_fast_because_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; sys.argv = ['gridtide', '--help']\n"
        "from scheduler.server.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_a_line_of_help(run: Run) -> None:
    listed = run("--help").out
    for name in (
        *("serve", "submit", "list", "show", "plan", "explain", "cancel", "regions"),
        *("forecast", "report", "doctor", "schema"),
    ):
        (line,) = [one for one in listed.splitlines() if one.startswith(f"  {name} ")]
        assert len(line.split()) > 3


def test_submit_prints_the_expected_start_and_saving(run: Run, service: Service) -> None:
    ran = submit(run)
    assert ran.code == 0
    head, row = ran.out.splitlines()
    assert "expected start" in head
    assert row.startswith("train-")
    (record,) = service.store.active_jobs()
    assert record.job.command == ("python", "train.py")
    assert (record.job.workdir, record.job.submitted_from) == (None, str(Path.cwd()))


def test_list_says_when_there_are_more(run: Run, service: Service) -> None:
    for _ in range(3):
        submit(run)
    assert "there are more" in run("list", "--limit", "2").err
    assert run("list", "--limit", "3").err == ""


def test_same_job_as_table_json_and_csv(run: Run, service: Service) -> None:
    made = submit(run, "--format", "json").json()
    assert made["name"] == "train"
    listed = run("list", "--format", "json").json()
    assert [job["id"] for job in listed["jobs"]] == [made["id"]]
    (row,) = csv.DictReader(run("list", "--format", "csv").out.splitlines())
    assert row["id"] == made["id"]
    assert made["id"] in run("list").out
    assert run("list", "--state", "failed", "--format", "json").json()["jobs"] == []


def test_options_of_the_command_stay_with_the_command(run: Run, service: Service) -> None:
    assert submit(run, "--priority", "3").code == 0
    ran = run("submit", "--duration", "1h", "--patience", "9h", "--", "x", "--priority", "4")
    assert ran.code == 0
    commands = {record.job.command: record.job.priority for record in service.store.active_jobs()}
    assert commands == {("python", "train.py"): 3, ("x", "--priority", "4"): 0}


def test_file_with_several_jobs_whose_fields_the_options_override(
    run: Run, service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(
        "jobs:\n"
        "  - {name: a, command: [x], duration: 1h, deadline: 2099-01-01T00:00:00Z}\n"
        "  - {name: b, command: [x], duration: 1h, patience: 9h}\n",
        encoding="utf-8",
    )
    ran = run("submit", str(path), "--patience", "20h", "--priority", "7", "--format", "json")
    assert [job["priority"] for job in ran.json()["jobs"]] == [7, 7]
    assert len(service.store.active_jobs()) == 2


def test_array_is_one_job_of_each_index(run: Run, service: Service, tmp_path: Path) -> None:
    made = submit(run, "--array", "1-5:2", "--name", "sweep", "--format", "json").json()["jobs"]
    assert sorted(job["name"] for job in made) == ["sweep-1", "sweep-3", "sweep-5"]
    indices = {dict(one.job.env)["SLURM_ARRAY_TASK_ID"] for one in service.store.active_jobs()}
    assert indices == {"1", "3", "5"}
    path = tmp_path / "sweep.yaml"
    path.write_text("{name: a, command: [x], array: 0-1, duration: 1h, patience: 9h}", "utf-8")
    assert run("plan", str(path)).out.count("Runs on") == 2
    assert len(run("submit", str(path), "--format", "json").json()["jobs"]) == 2


def test_script_stands_in_place_of_the_command(run: Run, service: Service, tmp_path: Path) -> None:
    script = tmp_path / "fine tune.sh"
    script.write_text("#!/bin/sh\nexec python train.py\n", encoding="utf-8")
    path = tmp_path / "job.yaml"
    path.write_text("{command: [x], duration: 1h, patience: 9h}", encoding="utf-8")
    for words in (("--duration", "1h", "--patience", "9h"), (str(path),)):
        made = run("submit", *words, "--script", str(script), "--format", "json").json()
        assert made["name"] == "fine-tune"
        assert made["command"] == ["/bin/sh", "-c", script.read_text(), "fine-tune"]


def test_dependency_and_limits_are_options_and_are_shown(run: Run, service: Service) -> None:
    first = submit(run, "--format", "json").json()["id"]
    later = ("--deadline", "+60h", "--after", first, "--max-carbon-g", "1e6")
    made = submit(run, *later, "--format", "json").json()
    assert (made["after"], made["max_carbon_g"]) == ([first], 1e6)
    shown = run("show", made["id"]).out
    assert f"after: {first}" in shown
    assert "max_carbon_g: 1e+06" in shown
    assert "on 1 x CPU" in shown
    priced = submit(run, "--max-cost", "5")
    assert (priced.code, priced.out) == (2, "")
    assert "price_per_gpu_hour" in priced.err
    assert "price_per_gpu_hour" in submit(run, "--carbon-price", "80").err
    assert "no job has the id 'nobody'" in submit(run, "--after", "nobody").err


def test_verbs_show_and_explain(run: Run, service: Service) -> None:
    job = submit(run, "--format", "json").json()["id"]
    assert run("hold", job).out.strip() == f"{job}: held"
    assert run("release", job).out.strip() == f"{job}: queued"
    service.cycle.tick()
    assert "Runs on" in run("explain", job).out
    assert run("explain", job, "--format", "json").json()["reasons"]
    assert run("run-now", job).out.strip() == f"{job}: planned"
    shown = run("show", job)
    assert f"id: {job}" in shown.out
    assert "run_now" in shown.out
    assert run("show", job, "--format", "json").json()["events"][0]["kind"] == "submitted"
    assert run("cancel", job).out.strip() == f"{job}: cancelled"
    again = run("hold", job)
    assert (again.code, again.out) == (1, "")
    assert "cannot be held" in again.err


def test_dry_run_and_plan_store_nothing(run: Run, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: a\ncommand: [x]\nduration: 1h\npatience: 9h\n", encoding="utf-8")
    assert "Runs on" in submit(run, "--dry-run").out
    assert "Runs on" in run("plan", str(path)).out
    assert run("plan", str(path), "--format", "json").json()["placement"]["cluster"] in (
        "berlin",
        "paris",
    )
    assert service.store.active_jobs() == []


def test_regions_report_and_doctor(run: Run, service: Service, tmp_path: Path) -> None:
    service.cycle.tick()
    assert "eu-de" in run("regions").out
    assert run("regions", "--format", "json").json()["regions"][0]["zone"] == "DE"
    assert run("report").out.startswith("job")
    assert run("report", "--format", "json").json()["schema"] == "gridtide/ledger/v1"
    assert run("report", "--format", "csv").out.startswith("job")
    page = tmp_path / "page.html"
    assert run("report", "--format", "html", "--output", str(page)).out == ""
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run("doctor").code == 0


def test_regions_resolves_names_without_a_service(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDTIDE_URL", "http://127.0.0.1:9")
    names = ("us-east-1", "gcp/europe-west1-b", "West Europe", "CISO", "-33.9,18.4", "gbr")
    document = run("regions", *names, "--format", "json").json()
    assert document["schema"] == "gridtide/resolved-regions/v1"
    assert [one["given"] for one in document["regions"]] == list(names)
    zones = ["US-MIDA-PJM", "BE", "NL", "US-CAL-CISO", "ZA", "GB"]
    assert [one["zone"] for one in document["regions"]] == zones
    first, *_, cape, britain = document["regions"]
    assert first == {
        "given": "us-east-1",
        "name": "aws:us-east-1",
        "zone": "US-MIDA-PJM",
        "how": "cloud_region",
        "place": "Northern Virginia",
        "country": "US",
        "latitude": 39.01,
        "longitude": -77.43,
        "distance_km": None,
        "approximate": False,
        "sources": first["sources"],
    }
    assert {"typical_week", "electricity_maps", "watttime"} <= set(first["sources"])
    assert (cape["approximate"], cape["distance_km"], cape["latitude"]) == (True, 2.9, -33.9)
    assert {"typical_week", "national_grid_gb"} <= set(britain["sources"])
    table = run("regions", *names).out
    assert "about 3 km" in table
    assert "Saint-Ghislain" in table
    listed = list(csv.DictReader(run("regions", *names, "--format", "csv").out.splitlines()))
    assert [row["zone"] for row in listed] == zones
    assert listed[0]["distance"] == ""
    assert set(listed[0]["sources"].split()) == set(first["sources"])


def test_regions_shows_the_good_names_before_the_errors(run: Run) -> None:
    ran = run("regions", "us-east-1", "foo-bar-9", "SE", "DE", "--format", "csv")
    assert ran.code == 2
    assert [row["zone"] for row in csv.DictReader(ran.out.splitlines())] == ["US-MIDA-PJM", "DE"]
    first, second = ran.err.splitlines()
    assert first.startswith("error: 'foo-bar-9' is not a zone")
    assert second.startswith("error: 'SE' can be SE-SE1")
    alone = run("regions", "foo-bar-9", "--format", "json")
    assert (alone.code, alone.out) == (2, "")


def test_regions_lists_the_whole_table(run: Run) -> None:
    document = run("regions", "--all", "--format", "json").json()
    assert document["schema"] == "gridtide/region-table/v1"
    by_name = {one["name"]: one for one in document["regions"]}
    assert len(by_name) == len(document["regions"]) > 300
    assert by_name["azure:westeurope"]["zone"] == "NL"
    assert by_name["IT"]["sources"] == ["energy_charts"]
    assert by_name["GB-London"]["sources"] == ["neso_regions_gb"]
    rows = list(csv.DictReader(run("regions", "--all", "--format", "csv").out.splitlines()))
    assert [row["name"] for row in rows] == [one["name"] for one in document["regions"]]


def test_regions_knows_the_sites_of_the_settings_that_are_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "zone,time,g_per_kwh\nhome,2021-06-01T00:00:00Z,1\nhome,2021-06-01T01:00:00Z,1\n",
        encoding="utf-8",
    )
    intensity = {"sources": [{"kind": "typical_week"}, {"kind": "trace", "path": "mine.csv"}]}
    path = write_settings(
        tmp_path, sites={"my-dc": "eu-west-3", "attic": "home"}, intensity=intensity
    )
    ran = run("regions", "my-dc", "attic", "--config", str(path), "--format", "json")
    found = [(one["how"], one["zone"], one["place"]) for one in ran.json()["regions"]]
    assert found == [("site", "FR", "France"), ("site", "home", None)]
    assert ran.json()["regions"][1]["sources"] == []
    assert "attic" in run("regions", "--all", "--config", str(path)).out
    unknown = run("regions", "my-dc")
    assert (unknown.code, unknown.out) == (2, "")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("regions", "us-esat-1"), 2, "did you mean us-east-1"),
        (("regions", "US"), 2, "'US' can be US-CAL-BANC, "),
        (("regions", "95,10"), 2, "is not latitude,longitude in degrees"),
        (("regions", "DE", "--all"), 2, "give either names or --all"),
        (("regions", "--al"), 2, "'--al' is not a zone"),
        (("submit", "--duration", "1h", "--deadline", "someday", "--", "x"), 2, "is not a time"),
        (("submit", "--duration", "1", "--patience", "1h", "--", "x"), 2, "no unit"),
        (("submit", "--duration", "1h", "--patience", "1h"), 2, "command"),
        (("submit", "--duration", "1h", "--patience", "1h", "--env", "A", "--", "x"), 2, "env"),
        (
            ("submit", "--duration", "1h", "--patience", "1h", "--script", "none.sh"),
            2,
            "script: none.sh",
        ),
        (
            ("submit", "--duration", "1h", "--patience", "1h", "--array", "3-1", "--", "x"),
            2,
            "array:",
        ),
        (("submit", "none.yaml"), 2, "none.yaml: cannot be read"),
        (("submit", "bad.yaml"), 2, "bad.yaml:2:1: not valid YAML"),
        (("submit", "empty.yaml"), 2, "empty.yaml: holds no job"),
        (("submit", "text.yaml"), 2, "text.yaml: a job is a mapping"),
        (("submit", "unknown.yaml"), 2, "durration: unknown field; did you mean duration"),
        (("submit", "--duration", "9h", "--deadline", "+1h", "--", "x"), 3, "earliest finish"),
        (("show", "nobody"), 2, "no job has the id 'nobody'"),
        (("explain", "nobody"), 2, "no job has the id"),
        (("list", "--state", "runing"), 2, "did you mean running"),
        (("forecast", "DEE"), 2, "did you mean DE"),
        (("forecast", "DE", "--horizon", "6"), 2, "no unit"),
        (("report", "--format", "pdf"), 2, "is not table, json, csv or html"),
        (("report", "--from", "yesterday"), 2, "from: 'yesterday'"),
        (("schema", "jobs"), 2, "did you mean job"),
        (("plan", "none.yaml"), 2, "cannot be read"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_bad_input_is_one_clear_line_on_stderr(
    run: Run, service: Service, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "bad.yaml").write_text("a: [\n", encoding="utf-8")
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    (tmp_path / "text.yaml").write_text("hello", encoding="utf-8")
    (tmp_path / "unknown.yaml").write_text(
        "name: a\ncommand: [x]\ndurration: 1h\npatience: 9h\n", encoding="utf-8"
    )
    ran = run(*words)
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert service.store.active_jobs() == []


def test_without_a_service_commands_say_how_to_start_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRIDTIDE_URL", "http://127.0.0.1:9")
    ran = run("list")
    assert ran.code == 1
    assert "no service at http://127.0.0.1:9" in ran.err
    assert "gridtide serve" in ran.err


def test_doctor_without_a_service_examines_the_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRIDTIDE_URL", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    ran = run("doctor")
    assert ran.code == 1
    assert "FAIL" in ran.out
    assert "no such file" in ran.out
    write_settings(tmp_path)
    healthy = run("doctor", "--format", "json")
    assert healthy.code == 0
    assert {check["subject"] for check in healthy.json()["checks"]} >= {
        "configuration",
        "intensity DE typical_week",
    }


def test_schemas_version_and_token_need_no_service(run: Run) -> None:
    assert "duration" in run("schema", "job").json()["properties"]
    assert "clusters" in run("schema", "settings").json()["properties"]
    assert run("version").out[0].isdigit()
    made = run("token", "new")
    assert made.out.startswith("gt_")
    assert "sha256:" in made.err


def test_output_cut_short_by_the_reader_is_no_error(service: Service) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m scheduler.server.cli schema job | head -c 1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_serve_refuses_bad_settings_before_it_listens(run: Run, tmp_path: Path) -> None:
    path = write_settings(tmp_path, server={"prot": 1})
    ran = run("serve", "--config", str(path))
    assert ran.code == 2
    assert "did you mean port" in ran.err
    assert not [one for one in psutil.Process().net_connections() if one.status == "LISTEN"]
