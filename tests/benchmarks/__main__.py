"""Runs benchmarks: `python -m tests.benchmarks [NAME]`."""

import importlib
import sys

NAMES = ("windows", "planner", "enqueue", "demo_hours")


def main() -> int:
    """Runs the one that is named, or all."""
    asked = sys.argv[1] if len(sys.argv) > 1 else "all"
    if asked != "all" and asked not in NAMES:
        print(f"no benchmark {asked!r}; there are: all, {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in NAMES if asked == "all" else (asked,):
        importlib.import_module(f"tests.benchmarks.{name}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
