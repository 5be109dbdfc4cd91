"""What a verdict becomes where a smaller model answers, or is not good enough to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .budget import Budget
from .ladder import strongest
from .leases import Action, Claim, Verdict


def degraded(verdict: Verdict) -> Verdict:
    """An admission of the smaller model: its decision is "degrade" at least."""
    return Verdict(strongest("degrade", verdict.decision) or "degrade", verdict.actions, verdict.leases)


def above_floor(claims: Sequence[Claim], verdict: Verdict, model: str, suits: Callable[[Budget, str], bool]) -> Verdict:
    """The ladder without its rung "degrade" for budgets that ask for better: those that ``model`` does not suit."""
    pairs = zip(claims, verdict.actions, strict=True)
    actions: list[Action] = ["warn" if a == "degrade" and not suits(c.budget, model) else a for c, a in pairs]
    stays = "degrade" in actions or "would_refuse" in actions or actions == verdict.actions
    return Verdict("degrade" if stays else "warn", actions, verdict.leases)
