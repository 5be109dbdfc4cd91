"""What outlives one process with budgets in its memory, as it outlives many with a store: spent, learnt, permitted, decided."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer

from frugal_meter import Budget, Meter
from frugal_meter.budgets.stores import SharedStore
from frugal_meter.budgets.stores.opening import open_store, shared_file
from frugal_meter.budgets.stores.sqlite import SqliteStore
from frugal_meter.errors import BudgetRefused
from frugal_meter.testing import SyntheticSource

Serve = Callable[..., Meter]
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(folder))
    return folder


@pytest.fixture(params=["auto", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    return "auto" if request.param == "auto" else f"sqlite://{tmp_path / 'b.sqlite'}"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a process's meter; all are stopped in the end."""
    with ExitStack() as stack:

        def started(*budgets: Budget, **settings: Any) -> Meter:
            given = {"zone": "FR", "sources": SyntheticSource(0, 10), "tick": 60, "workers": "single", **settings}
            return stack.enter_context(Meter("guichet", budgets=list(budgets), **given))

        yield started


def monthly(limit: str = "1000 tokens", **more: Any) -> Budget:
    return Budget("day", limit, **{"per": "month", "estimate": "10 tokens", "warn_at": 1.0, "degrade_at": None, **more})


def spend(meter: Meter, tokens: int, name: str = "work", **told: Any) -> None:
    with meter.measure(name, **{"estimate": "10 tokens", **told}) as span:
        span.add_tokens(output=tokens)


def told(meter: Meter) -> None:
    """A tick, and what a shared store hears of it."""
    assert meter.settle()
    if meter.admission.sharing is not None:
        assert meter.admission.sharing.settle(60)


def spent(meter: Meter, key: tuple[str, ...] = ()) -> int:
    [book] = [book for book in meter.admission.store.books(time.time_ns()) if book.key == key]
    return book.committed_by_all


def opened(store: str) -> SharedStore:
    found = open_store(f"sqlite://{shared_file('guichet')}" if store == "auto" else store, "guichet")
    assert found is not None
    return found


# -- a restart, with every store


def test_what_was_spent_outlives_a_restart(store: str, serve: Serve) -> None:
    first = serve(monthly(), store=store)
    spend(first, 700)
    told(first)
    first.stop()
    second = serve(monthly(), store=store)
    spend(second, 45)
    told(second)
    assert spent(second) == 745
    second.stop()
    third = serve(monthly(), store=store)
    told(third)
    assert spent(third) == 745


def test_a_part_of_a_keyed_and_of_a_sliding_budget_outlives_a_restart(store: str, serve: Serve) -> None:
    keyed = monthly(key="route")
    sliding = Budget("slides", "1000 tokens", per="day", sliding=True, estimate="10 tokens", warn_at=1.0, degrade_at=None)
    first = serve(keyed, sliding, store=store)
    spend(first, 30, "a")
    spend(first, 7, "b")
    told(first)
    first.stop()
    second = serve(keyed, sliding, store=store)
    spend(second, 1, "a")
    told(second)
    told(second)
    by_name = {
        (book.budget.name, book.key): book.committed_by_all
        for book in second.admission.store.books(time.time_ns())
        if book.settled
    }
    assert by_name["day", ("a",)] == 31
    assert by_name["slides", ()] == 38


def test_what_was_learnt_outlives_a_restart_sizes_too(store: str, serve: Serve) -> None:
    first = serve(monthly("100000 tokens"), store=store)
    for _ in range(10):
        spend(first, 300, size=50, estimate=None)
    spend(first, 2, size=5000, estimate=None)
    told(first)
    first.stop()
    second = serve(monthly("100000 tokens"), store=store)
    estimates = second.admission.estimator["day"]
    assert estimates.of("work", None, "size<64") == 300
    assert estimates.of("work", None) == pytest.approx(300, rel=0.1)


def test_a_permission_is_heard_by_a_running_service_and_outlives_it(store: str, serve: Serve) -> None:
    full = Budget("day", "2 requests", per="month", degrade_at=None)
    first = serve(full, store=store)
    told(first)
    beside = opened(store)
    now_s = time.time()
    beside.permit("day", None, "Mme Durand", "examens", now_s, now_s + 3600)
    beside.close()
    first.stop()
    second = serve(full, store=store)
    for _ in range(3):
        spend(second, 1)
    told(second)
    assert second.admission.decisions["day", "override"] == 1
    second.stop()
    log = opened(store)
    assert [entry.why for entry in log.recorded() if entry.action == "override"] == ["1: Mme Durand, examens"]
    log.close()


def test_the_log_of_one_process_goes_on_where_the_one_before_ended(store: str, serve: Serve) -> None:
    for _ in range(2):
        meter = serve(Budget("day", "1 requests", per="month", degrade_at=None, enforce=False), store=store)
        spend(meter, 1)
        told(meter)
        meter.stop()
    log = opened(store)
    assert [entry.action for entry in log.recorded() if entry.action == "would_refuse"] == ["would_refuse"]
    log.close()


# -- one process and the file beside it


