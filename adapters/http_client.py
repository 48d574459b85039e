"""Outgoing HTTP for all providers: timeouts, bounded bodies, bounded retries with jitter, typed errors."""

import contextlib
import json
import logging
import random
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self

import httpx

from adapters.http_secrets import require_safe, written_forms
from scheduler.core.errors import ForecastUnavailableError

_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_MAX_WAIT_S: Final = 30.0
_DAY_S: Final = 86_400
"""Nobody is believed who wants to be left alone for longer."""
_MAX_REDIRECTS: Final = 3
_GZIP_WBITS: Final = 31
_MAX_ANSWER: Final = 2000
_LEAST_SECRET: Final = 6
"""Shorter ones may be part of any word or number of a usable answer."""
_JSON: Final = frozenset({"application/json"})
_UNSENT: Final = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout),
    *(httpx.InvalidURL, httpx.UnsupportedProtocol),
)
"""Failures before the first byte of a request was sent."""
XML: Final = frozenset({"application/xml", "text/xml"})

Params = Mapping[str, str | Sequence[str]]
"""A query; a list of values repeats its parameter."""

# Its INFO line holds the whole URL, keys in the query included.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how much one call may take.

    Args:
        connect_s: until the connection stands.
        read_s: for one read: silence is cut off.
        total_s: for one try, from connecting to the last byte: a slow drip is cut off.
        max_body_bytes: of the body, unpacked.
        attempts: tries in all.
    """

    connect_s: float = 5.0
    read_s: float = 10.0
    total_s: float = 20.0
    max_body_bytes: int = 4_000_000
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What a server answered, whatever its status; the text is without our own secrets."""

    status: int
    text: str


class NoReplyError(Exception):
    """A request without a usable answer; `was_sent` is False where it cannot have arrived."""

    def __init__(self, why: str, *, was_sent: bool) -> None:
        super().__init__(why)
        self.was_sent = was_sent


