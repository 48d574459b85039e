"""What a job asks of Kubernetes beside its devices. Which of it a site takes is the site's to say."""

import re
from dataclasses import dataclass
from typing import Final

from scheduler.core.terms import require

IMAGE_FORM: Final = "the name of a container image, such as registry.example.org/team/train:1.2"
QUEUE_FORM: Final = "the name of a LocalQueue of Kueue, such as training"
_QUEUE: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,1023}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKubernetes:
    """Terms of one job; None: as its cluster's settings say.

    Args:
        image: the container image that its command runs in.
        queue: the queue of Kueue that it waits in.

    Raises:
        InvalidJobError: what cannot be such a name.
    """

    image: str | None = None
    queue: str | None = None

    def __post_init__(self) -> None:
        if self.image is not None:
            is_name = _IMAGE.fullmatch(self.image) is not None
            require(is_name, "kubernetes.image", self.image, IMAGE_FORM)
        if self.queue is not None:
            is_name = _QUEUE.fullmatch(self.queue) is not None
            require(is_name, "kubernetes.queue", self.queue, QUEUE_FORM)

    def asked(self) -> dict[str, str]:
        """Every term that the job states, by the name of its field, as a text for people."""
        stated = {"image": self.image, "queue": self.queue}
        return {term: text for term, text in stated.items() if text is not None}
