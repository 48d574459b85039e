"""The ENTSO-E Transparency Platform on loopback: load and generation of every zone, and its manners."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from tests.fakes.loopback_http import Exchange, LoopbackServer

HOUR = timedelta(hours=1)
LAG = HOUR
IMPORTED_MW = 500
_BRUSSELS = ZoneInfo("Europe/Brussels")
_NAMESPACE = "urn:iec62325.351:tc57wg16:451-{}"
_RESOLUTIONS = {"PT15M": 15, "PT30M": 30, "PT60M": 60}


class RefusedError(Exception):
    """Answered with an acknowledgement."""

    def __init__(self, text: str, status: int = 200) -> None:
        super().__init__(text)
        self.status = status


class FakeEntsoe(LoopbackServer):
    """`/api` for A75 (A16), A69 (A01) and A65 (A01, A16).

    Nuclear runs flat, wind and sun as they please, gas and coal share the rest 3 to 1, and 500 MW
    are imported. Forecasts come true. Those of wind and sun end with the day in Brussels, after
    18:00 there with the next day; those of the load with the next day.

    Args:
        allowed: requests until the platform bans.
        longest: window of one request.
        no_data_status: with which it says that nothing matches: 200 or 400.
    """

    token = "t0ken"

    def __init__(
        self,
        now: datetime,
        *,
        allowed: int = 400,
        longest: timedelta = timedelta(days=366),
        no_data_status: int = 200,
    ) -> None:
        self.now = now
        self.allowed = allowed
        self.longest = longest
        self.no_data_status = no_data_status
        super().__init__(self._answer)

    @staticmethod
    def mw(psr_type: str, at: datetime) -> float:
        """Mean MW of the hour that holds the instant."""
        at = at.astimezone(UTC)
        solar = 800.0 * max(0, 6 - abs(at.hour - 12))
        wind = 1500.0 + 400 * (at.toordinal() % 7)
        rest = 6000.0 + 200 * (12 - abs(at.hour - 12)) + 300 * (at.toordinal() % 5)
        return {"B04": 0.75 * rest, "B05": 0.25 * rest, "B14": 3000.0, "B16": solar, "B19": wind}[
            psr_type
        ]

    def load_mw(self, at: datetime) -> float:
        return sum(self.mw(kind, at) for kind in ("B04", "B05", "B14", "B16", "B19")) + IMPORTED_MW

    def known_until(self, kind: str, process: str) -> datetime:
        """Up to when there is such data now."""
        local = self.now.astimezone(_BRUSSELS)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        is_out = kind == "A65" or local.hour >= 18
        if process == "A01":
            return (midnight + timedelta(days=2 if is_out else 1)).astimezone(UTC)
        return self.now.replace(minute=0, second=0, microsecond=0) - LAG

    def _answer(self, to: Exchange) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(to.path).query).items()}
        self.allowed -= 1
        if query.get("securityToken") != self.token:
            page = b"<html><body>Unauthorized. Missing or invalid security token</body></html>"
            to.reply(page, status=401, content_type="text/html")
        elif self.allowed < 0:
            text = b"Max allowed requests per minute from each unique IP is max up to 400 only"
            to.reply(text, status=429, content_type="text/plain")
        elif urlsplit(to.path).path != "/api":
            to.reply(b"page not found", status=404, content_type="text/plain")
        else:
            try:
                body, status = self.document(query), 200
            except RefusedError as error:
                body, status = self.acknowledgement(str(error)), error.status
            to.reply(body.encode(), status=status, content_type="text/xml")

    def document(self, query: dict[str, str]) -> str:
        """A document as the platform makes it. Raises RefusedError where it acknowledges only."""
        kind, process = query.get("documentType", ""), query.get("processType", "")
        if (kind, process) not in {("A75", "A16"), ("A69", "A01"), ("A65", "A01"), ("A65", "A16")}:
            raise RefusedError("check you request against dependency tables", 400)
        side = "outBiddingZone_Domain" if kind == "A65" else "in_Domain"
        domain = query.get(side, "")
        if len(domain) != 16:
            raise RefusedError(f"The {side} {domain!r} is not valid for this area", 400)
        low, high = (_instant(query.get(name, "")) for name in ("periodStart", "periodEnd"))
        if high - low > self.longest:
            raise RefusedError("The amount of requested data exceeds allowed limit", 400)
        # Whole, with an hour on either side that nobody asked for.
        high = min(high + HOUR, self.known_until(kind, process))
        if high <= low:
            raise RefusedError(
                f"No matching data found for Data item {kind} {domain}", self.no_data_status
            )
        return self._written(kind, process, domain, low - HOUR, high)

    def _written(self, kind: str, process: str, domain: str, low: datetime, high: datetime) -> str:
        mw = self.mw
        series = {
            "A65": [written_series("out", domain, None, "PT60M", self.load_mw, low, high)],
            "A69": [
                written_series("in", domain, "B16", "PT15M", lambda at: mw("B16", at), low, high),
                written_series("in", domain, "B19", "PT60M", lambda at: mw("B19", at), low, high),
            ],
            "A75": [
                written_series(
                    side, domain, psr_type, resolution, _of(self, psr_type, side), low, high, curve
                )
                for side, psr_type, resolution, curve in (
                    ("in", "B04", "PT30M", "A03"),
                    ("in", "B05", "PT60M", "A01"),
                    ("in", "B10", "PT60M", "A03"),
                    ("out", "B10", "PT60M", "A03"),
                    ("in", "B14", "PT60M", "A03"),
                    ("in", "B16", "PT15M", "A03"),
                    ("in", "B19", "PT60M", "A01"),
                )
            ],
        }[kind]
        return written(kind, process, "".join(series), created_at=self.now)

    def acknowledgement(self, text: str) -> str:
        return acknowledgement(text)


def acknowledgement(text: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><Acknowledgement_MarketDocument '
        f'xmlns="{_NAMESPACE.format("1:acknowledgementdocument:7:0")}"><mRID>a</mRID>'
        "<createdDateTime>2026-06-17T11:41:36Z</createdDateTime>"
        f"<Reason><code>999</code><text>{text}</text></Reason></Acknowledgement_MarketDocument>"
    )


def written(
    kind: str, process: str, series: str, *, created_at: datetime, version: str = "3:0"
) -> str:
    """A document of these series."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<GL_MarketDocument '
        f'xmlns="{_NAMESPACE.format(f"6:generationloaddocument:{version}")}"><mRID>1</mRID>'
        f"<type>{kind}</type><process.processType>{process}</process.processType>"
        f"<createdDateTime>{created_at:%Y-%m-%dT%H:%M:%SZ}</createdDateTime>{series}"
        "</GL_MarketDocument>"
    )


