"""What the service plans for a Job that MultiKueue is to place: in which worker best, and when."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from adapters.cluster.kube_guard import SafeStart
from adapters.cluster.kube_native_devices import find_wanted
from adapters.cluster.kube_native_record import STATUS, KubeNative
from adapters.cluster.kube_objects import KubeDevice
from scheduler.core.errors import (
    GridtideError,
    InfeasibleError,
    InvalidInputError,
    UpstreamError,
)
from scheduler.core.timegrid import format_instant, parse_instant
from scheduler.ports import Clock
from scheduler.server.native_jobs import native_document
from scheduler.server.safe_starts import SafeStarts

REPLAN_S: Final = 120.0
"""A plan of a Job that waits is asked for again after so long: forecasts, and what others take, change."""
_SILENT_DURATION: Final = "1h"
"""For which the intensity of workers is compared where a Job does not say how long it runs."""
_AT_ONCE: Final = "10s"
"""How long a Job that says nothing may wait: as good as nothing, but a plan is not there at once."""
_TOLD: Final = re.compile(
    r"planned for (([0-9T:-]+Z) in (\S+?)(?: at [0-9]+ g/kWh)?), offered to all"
)
"""The status of a Job that has a plan."""
_PAUSES: Final = ("interruptible", "min_chunk", "checkpoint_cost", "max_interruptions")
"""Words that are left out: what a worker runs is not ours to pause."""
Document = dict[str, Any]
Ask = Callable[[Document, Sequence[str]], Document]
"""The service's answer to a job document for these clusters; raises GridtideError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker of MultiKueue, as the settings have it.

    Args:
        name: as MultiKueue calls it.
        cluster_id: as we do.
    """

    name: str
    cluster_id: str
    devices: Mapping[str, KubeDevice]
    capacity: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a Job asks for.

    Args:
        document: as the service takes it.
        clusters: ids of those that have its devices.
        latest_at: its latest safe start; None where it says nothing of time, and is to start now.
    """

    document: Document
    clusters: tuple[str, ...]
    latest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """Where and when.

    Args:
        ranking: names of all workers, the best first; those without a place in time are last.
        start_at: when it is to start in the first of them.
        words: the same, for its user.
    """

    ranking: tuple[str, ...]
    start_at: datetime
    words: str


@dataclass(slots=True, kw_only=True)
class _Kept:
    """The plan of a Job that waits.

    Args:
        asked_s: when it was asked for.
        is_told: it was seen at the Job. What stands there instead later is newer: another dispatcher's.
    """

    asked_s: float
    document: Document
    plan: WorkerPlan
    is_told: bool = False


class NoPlanError(Exception):
    """There is no plan.

    Args:
        why: in words.
        is_final: asking again does not help: it can only be offered to all.
    """

    def __init__(self, why: str, *, is_final: bool) -> None:
        super().__init__(why)
        self.is_final = is_final


