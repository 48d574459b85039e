"""What commands print for people."""

import pytest

from scheduler.server.cli_output import print_rows


def test_long_sentence_pushes_no_other_column_out_of_sight(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("ok", "store", "fine"), ("FAIL", "intensity DE energy_charts", "no answer " * 60)]
    print_rows("table", {}, ("", "subject", "detail"), rows)
    lines = capsys.readouterr().out.splitlines()
    failed = next(line for line in lines if line.startswith("FAIL"))
    assert "intensity DE energy_charts" in failed
    assert sum(line.count("no") for line in lines) == 60
    assert max(map(len, lines)) <= 200
