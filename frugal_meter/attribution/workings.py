"""The workings of a reading: what each source billed, and the tier of them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..records import TIERS, Part, Tier
from ..sources import Source
from ..units import NJ_PER_J
from .ledger import KEY

#: a part below this share of the energy does not decide the tier
TIER_SHARE: Final = 0.05


def weakest(by: dict[Tier, float]) -> Tier | None:
    """The weakest of the tiers that hold 5 % of the energy given by tier."""
    least = TIER_SHARE * sum(by.values())
    return max((tier for tier, nj in by.items() if nj and nj >= least), key=TIERS.index, default=None)


def method_of(sources: Sequence[Source]) -> str:
    """Id and version of the sharing key and of the sources' methods: "cpu-time/1+rapl-powercap/1"."""
    return "+".join([KEY, *dict.fromkeys(source.method for source in sources)])


def part_of(source: Source, tier: Tier, dynamic_nj: int, idle_nj: int) -> Part:
    """What one source billed, as a reading tells it."""
    joules = {"dynamic_j": dynamic_nj / NJ_PER_J, "idle_j": idle_nj / NJ_PER_J}
    return Part(source=source.name, component=source.component, tier=tier, method=source.method, **joules)
