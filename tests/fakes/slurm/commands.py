"""The fake commands: `python -I -S commands.py NAME ARGUMENT...`. Standard library only.

What they print, and their exit codes, are those of Slurm 22.05.8 as they were seen.
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
from natives import change, field, is_permitted, is_shown, runs_of, stamp
from state import LIVE, OVER, State, me, now_s, signal, signal_group

NOW = re.compile(r"now([+-]\d+)(day|minute)s?")
SAID = {
    "down": "Unable to contact slurm controller (connect failure)",
    "munge": "If munged is up, restart with --num-threads=10; Munge encode failed: Failed to access",
    "lost": "Socket timed out on send/recv operation",
    "skew": "Zero Bytes were transmitted or received",
    "refused": "Problem talking to the database: Connection refused",
}


def parse(arguments):
    """Options and the rest; every option is written `--name=value`, or is a flag."""
    options, rest = {}, []
    for argument in arguments:
        if argument.startswith("--"):
            name, _, value = argument[2:].partition("=")
            options[name] = value
        else:
            rest.append(argument)
    return options, rest


def fail(name, text, code=1):
    sys.stderr.write("".join(f"{name}: error: {line}\n" for line in text.split("\n")))
    return code


# ---------------------------------------------------------------------------------- sbatch

ABOUT = {
    "version": "slurm 22.05.8",
    "help": "Options provided by plugins:\n      --container-image=IMAGE  what to run in",
}
KNOWN = [
    "parsable",
    "job-name",
    "export",
    "no-requeue",
    "requeue",
    "open-mode",
    "chdir",
    "output",
    "error",
    "nodes",
    "ntasks",
    "clusters",
    "comment",
    "cpus-per-task",
    "gres",
    "partition",
    "account",
    "qos",
    "constraint",
    "licenses",
    "reservation",
    "time",
    "exclusive",
    "mem",
    "begin",
    "hold",
    "wrap",
    "version",
]


def sbatch(state, options, rest):
    told = next((ABOUT[name] for name in options if name in ABOUT), None)
    if told is not None:
        print(told)
        return 0
    script = read_script(options, rest)
    if script is None:
        return fail("sbatch", f"Unable to open file {rest[0]}")
    partition = options.get("partition") or state.conf["nodes"][0]["partition"]
    nodes = [node for node in state.conf["nodes"] if node["partition"] == partition]
    wrong = find_mistake(options, partition, nodes, script)
    if wrong is not None:
        return wrong
    with state.lock():
        job = build_job(state, options, partition, script)
        state.write(job)
        if not can_ever_run(job, options, nodes):
            at_s = int(now_s())
            job |= {"state": "FAILED", "reason": "BadConstraints", "code": 1}
            state.write(job | {"start_s": at_s, "end_s": at_s})
            return refuse("Requested node configuration is not available")
        state.schedule()
    if state.conf["faults"].get("sbatch") == "reply lost":
        return refuse(SAID["lost"])
    print(f"{job['id']};{options['clusters']}" if "clusters" in options else job["id"])
    return 0


def read_script(options, rest):
    """The script's bytes, wherever they are; None where the file is not there."""
    if "wrap" in options:
        return f"#!/bin/sh\n{options['wrap']}\n".encode()
    if not rest:
        return sys.stdin.buffer.read()
    try:
        with open(rest[0], "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def find_mistake(options, partition, nodes, script):
    """The exit code of a submission that leaves no trace; None where all is well."""
    unknown = [name for name in options if name not in KNOWN]
    if unknown:
        sys.stderr.write(f"sbatch: unrecognized option '--{unknown[0]}'\n")
        return 255
    if b"\r\n" in script:
        fail("sbatch", "Batch script contains DOS line breaks (\\r\\n)")
        return fail("sbatch", "instead of expected UNIX line breaks (\\n).")
    if not nodes:
        fail("sbatch", f"invalid partition specified: {partition}")
        return refuse("Invalid partition name specified")
    if len(options.get("comment", "")) > 1024:
        return refuse("Pathname of a file, directory or other parameter too long")
    return None


def refuse(why):
    return fail("sbatch", f"Batch job submission failed: {why}")


def build_job(state, options, partition, script):
    gres = options.get("gres", "").rpartition(":")
    name = options.get("job-name", "sbatch")
    where = options.get("chdir") or os.getcwd()
    job_id = max([job["id"] for job in state.jobs()], default=0) + 1
    output = file_name(options.get("output", "slurm-%j.out"), where, job_id)
    return {
        "id": job_id, "name": name, "comment": options.get("comment", ""), "state": "PENDING", "reason": "None",
        "partition": partition, "cpus": int(options.get("cpus-per-task", 1)), "gpus": int(gres[2] or 0), "nodes": "",
        "submit_s": int(now_s()), "begin_s": begin(options), "start_s": 0, "end_s": 0, "code": 0, "signal": 0, "pid": 0,
        "cancelled": False, "energy_j": "", "chdir": where, "output": output,
        "error": file_name(options["error"], where, job_id) if "error" in options else output,
        "script": script.decode("utf-8", "surrogateescape"), "options": options,
        "user": me(), "held": "hold" in options, "restarts": 0, "runs": [], "may_requeue": "no-requeue" not in options,
    }  # fmt: skip


def begin(options):
    text = options.get("begin", "uts0")
    return int(text.removeprefix("uts"))


def file_name(pattern, where, job_id):
    """Relative names count from the working directory."""
    put = {"%%": "%", "%j": str(job_id), "%A": str(job_id)}
    return os.path.join(where, re.sub("%[%jA]", lambda mark: put[mark[0]], pattern))


def can_ever_run(job, options, nodes):
    """Slurm refuses impossible gres at once; too many CPUs, or nodes, wait for ever."""
    gres = options.get("gres", "")
    fits = any(node["gpus"] >= job["gpus"] for node in nodes)
    return not gres or (fits and gres.startswith(("gpu:h100:", "gpu:2", "gpu:1")))


# ---------------------------------------------------------------------------------- squeue


def squeue(state, options, rest):
    with state.lock():
        state.schedule()  # begin times have come
    wanted = options["jobs"].split(",") if "jobs" in options else []
    if len(wanted) == 1 and not any(str(job["id"]) in wanted for job in state.queued()):
        sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
        return 1
    for job in state.queued():
        if is_shown(job, options):
            print("".join(field(job, one) for one in options["Format"].split(",")))
    return 0


# ----------------------------------------------------------------------------------- sacct


def sacct(state, options, rest):
    if not state.conf["has_accounts"]:
        sys.stderr.write("Slurm accounting storage is disabled\n")
        return 1
    names = options["name"].split(",") if "name" in options else None
    ids = options["jobs"].split(",") if "jobs" in options else None
    from_s, to_s = moment(options.get("starttime")), moment(options.get("endtime"))
    runs = [run for job in state.jobs() for run in runs_of(job)]
    for job in runs:
        eligible_s = job["begin_s"] or job["submit_s"]
        is_asked = (names is None or job["name"] in names) and (
            ids is None or str(job["id"]) in ids
        )
        is_visible = "allusers" in options or job["user"] == me()
        if is_asked and is_visible and from_s <= eligible_s <= to_s:
            fields = options.get("format", "JobIDRaw,State").split(",")
            print("|".join(account(job, one) for one in fields))
            if job["nodes"] and "allocations" not in options:
                print("|".join(account_step(job, one) for one in fields))
    return 0


def moment(text):
    match = NOW.fullmatch(text or "")
    if match is None:
        return now_s() if text is None else 0
    return now_s() + int(match[1]) * (86400 if match[2] == "day" else 60)


def account(job, name):
    """A killed job's own line says 0:0, and a refused one gives no reason."""
    is_over, is_cancelled = job["state"] in OVER, job["state"] == "CANCELLED"
    return {
        "JobIDRaw": str(job["id"]),
        "JobName": job["name"],
        "State": "CANCELLED by 0" if is_cancelled else job["state"],
        "ExitCode": "0:0" if is_cancelled else f"{job['code']}:{job['signal']}",
        "NodeList": job["nodes"] or "None assigned",
        "NNodes": "1",
        "Start": stamp(job["start_s"], "None" if is_over else "Unknown"),
        "End": stamp(job["end_s"], "Unknown"),
        "ElapsedRaw": str(int((job["end_s"] or now_s()) - job["start_s"]) if job["start_s"] else 0),
        "ConsumedEnergyRaw": job["energy_j"],
        "Reason": "None",
        "Comment": job["comment"] if is_over else "",
    }[name]


def account_step(job, name):
    if name == "JobIDRaw":
        return f"{job['id']}.batch"
    if name == "ExitCode":
        return f"{job['code']}:{job['signal']}"
    if name == "ConsumedEnergyRaw":
        return "0"
    return {"JobName": "batch", "State": job["state"], "Reason": ""}.get(name) or account(job, name)


# ----------------------------------------------------------------------- scancel, scontrol


def scancel(state, options, rest):
    outcome = 0
    with state.lock():
        for job_id in rest:
            job = state.job(job_id)
            if job is not None and not is_permitted(state, job):
                denied = f"Kill job error on job id {job_id}: Access/permission denied"
                outcome = max(outcome, fail("scancel", denied, 210))
            elif "signal" in options:
                outcome = max(outcome, send(state, job, job_id, options["signal"]))
            elif job is not None and job["state"] in options.get("state", job["state"]).split(","):
                cancel(state, job)
        state.schedule()
    return outcome


def send(state, job, job_id, name):
    if job is None or job["state"] in OVER:
        return fail("scancel", f"Kill job error on job id {job_id}: Invalid job id specified")
    if name != "KILL" and job["state"] != "RUNNING":
        return fail(
            "scancel",
            f"Kill job error on job id {job_id}: Job can not be altered now, try again later",
            228,
        )
    if name == "KILL":
        cancel(state, job)
    else:
        signal_group(job, getattr(signal, f"SIG{name}"))
    return 0


def cancel(state, job):
    if job["state"] in OVER:
        return
    job["cancelled"] = True
    if job["pid"]:
        signal_group(job, signal.SIGKILL)
    else:  # waiting, or not launched yet
        was_running = job["state"] in LIVE
        job |= {"state": "CANCELLED", "end_s": int(now_s()), "signal": 9 if was_running else 0}
        if not was_running:
            job["start_s"] = 0
    state.write(job)


def scontrol(state, options, rest):
    match rest:
        case ["ping"]:
            print("Slurmctld(primary) at here is UP")
            return 0
        case ["show", ("config" | "node" | "reservation") as what]:
            shows = {"config": show_config, "node": show_nodes, "reservation": show_reservations}
            return shows[what](state)
        case [("update" | "hold" | "uhold" | "release" | "requeue") as verb, job_id, *changes]:
            return change(state, verb, job_id.removeprefix("JobId="), changes)
        case [("suspend" | "resume") as verb, job_id]:
            return freeze(state, verb, job_id)
    return fail("scontrol", f"invalid entity: {rest}")


def freeze(state, verb, job_id):
    before, after = ("RUNNING", "SUSPENDED") if verb == "suspend" else ("SUSPENDED", "RUNNING")
    with state.lock():
        job = state.job(job_id)
        if job is None or job["state"] != before:
            return fail("scontrol", f"Job/step already completing or completed for job {job_id}")
        state.write(job | {"state": after})
        signal_group(job, signal.SIGSTOP if verb == "suspend" else signal.SIGCONT)
        state.schedule()
    return 0


def show_config(state):
    print(f"Configuration data as of {stamp(now_s(), '')}")
    print(f"MinJobAge               = {state.conf['min_job_age_s']} sec")
    print("MessageTimeout          = 10 sec")
    return 0


def show_nodes(state):
    jobs = state.jobs()
    for node in state.conf["nodes"]:
        cpus, gpus = state.taken(node, jobs)
        has = f"gpu:h100:{node['gpus']}(S:0)" if node["gpus"] else "(null)"
        used = f"gpu:h100:{gpus}(IDX:{'0' if gpus else 'N/A'})" if node["gpus"] else "gpu:0"
        mode = node.get("state") or (
            "IDLE" if not cpus else "ALLOCATED" if cpus == node["cpus"] else "MIXED"
        )
        print(
            f"NodeName={node['name']} Arch=x86_64 CoresPerSocket=1  CPUAlloc={cpus} CPUEfctv={node['cpus']} "
            f"CPUTot={node['cpus']} CPULoad=3.12 Gres={has} GresDrain=N/A GresUsed={used} NodeAddr=127.0.0.1 "
            f"OS=Linux 6.1.0 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=65536 State={mode} ThreadsPerCore=1 "
            f"Partitions={node['partition']}  CfgTRES=cpu={node['cpus']} AllocTRES=cpu={cpus}"
            + (f" ReservationName={node['reservation']}" if "reservation" in node else "")
        )
    return 0


def show_reservations(state):
    kept = state.conf.get("reservations", [])
    if not kept:
        print("No reservations in the system")
    for one in kept:
        times = f"StartTime={stamp(one['start_s'], '')} EndTime={stamp(one['end_s'], '')} Duration=01:00:00"
        cores = f"  NodeName={one['nodes']} CoreIDs=0-{one['cpus'] - 1}" if "cpus" in one else ""
        cpus = one.get("cpus", 8)
        print(
            f"ReservationName={one['name']} {times} Nodes={one['nodes']} NodeCnt=1 CoreCnt={cpus} Features=(null) "
            f"PartitionName=(null) Flags=IGNORE_JOBS,SPEC_NODES {cores} TRES=cpu={cpus} Users=root Groups=(null) "
            "Accounts=(null) Licenses=(null) State=INACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)"
        )
    return 0


def sinfo(state, options, rest):
    names = list(dict.fromkeys(node["partition"] for node in state.conf["nodes"]))
    print("\n".join([names[0] + "*", *names[1:]]))
    return 0


def main():
    name, *arguments = sys.argv[1:]
    state = State(os.environ["SLURM_CONF"])
    options, rest = parse(arguments)
    fault = state.conf["faults"].get(name)
    if fault == "hang":
        time.sleep(120)
    if fault in SAID:
        words = SAID[fault]
        if name == "scontrol" and rest == ["ping"]:
            print("Slurmctld(primary) at here is DOWN")
            return fail(name, words) if fault == "munge" else 1
        if name == "scontrol":
            sys.stderr.write(f"slurm_load: error: {words}\n")
            return 1
        return fail(name, words)
    if fault is not None and fault.startswith("say "):
        return fail(name, fault.removeprefix("say "))
    return globals()[name](state, options, rest)


if __name__ == "__main__":
    sys.exit(main())
