"""How to log in to a Kubernetes cluster: by a context of a kubeconfig, or as a pod inside it."""

import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from adapters.cluster.kube_config import (
    KubeContext,
    KubeLoginError,
    NamedEntry,
    find_context,
    read_file,
)
from adapters.cluster.kube_exec import run_plugin
from adapters.http_secrets import require_safe
from scheduler.core.errors import InvalidConfigError

TOKEN_FILE_S: Final = 60.0
"""A file with a token is read again so often: tokens of pods are rotated about hourly."""
_EXPIRY_MARGIN_S: Final = 30.0
POD_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeTls:
    """What a TLS connection is made with; PEM."""

    ca: str | None = None
    certificate: tuple[str, str] | None = field(default=None, repr=False)
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """For connections of a client.

        Raises:
            KubeLoginError: certificates or a key that cannot be used.
        """
        try:
            context = ssl.create_default_context(cadata=self.ca)
            if self.certificate is not None:
                with tempfile.NamedTemporaryFile(
                    "w", suffix=".pem"
                ) as file:  # 0600; ssl reads files only
                    file.write("\n".join(self.certificate))
                    file.flush()
                    context.load_cert_chain(file.name)
        except (ssl.SSLError, ValueError) as error:
            raise KubeLoginError(f"a certificate or key cannot be used: {error}") from error
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeLogin:
    """A login as it is now.

    Args:
        expires_s: Unix seconds after which it should be read again; None for as long as it works.
    """

    server: str
    namespace: str | None = None
    token: str | None = field(default=None, repr=False)
    tls: KubeTls = KubeTls()
    expires_s: float | None = None


class LoginSource(Protocol):
    """Where logins come from; reading again is how rotated ones are found."""

    def read(self) -> KubeLogin:
        """The login as it is now. Raises KubeLoginError."""
        ...


class KubeconfigLogin:
    """By a context of kubeconfig files.

    Args:
        context: its name; the current one of the files where not given.
        paths: the files; those of KUBECONFIG, or else ~/.kube/config, where not given.
        wall: wall clock in Unix seconds.
    """

    def __init__(
        self,
        context: str | None = None,
        *,
        paths: Sequence[Path] | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - tokens expire on wall time
    ) -> None:
        self._context = context
        self.paths: Final = tuple(paths or default_paths(os.environ))
        self._wall = wall

    def read(self) -> KubeLogin:
        """See `LoginSource`."""
        context = find_context(self.paths, self._context)
        token, certificate, expires_s = self._credentials(context)
        if context.cluster.body.get("insecure-skip-tls-verify"):
            raise KubeLoginError(
                f"context {context.name!r} switches the check of the server's certificate off; "
                "give its certificate-authority instead"
            )
        return KubeLogin(
            server=_server(context.cluster.text("server"), context.name),
            namespace=context.namespace,
            token=token,
            tls=KubeTls(
                ca=context.cluster.material("certificate-authority"),
                certificate=certificate,
                server_name=context.cluster.text("tls-server-name"),
            ),
            expires_s=expires_s,
        )

    def _credentials(
        self, context: KubeContext
    ) -> tuple[str | None, tuple[str, str] | None, float | None]:
        """Token, certificate with key, and when they are to be read again."""
        user = context.user
        if user.body.get("exec") is not None:
            given = run_plugin(user, context.cluster)
            ends_s = None if given.expires_s is None else given.expires_s - _EXPIRY_MARGIN_S
            return given.token, given.certificate, ends_s
        path = user.path("tokenFile")
        if path is not None:
            return _token(path), _certificate(user), self._wall() + TOKEN_FILE_S
        token, certificate = user.text("token"), _certificate(user)
        if token is None and certificate is None:
            raise KubeLoginError(
                f"the user of context {context.name!r} has no token, tokenFile, client certificate or exec plugin"
            )
        return token, certificate, None


class InClusterLogin:
    """As a pod: with the token that the cluster mounts into it, and renews."""

    def __init__(
        self,
        *,
        folder: Path = POD_FOLDER,
        environ: Mapping[str, str] | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - tokens expire on wall time
    ) -> None:
        self._folder = folder
        self._environ = os.environ if environ is None else environ
        self._wall = wall

    @property
    def namespace(self) -> str | None:
        """The pod's own. Raises KubeLoginError where it cannot be read."""
        path = self._folder / "namespace"
        return read_file(path).strip() if path.exists() else None

    def read(self) -> KubeLogin:
        """See `LoginSource`."""
        host = self._environ.get("KUBERNETES_SERVICE_HOST")
        port = self._environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise KubeLoginError(
                "KUBERNETES_SERVICE_HOST is not set: this is no pod of a cluster; use a context instead"
            )
        return KubeLogin(
            server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            namespace=self.namespace,
            token=_token(self._folder / "token"),
            tls=KubeTls(ca=read_file(self._folder / "ca.crt")),
            expires_s=self._wall() + TOKEN_FILE_S,
        )


def default_paths(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The kubeconfig files that kubectl would read."""
    listed = [Path(one) for one in environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    return tuple(listed) or (Path.home() / ".kube" / "config",)


def _server(url: str | None, context: str) -> str:
    try:
        require_safe(url or "", has_secrets=True)
    except InvalidConfigError as error:
        raise KubeLoginError(f"the server of context {context!r}: {error.message}") from error
    assert url is not None
    return url.rstrip("/")


def _token(path: Path) -> str:
    token = read_file(path).strip()
    if not token or not token.isascii() or any(one.isspace() for one in token):
        raise KubeLoginError(f"{path} holds no token")
    return token


def _certificate(user: NamedEntry) -> tuple[str, str] | None:
    certificate, key = user.material("client-certificate"), user.material("client-key")
    if (certificate is None) != (key is None):
        raise KubeLoginError("client-certificate and client-key: one is given without the other")
    return None if certificate is None or key is None else (certificate, key)
