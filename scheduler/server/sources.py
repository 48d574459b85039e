"""Builds the sources of intensity that the settings name. The only place that knows all of them."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from adapters.grid import (
    carbon_aware_sdk,
    eia,
    electricity_maps,
    energinet,
    energy_charts,
    entsoe,
    national_grid_gb,
    neso_regions_gb,
    watttime,
)
from adapters.grid.trace import TraceSource
from adapters.grid.typical_week import TypicalWeek
from adapters.http_client import HttpClient, Limits, Stop
from adapters.region_tables import load_regions
from adapters.weather import open_meteo
from scheduler.core.errors import InvalidConfigError, InvalidInputError
from scheduler.core.forecast import Scope, SignalKind
from scheduler.ports import Clock, WeatherSource
from scheduler.server.source_settings import TOKEN_ENV, SourceSettings, WeatherSettings
from scheduler.service.fetching import Source


class SourceBuilder:
    """Builds sources, each once: what two zones ask of one source goes through one adapter.

    Args:
        kind: signal and scope of all plans; what a trace or a site's own service is taken to state.
        zone_ids: zones of the fleet, for sources that serve the world.
        limits: of every request, where they are not to be the usual ones.
        wait: how pauses between two tries are spent.
        stop: ends requests when the service stops.
    """

    def __init__(
        self,
        *,
        kind: tuple[SignalKind, Scope],
        zone_ids: frozenset[str],
        clock: Clock,
        limits: Limits | None = None,
        wait: Callable[[float], None] | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._signal, self._scope = kind
        self._zone_ids = zone_ids
        self._clock = clock
        self._limits = limits
        self._wait = wait
        self.stop: Final = stop or Stop()
        self._built: dict[str, Source] = {}

    def build(self, one: SourceSettings, place: str | None = None) -> Source:
        """The source of these settings, which stand at that place; errors begin with it.

        Raises:
            InvalidConfigError: its credential is missing, its url or its file is no good.
        """
        key = one.model_dump_json()
        if key not in self._built:
            with _placed(place, one.kind, one.url):
                self._built[key] = _BUILDERS[one.kind](self, one)
        return self._built[key]

    def _http(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secret_params: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> HttpClient:
        return HttpClient(
            url,
            headers=headers,
            secret_params=secret_params,
            limits=self._limits or limits,
            wait=self._wait,
            stop=self.stop,
        )

    def _typical_week(self, one: SourceSettings) -> Source:
        return TypicalWeek()

    def _trace(self, one: SourceSettings) -> Source:
        assert one.path is not None
        return TraceSource(
            one.path, name=f"trace:{one.path.name}", signal=self._signal, scope=self._scope
        )

    def _national_grid_gb(self, one: SourceSettings) -> Source:
        return national_grid_gb.NationalGridGB(self._http(one.url or neso_regions_gb.DEFAULT_URL))

    def _neso_regions_gb(self, one: SourceSettings) -> Source:
        return neso_regions_gb.NesoRegionsGB(self._http(one.url or neso_regions_gb.DEFAULT_URL))

    def _energy_charts(self, one: SourceSettings) -> Source:
        return energy_charts.EnergyCharts(self._http(one.url or energy_charts.DEFAULT_URL))

    def _energinet(self, one: SourceSettings) -> Source:
        # A second try within the minute would be over its quota.
        http = self._http(one.url or energinet.DEFAULT_URL, limits=energinet.LIMITS)
        return energinet.Energinet(http, clock=self._clock)

    def _carbon_aware_sdk(self, one: SourceSettings) -> Source:
        assert one.url is not None
        return carbon_aware_sdk.CarbonAwareSdk(
            self._http(one.url), locations=one.names, signal=self._signal, scope=self._scope
        )

    def _electricity_maps(self, one: SourceSettings) -> Source:
        headers = {"auth-token": credential(one.kind, one.token_env, one.token_file)}
        return electricity_maps.ElectricityMaps(
            self._http(one.url or electricity_maps.DEFAULT_URL, headers=headers),
            clock=self._clock,
            zones=self._zone_ids,
            version=one.version or "v3",
        )

    def _entsoe(self, one: SourceSettings) -> Source:
        token = credential(one.kind, one.token_env, one.token_file)
        http = self._http(one.url or entsoe.DEFAULT_URL, secret_params={"securityToken": token})
        return entsoe.Entsoe(http, clock=self._clock)

    def _eia(self, one: SourceSettings) -> Source:
        key = credential(one.kind, one.token_env, one.token_file)
        return eia.Eia(self._http(one.url or eia.DEFAULT_URL, secret_params={"api_key": key}))

    def _watttime(self, one: SourceSettings) -> Source:
        user, colon, password = credential(one.kind, one.token_env, one.token_file).partition(":")
        if not (user and colon and password):
            where, field = _where(one.kind, one.token_env, one.token_file)
            raise InvalidConfigError(
                f"watttime: the credential must be user:password, and that of {where} is not",
                field=field,
                valid="user:password",
            )
        return watttime.WattTime(
            self._http(one.url or watttime.DEFAULT_URL),
            clock=self._clock,
            user=user,
            password=password,
            regions=one.names,
        )


_BUILDERS: Final[Mapping[str, Callable[[SourceBuilder, SourceSettings], Source]]] = {
    "typical_week": SourceBuilder._typical_week,
    "trace": SourceBuilder._trace,
    "national_grid_gb": SourceBuilder._national_grid_gb,
    "neso_regions_gb": SourceBuilder._neso_regions_gb,
    "energy_charts": SourceBuilder._energy_charts,
    "energinet": SourceBuilder._energinet,
    "carbon_aware_sdk": SourceBuilder._carbon_aware_sdk,
    "electricity_maps": SourceBuilder._electricity_maps,
    "entsoe": SourceBuilder._entsoe,
    "eia": SourceBuilder._eia,
    "watttime": SourceBuilder._watttime,
}


def build_weather(
    one: WeatherSettings | None,
    zone_ids: Iterable[str],
    clock: Clock,
    *,
    place: str = "intensity.weather",
    stop: Stop | None = None,
) -> dict[str, WeatherSource]:
    """The source of weather of each of these zones; empty where none is configured.

    Errors begin with the place where the settings stand.

    Raises:
        InvalidConfigError: a zone without places, whose central point is not known either; no
            credential, or a url that is none.
    """
    if one is None:
        return {}
    places = _places(one, zone_ids, place)
    with _placed(place, one.kind, one.url):
        secrets = (
            {"apikey": credential(one.kind, one.token_env, one.token_file)}
            if one.token_env or one.token_file
            else None
        )
        http = HttpClient(one.url or open_meteo.DEFAULT_URL, secret_params=secrets, stop=stop)
        source = open_meteo.OpenMeteo(http, clock=clock, places=places)
    return dict.fromkeys(places, source)


def _places(
    one: WeatherSettings, zone_ids: Iterable[str], place: str
) -> dict[str, list[tuple[float, float]]]:
    table = load_regions().zones
    places = dict[str, list[tuple[float, float]]]()
    for zone_id in zone_ids:
        if zone_id not in one.places and zone_id not in table:
            valid = f"{{{zone_id}: [[52.5, 13.4]]}}"
            raise InvalidConfigError(
                f"{place}.places: where zone {zone_id!r} lies is not known; give its places, such as {valid}",
                field="intensity.weather.places",
                value=zone_id,
                valid=valid,
            )
        places[zone_id] = one.places.get(zone_id) or [
            (table[zone_id].latitude, table[zone_id].longitude)
        ]
    return places


@contextlib.contextmanager
def _placed(place: str | None, kind: str, url: str | None) -> Iterator[None]:
    """Errors of settings say first where these stand, and which url is wrong where it holds no secret."""
    try:
        yield
    except InvalidInputError as error:
        message, fields = error.message, dict(error.fields)
        if fields.get("field") == "url" and url is not None and not set(url) & set("@?#"):
            message = message.replace("url: ", f"url: {url!r:.200} ", 1)
            fields["value"] = url[:200]
        if place is not None:
            message = f"{place} ({kind}): {message}"
            fields["place"] = place
        raise type(error)(message, **fields) from error


def credential(kind: str, variable: str | None, file: Path | None) -> str:
    """The secret of a source, from a file or from the environment; no error repeats it.

    Raises:
        InvalidConfigError: there is none, or the file cannot be read.
    """
    where, field = _where(kind, variable, file)
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InvalidConfigError(
                f"{kind}: token_file {file} cannot be read: {why}; it must be a file with the credential on one "
                "line",
                field="token_file",
                value=str(file),
                valid="a file with one line of ASCII",
            ) from error
    else:
        text = os.environ.get(variable or TOKEN_ENV[kind], "").strip()
    if not text or not text.isprintable() or not text.isascii():
        raise InvalidConfigError(
            f"{kind} needs a credential: {where} is empty or no plain text; set it, or name another with "
            "token_env or token_file",
            field=field,
            valid="one line of ASCII",
        )
    return text


def _where(kind: str, variable: str | None, file: Path | None) -> tuple[str, str]:
    """Where its credential comes from, and the setting that says so."""
    if file is not None:
        return str(file), "token_file"
    return f"the variable {variable or TOKEN_ENV[kind]}", "token_env"
