"""`gridtide dispatcher`: a process of its own that nominates clusters of MultiKueue by the plans of the service.

It is what MultiKueue calls an external dispatcher. All that it goes by is in the manager cluster and in the settings,
so it may be killed at any instant, and several may run at once.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from adapters.cluster.kube_client import KubeClient, path_of
from adapters.cluster.kube_errors import explained
from adapters.cluster.kube_native_hand import change, note_event
from adapters.cluster.kube_native_record import HOLD, STATUS, KubeNative, parse_native
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError
from adapters.cluster.kueue_nominations import (
    Offer,
    all_names,
    is_waiting,
    next_names,
    nominate,
)
from adapters.cluster.kueue_records import KubeWorkload, parse_workload
from adapters.hardware_tables import load_hardware
from adapters.http_client import Stop
from scheduler.client import GridtideClient
from scheduler.core.errors import InvalidConfigError
from scheduler.ports import Clock
from scheduler.server.kubernetes_clusters import connect
from scheduler.server.logs import configure_logs
from scheduler.server.looking import keep_looking
from scheduler.server.multikueue_plans import NoPlanError, WorkerPlans, minute
from scheduler.server.multikueue_settings import MultiKueueSettings
from scheduler.server.multikueue_workers import build_workers
from scheduler.server.safe_starts import SafeStarts
from scheduler.server.settings import Settings, load_settings
from scheduler.server.wiring import build_clock

_log = structlog.get_logger(__name__)
_ASK_S: Final = 10.0
"""So long a plan is waited for; all others wait meanwhile."""


class MultiKueueDispatcher:
    """Offers each Workload that waits to the worker that the plan names, when its window opens.

    Args:
        client: to the manager cluster.
        settings: what is to be nominated.
        plans: of the service.
        wall: wall clock in Unix seconds.
    """

    def __init__(
        self,
        client: KubeClient,
        settings: MultiKueueSettings,
        plans: WorkerPlans,
        *,
        clock: Clock,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - Kubernetes lives on wall time
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings
        self._plans = plans
        self._clock = clock
        self._wall = wall
        self._monotonic = monotonic
        self._since: dict[str, tuple[tuple[str, ...], float]] = {}

    def look(self) -> bool:
        """Nominates what is due in every namespace; False where one of them, a Workload or the service was out of reach."""
        is_well, sees_all, seen = True, True, set[str]()
        self._plans.begin()
        for namespace in self._settings.namespaces:
            try:
                is_well &= self._look(namespace, seen)
            except (KubeRefusedError, KubeSilentError) as error:
                _log.warning("manager_unavailable", error=explained(error, namespace))
                sees_all = False
        if self._plans.silence is not None:
            _log.warning("service_unavailable", error=self._plans.silence)
            is_well = False
        if sees_all:  # what was not seen is not forgotten
            self._since = {key: since for key, since in self._since.items() if key in seen}
            self._plans.forget_but(seen)
        return is_well and sees_all

    def _look(self, namespace: str, seen: set[str]) -> bool:
        listed = self._client.list_all(path_of("workloads", namespace)).items
        waiting = [
            one for one in map(parse_workload, listed) if is_waiting(one, self._settings.check)
        ]
        if not waiting:
            return True
        # Listed after their Workloads: each that is still there is known.
        found = map(parse_native, self._client.list_all(path_of("jobs", namespace)).items)
        jobs = {job.owner: job for job in found}
        seen |= {_key(one) for one in waiting}
        is_well = True
        for workload in waiting:
            job = jobs.get(workload.owner)
            if job is None and workload.owner:
                continue  # deleted meanwhile
            try:
                self._carry_out(workload, job, self.offer(workload, job))
            except (KubeRefusedError, KubeSilentError) as error:
                why = explained(error, namespace)
                _log.error("workload_not_nominated", workload=workload.name, error=why)
                is_well = False
            except Exception:  # noqa: BLE001 - a mistake of ours about one of them must not hold up the others
                _log.exception("workload_not_nominated", workload=workload.name)
                is_well = False
        return is_well

    def offer(self, workload: KubeWorkload, job: KubeNative | None) -> Offer:
        """To whom it is to be offered now; `job` is None where it is of another kind, of which no words are read."""
        since_s = self._nominated_since_s(workload)
        if job is None:
            return self._to_all(workload, "no Job of batch/v1")
        if job.is_held:
            words = f"held by its user; without the annotation {HOLD} it is offered to a worker"
            return Offer(names=workload.nominated, words=words)
        is_time = self._monotonic() >= since_s + self._settings.next_after
        try:
            return self._planned(workload, job, is_time=is_time)
        except NoPlanError as error:
            if error.is_final or is_time:
                return self._to_all(workload, str(error))
            return Offer(names=workload.nominated, words=f"waits for a plan: {error}")

    def _planned(self, workload: KubeWorkload, job: KubeNative, *, is_time: bool) -> Offer:
        """By its plan; raises NoPlanError where there is none."""
        wish, now = self._plans.wish(job), self._clock.now()
        if wish.latest_at is not None and wish.latest_at <= now:
            latest = minute(wish.latest_at)
            return self._to_all(workload, f"its latest safe start, {latest}, has come")
        if workload.nominated and not is_time:
            return Offer(names=workload.nominated, words=job.marks.get(STATUS, ""))
        plan = self._plans.plan(job, wish)
        if wish.latest_at is not None and plan.start_at > now and not workload.nominated:
            latest = minute(wish.latest_at)
            words = f"planned for {plan.words}, offered to all workers by {latest} at the latest"
            return Offer(names=(), words=words)
        names = next_names(workload.nominated, plan.ranking, is_time=is_time)
        return Offer(names=names, words=f"offered to {', '.join(names)}")

    def _to_all(self, workload: KubeWorkload, why: str) -> Offer:
        names = all_names(workload.nominated, self._plans.names)
        return Offer(names=names, words=f"offered to all workers: {why}")

    def _nominated_since_s(self, workload: KubeWorkload) -> float:
        """Since when it has these nominations, as far as this process has seen."""
        kept = self._since.get(_key(workload))
        if kept is None or kept[0] != workload.nominated:
            kept = self._since[_key(workload)] = (workload.nominated, self._monotonic())
        return kept[1]

    def _carry_out(self, workload: KubeWorkload, job: KubeNative | None, offer: Offer) -> None:
        if job is not None and offer.words and job.marks.get(STATUS) != offer.words:
            # First, for a Job that is offered is soon not what was seen any more.
            self._tell(job, offer)
        if offer.names != workload.nominated and nominate(self._client, workload, offer.names):
            _log.info("workload_nominated", workload=workload.name, clusters=list(offer.names))

    def _tell(self, job: KubeNative, offer: Offer) -> None:
        """As far as that can be done: no Job waits for it."""
        reason = "GridtideOffered" if offer.names else "GridtidePlanned"
        try:
            after = change(self._client, job, {STATUS: offer.words})
        except (KubeRefusedError, KubeSilentError) as error:
            _log.warning("user_not_told", job=job.label, error=explained(error, job.namespace))
            return
        if after is not None:
            note_event(self._client, after, reason, offer.words, wall_s=self._wall())


def _key(workload: KubeWorkload) -> str:
    """Under which it is remembered: its Job's uid, where it has one."""
    return workload.owner or f"{workload.namespace}/{workload.name}"


