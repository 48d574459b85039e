"""Energy and carbon of a run. Facility energy = device energy x PUE."""

from scheduler.core.units import MG_PER_G, WATT_SECONDS_PER_KWH


def energy_kwh(*, power_w: float, duration_s: float, pue: float) -> float:
    """Facility energy in kWh of devices that draw `power_w` for `duration_s`.

    Source: the formula of Strubell et al. 2019 (arXiv 1906.02243) and Patterson et al. 2021
    (arXiv 2104.10350), whose tables `tests/unit/core/test_footprint.py` reproduces.
    """
    return power_w * duration_s * pue / WATT_SECONDS_PER_KWH


def emissions_g(*, power_w: float, pue: float, integral_mg_s: float) -> float:
    """gCO2e of a run at constant power.

    Args:
        power_w: draw of the devices.
        pue: facility factor.
        integral_mg_s: intensity integrated over the run, in mg/kWh x s.
    """
    return power_w * pue * integral_mg_s / WATT_SECONDS_PER_KWH / MG_PER_G
