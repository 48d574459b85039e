"""What a user may ask of a run: hardware, pauses, width, data, limits."""

from dataclasses import dataclass
from typing import Final

from scheduler.core.errors import InvalidJobError

MAX_GPUS: Final = 1_000_000


def require(is_valid: bool, field_name: str, value: str | float | None, valid: str) -> None:
    """Raises InvalidJobError, naming field, value and valid form, where a term does not hold."""
    if not is_valid:
        raise InvalidJobError(
            f"{field_name}: {value!r} is not valid; it must be {valid}",
            field=field_name,
            value=value,
            valid=valid,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruptible:
    """How a job may be paused.

    Args:
        min_chunk_s: shortest stretch it must run between two pauses.
        checkpoint_cost_s: run time that each resume costs (restore, at full power); also the grace
            between SIGTERM and SIGKILL, 30 s at least.
        max_interruptions: how many pauses it bears.
        is_movable: its checkpoint can be read in any cluster, so that a paused job may go on elsewhere.
    """

    min_chunk_s: int = 3600
    checkpoint_cost_s: int = 600
    max_interruptions: int = 3
    is_movable: bool = False

    def __post_init__(self) -> None:
        require(
            self.min_chunk_s > 0,
            "interruptible.min_chunk",
            self.min_chunk_s,
            "a duration above 0 s",
        )
        require(
            self.checkpoint_cost_s >= 0,
            "interruptible.checkpoint_cost",
            self.checkpoint_cost_s,
            "a duration of 0 s or more",
        )
        require(
            self.max_interruptions >= 0,
            "interruptible.max_interruptions",
            self.max_interruptions,
            "a whole number of 0 or more",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """One line of a scaling profile: devices, useful work per hour in any unit, and draw of all devices."""

    gpus: int
    throughput: float
    power_w: float

    def __post_init__(self) -> None:
        field = "elastic.profile"
        require(0 < self.gpus <= MAX_GPUS, field, self.gpus, f"gpus from 1 to {MAX_GPUS}")
        require(0 < self.throughput < 1e15, field, self.throughput, "a throughput above 0")
        require(0 < self.power_w < 1e9, field, self.power_w, "power_w above 0 and below 1e9")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elastic:
    """How wide a job may run; its width changes at slot borders only.

    Args:
        widths: the scaling profile between `min` and `max`, narrowest first; holds the width that the
            duration was stated for.
        may_idle: it may shrink to nothing for whole slots, at no cost (`min: 0`).
    """

    widths: tuple[Width, ...]
    may_idle: bool = False

    def __post_init__(self) -> None:
        gpus = [width.gpus for width in self.widths]
        require(
            bool(gpus) and gpus == sorted(set(gpus)),
            "elastic.profile",
            str(gpus),
            "one line or more, each with another number of gpus",
        )

    def throughput(self, gpus: int) -> float:
        """Useful work per hour at this width. Raises InvalidJobError where the profile lacks it."""
        for width in self.widths:
            if width.gpus == gpus:
                return width.throughput
        listed = ", ".join(str(width.gpus) for width in self.widths)
        raise InvalidJobError(
            f"elastic.profile: no line for {gpus} gpus, the width that the duration is stated for",
            field="elastic.profile",
            value=gpus,
            valid=f"one of {listed} in resources.accelerators, or a line for {gpus}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataNeed:
    """Data that the job reads: moving it to a cluster outside its region takes energy, time and money."""

    gb: float
    region_id: str

    def __post_init__(self) -> None:
        require(0 < self.gb < 1e9, "data.gb", self.gb, "gigabytes above 0 and below 1e9")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What must hold of a job's placement, beside its times and places. None: no limit.

    Args:
        carbon_price: currency per tonne of CO2e; with it, money and carbon are weighed as one.
        max_cost: most money that a run may cost.
        max_carbon_g: most grams that a run may be expected to emit.
        min_renewable_share: least share of renewable power, in every slot that it runs in.
    """

    carbon_price: float | None = None
    max_cost: float | None = None
    max_carbon_g: float | None = None
    min_renewable_share: float | None = None

    def __post_init__(self) -> None:
        for name, top in (
            ("carbon_price", 1e6),
            ("max_cost", 1e12),
            ("max_carbon_g", 1e15),
            ("min_renewable_share", 1.0),
        ):
            value = getattr(self, name)
            require(value is None or 0 <= value <= top, name, value, f"from 0 to {top:g}")


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceOption:
    """One hardware choice of a job: all its GPUs sit in one cluster.

    Args:
        accelerator: canonical name from the hardware table ("H100", "CPU").
        gpus: devices in total over all nodes.
        num_nodes: nodes that start together; divides `gpus`.
        duration_s: expected run time on this hardware.
        power_w: draw of all devices while running, without PUE.
        is_power_estimated: True where `power_w` comes from the hardware table, not from the user.
    """

    accelerator: str
    gpus: int
    num_nodes: int = 1
    duration_s: int
    power_w: float
    is_power_estimated: bool

    def __post_init__(self) -> None:
        require(
            0 < self.gpus <= MAX_GPUS,
            "resources.accelerators",
            self.gpus,
            f"a count from 1 to {MAX_GPUS}",
        )
        require(
            self.num_nodes > 0 and self.gpus % self.num_nodes == 0,
            "resources.num_nodes",
            self.num_nodes,
            "a whole number above 0 that divides the GPUs",
        )
        require(self.duration_s > 0, "duration", self.duration_s, "a duration above 0 s")
        require(0 < self.power_w < 1e9, "power_w", self.power_w, "watts above 0 and below 1e9")
