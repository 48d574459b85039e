"""Lines of squeue about the jobs of all users, and what a native job asks for. Pure: texts in, records out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.cluster.slurm_native_words import (
    NativeComment,
    find_comment_trouble,
    parse_native,
)
from adapters.cluster.slurm_parsers import (
    SlurmJob,
    has_node,
    parse_exit,
    parse_time,
    with_comment,
)
from adapters.cluster.slurm_request import SlurmDevice

PLAIN_FIELDS: Final = (
    *("JobID", "JobArrayID", "UserName", "State", "Reason", "StartTime", "EndTime"),
    *("EligibleTime", "SubmitTime", "RestartCnt", "exit_code", "NodeList", "Partition"),
    *("NumNodes", "NumCPUs", "NumTasks", "TimeLimit", "Dependency", "Requeue", "BatchFlag"),
    *("OverSubscribe", "tres-alloc", "tres-per-job", "tres-per-node", "tres-per-socket"),
    "tres-per-task",
)
_LIMIT: Final = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")
_NONE: Final = ("", "N/A", "None", "NONE", "(null)", "None assigned")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLine:
    """One job of any user as squeue tells it; times in epoch seconds.

    Args:
        array_id: `7`, `7_3` or `7_[1-9]` of an array, `7+0` of a heterogeneous job.
        eligible_s: when Slurm may start it at the earliest; None where nothing is set.
        submit_s: when it was submitted, or last sent back to the queue.
        restarts: how often it was sent back.
        can_requeue: whether it may be sent back: a batch job that its user lets be.
        tres: what it asks for, by the name of the field.
        comment: None where it asks for no planning.
    """

    job: SlurmJob
    array_id: str
    user: str
    eligible_s: float | None
    submit_s: float
    restarts: int
    partitions: tuple[str, ...]
    num_nodes: int
    cpus: int
    tasks: int
    limit_s: int | None
    has_dependency: bool
    can_requeue: bool
    is_exclusive: bool
    tres: Mapping[str, str]
    comment: NativeComment | None

    @property
    def is_held(self) -> bool:
        """Whether somebody keeps it from starting."""
        # The last is that of scontrol requeuehold.
        return self.job.reason.startswith(("JobHeld", "JobHold", "job_requeued_in_held_state"))


def queue_format(seal: str, fields: Sequence[str] = PLAIN_FIELDS) -> str:
    """The value of `--Format`: every field as wide as it is.

    Users choose names and comments, which may hold line feeds and what looks like the line of another
    job. So those two come last, and end with the seal, which nobody can have known.
    """
    plain = ",".join(f"{name}:0|" for name in fields)
    return f"{plain},Name:0|{seal}|,Comment:0|{seal}"


def split_queue(text: str, seal: str, fields: Sequence[str] = PLAIN_FIELDS) -> Iterator[list[str]]:
    """The fields of each line, in the order of `fields`, the first of which is the id, then name and comment."""
    for record in text.split(f"|{seal}\n"):
        *plain, chosen = record.split("|", len(fields))
        name, mark, comment = chosen.partition(f"|{seal}|")
        if mark and len(plain) == len(fields) and plain[0].isdecimal():
            yield [*plain, name, comment]


def parse_line(fields: Sequence[str]) -> QueueLine:
    """The record of one line's fields."""
    of = dict(zip((*PLAIN_FIELDS, "Name", "Comment"), fields, strict=True))
    comment = "" if of["Comment"] == "(null)" else of["Comment"]
    job = SlurmJob(
        job_id=of["JobID"],
        name=of["Name"],
        state=of["State"],
        reason=of["Reason"],
        start_s=parse_time(of["StartTime"]),
        end_s=parse_time(of["EndTime"]),
        code=parse_exit(of["exit_code"]),
        has_run=has_node(of["NodeList"]),
    )
    return QueueLine(
        job=with_comment(job, comment),
        array_id=of["JobArrayID"],
        user=of["UserName"],
        eligible_s=parse_time(of["EligibleTime"]),
        submit_s=parse_time(of["SubmitTime"]) or 0.0,
        restarts=_first_number(of["RestartCnt"]) or 0,
        partitions=tuple(of["Partition"].split(",")),
        num_nodes=_first_number(of["NumNodes"]) or 1,
        cpus=_first_number(of["NumCPUs"]) or 1,
        tasks=_first_number(of["NumTasks"]) or 1,
        limit_s=parse_limit(of["TimeLimit"]),
        has_dependency=of["Dependency"] not in _NONE,
        can_requeue=(of["Requeue"], of["BatchFlag"]) == ("1", "1"),
        is_exclusive=of["OverSubscribe"] == "NO",
        tres={name: of[name] for name in PLAIN_FIELDS if name.startswith("tres")},
        comment=parse_native(comment),
    )


