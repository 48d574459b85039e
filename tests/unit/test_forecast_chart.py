"""Charts of forecasts, in the terminal and on a page."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from scheduler.server.forecast_chart import HEIGHT, draw
from scheduler.server.forecast_page import render_page
from scheduler.server.forecast_pictures import Band, ForecastPicture, Step, picture_of_document

HOUR = 3600.0
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def reader_in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def ahead(*grams: float, spread: float | None = 50, fallback_from: int = 99) -> list[Band]:
    return [
        Band(
            start_s=START + HOUR * hour,
            stop_s=START + HOUR * (hour + 1),
            g_per_kwh=value,
            low=None if spread is None else value - spread,
            high=None if spread is None else value + spread,
            is_fallback=hour >= fallback_from,
        )
        for hour, value in enumerate(grams)
    ]


def steps(first_hour: int, *grams: float) -> list[Step]:
    begin = START + HOUR * first_hour
    return [
        Step(begin + HOUR * hour, begin + HOUR * (hour + 1), value)
        for hour, value in enumerate(grams)
    ]


def picture(**parts: object) -> ForecastPicture:
    known = {"zone_id": "DE", "begins_s": START, "ahead": ahead(*[100] * 12, *[300] * 12)}
    return ForecastPicture(**(known | parts))  # type: ignore[arg-type]


def plot(lines: list[str]) -> list[str]:
    """The lines of the plot without labels."""
    return [line[8:] for line in lines[1 : 1 + HEIGHT]]


def braille_rows(lines: list[str], column: int) -> list[int]:
    shown = [line.ljust(column + 1)[column] for line in plot(lines)]
    return [row for row, one in enumerate(shown) if "\u2800" < one <= "\u28ff"]


def test_line_rises_where_the_intensity_does_and_the_band_surrounds_it() -> None:
    lines = draw(picture(), width=8 + 48)
    low, high = braille_rows(lines, 4), braille_rows(lines, 40)
    assert len(low) == len(high) == 1
    assert high[0] < low[0]
    column = [line.ljust(49)[40] for line in plot(lines)]
    assert column[high[0] - 1] == column[high[0] + 1] == "░"
    assert "░ from p10 to p90" in "\n".join(lines)


def test_title_says_range_and_the_cleanest_hours() -> None:
    falling = picture(ahead=ahead(*[300] * 6, 100, 110, 100, 110, *[300] * 6))
    (title, *_) = draw(falling, width=80)
    assert "cleanest 4 h: Thu 01 Jan 06:00 to 10:00, 105 g/kWh" in title
    assert "from 100 to 300 g/kWh" in title


@pytest.mark.parametrize("width", [10, 40, 80, 121, 400])
def test_no_line_is_wider_than_the_terminal_but_for_words(width: int) -> None:
    past = steps(-24, *range(100, 124))
    drawn = draw(picture(past=past), width=width)
    assert max(map(len, drawn[1 : 3 + HEIGHT])) <= max(width, 32)


def test_the_past_is_left_of_the_mark_of_now_and_needs_no_band() -> None:
    lines = draw(picture(past=steps(-24, *[200] * 24), ahead=ahead(*[100] * 24)), width=8 + 48)
    assert "left of ┊ measured" in lines[-1]
    first = plot(lines)[0]
    assert first.index("┊") == 24
    assert "┊" not in "\n".join(draw(picture(), width=56)[1 : 1 + HEIGHT])


def test_fallbacks_are_marked_under_their_slots() -> None:
    mixed = picture(ahead=ahead(*[100] * 24, fallback_from=20))
    (marks,) = [
        line for line in draw(mixed, width=8 + 24) if line.strip(" !") == "" and "!" in line
    ]
    assert marks == " " * (8 + 20) + "!!!!"
    assert "!" not in "".join(draw(picture(), width=56))


def test_gaps_stay_empty_and_nothing_at_all_is_said_so() -> None:
    parts = ahead(*[100] * 24)
    lines = draw(picture(ahead=parts[:8] + parts[16:]), width=8 + 48)
    assert {line.ljust(48)[20:28].strip() for line in plot(lines)} == {""}
    assert "nothing is known" in draw(picture(ahead=[]), width=80)[0]
    assert "cleanest" not in draw(picture(ahead=parts[:3]), width=80)[0]


@pytest.mark.parametrize("grams", [0.0, 0.004, 7.0, 100.0, 2999.0])
def test_ticks_enclose_flat_values_of_any_size(grams: float) -> None:
    ticks = picture(ahead=ahead(grams, grams, spread=None)).ticks
    assert ticks[0] <= grams <= ticks[-1]
    assert 2 <= len(ticks) <= 8
    assert draw(picture(ahead=ahead(grams, grams, spread=None)), width=80)


def test_picture_of_a_document_tells_each_source_once() -> None:
    def point(hour: int, source: str | None, **more: object) -> dict[str, object]:
        return {
            "time": f"2026-01-01T{hour:02d}:00:00Z",
            "g_per_kwh": None if source is None else 100.0 + hour,
            "p10": None,
            "p90": None,
            "source": source,
            "issued_at": None,
            "quality": None if source is None else "forecast",
            "is_fallback": None if source is None else False,
        } | more

    issued = "2025-12-31T23:00:00Z"
    points = [
        point(0, "live", issued_at=issued),
        point(1, "live", issued_at=issued),
        point(2, "typical_week", quality="typical", is_fallback=True),
        point(3, None),
    ]
    found = picture_of_document({"zone": "DE", "step": "1h", "points": points})
    assert [one.g_per_kwh for one in found.ahead] == [100, 101, 102]
    assert [one.is_fallback for one in found.ahead] == [False, False, True]
    assert list(found.notes) == [
        "Thu 01 Jan 00:00 to Thu 01 Jan 02:00: live, forecast, issued Wed 31 Dec 23:00",
        "Thu 01 Jan 02:00 to Thu 01 Jan 03:00: typical_week (! fallback)",
        "Thu 01 Jan 03:00 to Thu 01 Jan 04:00: no source covers it",
    ]


class Page(HTMLParser):
    """Which tags a page has, and that they are closed in order."""

    VOID = frozenset({"meta", "line", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def classes(self, tag: str) -> list[str | None]:
        return [attrs.get("class") for name, attrs in self.tags if name == tag]


def test_page_needs_nothing_else_and_says_what_it_shows() -> None:
    full = picture(
        zone_id="<DE>",
        past=steps(-24, *[200] * 24),
        came=steps(0, *[150] * 24),
        published=steps(0, *[180] * 24),
        ahead=ahead(*[100] * 24, fallback_from=20),
        notes=["built-in (ridge)"],
    )
    text = render_page([full, picture()])
    page = Page(text)
    assert page.classes("path") == ["band", "past", "came", "published", "ahead", "band", "ahead"]
    assert page.classes("rect").count("fallback") == 4
    assert page.classes("rect").count("spot") == 48
    assert not re.search(r"https?://|<script|<link|url\(", text)
    assert "prefers-color-scheme: dark" in text
    labels = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "svg"]
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert labels == ["t0 d0", "t1 d1"]
    assert ids == {"t0", "d0", "t1", "d1"}
    assert "<DE>" not in text
    assert "mean 100, lowest 100, highest 100 grams" in text
    assert "Measured since: mean 150." in text


def test_table_of_the_page_has_a_row_an_hour_and_unknown_is_no_zero() -> None:
    parts = ahead(*[100] * 4, spread=None)
    text = render_page([picture(ahead=parts, came=steps(0, 90, 91), published=steps(2, 95))])
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', text)
    cells = [re.findall(r'<td class="n">(.*?)</td>', row) for _, row in rows]
    assert rows[0][0] == "Thu 01 Jan 2026 00:00"
    assert cells[0] == ["100.0", "unknown", "unknown", "unknown", "90.0"]
    assert cells[2] == ["100.0", "unknown", "unknown", "95.0", "unknown"]


def test_band_and_lines_are_broken_at_gaps() -> None:
    parts = ahead(*[100] * 24)
    page = Page(render_page([picture(ahead=parts[:8] + parts[16:])]))
    drawn = {attrs["class"]: attrs["d"] or "" for tag, attrs in page.tags if tag == "path"}
    assert drawn["ahead"].count("M") == 2
    assert (drawn["band"].count("M"), drawn["band"].count("Z")) == (2, 2)
    assert "Nothing is known" in render_page([picture(ahead=[])])
