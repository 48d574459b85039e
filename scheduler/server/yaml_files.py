"""Reading YAML, with errors that name file, line and column. JSON is YAML too."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scheduler.core.errors import InvalidInputError


def read_yaml(path: Path, *, error: type[InvalidInputError], field: str) -> list[Any]:
    """Every document of the file.

    Raises:
        InvalidInputError: of the given kind; the file cannot be read, is not YAML, or holds a number that
            is not finite.
        FileNotFoundError: there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as cause:
        raise error(f"{path}: cannot be read: {cause}", field=field) from cause
    return parse_yaml(text, path, error=error, field=field)


def parse_yaml(text: str, path: Path, *, error: type[InvalidInputError], field: str) -> list[Any]:
    """Every document of the text, which errors call by that path.

    Raises:
        InvalidInputError: as `read_yaml` does.
    """
    import yaml  # noqa: PLC0415 - imported late: help must be fast

    try:
        documents = list(yaml.safe_load_all(text))
    except RecursionError as cause:
        raise error(f"{path}: not valid: nested too deeply", field=field) from cause
    except ValueError as cause:
        raise error(f"{path}: cannot be read: {cause}", field=field) from cause
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(cause, "problem", None) or "malformed"
        raise error(f"{path}{where}: not valid YAML: {problem}", field=field) from cause
    for where, value in _not_finite(documents[0] if len(documents) == 1 else documents):
        raise error(
            f"{path}: {where}: {value} is not a finite number",
            field=where,
            value=str(value),
            valid="a finite number",
        )
    return documents


def _not_finite(value: object, where: str = "") -> Iterator[tuple[str, float]]:
    """Path and value of every number that JSON cannot carry."""
    if isinstance(value, float) and not math.isfinite(value):
        yield where or "document", value
    parts = dict(enumerate(value)) if isinstance(value, list) else value
    for name, part in parts.items() if isinstance(parts, dict) else ():
        yield from _not_finite(part, f"{where}.{name}" if where else str(name))
