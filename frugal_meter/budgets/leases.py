"""Leases: what is reserved for running work, and the window's book that will be charged for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from ..attribution.span import Span
from ..records import Decision
from .budget import Budget
from .ladder import HYSTERESIS, rung_at

#: what a budget did with a claim; "would_refuse" is a budget that only watches, or may not refuse on this tier, "cut" a running
#: request that outgrew what was left, "override" one let through by name
Action = Literal["admit", "warn", "degrade", "throttle", "refuse", "would_refuse", "cut", "override"]
ACTIONS: Final[tuple[Action, ...]] = ("admit", "warn", "degrade", "throttle", "refuse", "would_refuse", "cut", "override")
Reason = Literal["limit", "in_flight", "throttled", "store"]
#: what a shared store has just said it has not is not asked for again this long
DENIED_NS: Final = 100_000_000


class Flight:
    """How many are running under one budget and key, whatever the window they began in.

    ``ceiling`` is how many this worker may run at once: the budget's ``max_in_flight``, or its slots of a shared one.
    """

    __slots__ = ("ceiling", "count", "parked", "told")

    def __init__(self, ceiling: int | None = None) -> None:
        self.count = self.parked = 0
        self.ceiling = ceiling
        self.told = (0, 0)

    @property
    def is_full(self) -> bool:
        """Whether as many are running as may."""
        return self.ceiling is not None and self.count >= self.ceiling


class Book:
    """One budget, one key, one window: what this worker has settled and reserved, in the budget's integer unit.

    Settled may exceed the limit and is then recorded, never clamped. A lease keeps the book of its admission, so work
    that ends after the window still charges the window it began in.

    ``ceiling`` is what this worker may commit in all: the limit in memory, what it was granted of a shared one. It moves
    with grants alone, since settling takes from reserved what it gives to settled. ``elsewhere`` is what others have settled
    and reserved, and of a sliding window its earlier parts; ``elsewhere_reserved`` what of it is reserved. ``parked`` is unused
    room set aside for who waits for more. ``calm``: while committed stays below, everything is admitted and no step of the
    ladder is near.
    """

    __slots__ = (
        "base", "budget", "calm", "carry", "ceiling", "cell", "denied", "elsewhere", "elsewhere_reserved", "end_ns", "expired",
        "flight", "idle", "key", "left", "parked", "refused", "reserved", "rung", "settled", "shared", "start_ns", "told",
        "typical", "until_ns", "wakes",
    )  # fmt: skip

    def __init__(
        self,
        budget: Budget,
        key: tuple[str, ...],
        window_s: tuple[int, int, int],
        flight: Flight | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self.budget, self.key, self.shared = budget, key, shared
        self.start_ns, self.end_ns, self.until_ns = (each * 10**9 for each in window_s)  # Unix time
        self.flight = flight or Flight(0 if shared and budget.max_in_flight else budget.max_in_flight)
        self.settled = self.reserved = self.refused = 0
        self.carry = 0  # thousandths of the unit not yet booked: small requests are billed in full
        self.ceiling = 0 if shared else budget.limit.amount
        self.elsewhere = self.elsewhere_reserved = self.parked = self.idle = self.expired = 0
        self.typical = 0  # what was last asked of a shared store for one request
        self.base = 0  # settled before this holder's time: the parent's, after a fork
        self.left: int | None = None  # of the limit, over all, when the shared store was last asked
        self.rung: Decision | None = None
        self.told: tuple[int, int, int] | None = None  # as last reported to a shared store
        self.denied = (0, 0)  # the amount that a shared store had not, and until when that is believed (Unix ns)
        self.cell: memoryview | None = None  # settled and reserved, where a survivor finds them
        self.wakes: Callable[[Book], None] | None = None  # told once, when a book that lay still moves again
        self.reckon()

    @property
    def committed(self) -> int:
        """Settled and reserved here: what a new claim is added to."""
        return self.settled + self.reserved

    @property
    def committed_by_all(self) -> int:
        """Settled and reserved by all workers, earlier parts of a sliding window included: what the ladder looks at."""
        return self.settled + self.reserved + self.elsewhere

    @property
    def reserved_by_all(self) -> int:
        """What of ``committed_by_all`` is reserved; the rest is settled."""
        return self.reserved + self.elsewhere_reserved

    @property
    def room(self) -> int:
        """What this worker may still commit without asking anybody; negative when running work has outgrown its leases."""
        return self.ceiling - self.settled - self.reserved

    @property
    def is_full(self) -> bool:
        """Whether as many are running as the budget allows at once."""
        return self.flight.is_full

    def fits(self, estimate: int) -> bool:
        """Whether ``estimate`` more is within the limit over all workers, whatever this one holds of it."""
        return self.settled + self.reserved + self.elsewhere + estimate <= self.budget.limit.amount

    def is_denied(self, estimate: int, now_ns: int) -> bool:
        """Whether a shared store has just said that it has not what is missing here for ``estimate``; not for longer where the
        clock was set back since.
        """
        amount, until_ns = self.denied
        return until_ns - DENIED_NS <= now_ns < until_ns and estimate - max(0, self.room) >= amount

    def step(self) -> Decision:
        """The rung of the ladder that is stood on now."""
        budget = self.budget
        rung = rung_at(
            self.committed_by_all, budget.limit.amount, budget.warn_at, budget.degrade_at, budget.throttle_at, self.rung
        )
        if rung != self.rung:
            self.rung = rung
            self.reckon()
        return rung

    def reckon(self) -> None:
        """Work out ``calm`` anew: after any change of ceiling, elsewhere, rung or budget."""
        held = HYSTERESIS if self.rung not in (None, "admit") else 0.0
        below = int(self.budget.limit.amount * (self.budget.first_step - held)) - self.elsewhere
        self.calm = min(below, self.ceiling + 1)

    def note(self) -> None:
        """It has moved: leave what is settled and reserved where a survivor finds it, and tell who looks only at what moves."""
        if self.wakes is not None:
            self.wakes(self)
        cell = self.cell
        if cell is not None:
            cell[0] = self.settled  # first: a death in between then charges too much, not too little
            cell[1] = self.reserved


class Claim(msgspec.Struct, frozen=True):
    """What admission asks of one budget; ``learn_as`` is the (route, model) that the estimate is for, ``size`` its class."""

    budget: Budget
    key: tuple[str, ...]
    estimate: int
    may_refuse: bool
    learn_as: tuple[str | None, str | None]
    size: str | None = None


class Lease(msgspec.Struct, eq=False, gc=False):  # a book knows no lease: no cycle for the garbage collector to find
    """A reservation of ``estimate`` and, after top-ups, ``more`` in ``book``.

    ``charged_milli`` once settled, in thousandths of the unit; ``blind`` when that was the reservation, because nobody could
    tell what was used.
    """

    book: Book
    estimate: int
    learn_as: tuple[str | None, str | None]
    size: str | None = None
    charged_milli: int | None = None
    corrected: bool = False
    more: int = 0
    blind: bool = False

    @property
    def amount(self) -> int:
        """All that is reserved."""
        return self.estimate + self.more


class Verdict(msgspec.Struct, frozen=True):
    """The books' answer to one all-or-nothing admission: an action per claim asked, in order, up to a refusal.

    then: "done", or "wait" (its turn has not come), or "ask" (a shared store has to be asked for more first).
    """

    decision: Decision
    actions: list[Action]
    leases: list[Lease]
    refused: Book | None = None
    reason: Reason = "limit"
    then: Literal["done", "ask", "wait"] = "done"


def decided_on(span: Span) -> set[tuple[str, tuple[str, ...]]]:
    """The budgets, by name and key, that ``span`` or a span around it holds a lease of."""
    names: set[tuple[str, tuple[str, ...]]] = set()
    at: Span | None = span
    while at is not None:
        names.update((lease.book.budget.name, lease.book.key) for lease in at.leases or ())
        at = at.parent
    return names
