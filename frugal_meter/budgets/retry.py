"""When a refused request may come again: the moment its estimate fits, not just the end of a window."""

from __future__ import annotations

from collections.abc import Sequence

from .leases import Book


def fits_at_ns(book: Book, earlier: Sequence[Book], estimate: int, now_ns: int) -> int:
    """Unix time at which ``estimate`` fits into ``book``'s budget if nothing else is spent meanwhile.

    A fixed window empties when it ends. A sliding one empties part by part, as its ``earlier`` parts (oldest first) cease to
    count; what other workers have spent in it is taken to be in the latest part.
    """
    excess = book.committed_by_all + estimate - book.budget.limit.amount
    if excess <= 0:
        return now_ns + 1_000_000_000  # unused slices are in the way, or a store that is away: for some ticks
    if not book.budget.sliding:
        return book.end_ns
    for part in earlier:
        excess -= part.committed
        if excess <= 0:
            return max(now_ns, part.until_ns)
    return book.until_ns
