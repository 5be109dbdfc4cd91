"""What only a server can do to a journal: be away, be killed, be silent, answer nothing to a commit, refuse in many ways."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PATIENCE_S, Database, PostgresServer, a_postgres
from typer.testing import CliRunner

from frugal_meter import Meter
from frugal_meter.cli.app import app
from frugal_meter.errors import ConfigurationError, StoreError
from frugal_meter.journal import postgresql
from frugal_meter.journal.opening import open_store
from frugal_meter.journal.rows import Batch
from frugal_meter.journal.store import HOUR_NS, JournalStore
from frugal_meter.journal.writer import Journal
from frugal_meter.study import folder
from frugal_meter.study.results import decoded
from frugal_meter.testing import SyntheticSource
from tests.support import burn, metered

ROOT = Path(__file__).parent.parent
EMPTY = Batch((), (), (), ())


@pytest.fixture
def database(postgres: PostgresServer) -> Database:
    return postgres.database()


def opened(address: str, *, create: bool = False) -> JournalStore:
    return open_store(address, create=create)


def serve(meter: Meter, times: int = 1) -> None:
    for _ in range(times):
        with meter.measure("answer", unit="answer") as span:
            span.add_units(1)
            burn(0.002)


def caught_up(meter: Meter) -> None:
    assert meter.journal is not None
    meter.journal.store.hurry()
    meter.settle()
    assert meter.journal.waiting == 0, meter.errors


def sound(address: str, meter: Meter, readings: int) -> None:
    """All readings are there once, and books without a hole or a doublet between them."""
    with opened(address) as journal:
        assert len(list(journal.readings())) == readings
        assert journal.verify() == []
        rows = sorted((row.books for row in journal.passes()), key=lambda books: books.t0_ns)
    assert [one.t1_ns for one in rows[:-1]] == [then.t0_ns for then in rows[1:]]


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == code, done.output
    return done.stdout if code in (0, 3) else done.output


# -- away


def test_a_server_that_is_killed_and_comes_back_holds_all_and_nothing_twice() -> None:
    with a_postgres() as server:
        address = server.database().address
        with metered(journal=address) as (meter, _):
            serve(meter, 2)
            meter.settle()
            server.kill()
            for _ in range(3):
                serve(meter, 2)
                meter.settle()
            assert meter.journal is not None
            assert meter.journal.waiting == 6
            assert meter.errors["export"] == 3
            server.start()
            serve(meter)
            caught_up(meter)
            assert meter.dropped == 0
        sound(address, meter, 9)


def test_a_service_starts_without_its_server_and_catches_up_when_there_is_one() -> None:
    with a_postgres() as server:
        address = server.database().address
        server.kill()
        with metered(journal=address) as (meter, _):
            serve(meter, 3)
            meter.settle()
            server.start()
            caught_up(meter)
        sound(address, meter, 3)


def test_a_server_that_is_away_is_not_asked_at_every_tick(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(database.address, create=True) as store:
        attempts = []
        connect = postgresql._Connection.connect.__func__
        monkeypatch.setattr(
            postgresql._Connection, "connect", classmethod(lambda *a, **k: attempts.append(1) or connect(*a, **k))
        )
        monkeypatch.setattr(store, "_conninfo", store._conninfo.replace(f"port={database.server.port}", "port=1"))
        for _ in range(5):
            with pytest.raises(StoreError, match="refused"):
                store.write(EMPTY)
        assert attempts == [1]
        store.hurry()
        with pytest.raises(StoreError):
            store.write(EMPTY)
        assert attempts == [1, 1]


def test_a_server_that_is_silent_holds_up_no_request_and_no_reading_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with metered(journal=database.address) as (meter, _):
        serve(meter)
        meter.settle()
        ((pid,),) = database.run(f"SELECT pid FROM pg_stat_activity WHERE usename = '{database.name}'")
        os.kill(pid, signal.SIGSTOP)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(postgresql, "ANSWER_S", 0.2)
                serve(meter, 2)
                meter.settle()
            assert meter.journal is not None
            assert meter.journal.waiting == 2
            assert meter.errors["export"] == 1
        finally:
            os.kill(pid, signal.SIGCONT)
        caught_up(meter)
    sound(database.address, meter, 3)


class Proxy:
    """Between a service and its server; asked to, it hands a commit on and lets no answer to it come back."""

    def __init__(self, port: int) -> None:
        self._to, self.swallows = port, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.swallowed = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError), self._listener:
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(("127.0.0.1", self._to)) as server:
                    self._between(client, server)

    def _between(self, client: socket.socket, server: socket.socket) -> None:
        doomed = False
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(65536)
                if source is client and self.swallows and b"COMMIT" in data:
                    self.swallows, doomed = False, True
                elif source is server and doomed:
                    self.swallowed.set()
                    return
                if not data:
                    return
                (server if source is client else client).sendall(data)

    def close(self) -> None:
        """Take no more, and return when the last has gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)


