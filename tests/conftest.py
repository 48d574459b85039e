"""What every test shares."""

from collections.abc import Sequence
from typing import Final

import pytest
import structlog

_REAL_SLURM: Final = "tests.unit.cluster.real_slurm"


def pytest_configure() -> None:
    # Services under test run in this process; their log lines are not what tests print.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


# First, so that the plugin that hands out groups sees them.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Tests on the same real clusters stay together, one after the other; others may run beside them."""
    for item in items:
        if item.get_closest_marker("external") and _meets_slurm(item):
            item.add_marker(pytest.mark.xdist_group("slurm"))


def _meets_slurm(item: pytest.Item) -> bool:
    words = vars(item.module).values() if isinstance(item, pytest.Function) else ()
    return any(getattr(word, "__module__", None) == _REAL_SLURM for word in words)
