"""How v0.0.42 of slurmrestd reads and answers, as it was seen on 24.11.5. Standard library only."""

import signal
import time

from natives import tres

PINGS_ANYBODY = True
STEP = "batch"
YEAR_S = 365 * 86400
JOB_KEYS = (
    *("name", "comment", "environment", "current_working_directory", "standard_output"),
    *(
        "standard_error",
        "begin_time",
        "tres_per_node",
        "partition",
        "account",
        "qos",
        "constraints",
    ),
    *(
        "licenses",
        "time_limit",
        "minimum_nodes",
        "maximum_nodes",
        "tasks",
        "cpus_per_task",
        "open_mode",
    ),
    *(
        "requeue",
        "hold",
        "shared",
        "memory_per_node",
        "reservation",
        "script",
        "contiguous",
        "nice",
    ),
)


class RefusedError(Exception):
    def __init__(self, status, errors):
        super().__init__(status)
        self.status = status
        self.errors = errors


def describe(versions, has_accounts):
    names = ["jobs/", "jobs/state/", "job/{job_id}", "job/submit", "ping/", "nodes/", "partitions/"]
    names.append("reservations/")
    paths = [f"/slurm/{version}/{name}" for version in versions for name in names]
    paths += [
        f"/slurmdb/{version}/{name}"
        for version in versions
        for name in ("jobs/", "clusters/")
        if has_accounts
    ]
    schemas = {
        f"{version}_job_desc_msg": {"type": "object", "properties": {key: {} for key in JOB_KEYS}}
        for version in versions
    }
    return {
        "openapi": "3.1.0",
        "paths": {path: {} for path in paths},
        "components": {"schemas": schemas},
    }


def meta(cluster):
    version = {"major": "24", "micro": "5", "minor": "11"}
    return {
        "plugin": {"type": "openapi/slurmctld", "data_parser": "data_parser/v0.0.42"},
        "slurm": {"version": version, "release": "24.11.5", "cluster": cluster},
    }


def error(number, words):
    return {"description": words, "error_number": number, "error": words, "source": "slurm"}


def pings():
    return [{"hostname": "here", "pinged": "UP", "latency": 1, "mode": "primary"}]


def refused_token(part):
    return 511, [error(1007, "Protocol authentication error")]


def without_controller(parts):
    return 500, [error(1800, "Unable to contact slurm controller (connect failure)")]


def without_accounts():
    return 500, {"meta": {}, "errors": [error(7000, "Unable to connect to database")]}


def unknown_job(method, job_id):
    if method == "DELETE":
        said = {"string": "Invalid job id specified", "code": 2017, "message": "Job not found"}
        return 200, {"status": [{"error": said, "step_id": job_id, "job_id": unset()}]}
    return 404, {"errors": [error(2017, "Invalid job id specified")]}


def ended_job():
    return 500, [error(2021, "Job/step already completing or completed")]


def cannot_signal(job):
    said = {"string": "Job can not be altered now, try again later", "code": 2020, "message": ""}
    return 200, {
        "status": [{"error": said, "step_id": str(job["id"]), "job_id": number(job["id"])}]
    }


def unknown_update(keys):
    return {"warnings": [ignored(key) for key in keys]}


def held():
    return {
        "warnings": [{"description": "Job is in held state", "source": "slurm_submit_batch_job()"}]
    }


def ignored(key):
    return {"description": f'Ignoring unknown field "{key}"', "source": "#/job/"}


def read_submission(body):
    job = dict(body.get("job", {}))
    warnings = [ignored(key) for key in job if key not in JOB_KEYS]
    job = {key: value for key, value in job.items() if key in JOB_KEYS}
    if isinstance(job.get("environment"), dict):
        warnings.append({"description": "Expected list but got dictionary"})
    elif not job.get("environment"):
        raise RefusedError(500, [error(2019, "Environment missing")])
    if "current_working_directory" not in job:
        raise RefusedError(
            500, [error(2063, "Job cannot be submitted without the current working directory")]
        )
    script = job.get("script") or body.get("script")
    if not script:
        raise RefusedError(500, [error(9200, "Populated script field is required")])
    return job, script, warnings


