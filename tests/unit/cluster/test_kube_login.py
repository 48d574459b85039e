"""Logins: kubeconfig files merged and followed, plugins, files that are rotated, pods."""

import base64
import json
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from adapters.cluster.kube_config import KubeLoginError, find_context
from adapters.cluster.kube_login import (
    TOKEN_FILE_S,
    InClusterLogin,
    KubeconfigLogin,
    KubeLogin,
    default_paths,
)

URL = "https://east.example.org:6443"
CERTIFICATE, KEY = "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(
    folder: Path,
    name: str = "config",
    *,
    user: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": URL} | (cluster or {})}],
        "users": [{"name": "u", "user": {"token": "secret"} if user is None else user}],
        "contexts": [{"name": "east", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
    }
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document | more), encoding="utf-8")
    return path


def login(path: Path, context: str | None = "east", **more: Any) -> KubeLogin:
    return KubeconfigLogin(context, paths=[path], **more).read()


def refusal(path: Path, context: str | None = "east") -> str:
    with pytest.raises(KubeLoginError) as caught:
        login(path, context)
    return str(caught.value)


# ---------------------------------------------------------------------------------- kubeconfig


def test_context_leads_to_server_token_and_namespace(tmp_path: Path) -> None:
    found = login(config(tmp_path))
    assert (found.server, found.token, found.namespace) == (URL, "secret", "ml")
    assert found.expires_s is None
    assert "secret" not in repr(found)


def test_current_context_counts_only_where_none_is_named(tmp_path: Path) -> None:
    path = config(tmp_path, **{"current-context": "east"})
    assert login(path, None).server == URL
    assert "no current-context" in refusal(config(tmp_path, "other"), None)
    assert "no context 'west'" in refusal(path, "west")


def test_of_several_files_the_first_entry_of_a_name_counts(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text(
        yaml.safe_dump({"users": [{"name": "u", "user": {"token": "first"}}], "contexts": None})
    )
    second = config(tmp_path, "second", user={"token": "second"})
    paths = [tmp_path / "absent", first, second]
    found = KubeconfigLogin("east", paths=paths).read()
    assert (found.server, found.token) == (URL, "first")


def test_files_are_those_that_kubectl_reads(tmp_path: Path) -> None:
    assert default_paths({"KUBECONFIG": "/a::/b"}) == (Path("/a"), Path("/b"))
    assert default_paths({}) == (Path.home() / ".kube" / "config",)


def test_paths_start_from_the_folder_of_their_file(tmp_path: Path) -> None:
    path = config(
        tmp_path, "sub/config", user={"tokenFile": "token"}, cluster={"certificate-authority": "ca"}
    )
    (tmp_path / "sub" / "token").write_text("from-file\n")
    (tmp_path / "sub" / "ca").write_text(CERTIFICATE)
    found = login(path)
    assert (found.token, found.tls.ca) == ("from-file", CERTIFICATE)


def test_file_with_a_token_is_read_again_after_a_minute(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    source = KubeconfigLogin(
        "east",
        paths=[config(tmp_path, user={"tokenFile": "token", "token": "x"})],
        wall=lambda: 100.0,
    )
    assert (source.read().token, source.read().expires_s) == ("one", 100.0 + TOKEN_FILE_S)
    (tmp_path / "token").write_text("two")
    assert source.read().token == "two"


def test_client_certificate_comes_from_data_or_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    user = {"client-certificate-data": encoded(CERTIFICATE), "client-key": "key"}
    cluster = {"certificate-authority-data": encoded("CA"), "tls-server-name": "api"}
    found = login(config(tmp_path, user=user, cluster=cluster))
    assert found.tls.certificate == (CERTIFICATE, KEY)
    assert (found.tls.ca, found.tls.server_name, found.token) == ("CA", "api", None)
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"user": {}}, "has no token, tokenFile, client certificate or exec plugin"),
        ({"user": {"client-key-data": encoded(KEY)}}, "one is given without the other"),
        ({"user": {"tokenFile": "absent"}}, "absent cannot be read: No such file"),
        ({"cluster": {"certificate-authority-data": "%%"}}, "not base64 of PEM"),
        ({"cluster": {"server": None}}, "must be http or https and a host"),
        ({"cluster": {"server": "http://east.example.org"}}, "must be https"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "give its certificate-authority"),
        ({"users": []}, "its user 'u' is not in the kubeconfig"),
        ({"clusters": None}, "its cluster 'c' is not in the kubeconfig"),
        ({"users": [{"user": {}}]}, "users: an entry without a name"),
        ({"users": ["u"]}, "users: an entry without a name"),
    ],
)
def test_what_leads_nowhere_is_said(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    assert says in refusal(config(tmp_path, **fields))


def test_file_that_is_no_kubeconfig_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for text, says in [("a: [", "not valid YAML"), ("- a", "not a kubeconfig"), ("", "no context")]:
        path.write_text(text)
        assert says in refusal(path)
    path.unlink()
    assert "no kubeconfig at" in refusal(path)


def test_token_file_that_holds_none_is_said_without_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words")
    said = refusal(config(tmp_path, user={"tokenFile": "token"}))
    assert "holds no token" in said
    assert "two words" not in said


# ------------------------------------------------------------------------------------- plugins


def plugin(folder: Path, script: str) -> dict[str, Any]:
    program = folder / "bin" / "plugin"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!{sys.executable}\nimport json, os, sys\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "bin/plugin",
            "args": ["get-token"],
            "env": [{"name": "PROFILE", "value": "ml"}],
            "provideClusterInfo": True,
        }
    }


