"""Which Kubernetes clusters take what a job asks of Kubernetes: each site states what a job may set."""

from collections.abc import Iterable
from dataclasses import replace

from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Fleet
from scheduler.core.job import Job
from scheduler.server.settings import ClusterSettings


def with_kubernetes_permits(job: Job, clusters: Iterable[ClusterSettings], fleet: Fleet) -> Job:
    """The job, bound to the Kubernetes clusters that take its terms; as it is where it has none.

    Raises:
        InvalidJobError: no cluster that the job may use takes them; naming term, value and valid form.
    """
    if job.kubernetes is None:
        return job
    asked = job.kubernetes.asked()
    usable = {
        one.id: set(one.kubernetes.allow)
        for one in clusters
        if one.kubernetes is not None and job.allows(fleet.get(one.id))
    }
    taking = tuple(name for name, allowed in usable.items() if asked.keys() <= allowed)
    if taking:
        return replace(job, cluster_ids=taking)
    if not usable:
        raise InvalidJobError(
            "kubernetes: no Kubernetes cluster is configured that the job may use; leave it out",
            field="kubernetes",
            value=", ".join(asked),
            valid="absent, or a Kubernetes cluster in a region that the job allows",
        )
    term, value = next(iter(asked.items()))
    raise InvalidJobError(
        f"kubernetes.{term}: {value!r} may not be set by a job on {', '.join(usable)}; leave it out, "
        "or ask the site to add it to kubernetes.allow",
        field=f"kubernetes.{term}",
        value=value,
        valid="absent",
    )
