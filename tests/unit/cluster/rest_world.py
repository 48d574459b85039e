"""Adapters that reach a cluster through slurmrestd: a fake one, or that of the test bed."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adapters.cluster.slurm import SlurmCluster
from adapters.cluster.slurm_request import SlurmDevice, SlurmTerms
from adapters.cluster.slurm_rest_client import SlurmRestClient
from adapters.cluster.slurm_rest_link import LIMITS, RestLink
from adapters.cluster.slurm_rest_session import RestSession
from adapters.cluster.slurm_token import TokenVariable
from adapters.http_client import Limits
from tests.fakes.clock import ManualClock
from tests.fakes.slurm.setting_up_rest import TOKEN, USER, set_up_rest
from tests.unit.cluster.real_slurm import TESTBED, require_slurm

H100 = SlurmDevice(gres="gpu:h100", partition="gpu")


@dataclass(frozen=True)
class RestPlace:
    """Where a slurmrestd is, and how one may speak with it."""

    url: str
    user: str
    token: str
    cluster: str


def rest_access(
    place: RestPlace, *, version: str | None = None, limits: Limits = LIMITS, **fields: Any
) -> SlurmRestClient:
    token = TokenVariable(place.cluster, "TOKEN", {"TOKEN": place.token})
    link = RestLink(place.cluster, place.url, user=place.user, token=token, limits=limits)
    known = {"cluster": place.cluster}
    return SlurmRestClient(RestSession(link, version=version), **(known | fields))


def open_rest(
    folder: Path, place: RestPlace, access: SlurmRestClient | None = None, **fields: Any
) -> SlurmCluster:
    known: dict[str, Any] = {
        "accelerators": {"CPU": SlurmDevice(), "H100": H100},
        "root": folder / "shared",
        "clock": ManualClock(),
        "terms": SlurmTerms(partition="cpu"),
        "access": access or rest_access(place),
    }
    return SlurmCluster(place.cluster, **(known | fields))


def fake_place(folder: Path, dialect: str) -> RestPlace:
    """The slurmrestd of the fake cluster in that folder; whoever asks for it stops it."""
    return RestPlace(set_up_rest(folder, dialect).url, USER, TOKEN, "fake")


def require_slurmrestd(name: str) -> RestPlace:
    """The slurmrestd of a cluster of the test bed; skips the test where it is not up."""
    require_slurm(name)
    settings = _settings(name)
    return RestPlace(
        settings["GRIDTIDE_SLURM_REST_URL"],
        settings["GRIDTIDE_SLURM_REST_USER"],
        settings["GRIDTIDE_SLURM_REST_TOKEN"],
        name,
    )


@cache
def _settings(name: str) -> Mapping[str, str]:
    told = subprocess.run([TESTBED, "env", name], capture_output=True, text=True, check=True)
    lines = [line.removeprefix("export ") for line in told.stdout.splitlines()]
    return dict(line.split("=", 1) for line in lines)
