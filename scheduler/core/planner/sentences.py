"""Figures of a plan in words."""

from typing import Final

from scheduler.core.job import Placement
from scheduler.core.timegrid import format_instant

SAME_SHARE: Final = 0.0005
"""Differences below this share are not worth a word."""

SAME_G: Final = 0.05
"""Nor below what is shown of grams."""


def saving_sentence(
    chosen: Placement, baseline_g: float | None, home_id: str, *, verb: str = "Runs on"
) -> str:
    """Where, when, how much, and how that compares with running at once at home."""
    where = f"{chosen.cluster_id} ({chosen.region_id}) at {format_instant(chosen.window.start_at)}"
    if chosen.widths:
        where += f" on {min(chosen.widths)} to {max(chosen.widths)} devices"
    elif len(chosen.segments) > 1:
        where += f" in {len(chosen.segments)} segments"
    if chosen.planned_g is None:
        return f"{verb} {where}: no forecast covers it, so it starts as early as there is room."
    sentence = f"{verb} {where}: {grams_text(chosen.planned_g)} expected"
    if baseline_g is None:
        return sentence + "."
    return f"{sentence}, {compared(chosen.planned_g, baseline_g)} running at once on {home_id}."


def grams_text(grams: float) -> str:
    """Grams, or kilograms from ten on."""
    return f"{grams / 1000:,.1f} kg" if abs(grams) >= 10_000 else f"{grams:,.1f} g"


def compared(grams: float, reference_g: float) -> str:
    """How the one compares with the other, in words."""
    if reference_g <= 0 or abs(grams - reference_g) < max(SAME_SHARE * reference_g, SAME_G):
        return "the same as"
    share = abs(grams / reference_g - 1)
    return f"{share:.1%} {'less' if grams < reference_g else 'more'} than"
