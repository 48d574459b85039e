"""Kueue and MultiKueue for the simulated clusters beside this file, as far as a job scheduler sees them (API v1beta2).

`kubernetes kueue NAME` serves its API and starts its controllers in a running cluster; without that the API group is
absent. Queues, checks and workers are then made by whoever tests, as an administrator makes them.

- The webhook: a Job with the label `kueue.x-k8s.io/queue-name` is created suspended; in a queue with a MultiKueue check
  it gets `spec.managedBy`.
- One Workload for each such Job (ownerReference, label `kueue.x-k8s.io/job-uid`), with the conditions QuotaReserved,
  Admitted, Evicted and Finished; quota by ClusterQueue, in order of priority and age; `spec.active`; checks, of which
  every one must be Ready, and whose AdmissionChecks must say that they are Active, before anything is admitted.
- `spec.suspend` is Kueue's: whatever others write there is put back.
- MultiKueue: the clusters in `status.nominatedClusterNames` get a copy of the Workload; the first that admits it gets
  the Job and goes into `status.clusterName`, the other copies go, and its status comes back. A MultiKueueCluster names
  the simulated cluster in `spec.clusterSource.kubeConfig.location`. The dispatcher is always an external one.

Status is written as Kueue writes it: applied by the field manager `kueue-admission`, with all that this one has to say.
So a name that another manager has nominated cannot be taken away by it, and the Workload is never admitted: as there.
"""

import copy
import json
import threading
import traceback
import zlib
from fractions import Fraction

GROUP = "kueue.x-k8s.io"
API = f"{GROUP}/v1beta2"
QUEUE = f"{GROUP}/queue-name"
PREBUILT = f"{GROUP}/prebuilt-workload-name"
JOB_UID = f"{GROUP}/job-uid"
MULTIKUEUE = f"{GROUP}/multikueue"
OWNER = "kueue-admission"
KINDS = {
    "workloads": ("Workload", True),
    "localqueues": ("LocalQueue", True),
    "clusterqueues": ("ClusterQueue", False),
    "admissionchecks": ("AdmissionCheck", False),
    "multikueueconfigs": ("MultiKueueConfig", False),
    "multikueueclusters": ("MultiKueueCluster", False),
}
MAX_NOMINATED = 10


def definitions():
    """The custom resources, for who installs them."""
    for plural, (kind, namespaced) in KINDS.items():
        yield {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced" if namespaced else "Cluster",
                "names": {"plural": plural, "kind": kind},
                "versions": [{"name": "v1beta2", "subresources": {"status": {}}}],
            },
        }


