"""What every test shares."""

import structlog


def pytest_configure() -> None:
    # Services under test run in this process; their log lines are not what tests print.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