def given(**status: Any) -> str:
    return f"print(json.dumps({{'kind': 'ExecCredential', 'status': {status!r}}}))"


def test_plugin_gives_a_token_until_shortly_before_it_expires(tmp_path: Path) -> None:
    user = plugin(tmp_path, given(token="fresh", expirationTimestamp="1970-01-01T01:00:00Z"))
    found = login(config(tmp_path, user=user))
    assert (found.token, found.expires_s) == ("fresh", 3570.0)


def test_plugin_is_told_what_it_is_asked(tmp_path: Path) -> None:
    script = """
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
told = [sys.argv[1:], os.environ["PROFILE"], info["spec"], info["apiVersion"]]
print(json.dumps({"status": {"token": json.dumps(told).encode().hex()}}))
"""
    found = login(config(tmp_path, user=plugin(tmp_path, script)))
    assert json.loads(bytes.fromhex(found.token or "")) == [
        ["get-token"],
        "ml",
        {"interactive": False, "cluster": {"server": URL}},
        "client.authentication.k8s.io/v1",
    ]


def test_plugin_may_give_a_certificate(tmp_path: Path) -> None:
    user = plugin(tmp_path, given(clientCertificateData=CERTIFICATE, clientKeyData=KEY))
    assert login(config(tmp_path, user=user)).tls.certificate == (CERTIFICATE, KEY)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("sys.exit('log in first')", "ended with 1: log in first"),
        ("print('secret')", "printed no ExecCredential"),
        (given(), "neither a token nor a certificate"),
        (given(token="secret", expirationTimestamp="soon"), "printed no ExecCredential"),
    ],
)
def test_plugin_that_fails_is_named_with_its_words_but_no_secret(
    tmp_path: Path, script: str, says: str
) -> None:
    said = refusal(config(tmp_path, user=plugin(tmp_path, script)))
    assert says in said
    assert "bin/plugin" in said
    assert "secret" not in said


def test_plugin_that_is_not_installed_comes_with_its_hint(tmp_path: Path) -> None:
    user = plugin(tmp_path, "")
    user["exec"] |= {"command": "gridtide-no-such-plugin", "installHint": "see example.org"}
    said = refusal(config(tmp_path, user=user))
    assert "gridtide-no-such-plugin: No such file or directory; see example.org" in said


def test_plugin_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    user = plugin(tmp_path, "")
    user["exec"]["apiVersion"] = "client.authentication.k8s.io/v1alpha1"
    assert "v1alpha1' is none of" in refusal(config(tmp_path, user=user))


# -------------------------------------------------------------------------------- in a cluster


def pod_folder(folder: Path) -> Path:
    for name, text in (("token", "pod-token\n"), ("ca.crt", "CA"), ("namespace", "ml\n")):
        (folder / name).write_text(text)
    return folder


def test_pod_logs_in_with_what_is_mounted_and_reads_it_again(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    source = InClusterLogin(folder=pod_folder(tmp_path), environ=environ, wall=lambda: 5.0)
    found = source.read()
    assert (found.server, found.token, found.tls.ca) == ("https://10.0.0.1:443", "pod-token", "CA")
    assert (found.namespace, found.expires_s) == ("ml", 5.0 + TOKEN_FILE_S)
    (tmp_path / "token").write_text("rotated")
    assert source.read().token == "rotated"


def test_address_of_the_sixth_version_is_written_as_one(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1"}
    source = InClusterLogin(folder=pod_folder(tmp_path), environ=environ)
    assert source.read().server == "https://[fd00::1]:443"


def test_process_outside_of_a_cluster_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(KubeLoginError, match="this is no pod of a cluster; use a context"):
        InClusterLogin(folder=tmp_path, environ={}).read()


# ----------------------------------------------------------------------------------------- TLS


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_client_certificate_reaches_a_server_that_asks_for_it(tmp_path: Path) -> None:
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-days", "2", "-subj", "/CN=one", "-addext", "subjectAltName=DNS:api"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            peer = self.connection.getpeercert()  # type: ignore[attr-defined]
            self.send_response(200 if peer else 401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    user = {"client-certificate": str(cert), "client-key": str(key)}
    cluster = {
        "server": f"https://127.0.0.1:{server.server_port}",
        "certificate-authority": str(cert),
        "tls-server-name": "api",
    }
    found = login(config(tmp_path, user=user, cluster=cluster))
    assert found.tls.server_name is not None
    answer = httpx.Client(verify=found.tls.context(), trust_env=False)
    with answer as client:
        extensions = {"sni_hostname": found.tls.server_name}
        assert client.get(found.server, extensions=extensions).status_code == 200
    thread.join()
    server.server_close()


def test_certificate_that_is_none_is_said(tmp_path: Path) -> None:
    found = login(config(tmp_path, cluster={"certificate-authority-data": encoded("nonsense")}))
    with pytest.raises(KubeLoginError, match="cannot be used"):
        found.tls.context()


def test_context_is_found_without_running_a_plugin(tmp_path: Path) -> None:
    user = plugin(tmp_path, "sys.exit(1)")
    assert find_context([config(tmp_path, user=user)], "east").namespace == "ml"
