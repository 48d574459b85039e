"""Errors as problem+json (RFC 9457): a stable code, one sentence, and the fields it speaks of."""

from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from scheduler.core.errors import (
    ConflictError,
    GridtideError,
    InfeasibleError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    StoreError,
    UpstreamError,
)


class InvalidHeaderError(InvalidInputError):
    """A header of the request that cannot be used."""


_STATUS: Final[tuple[tuple[type[GridtideError], int], ...]] = (
    (InfeasibleError, 409),
    (InvalidHeaderError, 400),
    (InvalidInputError, 422),
    (NotFoundError, 404),
    (ConflictError, 409),
    (OverloadedError, 503),
    (StoreError, 503),
    (UpstreamError, 503),
)
_HTTP_CODES: Final = {
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "too_large",
}
_MOST_ECHOED: Final = 100
"""Characters of a wrong value that its problem says at most."""
_OWN_KEYS: Final = frozenset({"type", "title", "status", "code", "detail"})


def add_error_handlers(app: FastAPI) -> None:
    """Every error of a route becomes a problem document."""
    app.add_exception_handler(GridtideError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_query)
    app.add_exception_handler(HTTPException, _on_error)


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **fields: object
) -> Response:
    """A problem document as a response."""
    document = {
        "type": "about:blank",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        **{key: value for key, value in fields.items() if key not in _OWN_KEYS},
    }
    return JSONResponse(
        document, status_code=status, media_type="application/problem+json", headers=headers
    )


def problem_of(error: GridtideError | HTTPException) -> Response:
    """The problem document of an error."""
    if isinstance(error, HTTPException):
        code = _HTTP_CODES.get(error.status_code, "http_error")
        # The rest of a body that came too late is waited for no longer.
        closing = {"Connection": "close"} if error.status_code == 408 else None
        return problem(error.status_code, code, str(error.detail), headers=closing)
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": "2"} if status == 503 else {}
    return problem(status, error.code, error.message, headers=headers, **error.fields)


def _on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GridtideError | HTTPException)
    return problem_of(error)


def _on_invalid_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    given = repr(first.get("input"))
    if len(given) > _MOST_ECHOED:
        given = f"{given[:_MOST_ECHOED]}…"
    detail = f"{name}: {given} is not valid: {first['msg']}"
    return problem(422, InvalidInputError.code, detail, field=name)
