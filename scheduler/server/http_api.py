"""The HTTP API: plain functions over the service; errors as problem+json."""

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from adapters.region_tables import load_regions
from scheduler.core.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
)
from scheduler.core.job import JobRecord, JobState, Placement
from scheduler.core.names import nearest, suggest
from scheduler.core.timegrid import SlotGrid, Window, format_instant, parse_instant
from scheduler.core.units import parse_duration
from scheduler.server import reports, schemas, views
from scheduler.server.auth import is_authorised
from scheduler.server.gate import Endpoint, Gate
from scheduler.server.metrics import render_metrics
from scheduler.server.problems import InvalidHeaderError, add_error_handlers
from scheduler.server.refusals import Refusals, count_refusals
from scheduler.server.report_pages import build_home, build_report
from scheduler.server.submissions import Asked, Submissions, Untried
from scheduler.server.submit_desk import SubmitDesk
from scheduler.server.timed_checks import TimedChecks
from scheduler.server.wiring import Service
from scheduler.service.job_queue import Submission

_log = structlog.get_logger(__name__)


def build_api(service: Service) -> ASGIApp:
    """The ASGI application of a service."""
    app = FastAPI(
        title="Gridtide",
        version="1",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_known_parameters)],
    )
    add_error_handlers(app)
    submit = _add_job_routes(app, service)
    _add_verb_routes(app, service)
    _add_read_routes(app, service)
    _add_forecast_routes(app, service)
    _add_report_routes(app, service)
    _add_probe_routes(app, service)
    # FastAPI would spend more on a submission than all that we do for it: the gate calls it itself.
    return Gate(app, service.settings.server, direct={("POST", "/v1/jobs"): submit})


