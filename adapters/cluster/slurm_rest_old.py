"""v0.0.38 of slurmrestd (Slurm 22.05 and 23.02), as it was seen. Pure."""

from dataclasses import replace
from typing import Any

from adapters.cluster.slurm_access import SlurmSubmission
from adapters.cluster.slurm_parsers import SlurmJob, SlurmNode, parse_exit
from adapters.cluster.slurm_rest_common import (
    batch_step,
    describe,
    read_accounted,
    read_job,
    read_node,
    stated,
)
from adapters.cluster.slurm_rest_dialect import NotExpressibleError
from adapters.cluster.slurm_rest_document import Document, mapping, number, text, words
from adapters.cluster.slurm_rest_options import OLD_OPTIONS, write_options


class OldDialect:
    """See `RestDialect`."""

    accounts_tell_exits = False

    def build_submission(self, submission: SlurmSubmission, script: str) -> dict[str, Any]:
        """See `RestDialect`."""
        terms, device = submission.terms, submission.device
        if terms.reservation:
            # Its nodes do not say which reservation they belong to: what is free there is not known.
            raise NotExpressibleError("a reservation needs a slurmrestd with v0.0.40 or later")
        job = {
            **describe(submission),
            # The user's own environment, as sbatch --export=NONE brings it; one variable it must have.
            "environment": {"SLURM_GET_USER_ENV": "1", "SLURM_EXPORT_ENV": "NONE"},
            "no_requeue": True,  # not in its description; "requeue": false is taken for true
            "open_mode": "append",
            "nodes": [submission.num_nodes, submission.num_nodes],
            "gres": None if device.gres is None else f"{device.gres}:{submission.each}",
            "time_limit": terms.time_limit_min,
            # Its description says "true", which it refuses.
            "exclusive": "exclusive" if terms.is_exclusive else None,
            **write_options(terms.extra, OLD_OPTIONS),
        }
        return {"job": stated(job), "script": script}

    def parse_job(self, job: Document) -> SlurmJob:
        """See `RestDialect`."""
        code = parse_exit(str(number(job.get("exit_code")) or 0))
        return read_job(job, state=text(job.get("job_state")), code=code)

    def parse_accounted(self, job: Document) -> SlurmJob:
        """See `RestDialect`; signals are right, but exit codes are always 0."""
        state = text(mapping(job.get("state")).get("current"))
        exit_code = mapping(batch_step(job, key="id").get("exit_code"))
        signal = number(mapping(exit_code.get("signal")).get("signal_id"))
        return replace(
            read_accounted(job, state=state, code=(0, signal or 0)),
            is_code_known=bool(signal) or state == "COMPLETED",
        )

    def parse_node(self, node: Document) -> SlurmNode:
        """See `RestDialect`."""
        flags = [text(node.get("state")), *words(node.get("state_flags"))]
        cpus = number(node.get("cpus")) or 0
        return read_node(node, flags=flags, cpus=cpus, reservation=None)

    def is_default(self, partition: Document) -> bool:
        """See `RestDialect`."""
        return "default" in words(partition.get("flags"))
