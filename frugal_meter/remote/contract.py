"""`usage.frugal` and `usage.carbon`: what a metered service tells in the ``usage`` of an OpenAI-shaped reply, and how it is read.

``usage.carbon`` has the shape that French public gateways return, {"kWh": {"min", "max"}, "kgCO2eq": {"min", "max"}}.
``usage.frugal`` is for callers that meter too: it has the figure with its tier, method and factors.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from ..records import TIERS, Interval, Reading, RemoteCall
from ..units import J_PER_KWH
from .heard import read

#: joules and grams of one call beyond which nobody is believed: a day of a hundred racks
MOST: Final = 1e12
MALFORMED_FLAG: Final = "usage:frugal-malformed"
_MAX_TEXT: Final = 128
_MAX_FACTORS: Final = 8


def carbon_of(reading: Reading) -> dict[str, Any] | None:
    """``usage.carbon`` of a request: after PUE, own and remote; None where a figure is unknown. Provisional, with its id."""
    own, grams = _with_bounds(reading)
    if own is None or grams is None or reading.pue is None:
        return None
    remote_kwh = Interval(0.0, 0.0, 0.0)
    for call in reading.remote:
        if call.energy_j is None:
            return None
        over = call.pue or Interval(1.0, 1.0, 1.0)
        remote_kwh = Interval(
            remote_kwh.low + call.energy_j.low * over.low, 0.0, remote_kwh.high + call.energy_j.high * over.high
        )
    return {
        "kWh": {
            "min": (own.low * reading.pue.low + remote_kwh.low) / J_PER_KWH,
            "max": (own.high * reading.pue.high + remote_kwh.high) / J_PER_KWH,
        },
        "kgCO2eq": {"min": grams.low / 1000, "max": grams.high / 1000},
        "provisional": True,
        "id": reading.id,
        "tier": reading.tier,
        "method_id": reading.method_id,
        "factor_ids": reading.factor_ids,
    }


def frugal_of(reading: Reading) -> dict[str, Any] | None:
    """``usage.frugal`` of a request for a caller that meters: IT joules and grams of it all; None where one is unknown."""
    own, grams = _with_bounds(reading)
    if own is None or grams is None:
        return None
    low, mid, high = own.low, own.mid, own.high
    if reading.remote or reading.energy_remote_j is not None:
        if reading.energy_remote_j is None or reading.energy_remote_low_j is None or reading.energy_remote_high_j is None:
            return None
        low, mid, high = (
            low + reading.energy_remote_low_j,
            mid + reading.energy_remote_j,
            high + reading.energy_remote_high_j,
        )
    return {
        "id": reading.id,
        "energy_j": {"low": low, "mid": mid, "high": high},
        "carbon_g": {"low": grams.low, "mid": grams.mid, "high": grams.high},
        "tier": reading.tier,
        "method_id": reading.method_id,
        "factor_ids": reading.factor_ids,
        "provisional": True,
    }


def believed(call: RemoteCall, frugal: Any) -> RemoteCall:
    """``call`` with the figures that its metered callee told; flagged, and without them, where they cannot be.

    Raises nothing: what came over the network is anybody's.
    """
    energy, grams, tier = _interval(read(frugal, "energy_j")), _interval(read(frugal, "carbon_g")), read(frugal, "tier")
    if energy is None or grams is None or tier not in TIERS:
        return msgspec.structs.replace(call, flags=(*call.flags, MALFORMED_FLAG))
    factors = read(frugal, "factor_ids")
    return msgspec.structs.replace(
        call,
        energy_j=energy,
        carbon_g=grams,
        tier=tier,
        method_id=f"callee:{_text(read(frugal, 'method_id')) or 'unknown'}",
        factor_ids=tuple(filter(None, map(_text, factors[:_MAX_FACTORS]))) if isinstance(factors, list | tuple) else (),
        flags=(*call.flags, f"callee:{_text(read(frugal, 'id')) or 'unnamed'}"),
    )


def _with_bounds(r: Reading) -> tuple[Interval | None, Interval | None]:
    """A request's energy and carbon with everything nested in it: readings of `Figures.whole`."""
    if r.energy_low_j is None or not r.energy_full_j or r.energy_high_j is None:  # no request is free: 0 is not known yet
        return None, None
    if r.carbon_low_g is None or r.carbon_g is None or r.carbon_high_g is None:
        return None, None
    return Interval(r.energy_low_j, r.energy_full_j, r.energy_high_j), Interval(r.carbon_low_g, r.carbon_g, r.carbon_high_g)


def _interval(told: Any) -> Interval | None:
    ends = [read(told, name) for name in ("low", "mid", "high")]
    if not all(type(each) in (int, float) and math.isfinite(each) and 0 <= each <= MOST for each in ends):
        return None
    return Interval(*map(float, ends)) if ends[0] <= ends[1] <= ends[2] else None


def _text(value: Any) -> str | None:
    return value[:_MAX_TEXT] if isinstance(value, str) and value.isprintable() else None
