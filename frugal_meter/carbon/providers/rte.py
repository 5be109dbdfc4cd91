"""RTE éCO2mix, national, through ODRÉ: the CO2 rate (direct combustion, no imports), or the mix weighed over the life cycle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from ...errors import FactorError
from ..factors import Basis, Factor, Scope
from ..fuels import SOURCE, lifecycle_of
from .base import Asked, Unanswered, live_factor, moment, number, parsed, zone_of

BASE: Final = "https://odre.opendatasoft.com/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
#: columns of the dataset → fuels; ``pompage`` takes power from the grid and ``stockage_batterie`` gives it back: neither is made
_FUELS: Final[Mapping[str, str]] = {
    "nucleaire": "nuclear",
    "gaz": "gas",
    "charbon": "coal",
    "fioul": "oil",
    "hydraulique": "hydro",
    "eolien": "wind",
    "solaire": "solar",
    "bioenergies": "biomass",
}


class Rte:
    """Mainland France, a figure each quarter of an hour, no token.

    ``scope="lifecycle"`` (default) weighs the generation mix by `fuels`; ``"direct"`` is RTE's own rate ``taux_co2``, which
    counts combustion in French power stations only, and so needs a direct fallback. Neither sees imports.
    """

    basis: Basis = "location"
    period_s = 900.0

    def __init__(self, zone: str = "FR", *, scope: Scope = "lifecycle", base_url: str = BASE) -> None:
        self.name = "rte-direct" if scope == "direct" else "rte"
        self.zone, self.scope, self._base = zone_of(zone, self.name, {"FR": ""}), scope, base_url

    def ask(self, now: datetime) -> Asked:
        """The eight newest lines with a figure: the dataset holds lines for the rest of the day, empty until they come."""
        where = "taux_co2 is not null" if self.scope == "direct" else "nucleaire is not null"
        query = urlencode({"where": where, "order_by": "date_heure desc", "limit": 8, "timezone": "UTC"})
        return Asked(f"{self._base}?{query}", {"Accept": "application/json"})

    def read(self, body: bytes) -> Factor:
        """The newest line's factor."""
        reply = parsed(body)
        lines = reply.get("results") if isinstance(reply, dict) else None
        if not isinstance(lines, list):
            raise Unanswered("the reply has no results")
        wanted = "taux_co2" if self.scope == "direct" else "nucleaire"
        known = [line for line in lines if isinstance(line, dict) and line.get(wanted) is not None]
        if not known:
            raise Unanswered("no line of the reply has a figure yet")
        newest = max(known, key=lambda line: moment(line.get("date_heure")))
        return self._factor(newest, moment(newest.get("date_heure")))

    def _factor(self, line: Mapping[str, Any], at: datetime) -> Factor:
        if self.scope == "direct":
            grams, source = number(line["taux_co2"]), "RTE éCO2mix by ODRÉ, taux_co2: combustion in France only, no imports"
        else:
            mix = {fuel: number(line[column]) for column, fuel in _FUELS.items() if line.get(column) is not None}
            try:
                grams = lifecycle_of(mix)
            except FactorError as error:
                raise Unanswered(str(error)) from None
            source = f"RTE éCO2mix by ODRÉ, generation mix, no imports; {SOURCE}"
        return live_factor(
            self, grams, at, dataset=f"RTE éCO2mix {self.scope}", name="France", mix="production",
            licence="terms of ODRÉ's dataset", source=source,
        )  # fmt: skip
