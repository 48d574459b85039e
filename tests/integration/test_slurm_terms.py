"""Terms of Slurm from the command line, or the API, to sbatch and back."""

import json
from pathlib import Path

import pytest

from tests.integration.api_world import api, job
from tests.integration.cli_world import Run
from tests.integration.slurm_hand import (
    fake_slurm,
    show,
    slurm_settings,
    submit,
    tick_until,
)
from tests.integration.slurm_world import ENDED
from tests.unit.cluster.runs import lines


def test_job_with_terms_runs_on_the_slurm_cluster_though_it_is_cleaner_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = fake_slurm(tmp_path, monkeypatch)
    terms = {"account": "ml", "time_limit": "90m", "output": "%x-%j.out"}
    with api(tmp_path, **slurm_settings(tmp_path, slurm.conf)) as (client, service):
        made = submit(client, slurm=terms, command=["sh", "-c", "echo done"], workdir=str(tmp_path))
        tick_until(service, lambda: show(client, made)["state"] in ENDED, "it has ended")
        ended = show(client, made)
    assert ended["state"] == "succeeded", ended["reason"]
    assert ended["slurm"] == {"account": "ml", "time_limit": "1h30m", "output": "train-%j.out"}
    assert [run["cluster"] for run in ended["runs"]] == ["hpc"]
    (booked,) = slurm.jobs()
    assert booked["options"]["account"] == "ml"
    assert booked["options"]["time"] == "90"
    assert lines(tmp_path / "train-1.out") == ["done"]


def test_job_without_terms_goes_where_it_is_cleanest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = fake_slurm(tmp_path, monkeypatch)
    with api(tmp_path, **slurm_settings(tmp_path, slurm.conf)) as (client, _):
        answer = client.post("/v1/plan", json=job(patience="5m")).raise_for_status().json()
        bound = client.post("/v1/plan", json=job(patience="5m", slurm={})).raise_for_status().json()
    assert answer["placement"]["cluster"] == "here"
    assert bound["placement"]["cluster"] == "hpc"
    assert bound["baseline"]["cluster"] == "hpc"  # at home is where it can run at all


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/plan"])
def test_term_that_the_site_keeps_for_itself_is_refused_with_what_may_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    slurm = fake_slurm(tmp_path, monkeypatch)
    settings = slurm_settings(tmp_path, slurm.conf, allow=["qos"])
    with api(tmp_path, **settings) as (client, service):
        answer = client.post(path, json=job(slurm={"partition": "big"}))
        assert service.store.active_jobs() == []
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["field"], problem["value"], problem["valid"]) == (
        "slurm.partition",
        "big",
        "qos",
    )
    assert "slurm.partition: 'big' may not be set by a job on hpc" in problem["detail"]


def test_command_line_lays_terms_over_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    slurm = fake_slurm(tmp_path, monkeypatch)
    document = job(slurm={"account": "ml", "qos": "a", "options": {"mem": "1G", "nice": "5"}})
    (tmp_path / "job.json").write_text(json.dumps(document), encoding="utf-8")
    with api(
        tmp_path, **slurm_settings(tmp_path, slurm.conf, allow=["account", "qos", "options"])
    ) as (
        client,
        service,
    ):
        monkeypatch.setenv("GRIDTIDE_URL", str(client.base_url))
        ran = run(
            *("submit", str(tmp_path / "job.json")),
            *("--slurm", "qos=b", "--slurm", "options.mem=2G", "--slurm", "options.hint=a=b"),
        )
        assert ran.code == 0, ran.err
        (record,) = service.store.active_jobs()
        shown = show(client, record.job.job_id)
    assert shown["slurm"]["options"] == {"mem": "2G", "nice": "5", "hint": "a=b"}
    terms = record.job.slurm
    assert terms is not None
    assert (terms.account, terms.qos) == ("ml", "b")
    assert dict(terms.options) == {"mem": "2G", "nice": "5", "hint": "a=b"}
    assert record.job.cluster_ids == ("hpc",)


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("reservation=carbon", "slurm.reservation: 'carbon' may not be set by a job on hpc"),
        ("konto=ml", "slurm.konto: unknown field"),
        ("account", "'account' is not KEY=VALUE"),
        ("=ml", "'=ml' is not KEY=VALUE"),
        ("account=a\nb", "slurm.account: "),
        ("options.mem=1G", "slurm.options: 'mem=1G' may not be set"),
    ],
)
def test_wrong_term_on_the_command_line_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, term: str, says: str
) -> None:
    slurm = fake_slurm(tmp_path, monkeypatch)
    with api(tmp_path, **slurm_settings(tmp_path, slurm.conf)) as (client, service):
        monkeypatch.setenv("GRIDTIDE_URL", str(client.base_url))
        ran = run(
            *("submit", "--duration", "1h", "--patience", "1h", "--gpus", "CPU:1"),
            *("--slurm", term, "--", "x"),
        )
        assert service.store.active_jobs() == []
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
