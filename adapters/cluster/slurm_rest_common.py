"""What all versions of slurmrestd say alike; the dialects add what differs. Pure."""

from collections.abc import Mapping
from typing import Any

from adapters.cluster.slurm_access import SlurmSubmission
from adapters.cluster.slurm_holdings import SlurmHolding, SlurmReservation, parse_tres
from adapters.cluster.slurm_hostlist import expand_nodes
from adapters.cluster.slurm_parsers import (
    SlurmJob,
    SlurmNode,
    has_node,
    parse_gres,
    plausible_energy_j,
    with_comment,
)
from adapters.cluster.slurm_rest_document import (
    Document,
    entries,
    instant,
    mapping,
    number,
    text,
    words,
)


def describe(submission: SlurmSubmission) -> dict[str, Any]:
    """What a job says of itself in every version; None for what it does not say."""
    terms, device, each = submission.terms, submission.device, submission.each
    cpus = each if device.gres is None else each * (device.cpus_per_device or 0)
    return {
        "name": submission.name,
        "comment": submission.comment,
        "current_working_directory": submission.workdir,
        "standard_output": submission.output,
        "standard_error": submission.error,
        "tasks": submission.num_nodes,
        "cpus_per_task": cpus or None,
        "partition": device.partition or terms.partition,
        "account": terms.account,
        "qos": terms.qos,
        "constraints": terms.constraint,
        "licenses": terms.licenses,
    }


def stated(job: Mapping[str, Any]) -> dict[str, Any]:
    """What the job does say."""
    return {key: value for key, value in job.items() if value is not None}


def read_job(job: Document, *, state: str, code: tuple[int, int]) -> SlurmJob:
    """A job as the controller tells it, but for its state and exit code."""
    return with_comment(
        SlurmJob(
            job_id=str(job["job_id"]),
            name=text(job.get("name")),
            state=state,
            reason=text(job.get("state_reason")),
            start_s=instant(job.get("start_time")),
            end_s=instant(job.get("end_time")),
            code=code,
            has_run=has_node(text(job.get("nodes"))),
            partitions=text(job.get("partition")),
        ),
        text(job.get("comment")),
    )


def read_holding(document: Document, job: SlurmJob, *, is_mine: bool) -> SlurmHolding:
    """What a job has that is told in this document."""
    cpus, gres = parse_tres(text(document.get("tres_alloc_str")))
    return SlurmHolding(
        name=job.name,
        is_mine=is_mine,
        state=job.state,
        end_s=job.end_s,
        nodes=expand_nodes(text(document.get("nodes"))),
        cpus=cpus or number(document.get("cpus")) or 0,
        gres=gres,
        reservation=text(document.get("resv_name")) or None,
        comment=job.comment,
    )


def read_reservation(document: Document) -> SlurmReservation | None:
    """A reservation; None where it has no nodes, as one of licences alone."""
    start_s, end_s = (instant(document.get(name)) for name in ("start_time", "end_time"))
    nodes = expand_nodes(text(document.get("node_list")))
    if start_s is None or end_s is None or not nodes:
        return None
    cpus, gres = parse_tres(text(document.get("tres")))
    has_some_cores = document.get("core_spec_cnt") or document.get("core_specializations")
    return SlurmReservation(
        name=text(document.get("name")),
        start_s=start_s,
        end_s=end_s,
        nodes=nodes,
        is_whole=not has_some_cores,
        cpus=cpus,
        gres=gres,
    )


def read_accounted(job: Document, *, state: str, code: tuple[int, int]) -> SlurmJob:
    """A job as the accounts tell it, but for its state and exit code."""
    time = mapping(job.get("time"))
    return SlurmJob(
        job_id=str(job["job_id"]),
        name=text(job.get("name")),
        state=state,
        reason=text(mapping(job.get("state")).get("reason")),
        start_s=instant(time.get("start")),
        end_s=instant(time.get("end")),
        code=code,
        has_run=has_node(text(job.get("nodes"))),
        energy_j=_energy_j(job),
        is_accounted=True,
    )


def batch_step(job: Document, *, key: str) -> Document:
    """The batch step of a job in the accounts, by the key that names steps; the job where it has none."""
    steps = entries(job, "steps")
    return next((one for one in steps if mapping(one.get("step")).get(key) == "batch"), job)


def read_node(node: Document, *, flags: list[str], cpus: int, reservation: str | None) -> SlurmNode:
    """A node, but for its flags, its CPUs in service and its reservation."""
    return SlurmNode(
        name=text(node.get("name")),
        flags=frozenset(flag.upper() for flag in flags),
        partitions=frozenset(words(node.get("partitions"))),
        reservation=reservation,
        cpus=cpus,
        cpus_taken=number(node.get("alloc_cpus")) or 0,
        gres=parse_gres(text(node.get("gres"))),
        gres_taken=parse_gres(text(node.get("gres_used"))),
    )


def _energy_j(job: Document) -> float | None:
    """Joules of a job in the accounts: those of its longest step, for all see the node's counter."""
    elapsed_s = number(mapping(job.get("time")).get("elapsed")) or 0
    n_nodes = number(job.get("allocation_nodes")) or 1
    measured = [
        plausible_energy_j(joules, elapsed_s=elapsed_s, n_nodes=n_nodes)
        for step in entries(job, "steps")
        for energy in (mapping(mapping(step.get("statistics")).get("energy")),)
        if (joules := number(energy.get("consumed"))) is not None
    ]
    return max((one for one in measured if one is not None), default=None)
