"""Leases: what is reserved for running work, and the window's book that will be charged for it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..records import Decision
from .budget import Budget


class Flight:
    """How many are running under one budget and key, whatever the window they began in."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Book:
    """One budget, one key, one window: what is settled and what is reserved, in the budget's integer unit.

    Settled may exceed the limit and is then recorded, never clamped. A lease keeps the book of its admission, so work
    that ends after the window still charges the window it began in.
    """

    __slots__ = ("budget", "carry", "end_ns", "flight", "key", "refused", "reserved", "settled", "start_ns")

    def __init__(self, budget: Budget, key: tuple[str, ...], start_ns: int, end_ns: int, flight: Flight | None = None) -> None:
        self.budget, self.key = budget, key
        self.start_ns, self.end_ns = start_ns, end_ns  # Unix time
        self.flight = flight or Flight()
        self.settled = self.reserved = self.refused = 0
        self.carry = 0  # thousandths of the unit not yet booked: small requests are billed in full

    @property
    def committed(self) -> int:
        """Settled and reserved: what a new claim is added to."""
        return self.settled + self.reserved

    @property
    def is_full(self) -> bool:
        """Whether as many are running as the budget allows at once."""
        most = self.budget.max_in_flight
        return most is not None and self.flight.count >= most


class Claim(msgspec.Struct, frozen=True):
    """What admission asks of one budget; ``learn_as`` is the (route, model) that the estimate is for."""

    budget: Budget
    key: tuple[str, ...]
    estimate: int
    may_refuse: bool
    learn_as: tuple[str | None, str | None]


class Lease(msgspec.Struct, eq=False, gc=False):  # a book knows no lease: no cycle for the garbage collector to find
    """A reservation of ``estimate`` in ``book``; ``charged_milli`` once settled, in thousandths of the unit."""

    book: Book
    estimate: int
    learn_as: tuple[str | None, str | None]
    charged_milli: int | None = None
    corrected: bool = False


#: what a budget did with a claim; "would_refuse" is a budget that only watches, or may not refuse on this tier
Action = Literal["admit", "warn", "degrade", "refuse", "would_refuse"]
ACTIONS: Final[tuple[Action, ...]] = ("admit", "warn", "degrade", "refuse", "would_refuse")


class Verdict(msgspec.Struct, frozen=True):
    """The store's answer to one all-or-nothing admission: an action per claim asked, in order, up to a refusal."""

    decision: Decision
    actions: list[Action]
    leases: list[Lease]
    refused: Book | None = None
    reason: Literal["limit", "in_flight"] = "limit"
