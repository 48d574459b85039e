"""Settings: one YAML file, overridable by GRIDTIDE_* variables, every key checked."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from scheduler.core.data_moves import DataMoves
from scheduler.core.errors import InvalidConfigError
from scheduler.core.forecast import Scope, SignalKind
from scheduler.core.units import format_duration
from scheduler.server.cluster_settings import SlurmSettings
from scheduler.server.document_errors import describe_errors
from scheduler.server.fields import (
    DurationS,
    Instant,
    Strict,
    ZeroOrDurationS,
    seconds_between,
)
from scheduler.server.kubernetes_settings import KubernetesSettings
from scheduler.server.multikueue_settings import MultiKueueSettings
from scheduler.server.source_settings import SourceSettings, WeatherSettings
from scheduler.server.store_settings import StoreSettings
from scheduler.server.yaml_files import read_yaml
from scheduler.server.zone_names import ZoneNames

CONFIG_NAME: Final = "gridtide.yaml"
_MOVES: Final = DataMoves()
_LEAST_HISTORY_S: Final = 2 * 86_400
"""Of less, no day can be compared with the one before."""


def _pue(value: object) -> object:
    """One number, or 24; said here, because an error of the union would name no single form."""
    values: list[object] = value if isinstance(value, list) else [value]
    if isinstance(value, list) and len(value) != 24:
        raise ValueError(
            f"{len(value)} values; give one number, or 24 for the hours of the UTC day"
        )
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int | float) or not 1 <= one <= 5:
            raise ValueError(f"{one!r} is not a PUE; it must be a number from 1 to 5")
    return value


Pue = Annotated[float | list[float], BeforeValidator(_pue)]


class ServerSettings(Strict):
    """Where the service listens, and who may talk to it."""

    host: str = "127.0.0.1"
    port: int = Field(default=8410, ge=0, le=65535)
    token_hashes: list[str] = Field(default_factory=list)
    allowed_hosts: list[str] = Field(default_factory=list)
    max_body_bytes: int = Field(default=1_048_576, ge=1024, le=1 << 30)
    max_body_time: DurationS | float = Field(
        default=30.0,
        description="seconds that a request's body may take to arrive, from 0.1 to 3600",
    )
    max_requests: int = Field(default=512, ge=1, le=100_000)

    @field_validator("max_body_time")
    @classmethod
    def _ends(cls, max_body_s: float) -> float:
        if not 0.1 <= max_body_s <= 3600:
            raise ValueError(f"{max_body_s:g} s is not possible; it must be from 0.1 s to 1h")
        return max_body_s

    @field_validator("token_hashes")
    @classmethod
    def _hashed(cls, hashes: list[str]) -> list[str]:
        for one in hashes:
            digest = one.removeprefix("sha256:")
            if digest == one or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise ValueError(
                    "each must be 'sha256:' and 64 hex digits, as `gridtide token new` prints it; never the token itself"
                )
        return hashes

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not is_loopback(self.host) and not self.token_hashes:
            raise ValueError(
                f"host {self.host!r} is reachable from outside; configure server.token_hashes "
                "(see `gridtide token new`) or listen on 127.0.0.1"
            )
        return self


class PlanningSettings(Strict):
    """Slots and horizon of plans, and how often the service looks after its jobs."""

    slot: DurationS = 900
    horizon: DurationS = 7 * 86_400
    tick_every: Annotated[float, seconds_between(0.05, 3600)] = Field(
        default=2.0, description="seconds between two ticks"
    )

    @field_validator("slot")
    @classmethod
    def _divides_a_day(cls, slot_s: int) -> int:
        if 86_400 % slot_s:
            raise ValueError("must divide a day: 1m, 5m, 15m, 30m or 1h")
        return slot_s


class RetentionSettings(Strict):
    """How long jobs that have ended stay in the store, and where they go then."""

    ended_jobs: DurationS = Field(description="since their end, at least 1d")
    archive: Path = Field(description="folder of Parquet files")

    @field_validator("ended_jobs")
    @classmethod
    def _is_a_day(cls, keep_s: int) -> int:
        if keep_s < 86_400:
            raise ValueError(f"{format_duration(keep_s)} is too short; it must be 1d or longer")
        return keep_s


class IntensitySettings(Strict):
    """Which kilowatt-hours are compared, and where their intensity comes from."""

    signal: SignalKind = SignalKind.AVERAGE
    scope: Scope = Scope.LIFECYCLE
    max_age: DurationS = 6 * 3600
    built_in: bool = Field(
        default=True, description="forecast from the history of live sources, blended with theirs"
    )
    history: DurationS = Field(
        default=366 * 86_400, description="how far back it learns from, at least 2d"
    )
    weather: WeatherSettings | None = None
    sources: list[SourceSettings] = Field(
        default_factory=lambda: [SourceSettings(kind="typical_week")], min_length=1
    )
    zones: dict[str, list[SourceSettings]] = Field(
        default_factory=dict, description="by zone, named as that of a cluster"
    )

    @field_validator("history")
    @classmethod
    def _is_enough(cls, history_s: int) -> int:
        if history_s < _LEAST_HISTORY_S:
            raise ValueError(
                f"{format_duration(history_s)} is too little to learn from; it must be from 2d to 366d"
            )
        return history_s


class ClusterSettings(Strict):
    """One cluster."""

    id: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    kind: Literal["local", "slurm", "kubernetes"] = "local"
    region: str = Field(min_length=1, max_length=63)
    zone: str = Field(
        min_length=1,
        max_length=63,
        description="zone, cloud region, country, provider's key, site, or a zone of a trace",
    )
    pue: Pue = Field(default=1.2, description="one number, or 24 for the hours of the UTC day")
    price_per_gpu_hour: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)
    queue_wait: ZeroOrDurationS = Field(
        0, description="time that jobs wait in the cluster's own queue"
    )
    capacity: dict[str, int] = Field(min_length=1)
    root: Path | None = None
    checkpoints: Path | None = None
    pause: Literal["checkpoint", "freeze"] = "checkpoint"
    pass_env: list[str] | None = None
    slurm: SlurmSettings | None = None
    kubernetes: KubernetesSettings | None = None

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> Self:
        if (self.kind == "slurm") != (self.slurm is not None):
            raise ValueError("kind: slurm needs slurm: {...}, even if empty, and only it takes one")
        if self.kind == "slurm" and self.root is None:
            raise ValueError("root is needed: a folder on a disk that all nodes share")
        for name in self.capacity if self.slurm is not None else ():
            device = self.slurm.devices.get(name) if self.slurm else None
            if name != "CPU" and (device is None or device.gres is None):
                raise ValueError(
                    f"slurm.devices: how {name} is asked for is missing, such as {{{name}: {{gres: 'gpu:{name.lower()}'}}}}"
                )
        if self.kind != "local" and self.pass_env is not None:
            whose = "Slurm" if self.kind == "slurm" else "Kubernetes"
            raise ValueError(f"pass_env: jobs of {whose} see only what they bring themselves")
        self._require_for_kubernetes()
        if self.slurm is not None and self.slurm.route == "rest":
            self._require_for_rest(self.slurm)
        return self

    def _require_for_kubernetes(self) -> None:
        if (self.kind == "kubernetes") != (self.kubernetes is not None):
            raise ValueError(
                "kind: kubernetes needs kubernetes: {context, image, ...}, and only it takes one"
            )
        if self.kubernetes is None:
            return
        if self.root is not None or self.checkpoints is not None:
            raise ValueError(
                "root and checkpoints: jobs of Kubernetes have no folder of the service's; use "
                "kubernetes.checkpoint_claim and kubernetes.checkpoint_path"
            )
        if self.pause == "freeze":
            raise ValueError("pause: freeze cannot be done on Kubernetes; use pause: checkpoint")
        for name in self.kubernetes.devices:
            if name not in self.capacity:
                raise ValueError(f"kubernetes.devices: {name} is not in capacity; add it there")

    def _require_for_rest(self, slurm: SlurmSettings) -> None:
        if self.pause == "freeze":
            raise ValueError(
                "pause: freeze cannot be done with slurm.route: rest, for slurmrestd has no way to suspend a "
                "job; use pause: checkpoint, or slurm.route: cli"
            )
        for name in self.capacity:
            device = slurm.devices.get(name)
            if slurm.partition is None and (device is None or device.partition is None):
                raise ValueError(
                    f"slurm.partition is needed with slurm.route: rest (or slurm.devices.{name}.partition), for "
                    "slurmrestd from v0.0.40 on does not say which one is the default"
                )

    @field_validator("capacity")
    @classmethod
    def _counts(cls, capacity: dict[str, int]) -> dict[str, int]:
        for name, count in capacity.items():
            if count < 0:
                raise ValueError(f"{name}: {count} is negative; it must be 0 or more")
        return capacity


class DataMovesSettings(Strict):
    """What moving a gigabyte to another region takes."""

    kwh_per_gb: float = Field(default=_MOVES.kwh_per_gb, ge=0, le=1000, allow_inf_nan=False)
    gb_per_s: float = Field(default=_MOVES.gb_per_s, gt=0, le=1e6, allow_inf_nan=False)
    price_per_gb: float = Field(default=_MOVES.price_per_gb, ge=0, le=1e6, allow_inf_nan=False)


class ClockSettings(Strict):
    """A clock that runs fast, for demos: real time when absent."""

    origin_at: Instant
    anchor_wall_s: float
    speed: float = Field(gt=0, le=100_000, allow_inf_nan=False)


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        extra="forbid", env_prefix="GRIDTIDE_", env_nested_delimiter="__"
    )

    server: ServerSettings = Field(default_factory=ServerSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    planning: PlanningSettings = Field(default_factory=PlanningSettings)
    intensity: IntensitySettings = Field(default_factory=IntensitySettings)
    clusters: list[ClusterSettings] = Field(min_length=1)
    sites: dict[str, str] = Field(default_factory=dict, description="own names of zones")
    data_moves: DataMovesSettings = Field(default_factory=DataMovesSettings)
    clock: ClockSettings | None = None
    retention: RetentionSettings | None = Field(
        default=None, description="without it all jobs stay in the store"
    )
    multikueue: MultiKueueSettings | None = Field(
        default=None, description="what `gridtide dispatcher` nominates"
    )
    _file: Path | None = PrivateAttr(default=None)

    def place(self, field: str) -> str:
        """Where a field stands, for errors: with the file, where the settings come from one."""
        return f"{self._file}: {field}" if self._file else field

    def placed_sources(self, zone_id: str | None = None) -> list[tuple[str, SourceSettings]]:
        """The chain of a zone, or of all zones without their own: each source with where it stands."""
        chain, field = self.intensity.sources, "intensity.sources"
        if zone_id in self.intensity.zones:
            chain, field = self.intensity.zones[zone_id], f"intensity.zones.{zone_id}"
        return [(self.place(f"{field}.{index}"), one) for index, one in enumerate(chain)]

    @classmethod
    def settings_customise_sources(  # noqa: PLR0917 - the signature is pydantic-settings' own
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables win over the file; there is no .env file and no secrets folder."""
        return env_settings, init_settings


