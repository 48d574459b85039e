"""Records as texts, and back."""

from dataclasses import replace

import pytest

from adapters.store import codec
from adapters.store.codec import RecordMemo, decode_record, encode_record
from scheduler.core.errors import StoreError
from scheduler.core.job import JobId, JobRecord
from tests.unit.core.builders import job, record


def test_memo_reads_what_is_new_and_knows_what_has_not_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = list[str]()

    def count(text: str) -> JobRecord:
        read.append(text)
        return decode_record(text)

    monkeypatch.setattr(codec, "decode_record", count)
    first, second = (encode_record(record(job=job(job_id=JobId(name)))) for name in "ab")
    memo = RecordMemo()
    assert memo.decode([first, second]) == [decode_record(first), decode_record(second)]
    changed = encode_record(replace(decode_record(first), version=7))
    assert [one.version for one in memo.decode([changed, second])] == [7, 1]
    assert read == [first, second, changed]
    # It keeps no more than the last look.
    memo.decode([])
    memo.decode([second])
    assert read[3:] == [second]


def test_memo_refuses_what_is_no_record() -> None:
    with pytest.raises(StoreError):
        RecordMemo().decode(["{}"])
