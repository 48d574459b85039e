"""Reading jobs from files and options."""

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scheduler.core.errors import InvalidInputError
from scheduler.core.units import parse_duration
from scheduler.server.cli_manifests import find_job, is_manifest, title
from scheduler.server.cli_output import grams, local, print_rows, say
from scheduler.server.yaml_files import parse_yaml, read_yaml

if TYPE_CHECKING:
    from scheduler.client import GridtideClient

Document = dict[str, Any]


STDIN: Final = Path("-")


def load_jobs(path: Path) -> list[Document]:
    """The jobs of a YAML or JSON file: one, several documents, a list under `jobs`, or a manifest of Kubernetes.

    Args:
        path: of the file; `-` for what comes in on stdin.

    Raises:
        InvalidInputError: naming file, line and column.
    """
    documents = _read(path)
    if any(map(is_manifest, documents)):
        return [{"kubernetes": {"manifest": _plain(find_job(documents, path))}}]
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


def _read(path: Path) -> list[Any]:
    try:
        if path == STDIN:
            return parse_yaml(sys.stdin.read(), path, error=InvalidInputError, field="file")
        return read_yaml(path, error=InvalidInputError, field="file")
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: cannot be read: no such file", field="file") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}", field="file") from error


def _plain(value: object) -> object:
    """YAML reads unquoted times by itself; the API takes texts."""
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def plan_snapshot(path: Path, *, time_limit: str | None, seed: int) -> Document:
    """The plan of a snapshot file, with a sign of life on stderr."""
    from rich.console import Console  # noqa: PLC0415 - likewise
    from rich.progress import Progress, TaskID  # noqa: PLC0415 - likewise

    from adapters.hardware_tables import load_hardware  # noqa: PLC0415 - likewise
    from scheduler.server.plan_documents import Timing, plan_file  # noqa: PLC0415 - imports numba

    limit_s = None if time_limit is None else float(parse_duration(time_limit, field="time-limit"))
    document = _read_snapshot(path)
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            tasks: dict[str, TaskID] = {}

            def tell(stage: str, share: float) -> None:
                if stage not in tasks:
                    for done in tasks.values():
                        progress.update(done, completed=1.0)
                    tasks[stage] = progress.add_task(stage, total=1.0)
                progress.update(tasks[stage], completed=share)

            timing = Timing(limit_s, tell=tell)
            return plan_file(document, load_hardware(), seed=seed, timing=timing)
    except InvalidInputError as error:
        error.message = f"{path}: {error.message}"
        raise


def _read_snapshot(path: Path) -> object:
    """The document of a JSON or YAML file."""
    import json  # noqa: PLC0415 - likewise

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"{path}: cannot be read: no such file", field="snapshot"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}", field="snapshot") from error
    if path.suffix != ".json" and not text.lstrip().startswith(("{", "[")):
        found = read_yaml(path, error=InvalidInputError, field="snapshot")
        return found[0] if len(found) == 1 else None
    # YAML reads JSON too, a hundred times slower: snapshots are large.
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}", field="snapshot"
        ) from error
    except RecursionError as error:
        raise InvalidInputError(
            f"{path}: not valid: nested too deeply", field="snapshot"
        ) from error
    except ValueError as error:
        raise InvalidInputError(f"{path}: not valid: {error}", field="snapshot") from error


def split_words(words: list[str], stated: str | None) -> tuple[Path | None, list[str]]:
    """The file, which is stated or a first word with such an ending, and the command.

    Raises:
        InvalidInputError: two files.
    """
    named = Path(words[0]) if words and words[0].endswith((".yaml", ".yml", ".json")) else None
    if stated is None:
        return named, words[1:] if named else words
    if named is not None:
        raise InvalidInputError(
            f"file: {named} and {stated}: give one file", field="file", value=str(named)
        )
    return Path(stated), words


def merged(job: Document, given: Document) -> Document:
    """The file's job with the options on top; one way to say when, or what, replaces the other.

    Terms of Slurm are laid over one by one, those of Kubernetes likewise.
    """
    if "deadline" in given or "patience" in given:
        job = {key: value for key, value in job.items() if key not in ("deadline", "patience")}
    if "command" in given or "script" in given:
        job = {key: value for key, value in job.items() if key not in ("command", "script")}
    for kind in ("slurm", "kubernetes"):
        if kind in given:
            given = given | {kind: _over(job.get(kind), given[kind])}
    return job | given


