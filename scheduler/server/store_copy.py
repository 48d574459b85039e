"""`gridtide store copy`: what is asked for, checked and done."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.store.redis_address import is_redis_url, parse_address
from adapters.store.sqlite_transfer import SqliteSource, SqliteTarget
from adapters.store.transfer import Report, Source, Target, copy_store
from scheduler.core.errors import InvalidInputError
from scheduler.server.cli_output import print_rows, say
from scheduler.server.settings import load_settings
from scheduler.server.store_settings import StoreSettings
from scheduler.server.stores import redis_terms

_SQLITE: Final = "sqlite:"
_FORMS: Final = "sqlite:PATH, redis://host:port/db#name (rediss, redis+sentinel, redis+cluster), or a settings file .yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One end of a copy: its place as written, and the variable with its password."""

    field: str
    text: str
    password_env: str | None

    def settings(self) -> StoreSettings:
        """The place as settings of a store.

        Raises:
            InvalidInputError: no place of a store, or a variable for a place that takes none.
        """
        if self.text.endswith((".yaml", ".yml")):
            self._refuse_password("a settings file names its own")
            return load_settings(Path(self.text)).store
        if self.text.startswith(_SQLITE):
            self._refuse_password("an SQLite file has none")
            return StoreSettings(path=Path(self.text.removeprefix(_SQLITE)))
        if is_redis_url(self.text):
            parse_address(self.text)  # its own error, which does not repeat a password
            return StoreSettings(url=self.text, password_env=self.password_env)
        shown = "what is given" if "@" in self.text else f"{self.text!r:.200}"  # a password maybe
        raise InvalidInputError(
            f"{self.field}: {shown} is no place of a store; it must be {_FORMS}",
            field=self.field,
            valid=_FORMS,
        )

    def _refuse_password(self, why: str) -> None:
        if self.password_env is not None:
            field = f"{self.field}-password-env"
            raise InvalidInputError(f"{field}: {why}", field=field, value=self.password_env)


def run(origin: Place, goal: Place, kind: str) -> None:
    """Copies, and prints what was copied.

    Raises:
        InvalidInputError: an end that is none, or both the same.
        StoreError: nothing was copied, or not all of it; the same call goes on.
    """
    one, other = origin.settings(), goal.settings()
    if (one.url, one.url or one.path.resolve()) == (other.url, other.url or other.path.resolve()):
        raise InvalidInputError("to: is the same store as from", field="to", value=goal.text[:200])
    with closing(_source(one)) as source, closing(_target(other)) as target, _progress() as report:
        found = copy_store(source, target, report)
        names = {"from": source.name, "to": target.name}
    rows = [(name, summary.count, summary.digest) for name, summary in found.items()]
    document = {
        "schema": "gridtide/store-copy/v1",
        **names,
        "kinds": [{"kind": a, "count": b, "digest": c} for a, b, c in rows],
    }
    print_rows(kind, document, ("kind", "count", "digest"), rows)


def _source(settings: StoreSettings) -> Source:
    if settings.url is None:
        return SqliteSource(settings.path)
    from adapters.store.redis_transfer import RedisSource  # noqa: PLC0415 - imports the client

    return RedisSource(*redis_terms(settings))


def _target(settings: StoreSettings) -> Target:
    if settings.url is None:
        return SqliteTarget(settings.path)
    from adapters.store.redis_transfer import RedisTarget  # noqa: PLC0415 - imports the client

    return RedisTarget(*redis_terms(settings))


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar on stderr where that is a terminal; else a line for each thing that is done."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console  # noqa: PLC0415 - imported late: help must be fast
    from rich.progress import Progress  # noqa: PLC0415 - likewise

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")

        def report(what: str, n_done: int, total: int) -> None:
            bar.update(task, description=what, completed=n_done, total=total)

        yield report


class _Lines:
    """Says once what is being done."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, what: str, n_done: int, total: int) -> None:
        if what != self._last:
            say(f"{what} ({total})")
            self._last = what
