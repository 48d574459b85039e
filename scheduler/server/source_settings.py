"""Settings of the sources of intensity and weather. Credentials are named here, never written here."""

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from scheduler.server.fields import Strict

Kind = Literal[
    "typical_week",
    "trace",
    "national_grid_gb",
    "neso_regions_gb",
    "energy_charts",
    "energinet",
    "carbon_aware_sdk",
    "electricity_maps",
    "entsoe",
    "eia",
    "watttime",
]
TOKEN_ENV: Final = {
    "electricity_maps": "ELECTRICITY_MAPS_TOKEN",
    "entsoe": "ENTSOE_TOKEN",
    "eia": "EIA_API_KEY",
    "watttime": "WATTTIME_LOGIN",
}
"""Sources that need a credential, and the variable it is taken from where the settings name no other."""
_LOCAL: Final = frozenset({"typical_week", "trace"})
_NAMED: Final = frozenset({"carbon_aware_sdk", "watttime"})
"""Sources whose own names of places cannot be known here."""


class SourceSettings(Strict):
    """One source of intensity in a zone's chain.

    Args:
        names: what the source calls each zone, for `carbon_aware_sdk` (locations) and `watttime` (regions).
        token_env: variable that holds the credential; of `watttime` it is `user:password`.
        token_file: file that holds it instead.
    """

    kind: Kind
    path: Path | None = None
    url: str | None = None
    token_env: str | None = None
    token_file: Path | None = None
    names: dict[str, str] = Field(default_factory=dict)
    version: Literal["v3", "v4"] | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if (self.kind == "trace") != (self.path is not None):
            raise ValueError("a trace needs a path, and only a trace takes one")
        if self.url is not None and self.kind in _LOCAL:
            raise ValueError(f"{self.kind} takes no url")
        if self.kind == "carbon_aware_sdk" and self.url is None:
            raise ValueError("carbon_aware_sdk needs the url of the site's own service")
        if (self.kind in _NAMED) != bool(self.names):
            raise ValueError(
                f"{' and '.join(sorted(_NAMED))} need names, such as {{DE: germanywestcentral}}, and only they take them"
            )
        if self.kind not in TOKEN_ENV and (self.token_env or self.token_file):
            raise ValueError(f"{self.kind} takes no token; only {', '.join(TOKEN_ENV)} do")
        if self.token_env and self.token_file:
            raise ValueError("token_env and token_file: give one of them")
        if self.version is not None and self.kind != "electricity_maps":
            raise ValueError("only electricity_maps takes a version")
        return self


class WeatherSettings(Strict):
    """Weather forecasts, which make the built-in forecast much better.

    Args:
        places: per zone, points as [latitude, longitude] whose weather is averaged; zones without any take
            the central point of the zone in the shipped table.
        token_env: variable that holds the key of the commercial service; token_file: file that holds it.
    """

    kind: Literal["open_meteo"]
    url: str | None = None
    token_env: str | None = None
    token_file: Path | None = None
    places: dict[str, list[tuple[float, float]]] = Field(default_factory=dict)

    @field_validator("places", mode="before")
    @classmethod
    def _are_lists_of_points(cls, places: object) -> object:
        """Said here, because the error of a single number would not show the form."""
        for zone_id, points in places.items() if isinstance(places, dict) else ():
            if not isinstance(points, list) or not all(map(_is_pair, points)):
                single = points if _is_pair(points) else [53.6, 10.0]
                raise ValueError(
                    f"{zone_id}: {points!r:.80} is not a list of [latitude, longitude]; "
                    f"write {zone_id}: [{list(single)}]"
                )
        return places

    @model_validator(mode="after")
    def _is_on_earth(self) -> Self:
        if self.token_env and self.token_file:
            raise ValueError("token_env and token_file: give one of them")
        for zone_id, points in self.places.items():
            if not points:
                raise ValueError(f"places.{zone_id}: give at least one, as [latitude, longitude]")
            for latitude, longitude in points:
                if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
                    raise ValueError(
                        f"places.{zone_id}: {[latitude, longitude]} is not a latitude from -90 to 90 and a "
                        "longitude from -180 to 180"
                    )
        return self


def _is_pair(point: object) -> bool:
    return (
        isinstance(point, list | tuple)
        and len(point) == 2
        and not any(isinstance(one, list | tuple | dict) for one in point)
    )
