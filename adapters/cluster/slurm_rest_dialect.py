"""What differs between versions of slurmrestd, and which one to speak. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from adapters.cluster.slurm_access import SlurmSubmission
from adapters.cluster.slurm_parsers import SlurmJob, SlurmNode
from adapters.cluster.slurm_rest_document import Document, mapping

OLD: Final = ("v0.0.38",)
NEW: Final = ("v0.0.40", "v0.0.41", "v0.0.42", "v0.0.43", "v0.0.44")
KNOWN: Final = OLD + NEW
"""Versions that are spoken, worst first. v0.0.39 is a half-way house: slurmrestd that has it has v0.0.38 too."""
_PATH: Final = re.compile(r"/(slurm|slurmdb)/(v\d+\.\d+\.\d+)/(.+)")


class NotExpressibleError(Exception):
    """A request that this version of slurmrestd has no words for."""


class RestDialect(Protocol):
    """How requests are written and answers read.

    `accounts_tell_exits` is False where the accounts give 0 for any exit code.
    """

    accounts_tell_exits: bool

    def build_submission(self, submission: SlurmSubmission, script: str) -> dict[str, Any]:
        """The body of a submission; raises NotExpressibleError."""
        ...

    def parse_job(self, job: Document) -> SlurmJob:
        """A job as the controller tells it."""
        ...

    def parse_accounted(self, job: Document) -> SlurmJob:
        """A job as the accounts tell it, its steps taken in."""
        ...

    def parse_node(self, node: Document) -> SlurmNode:
        """A node."""
        ...

    def is_default(self, partition: Document) -> bool:
        """Whether jobs go there that name no partition; False where slurmrestd does not say."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """What a slurmrestd serves.

    Args:
        paths: by part (`slurm`, `slurmdb`) and version.
        job_keys: what a submitted job may say, by version, where that is described.
    """

    paths: Mapping[tuple[str, str], frozenset[str]]
    job_keys: Mapping[str, frozenset[str]]

    @property
    def versions(self) -> list[str]:
        """Versions of the part that speaks to the controller, lowest first."""
        return sorted({version for part, version in self.paths if part == "slurm"}, key=_order)

    def find_path(self, part: str, version: str, name: str) -> str | None:
        """The path of that name, with or without the slash at its end; None where it is not served."""
        known = self.paths.get((part, version), frozenset())
        found = next((one for one in (name, f"{name}/") if one in known), None)
        return None if found is None else f"/{part}/{version}/{found}"


def parse_served(openapi: str) -> Served | None:
    """The paths of an OpenAPI description; None where it is none."""
    try:
        document = json.loads(openapi)
    except (ValueError, RecursionError):
        return None
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict):
        return None
    served: dict[tuple[str, str], set[str]] = {}
    for path in paths:
        if match := _PATH.fullmatch(path):
            served.setdefault((match[1], match[2]), set()).add(match[3])
    return Served(
        {key: frozenset(names) for key, names in served.items()},
        {version: keys for _, version in served if (keys := _job_keys(document, version))},
    )


def require_known(body: Mapping[str, Any], keys: frozenset[str]) -> None:
    """Raises NotExpressibleError for what a version does not know: from v0.0.40 on it would be ignored."""
    unknown = sorted(set(body["job"]) - keys)
    if keys and unknown:
        raise NotExpressibleError(f"this slurmrestd does not know {', '.join(unknown)} of a job")


def _job_keys(document: Document, version: str) -> frozenset[str]:
    schemas = mapping(mapping(document.get("components")).get("schemas"))
    return frozenset(mapping(mapping(schemas.get(f"{version}_job_desc_msg")).get("properties")))


def choose_version(served: Sequence[str], pinned: str | None) -> str | None:
    """The pinned version where it is served, else the best that is known; None where there is none."""
    if pinned is not None:
        return pinned if pinned in served else None
    return next((version for version in reversed(KNOWN) if version in served), None)


def _order(version: str) -> list[int]:
    return [int(part) for part in version.removeprefix("v").split(".")]
