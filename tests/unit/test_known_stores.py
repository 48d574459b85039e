"""The names of stores that a machine has worked with."""

from pathlib import Path

import pytest

from scheduler.core.errors import StoreError
from scheduler.server.known_stores import KnownStores

HERE = "redis://db:6379/0#default"


def test_names_are_kept_by_address(tmp_path: Path) -> None:
    path = tmp_path / "data" / "redis-stores.json"
    KnownStores(path).keep(HERE, "a1")
    KnownStores(path).keep("redis://db:6379/0#other", "b2")
    assert KnownStores(path).find(HERE) == "a1"
    assert KnownStores(path).find("redis://elsewhere:6379/0#default") is None
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["{", "[]", "\udc80"])
def test_file_that_cannot_be_read_is_named_and_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "redis-stores.json"
    content = text.encode("utf-8", "surrogateescape")
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"redis-stores\.json cannot be read"):
        KnownStores(path).find(HERE)
    assert path.read_bytes() == content


def test_disk_that_takes_nothing_is_no_reason_not_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scheduler.server.known_stores.put_in_place", fail)
    known = KnownStores(tmp_path / "redis-stores.json")
    known.keep(HERE, "a1")
    assert known.find(HERE) is None
