"""Who may talk to the service: bearer tokens, known only by their SHA-256."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence


def new_token() -> str:
    """A random token of 256 bits."""
    return "gt_" + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """The line for `server.token_hashes`. A random 256-bit token needs no salt or stretching."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def is_authorised(header: str | None, token_hashes: Sequence[str]) -> bool:
    """Whether an Authorization header carries a known token; always, where none is configured."""
    if not token_hashes:
        return True
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return False
    given = hash_token(token.strip())
    # Every hash is compared, so that timing does not tell which one is near.
    return any([hmac.compare_digest(given, known) for known in token_hashes])  # noqa: C419 - no short cut
