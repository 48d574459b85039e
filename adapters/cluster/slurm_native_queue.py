"""Slurm's commands about jobs of any user."""

from collections.abc import Iterator

from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_native_lines import PLAIN_FIELDS, QueueLine, parse_line
from adapters.cluster.slurm_native_words import NativeComment


class NativeQueue:
    """Reads and changes jobs of any user; raises NoRightError where this user may not.

    Methods that change say whether the job was still in a state for that.
    """

    def __init__(self, client: SlurmClient) -> None:
        self._client = client

    def pending(self, *, only_own: bool) -> list[QueueLine]:
        """The jobs that wait and ask for planning."""
        mine = ("--me",) if only_own else ()
        found = self.fields("--states=PENDING", *mine)
        # Most jobs of a cluster are none of ours: they are not read any further.
        lines = (parse_line(fields) for fields in found if "gridtide:" in fields[-1])
        return [line for line in lines if line.comment is not None]

    def find(self, ref: str) -> QueueLine | None:
        """The job, as far as the controller remembers it."""
        found = self.fields("--states=all", f"--jobs={ref}")
        return next((parse_line(fields) for fields in found if fields[0] == ref), None)

    def fields(self, *options: str) -> Iterator[list[str]]:
        """The fields of each line of squeue with these options."""
        return self._client.listing(PLAIN_FIELDS, *options)

    def update(self, ref: str, comment: NativeComment, *, start: str | None = None) -> bool:
        """Sets the comment, and with it the time before which Slurm does not start the job."""
        times = () if start is None else (f"StartTime={start}",)
        said = f"Comment={comment.text}"
        return self._client.change("scontrol", "update", f"JobId={ref}", *times, said)

    def release(self, ref: str) -> bool:
        """Lifts a hold."""
        return self._client.change("scontrol", "release", ref)

    def requeue(self, ref: str) -> bool:
        """Has a job leave, and wait again: SIGTERM, the site's KillWait, SIGKILL."""
        return self._client.change("scontrol", "requeue", ref)

    def signal(self, ref: str, name: str, *, is_batch_only: bool) -> bool:
        """Sends a signal to the job's script, and to what runs in its steps unless it is for the script alone."""
        whom = "--batch" if is_batch_only else "--full"
        return self._client.change("scancel", f"--signal={name}", whom, ref)