def _over(before: object, given: Document) -> Document:
    """Terms laid over those of the file, one by one."""
    if not isinstance(before, dict):
        return given
    options = before.get("options")
    if isinstance(options, dict) and "options" in given:
        given = given | {"options": options | given["options"]}
    return before | given


def slurm(pairs: list[str]) -> Document:
    """Terms of Slurm of KEY=VALUE texts; `options.KEY` for further options of sbatch."""
    terms: Document = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not key or not mark:
            raise InvalidInputError(
                f"slurm: {pair!r} is not KEY=VALUE, such as account=ml or options.mem=8G",
                field="slurm",
                value=pair,
                valid="KEY=VALUE",
            )
        if key.startswith("options."):
            terms.setdefault("options", {})[key.removeprefix("options.")] = value
        else:
            terms[key] = value
    return terms


def script_text(path: Path) -> str:
    """The text of a script.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"script: {path} cannot be read: {error}",
            field="script",
            value=str(path),
            valid="a text file",
        ) from error


def env(pairs: list[str]) -> dict[str, str]:
    """Variables of NAME=VALUE texts."""
    for pair in pairs:
        if "=" not in pair:
            raise InvalidInputError(f"env: {pair!r} is not NAME=VALUE", field="env", value=pair)
    return dict(pair.split("=", 1) for pair in pairs)


def send(client: "GridtideClient", specs: list[Document]) -> list[Document]:
    """The submitted jobs; many are sent in parts."""
    if len(specs) == 1:
        return [client.submit(specs[0])]
    from rich.console import Console  # noqa: PLC0415 - likewise
    from rich.progress import Progress  # noqa: PLC0415 - likewise

    jobs: list[Document] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("submitting", total=len(specs))
        for low in range(0, len(specs), 500):
            jobs += client.submit_batch(specs[low : low + 500])
            progress.update(task, completed=len(jobs))
    return jobs


def print_submitted(jobs: list[Document], kind: str) -> None:
    """What was submitted, with when and where it would run now."""
    rows = []
    for job in jobs:
        placement, baseline = job["placement"] or {}, job["baseline"]
        planned, at_once = placement.get("emissions_g"), baseline["emissions_g"]
        saving = f"{1 - planned / at_once:.1%}" if planned is not None and at_once else None
        rows.append(
            (
                job["id"],
                job["state"],
                placement.get("region"),
                local(placement.get("start")),
                local(job["deadline"]),
                grams(planned),
                saving,
            )
        )
    columns = ("id", "state", "region", "expected start", "deadline", "expected g", "saving %")
    print_rows(kind, jobs[0] if len(jobs) == 1 else {"jobs": jobs}, columns, rows)


def tell_notes(jobs: list[Document]) -> None:
    """What users should know of what they have submitted, each thing once."""
    notes = [note for job in jobs for note in (job["reason"], *_overruled(job)) if note]
    for note in dict.fromkeys(notes):
        say(f"note: {note}")


def _overruled(job: Document) -> list[str]:
    found: list[str] = (job["kubernetes"] or {}).get("overruled", [])
    return found


def terms(document: Document) -> list[str]:
    """Lines on what a job waits for, what it may cost, and where it is to run how wide."""
    lines = [f"after: {', '.join(document['after'])}"] if document["after"] else []
    lines += [
        f"{key}: {document[key]:g}"
        for key in ("carbon_price", "max_cost", "max_carbon_g")
        if document[key] is not None
    ]
    placement = document["placement"] or {"segments": []}
    lines += [
        f"runs: {local(one['start'])} to {local(one['end'])} on {one['gpus']} x {placement['accelerator']}"
        for one in placement["segments"]
    ]
    if (document.get("kubernetes") or {}).get("manifest"):
        lines.append("manifest: " + title(document["kubernetes"]["manifest"]))
    if placement.get("cost") is not None:
        lines.append(f"cost: {placement['cost']:.2f}")
    return lines


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
