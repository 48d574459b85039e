"""Requests to one slurmrestd, with the user's token, and what failed ones mean."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from adapters.cluster.slurm_rest_document import Document, SlurmError, errors, sentence
from adapters.cluster.slurm_token import TokenSource, expiry_s
from adapters.http_client import HttpClient, Limits, NoReplyError, Params
from scheduler.core.errors import ClusterUnavailableError, InvalidConfigError

LIMITS: Final = Limits(
    connect_s=10.0, read_s=60.0, total_s=90.0, max_body_bytes=128_000_000, attempts=1
)
"""slurmrestd itself waits for a controller that is down: 9 s were seen with MessageTimeout=10. A job of a
listing takes about 2.5 kB."""
_REFUSED: Final = frozenset({401, 403, 511})
_TOKEN: Final = frozenset({1007, 5005})
"""Protocol authentication error; zero bytes received, which an expired token looks like on 22.05."""


@dataclass(frozen=True, slots=True)
class RestReply:
    """An answer; `document` is None where it was not JSON."""

    status: int
    document: Document | None
    text: str

    @property
    def complaints(self) -> list[SlurmError]:
        """What Slurm complains of."""
        return [] if self.document is None else errors(self.document)

    @property
    def words(self) -> str:
        """The complaints, or the beginning of what is no JSON, on one line."""
        said = sentence(self.complaints) or " ".join(self.text.split())[:200]
        return f"{self.status} {said}" if self.status != 200 else said


class RestLink:
    """One slurmrestd and one user.

    Args:
        cluster_id: named in errors.
        url: scheme, host and port, and a path where a proxy has one.
        user: whose token it is.
        is_plain_http_allowed: send the token without TLS to another machine.
        wall: wall clock in Unix seconds, to tell an expired token.

    Raises:
        InvalidConfigError: a URL that is none, or without TLS.
    """

    def __init__(  # noqa: PLR0913 - named, each once, where clusters are built
        self,
        cluster_id: str,
        url: str,
        *,
        user: str,
        token: TokenSource,
        limits: Limits = LIMITS,
        is_plain_http_allowed: bool = False,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - tokens expire in wall time
    ) -> None:
        self.cluster_id: Final = cluster_id
        self.user: Final = user
        self._token = token
        self._wall = wall
        self._http = HttpClient(url, limits=limits)
        if not is_plain_http_allowed:
            self._require_private(url)

    @property
    def url(self) -> str:
        """Where slurmrestd is."""
        return self._http.base_url

    def send(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        body: Mapping[str, Any] | None = None,
    ) -> RestReply:
        """The answer, whatever its status.

        Raises:
            ClusterUnavailableError: there is no token.
            NoReplyError: no answer.
        """
        reply = self._http.send(
            method,
            path,
            params,
            headers={"X-SLURM-USER-TOKEN": self._token.get()},
            plain_headers={"X-SLURM-USER-NAME": self.user},
            document=body,
        )
        return RestReply(reply.status, _parsed(reply.text), reply.text)

    def ask(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        body: Mapping[str, Any] | None = None,
    ) -> RestReply:
        """Likewise, where it does not matter whether a request that failed has arrived.

        Raises:
            ClusterUnavailableError: no answer, or one that is not of slurmrestd, or no right to ask.
        """
        try:
            reply = self.send(method, path, params, body=body)
        except NoReplyError as error:
            raise self.silence(path, f"{error}") from error
        self.require_heard(path, reply)
        return reply

    def require_heard(self, path: str, reply: RestReply) -> None:
        """Raises ClusterUnavailableError where the answer is none of Slurm."""
        if reply.status in _REFUSED:
            raise self._refused(path, reply)
        if reply.document is None and reply.status != 304:
            raise self.silence(path, f"no JSON, but {reply.words or 'nothing'}")

    def failure(self, path: str, reply: RestReply) -> ClusterUnavailableError:
        """The error for an answer that says that it failed."""
        if any(one.number in _TOKEN for one in reply.complaints):
            return self._refused(path, reply)
        if any(one.number == -1 for one in reply.complaints):
            # It says the same of a token that is refused and of a controller that is away.
            return self._error(
                f"{self.url}{path}: {reply.words}; {self.token_state()}; the controller is down, or it "
                f"refuses the token"
            )
        return self._error(f"{self.url}{path}: {reply.words}")

    def silence(self, path: str, why: str) -> ClusterUnavailableError:
        """The error for no answer."""
        return self._error(
            f"{self.url}{path}: {why}; check that slurmrestd runs there and is reached, and its url"
        )

    def token_state(self) -> str:
        """Until when the token is good, in words."""
        until_s = expiry_s(self._token.get())
        if until_s is None:
            return f"the token of {self.user} does not say until when it is good"
        try:
            until = f"{datetime.fromtimestamp(until_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
        except (OverflowError, ValueError, OSError):
            return f"the token of {self.user} has no usable end"
        if self.is_expired():
            return f"the token of {self.user} expired at {until}: renew it ({self._renewal()})"
        return f"token of {self.user} good until {until}"

    def is_expired(self) -> bool:
        """Whether the token says that its time is up, by our clock."""
        until_s = expiry_s(self._token.get())
        return until_s is not None and until_s <= self._wall()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _refused(self, path: str, reply: RestReply) -> ClusterUnavailableError:
        state = self.token_state()
        hint = (
            "" if self.is_expired() else f"; check `user`, or renew the token ({self._renewal()})"
        )
        return self._error(f"{self.url}{path}: access refused: {reply.words}; {state}{hint}")

    def _renewal(self) -> str:
        return f"scontrol token username={self.user} lifespan=SECONDS"

    def _error(self, what: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(f"{self.cluster_id}: {what}", cluster=self.cluster_id)

    def _require_private(self, url: str) -> None:
        try:
            self._http.require_private()
        except InvalidConfigError as error:
            raise InvalidConfigError(
                "url: must be https, for the token goes with every request; put slurmrestd behind a proxy "
                "with TLS, or set plain_http: true on a network that you trust",
                field="url",
                value=url,
                valid="https://host[:port][/path]",
            ) from error


def _parsed(text: str) -> Document | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
