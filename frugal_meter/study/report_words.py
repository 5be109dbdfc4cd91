"""Figures as a reader of a report says them: intervals in words, ratios, yearly amounts, dates. French and English.

Never more digits than the interval bears, two at most; ends are rounded outward, so that what is said still holds what was
meant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from typing import Final

from ..carbon.uncertainty import digits
from ..exporters.page_figures import DIGITS, HOLD, bounds, day, figure, localised
from ..exporters.page_markup import Html, el, join
from ..exporters.page_texts import Lang
from ..records import Interval
from ..units import J_PER_KWH
from .report_texts import said_of, say

#: unit: (French, English) as the singular is said, and the largest prefix (a power of ten) that people use with it
_SPOKEN: Final[dict[str, tuple[tuple[str, str], int]]] = {
    "J": (("joule", "joule"), 6),
    "Wh": (("wattheure", "watt-hour"), 6),
    "gCO2e": (("gramme", "gram"), 3),
    "W": (("watt", "watt"), 3),
}
_PREFIXES: Final[dict[int, tuple[str, str]]] = {
    6: ("méga", "mega"),
    3: ("kilo", "kilo"),
    0: ("", ""),
    -3: ("milli", "milli"),
    -6: ("micro", "micro"),
    -9: ("nano", "nano"),
}
_AFTER: Final[dict[str, tuple[str, str]]] = {"gCO2e": (" de CO₂e", " of CO₂e")}


def plain(value: float, lang: Lang, kept: int = DIGITS, rounding: str = ROUND_HALF_EVEN) -> str:
    """``value`` in ``kept`` significant digits, without unit: "1 200" and "0,35" in French, "1,200" and "0.35" in English."""
    rounded = Context(prec=max(1, kept), rounding=rounding).create_decimal(repr(float(value)))
    decimals = max(0, kept - 1 - rounded.adjusted()) if rounded else 0
    return localised(f"{rounded:,.{decimals}f}", lang)


def between(of: Interval, unit: str, lang: Lang) -> str:
    """``"entre 37 et 110 joules"``: both ends under the prefix that suits the middle."""
    power = _power(of.mid, unit)
    low, high = of.low * 10.0**-power, of.high * 10.0**-power
    ends = plain(low, lang, rounding=ROUND_FLOOR), plain(high, lang, rounding=ROUND_CEILING)
    return say("between", lang, *ends) + HOLD + named(high, power, unit, lang)


def about(of: Interval, unit: str, lang: Lang) -> str:
    """``"62 joules"``: the middle, in the digits that its interval bears."""
    power = _power(of.mid, unit)
    value = of.mid * 10.0**-power
    return plain(value, lang, digits(of, DIGITS)) + HOLD + named(value, power, unit, lang)


def named(value: float, power: int, unit: str, lang: Lang) -> str:
    """The unit's name with its prefix, in the plural where the language puts one: French from 2 on, English but for 1."""
    place = 0 if lang == "fr" else 1
    many = abs(value) >= 2 if lang == "fr" else value != 1
    after = _AFTER.get(unit, ("", ""))[place]
    return _PREFIXES[power][place] + _SPOKEN[unit][0][place] + ("s" if many else "") + after


def _power(mid: float, unit: str) -> int:
    largest = _SPOKEN[unit][1]
    if mid <= 0:
        return 0
    wanted = 3 * math.floor(math.log10(mid) / 3)
    return max(-9, min(largest, wanted))


def watt_hours(of: Interval) -> Interval:
    """Joules as watt-hours, the unit that a year's use is billed in."""
    return of.times(1000 / J_PER_KWH)


def upside_down(ratio: Interval) -> Interval | None:
    """1 ÷ ``ratio``; None where it has no end."""
    return Interval(1 / ratio.high, 1 / ratio.mid, 1 / ratio.low) if ratio.low > 0 else None


def times(ratio: Interval, lang: Lang) -> str:
    """``"6,7 fois (entre 6,2 et 7,1)"``; the interval is left out where rounding makes it one figure."""
    middle = plain(ratio.mid, lang, digits(ratio, DIGITS))
    ends = plain(ratio.low, lang, rounding=ROUND_FLOOR), plain(ratio.high, lang, rounding=ROUND_CEILING)
    # a whole number above 20 needs no word for its ends either: 180 (170 to 190)
    inside = f" ({say('between', lang, *ends)})" if ends[0] != ends[1] else ""
    return f"{middle}{HOLD}{say('times', lang)}{inside}"


def shown(of: Interval | None, unit: str, lang: Lang) -> tuple[str, str]:
    """The figure and its bounds for a table cell; "unknown" and "" for None."""
    if of is None:
        return figure(None, unit, lang), ""
    return figure(of.mid, unit, lang, of), bounds(of, unit, lang)


def counted(of: Interval, lang: Lang) -> str:
    """How many units a year are supposed: ``"60 000 à 240 000"``, as they were declared, to the unit."""
    ends = [_whole(value, lang) for value in (of.low, of.high)]
    return ends[0] if ends[0] == ends[1] else say("ratio_bounds", lang, *ends)


def _whole(value: float, lang: Lang) -> str:
    return localised(f"{round(value):,d}", lang)


def score(value: float, lang: Lang) -> str:
    """A quality score, two decimals: finer than its interval ever is."""
    return localised(f"{value:.2f}", lang)


def apart(one: Interval, other: Interval) -> bool:
    """Whether two scores with their 95 % intervals differ: the interval of their difference does not hold 0.

    Newcombe's hybrid score interval for two proportions (Statistics in Medicine 17, 1998, method 10).
    """
    better, worse = (one, other) if one.mid >= other.mid else (other, one)
    return better.mid - worse.mid > math.hypot(better.mid - better.low, worse.high - worse.mid)


def in_words(share: str, lang: Lang) -> str:
    """A percentage inside a sentence: ``"> 99 %"`` is "plus de 99 %"."""
    sign, rest = share[:1], share[1:].lstrip()
    word = {">": "over", "<": "under"}.get(sign)
    return share if word is None else f"{say(word, lang)}{HOLD}{rest}"


def date(iso: str, lang: Lang) -> Html:
    """``<time>`` of an ISO 8601 moment, the day in words."""
    moment = datetime.fromisoformat(iso)
    return el("time", day(moment, lang), datetime=moment.strftime("%Y-%m-%d"))


def listed(names: Sequence[Html], lang: Lang) -> Html:
    """``"a, b et c"``."""
    if len(names) < 2:
        return join(*names)
    parts = [part for name in names[1:-1] for part in (", ", name)]
    return join(names[0], *parts, f" {say('and', lang)} ", names[-1])


def amount_of(value: float, unit: str, lang: Lang, *, bare: bool = False) -> str:
    """The value of an assumption: ``"44 gCO₂e/kWh"``, ``"1,56"``, ``"4 ans"``; ``bare`` leaves the unit out."""
    digits = f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.3g}"
    shown = localised(digits, lang)
    named = said_of("unit", unit, lang) or unit.replace("gCO2e", "gCO₂e")
    return shown if bare or not unit else f"{shown}{HOLD}{named}"
