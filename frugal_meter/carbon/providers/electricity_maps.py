"""Electricity Maps, carbon intensity of now: lifecycle, consumption (flow-traced); a token, for one zone in its free tier."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from ..factors import Basis, Factor, Scope
from .base import Asked, Unanswered, live_factor, moment, number, parsed, token_of

BASE: Final = "https://api.electricitymaps.com/v3/carbon-intensity/latest"


class ElectricityMaps:
    """Their zones, a figure each hour; an hour that they estimate is flagged ``factor:estimated``."""

    name = "electricity-maps"
    scope: Scope = "lifecycle"
    basis: Basis = "location"
    period_s = 1800.0

    def __init__(self, zone: str, *, token: str, base_url: str = BASE) -> None:
        self.zone, self._token, self._base = zone, token_of(token, self.name), base_url

    def ask(self, now: datetime) -> Asked:
        """The hour of now; the kind of factor is asked for by name, since the reply of a default could change."""
        query = urlencode({"zone": self.zone, "emissionFactorType": self.scope})
        return Asked(f"{self._base}?{query}", {"Accept": "application/json", "auth-token": self._token})

    def read(self, body: bytes) -> Factor:
        """Their figure; raises `Unanswered` when it is of another zone or kind than was asked."""
        reply = parsed(body)
        if not isinstance(reply, dict) or "carbonIntensity" not in reply:
            raise Unanswered("the reply has no carbonIntensity")
        if reply.get("zone") != self.zone:
            raise Unanswered(f"the reply is of zone {str(reply.get('zone'))[:20]!r}, not {self.zone}")
        if reply.get("emissionFactorType", self.scope) != self.scope:
            raise Unanswered(f"the reply is {str(reply['emissionFactorType'])[:20]!r}, not lifecycle")
        return live_factor(
            self, number(reply["carbonIntensity"]), moment(reply.get("datetime")), dataset="Electricity Maps live",
            name=self.zone, mix="consumption", licence="Electricity Maps terms of the account", source="Electricity Maps API v3",
            estimated=reply.get("isEstimated") is True,
        )  # fmt: skip