class WorkerPlans:
    """Asks for plans, and keeps each for a while."""

    def __init__(
        self,
        workers: Sequence[Worker],
        ask: Ask,
        *,
        starts: SafeStarts,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = tuple(workers)
        self._ask = ask
        self._starts = starts
        self._clock = clock
        self._monotonic = monotonic
        self._kept: dict[str, _Kept] = {}
        self.silence: str | None = None
        """What the service did not answer with in this look; None where it did, or was not asked."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all workers, as MultiKueue calls them."""
        return tuple(one.name for one in self._workers)

    def begin(self) -> None:
        """A new look: a service that was silent in the last one is asked again."""
        self.silence = None

    def forget_but(self, uids: set[str]) -> None:
        """Keeps no plans but those of these Jobs."""
        self._kept = {uid: kept for uid, kept in self._kept.items() if uid in uids}

    def wish(self, job: KubeNative) -> Wish:
        """What the Job asks for.

        Raises:
            NoPlanError: its words or devices are none that can be planned.
        """
        found = {
            one.cluster_id: find_wanted(job, one.devices, one.capacity) for one in self._workers
        }
        options = {
            (it.accelerator, it.gpus, it.nodes): None
            for it in found.values()
            if it.accelerator is not None
        }
        if not options:
            why = next(iter(found.values())).trouble or "no worker has its devices"
            raise NoPlanError(why, is_final=True)
        each = [
            {"accelerators": f"{name}:{gpus}", "num_nodes": nodes} for name, gpus, nodes in options
        ]
        safe, timing = self._timing(job)
        return Wish(
            document={
                "name": "multikueue",
                "command": [f"multikueue:{job.label}"],
                "resources": each[0] if len(each) == 1 else {"any_of": each},
                **timing,
            },
            clusters=tuple(key for key, it in found.items() if it.accelerator is not None),
            latest_at=None if safe is None else safe.start_at,
        )

    def _timing(self, job: KubeNative) -> tuple[SafeStart | None, Document]:
        if not job.asks:
            limit = {} if job.limit_s is None else {"duration": f"{job.limit_s}s"}
            return None, {"duration": _SILENT_DURATION, "patience": _AT_ONCE} | limit
        safe = self._starts.find(job.words, self._clock.at_wall(job.since_s), job.limit_s)
        words = {word: text for word, text in job.words.items() if word not in _PAUSES}
        try:
            stated = native_document(words, limit_s=job.limit_s)
        except InvalidInputError as error:
            raise NoPlanError(error.message, is_final=True) from error
        if safe is None:
            raise NoPlanError(
                "its words do not say until when it may wait: a deadline, or a patience with a duration, is missing or wrong",
                is_final=True,
            )
        stated.pop("patience", None)  # it counts since the Job was created
        return safe, stated | {"deadline": format_instant(safe.deadline_at)}

    def plan(self, job: KubeNative, wish: Wish) -> WorkerPlan:
        """The plan, of the last minutes.

        Raises:
            NoPlanError: the service does not answer, or sees no way.
        """
        now_s = self._monotonic()
        kept = self._agreed(job, wish, now_s)
        is_fresh = (
            kept is not None and kept.document == wish.document and now_s < kept.asked_s + REPLAN_S
        )
        if kept is not None and (is_fresh or self.silence is not None):
            return kept.plan
        if self.silence is not None:
            raise NoPlanError(self.silence, is_final=False)
        try:
            made = self._read(self._ask(wish.document, wish.clusters))
        except (InfeasibleError, InvalidInputError) as error:
            raise NoPlanError(error.message, is_final=True) from error
        except GridtideError as error:
            self.silence = error.message
            if kept is not None:
                return kept.plan
            raise NoPlanError(error.message, is_final=False) from error
        self._kept[job.owner] = _Kept(asked_s=now_s, document=wish.document, plan=made)
        return made

    def _agreed(self, job: KubeNative, wish: Wish, now_s: float) -> _Kept | None:
        """What is kept, or what another dispatcher has told the Job's user since; where nothing is kept, that alone."""
        kept, told = self._kept.get(job.owner), self._told(job)
        if told is None:
            return kept
        if kept is not None and kept.plan.words == told.words:
            kept.is_told = True
        elif kept is None or kept.is_told:
            # Where nothing is kept it holds only while nothing better can be had.
            asked_s = now_s - REPLAN_S if kept is None else now_s
            kept = _Kept(asked_s=asked_s, document=wish.document, plan=told, is_told=True)
            self._kept[job.owner] = kept
        return kept

    def _told(self, job: KubeNative) -> WorkerPlan | None:
        """The plan that stands at the Job."""
        found = _TOLD.match(job.marks.get(STATUS, ""))
        if found is None or found[3] not in self.names:
            return None
        try:
            start_at = parse_instant(found[2], field="status")
        except InvalidInputError:
            return None  # somebody else's words
        names = (found[3], *(one for one in self.names if one != found[3]))
        return WorkerPlan(ranking=names, start_at=start_at, words=found[1])

    def _read(self, answer: Document) -> WorkerPlan:
        """The plan of an answer. Raises UpstreamError for what is none."""
        try:
            return self._plan_of(answer)
        except (
            AttributeError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            InvalidInputError,
        ) as error:
            raise UpstreamError(
                f"the service answered what is no plan of several clusters ({error!r}); is it of the same version?"
            ) from error

    def _plan_of(self, answer: Document) -> WorkerPlan:
        placements = answer["ranked"] or [answer["placement"]]
        order = [one["cluster"] for one in placements]
        ranked = sorted(
            self._workers,
            key=lambda one: order.index(one.cluster_id) if one.cluster_id in order else len(order),
        )
        best, names = placements[0], tuple(one.name for one in ranked)
        start_at = parse_instant(best["start"], field="start")
        grams = best["emissions_g"]
        at = (
            ""
            if grams is None or not best["energy_kwh"]
            else (f" at {grams / best['energy_kwh']:.0f} g/kWh")
        )
        return WorkerPlan(
            ranking=names, start_at=start_at, words=f"{minute(start_at)} in {names[0]}{at}"
        )


def minute(at: datetime) -> str:
    """For people."""
    return at.strftime("%Y-%m-%dT%H:%MZ")
