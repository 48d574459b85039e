"""A copy of all objects of one kind, kept up to date by list and watch in a thread of its own."""

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from adapters.cluster.kube_client import KubeClient, Listing
from adapters.cluster.kube_kinds import part
from adapters.cluster.kube_refusals import (
    KubeError,
    KubeRefusedError,
    KubeSilentError,
    Refusal,
    refusal_of_status,
)

_log = structlog.get_logger(__name__)
Document = dict[str, Any]
MAX_GONE: Final = 20_000
"""Owners whose gone objects are remembered, at most."""


class Mirrored(Protocol):
    """What a copy can hold: a name, and whose it is."""

    @property
    def name(self) -> str:
        """Unique among those there are now."""
        ...

    @property
    def owner(self) -> str:
        """A uid, unique for ever: of the object itself, or of the one that it belongs to."""
        ...

    @property
    def version(self) -> str:
        """Of the object; of two numbers the greater one is the later (Kubernetes 1.35 promises what always was so)."""
        ...


_T = TypeVar("_T", bound=Mirrored)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPace:
    """How often a copy asks. All in seconds.

    Args:
        relist_s: after so long everything is listed again, however well the watch does.
        watch_s: how long one watch lasts.
        least_s: between two watches, should a proxy cut each at once.
        most_s: between two tries while nothing answers, at most.
    """

    relist_s: float = 300.0
    watch_s: int = 240
    least_s: float = 1.0
    most_s: float = 30.0


