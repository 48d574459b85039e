"""Settings of a Slurm cluster."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from adapters.cluster.slurm_rest_dialect import KNOWN
from scheduler.server.fields import DurationS, Strict

Term = Literal[
    "partition",
    "account",
    "qos",
    "constraint",
    "licenses",
    "reservation",
    "time_limit",
    "output",
    "error",
    "options",
]
"""What a job may state of Slurm, where its site allows it."""


class SlurmDeviceSettings(Strict):
    """How one accelerator is asked for: its `gres`, such as `gpu:h100`; none for CPU."""

    gres: str | None = None
    partition: str | None = None
    cpus_per_device: int | None = Field(default=None, ge=1)


class SlurmRestSettings(Strict):
    """Where slurmrestd is, and who asks.

    Args:
        url: scheme, host and port, and a path where a proxy has one.
        user: whose token it is, and whose jobs they will be.
        token_env: variable that holds the token.
        token_file: file that holds it instead, read again whenever it changes.
        version: of the interface, such as v0.0.38; the best one served where not given.
        plain_http: send the token without TLS to another machine.
    """

    url: str
    user: str = Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")
    token_env: str | None = Field(default=None, min_length=1)
    token_file: Path | None = None
    version: str | None = None
    plain_http: bool = False

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        if (self.token_env is None) == (self.token_file is None):
            raise ValueError("token_env and token_file: give one of them")
        if self.version is not None and self.version not in KNOWN:
            raise ValueError(f"version: {self.version!r} is none of {', '.join(KNOWN)}")
        return self


class SlurmSettings(Strict):
    """What is particular to a Slurm cluster; all terms are those of sbatch.

    Args:
        route: `cli`, the site's own commands on this machine; `rest`, slurmrestd.
        rest: where slurmrestd is; also tried by `gridtide doctor` where the route is `cli`.
        conf: file for SLURM_CONF; cluster: name for --clusters. Without both, the site's default.
        devices: per accelerator of the capacity, how it is asked for.
        options: further options of sbatch, without dashes; only harmless ones are taken.
        allow: which terms a job may set for itself; the others are the site's alone.
        queue: submit although nothing is free, and let Slurm's own queue decide.
        energy: read the energy of jobs from the accounts, where the site gathers it.
        adopt: plan the jobs that users submit themselves, where their comment asks for it: `true` for all users',
            which needs an operator's rights; `own` for those of the service's user.
    """

    route: Literal["cli", "rest"] = "cli"
    rest: SlurmRestSettings | None = None
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
    allow: list[Term] = Field(
        default=["account", "qos", "constraint", "licenses", "time_limit", "output", "error"]
    )
    devices: dict[str, SlurmDeviceSettings] = Field(default_factory=dict)
    prefix: str = Field(default="gt-", pattern=r"^[a-z0-9-]{1,16}$")
    queue: bool = False
    energy: bool = False
    adopt: bool | Literal["own"] = False

    @model_validator(mode="after")
    def _has_its_route(self) -> Self:
        if self.adopt and self.route == "rest":
            raise ValueError(
                "adopt cannot be done with route: rest, for slurmrestd has no way to send a job back to the "
                "queue; use route: cli"
            )
        if self.route == "rest" and self.rest is None:
            raise ValueError("route: rest needs rest: {url, user, and token_env or token_file}")
        return self

    def terms(self) -> dict[str, Any]:
        """What goes to sbatch, by the names of `SlurmTerms`."""
        kept = {"partition", "account", "qos", "constraint", "licenses", "reservation"}
        return {
            **self.model_dump(include=kept),
            "time_limit_s": self.time_limit,
            "is_exclusive": self.exclusive,
            "extra": self.options,
        }
