"""What goes over the wire: the job as users write it, checked and turned into a core Job."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Fleet
from scheduler.core.hardware import HardwareTable
from scheduler.core.job import Job, JobId
from scheduler.core.job_script import build_command
from scheduler.core.kubernetes_terms import JobKubernetes
from scheduler.core.names import suggest
from scheduler.core.slurm_terms import JobSlurm
from scheduler.core.terms import (
    MAX_GPUS,
    DataNeed,
    Elastic,
    Interruptible,
    Limits,
    ResourceOption,
    Width,
)
from scheduler.core.timegrid import format_instant, whole_second_up
from scheduler.server.document_errors import describe_errors, named_path
from scheduler.server.fields import Amount, DurationS, Instant, Strict, ZeroOrDurationS
from scheduler.server.manifest_form import as_text, grace_of

JOB_SCHEMA: Final = "gridtide/job/v1"
LATER: Final = {
    "image": "the form kubernetes: {image: NAME}",
    "args": "the form command: [PROGRAM, ARGUMENT, ...]",
    "array": "gridtide submit, which makes one job of each index",
}
"""Fields of the job format that this version refuses, and what they wait for."""
_ACCELERATORS: Final = re.compile(r"\s*(?P<name>[A-Za-z][\w .-]*?)\s*(?::\s*(?P<gpus>\d{1,7}))?\s*")


class InterruptibleSpec(Strict):
    """How the job may be paused."""

    min_chunk: DurationS = Field(
        default=3600, description="shortest run between two pauses, such as 1h"
    )
    checkpoint_cost: ZeroOrDurationS = Field(
        600, description="run time that a resume costs, such as 10m"
    )
    max_interruptions: int = Field(default=3, ge=0, le=1000, strict=True)
    movable: bool = Field(default=False, strict=True, description="as the job's own movable")


class WidthSpec(Strict):
    """One line of a scaling profile."""

    gpus: int = Field(ge=1, le=MAX_GPUS, strict=True)
    throughput: Amount = Field(gt=0, lt=1e15, description="useful work per hour, in any unit")
    power_w: Amount = Field(gt=0, lt=1e9, description="watts of all devices at this width")


class ElasticSpec(Strict):
    """How wide the job may run."""

    min: int = Field(ge=0, le=MAX_GPUS, strict=True, description="0: it may idle")
    max: int = Field(ge=1, le=MAX_GPUS, strict=True)
    profile: list[WidthSpec] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; it must be at most that")
        return self


class DataSpec(Strict):
    """The data that the job reads, and where they are."""

    gb: Amount = Field(gt=0, lt=1e9)
    region: str = Field(min_length=1, max_length=63)


class OptionSpec(Strict):
    """One hardware choice."""

    accelerators: str = Field(description="name and count over all nodes, such as H100:8")
    num_nodes: int = Field(default=1, ge=1, le=100_000, strict=True)
    duration: DurationS | None = None
    power_w: float | None = Field(default=None, gt=0, lt=1e9, allow_inf_nan=False)


class ResourcesSpec(Strict):
    """One hardware choice, or several under any_of."""

    accelerators: str | None = Field(default=None, description="name and count, such as H100:8")
    num_nodes: int = Field(default=1, ge=1, le=100_000, strict=True)
    any_of: list[OptionSpec] | None = Field(default=None, min_length=1, max_length=32)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.accelerators is None) == (self.any_of is None):
            raise ValueError("give either accelerators or any_of")
        return self


class SlurmSpec(Strict):
    """What the job asks of Slurm, as sbatch takes it; its site decides which of it a job may set."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    licenses: str | None = None
    reservation: str | None = None
    time_limit: DurationS | None = None
    output: str | None = Field(
        default=None, description="pattern of a file name; %x: the job's name"
    )
    error: str | None = None
    options: dict[str, str] = Field(
        default_factory=dict, max_length=100, description="further options of sbatch"
    )


class KubernetesSpec(Strict):
    """What the job asks of Kubernetes; its site decides which of it a job may set."""

    image: str | None = Field(default=None, description="container image that the command runs in")
    queue: str | None = Field(default=None, description="LocalQueue of Kueue that it waits in")
    manifest: dict[str, Any] | None = Field(
        default=None,
        description="a Job (batch/v1) in place of a command; its annotations may state fields",
    )