class KubeMirror(Generic[_T]):
    """A copy of the objects of one path and selector, by name and by owner.

    Args:
        parse: a document to what is kept of it.
        on_change: called after each change with what was and what is; one of them may be None.
        chance: source of jitter.

    A broken watch, a server that forgets history, errors inside the stream and times without an answer end
    in another list; `trouble` says that the last try failed, and how. An object that cannot be read is left out and
    logged; it stays in the copy as it was read last, if it ever was, and `unread` says why.
    """

    def __init__(  # noqa: PLR0913 - named, each once, where copies are made
        self,
        client: KubeClient,
        path: str,
        *,
        selector: str,
        parse: Callable[[Document], _T],
        on_change: Callable[[_T | None, _T | None], None] | None = None,
        pace: WatchPace | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._client = client
        self._path = path
        self._selector = selector
        self._parse = parse
        self._on_change = on_change
        self._pace = pace or WatchPace()
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._stop = client.link.stop
        self._lock = threading.Condition()
        self._items: dict[str, _T] = {}
        self._by_owner: dict[str, dict[str, _T]] = {}
        self._gone: OrderedDict[str, dict[str, _T]] = OrderedDict()
        self._put_s: dict[str, float] = {}
        self._unread: dict[str, str] = {}
        self._trouble: KubeError | None = None
        self._has_listed = False
        self._version: str | None = None
        self._listed_s = 0.0
        self._failures = 0
        self.events = 0
        self.lists = 0
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------ reading

    def start(self) -> None:
        """Starts the thread, once."""
        with self._lock:
            if self._thread is None:
                name = f"watch{self._path.replace('/', '-')}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def join(self, within_s: float) -> None:
        """Waits for the thread to end, after the client's stop was set."""
        if self._thread is not None:
            self._thread.join(within_s)

    def trouble(self, *, within_s: float = 0.0) -> KubeError | None:
        """Why the copy may be old; None where it is up to date. Waits so long for the first list."""
        with self._lock:
            self._lock.wait_for(
                lambda: self._has_listed or self._trouble is not None or self._stop.is_set,
                within_s,
            )
            if self._trouble is None and not self._has_listed:
                return KubeSilentError("it has not answered yet", was_sent=False)
            return self._trouble

    def find(self, name: str) -> _T | None:
        """The object of that name."""
        with self._lock:
            return self._items.get(name)

    def unread(self, name: str) -> str | None:
        """Why the object of that name cannot be read as it is now; None where it can, or is not there."""
        with self._lock:
            return self._unread.get(name)

    def items(self) -> list[_T]:
        """All objects."""
        with self._lock:
            return list(self._items.values())

    def members(self, owner: str) -> list[_T]:
        """All objects of that owner."""
        with self._lock:
            return list(self._by_owner.get(owner, {}).values())

    def gone(self, owner: str) -> list[_T]:
        """Objects of that owner that were there and are not, each as it was last seen."""
        with self._lock:
            return list(self._gone.get(owner, {}).values())

    def put(self, document: Document) -> _T:
        """Takes what a request of ours has made, before the watch tells of it; or what it told already, if later."""
        return self.take(self._parse(document))

    def take(self, item: _T) -> _T:
        """The same of what is parsed already."""
        with self._lock:
            before = self._items.get(item.name)
            self._put_s[item.name] = time.monotonic()
            if before is not None and _is_later(before, item):
                return before
            self._keep(item)
        self._tell(before, item)
        return item

    def drop(self, name: str, owner: str) -> None:
        """Takes that an object was deleted, before the watch tells of it."""
        self._leave(name, owner)

    # ------------------------------------------------------------------ following

    def _run(self) -> None:
        while not self._stop.is_set:
            began_s = time.monotonic()
            try:
                if self._version is None or began_s >= self._listed_s + self._pace.relist_s:
                    self._list()
                self._follow()
            except KubeRefusedError as error:
                self._version = None  # what was seen until now may not be all
                # Forgotten history and rotated tokens are no trouble where the next try goes well.
                passes = error.kind in (Refusal.EXPIRED, Refusal.LOGIN)
                is_usual = passes and self._failures == 0 and self._has_listed
                self._fail(None if is_usual else error, error.retry_after_s)
            except KubeSilentError as error:
                # A connection that broke is no trouble yet where the next one stands.
                is_usual = self._failures == 0 and self._has_listed
                self._fail(None if is_usual else error)
            else:
                self._failures = 0
                rest_s = began_s + self._pace.least_s - time.monotonic()
                if rest_s > 0:
                    self._stop.wait(rest_s)

    def _list(self) -> None:
        began_s = time.monotonic()
        self.lists += 1
        listing = self._client.list_all(self._path, selector=self._selector)
        changes = self._replace(listing, began_s)
        self._version, self._listed_s = listing.version, began_s
        self._well(has_listed=True)
        for before, after in changes:
            self._tell(before, after)

    def _replace(self, listing: Listing, began_s: float) -> list[tuple[_T | None, _T | None]]:
        """Takes a list for everything there is, but for what was put since it was asked for."""
        found, unread = dict[str, _T](), dict[str, str]()
        for document in listing.items:
            item = self._parsed(document, unread)
            if item is not None:
                found[item.name] = item
        changes = list[tuple[_T | None, _T | None]]()
        with self._lock:
            fresh = {name for name, put_s in self._put_s.items() if put_s >= began_s}
            self._put_s = {name: self._put_s[name] for name in fresh}
            self._unread = unread
            for name, item in list(self._items.items()):
                now = found.get(name)
                if (
                    name not in fresh
                    and name not in unread
                    and (now is None or now.owner != item.owner)
                ):
                    self._remove(item)
                    changes.append((item, None))
            for name, item in found.items():
                before = self._items.get(name)
                if before != item and name not in fresh:
                    self._keep(item)
                    changes.append((before, item))
        return changes

    def _follow(self) -> None:
        assert self._version is not None
        until_relist_s = self._listed_s + self._pace.relist_s - time.monotonic()
        seconds = max(1, min(self._pace.watch_s, int(until_relist_s) + 1))
        with self._client.watch(
            self._path, selector=self._selector, version=self._version, seconds=seconds
        ) as events:
            self._well()
            for event in events:
                self._take(event)
                self._failures = 0

    def _take(self, event: Mapping[str, Any]) -> None:
        """Takes one event. Raises KubeRefusedError for one that is an error."""
        document, kind = event["object"], event.get("type")
        self.events += 1
        if kind == "ERROR":
            raise refusal_of_status(document)
        if kind != "BOOKMARK":
            self._take_object(document, is_gone=kind == "DELETED")
        version = part(document, "metadata").get("resourceVersion")
        if version:
            self._version = str(version)

    def _take_object(self, document: Document, *, is_gone: bool) -> None:
        unread = dict[str, str]()
        item = self._parsed(document, unread)
        if item is None and is_gone:
            # Which one has gone, the next list tells; from where the watch was, the same event would come again.
            self._version = None
            raise KubeSilentError(next(iter(unread.values())), was_sent=True)
        with self._lock:
            self._unread |= unread
            if item is not None:
                self._unread.pop(item.name, None)
        if item is not None and is_gone:
            self._leave(item.name, item.owner, last=item)
        elif item is not None:
            self._arrive(item)

    def _parsed(self, document: Document, unread: dict[str, str]) -> _T | None:
        """The object; None, with its names and the reason in `unread`, where it cannot be read."""
        try:
            return self._parse(document)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            meta = part(document, "metadata")
            name = str(meta.get("name"))
            why = f"{self._path}/{name} cannot be read: {error!r}"
            _log.warning("object_unreadable", path=self._path, name=name, error=repr(error))
            # A copy knows pods of some kinds by their uids.
            unread |= {name: why, str(meta.get("uid")): why}
            return None

    def _arrive(self, item: _T) -> None:
        with self._lock:
            before = self._items.get(item.name)
            if before is not None and _is_later(before, item):
                return
            self._keep(item)
        if before != item:
            self._tell(before, item)

    def _leave(self, name: str, owner: str, *, last: _T | None = None) -> None:
        with self._lock:
            before = self._items.get(name)
            if before is None or before.owner != owner:
                return  # another one of that name is there by now
            self._remove(last or before)
        self._tell(last or before, None)

    def _keep(self, item: _T) -> None:
        """Callers hold the lock."""
        before = self._items.get(item.name)
        if before is not None and before.owner != item.owner:
            self._remove(before)
        self._items[item.name] = item
        self._by_owner.setdefault(item.owner, {})[item.name] = item

    def _remove(self, item: _T) -> None:
        """Callers hold the lock."""
        self._items.pop(item.name, None)
        members = self._by_owner.get(item.owner, {})
        members.pop(item.name, None)
        if not members:
            self._by_owner.pop(item.owner, None)
        self._gone.setdefault(item.owner, {})[item.name] = item
        self._gone.move_to_end(item.owner)
        while len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)

    def _tell(self, before: _T | None, after: _T | None) -> None:
        if self._on_change is not None:
            self._on_change(before, after)

    def _well(self, *, has_listed: bool = False) -> None:
        with self._lock:
            self._has_listed |= has_listed
            self._trouble = None
            self._lock.notify_all()

    def _fail(self, why: KubeError | None, after_s: float | None = None) -> None:
        """Rests, the longer the more often it has failed; without a reason it is no trouble."""
        if self._stop.is_set:
            return
        self._failures += 1
        if why is not None:
            with self._lock:
                self._trouble = why
                self._lock.notify_all()
        ceiling_s = min(self._pace.most_s, 0.25 * 2 ** min(self._failures, 16))
        jitter_s = self._chance.uniform(0, ceiling_s)
        self._stop.wait(min(self._pace.most_s, (after_s or 0.0) + jitter_s))


def _is_later(one: Mirrored, other: Mirrored) -> bool:
    """Whether of the same object a later version than the other is known."""
    if one.owner != other.owner or not (one.version.isdecimal() and other.version.isdecimal()):
        return False
    return int(one.version) > int(other.version)
