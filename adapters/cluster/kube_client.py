"""Requests to a Kubernetes API server: bounded in time and size, repeated where that is safe, errors by what they mean."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.cluster.kube_link import KubeLink, Wish
from adapters.cluster.kube_refusals import (
    Answer,
    KubeError,
    KubeRefusedError,
    KubeSilentError,
    Refusal,
    refusal_of,
    warnings_of,
)

Document = dict[str, Any]
Params = Mapping[str, str]
_PATHS: Final[Mapping[str, str]] = {
    "jobs": "/apis/batch/v1/namespaces/{}/jobs",
    "pods": "/api/v1/namespaces/{}/pods",
    "services": "/api/v1/namespaces/{}/services",
    "events": "/api/v1/namespaces/{}/events",
    "resourcequotas": "/api/v1/namespaces/{}/resourcequotas",
    "workloads": "/apis/kueue.x-k8s.io/v1beta2/namespaces/{}/workloads",
    "localqueues": "/apis/kueue.x-k8s.io/v1beta2/namespaces/{}/localqueues",
}
NODES: Final = "/api/v1/nodes"
REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_STRICT: Final = {"fieldValidation": "Strict", "fieldManager": "gridtide"}
_DRY: Final = {"dryRun": "All"}
_PASSING: Final = (Refusal.THROTTLED, Refusal.BROKEN)
_PAGE: Final = 500
_MAX_WAIT_S: Final = 5.0
"""Who wants to be left alone for longer is asked again by the next turn."""
_WATCH_MARGIN_S: Final = 30.0


def path_of(kind: str, namespace: str, name: str | None = None) -> str:
    """Path of a collection, or of one object in it; names are of a form that needs no quoting."""
    path = _PATHS[kind].format(namespace)
    return path if name is None else f"{path}/{name}"


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a list, and the version that a watch goes on from."""

    items: list[Document]
    version: str


