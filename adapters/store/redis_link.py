"""One store's connection to its server: scripts, each exactly once however often it had to be sent."""

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.connection import Connection

from adapters.store import redis_errors
from adapters.store.redis_address import RedisAddress
from adapters.store.redis_gate import Gate
from adapters.store.redis_keys import schema_key
from adapters.store.redis_outage import Outage
from adapters.store.redis_pools import Pools
from adapters.store.redis_scripts import Script
from adapters.store.redis_terms import RedisTerms, RedisWait
from scheduler.core.errors import ConflictError, GridtideError, StoreError

Argument = str | int
Reply = list[str | None]
_PAUSE_S: Final = 0.05
"""Before a call is sent again; doubled each time."""
_LONGEST_PAUSE_S: Final = 1.0
_REFUSED: Final = frozenset(
    {"fenced", "held", "missing", "schema", "settled", "skewed", "stale", "taken", "used"}
)
"""Answers of scripts that wrote nothing."""


class _FailedError(Exception):
    """An attempt that came to nothing.

    Args:
        was_sent: the server may have got it.
        is_passing: another attempt may go better.
    """

    def __init__(self, error: redis.RedisError, *, was_sent: bool, is_passing: bool) -> None:
        super().__init__(error)
        self.error = error
        self.was_sent = was_sent
        self.is_passing = is_passing


