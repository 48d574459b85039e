"""One Slurm cluster through slurmrestd."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from adapters.cluster.slurm_access import Found, Line, SlurmSubmission, look_up
from adapters.cluster.slurm_holdings import HOLDING_STATES, SlurmHolding, SlurmReservation
from adapters.cluster.slurm_parsers import SlurmJob, SlurmNode, add_run
from adapters.cluster.slurm_refusals import refusal, reply_lost
from adapters.cluster.slurm_rest_common import read_holding, read_reservation
from adapters.cluster.slurm_rest_dialect import NotExpressibleError, require_known
from adapters.cluster.slurm_rest_document import (
    Document,
    about,
    entries,
    is_empty,
    number,
    text,
)
from adapters.cluster.slurm_rest_link import RestReply
from adapters.cluster.slurm_rest_session import GONE, RestSession
from adapters.http_client import NoReplyError
from scheduler.core.errors import (
    ClusterUnavailableError,
    DispatchRejectedError,
    UpstreamError,
)

MAX_NAMES_CHARS: Final = 20_000
"""In one query: HTTP libraries refuse URLs of more than 65,536 characters."""
DAY_S: Final = 86_400
NOT_TAKEN: Final = frozenset({401, 403, 404, 511})
"""Statuses by which a submission is turned away unread."""


class SlurmRestClient:
    """See `SlurmAccess`.

    Args:
        session: with its slurmrestd.
        cluster: the cluster's name in the accounts, which several may share; found out where not given.
        wall: wall clock in Unix seconds.
    """

    def __init__(
        self,
        session: RestSession,
        *,
        cluster: str | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - Slurm lives on wall time
    ) -> None:
        self._session = session
        self._link = session.link
        self._id = session.link.cluster_id
        self._cluster = cluster
        self._wall = wall
        self._default_partition: str | None = None

    @property
    def can_suspend(self) -> bool:
        """Never: slurmrestd has no request for it."""
        return False

    @property
    def tells_exits(self) -> bool:
        """Whether an exit code is known when the controller has forgotten the job."""
        return self._session.speak().dialect.accounts_tell_exits

    # ------------------------------------------------------------------ jobs

    def find(self, names: Sequence[str], *, closed: bool = False) -> Found:
        """See `SlurmAccess`: one listing, and the accounts for those that it has no more."""
        return look_up(names, self._listed(frozenset(names)), self._accounted, closed=closed)

    def submit(self, submission: SlurmSubmission, script: bytes) -> str:
        """See `SlurmAccess`."""
        spoken = self._session.speak()
        try:
            body = spoken.dialect.build_submission(submission, script.decode("utf-8"))
            require_known(body, spoken.job_keys)
            json.dumps(body, ensure_ascii=False).encode("utf-8")  # a file name may be no text
        except (NotExpressibleError, UnicodeError) as error:
            raise DispatchRejectedError(f"{self._id}: {error}", cluster=self._id) from error
        path = self._session.path("job/submit")
        try:
            reply = self._link.send("POST", path, body=body)
        except NoReplyError as error:
            if error.was_sent:
                raise reply_lost(self._id, "slurmrestd", f"{error}") from error
            raise self._link.silence(path, f"{error}") from error
        job_id = number((reply.document or {}).get("job_id")) or 0
        if reply.status == 200 and job_id > 0:
            return str(job_id)
        raise self._submission_error(path, reply)

    def terminate(self, job_id: str) -> None:
        """See `SlurmAccess`."""
        self._session.signal(job_id, "TERM")

    def kill(self, job_ids: Sequence[str]) -> None:
        """See `SlurmAccess`."""
        for job_id in job_ids:
            self._session.signal(job_id, "KILL")

    def drop(self, job_ids: Sequence[str]) -> None:
        """See `SlurmAccess`."""
        for job_id in job_ids:
            self._session.signal(job_id, None)

    def drop_pending(self, job_id: str) -> None:
        """See `SlurmAccess`: held, it cannot begin while we look whether it has."""
        if not self._session.update(job_id, {"hold": True}):
            return
        job = self._job(job_id)
        if job is not None and job.state == "PENDING":
            self._session.signal(job_id, None)
        elif job is not None:
            self._session.update(job_id, {"hold": False})

    def comment(self, job_id: str, comment: str) -> None:
        """See `SlurmAccess`."""
        self._session.update(job_id, {"comment": comment})

    def suspend(self, job_id: str) -> bool:
        """See `SlurmAccess`; slurmrestd has no such request."""
        raise self._cannot_suspend(job_id)

    def resume(self, job_id: str) -> bool:
        """See `SlurmAccess`; slurmrestd has no such request."""
        raise self._cannot_suspend(job_id)

    def waiting(self) -> list[SlurmJob]:
        """See `SlurmAccess`."""
        return [job for job in self._listed(None) if job.state == "PENDING"]

    # ------------------------------------------------------------------ the cluster

    def nodes(self) -> list[SlurmNode]:
        """See `SlurmAccess`."""
        dialect = self._session.speak().dialect
        return [dialect.parse_node(node) for node in self._session.entries("nodes", "nodes")]

    def holdings(self) -> list[SlurmHolding]:
        """See `SlurmAccess`."""
        return [
            read_holding(one, job, is_mine=self._is_ours(one))
            for one, job in self._told()
            if job.state in HOLDING_STATES
        ]

    def reservations(self) -> list[SlurmReservation]:
        """See `SlurmAccess`."""
        found = self._session.entries("reservations", "reservations")
        return [kept for one in found if (kept := read_reservation(one)) is not None]

    def default_partition(self) -> str:
        """See `SlurmAccess`; asked once."""
        if self._default_partition is None:
            dialect = self._session.speak().dialect
            found = self._session.entries("partitions", "partitions")
            defaults = [text(one.get("name")) for one in found if dialect.is_default(one)]
            self._default_partition = defaults[0] if defaults else ""
        return self._default_partition

    def partitions(self) -> list[str]:
        """See `SlurmAccess`."""
        dialect = self._session.speak().dialect
        found = self._session.entries("partitions", "partitions")
        return [text(one.get("name")) + "*" * dialect.is_default(one) for one in found]

    def controller_time_s(self) -> float | None:
        """See `SlurmAccess`: slurmrestd does not say."""
        return None

    def controller_check(self) -> Line:
        """See `SlurmAccess`: which slurmrestd and version, the controller, and the token."""
        self._session.forget()  # it may be another one by now
        spoken = self._session.speak()
        reply = self._session.ask("GET", self._session.path("ping"))
        release = text(about(reply.document).get("release")) or "of an unknown release"
        served = ", ".join(spoken.served.versions)
        who = f"slurmrestd {release} at {self._link.url}, {spoken.version} of {served}"
        # Newer ones answer ping whoever asks: only a listing shows that the token is taken. Nothing has
        # changed since tomorrow, so it is an empty one.
        path = self._session.path("jobs")
        tomorrow = {"update_time": str(int(self._wall()) + DAY_S)}
        looked = self._session.ask("GET", path, tomorrow)
        pings = entries(reply.document or {}, "pings")
        if reply.complaints or looked.complaints:
            failed = self._link.failure(path, looked if looked.complaints else reply)
            return False, f"{who}: {failed.message}"
        if not any(text(one.get("ping", one.get("pinged"))).upper() == "UP" for one in pings):
            return False, f"{who}: the controller is not up"
        return True, f"{who}, controller up, {self._link.token_state()}"

    def accounts_check(self) -> Line:
        """See `SlurmAccess`."""
        if self._session.find_accounts_path("jobs") is None:
            return True, (
                "slurmrestd serves no accounts: an end is known for as long as the controller remembers "
                "(MinJobAge); a run that ends while Gridtide is away for longer counts as lost"
            )
        found = self._accounted(["gridtide-looks-whether-the-accounts-answer"])
        if found is None:
            return (
                False,
                "accounts (slurmdb) do not answer; ends are known as long as MinJobAge only",
            )
        if self.tells_exits:
            return True, "accounts (slurmdb) answer"
        return True, (
            "accounts (slurmdb) answer; they do not tell exit codes, which scripts note in their run folder"
        )

    # ------------------------------------------------------------------ listings

    def _listed(self, names: frozenset[str] | None) -> list[SlurmJob]:
        """The user's jobs of these names, or all, as the controller tells them."""
        return [job for one, job in self._told(names) if self._is_ours(one)]

    def _told(self, names: frozenset[str] | None = None) -> Iterator[tuple[Document, SlurmJob]]:
        """Jobs of these names of all users, or all, with the document of each."""
        dialect = self._session.speak().dialect
        for one in self._session.entries("jobs", "jobs"):
            if number(one.get("job_id")) is None:
                continue
            self._cluster = self._cluster or text(one.get("cluster")) or None
            if names is None or one.get("name") in names:
                yield one, dialect.parse_job(one)

    def _is_ours(self, job: Document) -> bool:
        # A slurmrestd that cannot look users up leaves the name empty.
        return text(job.get("user_name")) in (self._link.user, "")

    def _job(self, job_id: str) -> SlurmJob | None:
        path = self._session.job_path(job_id)
        reply = self._session.ask("GET", path)
        if any(one.number in GONE for one in reply.complaints):
            return None
        found = self._session.found(path, reply, "jobs")
        return self._session.speak().dialect.parse_job(found[0]) if found else None

    def _accounted(self, names: Sequence[str]) -> list[SlurmJob] | None:
        """Jobs in the accounts; none where there are no accounts, None where they do not answer."""
        path = self._session.find_accounts_path("jobs")
        if path is None:
            return []
        jobs: list[SlurmJob] = []
        for chunk in _chunks(names):
            found = self._accounted_chunk(path, chunk)
            if found is None:
                return None
            for job in found:
                add_run(jobs, job)
        return jobs

    def _accounted_chunk(self, path: str, names: Sequence[str]) -> list[SlurmJob] | None:
        """The default window would leave out jobs that are to begin in the future."""
        now_s = int(self._wall())
        window = {
            "start_time": f"uts{now_s - 30 * DAY_S}",
            "end_time": f"uts{now_s + 366 * DAY_S}",
        }
        cluster = self._require_cluster()
        asked = {"job_name": ",".join(names), "cluster": cluster, **window}
        try:
            reply = self._session.ask("GET", path, asked)
        except ClusterUnavailableError:
            return None
        document = reply.document or {}
        if reply.complaints or not isinstance(document.get("jobs"), list):
            return [] if is_empty(document) else None
        dialect = self._session.speak().dialect
        return [
            dialect.parse_accounted(one)
            for one in entries(document, "jobs")
            if number(one.get("job_id")) is not None
            and one.get("name") in set(names)
            and one.get("cluster") == cluster
            and one.get("user") in (self._link.user, "", None)
        ]

    def _require_cluster(self) -> str:
        """The cluster's name in the accounts, where those of all clusters stand together."""
        self._cluster = self._cluster or self._session.cluster
        if self._cluster is None:
            path = self._session.find_accounts_path("clusters")
            found = (
                []
                if path is None
                else self._session.found(path, self._session.ask("GET", path), "clusters")
            )
            names = sorted(text(one.get("name")) for one in found)
            if len(names) != 1:
                raise ClusterUnavailableError(
                    f"{self._id}: the accounts know the clusters {', '.join(names) or '(none)'}, and no job of "
                    "the controller says which one it is; set slurm.cluster to its name",
                    cluster=self._id,
                )
            self._cluster = names[0]
        return self._cluster

    # ------------------------------------------------------------------ requests

    def _submission_error(self, path: str, reply: RestReply) -> UpstreamError:
        if reply.status in NOT_TAKEN:
            try:
                self._link.require_heard(path, reply)
            except ClusterUnavailableError as error:
                return error
        is_vague = reply.status >= 500 and any(one.number == -1 for one in reply.complaints)
        if is_vague or (reply.document is None and reply.status != 400):
            # Of a proxy in between, or cut short: it may have gone through.
            return reply_lost(self._id, "slurmrestd", reply.words or "no JSON")
        if reply.status == 200 and not reply.complaints:
            return reply_lost(self._id, "slurmrestd", f"no job id in {reply.words}")
        message = text((reply.document or {}).get("job_submit_user_msg"))
        said = "; ".join(part for part in (reply.words, message) if part)
        return refusal(self._id, "slurmrestd", said)

    def _cannot_suspend(self, job_id: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"{self._id}: slurmrestd cannot suspend or resume job {job_id}; use route: cli",
            cluster=self._id,
        )


def _chunks(names: Iterable[str]) -> Iterable[list[str]]:
    chunk: list[str] = []
    size = 0
    for name in names:
        if chunk and size + len(name) > MAX_NAMES_CHARS:
            yield chunk
            chunk, size = [], 0
        chunk.append(name)
        size += len(name) + 1
    if chunk:
        yield chunk
