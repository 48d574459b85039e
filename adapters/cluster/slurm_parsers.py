"""What Slurm's commands print, as records. Pure: texts in, records out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

COMMENT_KEY: Final = "gridtide:key="
_KILL: Final = re.compile(r";kill=(\d+(?:\.\d+)?)")
_TICKET: Final = re.compile(r";ticket=([A-Za-z0-9-]+)")
_ASKS: Final = re.compile(r";asks=([^;:]+):(\d+)")
_PAIR: Final = re.compile(r"(\w+)=(\S*)")
_GRES: Final = re.compile(r"([\w.:-]+?):(\d+)(?:\([^)]*\))?(?:,|$)")
_NEVER: Final = ("", "None", "(null)", "None assigned", "N/A")
OUT_OF_SERVICE: Final = frozenset(
    {"DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "FUTURE", "INVAL"}
    | {"MAINT", "MAINTENANCE", "NO_RESPOND", "NOT_RESPONDING", "PERFCTRS", "PLANNED"}
    | {"POWERING_DOWN", "REBOOT", "REBOOT_ISSUED", "REBOOT_REQUESTED", "RESERVED", "UNKNOWN"}
    | {"POWER_DRAIN", "BLOCKED"}
)
_MAX_NODE_W: Final = 100_000.0
"""No node draws more; readings that say so are counters gone wrong (18446744073709551614 and such)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """One job as squeue or sacct tells it; times in epoch seconds.

    Args:
        state: the first word of Slurm's state.
        code: exit code and signal, where it has ended.
        is_code_known: whether `code` can be believed; some accounts give 0 for any exit code.
        has_run: whether it ever had a node.
        partitions: where it waits or runs, by commas, as far as squeue says; sacct is not asked.
        kill_at_s: when it is to be killed; None where it was not asked to leave.
        ticket: the file that it must rename to begin.
        asks: accelerator and count.
        comment: as squeue has it; the three above are read from it, and gone where it was replaced.
        energy_j: what its nodes drew, where that was measured.
        stretches: earlier stretches of a job that was requeued.
        is_accounted: whether this is the word of the accounts.
    """

    job_id: str
    name: str
    state: str
    reason: str
    start_s: float | None
    end_s: float | None
    code: tuple[int, int]
    has_run: bool
    partitions: str = ""
    is_code_known: bool = True
    kill_at_s: float | None = None
    ticket: str | None = None
    asks: tuple[str, int] | None = None
    comment: str = ""
    energy_j: float | None = None
    stretches: tuple[tuple[float, float], ...] = ()
    is_accounted: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether it is only the trace of a submission that Slurm refused.

        squeue calls the reason BadConstraints, sacct (22.05) gives none: that it failed without
        ever having had a node is what both say.
        """
        return self.reason == "BadConstraints" or (self.state == "FAILED" and not self.has_run)


# --------------------------------------------------------------------------------- comment


def build_comment(key: str, *, accelerator: str, gpus: int, ticket: str) -> str:
    """What we write at a job: whose run it is, and what a new adapter must know of it."""
    return f"{COMMENT_KEY}{key};asks={accelerator}:{gpus};ticket={ticket}"


def with_kill(comment: str, kill_at_s: float) -> str:
    """The comment with when the job is to be killed."""
    return f"{comment};kill={kill_at_s:.3f}"


def with_comment(job: SlurmJob, comment: str) -> SlurmJob:
    """The job with its comment and what is written in it."""
    return replace(
        job,
        kill_at_s=float(match[1]) if (match := _KILL.search(comment)) else None,
        ticket=match[1] if (match := _TICKET.search(comment)) else None,
        asks=parse_asks(comment),
        comment=comment,
    )


def parse_asks(comment: str) -> tuple[str, int] | None:
    """Accelerator and count, as we wrote them at a job."""
    match = _ASKS.search(comment)
    return (match[1], int(match[2])) if match else None


def with_exit(job: SlurmJob, code: int | None) -> SlurmJob:
    """The job with the exit code that its script noted, if it did."""
    return job if code is None else replace(job, code=(code, 0), is_code_known=True)


# ---------------------------------------------------------------------------------- squeue

WIDEST_NAME: Final = 300
SQUEUE_FIELDS: Final = (
    *("JobID:12|", "State:16|", "Reason:32|", "StartTime:20|", "EndTime:20|", "exit_code:8|"),
    *("NodeList:20|", "Partition:0|"),
)


def squeue_format(names: Iterable[str] = ()) -> str:
    """The value of `--Format`: fields wide enough for these names, or for any; 0 stands for as wide as it is."""
    width = max((len(name) for name in names), default=WIDEST_NAME) + 1
    return f"{','.join(SQUEUE_FIELDS)},Name:{width}|,Comment:{width + 140}"


def parse_squeue(
    text: str, known: Mapping[str, SlurmJob] = MappingProxyType({})
) -> dict[str, SlurmJob]:
    """The jobs of `squeue --Format` by their lines; lines that are none are left out.

    A running job's line stays the same: what is `known` of lines read before is taken from there.
    """
    jobs = {}
    for line in text.splitlines():
        job = known.get(line) or _queued(line)
        if job is not None:
            jobs[line] = job
    return jobs


def _queued(line: str) -> SlurmJob | None:
    fields = [field.strip() for field in line.split("|", 9)]
    if len(fields) != 10 or not fields[0].isdecimal():
        return None
    job_id, state, reason, start, end, code, nodes, partitions, name, comment = fields
    return with_comment(
        SlurmJob(
            job_id=job_id,
            name=name,
            state=_first_word(state),
            reason=reason,
            start_s=parse_time(start),
            end_s=parse_time(end),
            code=parse_exit(code),
            has_run=has_node(nodes),
            partitions=partitions,
        ),
        comment,
    )


# ----------------------------------------------------------------------------------- sacct

SACCT_FIELDS: Final = (
    *("JobIDRaw", "State", "ExitCode", "NodeList", "NNodes", "Start", "End", "ElapsedRaw"),
    *("ConsumedEnergyRaw", "Reason", "JobName"),
)


def parse_sacct(text: str) -> list[SlurmJob]:
    """The jobs of `sacct --duplicates --parsable2` with their steps taken in.

    The exit code is that of the batch step: for a job that was killed, its own line says 0:0.
    Earlier runs of a requeued job become stretches of its last one.
    """
    jobs: list[SlurmJob] = []
    for line in text.splitlines():
        fields = line.split("|", len(SACCT_FIELDS) - 1)
        if len(fields) != len(SACCT_FIELDS):
            continue
        job_id, _, step = fields[0].partition(".")
        if not step and job_id.isdecimal():
            add_run(jobs, _accounted(fields))
        elif jobs and jobs[-1].job_id == job_id:
            jobs[-1] = _with_step(jobs[-1], step, fields)
    return jobs


def _accounted(fields: Sequence[str]) -> SlurmJob:
    job_id, state, code, nodes, _, start, end, *_, reason, name = fields
    return SlurmJob(
        job_id=job_id,
        name=name,
        state=_first_word(state),
        reason=reason,
        start_s=parse_time(start),
        end_s=parse_time(end),
        code=parse_exit(code),
        has_run=has_node(nodes),
        energy_j=_energy_j(fields),
        is_accounted=True,
    )


def add_run(jobs: list[SlurmJob], run: SlurmJob) -> None:
    """Adds a job; earlier runs of the same one become stretches of it."""
    earlier = next((job for job in jobs if (job.job_id, job.name) == (run.job_id, run.name)), None)
    if earlier is not None:
        jobs.remove(earlier)
        stretches = earlier.stretches
        if earlier.has_run and earlier.start_s is not None and earlier.end_s is not None:
            stretches = (*stretches, (earlier.start_s, earlier.end_s))
        run = replace(run, stretches=stretches)
    jobs.append(run)


def _with_step(job: SlurmJob, step: str, fields: Sequence[str]) -> SlurmJob:
    if step == "batch":
        job = replace(job, code=parse_exit(fields[2]))
    energy_j = _energy_j(fields)
    if energy_j is None:
        return job
    # Counters are those of the node: the steps of one job see the same joules, the longest most.
    return replace(job, energy_j=max(energy_j, job.energy_j or 0.0))


def _energy_j(fields: Sequence[str]) -> float | None:
    """Joules of one line; None where they were not measured, or cannot be true."""
    n_nodes, elapsed_s, joules = fields[4], fields[7], fields[8]
    if not (joules.isdecimal() and elapsed_s.isdecimal() and n_nodes.isdecimal()):
        return None
    return plausible_energy_j(int(joules), elapsed_s=int(elapsed_s), n_nodes=int(n_nodes))


def plausible_energy_j(joules: int, *, elapsed_s: int, n_nodes: int) -> float | None:
    """The joules; None where they were not measured, or cannot be true."""
    most = _MAX_NODE_W * max(elapsed_s, 1) * max(n_nodes, 1)
    return float(joules) if 0 < joules <= most else None


# ----------------------------------------------------------------------------------- nodes


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """What one node has and what is taken: CPUs, and gres by name (`gpu:h100`)."""

    name: str
    flags: frozenset[str]
    partitions: frozenset[str]
    reservation: str | None
    cpus: int
    cpus_taken: int
    gres: tuple[tuple[str, int], ...]
    gres_taken: tuple[tuple[str, int], ...]

    def is_usable(self, reservation: str | None) -> bool:
        """Whether jobs may begin there now, in that reservation or outside of all."""
        trouble = self.flags & OUT_OF_SERVICE
        if reservation is not None:
            return self.reservation == reservation and trouble <= {"RESERVED"}
        return not trouble and self.reservation is None

    def total(self, gres: str | None) -> int:
        """Devices of that gres, or CPUs."""
        return self.cpus if gres is None else _count(self.gres, gres)

    def free(self, gres: str | None) -> int:
        """Devices of that gres, or CPUs, that no job has."""
        taken = self.cpus_taken if gres is None else _count(self.gres_taken, gres)
        return max(self.total(gres) - taken, 0)


def parse_nodes(text: str) -> list[SlurmNode]:
    """The nodes of `scontrol --detail --oneliner show node`."""
    return [_node(line) for line in text.splitlines() if line.startswith("NodeName=")]


def line_pairs(line: str) -> dict[str, str]:
    """The `Name=value` pairs of a line of `scontrol --oneliner`."""
    pairs: dict[str, str] = {}
    for name, value in _PAIR.findall(line):
        pairs.setdefault(name, value)  # a reason at the end of the line may look like a pair
    return pairs


def _node(line: str) -> SlurmNode:
    pairs = line_pairs(line)
    state = pairs.get("State", "UNKNOWN")
    flags = {flag.rstrip("*~#!%$@^-") for flag in state.split("+")}
    if "*" in state:
        flags.add("NOT_RESPONDING")
    return SlurmNode(
        name=pairs["NodeName"],
        flags=frozenset(flags),
        partitions=frozenset(pairs.get("Partitions", "").split(",")),
        reservation=pairs.get("ReservationName"),
        cpus=int(pairs.get("CPUEfctv") or pairs.get("CPUTot") or 0),
        cpus_taken=int(pairs.get("CPUAlloc") or 0),
        gres=parse_gres(pairs.get("Gres", "")),
        gres_taken=parse_gres(pairs.get("GresUsed", "")),
    )


def parse_gres(text: str) -> tuple[tuple[str, int], ...]:
    """Names and counts of `gpu:h100:2(IDX:0-1),gpu:a100:4(S:0-1)`."""
    return tuple((name, int(count)) for name, count in _GRES.findall(text))


def _count(gres: Iterable[tuple[str, int]], wanted: str) -> int:
    return sum(count for name, count in gres if name == wanted or name.startswith(f"{wanted}:"))


# ---------------------------------------------------------------------------------- fields


def parse_time(text: str) -> float | None:
    """Epoch seconds of a time printed in UTC; None for Unknown, N/A and their like."""
    try:
        return datetime.fromisoformat(f"{text}+00:00").timestamp()
    except ValueError:
        return None


def parse_exit(text: str) -> tuple[int, int]:
    """Exit code and signal, of `3:0` as well as of a raw wait status (768)."""
    code, _, signal = text.partition(":")
    if signal:
        return (int(code), int(signal)) if code.isdecimal() and signal.isdecimal() else (0, 0)
    status = int(code) if code.isdecimal() else 0
    return status >> 8, status & 0x7F


def parse_pairs(text: str) -> Iterator[tuple[str, str]]:
    """The settings of `scontrol show config`: `Name = value` lines."""
    for line in text.splitlines():
        name, mark, value = line.partition("=")
        if mark:
            yield name.strip(), value.strip()


def has_node(nodes: str) -> bool:
    """Whether a list of nodes names any."""
    return nodes not in _NEVER


def _first_word(state: str) -> str:
    """`CANCELLED` of `CANCELLED by 0`."""
    return state.split(" ", 1)[0].rstrip("+")
