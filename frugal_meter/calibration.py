"""How far the joules of a CPU-second may lie apart on one machine: measured by ``frugal-meter calibrate``, read by `Meter`.

Within a tick every CPU-second of a source costs the same; work that truly draws more or less than the tick's mean is charged
too little or too much. A calibration measures the watts per CPU-second of several kinds of work and gives the sharing key's
bounds from their spread, in place of the expert assumption.
"""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from .errors import ConfigurationError

#: a kind of work as rare as this in a tick may lie outside the bounds: readings promise 90 %
RARE: Final = 0.1
#: no two kinds of work on one machine lie this far apart: such a file is an accident
_MOST: Final = 100.0


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sharing key's bounds (multiples of the charged energy), and what they were measured from.

    ``watts_per_cpu`` holds, for each kind of work, the lowest and highest W above idle per CPU busy that any round showed.
    """

    key_low: float
    key_high: float
    date: str
    cpu: str
    source: str
    watts_per_cpu: dict[str, tuple[float, float]]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.key_high) and 1 / _MOST <= self.key_low <= 1 <= self.key_high <= _MOST):
            raise ValueError(f"key_low={self.key_low}, key_high={self.key_high} cannot be: 1 lies between them")

    def toml(self) -> str:
        """The calibration as a file that `load` reads."""
        head = [f"{name} = {json.dumps(getattr(self, name))}" for name in ("key_low", "key_high", "date", "cpu", "source")]
        kinds = [f"{json.dumps(kind)} = [{low}, {high}]" for kind, (low, high) in self.watts_per_cpu.items()]
        return "\n".join(["# written by frugal-meter calibrate", *head, "", "[watts_per_cpu]", *kinds, ""])

    def json(self) -> str:
        """The same as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"


def bounds(lowest: float, highest: float) -> tuple[float, float]:
    """The key's ``(low, high)`` when kinds of work draw from ``lowest`` to ``highest`` W per CPU.

    A request of kind k is charged the mean of its tick and truly draws k, so it is wrong by k ÷ mean. The mean of a tick
    that is ``1 − RARE`` of one extreme and ``RARE`` of the other bounds what 90 % of requests of equal CPU can be wrong by,
    whatever the mix; a kind rarer than that may lie outside. A spread of 1 gives 1; ×1.5 gives ×0.69…1.43.
    """
    low = lowest / (RARE * lowest + (1 - RARE) * highest)
    high = highest / (RARE * highest + (1 - RARE) * lowest)
    return low, high


def load(path: Any) -> Calibration:
    """The calibration in a TOML file (or JSON, by its suffix); raises ConfigurationError in one line."""
    if not isinstance(path, str | Path):
        raise ConfigurationError(f"calibration is the path of a file that frugal-meter calibrate wrote, not {path!r}")
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        told = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        return msgspec.convert(told, Calibration)
    except OSError as error:
        raise ConfigurationError(
            f"calibration: {file} cannot be read ({error.strerror}); write it with frugal-meter calibrate"
        ) from None
    except ValueError as error:  # not UTF-8, not TOML, not JSON, not a calibration
        raise ConfigurationError(f"calibration: {file}: {error}; write it anew with frugal-meter calibrate") from None
