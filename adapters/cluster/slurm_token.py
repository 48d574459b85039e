"""The token for slurmrestd: from the environment, or from a file that may be renewed at any time."""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from scheduler.core.errors import ClusterUnavailableError

_WELL = "a token as `scontrol token username=USER lifespan=SECONDS` prints it"


class TokenSource(Protocol):
    """Where the token is."""

    def get(self) -> str:
        """The token as it is now; raises ClusterUnavailableError where there is none."""
        ...


class TokenVariable:
    """A token in an environment variable."""

    def __init__(self, cluster_id: str, name: str, environment: Mapping[str, str]) -> None:
        self._cluster_id = cluster_id
        self._name = name
        self._environment = environment

    def get(self) -> str:
        """See `TokenSource`."""
        token = parse_token(self._environment.get(self._name, ""))
        if token is None:
            raise ClusterUnavailableError(
                f"{self._cluster_id}: the variable {self._name} holds no token; set it to {_WELL}",
                cluster=self._cluster_id,
                field="token_env",
            )
        return token


class TokenFile:
    """A token in a file, read again whenever the file is another one: a cron job may renew it."""

    def __init__(self, cluster_id: str, path: Path) -> None:
        self._cluster_id = cluster_id
        self._path = path
        self._read: tuple[tuple[int, int, int], str] | None = None

    def get(self) -> str:
        """See `TokenSource`."""
        try:
            stamp = _stamp(self._path.stat())
            known = self._read
            if known is not None and known[0] == stamp:
                return known[1]
            token = parse_token(self._path.read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise self._without(f"cannot be read: {why}") from error
        if token is None:
            raise self._without("holds no token")
        self._read = (stamp, token)
        return token

    def _without(self, what: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"{self._cluster_id}: token_file {self._path} {what}; write {_WELL} there",
            cluster=self._cluster_id,
            field="token_file",
        )


def parse_token(text: str) -> str | None:
    """The token of a text, with or without the `SLURM_JWT=` that scontrol prints; None for none."""
    token = text.strip().removeprefix("SLURM_JWT=").strip()
    return token if token and token.isascii() and token.isprintable() and " " not in token else None


def expiry_s(token: str) -> float | None:
    """Until when the token is good, in Unix seconds; None where it does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError, RecursionError):
        return None
    until = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(until, bool) or not isinstance(until, int | float) or abs(until) > 1e11:
        return None
    return float(until)


def _stamp(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
