"""Plugins of a kubeconfig that print credentials, as cloud providers have them."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from adapters.cluster.kube_config import KubeLoginError, NamedEntry

_TIMEOUT_S: Final = 60.0
_MAX_SAID: Final = 300
_VERSIONS: Final = (
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecCredential:
    """What a plugin gave.

    Args:
        expires_s: Unix seconds after which it must be asked again; None where it does not say.
    """

    token: str | None = field(default=None, repr=False)
    certificate: tuple[str, str] | None = field(default=None, repr=False)
    expires_s: float | None = None


def run_plugin(user: NamedEntry, cluster: NamedEntry) -> ExecCredential:
    """Runs the plugin of this user, for this cluster.

    Raises:
        KubeLoginError: it is missing, fails, takes too long, or prints no credential; the message has its words.
    """
    plugin = user.body["exec"]
    if not isinstance(plugin, dict) or not isinstance(plugin.get("command"), str):
        raise KubeLoginError("exec: a mapping with a command is needed")
    version = plugin.get("apiVersion")
    if version not in _VERSIONS:
        raise KubeLoginError(f"exec: apiVersion {version!r} is none of {', '.join(_VERSIONS)}")
    command = _command(plugin, user)
    info = _info(plugin, cluster, version)
    try:
        done = subprocess.run(  # noqa: S603 - the user's own kubeconfig names it
            command,
            env=os.environ | _variables(plugin) | {"KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise KubeLoginError(f"{command[0]} took longer than {_TIMEOUT_S:g} s") from error
    except OSError as error:
        hint = plugin.get("installHint") or "install it where the service runs"
        raise KubeLoginError(f"{command[0]}: {error.strerror}; {hint}") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[:_MAX_SAID]
        raise KubeLoginError(f"{command[0]} ended with {done.returncode}: {said}")
    return _parse(command[0], done.stdout)


def _command(plugin: Mapping[str, Any], user: NamedEntry) -> list[str]:
    program, arguments = str(plugin["command"]), [str(one) for one in plugin.get("args") or ()]
    # As for kubectl: with a slash it is a path from the kubeconfig's folder, without one a name on PATH.
    return [str(user.folder / program) if "/" in program else program, *arguments]


def _variables(plugin: Mapping[str, Any]) -> dict[str, str]:
    return {str(one["name"]): str(one["value"]) for one in plugin.get("env") or ()}


def _info(plugin: Mapping[str, Any], cluster: NamedEntry, version: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        told = ("server", "certificate-authority-data", "tls-server-name")
        spec["cluster"] = {key: cluster.body[key] for key in told if key in cluster.body}
    return {"apiVersion": version, "kind": "ExecCredential", "spec": spec}


def _parse(program: str, text: bytes) -> ExecCredential:
    try:
        document = json.loads(text)
        status = document["status"]
        token, expires = status.get("token"), status.get("expirationTimestamp")
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        expires_s = None if expires is None else datetime.fromisoformat(expires).timestamp()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Not what it printed: it may hold a secret.
        raise KubeLoginError(f"{program} printed no ExecCredential") from error
    if not token and not (certificate and key):
        raise KubeLoginError(f"{program} printed neither a token nor a certificate with its key")
    pair = (str(certificate), str(key)) if certificate and key else None
    return ExecCredential(token=token, certificate=pair, expires_s=expires_s)
