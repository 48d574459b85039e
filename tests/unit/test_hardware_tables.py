"""The table of accelerators: the shipped one has the published powers, a broken one is refused."""

import csv
from pathlib import Path

import pytest

from adapters.hardware_tables import load_hardware, parse_hardware
from scheduler.core.errors import InvalidDataError, InvalidJobError

SHIPPED = Path(__file__).parents[2] / "configs" / "hardware" / "accelerators.csv"
HEADER = "name,tdp_w,aliases,source\n"


@pytest.mark.parametrize(
    ("name", "tdp_w"),
    [("A100", 400), ("H100", 700), ("H100-NVL", 400), ("V100", 300), ("T4", 70), ("L4", 72)],
)
def test_shipped_table_has_the_makers_powers(name: str, tdp_w: float) -> None:
    assert load_hardware().get(name).tdp_w == tdp_w


def test_shipped_table_is_the_file_row_by_row_and_alias_by_alias() -> None:
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = load_hardware()
    assert [one.name for one in table.accelerators] == [row["name"] for row in rows]
    for row in rows:
        for name in [row["name"], *filter(None, row["aliases"].split("|"))]:
            found = table.get(name)
            assert (found.name, found.tdp_w) == (row["name"], float(row["tdp_w"]))
            assert table.get(f" {name.lower()} ") is found
    assert all(one.source for one in table.accelerators)


def test_estimated_power_is_a_share_of_tdp_for_every_device() -> None:
    # 400 W x 0.70 x 8.
    assert load_hardware().power_w("a100-sxm4", 8) == pytest.approx(2240)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("A1000", "did you mean A100"), ("h-100", "H100"), ("ZZZZZZ", "known: "), ("", "known: ")],
)
def test_unknown_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        load_hardware().get(name, field="resources.accelerators")
    assert caught.value.message.startswith(
        f"resources.accelerators: {name!r} is not in the hardware table; "
    )
    assert hint in caught.value.message
    assert caught.value.fields["value"] == name


def test_own_table_is_read_with_quotes_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        HEADER + 'X1,10.5,x-one|xx,"made by us, 2026"\n\nX2,20,,\n', encoding="utf-8-sig"
    )
    table = load_hardware(path)
    assert [(one.name, one.tdp_w, one.aliases) for one in table.accelerators] == [
        ("X1", 10.5, ("x-one", "xx")),
        ("X2", 20.0, ()),
    ]
    assert table.get("XX").source == "made by us, 2026"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": columns ; needed are name, tdp_w, aliases, source"),
        ("name,watts\nA,1\n", ": columns name, watts; needed are name, tdp_w, aliases, source"),
        (HEADER, ": no rows"),
        (HEADER + "A,x,,\n", ":2: tdp_w 'x' is not a number of watts above 0, such as 400"),
        (HEADER + "A,1,,\nB,,,\n", ":3: tdp_w '' is not"),
        (HEADER + "A,0,,\n", ":2: tdp_w '0' is not"),
        (HEADER + "A,-400,,\n", ":2: tdp_w '-400' is not"),
        (HEADER + "A,nan,,\n", ":2: tdp_w 'nan' is not"),
        (HEADER + "A,inf,,\n", ":2: tdp_w 'inf' is not"),
        (HEADER + "A,0.4 kW,,\n", ":2: tdp_w '0.4 kW' is not"),
        (HEADER + "A,1,,\n\nB,x,,\n", ":4: tdp_w 'x' is not"),
        (HEADER + "A,1,,\na,2,,\n", ":3: name 'a' is empty or used in line 2 already"),
        (HEADER + "A,1,,\nB,2,C|A,\n", ":3: name 'A' is empty or used in line 2 already"),
        (HEADER + ",1,,\n", ":2: name '' is empty"),
        (HEADER + "A,1,C| ,\n", ":2: name ' ' is empty"),
        (HEADER + "A,1\n", ":2: 2 cells under 4 columns"),
        (HEADER + "A,1,,made by us, 2026\n", ":2: 5 cells under 4 columns; put text with commas"),
        (HEADER + f"A,1,,{'x' * 200_000}\n", ": not CSV"),
    ],
)
def test_malformed_table_is_refused_with_file_line_column_and_value(text: str, says: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        parse_hardware(text, "mine.csv")
    assert caught.value.message.startswith("mine.csv")
    assert says in caught.value.message
    assert caught.value.fields["field"] in {"columns", "path", "tdp_w", "name"}


@pytest.mark.parametrize("content", [None, b"name,\xff\xfe"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidDataError, match=r"mine\.csv: cannot be read"):
        load_hardware(path)