class JobSpec(Strict):
    """A job as users write it, in YAML or JSON."""

    name: str = Field(description="1 to 63 of a-z, 0-9 and -")
    command: list[str] | None = Field(
        default=None, min_length=1, max_length=10_000, description="program and arguments"
    )
    script: str | None = Field(default=None, description="text of a shell script instead")
    duration: DurationS = Field(description="expected run time on the first option, such as 4h")
    duration_p95: DurationS | None = None
    deadline: Instant | None = Field(default=None, description="finish by: ISO 8601 with an offset")
    patience: ZeroOrDurationS | None = Field(
        None, description="deadline = now + duration + patience"
    )
    not_before: Instant | None = None
    start_by: Instant | None = None
    resources: ResourcesSpec = Field(default_factory=lambda: ResourcesSpec(accelerators="CPU:1"))
    power_w: float | None = Field(default=None, gt=0, lt=1e9, allow_inf_nan=False)
    interruptible: InterruptibleSpec | bool = False
    movable: bool = Field(
        default=False, strict=True, description="a paused run may go on in any cluster"
    )
    elastic: ElasticSpec | None = None
    data: DataSpec | None = None
    carbon_price: Amount | None = Field(
        default=None, ge=0, le=1e6, description="currency per tonne of CO2e"
    )
    max_cost: Amount | None = Field(default=None, ge=0, le=1e12)
    max_carbon_g: Amount | None = Field(default=None, ge=0, le=1e15)
    min_renewable_share: Amount | None = Field(default=None, ge=0, le=1)
    after: list[str] = Field(
        default_factory=list, max_length=1000, description="ids of jobs that must succeed first"
    )
    regions: list[str] = Field(default_factory=list, max_length=1000)
    forbid_regions: list[str] = Field(default_factory=list, max_length=1000)
    priority: int = Field(default=0, ge=-1000, le=1000, strict=True)
    project: str = Field(
        default="default", min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$"
    )
    max_retries: int = Field(default=0, ge=0, le=100, strict=True)
    env: dict[str, str] = Field(default_factory=dict, max_length=1000)
    workdir: str | None = Field(default=None, min_length=1, max_length=4096)
    submitted_from: str | None = Field(default=None, min_length=1, max_length=4096)
    slurm: SlurmSpec | None = Field(default=None, description="then it runs on Slurm clusters only")
    kubernetes: KubernetesSpec | None = Field(
        default=None, description="then it runs on Kubernetes clusters only"
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.command is None) == (self.script is None):
            raise ValueError("give either command (program and arguments) or script (its text)")
        if (self.deadline is None) == (self.patience is None):
            raise ValueError("give either deadline (finish by) or patience (how long it may wait)")
        if self.slurm is not None and self.kubernetes is not None:
            raise ValueError("give either slurm or kubernetes: a job runs on clusters of one kind")
        return self


class AmendSpec(Strict):
    """What PATCH may change."""

    deadline: Instant | None = None
    priority: int | None = Field(default=None, ge=-1000, le=1000, strict=True)


def parse_job_spec(document: object) -> JobSpec:
    """A checked job document.

    Raises:
        InvalidJobError: naming the first wrong field, its value, and the valid form.
    """
    if not isinstance(document, dict):
        raise InvalidJobError(
            f"job: {type(document).__name__} given; a mapping with name, command, ... is needed",
            field="job",
            valid="a mapping",
        )
    document = {key: value for key, value in document.items() if key != "schema"}
    for field, needs in LATER.items():
        if document.get(field) is not None:
            raise InvalidJobError(
                f"{field}: not supported yet (needs {needs}); leave it out",
                field=field,
                value=str(document[field]),
                valid="absent",
            )
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise _invalid(error, JobSpec) from error


def parse_amendment(document: object) -> AmendSpec:
    """A checked PATCH document.

    Raises:
        InvalidJobError: naming the first wrong field.
    """
    try:
        return AmendSpec.model_validate(document)
    except ValidationError as error:
        raise _invalid(error, AmendSpec) from error


def _invalid(error: ValidationError, model: type[BaseModel]) -> InvalidJobError:
    first = error.errors(include_url=False, include_context=False)[0]
    return InvalidJobError(
        "; ".join(describe_errors(error, model)[:5]),
        field=".".join(named_path(model, first["loc"])) or "job",
        value=None if first["type"] == "missing" else str(first["input"])[:200],
    )


