"""Kinds of jobs that Kubernetes runs, in one table: where each says what it asks for, and how it stands. Pure.

What a row states was read in the types and controllers of JobSet, Kubeflow's Trainer 2 and its predecessor, the training
operator 1, and KubeRay 1.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = Mapping[str, Any]
COMPLETE: Final = "Complete"
FAILED: Final = "Failed"
_UID: Final = ("batch.kubernetes.io/controller-uid", "controller-uid")
_JOB_SET: Final = "jobset.sigs.k8s.io"
_TRAINING: Final = "training.kubeflow.org"
_RAY_CLUSTER: Final = "ray.io/cluster"
_OLD_RAY: Final = "-raycluster"
_RANDOM: Final = re.compile(r"-[a-z0-9]{5}$")
_INITIALIZERS: Final = ("dataset-initializer", "model-initializer")
_RAY_AT_REST: Final = ("", "Suspended", "Complete", "Failed", "ValidationFailed")


@dataclass(frozen=True, slots=True)
class PodForm:
    """Pods of one form: how many of them there are at once, and their spec."""

    count: int
    spec: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a job stands by its own word.

    Args:
        end: `COMPLETE`, `FAILED`, or empty while it is neither.
        closing: the condition that says so; empty where none does.
        suspension: the condition that says whether it is suspended; empty where none does.
        n_pods: that run, or are on their way in or out, as far as it says; some kinds count in jobs.
    """

    end: str
    closing: Document
    suspension: Document
    n_pods: int

    @property
    def is_suspended(self) -> bool:
        """Whether its controller has seen that it is to have no pods."""
        return self.suspension.get("status") == "True"


def _no_barrier(_: Document) -> str:
    return ""


def _by_uid(_: str, uid: str) -> tuple[str, ...]:
    return (uid,)


