"""Budgets of all workers of one host, in an SQLite file (WAL, synchronous=NORMAL).

Commits survive the death of every process; a power cut may lose the last moments, and with them the workers that spent. A file
on a network file system is refused: SQLite's locks and shared memory do not work across hosts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ...errors import ConfigurationError, StoreError
from . import KEEP_S, LOG_LINES, TTL_S, Account, Answer, Ask, Entry, Estimates, Learnt, Override, Report, State, holdings
from .holdings import Identity, Row

#: a writer holds the lock for a fraction of a millisecond; the longest wait seen with four busy processes was 0.85 s
BUSY_S: Final = 1.5
#: file systems of other machines, by mountinfo(5)'s name
NETWORK: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "coda", "ceph", "glusterfs", "lustre", "beegfs", "gpfs"),
        *("ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.juicefs"),
    )
)
_FORGET_HOLDERS_S: Final = 86_400
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE holders(holder TEXT PRIMARY KEY, seq INTEGER NOT NULL, heard REAL NOT NULL,
  released INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE accounts(id INTEGER PRIMARY KEY, budget TEXT NOT NULL, resource TEXT NOT NULL, key TEXT NOT NULL,
  start_s INTEGER NOT NULL, until_s INTEGER NOT NULL, settled INTEGER NOT NULL DEFAULT 0,
  UNIQUE(budget, resource, key, start_s, until_s));
CREATE TABLE holdings(account INTEGER NOT NULL, holder TEXT NOT NULL, settled INTEGER NOT NULL, held INTEGER NOT NULL,
  reserved INTEGER NOT NULL, PRIMARY KEY(account, holder)) WITHOUT ROWID;
CREATE TABLE log(id INTEGER PRIMARY KEY, at_s REAL NOT NULL, entry TEXT NOT NULL);
CREATE TABLE overrides(id INTEGER PRIMARY KEY, budget TEXT NOT NULL, key TEXT, who TEXT NOT NULL, why TEXT NOT NULL,
  at_s REAL NOT NULL, until_s REAL NOT NULL, revoked_s REAL);
CREATE TABLE estimates(kind TEXT PRIMARY KEY, amount REAL NOT NULL) WITHOUT ROWID;
"""

_OPEN_NOW: Final = (
    "SELECT a.id, a.budget, a.resource, a.key, a.start_s, a.until_s, a.settled, h.holder, h.settled, h.held, h.reserved "
    "FROM accounts a LEFT JOIN holdings h ON h.account = a.id WHERE a.until_s = 0 OR a.until_s > ? ORDER BY a.id"
)