def parse_limit(text: str) -> int | None:
    """Seconds of `1-12:00:00`, `12:00:00` or `30:00`; None for UNLIMITED and its like."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds


def find_trouble(line: QueueLine) -> str | None:
    """Why a job cannot be planned, whatever the devices; None where it can."""
    assert line.comment is not None
    if "+" in line.array_id:
        return "heterogeneous jobs are not planned"
    if "_" in line.array_id:
        return "job arrays are not planned; submit their tasks one by one"
    return find_comment_trouble(line.comment)


# -------------------------------------------------------------------------------- devices


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of our accelerators a job asks for, and how many; or why it is none of them."""

    accelerator: str | None
    gpus: int
    trouble: str | None = None


def find_wanted(line: QueueLine, accelerators: Mapping[str, SlurmDevice]) -> Wanted:
    """What the job asks for, in our terms: one kind of device, or else CPUs."""
    asked = _asked_gres(line)
    ours = {_base(device.gres) for device in accelerators.values() if device.gres is not None}
    named = {name: count for name, count in asked.items() if _base(name) in ours | {"gpu"}}
    if not named:
        cpu = next((name for name, device in accelerators.items() if device.gres is None), None)
        trouble = None if cpu else "it asks for CPUs only, which are not planned on this cluster"
        return Wanted(cpu, _tres_count(line, "cpu") or line.cpus, trouble)
    if len(named) > 1:
        kinds = " and ".join(sorted(named))
        return Wanted(None, 0, f"it asks for {kinds}; jobs with one kind of device are planned")
    ((gres, count),) = named.items()
    fitting = _fitting(gres, line.partitions, accelerators)
    total = _tres_count(line, f"gres/{_base(gres)}") or count
    if len(fitting) == 1:
        return Wanted(fitting[0], total)
    known = ", ".join(sorted(device.gres for device in accelerators.values() if device.gres))
    if fitting:
        return Wanted(None, 0, f"it asks for {gres} without saying which: {known}")
    return Wanted(None, 0, f"it asks for {gres}; on this cluster are planned: {known or 'CPUs'}")


def _asked_gres(line: QueueLine) -> dict[str, int]:
    """Devices by `gpu` or `gpu:h100`, over all nodes."""
    factors = {
        "tres-per-job": 1,
        "tres-per-node": line.num_nodes,
        "tres-per-socket": line.num_nodes,  # at least: Slurm's own count, where it keeps one, goes first
        "tres-per-task": line.tasks,
    }
    asked: dict[str, int] = {}
    for name, factor in factors.items():
        for part in line.tres[name].split(","):
            gres, count = _parse_gres(part)
            if gres:
                asked[gres] = max(asked.get(gres, 0), count * factor)
    return asked


def _parse_gres(part: str) -> tuple[str, int]:
    """Name and count of `gres:gpu:h100:2`, `gres/gpu:2`, `gpu=2` or `gpu`; without a name none of a device."""
    if part in _NONE:
        return "", 0
    *names, last = re.split(r"[:=]", re.sub(r"^gres[:/]", "", part))
    if last.isdecimal():
        return ":".join(names), int(last)
    return ":".join([*names, last]), 1


def _fitting(
    gres: str, partitions: Sequence[str], accelerators: Mapping[str, SlurmDevice]
) -> list[str]:
    """Accelerators that this may mean; those of its own partitions, where there are any."""
    fitting = {
        name: device
        for name, device in accelerators.items()
        if device.gres is not None
        and (device.gres == gres or gres == _base(device.gres) or device.gres == _base(gres))
    }
    here = [name for name, device in fitting.items() if device.partition in partitions]
    return here or list(fitting)


def _tres_count(line: QueueLine, name: str) -> int | None:
    """What Slurm itself counts of that in all; None where it does not."""
    pairs = dict(pair.partition("=")[::2] for pair in line.tres["tres-alloc"].split(","))
    return _first_number(pairs.get(name, ""))


def _base(gres: str) -> str:
    return gres.partition(":")[0]


def _first_number(text: str) -> int | None:
    """The number that begins `4`, or `2-4`."""
    match = re.match(r"\d+", text)
    return int(match[0]) if match else None
