"""Reading YAML, with errors that name file, line and column. JSON is YAML too."""

from pathlib import Path
from typing import Any

from scheduler.core.errors import InvalidInputError


def read_yaml(path: Path, *, error: type[InvalidInputError], field: str) -> list[Any]:
    """Every document of the file.

    Raises:
        InvalidInputError: of the given kind; the file cannot be read, or is not YAML.
        FileNotFoundError: there is no such file.
    """
    import yaml  # noqa: PLC0415 - imported late: help must be fast

    try:
        return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path}: cannot be read: {cause}", field=field) from cause
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(cause, "problem", None) or "malformed"
        raise error(f"{path}{where}: not valid YAML: {problem}", field=field) from cause
