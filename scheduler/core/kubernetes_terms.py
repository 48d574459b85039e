"""What a job asks of Kubernetes beside its devices. Which of it a site takes is the site's to say."""

import re
from dataclasses import dataclass
from typing import Final

from scheduler.core.terms import require

IMAGE_FORM: Final = "the name of a container image, such as registry.example.org/team/train:1.2"
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,1023}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKubernetes:
    """Terms of one job; None: as its cluster's settings say.

    Args:
        image: the container image that its command runs in.

    Raises:
        InvalidJobError: what cannot be the name of an image.
    """

    image: str | None = None

    def __post_init__(self) -> None:
        if self.image is not None:
            is_name = _IMAGE.fullmatch(self.image) is not None
            require(is_name, "kubernetes.image", self.image, IMAGE_FORM)

    def asked(self) -> dict[str, str]:
        """Every term that the job states, by the name of its field, as a text for people."""
        return {} if self.image is None else {"image": self.image}
