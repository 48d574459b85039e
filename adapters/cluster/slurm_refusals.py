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


_HINTS: Final = (
    (
        "zero bytes",
        "the other side hangs up, as it does where clocks differ by 5 minutes or more, or munge keys",
    ),
    ("munge", "is munged running on this machine?"),
    ("authentication", "do the clocks agree, and the munge keys?"),
    (" is down", "also said where clocks differ by 5 minutes or more, or munge keys"),
)
"""What helps, where Slurm's own words do not say it; the first that fits."""


def explained(words: str) -> str:
    """Slurm's words with what to look for."""
    hint = next((hint for mark, hint in _HINTS if mark in words.lower()), None)
    return f"{words} ({hint})" if hint else words


def submission_error(cluster_id: str, done: Completed) -> UpstreamError:
    """The error that says whether the job may have started, and whether trying again can help."""
    words = done.words.replace("sbatch: ", "").replace("error: ", "")
    if done.code is None or done.code < 0:
        return reply_lost(cluster_id, "sbatch", words)
    return refusal(cluster_id, "sbatch", words)


def reply_lost(cluster_id: str, program: str, words: str) -> DispatchUncertainError:
    """The error for a submission that may have arrived."""
    return DispatchUncertainError(
        f"{cluster_id}: {program} got no reply: {explained(words)}; it is looked up before it is tried again",
        cluster=cluster_id,
    )


def refusal(cluster_id: str, program: str, said: str) -> UpstreamError:
    """The error for a submission that was answered, and not taken."""
    words, text = explained(said), said.lower()
    if _has(text, _REPLY_LOST):
        return reply_lost(cluster_id, program, said)
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
