"""What every benchmark shares: rounds taken in turn, medians, and the file with the result."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

OUTPUT = Path("build/bench")


def seeds(count: int, *, first: int = 11) -> tuple[int, ...]:
    """Seeds of instances; BENCH_SEEDS in the environment asks for fewer, to see that a benchmark works."""
    return tuple(range(first, first + min(count, int(os.environ.get("BENCH_SEEDS", count)))))


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of this process that one call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turn(
    rounds: int, terms: Mapping[str, Callable[[], float]], *, warm: bool = True
) -> dict[str, float]:
    """Median of each term; the terms take turns, so that noise of the machine hits all alike."""
    if warm:
        for term in terms.values():
            term()
    taken: dict[str, list[float]] = {name: [] for name in terms}
    for _ in range(rounds):
        for name, term in terms.items():
            taken[name].append(term())
    return {name: statistics.median(values) for name, values in taken.items()}


def write(name: str, metrics: Mapping[str, float], conditions: Mapping[str, object]) -> None:
    """Writes build/bench/NAME.json and prints it."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": "gridtide/bench/v1",
        "name": name,
        "metrics": dict(metrics),
        "conditions": {
            **conditions,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load_1m": os.getloadavg()[0],
        },
    }
    (OUTPUT / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    print(json.dumps(document, indent=1))
