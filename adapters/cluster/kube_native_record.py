"""What is kept of a job that a user created: its words, our marks, and what its pods ask for. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final, NamedTuple

from adapters.cluster.kube_capacity import quantity
from adapters.cluster.kube_kinds import JOB, Document, KubeKind, PodForm, part, parts
from adapters.cluster.kube_records import (
    DEVICES,
    ENDING,
    OUTCOME,
    PREFIX,
    QUEUE,
    RUN,
    KubeJob,
    parse_job,
    seconds,
)
from scheduler.core.timegrid import format_instant

ADOPTED: Final = f"{PREFIX}/adopted"
"""Mark: our id of the job."""
GUARD: Final = f"{PREFIX}/guard"
"""Mark: its latest safe start, on the wall clock."""
WORDS_OF: Final = f"{PREFIX}/adopted-words"
"""Mark: digest of what it asked for when it was adopted."""
SINCE: Final = f"{PREFIX}/since"
"""Mark: since when it asks, where that is not its creation."""
RELEASED: Final = f"{PREFIX}/released"
"""Mark: when it was let start last."""
GIVEN_BACK: Final = f"{PREFIX}/given-back"
"""Mark: when it was suspended again without having begun."""
PAUSED: Final = f"{PREFIX}/paused"
"""Mark: when we suspended it."""
SPANS: Final = f"{PREFIX}/spans"
"""Mark: when it ran before, for its pods are gone."""
STATUS: Final = f"{PREFIX}/status"
"""Mark: what its user is told."""
REFUSED: Final = f"{PREFIX}/refused"
"""Mark: why it is not planned."""
REFUSED_WORDS: Final = f"{PREFIX}/refused-words"
"""Mark: digest of what it asked for when it was refused."""
CANCELLED: Final = f"{PREFIX}/cancelled"
"""Mark: it was cancelled in Gridtide."""
MARKS_OF: Final = f"{PREFIX}/marks-of"
"""Mark: uid of the job that the marks were made for; a copy of it has them, too, but they say nothing of the copy."""
BY_USER: Final = " by its user"
"""Ends `RELEASED` of one that its user has started."""
HOLD: Final = f"{PREFIX}/hold"
"""Its user's, and ours where its user has suspended it: it is not to start."""
_OWN: Final = (ADOPTED, GUARD, WORDS_OF, SINCE, RELEASED, GIVEN_BACK, PAUSED, SPANS, STATUS)
MARKS: Final = (*_OWN, REFUSED, REFUSED_WORDS, CANCELLED, MARKS_OF)
"""What we write."""
_NO_WORDS: Final = frozenset({*MARKS, HOLD, RUN, DEVICES, ENDING, OUTCOME})
_KUEUE: Final = "kueue.x-k8s.io"
_SIGNAL: Final = (
    "signal: not a word on Kubernetes, whose pods get SIGTERM before they are killed; leave it out"
)
_DIGEST: Final = 12
_PASSING: Final = ("CronJob", "RayCronJob")
"""Owners that create jobs, and do not steer them."""


class Place(NamedTuple):
    """Where a job is found: its namespace, and the name of its kind."""

    namespace: str
    kind: str


