"""What stands behind a figure that a budget has counted: its bounds, the method and the factors."""

from __future__ import annotations

import math
from typing import Any

from ..records import Interval
from ..units import Resource
from .view import MeterView


def spread(meter: MeterView, resource: Resource, used: float) -> Interval | None:
    """Bounds of ``used`` joules or grams: those of the sources so far, of sharing among requests, and of the PUE for grams.

    None for what is counted, and where no tick has told anything yet.
    """
    low, mid, high = meter.aggregates.bounds_nj()
    if resource not in ("energy", "carbon") or not mid:
        return None
    key_low, key_high = meter.ledger.key
    down, up = low / mid * key_low, high / mid * key_high
    if resource == "carbon":
        pue = meter.figures.pue.interval
        down, up = down * pue.low / pue.mid, up * pue.high / pue.mid
    return Interval(used * down, used, used * up)


def evidence(meter: MeterView, resource: Resource, settled: float) -> dict[str, Any]:
    """Members of a refusal on ``settled`` joules or grams that make it citable; empty for what is counted."""
    if resource not in ("energy", "carbon"):
        return {}
    bounds = spread(meter, resource, settled)
    told: dict[str, Any] = {}
    if bounds is not None:  # outward, to the nJ and ng that the books have
        told = {"settled_low": math.floor(bounds.low * 1e9) / 1e9, "settled_high": math.ceil(bounds.high * 1e9) / 1e9}
    told["method_id"] = meter.figures.method_id
    if resource == "carbon":
        told["factor_ids"] = [meter.figures.factor.id]
    return told
