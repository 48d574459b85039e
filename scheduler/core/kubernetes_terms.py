"""What a job asks of Kubernetes beside its devices. Which of it a site takes is the site's to say."""

import re
from dataclasses import dataclass
from typing import Final

from scheduler.core.terms import require

IMAGE_FORM: Final = "the name of a container image, such as registry.example.org/team/train:1.2"
QUEUE_FORM: Final = "the name of a LocalQueue of Kueue, such as training"
_QUEUE: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
MAX_MANIFEST_CHARS: Final = 65_536
"""Of a manifest as JSON, without spaces: a tenth of what Kubernetes itself would store."""
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,1023}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKubernetes:
    """Terms of one job; None: as its cluster's settings say.

    Args:
        image: the container image that its command runs in.
        queue: the queue of Kueue that it waits in.
        manifest: the user's own Job, as a JSON text in ASCII, which is run in place of a command.
        grace_s: seconds that its pods want after SIGTERM, where that is more than what is usual.

    Raises:
        InvalidJobError: what cannot be the name of an image or a queue, a manifest that is too long, or one with an image.
    """

    image: str | None = None
    queue: str | None = None
    manifest: str | None = None
    grace_s: int = 0

    def __post_init__(self) -> None:
        if self.image is not None:
            require(is_image(self.image), "kubernetes.image", self.image, IMAGE_FORM)
        if self.queue is not None:
            is_name = _QUEUE.fullmatch(self.queue) is not None
            require(is_name, "kubernetes.queue", self.queue, QUEUE_FORM)
        if self.manifest is not None:
            n_chars = len(self.manifest)
            require(
                n_chars <= MAX_MANIFEST_CHARS,
                "kubernetes.manifest",
                f"{n_chars} characters",
                f"at most {MAX_MANIFEST_CHARS} characters of JSON; keep scripts and data in an image or a ConfigMap",
            )
            require(
                self.image is None,
                "kubernetes.image",
                self.image,
                "absent beside a manifest, whose containers name their images",
            )

    def asked(self) -> dict[str, str]:
        """Every term that the job states, by the name of its field, as a text for people."""
        manifest = None if self.manifest is None else "a Job of its own"
        stated = {"image": self.image, "queue": self.queue, "manifest": manifest}
        return {term: text for term, text in stated.items() if text is not None}


def is_image(text: str) -> bool:
    """Whether it can be the name of a container image."""
    return _IMAGE.fullmatch(text) is not None
