"""Kubernetes: what following five thousand running Jobs costs our own process, and jobs lost, doubled and late under kill -9."""

import json
import multiprocessing
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from adapters.cluster.kube_client import KubeClient
from adapters.cluster.kube_link import KubeLink
from adapters.cluster.kube_objects import KubeDevice, KubeTerms, build_job
from adapters.cluster.kube_watch import WatchPace
from adapters.cluster.kubernetes import KubePatience, KubernetesCluster
from scheduler.core.job import JobId
from scheduler.ports import Dispatch, RunState
from tests.benchmarks.measure import cpu_s, write
from tests.fakes.clock import ManualClock
from tests.integration.api_world import job
from tests.integration.crash_run import CrashRun, fast_clock
from tests.integration.kubernetes_world import NAMES, kube_cluster
from tests.integration.slurm_world import ServiceProcess, constant
from tests.unit.cluster.kube_api import ScriptedLogin
from tests.unit.cluster.kube_world import running_bed

Document = dict[str, Any]
N_JOBS: Final = 5000
ROUNDS: Final = 5
LAPSE: Final = 30.0
"""So many times faster than usual are watches renewed while requests are counted."""
COUNTED_S: Final = 20.0
CRASH_JOBS: Final = 60
DEVICE: Final = KubeDevice(resource="nvidia.com/gpu")
TERMS: Final = KubeTerms(image="registry.example.org/ml/train:1.2", checkpoints="/ck")


def run() -> None:
    """Writes build/bench/kubernetes.json."""
    following, how = _following()
    crashes, crashed = _crashes()
    write(
        "kubernetes",
        {**following, "requests_per_minute": _requests_per_minute(), **crashes},
        {
            "jobs": N_JOBS,
            "rounds": ROUNDS,
            "server": "scripted, a process of its own",
            **how,
            **crashed,
        },
    )


def run_name(number: int) -> str:
    return f"train-{number:05}.1.0"


def documents(kind: str) -> list[Document]:
    """Jobs as they are created, or their pods, with what a server adds to them."""
    made = []
    for number in range(N_JOBS):
        name = f"gt-train-{number:05}-1-0"
        dispatch = Dispatch(
            name=run_name(number),
            job_id=JobId(f"train-{number:05}"),
            command=("python", "train.py", "--config", "configs/large.yaml"),
            env=tuple((f"GRIDTIDE_{one}", "2026-03-03T00:00:00Z") for one in range(7)),
            workdir="/work",
            accelerator="H100",
            gpus=1,
            num_nodes=1,
            checkpoint_key=f"train-{number:05}",
        )
        document = build_job(dispatch, name=name, terms=TERMS, device=DEVICE, each=1)
        times = {"creationTimestamp": "2026-03-01T00:00:00Z", "resourceVersion": "7"}
        fields = {"fieldsV1": {f"f:{one}": {} for one in range(60)}, "manager": "gridtide"}
        if kind == "jobs":
            document["metadata"] |= {"uid": f"uid-{number}", "managedFields": [fields], **times}
            document["status"] = {"active": 1, "ready": 1, "startTime": "2026-03-01T00:00:01Z"}
            made.append(document)
            continue
        labels = {"batch.kubernetes.io/controller-uid": f"uid-{number}"}
        state = {"running": {"startedAt": "2026-03-01T00:00:05Z"}}
        meta = {"name": f"{name}-x", "uid": f"pod-{number}", "labels": labels, **times}
        made.append(
            {
                "metadata": meta | {"managedFields": [fields]},
                "spec": document["spec"]["template"]["spec"],
                "status": {"phase": "Running", "containerStatuses": [{"state": state}]},
            }
        )
    return made


def serve(pipe: Connection) -> None:
    """Lists in pages; watches send what the pipe asks for, once each, and stay open as long as asked."""
    lists = {kind: documents(kind) for kind in ("jobs", "pods")}
    lines = [
        json.dumps({"type": "MODIFIED", "object": one}).encode() + b"\n" for one in lists["jobs"]
    ]
    sending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: value[0] for key, value in parse_qs(url.query).items()}
            kind = url.path.rpartition("/")[2]
            if "watch" in query:
                self._watch(kind, float(query["timeoutSeconds"]))
                return
            at, limit = int(query.get("continue", 0)), int(query.get("limit", 500))
            rows = lists.get(kind, [])
            more = {"continue": str(at + limit)} if at + limit < len(rows) else {}
            page = {"metadata": {"resourceVersion": "9", **more}, "items": rows[at : at + limit]}
            body = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _watch(self, kind: str, seconds: float) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if kind == "jobs" and sending.wait(0.01):
                    sending.clear()
                    self.wfile.write(b"".join(lines))
                elif kind != "jobs":
                    time.sleep(0.01)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sizes = {kind: sum(len(json.dumps(one)) for one in rows) for kind, rows in lists.items()}
    pipe.send((server.server_port, sizes, sum(map(len, lines))))
    while pipe.recv():
        sending.set()


