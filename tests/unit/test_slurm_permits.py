"""Which clusters take what a job asks of Slurm."""

from typing import Any

import pytest

from adapters.hardware_tables import load_hardware
from scheduler.core.errors import InvalidJobError
from scheduler.core.job import Job
from scheduler.server.settings import ClusterSettings
from scheduler.server.slurm_permits import with_permits
from scheduler.server.wiring import build_fleet
from tests.unit.test_schemas import make


def cluster(name: str, *, allow: list[str] | None = None, **fields: Any) -> ClusterSettings:
    slurm = {} if allow is None else {"allow": allow}
    document = {"id": name, "kind": "slurm", "region": "eu-de", "zone": "DE", "root": "/shared"}
    document |= {"capacity": {"CPU": 8}, "slurm": slurm}
    return ClusterSettings.model_validate(document | fields)


LOCAL = cluster("here", kind="local", slurm=None, root=None)
EAST = cluster("east")
WEST = cluster("west", allow=["partition", "options"], region="eu-fr", zone="FR")


def permitted(*clusters: ClusterSettings, **terms: Any) -> Job:
    class Fleeting:
        """The part of the settings that a fleet is built of."""

    settings: Any = Fleeting()
    settings.clusters = list(clusters)
    fleet = build_fleet(settings, load_hardware())
    return with_permits(make(**terms), clusters, fleet)


def refusal(*clusters: ClusterSettings, **terms: Any) -> dict[str, object]:
    with pytest.raises(InvalidJobError) as caught:
        permitted(*clusters, **terms)
    assert str(caught.value.fields["field"]) in caught.value.message
    return caught.value.fields


def test_job_without_terms_may_run_anywhere() -> None:
    assert permitted(LOCAL, EAST).cluster_ids == ()


@pytest.mark.parametrize(
    ("terms", "ids"),
    [
        ({"account": "ml"}, ("east",)),
        ({"qos": "q", "constraint": "c", "licenses": "l", "time_limit": "3h"}, ("east",)),
        ({"output": "a.out", "error": "a.err"}, ("east",)),
        ({"partition": "gpu", "options": {"mem": "1G"}}, ("west",)),
        ({}, ("east", "west")),
    ],
)
def test_job_with_terms_is_bound_to_slurm_clusters_that_take_them_all(
    terms: dict[str, Any], ids: tuple[str, ...]
) -> None:
    assert permitted(LOCAL, EAST, WEST, slurm=terms).cluster_ids == ids


def test_term_that_no_cluster_takes_is_named_with_its_value_and_what_may_be_set() -> None:
    fields = refusal(LOCAL, EAST, slurm={"account": "ml", "reservation": "carbon"})
    assert (fields["field"], fields["value"]) == ("slurm.reservation", "carbon")
    assert fields["valid"] == "account, constraint, error, licenses, output, qos, time_limit"


def test_site_that_allows_nothing_says_none() -> None:
    assert refusal(cluster("strict", allow=[]), slurm={"qos": "x"})["valid"] == "none"


def test_terms_that_only_different_clusters_take_are_refused_together() -> None:
    fields = refusal(EAST, WEST, slurm={"account": "ml", "partition": "gpu"})
    assert (fields["field"], fields["value"]) == ("slurm", "partition, account")


@pytest.mark.parametrize(
    ("clusters", "fields"),
    [((LOCAL,), {}), ((LOCAL, EAST), {"regions": ["eu-fr"]})],
)
def test_terms_without_a_slurm_cluster_that_the_job_may_use_are_refused(
    clusters: tuple[ClusterSettings, ...], fields: dict[str, Any]
) -> None:
    assert refusal(*clusters, slurm={"account": "ml"}, **fields)["field"] == "slurm"


def test_cluster_in_a_region_that_the_job_does_not_allow_does_not_count() -> None:
    fields = refusal(EAST, WEST, slurm={"account": "ml"}, regions=["eu-fr"])
    assert fields["field"] == "slurm.account"


@pytest.mark.parametrize("name", ["wrap", "job-name", "mem=1 --wrap", "-x", ""])
def test_option_that_would_take_the_job_out_of_hand_is_refused(name: str) -> None:
    fields = refusal(WEST, slurm={"options": {name: "x"}})
    assert (fields["field"], fields["value"]) == ("slurm.options", name)
    assert "mem-per-gpu" in str(fields["valid"])


def test_limit_that_would_end_the_run_early_is_refused_unless_it_pauses() -> None:
    assert refusal(EAST, slurm={"time_limit": "1h"})["valid"] == "2h or more"
    taken = permitted(EAST, slurm={"time_limit": "1h"}, interruptible=True)
    assert taken.slurm is not None
    assert taken.slurm.time_limit_s == 3600


@pytest.mark.parametrize(
    ("slurm", "words"),
    [
        ({"konto": "ml"}, r"slurm.konto: unknown field"),
        ({"time_limit": "60"}, r"slurm.time_limit: '60' has no unit|slurm.time_limit: .*unit"),
        ({"account": "a\nb"}, r"slurm.account: .* it must be a text of 1 to 1024"),
        ({"account": 7}, r"slurm.account: 7 is not valid"),
    ],
)
def test_wrong_term_is_refused_by_name(slurm: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJobError, match=words):
        permitted(EAST, slurm=slurm)
