"""What a provider replied about one zone: checks its shape, refuses it by name."""

import json
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from scheduler.core.errors import ForecastRejectedError, ForecastUnavailableError

_SAYS: Final = ("error", "reason", "message", "msg", "title", "detail", "errors")
_Shape = TypeVar("_Shape")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of `source` about `zone_id`; every refusal of it names both."""

    source: str
    zone_id: str

    def validated(
        self, shape: TypeAdapter[_Shape], body: object, *, under: tuple[str, ...] = ()
    ) -> _Shape:
        """The body in that shape.

        Args:
            shape: what it must be.
            body: the reply, or what it has in the field that `under` leads to.
            under: names of fields, outermost first.

        Raises:
            ForecastRejectedError: it has another shape; names the first field and what it holds.
        """
        try:
            return shape.validate_python(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (*under, *first["loc"]))) or "the reply"
            raise self.rejected(f"{where}: {first['msg']}, not {first['input']!r:.80}") from error

    def rejected(self, why: str) -> ForecastRejectedError:
        """The error for an answer that cannot be true."""
        return ForecastRejectedError(f"{self.source}: {why}", zone=self.zone_id, source=self.source)

    def unavailable(self, why: str) -> ForecastUnavailableError:
        """The error for an answer without use."""
        return ForecastUnavailableError(
            f"{self.source}: {why}", zone=self.zone_id, source=self.source
        )

    def failed(
        self, error: ForecastUnavailableError, meaning: str | None = None
    ) -> ForecastUnavailableError:
        """The HTTP client's error about this zone: what it means, and what the server says."""
        return self.unavailable(": ".join(filter(None, (meaning or error.message, _said(error)))))


def _said(error: ForecastUnavailableError) -> str:
    """What the JSON of a refusal says, in one short line; empty where there is none."""
    try:
        document = json.loads(str(error.fields.get("answer", "")))
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    said = (document.get(key) for key in _SAYS)
    # Some say `"error": true` and the reason elsewhere.
    return ": ".join(str(one) for one in said if one and one is not True)[:300]
