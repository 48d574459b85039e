"""The plugin for the controller, in every Lua that Slurm may be built with, beside the service's own reading."""

import importlib
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cluster.slurm_native_words import parse_native
from scheduler.core.errors import InvalidInputError
from scheduler.core.guard import GUARD_BEFORE_S
from scheduler.core.timegrid import parse_instant
from scheduler.core.units import parse_duration
from scheduler.server.native_jobs import WORDS

FILE = Path(__file__).parents[2] / "deploy" / "slurm" / "job_submit.lua"
CODE = FILE.read_text(encoding="utf-8")
LUA = os.environ.get("GRIDTIDE_TEST_LUA", "lua51")
"""One Lua a process: fakeredis shows the symbols of its own to all others, and 5.1 is the one that it has, too."""
NOW = 1_795_600_000  # 2026-11-25T12:26:40Z
HOUR = 3600
NO_VAL, INFINITE = 2**32 - 2, 2**32 - 1


class Controller:
    """The file as slurmctld loads it, with what it says to users and to the log."""

    def __init__(self, version: str, before: str = "") -> None:
        module = importlib.import_module(f"lupa.{version}")
        self.lua, self.error = module.LuaRuntime(), module.LuaError
        self.said: list[str] = []
        self.logged: list[str] = []
        form = self.lua.eval("string.format")
        self.lua.globals().slurm = self.lua.table_from(
            {
                "SUCCESS": 0,
                "log_user": lambda *text: self.said.append(form(*text)),
                "log_error": lambda *text: self.logged.append(form(*text)),
            }
        )
        self.lua.execute(before)
        self.gridtide = self.lua.execute(CODE)

    def job(self, comment: str | None, **fields: Any) -> Any:
        unset = {"begin_time": 0, "time_limit": NO_VAL, "priority": NO_VAL, "comment": comment}
        return self.lua.table_from(unset | fields)

    def begin_time(self, comment: str | None, **fields: Any) -> int:
        job = self.job(comment, **fields)
        self.gridtide.submit(job, NOW)
        return int(job.begin_time)


@pytest.fixture
def controller() -> Controller:
    return Controller(LUA)


@pytest.mark.skipif("GRIDTIDE_TEST_LUA" in os.environ, reason="runs in one Lua already")
@pytest.mark.parametrize("version", ["lua52", "lua53", "lua54", "lua55", "luajit21"])
def test_every_other_lua_passes_the_same(version: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env=os.environ | {"GRIDTIDE_TEST_LUA": version},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def in_hours(hours: float) -> str:
    return datetime.fromtimestamp(NOW + hours * HOUR).astimezone().isoformat()


@pytest.mark.parametrize(
    ("words", "fields", "hours"),
    [
        (f"deadline={in_hours(10)},duration=4h", {}, 6),
        (f"deadline={in_hours(10)},duration=4h,duration_p95=5h", {}, 5),
        (f"Deadline = {in_hours(10)} , DURATION-P95=5h, duration=4h,", {}, 5),
        (f"deadline={in_hours(10)},duration=4h,start-by={in_hours(2)}", {}, 2),
        (f"deadline={in_hours(10)},duration=4h,start-by={in_hours(9)}", {}, 6),
        (f"deadline={in_hours(10)}", {"time_limit": 180}, 7),
        (f"deadline={in_hours(10)},duration=1h", {"time_limit": 180}, 9),
        ("patience=3h,duration=4h", {}, 3),
        ("patience=3h,duration=4h,duration_p95=5h,interruptible=yes", {}, 2),
    ],
)
def test_job_that_asks_gets_its_latest_safe_start(
    controller: Controller, words: str, fields: dict[str, Any], hours: float
) -> None:
    for comment in (f"gridtide:{words}", f"note gridtide:{words}", f"a;gridtide:{words};b=c"):
        assert controller.begin_time(comment, **fields) == NOW + hours * HOUR - GUARD_BEFORE_S
    assert (controller.said, controller.logged) == ([], [])


def test_start_is_never_before_the_job_may_start(controller: Controller) -> None:
    earliest = f"gridtide:deadline={in_hours(10)},duration=4h,not_before={in_hours(5.99)}"
    assert controller.begin_time(earliest) == NOW + round(5.99 * HOUR)


@pytest.mark.parametrize(
    ("comment", "fields"),
    [
        (None, {}),
        ("", {}),
        ("my job", {}),
        ("notgridtide:deadline=soon", {}),
        ("gridtide:key=abc", {}),
        ("gridtide:patience=3h,duration=4h", {"priority": 0}),
        ("gridtide:patience=60s,duration=4h", {}),
    ],
)
def test_other_jobs_stay_as_they_are(
    controller: Controller, comment: str | None, fields: dict[str, Any]
) -> None:
    assert controller.begin_time(comment, **fields) == 0
    assert (controller.said, controller.logged) == ([], [])


def test_a_start_by_the_user_stays(controller: Controller) -> None:
    assert controller.begin_time("gridtide:patience=3h,duration=4h", begin_time=NOW + 5) == NOW + 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("deadline=soon,duration=4h", "deadline: 'soon' is not a time; write it like 2026-"),
        ("deadline=2026-02-29T00:00:00Z,duration=4h", "deadline: '2026-02-29T00:00:00Z' is not"),
        ("deadline=2026-12-29T00:00:00,duration=4h", "is not a time"),
        ("patience=4,duration=4h", "patience: '4' is not a duration; write it like 4h"),
        ("patience=4h,duration_p95=x,duration=4h", "duration_p95: 'x' is not a duration"),
        ("patience=4h,duration=4h,duration_p95=3h", "duration_p95: must be at least"),
        ("patience=4h", "duration: neither stated nor given as a time limit"),
        ("duration=4h", "state either deadline (finish by) or patience"),
        (f"patience=4h,deadline={in_hours(9)},duration=4h", "state either deadline"),
        ("patience=4h,durration=4h", "durration: not a word that can be stated; known: deadline"),
        ("patience=4h,patience=5h", "patience is stated twice"),
        ("patience", "'patience' is not name=value"),
        ("patience=", "'patience=' is not name=value"),
        ("100%d", "'100%d' is not name=value"),
        (f"deadline={in_hours(3)},duration=4h", "its deadline cannot be met any more"),
        (f"deadline={in_hours(-3)},duration=4h", "its deadline cannot be met any more"),
    ],
)
def test_user_is_told_what_is_wrong_and_the_job_stays_as_it_is(
    controller: Controller, words: str, said: str
) -> None:
    assert controller.begin_time(f"gridtide:{words}") == 0
    (message,) = controller.said
    assert message.startswith("gridtide: not planned: ")
    assert said in message
    assert controller.logged == []