def test_in_the_system_s_temporary_folder_what_was_spent_and_learnt_ends_with_its_process_and_the_log_does_not(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRUGAL_RUN_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for _ in range(3):
        meter = serve(monthly(), Budget("route", "1000 tokens", per="month", key="route", degrade_at=None))
        assert spent(meter) == 0
        assert meter.admission.learnt() == {}
        spend(meter, 77, estimate=None)
        told(meter)
        beside = opened("auto")
        settled = [state.settled for state in beside.states(time.time()).values()]
        assert settled == [77, 77], "as it is enforced, so it is told"
        beside.close()
        meter.stop()
    log = opened("auto")
    assert log.estimates() == {}
    assert [entry.budget for entry in log.recorded()] == ["day", "route"] * 3
    log.close()
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    worker = serve(monthly())
    spend(worker, 5)
    told(worker)
    assert spent(worker) == 82, "workers have always gone on"
    worker.stop()
    monkeypatch.delenv("WEB_CONCURRENCY")
    assert spent(serve(monthly())) == 5, "and what they spent is not its own to forget"


def test_a_process_that_was_killed_has_paid_for_what_it_had_begun(run_folder: Path, serve: Serve) -> None:
    """kill -9 between two ticks: what was settled and what ran at the last tick is there, what ran is charged as reserved."""
    program = """
        import signal, sys
        from frugal_meter import Budget, Meter
        from frugal_meter.testing import SyntheticSource
        budget = Budget("day", "1000 tokens", per="month", estimate="10 tokens", warn_at=1.0, degrade_at=None)
        meter = Meter("guichet", zone="FR", sources=SyntheticSource(0, 10), tick=60, workers="single", budgets=[budget])
        meter.start()
        with meter.measure("work") as span:
            span.add_tokens(output=40)
        running = meter.open_span("block")
        running.estimates = {"tokens": 60}
        meter.decide(running)
        assert meter.settle()
        print("ticked", flush=True)
        signal.pause()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ticked\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert spent(serve(monthly())) == 100


def test_one_that_grows_to_several_workers_goes_on_from_the_same_file(
    run_folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = serve(monthly())
    spend(alone, 700)
    told(alone)
    alone.stop()
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    one, other = serve(monthly()), serve(monthly())
    assert one.admission.sharing is not None
    spend(one, 20)
    spend(other, 3)
    told(one)
    told(other)
    assert spent(other) == 723
    one.stop()
    other.stop()
    monkeypatch.delenv("WEB_CONCURRENCY")
    assert spent(serve(monthly())) == 723


def test_a_second_process_of_the_service_says_that_it_counts_apart_and_still_logs_and_learns(
    run_folder: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    first = serve(monthly())
    second = serve(monthly())
    assert "another meter of service 'guichet' keeps its budgets here" in caplog.text
    spend(first, 100)
    spend(second, 990)
    spend(second, 50)
    told(second)
    told(first)
    assert (spent(first), spent(second)) == (100, 1040)
    second.stop()
    first.stop()
    log = opened("auto")
    assert sum(int(entry.why.split()[0]) for entry in log.recorded() if entry.action == "admit") == 3
    log.close()
    assert spent(serve(monthly())) == 100


def test_budgets_stay_in_memory_with_one_line_where_no_file_can_be_written(
    run_folder: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    shared_file("guichet").mkdir()  # nobody can write a file of that name, root neither
    meter = serve(monthly())
    spend(meter, 7)
    told(meter)
    assert spent(meter) == 7
    [line] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "store failed and was passed over (StoreError: the budget store cannot be used" in line.getMessage()
    assert line.exc_info is None
    assert meter.errors["store"] >= 1


@pytest.mark.parametrize("damage", ["INSERT INTO estimates VALUES ('{', 1)", "INSERT INTO estimates VALUES ('[\"day\"]', 'x')"])
def test_a_damaged_file_is_counted_and_stops_nothing(run_folder: Path, serve: Serve, damage: str) -> None:
    first = serve(monthly())
    told(first)
    first.stop()
    with contextlib.closing(sqlite3.connect(shared_file("guichet"))) as db, db:
        db.execute(damage)
    meter = serve(monthly("20 tokens"))
    spend(meter, 15)
    with pytest.raises(BudgetRefused):
        spend(meter, 15)
    told(meter)
    assert meter.errors.keys() == {"store"}
    meter.stop()


def test_a_run_folder_that_cannot_be_is_told_once_and_the_service_runs(
    tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / "file" / "below"))
    meter = serve(monthly())
    spend(meter, 7)
    assert spent(meter) == 7
    assert caplog.text.count("budgets are in memory only, a restart forgets them") == 1


def test_a_file_that_was_taken_away_is_made_again_and_told_everything(run_folder: Path, serve: Serve) -> None:
    first = serve(monthly())
    spend(first, 30)
    told(first)
    first.stop()
    second = serve(monthly())
    spend(second, 4)
    told(second)
    for file in run_folder.glob("budgets-*"):
        if not file.name.endswith(".keeper"):
            file.unlink()
    spend(second, 1)
    told(second)
    second.stop()
    assert spent(serve(monthly())) == 35


def test_stopped_and_started_again_a_meter_counts_nothing_twice(run_folder: Path, serve: Serve) -> None:
    meter = serve(monthly())
    for turn in range(1, 4):
        spend(meter, 10)
        told(meter)
        meter.stop()
        meter.start()
        assert spent(meter) == 10 * turn
    meter.stop()
    assert spent(serve(monthly())) == 30


def test_the_memory_that_was_asked_for_by_name_leaves_nothing_behind(run_folder: Path, serve: Serve) -> None:
    meter = serve(monthly(), store="memory")
    spend(meter, 10)
    told(meter)
    meter.stop()
    assert list(run_folder.glob("budgets-*")) == []


def test_no_request_waits_for_the_file(run_folder: Path, serve: Serve) -> None:
    """Another process in the midst of a write holds the file: requests are decided all the same."""
    meter = serve(monthly())
    blocker = SqliteStore(shared_file("guichet"))
    with blocker._transaction():
        spend(meter, 5)
        assert spent(meter) == 5
    blocker.close()
    told(meter)
    assert meter.errors == {}


def test_a_forked_child_leaves_the_parent_s_file_to_the_parent(run_folder: Path, serve: Serve) -> None:
    meter = serve(monthly())
    spend(meter, 10)
    told(meter)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            spend(meter, 500)
            code = 0 if meter.settle() and spent(meter) == 510 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    spend(meter, 1)
    told(meter)
    meter.stop()
    assert spent(serve(monthly())) == 11


# -- budgets that come with a change of the file


def written(file: Path, *budgets: str, head: str = "") -> Path:
    text = f'[meter]\nservice = "guichet"\nzone = "FR"\nsources = "model"\ntick = 60\nworkers = "single"\n{head}'
    file.write_text(text + "".join(budgets), encoding="utf-8")
    return file


CHAT = '[[budget]]\nname = "day"\nlimit = "1000 tokens"\nper = "month"\nestimate = "10 tokens"\n'


@pytest.mark.parametrize("several", [False, True])
def test_the_first_budgets_of_a_reload_get_the_store_that_they_would_have_had_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    if several:
        monkeypatch.setenv("WEB_CONCURRENCY", "2")
    file = written(tmp_path / "frugal.toml")
    with Meter.from_config(file) as one, Meter.from_config(file) as other:
        assert (one.admission.sharing, one.admission.keeping) == (None, None)
        written(file, CHAT)
        for meter in (one, other):
            assert meter.settle()
            spend(meter, 30)
            told(meter)
        told(one)
        assert spent(one) == (60 if several else 30)
        assert (one.admission.sharing is not None, one.admission.keeping is not None) == (several, not several)


def test_a_reload_is_held_to_what_kubernetes_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "frugal.toml")
    with Meter.from_config(file) as meter:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        written(file, CHAT)
        assert meter.settle()
        assert "the budgets in force stay: budget 'day': under Kubernetes every pod would have a budget of its own" in caplog.text
        assert meter.admission.budgets == ()
        written(file, CHAT, 'scope = "instance"\n')
        assert meter.settle()
        assert [budget.name for budget in meter.admission.budgets] == ["day"]


def test_what_was_spent_on_a_budget_that_was_left_out_meanwhile_is_there_when_it_comes_back(tmp_path: Path) -> None:
    file = written(tmp_path / "frugal.toml", CHAT)
    with Meter.from_config(file) as meter:
        spend(meter, 30)
    written(file)
    with Meter.from_config(file) as meter:
        written(file, CHAT)
        assert meter.settle()
        assert meter.settle()
        assert spent(meter) == 30


def test_a_tick_waits_briefly_for_who_holds_the_file_and_tells_later_what_it_had_to_tell(
    run_folder: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    meter = serve(monthly())
    keeping = meter.admission.keeping
    assert keeping is not None
    with contextlib.closing(SqliteStore(shared_file("guichet"))) as blocker, blocker._transaction():
        spend(meter, 5)
        for _ in range(2):  # the second time over a connection that is opened anew
            keeping._again_at = 0.0
            assert meter.settle()
        assert meter.errors == {"store": 2}
    assert "database is locked" in caplog.text
    assert "Another process has held it for 0.05 s" in caplog.text
    meter.stop()
    assert meter.errors == {"store": 2}
    assert spent(serve(monthly())) == 5


def test_what_a_reload_has_put_away_is_told_to_the_file_before_it_is_let_go(run_folder: Path, serve: Serve) -> None:
    meter = serve(monthly())
    spend(meter, 7)
    renamed = Budget("renamed", "1000 tokens", per="month", estimate="10 tokens")
    meter.admission.reload([renamed], lambda budget: None, {}, time.time_ns())
    with contextlib.closing(SqliteStore(shared_file("guichet"))) as blocker, blocker._transaction():
        for _ in range(4):
            told(meter)
        assert sorted(book.budget.name for book in meter.admission.store.every()) == ["day", "renamed"]
    assert meter.admission.keeping is not None
    meter.admission.keeping._again_at = 0.0
    for _ in range(2):
        told(meter)
    assert [book.budget.name for book in meter.admission.store.every()] == ["renamed"]
    meter.stop()
    assert spent(serve(monthly())) == 7
