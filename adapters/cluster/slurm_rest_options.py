"""Further options of sbatch in the words of slurmrestd. Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from adapters.cluster.slurm_rest_dialect import NotExpressibleError

_MEMORY: Final = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
_MIB: Final = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}

Write = Callable[[str], Any]


def text(value: str) -> str:
    """As it is."""
    return value


def count(value: str) -> int:
    """A whole number."""
    return int(value)


def mib(value: str) -> int:
    """Memory in MiB, as `--mem` takes it, rounded up; 0 for all that a node has."""
    match = _MEMORY.fullmatch(value.strip())
    if match is None:
        raise ValueError(value)
    return -int(-int(match[1]) * _MIB[match[2].upper()] // 1)


def flag(value: str) -> bool:
    """An option without a value."""
    if value:
        raise ValueError(value)
    return True


def listed(value: str) -> list[str]:
    """A list with commas."""
    return [one.strip() for one in value.split(",") if one.strip()]


def given(write: Write) -> Write:
    """A number in the form that newer versions ask for."""
    return lambda value: {"set": True, "number": write(value)}


OLD_OPTIONS: Final[Mapping[str, tuple[str, Write]]] = {
    "bb": ("burst_buffer", text),
    "core-spec": ("core_specification", count),
    "cores-per-socket": ("cores_per_socket", count),
    "cpu-freq": ("cpu_frequency", text),
    "cpus-per-gpu": ("cpus_per_gpu", text),
    "distribution": ("distribution", text),
    "gpu-bind": ("gpu_binding", text),
    "gpu-freq": ("gpu_frequency", text),
    "gres-flags": ("gres_flags", text),
    "hint": ("cpu_binding_hint", text),
    "mail-type": ("mail_type", text),
    "mail-user": ("mail_user", text),
    "mcs-label": ("mcs_label", text),
    "mem": ("memory_per_node", mib),
    "mem-bind": ("memory_binding", text),
    "mem-per-cpu": ("memory_per_cpu", mib),
    "nice": ("nice", count),
    "nodelist": ("nodelist", text),
    "ntasks-per-node": ("tasks_per_node", count),
    "prefer": ("prefer", text),
    "priority": ("priority", text),
    "profile": ("profile", text),
    "spread-job": ("spread_job", flag),
    "thread-spec": ("thread_specification", count),
    "threads-per-core": ("threads_per_core", count),
    "wckey": ("wckey", text),
}
"""By the name that sbatch knows: key and form. Each was taken by v0.0.38; others it calls unknown."""

NEW_OPTIONS: Final[Mapping[str, tuple[str, Write]]] = {
    "bb": ("burst_buffer", text),
    "container": ("container", text),
    "contiguous": ("contiguous", flag),
    "core-spec": ("core_specification", count),
    "cpu-freq": ("cpu_frequency", text),
    "distribution": ("distribution", text),
    "exclude": ("excluded_nodes", listed),
    "gpus-per-task": ("tres_per_task", lambda value: f"gres/gpu:{value}"),
    "mail-type": ("mail_type", lambda value: [one.upper() for one in listed(value)]),
    "mail-user": ("mail_user", text),
    "mcs-label": ("mcs_label", text),
    "mem": ("memory_per_node", given(mib)),
    "mem-per-cpu": ("memory_per_cpu", given(mib)),
    "network": ("network", text),
    "nice": ("nice", count),
    "nodelist": ("required_nodes", listed),
    "ntasks-per-node": ("tasks_per_node", count),
    "prefer": ("prefer", text),
    "priority": ("priority", given(count)),
    "thread-spec": ("thread_specification", count),
    "threads-per-core": ("threads_per_core", count),
    "tmp": ("temporary_disk_per_node", mib),
    "wckey": ("wckey", text),
}
"""Likewise for v0.0.40 and later, by their description."""


def write_options(
    extra: Mapping[str, str], known: Mapping[str, tuple[str, Write]]
) -> dict[str, Any]:
    """The options as keys of a job; raises NotExpressibleError that names the first that is none."""
    written = {}
    for name, value in extra.items():
        if name not in known:
            raise NotExpressibleError(
                f"option {name!r} cannot be given through this slurmrestd; it takes "
                + ", ".join(sorted(known))
            )
        key, write = known[name]
        try:
            written[key] = write(value)
        except ValueError as error:
            raise NotExpressibleError(f"option {name}: {value!r} is not a value of it") from error
    return written
