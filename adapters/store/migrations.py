"""The schema, as the ordered steps that led to it. A step that was released never changes."""

import sqlite3
from collections.abc import Sequence
from typing import Final

Migration = Sequence[str]

_VERSION_1: Final[Migration] = (
    """
    CREATE TABLE jobs (
        job_id TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        project TEXT NOT NULL,
        submitted_us INTEGER NOT NULL,
        idempotency_key TEXT UNIQUE,
        request_digest TEXT,
        record TEXT NOT NULL
    ) STRICT
    """,
    # State comes first: a page of active jobs must not walk through years of ended ones.
    "CREATE INDEX jobs_by_state ON jobs (state, submitted_us, job_id)",
    "CREATE INDEX jobs_by_project ON jobs (project, state, submitted_us, job_id)",
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        kind TEXT NOT NULL,
        job_id TEXT,
        state TEXT,
        detail TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX events_by_job ON events (job_id) WHERE job_id IS NOT NULL",
    "CREATE INDEX events_by_kind ON events (kind)",
    """
    CREATE TABLE ledger (
        job_id TEXT NOT NULL PRIMARY KEY,
        submitted_us INTEGER NOT NULL,
        is_settled INTEGER NOT NULL,
        entry TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX ledger_by_submission ON ledger (submitted_us, job_id)",
    "CREATE INDEX ledger_unsettled ON ledger (submitted_us, job_id) WHERE is_settled = 0",
    "CREATE TABLE documents (key TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL) STRICT",
)

_VERSION_2: Final[Migration] = (
    # Only of jobs that succeeded: a submission must not pay for it.
    """
    CREATE INDEX jobs_succeeded ON jobs (
        project, json_extract(record, '$.job.name'), submitted_us, job_id
    ) WHERE state = 'succeeded'
    """,
)

MIGRATIONS: Final[Sequence[Migration]] = (_VERSION_1, _VERSION_2)
"""Step i leads from version i to i + 1; the version is kept in `PRAGMA user_version`."""


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS
) -> tuple[int, int]:
    """Brings the schema up to date, each step in a transaction; returns versions before and after.

    The connection must be in autocommit mode.
    """
    (before,) = connection.execute("PRAGMA user_version").fetchone()
    for version, migration in enumerate(migrations[before:], start=before + 1):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in migration:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
    return before, max(before, len(migrations))