def _by_name(name: str, _: str) -> tuple[str, ...]:
    return (name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeKind:
    """One kind of jobs.

    Args:
        home: path of the part that holds `suspend`, `activeDeadlineSeconds` and `managedBy`.
        manager: what `managedBy` says where its own controller decides on its start.
        find_forms: its pods, by what it says.
        find_standing: how it stands.
        find_barrier: why jobs of this kind cannot be suspended and let start; empty where they can.
        pods: label that all of its pods have.
        owner_labels: of a pod, the first of which tells whose it is.
        owner_of: key of the job, of that label's value.
        keys: those of a job, of its name and its uid.
        places: labels of a pod that tell which of the pods at once it is, beside its index.
        has_codes: whether what its pods end with is what the program ended with.
    """

    name: str
    group: str
    version: str
    plural: str
    home: tuple[str, ...] = ("spec",)
    manager: str
    find_forms: Callable[[Document], list[PodForm]]
    find_standing: Callable[[Document], Standing]
    find_barrier: Callable[[Document], str] = _no_barrier
    pods: str
    owner_labels: tuple[str, ...]
    owner_of: Callable[[str], str] = str
    keys: Callable[[str, str], tuple[str, ...]] = _by_name
    places: tuple[str, ...] = ()
    has_codes: bool = True

    @property
    def api(self) -> str:
        """As in `apiVersion`."""
        return f"{self.group}/{self.version}"

    def path(self, namespace: str, name: str | None = None) -> str:
        """Path of all jobs of this kind there, or of one of them."""
        path = f"/apis/{self.api}/namespaces/{namespace}/{self.plural}"
        return path if name is None else f"{path}/{name}"

    def terms(self, document: Document) -> Document:
        """The part of the job that says when it is to run."""
        return part(document, *self.home)

    def suspending(self, suspend: bool) -> dict[str, Any]:
        """The patch that does so."""
        patch: dict[str, Any] = {"suspend": suspend}
        for key in reversed(self.home):
            patch = {key: patch}
        return patch

    def pod_selector(self, name: str, uid: str) -> str:
        """Selects the pods of that job, and maybe others."""
        is_plain = self.owner_of is str
        return f"{self.owner_labels[0]}={self.keys(name, uid)[0]}" if is_plain else self.pods

    def owner(self, labels: Document) -> str:
        """Key of the job that a pod with these labels belongs to."""
        stated = (str(labels[one]) for one in self.owner_labels if labels.get(one))
        return self.owner_of(next(stated, ""))


def part(document: Document, *path: str) -> Document:
    """What is at that path; empty where nothing is."""
    for key in path:
        found = document.get(key)
        document = found if isinstance(found, dict) else {}
    return document


def parts(document: Document, key: str) -> list[Document]:
    """The objects of a list; none where there is none. What is no object raises AttributeError where it is read."""
    return list(document.get(key) or ())


def _count(value: object, default: int = 1) -> int:
    return default if value is None else int(str(value))


def _standing(document: Document, *, complete: str, n_pods: int) -> Standing:
    """By the usual conditions."""
    conditions = {
        str(one.get("type")): one for one in parts(part(document, "status"), "conditions")
    }
    ends = {COMPLETE: conditions.get(complete, {}), FAILED: conditions.get(FAILED, {})}
    end = next((name for name, one in ends.items() if one.get("status") == "True"), "")
    return Standing(
        end=end,
        closing=ends.get(end, {}),
        suspension=conditions.get("Suspended", {}),
        n_pods=n_pods,
    )


# ---------------------------------------------------------------------- Job


def _job_form(spec: Document, times: int = 1) -> PodForm:
    completions, count = spec.get("completions"), _count(spec.get("parallelism"))
    at_once = count if completions is None else min(count, int(completions))
    return PodForm(at_once * times, part(spec, "template", "spec"))


def _job_standing(document: Document) -> Standing:
    status = part(document, "status")
    n_pods = sum(_count(status.get(one), 0) for one in ("active", "terminating"))
    return _standing(document, complete="Complete", n_pods=n_pods)


JOB: Final = KubeKind(
    name="Job",
    group="batch",
    version="v1",
    plural="jobs",
    manager="kubernetes.io/job-controller",
    find_forms=lambda document: [_job_form(part(document, "spec"))],
    find_standing=_job_standing,
    pods="batch.kubernetes.io/job-name",
    owner_labels=_UID,
    keys=_by_uid,
)


# ---------------------------------------------------------------------- JobSet: each of its jobs some times


def _job_set_forms(document: Document) -> list[PodForm]:
    return [
        _job_form(part(one, "template", "spec"), times=_count(one.get("replicas")))
        for one in parts(part(document, "spec"), "replicatedJobs")
    ]


def _n_active(document: Document, key: str) -> int:
    return sum(_count(one.get("active"), 0) for one in parts(part(document, "status"), key))


JOB_SET: Final = KubeKind(
    name="JobSet",
    group="jobset.x-k8s.io",
    version="v1alpha2",
    plural="jobsets",
    manager="jobset.sigs.k8s.io/jobset-controller",
    find_forms=_job_set_forms,
    find_standing=lambda document: _standing(
        document, complete="Completed", n_pods=_n_active(document, "replicatedJobsStatus")
    ),
    pods=f"{_JOB_SET}/jobset-name",
    owner_labels=(f"{_JOB_SET}/jobset-name",),
    places=(f"{_JOB_SET}/replicatedjob-name", f"{_JOB_SET}/job-index"),
)


# ---------------------------------------------------------------------- TrainJob: a JobSet of the same name


def _train_job_forms(document: Document) -> list[PodForm]:
    """Its nodes; the rest of their template is in its runtime."""
    trainer = part(document, "spec", "trainer")
    selector = {
        str(key): value
        for pod in _train_job_patches(part(document, "spec"))
        for key, value in part(pod, "nodeSelector").items()
    }
    container = {"resources": part(trainer, "resourcesPerNode")}
    spec = {"containers": [container], "nodeSelector": selector}
    return [PodForm(_count(trainer.get("numNodes")), spec)]


def _train_job_patches(spec: Document) -> list[Document]:
    """Pod specs that it lays over those of its runtime, in order: `podTemplateOverrides`, since 2.2 `runtimePatches`."""
    stated = [
        (part(one, "spec"), [str(job.get("name")) for job in parts(one, "targetJobs")])
        for one in parts(spec, "podTemplateOverrides")
    ]
    for patch in parts(spec, "runtimePatches"):
        jobs = parts(part(patch, "trainingRuntimeSpec", "template", "spec"), "replicatedJobs")
        path = ("template", "spec", "template", "spec")
        stated += [(part(one, *path), [str(one.get("name"))]) for one in jobs]
    return [pod for pod, names in stated if not names or set(names) - set(_INITIALIZERS)]


def _train_job_barrier(document: Document) -> str:
    trainer = part(document, "spec", "trainer")
    missing = [one for one in ("numNodes", "resourcesPerNode") if not trainer.get(one)]
    if not missing:
        return ""
    fields = " and ".join(f"spec.trainer.{one}" for one in missing)
    return f"its runtime says what it asks for, which is not read; state {fields}"


TRAIN_JOB: Final = KubeKind(
    name="TrainJob",
    group="trainer.kubeflow.org",
    version="v1alpha1",
    plural="trainjobs",
    manager="trainer.kubeflow.org/trainjob-controller",
    find_forms=_train_job_forms,
    find_standing=lambda document: _standing(
        document, complete="Complete", n_pods=_n_active(document, "jobsStatus")
    ),
    find_barrier=_train_job_barrier,
    pods=f"{_JOB_SET}/jobset-name",
    owner_labels=(f"{_JOB_SET}/jobset-name",),
    places=(f"{_JOB_SET}/replicatedjob-name", f"{_JOB_SET}/job-index"),
)


# ---------------------------------------------------------------------- PyTorchJob: masters and workers


def _pytorch_forms(document: Document) -> list[PodForm]:
    most = part(document, "spec", "elasticPolicy").get("maxReplicas")
    replicas = part(document, "spec", "pytorchReplicaSpecs")
    forms = list[PodForm]()
    for role in sorted(replicas):
        one = part(replicas, role)
        count = _count(one.get("replicas"))
        if role == "Worker" and most is not None:
            count = max(count, int(most))
        forms.append(PodForm(count, part(one, "template", "spec")))
    return forms


def _pytorch_standing(document: Document) -> Standing:
    replicas = part(document, "status", "replicaStatuses")
    n_pods = sum(_count(part(replicas, role).get("active"), 0) for role in replicas)
    return _standing(document, complete="Succeeded", n_pods=n_pods)


PYTORCH_JOB: Final = KubeKind(
    name="PyTorchJob",
    group="kubeflow.org",
    version="v1",
    plural="pytorchjobs",
    home=("spec", "runPolicy"),
    manager="kubeflow.org/training-operator",
    find_forms=_pytorch_forms,
    find_standing=_pytorch_standing,
    pods=f"{_TRAINING}/operator-name=pytorchjob-controller",
    owner_labels=(f"{_TRAINING}/job-name",),
    places=(f"{_TRAINING}/replica-type", f"{_TRAINING}/replica-index"),
)


# ---------------------------------------------------------------------- RayJob: a Ray cluster of its own


def _ray_forms(document: Document) -> list[PodForm]:
    cluster = part(document, "spec", "rayClusterSpec")
    is_elastic = cluster.get("enableInTreeAutoscaling") is True
    forms = [PodForm(1, part(cluster, "headGroupSpec", "template", "spec"))]
    for one in parts(cluster, "workerGroupSpecs"):
        count = _count(one.get("replicas"), _count(one.get("minReplicas"), 0))
        if is_elastic:
            count = max(count, _count(one.get("maxReplicas"), 2**31 - 1))
        count *= 0 if one.get("suspend") is True else _count(one.get("numOfHosts"))
        forms.append(PodForm(count, part(one, "template", "spec")))
    return forms


def _ray_standing(document: Document) -> Standing:
    """By its deployment's state; that is `Suspended` only once its cluster is deleted."""
    status = part(document, "status")
    state = str(status.get("jobDeploymentStatus") or "")
    result = str(status.get("jobStatus") or "")
    end = ""
    if state in ("Complete", "Failed", "ValidationFailed"):
        # One that was stopped is Complete, too.
        end = COMPLETE if state == "Complete" and result != "STOPPED" else FAILED
    closing = {
        "lastTransitionTime": status.get("endTime"),
        "reason": status.get("reason") or result,
        "message": status.get("message"),
    }
    return Standing(
        end=end,
        closing=closing if end else {},
        suspension={"status": "True"} if state == "Suspended" else {},
        n_pods=0 if state in _RAY_AT_REST else 1,
    )


def _ray_barrier(document: Document) -> str:
    spec = part(document, "spec")
    if spec.get("clusterSelector"):
        return "it runs in a Ray cluster that is there already (clusterSelector), and cannot be suspended; give it a rayClusterSpec"
    if spec.get("shutdownAfterJobFinishes") is not True:
        return "without shutdownAfterJobFinishes a RayJob cannot be suspended; set it to true"
    return ""


RAY_JOB: Final = KubeKind(
    name="RayJob",
    group="ray.io",
    version="v1",
    plural="rayjobs",
    manager="ray.io/kuberay-operator",
    find_forms=_ray_forms,
    find_standing=_ray_standing,
    find_barrier=_ray_barrier,
    pods=_RAY_CLUSTER,
    owner_labels=(_RAY_CLUSTER,),
    # Its cluster has its name and five random letters; older versions put a word between them.
    owner_of=lambda cluster: _RANDOM.sub("", cluster),
    keys=lambda name, _: (name, f"{name}{_OLD_RAY}"),
    has_codes=False,
)

KINDS: Final[Mapping[str, KubeKind]] = {
    one.name: one for one in (JOB, JOB_SET, TRAIN_JOB, PYTORCH_JOB, RAY_JOB)
}
"""By name, as in the settings."""
