"""The Lua scripts by which a store on Redis reads and writes: each is one transaction."""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Final, Literal

_FOLDER: Final = "redis_lua"

ScriptName = Literal[
    "add_event",
    "add_jobs",
    "changed_jobs",
    "counts",
    "drop_lease",
    "entries",
    "events",
    "export_documents",
    "export_jobs",
    "get_document",
    "get_job",
    "get_lease",
    "get_time",
    "import_entries",
    "import_events",
    "import_jobs",
    "known_job",
    "list_jobs",
    "put_document",
    "put_entry",
    "remove_jobs",
    "succeeded_jobs",
    "take_lease",
    "update_job",
]
_WRITES: Final = frozenset(
    {
        "add_event",
        "add_jobs",
        "drop_lease",
        "import_entries",
        "import_events",
        "import_jobs",
        "put_document",
        "put_entry",
        "remove_jobs",
        "take_lease",
        "update_job",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One script.

    Args:
        is_write: it begins with what recognises a call that is sent again.
        sha: the name by which a server that has the text knows it.
    """

    name: str
    text: str
    is_write: bool
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)


@cache
def get_script(name: ScriptName) -> Script:
    """The script of that name, with what every one begins with."""
    is_write = name in _WRITES
    return build_script(name, load_text(name), is_write=is_write)


def build_script(name: str, body: str, *, is_write: bool) -> Script:
    """A script of that body, with what every one begins with."""
    beginnings = ("begin_read", "begin_write") if is_write else ("begin_read",)
    text = "\n".join([*(load_text(one) for one in beginnings), body])
    return Script(name=name, text=text, is_write=is_write)


def bare_script(name: str, body: str) -> Script:
    """A script that looks after the schema itself."""
    return Script(name=name, text=body, is_write=False)


@cache
def load_text(name: str) -> str:
    """The text of a file of scripts."""
    return (resources.files("adapters.store") / _FOLDER / f"{name}.lua").read_text("utf-8")