def test_a_commit_that_went_through_without_an_answer_is_not_kept_twice(database: Database) -> None:
    proxy = Proxy(database.server.port)
    address = database.address.replace(str(database.server.port), f"{proxy.port}") + "?sslmode=disable"
    with metered(journal=address) as (meter, _):
        serve(meter)
        meter.settle()
        proxy.swallows = True
        serve(meter, 2)
        meter.feedback("0" * 36, 1)
        meter.settle()
        assert proxy.swallowed.wait(PATIENCE_S)
        assert meter.journal is not None
        assert meter.journal.waiting == 2
        with opened(database.address) as journal:
            assert journal.info()["readings"] == 3  # it went through
        caught_up(meter)
    proxy.close()
    sound(database.address, meter, 3)
    with opened(database.address) as journal:
        assert journal.info()["feedback"] == 1


# -- several hosts


def test_hosts_that_begin_at_once_make_the_tables_once_one_after_the_other(database: Database) -> None:
    stores: list[Any] = []
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with database.server.admin(database.name) as other:
        other.execute("BEGIN")
        other.execute(f"SELECT pg_advisory_xact_lock({postgresql._MAKING})")
        threads = [threading.Thread(target=lambda: stores.append(open_store(database.address))) for _ in range(3)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while database.run(waiting) != [(3,)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.execute("ROLLBACK")
        for thread in threads:
            thread.join(PATIENCE_S)
    assert [store._away for store in stores] == [None] * 3
    assert database.run("SELECT count(*) FROM frugal_meter.journal") == [(1,)]


def test_one_host_rolls_up_and_the_others_pass(database: Database) -> None:
    with metered(journal=database.address) as (meter, _):
        serve(meter)
        meter.settle()
    with opened(database.address, create=True) as journal, database.server.admin(database.name) as other:
        other.execute("BEGIN")
        other.execute(f"SELECT pg_advisory_xact_lock({postgresql._ROLLING})")
        journal.roll_up(2**62)
        assert journal.info()["tallies"] == 0
        other.execute("ROLLBACK")
        journal.roll_up(2**62)
        assert (journal.info()["tallies"], journal.info()["readings"]) == (1, 0)


def test_a_reading_that_comes_while_another_host_rolls_up_is_not_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with metered(journal=database.address) as (meter, out):
        serve(meter)
        meter.settle()
        late = out.readings[0].id
    # Taken out, and brought back by another host in the middle of the roll-up of its hour.
    (row,) = database.run("SELECT id, started_s, settled_ns, context, body FROM frugal_meter.readings")
    database.run("DELETE FROM frugal_meter.readings")
    scored = JournalStore._scored

    def meanwhile(*given: Any) -> Any:
        rows = list(scored(*given))
        with database.server.admin(database.name) as other:
            other.execute("INSERT INTO frugal_meter.readings VALUES (%s, %s, %s, %s, %s)", row)
        return rows

    hour = row[2] // HOUR_NS * HOUR_NS
    with opened(database.address, create=True) as journal:
        database.run(f"INSERT INTO frugal_meter.readings VALUES ('other', 0, {row[2]}, {row[3]}, '{row[4]}')")
        with monkeypatch.context() as patch:
            patch.setattr(JournalStore, "_scored", staticmethod(meanwhile))
            journal.roll_up(hour + HOUR_NS)
        assert [reading.id for reading in journal.readings()] == [late]
        assert sum(tally.count for tally in journal.rolled()) == 1
        journal.roll_up(hour + HOUR_NS)
        assert sum(tally.count for tally in journal.rolled()) == 2


def test_the_schema_is_one_services_and_another_is_refused_in_one_line(database: Database) -> None:
    settings: dict[str, Any] = {"zone": "FR", "sources": SyntheticSource(2.0, 10.0), "tick": 60}
    with Meter("one", journal=database.address, **settings) as meter:
        meter.settle()
    with pytest.raises(ConfigurationError, match="is the one of service 'one'; give 'other' a schema of its own") as refused:
        Meter("other", journal=database.address, **settings)
    assert "hunter2" not in str(refused.value)
    with Meter("other", journal=database.of(more="?schema=other"), **settings) as meter:
        serve(meter)
        meter.settle()
    with opened(database.of(more="?schema=other")) as journal:
        assert journal.services() == ["other"]


# -- refused


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (lambda d: d.of(password="hunter2-wrong"), "password authentication failed"),
        (lambda d: d.of(database="nowhere"), 'database "nowhere" does not exist'),
        (lambda d: d.of(more="?schema=Großes"), "schema="),
        (lambda d: d.of(more="?schema=pg_x"), "schema="),
        (lambda d: d.of(more="?password=hunter2&nothing=1"), "no address of a database"),
        (lambda d: d.of().replace("@127", "@[127"), "no address of a database"),
    ],
    ids=["password", "database", "schema", "reserved", "parameter", "shape"],
)
@pytest.mark.parametrize("create", [True, False], ids=["service", "reader"])
def test_what_will_never_work_is_refused_at_start_in_one_line_without_the_password(
    address: Callable[[Database], str], says: str, create: bool, database: Database
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store(address(database), create=create).info()
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_no_right_to_make_a_schema_is_said_with_the_statement_that_gives_it(database: Database) -> None:
    database.run("CREATE ROLE guest_of_one LOGIN PASSWORD 'hunter2'")
    with pytest.raises(ConfigurationError, match="no rights there: permission denied") as refused:
        open_store(database.of(user="guest_of_one"))
    assert "CREATE SCHEMA frugal_meter AUTHORIZATION" in str(refused.value)
    database.run("CREATE SCHEMA frugal_meter AUTHORIZATION guest_of_one")
    with opened(database.of(user="guest_of_one"), create=True) as journal:
        assert journal.info()["readings"] == 0


def test_a_reader_with_no_more_than_select_reads_and_cannot_write(database: Database) -> None:
    with metered(journal=database.address) as (meter, _):
        serve(meter)
        meter.settle()
    database.run(
        "CREATE ROLE auditor LOGIN PASSWORD 'hunter2'",
        "GRANT USAGE ON SCHEMA frugal_meter TO auditor",
        "GRANT SELECT ON ALL TABLES IN SCHEMA frugal_meter TO auditor",
    )
    address = database.of(user="auditor")
    assert json.loads(run("journal", "info", address))["readings"] == 1
    assert "cannot be used" in run("journal", "purge", address, "--before", "2100-01-01", code=2)


def test_rights_that_are_taken_away_later_hurt_the_journal_alone(database: Database) -> None:
    with metered(journal=database.address) as (meter, _):
        serve(meter)
        meter.settle()
        database.run(f"REVOKE ALL ON ALL TABLES IN SCHEMA frugal_meter FROM {database.name}")
        serve(meter, 2)
        meter.settle()
        assert meter.errors["export"] == 1
        database.run(f"GRANT ALL ON ALL TABLES IN SCHEMA frugal_meter TO {database.name}")
        caught_up(meter)
    sound(database.address, meter, 3)


def test_without_psycopg_the_pip_command_is_said() -> None:
    script = """
import sys
sys.modules["psycopg"] = None
from frugal_meter.journal.writer import Journal
Journal("postgresql://db/journal")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert "pip install 'frugal-meter[postgresql]'" in done.stderr.splitlines()[-1]


# -- the commands


def test_every_command_takes_the_address_of_a_database(database: Database, tmp_path: Path) -> None:
    with metered(journal=database.address) as (meter, out):
        serve(meter, 6)
        meter.settle()
    at = database.address
    assert json.loads(run("journal", "info", at))["path"] == at.replace(":hunter2", "")
    assert "sound" in run("journal", "verify", at, "--lang", "en")
    assert json.loads(run("journal", "period", at, "--unit", "answer", "--json"))["units"] == 6
    lines = [json.loads(line) for line in run("journal", "export", at).splitlines() if line.startswith("{")]
    assert sorted(line["id"] for line in lines if line["type"] == "reading") == sorted(r.id for r in out.readings)
    id = out.readings[0].id
    assert id in run("explain", id, "--from", at, "--lang", "en")
    assert "B ÷ A = 1" in run("compare", at, at, "--lang", "en")
    assert "hunter2" not in run("compare", at, id, "--from", at, "--lang", "en")
    (clauses := tmp_path / "clauses.toml").write_text(
        "[[period]]\nbegin=2020-01-01\nend=2020-01-02\n[[clause]]\nfigure='measured'\nat_least=0.5\n"
    )
    told = json.loads(run("clauses", "check", clauses, "--journal", at, "--json", code=3))
    assert told["journal"] == at.replace(":hunter2", "")
    assert "over what was served" in run(
        "study", "from-journal", at, "--unit", "answer", "--out", tmp_path / "study", "--lang", "en"
    )
    (variant,) = decoded((tmp_path / "study/study.json").read_bytes()).variants
    assert (variant.requests, variant.load.units, folder.verify(tmp_path / "study")[0]) == (6, 6.0, [])
    assert "hunter2" not in "".join(file.read_text() for file in (tmp_path / "study").rglob("*") if file.is_file())
    assert json.loads(run("journal", "purge", at, "--before", "2100-01-01"))["readings"] == 6
    assert "is empty" in run("journal", "period", at, code=2)


def test_a_database_without_a_journal_is_said_to_have_none(database: Database) -> None:
    output = run("journal", "info", database.address, code=2)
    assert "there is no journal in its schema frugal_meter" in output
    assert database.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'frugal_meter'") == [(0,)]


def test_a_server_that_does_not_answer_is_one_line() -> None:
    output = run("journal", "info", "postgresql://frugal:hunter2@127.0.0.1:1/journal", code=2)
    assert output.count("\n") == 1
    assert "Connection refused (postgresql://frugal@127.0.0.1:1/journal)" in output


def test_a_journal_of_a_database_is_stopped_without_an_open_connection(database: Database) -> None:
    journal = Journal(database.address)
    with metered(journal=journal) as (meter, _):
        serve(meter)
        meter.settle()
    assert database.run(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{database.name}'") == [(0,)]
