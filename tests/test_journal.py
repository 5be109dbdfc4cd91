"""The journal holds what settled, through kill -9, locks, full disks and damaged files, and never costs the service a request."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frugal_meter import Budget, Meter
from frugal_meter.errors import BudgetRefused, ConfigurationError
from frugal_meter.journal import sqlite as files
from frugal_meter.journal import writer
from frugal_meter.journal.sqlite import SqliteJournal
from frugal_meter.journal.store import HOUR_NS
from frugal_meter.journal.writer import Journal
from frugal_meter.periods import period
from frugal_meter.testing import FrozenClock, RecordingExporter, SyntheticSource
from tests.support import PATIENCE_S, ask, burn, metered

HOUR_S = 3600
ROOT = Path(__file__).parent.parent


def address(path: Path) -> str:
    return f"sqlite:///{path}"


@contextmanager
def kept(path: Path, **settings: Any) -> Iterator[tuple[Meter, RecordingExporter]]:
    with metered(journal=address(path), **settings) as (meter, out):
        yield meter, out


def serve(meter: Meter, times: int = 1, **measured: Any) -> None:
    for _ in range(times):
        with meter.measure("answer", unit="answer", **measured) as span:
            span.add_units(1)
            burn(0.002)


def test_readings_come_out_as_they_went_in_and_books_with_their_spans(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with kept(path) as (meter, out):
        with meter.measure("answer", model="tiny", unit="answer") as span:
            span.add_tokens(input=3, output=5)
            span.quality(0.5, metric="exact")
            burn(0.002)
        meter.settle()
        ticks, readings = list(out.ticks), list(out.readings)
    journal = SqliteJournal(path, create=False)
    assert list(journal.readings()) == readings
    assert journal.find(readings[0].id) == readings[0]
    assert journal.find("nobody") is None
    rows = list(journal.passes())
    (drawn,) = [row.spans["synthetic"][0] for row in rows if row.spans]
    key = int(readings[0].id.replace("-", ""), 16) & (1 << 34) - 1
    assert drawn == {key: next(t.requests_nj[key] for t in ticks if t.requests_nj)}
    assert journal.verify() == []
    assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_a_period_figure_out_of_the_journal_is_the_one_of_the_ticks(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with kept(path, host_share=0.5) as (meter, out):
        serve(meter, 3)
        meter.settle()
    journal = SqliteJournal(path, create=False)
    figures = period((r.books for r in journal.passes()), journal.tallies(), begin_s=0, end_s=1, unit="answer")
    assert figures.units == 3
    assert figures.host_nj == sum(tick.energy_nj for tick in out.ticks)
    assert figures.total_nj == sum(sum(t.requests_nj.values()) + t.late_nj + t.overhead_nj + (t.slice_nj or 0) for t in out.ticks)
    assert figures.carbon_g.low < figures.carbon_g.mid < figures.carbon_g.high


def test_quiet_ticks_take_one_row(tmp_path: Path) -> None:
    with kept(tmp_path / "journal.db") as (meter, out):
        for _ in range(20):
            meter.settle()
        told = sum(tick.energy_nj for tick in out.ticks)
        rows = list(SqliteJournal(tmp_path / "journal.db", create=False).passes())
    assert len(rows) <= 2  # the first tick knows nothing of idle yet
    assert sum(row.books.books[0].energy_nj for row in rows) == told


def test_kill_9_under_load_loses_at_most_the_tick_that_was_under_way(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    house = subprocess.Popen(
        [sys.executable, "-m", "tests.journal_house", str(path)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert house.stdout is not None
    told = [house.stdout.readline().strip() for _ in range(8)]
    house.send_signal(signal.SIGKILL)
    told += house.stdout.read().split()
    house.wait(PATIENCE_S)
    house.stdout.close()
    journal = SqliteJournal(path)
    held = {reading.id for reading in journal.readings()}
    assert set(told) <= held
    assert len(held) > len(told)
    assert journal.verify() == []
    passes = list(journal.passes())
    assert all(one.books.t1_ns == then.books.t0_ns for one, then in pairwise(passes))
    journal.close()


def test_a_locked_journal_waits_and_then_holds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BUSY_S", 0.01)
    path = tmp_path / "journal.db"
    with kept(path) as (meter, _):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        serve(meter, 4)
        meter.settle()
        assert meter.journal is not None
        assert meter.journal.waiting == 4
        assert meter.errors["export"] >= 1
        other.execute("ROLLBACK")
        other.close()
        meter.settle()
        assert meter.journal.waiting == 0
        assert len(list(SqliteJournal(path, create=False).readings())) == 4
        assert meter.dropped == 0


def test_a_full_disk_costs_no_request_and_the_journal_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """Full by RLIMIT_FSIZE, in a process of its own: the limit is the process's."""
    script = f"""
import resource, signal
from tests.test_journal import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path({str(tmp_path / "journal.db")!r})
with kept(path) as (meter, out):
    serve(meter); meter.settle()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{{path}}-wal").stat().st_size, hard))
    serve(meter, 30); meter.settle()
    assert meter.journal.waiting == 30, meter.journal.waiting
    assert meter.errors["export"] == 1, meter.errors
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    meter.settle()
    assert meter.journal.waiting == 0
journal = SqliteJournal(path, create=False)
assert len(list(journal.readings())) == 31
assert journal.verify() == []
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_waits_too_long_is_let_go_oldest_first_and_the_journal_says_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BUSY_S", 0.01)
    monkeypatch.setattr(writer, "MOST_WAITING", 5)
    path = tmp_path / "journal.db"
    with kept(path) as (meter, out):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(4):
            serve(meter, 2)
            meter.settle()
        assert meter.dropped == 4
        other.execute("ROLLBACK")
        other.close()
        meter.settle()
        newest = [reading.id for reading in out.readings][-4:]
    journal = SqliteJournal(path, create=False)
    assert [reading.id for reading in journal.readings()] == newest
    info = journal.info()
    assert (info["readings"], info["lost_readings"], info["lost_ticks"]) == (4, 4, 2)


def test_a_journal_of_a_newer_version_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    made = SqliteJournal(path)
    made.roll_up(0)
    made.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"newer frugal-meter \(layout 99") as refused:
        Journal(address(path))
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


def truncated(path: Path) -> int:
    with kept(path) as (meter, _):
        for _ in range(40):
            serve(meter, 5)
            meter.settle()
    whole = path.stat().st_size
    assert not Path(f"{path}-wal").exists()
    os.truncate(path, whole - 8192)
    return whole


def test_of_a_truncated_journal_what_is_left_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    truncated(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="its end is missing; save what is left"):
        Journal(address(path))
    journal = SqliteJournal(path, create=False)
    saved = [reading.id for reading in journal.saved_readings()]
    assert 100 < len(saved) == len(set(saved)) <= 200
    assert len(list(journal.saved_passes())) > 20
    assert journal.damage is not None
    assert "malformed" in journal.damage
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a letter to the mayor\n" * 20, b"SQLite format 3\0" + bytes(200)])
def test_somebody_elses_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="something else's file"):
        Journal(address(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("where", "settings", "says"),
    [
        ("postgresql://user:hunter2@db/journal", {}, "not postgresql://…"),
        (5, {}, "not 5"),
        ("sqlite:///", {}, "journal is"),
        ("sqlite:////nowhere/at/all.db", {}, "folder does not exist"),
        ("sqlite:///{}", {"raw_days": 0}, "raw_days=0"),
        ("sqlite:///{}", {"keep_days": True}, "keep_days=True"),
        ("sqlite:///{}", {"tenants": "plain"}, 'tenants is "drop" or "hash"'),
        ("sqlite:///{}", {"tenants": "hash"}, "FRUGAL_JOURNAL_KEY"),
    ],
)
def test_a_journal_that_cannot_be_is_refused_in_one_line(
    where: Any, settings: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRUGAL_JOURNAL_KEY", raising=False)
    with pytest.raises(ConfigurationError) as refused:
        Journal(where.format(tmp_path / "j.db") if isinstance(where, str) else where, **settings)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def by_tenant(path: Path, tenants: Any) -> tuple[Journal, list[Any], list[Any]]:
    journal = Journal(address(path), tenants=tenants)
    budget = Budget("each", "1 requests", per="day", key=("tenant", "model"), timezone="UTC")
    with metered(journal=journal, budgets=[budget], log_tenants=True) as (meter, _):
        for _ in range(2):
            with suppress(BudgetRefused), meter.measure("answer", tenant="mairie-de-quimper", model="tiny"):
                pass
        meter.settle()
    store = SqliteJournal(path, create=False)
    return journal, list(store.readings()), list(store.decisions())


@pytest.mark.parametrize("tenants", ["drop", "hash"])
def test_no_tenant_is_in_the_file_by_name(tenants: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_JOURNAL_KEY", "a key of the operator's own")
    _, readings, decisions = by_tenant(tmp_path / "journal.db", tenants)
    assert {reading.outcome for reading in readings} == {"ok", "refused"}
    (refusal,) = [entry for entry in decisions if entry.action == "refuse"]
    (tenant,) = {reading.tenant for reading in readings}
    assert refusal.key == (tenant or "", "tiny")
    assert (tenant is None) == (tenants == "drop")
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"quimper" not in content


def test_old_readings_become_hours_with_every_nanojoule_and_scores_too(tmp_path: Path) -> None:
    path, clock = tmp_path / "journal.db", FrozenClock()
    with kept(path, clock=clock) as (meter, out):
        for _ in range(3):
            serve(meter, 2)
            clock.advance(HOUR_S / 2)
            meter.settle()
        meter.feedback(out.readings[0].id, 0.5, "thumb")
        meter.settle()
    journal = SqliteJournal(path)
    before = period((r.books for r in journal.passes()), journal.tallies(), begin_s=0, end_s=1, unit="answer")
    journal.roll_up(clock.time_ns() + 10 * HOUR_NS)
    after = period((r.books for r in journal.passes()), journal.tallies(), begin_s=0, end_s=1, unit="answer")
    info = journal.info()
    assert (info["readings"], info["feedback"]) == (0, 0)
    assert info["tallies"] >= 2
    whole = {name: value for name, value in msgspec.structs.asdict(before).items() if not isinstance(value, float)}
    assert {name: getattr(after, name) for name in whole if name.endswith("_nj") or isinstance(whole[name], int)} == {
        name: value for name, value in whole.items() if name.endswith("_nj") or isinstance(value, int)
    }
    assert (before.quality, before.quality_count) == (after.quality, after.quality_count) == (0.5, 1)
    assert journal.verify() == []
    journal.close()


def test_the_running_journal_rolls_up_and_deletes_what_is_old(tmp_path: Path) -> None:
    path, clock = tmp_path / "journal.db", FrozenClock()
    settings = {"clock": clock, "sources": SyntheticSource(2.0, 10.0)}
    with metered(journal=Journal(address(path), raw_days=1, keep_days=10), **settings) as (meter, _):
        serve(meter)
        meter.settle()
    clock.advance(3 * 86_400)
    with metered(journal=Journal(address(path), raw_days=1, keep_days=10), **settings):
        assert SqliteJournal(path, create=False).info()["tallies"] == 1
    clock.advance(30 * 86_400)
    with metered(journal=Journal(address(path), raw_days=1, keep_days=10), **settings):
        assert SqliteJournal(path, create=False).info()["tallies"] == 0


def test_purging_leaves_nothing_of_it_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with kept(path) as (meter, out):
        serve(meter, model="tiny-model")
        meter.settle()
        id = out.readings[0].id
    journal = SqliteJournal(path)
    gone = journal.purge(2**62)
    assert gone["readings"] == 1
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert id.encode() not in content
    assert journal.info()["passes"] == 0
    journal.close()


def test_a_child_of_a_fork_writes_what_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with kept(path) as (meter, _):
        serve(meter)
        meter.settle()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with meter:
                    serve(meter, 2)
                    status = 0 if meter.settle() else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        serve(meter)
    journal = SqliteJournal(path, create=False)
    assert len(list(journal.readings())) == 4
    assert len({row.books.process for row in journal.passes()}) == 2


# -- quality


def test_feedback_that_comes_later_is_kept_with_its_reading(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with kept(path) as (meter, out):
        serve(meter, 2)
        meter.settle()
        meter.feedback(out.readings[1].id, 1, metric="thumb")
        meter.settle()
    journal = SqliteJournal(path, create=False)
    (said,) = journal.feedback()
    assert (said.reading, said.score, said.metric) == (out.readings[1].id, 1.0, "thumb")
    figures = period((), journal.tallies(), begin_s=0, end_s=1)
    assert (figures.quality, figures.quality_count) == (1.0, 1)


@pytest.mark.parametrize(
    ("given", "says"),
    [(("x", 0.5), "is no id"), (("0" * 36, 2), "score=2"), (("0" * 36, True), "score=True"), (("0" * 36, 0.1, 5), "metric=5")],
)
def test_feedback_that_means_nothing_is_refused(given: Any, says: str, tmp_path: Path) -> None:
    with kept(tmp_path / "journal.db") as (meter, _), pytest.raises(ConfigurationError, match=says):
        meter.feedback(*given)


def test_feedback_without_a_journal_is_refused() -> None:
    with metered() as (meter, _), pytest.raises(ConfigurationError, match="there is none"):
        meter.feedback("0" * 36, 1)


JSON = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("headers", "body", "client", "status"),
    [
        ([JSON], b'{"id": "ID", "score": 0.25, "metric": "thumb"}', "127.0.0.1", 202),
        ([JSON], b'{"id": "ID", "score": 0.25}', "203.0.113.9", 403),
        ([JSON, (b"x-forwarded-for", b"127.0.0.1")], b'{"id": "ID", "score": 0.25}', "127.0.0.1", 403),
        ([], b'{"id": "ID", "score": 0.25}', "127.0.0.1", 415),
        ([JSON], b'{"id": "ID", "score": 7}', "127.0.0.1", 400),
        ([JSON], b'{"id": "ID", "score": 1, "name": "Marie"}', "127.0.0.1", 400),
        ([JSON], b"\xff", "127.0.0.1", 400),
        ([JSON], b" " * 5000, "127.0.0.1", 413),
    ],
)
def test_feedback_over_http_is_taken_from_the_machine_itself_only(
    headers: Any, body: bytes, client: str, status: int, tmp_path: Path
) -> None:
    path = tmp_path / "journal.db"
    with kept(path) as (meter, out):
        serve(meter)
        meter.settle()
        request = ask(
            meter.ops_app(public=True),
            "/feedback",
            method="POST",
            client=(client, 40_000),
            headers=headers,
            messages=[{"type": "http.request", "body": body.replace(b"ID", out.readings[0].id.encode()), "more_body": False}],
        )
        assert asyncio.run(request)[0]["status"] == status
        meter.settle()
    scores = [f.score for f in SqliteJournal(path, create=False).feedback()]
    assert scores == ([0.25] if status == 202 else [])
