"""What a job may ask of Kubernetes: an image, a queue, or a Job of its own."""

import pytest

from scheduler.core.errors import InvalidJobError
from scheduler.core.kubernetes_terms import MAX_MANIFEST_CHARS, JobKubernetes


@pytest.mark.parametrize(
    "image",
    [
        "python",
        "python:3.12-slim",
        "registry.example.org:5000/team/train:1.2",
        "ghcr.io/org/app@sha256:" + "a" * 64,
    ],
)
def test_name_of_an_image_is_taken_and_told(image: str) -> None:
    assert JobKubernetes(image=image).asked() == {"image": image}


@pytest.mark.parametrize("image", ["", " ", "a b", "a\n", "-x", "a" * 1025, "大", "a$b"])
def test_anything_else_is_refused_by_name(image: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        JobKubernetes(image=image)
    assert caught.value.fields["field"] == "kubernetes.image"
    assert caught.value.fields["value"] == image


@pytest.mark.parametrize("queue", ["training", "team-a.large", "q"])
def test_name_of_a_queue_is_taken_and_told(queue: str) -> None:
    assert JobKubernetes(queue=queue).asked() == {"queue": queue}


@pytest.mark.parametrize("queue", ["", "Training", "a b", "-a", "a" * 64, "a/b"])
def test_what_cannot_be_a_queue_is_refused_by_name(queue: str) -> None:
    with pytest.raises(InvalidJobError, match="LocalQueue of Kueue") as caught:
        JobKubernetes(queue=queue)
    assert caught.value.fields["field"] == "kubernetes.queue"


def test_job_without_terms_asks_nothing() -> None:
    assert JobKubernetes().asked() == {}


def test_manifest_is_told_without_its_text() -> None:
    assert JobKubernetes(manifest="{}").asked() == {"manifest": "a Job of its own"}


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"manifest": "x" * (MAX_MANIFEST_CHARS + 1)}, "kubernetes.manifest"),
        ({"manifest": "{}", "image": "a"}, "kubernetes.image"),
    ],
)
def test_manifest_too_long_or_beside_an_image_is_refused(terms: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        JobKubernetes(**terms)
    assert caught.value.fields["field"] == field