class RedisLink:
    """Calls scripts on the server that has the store. Safe to use from any thread.

    Args:
        pools: closed with the link.
        schema: what the schema key must hold; a script does nothing where it holds anything else.
    """

    def __init__(
        self, address: RedisAddress, terms: RedisTerms, pools: Pools, *, schema: str
    ) -> None:
        self.address = address
        self.schema = schema
        self._terms = terms
        self._pools = pools
        self._gate = Gate(str(address))
        self._outage = Outage(str(address))
        self._key = schema_key(address.name)
        self._caller = secrets.token_hex(8)

    def call(self, script: Script, *args: Argument, fence: int | None = None) -> Reply:
        """What the script answers: a word, then what belongs to it.

        `fence` is the number of the caller's lease; a script refuses an older one than it has seen.

        Raises:
            StoreError: the server cannot be reached, refuses, does not confirm, or has another schema.
            ConflictError: somebody with a newer lease writes now.
        """
        with self._gate.enter() as lane:
            named = (
                self.schema,
                "" if fence is None else fence,
                self._caller,
                lane.number,
                lane.calls,
            )
            reply = self._attempts(script, (*named, *args))
        match reply[0]:
            case "schema":
                raise self._schema_error(reply[1] or "")
            case "fenced":
                raise ConflictError(
                    f"{self.address}: another scheduler took over (lease {reply[1]}, ours was {fence}); "
                    "nothing was written",
                    fence=fence,
                )
        return reply

    def run(self, script: Script, *args: Argument) -> Reply:
        """What a script answers that looks after the schema itself. Raises StoreError."""
        with self._gate.enter():
            return self._attempts(script, args)

    def ask(self, *words: Argument) -> Any:
        """What the server answers to a command that changes nothing.

        Raises:
            StoreError: it cannot be reached, or refuses.
        """
        with self._gate.enter():
            try:
                pool = self._pools.pool()
                connection = pool.get_connection()
                try:
                    return _exchange(connection, words)
                finally:
                    pool.release(connection)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                raise self._unreachable(error) from error
            except redis.RedisError as error:
                raise redis_errors.refusal(self.address, error) from error

    def close(self) -> None:
        """Waits for what is under way, and closes every connection."""
        self._gate.close()
        self._pools.close()

    def _attempts(self, script: Script, args: Sequence[Argument]) -> Reply:
        tries = self._terms.tries if self._outage.may_retry() else 1
        began_s, may_be_done = time.monotonic(), False
        for attempt in range(1, tries + 1):
            try:
                reply = self._attempt(script, args)
            except _FailedError as failure:
                may_be_done |= failure.was_sent
                if failure.is_passing:
                    self._pools.look_again()
                # Closing does not wait for a server that is gone.
                is_last = attempt == tries or self._gate.closing.is_set()
                if not failure.is_passing or is_last:
                    self._note(failure, began_s)
                    raise self._error(failure, script, may_be_done=may_be_done) from failure.error
            else:
                self._outage.note_answer()
                return reply
            self._gate.closing.wait(min(_PAUSE_S * 2 ** (attempt - 1), _LONGEST_PAUSE_S))
        raise AssertionError("the last attempt returns or raises")

    def _note(self, failure: _FailedError, began_s: float) -> None:
        error = failure.error
        is_silent = isinstance(error, redis.ConnectionError | redis.TimeoutError)
        if is_silent and not redis_errors.code_of(error):
            self._outage.note_silence(began_s, is_slow=isinstance(error, redis.TimeoutError))
        else:
            self._outage.note_answer()

    def _attempt(self, script: Script, args: Sequence[Argument]) -> Reply:
        try:
            pool = self._pools.pool()
            connection = pool.get_connection()
        except redis.RedisError as error:
            is_passing = not isinstance(error, redis.AuthenticationError)
            raise _FailedError(error, was_sent=False, is_passing=is_passing) from error
        try:
            reply = self._evaluate(connection, script, args)
            if script.is_write and reply[0] not in _REFUSED and self._terms.wait.is_needed:
                self._wait(connection, self._terms.wait)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # Of the errors of a connection, these are answers.
            was_sent = not isinstance(error, redis.BusyLoadingError | redis.AuthenticationError)
            is_passing = not isinstance(error, redis.AuthenticationError)
            raise _FailedError(error, was_sent=was_sent, is_passing=is_passing) from error
        except redis.RedisError as error:
            is_passing = redis_errors.code_of(error) in redis_errors.PASSING
            raise _FailedError(error, was_sent=False, is_passing=is_passing) from error
        else:
            return reply
        finally:
            pool.release(connection)

    def _evaluate(self, connection: Connection, script: Script, args: Sequence[Argument]) -> Reply:
        words = ("EVALSHA", script.sha, 1, self._key, *args)
        try:
            reply = _exchange(connection, words)
        except redis.exceptions.NoScriptError:
            # A server forgets scripts when it starts, and a new primary never had them.
            _exchange(connection, ("SCRIPT", "LOAD", script.text))
            reply = _exchange(connection, words)
        assert isinstance(reply, list)
        return reply

    def _wait(self, connection: Connection, wait: RedisWait) -> None:
        timeout_ms = max(1, round(wait.timeout_s * 1000))
        if wait.is_on_disk:
            here, there = _exchange(connection, ("WAITAOF", 1, wait.replicas, timeout_ms))
        else:
            here, there = 0, _exchange(connection, ("WAIT", wait.replicas, timeout_ms))
        if there >= wait.replicas and here >= wait.is_on_disk:
            return
        wanted = f"{wait.replicas} replicas" + (" and its own disk" if wait.is_on_disk else "")
        raise StoreError(
            f"{self.address} wrote it, but within {wait.timeout_s:g} s only {there} replicas"
            f"{' and its own disk' if here else ''} confirmed, not {wanted}: the write may or may not last; "
            "a request that is repeated with its Idempotency-Key is done once",
            server=str(self.address),
            replicas=int(there),
        )

    def _error(self, failure: _FailedError, script: Script, *, may_be_done: bool) -> GridtideError:
        error = failure.error
        if may_be_done:
            # Also where another attempt was refused: the one before it may have arrived.
            return redis_errors.lost(self.address, error, is_write=script.is_write)
        if isinstance(error, redis.ConnectionError | redis.TimeoutError):
            return self._unreachable(error)
        return redis_errors.refusal(self.address, error)

    def _unreachable(self, error: redis.RedisError) -> StoreError:
        if redis_errors.code_of(error):
            return redis_errors.refusal(self.address, error)
        return redis_errors.unreachable(self.address, error)

    def _schema_error(self, found: str) -> StoreError:
        if not found:
            return StoreError(
                f"{self.address} holds no store any more: it was emptied, or started without its data; nothing was "
                "written: stop Gridtide, restore a backup, and see deploy/redis/README.md on persistence",
                server=str(self.address),
            )
        version, ours = found.partition(":")[0], self.schema.partition(":")[0]
        if version == ours:
            return StoreError(
                f"{self.address} holds another store than when this process started: it was emptied and a new one was "
                "made; nothing was written: stop Gridtide and restore a backup, or start it again to go on with the new one",
                server=str(self.address),
            )
        return StoreError(
            f"{self.address} has schema version {version} by now, this Gridtide works with {ours}; nothing was "
            "written: upgrade Gridtide and start it again",
            server=str(self.address),
            version=version,
        )


def _exchange(connection: Connection, words: Sequence[Argument]) -> Any:
    try:
        connection.send_command(*words)
        return connection.read_response()
    except redis.ResponseError:
        raise  # an answer, read to its end
    except BaseException:
        # Its answer may still come, and would be taken for that of the next call.
        connection.disconnect()
        raise
