"""From documents to jobs that may be stored: checked, bound to the clusters that take them, and tried there."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.cluster.kube_manifests import ManifestPlace
from adapters.cluster.kubernetes import KubernetesCluster
from scheduler.core.errors import (
    GridtideError,
    InfeasibleError,
    InvalidInputError,
    InvalidJobError,
)
from scheduler.core.job import Job, JobRecord
from scheduler.server import schemas
from scheduler.server.kubernetes_permits import with_kubernetes_permits
from scheduler.server.manifest_jobs import fit, with_manifest
from scheduler.server.slurm_permits import with_permits
from scheduler.server.wiring import Service, new_job_id
from scheduler.service.job_queue import Submission
from scheduler.service.trials import Tried


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to submit a job, as it came."""

    document: object
    key: str | None


@dataclass(frozen=True, slots=True)
class Untried:
    """A submission that clusters have to be asked about before it is handed in."""

    submission: Submission


@dataclass(frozen=True, slots=True)
class Key:
    """A client's idempotency key, with what tells a repeat from another request under the same key."""

    text: str
    digest: str | None


class Submissions:
    """Makes submissions for a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def submit(self, asked: Sequence[Asked | Submission]) -> list[JobRecord | Untried | Exception]:
        """Each request's record or error, in order; all that can be accepted are stored in one write."""
        outcomes = [self._outcome(one) for one in asked]
        ready = [one for one in outcomes if isinstance(one, Submission)]
        stored = iter(self._service.queue.submit_each(ready))
        answers = [next(stored) if isinstance(one, Submission) else one for one in outcomes]
        return [
            self._unless_repeated(one, answer) for one, answer in zip(asked, answers, strict=True)
        ]

    def tried(self, untried: Untried) -> Submission:
        """The submission after its clusters were asked. Raises InvalidJobError where none takes it."""
        return self._tried(untried.submission)

    def _tried(self, submission: Submission) -> Submission:
        (outcome,) = self._service.trials.ask([submission.job])
        return _settled(submission, outcome)

    def batch(self, documents: Sequence[object], key: str | None) -> list[JobRecord]:
        """The records of many documents, tried and stored together: all of them or none.

        Raises:
            InvalidInputError: of the first one that is wrong, or taken nowhere; naming its index.
            InfeasibleError: a deadline cannot be met.
            DuplicateJobError: the key is known with another batch.
        """
        digest = None if key is None else _digest(documents)
        keys = [
            None if key is None else Key(f"{key}/{index}", digest)
            for index in range(len(documents))
        ]
        known = self._known_batch(keys)
        if known is not None:
            return known
        try:
            return self._service.queue.submit(self._all_made(documents, keys))
        except (InvalidInputError, InfeasibleError):
            known = self._known_batch(keys)  # by now, as of somebody who asked at the same time
            if known is None:
                raise
            return known

    def _known_batch(self, keys: Sequence[Key | None]) -> list[JobRecord] | None:
        """What a batch became that is asked for again."""
        if self._known(keys[0]) is None:
            return None
        found = [self._known(key) for key in keys]
        return [one for one in found if one is not None]

    def _all_made(
        self, documents: Sequence[object], keys: Sequence[Key | None]
    ) -> list[Submission]:
        made = list[Submission]()
        for index, (document, key) in enumerate(zip(documents, keys, strict=True)):
            try:
                made.append(self._made(document, key))
            except InvalidInputError as error:
                raise _at(index, error) from error
        outcomes = self._service.trials.ask([one.job for one in made])
        settled = list[Submission]()
        for index, (one, outcome) in enumerate(zip(made, outcomes, strict=True)):
            try:
                settled.append(_settled(one, outcome))
            except InvalidJobError as error:
                raise _at(index, error) from error
        return settled

    def for_show(self, document: object) -> tuple[Job, str | None]:
        """The job of a document, and what its user should know, for a plan of which nothing is kept."""
        submission = self._tried(self._made(document, None))
        return submission.job, submission.note

    def _outcome(
        self, asked: Asked | Submission
    ) -> Submission | Untried | JobRecord | GridtideError:
        if isinstance(asked, Submission):
            return asked
        try:
            key = _key_of(asked)
            known = self._known(key)
            if known is not None:
                return known
            made = self._made(asked.document, key)
            outcome = self._service.trials.find(made.job)
            return Untried(made) if outcome is None else _settled(made, outcome)
        except GridtideError as error:
            return error

    def _known(self, key: Key | None) -> JobRecord | None:
        """The job of a request that is a repeat.

        Looked for before the request is judged: its time may have passed, and its own job stands in its way.
        """
        return None if key is None else self._service.store.known_job(key.text, key.digest)

    def _unless_repeated(
        self, asked: Asked | Submission, answer: JobRecord | Untried | Exception
    ) -> JobRecord | Untried | Exception:
        """The answer, or the job of the same request, where that was asked at the same time and came first."""
        if not isinstance(answer, InfeasibleError):
            return answer
        try:
            return self._known(_key_of(asked)) or answer
        except GridtideError as error:
            return error

    def _made(self, document: object, key: Key | None) -> Submission:
        return Submission(
            job=self._job(document),
            idempotency_key=None if key is None else key.text,
            request_digest=None if key is None else key.digest,
        )

    def _job(self, document: object) -> Job:
        service = self._service
        spec = schemas.parse_job_spec(with_manifest(document))
        places = self._places(spec)
        spec, taking = fit(spec, places, service.hardware) if places else (spec, ())
        job = schemas.build_job(
            spec,
            job_id=new_job_id(spec.name),
            now=service.clock.now(),
            hardware=service.hardware,
            region_ids=service.fleet.region_ids,
        )
        if taking:
            job = replace(job, cluster_ids=taking)
        job = with_permits(job, service.settings.clusters, service.fleet)
        job = with_kubernetes_permits(job, service.settings.clusters, service.fleet)
        schemas.require_prices(job, service.fleet)
        return job

    def _places(self, spec: schemas.JobSpec) -> dict[str, ManifestPlace]:
        """The clusters that would take its manifest, as far as its site and its user let it; none without one."""
        if spec.kubernetes is None or spec.kubernetes.manifest is None:
            return {}
        places = dict[str, ManifestPlace]()
        for one in self._service.settings.clusters:
            adapter = self._service.clusters[one.id]
            is_allowed = one.kubernetes is not None and "manifest" in one.kubernetes.allow
            is_listed = not spec.regions or one.region in spec.regions
            is_wanted = is_listed and one.region not in spec.forbid_regions
            if isinstance(adapter, KubernetesCluster) and is_allowed and is_wanted:
                places[one.id] = adapter.place
        return places


def _key_of(asked: Asked | Submission) -> Key | None:
    if isinstance(asked, Submission):
        text, digest = asked.idempotency_key, asked.request_digest
        return None if text is None else Key(text, digest)
    return None if asked.key is None else Key(asked.key, _digest(asked.document))


def _digest(document: object) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _settled(submission: Submission, outcome: Tried | InvalidJobError) -> Submission:
    if isinstance(outcome, InvalidJobError):
        raise outcome
    is_same = outcome.job is submission.job and outcome.note == submission.note
    return submission if is_same else replace(submission, job=outcome.job, note=outcome.note)


def _at(index: int, error: InvalidInputError) -> InvalidJobError:
    fields = {**error.fields, "index": index}
    return InvalidJobError(f"jobs.{index}: {error.message}", **fields)
