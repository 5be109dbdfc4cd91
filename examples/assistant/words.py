"""The demonstration's sentences, in French and in English, and figures written as each language writes them."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from frugal_meter.carbon import digits
from frugal_meter.records import Interval
from frugal_meter.units import format_si

Language = Literal["fr", "en"]

_TEXTS: Final[dict[str, dict[Language, str]]] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))

_SCALES: Final = {"n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def language_of(environment: Mapping[str, str] = os.environ) -> Language:
    """ "fr" where the locale is French (LC_ALL, LC_MESSAGES, LANG, in POSIX order), else "en"."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "fr" if environment[name].lower().startswith("fr") else "en"
    return "en"


def _outward(value: float, way: Callable[[float], int], kept: int = 2) -> float:
    """``value`` to so many significant digits, ``way`` (floor or ceil) from there; a float's own error moves it no further."""
    if not value:
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - kept + 1)
    return way(float(f"{value / step:.6g}")) * step


class Words:
    """``words("key", name=value)``: one sentence in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """The sentence; KeyError for one that does not exist."""
        return _TEXTS[key][self.language].format(**values)

    def figure(self, value: float | None, unit: str, digits: int = 2) -> str:
        """``value`` with its unit, in the language's own decimals; None is "unknown"."""
        if value is None:
            return self("unknown")
        number, prefixed = format_si(value, unit, digits).split(" ")
        return f"{self.number(float(number), digits)} {prefixed}"

    def bounds(self, mid: float | None, low: float | None, high: float | None, unit: str) -> str:
        """``mid [low–high] unit`` under one prefix, so that the three can be compared at a glance."""
        if mid is None or low is None or high is None:
            return self.figure(mid, unit)
        prefix = format_si(mid, unit).split(" ")[1].removesuffix(unit)
        # as everywhere else: the middle keeps the digits that its bounds leave it, and bounds are rounded outward
        figure = self.number(mid / _SCALES[prefix], digits(Interval(low, mid, high), 2))
        ends = (_outward(low / _SCALES[prefix], math.floor), _outward(high / _SCALES[prefix], math.ceil))
        return f"{figure} [{self.number(ends[0])}–{self.number(ends[1])}] {prefix}{unit}"

    def number(self, value: float, digits: int = 2) -> str:
        """``value`` to so many significant digits, without an exponent; decimal comma in French."""
        text = f"{float(f'{value:.{digits}g}'):f}".rstrip("0").rstrip(".")
        return text.replace(".", ",") if self.language == "fr" else text

    def percent(self, share: float, decimals: int = 0) -> str:
        """``share`` (0…1) in per cent; a share too small for the decimals is "< 0.1 %", not 0."""
        percent = round(100 * share, decimals)
        if share > 0 and percent == 0:
            return f"< {self.number(10**-decimals)} %"
        return f"{percent:.{decimals}f} %".replace(".", "," if self.language == "fr" else ".")