def load_settings(path: Path | None) -> Settings:
    """The settings of a YAML file (`gridtide.yaml` here, where none is given).

    Raises:
        InvalidConfigError: no file, malformed YAML, an unknown key (with the nearest valid name), or
            a value that cannot be; the message names file, key, value and the valid form.
    """
    file = path or Path(CONFIG_NAME)
    try:
        documents = read_yaml(file, error=InvalidConfigError, field="config")
    except FileNotFoundError as error:
        raise InvalidConfigError(
            f"{file}: no such file; copy configs/gridtide.example.yaml there, or name another with --config",
            field="config",
            value=str(file),
        ) from error
    document = documents[0] if len(documents) == 1 else None
    if not isinstance(document, dict):
        raise InvalidConfigError(
            f"{file}: a mapping with clusters, intensity, ... is needed", field="config"
        )
    try:
        settings = Settings(**document)
    except ValidationError as error:
        lines = "; ".join(describe_errors(error, Settings)[:8])
        raise InvalidConfigError(f"{file}: {lines}", field="config") from error
    settings._file = file
    settings = _anchored(settings, file.resolve().parent)
    try:
        return _in_zones(settings)
    except InvalidConfigError as error:
        raise InvalidConfigError(f"{file}: {error.message}", **error.fields) from error