@contextmanager
def followed(
    pace: WatchPace,
) -> Iterator[tuple[KubernetesCluster, Connection, dict[str, int], int]]:
    """A cluster whose Jobs are all known, the other end of its server, and how big things are."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    port, sizes, event_bytes = here.recv()
    cluster = KubernetesCluster(
        "bench",
        client=KubeClient(KubeLink(ScriptedLogin(f"http://127.0.0.1:{port}"))),
        namespace="ml",
        capacity={"H100": N_JOBS},
        devices={"H100": DEVICE},
        terms=TERMS,
        clock=ManualClock(),
        patience=KubePatience(watch=pace),
    )
    cluster.free_devices()
    yield cluster, here, sizes, event_bytes
    cluster.close()
    here.send(False)
    process.join(10)


def _following() -> tuple[dict[str, float], dict[str, float]]:
    names = [run_name(number) for number in range(N_JOBS)]
    with followed(WatchPace(relist_s=3600, watch_s=3000)) as (cluster, pipe, sizes, event_bytes):
        known = cluster.poll(names)
        assert {status.state for status in known.values()} == {RunState.RUNNING}
        assert len(known) == N_JOBS
        polls = [cpu_s(lambda: cluster.poll(names)) for _ in range(ROUNDS)]
        jobs = cluster._book.jobs

        def take_all() -> None:
            until = jobs.events + N_JOBS
            pipe.send(True)
            while jobs.events < until:
                time.sleep(0.001)

        events = [cpu_s(take_all) for _ in range(ROUNDS)]
        lists = [cpu_s(jobs._list) for _ in range(ROUNDS)]
    return {
        "cpu_ms_per_poll": statistics.median(polls) * 1000,
        "cpu_us_per_event": statistics.median(events) / N_JOBS * 1e6,
        "bytes_per_event": event_bytes / N_JOBS,
        "cpu_ms_per_relist": statistics.median(lists) * 1000,
        "bytes_per_relist": float(sizes["jobs"]),
    }, {"pods": N_JOBS, "bytes_of_pods": sizes["pods"]}


def _requests_per_minute() -> float:
    """While all goes well and nothing happens: of watches renewed and lists repeated, on a faster pace."""
    usual = WatchPace()
    pace = WatchPace(relist_s=usual.relist_s / LAPSE, watch_s=round(usual.watch_s / LAPSE))
    with followed(pace) as (cluster, *_):
        link = cluster._client.link
        before, began = link.requests, time.monotonic()
        time.sleep(COUNTED_S)
        return (link.requests - before) / (time.monotonic() - began) * 60 / LAPSE


def _crashes() -> tuple[dict[str, float], dict[str, str | float]]:
    """Jobs that a service killed again and again lost, doubled, or brought to their end too late."""
    bed, prefix = running_bed(), f"g{uuid.uuid4().hex[:8]}-"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ran = folder / "ran"
        settings = {
            "clock": fast_clock(10.0),
            "intensity": constant(folder),
            "planning": {"tick_every": 0.2},
            "clusters": [kube_cluster(folder, one, bed, prefix=prefix) for one in NAMES],
        }
        spec = job(
            command=["sh", "-c", f"echo $GRIDTIDE_JOB_ID >> {ran}; sleep 1"],
            duration="1m",
            patience="1h",
        )
        run = CrashRun(
            service=ServiceProcess(folder, settings),
            ran=ran,
            kill_after_s=(2.0, 4.0),
            most_s=300.0,
        )
        became = run.survive([spec] * CRASH_JOBS)
    counts = {"lost": became.lost, "doubled": became.doubled, "late": became.late}
    how = {"crash_jobs": CRASH_JOBS, "crash_kills": became.kills, "crash_seed": run.seed}
    return {key: float(len(ids)) for key, ids in counts.items()}, {
        **how,
        "crash_clusters": "simulated, east and west of the test bed",
    }
