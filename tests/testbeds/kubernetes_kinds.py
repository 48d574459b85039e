"""Simulated controllers of JobSet, TrainJob, PyTorchJob and RayJob, for the clusters of `kubernetes` beside this file.

Each does what its real one does as far as a scheduler sees it: suspended at creation, resumed, suspended again, ended; its
children, their labels and owners, and its status. Not there: validation of fields, webhooks, restarts of whole jobs, start-up
orders, gangs. A TrainJob has no runtime to look up: it is one replicated job called `node`.
"""

import copy
import os
import random
import string
import time

from __main__ import ApiError, cond, get, set_cond, stamp, unstamp

INSTALLED = os.environ.get("GRIDTIDE_K8S_KINDS", "JobSet TrainJob PyTorchJob RayJob").split()
SERVED = {
    "JobSet": [("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet")],
    "TrainJob": [("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob")],
    "PyTorchJob": [("kubeflow.org", "v1", "pytorchjobs", "PyTorchJob")],
    "RayJob": [
        ("ray.io", "v1", "rayjobs", "RayJob"),
        ("ray.io", "v1", "rayclusters", "RayCluster"),
    ],
}
JOB_SET = "jobset.sigs.k8s.io"
TRAINING = "training.kubeflow.org"
VERBS = ["get", "list", "watch", "patch"]
FOREVER = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2 & wait $!; done"]


