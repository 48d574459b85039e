"""v0.0.40 and later of slurmrestd (from Slurm 23.11 on). Pure."""

from typing import Any, Final

from adapters.cluster.slurm_access import SlurmSubmission
from adapters.cluster.slurm_parsers import SlurmJob, SlurmNode
from adapters.cluster.slurm_rest_common import (
    batch_step,
    describe,
    read_accounted,
    read_job,
    read_node,
    stated,
)
from adapters.cluster.slurm_rest_document import Document, mapping, number, text, words
from adapters.cluster.slurm_rest_options import NEW_OPTIONS, write_options

_FIRST: Final = (
    *("COMPLETING", "STAGE_OUT", "CONFIGURING", "RESIZING", "REQUEUED", "REQUEUE_FED"),
    *("REQUEUE_HOLD", "SPECIAL_EXIT", "STOPPED", "REVOKED", "RESV_DEL_HOLD", "SIGNALING"),
)
"""Flags that squeue prints in place of the state, in its order."""


class NewDialect:
    """See `RestDialect`."""

    accounts_tell_exits = True

    def build_submission(self, submission: SlurmSubmission, script: str) -> dict[str, Any]:
        """See `RestDialect`."""
        terms, device = submission.terms, submission.device
        limit = terms.time_limit_min
        job = {
            **describe(submission),
            # The user's own environment, as sbatch --export=NONE brings it.
            "environment": ["SLURM_GET_USER_ENV=1", "SLURM_EXPORT_ENV=NONE"],
            "requeue": False,
            "open_mode": ["APPEND"],
            "minimum_nodes": submission.num_nodes,
            "maximum_nodes": submission.num_nodes,
            "tres_per_node": None
            if device.gres is None
            else f"gres/{device.gres}:{submission.each}",
            "reservation": terms.reservation,
            "time_limit": None if limit is None else {"set": True, "number": limit},
            "shared": ["none"] if terms.is_exclusive else None,
            "script": script,
            **write_options(terms.extra, NEW_OPTIONS),
        }
        return {"job": stated(job)}

    def parse_job(self, job: Document) -> SlurmJob:
        """See `RestDialect`."""
        state, code = _state(job.get("job_state")), _code(job.get("exit_code"))
        return read_job(job, state=state, code=code)

    def parse_accounted(self, job: Document) -> SlurmJob:
        """See `RestDialect`."""
        state = _state(mapping(job.get("state")).get("current"))
        code = _code(batch_step(job, key="name").get("exit_code"))
        return read_accounted(job, state=state, code=code)

    def parse_node(self, node: Document) -> SlurmNode:
        """See `RestDialect`."""
        cpus = number(node.get("effective_cpus")) or number(node.get("cpus")) or 0
        reservation = text(node.get("reservation")) or None
        return read_node(node, flags=words(node.get("state")), cpus=cpus, reservation=reservation)

    def is_default(self, partition: Document) -> bool:
        """See `RestDialect`; these versions do not say."""
        return False


def _state(states: object) -> str:
    """The word that squeue prints, of the base state and its flags."""
    listed = words(states) if isinstance(states, list) else [text(states)]
    return next((flag for flag in _FIRST if flag in listed), listed[0] if listed else "")


def _code(value: object) -> tuple[int, int]:
    exit_code = mapping(value)
    signal = mapping(exit_code.get("signal"))
    killed_by = number(signal.get("id", signal.get("signal_id")))
    return number(exit_code.get("return_code")) or 0, killed_by or 0
