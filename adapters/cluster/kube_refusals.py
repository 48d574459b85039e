"""What a Kubernetes API server's refusals mean: told apart by code and reason, never by one of them alone."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

_MAX_SAID: Final = 600
_NO_RIGHT: Final = re.compile(
    r"User \"(?P<user>[^\"]*)\" cannot (?P<right>\w+ resource \"[\w./-]+\")"
)
_QUOTA: Final = "exceeded quota"
_WARNING: Final = re.compile(r'299 \S+ "(.*)"')


class Refusal(StrEnum):
    """Kinds of refusals, by what is to be done about them."""

    LOGIN = "login"  # 401: the credentials are no good, or not any more
    QUOTA = "quota"  # 403 by a ResourceQuota: no room now
    RIGHT = "right"  # 403: a permission is missing
    POLICY = "policy"  # any other 403, such as by an admission webhook
    MISSING = "missing"  # 404
    EXISTS = "exists"  # 409: the name is taken
    CONFLICT = "conflict"  # 409: a precondition failed, or the object has changed
    EXPIRED = "expired"  # 410: that history is gone, list again
    INVALID = "invalid"  # 400, 413, 415, 422: refused for what it is
    THROTTLED = "throttled"  # 429: later
    BROKEN = "broken"  # 5xx: outcome unknown
    OTHER = "other"


_BY_CODE: Final[Mapping[int, Refusal]] = {
    400: Refusal.INVALID,
    401: Refusal.LOGIN,
    404: Refusal.MISSING,
    410: Refusal.EXPIRED,
    413: Refusal.INVALID,
    415: Refusal.INVALID,
    422: Refusal.INVALID,
    429: Refusal.THROTTLED,
}


class KubeRefusedError(Exception):
    """The server answered, and said no.

    Args:
        code: of HTTP, or of a Status inside a watch.
        reason: of the Status; empty where the answer was none.
        said: what it says, in one line.
        retry_after_s: how long it wants to be left alone, where it says so.
        field: of the object, the first one that it finds wrong, where it says so.
    """

    def __init__(
        self,
        code: int,
        *,
        reason: str,
        said: str,
        retry_after_s: float | None = None,
        field: str = "",
    ) -> None:
        super().__init__(f"answered {code}{f' {reason}' if reason else ''}: {said}".rstrip(": "))
        self.code = code
        self.reason = reason
        self.said = said
        self.retry_after_s = retry_after_s
        self.field = field

    @property
    def kind(self) -> Refusal:
        """What it means."""
        if self.code == 403:
            return self._forbidden()
        if self.code == 409:
            return Refusal.EXISTS if self.reason == "AlreadyExists" else Refusal.CONFLICT
        if self.code >= 500:
            return Refusal.BROKEN
        return _BY_CODE.get(self.code, Refusal.OTHER)

    @property
    def missing_right(self) -> str:
        """The permission that is missing, such as `create resource "jobs"`, and who lacks it; else empty."""
        found = _NO_RIGHT.search(self.said)
        return f"{found['user']} may not {found['right']}" if found else ""

    def _forbidden(self) -> Refusal:
        if _QUOTA in self.said:
            return Refusal.QUOTA
        return Refusal.RIGHT if self.missing_right else Refusal.POLICY


class KubeSilentError(Exception):
    """No answer that can be read; `was_sent` is False where the request cannot have been acted upon."""

    def __init__(self, why: str, *, was_sent: bool) -> None:
        super().__init__(why)
        self.was_sent = was_sent


KubeError = KubeRefusedError | KubeSilentError


@dataclass(frozen=True, slots=True)
class Answer:
    """What came with a status code; `warnings` are headers, as they were sent."""

    code: int
    body: bytes
    retry_after: str = ""
    warnings: tuple[str, ...] = ()


def warnings_of(answer: Answer) -> tuple[str, ...]:
    """What the server warns of, such as `would violate PodSecurity "restricted:latest": ...`."""
    found = (_WARNING.fullmatch(header.strip()) for header in answer.warnings)
    return tuple(_one_line(re.sub(r"\\(.)", r"\1", one[1])) for one in found if one)


def refusal_of(answer: Answer) -> KubeRefusedError:
    """The error for an answer that is no success; bodies that are no Status are quoted."""
    header = answer.retry_after.strip()
    after_s = float(header) if header.isascii() and header.isdigit() else None
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        said = _one_line(answer.body[:_MAX_SAID].decode("utf-8", "replace"))
        return KubeRefusedError(answer.code, reason="", said=said, retry_after_s=after_s)
    return refusal_of_status(document, code=answer.code, retry_after_s=after_s)


def refusal_of_status(
    status: Mapping[str, Any], *, code: int | None = None, retry_after_s: float | None = None
) -> KubeRefusedError:
    """The error that a Status stands for; its own code where none is given."""
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    stated = status.get("code")
    after = details.get("retryAfterSeconds")
    if retry_after_s is None and isinstance(after, int | float) and not isinstance(after, bool):
        retry_after_s = float(after)
    return KubeRefusedError(
        code if code is not None else stated if isinstance(stated, int) else 500,
        reason=str(status.get("reason") or ""),
        said=_one_line(str(status.get("message") or "")),
        retry_after_s=retry_after_s,
        field=_field(details),
    )


def _field(details: Mapping[str, Any]) -> str:
    causes = details.get("causes")
    first = causes[0] if isinstance(causes, list) and causes else None
    return _one_line(str(first.get("field") or "")) if isinstance(first, dict) else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_SAID]
