"""Leases: what is reserved for running work, and the window's book that will be charged for it."""

from __future__ import annotations

import msgspec

from .budget import Budget


class Book:
    """One budget, one key, one window: what is settled and what is reserved, in the budget's integer unit.

    Settled may exceed the limit and is then recorded, never clamped. A lease keeps the book of its admission, so work
    that ends after the window still charges the window it began in.
    """

    __slots__ = ("budget", "carry", "end_ns", "in_flight", "key", "refused", "reserved", "settled", "start_ns")

    def __init__(self, budget: Budget, key: tuple[str, ...], start_ns: int, end_ns: int) -> None:
        self.budget, self.key = budget, key
        self.start_ns, self.end_ns = start_ns, end_ns  # Unix time
        self.settled = self.reserved = self.in_flight = self.refused = 0
        self.carry = 0  # thousandths of the unit not yet booked: small requests are billed in full


class Lease(msgspec.Struct, eq=False):
    """A reservation of ``estimate`` in ``book``; ``charged`` once settled, in thousandths of the unit."""

    book: Book
    estimate: int
    charged_milli: int | None = None
    corrected: bool = False


class Claim(msgspec.Struct, frozen=True):
    """What admission asks of one budget."""

    budget: Budget
    key: tuple[str, ...]
    estimate: int
    may_refuse: bool = True
