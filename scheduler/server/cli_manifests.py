"""Manifests of Kubernetes in files: which of the documents is the Job that is meant."""

from pathlib import Path
from typing import Any

from scheduler.core.errors import InvalidInputError
from scheduler.server.cli_output import say

Document = dict[str, Any]


def is_manifest(document: object) -> bool:
    """Whether it is an object of Kubernetes, rather than a job of ours."""
    return isinstance(document, dict) and {"apiVersion", "kind"} <= document.keys()


def find_job(documents: list[Any], path: Path) -> Document:
    """The one Job among the objects of a file; what else there is, is left out and told of.

    Raises:
        InvalidInputError: no Job, more than one, or something that is no object of Kubernetes.
    """
    objects = [one for document in documents for one in _items(document) if one is not None]
    strange = next((one for one in objects if not is_manifest(one)), None)
    if strange is not None:
        raise InvalidInputError(
            f"{path}: holds manifests of Kubernetes, and something that is none (no apiVersion and kind); "
            "put them into files of their own",
            field="file",
        )
    jobs = [one for one in objects if one["kind"] == "Job"]
    if len(jobs) != 1:
        found = ", ".join(title(one) for one in (jobs or objects))
        count = f"{len(jobs)} Jobs" if jobs else "no Job"
        raise InvalidInputError(
            f"{path}: holds {count} ({found}); one Job is submitted at a time",
            field="file",
            value=found,
            valid="one document of kind Job",
        )
    for one in objects:
        if one["kind"] != "Job":
            say(f"note: {path}: {title(one)} is not submitted; apply it yourself with kubectl")
    job: Document = jobs[0]
    return job


def title(manifest: Document) -> str:
    """Kind and name, for people."""
    meta = manifest.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return f"{manifest.get('kind')} {meta.get('name') or meta.get('generateName') or '(no name)'}"


def _items(document: Any) -> list[Any]:
    if is_manifest(document) and document["kind"] == "List":
        items = document.get("items")
        return items if isinstance(items, list) else []
    return [document]
