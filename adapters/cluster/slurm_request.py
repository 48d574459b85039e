"""What a Slurm cluster is asked for: devices, and the site's own terms. Pure: values in, options out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from scheduler.core.errors import InvalidConfigError
from scheduler.core.slurm_terms import JobSlurm

ALLOWED_OPTIONS: Final = frozenset(
    {"bb", "bbf", "container", "contiguous", "core-spec", "cores-per-socket"}
    | {"cpu-freq", "cpus-per-gpu", "delay-boot", "distribution", "exclude"}
    | {"gpu-bind", "gpu-freq", "gpus-per-task", "gres-flags", "hint", "mail-type", "mail-user"}
    | {"mcs-label", "mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "network", "nice"}
    | {"nodelist", "ntasks-per-node", "power", "prefer", "priority", "profile"}
    | {"spread-job", "switches", "thread-spec", "threads-per-core", "tmp", "use-min-nodes"}
    | {"wckey"}
)
"""Options of sbatch that a site may add. Left out: those that Gridtide sets itself, or that would
take from it the name, the time, the signals or the requeueing of its jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmDevice:
    """How one of our accelerators is asked for.

    Args:
        gres: its name there, such as `gpu:h100`; None for CPUs.
        partition: where it is, if not in the cluster's own partition.
        cpus_per_device: CPUs that come with each; None leaves it to Slurm.
    """

    gres: str | None = None
    partition: str | None = None
    cpus_per_device: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmTerms:
    """What every job of the cluster asks for beside its devices.

    Args:
        time_limit_s: the job's limit; None leaves it to the partition, whose default may be short.
        is_exclusive: whole nodes: only then is measured energy that of the job alone.
        extra: further options of sbatch, without dashes; an empty value for one without a value.

    Raises:
        InvalidConfigError: an option that is not allowed.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    licenses: str | None = None
    reservation: str | None = None
    time_limit_s: float | None = None
    is_exclusive: bool = False
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name in self.extra:
            if name not in ALLOWED_OPTIONS:
                raise InvalidConfigError(
                    f"slurm option {name!r} is not one that may be added; there are: "
                    + ", ".join(sorted(ALLOWED_OPTIONS)),
                    field="options",
                    value=name,
                )

    @property
    def time_limit_min(self) -> int | None:
        """The limit in whole minutes, rounded up; None for the partition's own."""
        return None if self.time_limit_s is None else -int(-self.time_limit_s // 60)

    def under(self, job: JobSlurm | None) -> "SlurmTerms":
        """These terms with those of a job over them. Raises InvalidConfigError likewise."""
        if job is None:
            return self
        stated = {
            name: value
            for name in ("account", "qos", "constraint", "licenses", "reservation", "time_limit_s")
            if (value := getattr(job, name)) is not None
        }
        return replace(
            self,
            **stated,
            partition=job.partition or self.partition,
            extra={**self.extra, **dict(job.options)},
        )

    def options(self, device: SlurmDevice) -> list[str]:
        """The options of sbatch for these terms."""
        named = {
            "partition": device.partition or self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "licenses": self.licenses,
            "reservation": self.reservation,
            "time": None if self.time_limit_min is None else str(self.time_limit_min),
        }
        options = [f"--{name}={value}" for name, value in named.items() if value]
        if self.is_exclusive:
            options.append("--exclusive")
        return options + [
            f"--{name}={value}" if value else f"--{name}" for name, value in self.extra.items()
        ]


def device_of(device: SlurmDevice, job: JobSlurm | None) -> SlurmDevice:
    """The device, in the partition that the job asks for."""
    return device if job is None or not job.partition else replace(device, partition=job.partition)


def files_of(job: JobSlurm | None, run_folder: str) -> tuple[str, str]:
    """Patterns for output and errors: as the job says, both in one where it names one, or in its folder."""
    folder = run_folder.replace("%", "%%")
    output = job.output if job else None
    error = (job.error or output) if job else None
    return output or f"{folder}/stdout.log", error or f"{folder}/stderr.log"


def per_node(gpus: int, num_nodes: int) -> int | None:
    """Devices on each node; None where they cannot be shared out evenly."""
    return gpus // num_nodes if num_nodes >= 1 and gpus % num_nodes == 0 else None


def device_options(device: SlurmDevice, *, each: int, num_nodes: int) -> list[str]:
    """The options of sbatch for `each` devices on each of the nodes, and one task a node."""
    options = [f"--nodes={num_nodes}", f"--ntasks={num_nodes}"]
    if device.gres is None:
        return [*options, f"--cpus-per-task={each}"]
    if device.cpus_per_device is not None:
        options.append(f"--cpus-per-task={each * device.cpus_per_device}")
    return [*options, f"--gres={device.gres}:{each}"]
