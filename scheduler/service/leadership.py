"""Which of several processes on one store runs the cycle: one has the lease, the others stand by."""

import os
import secrets
import socket
import threading
import time
from typing import Final

import structlog

from scheduler.core.errors import ConflictError, StoreError
from scheduler.ports import Check, JobStore

_log = structlog.get_logger(__name__)
_RENEW_AFTER: Final = 1 / 3
"""Share of a lease after which it is renewed."""
_TRUSTED: Final = 0.95
"""Share of a lease for which its holder believes in it: clocks do not run alike."""
_ASKED: Final = "tick_asked"
"""Document that changes when a process that stands by took something that should be planned soon."""


def boot_s() -> float:
    """Seconds since the machine was started, those in which it slept included, where the system says so."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def process_name() -> str:
    """A name for this process that no other has, and that tells people where it is."""
    return f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"


class Leadership:
    """The lease as this process sees it. Safe to use from any thread.

    The store decides who leads; what this process believes only keeps it from acting on clusters in
    vain. Its writes carry the number of its lease, and the store refuses them once there is a newer one.

    Args:
        store: where the lease is.
        holder: what this process calls itself; no other may have the same name.
        for_s: length of the lease in seconds.
        stands: False for a process that never leads.
    """

    def __init__(self, store: JobStore, *, holder: str, for_s: float, stands: bool = True) -> None:
        self._store = store
        self._holder = holder
        self._for_s = for_s
        self._stands = stands
        self._lock = threading.Lock()
        self._fence = 0
        self._leads_until_s = 0.0
        self._asked_at_s = 0.0
        self._is_resigned = False
        self._wants_tick = False
        self._seen_wish: str | None = None
        self.changes: int = 0
        """How often this process has got the lease."""
        self.trouble: str | None = None
        """Why the store could not be asked for the lease when that was last due."""

    @property
    def look_every_s(self) -> float:
        """Seconds between two calls of `keep`."""
        return min(1.0, self._for_s * _RENEW_AFTER)

    def fence(self) -> int:
        """Number of the newest lease that this process had."""
        return self._fence

    def is_leading(self) -> bool:
        """Whether this process may act; turns False by itself when the lease was not renewed in time."""
        return boot_s() < self._leads_until_s

    def require(self) -> None:
        """Raises ConflictError where this process may not act, as one that slept through its lease."""
        if not self.is_leading():
            raise ConflictError(
                "another scheduler may have taken over: nothing was asked of the cluster"
            )

    def keep(self) -> bool:
        """Takes the lease if it is free, renews it where that is due; whether this process leads."""
        with self._lock:
            if not self._stands or self._is_resigned:
                return False
            now_s = boot_s()
            if not self.is_leading() or now_s >= self._asked_at_s + self._for_s * _RENEW_AFTER:
                self._ask(now_s)
            return self.is_leading()

    def resign(self) -> None:
        """Gives the lease up, so that another need not wait until it ends; it is not taken again."""
        with self._lock:
            self._is_resigned = True
            is_leading, self._leads_until_s = self.is_leading(), 0.0
            if not is_leading:
                return
            try:
                self._store.drop_lease(self._holder)
            except StoreError as error:
                _log.warning("lease_not_dropped", error=error.message)  # it ends by itself

    def ask_for_tick(self) -> None:
        """Has the leader tick soon, whichever process that is; the word goes out with the next `pass_on`."""
        self._wants_tick = True

    def pass_on(self) -> bool:
        """Tells the leader what `ask_for_tick` was called for; on the leader, whether anybody did."""
        if not self.is_leading():
            if self._wants_tick:
                self._wants_tick = False
                self._store.put_document(_ASKED, secrets.token_hex(8))
            return False
        wish = self._store.get_document(_ASKED)
        is_new, self._seen_wish = wish != self._seen_wish, wish
        return is_new

    def check(self) -> Check:
        """Who leads, for `doctor` and `/readyz`."""
        if self.is_leading():
            return Check(
                subject="scheduler", is_ok=True, detail=f"this process, lease {self._fence}"
            )
        try:
            lease = self._store.lease()
        except StoreError as error:
            return Check(subject="scheduler", is_ok=False, detail=error.message)
        if lease is None:
            detail = "no process has the lease: jobs are taken, none is planned or started"
            return Check(subject="scheduler", is_ok=False, detail=detail)
        stands = "this process stands by" if self._stands else "this process only answers"
        return Check(subject="scheduler", is_ok=True, detail=f"{lease.holder}; {stands}")

    def _ask(self, now_s: float) -> None:
        was_leading = self.is_leading()
        try:
            lease = self._store.take_lease(self._holder, for_s=self._for_s)
        except StoreError as error:
            _log.warning("lease_unknown", error=error.message)  # what is left of it still counts
            self.trouble = error.message
            return
        self._asked_at_s, self.trouble = now_s, None
        if lease.holder != self._holder:
            self._leads_until_s = 0.0
            if was_leading:
                _log.warning("lease_lost", holder=lease.holder)
            return
        is_new = lease.fence != self._fence
        self._fence = lease.fence
        # From before it was asked for: the store counts from later on.
        self._leads_until_s = now_s + self._for_s * _TRUSTED
        if is_new:
            self.changes += 1
            _log.info("lease_taken", holder=self._holder, fence=lease.fence)
