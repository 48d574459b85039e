"""Which Slurm clusters take what a job asks of Slurm: each site states what a job may set."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from adapters.cluster.slurm_request import ALLOWED_OPTIONS
from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Fleet
from scheduler.core.job import Job
from scheduler.core.names import suggest
from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.units import format_duration
from scheduler.server.settings import ClusterSettings


def with_permits(job: Job, clusters: Iterable[ClusterSettings], fleet: Fleet) -> Job:
    """The job, bound to the Slurm clusters that take its terms; as it is where it has none.

    Raises:
        InvalidJobError: no cluster that the job may use takes them; naming term, value and valid form.
    """
    asked = job.slurm
    if asked is None:
        return job
    _require_limit(job, asked)
    for name, _ in asked.options:
        if name not in ALLOWED_OPTIONS:
            raise InvalidJobError(
                f"slurm.options: {name!r} is not an option that may be added; "
                f"{suggest(name, ALLOWED_OPTIONS)}",
                field="slurm.options",
                value=name,
                valid=", ".join(sorted(ALLOWED_OPTIONS)),
            )
    usable = [one for one in clusters if one.slurm is not None and job.allows(fleet.get(one.id))]
    taking = [
        one.id for one in usable if one.slurm and asked.asked().keys() <= set(one.slurm.allow)
    ]
    if not taking:
        raise _refusal(asked, usable)
    return replace(job, cluster_ids=tuple(taking))


def _require_limit(job: Job, asked: JobSlurm) -> None:
    """Refuses a limit that would end the run early; one that pauses may have shorter runs."""
    least_s = min(option.duration_s for option in job.options)
    limit_s = asked.time_limit_s
    if limit_s is not None and limit_s < least_s and job.interruptible is None:
        raise InvalidJobError(
            f"slurm.time_limit: {format_duration(limit_s)} is shorter than the run, "
            f"{format_duration(least_s)}: Slurm would end it; give that much or more, or leave it out",
            field="slurm.time_limit",
            value=format_duration(limit_s),
            valid=f"{format_duration(least_s)} or more",
        )


def _refusal(asked: JobSlurm, usable: Sequence[ClusterSettings]) -> InvalidJobError:
    allowed = {one.id: set(one.slurm.allow) for one in usable if one.slurm is not None}
    for term, value in asked.asked().items():
        if allowed and not any(term in terms for terms in allowed.values()):
            valid = ", ".join(sorted(set[str]().union(*allowed.values()))) or "none"
            return InvalidJobError(
                f"slurm.{term}: {value!r} may not be set by a job on {', '.join(allowed)}; "
                f"a job may set: {valid}; leave it out, or ask the site to add it to slurm.allow",
                field=f"slurm.{term}",
                value=value,
                valid=valid,
            )
    if allowed:
        each = "; ".join(f"{name}: {', '.join(sorted(one))}" for name, one in allowed.items())
        why = f"no cluster takes all of {', '.join(asked.asked())} from a job; they take {each}"
    else:
        each = "absent, or a Slurm cluster in a region that the job allows"
        why = "no Slurm cluster is configured that the job may use; leave it out"
    return InvalidJobError(
        f"slurm: {why}", field="slurm", value=", ".join(asked.asked()), valid=each
    )
