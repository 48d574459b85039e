"""Makes configs/forecast/level_coefficients.csv: `python -m tests.benchmarks.level_coefficients`.

Learned from zones whose data may be shipped, so that the file may be, too.
"""

import csv
from pathlib import Path

import numpy as np

from scheduler.core.forecasting.features import DAY, N_LEVEL, history_features
from tests.benchmarks.forecast_data import ZONES, history

OUTPUT = Path("configs/forecast/level_coefficients.csv")
DAYS = 14
EVERY_H = 7  # a sample every 7 hours meets all hours of the day
PENALTY = 1e-3
COLUMNS = (
    "four_weeks",
    "same_weekday",
    "yesterday",
    "day_before",
    "last_day_mean",
    "two_days_before_mean",
    "last_value",
    "last_hours_against_yesterday",
)


def learn(zone_ids: tuple[str, ...], days: int) -> np.ndarray:
    """Coefficients of the level features, shape (hours ahead, features), the same for all these zones."""
    series = {zone_id: history(zone_id) for zone_id in zone_ids}
    table = []
    for day in range(days):
        normal, moment = np.zeros((DAY, N_LEVEL, N_LEVEL)), np.zeros((DAY, N_LEVEL))
        for one in series.values():
            anchors = np.arange(one.first_hour + 28 * DAY, one.stop_hour - days * DAY, EVERY_H)
            features, base = history_features(one, anchors, day)
            features = np.nan_to_num(features[..., :N_LEVEL])
            hours = anchors[:, None] + day * DAY + np.arange(DAY)
            target = np.log(np.maximum(one.at(hours), 1.0)) - base
            target = np.nan_to_num(target)
            weight = 1.0 / target.var()  # zones that vary more must not outvote the others
            normal += weight * np.einsum("nhf,nhg->hfg", features, features)
            moment += weight * np.einsum("nhf,nh->hf", features, target)
        ridge = PENALTY * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(N_LEVEL)
        table.append(np.linalg.solve(normal + ridge, moment[..., None])[..., 0])
    return np.concatenate(table)


def main() -> None:
    """Learns and writes."""
    table = learn(tuple(zone for zone in ZONES if zone != "AU-QLD"), DAYS)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with OUTPUT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["hour_ahead", *COLUMNS])
        for hour, row in enumerate(table):
            writer.writerow([hour, *(f"{value:.4f}" for value in row)])


if __name__ == "__main__":
    main()
