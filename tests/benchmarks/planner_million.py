"""A million jobs on 30 rows and a week of hours, in a process of its own. Not part of all benchmarks."""

import json
import resource
import subprocess
import sys
import time

from scheduler.core.planner.plan import build_plan
from tests.benchmarks.measure import write
from tests.benchmarks.planner_instances import as_snapshot, draw

JOBS, ROWS, HOURS, UTILISATION = 1_000_000, 30, 168, 0.4


def run() -> None:
    """Measures in a fresh process: its peak of memory is the planner's, the instance's objects included."""
    done = subprocess.run(
        [sys.executable, "-m", __name__], capture_output=True, text=True, check=True
    )
    conditions = {"jobs": JOBS, "rows": ROWS, "hours": HOURS, "utilisation": UTILISATION}
    write("planner_million", json.loads(done.stdout), conditions)


def main() -> None:
    """Plans once and prints what it took."""
    build_plan(as_snapshot(draw(0, jobs=60, rows=4, hours=48, utilisation=0.5)))
    snapshot = as_snapshot(draw(11, jobs=JOBS, rows=ROWS, hours=HOURS, utilisation=UTILISATION))
    before_mib = _peak_mib()
    began, began_cpu = time.perf_counter(), time.process_time()
    plan = build_plan(snapshot)
    print(
        json.dumps(
            {
                "wall_s": time.perf_counter() - began,
                "cpu_s": time.process_time() - began_cpu,
                "peak_mib": _peak_mib(),
                "peak_mib_before": before_mib,
                "gap": plan.gap,
                "unplaced": len(plan.unplaced),
            }
        )
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
