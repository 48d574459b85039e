"""What windows emit, draw and cost: the one place where the seconds of a plan become placements."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np

from scheduler.core.fleet import Cluster
from scheduler.core.footprint import emissions_g
from scheduler.core.forecast import Provenance
from scheduler.core.job import JobId, Placement
from scheduler.core.planner.arrays import Floats, Ints
from scheduler.core.planner.snapshot import Choice, PlanRequest, PlanSnapshot
from scheduler.core.timegrid import Window
from scheduler.core.units import MG_PER_G, WATT_SECONDS_PER_KWH

Stretch = tuple[int, int, int, float]
"""First and last second of a segment, its devices, and their draw in watts."""


class _Meter:
    """Integrals over the slots of one cluster: intensity x PUE in mg/kWh x s, and PUE in s."""

    def __init__(self, snapshot: PlanSnapshot, cluster: Cluster) -> None:
        forecast = snapshot.forecast
        row = forecast.zone(cluster.zone_id)
        self.mg_per_kwh: Final = forecast.exact_mg[row]
        self._slot_s: Final = forecast.grid.slot_s
        # With one PUE it multiplies at the end, so that sums stay integers and equal windows cost the same.
        self._pue: Final = None if cluster.pue_by_hour else cluster.pue
        pue = (
            cluster.pue_on(forecast.grid) if cluster.pue_by_hour else np.ones(len(self.mg_per_kwh))
        )
        self._mg_s: Final = _sums(self.mg_per_kwh * pue * self._slot_s)
        self._pue_s: Final = _sums(pue * self._slot_s)
        # For single windows: arrays of one cost ten times as much.
        self._sums: Final = (self._mg_s.tolist(), self._pue_s.tolist())
        layers = set(forecast.layer[row].tolist())
        is_one = len(layers) == 1 and min(layers) >= 0
        self.provenance: Provenance | None = forecast.layers[row][layers.pop()] if is_one else None

    def mg_s(self, start_s: Ints, stop_s: Ints) -> Floats:
        """Intensity x PUE over windows."""
        over = _at(self._mg_s, stop_s, self._slot_s) - _at(self._mg_s, start_s, self._slot_s)
        return over * (self._pue or 1.0)

    def pue_s(self, start_s: Ints, stop_s: Ints) -> Floats:
        """PUE over windows; where it changes, beyond the horizon as in its last slot."""
        over = _at(self._pue_s, stop_s, self._slot_s) - _at(self._pue_s, start_s, self._slot_s)
        return over * (self._pue or 1.0)

    def of_window(self, start_s: int, stop_s: int) -> tuple[float, float]:
        """Both integrals over one window."""
        mg_s, pue_s = (
            _at_one(sums, stop_s, self._slot_s) - _at_one(sums, start_s, self._slot_s)
            for sums in self._sums
        )
        return mg_s * (self._pue or 1.0), pue_s * (self._pue or 1.0)


class Footprints:
    """Builds placements on one snapshot."""

    def __init__(self, snapshot: PlanSnapshot) -> None:
        self._snapshot: Final = snapshot
        self._grid: Final = snapshot.forecast.grid
        self._meters: Final[dict[str, _Meter]] = {}
        self._instants: Final[dict[int, datetime]] = {}
        self._windows: Final[dict[tuple[int, int], Window]] = {}

    def window(self, start_s: int, stop_s: int) -> Window:
        """The window between two seconds of the grid."""
        found = self._windows.get((start_s, stop_s))
        if found is None:
            found = Window(self._grid.at(start_s), self._grid.at(stop_s))
            self._windows[start_s, stop_s] = found
        return found

    def place(
        self, request: PlanRequest, choice: Choice, stretches: Sequence[Stretch], *, is_known: bool
    ) -> Placement:
        """The placement of a job in these stretches.

        Args:
            request: the job.
            choice: where and on what.
            stretches: in order.
            is_known: the forecast covers them.
        """
        meter = self._meter(choice.cluster)
        run_s = device_s = 0
        draw_s = watt_s = watt_mg_s = 0.0
        for start_s, stop_s, gpus, watts in stretches:
            mg_s, pue_s = meter.of_window(start_s, stop_s)
            run_s += stop_s - start_s
            device_s += gpus * (stop_s - start_s)
            draw_s += watts * (stop_s - start_s)
            watt_s += watts * pue_s
            watt_mg_s += watts * mg_s
        planned_g = None
        if is_known:
            planned_g = watt_mg_s / WATT_SECONDS_PER_KWH / MG_PER_G
            planned_g += self.moved_g(choice, stretches[0][0])
        windows = tuple(self.window(start_s, stop_s) for start_s, stop_s, _, _ in stretches)
        cluster, widths = choice.cluster, tuple(gpus for _, _, gpus, _ in stretches)
        return Placement(
            job_id=request.job_id,
            cluster_id=cluster.cluster_id,
            region_id=cluster.region_id,
            zone_id=cluster.zone_id,
            option=choice.option,
            accelerator=choice.accelerator,
            gpus=max(widths),
            power_w=draw_s / run_s if len(stretches) > 1 else stretches[0][3],
            pue=watt_s / draw_s if cluster.pue_by_hour else cluster.pue,
            segments=windows,
            widths=() if len(set(widths)) == 1 else widths,
            energy_kwh=watt_s / WATT_SECONDS_PER_KWH + choice.move.kwh,
            planned_g=planned_g,
            cost=choice.cost(device_s),
            provenance=self._provenance(cluster, windows) if is_known else None,
        )

    def place_runs(
        self, requests: Sequence[PlanRequest], choices: Sequence[Choice], start_s: Ints
    ) -> dict[JobId, Placement]:
        """The placements of jobs that each run whole from these seconds; the forecast covers them."""
        stop_s = start_s + np.array([choice.duration_s for choice in choices], dtype=np.int64)
        grams, pue_s = np.zeros(len(choices)), np.zeros(len(choices))
        by_cluster: dict[str, list[int]] = {}
        for index, choice in enumerate(choices):
            by_cluster.setdefault(choice.cluster.cluster_id, []).append(index)
        for members in by_cluster.values():
            meter, here = self._meter(choices[members[0]].cluster), np.array(members)
            grams[here] = meter.mg_s(start_s[here], stop_s[here])
            pue_s[here] = meter.pue_s(start_s[here], stop_s[here])
        made = {}
        starts, stops = start_s.tolist(), stop_s.tolist()
        for request, choice, first, last, mg_s, facility_s in zip(
            requests, choices, starts, stops, grams.tolist(), pue_s.tolist(), strict=True
        ):
            cluster, window = choice.cluster, self.window(first, last)
            planned_g = emissions_g(power_w=choice.power_w, pue=1.0, integral_mg_s=mg_s)
            if choice.move.kwh:
                planned_g += self.moved_g(choice, first)
            made[request.job_id] = Placement(
                job_id=request.job_id,
                cluster_id=cluster.cluster_id,
                region_id=cluster.region_id,
                zone_id=cluster.zone_id,
                option=choice.option,
                accelerator=choice.accelerator,
                gpus=choice.gpus,
                power_w=choice.power_w,
                pue=facility_s / choice.duration_s if cluster.pue_by_hour else cluster.pue,
                segments=(window,),
                energy_kwh=choice.power_w * facility_s / WATT_SECONDS_PER_KWH + choice.move.kwh,
                planned_g=planned_g,
                cost=choice.cost(choice.gpus * choice.duration_s),
                provenance=self._provenance(cluster, (window,)),
            )
        return made

    def moved_g(self, choice: Choice, start_s: int) -> float:
        """Grams of moving the job's data: at the intensity of the place and slot in which it starts, without PUE."""
        values = self._meter(choice.cluster).mg_per_kwh
        slot = min(start_s // self._grid.slot_s, len(values) - 1)
        return choice.move.kwh * float(values[slot]) / MG_PER_G

    def _meter(self, cluster: Cluster) -> _Meter:
        found = self._meters.get(cluster.cluster_id)
        if found is None:
            found = self._meters[cluster.cluster_id] = _Meter(self._snapshot, cluster)
        return found

    def _provenance(self, cluster: Cluster, windows: Sequence[Window]) -> Provenance | None:
        one = self._meter(cluster).provenance
        if one is not None:
            return one
        whole = Window(windows[0].start_at, windows[-1].end_at)
        return self._snapshot.forecast.provenance(cluster.zone_id, whole)


def _sums(values: Floats) -> Floats:
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _at(sums: Floats, at_s: Ints, slot_s: int) -> Floats:
    """Running sums at these seconds; beyond the last slot as in it."""
    slot = np.minimum(at_s // slot_s, len(sums) - 2)
    into: Floats = sums[slot] + (at_s - slot * slot_s) * (sums[slot + 1] - sums[slot]) / slot_s
    return into


def _at_one(sums: list[float], at_s: int, slot_s: int) -> float:
    """`_at` for one second."""
    slot = min(at_s // slot_s, len(sums) - 2)
    return sums[slot] + (at_s - slot * slot_s) * (sums[slot + 1] - sums[slot]) / slot_s
