"""The Carbon Intensity API of Great Britain (NESO): generation only (direct), with interconnectors and losses; no token."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ..factors import Basis, Factor, Scope
from .base import Asked, Unanswered, live_factor, moment, number, parsed, zone_of

BASE: Final = "https://api.carbonintensity.org.uk/intensity"


class UkCarbonIntensity:
    """Great Britain, a figure each half-hour; the forecast, flagged, until the half-hour's own figure is there."""

    name = "uk-carbon-intensity"
    # "CO2 emissions related to electricity generation only": nothing upstream, so it needs a direct fallback
    scope: Scope = "direct"
    basis: Basis = "location"
    period_s = 900.0

    def __init__(self, zone: str = "GB", *, base_url: str = BASE) -> None:
        self.zone, self._base = zone_of(zone, self.name, {"GB": ""}), base_url

    def ask(self, now: datetime) -> Asked:
        """The half-hour of now."""
        return Asked(self._base, {"Accept": "application/json"})

    def read(self, body: bytes) -> Factor:
        """``actual``, which may be null, else ``forecast``."""
        reply = parsed(body)
        try:
            half_hour = reply["data"][0]
            told = half_hour["intensity"]
            actual, forecast, begin = told.get("actual"), told.get("forecast"), half_hour["from"]
        except (TypeError, KeyError, IndexError, AttributeError):
            raise Unanswered("the reply has no half-hour with an intensity") from None
        return live_factor(
            self, number(forecast if actual is None else actual), moment(begin), dataset="Carbon Intensity API",
            name="Great Britain", mix="consumption", licence="CC-BY-4.0", source="NESO, carbonintensity.org.uk",
            estimated=actual is None,
        )  # fmt: skip
