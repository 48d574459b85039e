"""Ended jobs in Parquet files: columns for people's queries, and everything else as the JSON of the store."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from adapters.store.codec import (
    decode_entry,
    decode_event,
    decode_record,
    encode_entry,
    encode_event,
    encode_record,
)
from adapters.store.database_file import put_in_place
from scheduler.core.errors import InvalidConfigError, StoreError
from scheduler.ports import ArchivedJob

_SUFFIX: Final = ".parquet"


class ParquetArchive:
    """A `JobArchive` in a folder, a file a batch.

    Columns: `job_id`, `name`, `project`, `state`, `submitted_at`, `started_at`, `ended_at` (UTC), `cluster_id` of
    the last run, `energy_kwh`, `emissions_g`, `saving_g` (of the ledger entry); `record` and `entry` (JSON),
    `events` (JSON each, with its number in `event_seqs`).

    Args:
        folder: made where it is missing, once there is something to keep.

    Raises:
        InvalidConfigError: pyarrow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import pyarrow.parquet  # noqa: F401, PLC0415 - an extra of 170 MB
        except ImportError as error:
            raise InvalidConfigError(
                "retention.archive: Parquet needs pyarrow; install gridtide[parquet]",
                field="retention.archive",
            ) from error
        self._folder = folder

    def write(self, name: str, jobs: Sequence[ArchivedJob]) -> None:
        """Keeps the batch; returns when it survives the loss of power."""
        from pyarrow import Table, parquet  # noqa: PLC0415

        path = self._path(name)
        part = path.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.glob(
                "*.part"
            ):  # of a process that died: it has another name now
                left.unlink()
            table = Table.from_pylist([_row(one) for one in jobs], schema=_schema())
            with part.open("wb") as file:
                parquet.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            put_in_place(part, path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise _unusable(self._folder, error) from error

    def has(self, name: str) -> bool:
        """Whether the file of that batch is there: it gets its name once it is whole."""
        try:
            return self._path(name).exists()
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def _path(self, name: str) -> Path:
        return self._folder / (name + _SUFFIX)


def read_archived(path: Path) -> list[ArchivedJob]:
    """The jobs of a file, as they were. Raises StoreError for texts that no store wrote."""
    from pyarrow import parquet  # noqa: PLC0415

    names = ["record", "entry", "event_seqs", "events"]
    return [
        ArchivedJob(
            record=decode_record(row["record"]),
            events=tuple(
                decode_event(seq, text)
                for seq, text in zip(row["event_seqs"], row["events"], strict=True)
            ),
            entry=None if row["entry"] is None else decode_entry(row["entry"]),
        )
        for row in parquet.read_table(path, columns=names).to_pylist()
    ]


def _schema() -> Any:
    import pyarrow as pa  # noqa: PLC0415

    texts = ("job_id", "name", "project", "state")
    instants = ("submitted_at", "started_at", "ended_at")
    numbers = ("energy_kwh", "emissions_g", "saving_g")
    return pa.schema(
        [
            *((name, pa.string()) for name in texts),
            *((name, pa.timestamp("us", tz="UTC")) for name in instants),
            ("cluster_id", pa.string()),
            *((name, pa.float64()) for name in numbers),
            ("record", pa.string()),
            ("entry", pa.string()),
            ("event_seqs", pa.list_(pa.int64())),
            ("events", pa.list_(pa.string())),
        ]
    )


def _row(one: ArchivedJob) -> dict[str, Any]:
    record, entry = one.record, one.entry
    job = record.job
    return {
        "job_id": job.job_id,
        "name": job.name,
        "project": job.project,
        "state": record.state.value,
        "submitted_at": job.submitted_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "cluster_id": record.runs[-1].cluster_id if record.runs else None,
        "energy_kwh": None if entry is None else entry.energy_kwh,
        "emissions_g": None if entry is None else entry.emissions_g,
        "saving_g": None if entry is None else entry.saving_g,
        "record": encode_record(record),
        "entry": None if entry is None else encode_entry(entry),
        "event_seqs": [event.seq for event in one.events],
        "events": [encode_event(event) for event in one.events],
    }


def _unusable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{folder}: cannot be used as an archive ({error}); no job was moved",
        path=str(folder),
        cause=str(error),
    )