def _anchored(settings: Settings, folder: Path) -> Settings:
    """The settings with relative paths taken from the folder of the file, not from the caller's."""
    settings.store.anchored(folder)
    if settings.retention is not None:
        settings.retention.archive = folder / settings.retention.archive
    for cluster in settings.clusters:
        _anchor_cluster(cluster, folder, settings.store.path.parent)
    if settings.multikueue is not None and settings.multikueue.kubeconfig is not None:
        settings.multikueue.kubeconfig = folder / settings.multikueue.kubeconfig
    chains = [settings.intensity.sources, *settings.intensity.zones.values()]
    for source in (one for chain in chains for one in chain):
        if source.path is not None:
            source.path = folder / source.path
        if source.token_file is not None:
            source.token_file = folder / source.token_file
    weather = settings.intensity.weather
    if weather is not None and weather.token_file is not None:
        weather.token_file = folder / weather.token_file
    return settings


def _anchor_cluster(cluster: ClusterSettings, folder: Path, data: Path) -> None:
    """Its paths, taken from the folder of the file; those that are not given are below the data's."""
    if cluster.kubernetes is not None:
        if cluster.kubernetes.kubeconfig is not None:
            cluster.kubernetes.kubeconfig = folder / cluster.kubernetes.kubeconfig
        return
    cluster.root = folder / (cluster.root or data / cluster.id)
    # One folder for all clusters of this machine, so that a movable job may go on in any of them.
    shared = data / "checkpoints"
    if cluster.slurm is not None:
        shared = cluster.root / "checkpoints"  # on the disk that its nodes share
        if cluster.slurm.conf is not None:
            cluster.slurm.conf = folder / cluster.slurm.conf
        if cluster.slurm.rest is not None and cluster.slurm.rest.token_file is not None:
            cluster.slurm.rest.token_file = folder / cluster.slurm.rest.token_file
    cluster.checkpoints = folder / (cluster.checkpoints or shared)


