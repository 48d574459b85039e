"""Typed client of the HTTP API, for the command line and for users' own scripts."""

import os
import random
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from scheduler.core import errors
from scheduler.core.errors import GridtideError, InvalidInputError, OverloadedError

Document = dict[str, Any]
DEFAULT_URL: Final = "http://127.0.0.1:8410"
_TRIES: Final = 4


class ServiceUnreachableError(GridtideError):
    """No service answers at the URL."""

    code = "service_unreachable"
    retryable = True


class ServiceError(GridtideError):
    """An error of the service that has no class of its own here."""

    code = "service_error"


_BY_CODE: Final = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GridtideError)
}


class GridtideClient:
    """Talks to one service. Methods return the documents of the API and raise GridtideError.

    Args:
        url: of the service; GRIDTIDE_URL or loopback where not given.
        token: bearer token; GRIDTIDE_TOKEN or the file that GRIDTIDE_TOKEN_FILE names.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout_s: float = 30.0
    ) -> None:
        self.url: Final = (url or os.environ.get("GRIDTIDE_URL") or DEFAULT_URL).rstrip("/")
        token = token or _token_from_environment()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False
        )

    def __enter__(self) -> "GridtideClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def submit(self, spec: Document, *, key: str | None = None) -> Document:
        """The stored job. Repeated with the same key it is one job."""
        return self._create("/v1/jobs", spec, key)

    def submit_batch(self, specs: Sequence[Document], *, key: str | None = None) -> list[Document]:
        """The stored jobs: all or none."""
        jobs: list[Document] = self._create("/v1/jobs:batch", {"jobs": list(specs)}, key)["jobs"]
        return jobs

    def dry_run(self, spec: Document, *, clusters: Sequence[str] = ()) -> Document:
        """Where and when the job would run, and for named clusters how they rank; nothing is stored."""
        return self._json("POST", "/v1/plan", json=spec, params={"cluster": list(clusters)})

    def list_jobs(
        self,
        *,
        states: Sequence[str] = (),
        project: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Document:
        """A page of jobs, with `next` for the page after."""
        params: dict[str, Any] = {"limit": limit}
        params |= {"state": list(states)} if states else {}
        params |= {"project": project} if project else {}
        params |= {"after": after} if after else {}
        return self._json("GET", "/v1/jobs", params=params)

    def get_job(self, job_id: str) -> Document:
        """One job."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def amend(self, job_id: str, **changes: object) -> Document:
        """The job with another deadline or priority."""
        return self._json("PATCH", f"/v1/jobs/{job_id}", json=changes)

    def cancel(self, job_id: str) -> Document:
        """The job, cancelled or about to be."""
        return self._json("DELETE", f"/v1/jobs/{job_id}")

    def hold(self, job_id: str) -> Document:
        """The job, held or about to be."""
        return self._json("POST", f"/v1/jobs/{job_id}/hold")

    def release(self, job_id: str) -> Document:
        """The job, queued again."""
        return self._json("POST", f"/v1/jobs/{job_id}/release")

    def run_now(self, job_id: str) -> Document:
        """The job, placed at once."""
        return self._json("POST", f"/v1/jobs/{job_id}/run-now")

    def explain(self, job_id: str) -> Document:
        """Why there and then."""
        return self._json("GET", f"/v1/jobs/{job_id}/explain")

    def events(self, job_id: str) -> list[Document]:
        """What happened to the job."""
        events: list[Document] = self._json("GET", f"/v1/jobs/{job_id}/events")["events"]
        return events

    def regions(self) -> Document:
        """Regions, zones, clusters and sources."""
        return self._json("GET", "/v1/regions")

    def forecast(self, zone_id: str, *, horizon: str = "48h") -> Document:
        """Intensity of a zone, by any name of it."""
        return self._json("GET", f"/v1/forecasts/{quote(zone_id)}", params={"horizon": horizon})

    def forecast_scores(self, zone_id: str) -> Document:
        """How good the forecasts of a zone were."""
        return self._json("GET", f"/v1/forecasts/{quote(zone_id)}/score")

    def report_json(self, **period: str) -> Document:
        """The ledger."""
        return self._json("GET", "/v1/reports", params={"format": "json", **period})

    def report_text(self, kind: str, **period: str) -> str:
        """The ledger as `csv` or `html`."""
        return self._send("GET", "/v1/reports", params={"format": kind, **period}).text

    def health(self) -> Document:
        """Liveness, and the service's time."""
        return self._json("GET", "/healthz")

    def readiness(self) -> Document:
        """Every check; also where some fail. Clusters get more time than a probe leaves them."""
        reply = self._raw("GET", "/readyz", params={"within": "25s"})
        if reply.status_code not in (200, 503):
            raise _error(reply)
        document: Document = reply.json()
        if "complete" not in document:
            raise _error(reply)
        if not document["complete"]:
            raise GridtideError(
                "authorization: a bearer token of this service is needed to see all checks"
            )
        return document

    def _create(self, path: str, document: Document, key: str | None) -> Document:
        """POSTs under a key, again where the answer was lost: the key makes that harmless."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        for attempt in range(1, _TRIES + 1):
            try:
                return self._json("POST", path, json=document, headers=headers)
            except GridtideError as error:
                if not error.retryable or attempt == _TRIES:
                    raise
                _rest(attempt)
        raise AssertionError("_TRIES is at least 1")

    def _json(self, method: str, path: str, **kwargs: Any) -> Document:
        document: Document = self._send(method, path, **kwargs).json()
        return document

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """The reply; asked for again where the service had too much to do, for then it has done nothing."""
        for attempt in range(1, _TRIES + 1):
            reply = self._raw(method, path, **kwargs)
            if reply.status_code < 400:
                return reply
            error = _error(reply)
            if not isinstance(error, OverloadedError) or attempt == _TRIES:
                raise error
            _rest(attempt)
        raise AssertionError("_TRIES is at least 1")

    def _raw(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **kwargs)
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"request: it holds {error.object[error.start]!r}, half of a character, which is no text; write it whole",
                field="request",
                valid="Unicode text",
            ) from error
        except httpx.HTTPError as error:
            raise ServiceUnreachableError(
                f"no service at {self.url} ({type(error).__name__}); start it with: gridtide serve",
                url=self.url,
            ) from error


def _rest(attempt: int) -> None:
    """Before the next try: longer each time, and not all at once."""
    threading.Event().wait(random.uniform(0, 0.2 * 2**attempt))  # noqa: S311 - jitter


def _error(reply: httpx.Response) -> GridtideError:
    try:
        document = reply.json()
        code, detail = str(document.pop("code")), str(document.pop("detail"))
    except (ValueError, KeyError, AttributeError):
        return ServiceError(f"the service answered {reply.status_code}: {reply.text[:200]}")
    fields = {
        key: value
        for key, value in document.items()
        if key not in ("type", "title", "status") and isinstance(value, str | int | float | None)
    }
    return _BY_CODE.get(code, ServiceError)(detail, **fields)


def _token_from_environment() -> str | None:
    if os.environ.get("GRIDTIDE_TOKEN"):
        return os.environ["GRIDTIDE_TOKEN"]
    path = os.environ.get("GRIDTIDE_TOKEN_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else None
