"""Where a store on Redis is: a URL without a password, read and written."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from adapters.store.redis_keys import schema_key
from scheduler.core.errors import InvalidConfigError

Kind = Literal["server", "sentinel", "cluster"]
Host = tuple[str, int]

URL_FORM: Final = (
    "redis://[user@]host[:port][/db][#name], rediss:// for TLS, redis+sentinel://host,host/service, "
    "or redis+cluster://host,host"
)
DEFAULT_NAME: Final = "default"
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_DB: Final = re.compile(r"[0-9]{1,9}")
"""What a server takes for a number."""
_KINDS: Final[dict[str, tuple[Kind, bool]]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where to find the server, and which store on it is meant. Holds no secret.

    Args:
        hosts: of the server; of the sentinels, or of some nodes of the cluster, where it is one.
        service: what the sentinels call it; None without any.
        name: of the store: several may share a database.
    """

    kind: Kind
    is_tls: bool
    hosts: tuple[Host, ...]
    username: str | None = None
    service: str | None = None
    db: int = 0
    name: str = DEFAULT_NAME

    def __str__(self) -> str:
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        path = "" if self.kind == "cluster" else f"/{self.db}"
        path = path if self.service is None else f"/{self.service}{path}"
        return f"{self.scheme}://{hosts}{path}#{self.name}"

    @property
    def scheme(self) -> str:
        """What its URL begins with."""
        return _scheme(self.kind, is_tls=self.is_tls)

    @property
    def other_scheme(self) -> str:
        """What it would begin with, were it not (or were it) encrypted."""
        return _scheme(self.kind, is_tls=not self.is_tls)

    @property
    def is_exposed(self) -> bool:
        """Whether what is sent crosses a network unencrypted."""
        return not self.is_tls and not all(_is_loopback(host) for host, _ in self.hosts)


def is_redis_url(text: str) -> bool:
    """Whether a text is meant to be the URL of a store on Redis."""
    return text.partition("://")[0].lower() in _KINDS and "://" in text


def parse_address(text: str) -> RedisAddress:
    """The address of a URL.

    Raises:
        InvalidConfigError: no such URL, or one with a password. The message does not repeat it.
    """
    scheme, found, rest = text.partition("://")
    scheme = scheme.lower()
    if not found or scheme not in _KINDS:
        raise _refused(f"begins with none of {', '.join(_KINDS)}")
    kind, is_tls = _KINDS[scheme]
    url = urlsplit(f"redis://{rest}")
    if url.password is not None:
        raise _refused(
            "holds a password; name a variable or a file that holds it (password_env, password_file)"
        )
    if url.query:
        raise _refused("has a query; only a #name may follow")
    hosts = _hosts(url, _SENTINEL_PORT if kind == "sentinel" else _PORT)
    if len(hosts) > 1 and kind == "server":
        raise _refused("names several servers; that needs redis+sentinel:// or redis+cluster://")
    service, db = _path(url.path, kind)
    name = url.fragment or DEFAULT_NAME
    schema_key(name)
    return RedisAddress(
        kind=kind,
        is_tls=is_tls,
        hosts=hosts,
        username=unquote(url.username) if url.username else None,
        service=service,
        db=db,
        name=name,
    )


def _hosts(url: SplitResult, default_port: int) -> tuple[Host, ...]:
    return tuple(_host(one, default_port) for one in url.netloc.rpartition("@")[2].split(","))


def _host(text: str, default_port: int) -> Host:
    # Each by itself, for only then is a port of one of several seen.
    try:
        one = urlsplit(f"redis://{text}")
        host, port = one.hostname, one.port
    except ValueError:
        host = port = None
    if not host or port == 0 or any(letter.isspace() for letter in host):
        raise _refused("names no host, or a port that is none")
    return host, port or default_port


def _path(path: str, kind: Kind) -> tuple[str | None, int]:
    """The service and the number of the database."""
    parts = [unquote(one) for one in path.strip("/").split("/") if one]
    service = None
    if kind == "sentinel":
        if not parts:
            raise _refused("names no service of the sentinels")
        service = parts.pop(0)
    if not parts:
        return service, 0
    if kind == "cluster" or len(parts) > 1 or not _DB.fullmatch(parts[0]):
        raise _refused("ends with a path that is no number of a database")
    return service, int(parts[0])


def _scheme(kind: Kind, *, is_tls: bool) -> str:
    return next(key for key, value in _KINDS.items() if value == (kind, is_tls))


def _refused(why: str) -> InvalidConfigError:
    return InvalidConfigError(
        f"store: the URL {why}; it must be {URL_FORM}", field="store", valid=URL_FORM
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
