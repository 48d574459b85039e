"""By when a native job must be started, by its user's words alone: what holds when nothing else can be asked."""

from collections.abc import Mapping
from datetime import datetime

from adapters.cluster.kube_guard import SafeStart
from scheduler.core.errors import InvalidInputError
from scheduler.core.guard import guard_at, latest_start_at
from scheduler.core.hardware import HardwareTable
from scheduler.server.native_jobs import native_document
from scheduler.server.schemas import build_job, parse_job_spec


class SafeStarts:
    """Reads words as the service does, whatever devices they are for."""

    def __init__(self, hardware: HardwareTable) -> None:
        self._hardware = hardware

    def find(
        self, words: Mapping[str, str], since_at: datetime, limit_s: int | None
    ) -> SafeStart | None:
        """The latest safe start of a job that asks since then; None where its words are wrong.

        Args:
            words: by the names of the fields of a job document.
            since_at: of when its patience counts.
            limit_s: the run time at which its cluster ends it; its duration where it states none.
        """
        try:
            document = {"name": "job", "command": ["native"]}
            document |= native_document(words, limit_s=limit_s)
            job = build_job(
                parse_job_spec(document),
                job_id="job",
                now=since_at,
                hardware=self._hardware,
                region_ids=(),
            )
        except InvalidInputError:
            return None
        at = guard_at(latest_start_at(job), earliest_at=job.earliest_start_at)
        return SafeStart(start_at=at, deadline_at=job.deadline_at)