class SqliteStore:
    """A store in one file. Raises ConfigurationError for a place where it cannot work."""

    kind = "sqlite"
    spans_hosts = False

    def __init__(self, path: str | Path, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        self.path = Path(path).absolute()
        kind = file_system(self.path.parent, mountinfo)
        if kind in NETWORK:
            raise ConfigurationError(
                f"{self.path}: is on {kind}, a file system of another machine, where SQLite cannot share; "
                "use a local folder, or store='redis://…' for workers of several hosts"
            )
        self._busy_s = BUSY_S
        self._db: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._using = threading.RLock()  # a connection closed while another thread is in it takes the process with it
        self._inherited: list[sqlite3.Connection | None] = []
        self._tidied_s = 0.0

    # -- the contract

    def exchange(self, holder: str, seq: int, reports: Sequence[Report], asks: Sequence[Sequence[Ask]], now_s: float) -> Answer:
        """See `stores`."""
        with self._transaction() as db:
            heard, last, released = self._heard(db, holder, now_s)
            if released or (last is not None and seq <= last):
                return Answer([None] * len(asks), {}, len(heard), stale=True)
            tables = _Tables(db)
            answer = holdings.exchange(tables, holder, heard, reports, asks, now_s)
            tables.save()
            db.execute("INSERT OR REPLACE INTO holders(holder, seq, heard) VALUES (?, ?, ?)", (holder, seq, now_s))
            self._tidy(db, now_s)
            return answer

    def release(self, holder: str, seq: int, reports: Sequence[Report], now_s: float) -> None:
        """See `stores`."""
        with self._transaction() as db:
            _, last, released = self._heard(db, holder, now_s)
            if released or (last is not None and seq <= last):
                return
            tables = _Tables(db)
            ids = [row[0] for row in db.execute("SELECT account FROM holdings WHERE holder = ?", (holder,))]
            holdings.release(tables, holder, reports, iter(tables.identities(ids)))
            tables.save()
            db.execute("INSERT OR REPLACE INTO holders VALUES (?, ?, ?, 1)", (holder, seq, now_s))

    def record(self, entries: Sequence[Entry]) -> None:
        """See `stores`."""
        with self._transaction() as db:
            db.executemany("INSERT INTO log(at_s, entry) VALUES (?, ?)", [(e.at_s, _packed(e)) for e in entries])
            db.execute("DELETE FROM log WHERE id <= (SELECT max(id) FROM log) - ?", (LOG_LINES,))

    def recorded(self, *, since_s: float = 0, most: int = 1000) -> list[Entry]:
        """See `stores`."""
        with self._transaction(write=False) as db:
            found = db.execute("SELECT entry FROM log WHERE at_s >= ? ORDER BY id DESC LIMIT ?", (since_s, most)).fetchall()
        return [msgspec.json.decode(row[0], type=Entry) for row in reversed(found)]

    def permit(self, budget: str, key: tuple[str, ...] | None, who: str, why: str, at_s: float, until_s: float) -> Override:
        """See `stores`."""
        packed = None if key is None else _packed(key)
        with self._transaction() as db:
            done = db.execute(
                "INSERT INTO overrides(budget, key, who, why, at_s, until_s) VALUES (?, ?, ?, ?, ?, ?)",
                (budget, packed, who, why, at_s, until_s),
            )
            return Override(done.lastrowid or 0, budget, key, who, why, at_s, until_s)

    def revoke(self, number: int, now_s: float) -> bool:
        """See `stores`."""
        with self._transaction() as db:
            done = db.execute(
                "UPDATE overrides SET revoked_s = ? WHERE id = ? AND revoked_s IS NULL AND until_s > ?", (now_s, number, now_s)
            )
            return done.rowcount == 1

    def overrides(self) -> list[Override]:
        """See `stores`."""
        with self._transaction(write=False) as db:
            found = db.execute("SELECT id, budget, key, who, why, at_s, until_s, revoked_s FROM overrides ORDER BY id").fetchall()
        return [Override(row[0], row[1], None if row[2] is None else _key(row[2]), *row[3:]) for row in found]

    def keep_estimates(self, estimates: Estimates) -> None:
        """See `stores`."""
        with self._transaction() as db:
            rows = [(_packed(kind), amount) for kind, amount in estimates.items()]
            db.executemany("INSERT OR REPLACE INTO estimates VALUES (?, ?)", rows)

    def estimates(self) -> Estimates:
        """See `stores`."""
        with self._transaction(write=False) as db:
            found = db.execute("SELECT kind, amount FROM estimates").fetchall()
        return {msgspec.json.decode(kind, type=Learnt): amount for kind, amount in found}

    def states(self, now_s: float) -> dict[Account, State]:
        """See `stores`."""
        with self._transaction(write=False) as db:
            alive = set(self._heard(db, "", now_s)[0])
            found = db.execute(_OPEN_NOW, (now_s,)).fetchall()
        out: dict[Account, State] = {}
        for (_, budget, resource, key, start_s, until_s, settled), rows in itertools.groupby(found, lambda row: row[:7]):
            account = Account(budget, resource, _key(key), start_s, until_s)
            out[account] = holdings.state(
                holdings.Seen(settled, {row[7]: Row(*row[8:]) for row in rows if row[7]}), account, alive
            )
        return out

    def forget(self, kind: str) -> None:
        """Take back what holders whose name begins with ``kind`` have, and had settled. They must be gone. Raises StoreError."""
        of_kind = "FROM holdings WHERE substr(holder, 1, ?) = ?"
        which = len(kind), kind
        with self._transaction() as db:
            db.execute(
                f"UPDATE accounts SET settled = settled - (SELECT sum(settled) {of_kind} AND account = accounts.id) "
                f"WHERE id IN (SELECT account {of_kind})",
                (*which, *which),
            )
            db.execute(f"DELETE {of_kind}", which)
            db.execute("DELETE FROM holders WHERE substr(holder, 1, ?) = ?", which)

    def wait_at_most(self, busy_s: float) -> None:
        """Wait ``busy_s`` seconds for another process that holds the file, from now on."""
        with self._alone():
            self._busy_s = busy_s
            if self._db is not None:
                self._db.execute(f"PRAGMA busy_timeout = {round(busy_s * 1000)}")

    def close(self) -> None:
        """See `stores`."""
        with self._alone():
            if self._db is not None:
                self._db.close()
            self._db = None

    # -- inside

    def _alone(self) -> threading.RLock:
        """The lock on the connection. After a fork both are the parent's: the child has its own, and leaves the other alone."""
        if self._pid != os.getpid():
            self._inherited.append(self._db)  # not even to be closed here: see "How To Corrupt An SQLite Database File", 2.6
            self._db, self._pid, self._using = None, os.getpid(), threading.RLock()
        return self._using

    @contextlib.contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """One atomic step; raises StoreError, and then nothing has changed."""
        with self._alone():
            try:
                db = self._open()
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield db
                except BaseException:
                    if db.in_transaction:  # a full disk has rolled it back already
                        db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                self._abandon()
                raise StoreError(*self._mended(error)) from error

    def _open(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        if not self.path.exists():
            self._make()
        db = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        try:
            self._write_ahead(db)
            db.execute("PRAGMA synchronous = NORMAL")
            if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                self._create(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    def _make(self) -> None:
        """An empty file that only this user reads, since it names tenants.

        Linked into place: closing a descriptor of the file itself would drop the locks of this process's other connections.
        """
        descriptor, path = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")
        os.close(descriptor)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(path, self.path)
        finally:
            os.unlink(path)

    def _write_ahead(self, db: sqlite3.Connection) -> None:
        """Switch to WAL. Where several open a new file at once SQLite calls it busy without any waiting: the waiting is here."""
        until_s = time.monotonic() + self._busy_s
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.005)

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()  # another worker may have been first
        if version not in (0, _VERSION):
            db.execute("ROLLBACK")
            raise sqlite3.DatabaseError(f"its layout is {version} and this version knows {_VERSION}")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")

    def _abandon(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.close()
        self._db = None

    def _mended(self, error: Exception) -> tuple[str, str, str]:
        """What went wrong, where, and what to do."""
        name = getattr(error, "sqlite_errorname", "") or ""
        for start, remedy in (
            ("SQLITE_BUSY", f"Another process has held it for {self._busy_s:g} s: see who with `fuser`."),
            ("SQLITE_FULL", "Its disk is full: make room."),
            ("SQLITE_IOERR", "Its disk fails, or is full: look at it."),
            ("SQLITE_READONLY", "Its file or folder is read-only: let the service's user write there."),
            ("SQLITE_NOTADB", "It is something else's: name another file, or move it away."),
            ("SQLITE_CORRUPT", "It is damaged: move it away; workers that live tell what they have spent again."),
        ):
            if name.startswith(start):
                return f"the budget store cannot be used: {error}", str(self.path), remedy
        return f"the budget store cannot be used: {error}", str(self.path), "Look at the file, its folder and who owns them."

    @staticmethod
    def _heard(db: sqlite3.Connection, holder: str, now_s: float) -> tuple[dict[str, float], int | None, bool]:
        """Holders that live, ``holder`` if it is known at all; its last number, and whether it is over."""
        found = db.execute(
            "SELECT holder, seq, heard, released FROM holders WHERE (released = 0 AND heard > ?) OR holder = ?",
            (now_s - TTL_S, holder),
        ).fetchall()
        own = next(((seq, bool(released)) for name, seq, _, released in found if name == holder), (None, False))
        return {name: heard for name, _, heard, released in found if not released}, own[0], own[1]

    def _tidy(self, db: sqlite3.Connection, now_s: float) -> None:
        """Once a minute: forget windows that nothing can charge any more, and holders of yesterday."""
        if 0 <= now_s - self._tidied_s < 60:
            return
        self._tidied_s = now_s
        over = "SELECT id FROM accounts WHERE until_s > 0 AND until_s < ?"
        db.execute(f"DELETE FROM holdings WHERE account IN ({over})", (now_s - KEEP_S,))
        db.execute("DELETE FROM accounts WHERE until_s > 0 AND until_s < ?", (now_s - KEEP_S,))
        db.execute("DELETE FROM holders WHERE released = 1 AND heard < ?", (now_s - _FORGET_HOLDERS_S,))


class _Tables:
    """The rows of one transaction, read when first asked for and written by `save`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[Identity, int] = {}
        self._settled: dict[Identity, int] = {}
        self._rows: dict[Identity, dict[str, Row]] = {}
        self._read: dict[Identity, dict[str, tuple[int, int, int]]] = {}
        self._moved: set[Identity] = set()

    def identities(self, ids: Sequence[int]) -> list[Identity]:
        """Accounts by their numbers."""
        out = []
        for number in ids:
            found = self._db.execute(
                "SELECT budget, resource, key, start_s, until_s FROM accounts WHERE id = ?", (number,)
            ).fetchone()
            if found is not None:
                out.append((found[0], found[1], _key(found[2]), found[3], found[4]))
        return out

    def settled(self, account: Identity) -> int:
        """See `holdings.Tables`."""
        self._load(account)
        return self._settled[account]

    def settle(self, account: Identity, more: int) -> None:
        """See `holdings.Tables`."""
        self._load(account)
        self._settled[account] += more
        self._moved.add(account)

    def rows(self, account: Identity) -> dict[str, Row]:
        """See `holdings.Tables`."""
        self._load(account)
        return self._rows[account]

    def _load(self, account: Identity) -> None:
        if account in self._settled:
            return
        found = self._db.execute(
            "SELECT id, settled FROM accounts WHERE budget = ? AND resource = ? AND key = ? AND start_s = ? AND until_s = ?",
            (account[0], account[1], _packed(account[2]), account[3], account[4]),
        ).fetchone()
        self._settled[account], rows = 0, []
        if found is not None:
            self._ids[account], self._settled[account] = found
            rows = self._db.execute(
                "SELECT holder, settled, held, reserved FROM holdings WHERE account = ?", found[:1]
            ).fetchall()
        self._rows[account] = {holder: Row(*amounts) for holder, *amounts in rows}
        self._read[account] = {holder: (settled, held, reserved) for holder, settled, held, reserved in rows}

    def save(self) -> None:
        """Write what has changed."""
        for account, rows in self._rows.items():
            before = self._read[account]
            now = {holder: (row.settled, row.held, row.reserved) for holder, row in rows.items()}
            if now == before and account not in self._moved:
                continue
            number = self._number(account)
            changed = [(number, holder, *amounts) for holder, amounts in now.items() if before.get(holder) != amounts]
            self._db.executemany("INSERT OR REPLACE INTO holdings VALUES (?, ?, ?, ?, ?)", changed)
            gone = [(number, holder) for holder in before.keys() - now.keys()]
            self._db.executemany("DELETE FROM holdings WHERE account = ? AND holder = ?", gone)
            if account in self._moved:
                self._db.execute("UPDATE accounts SET settled = ? WHERE id = ?", (self._settled[account], number))

    def _number(self, account: Identity) -> int:
        number = self._ids.get(account)
        if number is None:
            done = self._db.execute(
                "INSERT INTO accounts(budget, resource, key, start_s, until_s) VALUES (?, ?, ?, ?, ?)",
                (account[0], account[1], _packed(account[2]), account[3], account[4]),
            )
            number = self._ids[account] = done.lastrowid or 0
        return number


def _packed(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _key(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


def file_system(folder: Path, mountinfo: Path) -> str:
    """The file system that ``folder`` is on, by mountinfo(5); "" where that cannot be told."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    real = folder.resolve()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        columns = fields.split()
        if len(columns) < 5 or not rest:
            continue
        point = Path(columns[4].encode().decode("unicode_escape"))
        if real.is_relative_to(point) and len(point.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(point.parts), rest.split()[0]
    return kind
