"""What `gridtide sbatch` asks of sbatch: the user's words in the comment, and the latest safe start. Pure."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from adapters.cluster.slurm_native_words import find_comment_trouble, parse_native
from scheduler.core.errors import InfeasibleError, InvalidInputError, InvalidJobError
from scheduler.core.guard import guard_at, latest_start_at
from scheduler.core.hardware import HardwareTable
from scheduler.core.job import Job
from scheduler.core.timegrid import format_instant
from scheduler.core.units import format_duration
from scheduler.server.native_jobs import native_document
from scheduler.server.sbatch_line import SbatchLine, directives, split_line
from scheduler.server.schemas import build_job, parse_job_spec
from scheduler.server.when import parse_when

_INSTANTS: Final = ("deadline", "not_before", "start_by")
_MARK: Final = "gridtide:"
_HETEROGENEOUS: Final = ("hetjob", "packjob")
_ARRAYS: Final = "job arrays are not planned; submit their tasks one by one, or with gridtide submit --script FILE --array INDEXES"
_HOLDS: Final = (
    "a job that Gridtide plans has its start from it; leave it out, and hold the job with "
    "scontrol hold JOBID once it is submitted"
)
_BEGINS: Final = "Gridtide sets it to the latest safe start; state --not-before, or leave it out"
_LIMIT: Final = re.compile(
    r"(?:(?P<d>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+))?(?::(?P<ds>\d+))?"
    r"|(?P<h>\d+):(?P<hm>\d+):(?P<hs>\d+)|(?P<m>\d+)(?::(?P<s>\d+))?)"
)
_ENDLESS: Final = ("unlimited", "infinite", "-1", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a submission depends on besides its command line.

    Args:
        script: text of the batch script; empty where there is none.
        variables: of the environment, those that sbatch reads as options among them.
        zone: of times without offset.
    """

    script: str
    variables: Mapping[str, str]
    now: datetime
    zone: tzinfo
    hardware: HardwareTable


@dataclass(frozen=True, slots=True, kw_only=True)
class SbatchRequest:
    """A submission to be made.

    Args:
        arguments: those of sbatch.
        begin_at: when Slurm starts the job at the latest.
        overruled: options of the script that give way to ours.
    """

    arguments: tuple[str, ...]
    begin_at: datetime
    overruled: tuple[str, ...]


def build_request(line: SbatchLine, around: Surroundings) -> SbatchRequest:
    """The submission that the command line means.

    Raises:
        InvalidInputError: words that are wrong, as the service would say it, or options that contradict them.
        InfeasibleError: its deadline cannot be met even if it started at once.
    """
    told = _of_script(around.script)
    _require_plannable(line, told, around.variables)
    words = {name: _value(name, text, around) for name, text in line.words.items()}
    job = _checked_job(words, _limit_s(line, told, around.variables), around)
    begin_at = guard_at(latest_start_at(job), earliest_at=job.earliest_start_at)
    comment = _comment(line.options.get("comment") or _kept_comment(told), words)
    return SbatchRequest(
        arguments=(
            f"--comment={comment}",
            f"--begin=uts{int(begin_at.timestamp())}",
            *line.passed,
            *line.script,
        ),
        begin_at=begin_at,
        overruled=("begin",) if "begin" in told else (),
    )


# ------------------------------------------------------------------------------ the script


def _of_script(text: str) -> Mapping[str, str | None]:
    """The options that the script's own lines state, the last of each."""
    told: dict[str, str | None] = {}
    for tokens in _tokens(text):
        if tokens and tokens[0] in _HETEROGENEOUS:
            told[tokens[0]] = None
        try:
            told |= split_line(tokens, ask_site=dict, takes_words=False).options
        except InvalidInputError:
            continue  # sbatch says what is wrong with it
    return told


def _tokens(text: str) -> Iterator[list[str]]:
    for directive in directives(text):
        try:
            yield shlex.split(directive, comments=True)
        except ValueError:
            continue  # likewise


def _kept_comment(told: Mapping[str, str | None]) -> str | None:
    """The script's own comment; one with words for us gives way to those of the command line."""
    comment = told.get("comment")
    return None if comment is None or _MARK in comment else comment


# ---------------------------------------------------------------------------------- checks


