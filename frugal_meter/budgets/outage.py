"""What a worker may commit while its shared store is away, as ``on_store_error`` says.

"local" lets each worker spend its even part of what was left when it last looked. Others may have been granted some of that
since: of ``n`` workers each then counts on a ``n``-th of it too much, so that together they exceed the limit by at most
``(n - 1) / n`` of what was granted between a worker's last look (a tick ago, at most) and the failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from .leases import Book, Claim, Verdict
from .slices import UNTOLD, Slices
from .stores.memory import MemoryStore, Name

OnStoreError = Literal["local", "open", "closed"]
ON_STORE_ERROR: Final[tuple[OnStoreError, ...]] = ("local", "open", "closed")
_UNLIMITED: Final = 2**62


class Outage:
    """Ceilings for the time without a store. Every method is for who holds the books' lock."""

    def __init__(self, books: MemoryStore, slices: Slices, policy: OnStoreError) -> None:
        self._books, self._slices, self._policy = books, slices, policy
        #: of a sliding window: what this worker may commit in all of it, and until when (Unix ns) what others spent counts
        self._caps: dict[Name, tuple[int, int]] = {}

    def begins(self) -> None:
        """The store has just failed."""
        self._slices.watch_all()
        self._books.store_away, self._books.closed_by_store = True, self._policy == "closed"
        every = list(self._books.every())
        newest: dict[Name, tuple[Book, int]] = {}  # of each sliding window the last part that anything is known of
        for book in every:
            if book.budget.sliding and book.left is not None:
                name = book.budget.name, book.key
                if name not in newest or newest[name][0].start_ns < book.start_ns:
                    newest[name] = book, book.left
        for name, (book, left) in newest.items():
            own = max(book.ceiling, book.committed) + sum(each.committed for each in self._books.earlier(book))
            self._caps[name] = own + max(0, left) // self._slices.holders, book.until_ns
        for book in every:
            self.allow(book)

    def allow(self, book: Book) -> None:
        """What this worker may commit in ``book`` until the store is back."""
        most = book.budget.max_in_flight
        if self._policy == "open":
            book.ceiling, book.flight.ceiling = _UNLIMITED, None if most is None else _UNLIMITED
        elif self._policy == "closed":
            book.ceiling = book.committed
        else:
            if book.budget.sliding:
                self._slide(book)
            elif book.left is None:
                book.ceiling += book.budget.limit.amount // self._slices.holders
            else:
                book.ceiling += max(0, book.left) // self._slices.holders
            if most is not None:
                book.flight.ceiling = max(1, most // self._slices.holders)
        book.reckon()

    def admit(self, claims: Sequence[Claim], now_ns: int) -> Verdict:
        """Decide over one whom the store has kept waiting for too long, and has not failed yet."""
        for claim in claims if self._policy == "open" else ():
            book = self._books.book(claim.budget, claim.key, now_ns)
            book.ceiling = max(book.ceiling, book.committed + claim.estimate)
            if book.flight.ceiling is not None:
                book.flight.ceiling = max(book.flight.ceiling, book.flight.count + 1)
            book.reckon()
        return self._books.judge(claims, now_ns, asked=True, last=True, unanswered=True)

    def _slide(self, book: Book) -> None:
        """The latest part may take what this worker's part of the whole window leaves; earlier ones may grow no more."""
        if self._books.is_latest(book):
            name, earlier = (book.budget.name, book.key), self._books.earlier(book)
            for each in earlier:
                each.ceiling = each.committed
                each.reckon()
            cap, until_ns = self._caps.get(name, (0, 0))
            if book.start_ns >= until_ns:  # all that was known of the others has left the window, or nothing was
                cap = book.budget.limit.amount // self._slices.holders
            book.ceiling = max(book.committed, cap - sum(each.committed for each in earlier))
        else:
            book.ceiling = book.committed

    def ends(self) -> None:
        """The store is back: what was allowed for the time alone is over."""
        self._caps = {}
        self._books.store_away = self._books.closed_by_store = False
        for book in self._books.every():
            book.ceiling, book.idle = book.committed, 0
            # What an exchange that failed asked for may have been granted all the same: all is told again.
            book.flight.told = UNTOLD
            if book.flight.ceiling is not None:
                book.flight.ceiling = book.flight.count
            book.reckon()
