"""ENTSO-E Transparency Platform: actual generation per type (A75), weighed over the life cycle; no imports; a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode
from xml.etree import ElementTree

from ...errors import FactorError
from ..factors import Basis, Factor, Scope
from ..fuels import SOURCE, lifecycle_of
from .base import Asked, Unanswered, live_factor, moment, token_of, zone_of

BASE: Final = "https://web-api.tp.entsoe.eu/api"
#: production types (code list of the platform) → fuels; B10, pumped storage, and B25, batteries, give back what was made before
_FUELS: Final[Mapping[str, str]] = {
    "B01": "biomass",
    "B02": "coal",
    "B03": "gas",
    "B04": "gas",
    "B05": "coal",
    "B06": "oil",
    "B07": "oil",
    "B08": "coal",
    "B09": "geothermal",
    "B11": "hydro",
    "B12": "hydro",
    "B13": "marine",
    "B14": "nuclear",
    "B15": "other",
    "B16": "solar",
    "B17": "waste",
    "B18": "wind offshore",
    "B19": "wind",
    "B20": "other",
}
_STORAGE: Final = frozenset({"B10", "B25"})
#: zone → its Energy Identification Code (control area or bidding zone)
AREAS: Final[Mapping[str, str]] = {
    "AT": "10YAT-APG------L",
    "BE": "10YBE----------2",
    "CH": "10YCH-SWISSGRIDZ",
    "CZ": "10YCZ-CEPS-----N",
    "DE": "10Y1001A1001A83F",
    "ES": "10YES-REE------0",
    "FR": "10YFR-RTE------C",
    "NL": "10YNL----------L",
    "PL": "10YPL-AREA-----S",
    "PT": "10YPT-REN------W",
}
_LENGTHS: Final = {"PT15M": timedelta(minutes=15), "PT30M": timedelta(minutes=30), "PT60M": timedelta(hours=1)}
#: published within an hour of the end of the hour described (Regulation (EU) 543/2013, article 16), often later
_BACK: Final = timedelta(hours=6)


class Entsoe:
    """Ten European zones, a figure each quarter or hour, one to three hours late."""

    name = "entsoe"
    scope: Scope = "lifecycle"
    basis: Basis = "location"
    period_s = 1800.0

    def __init__(self, zone: str, *, token: str, base_url: str = BASE) -> None:
        self.zone = zone_of(zone, self.name, AREAS)
        self._token, self._base = token_of(token, self.name), base_url

    def ask(self, now: datetime) -> Asked:
        """Actual generation per type of the last six hours. The token is part of the address: the platform has no other way."""
        query = {
            "securityToken": self._token,
            "documentType": "A75",
            "processType": "A16",
            "in_Domain": AREAS[self.zone],
            "periodStart": (now - _BACK).strftime("%Y%m%d%H00"),
            "periodEnd": (now + timedelta(hours=1)).strftime("%Y%m%d%H00"),
        }
        return Asked(f"{self._base}?{urlencode(query)}")

    def read(self, body: bytes) -> Factor:
        """The newest moment that every type of the reply covers, so that a type that comes late is not taken for 0."""
        by_time: dict[datetime, dict[str, float]] = {}
        reached: dict[str, datetime] = {}
        for kind, at, megawatts in _points(_document(body)):
            mix = by_time.setdefault(at, {})
            mix[_FUELS[kind]] = mix.get(_FUELS[kind], 0.0) + megawatts
            reached[kind] = max(at, reached.get(kind, at))
        if not reached:
            raise Unanswered("the reply holds no generation")
        at = min(reached.values())
        try:
            grams = lifecycle_of(by_time[at])
        except FactorError as error:
            raise Unanswered(str(error)) from None
        return live_factor(
            self, grams, at, dataset="ENTSO-E generation mix", name=self.zone, mix="production",
            licence="ENTSO-E Transparency Platform terms", source=f"ENTSO-E A75, generation mix, no imports; {SOURCE}",
        )  # fmt: skip


def _document(body: bytes) -> ElementTree.Element:
    # Entities are the one way an XML reply can be small and its tree endless; the platform's have none.
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise Unanswered("the reply declares entities")
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        raise Unanswered("the reply is not XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root.tag == "Acknowledgement_MarketDocument":
        why = " ".join((root.findtext("Reason/text") or "no reason given").split())
        raise Unanswered(f"no data: {why[:120]}")
    if root.tag != "GL_MarketDocument":
        raise Unanswered(f"the reply is a {root.tag[:40]!r}, not a generation document")
    return root


def _points(root: ElementTree.Element) -> Iterator[tuple[str, datetime, float]]:
    """(production type, start, MW) of everything that is generated; a gap in the positions repeats the last (curve type A03)."""
    for series in root.iter("TimeSeries"):
        kind = series.findtext("MktPSRType/psrType") or ""
        # Consumption of a type (of pumps, of a station's own) is a series with an "out" domain.
        if kind in _STORAGE or series.find("outBiddingZone_Domain.mRID") is not None:
            continue
        if kind not in _FUELS:
            raise Unanswered(f"the reply has production type {kind[:10]!r}, which is none known here")
        for period in series.iter("Period"):
            yield from ((kind, at, megawatts) for at, megawatts in _period(period))


def _period(period: ElementTree.Element) -> Iterator[tuple[datetime, float]]:
    begin, end = moment(period.findtext("timeInterval/start")), moment(period.findtext("timeInterval/end"))
    length = _LENGTHS.get(period.findtext("resolution") or "")
    if length is None:
        raise Unanswered(f"the reply has resolution {str(period.findtext('resolution'))[:10]!r}")
    try:
        told = {int(p.findtext("position") or ""): float(p.findtext("quantity") or "") for p in period.iter("Point")}
    except ValueError:
        raise Unanswered("the reply has a point without a position or quantity") from None
    last = None
    for position in range(1, min(int((end - begin) / length), 1000) + 1):
        last = told.get(position, last)
        if last is not None:
            yield begin + (position - 1) * length, last
