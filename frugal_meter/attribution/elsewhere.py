"""`Elsewhere`: what calls to models on other machines cost on behalf of one span. Never part of this host's own energy."""

from __future__ import annotations

from typing import Final

from ..records import MAX_CALLS, TIERS, Interval, RemoteCall, Tier

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


def plus(one: Interval | None, other: Interval | None) -> Interval | None:
    """Both together; unknown with anything is unknown."""
    if one is None or other is None:
        return None
    return Interval(one.low + other.low, one.mid + other.mid, one.high + other.high)
