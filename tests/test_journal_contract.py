"""What every journal holds to, in an SQLite file and in a PostgreSQL database alike: the same tests over both."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from postgres_server import Database

from frugal_meter import Budget, Meter
from frugal_meter.declaration.keeping import Kept, kept_of
from frugal_meter.errors import BudgetRefused, ConfigurationError, StoreError
from frugal_meter.journal import postgresql, sqlite, writer
from frugal_meter.journal.figures import figures_of, span_of
from frugal_meter.journal.opening import open_store
from frugal_meter.journal.rows import Batch, Feedback, reading_row
from frugal_meter.journal.store import HOUR_NS, JournalStore
from frugal_meter.journal.writer import Journal
from frugal_meter.periods import period
from frugal_meter.testing import FrozenClock, RecordingExporter, SyntheticSource
from tests.clause_house import BEGIN_NS, a_pass, a_reading
from tests.support import PATIENCE_S, burn, metered

HOUR_S = 3600
ROOT = Path(__file__).parent.parent


class File:
    """A journal that is a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.address = path, f"sqlite:///{path}"

    @contextmanager
    def locked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Somebody else holds it."""
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "BUSY_S", 0.01)
            other = sqlite3.connect(self.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
            other.close()

    def run(self, statement: str) -> None:
        db = sqlite3.connect(self.path)
        db.execute(statement)
        db.commit()
        db.close()

    def content(self) -> bytes:
        """All that lies there."""
        return b"".join(file.read_bytes() for file in self.path.parent.iterdir())


class Server:
    """A journal that is a database."""

    def __init__(self, database: Database) -> None:
        self.database, self.address = database, database.address

    @contextmanager
    def locked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch, self.database.server.admin(self.database.name) as other:
            patch.setattr(postgresql, "ANSWER_S", 0.05)
            other.execute("BEGIN")
            other.execute("LOCK TABLE frugal_meter.writers IN ACCESS EXCLUSIVE MODE")
            yield
            other.execute("ROLLBACK")

    def run(self, statement: str) -> None:
        self.database.run("SET search_path TO frugal_meter", statement)

    def content(self) -> bytes:
        tables = ("readings", "contexts", "passes", "decisions", "feedback", "tallies", "journal", "writers")
        rows = [self.database.run(f"SELECT t::text FROM frugal_meter.{table} t") for table in tables]
        return repr(rows).encode()


Place = File | Server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return File(tmp_path / "journal.db")
    return Server(request.getfixturevalue("postgres").database())


@contextmanager
def kept(place: Place, **settings: Any) -> Iterator[tuple[Meter, RecordingExporter]]:
    with metered(journal=place.address, **settings) as (meter, out):
        yield meter, out


def read(place: Place) -> JournalStore:
    return open_store(place.address, create=False)


def serve(meter: Meter, times: int = 1, **measured: Any) -> None:
    for _ in range(times):
        with meter.measure("answer", unit="answer", **measured) as span:
            span.add_units(1)
            burn(0.002)


def caught_up(meter: Meter) -> None:
    """Settle until nothing waits for the journal any more."""
    journal = meter.journal
    assert journal is not None
    journal.store.hurry()
    meter.settle()
    assert journal.waiting == 0, meter.errors


def test_readings_come_out_as_they_went_in_and_books_with_their_spans(place: Place) -> None:
    with kept(place) as (meter, out):
        with meter.measure("answer", model="tiny", unit="answer") as span:
            span.add_tokens(input=3, output=5)
            span.quality(0.5, metric="exact")
            burn(0.002)
        meter.settle()
        ticks, readings = list(out.ticks), list(out.readings)
    with read(place) as journal:
        assert list(journal.readings()) == readings
        assert journal.find(readings[0].id) == readings[0]
        assert journal.find("nobody") is None
        rows = list(journal.passes())
        (drawn,) = [row.spans["synthetic"][0] for row in rows if row.spans]
        key = int(readings[0].id.replace("-", ""), 16) & (1 << 34) - 1
        assert drawn == {key: next(t.requests_nj[key] for t in ticks if t.requests_nj)}
        assert journal.verify() == []
        assert journal.services() == ["tests"]


def test_readings_of_many_ticks_can_be_read_in_turn_with_others(place: Place) -> None:
    with kept(place) as (meter, out):
        for _ in range(5):
            serve(meter, 3)
            meter.settle()
        ids = [reading.id for reading in out.readings]
    with read(place) as journal:
        assert [reading.id for reading in journal.readings() if journal.find(reading.id) == reading] == ids
        assert [reading.id for reading in journal.saved_readings()] == sorted(ids)
        assert [row.books for row in journal.saved_passes()] == [row.books for row in journal.passes()]


def test_a_period_figure_out_of_the_journal_is_the_one_of_the_ticks(place: Place) -> None:
    with kept(place, host_share=0.5) as (meter, out):
        serve(meter, 3)
        meter.settle()
    with read(place) as journal:
        figures = figures_of(journal, span_of(journal), "answer")
    assert figures.units == 3
    assert figures.host_nj == sum(tick.energy_nj for tick in out.ticks)
    assert figures.total_nj == sum(sum(t.requests_nj.values()) + t.late_nj + t.overhead_nj + (t.slice_nj or 0) for t in out.ticks)
    assert figures.carbon_g.low < figures.carbon_g.mid < figures.carbon_g.high


def test_quiet_ticks_take_one_row(place: Place) -> None:
    with kept(place) as (meter, out):
        for _ in range(20):
            meter.settle()
        told = sum(tick.energy_nj for tick in out.ticks)
        with read(place) as journal:
            rows = list(journal.passes())
    assert len(rows) <= 2  # the first tick knows nothing of idle yet
    assert sum(row.books.books[0].energy_nj for row in rows) == told


def test_kill_9_of_the_service_loses_at_most_the_tick_that_was_under_way(place: Place) -> None:
    house = subprocess.Popen(
        [sys.executable, "-m", "tests.journal_house", place.address], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert house.stdout is not None
    told = [house.stdout.readline().strip() for _ in range(8)]
    house.send_signal(signal.SIGKILL)
    told += house.stdout.read().split()
    house.wait(PATIENCE_S)
    house.stdout.close()
    with read(place) as journal:
        held = {reading.id for reading in journal.readings()}
        assert set(told) <= held
        assert len(held) > len(told)
        assert journal.verify() == []
        passes = list(journal.passes())
    assert all(one.books.t1_ns == then.books.t0_ns for one, then in pairwise(passes))


def test_a_locked_journal_waits_and_then_holds_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept(place) as (meter, _):
        assert meter.journal is not None
        with place.locked(monkeypatch):
            serve(meter, 4)
            meter.settle()
            assert meter.journal.waiting == 4
            assert meter.errors["export"] >= 1
        caught_up(meter)
        with read(place) as journal:
            assert len(list(journal.readings())) == 4
        assert meter.dropped == 0


def test_what_waits_too_long_is_let_go_oldest_first_and_the_journal_says_how_much(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_WAITING", 5)
    with kept(place) as (meter, out):
        with place.locked(monkeypatch):
            for _ in range(4):
                serve(meter, 2)
                meter.settle()
            assert meter.dropped == 4
        caught_up(meter)
        newest = [reading.id for reading in out.readings][-4:]
    with read(place) as journal:
        assert [reading.id for reading in journal.readings()] == newest
        info = journal.info()
        assert (info["readings"], info["lost_readings"], info["lost_ticks"]) == (4, 4, 2)
        assert journal.losses((0, info["begin_ns"])) == (0, 0)


def test_a_newer_layout_is_refused_in_one_line_and_left_as_it_is(place: Place) -> None:
    made = open_store(place.address)
    made.write(Batch((), (), (), ()))
    made.close()
    place.run("PRAGMA journal_mode = DELETE" if isinstance(place, File) else "SELECT 1")
    place.run("PRAGMA user_version = 99" if isinstance(place, File) else "UPDATE journal SET layout = 99")
    before = place.content()
    for create in (True, False):
        with pytest.raises(ConfigurationError, match=r"newer frugal-meter \(layout 99") as refused:
            open_store(place.address, create=create).info()
        assert "\n" not in str(refused.value)
        assert "hunter2" not in str(refused.value)
    assert place.content() == before


@pytest.mark.parametrize("tenants", ["drop", "hash"])
def test_no_tenant_is_in_it_by_name(tenants: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_JOURNAL_KEY", "a key of the operator's own")
    budget = Budget("each", "1 requests", per="day", key=("tenant", "model"), timezone="UTC")
    with metered(journal=Journal(place.address, tenants=tenants), budgets=[budget], log_tenants=True) as (meter, _):
        for _ in range(2):
            with suppress(BudgetRefused), meter.measure("answer", tenant="mairie-de-quimper", model="tiny"):
                pass
        meter.settle()
    with read(place) as journal:
        readings, decisions = list(journal.readings()), list(journal.decisions())
    assert {reading.outcome for reading in readings} == {"ok", "refused"}
    (refusal,) = [entry for entry in decisions if entry.action == "refuse"]
    (tenant,) = {reading.tenant for reading in readings}
    assert refusal.key == (tenant or "", "tiny")
    assert (tenant is None) == (tenants == "drop")
    assert b"quimper" not in place.content()


def test_old_readings_become_hours_with_every_nanojoule_and_scores_too(place: Place) -> None:
    clock = FrozenClock()
    with kept(place, clock=clock) as (meter, out):
        for _ in range(3):
            serve(meter, 2)
            clock.advance(HOUR_S / 2)
            meter.settle()
        meter.feedback(out.readings[0].id, 0.5, "thumb")
        meter.settle()
    journal = open_store(place.address)
    before = period((r.books for r in journal.passes()), journal.tallies(), begin_s=0, end_s=1, unit="answer")
    for _ in range(2):  # a second time there is nothing left to do
        journal.roll_up(clock.time_ns() + 10 * HOUR_NS)
        after = period((r.books for r in journal.passes()), journal.tallies(), begin_s=0, end_s=1, unit="answer")
        info = journal.info()
        assert (info["readings"], info["feedback"]) == (0, 0)
        assert info["tallies"] >= 2
        whole = msgspec.structs.asdict(before)
        exact = [name for name, value in whole.items() if name.endswith("_nj") or isinstance(value, int)]
        assert {name: getattr(after, name) for name in exact} == {name: whole[name] for name in exact}
        assert (before.quality, before.quality_count) == (after.quality, after.quality_count) == (0.5, 1)
        assert journal.verify() == []
    journal.close()


def test_what_became_sums_stays_in_the_hour_in_which_it_ended(place: Place) -> None:
    tick_ns = 7 * 10**8  # so that one lies across every full hour
    ticks = range(BEGIN_NS, BEGIN_NS + 3 * HOUR_NS, tick_ns)
    rows = [a_pass(1.0, at_ns=at, hours=tick_ns / HOUR_NS, spans=n % 2 == 0) for n, at in enumerate(ticks)]
    with open_store(place.address) as journal:
        journal.write(Batch(rows, [reading_row(a_reading(n), BEGIN_NS + n) for n in range(9)], (), ()))

        def by_hour() -> list[int]:
            hours = ((BEGIN_NS + n * HOUR_NS, BEGIN_NS + (n + 1) * HOUR_NS) for n in range(4))
            return [figures_of(journal, hour).total_nj for hour in hours]

        def declared() -> str:
            begin = datetime.fromtimestamp(BEGIN_NS / 1e9, UTC)
            kept = kept_of(journal, begin, begin + timedelta(hours=2), "answer")
            assert isinstance(kept, Kept)
            return kept.sha256

        before, sealed = by_hour(), declared()
        assert before == [sum(10**9 for at in ticks if (at + tick_ns - BEGIN_NS) // HOUR_NS == n) for n in range(4)]
        journal.roll_up(BEGIN_NS + 24 * HOUR_NS)
        assert (by_hour(), declared()) == (before, sealed)


def test_all_that_a_journal_holds_is_the_same_once_its_first_hour_is_sums(place: Place) -> None:
    began_ns = BEGIN_NS + HOUR_NS // 2
    with open_store(place.address) as journal:
        rows = [reading_row(a_reading(n), began_ns + n) for n in range(9)]
        journal.write(Batch([a_pass(1.0, at_ns=began_ns, hours=0.1)], rows, (), ()))
        before = figures_of(journal, span_of(journal), "answer")
        journal.roll_up(BEGIN_NS + 24 * HOUR_NS)
        after = figures_of(journal, span_of(journal), "answer")
    assert (before.units, before.total_nj) == (after.units, after.total_nj) == (9.0, 10**9)


def test_quiet_ticks_are_not_kept_as_one_across_a_full_hour(place: Place) -> None:
    tick_ns = 7 * 10**8
    ticks = range(BEGIN_NS, BEGIN_NS + HOUR_NS + 60 * tick_ns, tick_ns)
    with open_store(place.address) as journal:
        journal.write(Batch([a_pass(1.0, at_ns=at, hours=tick_ns / HOUR_NS) for at in ticks], (), (), ()))
        assert journal.info()["passes"] < len(ticks) / 10
        first = figures_of(journal, (BEGIN_NS, BEGIN_NS + HOUR_NS)).total_nj
    assert first == 10**9 * sum((at + tick_ns - BEGIN_NS) // HOUR_NS == 0 for at in ticks)


def test_two_services_are_told_apart_when_their_readings_have_become_sums(place: Place) -> None:
    rows = [reading_row(a_reading(n, service=f"service-{n}"), BEGIN_NS) for n in range(2)]
    with open_store(place.address) as journal:
        journal.write(Batch([a_pass(1.0)], rows, (), ()))
        journal.roll_up(BEGIN_NS + 24 * HOUR_NS)
        assert journal.services() == ["service-0", "service-1"]
        with pytest.raises(ConfigurationError, match="holds 2 services"):
            figures_of(journal, span_of(journal))


def test_a_score_that_came_later_brings_its_metric(place: Place) -> None:
    with open_store(place.address) as journal:
        late = Feedback(a_reading(1).id, 1.0, 0.5, "thumb")
        rows = [reading_row(a_reading(1, quality=1.0, quality_metric="exact"), BEGIN_NS)]
        journal.write(Batch([a_pass(1.0)], rows, (), [late]))
        (reading,) = journal.scored()
        assert (reading.quality, reading.quality_metric) == (0.5, "thumb")
        journal.roll_up(BEGIN_NS + 24 * HOUR_NS)
        assert [(tally.quality_sum, tally.metric) for tally in journal.rolled()] == [(0.5, "thumb")]


def test_a_range_beyond_what_a_database_counts_is_all_there_is(place: Place) -> None:
    ever = (-(10**30), 10**30)
    with open_store(place.address) as journal:
        journal.write(Batch([a_pass(1.0)], [reading_row(a_reading(1), BEGIN_NS)], (), (), (1, 1)))
        assert [len(list(found(ever))) for found in (journal.passes, journal.readings, journal.rolled)] == [1, 1, 0]
        assert journal.losses(ever) == (1, 1)
        assert journal.purge(ever[1], since_ns=ever[0])["readings"] == 1


def test_what_is_lost_while_nothing_is_booked_is_told_of_now(place: Place) -> None:
    now_ns = time.time_ns()
    with open_store(place.address) as journal:
        journal.write(Batch((), (), (), [Feedback(a_reading(1).id, 1.0, 0.5, None)], (3, 1)))
        assert journal.losses((now_ns, 2**62)) == (3, 1)


def test_purging_leaves_no_route_and_a_service_that_still_runs_writes_on(place: Place) -> None:
    def batch(number: int, route: str, at_ns: int) -> Batch:
        return Batch([a_pass(1.0, at_ns=at_ns)], [reading_row(a_reading(number, route=route), at_ns)], (), ())

    with open_store(place.address) as running, open_store(place.address) as other:
        running.write(batch(1, "/dossier/secret", BEGIN_NS))
        other.purge(2**62)
        assert b"/dossier/secret" not in place.content()
        other.write(batch(2, "/autre", BEGIN_NS))
        again = batch(3, "/dossier/secret", BEGIN_NS + HOUR_NS)
        with suppress(StoreError):  # the database refuses what is gone, and the journal tries again
            running.write(again)
        running.write(again)
        assert [(each.id, each.route) for each in running.readings()] == [
            (a_reading(2).id, "/autre"), (a_reading(3).id, "/dossier/secret"),
        ]  # fmt: skip


def test_the_running_journal_rolls_up_and_deletes_what_is_old(place: Place) -> None:
    clock = FrozenClock()
    settings: dict[str, Any] = {"clock": clock, "sources": SyntheticSource(2.0, 10.0)}
    with metered(journal=Journal(place.address, raw_days=1, keep_days=10), **settings) as (meter, _):
        serve(meter)
        meter.settle()
    for days, tallies in ((3, 1), (30, 0)):
        clock.advance(days * 86_400)
        with metered(journal=Journal(place.address, raw_days=1, keep_days=10), **settings), read(place) as journal:
            assert journal.info()["tallies"] == tallies


def test_a_period_is_purged_and_what_is_around_it_stays(place: Place) -> None:
    clock = FrozenClock()
    with kept(place, clock=clock) as (meter, out):
        for _ in range(3):
            clock.advance(HOUR_S)
            serve(meter)
            meter.settle()
            meter.feedback(out.readings[-1].id, 0.5)
        meter.settle()
        ids = [reading.id for reading in out.readings]
    journal = open_store(place.address)
    times = [row.books.t1_ns for row in journal.passes() if row.spans]
    gone = journal.purge(times[2], since_ns=times[1])
    assert (gone["readings"], gone["passes"], gone["feedback"]) == (1, 1, 1)
    assert [reading.id for reading in journal.readings()] == [ids[0], ids[2]]
    assert ids[1].encode() not in place.content()
    assert journal.purge(2**62)["readings"] == 2
    assert [count for name, count in journal.info().items() if name in ("readings", "passes", "feedback", "tallies")] == [0] * 4
    journal.close()


def test_a_child_of_a_fork_writes_what_is_its_own(place: Place) -> None:
    with kept(place) as (meter, _):
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
    with read(place) as journal:
        assert len(list(journal.readings())) == 4
        assert len({row.books.process for row in journal.passes()}) == 2


def test_several_meters_write_at_once_and_nothing_is_lost(place: Place) -> None:
    with kept(place) as (one, first), kept(place) as (other, second):
        for _ in range(5):
            serve(one)
            serve(other)
            one.settle()
            other.settle()
        assert one.errors == other.errors == {}
    with read(place) as journal:
        ids = {reading.id for reading in (*first.readings, *second.readings)}
        assert {reading.id for reading in journal.readings()} == ids
        assert len({row.books.process for row in journal.passes()}) == 2
        assert journal.verify() == []


def test_feedback_that_comes_later_is_kept_with_its_reading(place: Place) -> None:
    with kept(place) as (meter, out):
        serve(meter, 2)
        meter.settle()
        meter.feedback(out.readings[1].id, 0.25, metric="thumb")
        meter.feedback(out.readings[1].id, 1, metric="thumb\0s")
        meter.settle()
        assert meter.errors == {}
    with read(place) as journal:
        first, said = journal.feedback()
        assert (said.reading, said.score, said.metric) == (out.readings[1].id, 1.0, "thumbs")
        figures = period((), journal.tallies(), begin_s=0, end_s=1)
    assert (figures.quality, figures.quality_count) == (1.0, 1)  # the last score stands
    assert first.score == 0.25


def test_a_reading_that_the_running_meter_has_forgotten_is_found_in_its_journal(place: Place) -> None:
    with kept(place) as (meter, out):
        serve(meter)
        meter.settle()
        (reading,) = out.readings
        assert meter.find(reading.id) == reading  # no ops page was made: nothing is kept in memory
        assert meter.find("0" * 36) is None
        assert meter.errors == {}


def test_books_that_somebody_changed_are_found(place: Place) -> None:
    with kept(place) as (meter, _):
        serve(meter)
        meter.settle()
    place.run("""UPDATE passes SET books = replace(books, '"energy_nj":', '"energy_nj":1')""")
    with read(place) as journal:
        assert any("do not close" in line for line in journal.verify())


def test_figures_of_two_services_are_not_mixed(tmp_path: Path) -> None:
    place = File(tmp_path / "journal.db")
    for name in ("one", "other"):
        with Meter(name, zone="FR", sources=SyntheticSource(2.0, 10.0), journal=place.address, tick=60) as meter:
            serve(meter)
            meter.settle()
    with read(place) as journal, pytest.raises(ConfigurationError, match=r"holds 2 services \(one, other\)"):
        figures_of(journal, span_of(journal))


def test_an_interrupted_query_leaves_the_store_usable(place: Place) -> None:
    with kept(place) as (meter, out):
        serve(meter, 3)
        meter.settle()
    with read(place) as journal:
        assert next(journal.readings()).id == out.readings[0].id  # and the rest is never asked for
        assert len(list(journal.readings())) == 3