class Stop:
    """Once set, the requests of all clients that share it end, and none begins."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._cuts = set[Callable[[], None]]()

    @property
    def is_set(self) -> bool:
        """Whether it is time to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Cuts the connections under way, and ends pauses."""
        with self._lock:
            self._event.set()
            cuts = list(self._cuts)
        for cut in cuts:
            cut()

    def wait(self, seconds: float) -> None:
        """Pauses for so long, or until it is set."""
        self._event.wait(seconds)

    @contextlib.contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """Within it, `cut` is called when it is time to stop, or has been."""
        with self._lock:
            self._cuts.add(cut)
        try:
            if self.is_set:
                cut()
            yield
        finally:
            with self._lock:
                self._cuts.discard(cut)


class _TryAgainError(Exception):
    def __init__(
        self,
        why: str,
        after_s: float | None = None,
        fields: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(why)
        self.after_s = after_s
        self.fields = fields or {}


class HttpClient:
    """Fetches JSON or text from one host. Redirects are followed there, or from http to https.

    Args:
        base_url: scheme and host, and a path where there is one; no credentials.
        headers: sent with every request; never part of an error.
        secret_params: likewise, in the query, for hosts that take their key there.
        wait: how pauses between tries are spent; None for as long as nothing stops them.
        chance: source of jitter.
        stop: ends what is under way when the service stops.

    Raises:
        InvalidConfigError: not such a URL, or headers would go over plain http to another machine.
    """

    def __init__(  # noqa: PLR0913 - named, each once, where sources are built
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secret_params: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        wait: Callable[[float], None] | None = None,
        chance: random.Random | None = None,
        stop: Stop | None = None,
    ) -> None:
        require_safe(base_url, has_secrets=bool(headers or secret_params))
        self._secret_params = dict(secret_params or {})
        self._secrets = (*(headers or {}).values(), *self._secret_params.values())
        self.base_url: Final = base_url.rstrip("/")
        self._limits = limits or Limits()
        self._stop = stop or Stop()
        self._wait = wait or self._stop.wait
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._client = httpx.Client(
            base_url=self.base_url,
            headers={
                "Accept-Encoding": "gzip",
                "User-Agent": "gridtide",
                **(headers or {}),
            },
            timeout=httpx.Timeout(self._limits.read_s, connect=self._limits.connect_s),
            # Calls are minutes apart: a connection of its own for each lets `_Deadline` see it.
            limits=httpx.Limits(max_keepalive_connections=0),
            follow_redirects=False,
            trust_env=False,
        )

    def get_json(
        self,
        path: str,
        params: Params | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> object:
        """The JSON document at that path; None where the server has no content (204).

        Args:
            path: below the base URL.
            params: of the query.
            headers: of this request alone, such as a token that expires; never part of an error.

        Raises:
            ForecastUnavailableError: no usable answer; the message says what happened and how often.
                Where the server refused, the fields hold its `status` and the beginning of its `answer`, and
                `retry_after_s` where it says when to come again.
        """
        wish = _Wish(path, params or {}, headers or {}, _JSON)
        body = self._tried(wish)
        if body is None:
            return None
        try:
            text = body.decode(json.detect_encoding(body))
            return json.loads(self._blanked(text, wish, least=_LEAST_SECRET))
        except (ValueError, RecursionError) as error:
            raise self._failure("answered with broken JSON", path) from error

    def get_text(
        self, path: str, params: Params | None = None, *, media: frozenset[str] = XML
    ) -> str:
        """The text at that path, of one of these media types. Raises as `get_json` does."""
        wish = _Wish(path, params or {}, {}, media)
        body = self._tried(wish)
        try:
            text = (body or b"").decode("utf-8-sig")
            return self._blanked(text, wish, least=_LEAST_SECRET)
        except UnicodeDecodeError as error:
            raise self._failure("answered with text that is not UTF-8", path) from error

    def send(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        plain_headers: Mapping[str, str] | None = None,
        document: object = None,
    ) -> HttpReply:
        """The answer to one request, made once: for servers whose refusals are worth reading.

        Args:
            method: GET, POST or DELETE.
            path: below the base URL.
            params: of the query.
            headers: of this request alone; never part of an error or of the answer.
            plain_headers: likewise, but no secrets.
            document: sent as JSON where given.

        Raises:
            NoReplyError: no answer that can be read, in time and in full.
        """
        content = None if document is None else json.dumps(document).encode("ascii")
        wish = _Wish(path, params or {}, headers or {}, _JSON, method, content, plain_headers or {})
        if self._stop.is_set:
            raise NoReplyError("was given up: the service stops", was_sent=False)
        with (
            _Deadline(self._limits.total_s) as deadline,
            self._stop.cutting(deadline.cut),
        ):
            try:
                with contextlib.closing(self._open(wish, deadline)) as reply:
                    text = self._body(reply, path, deadline).decode("utf-8", "replace")
                    return HttpReply(
                        reply.status_code, self._blanked(text, wish, least=_LEAST_SECRET)
                    )
            except _UNSENT as error:
                raise NoReplyError(f"no answer: {type(error).__name__}", was_sent=False) from error
            except (httpx.TransportError, zlib.error) as error:
                why = deadline.why(f"no answer: {type(error).__name__}")
                raise NoReplyError(why, was_sent=True) from error
            except (_TryAgainError, ForecastUnavailableError) as error:
                raise NoReplyError(str(error), was_sent=True) from error

    def _tried(self, wish: "_Wish") -> bytes | None:
        for attempt in range(1, self._limits.attempts + 1):
            self._require_going_on(wish)
            try:
                return self._once(wish)
            except _TryAgainError as error:
                self._require_going_on(wish)
                if attempt == self._limits.attempts:
                    raise self._failure(
                        f"{error} ({attempt} tries)", wish.path, **error.fields
                    ) from error
                ceiling_s = min(_MAX_WAIT_S, 0.5 * 2**attempt)
                after_s = error.after_s or self._chance.uniform(0, ceiling_s)
                self._wait(min(after_s, _MAX_WAIT_S))
        raise AssertionError("attempts is at least 1")

    def _require_going_on(self, wish: "_Wish") -> None:
        if self._stop.is_set:
            raise self._failure("was given up: the service stops", wish.path)

    def require_private(self) -> None:
        """Raises InvalidConfigError where headers would go over plain http to another machine."""
        require_safe(self.base_url, has_secrets=True)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _once(self, wish: "_Wish") -> bytes | None:
        with (
            _Deadline(self._limits.total_s) as deadline,
            self._stop.cutting(deadline.cut),
        ):
            try:
                with contextlib.closing(self._open(wish, deadline)) as reply:
                    if reply.status_code == 204:
                        return None
                    self._require_ok(reply, wish, deadline)
                    return self._body(reply, wish.path, deadline)
            except zlib.error as error:
                raise self._failure("cannot be decompressed", wish.path) from error
            except (httpx.TransportError, httpx.InvalidURL) as error:
                deadline.require_not_passed()
                raise _TryAgainError(f"no answer: {type(error).__name__}") from error

    def _open(self, wish: "_Wish", deadline: "_Deadline") -> httpx.Response:
        request = self._client.build_request(
            wish.method,
            wish.path,
            params=[*wish.pairs, *self._secret_params.items()] or None,
            content=wish.content,
            headers={
                "Accept": ", ".join(sorted(wish.media)),
                **({} if wish.content is None else {"Content-Type": "application/json"}),
                **wish.plain_headers,
                **wish.headers,
            },
            extensions={"trace": deadline.watch},
        )
        for _ in range(_MAX_REDIRECTS + 1):
            reply = self._client.send(request, stream=True)
            if reply.next_request is None or wish.method != "GET":
                return reply
            reply.close()
            request = reply.next_request
            self._require_same_host(request.url, wish.path)
        raise self._failure(f"redirects more than {_MAX_REDIRECTS} times", wish.path)

    def _require_same_host(self, target: httpx.URL, path: str) -> None:
        base = self._client.base_url
        is_same = (target.scheme, target.host, target.port) == (base.scheme, base.host, base.port)
        is_upgrade = target.host == base.host and (base.scheme, target.scheme) == ("http", "https")
        if not (is_same or is_upgrade):
            where = target.copy_with(userinfo=b"", raw_path=b"/", fragment=None)
            raise self._failure(
                f"redirects to {where}, which is not followed; configure the url that is right",
                path,
            )

    def _require_ok(self, reply: httpx.Response, wish: "_Wish", deadline: "_Deadline") -> None:
        status = reply.status_code
        if status != 200:
            answer = self._refusal(reply, wish, deadline)
            if status in _RETRIED:
                after_s = _retry_after_s(reply)
                asked = {} if after_s is None else {"retry_after_s": round(min(after_s, _DAY_S))}
                raise _TryAgainError(
                    f"answered {status}", after_s, {"status": status, "answer": answer, **asked}
                )
            raise self._failure(f"answered {status}", wish.path, status=status, answer=answer)
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not (kind in wish.media or (wish.media == _JSON and kind.endswith("+json"))):
            wanted = "JSON" if wish.media == _JSON else "XML"
            raise self._failure(
                f"answered with {kind or 'no content type'} instead of {wanted}", wish.path
            )

    def _refusal(self, reply: httpx.Response, wish: "_Wish", deadline: "_Deadline") -> str:
        """The beginning of what came with a refusal, without our own secrets; empty where unreadable."""
        try:
            answer = self._body(reply, wish.path, deadline)[:_MAX_ANSWER].decode("utf-8", "replace")
        except (zlib.error, httpx.TransportError, _TryAgainError, ForecastUnavailableError):
            return ""
        return self._blanked(answer, wish)

    def _blanked(self, text: str, wish: "_Wish", *, least: int = 1) -> str:
        """The text with *** for our own secrets of so many characters or more: servers repeat them."""
        shown = {
            form
            for secret in (*self._secrets, *wish.headers.values())
            # "Bearer <token>" may come back without its first word.
            for part in (secret, secret.partition(" ")[2])
            if len(part) >= least
            for form in written_forms(part)
        }
        for form in sorted(shown, key=len, reverse=True):
            text = text.replace(form, "***")
        return text

    def _body(self, reply: httpx.Response, path: str, deadline: "_Deadline") -> bytes:
        coding = reply.headers.get("content-encoding", "identity").strip().lower()
        if coding not in {"identity", "gzip"}:
            raise self._failure(f"answered in encoding {coding!r}, not in gzip", path)
        gunzip = zlib.decompressobj(_GZIP_WBITS) if coding == "gzip" else None
        limit, received, body = self._limits.max_body_bytes, 0, bytearray()
        for part in reply.iter_raw():
            received += len(part)
            # Never unpacks more than fits: a bomb is met with one byte too many.
            body += part if gunzip is None else gunzip.decompress(part, limit + 1 - len(body))
            if max(received, len(body)) > limit:
                raise self._failure(f"answered with more than {limit} bytes", path)
        # Where the body has no stated length, a cut looks like its end.
        deadline.require_not_passed()
        if gunzip is not None and not gunzip.eof:
            raise self._failure("cannot be decompressed: it ends early", path)
        return bytes(body)

    def _failure(self, what: str, path: str, **fields: str | int) -> ForecastUnavailableError:
        return ForecastUnavailableError(
            f"{self.base_url}{path} {what}", url=f"{self.base_url}{path}", **fields
        )


@dataclass(frozen=True, slots=True)
class _Wish:
    """What one call asks for."""

    path: str
    params: Params
    headers: Mapping[str, str]
    media: frozenset[str]
    method: str = "GET"
    content: bytes | None = None
    plain_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The query, with a parameter for each value of a list."""
        return [
            (name, one)
            for name, value in self.params.items()
            for one in ([value] if isinstance(value, str) else value)
        ]


class _Deadline:
    """Shuts the connection of one try when its time is up, whatever the try waits for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self.cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Notes each new connection; called by the HTTP library at its every step."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = info["return_value"].get_extra_info("socket")
            if self._has_passed:
                self.cut()

    def require_not_passed(self) -> None:
        if self._has_passed:
            raise _TryAgainError(f"took longer than {self._seconds:g} s")

    def why(self, otherwise: str) -> str:
        """Why the try failed: its time was up, or what is given."""
        return f"took longer than {self._seconds:g} s" if self._has_passed else otherwise

    def cut(self) -> None:
        """Ends the try now."""
        self._has_passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not its own method: on TLS that would drop the session under the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _retry_after_s(reply: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, from either form of the header."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        # By the server's own clock, so that ours may be wrong.
        until = parsedate_to_datetime(text) - parsedate_to_datetime(reply.headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, until.total_seconds())
