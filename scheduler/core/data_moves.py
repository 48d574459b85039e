"""Moving a job's data to a cluster outside their region: energy, time and money, each with its source."""

from dataclasses import dataclass

from scheduler.core.terms import DataNeed


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMoves:
    """What moving a gigabyte takes.

    Args:
        kwh_per_gb: energy of the network. Source: Cloud Carbon Footprint, methodology, "Networking":
            0.001 kWh/GB between data centres of large providers. Older surveys of the public internet are
            far higher (Aslan et al. 2018: 0.06 kWh/GB for 2015, halving every two years).
        gb_per_s: speed. An assumption: 1 Gbit/s.
        price_per_gb: money. An assumption: 0.02, what large clouds charge between their regions.
    """

    kwh_per_gb: float = 0.001
    gb_per_s: float = 0.125
    price_per_gb: float = 0.02

    def of(self, data: DataNeed | None, region_id: str) -> "DataMove":
        """What it takes to have the data in a region; nothing where they are."""
        if data is None or data.region_id == region_id:
            return NO_MOVE
        return DataMove(
            kwh=data.gb * self.kwh_per_gb,
            seconds=-int(-data.gb // self.gb_per_s),
            price=data.gb * self.price_per_gb,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMove:
    """One move: energy at the network (no PUE), whole seconds before the start, money."""

    kwh: float = 0.0
    seconds: int = 0
    price: float = 0.0


NO_MOVE = DataMove()
