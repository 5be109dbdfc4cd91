"""Budgets in this process's memory: exact for one worker, and for one worker only."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from ...records import Decision
from ..budget import Budget
from ..ladder import decide, strongest
from ..leases import Book, Claim, Lease
from ..windows import window_at

#: a budget per tenant must not become a memory leak: beyond this, keys share the book "other"
MAX_KEYS = 10_000
_MILLI = 1000


class MemoryStore:
    """All-or-nothing admission under one short lock; settlement is idempotent per lease."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held by whoever reads or changes a book
        self._books: dict[tuple[str, tuple[str, ...]], Book] = {}

    def admit(self, claims: Sequence[Claim], now_ns: int) -> tuple[Decision, list[Lease], Book | None]:
        """Reserve every claim or none: ``(decision, leases, the book that refused)``.

        A refusal consumes nothing. A budget that only watches, or whose tier forbids refusing, reserves all the same.
        """
        decision: Decision = "admit"
        with self.lock:
            books = []
            for claim in claims:
                book = self.book(claim.budget, claim.key, now_ns)
                books.append(book)
                verdict = self._verdict(book, claim)
                if verdict == "refuse" and claim.may_refuse and claim.budget.enforce:
                    book.refused += 1
                    return "refuse", [], book
                if verdict == "refuse":
                    verdict = "degrade" if claim.budget.degrade_at is not None else "warn"
                if not claim.budget.enforce:
                    verdict = "warn" if verdict != "admit" else "admit"
                decision = strongest(decision, verdict) or decision
            leases = []
            for book, claim in zip(books, claims, strict=True):
                book.reserved += claim.estimate
                book.in_flight += 1
                leases.append(Lease(book, claim.estimate))
        return decision, leases, None

    def settle(self, leases: Iterable[Lease], amounts_milli: Iterable[int | None]) -> None:
        """Release each reservation and charge what was used, in thousandths of the unit; None charges the estimate."""
        with self.lock:
            for lease, milli in zip(leases, amounts_milli, strict=True):
                if lease.charged_milli is not None:
                    continue
                book = lease.book
                book.reserved -= lease.estimate
                book.in_flight -= 1
                lease.charged_milli = lease.estimate * _MILLI if milli is None else milli
                _charge(book, lease.charged_milli)

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
            book.reserved = book.in_flight = 0

    def book(self, budget: Budget, key: tuple[str, ...], now_ns: int) -> Book:
        """The book of the window that holds ``now_ns`` (Unix time); the caller holds the lock."""
        book = self._books.get((budget.name, key))
        if book is not None and now_ns < book.end_ns:
            return book
        if book is None and key and len(self._books) >= MAX_KEYS:
            return self.book(budget, ("other",) * len(key), now_ns) if key[0] != "other" else self._new(budget, key, now_ns)
        return self._new(budget, key, now_ns)

    def _new(self, budget: Budget, key: tuple[str, ...], now_ns: int) -> Book:
        start_s, end_s = window_at(budget.per, budget.zone, now_ns / 1e9)
        book = self._books[budget.name, key] = Book(budget, key, start_s * 10**9, end_s * 10**9)
        return book

    @staticmethod
    def _verdict(book: Book, claim: Claim) -> Decision:
        budget = claim.budget
        if budget.max_in_flight is not None and book.in_flight >= budget.max_in_flight:
            return "refuse"
        committed = book.settled + book.reserved
        return decide(committed, claim.estimate, budget.limit.amount, budget.warn_at, budget.degrade_at)


def _charge(book: Book, milli: int) -> None:
    # Floor division with a carried remainder: ten thousand requests of 400 nJ are 4 mJ, and corrections may be negative.
    whole, book.carry = divmod(book.carry + milli, _MILLI)
    book.settled += whole
