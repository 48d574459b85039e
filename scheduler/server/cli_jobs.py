"""Reading jobs from files and options."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scheduler.core.errors import InvalidInputError
from scheduler.server.yaml_files import read_yaml

Document = dict[str, Any]


def load_jobs(path: Path) -> list[Document]:
    """The jobs of a YAML or JSON file: one, several documents, or a list under `jobs`.

    Raises:
        InvalidInputError: naming file, line and column.
    """
    try:
        documents = read_yaml(path, error=InvalidInputError, field="file")
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: cannot be read: no such file", field="file") from error
    jobs: list[Document] = []
    for document in documents:
        listed = document["jobs"] if isinstance(document, dict) and "jobs" in document else document
        for job in listed if isinstance(listed, list) else [listed]:
            if not isinstance(job, dict):
                raise InvalidInputError(
                    f"{path}: a job is a mapping with name, command, ...; found {type(job).__name__}",
                    field="file",
                )
            jobs.append({key: _plain(value) for key, value in job.items()})
    if not jobs:
        raise InvalidInputError(f"{path}: holds no job", field="file", value=str(path))
    return jobs


def _plain(value: object) -> object:
    """YAML reads unquoted times by itself; the API takes texts."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def default_name(command: list[str]) -> str:
    """A job name from the first script of a command, or its program."""
    scripts = [part for part in command if re.search(r"\.\w{1,4}$", part)]
    stem = Path(scripts[0] if scripts else command[0]).stem.lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:63] or "job"


def instant(text: str, *, field: str) -> str:
    """The ISO form of a time as people say it, in this machine's zone."""
    from tzlocal import get_localzone  # noqa: PLC0415 - imported late: help must be fast

    from scheduler.server.when import parse_when  # noqa: PLC0415 - likewise

    now = datetime.now(UTC)  # noqa: TID251 - what the user says is relative to the user's now
    return parse_when(text, now=now, zone=get_localzone(), field=field).isoformat()
