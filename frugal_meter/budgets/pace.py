"""The pace of a budget on its throttle rung: what is left above ``throttle_at`` is given out evenly until the window ends.

The line that committed may not pass rises from ``throttle_at`` of the limit, when the window begins, to the whole limit when it
ends: pacing leaves nothing over, and who comes late finds as much as who came early. It is a function of the clock and of what is
committed alone: a restart, or another worker, finds it where it was. In a sliding window each part has a line of its own: from
what earlier parts have committed, if that is more, to the limit.
"""

from __future__ import annotations

from .leases import Book


def _floor(book: Book) -> int:
    budget = book.budget
    floor = int(budget.limit.amount * (1.0 if budget.throttle_at is None else budget.throttle_at))
    if budget.sliding and not book.shared:  # of a shared one nobody tells apart what others committed in which part
        floor = max(floor, min(book.elsewhere, budget.limit.amount))
    return floor


def line_at(book: Book, now_ns: int) -> int:
    """How much may be committed over all workers at ``now_ns`` (Unix time), in the budget's integer unit."""
    floor, limit = _floor(book), book.budget.limit.amount
    gone = min(max(now_ns - book.start_ns, 0), book.end_ns - book.start_ns)
    return floor + (limit - floor) * gone // (book.end_ns - book.start_ns)


def opens_at_ns(book: Book, committed: int, now_ns: int) -> int:
    """When the line reaches ``committed``, Unix time, ``now_ns`` at the earliest; beyond the limit: when the window ends."""
    floor, limit = _floor(book), book.budget.limit.amount
    if committed <= floor:
        return now_ns
    if committed > limit:
        return max(now_ns, book.end_ns)
    return max(now_ns, book.start_ns - (book.start_ns - book.end_ns) * (committed - floor) // (limit - floor))
