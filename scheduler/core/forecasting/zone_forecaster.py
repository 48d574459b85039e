"""Forecasts of one zone at any hour, fitting models as they are needed."""

from dataclasses import replace
from typing import Final

from scheduler.core.errors import ForecastUnavailableError
from scheduler.core.forecasting.features import DAY
from scheduler.core.forecasting.model import FittedModel, HourlyForecast, Known, fit_model

REFIT_DAYS: Final = 14
"""A model is used for so long; refitting more often was measured to gain nothing (deploy/adr/0012)."""
ALIGNED_FROM_DAYS: Final = 60
"""A shorter history is learned anew every day: it still grows by much."""
LEAST_HISTORY_DAYS: Final = 1.0
MAX_LAG_H: Final = 7 * DAY
"""History that ends longer ago says too little about tomorrow."""
LEAST_RUNS: Final = 60
"""Weather runs, one a day or more, from which on weather is used."""
MAX_WEATHER_AGE_H: Final = 48


class ZoneForecaster:
    """Makes forecasts from what is known at their time, and keeps the models it fitted."""

    def __init__(self, zone_id: str, known: Known) -> None:
        self._zone_id = zone_id
        self._known = known
        self._models: dict[tuple[int, bool], FittedModel] = {}

    def learn(self, known: Known) -> None:
        """Takes what is known now; fitted models are kept for as long as they are used."""
        self._known = known

    def forecast(self, issued_hour: int, n_hours: int) -> HourlyForecast:
        """The forecast for the hours `[issued_hour, issued_hour + n_hours)`, from what is known by then.

        Raises:
            ForecastUnavailableError: less than a day of history, or none of late.
        """
        history = self._known.history.until(issued_hour)
        anchor = history.anchor_hour
        lag = issued_hour - anchor
        if history.known_days < LEAST_HISTORY_DAYS or lag > MAX_LAG_H:
            raise ForecastUnavailableError(
                f"zone {self._zone_id}: {history.known_days:.1f} days of history that end {max(lag, 0)} h before "
                f"the forecast; needed are at least 1 day, ending at most {MAX_LAG_H // DAY} days before",
                zone=self._zone_id,
            )
        known = replace(self._known, history=history)
        n_days = -(-(lag + n_hours) // DAY)
        made = self._model(known, anchor, lag, n_days).forecast(known, anchor, issued_hour)
        part = slice(lag, lag + n_hours)
        return HourlyForecast(issued_hour, made.logs[part], made.errors[:, part], made.method)

    def _model(self, known: Known, anchor: int, lag: int, n_days: int) -> FittedModel:
        """The model for that hour of the day, fitted on a day that follows from the calendar.

        So a forecast does not depend on which others were made before it.
        """
        age = DAY * (anchor // DAY % REFIT_DAYS)
        is_long = anchor - age - known.history.first_hour >= ALIGNED_FROM_DAYS * DAY
        fit_at = anchor - age if is_long else anchor
        has_weather = self._has_weather(fit_at, anchor + lag)
        key = (anchor % DAY, has_weather)
        model = self._models.get(key)
        if model is None or model.anchor != fit_at or model.n_days < n_days:
            model = fit_model(known, anchor=fit_at, n_days=n_days, has_weather=has_weather)
            self._models[key] = model
        return model

    def _has_weather(self, anchor: int, now: int) -> bool:
        weather = self._known.weather
        if weather is None:
            return False
        newest = weather.newest_hour(now)
        is_fresh = newest is not None and now - newest <= MAX_WEATHER_AGE_H
        first = self._known.history.first_hour
        return is_fresh and weather.count_between(first, anchor) >= LEAST_RUNS
