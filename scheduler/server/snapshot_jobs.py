"""The jobs of a snapshot file: what differs in id and times alone is looked into once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from scheduler.core.data_moves import DataMoves
from scheduler.core.errors import InvalidDataError, InvalidInputError, InvalidJobError
from scheduler.core.fleet import Fleet
from scheduler.core.hardware import HardwareTable
from scheduler.core.job import JobId
from scheduler.core.names import suggest
from scheduler.core.planner.chains import find_cycle
from scheduler.core.planner.snapshot import Choice, PlanRequest, choices_of, request_of
from scheduler.core.timegrid import format_instant, parse_instant
from scheduler.server.schemas import JobSpec, build_job, parse_job_spec, require_prices

_TIMES: Final[tuple[str, ...]] = ("deadline", "not_before", "start_by")
Document = dict[str, Any]


class SnapshotJobs:
    """Reads jobs. Those that differ in id and times alone are looked into once."""

    def __init__(
        self, now: datetime, fleet: Fleet, hardware: HardwareTable, moves: DataMoves
    ) -> None:
        self._now: Final = now
        self._fleet: Final = fleet
        self._hardware: Final = hardware
        self._moves: Final = moves
        self._seen: Final[dict[object, PlanRequest]] = {}
        self._choices: Final[dict[object, tuple[Choice, ...]]] = {}
        self._instants: Final[dict[str, datetime]] = {}

    def read(self, jobs: list[Document]) -> tuple[tuple[PlanRequest, ...], list[Document]]:
        """The requests, and those past their deadline as `unplaced` entries."""
        requests, refused, ids = list[PlanRequest](), list[Document](), set[str]()
        for index, given in enumerate(jobs):
            job_id = given.get("id")
            is_text = isinstance(job_id, str) and job_id != "" and job_id.isprintable()
            if not isinstance(job_id, str) or not is_text or job_id in ids:
                why = "is used twice" if is_text else "must be a text of printable characters"
                raise InvalidDataError(
                    f"jobs.{index}.id: {job_id!r} {why}",
                    field=f"jobs.{index}.id",
                    value=str(job_id),
                )
            ids.add(job_id)
            try:
                found = self._request(job_id, given)
            except InvalidInputError as error:
                raise InvalidDataError(
                    f"jobs.{index} ({job_id}): {error.message}", **error.fields
                ) from error
            if isinstance(found, PlanRequest):
                requests.append(found)
            else:
                refused.append(found)
        _require_order(jobs, ids)
        return _without_orphans(requests, refused), refused

    def _request(self, job_id: str, given: Document) -> PlanRequest | Document:
        key = _key(given)
        like = self._seen.get(key)
        if like is not None:
            at = {name: self._instant(given[name], name) for name in _TIMES if name in given}
            past = self._past(job_id, at.get("deadline"), at.get("not_before"))
            return past or self._again(job_id, at, like)
        spec = parse_job_spec(
            {"name": "job", "command": ["true"]}
            | {name: value for name, value in given.items() if name != "id"}
        )
        past = self._past(job_id, spec.deadline, spec.not_before)
        if past is not None:
            return past
        self._seen[key] = request = self._first(job_id, spec)
        return request

    def _instant(self, value: object, field: str) -> datetime:
        """The instant of a text; most stand in many jobs."""
        known = self._instants.get(value) if isinstance(value, str) else None
        if known is None:
            if not isinstance(value, str):
                raise InvalidJobError(
                    f"{field}: {value!r} is not an ISO 8601 time", field=field, value=str(value)
                )
            known = self._instants[value] = parse_instant(value, field=field)
        return known

    def _past(
        self, job_id: str, deadline: datetime | None, not_before: datetime | None
    ) -> Document | None:
        """The `unplaced` entry of a job whose deadline is not after its earliest start."""
        if deadline is None or deadline > max(self._now, not_before or self._now):
            return None
        return {
            "job": job_id,
            "reason": "PAST_DEADLINE",
            "detail": f"the deadline {format_instant(deadline)} is not after the earliest start",
            "earliest_finish": None,
        }

    def _first(self, job_id: str, spec: JobSpec) -> PlanRequest:
        if spec.slurm is not None:
            raise InvalidJobError(
                "slurm: a snapshot does not say which clusters are of Slurm, and what they take; "
                "leave it out, and name regions",
                field="slurm",
                value=", ".join(sorted(spec.slurm.model_fields_set)),
                valid="absent",
            )
        if spec.kubernetes is not None:
            raise InvalidJobError(
                "kubernetes: a snapshot does not say which clusters are of Kubernetes; "
                "leave it out, and name regions",
                field="kubernetes",
                value=", ".join(sorted(spec.kubernetes.model_fields_set)),
                valid="absent",
            )
        job = build_job(
            spec,
            job_id=job_id,
            now=self._now,
            hardware=self._hardware,
            region_ids=self._fleet.region_ids,
        )
        require_prices(job, self._fleet)
        key = (
            job.options,
            job.regions,
            job.forbid_regions,
            job.duration_p95_s,
            job.elastic,
            job.data,
        )
        if key not in self._choices:
            self._choices[key] = choices_of(job, self._fleet, self._moves)
        return request_of(job, self._choices[key])

    def _again(self, job_id: str, at: Mapping[str, datetime], like: PlanRequest) -> PlanRequest:
        """A job like another one, at other times."""
        earliest_at = max(self._now, at.get("not_before", self._now))
        start_by_at = at.get("start_by")
        if start_by_at is not None and start_by_at < earliest_at:
            raise InvalidJobError(
                f"start_by: {format_instant(start_by_at)!r} is not valid; it must be "
                f"{format_instant(earliest_at)} or later",
                field="start_by",
                value=format_instant(start_by_at),
            )
        return PlanRequest(
            job_id=JobId(job_id),
            choices=like.choices,
            earliest_at=earliest_at,
            deadline_at=at.get("deadline", like.deadline_at),
            start_by_at=start_by_at,
            priority=like.priority,
            interruptible=like.interruptible,
            elastic=like.elastic,
            limits=like.limits,
            after=like.after,
        )


def _without_orphans(
    requests: Sequence[PlanRequest], refused: list[Document]
) -> tuple[PlanRequest, ...]:
    """The requests less those that wait for a refused one, which are refused too."""
    gone = {one["job"] for one in refused}
    if not gone:
        return tuple(requests)
    while True:
        orphans = [one for one in requests if one.job_id not in gone and gone & set(one.after)]
        if not orphans:
            return tuple(one for one in requests if one.job_id not in gone)
        for one in orphans:
            missing = ", ".join(sorted(gone & set(one.after)))
            gone.add(one.job_id)
            refused.append(
                {
                    "job": one.job_id,
                    "reason": "AFTER_UNPLACED",
                    "detail": f"it waits for {missing}, which has no place",
                    "earliest_finish": None,
                }
            )


def _key(given: Document) -> tuple[object, ...]:
    """What two jobs share that differ in id and times alone; they state the same kinds of times."""
    return tuple(
        (name, "" if name in _TIMES else repr(value))
        for name, value in sorted(given.items())
        if name != "id"
    )


def _require_order(jobs: list[Document], ids: set[str]) -> None:
    """Refuses jobs that wait for others that are not in the file, or for each other."""
    after = {one["id"]: one["after"] for one in jobs if one.get("after")}
    for job_id, others in after.items():
        for other in others:
            if other not in ids:
                raise InvalidDataError(
                    f"after of {job_id}: {other!r} is not a job of this file; {suggest(other, ids)}",
                    field="after",
                    value=other,
                )
    circle = find_cycle(after)
    if circle is not None:
        named = " -> ".join(circle)
        raise InvalidDataError(
            f"after: jobs wait for each other in a circle: {named}", field="after", value=named
        )
