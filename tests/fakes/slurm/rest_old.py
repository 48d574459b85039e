"""How v0.0.38 of slurmrestd reads and answers, as it was seen on 22.05.8. Standard library only."""

import signal
import time

from natives import tres

PINGS_ANYBODY = False
STEP = "BATCH"
YEAR_S = 365 * 86400
JOB_KEYS = {
    *("name", "comment", "environment", "current_working_directory", "standard_output"),
    *(
        "standard_error",
        "begin_time",
        "gres",
        "partition",
        "account",
        "qos",
        "constraints",
        "licenses",
    ),
    *(
        "time_limit",
        "nodes",
        "tasks",
        "cpus_per_task",
        "open_mode",
        "no_requeue",
        "requeue",
        "hold",
    ),
    *("exclusive", "memory_per_node", "reservation", "nice", "mail_type", "nodelist"),
}
DISABLED = {"contiguous", "excluded_nodes", "required_nodes", "network"}


class RefusedError(Exception):
    def __init__(self, status, errors):
        super().__init__(status)
        self.status = status
        self.errors = errors


def describe(versions, has_accounts):
    names = ["jobs", "job/{job_id}", "job/submit", "ping", "nodes", "partitions"]
    names.append("reservations")
    paths = [f"/slurm/{version}/{name}" for version in versions for name in names]
    paths += [
        f"/slurmdb/{version}/{name}"
        for version in versions
        for name in ("jobs", "clusters")
        if has_accounts
    ]
    return {"openapi": "3.0.2", "paths": {path: {} for path in paths}}


def meta(cluster):
    plugin = {"type": "openapi/v0.0.38", "name": "Slurm OpenAPI v0.0.38"}
    version = {"major": 22, "micro": 8, "minor": 5}
    return {"plugin": plugin, "Slurm": {"version": version, "release": "22.05.8"}}


def error(number, words):
    return {"error_code": number, "error": words}


def pings():
    return [{"hostname": "here", "ping": "UP", "status": 0, "mode": "primary"}]


def refused_token(part):
    words = {"jobs": "Failed while looking for jobs"}.get(
        part, "slurmctld config is unable to load"
    )
    return 500, [{"description": words, "error_number": -1, "error": "Unspecified error"}]


def without_controller(parts):
    if parts[0] == "job":
        return 500, [error(1800, "Unable to contact slurm controller (connect failure)")]
    return refused_token(parts[0])


def without_accounts():
    unreachable = {"error_number": 7000, "error": "Unable to connect to database"}
    return 500, {"meta": {}, "errors": [unreachable]}


def unknown_job(method, job_id):
    words = f"Unable to find JobId={job_id}"
    return 500, {
        "errors": [{"description": words, "error_number": 2017, "error": "Invalid job id"}]
    }


def ended_job():
    return 500, [{"error_number": 2084, "error": "Job has already finished"}]


def cannot_signal(job):
    words = "Job can not be altered now, try again later"
    return 500, {"errors": [{"error_number": 2020, "error": words}]}


def unknown_update(keys):
    return {"errors": [{"description": f'Unknown key "{key}"'} for key in keys]}


def held():
    return {"errors": [error(2042, "Job is in held state")]}


def read_submission(body):
    job = body.get("job", {})
    unknown = [f'Unknown key "{key}"' for key in job if key not in JOB_KEYS | DISABLED]
    unknown += [f'Disabled key: "{key}"' for key in job if key in DISABLED]
    if unknown:
        fail(*unknown)
    if "environment" not in job:
        fail("environment must be set")
    if not isinstance(job["environment"], dict):
        fail("environment must be an object")
    if not isinstance(job.get("begin_time", ""), str):
        fail('Unable to process key "begin_time"')
    if job.get("exclusive", "exclusive") not in ("exclusive", "user", "mcs"):
        fail("Invalid exclusive specification")
    for key in ("tasks", "cpus_per_task", "time_limit", "memory_per_node"):
        if not isinstance(job.get(key, 0), int):
            fail(f'Unable to process key "{key}"')
    if not body.get("script"):
        fail("script must be set")
    return job, body["script"], []


