"""The fake cluster's state: one file a job, one lock. Standard library only."""

import contextlib
import fcntl
import json
import os
import pwd
import signal
import sys
import time

STEPD = os.path.join(os.path.dirname(__file__), "stepd.py")
LIVE = ("RUNNING", "SUSPENDED", "COMPLETING")
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
OVER += ("DEADLINE", "BOOT_FAIL", "REVOKED")


CLOCK = {"skew_s": 0}
"""How far the cluster's clock is ahead of this machine's."""


def now_s():
    """The cluster's time."""
    return time.time() + CLOCK["skew_s"]


class State:
    """Reads and writes; whoever changes something holds `lock`."""

    def __init__(self, conf):
        self.conf = read(conf)
        CLOCK["skew_s"] = self.conf.get("skew_s", 0)
        self.folder = os.path.dirname(conf)

    @contextlib.contextmanager
    def lock(self):
        with open(os.path.join(self.folder, "lock"), "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def path(self, job_id):
        return os.path.join(self.folder, "jobs", f"{job_id}.json")

    def jobs(self):
        names = os.listdir(os.path.join(self.folder, "jobs"))
        ids = sorted(int(name[:-5]) for name in names if name.endswith(".json"))
        return [read(self.path(job_id)) for job_id in ids]

    def job(self, job_id):
        path = self.path(job_id)
        return read(path) if os.path.exists(path) else None

    def write(self, job):
        path = self.path(job["id"])
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            json.dump(job, file)
        os.replace(f"{path}.tmp", path)

    def queued(self):
        """What the controller still holds."""
        oldest_s = now_s() - self.conf["min_job_age_s"]
        return [job for job in self.jobs() if job["state"] not in OVER or job["end_s"] > oldest_s]

    def taken(self, node, jobs):
        """CPUs and GPUs that jobs have on a node; a suspended one has left its CPUs."""
        here = [job for job in jobs if job["state"] in LIVE and job["nodes"] == node["name"]]
        cpus = sum(job["cpus"] for job in here if job["state"] != "SUSPENDED")
        return cpus, sum(job["gpus"] for job in here)

    def schedule(self):
        """Starts what can start, in order of submission. The lock is held."""
        jobs = self.jobs()
        for job in jobs:
            is_free = not job["held"] and not job.get("dependency")
            if job["state"] == "PENDING" and is_free and job["begin_s"] <= now_s():
                node = self.place(job, jobs)
                if node is not None:
                    job |= {"state": "RUNNING", "reason": "None", "nodes": node["name"]}
                    job |= {"start_s": int(now_s())}
                    self.write(job)
                    self.spawn(job)

    def place(self, job, jobs):
        for node in self.conf["nodes"]:
            cpus, gpus = self.taken(node, jobs)
            is_up = node.get("state", "IDLE") == "IDLE" and node["partition"] == job["partition"]
            has_cpus = cpus + job["cpus"] <= node["cpus"]
            if is_up and has_cpus and gpus + job["gpus"] <= node["gpus"]:
                return node
        return None

    def spawn(self, job):
        import subprocess  # noqa: PLC0415 - most commands start no job, and are to start fast

        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                STEPD,
                os.path.join(self.folder, "slurm.conf"),
                str(job["id"]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )


def me():
    """Whoever runs the commands."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def signal_group(job, number):
    if job["pid"]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job["pid"], number)


def end(job, code, number):
    """The job with its end as Slurm writes it."""
    if job["cancelled"]:
        state = "CANCELLED"
    else:
        state = "COMPLETED" if (code, number) == (0, 0) else "FAILED"
    reason = "NonZeroExitCode" if state == "FAILED" else "None"
    job |= {"state": state, "reason": reason, "code": code, "signal": number}
    job |= {"end_s": int(now_s()), "pid": 0}
    return job


__all__ = ["LIVE", "OVER", "State", "end", "me", "now_s", "signal", "signal_group"]
