import pytest

from scheduler.core.queue_waits import LEAST_S, MIN_WAITS, MOST_S, long_wait_s


@pytest.mark.parametrize(
    ("waits_s", "expected"),
    [
        ([], 0),
        ([500.0] * (MIN_WAITS - 1), 0),
        ([500.0] * MIN_WAITS, 500),
        ([LEAST_S - 1.0] * 10, 0),
        ([1.0] * 9 + [9000.0], 0),  # one in ten is an accident
        ([100.2] * 8 + [900.5, 9000.0], 901),
        ([1e9] * 10, MOST_S),
    ],
)
def test_nine_in_ten_stay_within(waits_s: list[float], expected: int) -> None:
    assert long_wait_s(waits_s) == expected
