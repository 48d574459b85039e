"""Whether clusters would take a job, asked before it is accepted: what they refuse for good is refused at once.

A help, not a gate: what is not known in time is accepted, and shows when it is dispatched.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Fleet
from scheduler.core.job import Job
from scheduler.core.terms import ResourceOption
from scheduler.ports import ClusterAdapter, Dispatch, Trial, TryingCluster
from scheduler.service.dispatcher import grace_s

WITHIN_S: Final = 4.0
"""For all trials of one submission, one job or many: what is left then is not tried."""
MAX_WAITING: Final = 8
"""So many submissions wait for trials at once; others are not tried."""
TAKEN_S: Final = 300.0
"""What was taken is believed for so long."""
REFUSED_S: Final = 10.0
"""And what was refused: who mends the cluster wants to see it."""
SILENT_S: Final = 30.0
"""A cluster that did not answer is left alone for so long."""
MAX_SHAPES: Final = 10_000
_SAID_CHARS: Final = 1000

_log = structlog.get_logger(__name__)
_Shape = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A job that may be accepted.

    Args:
        job: bound to the clusters that do not refuse it.
        note: which ones do, and why, and what others warn of; None where there is nothing to say.
    """

    job: Job
    note: str | None = None


class Trials:
    """Asks clusters about the shapes of jobs: what differs in name, times or command alone is one shape.

    Args:
        steady: clock in seconds that is never set.
    """

    def __init__(
        self,
        *,
        clusters: Mapping[str, ClusterAdapter],
        fleet: Fleet,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trying = {
            name: one for name, one in clusters.items() if isinstance(one, TryingCluster)
        }
        self._fleet = fleet
        self._steady = steady
        self._known = dict[_Shape, tuple[float, Trial]]()
        self._silent_until_s = dict[str, float]()
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    def find(self, job: Job) -> Tried | InvalidJobError | None:
        """What is known of such a job without asking; None where a cluster has to be asked."""
        said, is_open = self._look(job)
        return None if is_open else self._verdict(job, said)

    def ask(self, jobs: Sequence[Job]) -> list[Tried | InvalidJobError]:
        """For each job what is known of it, after clusters were asked about what is not, as far as there is time."""
        until_s = self._steady() + WITHIN_S
        if self._waiting.acquire(blocking=False):
            try:
                # One at a time: who waits finds the answer there, and the clusters are spared.
                if self._turn.acquire(timeout=WITHIN_S):
                    try:
                        self._fill(jobs, until_s)
                    finally:
                        self._turn.release()
            finally:
                self._waiting.release()
        return [self._verdict(job, self._look(job)[0]) for job in jobs]

    # ------------------------------------------------------------------ asking

    def _fill(self, jobs: Sequence[Job], until_s: float) -> None:
        for job in jobs:
            for name, option in self._possible(job):
                if name not in self._trying or self._is_known(name, _shape(job, option)):
                    continue
                if self._steady() >= until_s:
                    _log.warning("trials_left_out", jobs=len(jobs), reason="they take too long")
                    return
                self._try(name, job, option)

    def _try(self, name: str, job: Job, option: ResourceOption) -> None:
        trial = self._trying[name].try_out(trial_of(job, option))
        now_s = self._steady()
        if not trial.is_answered:
            _log.warning("trial_unanswered", cluster=name)
            self._silent_until_s[name] = now_s + SILENT_S
            return
        until_s = now_s + (REFUSED_S if trial.refused else TAKEN_S)
        self._known[name, _shape(job, option)] = (until_s, trial)
        if len(self._known) > MAX_SHAPES:
            del self._known[next(iter(self._known))]

    # ------------------------------------------------------------------ what is known

    def _possible(self, job: Job) -> list[tuple[str, ResourceOption]]:
        """Clusters where the job might go, with each option that they have enough devices for."""
        return [
            (cluster.cluster_id, option)
            for cluster in self._fleet
            if job.native is None and job.allows(cluster)
            for option in job.options
            if cluster.gpus(option.accelerator) >= option.gpus
        ]

    def _look(self, job: Job) -> tuple[dict[str, Trial | None], bool]:
        """What each cluster says, None where nothing is known, and whether one has to be asked.

        A cluster refuses a job only if it refuses each of its options.
        """
        said, is_open = dict[str, Trial | None](), False
        for name, option in self._possible(job) if self._trying else ():
            shape = _shape(job, option)
            trial = self._recall(name, shape)
            is_open |= name in self._trying and not self._is_known(name, shape)
            if name not in said or trial is None or not trial.refused:
                said[name] = trial
        return said, is_open

    def _recall(self, name: str, shape: str) -> Trial | None:
        until_s, trial = self._known.get((name, shape), (0.0, None))
        return trial if self._steady() < until_s else None

    def _is_known(self, name: str, shape: str) -> bool:
        """Whether there is no use in asking: it has answered, or does not answer."""
        is_resting = self._steady() < self._silent_until_s.get(name, 0.0)
        return is_resting or self._recall(name, shape) is not None

    def _verdict(self, job: Job, said: Mapping[str, Trial | None]) -> Tried | InvalidJobError:
        answers = {name: trial for name, trial in said.items() if trial is not None}
        refusing = {name: one.refused for name, one in answers.items() if one.refused}
        warning = {name: one.warned for name, one in answers.items() if one.warned}
        if refusing and len(refusing) == len(said):
            return _refusal(job, _words("refused by", refusing), answers[next(iter(refusing))])
        notes = [_words("with a warning from", warning)] if warning else []
        if not refusing:
            return Tried(job=job, note="; ".join(notes) or None)
        notes.insert(0, f"it goes elsewhere: {_words('refused by', refusing)}")
        allowed = [one.cluster_id for one in self._fleet if job.allows(one)]
        left = tuple(one for one in allowed if one not in refusing)
        return Tried(job=replace(job, cluster_ids=left), note="; ".join(notes))


def _words(verb: str, said: Mapping[str, str]) -> str:
    """Who says what, each thing once."""
    by_words = dict[str, list[str]]()
    for name, words in said.items():
        by_words.setdefault(words, []).append(name)
    each = (f"{verb} {' and '.join(names)}: {words}" for words, names in by_words.items())
    return "; ".join(each)[:_SAID_CHARS]


def trial_of(job: Job, option: ResourceOption) -> Dispatch:
    """The first run of such a job on that option, with nothing in it that other jobs of the shape do not share."""
    return Dispatch(
        name=f"{job.job_id}.1.0",
        job_id=job.job_id,
        command=("true",),
        env=(),
        workdir=None,
        accelerator=option.accelerator,
        gpus=option.gpus,
        num_nodes=option.num_nodes,
        checkpoint_key=job.job_id,
        kubernetes=job.kubernetes,
        grace_s=grace_s(job),
    )


def _shape(job: Job, option: ResourceOption) -> str:
    """What a cluster's answer depends on. Not the command: whoever judges that is asked at dispatch."""
    told = (option.accelerator, option.gpus, option.num_nodes, job.kubernetes, grace_s(job))
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _refusal(job: Job, words: str, first: Trial) -> InvalidJobError:
    has_manifest = job.kubernetes is not None and job.kubernetes.manifest is not None
    place = "kubernetes.manifest" if has_manifest else "kubernetes"
    field = f"{place}.{first.field}" if first.field and has_manifest else place
    return InvalidJobError(f"{field}: no cluster takes it: {words}", field=field)
