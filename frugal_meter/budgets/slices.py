"""A worker's slices of shared budgets: what to set aside, to ask ahead, to return and to report, and what an answer changes.

Everything here is for who holds the books' lock, and none of it does any I/O.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .budget import Budget
from .leases import DENIED_NS, Book
from .pace import line_at
from .stores import SLICE, Account, Answer, Ask, Report
from .stores.memory import MemoryStore
from .waiting import Waiting
from .windows import SLIDING

#: ticks without any work after which a slice is given back
IDLE_TICKS: Final = 10
#: slots as last reported, where the store may have granted some since
UNTOLD: Final = (-1, -1)
#: an ask, and the book whose ceiling its grant raises
Want = tuple[Ask, Book]


class Slices:
    """The books of one worker, seen as holdings of a shared store.

    share: the part of a limit that may lie in unused slices over all workers; 0 asks for every lease. spans_hosts: whether
    the store is seen by other hosts, where budgets of one instance need a name of their own.
    """

    def __init__(self, books: MemoryStore, now_ns: Callable[[], int], *, spans_hosts: bool, share: float = SLICE) -> None:
        self._books, self._now_ns, self.share = books, now_ns, share
        self._instance = f"@{socket.gethostname()}" if spans_hosts else ""
        self.holders = 1
        #: what has moved of late, or holds anything unused: nothing else is looked at
        self._live: dict[Book, None] = {}

    def watch(self, book: Book) -> None:
        """Look at ``book`` until it has lain still for `IDLE_TICKS`."""
        book.wakes = None
        self._live[book] = None

    def watch_all(self) -> None:
        """Look at every book: what the store knows of them is in doubt."""
        for book in self._books.every():
            self.watch(book)

    def park(self, waiting: Waiting) -> list[Want]:
        """Set aside what there is for ``waiting`` and say what is missing. Nobody else can take it until the answer is here."""
        wants = []
        waiting.claims = self._books.in_force(waiting.claims)
        for claim in waiting.claims:
            if not (claim.may_refuse and claim.budget.enforce):
                continue
            book = self._books.book(claim.budget, claim.key, self._now_ns())
            flight, slots, book.idle = book.flight, 0, 0  # in use, and so reported on with this exchange
            if flight.ceiling is not None:
                slots = 1 if flight.count < flight.ceiling else 0
                flight.ceiling -= slots
                flight.parked += slots
                if not slots:
                    wants.append((Ask(self.slots(book), claim.budget.max_in_flight or 0, 1, 1), book))
            book.typical = claim.estimate
            aside = min(max(0, book.room), claim.estimate)
            book.ceiling -= aside
            book.parked += aside
            book.reckon()
            waiting.parked.append((book, aside, slots))
            need = claim.estimate - aside
            if need > 0:
                limit = line_at(book, self._now_ns()) if book.rung == "throttle" else claim.budget.limit.amount
                wants.append(
                    (Ask(self.account(book), limit, need, need), book)
                )  # `ahead` asks for a slice, once for all who wait
        return wants

    def unpark(self, waiting: Sequence[Waiting]) -> None:
        """Put back what was set aside: the answer is here, or will not come."""
        for one in waiting:
            for book, aside, slots in one.parked:
                book.ceiling += aside
                book.parked -= aside
                if book.flight.ceiling is not None:
                    book.flight.ceiling += slots
                book.flight.parked -= slots
                book.reckon()
            one.parked = []

    def _target(self, book: Book) -> int:
        """How large this worker's unused slice of ``book`` may be."""
        if book.idle > IDLE_TICKS or not self.share or book.rung == "throttle":  # a pace is kept by the store alone
            return 0
        most = int(book.budget.limit.amount * self.share) // self.holders
        target = most if book.left is None else max(0, min(most, book.left // (2 * self.holders)))
        target >>= max(0, book.idle - 1)  # what lies still returns by halves: tenants of a moment ago cost little
        return target if target >= book.typical else 0  # a slice that no request fits into is of use to nobody

    def tick(self, *, alone: bool) -> list[Book]:
        """Which books to tell the store of at this tick: those that have moved, and those that hold anything unused, for that
        may have to shrink. What has lain still for `IDLE_TICKS` is not looked at until it moves again.
        """
        out = []
        for book in list(self._live):
            before, now = book.told, self._own(book, alone)
            moved = before is None or (now[0], now[2]) != (before[0], before[2])
            book.idle = 0 if moved else book.idle + 1
            if alone or book.idle <= 1 or before != now or book.room > 0 or self._has_slots(book):
                out.append(book)
            elif book.idle > IDLE_TICKS:
                book.wakes = self.watch
                del self._live[book]
        return out

    def ahead(self, some: Iterable[Book]) -> list[Want]:
        """Return what is held in ``some`` books for nothing, and say what to ask ahead."""
        now_ns, wants = self._now_ns(), []
        for book in some:
            if book.flight.ceiling is not None:
                book.flight.ceiling = book.flight.count
            open_now = book.start_ns <= now_ns < book.end_ns
            target = self._target(book) if open_now else 0
            if book.room > target:
                book.ceiling -= book.room - target
                book.reckon()
            elif open_now and book.left is not None and max(0, book.room) < target // 2:
                wants.append(self.want(book, 0, target - max(0, book.room)))
        return wants

    def reports(self, some: Iterable[Book], *, alone: bool) -> list[tuple[Book, Report]]:
        """One line per account of ``some`` books, and of their slots where these have moved."""
        out = []
        for book in some:
            now = self._own(book, alone)
            if not alone and now[1] + book.settled - book.parked != book.ceiling:
                # Work has outgrown its leases: the store books what it took beside what is held, and we hold that again.
                book.ceiling = now[1] + book.settled - book.parked
                book.reckon()
            out.append((book, Report(self.account(book), *now)))
            slots = self._slots(book, alone)
            if slots is not None and (alone or book.flight.told != slots):
                out.append((book, Report(self.slots(book), 0, *slots)))
        return out

    @staticmethod
    def _own(book: Book, alone: bool) -> tuple[int, int, int]:
        """Settled, held and reserved, as they are reported."""
        # What was allowed while the store was away is no holding of ours.
        held = book.reserved if alone else max(book.ceiling + book.parked - book.settled, book.reserved)
        return book.settled - book.base, held, book.reserved

    def _has_slots(self, book: Book) -> bool:
        """Whether it has slots to tell of, or to give back."""
        flight = book.flight
        return flight.ceiling is not None and (flight.ceiling != flight.count or flight.told != self._slots(book, False))

    @staticmethod
    def _slots(book: Book, alone: bool) -> tuple[int, int] | None:
        """Slots held and taken, as they are reported."""
        flight = book.flight
        if flight.ceiling is None:
            return None
        return flight.count if alone else max(flight.ceiling + flight.parked, flight.count), flight.count

    def apply(self, answer: Answer, reported: Sequence[tuple[Book, Report]], groups: Sequence[Sequence[Want]]) -> None:
        """Take note of what the store knows now of this worker and of all others, and raise ceilings by what was granted."""
        if answer.stale:
            return
        self.holders = max(1, answer.holders)
        granted: dict[tuple[object, ...], int] = {}
        for book, _ in reported:
            book.denied = (0, 0)
        denied_ns = self._now_ns() + DENIED_NS
        for group, grant in zip(groups, answer.grants, strict=True):
            for place, (ask, book) in enumerate(group):
                if grant is None:
                    if len(group) == 1 and ask.need and ask.account.resource != "slots":
                        book.denied = (ask.need, denied_ns)
                    continue
                granted[ask.account[:5]] = granted.get(ask.account[:5], 0) + grant[place]
                if ask.account.resource != "slots":
                    book.ceiling += grant[place]
                elif book.flight.ceiling is not None:
                    book.flight.ceiling += grant[place]
                    book.flight.told = UNTOLD
                book.reckon()
        for book, report in reported:
            more = granted.get(report.account[:5], 0)
            if report.account.resource == "slots":
                book.flight.told = (report.held + more, report.reserved)
                continue
            state = answer.states[report.account[:5]]
            book.told = (report.settled, report.held + more, report.reserved)
            book.elsewhere = max(0, state.settled + state.reserved - report.settled - report.reserved - book.base)
            book.elsewhere_reserved = min(book.elsewhere, max(0, state.reserved - report.reserved))
            book.left, book.expired = book.budget.limit.amount - state.committed, state.expired
            book.reckon()

    # -- accounts

    def want(self, book: Book, need: int, want: int) -> Want:
        """An ask for ``book``."""
        return Ask(self.account(book), book.budget.limit.amount, need, want), book

    def name(self, budget: Budget) -> str:
        """What the store calls ``budget``."""
        return budget.name + self._instance if budget.scope == "instance" else budget.name

    def account(self, book: Book) -> Account:
        """What the store knows ``book`` as."""
        budget, start_s = book.budget, book.start_ns // 10**9
        earlier: tuple[int, ...] = ()
        later: tuple[int, ...] = ()
        until_s = book.until_ns // 10**9
        if budget.sliding:
            length, each = SLIDING[budget.per]
            earlier = tuple(range(start_s - length, start_s, each))
            # One that is about to begin may have begun where a clock is ahead of ours.
            later = tuple(range(start_s + each, min(until_s, self._now_ns() // 10**9 + each + 1), each))
        return Account(self.name(budget), budget.resource, book.key, start_s, until_s, earlier, later)

    def slots(self, book: Book) -> Account:
        """What the store knows its ``max_in_flight`` as."""
        return Account(self.name(book.budget), "slots", book.key, 0, 0)
