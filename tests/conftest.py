"""What every test shares."""

from typing import Final

import pytest
import structlog

_REAL_SLURM: Final = "tests.unit.cluster.real_slurm"


def pytest_configure() -> None:
    # Services under test run in this process; their log lines are not what tests print.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests on real Slurm clusters are marked: they run one after the other, and others may run beside them."""
    if item.get_closest_marker("external") and _meets_slurm(item):
        item.add_marker(pytest.mark.slurm)


def _meets_slurm(item: pytest.Item) -> bool:
    words = vars(item.module).values() if isinstance(item, pytest.Function) else ()
    return any(getattr(word, "__module__", None) == _REAL_SLURM for word in words)