def _in_zones(settings: Settings) -> Settings:
    """The settings with zones in place of whatever they are called."""
    intensity = settings.intensity
    chains = [intensity.sources, *intensity.zones.values()]
    names = ZoneNames((source.kind, source.path) for chain in chains for source in chain)
    settings.sites = names.add_sites(settings.sites)
    chosen = dict[str, tuple[str, list[SourceSettings]]]()
    for name, chain in intensity.zones.items():
        zone_id = names.zone_id(name, f"intensity.zones.{name}")
        first, _ = chosen.setdefault(zone_id, (name, chain))
        if first != name:
            raise InvalidConfigError(
                f"intensity.zones.{name}: is zone {zone_id}, and so is {first!r}; give one of them",
                field=f"intensity.zones.{name}",
                value=name,
            )
    intensity.zones = {zone_id: chain for zone_id, (_, chain) in chosen.items()}
    for source in (one for chain in chains for one in chain):
        source.names = {
            names.zone_id(name, f"intensity: names of {source.kind}"): theirs
            for name, theirs in source.names.items()
        }
    if intensity.weather is not None:
        intensity.weather.places = {
            names.zone_id(name, "intensity.weather.places"): places
            for name, places in intensity.weather.places.items()
        }
    for index, cluster in enumerate(settings.clusters):
        cluster.zone = names.zone_id(cluster.zone, f"clusters.{index}.zone")
    return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def settings_reference() -> dict[str, Any]:
    """JSON Schema of the settings file."""
    return Settings.model_json_schema()
