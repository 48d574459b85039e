"""Which clusters take what a job asks of Kubernetes."""

from typing import Any

import pytest

from adapters.hardware_tables import load_hardware
from scheduler.core.errors import InvalidJobError
from scheduler.core.job import Job
from scheduler.server.kubernetes_permits import with_kubernetes_permits
from scheduler.server.settings import ClusterSettings
from scheduler.server.wiring import build_fleet
from tests.unit.test_schemas import make

IMAGE = {"image": "ours:1"}


def cluster(name: str, **kubernetes: Any) -> ClusterSettings:
    return ClusterSettings.model_validate(
        {
            "id": name,
            "kind": "kubernetes",
            "region": "eu-de",
            "zone": "DE",
            "capacity": {"CPU": 8},
            "kubernetes": {"context": name, "image": "python:3.12", **kubernetes},
        }
    )


LOCAL = ClusterSettings.model_validate(
    {"id": "here", "region": "eu-de", "zone": "DE", "capacity": {"CPU": 8}}
)
EAST = cluster("east")
WEST = cluster("west", allow=[])


def permitted(*clusters: ClusterSettings, **fields: Any) -> Job:
    class Fleeting:
        """The part of the settings that a fleet is built of."""

    settings: Any = Fleeting()
    settings.clusters = list(clusters)
    fleet = build_fleet(settings, load_hardware())
    return with_kubernetes_permits(make(**fields), clusters, fleet)


def test_job_with_a_queue_goes_where_the_site_lets_it_choose() -> None:
    queued = cluster("queued", kueue={}, allow=["queue"])
    assert permitted(EAST, queued, kubernetes={"queue": "mine"}).cluster_ids == ("queued",)


def test_job_without_terms_may_run_anywhere() -> None:
    assert permitted(LOCAL, EAST).cluster_ids == ()


@pytest.mark.parametrize(("terms", "ids"), [(IMAGE, ("east",)), ({}, ("east", "west"))])
def test_job_with_terms_is_bound_to_clusters_that_take_them(
    terms: dict[str, str], ids: tuple[str, ...]
) -> None:
    assert permitted(LOCAL, EAST, WEST, kubernetes=terms).cluster_ids == ids


@pytest.mark.parametrize(
    ("clusters", "field"), [((WEST,), "kubernetes.image"), ((LOCAL,), "kubernetes")]
)
def test_job_that_no_cluster_takes_is_refused_by_name(
    clusters: tuple[ClusterSettings, ...], field: str
) -> None:
    with pytest.raises(InvalidJobError) as caught:
        permitted(*clusters, kubernetes=IMAGE)
    assert caught.value.fields["field"] == field


def test_job_for_two_kinds_of_clusters_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="either slurm or kubernetes"):
        make(kubernetes=IMAGE, slurm={"account": "ml"})
