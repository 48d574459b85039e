"""What the fake commands do about jobs of several users: lines of squeue, begin times, holds, requeues.

Standard library only.
"""

import re
import sys
import time

from state import LIVE, OVER, me, signal, signal_group

YEAR_S = 365 * 86400
HELD = "JobHeldUser"


def stamp(at_s, unset):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) if at_s else unset


def is_shown(job, options):
    names = options["name"].split(",") if "name" in options else [job["name"]]
    ids = options["jobs"].split(",") if "jobs" in options else [str(job["id"])]
    states = options.get("states", "PENDING,RUNNING,SUSPENDED,COMPLETING")
    is_asked = job["name"] in names and str(job["id"]) in ids
    is_mine = "me" not in options or job["user"] == me()
    return is_asked and is_mine and (states == "all" or job["state"] in states.split(","))


def field(job, form):
    """One field of squeue --Format; without padding where its width is 0."""
    name, _, rest = form.partition(":")
    digits = re.match(r"\d+", rest)[0]
    value, width = value_of(job, name), int(digits)
    return (value[:width].ljust(width) if width else value) + rest[len(digits) :]


def value_of(job, name):
    is_leaving = job.get("is_requeued", False)
    end_s = job["end_s"] or limit_end_s(job)
    eligible_s = job["begin_s"] or job["submit_s"]
    is_waiting = job["state"] == "PENDING"
    gres = f"gres:gpu:{job['gpus']}" if job["gpus"] else "N/A"
    return {
        "JobID": str(job["id"]),
        "JobArrayID": job.get("array_id", str(job["id"])),
        "UserName": job["user"],
        "Name": job["name"],
        "State": job["state"],
        "Reason": reason_of(job),
        "StartTime": stamp(time.time() if is_leaving else job["start_s"], "N/A"),
        "EndTime": "NONE" if is_leaving else stamp(end_s, "N/A"),
        "EligibleTime": "N/A" if is_waiting and job["held"] and not job["begin_s"] else stamp(eligible_s, "N/A"),
        "SubmitTime": stamp(job["submit_s"], "N/A"),
        "RestartCnt": str(job["restarts"]),
        "exit_code": str(job["code"] << 8 | job["signal"]),
        "NodeList": job["nodes"],
        "Partition": job["partition"],
        "NumNodes": "1",
        "NumCPUs": str(job["cpus"]),
        "NumTasks": "1",
        "TimeLimit": job.get("limit", "UNLIMITED"),
        "Dependency": job.get("dependency", "(null)"),
        "Requeue": str(int(job["may_requeue"])),
        "BatchFlag": "1",
        "OverSubscribe": job.get("oversubscribe", "OK"),
        "Reservation": job.get("reservation", "(null)"),
        "tres-alloc": tres(job),
        "tres-per-job": "N/A",
        "tres-per-node": job.get("tres", gres),
        "tres-per-socket": "N/A",
        "tres-per-task": "N/A",
        "Comment": job["comment"] or "(null)",
    }[name]  # fmt: skip


def limit_end_s(job):
    """When its time is up; one without a limit is given a year."""
    return job["start_s"] + job.get("limit_s", YEAR_S) if job["state"] in LIVE else 0


def tres(job):
    gres = f",gres/gpu={job['gpus']}" if job["gpus"] else ""
    return f"cpu={job['cpus']},mem=1M,node=1,billing={job['cpus']}{gres}"


def reason_of(job):
    if job["state"] != "PENDING":
        return job["reason"]
    if job["held"]:
        return job.get("held_by", HELD)
    if job.get("dependency"):
        return "Dependency"
    return "BeginTime" if job["begin_s"] > time.time() else job["reason"]


def runs_of(job):
    """The lines of the accounts: one for each earlier run of a requeued job, then its present one."""
    return [*(job | run | {"runs": []} for run in job["runs"]), job]


def is_permitted(state, job):
    return state.conf.get("is_operator", True) or job["user"] == me()


def change(state, verb, job_id, changes):
    with state.lock():
        job = state.job(job_id)
        if job is None:
            return say("Invalid job id specified", job_id)
        if not is_permitted(state, job):
            return say("Access/permission denied", job_id)
        outcome = {"update": update, "requeue": requeue}.get(verb, hold)(job, verb, changes)
        if outcome is not None:
            return say(outcome, job_id)
        state.write(job)
        state.schedule()
    return 0


def say(words, job_id):
    sys.stderr.write(f"{words} for job {job_id}\n")
    return 1


def update(job, _, changes):
    given = dict(one.split("=", 1) for one in changes)
    if job["state"] in OVER:
        return "Job has already finished"
    if "StartTime" in given and job["state"] != "PENDING" and not job.get("is_requeued"):
        return "Job is no longer pending execution"
    if len(given.get("Comment", "").encode()) > 1024:
        return "Pathname of a file, directory or other parameter too long"
    job["comment"] = given.get("Comment", job["comment"])
    if "StartTime" in given:
        text = given["StartTime"]
        job["begin_s"] = int(time.time()) if text == "now" else int(text.removeprefix("uts"))
        job["is_begin_set"] = True
    return None


def hold(job, verb, _):
    if job["state"] in OVER:
        return "Job has already finished"
    job["held"] = verb != "release"
    return None


def requeue(job, *_):
    if job["state"] == "PENDING" or job.get("is_requeued"):
        return "Job is pending execution"
    if not job["may_requeue"]:
        return "Requested operation is presently disabled"
    job |= {"restarts": job["restarts"] + 1, "is_begin_set": False}
    if job["state"] in OVER:
        send_back(job)
        return None
    job |= {"is_requeued": True, "state": "COMPLETING", "left_s": int(time.time())}
    if job["pid"]:
        signal_group(job, signal.SIGTERM)
    else:  # not launched yet
        send_back(job)
    return None


def send_back(job):
    """The job in the queue again, startable in two minutes unless another time was set meanwhile."""
    now_s = int(time.time())
    run = {name: job[name] for name in ("start_s", "nodes", "code", "signal", "submit_s")}
    job["runs"] = [
        *job["runs"],
        run | {"state": "REQUEUED", "end_s": job.get("left_s") or job["end_s"]},
    ]
    if not job.get("is_begin_set"):
        job["begin_s"] = now_s + 120
    job |= {"state": "PENDING", "reason": "None", "nodes": "", "start_s": 0, "end_s": 0, "pid": 0}
    job |= {"submit_s": now_s, "is_requeued": False, "is_begin_set": False, "left_s": 0}