class KubeClient:
    """Requests that may be repeated, and are where that helps.

    Args:
        link: the connection.
        wait: how pauses between tries are spent.
        chance: source of jitter.

    Every method raises KubeRefusedError where the server says no, and KubeSilentError where nothing can be
    read from it after some tries, or nobody can log in.
    """

    def __init__(
        self,
        link: KubeLink,
        *,
        wait: Callable[[float], None] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.link: Final = link
        self._wait = wait or link.stop.wait
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret

    def get(self, path: str, params: Params | None = None) -> Document:
        """The document at that path."""
        return self._json("GET", path, params=params)

    def list_all(self, path: str, *, selector: str = "", fields: str = "") -> Listing:
        """All objects that the selectors leave, page by page.

        Raises:
            KubeRefusedError: also EXPIRED, where the list changed too much under way: begin again.
        """
        params = {"limit": str(_PAGE)}
        params |= {"labelSelector": selector} if selector else {}
        params |= {"fieldSelector": fields} if fields else {}
        items, version = list[Document](), ""
        while True:
            page = self.get(path, params)
            meta = page.get("metadata") or {}
            items += page.get("items") or []
            version = str(meta.get("resourceVersion") or version)
            if not meta.get("continue"):
                return Listing(items, version)
            params |= {"continue": str(meta["continue"])}

    def create(self, path: str, document: Document, *, is_dry: bool = False) -> Document:
        """What the server made of it; a field that it does not know is refused."""
        params = _STRICT | (_DRY if is_dry else {})
        return self._json("POST", path, params=params, document=document)

    def try_create(self, path: str, document: Document, *, within_s: float) -> tuple[str, ...]:
        """What the server warns of when it creates the object for show. Asked once.

        It checks it and asks quotas and policies, but keeps nothing.
        """
        wish = Wish(
            method="POST",
            path=path,
            params=_STRICT | _DRY,
            content=json.dumps(document).encode("ascii"),
            read_s=within_s,
            is_once=True,
        )
        return warnings_of(self._answer(wish))

    def merge_patch(self, path: str, patch: Document) -> Document:
        """The object after the patch."""
        kind = "application/merge-patch+json"
        return self._json("PATCH", path, params=_STRICT, document=patch, content_type=kind)

    def apply(self, path: str, document: Document, *, owner: str) -> Document:
        """The object once these fields are as stated, and this field manager's; those it stated before and not now go.

        Fields of others are left, but for values that differ from what is stated.
        """
        params = {"fieldManager": owner, "force": "true", "fieldValidation": "Strict"}
        kind = "application/apply-patch+yaml"  # JSON is YAML
        return self._json("PATCH", path, params=params, document=document, content_type=kind)

    def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        grace_s: int | None = None,
        policy: str = "Background",
    ) -> None:
        """Has the object deleted, if it still is the one of that uid; one that is gone is no error."""
        options: Document = {"propagationPolicy": policy}
        options |= {} if uid is None else {"preconditions": {"uid": uid}}
        options |= {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        try:
            self._json("DELETE", path, document=options)
        except KubeRefusedError as error:
            if error.kind is not Refusal.MISSING:
                raise

    def may(self, verb: str, resource: str, *, group: str = "", namespace: str) -> bool:
        """Whether the login has that permission in the namespace; of a subresource as in `pods/log`."""
        asked = {"verb": verb, "group": group, "namespace": namespace}
        asked["resource"], _, asked["subresource"] = resource.partition("/")
        document = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = self._json("POST", REVIEWS, document=document)
        return bool((answer.get("status") or {}).get("allowed"))

    @contextlib.contextmanager
    def watch(
        self, path: str, *, selector: str, version: str, seconds: int
    ) -> Iterator[Iterator[Document]]:
        """The events since that version, until the server ends the stream, for about so many seconds.

        Raises:
            KubeRefusedError: at the start; later ones are events of type ERROR.
            KubeSilentError: no connection, or one that broke.
        """
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "labelSelector": selector,
        }
        wish = Wish(method="GET", path=path, params=params, read_s=seconds + _WATCH_MARGIN_S)
        with self.link.sent(wish) as reply:
            if reply.status_code != 200:
                refused = refusal_of(self.link.read(reply))
                if refused.kind is Refusal.LOGIN:
                    self.link.forget_login()
                raise refused
            yield self.link.events(reply)

    # ------------------------------------------------------------------ one request

    def _json(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        document: Document | None = None,
        content_type: str = "application/json",
    ) -> Document:
        content = None if document is None else json.dumps(document).encode("ascii")
        answer = self._answer(
            Wish(
                method=method,
                path=path,
                params=params,
                content=content,
                content_type=content_type,
            )
        )
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise KubeSilentError(f"{path} answered with broken JSON", was_sent=True) from error
        if not isinstance(found, dict):
            raise KubeSilentError(f"{path} answered with no object", was_sent=True)
        return found

    def _answer(self, wish: Wish) -> Answer:
        """The answer of the first try that succeeds.

        Every request of this class may be repeated: names make creation so, and patches set what they say.
        """
        may_have_arrived, has_renewed, attempt = False, False, 1
        while True:
            try:
                return self._once(wish)
            except KubeSilentError as error:
                may_have_arrived |= error.was_sent
                last: KubeError = error
            except KubeRefusedError as error:
                if error.kind is Refusal.LOGIN and not has_renewed:
                    has_renewed = True
                    self.link.forget_login()
                    continue
                may_have_arrived |= error.kind is Refusal.BROKEN
                last = error
            pause_s = None if wish.is_once else self._pause_s(attempt, last)
            if pause_s is None:
                raise _final(last, wish, may_have_arrived=may_have_arrived) from last
            self._wait(pause_s)
            attempt += 1

    def _pause_s(self, attempt: int, error: KubeError) -> float | None:
        """How long to wait before the next try; None where none is due: it would not help, or not so soon."""
        refused = error if isinstance(error, KubeRefusedError) else None
        is_final = refused is not None and refused.kind not in _PASSING
        if is_final or attempt == self.link.limits.attempts or self.link.stop.is_set:
            return None
        asked_s = (refused.retry_after_s if refused else None) or 0.0
        jitter_s = self._chance.uniform(0, min(_MAX_WAIT_S, 0.25 * 2**attempt))
        return None if asked_s > _MAX_WAIT_S else asked_s + jitter_s

    def _once(self, wish: Wish) -> Answer:
        with self.link.sent(wish) as reply:
            answer = self.link.read(reply)
        if not 200 <= answer.code < 300:
            raise refusal_of(answer)
        return answer


def _final(error: KubeError, wish: Wish, *, may_have_arrived: bool) -> KubeError:
    """The error to raise: where an earlier try may have been acted upon, a later refusal does not tell.

    Such as that of a quota which counts the very object that was created.
    """
    if not may_have_arrived or wish.method == "GET":
        return error
    if isinstance(error, KubeRefusedError):
        is_creation = wish.method == "POST"
        if error.kind is Refusal.EXISTS if is_creation else error.kind not in _PASSING:
            return error
    return KubeSilentError(str(error), was_sent=True)
