"""`gridtide guard`: a process of its own that starts users' Jobs on Kubernetes in time, should nobody else do it.

It reads the settings of the service, and needs neither the service nor its store.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import structlog

from adapters.clocks import SystemClock
from adapters.cluster.kube_errors import explained
from adapters.cluster.kube_guard import KubeGuard
from adapters.cluster.kube_kinds import KubeKind
from adapters.cluster.kube_refusals import KubeRefusedError, KubeSilentError
from adapters.hardware_tables import load_hardware
from adapters.http_client import Stop
from scheduler.core.errors import InvalidConfigError
from scheduler.server.kubernetes_clusters import reach_kubernetes
from scheduler.server.logs import configure_logs
from scheduler.server.looking import keep_looking
from scheduler.server.safe_starts import SafeStarts
from scheduler.server.settings import Settings, load_settings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A kind of jobs in a namespace of a cluster, and who starts what is due there."""

    cluster_id: str
    namespace: str
    kind: KubeKind
    guard: KubeGuard


def build_watched(settings: Settings, *, stop: Stop) -> list[Watched]:
    """Every kind in every namespace in which these settings adopt jobs.

    Raises:
        InvalidConfigError: there is none.
    """
    starts = SafeStarts(load_hardware())
    watched = list[Watched]()
    for one in settings.clusters:
        if one.kubernetes is None or one.kubernetes.adopt is False:
            continue
        reach = reach_kubernetes(one.id, one.kubernetes, stop=stop)
        guard = KubeGuard(
            reach.client,
            find_safe_start=starts.find,
            clock=SystemClock(),
            wall=time.time,  # noqa: TID251 - Kubernetes lives on wall time
            kueue=reach.kueue,
        )
        watched += [
            Watched(cluster_id=one.id, namespace=namespace, kind=kind, guard=guard)
            for namespace, kind in product(reach.adopts, reach.kinds)
        ]
    if not watched:
        raise InvalidConfigError(
            f"{settings.place('clusters')}: no Kubernetes cluster adopts Jobs, so there is nothing to guard; "
            "set kubernetes.adopt",
            field="clusters",
            valid="a cluster with kubernetes: {adopt: true}",
        )
    return watched


def look(watched: Sequence[Watched]) -> bool:
    """Starts what is due everywhere; False where some namespace or Job was out of reach."""
    is_well = True
    for one in watched:
        try:
            swept = one.guard.look(one.namespace, one.kind)
        except (KubeRefusedError, KubeSilentError) as error:
            why = explained(error, one.namespace, one.kind)
            _log.warning("cluster_unavailable", cluster=one.cluster_id, error=why)
            is_well = False
            continue
        except Exception:  # noqa: BLE001 - it is what is left when others fail: one namespace must not end it
            _log.exception("look_failed", cluster=one.cluster_id, namespace=one.namespace)
            is_well = False
            continue
        for label in swept.started:
            _log.info("job_started_by_guard", cluster=one.cluster_id, job=label)
        for label, why in swept.failed.items():
            _log.error("job_not_started", cluster=one.cluster_id, job=label, error=why)
            is_well = False
    return is_well


def guard(config_path: Path | None, *, every_s: float, is_once: bool) -> bool:
    """Looks until it is told to stop, or once; whether the last look reached everything."""
    settings = load_settings(config_path)
    configure_logs()
    stop = Stop()
    watched = build_watched(settings, stop=stop)
    return keep_looking(lambda: look(watched), stop=stop, every_s=every_s, is_once=is_once)
