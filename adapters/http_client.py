"""Outgoing HTTP for all providers: timeouts, bounded bodies, bounded retries with jitter, typed errors."""

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from scheduler.core.errors import ForecastUnavailableError

_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_MAX_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how much one call may take.

    Args:
        total_s: for one try, over all reads: a slow drip is cut off.
        attempts: tries in all.
    """

    connect_s: float = 5.0
    read_s: float = 10.0
    total_s: float = 20.0
    max_body_bytes: int = 4_000_000
    attempts: int = 3


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


class _TryAgainError(Exception):
    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class HttpClient:
    """Fetches JSON from one host.

    Args:
        base_url: scheme and host.
        headers: sent with every request; never part of an error.
        wait: how pauses between tries are spent.
        chance: source of jitter.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        wait: Callable[[float], None] = _wait,
        chance: random.Random | None = None,
    ) -> None:
        self.base_url: Final = base_url.rstrip("/")
        self._limits = limits or Limits()
        self._wait = wait
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._client = httpx.Client(
            base_url=self.base_url,
            headers={"Accept": "application/json", "User-Agent": "gridtide", **(headers or {})},
            timeout=httpx.Timeout(self._limits.read_s, connect=self._limits.connect_s),
            follow_redirects=True,
            max_redirects=3,
            trust_env=False,
        )

    def get_json(self, path: str, params: Mapping[str, str] | None = None) -> object:
        """The JSON document at that path.

        Raises:
            ForecastUnavailableError: no usable answer; the message says what happened and how often.
        """
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return self._once(path, params)
            except _TryAgainError as error:
                if attempt == self._limits.attempts:
                    raise self._failure(f"{error} ({attempt} tries)", path) from error
                ceiling_s = min(_MAX_WAIT_S, 0.5 * 2**attempt)
                after_s = error.after_s or self._chance.uniform(0, ceiling_s)
                self._wait(min(after_s, _MAX_WAIT_S))
        raise AssertionError("attempts is at least 1")

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _once(self, path: str, params: Mapping[str, str] | None) -> object:
        until = time.monotonic() + self._limits.total_s
        try:
            with self._client.stream("GET", path, params=params) as reply:
                self._require_ok(reply, path)
                body = self._body(reply, path, until)
        except httpx.TooManyRedirects as error:
            raise self._failure("redirects in a circle", path) from error
        except httpx.DecodingError as error:
            raise self._failure("cannot be decompressed", path) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _TryAgainError(f"no answer: {type(error).__name__}") from error
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._failure("answered with broken JSON", path) from error

    def _require_ok(self, reply: httpx.Response, path: str) -> None:
        status = reply.status_code
        if status in _RETRIED:
            raise _TryAgainError(f"answered {status}", _retry_after_s(reply))
        if status != 200:
            raise self._failure(f"answered {status}", path)
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not (kind == "application/json" or kind.endswith("+json")):
            raise self._failure(f"answered with {kind or 'no content type'} instead of JSON", path)

    def _body(self, reply: httpx.Response, path: str, until: float) -> bytes:
        parts, size = [], 0
        for part in reply.iter_bytes(65_536):
            size += len(part)
            if size > self._limits.max_body_bytes:
                raise self._failure(
                    f"answered with more than {self._limits.max_body_bytes} bytes", path
                )
            if time.monotonic() > until:
                raise _TryAgainError(f"took longer than {self._limits.total_s:.0f} s")
            parts.append(part)
        return b"".join(parts)

    def _failure(self, what: str, path: str) -> ForecastUnavailableError:
        return ForecastUnavailableError(
            f"{self.base_url}{path} {what}", url=f"{self.base_url}{path}"
        )


def _retry_after_s(reply: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, from either form of the header."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    now = datetime.now(UTC)  # noqa: TID251 - the header speaks of the wall clock
    return max(0.0, (at - now).total_seconds())
