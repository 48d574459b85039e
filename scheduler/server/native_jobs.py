"""Jobs that users gave to a cluster's own queue: their words, checked, as jobs of ours."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from scheduler.core.errors import InvalidJobError
from scheduler.core.fleet import Fleet
from scheduler.core.hardware import HardwareTable
from scheduler.core.job import Job, JobId, Native
from scheduler.core.names import suggest
from scheduler.core.units import format_duration
from scheduler.ports import NativeJob
from scheduler.server.schemas import build_job, parse_job_spec, require_prices

_PLAIN: Final = ("deadline", "patience", "duration", "duration_p95", "not_before", "start_by")
_TEXTS: Final = (*_PLAIN, "project")
_NUMBERS: Final = ("power_w", "carbon_price", "max_cost", "max_carbon_g")
PAUSES: Final = ("min_chunk", "checkpoint_cost", "max_interruptions")
_CLUSTERS_OWN: Final = ("signal",)
"""Words for the cluster's adapter, which it has checked."""
WORDS: Final = (*_TEXTS, *_NUMBERS, "priority", "interruptible", *PAUSES, *_CLUSTERS_OWN)
"""What a user may state at a native job, by the names of a job document's fields."""
_YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_ID_CHARS: Final = 10


def native_document(words: Mapping[str, str], *, limit_s: int | None = None) -> dict[str, Any]:
    """The fields of a job document that the words state; the time limit is the duration where none is stated.

    Raises:
        InvalidJobError: a word that there is not, a number that is none, or no duration.
    """
    document = word_fields(words)
    if "duration" not in document:
        if limit_s is None:
            raise InvalidJobError(
                "duration: neither stated nor given as a time limit; state how long it runs, such as duration=4h",
                field="duration",
                valid="a duration such as 4h",
            )
        document["duration"] = format_duration(limit_s)
    return document


def word_fields(words: Mapping[str, str]) -> dict[str, Any]:
    """The fields that the words state, and no others.

    Raises:
        InvalidJobError: a word that there is not, or a number that is none.
    """
    document: dict[str, Any] = {}
    for word, text in words.items():
        if word not in WORDS:
            raise InvalidJobError(
                f"{word}: not a word that can be stated; {suggest(word, WORDS)}",
                field=word,
                value=text,
                valid=", ".join(WORDS),
            )
        if word in _TEXTS:
            document[word] = text
        elif word in _NUMBERS:
            document[word] = _number(word, text, float)
        elif word == "priority":
            document[word] = _number(word, text, int)
    pauses = _interruptible(words)
    if pauses is not None:
        document["interruptible"] = pauses
    return document


class NativeBuilder:
    """Builds jobs of native jobs on this fleet."""

    def __init__(self, fleet: Fleet, hardware: HardwareTable) -> None:
        self._fleet = fleet
        self._hardware = hardware

    def build(self, cluster_id: str, native: NativeJob, now: datetime) -> Job:
        """The job; the same native job always becomes the same job.

        Raises:
            InvalidJobError: naming the word that is wrong, or why the job cannot be planned at all.
        """
        if native.trouble is not None:
            raise InvalidJobError(native.trouble, field="job")
        cluster = self._fleet.get(cluster_id)
        name = plain_name(native.name)
        document = {
            "name": name,
            # What runs is the cluster's to know; this is what people see.
            "command": [f"native:{native.ref}"],
            "resources": {
                "accelerators": f"{native.accelerator}:{native.gpus}",
                "num_nodes": native.num_nodes,
            },
            **native_document(native.words, limit_s=native.limit_s),
        }
        job = build_job(
            parse_job_spec(document),
            job_id=_job_id(name, cluster_id, native),
            now=now if "patience" not in native.words else min(now, native.submitted_at),
            hardware=self._hardware,
            region_ids=[cluster.region_id],
        )
        require_prices(job, self._fleet)
        return replace(
            job,
            submitted_at=now,
            earliest_start_at=max(now, job.earliest_start_at),
            cluster_ids=(cluster_id,),
            native=Native(ref=native.ref, user=native.user),
        )


def _job_id(name: str, cluster_id: str, native: NativeJob) -> JobId:
    key = f"{cluster_id}\0{native.ref}\0{int(native.submitted_at.timestamp())}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:_ID_CHARS]
    return JobId(f"{name[:40].rstrip('-')}-{digest}")


def plain_name(text: str) -> str:
    """The name in our letters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-") or "job"


def _interruptible(words: Mapping[str, str]) -> bool | dict[str, Any] | None:
    """The field `interruptible`; None where no word speaks of pauses."""
    stated = words.get("interruptible")
    how: dict[str, Any] = {word: words[word] for word in PAUSES if word in words}
    if "max_interruptions" in how:
        how["max_interruptions"] = _number("max_interruptions", how["max_interruptions"], int)
    if stated is not None and stated.lower() not in _YES_NO:
        raise InvalidJobError(
            f"interruptible: {stated!r} is not yes or no",
            field="interruptible",
            value=stated,
            valid="yes or no",
        )
    if stated is None:
        return how or None
    return (how or True) if _YES_NO[stated.lower()] else False


def _number(word: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidJobError(
            f"{word}: {text!r} is not a number", field=word, value=text, valid="a number"
        ) from error
