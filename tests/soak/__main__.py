"""`python -m tests.soak [MINUTES [JOBS]]`: the long one, by default ten minutes and 20,000 jobs."""

import statistics
import sys
import tempfile
from pathlib import Path

from tests.soak.soak import Outcome, Soak, Terms


def tell(outcome: Outcome) -> None:
    """The figures, and what is wrong."""
    failovers = outcome.failovers_s
    print(
        f"{outcome.accepted} jobs in {outcome.took_s:.0f} s; killed: {dict(outcome.kills)}; the server was restarted "
        f"{outcome.server_restarts} times; runs asked for again {outcome.asked_again} times"
    )
    if failovers:
        print(
            f"{len(failovers)} failovers, seconds without a leader: median {statistics.median(failovers):.2f}, "
            f"longest {failovers[-1]:.2f}"
        )
    for name in ("lost", "unknown", "doubled", "late", "unfinished", "unaccounted"):
        found = getattr(outcome, name)
        print(f"{name}: {len(found)} {list(found[:5])}")


if __name__ == "__main__":
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    terms = Terms(
        jobs=jobs,
        submit_for_s=60 * minutes * 0.9,
        kill_every_s=1.0,
        server_restarts=3,
        most_s=60 * minutes * 1.5 + 60,
    )
    with tempfile.TemporaryDirectory() as folder:
        tell(Soak(Path(folder), terms).run())
