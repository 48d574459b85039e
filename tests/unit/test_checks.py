"""What `doctor` says when those that it asks cannot answer."""

from scheduler.core.errors import ClusterUnavailableError
from scheduler.ports import Check
from scheduler.server.checks import cluster_checks
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster


class SilentCluster(FakeCluster):
    def checks(self) -> list[Check]:
        raise ClusterUnavailableError("its copy cannot be read")


def test_cluster_that_cannot_say_anything_keeps_no_other_from_it() -> None:
    clock = ManualClock()
    clusters = [SilentCluster("a", clock, {}), FakeCluster("b", clock, {})]
    assert [(one.subject, one.is_ok, one.detail) for one in cluster_checks(clusters)] == [
        ("a", False, "its copy cannot be read"),
        ("b", True, "fake"),
    ]
