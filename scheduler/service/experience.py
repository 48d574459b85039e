"""What a service knows beyond its configuration: how long runs and queues take, and what is free."""

from dataclasses import dataclass

from scheduler.service.outlooks import Outlooks
from scheduler.service.queue_waits import QueueWaits
from scheduler.service.run_times import RunTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Learned from runs, and told by clusters."""

    run_times: RunTimes
    queue_waits: QueueWaits
    outlooks: Outlooks

    def learn_anew(self) -> None:
        """Takes from the store what other processes learned. Raises StoreError."""
        self.run_times.forget_all()
        self.queue_waits.read()
