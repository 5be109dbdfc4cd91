"""Budgets in this process's memory: exact for one worker, and for one worker only."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from ...records import Decision
from ..budget import Budget
from ..ladder import decide, strongest
from ..leases import Action, Book, Claim, Lease, Verdict
from ..windows import window_at

#: a budget per tenant must not become a memory leak: beyond this, keys share the book "other"
MAX_KEYS = 10_000
_MILLI = 1000


class MemoryStore:
    """All-or-nothing admission under one short lock; settlement is idempotent per lease."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held by whoever reads or changes a book
        self._books: dict[tuple[str, tuple[str, ...]], Book] = {}

    def admit(self, claims: Sequence[Claim], now_ns: int) -> Verdict:
        """Reserve every claim or none; a refusal consumes nothing.

        A budget that only watches, or whose tier forbids refusing, reserves all the same.
        """
        decision: Decision = "admit"
        actions: list[Action] = []
        with self.lock:
            books = []
            for claim in claims:
                book = self.book(claim.budget, claim.key, now_ns)
                books.append(book)
                verdict, action = judge(book, claim)
                actions.append(action)
                if verdict == "refuse":
                    book.refused += 1
                    spent = book.committed + claim.estimate > claim.budget.limit.amount
                    return Verdict("refuse", actions, [], book, "limit" if spent else "in_flight")
                decision = strongest(decision, verdict) or decision
            leases = [self.reserve(book, claim.estimate, claim.learn_as) for book, claim in zip(books, claims, strict=True)]
        return Verdict(decision, actions, leases)

    @staticmethod
    def reserve(book: Book, estimate: int, learn_as: tuple[str | None, str | None]) -> Lease:
        """Take ``estimate`` out of ``book``; the caller holds the lock and has judged."""
        book.reserved += estimate
        book.flight.count += 1
        return Lease(book, estimate, learn_as)

    def settle(self, leases: Iterable[Lease], amounts_milli: Sequence[int | None]) -> None:
        """Release each reservation and charge what was used, in thousandths of the unit; None charges the estimate."""
        with self.lock:
            for place, lease in enumerate(leases):  # a strict `zip` costs as much as all the rest
                if lease.charged_milli is not None:
                    continue
                book, milli = lease.book, amounts_milli[place]
                book.reserved -= lease.estimate
                book.flight.count -= 1
                lease.charged_milli = milli = lease.estimate * _MILLI if milli is None else milli
                whole, book.carry = divmod(book.carry + milli, _MILLI)  # `_charge`, without the call
                book.settled += whole

    def correct(self, corrections: Mapping[Book, int]) -> None:
        """Apply one summed correction per book, in thousandths of the unit (the tick's, after settlement)."""
        with self.lock:
            for book, milli in corrections.items():
                _charge(book, milli)

    def books(self, now_ns: int) -> list[Book]:
        """The books of the windows now open; a budget for the whole service always has one."""
        with self.lock:
            return [self.book(book.budget, book.key, now_ns) for book in list(self._books.values())]

    def open(self, budget: Budget, now_ns: int) -> None:
        """Make the book of a service-wide budget exist before the first request."""
        if not budget.key:
            with self.lock:
                self.book(budget, (), now_ns)

    def after_fork_in_child(self) -> None:
        """A lock that the parent held would stay locked for ever; leases in flight stay the parent's."""
        self.lock = threading.Lock()
        for book in self._books.values():
            book.reserved = book.flight.count = 0

    def book(self, budget: Budget, key: tuple[str, ...], now_ns: int) -> Book:
        """The book of the window that holds ``now_ns`` (Unix time); the caller holds the lock."""
        book = self._books.get((budget.name, key))
        if book is not None and now_ns < book.end_ns:
            return book
        if book is None and key and len(self._books) >= MAX_KEYS:
            self._forget(now_ns)
            if len(self._books) >= MAX_KEYS and key[0] != "other":
                return self.book(budget, ("other",) * len(key), now_ns)
        start_s, end_s = window_at(budget.per, budget.zone, now_ns / 1e9)
        flight = book.flight if book is not None else None
        new = self._books[budget.name, key] = Book(budget, key, start_s * 10**9, end_s * 10**9, flight)
        return new

    def _forget(self, now_ns: int) -> None:
        """Drop the books of keys not seen since their window ended."""
        over = [k for k, b in self._books.items() if now_ns >= b.end_ns and not b.flight.count and b.key]
        for key in over:
            del self._books[key]


def judge(book: Book, claim: Claim) -> tuple[Decision, Action]:
    """What ``book`` says to ``claim``: the decision that takes effect, and what to count it as."""
    budget = claim.budget
    verdict = decide(book.committed, claim.estimate, budget.limit.amount, budget.warn_at, budget.degrade_at)
    if book.is_full:
        verdict = "refuse"
    if verdict == "refuse" and not (claim.may_refuse and budget.enforce):
        return ("degrade" if budget.enforce and budget.degrade_at is not None else "warn"), "would_refuse"
    if verdict == "degrade" and not budget.enforce:
        return "warn", "warn"  # a budget that only watches degrades nothing
    return verdict, cast("Action", verdict)


def _charge(book: Book, milli: int) -> None:
    # Floor division with a carried remainder: ten thousand requests of 400 nJ are 4 mJ, and corrections may be negative.
    whole, book.carry = divmod(book.carry + milli, _MILLI)
    book.settled += whole
