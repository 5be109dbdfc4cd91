"""The ladder warn → degrade → throttle → refuse: pure functions of how much of a budget is committed."""

from __future__ import annotations

from typing import Final

from ..records import Decision

#: weakest first: over several budgets the strongest decision stands
ORDER: Final[dict[Decision | None, int]] = {None: 0, "admit": 1, "warn": 2, "degrade": 3, "throttle": 4, "refuse": 5, "cut": 6}
#: a rung once reached is left only this share of the limit below where it was entered: leases that come and go at a threshold
#: would otherwise give one citizen the large model and the next the small one
HYSTERESIS: Final = 0.05


def decide(
    committed: int,
    estimate: int,
    limit: int,
    warn_at: float,
    degrade_at: float | None,
    throttle_at: float | None = None,
    rung: Decision | None = None,
) -> Decision:
    """The decision for work estimated at ``estimate`` when ``committed`` (settled + reserved) is already taken.

    Refuse when it does not fit; else the highest rung that the committed share has reached, or that ``rung``, the one
    stood on so far, still holds.
    """
    if committed + estimate > limit:
        return "refuse"
    return rung_at(committed, limit, warn_at, degrade_at, throttle_at, rung)


def rung_at(
    committed: int, limit: int, warn_at: float, degrade_at: float | None, throttle_at: float | None, rung: Decision | None
) -> Decision:
    """The highest rung reached or still held, whether or not anything more fits."""
    steps: tuple[tuple[Decision, float | None], ...] = (("throttle", throttle_at), ("degrade", degrade_at), ("warn", warn_at))
    for step, share in steps:
        if share is not None:
            held = HYSTERESIS if ORDER[rung] >= ORDER[step] else 0.0
            if committed >= (share - held) * limit and committed > 0:
                return step
    return "admit"


def strongest(*decisions: Decision | None) -> Decision | None:
    """The strongest of several decisions."""
    return max(decisions, key=ORDER.__getitem__)
