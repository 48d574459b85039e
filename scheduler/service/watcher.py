"""Watch: asks every cluster once for all its runs, and carries users' wishes to running jobs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from scheduler.core.errors import ClusterUnavailableError
from scheduler.core.job import ON_CLUSTER_STATES, JobRecord, JobState, Run, Wanted
from scheduler.ports import Clock, ClusterAdapter, RunState, RunStatus
from scheduler.service.dispatcher import Dispatcher, run_name
from scheduler.service.lifecycle import Lifecycle, unless_conflicting
from scheduler.service.obstacles import SILENT, tell, tell_heard
from scheduler.service.progress import after_run, work_s
from scheduler.service.queue_waits import QueueWaits

_log = structlog.get_logger(__name__)
_S = JobState
EX_TEMPFAIL: Final = 75
"""Exit code of a job that has checkpointed and wants to be run again (sysexits.h)."""
MAX_RUNS: Final = 1000


class Watcher:
    """Brings records up to what the clusters say."""

    def __init__(
        self,
        *,
        clusters: Mapping[str, ClusterAdapter],
        dispatcher: Dispatcher,
        lifecycle: Lifecycle,
        queue_waits: QueueWaits,
        clock: Clock,
    ) -> None:
        self._clusters = clusters
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._queue_waits = queue_waits
        self._clock = clock

    def run(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """All records after one poll a cluster; ended jobs come back in their ended state."""
        names: dict[str, list[str]] = defaultdict(list)
        for record in records:
            if record.run is not None and not record.run.is_ended:
                names[record.run.cluster_id].append(run_name(record))
        statuses: dict[str, Mapping[str, RunStatus] | str] = {}
        for cluster_id, asked in names.items():
            try:
                statuses[cluster_id] = self._clusters[cluster_id].poll(asked)
            except ClusterUnavailableError as error:
                _log.warning("cluster_unavailable", cluster=cluster_id, error=error.message)
                statuses[cluster_id] = error.message
        return [
            unless_conflicting(lambda one: self._update(one, statuses), record)
            for record in records
        ]

    def _update(
        self, record: JobRecord, statuses: Mapping[str, Mapping[str, RunStatus] | str]
    ) -> JobRecord:
        run = record.run
        if run is None or run.is_ended or run.cluster_id not in statuses:
            return record
        answer = statuses[run.cluster_id]
        status = None if isinstance(answer, str) else answer.get(run_name(record))
        silence = _silence(answer, status)
        if silence is not None:
            return tell(self._lifecycle, record, SILENT, silence)
        if record.state is _S.UNCERTAIN:
            record = self._settle(record, run, status)
        elif record.state is _S.DISPATCHING:
            return record  # the dispatcher repeats the submission, which is harmless
        if status is None:
            return self._lost(record) if record.state in ON_CLUSTER_STATES else record
        record = self._advance(tell_heard(self._lifecycle, record), status)
        try:
            return self._carry_out_wish(record)
        except ClusterUnavailableError as error:
            _log.warning("cluster_unavailable", cluster=run.cluster_id, error=error.message)
            return record

    def _settle(self, record: JobRecord, run: Run, status: RunStatus | None) -> JobRecord:
        """A dispatch whose reply was lost: found means dispatched, absent means never started."""
        if status is not None:
            return self._lifecycle.change(
                record.with_run(replace(run, ref=status.ref)), _S.DISPATCHED, kind="found"
            )
        return self._take_back(record, run, "not on its cluster")

    def _cancelled(self, record: JobRecord) -> JobRecord:
        return self._lifecycle.change(record, _S.CANCELLED, kind="cancelled", reason="by the user")

    def _take_back(self, record: JobRecord, run: Run, why: str) -> JobRecord:
        """Nothing of the run has run: the job is planned anew, as if its cluster had not been asked."""
        undone = replace(record, runs=record.runs[:-1], placement=None)
        if record.wanted is Wanted.CANCEL:
            return self._cancelled(undone)
        to = _S.SUSPENDED if undone.runs and undone.runs[-1].attempt == run.attempt else _S.QUEUED
        return self._lifecycle.change(undone, to, kind="not_started", reason=why)

    def _advance(self, record: JobRecord, status: RunStatus) -> JobRecord:
        match status.state:
            case RunState.PENDING:
                return self._pending(record, status)
            case RunState.RUNNING:
                return self._running(record, status)
            case RunState.FROZEN:
                return self._frozen(record, status)
            case RunState.ENDED:
                return self._ended(self._running(record, status), status)
            case RunState.UNSTARTED:
                return self._given_back(record, status)
            case RunState.LOST:
                return self._lost(_with_status(record, status))

    def _pending(self, record: JobRecord, status: RunStatus) -> JobRecord:
        """It waits in the cluster's own queue, which may say why; one that ran was sent back there, not by us."""
        if record.state not in (_S.DISPATCHED, _S.RUNNING) or status.detail in ("", record.reason):
            return record
        return self._lifecycle.note(replace(record, reason=status.detail))

    def _running(self, record: JobRecord, status: RunStatus) -> JobRecord:
        run = record.run
        assert run is not None
        if record.state is _S.RUNNING and run.since is None and status.since is not None:
            return self._lifecycle.note(record.with_run(replace(run, since=status.since)))
        if record.state is _S.SUSPENDED and status.state is RunState.RUNNING and run.since is None:
            return self._continued(record, run, status)
        if record.state is _S.HELD and record.wanted is Wanted.RUN and status.since is not None:
            # Held by its user on the cluster, and let go there again.
            freed = self._lifecycle.change(
                record, _S.SUSPENDED, kind="released", reason="by its user, on the cluster"
            )
            return self._continued(freed, run, status)
        if record.state is not _S.DISPATCHED:
            return record
        began_at = status.spans[0].start_at if status.spans else status.since
        if began_at is not None and run.submitted_at is not None:
            waited_s = (began_at - run.submitted_at).total_seconds()
            self._queue_waits.note(run.cluster_id, waited_s)
        started = record.with_run(replace(run, since=status.since))
        return self._lifecycle.change(started, _S.RUNNING, kind="running", reason=None)

    def _continued(self, record: JobRecord, run: Run, status: RunStatus) -> JobRecord:
        """It was let go on by somebody else, or by its guard."""
        going = record.with_run(replace(run, pause_requested_at=None, since=status.since))
        return self._lifecycle.change(going, _S.RUNNING, kind="resumed", reason="not by Gridtide")

    def _frozen(self, record: JobRecord, status: RunStatus) -> JobRecord:
        if record.state is not _S.RUNNING:
            return record
        frozen = self._with_rest(_with_status(record, status))
        to = _S.HELD if record.wanted is Wanted.HOLD else _S.SUSPENDED
        return self._lifecycle.change(frozen, to, kind="paused", reason="frozen in place")

    def _ended(self, record: JobRecord, status: RunStatus) -> JobRecord:
        ended = _with_status(record, status)
        run = ended.run
        assert run is not None
        code = status.exit_code
        done = replace(run, is_ended=True, exit_code=code)
        if code == 0:
            done = replace(done, work_s=work_s(ended, done, done.run_s))
            return self._lifecycle.change(ended.with_run(done), _S.SUCCEEDED, kind="succeeded")
        if record.wanted is Wanted.CANCEL:
            return self._cancelled(ended.with_run(done))
        was_paused = run.pause_requested_at is not None and (code is None or code < 0)
        if code == EX_TEMPFAIL or was_paused:
            kept_s = work_s(ended, done, done.run_s) if code == EX_TEMPFAIL else 0.0
            return self._paused(ended.with_run(replace(done, work_s=kept_s)))
        what = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        what = "exit code unknown" if code is None else what
        return self._retry_or_fail(ended.with_run(done), f"{what}. {status.detail}".strip(". "))

    def _paused(self, record: JobRecord) -> JobRecord:
        if len(record.runs) >= MAX_RUNS:
            return self._lifecycle.change(
                record, _S.FAILED, kind="failed", reason=f"did not end within {MAX_RUNS} segments"
            )
        to = _S.HELD if record.wanted is Wanted.HOLD else _S.SUSPENDED
        left = self._with_rest(record)
        return self._lifecycle.change(left, to, kind="paused", reason="checkpointed")

    def _with_rest(self, record: JobRecord) -> JobRecord:
        return replace(record, placement=after_run(record, self._clock.now()))

    def _lost(self, record: JobRecord) -> JobRecord:
        run = record.run
        assert run is not None
        ended = record.with_run(replace(run, is_ended=True))
        if record.wanted is Wanted.CANCEL:
            return self._cancelled(ended)
        return self._retry_or_fail(ended, f"lost on {run.cluster_id}")

    def _given_back(self, record: JobRecord, status: RunStatus) -> JobRecord:
        """Its cluster did not start it in time."""
        run = record.run
        assert run is not None
        if record.wanted is Wanted.CANCEL:
            ended = record.with_run(replace(run, is_ended=True))
            return self._cancelled(ended)
        return self._take_back(record, run, status.detail)

    def _retry_or_fail(self, record: JobRecord, why: str) -> JobRecord:
        if record.attempt <= record.job.max_retries:
            again = replace(record, placement=None)
            return self._lifecycle.change(again, _S.QUEUED, kind="retrying", reason=why)
        return self._lifecycle.change(record, _S.FAILED, kind="failed", reason=why)

    def _carry_out_wish(self, record: JobRecord) -> JobRecord:
        """Repeats what the user wants until the cluster shows it: safe, and survives any crash."""
        run = record.run
        if run is None or run.is_ended or record.wanted is Wanted.RUN:
            return record
        if record.wanted is Wanted.HOLD:
            return self._dispatcher.pause(record, kind="pause_requested")
        self._dispatcher.cancel(record)
        return record


def _silence(answer: Mapping[str, RunStatus] | str, status: RunStatus | None) -> str | None:
    """Why nothing new is known of a run; None where something is."""
    if isinstance(answer, str):
        return answer
    return status.detail if status is not None and status.is_stale else None


def _with_status(record: JobRecord, status: RunStatus) -> JobRecord:
    run = record.run
    assert run is not None
    return record.with_run(
        replace(run, spans=status.spans, since=None, energy_kwh=status.energy_kwh, ref=status.ref)
    )
