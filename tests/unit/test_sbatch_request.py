"""What `gridtide sbatch` asks of sbatch, on a Wednesday morning in Berlin."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from adapters.cluster.slurm_native_words import parse_native
from adapters.hardware_tables import load_hardware
from scheduler.core.errors import InfeasibleError, InvalidInputError
from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.server.sbatch_line import split_line
from scheduler.server.sbatch_request import (
    SbatchRequest,
    Surroundings,
    build_request,
    parse_time_limit,
)

NOW = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)  # 10:30 in Berlin
DEADLINE = "--deadline 2026-11-25T22:30:00Z"
IN_13_H = NOW + timedelta(hours=13)
GUARD = timedelta(seconds=GUARD_BEFORE_S)
HARDWARE = load_hardware()


def request(text: str, *, script: str = "", **variables: str) -> SbatchRequest:
    around = Surroundings(
        script=script,
        variables=variables,
        now=NOW,
        zone=ZoneInfo("Europe/Berlin"),
        hardware=HARDWARE,
    )
    return build_request(split_line(text.split(), ask_site=dict), around)


def comment(text: str, *, script: str = "") -> str:
    return request(text, script=script).arguments[0].removeprefix("--comment=")


def refusal(text: str, *, script: str = "", **variables: str) -> str:
    with pytest.raises(InvalidInputError) as caught:
        request(text, script=script, **variables)
    return caught.value.message


def test_words_go_into_the_comment_and_the_guard_into_the_begin_time() -> None:
    made = request(f"{DEADLINE} --duration 4h --gres=gpu:2 train.sh --epochs 3")
    begin_at = IN_13_H - timedelta(hours=4) - GUARD
    assert made.begin_at == begin_at
    assert made.arguments == (
        "--comment=gridtide:deadline=2026-11-25T22:30:00Z,duration=4h",
        f"--begin=uts{int(begin_at.timestamp())}",
        *("--gres=gpu:2", "train.sh", "--epochs", "3"),
    )
    assert made.overruled == ()


@pytest.mark.parametrize(
    ("said", "instant"),
    [
        ("+8h", "2026-11-25T17:30:00Z"),
        ("fri_09:00", "2026-11-27T08:00:00Z"),
        ("2026-12-04T09:00", "2026-12-04T08:00:00Z"),
        ("2026-07-04T09:00", None),
        ("2026-12-04T09:00+05:00", "2026-12-04T04:00:00Z"),
        ("2027-03-28T02:30", None),
    ],
)
def test_times_are_said_as_people_say_them_and_written_in_utc(
    said: str, instant: str | None
) -> None:
    line = split_line(["--deadline", said.replace("_", " "), "--duration=1h"], ask_site=dict)
    around = Surroundings(
        script="", variables={}, now=NOW, zone=ZoneInfo("Europe/Berlin"), hardware=HARDWARE
    )
    if instant is None:
        with pytest.raises(InvalidInputError, match=r"^deadline: .*(past|the clocks go forward)"):
            build_request(line, around)
    else:
        assert f"deadline={instant}," in build_request(line, around).arguments[0]


@pytest.mark.parametrize(
    ("words", "begin_at"),
    [
        ("--duration 4h --duration-p95 6h", IN_13_H - timedelta(hours=6) - GUARD),
        ("--duration 4h --start-by +2h", NOW + timedelta(hours=2) - GUARD),
        ("--duration 4h --not-before +8h59m", NOW + timedelta(hours=8, minutes=59)),
        ("--duration 13h", NOW),
    ],
)
def test_start_is_as_late_as_is_safe(words: str, begin_at: datetime) -> None:
    assert request(f"{DEADLINE} {words} a.sh").begin_at == begin_at


def test_patience_counts_from_now() -> None:
    made = request("--patience 3h --duration 4h a.sh")
    assert made.begin_at == NOW + timedelta(hours=3) - GUARD
    assert made.arguments[0] == "--comment=gridtide:patience=3h,duration=4h"


def test_what_cannot_be_met_is_refused_as_such() -> None:
    with pytest.raises(InfeasibleError, match=r"too soon for 14h from 2026-11-25T09:30:00Z on"):
        request(f"{DEADLINE} --duration 14h a.sh")
    with pytest.raises(InfeasibleError, match=r"too soon for 4h from 2026-11-25T19:30:00Z on"):
        request(f"{DEADLINE} --duration 4h --not-before +10h a.sh")


SCRIPT = "#!/bin/bash\n#SBATCH --time=2:00:00\n#SBATCH -J x\nsrun train\n"


@pytest.mark.parametrize(
    ("words", "script", "variables", "hours"),
    [
        ("-t 60", SCRIPT, {"SBATCH_TIMELIMIT": "180"}, 1),
        ("--time=60", "", {}, 1),
        ("", SCRIPT, {"SBATCH_TIMELIMIT": "180"}, 3),
        ("", SCRIPT, {}, 2),
        ("--duration 1h -t 300", SCRIPT, {}, 1),
        ("--duration 5h --interruptible -t 60", SCRIPT, {}, 5),
    ],
)
def test_duration_is_the_time_limit_where_none_is_stated(
    words: str, script: str, variables: dict[str, str], hours: int
) -> None:
    made = request(f"{DEADLINE} {words} a.sh", script=script, **variables)
    assert made.begin_at == IN_13_H - timedelta(hours=hours) - GUARD


@pytest.mark.parametrize("limit", ["", "--time=UNLIMITED", "-t 0"])
def test_without_any_duration_it_says_so(limit: str) -> None:
    said = refusal(f"{DEADLINE} {limit} a.sh")
    assert said.startswith("duration: neither stated nor given as a time limit")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("1:30:00", 5400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:30:15", 131415),
        ("infinite", None),
        ("UNLIMITED", None),
        ("0", None),
    ],
)
def test_time_limits_of_sbatch(text: str, seconds: int | None) -> None:
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["4h", "", "1:2:3:4", "1-", "-5"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^--time: .* is not a time limit"):
        parse_time_limit(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--begin=now", "--begin: Gridtide sets it"),
        ("-b now", "--begin: Gridtide sets it"),
        ("--hold", "--hold: a job that Gridtide plans"),
        ("-vH", "--hold: a job that Gridtide plans"),
        ("--array=1-3", "--array: job arrays are not planned"),
        ("-a1-3", "--array: job arrays are not planned"),
        (":", ":: heterogeneous jobs are not planned"),
        ("--comment=x;gridtide:patience=1h", "speaks to Gridtide already"),
        ("--priority=high", "priority: 'high' is not a number"),
        ("--min-chunk=soon", "min_chunk: 'soon' is not a duration"),
        (
            "--duration-p95=1h",
            "duration_p95: '1h' is not valid; it must be at least the duration, 4h",
        ),
        ("--interruptible=perhaps", "interruptible: 'perhaps' is not yes or no"),
        ("--signal=KILL", "signal: 'KILL' is not a signal that a job can catch"),
        ("--signal=USR1,priority=5", "a value holds , or ;"),
        ("--signal=USR1;adopted=x", "a value holds , or ;"),
        ("--project=Big", "project:"),
        ("--patience=1h", "give either deadline"),
        ("--time=60", "duration: 4h is longer than the time limit, 1h, at which Slurm ends"),
        ("--time=soon", "--time: 'soon' is not a time limit"),
    ],
)
def test_what_contradicts_or_is_wrong_is_refused(options: str, said: str) -> None:
    assert said in refusal(f"{DEADLINE} --duration 4h {options} a.sh")


def test_a_comment_that_is_too_long_is_refused() -> None:
    assert "its comment is too long" in refusal(f"{DEADLINE} --duration 4h --comment={'x' * 800}")


@pytest.mark.parametrize(
    ("directive", "said"),
    [
        ("--array=1-3", "#SBATCH --array: job arrays are not planned"),
        ("-J x -a 3 # each", "#SBATCH --array: job arrays are not planned"),
        ("-H", "#SBATCH --hold: a job that Gridtide plans"),
        ("hetjob", "#SBATCH hetjob: heterogeneous jobs are not planned"),
    ],
)
def test_what_contradicts_in_the_script_is_refused(directive: str, said: str) -> None:
    script = f"#!/bin/bash\n#SBATCH {directive}\ntrue\n"
    assert said in refusal(f"{DEADLINE} --duration 4h a.sh", script=script)


def test_an_array_from_the_environment_is_refused() -> None:
    said = refusal(f"{DEADLINE} --duration 4h a.sh", SBATCH_ARRAY_INX="1-3")
    assert said.startswith("SBATCH_ARRAY_INX: job arrays are not planned")


def test_script_keeps_its_comment_and_gives_its_begin_way() -> None:
    script = "#!/bin/bash\n#SBATCH --comment='by night' --begin=20:00\ntrue\n"
    assert comment(f"{DEADLINE} --duration 4h a.sh", script=script).startswith("by night;gridtide:")
    assert request(f"{DEADLINE} --duration 4h a.sh", script=script).overruled == ("begin",)
    assert comment("--patience 1h --duration 4h --comment=mine a.sh", script=script) == (
        "mine;gridtide:patience=1h,duration=4h"
    )


def test_words_of_the_script_give_way_to_those_of_the_command_line() -> None:
    script = "#!/bin/bash\n#SBATCH --comment=gridtide:patience=1h\ntrue\n"
    said = comment("--patience 2h --duration 4h a.sh", script=script)
    assert said == "gridtide:patience=2h,duration=4h"


def test_what_is_wrong_in_a_script_is_for_sbatch_to_say() -> None:
    script = "#!/bin/bash\n#SBATCH --no-such -t 5\n#SBATCH -J 'x\n#SBATCH -t 60\ntrue\n"
    made = request(f"{DEADLINE} a.sh", script=script)
    assert made.begin_at == IN_13_H - timedelta(hours=1) - GUARD


def test_service_reads_the_same_words_from_the_comment() -> None:
    text = (
        f"{DEADLINE} --duration=4h --interruptible --min-chunk 30m --signal B:USR1 --max-cost=3.5"
        " --priority=-3 --project nlp --comment=note a.sh"
    )
    read = parse_native(comment(text))
    assert read is not None
    assert read.stem.startswith("note;gridtide:")
    assert read.words == {
        "deadline": "2026-11-25T22:30:00Z",
        "duration": "4h",
        "interruptible": "yes",
        "min_chunk": "30m",
        "signal": "B:USR1",
        "max_cost": "3.5",
        "priority": "-3",
        "project": "nlp",
    }
