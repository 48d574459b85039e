"""A store on real Redis servers that are killed, full, frozen, replicas, protected, or moved."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.store.redis import RedisStore
from adapters.store.redis_address import parse_address
from adapters.store.redis_examination import examine
from adapters.store.redis_outage import REST_S
from adapters.store.redis_terms import RedisTerms, RedisWait
from scheduler.core.errors import StaleRecordError, StoreError
from scheduler.core.job import JobState
from tests.conformance.test_job_store import add, event, ids, move, new, queued
from tests.fakes.dropping_proxy import DroppingProxy
from tests.fakes.redis_server import SYNCED, RedisServer, free_port, running

pytestmark = pytest.mark.external
QUICK = RedisTerms(timeout_s=0.3)
ACL_RIGHTS = (
    "~{gridtide:default}:* +evalsha +script|load +time +get +set +del +exists +type +expire +hset +hget +hmget"
    " +hexists +hdel +zadd +zrem +zrange +zrangebylex +zrevrangebylex +zrangebyscore +xadd +xdel +xrange +xrevrange +info +wait"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis", *SYNCED) as one:
        yield one


# --------------------------------------------------------------------------------- connection


@pytest.mark.parametrize("lost", ["lose_replies", "lose_requests"])
def test_messages_lost_on_the_way_double_nothing(server: RedisServer, lost: str) -> None:
    with DroppingProxy(server.port) as proxy:
        store = RedisStore(replace(server.address, hosts=(("127.0.0.1", proxy.port),)))
        add(store, queued("warm"))
        now = queued("a")
        add(store, now)
        for number in range(20):
            setattr(proxy, lost, number % 3)
            held = replace(now, version=now.version + 1, reason=str(number))
            store.update_job(held, event(held, "changed", str(number)))
            now = held
            setattr(proxy, lost, number % 3)
            add(store, queued(f"j{number}"))
        assert store.get_job("a") == now
        assert [one.detail for one in store.events(kind="changed")] == [
            str(number) for number in range(20)
        ]
        assert len(store.events(kind="submitted")) == 22
        assert [one.seq for one in store.events()] == list(range(1, 43))
        store.close()


def test_every_connection_cut_while_many_write_loses_and_doubles_nothing(
    server: RedisServer,
) -> None:
    with DroppingProxy(server.port) as proxy:
        address = replace(server.address, hosts=(("127.0.0.1", proxy.port),))
        store = RedisStore(address, RedisTerms(tries=20))

        def submit(worker: int) -> list[str]:
            names = [f"w{worker}-{number}" for number in range(30)]
            for number, name in enumerate(names):
                add(store, queued(name))
                if worker == number % 8:
                    proxy.cut()  # while the other workers write
            return names

        with ThreadPoolExecutor(8) as pool:
            submitted = [name for names in pool.map(submit, range(8)) for name in names]
        assert sorted(ids(store.list_jobs(limit=1000)[0])) == sorted(submitted)
        assert [one.seq for one in store.events()] == list(range(1, 241))
        store.close()


def test_server_that_stands_still_is_given_up_in_bounded_time_and_said_to_be_uncertain(
    server: RedisServer,
) -> None:
    store = RedisStore(server.address, replace(QUICK, tries=2))
    server.freeze()
    with pytest.raises(StoreError, match="may or may not have happened"):
        store.add_jobs([new(queued("a"), key="k", digest="d")])
    with pytest.raises(StoreError, match="nothing was written"):
        store.get_job("a")
    assert [one.is_ok for one in store.checks()] == [False]
    server.thaw()
    time.sleep(REST_S)
    # Repeating it is harmless, whatever became of it.
    assert store.add_jobs([new(queued("a"), key="k", digest="d")]) == [queued("a")]
    assert len(store.events()) == 1
    store.close()


# ------------------------------------------------------------------------------------- restart


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(server: RedisServer) -> None:
    store = RedisStore(server.address)
    assert store.durability == "machine"
    acknowledged: list[str] = []
    enough = threading.Event()

    def submit(worker: int) -> None:
        for number in range(10_000):
            name = f"w{worker}-{number}"
            try:
                add(store, queued(name))
            except StoreError:
                return
            acknowledged.append(name)
            if len(acknowledged) >= 300:
                enough.set()

    threads = [threading.Thread(target=submit, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    assert enough.wait(30)
    server.kill()
    for thread in threads:
        thread.join()
    server.start()
    # The same store goes on: its connections are made anew, its scripts loaded again.
    stored = set(ids(store.list_jobs(limit=100_000)[0]))
    assert stored >= set(acknowledged)
    # At most what was under way when it died is stored beyond what was acknowledged.
    assert len(stored) <= len(acknowledged) + 4
    events = store.events(limit=100_000)
    assert [one.seq for one in events] == list(range(1, len(stored) + 1))
    store.close()


def test_server_without_persistence_that_restarts_is_not_taken_for_an_empty_store(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as server:
        store = RedisStore(server.address)
        assert store.durability == "nothing"
        add(store, queued("a"))
        server.kill()
        server.start()
        with pytest.raises(StoreError, match="holds no store any more"):
            store.active_jobs()
        with pytest.raises(StoreError, match="holds no store any more"):
            add(store, queued("b"))
        store.close()


# -------------------------------------------------------------------------- refusals by the server


def test_full_server_refuses_writes_in_words_and_still_reads(server: RedisServer) -> None:
    store = RedisStore(server.address)
    add(store, queued("a"))
    before = store.events()
    with server.client() as raw:
        raw.config_set("maxmemory-policy", "noeviction")
        raw.config_set("maxmemory", "1")
        one = move(queued("a"), JobState.HELD)
        with pytest.raises(
            StoreError, match=r"is full \(maxmemory\); nothing was written"
        ) as caught:
            store.update_job(one, event(one, "held"))
        assert caught.value.retryable
        with pytest.raises(StoreError, match="is full"):
            add(store, queued("b"), queued("c"))
        with pytest.raises(StoreError, match="is full"):
            store.put_document("d", "text")
        assert store.get_job("a") == queued("a")
        assert store.list_jobs()[0] == [queued("a")]
        assert store.events() == before
        for checks in (store.checks(), examine(server.address, RedisTerms())):
            (failed,) = [one for one in checks if not one.is_ok]
            assert failed.subject == "store"
            assert "the server refuses writes until there is room" in failed.detail
        raw.config_set("maxmemory", "100mb")
        assert all(one.is_ok for one in store.checks())
    store.update_job(one, event(one, "held"))
    assert store.get_job("a") == one
    assert [seen.seq for seen in store.events()] == [1, 2]
    store.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_server_that_may_throw_keys_away_is_told_by_doctor(tmp_path: Path, policy: str) -> None:
    options = ("--maxmemory", "10mb", "--maxmemory-policy", policy)
    with running(tmp_path, *SYNCED, *options) as server:
        checks = examine(server.address, RedisTerms())
        assert [one.is_ok for one in checks] == [True, False, True]
        assert f"maxmemory-policy {policy}" in checks[1].detail
        assert "no store there yet" in checks[2].detail
        with server.client() as raw:
            assert raw.keys() == []


def test_replica_is_refused_with_words(server: RedisServer, tmp_path: Path) -> None:
    RedisStore(server.address).close()
    with running(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port)) as replica:
        await_link(replica)
        with pytest.raises(StoreError, match="is a replica that only reads; nothing was written"):
            RedisStore(replica.address)
        assert any("replica" in one.detail for one in examine(replica.address, RedisTerms()))


def test_primary_that_becomes_a_replica_refuses_writes_and_says_why(
    server: RedisServer, tmp_path: Path
) -> None:
    store = RedisStore(server.address)
    add(store, queued("a"))
    with running(tmp_path / "other") as other, server.client() as raw:
        raw.replicaof("127.0.0.1", str(other.port))
        with pytest.raises(StoreError, match="is a replica that only reads"):
            store.put_document("d", "text")
        assert not all(one.is_ok for one in store.checks())
    store.close()


@pytest.mark.parametrize(
    ("password", "said"),
    [("wrong-hunter2", "refuses the user or the password"), (None, "wants a password")],
)
def test_wrong_password_is_a_clear_error_that_does_not_repeat_it(
    tmp_path: Path, password: str | None, said: str
) -> None:
    with running(tmp_path) as server:
        with server.client() as raw:
            raw.config_set("requirepass", "right-hunter2")
        with pytest.raises(StoreError, match=said) as caught:
            RedisStore(server.address, RedisTerms(password=password))
        assert "hunter2" not in str(caught.value) + str(caught.value.fields)
        RedisStore(server.address, RedisTerms(password="right-hunter2")).close()
        with server.client(password="right-hunter2") as raw:
            raw.shutdown(nosave=True)


def test_database_that_the_server_does_not_have_is_said_to_be_none(server: RedisServer) -> None:
    address = replace(server.address, db=99)
    for call in (RedisStore, examine):
        with pytest.raises(StoreError, match=r"/99#default has no database .* store\.url must end"):
            call(address, RedisTerms())


def test_sentinels_that_are_down_are_named_in_short_words() -> None:
    address = parse_address(f"redis+sentinel://127.0.0.1:{free_port()}/ours")
    with pytest.raises(StoreError, match="without an answer: 127") as caught:
        RedisStore(address, QUICK)
    assert len(caught.value.message) < 300
    assert "redis.client" not in caught.value.message


def test_user_with_the_documented_rights_can_do_everything(server: RedisServer) -> None:
    with server.client() as raw:
        raw.execute_command("ACL", "SETUSER", "gridtide", "on", ">secret", *ACL_RIGHTS.split())
    address = replace(server.address, username="gridtide")
    store = RedisStore(address, RedisTerms(password="secret"))
    # CONFIG is not allowed: what INFO tells is enough for half of the answer.
    assert store.durability == "process"
    add(store, queued("a"))
    one = move(queued("a"), JobState.HELD)
    store.update_job(one, event(one, "held"))
    store.put_document("d", "text")
    assert store.take_lease("ours", for_s=60) == store.lease()
    store.drop_lease("ours")
    assert store.list_jobs()[0] == store.active_jobs() == [one]
    assert len(store.events(job_id="a", kind="held")) == len(store.events(kind="held")) == 1
    store.close()


def test_user_that_lacks_a_right_is_refused_before_anything_is_written(server: RedisServer) -> None:
    rights = [one for one in ACL_RIGHTS.split() if one != "+xadd"]
    with server.client() as raw:
        raw.execute_command("ACL", "SETUSER", "gridtide", "on", ">secret", *rights)
    address = replace(server.address, username="gridtide")
    with pytest.raises(StoreError, match="does not allow its user what the store needs"):
        RedisStore(address, RedisTerms(password="secret"))
    with server.client() as raw:
        assert raw.hlen("{gridtide:default}:jobs") == 0


def test_server_without_waitaof_cannot_be_asked_for_its_disk(server: RedisServer) -> None:
    with server.client() as raw:
        version = tuple(map(int, str(raw.info()["redis_version"]).split(".")[:2]))
    terms = RedisTerms(wait=RedisWait(is_on_disk=True))
    if version >= (7, 2):
        store = RedisStore(server.address, terms)
        add(store, queued("a"))
        store.close()
    else:
        with pytest.raises(StoreError, match="cannot confirm its disk"):
            RedisStore(server.address, terms)


# ------------------------------------------------------------------------------------------- TLS


def make_certificate(folder: Path, names: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is missing; install it to make certificates")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        [program, "req", *words, *files, "-addext", f"subjectAltName={names}"],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.mark.parametrize(
    ("names", "is_ours"), [("IP:127.0.0.1", True), ("DNS:db.example.org", False)]
)
def test_encrypted_connection_needs_a_certificate_that_names_the_server(
    tmp_path: Path, names: str, is_ours: bool
) -> None:
    certificate, key = make_certificate(tmp_path, names)
    port = free_port()
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    options = ("--tls-port", str(port), *files, "--tls-auth-clients", "no")
    with running(tmp_path / "redis", *options) as plain:
        address = parse_address(f"rediss://127.0.0.1:{port}/0")
        with pytest.raises(StoreError, match=r"one of TLS\? Then the URL begins with rediss://"):
            RedisStore(replace(address, is_tls=False), QUICK)
        with pytest.raises(StoreError, match=r"without TLS\? Then the URL begins with redis://"):
            RedisStore(replace(plain.address, is_tls=True), QUICK)
        with pytest.raises(StoreError, match="cannot be reached; nothing was written"):
            RedisStore(address, QUICK)  # no authority of the system knows it
        terms = replace(QUICK, ca_file=certificate, timeout_s=5)
        if is_ours:
            store = RedisStore(address, terms)
            add(store, queued("a"))
            assert store.get_job("a") == queued("a")
            store.close()
        else:
            with pytest.raises(StoreError, match="certificate"):
                RedisStore(address, terms)


# -------------------------------------------------------------------------- replicas


def await_link(replica: RedisServer) -> None:
    """Until it follows its primary; a primary that is waited for by WAIT needs that."""
    ready = threading.Event()
    with replica.client() as raw:
        for _ in range(400):
            if raw.info("replication").get("master_link_status") == "up":
                return
            ready.wait(0.05)
    raise AssertionError("the replica does not follow its primary")


def test_write_waits_for_a_replica_and_says_when_it_does_not_confirm(
    server: RedisServer, tmp_path: Path
) -> None:
    wait = RedisWait(replicas=1, timeout_s=0.2)
    options = ("--replicaof", "127.0.0.1", str(server.port))
    with running(tmp_path / "replica", *options) as replica:
        await_link(replica)
        store = RedisStore(server.address, RedisTerms(wait=wait))
        add(store, queued("a"))
        with replica.client() as raw:
            assert raw.hexists("{gridtide:default}:jobs", "a")
        replica.freeze()
        job = new(queued("b"), key="k", digest="d")
        with pytest.raises(StoreError, match="only 0 replicas confirmed, not 1 replicas"):
            store.add_jobs([job])
        replica.thaw()
        await_link(replica)
        assert store.add_jobs([job]) == [job.record]
        assert len(store.events()) == 2
        store.close()


def test_repeated_write_is_confirmed_for_itself_not_for_an_empty_connection(
    server: RedisServer, tmp_path: Path
) -> None:
    """WAIT counts from the last write of its own connection: a repeat that wrote nothing would confirm nothing."""
    wait = RedisWait(replicas=1, timeout_s=0.2)
    options = ("--replicaof", "127.0.0.1", str(server.port))
    with running(tmp_path / "replica", *options) as replica, DroppingProxy(server.port) as proxy:
        await_link(replica)
        address = replace(server.address, hosts=(("127.0.0.1", proxy.port),))
        store = RedisStore(address, RedisTerms(wait=wait))
        add(store, queued("a"))
        replica.freeze()
        proxy.lose_replies = 1
        with pytest.raises(StoreError, match="only 0 replicas confirmed"):
            add(store, queued("b"))
        replica.thaw()
        store.close()


def test_store_follows_its_sentinels_to_the_new_primary(
    server: RedisServer, tmp_path: Path
) -> None:
    options = ("--replicaof", "127.0.0.1", str(server.port), *SYNCED)
    with running(tmp_path / "replica", *options) as replica:
        await_link(replica)
        folder = tmp_path / "sentinel"
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor ours 127.0.0.1 {server.port} 1\n"
            "sentinel down-after-milliseconds ours 500\n"
            "sentinel failover-timeout ours 3000\n"
        )
        sentinel = RedisServer(folder)
        sentinel.start(str(config), "--sentinel")
        try:
            with sentinel.client() as raw:
                raw.execute_command("ACL", "SETUSER", "reader", "on", ">theirs", "+@all")
                raw.execute_command("ACL", "SETUSER", "default", "off")
            address = parse_address(f"redis+sentinel://127.0.0.1:{sentinel.port}/ours")
            with pytest.raises(StoreError, match="cannot be reached"):
                RedisStore(address, QUICK)  # the store's own user is not theirs
            known = replace(QUICK, sentinel_user="reader", sentinel_password="theirs")
            waits = replace(known, wait=RedisWait(replicas=1, timeout_s=5))
            store = RedisStore(address, waits)
            add(store, queued("a"))
            store.close()
            store = RedisStore(address, known)
            assert store.get_job("a") == queued("a")
            await_replica_known(sentinel, username="reader", password="theirs")
            server.kill()
            moved = move(queued("a"), JobState.HELD)
            write_until_done(store, moved)
            assert store.get_job("a") == moved
            with replica.client() as raw:
                assert raw.role()[0] == "master"
            store.close()
        finally:
            sentinel.kill()


def await_replica_known(sentinel: RedisServer, **user: str) -> None:
    ready = threading.Event()
    with sentinel.client(**user) as raw:
        for _ in range(400):
            if "slaves=1" in str(raw.execute_command("INFO", "sentinel")).replace(
                "'slaves': 1", "slaves=1"
            ):
                return
            ready.wait(0.05)
    raise AssertionError("the sentinel does not know the replica")


def write_until_done(store: RedisStore, record: object) -> None:
    """As the service does: tries again at its next tick; one whose write was done finds it stale."""
    ready = threading.Event()
    for _ in range(200):
        try:
            store.update_job(record, event(record, "held"))  # type: ignore[arg-type]
        except StaleRecordError:
            return
        except StoreError:
            ready.wait(0.1)
            continue
        return
    raise AssertionError("no new primary was found")
