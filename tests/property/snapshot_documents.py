"""Random snapshot documents: small, with all terms of jobs in random combinations."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

Document = dict[str, Any]
DAY: Final = datetime(2022, 3, 1, tzinfo=UTC)
REGIONS: Final = ("ra", "rb", "rc")  # each in a zone of its own
DEVICES: Final = ("H100", "A100")


def at(seconds: int) -> str:
    """The instant so many seconds after the day began."""
    return (DAY + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def span(seconds: int) -> str:
    """A duration as users write it."""
    return f"{seconds}s"


@st.composite
def documents(draw: st.DrawFn, *, most_jobs: int = 12, steps_divide: bool = True) -> Document:
    """Snapshot documents.

    Args:
        draw: of hypothesis.
        most_jobs: at most so many.
        steps_divide: steps of intensity are whole slots; else they may be shorter.
    """
    slot_s = draw(st.sampled_from((900, 1800, 3600)))
    n_slots = draw(st.integers(12, 48))
    off_s = draw(st.sampled_from((0, 0, 60, 431, slot_s // 2, slot_s - 1)))
    clock = _Clock(draw, draw(st.integers(0, 30)) * slot_s + off_s, slot_s, n_slots)
    clusters = [_cluster(clock, index) for index in range(draw(st.integers(1, 4)))]
    steps = [slot_s, slot_s * 2] if steps_divide else [slot_s // 3, slot_s // 2]
    count = draw(st.integers(1, most_jobs))
    jobs = [_job(clock, f"j{index:02}", clusters) for index in range(count)]
    for index, job in enumerate(jobs):
        others = [one["id"] for one in jobs[:index]]
        if others and draw(st.integers(0, 3)) == 0:
            job["after"] = draw(st.lists(st.sampled_from(others), max_size=2, unique=True))
    return {
        "schema": "gridtide/snapshot/v1",
        "now": at(clock.now_s),
        "slot": span(slot_s),
        "horizon": span(n_slots * slot_s),
        "clusters": clusters,
        "intensity": {
            zone: _intensity(clock, draw(st.sampled_from(steps)))
            for zone in sorted({one["zone"] for one in clusters})
        },
        "jobs": jobs,
    }


class _Clock:
    """The times of a document, drawn on and off slot borders."""

    def __init__(self, draw: st.DrawFn, now_s: int, slot_s: int, n_slots: int) -> None:
        self.draw: Final = draw
        self.now_s: Final = now_s
        self.slot_s: Final = slot_s
        self.n_slots: Final = n_slots

    def later_s(self, most_slots: int) -> int:
        """Seconds of the day at or after now."""
        slots = self.draw(st.integers(0, most_slots))
        whole_s = (self.now_s // self.slot_s + slots) * self.slot_s
        return max(self.now_s, whole_s + self.draw(st.sampled_from((0, 0, 0, 1, 600, 777))))

    def length_s(self, most_slots: int) -> int:
        """A duration above 0."""
        whole_s = self.draw(st.integers(1, most_slots)) * self.slot_s
        return whole_s + self.draw(st.sampled_from((0, 0, 0, 300, 601, 1 - self.slot_s // 3)))


def _cluster(clock: _Clock, index: int) -> Document:
    draw, region = clock.draw, clock.draw(st.sampled_from(REGIONS))
    hourly = st.lists(st.sampled_from((1.0, 1.1, 1.35)), min_size=24, max_size=24)
    hours = clock.n_slots * clock.slot_s // 3600 + 2
    longer = st.lists(
        st.sampled_from((1.0, 1.2, 1.5)), min_size=max(25, hours), max_size=max(25, hours)
    )
    capacity = {
        name: draw(st.sampled_from((8, 4, 2, 0)))
        for name in draw(st.sampled_from((DEVICES, DEVICES[:1])))
    }
    made: Document = {
        "id": f"c{index}",
        "region": region,
        "zone": f"Z-{region}",
        "pue": draw(st.one_of(st.sampled_from((1.0, 1.2)), hourly, longer)),
        "capacity": capacity,
    }
    # Every second cluster has a price, the first one always: money needs one.
    if index % 2 == 0:
        made["price_per_gpu_hour"] = draw(st.sampled_from((0.0, 1.0, 2.5)))
    made["reserved"] = [
        _reservation(clock, name) for name in capacity if draw(st.integers(0, 2)) == 0
    ]
    return made


def _reservation(clock: _Clock, accelerator: str) -> Document:
    start_s = clock.later_s(clock.n_slots) - clock.draw(st.sampled_from((0, 0, 5000)))
    return {
        "accelerator": accelerator,
        "gpus": clock.draw(st.integers(0, 8)),
        "start": at(start_s),
        "end": at(start_s + clock.length_s(12)),
    }


def _intensity(clock: _Clock, step_s: int) -> Document:
    draw = clock.draw
    start_s = clock.now_s - clock.now_s % clock.slot_s - draw(st.sampled_from((0, 0, 7200)))
    start_s -= start_s % step_s
    count = (clock.n_slots + 2) * clock.slot_s // step_s + 8
    value = st.integers(0, 40).map(lambda n: n * 12.5)
    values: list[float | None] = list(draw(st.lists(value, min_size=count, max_size=count)))
    if draw(st.integers(0, 3)) == 0:
        begin = draw(st.integers(0, count - 2))
        values[begin : begin + 2] = [None, None]
    made: Document = {"start": at(start_s), "step": span(step_s), "g_per_kwh": values}
    if draw(st.booleans()):
        share = st.sampled_from((0.25, 0.5, 0.75, None))
        made["renewable_share"] = draw(st.lists(share, min_size=count, max_size=count))
    return made


def _job(clock: _Clock, job_id: str, clusters: list[Document]) -> Document:
    draw = clock.draw
    duration_s = clock.length_s(8)
    job: Document = {"id": job_id, "duration": span(duration_s)}
    earliest_s = clock.now_s
    if draw(st.booleans()):
        earliest_s = clock.later_s(clock.n_slots // 2)
        job["not_before"] = at(earliest_s)
    if draw(st.integers(0, 4)) == 0:
        job["start_by"] = at(earliest_s + clock.draw(st.integers(0, 12)) * clock.slot_s // 2)
    job |= _limit(clock, earliest_s, duration_s)
    job |= {"priority": draw(st.sampled_from((0, 0, 1, 5)))} if draw(st.booleans()) else {}
    if draw(st.integers(0, 3)) == 0:
        job |= _elastic(draw)
    else:
        job |= _resources(clock, duration_s)
    if draw(st.integers(0, 5)) == 5:
        job["duration_p95"] = span(duration_s * 3 // 2 + 1)
    for key, build in _TERMS.items():
        if draw(st.integers(0, 4)) == 4:
            job[key] = build(clock, clusters)
    return job


def _limit(clock: _Clock, earliest_s: int, duration_s: int) -> Document:
    """Mostly a deadline that can be kept."""
    slack_s = clock.draw(st.integers(0, 24)) * clock.slot_s
    match clock.draw(st.integers(0, 5)):
        case 0:
            return {"deadline": at(max(earliest_s + 1, clock.later_s(clock.n_slots + 4)))}
        case 1 | 2:
            return {"patience": span(earliest_s - clock.now_s + slack_s)}
        case _:
            off_s = clock.draw(st.sampled_from((0, 0, 1, 500)))
            return {"deadline": at(earliest_s + duration_s + slack_s + off_s)}


def _resources(clock: _Clock, duration_s: int) -> Document:
    draw = clock.draw
    option = st.builds(
        lambda name, gpus, watts: {"accelerators": f"{name}:{gpus}", "power_w": gpus * watts},
        st.sampled_from(DEVICES),
        st.sampled_from((1, 2, 4)),
        st.sampled_from((400.0, 700.0)),
    )
    if draw(st.booleans()):
        only = draw(option)
        return {
            "power_w": only["power_w"],
            "resources": {"accelerators": only["accelerators"]},
        }
    options = draw(
        st.lists(option, min_size=1, max_size=3, unique_by=lambda one: one["accelerators"])
    )
    for one in options[1:]:
        one["duration"] = span(max(1, duration_s * draw(st.sampled_from((1, 2, 3))) // 2))
    return {"resources": {"any_of": options}}


def _elastic(draw: st.DrawFn) -> Document:
    lines = [(1, 1.0, 400.0), (2, 1.9, 800.0), (4, 3.0, 1500.0), (8, 4.0, 3000.0)]
    least = draw(st.sampled_from((0, 1, 2)))
    stated = draw(st.sampled_from((2, 4)))
    return {
        "resources": {"accelerators": f"{draw(st.sampled_from(DEVICES))}:{stated}"},
        "elastic": {
            "min": least,
            "max": draw(st.sampled_from((stated, 8))),
            "profile": [
                {"gpus": gpus, "throughput": work, "power_w": watts} for gpus, work, watts in lines
            ],
        },
    }


def _pauses(clock: _Clock, _: list[Document]) -> Document | bool:
    if clock.draw(st.integers(0, 4)) == 0:
        return True
    return {
        "min_chunk": span(clock.length_s(3)),
        "checkpoint_cost": span(clock.draw(st.sampled_from((0, 60, 450, 600)))),
        "max_interruptions": clock.draw(st.integers(0, 3)),
    }


def _regions(clock: _Clock, clusters: list[Document]) -> list[str]:
    # The first cluster's region stays allowed: it has a price.
    named = sorted({one["region"] for one in clusters})
    chosen = clock.draw(st.lists(st.sampled_from(named), max_size=2))
    return sorted({clusters[0]["region"], *chosen})


def _forbidden(clock: _Clock, clusters: list[Document]) -> list[str]:
    named = sorted({one["region"] for one in clusters} - {clusters[0]["region"]})
    return clock.draw(st.lists(st.sampled_from(named), max_size=2, unique=True)) if named else []


def _data(clock: _Clock, clusters: list[Document]) -> Document:
    return {
        "gb": clock.draw(st.sampled_from((0.7, 45.0, 450.0, 1000.5))),
        "region": clock.draw(st.sampled_from(sorted({one["region"] for one in clusters}))),
    }


_TERMS: Final[dict[str, Callable[[_Clock, list[Document]], object]]] = {
    "interruptible": _pauses,
    "regions": _regions,
    "forbid_regions": _forbidden,
    "data": _data,
    "max_cost": lambda clock, _: clock.draw(st.sampled_from((100.0, 20.0, 5.0, 0.0))),
    "max_carbon_g": lambda clock, _: clock.draw(st.sampled_from((5000.0, 1500.0, 200.0, 0.0))),
    "carbon_price": lambda clock, _: clock.draw(st.sampled_from((0.0, 80.0))),
    "min_renewable_share": lambda clock, _: clock.draw(st.sampled_from((0.25, 0.5))),
}