def written_series(
    side: str,
    domain: str,
    psr_type: str | None,
    resolution: str,
    mw: Callable[[datetime], float],
    low: datetime,
    high: datetime,
    curve: str = "A01",
) -> str:
    """A TimeSeries with a Period for each day of Brussels; curve A03 leaves repeated values out."""
    kind = f"<MktPSRType><psrType>{psr_type}</psrType></MktPSRType>" if psr_type else ""
    periods = "".join(
        _period(begins, ends, resolution, mw, curve) for begins, ends in pairwise(_days(low, high))
    )
    return (
        f"<TimeSeries><mRID>1</mRID><businessType>A01</businessType>"
        f'<{side}BiddingZone_Domain.mRID codingScheme="A01">{domain}</{side}BiddingZone_Domain.mRID>'
        "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name>"
        f"<curveType>{curve}</curveType>{kind}{periods}</TimeSeries>"
    )


def _period(
    begins: datetime, ends: datetime, resolution: str, mw: Callable[[datetime], float], curve: str
) -> str:
    step = timedelta(minutes=_RESOLUTIONS[resolution])
    points, before = [], None
    for index in range((ends - begins) // step):
        value = mw(begins + index * step)
        if curve == "A01" or value != before:
            points.append(
                f"<Point><position>{index + 1}</position><quantity>{value:g}</quantity></Point>"
            )
        before = value
    return (
        f"<Period><timeInterval><start>{_minute(begins)}</start><end>{_minute(ends)}</end>"
        f"</timeInterval><resolution>{resolution}</resolution>{''.join(points)}</Period>"
    )


def _of(api: FakeEntsoe, psr_type: str, side: str) -> Callable[[datetime], float]:
    if psr_type == "B10":
        return lambda at: 400.0 if side == "out" and at.hour < 4 else 0.0
    return lambda at: api.mw(psr_type, at)


def _days(low: datetime, high: datetime) -> Iterator[datetime]:
    """The window's ends and the midnights of Brussels between them, in UTC."""
    yield low
    day = low.astimezone(_BRUSSELS).replace(hour=0, minute=0, second=0, microsecond=0)
    # Days of the calendar: around a change of clocks they have 23 or 25 hours.
    while (day := day + timedelta(days=1)).astimezone(UTC) < high:
        if day.astimezone(UTC) > low:
            yield day.astimezone(UTC)
    yield high


def _instant(text: str) -> datetime:
    try:
        at = datetime.strptime(text, "%Y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:
        raise RefusedError("Wrong format of periodStart or periodEnd", 400) from None
    if at.minute:
        raise RefusedError("periodStart and periodEnd are to be full hours", 400)
    return at


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%MZ")
