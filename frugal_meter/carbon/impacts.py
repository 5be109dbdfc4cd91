"""From joules to grams: pure functions over `Interval`.

Errors of the source, the attribution key, the PUE and the embodied figure are common to every request, so lows add to lows and
highs to highs; a root sum of squares would make a thousand requests look thirty times better known than one. None is unknown
and stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import Interval
from .factors import Factor
from .pue import Pue


def operational(energy_j: Interval | None, pue: Pue, factor: Factor) -> Interval | None:
    """gCO2e of ``energy_j`` (IT joules, before PUE) at the factor in force: E · PUE · factor (ISO/IEC 21031: O = E · I).

    Carries the bounds of the energy and of the PUE; the factor's own spread is for `scenarios`.
    """
    if energy_j is None:
        return None
    bounds, per_joule = pue.interval, factor.grams_per_joule
    return Interval(
        energy_j.low * bounds.low * per_joule, energy_j.mid * bounds.mid * per_joule, energy_j.high * bounds.high * per_joule
    )


def add(parts: Iterable[Interval]) -> Interval:
    """The sum of figures with common errors, in the order given; zero for no parts."""
    low = mid = high = 0.0
    for part in parts:
        low, mid, high = low + part.low, mid + part.mid, high + part.high
    return Interval(low, mid, high)


def total(operational_g: Interval | None, embodied_g: Interval | None) -> Interval | None:
    """gCO2e in all; ``embodied_g`` is None when that part is switched off. Without operational carbon the total is unknown."""
    if operational_g is None or embodied_g is None:
        return operational_g
    return add((operational_g, embodied_g))


def per_unit(total_g: Interval | None, units: float | None, *, each: float = 1.0) -> Interval | None:
    """gCO2e per ``each`` functional units (SCI: C per R), or None when nothing was delivered: a rate over zero is not the total.

    ``per_unit(total, tokens, each=1e6)`` is grams per million tokens. Raises ``ValueError`` for a negative count.
    """
    if units is not None and units < 0:
        raise ValueError(f"{units} functional units: a count cannot be negative")
    if total_g is None or not units:
        return None
    return total_g.times(each / units)


def scenarios(energy_j: Interval | None, pue: Pue, factors: Sequence[Factor]) -> tuple[tuple[Factor, Interval | None], ...]:
    """gCO2e of the same energy at each factor, for a sensitivity run; to compare, never to add (their scopes may differ)."""
    return tuple((factor, operational(energy_j, pue, factor)) for factor in factors)
