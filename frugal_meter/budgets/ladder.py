"""The ladder warn → degrade → refuse: pure functions of how much of a budget is committed."""

from __future__ import annotations

from typing import Final

from ..records import Decision

#: weakest first: over several budgets the strongest decision stands
ORDER: Final[dict[Decision | None, int]] = {None: 0, "admit": 1, "warn": 2, "degrade": 3, "throttle": 4, "refuse": 5, "cut": 6}


def decide(committed: int, estimate: int, limit: int, warn_at: float, degrade_at: float | None) -> Decision:
    """The decision for work estimated at ``estimate`` when ``committed`` (settled + reserved) is already taken.

    Refuse when it does not fit; else the highest rung that the committed share has reached.
    """
    if committed + estimate > limit:
        return "refuse"
    if degrade_at is not None and committed >= degrade_at * limit:
        return "degrade"
    if committed >= warn_at * limit:
        return "warn"
    return "admit"


def strongest(*decisions: Decision | None) -> Decision | None:
    """The strongest of several decisions."""
    return max(decisions, key=ORDER.__getitem__)
