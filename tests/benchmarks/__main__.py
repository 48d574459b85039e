"""Runs benchmarks: `python -m tests.benchmarks [NAME]`."""

import importlib
import sys

NAMES = ("windows", "planner", "enqueue", "store", "demo_hours", "forecast", "slurm", "kubernetes")
ONLY_BY_NAME = ("planner_million", "sharding")
"""Too long or too big to be part of all."""


def main() -> int:
    """Runs the one that is named, or all."""
    asked = sys.argv[1] if len(sys.argv) > 1 else "all"
    if asked not in ("all", *NAMES, *ONLY_BY_NAME):
        print(
            f"no benchmark {asked!r}; there are: all, {', '.join(NAMES + ONLY_BY_NAME)}",
            file=sys.stderr,
        )
        return 2
    for name in NAMES if asked == "all" else (asked,):
        importlib.import_module(f"tests.benchmarks.{name}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