def fail(*words):
    first = [{"description": one, "source": "hsearch_r"} for one in words]
    raise RefusedError(400, [*first, {"error_code": 9001, "error": "Failure during parsing"}])


def options(job):
    """As sbatch would be given it."""
    names = {
        "job-name": "name", "comment": "comment", "chdir": "current_working_directory", "gres": "gres",
        "output": "standard_output", "error": "standard_error", "cpus-per-task": "cpus_per_task",
        "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraints",
        "licenses": "licenses", "time": "time_limit", "mem": "memory_per_node", "exclusive": "exclusive",
    }  # fmt: skip
    given = {name: str(job[key]) for name, key in names.items() if key in job}
    given["requeue"] = "0" if job.get("no_requeue") else "1"  # whatever `requeue` says
    return given, bool(job.get("hold"))


def job(one, cluster, user):
    start_s = one["start_s"]
    live_end_s = start_s + one.get("limit_s", YEAR_S) if start_s else 0
    return {
        "job_id": one["id"], "name": one["name"], "job_state": one["state"], "state_reason": one["reason"],
        "start_time": start_s, "end_time": one["end_s"] or live_end_s, "nodes": one["nodes"],
        "exit_code": one["code"] << 8 | one["signal"], "comment": one["comment"], "user_name": user,
        "cluster": cluster, "partition": one["partition"], "requeue": True, "cpus": one["cpus"],
        "tres_alloc_str": tres(one), "resv_name": one.get("reservation", ""),
    }  # fmt: skip


def accounted(one, cluster, user):
    is_over = bool(one["end_s"])
    code = exit_code(one)
    batch = {
        "step": {"job_id": one["id"], "id": "batch", "name": "batch"}, "state": one["state"], "exit_code": code,
        "statistics": {"energy": {"consumed": int(one["energy_j"] or 0)}},
    }  # fmt: skip
    elapsed_s = int((one["end_s"] or time.time()) - one["start_s"]) if one["start_s"] else 0
    return {
        "job_id": one["id"], "name": one["name"], "cluster": cluster, "user": user, "allocation_nodes": 1,
        "state": {"current": one["state"], "reason": "None"}, "nodes": one["nodes"] or "None assigned",
        "exit_code": code if not one["cancelled"] else {"status": "SUCCESS", "return_code": 0},
        "time": {"start": one["start_s"], "end": one["end_s"], "elapsed": elapsed_s},
        "comment": {"job": one["comment"] if is_over else None},
        "steps": [batch] if one["nodes"] else [],
    }  # fmt: skip


def exit_code(one):
    """Right for signals; SUCCESS and 0 for any exit code."""
    if not one["signal"]:
        return {"status": "SUCCESS", "return_code": 0}
    named = {"signal_id": one["signal"], "name": signal.strsignal(one["signal"])}
    return {"status": "SIGNALED", "return_code": None, "signal": named}


def node(one, cpus, gpus):
    mode = one.get("state") or (
        "IDLE" if not cpus else "ALLOCATED" if cpus == one["cpus"] else "MIXED"
    )
    base, *flags = mode.split("+")
    return {
        "name": one["name"], "state": base.lower(), "state_flags": flags, "partitions": [one["partition"]],
        "cpus": one["cpus"], "alloc_cpus": cpus, "gres": f"gpu:h100:{one['gpus']}" if one["gpus"] else "",
        "gres_used": f"gpu:h100:{gpus}(IDX:0-1)" if one["gpus"] else "gpu:0",
    }  # fmt: skip


def partition(name, is_default):
    return {"name": name, "flags": ["default"] if is_default else [], "state": "UP"}


def reservation(one):
    return {
        "name": one["name"], "start_time": one["start_s"], "end_time": one["end_s"], "node_list": one["nodes"],
        "flags": ["IGNORE_JOBS", "SPEC_NODES"], "tres": f"cpu={one.get('cpus', 8)}",
        "core_spec_cnt": int("cpus" in one),
    }  # fmt: skip
