"""The shipped coefficients of the built-in forecast, for zones whose history is short."""

import csv
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FILE: Final = "forecast/level_coefficients.csv"


@cache
def load_level_coefficients() -> NDArray[np.float64]:
    """Shape (hours ahead, features), in the order of `forecasting.features`; read-only."""
    text = files("configs").joinpath(_FILE).read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))[1:]
    table = np.array([[float(cell) for cell in row[1:]] for row in rows])
    table.setflags(write=False)
    return table
