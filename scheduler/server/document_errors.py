"""What is wrong with a document, in lines that name the field, the value and the nearest name."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from scheduler.core.names import suggest


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