class Kinds:
    """The controllers of one cluster."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.store = cluster.store
        rules = []
        for name in INSTALLED:
            for row in SERVED[name]:
                self.install(*row)
            group, _, plural, _ = SERVED[name][0]
            rules.append({"apiGroups": [group], "resources": [plural], "verbs": VERBS})
        if rules and not self.has("rbac.authorization.k8s.io/roles", "gridtide-kinds"):
            self.grant(rules)

    def has(self, key, name):
        return any(one["metadata"]["name"] == name for one in self.store.all(key))

    def install(self, group, version, plural, kind):
        name = f"{plural}.{group}"
        if self.has("apiextensions.k8s.io/customresourcedefinitions", name):
            return
        one = {"name": version, "served": True, "storage": True, "subresources": {"status": {}}}
        spec = {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [one],
        }
        self.cluster.create(
            "customresourcedefinitions", None, {"metadata": {"name": name}, "spec": spec}
        )

    def grant(self, rules):
        """The same as in deploy/kubernetes/role-kinds.yaml, to the same user; a test compares them."""
        meta = {"name": "gridtide-kinds"}
        self.cluster.create("roles", "training", {"metadata": dict(meta), "rules": rules})
        (bound,) = (
            one
            for one in self.store.all("rbac.authorization.k8s.io/rolebindings", "training")
            if one["metadata"]["name"] == "gridtide"
        )
        role = {**bound["roleRef"], "name": "gridtide-kinds"}
        self.cluster.create(
            "rolebindings",
            "training",
            {"metadata": dict(meta), "roleRef": role, "subjects": bound["subjects"]},
        )

    def step(self):
        """Once around; callers hold the lock."""
        for plural, sync, manager in (
            (
                "trainer.kubeflow.org/trainjobs",
                self.train_job,
                "trainer.kubeflow.org/trainjob-controller",
            ),
            ("jobset.x-k8s.io/jobsets", self.job_set, "jobset.sigs.k8s.io/jobset-controller"),
            ("kubeflow.org/pytorchjobs", self.pytorch_job, "kubeflow.org/training-operator"),
            ("ray.io/rayjobs", self.ray_job, "ray.io/kuberay-operator"),
        ):
            for known in self.store.all(plural):
                one = copy.deepcopy(known)
                terms = get(one, "spec.runPolicy") or one.get("spec", {})
                is_ours = terms.get("managedBy", manager) == manager
                if is_ours and not one["metadata"].get("deletionTimestamp"):
                    one.setdefault("status", {})
                    sync(one)
                    self.store.put(self.cluster.by_key[plural], one)
        self.collect()

    def collect(self):
        """What belongs to something that is gone goes, too; pods and services go by the cluster's own collector."""
        uids = {one["metadata"]["uid"] for one in self.store.objs.values()}
        for key in ("batch/jobs", "jobset.x-k8s.io/jobsets", "ray.io/rayclusters"):
            for one in self.store.all(key):
                owners = one["metadata"].get("ownerReferences") or []
                if owners and not any(owner["uid"] in uids for owner in owners):
                    self.delete(key, one)

    # ------------------------------------------------------------------ children

    def delete(self, key, one):
        if not one["metadata"].get("deletionTimestamp"):
            meta, background = one["metadata"], {"propagationPolicy": "Background"}
            self.cluster.do_delete(
                self.cluster.by_key[key], meta["namespace"], meta["name"], background
            )

    def children(self, owner, key):
        """Those that it controls, also while they are leaving."""
        return [
            one
            for one in self.store.all(key, owner["metadata"]["namespace"])
            if any(
                ref["uid"] == owner["metadata"]["uid"]
                for ref in one["metadata"].get("ownerReferences") or []
            )
        ]

    def create_child(self, owner, key, document):
        """A child of that owner; it comes in a later round where its name is still taken."""
        document["metadata"]["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
        try:
            self.cluster.create(self.cluster.by_key[key], owner["metadata"]["namespace"], document)
        except ApiError as error:
            if error.status["reason"] != "AlreadyExists":
                self.cluster.event(owner, "Warning", "FailedCreate", str(error), "controller")

    def suspend_child(self, key, one, suspend):
        if bool(get(one, "spec.suspend")) != suspend:
            new = copy.deepcopy(one)
            new["spec"]["suspend"] = suspend
            self.cluster.do_update(self.cluster.by_key[key], one, new)

    def note_suspension(self, one, suspend, reasons):
        """The condition `Suspended`, which comes with the first suspension."""
        if suspend:
            set_cond(one, "Suspended", "True", reasons[0], f"{one['kind']} is suspended")
        elif cond(one, "Suspended") == "True":
            set_cond(one, "Suspended", "False", reasons[1], f"{one['kind']} is resumed")

    # ------------------------------------------------------------------ JobSet

    def job_set(self, one):
        if is_over(one, "Completed"):
            for job in self.children(one, "batch/jobs"):
                if not is_over(job, "Complete"):
                    self.delete("batch/jobs", job)
            return
        suspend = bool(get(one, "spec.suspend"))
        wanted = [
            child_job(one, replicated, index, suspend)
            for replicated in get(one, "spec.replicatedJobs", [])
            for index in range(replicated.get("replicas", 1))
        ]
        jobs = self.children(one, "batch/jobs")
        there = {job["metadata"]["name"] for job in jobs}
        for job in wanted:
            if job["metadata"]["name"] not in there:
                self.create_child(one, "batch/jobs", job)
        self.count_jobs(one, jobs)
        self.end_job_set(one, jobs, len(wanted))
        if not is_over(one, "Completed"):
            self.note_suspension(one, suspend, ("SuspendedJobs", "ResumeJobs"))
            for job in jobs:
                if not is_over(job, "Complete"):
                    self.suspend_child("batch/jobs", job, suspend)

    def end_job_set(self, one, jobs, wanted):
        failed = [job["metadata"]["name"] for job in jobs if cond(job, "Failed") == "True"]
        done = [job for job in jobs if cond(job, "Complete") == "True"]
        if failed:
            words = f"jobset failed due to one or more job failures (first failed job: {failed[0]})"
            set_cond(one, "Failed", "True", "FailedJobs", words)
            one["status"]["terminalState"] = "Failed"
        elif wanted and len(done) == wanted:
            words = "jobset completed successfully"
            set_cond(one, "Completed", "True", "AllJobsCompleted", words)
            one["status"]["terminalState"] = "Completed"

    def count_jobs(self, one, jobs):
        counts = {}
        for replicated in get(one, "spec.replicatedJobs", []):
            own = [
                job
                for job in jobs
                if get(job, "metadata.labels", {}).get(f"{JOB_SET}/replicatedjob-name")
                == replicated["name"]
            ]
            counts[replicated["name"]] = {
                "name": replicated["name"],
                "ready": sum(1 for job in own if get(job, "status.ready", 0)),
                "succeeded": sum(1 for job in own if cond(job, "Complete") == "True"),
                "failed": sum(1 for job in own if cond(job, "Failed") == "True"),
                "active": sum(1 for job in own if get(job, "status.active", 0)),
                "suspended": sum(1 for job in own if get(job, "spec.suspend")),
            }
        one["status"]["restarts"] = 0
        one["status"]["replicatedJobsStatus"] = list(counts.values())

    # ------------------------------------------------------------------ TrainJob

    def train_job(self, one):
        if is_over(one, "Complete"):
            return
        suspend, key = bool(get(one, "spec.suspend")), "jobset.x-k8s.io/jobsets"
        sets = self.children(one, key)
        if not sets:
            self.create_child(one, key, train_job_set(one, suspend))
        for job_set in sets:
            self.suspend_child(key, job_set, suspend)
            one["status"]["jobsStatus"] = get(job_set, "status.replicatedJobsStatus", [])
            for told in get(job_set, "status.conditions", []):
                own = {"Completed": "Complete", "Failed": "Failed"}.get(told["type"])
                if own and told["status"] == "True":
                    set_cond(one, own, "True", told["reason"], told["message"])
        self.note_suspension(one, suspend, ("Suspended", "Resumed"))

    # ------------------------------------------------------------------ PyTorchJob

    def pytorch_job(self, one):
        policy, status = get(one, "spec.runPolicy", {}), one["status"]
        pods, replicas = self.children(one, "/pods"), get(one, "spec.pytorchReplicaSpecs", {})
        if is_over(one, "Succeeded"):
            self.clean_pytorch_job(pods, policy.get("cleanPodPolicy", "None"))
            return
        set_cond(one, "Created", "True", "PyTorchJobCreated", "PyTorchJob is created.")
        if policy.get("suspend"):
            self.suspend_pytorch_job(one, pods)
            return
        if cond(one, "Suspended") == "True" or not status.get("startTime"):
            self.note_suspension(one, False, ("", "PyTorchJobResumed"))
            status["startTime"] = stamp()
        there = {pod["metadata"]["name"] for pod in pods}
        for role, spec in replicas.items():
            for index in range(spec.get("replicas", 1)):
                pod = replica_pod(one, role, spec, index)
                if pod["metadata"]["name"] not in there:
                    self.create_child(one, "/pods", pod)
        self.end_pytorch_job(one, pods, replicas)

    def clean_pytorch_job(self, pods, policy):
        for pod in pods:
            is_live = get(pod, "status.phase") in ("Pending", "Running")
            if policy == "All" or (policy == "Running" and is_live):
                self.delete("/pods", pod)

    def suspend_pytorch_job(self, one, pods):
        for pod in pods:
            self.delete("/pods", pod)
        for counts in one["status"].get("replicaStatuses", {}).values():
            counts["active"] = 0
        if cond(one, "Running") == "True":
            set_cond(one, "Running", "False", "PyTorchJobSuspended", "PyTorchJob is suspended.")
        self.note_suspension(one, True, ("PyTorchJobSuspended", ""))

    def end_pytorch_job(self, one, pods, replicas):
        status, phases = one["status"], {}
        for role in replicas:
            own = [
                get(pod, "status.phase")
                for pod in pods
                if pod["metadata"]["labels"][f"{TRAINING}/replica-type"] == role.lower()
                and not pod["metadata"].get("deletionTimestamp")
            ]
            phases[role] = own
            status.setdefault("replicaStatuses", {})[role] = {
                "active": own.count("Running"),
                "succeeded": own.count("Succeeded"),
                "failed": own.count("Failed"),
            }
        deciding = "Master" if "Master" in replicas else "Worker"
        wanted = replicas[deciding].get("replicas", 1)
        if any("Failed" in own for own in phases.values()):
            words = "PyTorchJob is failed because one or more replica(s) failed."
            set_cond(one, "Failed", "True", "PyTorchJobFailed", words)
        elif phases[deciding].count("Succeeded") == wanted:
            set_cond(
                one,
                "Succeeded",
                "True",
                "PyTorchJobSucceeded",
                "PyTorchJob is successfully completed.",
            )
        elif phases[deciding].count("Running") == wanted:
            set_cond(one, "Running", "True", "PyTorchJobRunning", "PyTorchJob is running.")
        if is_over(one, "Succeeded"):
            set_cond(one, "Running", "False", "PyTorchJobEnded", "PyTorchJob has ended.")
            status["completionTime"] = stamp()

    # ------------------------------------------------------------------ RayJob

    def ray_job(self, one):
        spec, status = one["spec"], one["status"]
        if spec.get("suspend") and (
            not spec.get("shutdownAfterJobFinishes") or spec.get("clusterSelector")
        ):
            words = "The RayJob spec is invalid: it cannot be suspended"
            self.cluster.event(one, "Warning", "InvalidRayJobSpec", words, "rayjob-controller")
            return
        state = status.get("jobDeploymentStatus", "")
        steps = {
            "": self.begin_ray_job,
            "Initializing": self.initialize_ray_job,
            "Running": self.run_ray_job,
            "Suspending": self.suspend_ray_job,
            "Complete": self.clean_ray_job,
            "Failed": self.clean_ray_job,
        }
        if state == "Suspended" and not spec.get("suspend"):
            status["jobDeploymentStatus"] = ""
        elif state in ("Initializing", "Running") and spec.get("suspend"):
            status["jobDeploymentStatus"] = "Suspending"
        elif state in steps:
            steps[state](one)

    def begin_ray_job(self, one):
        letters = "".join(random.choices(string.ascii_lowercase + string.digits, k=5))
        one["status"].update(
            jobDeploymentStatus="Initializing",
            rayClusterName=f"{one['metadata']['name']}-{letters}",
            startTime=stamp(),
        )

    def initialize_ray_job(self, one):
        clusters = self.children(one, "ray.io/rayclusters")
        if not clusters:
            self.create_child(
                one,
                "ray.io/rayclusters",
                {
                    "metadata": {"name": one["status"]["rayClusterName"], "labels": origin(one)},
                    "spec": copy.deepcopy(one["spec"]["rayClusterSpec"]),
                },
            )
            return
        (cluster,) = clusters
        wanted = ray_pods(cluster)
        pods = {pod["metadata"]["name"]: pod for pod in self.children(cluster, "/pods")}
        for pod in wanted:
            if pod["metadata"]["name"] not in pods:
                self.create_child(cluster, "/pods", pod)
        running = [pod for pod in pods.values() if get(pod, "status.phase") == "Running"]
        if len(running) == len(wanted):
            self.create_child(one, "batch/jobs", submitter(one))
            one["status"].update(jobDeploymentStatus="Running", jobStatus="RUNNING")

    def run_ray_job(self, one):
        jobs, status = self.children(one, "batch/jobs"), one["status"]
        if not any(is_over(job, "Complete") for job in jobs):
            return
        status["endTime"] = stamp()
        if any(cond(job, "Complete") == "True" for job in jobs):
            status.update(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
        else:
            words = "Job entrypoint command failed"
            status.update(
                jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed", message=words
            )

    def suspend_ray_job(self, one):
        left = False
        for key in ("ray.io/rayclusters", "batch/jobs"):
            for child in self.children(one, key):
                self.delete(key, child)
                left = True
        if not left:
            for key in ("rayClusterName", "startTime", "reason", "message"):
                one["status"].pop(key, None)
            one["status"].update(jobDeploymentStatus="Suspended", jobStatus="")

    def clean_ray_job(self, one):
        end = unstamp(one["status"]["endTime"]) + one["spec"].get("ttlSecondsAfterFinished", 0)
        if one["spec"].get("shutdownAfterJobFinishes") and time.time() >= end:
            for cluster in self.children(one, "ray.io/rayclusters"):
                self.delete("ray.io/rayclusters", cluster)


def is_over(one, complete):
    return cond(one, complete) == "True" or cond(one, "Failed") == "True"


def child_job(owner, replicated, index, suspend):
    """A Job of a JobSet; its template's annotations are copied, those of the JobSet are not."""
    template = copy.deepcopy(replicated["template"])
    labels = {
        f"{JOB_SET}/jobset-name": owner["metadata"]["name"],
        f"{JOB_SET}/jobset-uid": owner["metadata"]["uid"],
        f"{JOB_SET}/replicatedjob-name": replicated["name"],
        f"{JOB_SET}/replicatedjob-replicas": str(replicated.get("replicas", 1)),
        f"{JOB_SET}/job-index": str(index),
        f"{JOB_SET}/restart-attempt": "0",
    }
    meta = template.setdefault("metadata", {})
    meta["name"] = f"{owner['metadata']['name']}-{replicated['name']}-{index}"
    pod_meta = template["spec"]["template"].setdefault("metadata", {})
    for one in (meta, pod_meta):
        one["labels"] = {**one.get("labels", {}), **labels}
    template["spec"]["suspend"] = suspend
    return {"metadata": meta, "spec": template["spec"]}


def train_job_set(one, suspend):
    """What the runtime makes of a TrainJob."""
    trainer, nodes = get(one, "spec.trainer", {}), get(one, "spec.trainer.numNodes", 1)
    container = {
        "name": "node",
        "image": trainer.get("image", "pytorch/pytorch:2.9.1"),
        "command": trainer.get("command", []),
        "args": trainer.get("args", []),
        "resources": trainer.get("resourcesPerNode", {}),
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    for override in get(one, "spec.podTemplateOverrides", []):
        pod.update(override.get("spec", {}))
    spec = {
        "completionMode": "Indexed",
        "parallelism": nodes,
        "completions": nodes,
        "backoffLimit": 0,
        "template": {"spec": pod},
    }
    step = {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}
    node = {"name": "node", "replicas": 1, "template": {"metadata": step, "spec": spec}}
    return {
        "metadata": {"name": one["metadata"]["name"]},
        "spec": {"suspend": suspend, "replicatedJobs": [node]},
    }


def replica_pod(one, role, spec, index):
    name = one["metadata"]["name"]
    template = copy.deepcopy(spec["template"])
    restart = spec.get("restartPolicy", "Never")
    template["spec"]["restartPolicy"] = "Never" if restart == "ExitCode" else restart
    labels = {
        f"{TRAINING}/job-name": name,
        f"{TRAINING}/operator-name": "pytorchjob-controller",
        f"{TRAINING}/replica-type": role.lower(),
        f"{TRAINING}/replica-index": str(index),
    }
    meta = template.get("metadata", {})
    labels = {**meta.get("labels", {}), **labels}
    return {
        "metadata": {**meta, "name": f"{name}-{role.lower()}-{index}", "labels": labels},
        "spec": template["spec"],
    }


def origin(one):
    return {
        "ray.io/originated-from-crd": "RayJob",
        "ray.io/originated-from-cr-name": one["metadata"]["name"],
    }


def ray_pods(cluster):
    """The head and the workers; without a command they are there until they are told to leave."""
    groups = [("head", "headgroup", 1, cluster["spec"]["headGroupSpec"])]
    for group in cluster["spec"].get("workerGroupSpecs", []):
        count = group.get("replicas", 1) * group.get("numOfHosts", 1)
        groups.append(("worker", group["groupName"], count, group))
    pods = []
    for node_type, name, count, group in groups:
        for index in range(count):
            template = copy.deepcopy(group["template"])
            template["spec"]["containers"][0].setdefault("command", FOREVER)
            labels = {
                "ray.io/cluster": cluster["metadata"]["name"],
                "ray.io/node-type": node_type,
                "ray.io/group": name,
                "ray.io/is-ray-node": "yes",
            }
            meta = template.get("metadata", {})
            pods.append(
                {
                    "metadata": {
                        **meta,
                        "name": f"{cluster['metadata']['name']}-{name}-{index}",
                        "labels": {**meta.get("labels", {}), **labels},
                    },
                    "spec": template["spec"],
                }
            )
    return pods


def submitter(one):
    """The Job that hands in the entrypoint; here it runs it itself."""
    container = {
        "name": "ray-job-submitter",
        "image": "rayproject/ray:2.52.0",
        "command": ["/bin/sh", "-c", one["spec"].get("entrypoint", "true")],
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    return {
        "metadata": {"name": one["metadata"]["name"], "labels": origin(one)},
        "spec": {
            "backoffLimit": get(one, "spec.submitterConfig.backoffLimit", 2),
            "template": {"metadata": {"labels": origin(one)}, "spec": pod},
        },
    }
