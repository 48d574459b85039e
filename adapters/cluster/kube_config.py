"""Kubeconfig files: several merged into one, and what one of their contexts says."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from scheduler.core.names import suggest

_LISTS: Final = ("clusters", "users", "contexts")
Entry = Mapping[str, Any]


class KubeLoginError(Exception):
    """Why nobody can log in now; the message names the file or the program, never a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEntry:
    """An entry of a kubeconfig, with the folder that its relative paths start from."""

    body: Entry = field(repr=False)
    folder: Path

    def text(self, key: str) -> str | None:
        """A text that is not empty; None where there is none."""
        value = self.body.get(key)
        return value if isinstance(value, str) and value else None

    def path(self, key: str) -> Path | None:
        """The file that it names."""
        text = self.text(key)
        return None if text is None else self.folder / text

    def material(self, key: str) -> str | None:
        """What `key-data` holds, or else the file that `key` names.

        Raises:
            KubeLoginError: data that are not base64, or a file that cannot be read.
        """
        data, path = self.text(f"{key}-data"), self.path(key)
        if data is not None:
            try:
                return base64.b64decode(data, validate=True).decode("ascii")
            except (binascii.Error, UnicodeDecodeError) as error:
                raise KubeLoginError(f"{key}-data is not base64 of PEM") from error
        return None if path is None else read_file(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeContext:
    """What a context leads to."""

    name: str
    namespace: str | None
    cluster: NamedEntry
    user: NamedEntry


def read_file(path: Path) -> str:
    """The text of a file. Raises KubeLoginError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise KubeLoginError(f"{path} cannot be read: {why}") from error


def find_context(paths: Sequence[Path], name: str | None) -> KubeContext:
    """The context of that name, or the current one of the first file that states one.

    Of entries of the same name the first one counts, as for kubectl; files that are not there are passed over.

    Raises:
        KubeLoginError: no such file or context, or one that leads nowhere.
    """
    files = [(path, _load(path)) for path in paths if path.exists()]
    where = ", ".join(map(str, paths))
    if not files:
        raise KubeLoginError(f"no kubeconfig at {where}; set kubernetes.kubeconfig, or in_cluster")
    merged = {kind: _merged(files, kind) for kind in _LISTS}
    current = next((one["current-context"] for _, one in files if one.get("current-context")), None)
    chosen = name or current
    if not isinstance(chosen, str) or chosen not in merged["contexts"]:
        hint = suggest(str(chosen or ""), merged["contexts"])
        said = f"no context {chosen!r}" if chosen else "no current-context"
        raise KubeLoginError(f"{said} in {where}; {hint}")
    context = merged["contexts"][chosen]
    return KubeContext(
        name=chosen,
        namespace=context.text("namespace"),
        cluster=_led_to(context, "cluster", merged["clusters"], chosen),
        user=_led_to(context, "user", merged["users"], chosen),
    )


def _load(path: Path) -> Entry:
    try:
        document = yaml.safe_load(read_file(path))
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise KubeLoginError(f"{path}{line}: not valid YAML") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise KubeLoginError(f"{path}: not a kubeconfig")
    return document


def _merged(files: Sequence[tuple[Path, Entry]], kind: str) -> dict[str, NamedEntry]:
    found: dict[str, NamedEntry] = {}
    for path, document in files:
        for item in document.get(kind) or ():
            name = item.get("name") if isinstance(item, dict) else None
            body = item.get(kind.removesuffix("s")) if isinstance(item, dict) else None
            if not isinstance(name, str) or not isinstance(body, dict | None):
                raise KubeLoginError(f"{path}: {kind}: an entry without a name, or not a mapping")
            found.setdefault(name, NamedEntry(body=body or {}, folder=path.resolve().parent))
    return found


def _led_to(
    context: NamedEntry, key: str, entries: Mapping[str, NamedEntry], name: str
) -> NamedEntry:
    target = context.text(key)
    if target is None or target not in entries:
        raise KubeLoginError(f"context {name!r}: its {key} {target!r} is not in the kubeconfig")
    return entries[target]
