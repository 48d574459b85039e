"""Settings of the store: a file, or a server of Redis with a password that is kept elsewhere."""

from pathlib import Path

import pytest

from adapters.store.redis_terms import RedisWait
from adapters.store.sqlite import SqliteStore
from scheduler.core.errors import InvalidConfigError
from scheduler.server.settings import load_settings
from scheduler.server.store_settings import StoreSettings
from scheduler.server.stores import examine_store, open_store, read_password, redis_terms

CLUSTERS = "clusters: [{id: a, region: eu-de, zone: DE, capacity: {CPU: 1}}]\n"
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUMPB8lPp7lY7j1DKMn5C2WaH2fiwwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjEyMDEwODAwNTBaGA8yMTI2MTEwNzA4MDA1
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIkt
gSff/4LeyY3hPouGB7hiFv+aolc7kLsBwjRSEtYcLsVSG3u3vryVlIcro/yPiIq4
MV09jFHcSTJxTyReQa6jUzBRMB0GA1UdDgQWBBRaDjs1sdbWdjb6gFvYeTUn5Tnl
TzAfBgNVHSMEGDAWgBRaDjs1sdbWdjb6gFvYeTUn5TnlTzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIGyolx8kIqxUQ+pUpZ7OncA68qJ9s0oAsQQ9
xfurEuV3AiEAutx1Jbmsx0aq8GeBBLkrZDORw0rMFbQfRIudqCZ2F88=
-----END CERTIFICATE-----
"""


def load(folder: Path, store: str) -> StoreSettings:
    path = folder / "gridtide.yaml"
    path.write_text(f"{CLUSTERS}store: {store}\n", encoding="utf-8")
    return load_settings(path).store


def test_store_is_a_file_unless_a_server_is_named(tmp_path: Path) -> None:
    settings = load(tmp_path, "{path: jobs.db}")
    assert examine_store(settings) == []
    store = open_store(settings)
    assert isinstance(store, SqliteStore)
    store.close()
    assert (tmp_path / "jobs.db").exists()


@pytest.mark.parametrize("store", ["redis://db:7000/1#x", "{url: 'redis://db:7000/1#x'}"])
def test_url_of_a_server_may_stand_alone(tmp_path: Path, store: str) -> None:
    address, terms = redis_terms(load(tmp_path, store))
    assert str(address) == "redis://db:7000/1#x"
    assert (terms.password, terms.timeout_s, terms.wait) == (None, 5.0, RedisWait())


def test_every_setting_reaches_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    (tmp_path / "ca.pem").write_text(CERTIFICATE, encoding="ascii")
    settings = load(
        tmp_path,
        "{url: 'rediss://me@db', password_env: SECRET, ca_file: ca.pem, timeout: 10s,"
        " wait: {replicas: 2, aof: local, timeout: 0.5}}",
    )
    address, terms = redis_terms(settings)
    assert (address.username, address.is_tls) == ("me", True)
    assert terms.password == "hunter2"
    assert "hunter2" not in repr(terms)
    assert terms.ca_file == tmp_path / "ca.pem"
    assert terms.timeout_s == 10
    assert terms.wait == RedisWait(replicas=2, is_on_disk=True, timeout_s=0.5)


def test_what_is_kept_on_this_machine_stays_beside_the_path(tmp_path: Path) -> None:
    settings = load(tmp_path, "redis://db")
    assert settings.intensity_path == tmp_path / "gridtide-data" / "intensity.db"


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("redis://me:hunter2@db", "store.url: the URL holds a password"),
        ("{url: 'redis://:hunter2@db'}", "store.url: the URL holds a password"),
        ("{url: 'postgres://me:hunter2@db'}", "store.url: the URL begins with none of redis, "),
        ("{url: 'redis://db#A B'}", "no name of a store"),
        ("{url: 'redis://db', password_env: A, password_file: b}", "give one of them"),
        ("{password_env: A}", "store: password_env: only with a url"),
        ("{url: 'redis://db', sentinel: {password_env: A}}", "sentinel: only with a url that"),
        ("{url: 'redis+sentinel://a/ours', sentinel: {user: b}}", "give one of them"),
        ("{wait: {replicas: 1}}", "store: wait: only with a url"),
        ("{url: 'redis://db', ca_file: a}", "ca_file: only with a url that begins with rediss"),
        (
            "{url: 'redis://db', timeout: 0}",
            "store.timeout: 0 is not valid; it must be from 0.1 s to 5 min",
        ),
        (
            "{url: 'redis://db', timeout: soon}",
            "store.timeout: 'soon' is not valid; it must be from",
        ),
        ("{url: 'redis://db', timeout: true}", "store.timeout: True is not valid; it must be from"),
        (
            "{url: 'redis://db', lease: 0.5s}",
            "store.lease: '0.5s' is not valid; it must be from 1 s to 10 min",
        ),
        (
            "{url: 'redis://db', lease: [5]}",
            "store.lease: [5] is not valid; it must be from 1 s to 10 min",
        ),
        (
            "{url: 'redis://db', wait: {timeout: 1h}}",
            "store.wait.timeout: '1h' is not valid; it must be from 0.01 s to 1 min",
        ),
        ("17", "store: 17 is not valid: it must be a mapping with path, url, "),
        (
            "{url: 'redis://db', wait: 3}",
            "store.wait: 3 is not valid: it must be a mapping with replicas, aof, timeout",
        ),
        ("[redis://:hunter2@db]", "store: a list of 1 is not valid: it must be a mapping"),
        ("sqlite:x.db", "store: 'sqlite:x.db' is no URL of a Redis server"),
        ("x.db", "an SQLite file is named by store.path: `store: {path: x.db}`"),
        ("sqlite:///x.db", "`store: {path: /x.db}`"),
        ("{url: x.db}", "store.url: 'x.db' is no URL of a Redis server"),
        ("redis://db:0/0", "names no host, or a port that is none"),
        ("{url: 'redis://db', wait: {aof: remote}}", "store.wait.aof: 'remote' is not valid"),
        ("{url: 'redis://db', wait: {replica: 1}}", "did you mean replicas"),
        ("{url: 'redis://db', password: hunter2}", "store.password: unknown field"),
    ],
)
def test_setting_that_cannot_be_is_refused_without_repeating_a_password(
    tmp_path: Path, store: str, said: str
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load(tmp_path, store)
    assert said in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("2", 2), ("2.5", 2.5), ("1.5s", 1.5), ("'2'", 2), ("1m", 60), ("PT5M", 300)],
)
def test_seconds_are_a_number_or_a_text(tmp_path: Path, said: str, seconds: float) -> None:
    settings = load(tmp_path, f"{{url: 'redis://db', timeout: {said}}}")
    assert settings.timeout == seconds


def test_scheme_of_a_url_may_be_in_capitals(tmp_path: Path) -> None:
    settings = load(tmp_path, "{url: 'REDISS+Sentinel://A/Ours', sentinel: {password_env: A}}")
    assert settings.url == "rediss+sentinel://A/Ours"


def test_sentinels_have_a_password_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("theirs\n", encoding="utf-8")
    sentinel = "sentinel: {user: reader, password_file: secret}"
    url = "url: 'redis+sentinel://a/ours', password_env: SECRET"
    monkeypatch.setenv("SECRET", "hunter2")
    _, terms = redis_terms(load(tmp_path, f"{{{url}, {sentinel}}}"))
    assert (terms.password, terms.sentinel_user, terms.sentinel_password) == (
        "hunter2",
        "reader",
        "theirs",
    )
    assert "theirs" not in repr(terms)
    (tmp_path / "secret").unlink()
    with pytest.raises(InvalidConfigError, match=r"store\.sentinel\.password_file: .*cannot be"):
        redis_terms(load(tmp_path, f"{{{url}, {sentinel}}}"))


def test_file_that_holds_no_certificates_is_refused_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "damaged").write_text(CERTIFICATE.replace("MIIB", "AIIB"), encoding="ascii")
    for name, why in (
        ("missing", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("empty", "holds no certificate that can be read"),
        ("damaged", "holds no certificate that can be read"),
    ):
        settings = load(tmp_path, f"{{url: 'rediss://db', ca_file: {name}}}")
        with pytest.raises(InvalidConfigError, match=why) as caught:
            examine_store(settings)
        assert caught.value.message.startswith(f"store.ca_file: {tmp_path / name} ")
        assert "it must be a PEM file" in caught.value.message
        assert caught.value.fields["field"] == "store.ca_file"


def test_password_comes_from_a_file_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2 with spaces \n", encoding="utf-8")
    settings = load(tmp_path, "{url: 'redis://db', password_file: secret}")
    assert redis_terms(settings)[1].password == "hunter2 with spaces "


@pytest.mark.parametrize(
    ("text", "said"), [("", "is empty or not there"), ("a\nb", "is not one line")]
)
def test_password_that_is_none_is_refused_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "secret").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfigError, match=f"store.password_file: .*secret {said}"):
        read_password(None, tmp_path / "secret")
    monkeypatch.setenv("SECRET", text)
    with pytest.raises(InvalidConfigError, match=f"store.password_env: the variable SECRET {said}"):
        read_password("SECRET", None)


def test_password_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="cannot be read: No such file"):
        read_password(None, tmp_path / "none")


def test_server_that_is_not_there_is_a_failed_check_of_doctor(tmp_path: Path) -> None:
    (check,) = examine_store(load(tmp_path, "redis://127.0.0.1:1"))
    assert (check.subject, check.is_ok) == ("store", False)
    assert "cannot be reached" in check.detail
