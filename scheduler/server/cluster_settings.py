"""Settings of a Slurm cluster."""

from pathlib import Path
from typing import Any

from pydantic import Field

from scheduler.server.schemas import DurationS, Strict


class SlurmDeviceSettings(Strict):
    """How one accelerator is asked for: its `gres`, such as `gpu:h100`; none for CPU."""

    gres: str | None = None
    partition: str | None = None
    cpus_per_device: int | None = Field(default=None, ge=1)


class SlurmSettings(Strict):
    """What is particular to a Slurm cluster; all terms are those of sbatch.

    Args:
        conf: file for SLURM_CONF; cluster: name for --clusters. Without both, the site's default.
        devices: per accelerator of the capacity, how it is asked for.
        options: further options of sbatch, without dashes; only harmless ones are taken.
        queue: submit although nothing is free, and let Slurm's own queue decide.
        energy: read the energy of jobs from the accounts, where the site gathers it.
    """

    conf: Path | None = None
    cluster: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    licenses: str | None = None
    reservation: str | None = None
    time_limit: DurationS | None = None
    exclusive: bool = False
    options: dict[str, str] = Field(default_factory=dict)
    devices: dict[str, SlurmDeviceSettings] = Field(default_factory=dict)
    prefix: str = Field(default="gt-", pattern=r"^[a-z0-9-]{1,16}$")
    queue: bool = False
    energy: bool = False

    def terms(self) -> dict[str, Any]:
        """What goes to sbatch, by the names of `SlurmTerms`."""
        kept = {"partition", "account", "qos", "constraint", "licenses", "reservation"}
        return {
            **self.model_dump(include=kept),
            "time_limit_s": self.time_limit,
            "is_exclusive": self.exclusive,
            "extra": self.options,
        }
