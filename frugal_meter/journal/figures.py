"""Period figures of a journal: the one way from what is kept to what may be cited."""

from __future__ import annotations

from ..errors import ConfigurationError
from ..periods import REQUEST, Period, period
from .store import JournalStore, Range


def span_of(store: JournalStore, begin_ns: int | None = None, end_ns: int | None = None) -> Range:
    """A range of Unix nanoseconds; what is not given is the first or the last moment kept. Raises ConfigurationError."""
    told = store.info()
    if told["begin_ns"] is None:
        raise ConfigurationError(f"journal {store.name}: is empty")
    within = (told["begin_ns"] if begin_ns is None else begin_ns, told["end_ns"] + 1 if end_ns is None else end_ns)
    if within[0] >= within[1]:
        raise ConfigurationError("the period ends before it begins")
    return within


def figures_of(store: JournalStore, within: Range, unit: str = REQUEST) -> Period:
    """What the service cost within a range, per ``unit`` delivered. Raises ConfigurationError where it is not of one service."""
    if len(names := store.services()) > 1:
        raise ConfigurationError(
            f"journal {store.name}: holds {len(names)} services ({', '.join(names)}), and figures are one service's; give each a "
            "journal of its own"
        )
    books = (row.books for row in store.passes(within))
    return period(books, store.tallies(within), begin_s=within[0] / 1e9, end_s=within[1] / 1e9, unit=unit)
