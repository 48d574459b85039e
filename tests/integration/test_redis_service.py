"""A service whose jobs are on a real Redis, and the commands that work on its store."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from scheduler.core.errors import StoreError
from scheduler.server.settings import load_settings
from scheduler.server.stores import await_store
from scheduler.server.wiring import Service, build_service, doctor
from tests.fakes.redis_server import SYNCED, RedisServer, running
from tests.integration.api_world import api, write_settings
from tests.integration.cli_world import Run

pytestmark = [pytest.mark.external, pytest.mark.slow]
JOB = {
    "name": "t",
    "command": ["true"],
    "duration": "1m",
    "patience": "0s",
    "resources": {"accelerators": "CPU:1"},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis", *SYNCED) as one:
        yield one


def url(server: RedisServer, name: str = "default") -> str:
    return f"redis://127.0.0.1:{server.port}/0#{name}"


def submit(client: object, key: str) -> str:
    answer = client.post(  # type: ignore[attr-defined]
        "/v1/jobs", json=JOB | {"patience": "4h"}, headers={"Idempotency-Key": key}
    )
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


def test_service_runs_jobs_on_redis_and_knows_them_after_a_restart(
    server: RedisServer, tmp_path: Path
) -> None:
    with api(tmp_path, store=url(server)) as (client, service):
        job_id = submit(client, "k")
        assert submit(client, "k") == job_id
        service.cycle.start()
        client.post(f"/v1/jobs/{job_id}/run-now")
        ready = client.get("/readyz").json()
        stores = [one for one in ready["checks"] if one["subject"] == "store"]
        assert [one["ok"] for one in stores] == [True]
        assert "survive the loss of the machine's power" in stores[0]["detail"]
        for _ in range(400):
            if client.get(f"/v1/jobs/{job_id}").json()["state"] == "succeeded":
                break
            service.stop.wait(0.05)
    server.kill()
    server.start()
    with api(tmp_path, store=url(server)) as (client, _):
        assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "succeeded"
        assert len(client.get("/v1/jobs").json()["jobs"]) == 1
        assert submit(client, "k") == job_id


def test_service_says_that_it_is_not_ready_while_its_store_is_gone(
    server: RedisServer, tmp_path: Path
) -> None:
    with api(tmp_path, store={"url": url(server), "timeout": 0.3}) as (client, service):
        service.cycle.start()
        job_id = submit(client, "k")
        server.kill()
        answer = client.post("/v1/jobs", json=JOB | {"patience": "4h"})
        assert answer.status_code == 503
        assert answer.json()["code"] == "store_unavailable"
        ready = client.get("/readyz")
        assert ready.status_code == 503
        server.start()
        assert client.get(f"/v1/jobs/{job_id}").status_code == 200


def test_server_that_was_emptied_is_not_taken_for_a_new_store_by_who_starts_next(
    server: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(write_settings(tmp_path, store=url(server)))
    build_service(settings).close()
    with server.client() as raw:
        raw.flushall()
    with pytest.raises(
        StoreError, match=r"does not hold the store .* remove its line from"
    ) as caught:
        build_service(settings)
    known = tmp_path / "gridtide-data" / "redis-stores.json"
    assert str(known) in str(caught.value)
    with server.client() as raw:
        assert raw.keys() == []
    # Another machine, which knows of no store, makes one.
    (tmp_path / "elsewhere").mkdir()
    other = load_settings(write_settings(tmp_path / "elsewhere", store=url(server)))
    with pytest.raises(StoreError, match="this process does not make one"):
        build_service(other, schedules=False)
    build_service(other).close()
    with pytest.raises(StoreError, match="does not hold the store"):
        build_service(settings)
    known.unlink()
    build_service(settings).close()
    build_service(settings, schedules=False).close()


def test_process_that_only_answers_waits_for_one_that_makes_the_store(
    server: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(write_settings(tmp_path, store=url(server)))
    await_store(settings.store, within_s=0.1)
    with server.client() as raw:
        assert raw.keys() == []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(await_store, settings.store, within_s=100)
        with pytest.raises(TimeoutError):
            waiting.result(1)
        build_service(settings).close()
        waiting.result(60)
    build_service(settings, schedules=False).close()


def until_ready(client: httpx.Client, service: Service, *, is_ready: bool) -> dict[str, str]:
    """What `/readyz` says of each subject once it says so; each of its answers comes in time."""
    for _ in range(200):
        began_s = time.monotonic()
        answer = client.get("/readyz", timeout=30)
        assert time.monotonic() - began_s < 6
        document = answer.json()
        if document["ready"] is is_ready:
            assert answer.status_code == (200 if is_ready else 503)
            return {one["subject"]: one["detail"] for one in document["checks"]}
        service.stop.wait(0.1)
    raise AssertionError(f"never ready={is_ready}: {answer.text}")


def test_service_is_not_ready_while_its_store_takes_no_writes(
    server: RedisServer, tmp_path: Path
) -> None:
    with api(tmp_path, store={"url": url(server), "lease": "2s"}) as (client, service):
        service.cycle.start()
        until_ready(client, service, is_ready=True)
        with server.client() as raw:
            raw.config_set("min-replicas-to-write", 1)
            said = until_ready(client, service, is_ready=False)
            assert "the store failed when it was last needed: lease: " in said["cycle"]
            raw.config_set("min-replicas-to-write", 0)
        until_ready(client, service, is_ready=True)


def test_probe_of_a_store_that_hangs_is_answered_in_time_and_names_it(
    server: RedisServer, tmp_path: Path
) -> None:
    with api(tmp_path, store=url(server)) as (client, service):
        service.cycle.start()
        until_ready(client, service, is_ready=True)
        server.freeze()
        said = until_ready(client, service, is_ready=False)
        assert said["store"] == "no answer within 4 s"
        server.thaw()
        until_ready(client, service, is_ready=True)


def test_doctor_looks_at_the_server_and_makes_nothing(server: RedisServer, tmp_path: Path) -> None:
    path = write_settings(tmp_path, store=url(server))
    checks = [one for one in doctor(path) if one.subject == "store"]
    assert [one.is_ok for one in checks] == [True, True]
    assert "no store there yet" in checks[1].detail
    with server.client() as raw:
        assert raw.keys() == []
        raw.config_set("requirepass", "hunter2")
    (check,) = [one for one in doctor(path) if one.subject == "store"]
    assert not check.is_ok
    assert "password" in check.detail


def test_store_is_copied_to_redis_and_back_by_the_command_line(
    server: RedisServer, tmp_path: Path, run: Run
) -> None:
    with api(tmp_path) as (client, _):
        ids = {submit(client, f"k{number}") for number in range(3)}
    file = tmp_path / "gridtide-data" / "gridtide.db"
    first = run(
        "store", "copy", "--from", f"sqlite:{file}", "--to", url(server), "--format", "json"
    )
    assert first.code == 0, first.err
    document = first.json()
    assert document["schema"] == "gridtide/store-copy/v1"
    assert {one["kind"]: one["count"] for one in document["kinds"]}["jobs"] == 3
    assert "copying jobs (3)" in first.err
    # A settings file names a store too, and its relative paths are its own.
    (tmp_path / "other").mkdir()
    other = write_settings(tmp_path / "other")
    back = run("store", "copy", "--from", url(server), "--to", str(other), "--format", "json")
    assert back.code == 0, back.err
    assert back.json()["kinds"] == document["kinds"]
    service = build_service(load_settings(other))
    assert {one.job.job_id for one in service.store.active_jobs()} == ids
    service.close()
    again = run("store", "copy", "--from", f"sqlite:{file}", "--to", url(server))
    assert again.code == 1
    assert "holds a store" in again.err


def test_copy_takes_passwords_from_variables(
    server: RedisServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.client() as raw:
        raw.config_set("requirepass", "hunter2")
    places = ("--from", url(server, "one"), "--to", url(server, "two"))
    refused = run("store", "copy", *places)
    assert refused.code == 1
    assert "wants a password" in refused.err
    monkeypatch.setenv("SECRET", "hunter2")
    words = ("--from-password-env", "SECRET", "--to-password-env", "SECRET")
    absent = run("store", "copy", *places, *words)
    assert absent.code == 1
    assert "holds no store" in absent.err
    assert "hunter2" not in absent.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "a.db", "--to", "redis://127.0.0.1"), "from: 'a.db' is no place of a store"),
        (("--from", "sqlite:a", "--to", "foo://u:hunter2@x"), "to: what is given is no place"),
        (("--from", "redis://u:hunter2@x", "--to", "sqlite:a"), "holds a password"),
        (("--from", "sqlite:a", "--to", "sqlite:./a"), "is the same store as from"),
        (("--from", "sqlite:a", "--to", "sqlite:b", "--to-password-env", "X"), "to-password-env"),
    ],
)
def test_copy_of_what_is_no_store_is_bad_input(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("store", "copy", *words)
    assert ran.code == 2
    assert said in ran.err
    assert "hunter2" not in ran.err
    assert list(tmp_path.iterdir()) == []