@dataclass(frozen=True, slots=True)
class PodGroup:
    """Pods of one form.

    Args:
        count: that run at once.
        asked: of each pod, by resource.
    """

    count: int
    asked: Mapping[str, Fraction]
    node_selector: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeNative(KubeJob):
    """A job of a user, as the API told it.

    Args:
        words: what it asks of Gridtide, by the names of the fields of a job document.
        marks: our annotations, and `HOLD`.
        groups: its pods.
        limit_s: `activeDeadlineSeconds`.
        barrier: why it is not ours to start, whatever it asks for; empty where it is.
        digest: of all that it asks for; another one means that it was changed.
        is_child: another job or controller made it, and steers it.
        is_leaving: it is being deleted.
        is_copied: the marks at it were made for another job, and are not among `marks`.
    """

    kind: KubeKind
    namespace: str
    words: Mapping[str, str]
    marks: Mapping[str, str]
    groups: tuple[PodGroup, ...]
    limit_s: int | None
    barrier: str
    digest: str
    is_child: bool
    is_leaving: bool
    is_copied: bool = False

    @property
    def ref(self) -> str:
        """Its name for the service: another job of the same name has another one."""
        return f"{self.label}/{self.owner}"

    @property
    def label(self) -> str:
        """Its name for people; that of a Job goes without its kind."""
        kind = "" if self.kind is JOB else f"{self.kind.name}/"
        return f"{self.namespace}/{kind}{self.name}"

    @property
    def place(self) -> Place:
        """Where it is found."""
        return Place(self.namespace, self.kind.name)

    @property
    def pod_keys(self) -> tuple[str, ...]:
        """By which its pods are found."""
        return self.kind.keys(self.name, self.owner)

    @property
    def asks(self) -> bool:
        """Whether it asks to be planned."""
        return bool(self.words)

    @property
    def waits(self) -> bool:
        """Whether it can be started at all."""
        return self.is_suspended and not (self.is_over or self.is_leaving)

    @property
    def is_by_hand(self) -> bool:
        """Whether it was suspended after it had been let start, and not by us."""
        return self.is_suspended and RELEASED in self.marks and PAUSED not in self.marks

    @property
    def is_held(self) -> bool:
        """Whether its user keeps it from starting."""
        return self.is_by_hand or self.marks.get(HOLD, "").lower() in ("true", "yes", "1")

    @property
    def is_refused(self) -> bool:
        """Whether it was refused as it is now."""
        return self.marks.get(REFUSED_WORDS) == self.digest

    @property
    def is_reworded(self) -> bool:
        """Whether it was changed since it was adopted."""
        return self.marks.get(WORDS_OF) not in (None, self.digest)

    @property
    def since_s(self) -> float:
        """Since when it asks, as far as is known."""
        return seconds(self.marks.get(SINCE)) or self.created_s


def parse_ref(ref: str) -> tuple[Place, str, str]:
    """Place, name and uid of the job with that `KubeNative.ref`."""
    *where, name, uid = ref.split("/")
    namespace, kind = where if len(where) == 2 else (where[0], JOB.name)
    return Place(namespace, kind), name, uid


def parse_native(document: Document, kind: KubeKind = JOB) -> KubeNative:
    """The record of a job of that kind, whoever made it."""
    job = parse_job(document, kind)
    meta, terms, forms = part(document, "metadata"), kind.terms(document), kind.find_forms(document)
    notes = {
        key: str(value)
        for key, value in part(meta, "annotations").items()
        if key.startswith(f"{PREFIX}/")
    }
    words = {
        key.removeprefix(f"{PREFIX}/").replace("-", "_"): value
        for key, value in notes.items()
        if key not in _NO_WORDS
    }
    is_copied = notes.get(MARKS_OF, job.owner) != job.owner
    counted = (HOLD,) if is_copied else (*MARKS, HOLD)
    marks = {key: value for key, value in notes.items() if key in counted}
    groups, limit_s = tuple(map(_group, forms)), terms.get("activeDeadlineSeconds")
    other = _barrier(document, kind, forms) or (_SIGNAL if "signal" in words else "")
    known = {one.name: getattr(job, one.name) for one in fields(KubeJob)}
    # Until the controller has seen a start, the Job itself tells of its creation, or of an earlier start.
    released_s = seconds(marks.get(RELEASED, "").removesuffix(BY_USER))
    return KubeNative(
        **(known | {"began_s": max(job.began_s, released_s or 0.0)}),
        kind=kind,
        namespace=str(meta.get("namespace")),
        words={} if RUN in notes else words,
        marks=marks,
        groups=groups,
        limit_s=limit_s,
        barrier=other or (queue_barrier(job.queue) if job.queue else ""),
        digest=_digest(words, _told_of(groups, job.queue), limit_s, other or job.queue),
        is_child=_find_owner(meta) is not None,
        is_leaving="deletionTimestamp" in meta,
        is_copied=is_copied,
    )


