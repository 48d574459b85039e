"""Power of accelerators, for jobs that do not state their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scheduler.core.errors import InvalidDataError, InvalidJobError
from scheduler.core.names import suggest

UTILISATION: Final = 0.70
"""Mean draw of a device under training, as a share of its TDP.

Source: Dodge et al. 2022 (arXiv 2206.05229), the 6-billion-parameter transformer: 13,812.4 kWh on 256
A100 over 192 h is 281 W a device, of a TDP of 400 W: 0.70. Their smaller runs lie between 0.43 and
0.92. A stated `power_w` is always better; estimates are marked as such.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One kind of device: canonical name, thermal design power in watts, other names, source."""

    name: str
    tdp_w: float
    aliases: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.tdp_w < 1e5:
            raise InvalidDataError(
                f"tdp_w of {self.name}: {self.tdp_w} is not a power in watts",
                field="tdp_w",
                value=self.tdp_w,
            )


class HardwareTable:
    """Looks accelerators up by any of their names, ignoring case."""

    def __init__(self, accelerators: tuple[Accelerator, ...]) -> None:
        self.accelerators: Final = accelerators
        self._by_name: Final[Mapping[str, Accelerator]] = {
            name.casefold(): accelerator
            for accelerator in accelerators
            for name in (accelerator.name, *accelerator.aliases)
        }

    def get(self, name: str, *, field: str = "resources.accelerators") -> Accelerator:
        """The accelerator of that name.

        Raises:
            InvalidJobError: unknown; the message suggests the nearest.
        """
        found = self._by_name.get(name.strip().casefold())
        if found is None:
            hint = suggest(name, (accelerator.name for accelerator in self.accelerators))
            raise InvalidJobError(
                f"{field}: {name!r} is not in the hardware table; {hint}",
                field=field,
                value=name,
                valid=hint,
            )
        return found

    def has(self, name: str) -> bool:
        """Whether the table knows the name."""
        return name.strip().casefold() in self._by_name

    def power_w(self, name: str, gpus: int) -> float:
        """Estimated draw in watts of that many devices under training: TDP x `UTILISATION`."""
        return self.get(name).tdp_w * UTILISATION * gpus
