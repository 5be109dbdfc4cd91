"""Figures in words for people who are not of the trade: two digits at most, both ends, "entre … et …"."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from ..exporters.page_figures import HOLD, localised
from .document import Bounds, Language

#: the size of a unit in the base unit; its French singular and plural; its English ones
Scale = tuple[float, str, str, str, str]
JOULES: Final[Sequence[Scale]] = (
    (1e6, "mégajoule", "mégajoules", "megajoule", "megajoules"),
    (1e3, "kilojoule", "kilojoules", "kilojoule", "kilojoules"),
    (1.0, "joule", "joules", "joule", "joules"),
    (1e-3, "millijoule", "millijoules", "millijoule", "millijoules"),
)
KILOWATT_HOURS: Final[Sequence[Scale]] = (
    (1e3, "mégawattheure", "mégawattheures", "megawatt-hour", "megawatt-hours"),
    (1.0, "kilowattheure", "kilowattheures", "kilowatt-hour", "kilowatt-hours"),
    (1e-3, "wattheure", "wattheures", "watt-hour", "watt-hours"),
)
GRAMS: Final[Sequence[Scale]] = (
    (1e6, "tonne", "tonnes", "tonne", "tonnes"),
    (1e3, "kilogramme", "kilogrammes", "kilogram", "kilograms"),
    (1.0, "gramme", "grammes", "gram", "grams"),
    (1e-3, "milligramme", "milligrammes", "milligram", "milligrams"),
    (1e-6, "microgramme", "microgrammes", "microgram", "micrograms"),
)
LITRES: Final[Sequence[Scale]] = ((1.0, "litre", "litres", "litre", "litres"),)
_BETWEEN: Final = {"fr": ("entre {} et {}", "moins de {}", "environ {}"), "en": ("between {} and {}", "less than {}", "about {}")}


def between(of: Bounds, scales: Sequence[Scale], lang: Language, factor: float = 1.0) -> str:
    """``"entre 1,2 et 3,4 joules"``; its ends are rounded outward to two digits. ``factor`` turns it into the base unit."""
    low, high = of.low * factor, of.high * factor
    scale = next((each for each in scales if high >= each[0] * 2), scales[-1])
    least, most = _two(low / scale[0], ROUND_FLOOR), _two(high / scale[0], ROUND_CEILING)
    name = _name(scale, most, lang)
    both, under, around = _BETWEEN[lang]
    if least == most:
        return around.format(_shown(most, lang)) + HOLD + name
    if not least:
        return under.format(_shown(most, lang)) + HOLD + name
    return both.format(_shown(least, lang), _shown(most, lang)) + HOLD + name


def around(value: float, scales: Sequence[Scale], lang: Language) -> str:
    """``"3,2 joules"``: a middle figure without its bounds."""
    scale = next((each for each in scales if value >= each[0]), scales[-1])
    number = _two(value / scale[0], ROUND_HALF_EVEN)
    return _shown(number, lang) + HOLD + _name(scale, number, lang)


def _name(scale: Scale, most: Decimal, lang: Language) -> str:
    _, un, plusieurs, one, several = scale
    if lang == "fr":
        return un if most < 2 else plusieurs
    return one if most == 1 else several


def _two(value: float, rounding: str) -> Decimal:
    # Six digits first: a float's last one must not push an outward rounding a step further.
    return Context(prec=2, rounding=rounding).create_decimal(f"{value:.6g}")


def _shown(value: Decimal, lang: Language) -> str:
    text = f"{value.normalize():,f}" if value else "0"
    return localised(text, lang)


def whole(number: float, lang: Language) -> str:
    """A whole number to two digits, with its thousands apart."""
    return _shown(_two(number, ROUND_HALF_EVEN), lang)
