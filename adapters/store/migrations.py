"""Schema of the SQLite store, version by version. A released version is never edited."""

import sqlite3
from typing import Final

from scheduler.core.errors import StoreError

APPLICATION_ID: Final = 0x67726964  # "grid"

MIGRATIONS: Final = (
    """
    CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        is_active INTEGER NOT NULL,
        project TEXT NOT NULL,
        submitted_us INTEGER NOT NULL,
        idempotency_key TEXT UNIQUE,
        request_digest TEXT,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX jobs_active ON jobs (submitted_us, job_id) WHERE is_active = 1;
    CREATE INDEX jobs_by_time ON jobs (submitted_us, job_id);
    CREATE INDEX jobs_by_state ON jobs (state, submitted_us, job_id);
    CREATE INDEX jobs_by_project ON jobs (project, submitted_us, job_id);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        kind TEXT NOT NULL,
        job_id TEXT,
        state TEXT,
        detail TEXT NOT NULL
    );
    CREATE INDEX events_by_job ON events (job_id, seq);
    CREATE INDEX events_by_kind ON events (kind, seq);
    CREATE TABLE ledger (
        job_id TEXT PRIMARY KEY,
        submitted_us INTEGER NOT NULL,
        is_settled INTEGER NOT NULL,
        entry TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX ledger_by_time ON ledger (submitted_us, job_id);
    CREATE INDEX ledger_unsettled ON ledger (submitted_us, job_id) WHERE is_settled = 0;
    CREATE TABLE documents (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    """,
)


def migrate(connection: sqlite3.Connection, where: str) -> None:
    """Brings the file to the newest version, each step in a transaction of its own.

    Raises:
        StoreError: the file belongs to another program, or was written by a newer Gridtide.
    """
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if owner != APPLICATION_ID and not (is_empty and owner == 0):
        raise StoreError(
            f"{where} is a SQLite database of another program; name another file in store.path",
            path=where,
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{where} has schema version {version}, this Gridtide knows {len(MIGRATIONS)}; upgrade Gridtide",
            path=where,
            version=version,
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {script} "
            f"PRAGMA user_version = {number}; COMMIT;"
        )
