"""The HTTP API over a real store and cluster: routes, and every kind of bad input."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.store.parquet_archive import read_archived
from scheduler.server.auth import hash_token, new_token
from scheduler.server.wiring import Service
from tests.integration.api_world import api, job

Api = tuple[httpx.Client, Service]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Api]:
    with api(tmp_path) as made:
        yield made


def test_submitted_job_is_there_with_placement_and_baseline(world: Api) -> None:
    client, _ = world
    reply = client.post("/v1/jobs", json=job())
    assert reply.status_code == 201
    document = reply.json()
    assert reply.headers["location"] == f"/v1/jobs/{document['id']}"
    assert document["state"] == "queued"
    assert document["baseline"]["region"] == "eu-de"
    assert document["placement"]["region"] == "eu-fr"
    assert document["placement"]["intensity"]["quality"] == "typical"
    assert client.get(f"/v1/jobs/{document['id']}").json()["name"] == "train"


@pytest.mark.parametrize(
    ("change", "status", "code", "says"),
    [
        ({"deadline": "2099-01-01T09:00:00", "patience": None}, 422, "invalid_job", "offset"),
        ({"deadline": "2020-01-01T09:00:00Z", "patience": None}, 422, "invalid_job", "in the past"),
        ({"regions": ["eu-dee"]}, 422, "invalid_job", "did you mean eu-de"),
        ({"resources": {"accelerators": "H10:8"}}, 422, "invalid_job", "did you mean H100"),
        ({"resources": {"accelerators": "H100:0"}}, 422, "invalid_job", "count of 1 or more"),
        ({"resources": {"accelerators": "H100:-1"}}, 422, "invalid_job", "NAME:COUNT"),
        ({"duration": "4"}, 422, "invalid_job", "no unit"),
        ({"duration": 4}, 422, "invalid_job", "no unit"),
        ({"duration": "0h"}, 422, "invalid_job", "longer than 0"),
        ({"power_w": -5}, 422, "invalid_job", "power_w"),
        ({"name": "Not Valid"}, 422, "invalid_job", "a-z"),
        ({"command": []}, 422, "invalid_job", "command"),
        ({"durration": "4h"}, 422, "invalid_job", "did you mean duration"),
        ({"image": "busybox"}, 422, "invalid_job", "not supported yet"),
        ({"max_cost": 5}, 422, "invalid_job", "price_per_gpu_hour"),
        ({"min_renewable_share": 0.5}, 422, "invalid_job", "renewable shares"),
        ({"env": {"GRIDTIDE_JOB_ID": "x"}}, 422, "invalid_job", "set by Gridtide"),
        ({"patience": None}, 422, "invalid_job", "deadline"),
        (
            {"resources": {"accelerators": "H100:9"}},
            409,
            "infeasible",
            "resources: H100:9 cannot be had",
        ),
        (
            {"duration": "400h", "patience": "900h"},
            409,
            "infeasible",
            "duration: 16d16h cannot be had",
        ),
        ({"max_carbon_g": 0.001}, 409, "infeasible", "max_carbon_g: 0.001 cannot be had"),
    ],
)
def test_bad_job_gets_one_clear_problem_and_changes_nothing(
    world: Api, change: dict[str, Any], status: int, code: str, says: str
) -> None:
    client, service = world
    document = {key: value for key, value in (job() | change).items() if value is not None}
    reply = client.post("/v1/jobs", json=document)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == code
    assert says in reply.json()["detail"]
    assert service.store.active_jobs() == []


def test_deadline_before_now_plus_duration_is_refused_with_the_earliest_finish(world: Api) -> None:
    client, service = world
    deadline = (service.clock.now().replace(microsecond=0)).isoformat().replace("+00:00", "Z")
    later = client.get("/healthz").json()["now"]
    assert later >= deadline[:19]
    soon = service.clock.now().timestamp() + 1800
    document = job(deadline=datetime.fromtimestamp(soon, UTC).isoformat())
    del document["patience"]
    reply = client.post("/v1/jobs", json=document)
    assert reply.status_code == 409
    assert reply.json()["reason"] == "PAST_DEADLINE"
    assert reply.json()["earliest_finish"] is not None
    assert len(service.store.events(kind="refused")) == 1


def test_same_key_and_body_is_one_job_and_another_body_is_a_conflict(world: Api) -> None:
    client, service = world
    key = {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs", json=job(), headers=key).json()["id"]
    assert client.post("/v1/jobs", json=job(), headers=key).json()["id"] == first
    other = client.post("/v1/jobs", json=job(name="other"), headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "duplicate_job")
    assert len(service.store.active_jobs()) == 1


def filling(**changes: Any) -> dict[str, Any]:
    """A job that leaves no room for another like it."""
    whole = {"resources": {"accelerators": "H100:8"}, "duration": "1h", "patience": "40m"}
    return job(**whole | changes)


def test_repeat_is_answered_though_its_own_job_is_in_its_way(world: Api) -> None:
    client, service = world
    key = {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs", json=filling(), headers=key).json()["id"]
    again = client.post("/v1/jobs", json=filling(), headers=key)
    assert (again.status_code, again.json()["id"]) == (201, first)
    assert client.post("/v1/jobs", json=filling()).status_code == 409
    many = {"jobs": [filling(resources={"accelerators": "CPU:4"})] * 2}
    found = client.post("/v1/jobs:batch", json=many, headers={"Idempotency-Key": "b"}).json()
    repeated = client.post("/v1/jobs:batch", json=many, headers={"Idempotency-Key": "b"})
    assert [one["id"] for one in repeated.json()["jobs"]] == [one["id"] for one in found["jobs"]]
    assert len(service.store.active_jobs()) == 3
    assert len(service.store.events(kind="refused")) == 1


def test_repeat_is_answered_though_its_time_has_passed(world: Api) -> None:
    client, service = world
    soon = datetime.fromtimestamp(service.clock.now().timestamp() + 3, UTC).isoformat()
    document = job(duration="1s", deadline=soon) | {"name": "short"}
    del document["patience"]
    key = {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs", json=document, headers=key)
    assert first.status_code == 201, first.text
    while service.clock.now().isoformat() < soon:
        time.sleep(0.1)
    assert client.post("/v1/jobs", json=document).status_code == 422
    again = client.post("/v1/jobs", json=document, headers=key)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])


def test_same_request_from_many_at_once_is_one_job_for_all_of_them(world: Api) -> None:
    client, service = world
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(
                lambda _: client.post("/v1/jobs", json=filling(), headers={"Idempotency-Key": "k"}),
                range(24),
            )
        )
    assert [one.status_code for one in replies] == [201] * 24
    assert len({one.json()["id"] for one in replies}) == 1
    assert len(service.store.active_jobs()) == 1


@pytest.mark.parametrize("number", [1, 3])
def test_key_of_a_batch_stands_for_all_of_it(world: Api, number: int) -> None:
    client, service = world
    key = {"Idempotency-Key": "b"}
    assert client.post("/v1/jobs:batch", json={"jobs": [job()] * 2}, headers=key).is_success
    other = client.post("/v1/jobs:batch", json={"jobs": [job()] * number}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "duplicate_job")
    assert len(service.store.active_jobs()) == 2


@pytest.mark.parametrize(("key", "said"), [("", "'' is empty"), ("k" * 201, "has 201 characters")])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:batch"])
def test_key_that_cannot_tell_requests_apart_is_refused(
    world: Api, path: str, key: str, said: str
) -> None:
    client, service = world
    body = job() if path == "/v1/jobs" else {"jobs": [job()]}
    reply = client.post(path, json=body, headers={"Idempotency-Key": key})
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (400, "invalid_input")
    assert problem["field"] == "idempotency-key"
    assert problem["detail"].startswith("idempotency-key: ")
    assert said in problem["detail"]
    assert "1 to 200 characters" in problem["valid"]
    assert "k" * 21 not in reply.text
    assert service.store.active_jobs() == []


def test_batch_that_is_repeated_with_its_key_adds_nothing(world: Api) -> None:
    client, service = world
    body, key = {"jobs": [job(), job(name="other")]}, {"Idempotency-Key": "k" * 200}
    first = client.post("/v1/jobs:batch", json=body, headers=key).json()["jobs"]
    again = client.post("/v1/jobs:batch", json=body, headers=key).json()["jobs"]
    assert [one["id"] for one in again] == [one["id"] for one in first]
    assert len(service.store.active_jobs()) == 2


def test_long_parameter_is_not_echoed_whole(world: Api) -> None:
    reply = world[0].get("/v1/reports", params={"format": "x" * 5000})
    assert reply.status_code == 422
    assert len(reply.text) < 500


def test_batch_is_all_or_nothing_and_names_the_bad_one(world: Api) -> None:
    client, service = world
    bad = client.post("/v1/jobs:batch", json={"jobs": [job(), job(duration="4")]})
    assert bad.status_code == 422
    assert bad.json()["detail"].startswith("jobs.1: duration")
    assert service.store.active_jobs() == []
    good = client.post("/v1/jobs:batch", json={"jobs": [job(), job()]})
    assert len(good.json()["jobs"]) == 2


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{}", "text/plain", 422),
        (b'"x"', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b'{"name": "' + b"x" * 2_000_000 + b'"}', "application/json", 413),
    ],
)
def test_body_that_is_no_job_is_refused(
    world: Api, body: bytes, content_type: str, status: int
) -> None:
    client, _ = world
    reply = client.post("/v1/jobs", content=body, headers={"content-type": content_type})
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"deadline": "9999-12-31T23:59:59-14:00", "patience": None}, "deadline"),
        ({"deadline": "0001-01-01T00:00:00+14:00", "patience": None}, "deadline"),
        ({"not_before": "9999-12-31T23:59:59-14:00"}, "not_before"),
        ({"duration": "9" * 400 + "d"}, "duration"),
        ({"name": "\ud800"}, "body"),
        ({"command": ["echo", "\udc80"]}, "body"),
    ],
)
def test_times_and_texts_at_the_edge_are_refused(
    world: Api, changes: dict[str, object], field: str
) -> None:
    client, service = world
    document = {key: one for key, one in (job() | changes).items() if one is not None}
    body = json.dumps(document).encode()
    for path, content in (
        ("/v1/jobs", body),
        ("/v1/jobs:batch", b'{"jobs": [' + body + b"]}"),
        ("/v1/plan", body),
    ):
        reply = client.post(path, content=content, headers={"content-type": "application/json"})
        assert reply.status_code == 422, (path, reply.text)
        assert field in reply.json()["detail"]
    assert service.store.active_jobs() == []


def test_body_without_a_stated_length_is_bounded_too(world: Api) -> None:
    client, _ = world

    def stream() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    reply = client.post("/v1/jobs", content=stream(), headers={"content-type": "application/json"})
    assert reply.status_code == 413


def test_list_pages_through_all_jobs_once(world: Api) -> None:
    client, _ = world
    ids = {client.post("/v1/jobs", json=job(name=f"j{n}")).json()["id"] for n in range(5)}
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 2} | ({"after": cursor} if cursor else {})
        page = client.get("/v1/jobs", params=params).json()
        seen += [one["id"] for one in page["jobs"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == 5
    assert set(seen) == ids


def test_unknown_job_state_zone_and_route_are_clear(world: Api) -> None:
    client, _ = world
    assert client.get("/v1/jobs/nope").json()["code"] == "not_found"
    assert (
        "did you mean queued" in client.get("/v1/jobs", params={"state": "queue"}).json()["detail"]
    )
    assert "did you mean DE" in client.get("/v1/forecasts/DEE").json()["detail"]
    assert client.get("/v2/x").json()["code"] == "not_found"


def test_verbs_change_a_waiting_job(world: Api) -> None:
    client, _ = world
    path = "/v1/jobs/" + client.post("/v1/jobs", json=job()).json()["id"]
    assert client.post(f"{path}/hold").json()["state"] == "held"
    assert client.post(f"{path}/release").json()["state"] == "queued"
    assert client.post(f"{path}/run-now").json()["state"] == "planned"
    assert client.patch(path, json={"priority": 5}).json()["priority"] == 5
    assert client.delete(path).json()["state"] == "cancelled"
    assert client.post(f"{path}/release").json()["code"] == "conflict"
    kinds = [event["kind"] for event in client.get(f"{path}/events").json()["events"]]
    assert kinds == ["submitted", "held", "released", "run_now", "amended", "cancelled"]


def test_dry_run_explains_and_keeps_nothing(world: Api) -> None:
    client, service = world
    document = client.post("/v1/plan", json=job()).json()
    assert len(document["explanation"]["reasons"]) == 4
    assert service.store.active_jobs() == []


def test_dry_run_ranks_the_clusters_that_are_named(world: Api) -> None:
    client, service = world
    asked = {"cluster": ["paris", "berlin"]}
    document = client.post("/v1/plan", json=job(), params=asked).json()
    ranked = document["ranked"]
    assert sorted(one["cluster"] for one in ranked) == ["berlin", "paris"]
    assert document["placement"]["cluster"] == ranked[0]["cluster"]
    assert ranked[0]["emissions_g"] <= ranked[1]["emissions_g"]
    only = client.post("/v1/plan", json=job(), params={"cluster": "berlin"}).json()
    assert [one["cluster"] for one in only["ranked"]] == ["berlin"]
    assert only["placement"]["cluster"] == "berlin"
    assert client.post("/v1/plan", json=job()).json()["ranked"] == []
    unknown = client.post("/v1/plan", json=job(), params={"cluster": "pariss"})
    assert (unknown.status_code, unknown.json()["field"]) == (404, "cluster")
    assert "paris" in unknown.json()["detail"]
    assert service.store.active_jobs() == []


def test_real_process_runs_and_its_footprint_is_accounted(world: Api) -> None:
    client, service = world
    path = "/v1/jobs/" + client.post("/v1/jobs", json=job()).json()["id"]
    client.post(f"{path}/run-now")
    for _ in range(500):
        service.cycle.tick()
        if client.get(path).json()["state"] == "succeeded":
            break
        threading.Event().wait(0.02)
    footprint = client.get(f"{path}/footprint").json()
    assert footprint["entries"][0]["runs"][0]["energy_kwh"] > 0
    report = client.get("/v1/reports").json()
    assert report["summary"]["jobs"] == 1
    assert "<svg" in client.get("/v1/reports", params={"format": "html"}).text
    assert client.get("/v1/reports", params={"format": "csv"}).text.count("\n") == 2


def test_job_after_another_runs_once_that_has_succeeded(world: Api, tmp_path: Path) -> None:
    client, service = world
    mark = tmp_path / "mark"
    first = client.post("/v1/jobs", json=job(command=["touch", str(mark)])).json()["id"]
    last = job(command=["test", "-f", str(mark)], after=[first], patience="72h")
    made = client.post("/v1/jobs", json=last).json()
    assert made["after"] == [first]
    assert made["placement"]["start"] >= client.get(f"/v1/jobs/{first}").json()["placement"]["end"]
    early = client.post(f"/v1/jobs/{made['id']}/run-now")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    for one in (first, made["id"]):
        client.post(f"/v1/jobs/{one}/run-now")
        for _ in range(500):
            service.cycle.tick()
            if client.get(f"/v1/jobs/{one}").json()["state"] == "succeeded":
                break
            threading.Event().wait(0.02)
    assert client.get(f"/v1/jobs/{made['id']}").json()["state"] == "succeeded"


def test_dependency_that_does_not_exist_or_has_ended_in_vain_is_refused(world: Api) -> None:
    client, service = world
    unknown = client.post("/v1/jobs", json=job(after=["nobody"]))
    assert (unknown.status_code, unknown.json()["field"]) == (422, "after")
    gone = client.post("/v1/jobs", json=job()).json()["id"]
    client.delete(f"/v1/jobs/{gone}")
    for route in ("/v1/jobs", "/v1/plan"):
        refused = client.post(route, json=job(after=[gone]))
        assert (refused.status_code, refused.json()["code"]) == (409, "infeasible")
        assert f"job {gone} was cancelled" in refused.json()["detail"]
    assert service.store.active_jobs() == []


def test_terms_of_a_job_are_shown_with_the_cost_and_width_of_its_placement(tmp_path: Path) -> None:
    priced = [
        {"id": "a", "region": "eu-de", "zone": "DE", "capacity": {"CPU": 4}}
        | {"price_per_gpu_hour": 0.5}
    ]
    profile = [
        {"gpus": 1, "throughput": 1.0, "power_w": 10},
        {"gpus": 4, "throughput": 3.9, "power_w": 30},
    ]
    asked = job(
        elastic={"min": 1, "max": 4, "profile": profile},
        interruptible=True,
        movable=True,
        data={"gb": 5, "region": "eu-de"},
        carbon_price=80,
        max_cost=100,
    )
    with api(tmp_path, clusters=priced) as (client, _):
        made = client.post("/v1/jobs", json=asked).json()
        assert client.get(f"/v1/jobs/{made['id']}").json() == made
        regions = client.get("/v1/regions").json()["regions"]
    assert (made["widths"], made["movable"]) == ([1, 4], True)
    assert made["data"] == {"gb": 5.0, "region": "eu-de"}
    assert (made["carbon_price"], made["max_cost"], made["max_carbon_g"]) == (80, 100, None)
    assert {segment["gpus"] for segment in made["placement"]["segments"]} <= {1, 4}
    assert "cost" in made["placement"]
    assert regions[0]["clusters"][0]["price_per_gpu_hour"] == 0.5


def test_regions_forecast_probes_and_metrics_answer(world: Api) -> None:
    client, service = world
    service.cycle.tick()
    assert [one["region"] for one in client.get("/v1/regions").json()["regions"]] == [
        "eu-de",
        "eu-fr",
    ]
    forecast = client.get("/v1/forecasts/DE", params={"horizon": "6h"}).json()
    assert all(point["g_per_kwh"] > 0 for point in forecast["points"])
    assert client.get("/readyz").json()["ready"] is True
    text = client.get("/metrics").text
    assert "gridtide_ticks_total 1.0" in text
    assert "gridtide_source_usable{" in text
    assert client.get("/").status_code == 200


def test_configured_token_is_needed_everywhere_but_for_liveness(tmp_path: Path) -> None:
    token = new_token()
    with api(tmp_path, server={"token_hashes": [hash_token(token)]}) as (client, _):
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/jobs").status_code == 401
        wrong = {"Authorization": "Bearer gt_wrong"}
        assert client.get("/v1/jobs", headers=wrong).json()["code"] == "unauthorised"
        right = {"Authorization": f"Bearer {token}"}
        assert client.get("/v1/jobs", headers=right).status_code == 200


def test_probe_needs_no_token_and_is_told_only_of_the_service_itself(tmp_path: Path) -> None:
    token = new_token()
    with api(tmp_path, server={"token_hashes": [hash_token(token)]}) as (client, service):
        assert client.get("/readyz").status_code == 503
        service.cycle.tick()
        probed = client.get("/readyz")
        assert probed.status_code == 200
        assert {one["subject"] for one in probed.json()["checks"]} == {"store", "cycle"}
        assert client.get("/readyz", headers={"Authorization": "Bearer no"}).status_code == 401
        right = {"Authorization": f"Bearer {token}"}
        told = client.get("/readyz", headers=right).json()
        assert {"store", "cycle", "cluster berlin"} < {one["subject"] for one in told["checks"]}


def test_page_of_another_site_that_resolves_to_loopback_is_refused(world: Api) -> None:
    client, _ = world
    reply = client.get("/v1/jobs", headers={"Host": "evil.example"})
    assert (reply.status_code, reply.json()["code"]) == (421, "wrong_host")


def test_concurrent_submits_all_count_and_none_twice(world: Api) -> None:
    client, service = world
    with ThreadPoolExecutor(16) as pool:
        replies = list(
            pool.map(lambda n: client.post("/v1/jobs", json=job(name=f"c{n}")), range(64))
        )
    assert {reply.status_code for reply in replies} <= {201, 409}
    accepted = [reply.json()["id"] for reply in replies if reply.status_code == 201]
    assert len(set(accepted)) == len(accepted) == len(service.store.active_jobs())


def test_job_that_ended_long_ago_is_in_the_archive(tmp_path: Path) -> None:
    fast = {"origin_at": "2026-03-02T00:00:00Z", "anchor_wall_s": time.time(), "speed": 50_000}
    policy = {"ended_jobs": "1d", "archive": "old"}
    with api(tmp_path, clock=fast, retention=policy) as (client, service):
        done = client.post("/v1/jobs", json=job(patience="900h")).json()["id"]
        assert client.delete(f"/v1/jobs/{done}").json()["state"] == "cancelled"
        while client.get(f"/v1/jobs/{done}").status_code == 200:
            service.cycle.tick()
            time.sleep(0.1)
        (file,) = (tmp_path / "old").iterdir()
        assert [one.record.job.job_id for one in read_archived(file)] == [done]
        assert client.get("/v1/jobs").json()["jobs"] == []
        assert service.cycle.report.failures == 0, service.cycle.report.last_error
