"""Runs one job of the fake cluster to its end, as slurmstepd does. Standard library only."""

import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
from natives import send_back
from state import State, end, signal_group


def main():
    state, job_id = State(sys.argv[1]), sys.argv[2]
    with state.lock():
        job = state.job(job_id)
        if job["state"] != "RUNNING":
            return
        process = start(state, job)
        job["pid"] = process.pid
        state.write(job)
    code = process.wait()
    with state.lock():
        job = state.job(job_id)
        signal_group(job, signal.SIGKILL)
        if job.get("is_requeued"):
            send_back(job)
            state.write(job)
        else:
            state.write(end(job, max(code, 0), max(-code, 0)))
        state.schedule()


def start(state, job):
    number, script = tempfile.mkstemp(dir=state.folder, prefix=f"script-{job['id']}-")
    with os.fdopen(number, "wb") as file:
        file.write(job["script"].encode("utf-8", "surrogateescape"))
    chdir = job["chdir"] if os.path.isdir(job["chdir"]) else tempfile.gettempdir()
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "SHELL": "/bin/sh"}
    env |= {
        "SLURM_JOB_ID": str(job["id"]),
        "SLURM_JOB_NAME": job["name"],
        "SLURM_EXPORT_ENV": "NONE",
    }
    if job["gpus"]:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(job["gpus"])))
    with open(job["output"], "ab") as out, open(job["error"], "ab") as err:
        return subprocess.Popen(
            ["/bin/bash", script],
            env=env,
            cwd=chdir,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


if __name__ == "__main__":
    main()
