"""Beyond carbon: abiotic depletion, primary energy and water of electricity, where a dated factor exists; unknown elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ..errors import ConfigurationError, FactorError
from ..records import Interval, around
from ..units import J_PER_KWH
from .pue import Pue
from .zones import canonical

Criterion = Literal["adpe", "pe", "water"]
#: unit of each criterion: antimony equivalents of minerals and metals, primary energy, water consumed
UNITS: Final[Mapping[Criterion, str]] = {"adpe": "kgSbe", "pe": "MJ", "water": "L"}


class ImpactFactor(msgspec.Struct, frozen=True, kw_only=True):
    """What a kWh of electricity weighs on one criterion, in its unit of `UNITS`, with year and source.

    Raises `FactorError` for a figure that cannot be cited or cannot be.
    """

    criterion: Criterion
    zone: str
    per_kwh: float
    year: int
    source: str
    licence: str

    def __post_init__(self) -> None:
        what = f"factor {self.criterion} of {self.zone}"
        if self.criterion not in UNITS:
            raise FactorError(f"{what}: criterion is one of {', '.join(UNITS)}")
        if isinstance(self.per_kwh, bool) or not isinstance(self.per_kwh, int | float) or not 0 <= self.per_kwh < math.inf:
            raise FactorError(f"{what}: per_kwh is {self.per_kwh!r}; write a number of {UNITS[self.criterion]} per kWh")
        if not isinstance(self.year, int) or not 1990 <= self.year <= 2100:
            raise FactorError(f"{what}: year is {self.year!r}; write the year the figure describes")
        if not self.source.strip() or not self.licence.strip():
            raise FactorError(f"{what}: source or licence is empty; a figure without them cannot be cited")

    @property
    def unit(self) -> str:
        """The unit of an impact by this factor."""
        return UNITS[self.criterion]

    def cite(self) -> str:
        """One line that a report can print."""
        return f"{self.per_kwh:g} {self.unit}/kWh · {self.zone} {self.year} · {self.source} · {self.licence}"


#: The two figures that are public with their origin. Boavizta's own chain: ADEME's Base IMPACTS for antimony; primary energy is
#: its fossil part over the share that is not renewable. Both describe the mix of 2011: old, and shown as such.
_BUNDLED: Final = (
    ImpactFactor(
        criterion="adpe",
        zone="FR",
        per_kwh=4.85798e-8,
        year=2011,
        source="ADEME Base IMPACTS, as published with boaviztapi 2.5.0",
        licence="not stated; one figure cited",
    ),
    ImpactFactor(
        criterion="pe",
        zone="FR",
        per_kwh=11.289,
        year=2011,
        source="Boavizta, boaviztapi 2.5.0: ADPf / (1 - renewable share), after ADEME Base IMPACTS",
        licence="not stated; one figure cited",
    ),
)


def impact_factor(zone: str, criterion: Criterion) -> ImpactFactor | None:
    """The bundled factor of ``criterion`` for ``zone``, or None where none is known: unknown, not 0."""
    code = canonical(zone)
    return next((f for f in _BUNDLED if (f.zone, f.criterion) == (code, criterion)), None)


def impact(energy_j: Interval | None, pue: Pue, factor: ImpactFactor | None) -> Interval | None:
    """What ``energy_j`` (IT joules, before PUE) weighs, in the factor's unit: E · PUE · factor; None when either is unknown."""
    if energy_j is None or factor is None:
        return None
    per_j, bounds = factor.per_kwh / J_PER_KWH, pue.interval
    return Interval(energy_j.low * bounds.low * per_j, energy_j.mid * bounds.mid * per_j, energy_j.high * bounds.high * per_j)


class Wue(msgspec.Struct, frozen=True):
    """Water that a site consumes, litres per kWh of **IT** energy (ISO/IEC 30134-9), with its bounds and source.

    There is no default: published sites go from 0 (dry cooling) to above 2 L/kWh.
    """

    interval: Interval
    source: str

    def __post_init__(self) -> None:
        bounds = self.interval
        for value in (bounds.low, bounds.mid, bounds.high):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 50:
                raise ConfigurationError(f"wue is {value!r}: it is litres per kWh of IT energy, from 0 to below 50, such as 0.3")
        if not self.source.strip():
            raise ConfigurationError("wue has no source: say who measured it and when, for it is printed with every figure")

    @classmethod
    def declared(cls, value: float, *, source: str, low: float | None = None, high: float | None = None) -> Wue:
        """The operator's figure, exact unless ``low`` or ``high`` is given. Raises `ConfigurationError`."""
        return cls(around("wue", value, low, high), source)


def water(energy_j: Interval | None, pue: Pue, wue: Wue | None, grid: ImpactFactor | None) -> Interval | None:
    """Litres of ``energy_j`` (IT joules): E · WUE at the site + E · PUE · water of the grid.

    The PUE weighs the grid's part once and the site's not at all, since a WUE is per kWh of IT energy: weighing energy that
    holds the PUE already counts it twice. None when any part is unknown: half of the water is not the water.
    """
    if grid is not None and grid.criterion != "water":
        raise FactorError(f"{grid.criterion} of {grid.zone} is no water factor")
    upstream = impact(energy_j, pue, grid)
    if energy_j is None or wue is None or upstream is None:
        return None
    site = wue.interval
    low, mid, high = (j / J_PER_KWH * w for j, w in zip(_ends(energy_j), _ends(site), strict=True))
    return Interval(low + upstream.low, mid + upstream.mid, high + upstream.high)


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.low, interval.mid, interval.high
