"""Published factors of one zone side by side: the bundled tables and figures of other publishers, each citable by itself."""

from __future__ import annotations

from typing import Final

import msgspec

from ..errors import FrugalMeterError, UnknownZoneError
from . import grid
from .factors import Factor
from .zones import canonical

#: One figure each, cited, not redistributed as a database. EcoLogits' 41.4 (no year) and Green Algorithms' 51.3 (its scope is
#: not stated) are left out: what has no vintage or no scope cannot be cited.
_FIGURES: Final = (
    Factor.declared(
        "FR",
        16.30,
        scope="direct",
        dataset="Google Cloud europe-west9",
        year=2024,
        name="France (Paris region)",
        version="region-carbon-info, data/yearly/2024.csv, commit df927143",
        licence="not stated; one figure cited",
        # its README calls the figure "average operational gross emissions": what is burnt, not what is built
        source="Google, Carbon free energy for Google Cloud regions, grid carbon intensity",
    ),
    Factor.declared(
        "FR",
        21.7,
        scope="direct",
        dataset="RTE Bilan électrique",
        year=2024,
        name="France",
        version="Bilan électrique 2024, chapter Émissions",
        mix="production",
        licence="not stated; one figure cited",
        # 11.7 Mt over 539 TWh produced; nuclear at any lifecycle figure would alone exceed the difference to Ember's
        source="RTE, analysesetdonnees.rte-france.com, Bilan électrique 2024",
    ),
    Factor.declared(
        "FR",
        98.0,
        scope="lifecycle",
        dataset="JRC electricity used",
        year=2019,
        name="France",
        version="Applied Energy 305 (2022) 117901, as in boaviztapi 2.5.0",
        mix="consumption",
        licence="not stated; one figure cited",
        source="Scarlat, Prussi, Padella, doi:10.1016/j.apenergy.2021.117901",
    ),
)
OTHERS: Final = tuple(
    msgspec.structs.replace(figure, id=f"published:{key}:FR:{figure.year}", flags=())
    for key, figure in zip(("google", "rte", "jrc"), _FIGURES, strict=True)
)


def published(zone: str) -> tuple[Factor, ...]:
    """Every published factor of ``zone`` known here, lightest first; to compare, never to add (scopes differ).

    Raises `UnknownZoneError`.
    """
    code = canonical(zone)
    found = [each for each in OTHERS if each.zone == code]
    try:
        found += [grid.factor(zone), *grid.alternatives(zone)]
    except UnknownZoneError:
        if not found:
            raise
    return tuple(sorted(found, key=lambda factor: (factor.grams_per_kwh, factor.id)))


def by_id(id: str) -> Factor | None:
    """The published factor of this id ("ember:FR:2024"); None for one that is not known here, such as an operator's own."""
    try:
        return next((each for each in published(id.split(":")[-2]) if each.id == id), None)
    except (FrugalMeterError, IndexError):
        return None
