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

from ..budgets.stores.sqlite import NETWORK, file_system
from ..errors import ConfigurationError, StoreError
from .store import VERSION, Db, JournalStore

#: a writer holds the lock for about a millisecond; beyond this the batch waits for the next tick
BUSY_S: Final = 1.5
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


class SqliteJournal(JournalStore):
    """The file behind a journal. One writer at a time per object; several processes may share the file.

    ``create=False`` opens one that is there, for reading alone and even where its end is missing. Raises ConfigurationError for
    a place or a file that cannot be a journal of this version; whatever else fails raises StoreError.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        super().__init__()
        self.path, self._writes = Path(path).absolute(), create
        self.name = str(self.path)
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"journal {self.path}: its folder does not exist; make it, or name another file")
        if not create and not self.path.is_file():
            raise ConfigurationError(f"journal {self.path}: there is no such file")
        if create and (kind := file_system(self.path.parent, Path("/proc/self/mountinfo"))) in NETWORK:
            raise ConfigurationError(f"journal {self.path}: is on {kind}, another machine's file system; use a local folder")
        self._db: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._inherited: list[sqlite3.Connection | None] = []
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

    def close(self) -> None:
        """Let go of the file."""
        db, self._db = self._db, None
        if db is not None and self._pid == os.getpid():
            db.close()

    def reader(self) -> SqliteJournal:
        """See `JournalStore`."""
        return SqliteJournal(self.path, create=False)

    # -- inside

    def _added(self, db: Db, query: str, values: Sequence[Any]) -> int:
        return int(db.execute(query, values).lastrowid)

    def _new_context(self, db: Db, body: str) -> int:
        db.execute("INSERT INTO contexts(body) VALUES (?) ON CONFLICT DO NOTHING", (body,))
        return int(db.execute("SELECT id FROM contexts WHERE body = ?", (body,)).fetchone()[0])

    def _holds(self, db: Db, number: int, body: str) -> bool:
        # A number is given again here. PostgreSQL never does, and refuses one that is gone: the batch is then tried again.
        return db.execute("SELECT 1 FROM contexts WHERE id = ? AND body = ?", (number, body)).fetchone() is not None

    def _bytes(self) -> int:
        return sum(p.stat().st_size for p in (self.path, Path(f"{self.path}-wal")) if p.is_file())

    def _structure(self) -> list[str]:
        return [f"file: {line}" for (line,) in self._rows("PRAGMA integrity_check(20)", ()) if line != "ok"]

    def _shrink(self) -> None:
        with self._mended():
            self._open().execute("VACUUM")
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what is purged must not lie on in the log

    @contextlib.contextmanager
    def _transaction(self, *, upkeep: bool = False) -> Iterator[Db]:
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
    # Of a new file only. A row longer than a quarter of a page takes a page more: one with a call elsewhere has 1.1 kB.
    db.execute("PRAGMA page_size = 8192")
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
