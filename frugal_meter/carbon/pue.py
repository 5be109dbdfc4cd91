"""`Pue`: what the building adds to each joule of IT equipment (ISO/IEC 30134-2), declared or a flagged default."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from ..errors import ConfigurationError
from ..records import Interval, around

#: mid: mean annual PUE of the Uptime Institute *Global Data Center Survey* 2024, the value Green Algorithms takes for an unknown
#: site (defaults_PUE.csv). low: what the largest clouds publish (1.09 to 1.2 in that same file). high: a server room in an office
#: building; expert assumption.
DEFAULT: Final = Interval(1.1, 1.56, 2.0)
DEFAULT_SOURCE: Final = "Uptime Institute Global Data Center Survey 2024 (mean 1.56), range by expert assumption"
DEFAULT_FLAG: Final = "pue:default"


class Pue(msgspec.Struct, frozen=True):
    """Facility energy ÷ IT energy, dimensionless, with its bounds and where it comes from."""

    interval: Interval
    source: str
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        bounds = self.interval
        for value in (bounds.low, bounds.mid, bounds.high):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigurationError(f"pue is {value!r}: write a number such as 1.3")
            if not 1.0 <= value < 4.0:
                raise ConfigurationError(f"pue is {value:g}: it is facility over IT energy, from 1.0 to below 4, such as 1.3")
        if not self.source.strip():
            raise ConfigurationError("pue has no source: say who measured it and when, for it is printed with every figure")

    @classmethod
    def declared(cls, value: float, *, source: str, low: float | None = None, high: float | None = None) -> Pue:
        """The operator's figure, exact unless ``low`` or ``high`` is given; ``source`` names who measured it and when.

        Raises `ConfigurationError` unless 1.0 <= low <= value <= high < 4.
        """
        return cls(around("pue", value, low, high), source)

    @classmethod
    def default(cls) -> Pue:
        """For a site that has not told its PUE: a wide range, flagged ``pue:default``; never 1.0."""
        return cls(DEFAULT, DEFAULT_SOURCE, (DEFAULT_FLAG,))

    @property
    def value(self) -> float:
        """The middle figure."""
        return self.interval.mid
