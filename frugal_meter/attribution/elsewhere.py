"""`Elsewhere`: what calls to models on other machines cost on behalf of one span. Never part of this host's own energy."""

from __future__ import annotations

from typing import Any, Final

from ..records import MAX_CALLS, TIERS, Interval, RemoteCall, Tier
from ..units import NJ_PER_J, Resource

_NOTHING: Final = Interval(0.0, 0.0, 0.0)


class Elsewhere:
    """Sums over the calls of one span; lows add to lows and highs to highs, and unknown with anything is unknown."""

    __slots__ = ("_carbon_g", "_energy_j", "_joules", "calls", "count")

    def __init__(self) -> None:
        self._energy_j: Interval | None = _NOTHING
        self._carbon_g: Interval | None = _NOTHING
        self._joules: dict[Tier, float] = {}
        self.calls: tuple[RemoteCall, ...] = ()
        self.count = 0

    def add(self, call: RemoteCall) -> None:
        """Add one call; of many, the last ones are kept one by one."""
        self.count += 1
        self.calls = (*self.calls, call)[-MAX_CALLS:]
        self._energy_j, self._carbon_g = plus(self._energy_j, call.energy_j), plus(self._carbon_g, call.carbon_g)
        if call.tier is not None and call.energy_j is not None:
            self._joules[call.tier] = self._joules.get(call.tier, 0.0) + call.energy_j.mid

    @property
    def energy_j(self) -> Interval | None:
        """IT joules spent elsewhere; None as soon as one call's are unknown."""
        return self._energy_j

    @property
    def carbon_g(self) -> Interval | None:
        """gCO2e emitted elsewhere, by the factor of each call's own place."""
        return self._carbon_g

    @property
    def joules(self) -> dict[Tier, float]:
        """Known joules by tier."""
        return self._joules

    def milli(self, resource: Resource) -> int:
        """Joules or grams in thousandths of a budget's unit. What is unknown is counted by nobody: the reading says so."""
        whole = self._energy_j if resource == "energy" else self._carbon_g
        if whole is None:
            known = [call.energy_j if resource == "energy" else call.carbon_g for call in self.calls]
            amount = sum(each.mid for each in known if each is not None)
        else:
            amount = whole.mid
        return int(amount * (NJ_PER_J if resource == "energy" else 1e12))

    @property
    def tier(self) -> Tier | None:
        """The weakest tier among its calls; None when no call's energy is known."""
        return max(self._joules, key=TIERS.index, default=None)

    @property
    def factor_ids(self) -> tuple[str, ...]:
        """Factors of the calls kept."""
        return tuple(dict.fromkeys(each for call in self.calls for each in call.factor_ids))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of the calls kept."""
        return tuple(dict.fromkeys(call.method_id for call in self.calls if call.method_id is not None))

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of the calls kept."""
        return tuple(dict.fromkeys(flag for call in self.calls for flag in call.flags))


def remote_fields(pays: Elsewhere | None, elsewhere: Elsewhere | None) -> dict[str, Any]:
    """The fields of a reading that tell of models elsewhere: what its span pays for, and what was spent inside it."""
    own = pays.energy_j if pays is not None else None
    grams = pays.carbon_g if pays is not None else None
    spent = elsewhere.energy_j if elsewhere is not None else None
    return {
        "energy_remote_j": None if own is None else own.mid,
        "energy_remote_low_j": None if own is None else own.low,
        "energy_remote_high_j": None if own is None else own.high,
        "carbon_remote_g": None if grams is None else grams.mid,
        "remote_tier": elsewhere.tier if elsewhere is not None else None,
        "inclusive_energy_remote_j": None if spent is None else spent.mid,
        "remote": elsewhere.calls if elsewhere is not None else (),
    }


def plus(one: Interval | None, other: Interval | None) -> Interval | None:
    """Both together; unknown with anything is unknown."""
    if one is None or other is None:
        return None
    return Interval(one.low + other.low, one.mid + other.mid, one.high + other.high)