def stamp(wall_s: float) -> str:
    """A wall-clock instant as we mark it, to the second."""
    return format_instant(datetime.fromtimestamp(int(wall_s), UTC))


def guard_stamp(wall_s: float) -> str:
    """The same to the millisecond, for what is compared with another clock."""
    return format_instant(datetime.fromtimestamp(round(wall_s, 3), UTC))


def _digest(words: Mapping[str, str], groups: tuple[PodGroup, ...], *rest: object) -> str:
    told: list[object] = [words]
    for one in groups:
        asked = {key: str(value) for key, value in one.asked.items()}
        told += [asked, dict(one.node_selector), one.count]
    text = json.dumps([*told, *rest], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]


def _told_of(groups: tuple[PodGroup, ...], queue: str) -> tuple[PodGroup, ...]:
    """The groups as far as they are their user's words: Kueue adds the labels of a flavor while a queued Job runs."""
    return tuple(replace(one, node_selector={}) for one in groups) if queue else groups


def queue_barrier(queue: str) -> str:
    """Why a Job in that queue is not planned, where the settings say nothing of Kueue."""
    return (
        f"it is in Kueue's queue {queue}, which decides on its start; take the label {QUEUE} off to have it planned, "
        "or ask the site to set kubernetes.kueue"
    )


def _barrier(document: Document, kind: KubeKind, forms: list[PodForm]) -> str:
    meta = part(document, "metadata")
    labels, manager = part(meta, "labels"), kind.terms(document).get("managedBy")
    if f"{_KUEUE}/multikueue-origin" in labels:
        return "it came here by MultiKueue, whose manager cluster has decided on its start"
    if manager not in (None, kind.manager):
        return f"it is managed by {manager}, which decides on its start"
    if (owner := _find_owner(meta)) is not None:
        return (
            f"it belongs to the {owner.get('kind')} {owner.get('name')}, which decides on its start"
        )
    if any(one.spec.get("resourceClaims") for one in forms):
        return (
            "it asks for devices by resource claims, which are not planned; ask for them as limits"
        )
    return kind.find_barrier(document)


def _find_owner(meta: Document) -> Document | None:
    """Who steers it, beside its user."""
    owners = (one for one in parts(meta, "ownerReferences") if one.get("controller"))
    return next((one for one in owners if one.get("kind") not in _PASSING), None)


def _group(form: PodForm) -> PodGroup:
    selector = part(form.spec, "nodeSelector")
    return PodGroup(
        form.count, _asked(form.spec), {str(key): str(value) for key, value in selector.items()}
    )


def _asked(pod: Document) -> dict[str, Fraction]:
    """What one pod asks for: all its containers together, or the most of those that run before them."""
    total = dict[str, Fraction]()
    most = dict[str, Fraction]()
    for container in parts(pod, "containers"):
        _add(total, _requests(container))
    for container in parts(pod, "initContainers"):
        if container.get("restartPolicy") == "Always":
            _add(total, _requests(container))
        else:
            own = _requests(container)
            most |= {key: max(value, most.get(key, Fraction(0))) for key, value in own.items()}
    return {
        key: max(total.get(key, Fraction(0)), most.get(key, Fraction(0)))
        for key in total.keys() | most.keys()
    }


def _add(total: dict[str, Fraction], more: Mapping[str, Fraction]) -> None:
    for key, value in more.items():
        total[key] = total.get(key, Fraction(0)) + value


def _requests(container: Document) -> dict[str, Fraction]:
    """A limit without a request is one, too."""
    resources = part(container, "resources")
    merged = {**part(resources, "limits"), **part(resources, "requests")}
    return {str(key): quantity(value) for key, value in merged.items()}
