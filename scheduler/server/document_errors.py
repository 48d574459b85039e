"""What is wrong with a document, in lines that name the field, the value and the nearest name."""

from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from scheduler.core.names import suggest

_NO_MAPPING: Final = frozenset({"model_type", "model_attributes_type"})
_MANY: Final = 4


def describe_errors(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line a problem: the field's path, what is wrong, and for unknown names the nearest."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        path = ".".join(named_path(model, problem["loc"])) or "document"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, problem["loc"][:-1])
            message = f"unknown field; {suggest(str(problem['loc'][-1]), known)}"
        elif problem["type"] in _NO_MAPPING:
            known = _fields_at(model, problem["loc"])
            message = f"{_shown(problem['input'])} is not valid: it must be {_mapping(known)}"
        elif problem["type"] != "missing" and "value_error" not in problem["type"]:
            message = f"{problem['input']!r} is not valid: {message}"
        lines.append(f"{path}: {message}" if not message.startswith(f"{path}:") else message)
    return lines


def named_path(model: type[BaseModel], path: Iterable[object]) -> list[str]:
    """The path without what pydantic calls the forms that a field may take."""
    here, has_forms, parts = model, False, list[str]()
    for part in path:
        if has_forms and isinstance(part, str):
            has_forms = False
            continue
        parts.append(str(part))
        field = here.model_fields.get(str(part))
        has_forms = field is not None and _has_forms(field.annotation)
        here = (_model_in(field.annotation) if field else None) or here
    return parts


def _has_forms(annotation: Any) -> bool:
    forms = [one for one in get_args(annotation) if one is not NoneType]
    return get_origin(annotation) in {Union, UnionType} and len(forms) > 1


def _shown(value: object) -> str:
    """A value that stands where a mapping should; of one that is long, what it is."""
    return f"a list of {len(value)}" if isinstance(value, list) else f"{value!r:.80}"


def _mapping(fields: Sequence[str]) -> str:
    more = ", ..." if len(fields) > _MANY else ""
    return f"a mapping with {', '.join(fields[:_MANY])}{more}"


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
