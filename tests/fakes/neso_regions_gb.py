"""The regional part of Great Britain's intensity API on loopback."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fakes.loopback_http import Exchange
from tests.fakes.national_grid_gb import (
    STEP,
    ApiError,
    FakeNationalGridGB,
    first_period,
    instant,
    minute,
)

SHORT_NAMES = {
    1: "North Scotland",
    2: "South Scotland",
    3: "North West England",
    4: "North East England",
    5: "Yorkshire",
    6: "North Wales & Merseyside",
    7: "South Wales",
    8: "West Midlands",
    9: "East Midlands",
    10: "East England",
    11: "South West England",
    12: "South England",
    13: "London",
    14: "South East England",
    15: "England",
    16: "Scotland",
    17: "Wales",
}
Region = dict[str, Any]


class FakeNesoRegionsGB(FakeNationalGridGB):
    """`/regional/intensity/{from}/fw48h/regionid/{id}`, one object under `data` as in real replies."""

    @staticmethod
    def region_g(region_id: int, begins: datetime) -> int:
        """10 g/kWh a region number, and one more each half-hour of the day."""
        return 10 * region_id + (begins.hour * 60 + begins.minute) // 30

    def serve_region(self, change: Callable[[Region], object]) -> None:
        """Answers with what `change` makes of the good object under `data`."""

        def changed(to: Exchange) -> None:
            to.reply(json.dumps({"data": change(self.region(to.path))}).encode())

        self.misbehave(always=changed)

    def good_body(self, path: str) -> bytes:
        return json.dumps({"data": self.region(path)}).encode()

    def region(self, path: str) -> Region:
        match unquote(urlsplit(path).path).split("/"):
            case ["", "regional", "intensity", begins, "fw48h", "regionid", number]:
                low = first_period(instant(begins))
                if not number.isdigit() or int(number) not in SHORT_NAMES:
                    raise ApiError(400, "Bad Request", "Please enter a valid region ID.")
                return self._region(int(number), low)
        raise ApiError(404, "Not Found", "No such path.")

    def _region(self, region_id: int, low: datetime) -> Region:
        count = timedelta(hours=47, minutes=30) // STEP
        return {
            "regionid": region_id,
            "dnoregion": f"operator of {region_id}",
            "shortname": SHORT_NAMES[region_id],
            "data": [self._half_hour(region_id, low + index * STEP) for index in range(count)],
        }

    def _half_hour(self, region_id: int, begins: datetime) -> Region:
        return {
            "from": minute(begins),
            "to": minute(begins + STEP),
            "intensity": {"forecast": self.region_g(region_id, begins), "index": "low"},
            "generationmix": [{"fuel": "gas", "perc": 43.6}, {"fuel": "wind", "perc": 56.4}],
        }