def build_dispatcher(settings: Settings, *, stop: Stop) -> MultiKueueDispatcher:
    """The dispatcher of these settings; nothing is asked yet.

    Raises:
        InvalidConfigError: they name no manager cluster, or workers that are none.
    """
    asked = settings.multikueue
    if asked is None:
        raise InvalidConfigError(
            f"{settings.place('multikueue')}: missing, so there is nothing to nominate; set it",
            field="multikueue",
            valid="multikueue: {context, namespaces, check, clusters}",
        )
    here = f"http://127.0.0.1:{settings.server.port}"
    service = GridtideClient(asked.url or os.environ.get("GRIDTIDE_URL") or here, timeout_s=_ASK_S)
    client, _ = connect(asked, settings.place("multikueue"), stop=stop)
    clock = build_clock(settings)
    plans = WorkerPlans(
        build_workers(settings),
        lambda document, clusters: service.dry_run(document, clusters=clusters),
        starts=SafeStarts(load_hardware()),
        clock=clock,
    )
    return MultiKueueDispatcher(client, asked, plans, clock=clock)


def dispatch(config_path: Path | None, *, every_s: float, is_once: bool) -> bool:
    """Looks until it is told to stop, or once; whether the last look reached everything."""
    settings = load_settings(config_path)
    configure_logs()
    stop = Stop()
    dispatcher = build_dispatcher(settings, stop=stop)
    return keep_looking(dispatcher.look, stop=stop, every_s=every_s, is_once=is_once)
