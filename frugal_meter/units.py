"""Quantities with units, held as integers small enough to lose nothing.

Budgets count in integer microjoules, nanograms of CO2e, microseconds, tokens or requests: a request of
40 µs at 10 W is 400 µJ and must not round to nothing, and 2**53 µJ (2.5 MWh) is still exact in a double.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

import msgspec

from .errors import UnitError

Resource = Literal["energy", "carbon", "cpu", "gpu", "tokens", "requests"]

NJ_PER_J: Final = 1_000_000_000
UJ_PER_J: Final = 1_000_000
NG_PER_G: Final = 1_000_000_000
J_PER_KWH: Final = 3_600_000
#: the integer unit in which each resource is booked, and how many of it make the unit shown to people
BOOKED_IN: Final[dict[Resource, tuple[str, int]]] = {
    "energy": ("µJ", 10**6),
    "carbon": ("ng", 10**9),
    "cpu": ("µs", 10**6),
    "gpu": ("µs", 10**6),
    "tokens": ("token", 1),
    "requests": ("request", 1),
}
SHOWN_IN: Final[dict[Resource, str]] = {
    "energy": "J",
    "carbon": "gCO2e",
    "cpu": "CPU-s",
    "gpu": "GPU-s",
    "tokens": "tokens",
    "requests": "requests",
}

_PREFIX: Final[dict[str, Decimal]] = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "µ": Decimal("0.000001"),
    "u": Decimal("0.000001"),
    "k": Decimal(1000),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
}
_UNITS: Final[dict[str, tuple[Resource, Decimal]]] = {}
for _p, _m in _PREFIX.items():
    _UNITS[f"{_p}J"] = ("energy", Decimal(10**6) * _m)
    _UNITS[f"{_p}Wh"] = ("energy", Decimal(3600 * 10**6) * _m)
    _UNITS[f"{_p}gCO2e"] = ("carbon", Decimal(10**9) * _m)
    _UNITS[f"{_p}CPU-s"] = ("cpu", Decimal(10**6) * _m)
    _UNITS[f"{_p}GPU-s"] = ("gpu", Decimal(10**6) * _m)
for _r in ("CPU", "GPU"):
    _UNITS[f"{_r}-min"] = (_r.lower(), Decimal(60 * 10**6))  # type: ignore[assignment]
    _UNITS[f"{_r}-h"] = (_r.lower(), Decimal(3600 * 10**6))  # type: ignore[assignment]
for _n in ("token", "tokens"):
    _UNITS[_n] = ("tokens", Decimal(1))
for _n in ("request", "requests"):
    _UNITS[_n] = ("requests", Decimal(1))

_SHAPE: Final = re.compile(r"\s*([+-]?(?:\d+(?:[_ ]\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*((?!\d)\S.*?)\s*$")
_POWER: Final = re.compile(r"(m|k|M|G)?W(?:att|atts)?\b(?!h)")
_EXAMPLES: Final = '"50 kJ", "3 Wh", "20 gCO2e", "120 CPU-s", "40000 tokens" or "1000 requests"'


class Quantity(msgspec.Struct, frozen=True):
    """An amount of one resource, as an integer of the unit it is booked in (see ``BOOKED_IN``)."""

    resource: Resource
    amount: int
    text: str

    @property
    def shown(self) -> float:
        """The amount in the unit shown to people: J, gCO2e, s, tokens or requests."""
        return self.amount / BOOKED_IN[self.resource][1]

    @property
    def unit(self) -> str:
        """The unit of ``shown``."""
        return SHOWN_IN[self.resource]


def parse_quantity(text: object) -> Quantity:
    """Read "50 kJ", "3 Wh", "20 gCO2e", "120 CPU-s", "40000 tokens" or "1000 requests".

    Returns a positive ``Quantity``; raises ``UnitError`` with one line that says what is wrong.
    """
    if not isinstance(text, str):
        raise UnitError(text, f"{text!r} has no unit: write a quantity such as {_EXAMPLES}")
    found = _SHAPE.match(text)
    if not found:
        raise UnitError(text, f"{text!r} is not a quantity: write a number and a unit, such as {_EXAMPLES}")
    number, unit = found.groups()
    if unit not in _UNITS:
        raise UnitError(text, f"{text!r}: {_why_not(unit)}")
    try:
        value = Decimal(re.sub("[_ ]", "", number))
    except InvalidOperation:  # pragma: no cover - the shape above admits only numbers
        raise UnitError(text, f"{text!r} is not a number") from None
    resource, scale = _UNITS[unit]
    if value and value.adjusted() > 30:
        raise _too_much(text, resource)
    if value and value.adjusted() < -30:
        value = Decimal(0)
    booked = value * scale
    if booked != booked.to_integral_value():
        if BOOKED_IN[resource][1] == 1 and booked > 1:
            raise UnitError(text, f"{text!r}: {unit} are counted in whole numbers")
        booked = booked.to_integral_value() if booked > 1 else booked
    if booked < 1:
        raise UnitError(text, f"{text!r}: a limit must be more than zero, and at least 1 {BOOKED_IN[resource][0]}")
    if booked > 2**53:
        raise _too_much(text, resource)
    return Quantity(resource, int(booked), text.strip())


def _too_much(text: str, resource: Resource) -> UnitError:
    return UnitError(text, f"{text!r} is more than this meter can count exactly (2^53 {BOOKED_IN[resource][0]})")


def _why_not(unit: str) -> str:
    if _POWER.match(unit):
        return f'{unit!r} is power, not an amount; write energy with its period apart: limit="50 kJ", per="day"'
    if "/" in unit or " per " in unit:
        return f'{unit!r} is a rate; write the amount alone and the period apart: limit="50 kJ", per="day"'
    if unit.lower().replace("₂", "2").replace("eq", "e") in {"g", "kg", "co2", "gco2", "kgco2", "co2e", "gco2e", "kgco2e"}:
        return f'unit {unit!r} is not known; carbon is written "20 gCO2e" or "1.5 kgCO2e"'
    if unit and unit[0] == ",":
        return 'decimals are written with a point: "1.5 kJ"'
    return f"unit {unit!r} is not known; write {_EXAMPLES}"


def format_si(value: float | None, unit: str, digits: int = 3) -> str:
    """A figure for people: ``format_si(0.0042, "J") == "4.2 mJ"``; None is "unknown"."""
    if value is None:
        return "unknown"
    if value == 0:
        return f"0 {unit}"
    prefixes = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9))
    prefix, scale = next((each for each in prefixes if abs(value) >= each[1] * 0.9995), prefixes[-1])
    return f"{value / scale:.{digits}g} {prefix}{unit}" if abs(value / scale) < 1000 else f"{value / scale:.0f} {prefix}{unit}"
