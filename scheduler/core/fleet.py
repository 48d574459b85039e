"""The fleet: clusters that run jobs, each in one region, each region in one grid zone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from scheduler.core.errors import InvalidConfigError, NotFoundError
from scheduler.core.names import suggest
from scheduler.core.timegrid import SlotGrid
from scheduler.core.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One schedulable target.

    Args:
        cluster_id: name in the configuration.
        region_id: place, as users name it.
        zone_id: grid area whose intensity applies there.
        pue: facility energy / device energy, 1 or more; the mean where it changes.
        capacity: pairs of accelerator and number of devices.
        pue_by_hour: facility factor hour by hour (cooling follows the weather); empty where constant.
        pue_from_at: start of the first of these hours, the last one holds on; None: 24 hours of the UTC day.
        price_per_gpu_hour: money for one device and hour; None where it is not known.
        queue_wait_s: time that jobs wait in the cluster's own queue; kept free before deadlines.
    """

    cluster_id: str
    region_id: str
    zone_id: str
    pue: float
    capacity: tuple[tuple[str, int], ...]
    pue_by_hour: tuple[float, ...] = ()
    pue_from_at: datetime | None = None
    price_per_gpu_hour: float | None = None
    queue_wait_s: int = 0

    def __post_init__(self) -> None:
        if self.pue_from_at is None and len(self.pue_by_hour) not in (0, 24):
            raise InvalidConfigError(
                f"clusters.{self.cluster_id}.pue: {len(self.pue_by_hour)} values; it must be one number, "
                "or 24 for the hours of the UTC day",
                field=f"clusters.{self.cluster_id}.pue",
                value=len(self.pue_by_hour),
                valid="1 or 24 numbers",
            )
        for pue in (self.pue, *self.pue_by_hour):
            if not 1 <= pue <= 5:
                raise InvalidConfigError(
                    f"clusters.{self.cluster_id}.pue: {pue} is not a PUE; it must be from 1 to 5",
                    field=f"clusters.{self.cluster_id}.pue",
                    value=pue,
                    valid="from 1 to 5",
                )
        for accelerator, gpus in self.capacity:
            if gpus < 0:
                raise InvalidConfigError(
                    f"clusters.{self.cluster_id}.capacity.{accelerator}: {gpus} is negative",
                    field=f"clusters.{self.cluster_id}.capacity.{accelerator}",
                    value=gpus,
                    valid="0 or more",
                )

    def pue_on(self, grid: SlotGrid) -> NDArray[np.float64]:
        """The facility factor of each slot, shape (slots,): the mean over its hours."""
        if not self.pue_by_hour:
            return np.full(grid.n_slots, self.pue)
        values = np.array(self.pue_by_hour)
        from_s = 0 if self.pue_from_at is None else int(self.pue_from_at.timestamp())
        step_s = math.gcd(grid.slot_s, SECONDS_PER_HOUR, int(grid.origin_at.timestamp()) - from_s)
        at_s = np.arange(0, grid.horizon_s, step_s) + int(grid.origin_at.timestamp())
        hour = (at_s - from_s) // SECONDS_PER_HOUR
        index = hour % 24 if self.pue_from_at is None else np.clip(hour, 0, len(values) - 1)
        means: NDArray[np.float64] = values[index].reshape(grid.n_slots, -1).mean(axis=1)
        return means

    def gpus(self, accelerator: str) -> int:
        """Devices of this kind, 0 where it has none."""
        return dict(self.capacity).get(accelerator, 0)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All clusters, in the order of the configuration. A *row* is one (cluster, accelerator) pair."""

    clusters: tuple[Cluster, ...]

    def __post_init__(self) -> None:
        if not self.clusters:
            raise InvalidConfigError(
                "clusters: the fleet is empty; configure at least one cluster", field="clusters"
            )
        seen: set[str] = set()
        zone_by_region: dict[str, str] = {}
        for cluster in self.clusters:
            if cluster.cluster_id in seen:
                raise InvalidConfigError(
                    f"clusters: the id {cluster.cluster_id!r} is used twice",
                    field="clusters",
                    value=cluster.cluster_id,
                )
            seen.add(cluster.cluster_id)
            zone_id = zone_by_region.setdefault(cluster.region_id, cluster.zone_id)
            if zone_id != cluster.zone_id:
                raise InvalidConfigError(
                    f"clusters.{cluster.cluster_id}.zone: region {cluster.region_id} is already in "
                    f"zone {zone_id}, not {cluster.zone_id}; a region lies in one zone",
                    field=f"clusters.{cluster.cluster_id}.zone",
                    value=cluster.zone_id,
                    valid=zone_id,
                )

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self.clusters)

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """Every (cluster_id, accelerator), in order; the first axis of capacity arrays."""
        return tuple(
            (cluster.cluster_id, accelerator)
            for cluster in self.clusters
            for accelerator, _ in cluster.capacity
        )

    @property
    def zone_ids(self) -> tuple[str, ...]:
        """Every zone once, in order; the first axis of the forecast matrix."""
        return tuple(dict.fromkeys(cluster.zone_id for cluster in self.clusters))

    @property
    def region_ids(self) -> tuple[str, ...]:
        """Every region once, in order."""
        return tuple(dict.fromkeys(cluster.region_id for cluster in self.clusters))

    def get(self, cluster_id: str) -> Cluster:
        """The cluster of that id.

        Raises:
            NotFoundError: there is none; the message suggests the nearest.
        """
        for cluster in self.clusters:
            if cluster.cluster_id == cluster_id:
                return cluster
        raise NotFoundError(
            f"cluster {cluster_id!r} is not configured; "
            + suggest(cluster_id, (cluster.cluster_id for cluster in self.clusters)),
            field="cluster",
            value=cluster_id,
        )
