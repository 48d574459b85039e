"""A minute and a half of several services on one Redis under fire; `python -m tests.soak` is the long one."""

from pathlib import Path

import pytest

from tests.soak.__main__ import tell
from tests.soak.soak import Soak, Terms

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


def test_nothing_is_lost_or_done_twice_while_processes_and_the_server_are_killed(
    tmp_path: Path,
) -> None:
    terms = Terms(jobs=1500, submit_for_s=75, kill_every_s=1.0, server_restarts=3, most_s=400)
    print(f"seed {terms.seed}")
    outcome = Soak(tmp_path, terms).run()
    tell(outcome)
    assert outcome.accepted == 1500
    assert (outcome.lost, outcome.unknown, outcome.doubled) == ([], [], [])
    assert (outcome.late, outcome.unfinished, outcome.unaccounted) == ([], [], [])
    assert outcome.kills["plans"] >= 5
    assert outcome.kills["answers"] >= 5
    assert outcome.server_restarts == 3
    assert len(outcome.failovers_s) >= 2
