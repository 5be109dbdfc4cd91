"""A journal in a PostgreSQL database, where many hosts of one service keep theirs together: a schema of its own per service.

Nothing here is waited for without end: a server that is silent, away or starting costs the journal's own thread some seconds,
then nothing until it is tried again. What was committed without an answer is recognised, and not kept a second time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import count
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..errors import ConfigurationError, StoreError
from .rows import Batch
from .store import TABLES, VERSION, Db, JournalStore

#: a tick's batch takes some milliseconds; beyond this it waits for a later one
ANSWER_S: Final = 10.0
#: rolling up or deleting a month
UPKEEP_S: Final = 600.0
CONNECT_S: Final = 5
#: pauses between attempts to reach a server that is away: from, to
PAUSE_S: Final = (1.0, 30.0)
SCHEMA: Final = "frugal_meter"
#: of `pg_advisory_xact_lock`: making the tables, and rolling up
_MAKING, _ROLLING = 0x6672676C01, 0x6672676C02
_CHUNK: Final = 2000
_TABLES: Final = """
CREATE TABLE journal(layout INTEGER NOT NULL, service TEXT);
CREATE TABLE writers(id TEXT PRIMARY KEY, number BIGINT NOT NULL, at_s DOUBLE PRECISION NOT NULL);
CREATE TABLE contexts(id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, digest BYTEA NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE passes(id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t0_ns BIGINT NOT NULL, t1_ns BIGINT NOT NULL,
  process TEXT NOT NULL, context BIGINT NOT NULL REFERENCES contexts, embodied_g DOUBLE PRECISION NOT NULL, books TEXT NOT NULL,
  spans TEXT, rolled SMALLINT NOT NULL DEFAULT 0);
CREATE INDEX passes_by_time ON passes(t1_ns);
CREATE TABLE readings(id TEXT PRIMARY KEY, started_s DOUBLE PRECISION NOT NULL, settled_ns BIGINT NOT NULL,
  context BIGINT NOT NULL REFERENCES contexts, body TEXT NOT NULL);
CREATE INDEX readings_by_time ON readings(settled_ns);
CREATE TABLE tallies(id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, settled_ns BIGINT NOT NULL, body TEXT NOT NULL);
CREATE INDEX tallies_by_time ON tallies(settled_ns);
CREATE TABLE decisions(id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at_s DOUBLE PRECISION NOT NULL, body TEXT NOT NULL);
CREATE TABLE feedback(id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reading TEXT NOT NULL, at_s DOUBLE PRECISION NOT NULL,
  score DOUBLE PRECISION NOT NULL, metric TEXT);
CREATE INDEX feedback_by_reading ON feedback(reading);
CREATE TABLE losses(id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at_ns BIGINT NOT NULL, readings BIGINT NOT NULL,
  ticks BIGINT NOT NULL);
"""
T = TypeVar("T")


class PostgresJournal(JournalStore):
    """The database behind a journal: ``postgresql://user@host:5432/database?schema=frugal_meter``, and libpq's own parameters.

    A password is best in ``$PGPASSFILE``; it is never shown. ``create=False`` reads a journal that is there. Raises
    ConfigurationError for an address that is none, a server that refuses it, a schema without rights or of a newer version,
    another service's; a server that is merely away, MissingExtraError apart, raises StoreError when it is used.
    """

    def __init__(self, where: str, *, create: bool = True, patience_s: float | None = None) -> None:
        super().__init__()
        self._where, self._writes = where, create
        self._patience_s = ANSWER_S if create else patience_s
        self._conninfo, self.schema, self.name = _parsed(where)
        self._service: str | None = None
        self._connection: _Connection | None = None
        self._pid = os.getpid()
        self._inherited: list[_Connection | None] = []
        self._names = count(1)
        self._writer = uuid4().hex
        self._away: StoreError | ConfigurationError | None = None  # why the last attempt to reach it failed
        self._again_s, self._pause_s = 0.0, PAUSE_S[0]
        if create:
            # What may pass (a server that starts, a cable) is no reason not to start; what will not, is.
            with contextlib.suppress(StoreError):
                self._open()
            self.close()

    def serve(self, service: str) -> None:
        """See `JournalStore`."""
        self._service = service
        with contextlib.suppress(StoreError):
            self._open()
        self.close()  # a server that forks its workers must not hand them a connection

    def hurry(self) -> None:
        """See `JournalStore`."""
        self._again_s = 0.0

    def reader(self) -> PostgresJournal:
        """See `JournalStore`."""
        return PostgresJournal(self._where, create=False, patience_s=ANSWER_S)

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    # -- inside

    def _added(self, db: Db, query: str, values: Sequence[Any]) -> int:
        return int(db.execute(f"{query} RETURNING id", values).fetchone()[0])

    def _new_context(self, db: Db, body: str) -> int:
        digest = sha256(body.encode()).digest()  # a text of any length cannot be in an index
        db.execute("INSERT INTO contexts(digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, body))
        return int(db.execute("SELECT id FROM contexts WHERE digest = ?", (digest,)).fetchone()[0])

    def _bytes(self) -> int:
        names = [*TABLES, "contexts", "losses", "writers", "journal"]
        return sum(next(self._rows("SELECT pg_total_relation_size(?::regclass)", (name,)))[0] for name in names)

    def _is_new(self, db: Db, batch: Batch) -> bool:
        if not batch.number:
            return True
        told = db.execute(
            "INSERT INTO writers(id, number, at_s) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
            "SET number = excluded.number, at_s = excluded.at_s WHERE writers.number < excluded.number",
            (self._writer, batch.number, time.time()),
        )
        return bool(told.rowcount)

    def _alone(self, db: Db) -> bool:
        if not db.execute("SELECT pg_try_advisory_xact_lock(?)", (_ROLLING,)).fetchone()[0]:
            return False
        db.execute("DELETE FROM writers WHERE at_s < ?", (time.time() - 30 * 86_400,))
        return True

    def _shrink(self) -> None:
        with self._mended():
            link = self._open()
            for name in TABLES:
                link.execute(f"VACUUM {name}")

    @contextlib.contextmanager
    def _transaction(self, *, upkeep: bool = False) -> Iterator[Db]:
        """Upkeep sees one moment: a reading that another host adds meanwhile is neither summed nor deleted."""
        with self._mended():
            link = self._open()
            try:
                link.patience_s = UPKEEP_S if upkeep else ANSWER_S
                link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if upkeep else "BEGIN")
                if upkeep:
                    link.execute(f"SET LOCAL statement_timeout = {UPKEEP_S * 1000:.0f}")
                yield link
                link.execute("COMMIT")
                link.patience_s = self._patience_s
            except BaseException:
                self._contexts, self._quiet = {}, None  # numbers given out in it are void
                self.close()  # which rolls back, and asks nothing of a server that may be silent
                raise

    def _rows(self, query: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        # Held by the server until it is closed, so that several can be read in turn, and of one moment each.
        with self._mended(), self._open().cursor(f"rows_{next(self._names)}", withhold=True) as cursor:
            cursor.itersize = _CHUNK
            cursor.execute(_spoken(query), values)
            yield from cursor

    @contextlib.contextmanager
    def _mended(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, OSError) as error:
            self.close()
            raise StoreError(f"the journal cannot be used: {_said(error)}", self.name, _remedy(error)) from None

    def _open(self) -> _Connection:
        if self._pid != os.getpid():
            self._inherited.append(self._connection)  # a parent's connection is left alone: closing it would end theirs
            self._connection, self._pid, self._writer = None, os.getpid(), uuid4().hex
            self._contexts, self._quiet = {}, None
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._away is not None and time.monotonic() < self._again_s:
            raise self._away.with_traceback(None)
        try:
            self._connection, self._away = self._prepared(self._connected()), None
        except (StoreError, ConfigurationError) as error:
            self._away, self._again_s = error, time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, PAUSE_S[1])
            raise
        self._pause_s = PAUSE_S[0]
        return self._connection

    def _connected(self) -> _Connection:
        try:
            link = _Connection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            if pq.PGconn.ping(self._conninfo.encode()) == pq.Ping.OK:  # it answers, and refuses us
                raise ConfigurationError(
                    f"journal {self.name}: the server refuses: {_said(error)}. Look at user, password and database; a password "
                    "is best in a file that PGPASSFILE names"
                ) from None
            raise StoreError(
                f"the journal cannot be used: {_said(error)}", self.name, "Is the server up, and its port open to this host?"
            ) from None
        link.patience_s = self._patience_s
        return link

    def _prepared(self, link: _Connection) -> _Connection:
        try:
            link.execute(f'SET search_path TO "{self.schema}", pg_catalog')
            link.execute("SET idle_in_transaction_session_timeout = '60s'")  # a stopped service must not hold up the others
            link.execute("SET client_min_messages = error")
            if self._patience_s is not None:
                link.execute(f"SET statement_timeout = {self._patience_s * 1000:.0f}")
            if not self._writes:
                link.execute("SET default_transaction_read_only = on")
            self._look(link)
        except psycopg.errors.InsufficientPrivilege as error:
            link.close()
            raise ConfigurationError(
                f"journal {self.name}: no rights there: {_said(error)}. As the database's owner: CREATE SCHEMA "
                f"{self.schema} AUTHORIZATION the_service's_user"
            ) from None
        except (psycopg.Error, OSError) as error:
            link.close()
            raise StoreError(f"the journal cannot be used: {_said(error)}", self.name, _remedy(error)) from None
        except BaseException:
            link.close()
            raise
        return link

    def _look(self, link: _Connection) -> None:
        """Make the tables where there are none; refuse a newer layout and another service's."""
        found = self._found(link)
        if found is None and self._writes:
            self._make(link)
            found = self._found(link)
        if found is None:
            raise ConfigurationError(f"journal {self.name}: there is no journal in its schema {self.schema}; name another one")
        layout, service = found
        if layout > VERSION:
            raise ConfigurationError(
                f"journal {self.name}: was written by a newer frugal-meter (layout {layout}, this one knows {VERSION}); "
                "update frugal-meter, or name another schema. Nothing was changed"
            )
        if not self._writes or self._service is None:
            return
        if service is None:
            link.execute("UPDATE journal SET service = ? WHERE service IS NULL", (self._service,))
            service = link.execute("SELECT service FROM journal").fetchone()[0]
        if service != self._service:
            raise ConfigurationError(
                f"journal {self.name}: is the one of service {service!r}; give {self._service!r} a schema of its own: "
                "postgresql://…?schema=name"
            )

    def _found(self, link: _Connection) -> tuple[int, str | None] | None:
        # pg_class, not to_regclass: a table that we may not read is there all the same
        there = link.execute(
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = ? AND c.relname = 'journal'",
            (self.schema,),
        ).fetchone()
        return link.execute("SELECT layout, service FROM journal").fetchone() if there else None

    def _make(self, link: _Connection) -> None:
        link.execute("BEGIN")
        link.execute("SELECT pg_advisory_xact_lock(?)", (_MAKING,))
        if self._found(link) is None:  # else another host has been first
            if not link.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self.schema,)).fetchone():
                link.execute(f'CREATE SCHEMA "{self.schema}"')
            for statement in filter(str.strip, _TABLES.split(";")):
                link.execute(statement)
            link.execute("INSERT INTO journal(layout, service) VALUES (?, ?)", (VERSION, self._service))
        link.execute("COMMIT")


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that does not wait for an answer for longer than ``patience_s``, and takes question marks for values."""

    patience_s: float | None = CONNECT_S

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """See `psycopg.Connection`."""
        return super().execute(_spoken(query), params or None, **options)

    def executemany(self, query: str, values: Iterable[Sequence[Any]]) -> None:
        """The query for each row of values, in as few exchanges as can be."""
        if rows := list(values):
            with self.cursor() as cursor:
                cursor.executemany(_spoken(query), rows)

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """See `psycopg.Connection`; raises OperationalError when patience is at its end."""
        return super().wait(gen if self.patience_s is None else _until(gen, self.patience_s), *args, **options)


def _until(gen: Generator[Any, Any, T], patience_s: float) -> Generator[Any, Any, T]:
    """``gen``, asked in between, several times a second, whether anything has come."""
    end = time.monotonic() + patience_s
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > end:
                raise psycopg.OperationalError(f"the server has not answered for {patience_s:g} s")
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _spoken(query: Any) -> Any:
    # No query here holds a percent sign, or a question mark that stands for itself.
    return query.replace("?", "%s") if isinstance(query, str) else query


def _parsed(where: str) -> tuple[str, str, str]:
    """What libpq is told, the schema, and how the address is shown. Raises ConfigurationError that never holds the password."""
    try:
        parts = urlsplit(where)
        asked = parse_qsl(parts.query, keep_blank_values=True)
        # libpq wants percent signs for spaces, and knows no schema.
        query = urlencode([pair for pair in asked if pair[0] != "schema"]).replace("+", "%20")
        told = conninfo_to_dict(urlunsplit(parts._replace(query=query)))
    except (psycopg.Error, ValueError):
        raise ConfigurationError(
            "journal postgresql://…: is no address of a database: write postgresql://user@host:5432/database, and "
            "percent signs for what has a meaning in an address (@ is %40)"
        ) from None
    schema = dict(asked).get("schema", SCHEMA)
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema) or schema.startswith("pg_"):
        raise ConfigurationError(f"journal: schema={schema!r} cannot be: a small letter, then small letters, digits and _")
    at = f"{told['user']}@" if told.get("user") else ""
    port = f":{told['port']}" if told.get("port") else ""
    shown = f"postgresql://{at}{told.get('host') or ''}{port}/{told.get('dbname') or ''}"
    # Of a machine that is gone nothing is ever heard: the system asks, and gives up after half a minute.
    defaults = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
    given = {**defaults, "connect_timeout": CONNECT_S, "application_name": "frugal-meter", **told}
    return make_conninfo("", **given), schema, shown if schema == SCHEMA else f"{shown}?schema={schema}"


def _said(error: BaseException) -> str:
    """What went wrong in one line: the server's own words, in its language."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = [line.strip() for line in str(primary or error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return re.sub(r"^.*\b(?:FATAL|failed):\s+", "", line).rstrip(".")


def _remedy(error: BaseException) -> str:
    return next((text for kinds, text in _REMEDIES if isinstance(error, kinds)), "Look at the server's log.")


_REMEDIES: Final = (
    (psycopg.errors.DiskFull, "Its disk is full: make room."),
    (psycopg.errors.InsufficientPrivilege, "Give the service's user its rights back on the schema's tables."),
    (psycopg.errors.ReadOnlySqlTransaction, "It is a replica: name the primary, or add target_session_attrs=read-write."),
    (psycopg.errors.QueryCanceled, "It was too slow, or another session holds a lock: see pg_stat_activity."),
    (psycopg.OperationalError, "It is tried again by itself."),
)