class Kueue:
    """The webhook and the controllers of one cluster; `sim` is the module of the test bed."""

    def __init__(self, cluster, sim):
        self.c, self.sim = cluster, sim

    @property
    def is_installed(self):
        return f"{GROUP}/workloads" in self.c.by_key

    def all(self, plural, ns=None):
        return self.c.store.all(f"{GROUP}/{plural}", ns)

    def one(self, plural, name, ns=""):
        return self.c.store.objs.get((f"{GROUP}/{plural}", ns, name))

    # ------------------------------------------------------------------ what the API server does for Kueue
    def webhook(self, job):
        queue = (job["metadata"].get("labels") or {}).get(QUEUE)
        if not self.is_installed or not queue:
            return
        job["spec"]["suspend"] = True
        if self.multi_check(self.queue_of(queue, job["metadata"]["namespace"])) is not None:
            job["spec"].setdefault("managedBy", MULTIKUEUE)

    def check(self, res, new, old):
        """Rules of the Workload's schema."""
        if res.key != f"{GROUP}/workloads":
            return
        get, name = self.sim.get, new["metadata"]["name"]
        nominated, chosen = get(new, "status.nominatedClusterNames"), get(new, "status.clusterName")
        was = get(old, "status.clusterName")
        why = None
        if was and chosen and was != chosen:
            why = "clusterName is immutable once set"
        elif chosen and nominated:
            why = "clusterName and nominatedClusterNames are mutually exclusive"
        elif len(nominated or []) > MAX_NOMINATED:
            why = f"must have at most {MAX_NOMINATED} items"
        if why:
            raise self.c.invalid(
                res, name, [("status", f"status: Invalid value: {why}", "FieldValueInvalid")]
            )

    # ------------------------------------------------------------------ the controllers
    def step(self):
        """One round; the caller holds the store's lock."""
        if not self.is_installed:
            return
        for check in self.all("admissionchecks"):
            if self.sim.get(check, "spec.controllerName") == MULTIKUEUE:
                self.activate(check)
        jobs = {j["metadata"]["uid"]: j for j in self.c.store.all("batch/jobs")}
        for job in jobs.values():
            self.ensure_workload(job)
        line = sorted(
            self.all("workloads"),
            key=lambda w: (
                -self.sim.get(w, "spec.priority", 0),
                w["metadata"]["creationTimestamp"],
                w["metadata"]["name"],
            ),
        )
        for wl in line:
            try:
                self.reconcile(copy.deepcopy(wl), jobs)
            except (
                self.sim.ApiError
            ) as e:  # a write that others make impossible: tried again, as there
                self.last_error = str(e)

    def activate(self, check):
        if self.sim.cond(check, "Active") != "True":
            check = copy.deepcopy(check)
            check.setdefault("status", {})
            self.sim.set_cond(check, "Active", "True", "Active", "The admission check is active")
            self.c.store.put(self.c.by_key[f"{GROUP}/admissionchecks"], check)

    def ensure_workload(self, job):
        m, labels = job["metadata"], job["metadata"].get("labels") or {}
        if not labels.get(QUEUE) or m.get("deletionTimestamp") or self.ended(job):
            return
        if labels.get(PREBUILT):
            wl = self.one("workloads", labels[PREBUILT], m["namespace"])
            if wl is not None and not wl["metadata"].get("ownerReferences"):
                wl = copy.deepcopy(wl)
                wl["metadata"]["ownerReferences"] = [self.reference(job)]
                wl["metadata"].setdefault("labels", {})[JOB_UID] = m["uid"]
                self.c.store.put(self.c.by_key[f"{GROUP}/workloads"], wl)
            return
        mine = [w for w in self.all("workloads", m["namespace"]) if self.owner_uid(w) == m["uid"]]
        for wl in map(copy.deepcopy, mine):
            wl["spec"]["queueName"] = labels[QUEUE]
            self.c.store.put(self.c.by_key[f"{GROUP}/workloads"], wl)
        if mine:
            return
        s = job["spec"]
        count = (
            s["parallelism"]
            if s.get("completions") is None
            else min(s["parallelism"], s["completions"])
        )
        body = {
            "metadata": {
                "name": f"job-{m['name'][:50]}-{zlib.crc32(m['uid'].encode()) & 0xFFFFF:05x}",
                "labels": {JOB_UID: m["uid"]},
                "ownerReferences": [self.reference(job)],
            },
            "spec": {
                "active": True,
                "priority": 0,
                "queueName": labels[QUEUE],
                "podSets": [
                    {"name": "main", "count": count, "template": copy.deepcopy(s["template"])}
                ],
            },
        }
        self.c.create(self.c.by_key[f"{GROUP}/workloads"], m["namespace"], body)

    def reconcile(self, wl, jobs):
        wl.setdefault("status", {})
        if self.owner_uid(wl) and self.owner_uid(wl) not in jobs:
            return self.c.store.remove(self.c.by_key[f"{GROUP}/workloads"], wl)
        job = jobs.get(self.owner_uid(wl))
        if self.sim.cond(wl, "Finished") == "True":
            return None
        if job is not None and self.ended(job):
            ok = self.sim.cond(job, "Complete") == "True"
            self.sim.set_cond(
                wl, "Finished", "True", "Succeeded" if ok else "Failed", "Job finished"
            )
            return self.write(wl)
        queue = self.queue_of(wl["spec"]["queueName"], wl["metadata"]["namespace"])
        self.sync_checks(wl, queue)
        self.turn_away(wl, queue)
        self.place(wl, job, queue)
        self.write(wl)
        if job is not None and (job["metadata"].get("labels") or {}).get(QUEUE):
            self.let_run(job, self.is_admitted(wl))
        return None

    def states(self, wl):
        return {c["state"] for c in self.sim.get(wl, "status.admissionChecks", [])}

    def is_admitted(self, wl):
        return self.sim.cond(wl, "Admitted") == "True" and self.sim.cond(wl, "Evicted") != "True"

    def turn_away(self, wl, queue):
        """One that is inactive, that a check does not let pass, or whose queue is drained."""
        if "Rejected" in self.states(wl) and wl["spec"].get("active", True):
            wl["spec"]["active"] = False
            self.c.store.put(
                self.c.by_key[f"{GROUP}/workloads"],
                {**copy.deepcopy(self.now(wl)), "spec": wl["spec"]},
            )
        if not wl["spec"].get("active", True):
            self.sim.set_cond(wl, "Evicted", "True", "Deactivated", "The workload is deactivated")
        elif "Retry" in self.states(wl) and self.sim.cond(wl, "QuotaReserved") == "True":
            self.sim.set_cond(
                wl,
                "Evicted",
                "True",
                "AdmissionCheck",
                "At least one admission check is to be retried",
            )
        elif (
            self.sim.get(queue or {}, "spec.stopPolicy") == "HoldAndDrain"
            and self.sim.cond(wl, "QuotaReserved") == "True"
        ):
            self.sim.set_cond(
                wl, "Evicted", "True", "ClusterQueueStopped", "The ClusterQueue is stopped"
            )

    def place(self, wl, job, queue):
        """Quota, and admission; or the end of both, once the Job has no pods any more."""
        cond = self.sim.cond
        if cond(wl, "QuotaReserved") == "True" and cond(wl, "Evicted") == "True":
            if job is None or self.is_empty(job):
                self.release(wl)
        elif wl["spec"].get("active", True) and cond(wl, "QuotaReserved") != "True":
            why = self.no_room(wl, queue)
            if why:
                self.say(wl, "QuotaReserved", "False", "Pending", why)
            else:
                self.reserve(wl, queue["metadata"]["name"])
        if (
            cond(wl, "QuotaReserved") == "True"
            and cond(wl, "Evicted") != "True"
            and self.states(wl) <= {"Ready"}
        ):
            self.say(wl, "Admitted", "True", "Admitted", "The workload is admitted")

    def reserve(self, wl, queue):
        self.say(
            wl, "QuotaReserved", "True", "QuotaReserved", f"Quota reserved in ClusterQueue {queue}"
        )
        if self.sim.cond(wl, "Evicted") == "True":
            self.sim.set_cond(wl, "Evicted", "False", "QuotaReserved", "Previously: evicted")
        assigned = [{"name": p["name"], "count": p["count"]} for p in wl["spec"]["podSets"]]
        wl["status"]["admission"] = {"clusterQueue": queue, "podSetAssignments": assigned}

    def let_run(self, job, runs):
        if job["spec"]["suspend"] != runs:
            return
        job = copy.deepcopy(job)
        job["spec"]["suspend"] = not runs
        job["metadata"]["generation"] += 1
        self.c.store.put(self.c.by_key["batch/jobs"], job)
        reason, said = (
            ("Started", "Admitted") if runs else ("Stopped", "Not admitted by cluster queue")
        )
        self.c.event(job, "Normal", reason, said, "batch/job-kueue-controller")

    def release(self, wl):
        st = wl["status"]
        self.sim.set_cond(wl, "QuotaReserved", "False", "Pending", "Evicted")
        if self.sim.cond(wl, "Admitted") == "True":
            self.sim.set_cond(
                wl, "Admitted", "False", "NoReservation", "The workload has no reservation"
            )
        for key in ("admission", "clusterName", "nominatedClusterNames"):
            st.pop(key, None)
        for check in st.get("admissionChecks", []):
            check.update(
                state="Pending",
                message="Reset to Pending after eviction",
                lastTransitionTime=self.sim.stamp(),
            )

    def sync_checks(self, wl, queue):
        wanted = self.check_names(queue)
        have = {c["name"]: c for c in wl["status"].get("admissionChecks", [])}
        if queue is not None and set(have) != set(wanted):
            fresh = {"state": "Pending", "message": "", "lastTransitionTime": self.sim.stamp()}
            wl["status"]["admissionChecks"] = [have.get(n) or {"name": n, **fresh} for n in wanted]

    def no_room(self, wl, queue):
        """Why it gets no quota; empty where it does."""
        get = self.sim.get
        if queue is None:
            return f"LocalQueue {wl['spec']['queueName']} doesn't exist"
        name = queue["metadata"]["name"]
        checks = [self.one("admissionchecks", n) for n in self.check_names(queue)]
        if get(queue, "spec.stopPolicy", "None") != "None" or not all(
            c is not None and self.sim.cond(c, "Active") == "True" for c in checks
        ):
            return f"ClusterQueue {name} is inactive"
        if any(c["state"] == "Retry" for c in get(wl, "status.admissionChecks", [])):
            return "An admission check is to be retried"
        quota, used = {}, {}
        for group in get(queue, "spec.resourceGroups", []):
            for flavor in group["flavors"]:
                for r in flavor["resources"]:
                    quota[r["name"]] = quota.get(r["name"], 0) + self.sim.quantity(
                        r["nominalQuota"]
                    )
        for other in self.all("workloads"):
            if (
                get(other, "status.admission.clusterQueue") == name
                and self.sim.cond(other, "Finished") != "True"
            ):
                for key, value in self.wants(other).items():
                    used[key] = used.get(key, 0) + value
        short = [
            k for k, v in self.wants(wl).items() if k in quota and used.get(k, 0) + v > quota[k]
        ]
        return (
            f"couldn't assign flavors to pod set main: insufficient unused quota for {', '.join(sorted(short))}"
            if short
            else ""
        )

    def wants(self, wl):
        total = {}
        for pods in wl["spec"]["podSets"]:
            for c in pods["template"]["spec"]["containers"]:
                both = {
                    **self.sim.get(c, "resources.limits", {}),
                    **self.sim.get(c, "resources.requests", {}),
                }
                for key, value in both.items():
                    total[key] = total.get(key, Fraction(0)) + pods["count"] * self.sim.quantity(
                        value
                    )
        return total

    # ------------------------------------------------------------------ small things
    def say(self, wl, kind, status, reason, message):
        c = next((c for c in wl["status"].get("conditions", []) if c["type"] == kind), None)
        if c is not None and c["status"] == status:
            c.update(reason=reason, message=message)
        else:
            self.sim.set_cond(wl, kind, status, reason, message)

    def write(self, wl):
        """All that the manager `kueue-admission` has to say, applied."""
        keys = (
            "conditions",
            "admission",
            "admissionChecks",
            "clusterName",
            "nominatedClusterNames",
        )
        status = {k: wl["status"][k] for k in keys if wl["status"].get(k)}
        now = self.now(wl)
        if {k: v for k, v in now.get("status", {}).items() if k in keys and v} == status:
            return
        body = {"apiVersion": API, "kind": "Workload", "metadata": {}, "status": status}
        m = wl["metadata"]
        self.c.do_apply(
            self.c.by_key[f"{GROUP}/workloads"],
            m["namespace"],
            m["name"],
            body,
            OWNER,
            True,
            False,
            "Ignore",
            "status",
        )

    def now(self, wl):
        return self.one("workloads", wl["metadata"]["name"], wl["metadata"]["namespace"]) or wl

    def reference(self, job):
        m = job["metadata"]
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": m["name"],
            "uid": m["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def owner_uid(self, wl):
        return next((r["uid"] for r in wl["metadata"].get("ownerReferences") or []), None)

    def ended(self, job):
        return "True" in (self.sim.cond(job, "Complete"), self.sim.cond(job, "Failed"))

    def is_empty(self, job):
        st = job.get("status") or {}
        return job["spec"]["suspend"] and not st.get("active") and not st.get("terminating")

    def queue_of(self, name, ns):
        local = self.one("localqueues", name, ns)
        return None if local is None else self.one("clusterqueues", local["spec"]["clusterQueue"])

    def check_names(self, queue):
        return [
            c["name"]
            for c in self.sim.get(queue or {}, "spec.admissionChecksStrategy.admissionChecks", [])
        ]

    def multi_check(self, queue):
        for name in self.check_names(queue):
            check = self.one("admissionchecks", name)
            if check is not None and self.sim.get(check, "spec.controllerName") == MULTIKUEUE:
                return check
        return None

    # ------------------------------------------------------------------ MultiKueue
    def run(self):
        """Until the cluster stops; asks workers without the lock, for they are processes of their own."""
        while not self.c.stop.wait(0.1):
            try:
                with self.c.store.cond:
                    todo = self.to_dispatch() if self.is_installed else []
                for wl, workers in todo:
                    self.dispatch(wl, workers)
            except Exception:  # noqa: BLE001 - a controller goes on
                traceback.print_exc()

    def start(self):
        threading.Thread(target=self.run, daemon=True).start()

    def to_dispatch(self):
        todo = []
        for wl in self.all("workloads"):
            check = self.multi_check(
                self.queue_of(wl["spec"]["queueName"], wl["metadata"]["namespace"])
            )
            if check is None:
                continue
            config = self.one("multikueueconfigs", check["spec"]["parameters"]["name"])
            workers = {}
            for name in self.sim.get(config or {}, "spec.clusters", []):
                cluster = self.one("multikueueclusters", name)
                if cluster is not None:
                    workers[name] = cluster["spec"]["clusterSource"]["kubeConfig"]["location"]
            todo.append((copy.deepcopy(wl), (check["metadata"]["name"], workers)))
        return todo

    def dispatch(self, wl, about):
        check, workers = about
        cond, get = self.sim.cond, self.sim.get
        remotes = {name: self.remote(place, wl) for name, place in workers.items()}
        remotes = {name: found for name, found in remotes.items() if found is not ...}
        if cond(wl, "Finished") == "True" or cond(wl, "QuotaReserved") != "True":
            return self.drop_all(remotes, workers, wl)
        done = next((n for n, r in remotes.items() if r and cond(r, "Finished") == "True"), None)
        chosen = done or next(
            (n for n, r in remotes.items() if r and cond(r, "Admitted") == "True"), None
        )
        if chosen:
            self.drop_all({n: r for n, r in remotes.items() if n != chosen}, workers, wl)
            return self.follow(wl, check, chosen, workers[chosen])
        states = {c["name"]: c["state"] for c in get(wl, "status.admissionChecks", [])}
        state = states.pop(check, None)
        if state == "Ready" and get(wl, "status.clusterName") in remotes:
            return self.set_state(
                wl, check, "Retry", "Reserving remote no longer exists or is not admitted"
            )
        if state != "Pending" or cond(wl, "Evicted") == "True" or set(states.values()) - {"Ready"}:
            return None
        return self.copy_out(wl, remotes, workers)

    def copy_out(self, wl, remotes, workers):
        """To the nominated clusters, and to no others."""
        m, nominated = wl["metadata"], self.sim.get(wl, "status.nominatedClusterNames", [])
        self.drop_all({n: r for n, r in remotes.items() if n not in nominated}, workers, wl)
        for name in [n for n, r in remotes.items() if n in nominated and r is None]:
            meta = {
                "name": m["name"],
                "namespace": m["namespace"],
                "labels": {f"{GROUP}/multikueue-origin": "multikueue"},
            }
            body = {"apiVersion": API, "kind": "Workload", "metadata": meta, "spec": wl["spec"]}
            self.sim.call(workers[name], "POST", self.path(wl, "workloads", None), body)

    def drop_all(self, remotes, workers, wl):
        for name, found in remotes.items():
            self.drop(workers[name], wl, found)

    def follow(self, wl, check, chosen, place):
        """The Job goes to the cluster that admitted the Workload; its status comes back."""
        m = wl["metadata"]
        with self.c.store.cond:
            job = next(
                (
                    j
                    for j in self.c.store.all("batch/jobs")
                    if j["metadata"]["uid"] == self.owner_uid(wl)
                ),
                None,
            )
        if job is None:
            return
        path = f"/apis/batch/v1/namespaces/{m['namespace']}/jobs"
        status, text = self.sim.call(place, "GET", f"{path}/{job['metadata']['name']}")
        if status == 404:
            spec = {
                k: v
                for k, v in copy.deepcopy(job["spec"]).items()
                if k not in ("managedBy", "selector")
            }
            spec["suspend"] = True
            labels = spec["template"].get("metadata", {}).get("labels", {})
            for key in [k for k in labels if "controller-uid" in k or "job-name" in k]:
                del labels[key]
            meta = {
                k: copy.deepcopy(job["metadata"].get(k) or {}) for k in ("labels", "annotations")
            }
            meta["name"] = job["metadata"]["name"]
            meta["labels"][PREBUILT] = m["name"]
            self.sim.call(
                place,
                "POST",
                path,
                {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec},
            )
            return
        told = json.loads(text).get("status") or {}
        with self.c.store.cond:
            now = self.one("workloads", m["name"], m["namespace"])
            job = self.c.store.objs.get(("batch/jobs", m["namespace"], job["metadata"]["name"]))
            if now is None or job is None:
                return
            if job.get("status") != told:
                self.c.store.put(
                    self.c.by_key["batch/jobs"], {**copy.deepcopy(job), "status": told}
                )
        self.set_state(wl, check, "Ready", f'The workload got reservation on "{chosen}"', chosen)

    def set_state(self, wl, check, state, message, chosen=None):
        with self.c.store.cond:
            now = self.one("workloads", wl["metadata"]["name"], wl["metadata"]["namespace"])
            if now is None or self.sim.cond(now, "QuotaReserved") != "True":
                return
            now = copy.deepcopy(now)
            for c in now["status"].get("admissionChecks", []):
                if c["name"] == check and c["state"] != state:
                    c.update(state=state, message=message, lastTransitionTime=self.sim.stamp())
            if chosen:
                now["status"].setdefault("clusterName", chosen)
                now["status"].pop("nominatedClusterNames", None)
            try:
                self.write(now)
            except self.sim.ApiError as e:
                self.last_error = str(e)

    def remote(self, place, wl):
        """The copy there; None where there is none, `...` where nobody answers."""
        try:
            status, text = self.sim.call(
                place, "GET", self.path(wl, "workloads", wl["metadata"]["name"])
            )
        except OSError:
            return ...
        return json.loads(text) if status == 200 else None if status == 404 else ...

    def drop(self, place, wl, found):
        if found is None:
            return
        owner = next((r["name"] for r in found["metadata"].get("ownerReferences") or []), None)
        if owner:
            path = f"/apis/batch/v1/namespaces/{wl['metadata']['namespace']}/jobs/{owner}"
            self.sim.call(place, "DELETE", path, {"propagationPolicy": "Background"})
        self.sim.call(place, "DELETE", self.path(wl, "workloads", wl["metadata"]["name"]))

    def path(self, wl, plural, name):
        base = f"/apis/{API}/namespaces/{wl['metadata']['namespace']}/{plural}"
        return base if name is None else f"{base}/{name}"
