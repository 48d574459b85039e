"""Opens the store and the archives that the settings ask for. A client of Redis is imported only where one is asked for."""

import os
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from adapters.store.intensity_archive import SqliteIntensityArchive
from adapters.store.parquet_archive import ParquetArchive
from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import InvalidConfigError, StoreError
from scheduler.ports import Check, Clock, ClusterAdapter, JobStore
from scheduler.server.known_stores import KnownStores
from scheduler.server.settings import RetentionSettings
from scheduler.server.store_settings import StoreSettings
from scheduler.service.retention import Retention
from scheduler.service.sparing_archive import SparingArchive

if TYPE_CHECKING:
    from adapters.store.redis_address import RedisAddress
    from adapters.store.redis_terms import RedisTerms


_LOOK_EVERY_S: Final = 0.5


def open_store(settings: StoreSettings, *, makes: bool = True) -> JobStore:
    """The store, brought up to date.

    Args:
        settings: where it is.
        makes: False for a process that does not make one on a server where there is none.

    Raises:
        InvalidConfigError: the password is not where the settings say.
        StoreError: it cannot be used, or is not the one that was there when this machine last used it.
    """
    if settings.url is None:
        return SqliteStore(settings.path)
    from adapters.store.redis import RedisStore  # noqa: PLC0415 - imports the client

    address, terms = redis_terms(settings)
    known = KnownStores(settings.path.with_name("redis-stores.json"))
    name = known.find(str(address))
    try:
        store = RedisStore(address, terms, makes=makes and name is None)
    except StoreError as error:
        if name is not None and error.fields.get("is_missing"):
            raise known.emptied(str(address)) from error
        raise
    if name not in (None, store.name):
        store.close()
        raise known.emptied(str(address))
    known.keep(str(address), store.name)
    return store


def await_store(settings: StoreSettings, *, within_s: float = 60.0) -> None:
    """Returns once a process that schedules has made the store, or after that time: all may be started at once.

    Raises:
        InvalidConfigError: the password is not where the settings say.
        StoreError: it cannot be used for another reason than that it is not there yet.
    """
    until_s, is_told = time.monotonic() + within_s, False
    while time.monotonic() < until_s:
        try:
            open_store(settings, makes=False).close()
        except StoreError as error:
            if not error.fields.get("is_missing"):
                raise
            if not is_told:
                structlog.get_logger(__name__).info("store_awaited", detail=error.message)
            is_told = True
            threading.Event().wait(_LOOK_EVERY_S)
        else:
            return


def open_archive(path: Path) -> SparingArchive:
    """The archive in that file, with memory to go on in while the file cannot be used."""
    spare = SqliteIntensityArchive(None)
    try:
        return SparingArchive(SqliteIntensityArchive(path), spare)
    except StoreError as error:
        # No reason not to plan; `doctor` and the log say it.
        structlog.get_logger(__name__).error("archive_unusable", error=error.message)
        return SparingArchive(None, spare, error=error.message)


def build_retention(
    settings: RetentionSettings | None,
    store: JobStore,
    clusters: Mapping[str, ClusterAdapter],
    clock: Clock,
) -> Retention | None:
    """What moves ended jobs into the archive; None where all of them stay.

    Raises:
        InvalidConfigError: Parquet cannot be written here.
    """
    if settings is None:
        return None
    return Retention(
        store=store,
        archive=ParquetArchive(settings.archive),
        clusters=clusters,
        clock=clock,
        keep=timedelta(seconds=settings.ended_jobs),
    )


def retention_checks(settings: RetentionSettings | None) -> list[Check]:
    """What `doctor` says of the archive of ended jobs before the service runs; nothing is made or written."""
    if settings is None:
        return []
    try:
        ParquetArchive(settings.archive)
    except InvalidConfigError as error:
        return [Check(subject="retention", is_ok=False, detail=error.message)]
    there = next(one for one in (settings.archive, *settings.archive.parents) if one.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return [Check(subject="retention", is_ok=True, detail=f"archive in {settings.archive}")]
    detail = f"retention.archive: {settings.archive} cannot be written; it must be a folder of the service's own"
    return [Check(subject="retention", is_ok=False, detail=detail)]


def examine_store(settings: StoreSettings) -> list[Check]:
    """What `doctor` says of a store that it does not open; nothing is made or written."""
    if settings.url is None:
        return []  # its file is locked by the service that uses it
    from adapters.store.redis_examination import examine  # noqa: PLC0415 - imports the client

    try:
        return examine(*redis_terms(settings))
    except StoreError as error:
        return [Check(subject="store", is_ok=False, detail=error.message)]


def redis_terms(settings: StoreSettings) -> "tuple[RedisAddress, RedisTerms]":
    """Where the server is, and how it is spoken to.

    Raises:
        InvalidConfigError: the password or the certificates are not where the settings say.
    """
    from adapters.store.redis_address import parse_address  # noqa: PLC0415 - only with a url
    from adapters.store.redis_terms import RedisTerms, RedisWait  # noqa: PLC0415 - likewise

    assert settings.url is not None
    wait = RedisWait(
        replicas=settings.wait.replicas,
        is_on_disk=settings.wait.aof == "local",
        timeout_s=settings.wait.timeout,
    )
    return parse_address(settings.url), RedisTerms(
        password=read_password(settings.password_env, settings.password_file),
        sentinel_user=None if settings.sentinel is None else settings.sentinel.user,
        sentinel_password=None
        if settings.sentinel is None
        else read_password(
            settings.sentinel.password_env, settings.sentinel.password_file, of="store.sentinel"
        ),
        ca_file=None if settings.ca_file is None else checked_ca_file(settings.ca_file),
        timeout_s=settings.timeout,
        wait=wait,
    )


def checked_ca_file(file: Path) -> Path:
    """The file, where it holds certificates.

    Raises:
        InvalidConfigError: it holds none, or cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        why = "holds no certificate that can be read"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    else:
        if context.cert_store_stats()["x509"]:
            return file
        why = "holds no certificate"
    valid = "a PEM file with the certificates of the authorities (-----BEGIN CERTIFICATE-----)"
    raise InvalidConfigError(
        f"store.ca_file: {file} {why}; it must be {valid}",
        field="store.ca_file",
        value=str(file),
        valid=valid,
    )


def read_password(variable: str | None, file: Path | None, *, of: str = "store") -> str | None:
    """The password of the store, or of what else stands under that field; None where none is named. No error repeats it.

    Raises:
        InvalidConfigError: it is not there, or the file cannot be read.
    """
    if file is not None:
        field, where = f"{of}.password_file", str(file)
        try:
            password = file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InvalidConfigError(
                f"{field}: {file} cannot be read: {why}; it must be a file with the password on one line",
                field=field,
                value=str(file),
                valid="a file with one line of text",
            ) from error
    elif variable is not None:
        field, where = f"{of}.password_env", f"the variable {variable}"
        password = os.environ.get(variable, "")
    else:
        return None
    if not password or "\n" in password:
        raise InvalidConfigError(
            f"{field}: {where} is {'not one line' if password else 'empty or not there'}; it must hold the "
            f"password of the {of.rpartition('.')[2]}",
            field=field,
            value=variable or str(file),
            valid="one line of text",
        )
    return password
