"""Kubernetes clusters from their settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from adapters.cluster.kube_adopting import AdoptingKubernetesCluster
from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_config import KubeLoginError, find_context
from adapters.cluster.kube_kinds import KINDS, KubeKind
from adapters.cluster.kube_link import KubeLink
from adapters.cluster.kube_login import InClusterLogin, KubeconfigLogin, LoginSource
from adapters.cluster.kube_objects import KubeDevice, KubeTerms, KubeToleration, KubeVolume
from adapters.cluster.kubernetes import KubePatience, KubernetesCluster
from adapters.cluster.kueue_workloads import Kueue
from adapters.http_client import Stop
from scheduler.core.errors import InvalidConfigError
from scheduler.core.hardware import HardwareTable
from scheduler.ports import Clock
from scheduler.server.kubernetes_settings import (
    DEFAULT_GPU,
    KubernetesDeviceSettings,
    KubernetesLogin,
    KubernetesSettings,
)
from scheduler.server.safe_starts import SafeStarts

_DEFAULT_NAMESPACE = "default"


def build_kubernetes(
    cluster_id: str,
    settings: KubernetesSettings,
    *,
    capacity: Mapping[str, int],
    hardware: HardwareTable,
    clock: Clock,
    stop: Stop | None = None,
) -> KubernetesCluster:
    """The cluster of these settings; nothing is asked of it yet.

    Raises:
        InvalidConfigError: a kubeconfig without that context, or a device that is no accelerator.
    """
    reach = reach_kubernetes(cluster_id, settings, stop=stop)
    field = f"clusters.{cluster_id}.kubernetes.devices"
    make: Callable[..., KubernetesCluster] = KubernetesCluster
    if reach.adopts:
        make = partial(
            AdoptingKubernetesCluster,
            adopts=reach.adopts,
            kinds=reach.kinds,
            find_safe_start=SafeStarts(hardware).find,
        )
    return make(
        cluster_id,
        client=reach.client,
        namespace=reach.namespace,
        capacity=capacity,
        devices=build_devices(settings, capacity, hardware, field),
        terms=_terms(settings),
        clock=clock,
        prefix=settings.prefix,
        patience=KubePatience(start_s=settings.start_within),
        kueue=reach.kueue,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How a cluster is reached, where our Jobs go, and where and of which kinds users' own are planned."""

    client: KubeClient
    namespace: str
    adopts: tuple[str, ...]
    kueue: Kueue | None
    kinds: tuple[KubeKind, ...]


def reach_kubernetes(
    cluster_id: str, settings: KubernetesSettings, *, stop: Stop | None = None
) -> Reach:
    """The way to the cluster of these settings; nothing is asked of it yet.

    Raises:
        InvalidConfigError: a kubeconfig without that context.
    """
    client, stated = connect(settings, f"clusters.{cluster_id}.kubernetes", stop=stop)
    namespace = settings.namespace or stated or _DEFAULT_NAMESPACE
    return Reach(
        client=client,
        namespace=namespace,
        adopts=settings.adopted_namespaces(namespace),
        kueue=None if settings.kueue is None else Kueue(check=settings.kueue.check),
        kinds=tuple(KINDS[name] for name in settings.kinds),
    )


def connect(
    settings: KubernetesLogin, place: str, *, stop: Stop | None = None
) -> tuple[KubeClient, str | None]:
    """A client that logs in so, and the namespace that the login states; nothing is asked yet.

    Raises:
        InvalidConfigError: a kubeconfig without that context.
    """
    source, stated = _login(settings, place)
    # Its own stop where none is given: closing one cluster must not end the others.
    return KubeClient(KubeLink(source, stop=stop or Stop())), stated


def _login(settings: KubernetesLogin, place: str) -> tuple[LoginSource, str | None]:
    """Where logins come from, and the namespace that they state."""
    if settings.in_cluster:
        source = InClusterLogin()
        return source, source.namespace
    paths = [settings.kubeconfig] if settings.kubeconfig else None
    login = KubeconfigLogin(settings.context, paths=paths)
    try:
        return login, find_context(login.paths, settings.context).namespace
    except KubeLoginError as error:
        raise InvalidConfigError(
            f"{place}: {error}", field=f"{place}.context", value=settings.context
        ) from error


def build_devices(
    settings: KubernetesSettings, capacity: Mapping[str, int], hardware: HardwareTable, place: str
) -> dict[str, KubeDevice]:
    """How each accelerator of the capacity is asked for.

    Raises:
        InvalidConfigError: one that is no accelerator.
    """
    known = {hardware.get(name, field=place).name: one for name, one in settings.devices.items()}
    return {name: _device(name, known.get(name) or KubernetesDeviceSettings()) for name in capacity}


def _terms(settings: KubernetesSettings) -> KubeTerms:
    return KubeTerms(
        image=settings.image,
        checkpoints=settings.checkpoint_path,
        checkpoint_claim=settings.checkpoint_claim,
        volumes=tuple(
            KubeVolume(claim=one.claim, path=one.path, is_read_only=one.read_only)
            for one in settings.volumes
        ),
        service_account=settings.service_account,
        pull_secrets=tuple(settings.pull_secrets),
        priority_class=settings.priority_class,
        keep_s=settings.keep,
        instance=settings.prefix.rstrip("-"),
        queue=settings.kueue.queue if settings.kueue else None,
    )


def _device(name: str, settings: KubernetesDeviceSettings) -> KubeDevice:
    return KubeDevice(
        resource=settings.resource or ("cpu" if name == "CPU" else DEFAULT_GPU),
        node_selector=settings.node_selector,
        tolerations=tuple(KubeToleration(**one.model_dump()) for one in settings.tolerations),
        cpus=settings.cpus,
        memory=settings.memory,
    )
