"""A journal in one SQLite file (WAL, synchronous=NORMAL): a commit survives the death of every process that writes it; a power
cut may lose the last moments, never the file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ..budgets.stores import Entry
from ..budgets.stores.sqlite import NETWORK, file_system
from ..errors import ConfigurationError, StoreError
from ..periods import Pass, Tally, merged, tallied, tally_of
from ..records import Reading
from .rows import Batch, Feedback, PassRow, packed, reading_of

#: a writer holds the lock for about a millisecond; beyond this the batch waits for the next tick
BUSY_S: Final = 1.5
#: passes in which nothing ran are kept as one, up to this long
QUIET_NS: Final = 60 * 10**9
HOUR_NS: Final = 3600 * 10**9
VERSION: Final = 1
#: "frgl": the file says whose it is (file(1), sqlite's magic.txt)
APPLICATION: Final = 0x6672676C
_SCHEMA: Final = """
CREATE TABLE contexts(id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
CREATE TABLE passes(id INTEGER PRIMARY KEY, t0_ns INTEGER NOT NULL, t1_ns INTEGER NOT NULL, process TEXT NOT NULL,
  context INTEGER NOT NULL, embodied_g REAL NOT NULL, books TEXT NOT NULL, spans TEXT, rolled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX passes_by_time ON passes(t1_ns);
CREATE TABLE readings(id TEXT PRIMARY KEY, started_s REAL NOT NULL, settled_ns INTEGER NOT NULL, context INTEGER NOT NULL,
  body TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX readings_by_time ON readings(settled_ns);
CREATE TABLE tallies(id INTEGER PRIMARY KEY, settled_ns INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE decisions(id INTEGER PRIMARY KEY, at_s REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE feedback(id INTEGER PRIMARY KEY, reading TEXT NOT NULL, at_s REAL NOT NULL, score REAL NOT NULL, metric TEXT);
CREATE INDEX feedback_by_reading ON feedback(reading);
CREATE TABLE losses(id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, readings INTEGER NOT NULL, ticks INTEGER NOT NULL);
"""
_JOINED: Final = "SELECT r.id, r.started_s, c.body, r.body FROM readings r JOIN contexts c ON c.id = r.context"
_PASSES: Final = (
    "SELECT p.t0_ns, p.t1_ns, p.process, c.body, p.embodied_g, p.books, p.spans FROM passes p JOIN contexts c ON c.id = p.context"
)
_BOUNDS: Final = (0, 2**62)
Range = tuple[int, int]


class SqliteJournal:
    """The file behind a journal. One writer at a time per object; several processes may share the file.

    ``create=False`` opens one that is there, for reading alone and even where its end is missing. Raises ConfigurationError for
    a place or a file that cannot be a journal of this version; whatever else fails raises StoreError.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path, self._writes = Path(path).absolute(), create
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"journal {self.path}: its folder does not exist; make it, or name another file")
        if not create and not self.path.is_file():
            raise ConfigurationError(f"journal {self.path}: there is no such file")
        if create and (kind := file_system(self.path.parent, Path("/proc/self/mountinfo"))) in NETWORK:
            raise ConfigurationError(f"journal {self.path}: is on {kind}, another machine's file system; use a local folder")
        self._db: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._inherited: list[sqlite3.Connection | None] = []
        self._contexts: dict[str, int] = {}
        self.damage: str | None = None
        self._quiet: tuple[int, Pass] | None = None  # the last row, while nothing has run since
        self._check()

    def _check(self) -> None:
        """Refuse what will never be a journal of ours; what may pass (a lock, a full disk) is no reason not to start."""
        if not self.path.is_file() or not self.path.stat().st_size:
            return
        with self.path.open("rb") as file:
            head = file.read(100).ljust(100, b"\0")
        log = Path(f"{self.path}-wal")
        logged = log.is_file() and log.stat().st_size > 0  # then pages of the file, its head too, may be there alone
        application, version, pages = (int.from_bytes(head[at : at + 4], "big") for at in (68, 60, 28))
        if not head.startswith(b"SQLite format 3\0") or application not in ((APPLICATION, 0) if logged else (APPLICATION,)):
            raise ConfigurationError(f"journal {self.path}: is something else's file; name another one. Nothing was changed")
        if version > VERSION:
            raise ConfigurationError(
                f"journal {self.path}: was written by a newer frugal-meter (layout {version}, this one knows {VERSION}); "
                "update frugal-meter, or name another file. Nothing was changed"
            )
        size = int.from_bytes(head[16:18], "big")
        if self._writes and not logged and pages * (65536 if size == 1 else size) > self.path.stat().st_size:
            raise ConfigurationError(
                f"journal {self.path}: its end is missing; save what is left with frugal-meter journal export, then move it "
                "away. Nothing was changed"
            )

    # -- writing

    def write(self, batch: Batch) -> None:
        """Keep a batch, whole. Raises StoreError, and then nothing of it is kept."""
        with self._transaction() as db:
            for row in batch.passes:
                self._write_pass(db, row)
            db.executemany(
                "INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?, ?)",
                [(r.id, r.started_s, r.settled_ns, self._context(db, r.context), r.body) for r in batch.readings],
            )
            db.executemany("INSERT INTO decisions(at_s, body) VALUES (?, ?)", [(e.at_s, packed(e)) for e in batch.decisions])
            db.executemany("INSERT INTO feedback(reading, at_s, score, metric) VALUES (?, ?, ?, ?)", batch.feedback)
            if any(batch.lost):
                at_ns = max((row.books.t1_ns for row in batch.passes), default=0)
                db.execute("INSERT INTO losses(at_ns, readings, ticks) VALUES (?, ?, ?)", (at_ns, *batch.lost))

    def _write_pass(self, db: sqlite3.Connection, row: PassRow) -> None:
        if self._quiet is not None and not row.spans and (whole := merged(self._quiet[1], row.books)) is not None:
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

    def _insert_pass(self, db: sqlite3.Connection, books: Pass, spans: str | None, rolled: int) -> int:
        context = self._context(db, packed(books.weight))
        values = (books.t0_ns, books.t1_ns, books.process, context, books.embodied_g, packed(books.books), spans, rolled)
        done = db.execute(
            "INSERT INTO passes(t0_ns, t1_ns, process, context, embodied_g, books, spans, rolled) VALUES (?,?,?,?,?,?,?,?)",
            values,
        )
        return done.lastrowid or 0

    def _context(self, db: sqlite3.Connection, body: str) -> int:
        number = self._contexts.get(body)
        if number is None:
            db.execute("INSERT OR IGNORE INTO contexts(body) VALUES (?)", (body,))
            (number,) = db.execute("SELECT id FROM contexts WHERE body = ?", (body,)).fetchone()
            self._contexts[body] = int(number)
        return int(number)

    # -- reading

    def readings(self, within: Range = _BOUNDS) -> Iterator[Reading]:
        """Readings that settled within a range of Unix nanoseconds, begin included and end not."""
        for row in self._rows(f"{_JOINED} WHERE r.settled_ns >= ? AND r.settled_ns < ? ORDER BY r.settled_ns", within):
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

    def passes(self, within: Range = _BOUNDS) -> Iterator[PassRow]:
        """Books of passes that ended within a range of Unix nanoseconds."""
        for row in self._rows(f"{_PASSES} WHERE p.t1_ns >= ? AND p.t1_ns < ? ORDER BY p.t1_ns", within):
            yield _pass_row(row)

    def rolled(self, within: Range = _BOUNDS) -> Iterator[Tally]:
        """What has been rolled up into hours that began within a range."""
        query = "SELECT body FROM tallies WHERE settled_ns >= ? AND settled_ns < ? ORDER BY id"
        for (body,) in self._rows(query, within):
            yield msgspec.json.decode(body, type=Tally)

    def tallies(self, within: Range = _BOUNDS) -> Iterator[Tally]:
        """Readings that settled within a range, as tallies: what has been rolled up already, then the others."""
        yield from self.rolled(within)
        yield from map(tally_of, self.scored(within))

    def scored(self, within: Range = _BOUNDS) -> Iterator[Reading]:
        """Readings that settled within a range, with the last score that came after each."""
        scores = {f.reading: f.score for f in self.feedback()}
        for reading in self.readings(within):
            score = scores.get(reading.id)
            yield reading if score is None else msgspec.structs.replace(reading, quality=score)

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
        tables = ("readings", "passes", "tallies", "decisions", "feedback")
        counts = {name: next(self._rows(f"SELECT count(*) FROM {name}", ()))[0] for name in tables}
        begin, end = next(self._rows("SELECT min(t0_ns), max(t1_ns) FROM passes", ()))
        readings, ticks = next(self._rows("SELECT total(readings), total(ticks) FROM losses", ()))
        size = sum(p.stat().st_size for p in (self.path, Path(f"{self.path}-wal")) if p.is_file())
        lost = {"lost_readings": int(readings), "lost_ticks": int(ticks)}
        return {"path": str(self.path), "layout": VERSION, **counts, "begin_ns": begin, "end_ns": end, "bytes": size, **lost}

    def verify(self) -> list[str]:
        """What is wrong with it, a line each: the file's own structure, and books that do not close."""
        faults = [f"file: {line}" for (line,) in self._rows("PRAGMA integrity_check(20)", ()) if line != "ok"]
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
        with self._transaction() as db:
            first = db.execute("SELECT min(settled_ns) FROM readings").fetchone()[0]
            for hour in range((first or before_ns) // HOUR_NS * HOUR_NS, before_ns, HOUR_NS):
                sums = tallied(tally_of(r) for r in self._scored(db, (hour, hour + HOUR_NS)))
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
    def _scored(db: sqlite3.Connection, within: Range) -> Iterator[Reading]:
        scores = dict(db.execute("SELECT reading, score FROM feedback ORDER BY id").fetchall())
        for row in db.execute(f"{_JOINED} WHERE r.settled_ns >= ? AND r.settled_ns < ?", within).fetchall():
            reading = reading_of(*row)
            yield msgspec.structs.replace(reading, quality=scores[reading.id]) if reading.id in scores else reading

    def purge(self, before_ns: int, *, shrink: bool = True) -> dict[str, int]:
        """Delete what ended before this moment, and with ``shrink`` give its room back, which rewrites the file; how many rows of
        each went. Raises StoreError.
        """
        gone = {}
        with self._transaction() as db:
            orphans = "DELETE FROM feedback WHERE reading NOT IN (SELECT id FROM readings)"
            for name, column, limit in (
                ("readings", "settled_ns", before_ns),
                ("passes", "t1_ns", before_ns),
                ("tallies", "settled_ns", before_ns - HOUR_NS + 1),
                ("decisions", "at_s", before_ns / 1e9),
                ("losses", "at_ns", before_ns),
            ):
                gone[name] = db.execute(f"DELETE FROM {name} WHERE {column} < ?", (limit,)).rowcount
            gone["feedback"] = db.execute(orphans).rowcount
            self._quiet = None
        if not shrink:
            return gone
        with self._mended():
            self._open().execute("VACUUM")
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what is purged must not lie on in the log
        return gone

    def close(self) -> None:
        """Let go of the file."""
        db, self._db = self._db, None
        if db is not None and self._pid == os.getpid():
            db.close()

    # -- inside

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mended():
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._contexts, self._quiet = {}, None  # numbers given out in it are void
                if db.in_transaction:  # a full disk has rolled it back already
                    db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _mended(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            if not name.startswith("SQLITE_BUSY"):
                with contextlib.suppress(sqlite3.Error):
                    self.close()
            remedy = next((text for start, text in _REMEDIES if name.startswith(start)), "Look at the file and its folder.")
            raise StoreError(f"the journal cannot be used: {error}", str(self.path), remedy) from error

    def _rows(self, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        with self._mended():
            yield from self._open().execute(query, values)

    def _open(self) -> sqlite3.Connection:
        if self._pid != os.getpid():  # a parent's connection is left alone: SQLite's "How To Corrupt", 2.6
            self._inherited.append(self._db)
            self._db, self._pid, self._contexts, self._quiet = None, os.getpid(), {}, None
        if self._db is not None:
            return self._db
        if self._writes:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        mode = "rw" if self._writes else "ro"
        # Percent signs, question marks and hashes of a path mean something in a URI.
        name = str(self.path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        db = sqlite3.connect(f"file:{name}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if self._writes:
                _prepare(db)
            else:
                db.execute("PRAGMA writable_schema = ON")  # without it SQLite reads nothing of a file whose end is missing
        except BaseException:
            db.close()
            raise
        self._db = db
        return db


_REMEDIES: Final = (
    ("SQLITE_BUSY", f"Another process has held it for {BUSY_S} s: see who with `fuser`."),
    ("SQLITE_FULL", "Its disk is full: make room."),
    ("SQLITE_IOERR", "Its disk fails, or is full: look at it."),
    ("SQLITE_READONLY", "Its file or folder is read-only: let the service's user write there."),
    ("SQLITE_NOTADB", "It is something else's: name another file."),
    ("SQLITE_CORRUPT", "It is damaged: save what is left with frugal-meter journal export, and move it away."),
)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:  # its head was in the log alone
        raise sqlite3.DatabaseError(f"its layout is {version} and this version knows {VERSION}")
    if version:
        return
    db.execute("BEGIN IMMEDIATE")
    if not db.execute("PRAGMA user_version").fetchone()[0]:  # else another worker has been first
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _pass_row(row: tuple[Any, ...]) -> PassRow:
    t0_ns, t1_ns, process, weight, embodied_g, books, spans = row
    told = f'{{"process":{packed(process)},"t0_ns":{t0_ns},"t1_ns":{t1_ns},"weight":{weight},"embodied_g":{embodied_g!r},'
    parsed = msgspec.json.decode(f'{told}"books":{books}}}', type=Pass)
    by_span = msgspec.json.decode(spans, type=dict[str, tuple[dict[int, int], dict[int, int]]]) if spans else {}
    return PassRow(parsed, by_span)


def _by_hour(passes: Iterator[Pass]) -> Iterator[Pass]:
    """Passes in their order, those of one hour merged as far as they belong together."""
    whole: Pass | None = None
    for each in passes:
        same = whole is not None and whole.t0_ns // HOUR_NS == each.t0_ns // HOUR_NS
        both = merged(whole, each) if whole is not None and same else None
        if both is None and whole is not None:
            yield whole
        whole = both or each
    if whole is not None:
        yield whole
