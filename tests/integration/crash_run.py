"""Many jobs while their service is killed again and again: what became of each."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.integration.slurm_world import ENDED, Document, ServiceProcess


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the jobs.

    Args:
        ids: of all jobs that were accepted.
        runs: how often the command of each began.
        jobs: as the service told them last, by id.
        left: disturbances that were not due before all had ended.
    """

    ids: Sequence[str]
    runs: Counter[str]
    jobs: dict[str, Document]
    kills: int
    left: int

    @property
    def states(self) -> Counter[str]:
        return Counter(one["state"] for one in self.jobs.values())

    @property
    def lost(self) -> list[str]:
        """Jobs that never began, or of which the service does not know that they succeeded."""
        return [
            one
            for one in self.ids
            if not self.runs[one] or self.jobs.get(one, {}).get("state") != "succeeded"
        ]

    @property
    def doubled(self) -> list[str]:
        return [one for one, count in self.runs.items() if count > 1]

    @property
    def late(self) -> list[str]:
        return [one for one, job in self.jobs.items() if job["missed_deadline"]]


@dataclass(kw_only=True)
class CrashRun:
    """A service that is killed at random instants until its jobs have ended.

    Args:
        ran: the file to which each job's command first adds a line with the job's id.
        kill_after_s: between two kills, at least and at most.
        disturbances: what else happens, once so many commands have begun.
        most_s: then it is given up.
    """

    service: ServiceProcess
    ran: Path
    kill_after_s: tuple[float, float]
    most_s: float
    disturbances: Sequence[tuple[int, Callable[[], object]]] = ()
    seed: int = field(default_factory=lambda: random.randrange(10**6))

    def survive(self, specs: Sequence[Document]) -> Outcome:
        """Submits the jobs, and what became of them."""
        chance, due, kills = random.Random(self.seed), list(self.disturbances), 0
        jobs: dict[str, Document] = {}
        try:
            self._start()
            batch = {"jobs": list(specs)}
            ids = [one["id"] for one in self.service.post("/v1/jobs:batch", batch)["jobs"]]
            until = time.monotonic() + self.most_s
            while time.monotonic() < until:
                time.sleep(chance.uniform(*self.kill_after_s))
                jobs = self._jobs() or jobs
                if len(jobs) == len(ids) and all(one["state"] in ENDED for one in jobs.values()):
                    break
                if due and len(self._lines()) >= due[0][0]:
                    due.pop(0)[1]()
                self.service.kill()
                kills += 1
                self._start()
        finally:
            self.service.kill()
        runs = Counter(self._lines())
        return Outcome(ids=ids, runs=runs, jobs=jobs, kills=kills, left=len(due))

    def _start(self) -> None:
        self.service.start()
        self.service.wait_until_up()

    def _jobs(self) -> dict[str, Document]:
        """All jobs by id; empty where the service does not answer."""
        found, cursor = dict[str, Document](), ""
        try:
            while True:
                page = self.service.get(f"/v1/jobs?limit=100{cursor}")
                found |= {one["id"]: one for one in page["jobs"]}
                if not page["next"]:
                    return found
                cursor = f"&after={page['next']}"
        except httpx.HTTPError:
            return {}

    def _lines(self) -> list[str]:
        return self.ran.read_text(encoding="utf-8").split() if self.ran.exists() else []


def fast_clock(speed: float) -> Document:
    """Settings of a clock that runs so much faster from now on: plans count in minutes, the jobs of tests in seconds."""
    origin = datetime.now(UTC).isoformat()
    return {"origin_at": origin, "anchor_wall_s": time.time(), "speed": speed}