def build_job(
    spec: JobSpec,
    *,
    job_id: str,
    now: datetime,
    hardware: HardwareTable,
    region_ids: Iterable[str],
) -> Job:
    """The core Job of a spec.

    Raises:
        InvalidJobError: unknown region or accelerator (with the nearest), a deadline in the past or
            before now + duration, or anything else that the Job itself refuses.
    """
    _require_regions(spec, list(region_ids))
    options = _options(spec, hardware)
    deadline_at = spec.deadline
    if deadline_at is None:
        assert spec.patience is not None
        # Plans begin and end at whole seconds: one that may not wait at all still has to fit.
        deadline_at = whole_second_up(now) + timedelta(
            seconds=options[0].duration_s + spec.patience
        )
    elif deadline_at <= now:
        raise InvalidJobError(
            f"deadline: {format_instant(deadline_at)} is in the past (now is {format_instant(now)})",
            field="deadline",
            value=format_instant(deadline_at),
            valid=f"after {format_instant(now)}",
        )
    return Job(
        job_id=JobId(job_id),
        name=spec.name,
        command=build_command(spec.script, spec.name)
        if spec.script is not None
        else tuple(spec.command or ()),
        submitted_at=now,
        deadline_at=deadline_at,
        earliest_start_at=max(now, spec.not_before) if spec.not_before else now,
        start_by_at=spec.start_by,
        options=options,
        duration_p95_s=spec.duration_p95,
        interruptible=_interruptible(spec),
        elastic=_elastic(spec),
        data=DataNeed(gb=spec.data.gb, region_id=spec.data.region) if spec.data else None,
        limits=Limits(
            carbon_price=spec.carbon_price,
            max_cost=spec.max_cost,
            max_carbon_g=spec.max_carbon_g,
            min_renewable_share=spec.min_renewable_share,
        ),
        after=_after(spec, job_id),
        regions=tuple(spec.regions),
        forbid_regions=tuple(spec.forbid_regions),
        priority=spec.priority,
        project=spec.project,
        max_retries=spec.max_retries,
        env=_env(spec.env),
        workdir=spec.workdir,
        submitted_from=spec.submitted_from,
        slurm=_slurm(spec),
        kubernetes=_kubernetes(spec),
    )


def require_prices(job: Job, fleet: Fleet) -> None:
    """Refuses a job with a term in money where no cluster that it may use states a price.

    Raises:
        InvalidJobError: a limit that cannot be checked must not be ignored.
    """
    terms = {"max_cost": job.limits.max_cost, "carbon_price": job.limits.carbon_price}
    asked = [field for field, value in terms.items() if value is not None]
    usable = [cluster for cluster in fleet if job.allows(cluster)]
    if asked and all(cluster.price_per_gpu_hour is None for cluster in usable):
        raise InvalidJobError(
            f"{asked[0]}: {terms[asked[0]]:g} cannot be weighed: none of the clusters that the job may use "
            "states price_per_gpu_hour; add it to a cluster, or leave the field out",
            field=asked[0],
            value=terms[asked[0]],
            valid="absent, or a cluster with price_per_gpu_hour",
        )


def _require_regions(spec: JobSpec, known: list[str]) -> None:
    named = {
        "regions": spec.regions,
        "forbid_regions": spec.forbid_regions,
        "data.region": [spec.data.region] if spec.data else [],
    }
    for field, regions in named.items():
        for region in regions:
            if region not in known:
                raise InvalidJobError(
                    f"{field}: {region!r} is not a configured region; {suggest(region, known)}",
                    field=field,
                    value=region,
                    valid=", ".join(known),
                )


def _after(spec: JobSpec, job_id: str) -> tuple[JobId, ...]:
    for index, other in enumerate(spec.after):
        if other == job_id or other in spec.after[:index]:
            why = "is the job itself" if other == job_id else "is named twice"
            raise InvalidJobError(
                f"after: {other!r} {why}; name each other job once",
                field="after",
                value=other,
                valid="ids of other jobs, each once",
            )
    return tuple(JobId(other) for other in spec.after)


