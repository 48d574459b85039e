"""A fake slurmrestd: `python -I -S slurmrestd.py SLURM_CONF PORT_FILE`. Standard library only.

It runs the jobs of the same folder as the fake commands. What it takes, refuses and says is what
slurmrestd of 22.05.8 (v0.0.38) and of 24.11.5 (v0.0.42) was seen to do; `rest` in the configuration says
which of the two it is, whose tokens are good, and what goes wrong.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(__file__))
import rest_new
import rest_old
from commands import build_job, can_ever_run, cancel
from state import OVER, State, signal_group

HELD_S = 4_000_000_000
DIALECTS = {"old": rest_old, "new": rest_new}


class AnswerError(Exception):
    """Ends a request with this status and document."""

    def __init__(self, status, document, media="application/json"):
        super().__init__(status)
        self.status = status
        self.document = document
        self.media = media


class Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    conf = ""

    def do_GET(self):
        self.answer("GET")

    def do_POST(self):
        self.answer("POST")

    def do_DELETE(self):
        self.answer("DELETE")

    def answer(self, method):
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        state = State(self.conf)
        try:
            Request(state, method, self.path, dict(self.headers.items()), body).handle()
        except AnswerError as answer:
            self.reply(answer)

    def reply(self, answer):
        if answer.document is None:
            raw = b""
        elif answer.media == "application/json":
            raw = json.dumps(answer.document).encode("ascii")
        else:
            raw = answer.document.encode()
        if answer.status == 0:  # the reply gets lost
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format, *args):
        pass


class Request:
    def __init__(self, state, method, target, headers, body):
        self.state = state
        self.method = method
        split = urllib.parse.urlsplit(target)
        self.path = split.path
        self.query = dict(urllib.parse.parse_qsl(split.query))
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body
        self.rest = state.conf["rest"]
        self.dialect = DIALECTS[self.rest["dialect"]]

    def handle(self):
        note(self.state, f"{self.method} {self.path}")
        self.misbehave()
        if not {"x-slurm-user-name", "x-slurm-user-token"} <= set(self.headers):
            raise AnswerError(401, "Authentication failure", "text/plain")
        if self.path == "/openapi/v3":
            has_accounts = self.state.conf["has_accounts"]
            raise AnswerError(200, self.dialect.describe(self.rest["versions"], has_accounts))
        parts = self.path.strip("/").split("/")
        known = {"slurm": self.slurm, "slurmdb": self.slurmdb}.get(parts[0])
        if known is None or len(parts) < 3 or parts[1] not in self.rest["versions"]:
            raise AnswerError(404, "Unable find requested URL.", "text/plain")
        known(*parts[2:])
        raise AnswerError(404, "Unable find requested URL.", "text/plain")

    def misbehave(self):
        fault = self.rest.get("fault")
        if fault == "hang":
            time.sleep(60)
        if isinstance(fault, dict) and self.path.strip("/").endswith(fault["at"]):
            raise AnswerError(
                fault["status"], fault["document"], fault.get("media", "application/json")
            )

    def knows_user(self):
        name, token = self.headers["x-slurm-user-name"], self.headers["x-slurm-user-token"]
        return self.rest["tokens"].get(name) == token

    # ------------------------------------------------------------------ controller

    def slurm(self, *parts):
        if parts == ("ping",) and self.dialect.PINGS_ANYBODY:
            raise AnswerError(200, self.reply(pings=self.dialect.pings()))
        if not self.knows_user():
            status, errors = self.dialect.refused_token(parts[0])
            raise AnswerError(status, self.reply(errors=errors))
        if self.rest.get("fault") == "down":
            status, errors = self.dialect.without_controller(parts)
            raise AnswerError(status, self.reply(errors=errors))
        match self.method, parts:
            case "GET", ("ping",):
                raise AnswerError(200, self.reply(pings=self.dialect.pings()))
            case "GET", ("jobs",):
                self.list_jobs()
            case "GET", (("nodes" | "partitions" | "reservations") as what,):
                raise AnswerError(200, self.reply(**{what: getattr(self, what)()}))
            case "POST", ("job", "submit"):
                self.submit()
            case _, ("job", job_id):
                self.job(job_id)

    def list_jobs(self):
        if float(self.query.get("update_time", 0)) > time.time():
            if self.dialect is rest_old:
                raise AnswerError(304, None)
            raise AnswerError(200, self.reply(jobs=[]))
        jobs = [self.dialect.job(job, self.cluster(), user_of(job)) for job in self.state.queued()]
        raise AnswerError(200, self.reply(jobs=jobs))

    def job(self, job_id):
        job = self.state.job(job_id) if job_id.isdigit() else None
        if job is not None and job not in self.state.queued():
            job = None
        if job is None:
            status, document = self.dialect.unknown_job(self.method, job_id)
            raise AnswerError(status, self.reply(**document))
        if self.method == "GET":
            shown = self.dialect.job(job, self.cluster(), user_of(job))
            raise AnswerError(200, self.reply(jobs=[shown]))
        with self.state.lock():
            job = self.state.job(job_id)
            if self.method == "DELETE":
                self.signal(job)
            else:
                self.update(job)

    def signal(self, job):
        name = self.query.get("signal")
        if job["state"] in OVER:
            raise AnswerError(200, self.reply())
        if name not in (None, "TERM", "KILL"):
            raise AnswerError(
                400, self.reply(errors=[{"error_number": 9000, "error": "invalid signal"}])
            )
        if name == "TERM" and job["state"] != "RUNNING":
            status, document = self.dialect.cannot_signal(job)
            raise AnswerError(status, self.reply(**document))
        if name == "TERM":
            signal_group(job, signal.SIGTERM)
        else:
            cancel(self.state, job)
            self.state.schedule()
        raise AnswerError(200, self.reply())

    def update(self, job):
        if job["state"] in OVER:
            status, errors = self.dialect.ended_job()
            raise AnswerError(status, self.reply(errors=errors))
        changes, complaints = {}, []
        for key, value in self.parsed().items():
            if key == "comment":
                changes["comment"] = value
            elif key == "hold":
                changes["begin_s"] = HELD_S if value else 0
                changes["reason"] = "JobHeldUser" if value else "None"
            else:
                complaints.append(key)
        self.state.write(job | changes)
        self.state.schedule()
        raise AnswerError(200, self.reply(**self.dialect.unknown_update(complaints)))

    def submit(self):
        body = self.parsed()
        try:
            job, script, warnings = self.dialect.read_submission(body)
        except self.dialect.RefusedError as refused:
            raise AnswerError(refused.status, self.reply(errors=refused.errors)) from None
        options, held = self.dialect.options(job)
        partition = options.get("partition") or self.state.conf["nodes"][0]["partition"]
        nodes = [one for one in self.state.conf["nodes"] if one["partition"] == partition]
        if not nodes:
            self.refuse(2000, "Invalid partition name specified")
        if len(options.get("comment", "")) > 1024:
            self.refuse(2012, "Pathname of a file, directory or other parameter too long")
        self.add(options, partition, script, {"nodes": nodes, "held": held, "warnings": warnings})

    def add(self, options, partition, script, how):
        with self.state.lock():
            new = build_job(self.state, options, partition, script.encode())
            new |= {"user": self.headers["x-slurm-user-name"]}
            if how["held"]:
                new |= {"begin_s": HELD_S, "reason": "JobHeldUser"}
            self.state.write(new)
            if not can_ever_run(new, options, how["nodes"]):
                now_s = int(time.time())
                new |= {"state": "FAILED", "reason": "BadConstraints", "code": 1}
                self.state.write(new | {"start_s": now_s, "end_s": now_s})
                self.refuse(2014, "Requested node configuration is not available")
            self.state.schedule()
        if self.rest.get("fault") == "reply lost":
            raise AnswerError(0, None)
        held = self.dialect.held() if how["held"] else {}
        extra = {"job_id": new["id"], "step_id": self.dialect.STEP, "job_submit_user_msg": ""}
        raise AnswerError(200, self.reply(**extra, **({"warnings": how["warnings"]} | held)))

    def refuse(self, number, words):
        raise AnswerError(500, self.reply(errors=[self.dialect.error(number, words)], job_id=0))

    def parsed(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise AnswerError(400, "Unable to parse query.", "text/plain") from None

    def nodes(self):
        jobs = self.state.jobs()
        return [
            self.dialect.node(node, *self.state.taken(node, jobs))
            for node in self.state.conf["nodes"]
        ]

    def partitions(self):
        names = dict.fromkeys(node["partition"] for node in self.state.conf["nodes"])
        return [self.dialect.partition(name, not index) for index, name in enumerate(names)]

    def reservations(self):
        return [self.dialect.reservation(one) for one in self.state.conf.get("reservations", [])]

    # ------------------------------------------------------------------ accounts

    def slurmdb(self, *parts):
        if parts == ("clusters",):
            names = [*self.rest.get("others", []), self.cluster()]
            raise AnswerError(200, self.reply(clusters=[{"name": name} for name in names]))
        if parts != ("jobs",) or not self.state.conf["has_accounts"]:
            return
        if not self.knows_user():
            error = self.dialect.error(1007, "Protocol authentication error")
            raise AnswerError(200, self.reply(errors=[error], jobs=[]))
        if self.rest.get("fault") == "no accounts":
            raise AnswerError(*self.dialect.without_accounts())
        times = [self.query.get(name, "uts0") for name in ("start_time", "end_time")]
        if not all(one.startswith("uts") for one in times):
            raise AnswerError(
                500, self.reply(errors=[{"error_number": 9000, "error": "Unable to parse"}])
            )
        names = self.query["job_name"].split(",") if "job_name" in self.query else None
        found = [
            self.dialect.accounted(job, job.get("cluster", self.cluster()), user_of(job))
            for job in self.state.jobs()
            if (names is None or job["name"] in names)
            and job.get("cluster", self.cluster())
            in self.query.get("cluster", self.cluster()).split(",")
        ]
        nothing = {"description": "Nothing found", "error_number": 9003}
        raise AnswerError(200, self.reply(jobs=found, errors=[] if found else [nothing]))

    def cluster(self):
        return self.rest["cluster"]

    def reply(self, **parts):
        return {"meta": self.dialect.meta(self.cluster()), "errors": []} | parts


def user_of(job):
    return job.get("user", "me")


def note(state, line):
    with open(os.path.join(state.folder, "requests"), "a", encoding="utf-8") as file:
        file.write(line + "\n")


def reap(number, frame):
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main():
    signal.signal(signal.SIGCHLD, reap)  # jobs that it starts are nobody's to wait for
    conf, port_file = sys.argv[1:]
    Exchange.conf = conf
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
    with open(f"{port_file}.tmp", "w", encoding="utf-8") as file:
        file.write(str(server.server_port))
    os.replace(f"{port_file}.tmp", port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
