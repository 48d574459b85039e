"""The workers of MultiKueue, from the settings."""

from adapters.hardware_tables import load_hardware
from scheduler.core.errors import InvalidConfigError
from scheduler.core.hardware import HardwareTable
from scheduler.server.kubernetes_clusters import build_devices
from scheduler.server.multikueue_plans import Worker
from scheduler.server.settings import Settings


def build_workers(settings: Settings) -> list[Worker]:
    """The workers of the settings.

    Raises:
        InvalidConfigError: one that is no cluster of kind kubernetes.
    """
    hardware = load_hardware()
    named = settings.multikueue.clusters if settings.multikueue else {}
    return [_worker(name, one, settings, hardware) for name, one in named.items()]


def _worker(name: str, cluster_id: str, settings: Settings, hardware: HardwareTable) -> Worker:
    cluster = next((one for one in settings.clusters if one.id == cluster_id), None)
    field = f"multikueue.clusters.{name}"
    if cluster is None or cluster.kubernetes is None:
        raise InvalidConfigError(
            f"{settings.place(field)}: {cluster_id!r} is no cluster of kind kubernetes; "
            f"clusters are {', '.join(one.id for one in settings.clusters)}",
            field=field,
            value=cluster_id,
            valid="the id of a cluster of kind kubernetes",
        )
    place = f"clusters.{cluster_id}"
    capacity = {
        hardware.get(one, field=f"{place}.capacity").name: count
        for one, count in cluster.capacity.items()
    }
    devices = build_devices(cluster.kubernetes, capacity, hardware, f"{place}.kubernetes.devices")
    return Worker(name=name, cluster_id=cluster_id, devices=devices, capacity=capacity)
