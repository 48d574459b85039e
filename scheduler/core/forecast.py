"""Carbon intensity over time: one series a zone and source, and the matrix that a plan reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scheduler.core.errors import ForecastRejectedError, InvalidInputError
from scheduler.core.timegrid import SlotGrid, Window, as_utc

GAP_MG: Final = -1
"""Marks an interval without a value. Never a valid intensity: those are 0 or more."""
MAX_G_PER_KWH: Final = 3000.0
_SPREAD: Final = 2.5631
"""Standard deviations of a normal distribution between its quantiles of 10 and 90 %."""


class SignalKind(StrEnum):
    """Which kilowatt-hour is meant. Never mixed in one plan."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class Scope(StrEnum):
    """Which emissions are counted. Never mixed in one plan."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"


class Quality(StrEnum):
    """How much a value is worth, best first."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    FORECAST = "forecast"
    TYPICAL = "typical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where numbers come from; travels with every placement and ledger entry.

    Args:
        source: adapter name, and the file or dataset where there is one.
        issued_at: when the source made the values; None where it does not say.
        is_fallback: True where a better source was configured and could not serve.
    """

    source: str
    signal: SignalKind
    scope: Scope
    quality: Quality
    issued_at: datetime | None = None
    is_fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensitySeries:
    """Intensity of one zone as a step function: value i holds on `[edges_s[i], edges_s[i+1])`.

    Args:
        zone_id: grid area.
        edges_s: int64, shape (n + 1,), seconds since the Unix epoch, strictly increasing.
        mg_per_kwh: int64, shape (n,), milligrams CO2e per kWh, `GAP_MG` where unknown.
        provenance: of all its values.
        low_mg, high_mg: int64, shape (n,), quantiles of 10 and 90 %; None where the source states none.

    Raises:
        ForecastRejectedError: wrong shapes, edges out of order, or a value that cannot be true.
    """

    zone_id: str
    edges_s: NDArray[np.int64]
    mg_per_kwh: NDArray[np.int64]
    provenance: Provenance
    low_mg: NDArray[np.int64] | None = None
    high_mg: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        edges, values = self.edges_s, self.mg_per_kwh
        if edges.ndim != 1 or values.ndim != 1 or len(edges) != len(values) + 1 or not len(values):
            raise self._rejected(f"shapes {edges.shape} and {values.shape} do not fit")
        if not (np.diff(edges) > 0).all():
            raise self._rejected("times are not strictly increasing")
        if ((values < 0) & (values != GAP_MG)).any() or (values > MAX_G_PER_KWH * 1000).any():
            raise self._rejected(f"values outside 0 to {MAX_G_PER_KWH:.0f} g/kWh")
        if any(
            one is not None and one.shape != values.shape for one in (self.low_mg, self.high_mg)
        ):
            raise self._rejected("quantiles do not fit the values")
        for name in ("edges_s", "mg_per_kwh", "low_mg", "high_mg"):
            given = getattr(self, name)
            if given is None:
                continue
            array = np.array(given, dtype=np.int64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def _rejected(self, why: str) -> ForecastRejectedError:
        source = self.provenance.source
        return ForecastRejectedError(
            f"{source}: intensity of zone {self.zone_id} was refused: {why}",
            zone=self.zone_id,
            source=source,
        )

    @classmethod
    def from_g_per_kwh(
        cls,
        zone_id: str,
        edges_s: NDArray[np.int64],
        g_per_kwh: NDArray[np.float64],
        provenance: Provenance,
    ) -> "IntensitySeries":
        """A series from grams per kWh, where NaN marks a gap (rounded to whole milligrams).

        Raises:
            ForecastRejectedError: infinite, negative or implausibly high values.
        """
        is_gap = np.isnan(g_per_kwh)
        rounded = np.where(is_gap, 0.0, np.clip(g_per_kwh * 1000, -2, MAX_G_PER_KWH * 1001))
        milligrams = np.rint(rounded).astype(np.int64)
        # A true -0.001 g would round onto the gap mark: negative values stay visibly wrong.
        milligrams = np.where(g_per_kwh < 0, np.int64(-2), milligrams)
        return cls(
            zone_id=zone_id,
            edges_s=edges_s,
            mg_per_kwh=np.where(is_gap, np.int64(GAP_MG), milligrams),
            provenance=provenance,
        )

    @property
    def coverage_s(self) -> tuple[int, int]:
        """First and last instant that the edges span, in epoch seconds (gaps may lie between)."""
        return int(self.edges_s[0]), int(self.edges_s[-1])

    def ended_by(self, at_s: float) -> "IntensitySeries | None":
        """Only the intervals that have ended by that epoch second; None where no value is among them."""
        count = max(int(np.searchsorted(self.edges_s, at_s, side="right")) - 1, 0)
        if not (self.mg_per_kwh[:count] != GAP_MG).any():
            return None
        return IntensitySeries(
            zone_id=self.zone_id,
            edges_s=self.edges_s[: count + 1],
            mg_per_kwh=self.mg_per_kwh[:count],
            provenance=self.provenance,
            low_mg=None if self.low_mg is None else self.low_mg[:count],
            high_mg=None if self.high_mg is None else self.high_mg[:count],
        )

    def cumulative(
        self, at_s: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Integral of intensity, and seconds without a value, from the first edge up to each time.

        Args:
            at_s: epoch seconds, shape (k,). Time outside the edges counts as without a value.

        Returns:
            mg/kWh x s, shape (k,), and seconds of gap, shape (k,). Both exact below 2**53.
        """
        is_gap = self.mg_per_kwh == GAP_MG
        lengths = np.diff(self.edges_s)
        known = np.where(is_gap, 0, self.mg_per_kwh)
        mg_s = np.concatenate(([0], np.cumsum(known * lengths)))
        gap_s = np.concatenate(([0], np.cumsum(is_gap * lengths)))
        index = np.clip(np.searchsorted(self.edges_s, at_s, side="right") - 1, 0, len(known) - 1)
        inside = np.clip(at_s, self.edges_s[0], self.edges_s[-1])
        into_s = inside - self.edges_s[index]
        return mg_s[index] + into_s * known[index], gap_s[index] + into_s * is_gap[index] + (
            at_s - inside
        )

    def integral_mg_s(self, window: Window) -> float | None:
        """Integral over the window in mg/kWh x s, or None where any of it has no value."""
        at_s = np.array([window.start_at.timestamp(), window.end_at.timestamp()])
        mg_s, gap_s = self.cumulative(at_s)
        return None if gap_s[1] - gap_s[0] > 1e-3 else float(mg_s[1] - mg_s[0])

    def band_mg(self, grid: SlotGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Mean quantiles of 10 and 90 % a slot in mg/kWh, shape (slots,); None where none are stated."""
        if self.low_mg is None or self.high_mg is None:
            return None
        low, high = (
            replace(self, mg_per_kwh=_possible(values), low_mg=None, high_mg=None).resampled(grid)[
                0
            ]
            for values in (self.low_mg, self.high_mg)
        )
        return low, high

    def error_mg(self, grid: SlotGrid) -> NDArray[np.float64]:
        """Standard deviation of the error in mg/kWh, shape (slots,), as of a normal one; 0 where not stated."""
        if self.low_mg is None or self.high_mg is None:
            return np.zeros(grid.n_slots)
        spread_mg = _possible(self.high_mg - self.low_mg)
        spread = replace(self, mg_per_kwh=spread_mg, low_mg=None, high_mg=None)
        return spread.resampled(grid)[0] / _SPREAD

    def resampled(self, grid: SlotGrid) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Time-weighted mean a slot in mg/kWh, shape (slots,), and which slots are fully covered."""
        edges_s = (
            np.arange(grid.n_slots + 1, dtype=np.float64) * grid.slot_s + grid.origin_at.timestamp()
        )
        mg_s, gap_s = self.cumulative(edges_s)
        is_covered = np.diff(gap_s) == 0
        mean = np.rint(np.diff(mg_s) / grid.slot_s).astype(np.int64)
        return np.where(is_covered, mean, 0), is_covered


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastMatrix:
    """Intensity of every zone on one grid, with the source of every slot.

    Args:
        zone_ids: names of the first axis.
        mg_per_kwh: int64, shape (zones, slots); 0 where not covered.
        layer: int16, shape (zones, slots): index into `layers[zone]`, -1 where not covered.
        layers: per zone, the provenance of each source used, preferred first.
        error_mg: (zones, slots), standard deviation of the forecast's error in mg/kWh; None where no quantiles are known.
        renewable_share: (zones, slots), 0 to 1, NaN where unknown; None where it is known nowhere.
        unrounded_mg: (zones, slots), mg/kWh before it was rounded; None where whole milligrams are all there is.
    """

    grid: SlotGrid
    zone_ids: tuple[str, ...]
    mg_per_kwh: NDArray[np.int64]
    layer: NDArray[np.int16]
    layers: tuple[tuple[Provenance, ...], ...]
    error_mg: NDArray[np.float64] | None = None
    renewable_share: NDArray[np.float64] | None = None
    unrounded_mg: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for array in (
            self.mg_per_kwh,
            self.layer,
            self.error_mg,
            self.renewable_share,
            self.unrounded_mg,
        ):
            if array is not None:
                array.setflags(write=False)

    @property
    def exact_mg(self) -> NDArray[np.float64]:
        """Intensity in mg/kWh as exactly as it is known, shape (zones, slots)."""
        if self.unrounded_mg is not None:
            return self.unrounded_mg
        return self.mg_per_kwh.astype(np.float64)

    def is_below(self, zones: Sequence[int], least_share: float) -> NDArray[np.bool_]:
        """Where the renewable share is less, or not known; shape (len(zones), slots)."""
        if self.renewable_share is None:
            return np.ones((len(zones), self.grid.n_slots), dtype=np.bool_)
        below: NDArray[np.bool_] = ~(self.renewable_share[list(zones)] >= least_share)
        return below

    def zone(self, zone_id: str) -> int:
        """Row of a zone. Raises KeyError where the matrix lacks it."""
        try:
            return self.zone_ids.index(zone_id)
        except ValueError:
            raise KeyError(zone_id) from None

    def provenance(self, zone_id: str, window: Window) -> Provenance | None:
        """The least trusted source that the window rests on; None where it is not all covered."""
        row = self.zone(zone_id)
        used = self.layer[row, self.grid.slots_touched(window)]
        if not len(used) or used.min() < 0 or window.end_at > self.grid.end_at:
            return None
        return self.layers[row][int(used.max())]


def build_matrix(
    grid: SlotGrid, series_by_zone: Mapping[str, Sequence[IntensitySeries]]
) -> ForecastMatrix:
    """The matrix that takes each slot from the first series that fully covers it.

    Args:
        grid: slots to fill.
        series_by_zone: per zone, series in order of preference; an empty list leaves it uncovered.

    Raises:
        InvalidInputError: the series do not all state one signal kind and one scope.
    """
    kinds = {
        (series.provenance.signal, series.provenance.scope)
        for layers in series_by_zone.values()
        for series in layers
    }
    if len(kinds) > 1:
        named = ", ".join(sorted(f"{signal}/{scope}" for signal, scope in kinds))
        raise InvalidInputError(
            f"signal: {named} cannot be mixed in one plan; configure sources of one kind",
            field="signal",
            value=named,
        )
    shape = (len(series_by_zone), grid.n_slots)
    mg_per_kwh = np.zeros(shape, dtype=np.int64)
    layer = np.full(shape, -1, dtype=np.int16)
    error_mg = np.zeros(shape)
    has_errors = False
    for row, layers in enumerate(series_by_zone.values()):
        for index, series in enumerate(layers):
            values, is_covered = series.resampled(grid)
            takes = is_covered & (layer[row] < 0)
            mg_per_kwh[row, takes] = values[takes]
            layer[row, takes] = index
            if series.low_mg is not None:
                error_mg[row, takes] = series.error_mg(grid)[takes]
                has_errors = True
    return ForecastMatrix(
        grid=grid,
        zone_ids=tuple(series_by_zone),
        mg_per_kwh=mg_per_kwh,
        layer=layer,
        error_mg=error_mg if has_errors else None,
        layers=tuple(
            tuple(series.provenance for series in layers) for layers in series_by_zone.values()
        ),
    )


def _possible(mg_per_kwh: NDArray[np.int64]) -> NDArray[np.int64]:
    """Quantiles may be stated beyond what intensity can be; no plan may fail for that."""
    return np.clip(mg_per_kwh, 0, round(MAX_G_PER_KWH * 1000))


def epoch_s(at: datetime) -> int:
    """Whole seconds since the Unix epoch."""
    return int(as_utc(at).timestamp())
