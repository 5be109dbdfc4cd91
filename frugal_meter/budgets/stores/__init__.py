"""The contract of a shared budget store: *leases are local, holdings are shared*.

Every worker keeps its own books (`memory.MemoryStore`): it admits, leases and settles there, under one short lock. A shared
store knows no lease. It keeps, per account (one budget, one key, one window), what is settled, and of every *holder* (a
worker, by an id that is never used twice) a **holding**: what that worker may still commit, its leases in flight and its
unused slice together. A worker that needs more than it holds asks; one that holds more than it needs reports less.

*Overshoot is 0* because the store grants only while ``settled + held + need <= limit``, and because work moves an amount
from held to settled without changing their sum. Only work that outgrows its lease, and is refused more, can exceed a limit.

*Reports are totals, not differences*: a holder reports all that it has settled in an account so far. A report that is lost or
repeated changes nothing, and a store that has lost its data is made whole by the next reports of those who still live.
Of one holder, exchanges come one at a time with a rising ``seq``; one whose ``seq`` is not above the last is stale: it
changes nothing and grants nothing, whatever it carries. A grant whose answer was lost is taken back by the next report,
since what is held is told there in full.

*A holder that is not heard of for `TTL_S`* keeps what it held, charged: ``State.settled`` then counts its holding and
``State.held`` does not, their sum is what it was, and it is counted in ``State.expired``. When it comes back it goes on.
Its slots (below) are free at once. Nothing has to be swept for that: it is how rows are read.

*Slots* (``max_in_flight``) are accounts too: resource "slots", no window, nothing ever settled, ``limit`` of them.

*What can lie stranded* in unused slices: at most `SLICE` of a limit over all holders, less than half of what was left when
it was granted, and no longer than a tick, when every worker returns what the shrunken share no longer allows.

`granted` is the rule of a grant; `holdings.py` is the whole contract over plain dicts, tests/test_stores.py its proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

from ...records import Decision
from ...units import Resource

#: seconds after which a holder that was not heard of is taken for gone; holders are heard of every `HEARTBEAT_S`
TTL_S: Final = 60
HEARTBEAT_S: Final = 10
#: the part of a limit that may lie in unused slices, over all holders
SLICE: Final = 0.05
#: an account is kept this long after it has ceased to count: for the longest lease that may still settle in it
KEEP_S: Final = 3600
#: the last decisions that a store keeps; older ones are dropped
LOG_LINES: Final = 100_000


class Account(NamedTuple):
    """One budget, one key, one window. All fields but ``earlier`` and ``later`` identify it.

    ``start_s`` and ``until_s`` are Unix seconds: from when it is charged, and from when it no longer counts. They are 0 for
    slots. ``earlier`` holds the starts of the earlier sub-windows of a sliding window (same budget and key, as long as this
    one) whose amounts count with it, ``later`` those of the sub-windows begun since with which it counts: a grant must fit into
    every window that it is part of.
    """

    budget: str
    resource: Resource | Literal["slots"]
    key: tuple[str, ...]
    start_s: int
    until_s: int
    earlier: tuple[int, ...] = ()
    later: tuple[int, ...] = ()

    def at(self, start_s: int) -> Account:
        """The sub-window of the same sliding window that begins at ``start_s``, with those that count with it."""
        moved = start_s - self.start_s
        return self._replace(
            start_s=start_s, until_s=self.until_s + moved, earlier=tuple(one + moved for one in self.earlier), later=()
        )


class Report(NamedTuple):
    """What a holder has in an account now, in the budget's integer unit.

    settled: all that it has settled there so far, corrections included. held: what it may still commit there, leases and
    unused slice. reserved: its leases alone (``reserved <= held``; work that outgrew its lease can make it equal).
    """

    account: Account
    settled: int
    held: int
    reserved: int


class Ask(NamedTuple):
    """``need`` more in an account, or nothing; ``want`` (at least ``need``) if its slice may be that large.

    ``limit`` is the budget's as this worker knows it.
    """

    account: Account
    limit: int
    need: int
    want: int


class State(NamedTuple):
    """An account over all holders, with its ``earlier`` ones: expired holdings are in ``settled``, not in ``held``."""

    settled: int = 0
    held: int = 0
    reserved: int = 0
    expired: int = 0  # holdings (not amounts) of holders that were not heard of

    @property
    def committed(self) -> int:
        """What a grant must fit beside."""
        return self.settled + self.held


class Answer(NamedTuple):
    """The store's answer.

    grants: for each group of asks, in order, what was granted of each ask; None where one of them did not fit.
    states: of every account reported on or asked for, after the grants, by its identity (``account[:5]``).
    holders: how many are alive, this one included. stale: the exchange was not above the last ``seq``. new: the store did not
    know this holder; one that has reported before must then report everything again, for the store has lost its data.
    """

    grants: list[tuple[int, ...] | None]
    states: Mapping[tuple[Any, ...], State]
    holders: int
    stale: bool = False
    new: bool = False


class Override(NamedTuple):
    """A permission to pass a budget that would refuse: named, reasoned, ending. It is metered and charged all the same.

    key: one part of the budget, or None for all of it. until_s and at_s: Unix seconds; id: 1, 2, … in the order granted.
    """

    id: int
    budget: str
    key: tuple[str, ...] | None
    who: str
    why: str
    at_s: float
    until_s: float
    revoked_s: float | None = None

    def holds(self, now_s: float) -> bool:
        """Whether it is in force."""
        return self.revoked_s is None and self.at_s <= now_s < self.until_s


class Entry(NamedTuple):
    """One line of the decision log: what a budget did, with its figures of that moment, in its integer unit.

    Settled and reserved are those of all workers, as this one knew them. A line that stands for many (plain admissions) has
    no figures of any one moment: None. Of a cut request ``estimate`` is what it had used. ``start_s`` and ``end_s`` bound the
    window that is charged, Unix seconds; ``tier`` is that of the figure counted, None for what is simply counted.
    """

    at_s: float
    budget: str
    resource: str
    key: tuple[str, ...]
    action: str  # one of `leases.ACTIONS`, or "grant" and "revoke" of an override
    decision: Decision | None  # what the request got, over all budgets
    estimate: int | None
    settled: int | None
    reserved: int | None
    limit: int
    why: str = ""
    tier: str | None = None
    start_s: int | None = None
    end_s: int | None = None


class Learnt(NamedTuple):
    """What a running estimate is of; "" where a route, model or class of sizes is not known, or not asked for."""

    budget: str
    resource: str
    route: str
    model: str
    size: str = ""


#: running estimates, in the budget's integer unit
Estimates = Mapping[Learnt, float]


class SharedStore(Protocol):
    """A store that several workers share. Every method may block on I/O: none is called on an event loop.

    Methods are called by one thread at a time. They raise `StoreError` when the store cannot be reached or written, and
    then have changed nothing that a later call with a higher ``seq`` does not mend.
    """

    #: "sqlite", "redis": for metrics and messages
    kind: str
    #: whether workers of other hosts see it
    spans_hosts: bool

    def exchange(self, holder: str, seq: int, reports: Sequence[Report], asks: Sequence[Sequence[Ask]], now_s: float) -> Answer:
        """Take ``reports``, then grant each group of ``asks`` in turn, all of it or nothing, in one atomic step."""

    def release(self, holder: str, seq: int, reports: Sequence[Report], now_s: float) -> None:
        """Take the last ``reports`` of a holder that stops, or has died, drop all its holdings, and hear it no more."""

    def record(self, entries: Sequence[Entry]) -> None:
        """Append to the decision log."""

    def recorded(self, *, since_s: float = 0, most: int = 1000) -> list[Entry]:
        """The latest ``most`` lines of the decision log from ``since_s`` on, oldest first."""

    def permit(self, budget: str, key: tuple[str, ...] | None, who: str, why: str, at_s: float, until_s: float) -> Override:
        """Grant an override."""

    def revoke(self, number: int, now_s: float) -> bool:
        """End an override; False when there is none in force by that id."""

    def overrides(self) -> list[Override]:
        """All overrides ever granted, oldest first."""

    def keep_estimates(self, estimates: Estimates) -> None:
        """Keep running estimates over a restart; the latest of each stands."""

    def estimates(self) -> Estimates:
        """What was kept."""

    def states(self, now_s: float) -> dict[Account, State]:
        """Every account that counts now: for people who look (`frugal-meter budget list`)."""

    def close(self) -> None:
        """Let connections go; safe to call twice."""


def granted(left: int, need: int, want: int, holders: int) -> int | None:
    """What to grant of an ask when ``left`` is left of the limit: ``need``, and of ``want`` no more than half of an even
    share of the rest; None when not even ``need`` fits.
    """
    if need > left:
        return None
    return need + min(max(0, want - need), (left - need) // (2 * max(1, holders)))
