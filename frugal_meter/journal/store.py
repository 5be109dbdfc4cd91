"""What every journal is, wherever it lies: the records, the sums, the upkeep, in SQL that SQLite and PostgreSQL both speak.

`sqlite.SqliteJournal` and `postgresql.PostgresJournal` say how to open one, how a transaction goes and what went wrong.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, Self

import msgspec

from ..budgets.stores import Entry
from ..errors import StoreError
from ..periods import Pass, Tally, merged, tallied, tally_of
from ..records import Reading
from .rows import Batch, Feedback, PassRow, packed, reading_of

#: passes in which nothing ran are kept as one, up to this long
QUIET_NS: Final = 60 * 10**9
HOUR_NS: Final = 3600 * 10**9
VERSION: Final = 1
TABLES: Final = ("readings", "passes", "tallies", "decisions", "feedback")
_JOINED: Final = "SELECT r.id, r.started_s, c.body, r.body FROM readings r JOIN contexts c ON c.id = r.context"
_PASSES: Final = (
    "SELECT p.t0_ns, p.t1_ns, p.process, c.body, p.embodied_g, p.books, p.spans FROM passes p JOIN contexts c ON c.id = p.context"
)
_ALWAYS: Final = (0, 2**62)
Range = tuple[int, int]
#: a score that came after its reading, and its metric
Score = tuple[float, str | None]


class Db(Protocol):
    """A connection inside a transaction; values stand for question marks."""

    def execute(self, query: str, values: Sequence[Any] = ..., /) -> Any:
        """A cursor over what it returns."""

    def executemany(self, query: str, values: Iterable[Sequence[Any]], /) -> Any:
        """The same for each row of values."""


class JournalStore(ABC):
    """A journal that can be written and read. Whatever fails raises StoreError; nothing of that call is then kept."""

    #: where it is, fit to be shown: without a password
    name: str
    #: what could not be read of it, once something could not
    damage: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __init__(self) -> None:
        self._contexts: dict[str, int] = {}
        self._sure: set[int] = set()  # of them, those that this transaction has seen
        self._quiet: tuple[int, Pass] | None = None  # the last row, while nothing has run since

    # -- what each kind does in its own way

    @abstractmethod
    def _transaction(self, *, upkeep: bool = False) -> AbstractContextManager[Db]:
        """All or nothing; ``upkeep`` may take long. ``_contexts`` and ``_quiet`` are void after one that failed."""

    @abstractmethod
    def _rows(self, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, a few at a time."""

    @abstractmethod
    def _added(self, db: Db, query: str, values: Sequence[Any]) -> int:
        """Run an INSERT and return the number of its row."""

    @abstractmethod
    def _new_context(self, db: Db, body: str) -> int:
        """The number of a context, which may be there already."""

    @abstractmethod
    def _bytes(self) -> int:
        """The room it takes."""

    @abstractmethod
    def reader(self) -> JournalStore:
        """The same journal, opened once more for reading alone: other threads never share a connection with the writer."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def _is_new(self, db: Db, batch: Batch) -> bool:
        """Whether ``batch`` is not kept yet: False for one whose commit was answered by silence and went through."""
        return True

    def _holds(self, db: Db, number: int, body: str) -> bool:
        """Whether a context still has the number that it had: another process may have purged it."""
        return True

    def _alone(self, db: Db) -> bool:
        """Whether this transaction, and no other process, may roll up now."""
        return True

    def _structure(self) -> list[str]:
        """What is wrong with the file itself."""
        return []

    def _shrink(self) -> None:  # noqa: B027 - a server does it by itself
        """Give back the room of what was deleted."""

    def serve(self, service: str) -> None:  # noqa: B027 - only what several services can reach needs to know
        """Say whose journal this is. Raises ConfigurationError where it is another service's."""

    def hurry(self) -> None:  # noqa: B027
        """Try at once, however lately it failed: the service ends."""

    # -- writing

    def write(self, batch: Batch) -> None:
        """Keep a batch, whole and once. Raises StoreError, and then nothing of it is kept."""
        with self._transaction() as db:
            if not self._is_new(db, batch):
                return
            self._sure = set()
            for row in batch.passes:
                self._write_pass(db, row)
            db.executemany(
                "INSERT INTO readings VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(r.id, r.started_s, r.settled_ns, self._context(db, r.context), r.body) for r in batch.readings],
            )
            db.executemany("INSERT INTO decisions(at_s, body) VALUES (?, ?)", [(e.at_s, packed(e)) for e in batch.decisions])
            db.executemany("INSERT INTO feedback(reading, at_s, score, metric) VALUES (?, ?, ?, ?)", batch.feedback)
            if any(batch.lost):
                at_ns = max((row.books.t1_ns for row in batch.passes), default=time.time_ns())
                db.execute("INSERT INTO losses(at_ns, readings, ticks) VALUES (?, ?, ?)", (at_ns, *batch.lost))

    def _write_pass(self, db: Db, row: PassRow) -> None:
        if self._quiet is not None and not row.spans and (whole := _same_hour(self._quiet[1], row.books)) is not None:
            number = self._quiet[0]
            values = (whole.t1_ns, whole.embodied_g, packed(whole.books), number, whole.process, whole.t0_ns)
            # Another process may have purged that row, and given its number to one of its own.
            grown = db.execute(
                "UPDATE passes SET t1_ns = ?, embodied_g = ?, books = ? "
                "WHERE id = ? AND process = ? AND t0_ns = ? AND rolled = 0",
                values,
            )
            if grown.rowcount:
                self._quiet = (number, whole) if whole.t1_ns - whole.t0_ns < QUIET_NS else None
                return
        number = self._insert_pass(db, row.books, packed(row.spans) if row.spans else None, 0)
        self._quiet = None if row.spans else (number, row.books)

    def _insert_pass(self, db: Db, books: Pass, spans: str | None, rolled: int) -> int:
        context = self._context(db, packed(books.weight))
        values = (books.t0_ns, books.t1_ns, books.process, context, books.embodied_g, packed(books.books), spans, rolled)
        columns = "t0_ns, t1_ns, process, context, embodied_g, books, spans, rolled"
        return self._added(db, f"INSERT INTO passes({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _context(self, db: Db, body: str) -> int:
        number = self._contexts.get(body)
        if number is None or (number not in self._sure and not self._holds(db, number, body)):
            number = self._contexts[body] = self._new_context(db, body)
        self._sure.add(number)
        return number

    # -- reading

    def readings(self, within: Range = _ALWAYS) -> Iterator[Reading]:
        """Readings that settled within a range of Unix nanoseconds, begin included and end not."""
        for row in self._rows(
            f"{_JOINED} WHERE r.settled_ns >= ? AND r.settled_ns < ? ORDER BY r.settled_ns, r.id", _held(within)
        ):
            yield reading_of(*row)

    def find(self, id: str) -> Reading | None:
        """The reading of that id."""
        found = next(self._rows(f"{_JOINED} WHERE r.id = ?", (id,)), None)
        return None if found is None else reading_of(*found)

    def saved_readings(self) -> Iterator[Reading]:
        """Every reading that can still be read, in the order of their ids; ``damage`` then says what could not."""
        for row in self._saved(_JOINED, "r.id", 0):
            yield reading_of(*row)

    def saved_passes(self) -> Iterator[PassRow]:
        """Every pass that can still be read, in order; ``damage`` then says what could not."""
        for row in self._saved(_PASSES.replace("SELECT ", "SELECT p.id, "), "p.id", 0):
            yield _pass_row(row[1:])

    def _saved(self, query: str, key: str, place: int) -> Iterator[tuple[Any, ...]]:
        """Rows from the front to the first that cannot be read, then from the back to the last that cannot."""
        last: Any = None
        try:
            for row in self._rows(f"{query} ORDER BY {key}", ()):
                last = row[place]
                yield row
            return
        except StoreError as error:
            self.damage = str(error)
        with contextlib.suppress(StoreError):
            for row in self._rows(f"{query} ORDER BY {key} DESC", ()):
                if last is not None and row[place] <= last:
                    return
                yield row

    def passes(self, within: Range = _ALWAYS) -> Iterator[PassRow]:
        """Books of passes that ended within a range of Unix nanoseconds."""
        for row in self._rows(f"{_PASSES} WHERE p.t1_ns >= ? AND p.t1_ns < ? ORDER BY p.t1_ns, p.id", _held(within)):
            yield _pass_row(row)

    def rolled(self, within: Range = _ALWAYS) -> Iterator[Tally]:
        """What has been rolled up into hours that begin within a range."""
        for (body,) in self._rows("SELECT body FROM tallies WHERE settled_ns >= ? AND settled_ns < ? ORDER BY id", _held(within)):
            yield msgspec.json.decode(body, type=Tally)

    def tallies(self, within: Range = _ALWAYS) -> Iterator[Tally]:
        """Readings that settled within a range, as tallies: what has been rolled up already, then the others."""
        yield from self.rolled(within)
        yield from map(tally_of, self.scored(within))

    def scored(self, within: Range = _ALWAYS) -> Iterator[Reading]:
        """Readings that settled within a range, with the last score that came after each."""
        scores = {f.reading: (f.score, f.metric) for f in self.feedback()}
        for reading in self.readings(within):
            yield _with_score(reading, scores.get(reading.id))

    def feedback(self) -> Iterator[Feedback]:
        """Scores that came after their readings, in their order."""
        for row in self._rows("SELECT reading, at_s, score, metric FROM feedback ORDER BY id", ()):
            yield Feedback(*row)

    def decisions(self) -> Iterator[Entry]:
        """What budgets decided, in order."""
        for (body,) in self._rows("SELECT body FROM decisions ORDER BY id", ()):
            yield msgspec.json.decode(body, type=Entry)

    def info(self) -> dict[str, Any]:
        """What is in it: counts, first and last moment (Unix ns; None when empty), bytes, and what was lost."""
        counts = {name: next(self._rows(f"SELECT count(*) FROM {name}", ()))[0] for name in TABLES}
        begin, end = next(self._rows("SELECT min(t0_ns), max(t1_ns) FROM passes", ()))
        # Sums lie at the beginning of their hour, which may be before the first pass.
        (summed,) = next(self._rows("SELECT min(settled_ns) FROM tallies", ()))
        begin = min((each for each in (begin, summed) if each is not None), default=None) if end is not None else None
        readings, ticks = self.losses()
        lost = {"lost_readings": readings, "lost_ticks": ticks}
        told = {"path": self.name, "layout": VERSION, **counts, "begin_ns": begin, "end_ns": end, "bytes": self._bytes()}
        return {**told, **lost}

    def losses(self, within: Range = _ALWAYS) -> tuple[int, int]:
        """Readings and ticks that were let go while the journal could not be written, told within a range of Unix nanoseconds."""
        query = "SELECT coalesce(sum(readings), 0), coalesce(sum(ticks), 0) FROM losses WHERE at_ns >= ? AND at_ns < ?"
        readings, ticks = next(self._rows(query, _held(within)))
        return int(readings), int(ticks)

    def services(self) -> list[str]:
        """The services whose readings are in it, also those that are sums by now. Period figures are those of one."""
        found = {msgspec.json.decode(body)["shared"]["service"] for body in self._reading_contexts()}
        rolled = {tally.service for tally in self.rolled()}
        return sorted(found | {name for name in rolled if name is not None})

    def _reading_contexts(self) -> Iterator[str]:
        for (body,) in self._rows("SELECT body FROM contexts WHERE id IN (SELECT context FROM readings)", ()):
            yield body

    def verify(self) -> list[str]:
        """What is wrong with it, a line each: the file's own structure, and books that do not close."""
        faults = self._structure()
        for row in self.passes():
            for books in row.books.books:
                spans_nj = sum(row.spans[books.source][0].values()) if row.spans else books.requests_nj
                if off_nj := books.off_nj or books.requests_nj - spans_nj:
                    faults += [f"books of {books.source} that end at {row.books.t1_ns} do not close: {off_nj} nJ off"]
        return faults

    # -- upkeep

    def roll_up(self, before_ns: int) -> None:
        """Readings and passes that ended before this moment become sums by the hour; every nanojoule stays. Raises StoreError."""
        before_ns -= before_ns % HOUR_NS
        with self._transaction(upkeep=True) as db:
            if not self._alone(db):
                return
            said = db.execute("SELECT reading, score, metric FROM feedback ORDER BY id").fetchall()
            scores = {reading: (score, metric) for reading, score, metric in said}
            hours = db.execute(
                f"SELECT DISTINCT settled_ns / {HOUR_NS} FROM readings WHERE settled_ns < ?", (before_ns,)
            ).fetchall()
            for hour in sorted(hour * HOUR_NS for (hour,) in hours):
                sums = tallied(tally_of(r) for r in self._scored(db, (hour, hour + HOUR_NS), scores))
                db.executemany("INSERT INTO tallies(settled_ns, body) VALUES (?, ?)", [(hour, packed(t)) for t in sums])
            db.execute("DELETE FROM feedback WHERE reading IN (SELECT id FROM readings WHERE settled_ns < ?)", (before_ns,))
            db.execute("DELETE FROM readings WHERE settled_ns < ?", (before_ns,))
            rows = db.execute(
                f"{_PASSES} WHERE p.rolled = 0 AND p.t1_ns < ? ORDER BY p.process, p.t1_ns", (before_ns,)
            ).fetchall()
            db.execute("DELETE FROM passes WHERE rolled = 0 AND t1_ns < ?", (before_ns,))
            for books in _by_hour(_pass_row(row).books for row in rows):
                self._insert_pass(db, books, None, 1)
            self._quiet = None

    @staticmethod
    def _scored(db: Db, within: Range, scores: Mapping[str, Score]) -> Iterator[Reading]:
        for row in db.execute(f"{_JOINED} WHERE r.settled_ns >= ? AND r.settled_ns < ?", within).fetchall():
            reading = reading_of(*row)
            yield _with_score(reading, scores.get(reading.id))

    def _forget_contexts(self) -> None:
        """Delete contexts that nothing names any more: routes, models and hashed tenants must not outlive what is purged."""
        named = "SELECT context FROM readings UNION SELECT context FROM passes"
        with self._transaction(upkeep=True) as db:
            db.execute(f"DELETE FROM contexts WHERE id NOT IN ({named})")
            self._contexts = {}

    def purge(self, before_ns: int, *, since_ns: int = 0, shrink: bool = True) -> dict[str, int]:
        """Delete what ended before this moment (and not before ``since_ns``), and with ``shrink`` give its room back, which
        rewrites a file; how many rows of each went. Raises StoreError.
        """
        gone = {}
        since_ns, before_ns = _held((since_ns, before_ns))
        with self._transaction(upkeep=True) as db:
            orphans = "DELETE FROM feedback WHERE reading NOT IN (SELECT id FROM readings)"
            for name, column, begin, limit in (
                ("readings", "settled_ns", since_ns, before_ns),
                ("passes", "t1_ns", since_ns, before_ns),
                ("tallies", "settled_ns", since_ns, before_ns - HOUR_NS + 1),  # of whole hours, by their begin
                ("decisions", "at_s", since_ns / 1e9, before_ns / 1e9),
                ("losses", "at_ns", since_ns, before_ns),
            ):
                gone[name] = db.execute(f"DELETE FROM {name} WHERE {column} >= ? AND {column} < ?", (begin, limit)).rowcount
            gone["feedback"] = db.execute(orphans).rowcount
            self._quiet = None
        if shrink:
            self._forget_contexts()
            self._shrink()
        return gone


def _held(within: Range) -> Range:
    """The same range as far as a database can count: a moment may be of the year 1, or 9999."""
    begin_ns, end_ns = (max(-(2**62), min(each, 2**62)) for each in within)
    return begin_ns, end_ns


def _pass_row(row: tuple[Any, ...]) -> PassRow:
    t0_ns, t1_ns, process, weight, embodied_g, books, spans = row
    told = f'{{"process":{packed(process)},"t0_ns":{t0_ns},"t1_ns":{t1_ns},"weight":{weight},"embodied_g":{embodied_g!r},'
    parsed = msgspec.json.decode(f'{told}"books":{books}}}', type=Pass)
    by_span = msgspec.json.decode(spans, type=dict[str, tuple[dict[int, int], dict[int, int]]]) if spans else {}
    return PassRow(parsed, by_span)


def _with_score(reading: Reading, said: Score | None) -> Reading:
    return reading if said is None else msgspec.structs.replace(reading, quality=said[0], quality_metric=said[1])


def _same_hour(one: Pass, then: Pass) -> Pass | None:
    """Both as one; None unless they belong together and end in one hour: a pass is of the period in which it ends."""
    return merged(one, then) if one.t1_ns // HOUR_NS == then.t1_ns // HOUR_NS else None


def _by_hour(passes: Iterator[Pass]) -> Iterator[Pass]:
    """Passes in their order, those that end in one hour merged as far as they belong together."""
    whole: Pass | None = None
    for each in passes:
        both = None if whole is None else _same_hour(whole, each)
        if both is None and whole is not None:
            yield whole
        whole = both or each
    if whole is not None:
        yield whole
