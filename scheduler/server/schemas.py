"""What goes over the wire: the job as users write it, checked and turned into a core Job."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from scheduler.core.errors import InvalidInputError, InvalidJobError
from scheduler.core.hardware import HardwareTable
from scheduler.core.job import Job, JobId
from scheduler.core.names import suggest
from scheduler.core.terms import Interruptible, ResourceOption
from scheduler.core.timegrid import format_instant, parse_instant
from scheduler.core.units import parse_duration

T = TypeVar("T")
JOB_SCHEMA: Final = "gridtide/job/v1"
LATER: Final = {
    "image": "a Kubernetes cluster",
    "args": "a Kubernetes cluster",
    "script": "a Slurm cluster",
    "elastic": "the elastic planner",
    "data": "data movement in the planner",
    "carbon_price": "money in the planner",
    "max_cost": "money in the planner",
    "max_carbon_g": "carbon limits in the planner",
    "min_renewable_share": "renewable shares in the planner",
    "after": "dependencies in the planner",
}
"""Fields of the job format that this version refuses, and what they wait for."""
_ACCELERATORS: Final = re.compile(r"\s*(?P<name>[A-Za-z][\w .-]*?)\s*(?::\s*(?P<gpus>\d{1,7}))?\s*")


def _or_value_error(parse: Callable[[str], T], text: str) -> T:
    """What pydantic understands, so that the error names the whole path of the field."""
    try:
        return parse(text)
    except InvalidInputError as error:
        raise ValueError(error.message.partition(": ")[2]) from error


def _duration_s(value: object) -> int:
    if isinstance(value, str):
        return _or_value_error(parse_duration, value)
    raise ValueError(f"{value!r} has no unit; write a text such as '4h', '90m' or 'PT4H'")


def _zero_or_duration_s(value: object) -> int:
    is_zero = isinstance(value, str) and value.strip().lower() in ("0s", "0m", "0h", "pt0s")
    return 0 if is_zero else _duration_s(value)


def _instant(value: object) -> datetime:
    if isinstance(value, datetime):  # YAML reads unquoted times by itself
        return _or_value_error(parse_instant, value.isoformat())
    if isinstance(value, str):
        return _or_value_error(parse_instant, value)
    raise ValueError(f"{value!r} is not an ISO 8601 time such as '2026-11-27T09:00:00+01:00'")


DurationS = Annotated[int, BeforeValidator(_duration_s, json_schema_input_type=str)]
ZeroOrDurationS = Annotated[int, BeforeValidator(_zero_or_duration_s, json_schema_input_type=str)]
Instant = Annotated[datetime, BeforeValidator(_instant, json_schema_input_type=str)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class InterruptibleSpec(_Strict):
    """How the job may be paused."""

    min_chunk: DurationS = Field(
        default=3600, description="shortest run between two pauses, such as 1h"
    )
    checkpoint_cost: ZeroOrDurationS = Field(
        600, description="run time that a resume costs, such as 10m"
    )
    max_interruptions: int = Field(default=3, ge=0, le=1000, strict=True)


class OptionSpec(_Strict):
    """One hardware choice."""

    accelerators: str = Field(description="name and count over all nodes, such as H100:8")
    num_nodes: int = Field(default=1, ge=1, le=100_000, strict=True)
    duration: DurationS | None = None
    power_w: float | None = Field(default=None, gt=0, lt=1e9, allow_inf_nan=False)


class ResourcesSpec(_Strict):
    """One hardware choice, or several under any_of."""

    accelerators: str | None = Field(default=None, description="name and count, such as H100:8")
    num_nodes: int = Field(default=1, ge=1, le=100_000, strict=True)
    any_of: list[OptionSpec] | None = Field(default=None, min_length=1, max_length=32)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.accelerators is None) == (self.any_of is None):
            raise ValueError("give either accelerators or any_of")
        return self


class JobSpec(_Strict):
    """A job as users write it, in YAML or JSON."""

    name: str = Field(description="1 to 63 of a-z, 0-9 and -")
    command: list[str] = Field(min_length=1, max_length=10_000, description="program and arguments")
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
    regions: list[str] = Field(default_factory=list, max_length=1000)
    forbid_regions: list[str] = Field(default_factory=list, max_length=1000)
    priority: int = Field(default=0, ge=-1000, le=1000, strict=True)
    project: str = Field(
        default="default", min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$"
    )
    max_retries: int = Field(default=0, ge=0, le=100, strict=True)
    env: dict[str, str] = Field(default_factory=dict, max_length=1000)
    workdir: str | None = Field(default=None, min_length=1, max_length=4096)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.deadline is None) == (self.patience is None):
            raise ValueError("give either deadline (finish by) or patience (how long it may wait)")
        return self


class AmendSpec(_Strict):
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


def describe_errors(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line a problem: the field's path, what is wrong, and for unknown names the nearest."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        path = ".".join(str(part) for part in problem["loc"]) or "document"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, problem["loc"][:-1])
            message = f"unknown field; {suggest(str(problem['loc'][-1]), known)}"
        elif problem["type"] != "missing" and "value_error" not in problem["type"]:
            message = f"{problem['input']!r} is not valid: {message}"
        lines.append(f"{path}: {message}" if not message.startswith(f"{path}:") else message)
    return lines


def _invalid(error: ValidationError, model: type[BaseModel]) -> InvalidJobError:
    first = error.errors(include_url=False, include_context=False)[0]
    return InvalidJobError(
        "; ".join(describe_errors(error, model)[:5]),
        field=".".join(str(part) for part in first["loc"]) or "job",
        value=None if first["type"] == "missing" else str(first["input"])[:200],
    )


def _fields_at(model: type[BaseModel], path: Iterable[object]) -> list[str]:
    """Names of the fields of the model that stands at this path."""
    here = model
    for part in path:
        field = here.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field else None
        here = inner or here
    return list(here.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found:
            return found
    return None


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
    known = list(region_ids)
    for field in ("regions", "forbid_regions"):
        for region in getattr(spec, field):
            if region not in known:
                raise InvalidJobError(
                    f"{field}: {region!r} is not a configured region; {suggest(region, known)}",
                    field=field,
                    value=region,
                    valid=", ".join(known),
                )
    options = _options(spec, hardware)
    deadline_at = spec.deadline
    if deadline_at is None:
        assert spec.patience is not None
        deadline_at = now + timedelta(seconds=options[0].duration_s + spec.patience)
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
        command=tuple(spec.command),
        submitted_at=now,
        deadline_at=deadline_at,
        earliest_start_at=max(now, spec.not_before) if spec.not_before else now,
        start_by_at=spec.start_by,
        options=options,
        duration_p95_s=spec.duration_p95,
        interruptible=_interruptible(spec),
        regions=tuple(spec.regions),
        forbid_regions=tuple(spec.forbid_regions),
        priority=spec.priority,
        project=spec.project,
        max_retries=spec.max_retries,
        env=_env(spec.env),
        workdir=spec.workdir,
    )


def _interruptible(spec: JobSpec) -> Interruptible | None:
    match spec.interruptible:
        case False:
            return None
        case True:
            return Interruptible()
        case InterruptibleSpec() as how:
            return Interruptible(
                min_chunk_s=how.min_chunk,
                checkpoint_cost_s=how.checkpoint_cost,
                max_interruptions=how.max_interruptions,
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
        power_w = option.power_w if option.power_w is not None else spec.power_w
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