def _elastic(spec: JobSpec) -> Elastic | None:
    """The lines of the profile between min and max, one of them for the width of the resources."""
    asked, resources = spec.elastic, spec.resources
    if asked is None:
        return None
    if resources.accelerators is None:
        raise InvalidJobError(
            "elastic: cannot be combined with resources.any_of; give resources.accelerators",
            field="elastic",
            valid="given with resources.accelerators",
        )
    _, gpus = parse_accelerators(resources.accelerators)
    used = [one for one in asked.profile if asked.min <= one.gpus <= asked.max]
    if not asked.min <= gpus <= asked.max:
        raise InvalidJobError(
            f"elastic: resources.accelerators asks for {gpus}, which is not within "
            f"min {asked.min} and max {asked.max}",
            field="elastic",
            value=gpus,
            valid=f"resources.accelerators from {asked.min} to {asked.max}",
        )
    elastic = Elastic(
        widths=tuple(
            Width(gpus=one.gpus, throughput=one.throughput, power_w=one.power_w)
            for one in sorted(used, key=lambda one: one.gpus)
        ),
        may_idle=asked.min == 0,
    )
    elastic.throughput(gpus)
    return elastic


def _interruptible(spec: JobSpec) -> Interruptible | None:
    match spec.interruptible:
        case False:
            return None
        case True:
            return Interruptible(is_movable=spec.movable)
        case InterruptibleSpec() as how:
            return Interruptible(
                min_chunk_s=how.min_chunk,
                checkpoint_cost_s=how.checkpoint_cost,
                max_interruptions=how.max_interruptions,
                is_movable=spec.movable or how.movable,
            )


def _slurm(spec: JobSpec) -> JobSlurm | None:
    asked = spec.slurm
    if asked is None:
        return None
    return JobSlurm(
        **asked.model_dump(exclude={"time_limit", "options"}),
        time_limit_s=asked.time_limit,
        options=tuple(asked.options.items()),
    ).named(spec.name)


def _kubernetes(spec: JobSpec) -> JobKubernetes | None:
    asked = spec.kubernetes
    if asked is None:
        return None
    if asked.manifest is None:
        return JobKubernetes(image=asked.image, queue=asked.queue)
    manifest = as_text(asked.manifest)
    return JobKubernetes(
        image=asked.image,
        queue=asked.queue,
        manifest=manifest,
        grace_s=grace_of(asked.manifest),
    )


def _options(spec: JobSpec, hardware: HardwareTable) -> tuple[ResourceOption, ...]:
    resources = spec.resources
    listed = resources.any_of or [
        OptionSpec(accelerators=resources.accelerators or "", num_nodes=resources.num_nodes)
    ]
    options = []
    for option in listed:
        name, gpus = parse_accelerators(option.accelerators)
        accelerator = hardware.get(name).name
        power_w = _stated_power_w(spec, option, gpus)
        options.append(
            ResourceOption(
                accelerator=accelerator,
                gpus=gpus,
                num_nodes=option.num_nodes,
                duration_s=option.duration or spec.duration,
                power_w=hardware.power_w(accelerator, gpus) if power_w is None else power_w,
                is_power_estimated=power_w is None,
            )
        )
    return tuple(options)


def _stated_power_w(spec: JobSpec, option: OptionSpec, gpus: int) -> float | None:
    """Watts that the user states: the profile's line says it best."""
    for line in spec.elastic.profile if spec.elastic else ():
        if line.gpus == gpus:
            return line.power_w
    return option.power_w if option.power_w is not None else spec.power_w


def parse_accelerators(text: str) -> tuple[str, int]:
    """Name and count of `H100:8`, or of `H100` for one.

    Raises:
        InvalidJobError: not of that form, or a count of 0.
    """
    match = _ACCELERATORS.fullmatch(text)
    gpus = int(match["gpus"] or 1) if match else 0
    if match is None or gpus == 0:
        raise InvalidJobError(
            f"resources.accelerators: {text!r} is not NAME:COUNT with a count of 1 or more, such as H100:8",
            field="resources.accelerators",
            value=text,
            valid="NAME:COUNT, such as H100:8",
        )
    return match["name"], gpus


def _env(env: dict[str, str]) -> tuple[tuple[str, str], ...]:
    for name, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise InvalidJobError(
                f"env: {name!r} is not a variable name, or its value holds a NUL character",
                field="env",
                value=name,
                valid="letters, digits and _, not beginning with a digit",
            )
        if name.startswith("GRIDTIDE_"):
            raise InvalidJobError(
                f"env: {name!r} is set by Gridtide itself; choose another name",
                field="env",
                value=name,
                valid="a name that does not begin with GRIDTIDE_",
            )
    return tuple(env.items())
