"""How a store on Redis is spoken to: secrets, limits of time, and what is waited for."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisWait:
    """What a write waits for before it is acknowledged, beyond the server's own answer.

    Args:
        replicas: so many replicas have it.
        is_on_disk: it is on the server's disk (`WAITAOF`, from Redis 7.2 on), and on the replicas'.
        timeout_s: longest wait.
    """

    replicas: int = 0
    is_on_disk: bool = False
    timeout_s: float = 1.0

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to wait for."""
        return self.replicas > 0 or self.is_on_disk


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTerms:
    """How the server is spoken to.

    Args:
        password: never in a message.
        sentinel_user: of the sentinels, which have users of their own; None for the default one.
        sentinel_password: theirs; None where they ask for none.
        timeout_s: longest time to connect, and to wait for one answer.
        max_connections: so many calls are under way at the same time; further ones wait.
        tries: so often a call is sent at most, where the server does not answer.
    """

    password: str | None = field(default=None, repr=False)
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout_s: float = 5.0
    wait: RedisWait = field(default_factory=RedisWait)
    max_connections: int = 64
    tries: int = 3
