"""What a journal holds of a period, as far as it may be made public: its figures, the PUE behind them, what budgets did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ..journal.store import JournalStore
from ..periods import Pass, Period, merged, period
from ..records import Interval
from .document import Code

Row = TypeVar("Row")
#: in a serving process the reader lets go of the interpreter after so many rows
_ROWS: Final = 50
_PAUSE_S: Final = 0.001


class Kept(NamedTuple):
    """The figures of a period, the PUEs that weighed them, what each budget did (by name and action), and their fingerprint."""

    figures: Period
    pues: tuple[Interval, ...]
    acted: Mapping[tuple[str, str], int]
    sha256: str


def kept_of(journal: JournalStore, begin: datetime, end: datetime, unit: str, *, gently: bool = False) -> Kept | Code:
    """What ``journal`` holds between two moments, or why that is nothing. Raises StoreError.

    ``gently``: beside a running service, which must not wait for it.
    """
    within = (round(begin.timestamp() * 1e9), round(end.timestamp() * 1e9))
    pues: dict[Interval, None] = {}
    rows = (row.books for row in journal.passes(within))
    folded = list(_folded(_gently(rows) if gently else rows, pues))
    if not folded:
        return "no_books"
    tallies = journal.tallies(within)
    found = period(
        folded, _gently(tallies) if gently else tallies, begin_s=within[0] / 1e9, end_s=within[1] / 1e9, unit=unit
    )  # fmt: skip
    acted = Counter((e.budget, e.action) for e in journal.decisions() if within[0] <= e.at_s * 1e9 < within[1])
    return Kept(found, tuple(pues), acted, fingerprint(found))


def fingerprint(of: Period) -> str:
    """sha256 of the figures as JSON: who holds the journal can show that a declaration is of it.

    Sums are of nine digits: the last ones of a float differ when the books are sums by the hour by then.
    """
    return sha256(msgspec.json.encode(_nine_digits(msgspec.to_builtins(of)), order="deterministic")).hexdigest()


def _nine_digits(of: Any) -> Any:
    if isinstance(of, dict):
        return {name: _nine_digits(value) for name, value in of.items()}
    if isinstance(of, list | tuple):
        return [_nine_digits(value) for value in of]
    return float(f"{of:.9g}") if isinstance(of, float) else of


def _folded(passes: Iterable[Pass], pues: dict[Interval, None]) -> Iterator[Pass]:
    """The same books with those of one process and weight in one: a month of ticks is millions, its stretches are few."""
    open_now: dict[str, Pass] = {}
    for each in passes:
        pues[each.weight.pue] = None
        before = open_now.get(each.process)
        both = None if before is None else merged(before, each)
        if both is None and before is not None:
            yield before
        open_now[each.process] = both or each
    yield from open_now.values()


def _gently(rows: Iterable[Row]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        yield row
        if number % _ROWS == 0:
            time.sleep(_PAUSE_S)
