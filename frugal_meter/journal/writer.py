"""`Journal`: the exporter that keeps what settles. It works on an exporter's thread, never on the request path."""

from __future__ import annotations

import hmac
import itertools
import os
import time
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ..budgets.stores import Entry
from ..errors import ConfigurationError
from ..records import Reading, Tick, label
from .opening import is_server, open_store
from .rows import Batch, Feedback, PassRow, pass_of, reading_row, spans_of

if TYPE_CHECKING:
    from ..exporters.view import MeterView

#: readings that wait for a journal that cannot be written; beyond it the oldest batches are let go, and counted
MOST_WAITING: Final = 50_000
#: and ticks: two hours of them
MOST_BATCHES: Final = 14_400
#: seconds between two looks at what is old enough to be rolled up or deleted
TIDY_S: Final = 3600.0
KEY_VARIABLE: Final = "FRUGAL_JOURNAL_KEY"
Tenants = Literal["drop", "hash"]


class Journal:
    """A durable journal: ``Meter(journal="sqlite:////var/lib/frugal/journal.db")``, or a ``Journal(...)`` with settings.

    ``where`` is ``sqlite:///path`` or ``postgresql://user@host/database``. ``tenants``: "drop" keeps no tenant; "hash" a keyed
    hash of it (``$FRUGAL_JOURNAL_KEY``, at least 16 characters). Readings and ticks become sums by the hour after ``raw_days``,
    and are deleted after ``keep_days`` (None: never). Raises ConfigurationError for a place or a file that cannot be one.
    """

    needs_readings = True

    def __init__(
        self, where: str, *, tenants: Tenants = "drop", raw_days: float | None = 30, keep_days: float | None = None
    ) -> None:
        for name, days in (("raw_days", raw_days), ("keep_days", keep_days)):
            if days is not None and (isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days < 1e5):
                raise ConfigurationError(f"journal: {name}={days!r} cannot be: it is a number of days, or None for never")
        if tenants not in ("drop", "hash"):
            raise ConfigurationError(f'journal: tenants is "drop" or "hash", not {tenants!r}')
        self._key = _key() if tenants == "hash" else None
        self.raw_days, self.keep_days = raw_days, keep_days
        self.store = open_store(_address(where))
        self.dropped_readings = self.dropped_ticks = 0
        self._untold = (0, 0)  # losses that the journal does not know of yet
        self._numbers = itertools.count(1)
        self._waiting: deque[Batch] = deque()
        self._scores: deque[Feedback] = deque(maxlen=MOST_WAITING)
        self._meter: MeterView | None = None
        self._noted = 0
        self._tidied_s = 0.0
        self._pid = os.getpid()

    # -- an exporter

    def bind(self, meter: MeterView) -> None:
        """Look at this meter for what ticks do not say. Raises ConfigurationError where the journal is another service's."""
        self._meter = meter
        self.store.serve(meter.service)

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Keep what settled in one tick. Raises StoreError when it must wait; it is tried again with the next."""
        if self._pid != os.getpid():  # a fork: what waited is the parent's to keep
            self._pid = os.getpid()
            self._waiting.clear()
            self._scores.clear()
        self._waiting.append(self._batch(readings, ticks))
        self._let_go()
        self._flush()
        self._tidy()

    def stop(self) -> None:
        """Keep what still waits, and close the file. Raises StoreError."""
        try:
            if self._scores:
                self._waiting.append(Batch((), (), (), self._take_scores(), number=next(self._numbers)))
            self.store.hurry()
            self._flush()
        finally:
            self.store.close()

    def find(self, id: str) -> Reading | None:
        """The reading of that id, as it is kept; None where there is none. It reads: not for an event loop. Raises StoreError."""
        with self.store.reader() as store:
            return store.find(id)

    @property
    def waiting(self) -> int:
        """Readings that are not in the journal yet."""
        return sum(len(batch.readings) for batch in self._waiting)

    def feedback(self, reading_id: str, score: float, metric: str | None = None) -> None:
        """Note a score, 0…1, of a reading that may be long past; kept with the next tick. Raises ConfigurationError."""
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ConfigurationError(f"feedback: score={score!r} cannot be: it is a number from 0 to 1")
        if not isinstance(reading_id, str) or not _is_id(reading_id):
            raise ConfigurationError(f"feedback: {str(reading_id)[:64]!r} is no id of a reading (reading.id, a UUID)")
        if metric is not None and not isinstance(metric, str):
            raise ConfigurationError(f"feedback: metric={metric!r} is no name of a metric")
        metric = label(metric and metric.replace("\0", ""))  # which no database takes
        self._scores.append(Feedback(reading_id.lower(), time.time(), float(score), metric))

    # -- inside

    def _batch(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> Batch:
        meter = self._meter
        assert meter is not None
        passes = [self._pass(meter, ticks)] if ticks else []
        settled_ns = passes[0].books.t1_ns if passes else meter.clock.time_ns()
        rows = [reading_row(self._nameless(reading), settled_ns) for reading in readings]
        return Batch(passes, rows, self._decisions(meter), self._take_scores(), number=next(self._numbers))

    def _take_scores(self) -> list[Feedback]:
        return [self._scores.popleft() for _ in range(len(self._scores))]

    def _pass(self, meter: MeterView, ticks: Sequence[Tick]) -> PassRow:
        figures = meter.figures
        books = pass_of(
            figures,
            ticks,
            pue=figures.pue.interval,
            embodied_g=meter.ledger.embodied,
            embodied_spread=figures.embodied_spread,
            flags=figures.flags,
        )
        spans = {tick.source: spans_of(tick) for tick in ticks}
        return PassRow(books, spans if any(dynamic or idle for dynamic, idle in spans.values()) else {})

    def _decisions(self, meter: MeterView) -> list[Entry]:
        log = meter.admission.log
        new, self._noted = log.since(self._noted), log.noted
        keys = {budget.name: budget.key for budget in meter.admission.budgets} if new else {}
        return [entry._replace(key=self._nameless_key(entry, keys.get(entry.budget))) for entry in new]

    def _nameless(self, reading: Reading) -> Reading:
        if reading.tenant is None:
            return reading
        return msgspec.structs.replace(reading, tenant=self._hashed(reading.tenant))

    def _nameless_key(self, entry: Entry, names: tuple[str, ...] | None) -> tuple[str, ...]:
        if names is None or len(names) != len(entry.key):  # a budget that is no more: nobody knows what its key said
            return ()
        pairs = zip(names, entry.key, strict=True)
        # "…" is a tenant that the log left out by itself: see `budgets.decisions.shown_key`.
        return tuple(((v != "…" and self._hashed(v)) or "") if name == "tenant" else v for name, v in pairs)

    def _hashed(self, tenant: str) -> str | None:
        return None if self._key is None else hmac.new(self._key, tenant.encode(), sha256).hexdigest()[:16]

    def _flush(self) -> None:
        while self._waiting:
            if any(self._untold):
                # Part of it from now on: what may have been kept without an answer must not change before it is tried again.
                first = self._waiting[0]
                self._waiting[0], self._untold = first._replace(lost=_plus(first.lost, self._untold)), (0, 0)
            self.store.write(self._waiting[0])
            self._waiting.popleft()

    def _let_go(self) -> None:
        left = self.waiting if len(self._waiting) > 1 else 0
        while len(self._waiting) > 1 and (left > MOST_WAITING or len(self._waiting) > MOST_BATCHES):
            gone = self._waiting.popleft()
            readings, ticks = len(gone.readings), sum(len(row.books.books) for row in gone.passes)
            left -= readings
            self._untold = _plus(_plus(self._untold, gone.lost), (readings, ticks))
            self.dropped_readings += readings
            self.dropped_ticks += ticks

    def _tidy(self) -> None:
        now_s = time.monotonic()
        if self._meter is None or (self._tidied_s and now_s - self._tidied_s < TIDY_S):
            return
        self._tidied_s, unix_ns = now_s, self._meter.clock.time_ns()
        if self.raw_days is not None:
            self.store.roll_up(unix_ns - int(self.raw_days * 86_400e9))
        if self.keep_days is not None:
            self.store.purge(unix_ns - int(self.keep_days * 86_400e9), shrink=False)


def _address(where: object) -> str:
    """An address; raises ConfigurationError for what is none, a path above all: here it would be taken for a file's name."""
    if isinstance(where, str) and (is_server(where) or (where.startswith("sqlite:///") and len(where) > len("sqlite:///"))):
        return where
    raise ConfigurationError(
        f'journal is "sqlite:///path/to/journal.db", "postgresql://user@host/database" or a Journal, not {_shown(where)}'
    )


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def opened(journal: object) -> Journal | None:
    """What ``Meter(journal=…)`` was given, as a journal; raises ConfigurationError."""
    if journal is None or isinstance(journal, Journal):
        return journal
    return Journal(journal)  # type: ignore[arg-type]  # refused there, in one line


def _shown(where: object) -> str:
    # An address may carry a password.
    return f"{where.partition('://')[0]}://…" if isinstance(where, str) and "://" in where else repr(where)


def _key() -> bytes:
    key = os.environ.get(KEY_VARIABLE, "")
    if len(key) < 16:
        raise ConfigurationError(f'journal: tenants="hash" needs a secret of at least 16 characters in {KEY_VARIABLE}')
    return key.encode()


def _is_id(text: str) -> bool:
    return len(text) == 36 and all(c in "0123456789abcdefABCDEF-" for c in text)
