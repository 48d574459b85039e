"""What a failed submission means. Pure: Slurm's words in, one of our errors out."""

from typing import Final

from adapters.cluster.slurm_commands import Completed
from scheduler.core.errors import (
    ClusterFullError,
    ClusterUnavailableError,
    DispatchRejectedError,
    DispatchUncertainError,
    UpstreamError,
)

_REPLY_LOST: Final = (
    *("timed out", "zero bytes", "connection reset", "unexpected message", "incomplete message"),
    *("insane message", "temporarily unable to accept job"),
)
"""The request may have arrived."""
_SILENT: Final = (
    *("unable to contact slurm", "connect failure", "connection refused", "not responding"),
    *("munge", "protocol authentication", "authentication", "invalid credential"),
    *("standby mode", "communication", "transport endpoint", "no route to host"),
    *("configuration source", "could not open/read/stat", "configuration file", "resolve"),
    *("i/o error", "no space left", "in transition", "try again", "resource temporarily"),
    *("partition not available", "slurmdbd", "accounting storage"),
)
"""Trouble of the cluster that passes."""
_FULL: Final = ("maxsubmit", "submitjob", "job limit reached", "nodes are busy")


def submission_error(cluster_id: str, done: Completed) -> UpstreamError:
    """The error that says whether the job may have started, and whether trying again can help."""
    words = done.words.replace("sbatch: ", "").replace("error: ", "")
    text = words.lower()
    if done.code is None or done.code < 0 or _has(text, _REPLY_LOST):
        return DispatchUncertainError(
            f"{cluster_id}: sbatch got no reply: {words}; it is looked up before it is tried again",
            cluster=cluster_id,
        )
    if _has(text, _SILENT):
        return ClusterUnavailableError(f"{cluster_id}: {words}", cluster=cluster_id)
    if _has(text, _FULL):
        return ClusterFullError(f"{cluster_id}: {words}", cluster=cluster_id)
    return DispatchRejectedError(f"{cluster_id}: Slurm refuses it: {words}", cluster=cluster_id)


def is_without_accounting(words: str) -> bool:
    """Whether the site keeps no accounts, which is no trouble that passes."""
    return "accounting storage is disabled" in words.lower()


def _has(text: str, marks: tuple[str, ...]) -> bool:
    return any(mark in text for mark in marks)
