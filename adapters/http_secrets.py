"""What keeps our secrets ours in outgoing HTTP: URLs that are safe, and all forms that a secret may take."""

import ipaddress
import json
import urllib.parse
from xml.sax.saxutils import escape

import httpx

from scheduler.core.errors import InvalidConfigError


def require_safe(base_url: str, *, has_secrets: bool) -> None:
    """Refuses a URL without repeating it, for it may hold a password.

    Raises:
        InvalidConfigError: not http or https to a host, or plain http to another machine with secrets.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        why = "must be http or https and a host, such as https://api.example.org"
    elif url.userinfo:
        why = "must not hold a user name or password"
    elif has_secrets and url.scheme == "http" and not _is_loopback(url.host):
        why = "must be https, for secrets go with every request"
    else:
        return
    raise InvalidConfigError(f"url: {why}", field="url", valid="https://host[:port][/path]")


def written_forms(secret: str) -> tuple[str, ...]:
    """How a secret may stand in an answer: as it is, in a query, in JSON or in XML."""
    in_query = urllib.parse.quote(secret, safe="")
    in_json = json.dumps(secret)[1:-1]
    return (
        secret,
        in_query,
        in_query.lower(),
        urllib.parse.quote_plus(secret),
        in_json,
        in_json.replace("/", r"\/"),
        escape(secret, {'"': "&quot;", "'": "&apos;"}),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
