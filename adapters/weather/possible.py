"""Which weather can be: values outside are errors of unit or transmission."""

from collections.abc import Mapping
from typing import Final

KELVIN: Final = 273.15
"""0 °C in K."""
POSSIBLE: Final[Mapping[str, tuple[float, float]]] = {
    "wind_speed_ms": (0.0, 120.0),
    # Packed archives have nights a little below zero, and hours of less than no rain.
    "irradiance_wm2": (-5.0, 1500.0),
    "temperature_c": (-100.0, 70.0),
    "dewpoint_c": (-120.0, 50.0),
    "precipitation_mm": (-0.1, 500.0),
}
"""Lowest and highest hourly value of each of the core's variables."""
