"""What comments say, and how squeue's lines about them are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cluster.slurm_native_lines import (
    PLAIN_FIELDS,
    QueueLine,
    find_trouble,
    find_wanted,
    parse_limit,
    parse_line,
    queue_format,
    split_queue,
)
from adapters.cluster.slurm_native_words import (
    COMMENT_BYTES,
    MARKS,
    parse_native,
    parse_signal,
    parse_words,
)
from adapters.cluster.slurm_request import SlurmDevice

WORDS = "gridtide:deadline=2026-11-27T09:00:00Z,duration=4h"
SEAL = "0123456789abcdef"
H100 = SlurmDevice(gres="gpu:h100", partition="gpu")
A100 = SlurmDevice(gres="gpu:a100", partition="old")


def line(comment: str = WORDS, **fields: str) -> QueueLine:
    known = dict.fromkeys(PLAIN_FIELDS, "N/A") | {
        "JobID": "7",
        "JobArrayID": "7",
        "UserName": "ada",
        "State": "PENDING",
        "Reason": "BeginTime",
        "EligibleTime": "2026-11-25T06:00:00",
        "SubmitTime": "2026-11-25T05:00:00",
        "RestartCnt": "0",
        "Partition": "gpu",
        "NumNodes": "2",
        "NumCPUs": "8",
        "NumTasks": "4",
        "TimeLimit": "1:00:00",
        "Requeue": "1",
        "BatchFlag": "1",
    }
    given_fields = known | {name.replace("_", "-"): value for name, value in fields.items()}
    name = given_fields.pop("Name", "train")
    return parse_line([*(given_fields[one] for one in PLAIN_FIELDS), name, comment])


# ------------------------------------------------------------------------------------ words


def test_words_and_marks_are_told_apart() -> None:
    comment = parse_native(f"mine; {WORDS};adopted=job-1f;guard=1795770000;see=below")
    assert comment is not None
    assert comment.words == {"deadline": "2026-11-27T09:00:00Z", "duration": "4h"}
    assert comment.marks == {"adopted": "job-1f", "guard": "1795770000"}
    assert comment.stem == f"mine; {WORDS};see=below"
    assert comment.number("guard") == 1795770000
    assert comment.number("adopted") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(null)",
        "deadline=2026-11-27T09:00:00Z",
        "mygridtide:duration=4h",
        "gridtide:key=job.1.0;asks=CPU:1;ticket=ticket-0f",
        "see gridtide:key=job.1.0",
    ],
)
def test_other_comments_ask_for_nothing(text: str) -> None:
    assert parse_native(text) is None


@pytest.mark.parametrize("before", ["", "note ", "note;", "a|b\n", "\t"])
def test_own_text_may_stand_before(before: str) -> None:
    comment = parse_native(before + WORDS)
    assert comment is not None
    assert comment.words["duration"] == "4h"
    assert comment.text == before + WORDS


def test_names_are_read_as_those_of_options() -> None:
    assert parse_words("Checkpoint-Cost = 10m , power_w=300,") == (
        {"checkpoint_cost": "10m", "power_w": "300"},
        None,
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("duration", "'duration' is not name=value, such as duration=4h"),
        ("duration=", "'duration=' is not name=value, such as duration=4h"),
        ("=4h", "'=4h' is not name=value, such as duration=4h"),
        ("duration=4h,duration=5h", "duration is stated twice: '4h' and '5h'"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, wrong: str) -> None:
    assert parse_words(text)[1] == wrong
    assert find_trouble(line(f"gridtide:{text}")) == wrong


@given(
    stem=st.text(st.characters(exclude_characters=";", codec="utf-8"), max_size=60),
    marks=st.dictionaries(
        st.sampled_from(MARKS), st.text("abc019.-", min_size=1, max_size=9), max_size=4
    ),
)
def test_comment_reads_as_it_was_written(stem: str, marks: dict[str, str]) -> None:
    comment = parse_native(f"gridtide:{stem}")
    if comment is None:
        assert stem.startswith("key=")
        return
    again = parse_native(comment.marked(**marks).text)
    assert again is not None
    assert (again.stem, again.words, again.marks) == (comment.stem, comment.words, marks)


def test_marks_are_set_and_taken_away() -> None:
    comment = parse_native(f"{WORDS};guard=1;paused=2")
    assert comment is not None
    assert comment.marked(guard=5, paused=None, adopted="j").text == f"{WORDS};adopted=j;guard=5"


def test_reason_of_a_refusal_is_cleaned_and_cut() -> None:
    comment = parse_native(f"{WORDS};adopted=j")
    assert comment is not None
    assert comment.refused("a;b|c\n d").text == f"{WORDS};refused=a,b c d"
    assert len(comment.refused("é" * 2000).text.encode()) in (COMMENT_BYTES - 1, COMMENT_BYTES)


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("USR1", ("USR1", False)),
        ("B:USR2", ("USR2", True)),
        ("sigterm", ("TERM", False)),
        ("10", ("USR1", False)),
        ("KILL", None),
        ("STOP", None),
        ("B:9", None),
        ("NONE", None),
        ("USR1@60", None),
        ("99", None),
        ("", None),
    ],
)
def test_signals_that_can_be_caught(text: str, signal: tuple[str, bool] | None) -> None:
    assert parse_signal(text) == signal


# ------------------------------------------------------------------------------------ lines


def printed(*jobs: tuple[str, str, str]) -> str:
    """What squeue prints of jobs: id, name, comment."""
    lines = []
    for ref, name, comment in jobs:
        plain = "|".join([ref, *["x"] * (len(PLAIN_FIELDS) - 1)])
        lines.append(f"{plain}|{name}|{SEAL}|{comment}|{SEAL}\n")
    return "".join(lines)


def test_format_has_every_field_as_wide_as_it_is() -> None:
    fields = queue_format(SEAL).split(",")
    assert len(fields) == len(PLAIN_FIELDS) + 2
    assert fields[0] == "JobID:0|"
    assert fields[-2:] == [f"Name:0|{SEAL}|", f"Comment:0|{SEAL}"]


def test_names_and_comments_may_hold_anything() -> None:
    jobs = [("1", "a|b\nc", "x|y\n9|z"), ("2", "", ""), ("3", "n", "")]
    found = [(one[0], one[-2], one[-1]) for one in split_queue(printed(*jobs), SEAL)]
    assert found == jobs


def test_line_within_a_comment_is_no_line() -> None:
    forged = printed(("666", "evil", WORDS)).replace(SEAL, "f" * 16)
    found = list(split_queue(printed(("1", "n", f"x\n{forged}")), SEAL))
    assert [one[0] for one in found] == ["1"]


@pytest.mark.parametrize(
    ("text", "limit_s"),
    [
        ("30:00", 1800),
        ("1:30", 90),
        ("12:00:00", 43_200),
        ("1-12:00:00", 129_600),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("INVALID", None),
    ],
)
def test_limits(text: str, limit_s: int | None) -> None:
    assert parse_limit(text) == limit_s


@pytest.mark.parametrize(
    ("fields", "trouble"),
    [
        ({}, None),
        ({"JobArrayID": "7_[1-3]"}, "job arrays are not planned; submit their tasks one by one"),
        ({"JobArrayID": "7+0"}, "heterogeneous jobs are not planned"),
    ],
)
def test_jobs_of_several_parts_are_not_planned(fields: dict[str, str], trouble: str | None) -> None:
    assert find_trouble(line(**fields)) == trouble


def test_signal_that_cannot_be_caught_is_trouble() -> None:
    assert "'KILL' is not a signal" in (find_trouble(line(f"{WORDS},signal=KILL")) or "")


def test_comment_without_room_for_marks_is_trouble() -> None:
    assert "too long" in (find_trouble(line(f"{'x' * 800} {WORDS}")) or "")
    assert find_trouble(line(f"{'x' * 700} {WORDS}")) is None


# ---------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, ("CPU", 8)),
        ({"tres_alloc": "cpu=16,mem=64G,node=2"}, ("CPU", 16)),
        ({"tres_per_node": "gres:gpu:2"}, ("H100", 4)),
        ({"tres_per_node": "gres/gpu:h100:2"}, ("H100", 4)),
        ({"tres_per_job": "gres:gpu:h100:3"}, ("H100", 3)),
        ({"tres_per_task": "gres/gpu=1"}, ("H100", 4)),
        ({"tres_per_node": "gres:gpu"}, ("H100", 2)),
        ({"tres_per_node": "gpu:1", "tres_alloc": "cpu=8,gres/gpu=6"}, ("H100", 6)),
        ({"tres_per_node": "gres:gpu:h100:1,gres:disk:100"}, ("H100", 2)),
        ({"tres_per_node": "gres:disk:100"}, ("CPU", 8)),
        ({"tres_per_node": "gres:gpu:1", "Partition": "old"}, ("A100", 2)),
        ({"tres_per_node": "gres:gpu:a100:1", "Partition": "gpu"}, ("A100", 2)),
    ],
)
def test_devices_are_found(fields: dict[str, str], wanted: tuple[str, int]) -> None:
    found = find_wanted(line(**fields), {"CPU": SlurmDevice(), "H100": H100, "A100": A100})
    assert (found.accelerator, found.gpus, found.trouble) == (*wanted, None)


@pytest.mark.parametrize(
    ("fields", "trouble"),
    [
        ({"tres_per_node": "gres:gpu:1", "Partition": "x"}, "gpu without saying which"),
        ({"tres_per_node": "gres:gpu:mi300:1"}, "asks for gpu:mi300; on this cluster are planned"),
        ({"tres_per_node": "gres:gpu:h100:1,gres:gpu:a100:1"}, "gpu:a100 and gpu:h100"),
    ],
)
def test_devices_that_are_none_of_ours_are_named(fields: dict[str, str], trouble: str) -> None:
    found = find_wanted(line(**fields), {"CPU": SlurmDevice(), "H100": H100, "A100": A100})
    assert found.accelerator is None
    assert trouble in (found.trouble or "")


def test_cpus_where_none_are_planned() -> None:
    found = find_wanted(line(), {"H100": H100})
    assert found.trouble == "it asks for CPUs only, which are not planned on this cluster"
