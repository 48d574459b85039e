"""Chains: which configured sources serve which zone."""

from collections.abc import Sequence
from typing import Final

from scheduler.core.errors import InvalidConfigError
from scheduler.core.names import suggest
from scheduler.server.settings import Settings
from scheduler.service.fetching import Source

_NAMED_ZONES: Final = 10


def build_chain(zone_id: str, settings: Settings, built: Sequence[Source]) -> list[Source]:
    """The sources that serve a zone as the settings want it, preferred first.

    Raises:
        InvalidConfigError: none does, or one of the zone's own chain does not.
    """
    scope, signal = settings.intensity.scope, settings.intensity.signal
    serving = [
        source.info.signal is signal and scope in source.info.scopes.get(zone_id, frozenset())
        for source in built
    ]
    chain = [source for source, does_serve in zip(built, serving, strict=True) if does_serve]
    if zone_id in settings.intensity.zones and not all(serving):
        # Whoever wrote the zone's own chain meant each of its sources.
        raise _not_served(zone_id, settings, serving.index(False), built[serving.index(False)])
    if chain:
        return chain
    known = {zone for source in built for zone in source.info.zone_ids}
    offered = {str(one) for source in built for one in source.info.scopes.get(zone_id, ())}
    hint = (
        f"they offer it in scope {', '.join(sorted(offered))}; set intensity.scope"
        if offered
        else suggest(zone_id, known)
    )
    raise InvalidConfigError(
        f"{settings.place('intensity')}: no configured source serves zone {zone_id!r} as {signal}/{scope}; {hint}",
        field="intensity",
        value=zone_id,
        valid=hint,
    )


def _not_served(zone_id: str, settings: Settings, index: int, source: Source) -> InvalidConfigError:
    intensity, info = settings.intensity, source.info
    field = f"intensity.zones.{zone_id}.{index}"
    kind = intensity.zones[zone_id][index].kind
    offered = sorted(info.scopes.get(zone_id, ()))
    if offered:
        serves = f"zone {zone_id} as {info.signal} in scope {' or '.join(offered)}"
    else:
        zones = sorted(info.zone_ids)
        more = f" and {len(zones) - _NAMED_ZONES} more" if len(zones) > _NAMED_ZONES else ""
        serves = f"{', '.join(zones[:_NAMED_ZONES])}{more}"
    return InvalidConfigError(
        f"{settings.place(field)}: {kind} does not serve zone {zone_id} as {intensity.signal}/{intensity.scope}; it serves "
        f"{serves}; leave it out, or set intensity.signal and intensity.scope",
        field=field,
        value=kind,
        valid=serves,
    )
