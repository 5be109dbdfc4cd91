"""The books of one worker: every lease is taken and settled here. Alone they are exact for one worker; with a shared store
behind them (`sharing`) each holds what it was granted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, cast

import msgspec

from ...records import Decision
from ..budget import Budget
from ..ladder import strongest
from ..leases import Action, Book, Claim, Lease, Reason, Verdict
from ..pace import line_at
from ..retry import fits_at_ns

#: a budget per tenant must not become a memory leak: beyond this, keys share one book
MAX_KEYS = 10_000
OTHER: Final = "other"
#: what a shared store was not told while it was away is kept this long
_OWED_NS = 86_400 * 10**9
_MILLI = 1000
_FORGET_NS: Final = 10**9
Name = tuple[str, tuple[str, ...]]


class MemoryStore:
    """All-or-nothing admission under one short lock; settlement is idempotent per lease."""

    def __init__(self) -> None:
        self._begin()
        self._books: dict[Name, Book] = {}
        self._closed: dict[Name, list[Book]] = {}
        #: books of budgets that a reload has put away: where they are, and what was committed when last looked at
        self._gone: dict[Book, tuple[Name, int]] = {}
        self._forgot_ns = -_FORGET_NS
        self._in_force: dict[str, Budget] | None = None  # by name; None for as long as nothing was reloaded
        #: whether ceilings are granted by a shared store
        self.shared = False
        #: whether a file is told of all that moves
        self.kept = False
        #: whether that store is away, and whether nothing may be admitted without it
        self.store_away = self.closed_by_store = False
        #: called with the lock held for every book made for a shared store
        self.on_new: Callable[[Book], None] = lambda book: None

    def _begin(self) -> None:
        # Held by whoever reads or changes a book. The garbage collector may run a generator's last lines at any moment, in the
        # middle of a step under this very lock too: what ends there must not wait for itself.
        self.lock = threading.RLock()
        self._late: deque[tuple[Iterable[Lease], Sequence[int | None]]] = deque()

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread holds the lock already."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]  # as `threading.Condition` asks

    # -- admission

    def admit(self, claims: Sequence[Claim], now_ns: int, *, asked: bool = False, last: bool = False) -> Verdict:
        """Reserve every claim or none; a refusal consumes nothing.

        A budget that only watches, or whose tier forbids refusing, reserves all the same. ``asked``: the shared store has
        just been asked. ``last``: there is no more time to wait for a turn.
        """
        with self.lock:
            return self.judge(claims, now_ns, asked=asked, last=last)

    def judge(
        self,
        claims: Sequence[Claim],
        now_ns: int,
        *,
        asked: bool = False,
        last: bool = False,
        unanswered: bool = False,
        behind: Container[Name] = (),
    ) -> Verdict:
        """`admit`, for who holds the lock. ``unanswered``: the shared store was asked and has not answered in time.
        ``behind``: what others wait for, who come first.
        """
        decision: Decision = "admit"
        actions: list[Action] = []
        books: list[Book] = []
        then: Literal["done", "ask", "wait"] = "done"
        refusing: tuple[int, int, Book, Reason] | None = None
        for place, claim in enumerate(claims):
            book = self.book(claim.budget, claim.key, now_ns)
            books.append(book)
            verdict, action, reason = _judge(book, claim, now_ns, asked)
            if self.closed_by_store and claim.may_refuse and claim.budget.enforce:
                verdict, action, reason = "refuse", "refuse", "store"
            if reason == "limit" and (unanswered or self.store_away) and book.fits(claim.estimate):
                reason = "store"  # nobody has said that the budget is spent
            if verdict == "wait" and last:
                verdict, action, reason = "refuse", "refuse", "throttled" if reason != "in_flight" else reason
            elif verdict != "refuse" and (book.budget.name, book.key) in behind and claim.may_refuse and claim.budget.enforce:
                verdict, action, reason = "refuse", "refuse", "throttled"
            actions.append(action)
            if verdict == "refuse":
                # Of several the one that keeps the client away longest: who comes back when told must not find the next.
                until_ns = fits_at_ns(book, self.earlier(book), claim.estimate, now_ns) if reason == "limit" else now_ns
                if refusing is None or until_ns > refusing[0]:
                    refusing = until_ns, place, book, reason
            elif verdict == "wait" or verdict == "ask":
                then = "wait" if "wait" in (verdict, then) else "ask"
            else:
                decision = strongest(decision, verdict) or decision
        if refusing is not None:
            _, place, book, reason = refusing
            book.refused += 1
            return Verdict("refuse", actions[: place + 1], [], book, reason)
        if then != "done":
            return Verdict(decision, [], [], then=then)
        leases = [self.reserve(book, each.estimate, each.learn_as, each.size) for book, each in zip(books, claims, strict=True)]
        return Verdict(decision, actions, leases)

    @staticmethod
    def reserve(book: Book, estimate: int, learn_as: tuple[str | None, str | None], size: str | None = None) -> Lease:
        """Take ``estimate`` out of ``book``; the caller holds the lock and has judged."""
        book.reserved += estimate
        book.flight.count += 1
        if book.shared:
            book.note()
        return Lease(book, estimate, learn_as, size)

    @staticmethod
    def undo(leases: Iterable[Lease]) -> None:
        """Give back what was reserved for work that did not begin; the caller holds the lock."""
        for lease in leases:
            lease.charged_milli = 0
            lease.book.reserved -= lease.amount
            lease.book.flight.count -= 1
            lease.book.note()

    def top_up(self, lease: Lease, more: int, least: int) -> int:
        """Reserve ``more`` for running work, or what is left when that is at least ``least``; returns what was reserved."""
        with self.lock:
            if lease.charged_milli is not None:
                return 0
            book = lease.book
            room = book.room
            if book.budget.sliding and not book.shared:
                room = min(self._slid_room(each) for each in (book, *self._later(book)))
            amount = more if more <= room else room
            if amount < least:
                return 0
            self.enlarge(lease, amount)
            return amount

    @staticmethod
    def enlarge(lease: Lease, amount: int) -> None:
        """Reserve ``amount`` more (or less, down to nothing) for ``lease``; the caller holds the lock and has judged."""
        lease.book.reserved += amount
        lease.more += amount
        if lease.book.shared:
            lease.book.note()

    # -- settlement

    def settle(self, leases: Iterable[Lease], amounts_milli: Sequence[int | None]) -> None:
        """Release each reservation and charge what was used, in thousandths of the unit; None charges the reservation.

        In the middle of another step of the same thread it is put off until `settle_late`, at the next tick at the latest.
        """
        lock = self.lock
        if lock._is_owned():  # type: ignore[attr-defined]  # `is_mine`, without the call
            self._late.append((leases, amounts_milli))
            return
        with lock:
            for place, lease in enumerate(leases):  # a strict `zip` costs as much as all the rest
                if lease.charged_milli is not None:
                    continue
                book, milli = lease.book, amounts_milli[place]
                reserved = lease.estimate + lease.more
                book.flight.count -= 1
                if milli is None:
                    milli, lease.blind = reserved * _MILLI, True
                lease.charged_milli = milli
                whole, book.carry = divmod(book.carry + milli, _MILLI)  # `_charge`, without the call
                book.settled += whole
                book.reserved -= reserved
                if book.shared:
                    book.note()

    def settle_late(self) -> None:
        """Settle what ended in the middle of another step."""
        while self._late:
            self.settle(*self._late.popleft())

    def correct(self, corrections: Mapping[Book, int]) -> None:
        """Apply one summed correction per book, in thousandths of the unit (the tick's, after settlement)."""
        with self.lock:
            for book, milli in corrections.items():
                # Floor division with a carried remainder: corrections may be negative.
                whole, book.carry = divmod(book.carry + milli, _MILLI)
                book.settled += whole
                book.note()

    # -- books

    def books(self, now_ns: int) -> list[Book]:
        """The books of the windows now open; a budget for the whole service always has one, a key one once it was seen."""
        with self.lock:
            seen = [b for b in self._books.values() if not b.key or b.start_ns <= now_ns < b.end_ns or b.flight.count]
            return [self.book(book.budget, book.key, now_ns) for book in seen]

    def every(self) -> Iterator[Book]:
        """All books, those of windows that have ended included; the caller holds the lock."""
        yield from list(self._books.values())
        for closed in list(self._closed.values()):
            yield from list(closed)

    def open(self, budget: Budget, now_ns: int) -> None:
        """Make the book of a service-wide budget exist before the first request."""
        if not budget.key:
            with self.lock:
                self.book(budget, (), now_ns)

    def share(self) -> None:
        """From now on a shared store grants: nobody may commit more than is committed already."""
        with self.lock:
            self.shared = True
            for book in self.every():
                book.shared, book.ceiling = True, book.committed
                book.flight.ceiling = None if book.budget.max_in_flight is None else book.flight.count
                self.on_new(book)
                book.reckon()

    def reload(self, budgets: Sequence[Budget]) -> None:
        """Put ``budgets`` in the place of those of their names. What was counted stays where it still means the same.

        The caller holds the lock.
        """
        self._in_force = {budget.name: budget for budget in budgets}
        for name, book in list(self._books.items()):
            budget = self._in_force.get(book.budget.name)
            if budget is None or not budget.counts_like(book.budget):
                del self._books[name]
                self._closed.setdefault(name, []).append(book)
                self._gone |= dict.fromkeys(self._closed[name], (name, -1))
                continue
            for each in (book, *self._closed.get(name, ())):
                if not each.budget.counts_like(budget):
                    continue  # of a budget of the same name, changed before
                if not each.shared:
                    each.ceiling += budget.limit.amount - each.budget.limit.amount
                    each.flight.ceiling = budget.max_in_flight
                elif budget.max_in_flight is None or each.flight.ceiling is None:
                    each.flight.ceiling = None if budget.max_in_flight is None else each.flight.count
                each.budget = budget
                each.reckon()

    def let_go(self, now_ns: int) -> None:
        """Drop books of budgets that a reload has put away, once nothing runs under them, whoever keeps them has heard of it and
        they have not moved since the last call: the tick that follows a settlement may yet correct it.
        """
        with self.lock:
            for book, (name, seen) in list(self._gone.items()):
                self._gone[book] = name, book.committed
                runs = book.reserved or book.flight.count
                if runs or book.committed != seen or (self._is_owed(book) and now_ns < book.until_ns + _OWED_NS):
                    continue
                del self._gone[book]
                if closed := [each for each in self._closed.pop(name, ()) if each is not book]:
                    self._closed[name] = closed

    def in_force(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """What of ``claims``, which may be older than the last reload, is still asked; the caller holds the lock."""
        budgets = self._in_force
        if budgets is None or all(budgets.get(claim.budget.name) is claim.budget for claim in claims):
            return claims
        pairs = [(claim, budgets.get(claim.budget.name)) for claim in claims]
        return [
            msgspec.structs.replace(claim, budget=budget)
            for claim, budget in pairs
            if budget is not None and budget.counts_like(claim.budget)
        ]

    def after_fork_in_child(self) -> None:
        """A lock that the parent held would stay locked for ever; leases in flight stay the parent's."""
        self._begin()
        for book in self.every():
            book.reserved = book.flight.count = 0

    def book(self, budget: Budget, key: tuple[str, ...], now_ns: int) -> Book:
        """The book of the window that holds ``now_ns`` (Unix time); the caller holds the lock."""
        book = self._books.get((budget.name, key))
        if book is None or not book.start_ns <= now_ns < book.end_ns:
            book = self._turn(budget, key, now_ns, book)
        if budget.sliding and not book.shared:
            self._slide(book)
        return book

    def part(self, budget: Budget, key: tuple[str, ...], start_s: int, now_ns: int) -> Book:
        """The book of the window, or of the part of a sliding one, that began at ``start_s``; the caller holds the lock."""
        book, start_ns = self.book(budget, key, now_ns), start_s * 10**9
        if book.start_ns == start_ns:
            return book
        closed = self._closed.setdefault((budget.name, book.key), [])
        found = next((each for each in closed if each.start_ns == start_ns and each.budget is budget), None)
        if found is None:
            found = Book(budget, book.key, budget.window(start_s), book.flight, shared=self.shared)
            closed.append(found)
        return found

    def _turn(self, budget: Budget, key: tuple[str, ...], now_ns: int, before: Book | None) -> Book:
        name = (budget.name, key)
        if before is None and key and len(self._books) >= MAX_KEYS:
            self._forget(now_ns)
            if len(self._books) >= MAX_KEYS and key != (OTHER,) * len(key):
                return self.book(budget, (OTHER,) * len(key), now_ns)
        window_s = budget.window(now_ns / 1e9)
        closed = self._closed.pop(name, [])
        # A clock that was set back opens the same window again, with what was spent in it.
        again = next((b for b in closed if b.start_ns == window_s[0] * 10**9 and b.budget is budget), None)
        book = again or Book(budget, key, window_s, before.flight if before is not None else None, shared=self.shared)
        closed = [b for b in closed if b is not book and self._counts(b, now_ns)]
        if before is not None:  # however long ago: it is a jump of the clock that may have ended it, and may be taken back
            closed.append(before)
        if closed:
            self._closed[name] = closed
        self._books[name] = book
        if self.shared and again is None:
            self.on_new(book)
        return book

    def _counts(self, book: Book, now_ns: int) -> bool:
        """Whether a book that is no longer charged must be kept: it is in a sliding window, owed to the store, or may yet be
        charged by running work. One window more is kept for a clock that is set back.
        """
        last = now_ns < book.end_ns + (book.end_ns - book.start_ns)
        return book.until_ns > now_ns or last or book.reserved > 0 or (self._is_owed(book) and now_ns < book.until_ns + _OWED_NS)

    def _is_owed(self, book: Book) -> bool:
        """Whether a shared store, or the file beside this memory, has yet to hear of what is settled here."""
        told = 0 if book.told is None else book.told[0]
        return (book.shared or self.kept) and told != book.settled - book.base

    def _slide(self, book: Book) -> None:
        """Count the earlier parts of an unshared sliding window."""
        earlier = self.earlier(book)
        elsewhere, book.elsewhere_reserved = sum(b.committed for b in earlier), sum(b.reserved for b in earlier)
        if elsewhere != book.elsewhere:
            book.elsewhere, book.ceiling = elsewhere, book.budget.limit.amount - elsewhere
            book.reckon()

    def _slid_room(self, book: Book) -> int:
        self._slide(book)
        return book.room

    def _later(self, book: Book) -> list[Book]:
        """The books of later parts of a sliding window that count with ``book``: what is added to it is theirs no more."""
        name = book.budget.name, book.key
        each = (*self._closed.get(name, ()), *((self._books[name],) if name in self._books else ()))
        return [b for b in each if b.budget is book.budget and book.start_ns < b.start_ns < book.until_ns]

    def is_latest(self, book: Book) -> bool:
        """Whether work that comes now is charged to ``book`` and no later part, as far as any has come since."""
        return self._books.get((book.budget.name, book.key)) is book

    def earlier(self, book: Book) -> list[Book]:
        """The books of the earlier parts of a sliding window that still count with ``book``, oldest first."""
        closed = self._closed.get((book.budget.name, book.key), ())
        return sorted(
            (b for b in closed if b.budget.sliding and b.start_ns < book.start_ns < b.until_ns), key=lambda b: b.start_ns
        )

    def _forget(self, now_ns: int) -> None:
        """Drop the books of keys not seen since their window ended; once a second, for it looks at all of them."""
        if 0 <= now_ns - self._forgot_ns < _FORGET_NS:
            return
        self._forgot_ns = now_ns
        over = [
            k for k, b in self._books.items() if now_ns >= b.until_ns and not b.flight.count and b.key and not self._is_owed(b)
        ]
        for key in over:
            del self._books[key]
            self._closed.pop(key, None)


def _judge(book: Book, claim: Claim, now_ns: int, asked: bool) -> tuple[Decision | Literal["ask", "wait"], Action, Reason]:
    """What ``book`` says to ``claim``: the decision that takes effect ("ask" and "wait" are none yet), what to count it as,
    and why it does not fit.
    """
    budget = claim.budget
    over = book.settled + book.reserved + claim.estimate > book.ceiling
    full = book.flight.is_full
    rung = book.step()
    may_refuse = claim.may_refuse and budget.enforce
    if not over and not full and rung != "throttle":
        if rung == "degrade" and not budget.enforce:
            return "warn", "warn", "limit"  # a budget that only watches degrades nothing
        return rung, cast("Action", rung), "limit"
    if not may_refuse:
        over = not book.fits(claim.estimate)
        weaker: Literal["degrade", "warn"] = (
            ("degrade" if budget.degrade_at is not None else "warn") if budget.enforce else "warn"
        )
        return weaker, "would_refuse" if over or full else weaker, "limit"
    reason: Reason = "limit" if over else "in_flight" if full else "throttled"
    if rung == "throttle" and book.fits(claim.estimate):
        if book.committed_by_all + claim.estimate > line_at(book, now_ns):
            return "wait", "throttle", reason if full else "throttled"  # its turn comes with time
        if not (over or full):
            return "throttle", "throttle", reason
    if book.shared and not asked and not book.is_denied(claim.estimate, now_ns):
        return "ask", "admit", reason
    if budget.throttle_at is not None and _gives_back(book, claim.estimate):
        return "wait", "throttle", reason
    return "refuse", "refuse", reason


def _gives_back(book: Book, estimate: int) -> bool:
    """Whether what is in the way may yet be given back: by work that runs, here or elsewhere, or of others' unused slices."""
    return bool(book.flight.count or book.elsewhere_reserved or (book.shared and book.fits(estimate)))