def options(job):
    """As sbatch would be given it."""
    names = {
        "job-name": "name", "comment": "comment", "chdir": "current_working_directory",
        "output": "standard_output", "error": "standard_error", "cpus-per-task": "cpus_per_task",
        "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraints",
        "licenses": "licenses",
    }  # fmt: skip
    given = {name: str(job[key]) for name, key in names.items() if key in job}
    if "tres_per_node" in job:
        given["gres"] = job["tres_per_node"].removeprefix("gres/")
    for name, key in (("time", "time_limit"), ("mem", "memory_per_node")):
        if key in job:
            value = job[key]
            given[name] = str(value["number"] if isinstance(value, dict) else value)
    if job.get("shared") == ["none"]:
        given["exclusive"] = "exclusive"
    given["requeue"] = "1" if job.get("requeue", True) else "0"
    return given, bool(job.get("hold"))


def number(value):
    return {"set": True, "infinite": False, "number": value}


def unset():
    return {"set": False, "infinite": False, "number": 0}


def job(one, cluster, user):
    start_s = one["start_s"]
    live_end_s = start_s + one.get("limit_s", YEAR_S) if start_s else 0
    states = ["RUNNING", "COMPLETING"] if one["state"] == "COMPLETING" else [one["state"]]
    return {
        "job_id": one["id"], "name": one["name"], "job_state": states, "state_reason": one["reason"],
        "start_time": number(start_s), "end_time": number(one["end_s"] or live_end_s), "nodes": one["nodes"],
        "exit_code": exit_code(one), "comment": one["comment"], "user_name": user, "cluster": cluster,
        "partition": one["partition"], "cpus": number(one["cpus"]), "tres_alloc_str": tres(one),
        "resv_name": one.get("reservation", ""),
    }  # fmt: skip


def exit_code(one):
    status = "SIGNALED" if one["signal"] else "ERROR" if one["code"] else "SUCCESS"
    name = signal.Signals(one["signal"]).name.removeprefix("SIG") if one["signal"] else ""
    killed_by = number(one["signal"]) if one["signal"] else unset()
    return {
        "status": [status],
        "return_code": number(one["code"]),
        "signal": {"id": killed_by, "name": name},
    }


def accounted(one, cluster, user):
    code = exit_code(one)
    batch = {
        "step": {"id": f"{one['id']}.batch", "name": "batch"}, "state": [one["state"]], "exit_code": code,
        "statistics": {"energy": {"consumed": number(int(one["energy_j"] or 0))}},
    }  # fmt: skip
    elapsed_s = int((one["end_s"] or time.time()) - one["start_s"]) if one["start_s"] else 0
    nothing = {
        "status": ["SUCCESS"],
        "return_code": number(0),
        "signal": {"id": unset(), "name": ""},
    }
    return {
        "job_id": one["id"], "name": one["name"], "cluster": cluster, "user": user, "allocation_nodes": 1,
        "state": {"current": [one["state"]], "reason": "None"}, "nodes": one["nodes"] or "None assigned",
        "exit_code": code if not one["cancelled"] else nothing,
        "time": {"start": one["start_s"], "end": one["end_s"], "elapsed": elapsed_s},
        "steps": [batch] if one["nodes"] else [],
    }  # fmt: skip


def node(one, cpus, gpus):
    mode = one.get("state") or (
        "IDLE" if not cpus else "ALLOCATED" if cpus == one["cpus"] else "MIXED"
    )
    return {
        "name": one["name"], "state": mode.split("+"), "partitions": [one["partition"]], "cpus": one["cpus"],
        "effective_cpus": one["cpus"], "alloc_cpus": cpus, "reservation": one.get("reservation", ""),
        "gres": f"gpu:h100:{one['gpus']}(S:0)" if one["gpus"] else "",
        "gres_used": f"gpu:h100:{gpus}(IDX:0-1)" if one["gpus"] else "gpu:0",
    }  # fmt: skip


def partition(name, is_default):
    return {"name": name, "partition": {"state": ["UP"]}}


def reservation(one):
    cores = [{"node": one["nodes"], "core": f"0-{one['cpus'] - 1}"}] if "cpus" in one else []
    return {
        "name": one["name"], "start_time": number(one["start_s"]), "end_time": number(one["end_s"]),
        "node_list": one["nodes"], "flags": ["IGNORE_JOBS", "SPEC_NODES"], "tres": f"cpu={one.get('cpus', 8)}",
        "core_specializations": cores,
    }  # fmt: skip
