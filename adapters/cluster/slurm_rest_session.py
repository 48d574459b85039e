"""Speaking with one slurmrestd: its version, its paths, and answers that can be believed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.cluster.slurm_rest_dialect import (
    KNOWN,
    OLD,
    RestDialect,
    Served,
    choose_version,
    parse_served,
)
from adapters.cluster.slurm_rest_document import Document, about, entries, is_empty, text
from adapters.cluster.slurm_rest_link import RestLink, RestReply
from adapters.cluster.slurm_rest_new import NewDialect
from adapters.cluster.slurm_rest_old import OldDialect
from adapters.http_client import NoReplyError, Params
from scheduler.core.errors import ClusterUnavailableError

GONE: Final = frozenset({2017, 2021, 2084})
"""Invalid job id; already done; already finished."""
_JOB: Final = "job/{job_id}"


@dataclass(frozen=True, slots=True)
class Spoken:
    """The version that is spoken; `job_keys` is empty where unknown keys are refused anyway."""

    served: Served
    version: str
    dialect: RestDialect
    job_keys: frozenset[str]


class RestSession:
    """Every method raises ClusterUnavailableError where there is no usable answer.

    Args:
        link: where slurmrestd is, and who asks.
        version: of its interface, such as v0.0.38; the best one known where not given.
    """

    def __init__(self, link: RestLink, *, version: str | None = None) -> None:
        self.link: Final = link
        self.cluster: str | None = None
        """Its cluster's name, where it has told it."""
        self._pinned = version
        self._spoken: Spoken | None = None

    def speak(self) -> Spoken:
        """What is spoken; found out once, and again after each failure: it may have been upgraded."""
        spoken = self._spoken
        if spoken is None:
            self._spoken = spoken = self._choose(self._served())
        return spoken

    def forget(self) -> None:
        """Finds out anew what is spoken."""
        self._spoken = None

    def path(self, name: str) -> str:
        """The path of that name."""
        spoken = self.speak()
        path = spoken.served.find_path("slurm", spoken.version, name)
        if path is None:
            raise ClusterUnavailableError(
                f"{self.link.cluster_id}: slurmrestd at {self.link.url} has no {name} in {spoken.version}",
                cluster=self.link.cluster_id,
            )
        return path

    def job_path(self, job_id: str) -> str:
        """The path of a job."""
        return self.path(_JOB).replace("{job_id}", job_id)

    def find_accounts_path(self, name: str) -> str | None:
        """The path of that name among the accounts; None where they are not served."""
        spoken = self.speak()
        return spoken.served.find_path("slurmdb", spoken.version, name)

    def ask(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        body: Mapping[str, Any] | None = None,
    ) -> RestReply:
        """The answer of Slurm, which may be a refusal."""
        try:
            return self.link.ask(method, path, params, body=body)
        except ClusterUnavailableError:
            self.forget()
            raise

    def entries(self, name: str, key: str) -> list[Document]:
        """The list `key` of the answer at the path of that name."""
        path = self.path(name)
        return self.found(path, self.ask("GET", path), key)

    def found(self, path: str, reply: RestReply, key: str) -> list[Document]:
        """The list of that name; an answer that complains has none that can be believed."""
        document = reply.document or {}
        self.cluster = text(about(document).get("cluster")) or self.cluster
        if is_empty(document):
            return []
        if reply.status != 200 or reply.complaints or not isinstance(document.get(key), list):
            self.forget()
            raise self.link.failure(path, reply)
        return entries(document, key)

    def signal(self, job_id: str, signal: str | None) -> None:
        """Sends a signal to all processes of a job, or cancels it; nothing where it has ended."""
        params = None if signal is None else {"signal": signal}
        self._tell("DELETE", job_id, params=params)

    def update(self, job_id: str, body: Mapping[str, Any]) -> bool:
        """Changes a job; False where it has ended."""
        return self._tell("POST", job_id, body=body)

    def _tell(
        self,
        method: str,
        job_id: str,
        *,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> bool:
        path = self.job_path(job_id)
        reply = self.ask(method, path, params, body=body)
        if any(one.number in GONE for one in reply.complaints):
            return False
        if reply.complaints or reply.status != 200:
            raise self.link.failure(path, reply)
        return True

    def _choose(self, served: Served) -> Spoken:
        version = choose_version(served.versions, self._pinned)
        if version is None:
            wanted = self._pinned or " or ".join(KNOWN)
            raise ClusterUnavailableError(
                f"{self.link.cluster_id}: slurmrestd at {self.link.url} serves "
                f"{', '.join(served.versions) or 'no version'}, not {wanted}; "
                + ("change slurm.rest.version" if self._pinned else "use route: cli"),
                cluster=self.link.cluster_id,
            )
        if version in OLD:
            return Spoken(served, version, OldDialect(), frozenset())
        return Spoken(served, version, NewDialect(), served.job_keys.get(version, frozenset()))

    def _served(self) -> Served:
        for path in ("/openapi/v3", "/openapi"):
            try:
                reply = self.link.send("GET", path)
            except NoReplyError as error:
                raise self.link.silence(path, f"{error}") from error
            if reply.status == 404 and path == "/openapi/v3":
                continue
            self.link.require_heard(path, reply)
            served = parse_served(reply.text)
            if reply.status == 200 and served is not None:
                return served
            raise self.link.silence(path, f"no description of its interface, but {reply.status}")
        raise AssertionError("the last path has no way on")