def test_no_limit_is_no_duration(controller: Controller) -> None:
    for limit in (NO_VAL, INFINITE):
        assert controller.begin_time("gridtide:patience=3h", time_limit=limit) == 0
    assert len(controller.said) == 2


def test_arrays_stay_as_they_are(controller: Controller) -> None:
    comment = "gridtide:patience=3h,duration=4h"
    assert controller.begin_time(comment, array_inx="1-3") == 0
    assert controller.said == [
        "gridtide: not planned: job arrays are not planned; submit their tasks one by one"
    ]


def test_an_error_of_ours_is_logged_and_stops_no_job(controller: Controller) -> None:
    job = controller.job("gridtide:patience=3h,duration=4h", time_limit="no number")
    assert controller.lua.globals().slurm_job_submit(job, None, 0) == 0
    assert job.begin_time == 0
    (logged,) = controller.logged
    assert logged.startswith("gridtide: ")
    controller.lua.execute("slurm.log_user = nil; slurm.log_error = nil")
    assert controller.lua.globals().slurm_job_submit(job, None, 0) == 0
    assert controller.lua.globals().slurm_job_modify(job, None, None, 0) == 0


def test_functions_of_the_site_stay_its_own() -> None:
    site = "function slurm_job_submit() return 7 end function slurm_job_modify() return 8 end"
    controller = Controller("lua51", before=site)
    assert controller.lua.globals().slurm_job_submit() == 7
    assert controller.lua.globals().slurm_job_modify() == 8
    assert controller.begin_time("gridtide:patience=3h,duration=4h") > NOW


def test_margin_and_words_are_those_of_the_service(controller: Controller) -> None:
    assert controller.gridtide.GUARD_BEFORE_S == GUARD_BEFORE_S
    assert sorted(controller.gridtide.WORDS.values()) == sorted(WORDS)


# ------------------------------------------------------------- beside the service's reading

LOADED = Controller(LUA)
PIECES = st.sampled_from([*"dhmspt .:+-z", "4", "30", "1.5", "0", "P", "T", "PT", "400"])


@given(st.lists(PIECES, max_size=6).map("".join))
def test_durations_are_those_of_the_service(text: str) -> None:
    try:
        seconds: int | None = parse_duration(text)
    except InvalidInputError:
        seconds = None
    found = LOADED.gridtide.parse_duration(text)
    # Half a second is rounded up here, and to the even second there.
    assert found == seconds or ("." in text and abs((found or 0) - (seconds or 0)) == 1)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)), st.integers(-23 * 60, 23 * 60))
def test_instants_are_those_of_the_service(naive: datetime, minutes: int) -> None:
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    at = naive.replace(microsecond=0).isoformat()
    for text in (f"{at}{offset}", f"{at}Z", f"{at[:-3]}{offset.replace(':', '')}", f"{at}.25Z"):
        assert LOADED.gridtide.parse_instant(text) == int(parse_instant(text).timestamp())


@given(st.lists(st.sampled_from([*"2026-1Z:+. Tt", "12-04", "T09:", "00", "30"])).map("".join))
def test_what_is_no_instant_there_is_none_here(text: str) -> None:
    found = LOADED.gridtide.parse_instant(text)
    if found is not None:
        assert found == int(parse_instant(text).timestamp())


WORDY = ["gridtide:", "patience=4h", "duration", "Project", "key=", "max-cost"]


@given(st.lists(st.sampled_from([*"; ,=x", *WORDY]), max_size=12).map("".join))
def test_comments_are_read_as_the_service_reads_them(comment: str) -> None:
    read = parse_native(comment)
    is_wrong = read is not None and (read.wrong is not None or not read.words.keys() <= set(WORDS))
    try:
        found = LOADED.gridtide.parse_words(comment)
    except LOADED.error:
        assert is_wrong
        return
    assert not is_wrong
    assert (found and dict(found)) == (read and read.words)