def _require_plannable(
    line: SbatchLine, told: Mapping[str, str | None], variables: Mapping[str, str]
) -> None:
    if line.script_name == ":":
        raise _refused(":", "heterogeneous jobs are not planned")
    for name in _HETEROGENEOUS:
        if name in told:
            raise _refused(f"#SBATCH {name}", "heterogeneous jobs are not planned")
    if "SBATCH_ARRAY_INX" in variables:
        raise _refused("SBATCH_ARRAY_INX", _ARRAYS)
    for name, why in (("array", _ARRAYS), ("hold", _HOLDS), ("begin", _BEGINS)):
        if name in line.options:
            raise _refused(f"--{name}", why)
        if name in told and name != "begin":
            raise _refused(f"#SBATCH --{name}", why)
    said = line.options.get("comment") or ""
    if _MARK in said:
        raise InvalidInputError(
            f"--comment: {said!r} speaks to Gridtide already; state its words as options, such as --deadline",
            field="--comment",
            value=said,
            valid=f"a comment without {_MARK}",
        )


def _refused(field: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {why}", field=field, valid="left out")


def _value(name: str, text: str, around: Surroundings) -> str:
    """A word as it stands in the comment: times in UTC."""
    if name not in _INSTANTS:
        return text
    at = parse_when(text, now=around.now, zone=around.zone, field=name, takes_local=True)
    return format_instant(at.replace(microsecond=0))


def _checked_job(words: Mapping[str, str], limit_s: int | None, around: Surroundings) -> Job:
    """The job that the service would make of the words, on whatever device."""
    document = {"name": "job", "command": ["sbatch"], **native_document(words, limit_s=limit_s)}
    job = build_job(
        parse_job_spec(document),
        job_id="job",
        now=around.now,
        hardware=around.hardware,
        region_ids=(),
    )
    (option,) = job.options
    if limit_s is not None and option.duration_s > limit_s and job.interruptible is None:
        raise InvalidJobError(
            f"duration: {format_duration(option.duration_s)} is longer than the time limit, {format_duration(limit_s)}, "
            "at which Slurm ends the job; raise --time, or make it --interruptible",
            field="duration",
            value=option.duration_s,
            valid=f"at most {format_duration(limit_s)}",
        )
    if job.latest_start_at(option) < job.earliest_start_at:
        first = format_instant(job.earliest_start_at.replace(microsecond=0))
        length = format_duration(option.duration_s)
        raise InfeasibleError(
            f"deadline: {format_instant(job.deadline_at)} is too soon for {length} from {first} on",
            field="deadline",
            value=format_instant(job.deadline_at),
        )
    return job


def _comment(before: str | None, words: Mapping[str, str]) -> str:
    """The comment that a server reads these words from, behind what the user wrote there."""
    said = _MARK + ",".join(f"{name}={value}" for name, value in words.items())
    text = f"{before};{said}" if before else said
    comment = parse_native(text)
    assert comment is not None
    trouble = find_comment_trouble(comment)
    if trouble is None and comment.words != words:
        trouble = "a value holds , or ; which end a word in a comment"
    if trouble is not None:
        raise InvalidJobError(f"{trouble}: {said!r}", field="comment", value=text)
    return text


# ------------------------------------------------------------------------------- durations


def _limit_s(
    line: SbatchLine, told: Mapping[str, str | None], variables: Mapping[str, str]
) -> int | None:
    """The time limit, in the order in which sbatch looks for it; None where there is none."""
    sources = (
        ("--time", line.options.get("time")),
        ("SBATCH_TIMELIMIT", variables.get("SBATCH_TIMELIMIT")),
        ("#SBATCH --time", told.get("time")),
    )
    stated = [(field, text) for field, text in sources if text is not None]
    return parse_time_limit(stated[0][1], field=stated[0][0]) if stated else None


def parse_time_limit(text: str, *, field: str = "--time") -> int | None:
    """Seconds of a time limit as sbatch takes it, such as `90`, `90:00`, `1:30:00` or `1-12`; None for no limit.

    Raises:
        InvalidInputError: another form.
    """
    if text.strip().lower() in _ENDLESS:
        return None
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(
            f"{field}: {text!r} is not a time limit; write minutes, minutes:seconds, hours:minutes:seconds, "
            "days-hours, days-hours:minutes or days-hours:minutes:seconds",
            field=field,
            value=text,
            valid="such as 90, 1:30:00 or 1-12:00:00",
        )
    part = {name: int(digits or 0) for name, digits in match.groupdict().items()}
    hours = 24 * part["d"] + part["dh"] + part["h"]
    minutes = part["dm"] + part["hm"] + part["m"]
    return hours * 3600 + minutes * 60 + part["ds"] + part["hs"] + part["s"]
