"""Figures as people read them, in French and English: significant digits, SI prefixes, bounds, dates."""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Final
from zoneinfo import ZoneInfo

from ..carbon.uncertainty import digits
from ..records import Interval, Tier
from .page_markup import Html, el
from .page_texts import MONTHS, Lang, text, word

#: how many digits a figure keeps: these are estimates, a third digit would promise what no source here holds
DIGITS: Final = 2
HOLD: Final = "\u00a0"  # no-break space: what is read in one breath is not parted
NARROW: Final = "\u202f"  # narrow no-break space: between a figure and its unit (BIPM SI brochure 2019, §5.4.3)
_PREFIXES: Final = (("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("µ", -6), ("n", -9))
#: the largest prefix that people use with a unit; a unit that is not here is a count and takes none
_LARGEST: Final = {"J": 9, "Wh": 9, "W": 9, "gCO2e": 3, "s": 0, "CPU-s": 0, "GPU-s": 0}


def _plain(number: Decimal, decimals: int, lang: Lang) -> str:
    return localised(f"{number:,.{max(0, decimals)}f}", lang)


def localised(digits: str, lang: Lang) -> str:
    """Digits as Python groups them, in the marks of a language: ``localised("1,200.5", "fr") == "1 200,5"``."""
    return digits.replace(",", NARROW).replace(".", ",") if lang == "fr" else digits


def _split(value: float, unit: str, lang: Lang, rounding: str, kept: int = DIGITS) -> tuple[str, str]:
    """The digits and the prefixed unit of a finite value."""
    shown = word("unit", unit, lang)
    if unit not in _LARGEST:
        # French says 0 requête, English 0 requests
        return count(value, lang), shown.removesuffix("s") if (value < 2 if lang == "fr" else value == 1) else shown
    rounded = Context(prec=kept, rounding=rounding).create_decimal(repr(float(value)))
    if not rounded:
        return "0", shown
    magnitude = rounded.adjusted()
    prefix, power = next(((p, n) for p, n in _PREFIXES if n <= min(magnitude, _LARGEST[unit])), _PREFIXES[-1])
    return _plain(rounded.scaleb(-power), kept - 1 - magnitude + power, lang), prefix + shown


def figure(value: float | None, unit: str, lang: Lang, within: Interval | None = None) -> str:
    """``figure(0.0042, "J", "fr") == "4,2 mJ"``; counts keep every digit; None is "inconnu", "unknown".

    A figure so loose ``within`` its bounds that its second digit says nothing keeps one.
    """
    if value is None or not math.isfinite(value):
        return text("unknown", lang)
    kept = DIGITS if within is None else digits(within, DIGITS)
    return NARROW.join(_split(value, unit, lang, ROUND_HALF_EVEN, kept))


def bounds(interval: Interval | None, unit: str, lang: Lang) -> str:
    """``"2,1 à 8,0 mJ"``. Rounded outward, so that what is shown still holds what was meant."""
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return text("bounds_unknown", lang)
    low, low_unit = _split(interval.low, unit, lang, ROUND_FLOOR)
    high, high_unit = _split(interval.high, unit, lang, ROUND_CEILING)
    left = low if low_unit == high_unit or low == "0" else f"{low}{NARROW}{low_unit}"
    return f"{left} {text('to', lang)} {high}{NARROW}{high_unit}"


def count(value: float | None, lang: Lang) -> str:
    """A bare number, whole or with at most two decimals: ``count(1200, "en") == "1,200"``."""
    if value is None or not math.isfinite(value):
        return text("unknown", lang)
    rounded = Decimal(repr(round(float(value), 2))).normalize()
    exponent = rounded.as_tuple().exponent
    return _plain(rounded, -exponent if isinstance(exponent, int) else 0, lang)


def tier_words(tier: Tier | None, lang: Lang, *, long: bool = False) -> str:
    """The tier in a word, or the whole sentence a citizen needs when ``long``."""
    if tier is None:
        return text("tier_none", lang)
    means = text("colon", lang) + text(f"means_{tier}", lang) if long else ""
    return text(f"tier_{tier}", lang) + means


def proof(interval: Interval | None, unit: str, tier: Tier | None, lang: Lang) -> str:
    """What stands beside every figure: its bounds and its tier."""
    return f"{bounds(interval, unit, lang)}, {tier_words(tier, lang)}"


def percent(share: float | None, lang: Lang) -> str:
    """A share 0…1 as a percentage: two digits below 10 %, whole above.

    A trace is "< 0,01 %", never 0; nearly all is "> 99 %", never 100.
    """
    if share is None or not math.isfinite(share):
        return text("unknown", lang)
    value = share * 100
    sign = f"{NARROW}%" if lang == "fr" else "%"
    if 0 < value < 0.01:
        return "<" + NARROW + _plain(Decimal("0.01"), 2, lang) + sign
    if 99.5 <= value < 100:
        return f">{NARROW}99{sign}"
    rounded = Context(prec=DIGITS).create_decimal(repr(value)) if value < 10 else Decimal(round(value))
    return _plain(rounded, DIGITS - 1 - rounded.adjusted() if rounded and rounded < 10 else 0, lang) + sign


def _zone(name: str) -> tzinfo:
    # ValueError: a name that is no name; OSError and KeyError: no such zone, or a slim image without the tables
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def day(moment: datetime, lang: Lang) -> str:
    """``"1er novembre 2026"``, ``"1 November 2026"``: the day as its own clock has it, held together."""
    number = "1er" if lang == "fr" and moment.day == 1 else f"{moment.day}"
    return f"{number}{HOLD}{MONTHS[lang][moment.month - 1]}{HOLD}{moment.year}"


def clock(at: float, timezone: str, lang: Lang, *, with_date: bool = False) -> Html:
    """A ``<time>`` with its zone: "12:03:07 CET", and the date in words before it when asked."""
    moment = datetime.fromtimestamp(at, _zone(timezone))
    shown = moment.strftime("%H:%M:%S %Z")
    if with_date:
        shown = f"{day(moment, lang)}, {shown}"
    return el("time", shown, datetime=datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
