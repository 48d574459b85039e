"""What the log looks like, whoever writes to it."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from scheduler.server.logs import configure_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, handlers = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("apscheduler").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_lines_of_libraries_are_events_like_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    structlog.get_logger("x").info("job_planned", job_id="a")
    logging.getLogger("some.library").warning("Invalid HTTP request received from %s", "there")
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("some.library").exception("Exception in ASGI application")
    own, warned, failed = lines(capsys)
    assert (own["event"], own["level"], own["job_id"]) == ("job_planned", "info", "a")
    assert warned["event"] == "Invalid HTTP request received from there"
    assert (warned["level"], warned["logger"]) == ("warning", "some.library")
    assert warned["timestamp"]
    assert "ValueError: invalid literal" in failed["exception"]


def test_tick_that_takes_longer_than_its_interval_fills_no_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs()
    logging.getLogger("apscheduler.scheduler").warning(
        'Execution of job "%s" skipped: maximum number of running instances reached (%d)', "tick", 1
    )
    logging.getLogger("apscheduler.executors.default").error("Job raised an exception")
    assert [one["event"] for one in lines(capsys)] == ["Job raised an exception"]


def test_logs_that_are_configured_twice_say_things_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    configure_logs()
    logging.getLogger("any").warning("once")
    assert len(lines(capsys)) == 1