async def _body(request: Request) -> object:
    """The JSON body. Handlers stay plain functions; only reading the stream must be awaited."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise InvalidInputError(
            f"content-type: {content_type or 'none'!r} given; application/json is needed",
            field="content-type",
            value=content_type,
            valid="application/json",
        )
    raw = await request.body()
    try:
        document = json.loads(raw)
        if b"\\u" in raw:
            json.dumps(document, ensure_ascii=False).encode()  # half of a character is no text
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"body: not valid JSON: {error}", field="body") from error
    return document


def _refuse_unknown_parameters(request: Request, known: Collection[str]) -> None:
    """A mistyped parameter would otherwise be ignored without a word."""
    for name in request.query_params:
        if name not in known:
            raise InvalidInputError(
                f"{name}: unknown parameter; {suggest(name, known) if known else 'none is allowed here'}",
                field=name,
                valid=", ".join(known) or "no parameters",
            )


async def _known_parameters(request: Request) -> None:
    # Awaited, although it waits for nothing: FastAPI would run a plain function in a thread.
    if request.scope["query_string"]:
        declared = request.scope["route"].dependant.query_params
        _refuse_unknown_parameters(request, [field.alias for field in declared])


Body = Annotated[Any, Depends(_body)]
MAX_KEY: Final = 200
PROBE_S: Final = 4.0
"""So long a probe waits for what it asks; Kubernetes gives ours up after 5 s."""
_LONGEST_S: Final = 60.0
_PROBES: Final = 8
"""So many are answered at a time, by threads that no other request takes."""
_KEY_SAID: Final = "A text of the client's own; a request that comes again with the same key and body adds nothing."


def _usable_key(key: str | None) -> str | None:
    """The key, if it can tell one request from others."""
    valid = f"1 to {MAX_KEY} characters, unique to the request, such as a UUID; or no such header"
    if key is not None and not key.strip():
        # As of a variable that is not set: all who send it so would share one job.
        raise InvalidHeaderError(
            f"idempotency-key: {key!r} is empty; write {valid}",
            field="idempotency-key",
            value=key,
            valid=valid,
        )
    if key is not None and len(key) > MAX_KEY:
        raise InvalidHeaderError(
            f"idempotency-key: {key[:20] + '…'!r} has {len(key)} characters; write {valid}",
            field="idempotency-key",
            value=f"{key[:20]}…",
            valid=valid,
        )
    return key


async def _key(
    idempotency_key: Annotated[str | None, Header(description=_KEY_SAID)] = None,
) -> str | None:
    return _usable_key(idempotency_key)


Key = Annotated[str | None, Depends(_key)]
_JOB_BODY: Final = {
    "parameters": [
        {
            "name": "idempotency-key",
            "in": "header",
            "required": False,
            "description": _KEY_SAID,
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
        }
    ],
    "requestBody": {
        "required": True,
        "description": "A job; `gridtide schema job` prints its schema.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
}


def _add_job_routes(app: FastAPI, service: Service) -> Endpoint:
    """The routes of jobs; returns the one that thousands of jobs a second may come through."""
    queue, store, submissions = service.queue, service.store, Submissions(service)
    desk: SubmitDesk[Asked | Submission, JobRecord | Untried] = SubmitDesk(submissions.submit)

    @app.post("/v1/jobs", status_code=201, openapi_extra=_JOB_BODY)
    async def submit(request: Request) -> Response:
        _refuse_unknown_parameters(request, ())
        key = _usable_key(request.headers.get("idempotency-key"))
        answer = await desk.ask(Asked(document=await _body(request), key=key))
        if isinstance(answer, Untried):
            # Not by the desk's thread, which others wait for.
            answer = await desk.ask(await run_in_threadpool(submissions.tried, answer))
        assert isinstance(answer, JobRecord)
        record = answer
        return JSONResponse(
            views.job_view(record),
            status_code=201,
            headers={"Location": f"/v1/jobs/{record.job.job_id}"},
        )

    @app.post("/v1/jobs:batch", status_code=201)
    def submit_batch(document: Body, key: Key) -> Response:
        listed = document.get("jobs") if isinstance(document, dict) else None
        if not isinstance(listed, list) or not 1 <= len(listed) <= 10_000:
            raise InvalidInputError(
                "jobs: a list of 1 to 10000 jobs is needed", field="jobs", valid="a list"
            )
        records = submissions.batch(listed, key)
        return JSONResponse(
            {
                "schema": "gridtide/jobs/v1",
                "jobs": [views.listed_view(record) for record in records],
            },
            status_code=201,
        )

    @app.get("/v1/jobs")
    def list_jobs(
        state: Annotated[list[str] | None, Query()] = None,
        project: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> views.Document:
        records, cursor = store.list_jobs(
            states=_states(state), project=project, after=after, limit=limit
        )
        return {
            "schema": "gridtide/jobs/v1",
            "jobs": [views.listed_view(record) for record in records],
            "next": cursor,
        }

    @app.get("/v1/jobs/{job_id}")
    def get_job(job_id: str) -> views.Document:
        return views.job_view(store.get_job(job_id))

    @app.patch("/v1/jobs/{job_id}")
    def amend(job_id: str, document: Body) -> views.Document:
        change = schemas.parse_amendment(document)
        return views.job_view(
            queue.amend(job_id, deadline_at=change.deadline, priority=change.priority)
        )

    @app.delete("/v1/jobs/{job_id}")
    def cancel(job_id: str) -> views.Document:
        return views.job_view(queue.cancel(job_id))

    return submit


def _add_verb_routes(app: FastAPI, service: Service) -> None:
    queue, submissions = service.queue, Submissions(service)

    @app.post("/v1/jobs/{job_id}/hold")
    def hold(job_id: str) -> views.Document:
        return views.job_view(queue.hold(job_id))

    @app.post("/v1/jobs/{job_id}/release")
    def release(job_id: str) -> views.Document:
        return views.job_view(queue.release(job_id))

    @app.post("/v1/jobs/{job_id}/run-now")
    def run_now(job_id: str) -> views.Document:
        return views.job_view(queue.run_now(job_id, lambda record: _place_now(service, record)))

    @app.post("/v1/plan")
    def plan(
        document: Body, cluster: Annotated[list[str] | None, Query(max_length=100)] = None
    ) -> views.Document:
        job, note = submissions.for_show(document)
        if cluster is not None:
            ids = (service.fleet.get(one).cluster_id for one in cluster)
            job = replace(job, cluster_ids=tuple(dict.fromkeys(ids)))
        queue.check(job)
        now = service.clock.now()
        admission, found = service.planning.dry_run(job, at=now)
        best = service.planning.rank(job, at=now) if cluster is not None else ()
        return {
            "schema": "gridtide/dry-run/v1",
            "placement": views.placement_view(admission.placement),
            "baseline": views.baseline_view(admission.baseline),
            "explanation": views.explanation_view(job, found, note=note),
            "ranked": [views.placement_view(one) for one in best],
        }


def _add_read_routes(app: FastAPI, service: Service) -> None:
    store = service.store

    @app.get("/v1/jobs/{job_id}/explain")
    def explain(job_id: str) -> views.Document:
        record = store.get_job(job_id)
        found = service.planning.explain(record, store.active_jobs())
        if found is None:
            raise ConflictError(
                f"job {job_id} is {record.state} and has no placement to explain: {record.reason}",
                job_id=job_id,
                state=record.state,
            )
        return views.explanation_view(record.job, found)

    @app.get("/v1/jobs/{job_id}/events")
    def events(job_id: str) -> views.Document:
        store.get_job(job_id)
        listed = store.events(job_id=job_id)
        return {
            "schema": "gridtide/events/v1",
            "events": [views.event_view(event) for event in listed],
        }

    @app.get("/v1/regions")
    def regions() -> views.Document:
        return views.region_views(
            _places(service), service.forecaster.infos, service.forecaster.statuses()
        )


def _add_forecast_routes(app: FastAPI, service: Service) -> None:
    # A path: zones of a trace, and names of cloud regions, may hold a slash.
    @app.get("/v1/forecasts/{zone:path}/score")
    def score(zone: str) -> views.Document:
        zone_id = _zone_id(service, zone)
        found = service.forecaster.scores(zone_id)
        return views.score_views((zone_id, source, one) for source, one in found.items())

    @app.get("/v1/forecasts/{zone:path}")
    def forecast(zone: str, horizon: str = "48h") -> views.Document:
        zone_id = _zone_id(service, zone)
        horizon_s = min(parse_duration(horizon, field="horizon"), service.settings.planning.horizon)
        grid = SlotGrid.around(
            service.clock.now(), slot_s=service.settings.planning.slot, horizon_s=horizon_s
        )
        layers = service.forecaster.layers(zone_id, Window(grid.origin_at, grid.end_at))
        return views.forecast_view(zone_id, grid, layers)


def _zone_id(service: Service, name: str) -> str:
    """The zone of the fleet that is called so, by any name of the table of regions.

    Raises:
        InvalidInputError: it may be several zones.
        NotFoundError: nothing is called so, or no cluster is there.
    """
    known = service.fleet.zone_ids
    if name in known:
        return name
    try:
        zone_id = load_regions().with_sites(service.settings.sites).resolve(name).zone_id
    except NotFoundError:
        if not nearest(name, known):
            raise
        zone_id = name
    if zone_id not in known:
        called = repr(name) if name == zone_id else f"{zone_id!r} ({name})"
        raise NotFoundError(
            f"zone {called} has no cluster here; {suggest(zone_id, known)}",
            field="zone",
            value=name,
        )
    return zone_id


def _add_report_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/jobs/{job_id}/footprint")
    def footprint(job_id: str) -> views.Document:
        record = service.store.get_job(job_id)
        found = [
            entry
            for entry in service.store.entries(
                from_at=record.job.submitted_at,
                to_at=record.job.submitted_at + timedelta(microseconds=1),
            )
            if entry.job_id == job_id
        ]
        if not found:
            raise ConflictError(
                f"job {job_id} is {record.state}; its footprint is accounted when it has ended",
                job_id=job_id,
                state=record.state,
            )
        return reports.ledger_document(found, refused=Refusals(0))

    @app.get("/v1/reports")
    def report(
        format: Annotated[str, Query(pattern="^(json|csv|html)$")] = "json",
        from_: Annotated[str | None, Query(alias="from")] = None,
        to: str | None = None,
    ) -> Response:
        from_at, to_at = _optional_instant(from_, "from"), _optional_instant(to, "to")
        entries = service.store.entries(from_at=from_at, to_at=to_at)
        if format == "csv":
            return PlainTextResponse(reports.ledger_csv(entries), media_type="text/csv")
        refused = count_refusals(service.store, from_at=from_at, to_at=to_at)
        if format == "html":
            return HTMLResponse(build_report(service, entries, refused=refused))
        return JSONResponse(reports.ledger_document(entries, refused=refused))


def _add_probe_routes(app: FastAPI, service: Service) -> None:
    timed, places = TimedChecks(), CapacityLimiter(_PROBES)

    # Awaited, although it waits for nothing: the threads of requests may all hang in a store.
    @app.get("/healthz")
    async def healthz() -> views.Document:
        return {"status": "ok", "now": format_instant(service.clock.now())}

    @app.get("/readyz")
    async def readyz(request: Request, within: str = "4s") -> Response:
        # A probe shows no token, and comes every few seconds: the others cost commands and requests.
        is_probe = not is_authorised(
            request.headers.get("authorization"), service.settings.server.token_hashes
        )
        # A source or a cluster that is down does not keep jobs from being taken: they wait, and say so.
        own = service.own_parts()
        most_s = PROBE_S if is_probe else _LONGEST_S
        ask = partial(
            timed.ask,
            own if is_probe else service.parts(),
            within_s=min(most_s, parse_duration(within, field="within")),
        )
        found = await to_thread.run_sync(ask, limiter=places)
        is_ready = all(one.is_ok for name in own for one in found[name] if one.subject == name)
        document = {
            "schema": "gridtide/doctor/v1",
            "ready": is_ready,
            "complete": not is_probe,
            "checks": [
                {"subject": check.subject, "ok": check.is_ok, "detail": check.detail}
                for checks in found.values()
                for check in checks
            ],
        }
        return JSONResponse(document, status_code=200 if is_ready else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(
            render_metrics(
                service.store, service.cycle, service.forecaster, now=service.clock.now()
            ),
            media_type=CONTENT_TYPE_LATEST,
        )

    @app.get("/")
    def home() -> Response:
        return HTMLResponse(build_home(service))


def _place_now(service: Service, record: JobRecord) -> Placement:
    now = service.clock.now()
    placement = service.planning.place_at(record, now, service.store.active_jobs())
    if placement is None:
        raise ConflictError(
            f"job {record.job.job_id}: no cluster may run it now",
            job_id=record.job.job_id,
        )
    return placement


def _states(names: list[str] | None) -> frozenset[JobState] | None:
    if not names:
        return None
    for name in names:
        if name not in list(JobState):
            raise InvalidInputError(
                f"state: {name!r} is not a state; {suggest(name, list(JobState))}",
                field="state",
                value=name,
                valid=", ".join(JobState),
            )
    return frozenset(JobState(name) for name in names)


def _places(service: Service) -> list[tuple[str, str, list[views.Document]]]:
    fleet = service.fleet
    zones = {cluster.region_id: cluster.zone_id for cluster in fleet}
    return [
        (
            region_id,
            zones[region_id],
            [
                {
                    "cluster": cluster.cluster_id,
                    "pue": cluster.pue,
                    "price_per_gpu_hour": cluster.price_per_gpu_hour,
                    "capacity": dict(cluster.capacity),
                    "free": dict(service.clusters[cluster.cluster_id].free_devices()),
                }
                for cluster in fleet
                if cluster.region_id == region_id
            ],
        )
        for region_id in fleet.region_ids
    ]


def _optional_instant(text: str | None, field: str) -> datetime | None:
    return None if text is None else parse_instant(text, field=field)
