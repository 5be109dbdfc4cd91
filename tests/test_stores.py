"""The contract of a shared budget store, held to every store there is, and to the rules it is stated in."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_server import RedisServer, StoreOfItsTime, a_server

from frugal_meter import Budget
from frugal_meter.budgets.stores import LOG_LINES, TTL_S, Account, Ask, Entry, Learnt, Report, SharedStore, State, granted
from frugal_meter.budgets.stores.opening import address_of, open_store
from frugal_meter.budgets.stores.sqlite import BUSY_S, SqliteStore, file_system
from frugal_meter.errors import ConfigurationError, StoreError

NOW = 1_767_225_600.0
DAY = Account("chat", "energy", (), 1_767_222_000, 1_767_308_400)
MONTH = Account("letters", "carbon", ("mairie", "large"), 1_767_222_000, 1_769_900_400)
SLOTS = Account("chat", "slots", (), 0, 0)

Opened = Callable[[], SharedStore]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with a_server(durable=False) as one:
        yield one


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with a_server(kind="valkey", durable=False) as one:
        yield one


@pytest.fixture(params=["sqlite", "redis", "valkey"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Opens the same store anew at every call, as another worker would."""
    stores: list[SharedStore] = []
    clock: list[float] = []
    server = None if request.param == "sqlite" else request.getfixturevalue(request.param)

    def another() -> SharedStore:
        if server is None:
            stores.append(SqliteStore(tmp_path / "budgets.sqlite"))
        else:
            stores.append(StoreOfItsTime(server, tmp_path.name, clock))
        return stores[-1]

    yield another
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opened) -> SharedStore:
    return opened()


def ask(account: Account = DAY, limit: int = 100, need: int = 10, want: int | None = None) -> Ask:
    return Ask(account, limit, need, need if want is None else want)


class Worker:
    """A holder that counts its exchanges."""

    def __init__(self, store: SharedStore, name: str) -> None:
        self.store, self.name, self.seq = store, name, itertools.count(1)

    def says(self, *reports: Report, asks: Any = (), at: float = NOW) -> Any:
        return self.store.exchange(self.name, next(self.seq), reports, asks, at)

    def goes(self, *reports: Report, at: float = NOW) -> None:
        self.store.release(self.name, next(self.seq), reports, at)


def state(store: SharedStore, account: Account = DAY, at: float = NOW) -> State:
    return store.states(at).get(account, State())


def test_what_is_needed_is_granted_and_held_for_who_asked(store: SharedStore) -> None:
    answer = Worker(store, "a").says(asks=[[ask(need=10)]])
    assert answer.grants == [(10,)]
    assert answer.states[DAY[:5]] == State(settled=0, held=10, reserved=0)
    assert answer.new
    assert not answer.stale


def test_a_group_is_granted_in_all_its_accounts_or_in_none(store: SharedStore) -> None:
    one = Worker(store, "a")
    answer = one.says(
        asks=[[ask(DAY, 100, 60), ask(MONTH, 50, 51)], [ask(DAY, 100, 60), ask(MONTH, 50, 50)], [ask(DAY, 100, 41)]]
    )
    assert answer.grants == [None, (60, 50), None]
    assert state(store).held == 60
    assert state(store, MONTH).held == 50


def test_two_workers_are_never_granted_more_than_the_limit_together(opened: Opened) -> None:
    workers = [Worker(opened(), name) for name in ("a", "b")]
    grants = [worker.says(asks=[[ask(need=30, want=90)]]).grants[0] for worker in workers * 3]
    assert sum(grant[0] for grant in grants if grant) <= 100
    assert grants.count(None) >= 1


def test_settling_moves_an_amount_from_held_to_settled(store: SharedStore) -> None:
    one = Worker(store, "a")
    one.says(asks=[[ask(need=40)]])
    answer = one.says(Report(DAY, settled=25, held=15, reserved=5))
    assert answer.states[DAY[:5]] == State(settled=25, held=15, reserved=5)
    assert one.says(Report(DAY, 25, 5, 5), asks=[[ask(need=70)]]).grants == [(70,)]


def test_a_repeated_or_late_report_changes_nothing_and_is_granted_nothing(store: SharedStore) -> None:
    store.exchange("a", 1, [Report(DAY, 10, 20, 0)], [], NOW)
    store.exchange("a", 3, [Report(DAY, 15, 5, 0)], [], NOW)
    for seq in (3, 2, 1):
        answer = store.exchange("a", seq, [Report(DAY, 99, 99, 9)], [[ask(need=1)]], NOW)
        assert answer.stale
        assert answer.grants == [None]
    assert state(store) == State(settled=15, held=5, reserved=0)


def test_a_report_that_was_lost_is_made_up_for_by_the_next(store: SharedStore) -> None:
    store.exchange("a", 1, [Report(DAY, 10, 0, 0)], [], NOW)
    store.exchange("a", 5, [Report(DAY, 42, 0, 0)], [], NOW)
    assert state(store).settled == 42


def test_a_correction_downwards_lowers_what_is_settled(store: SharedStore) -> None:
    one = Worker(store, "a")
    one.says(Report(DAY, 30, 0, 0))
    one.says(Report(DAY, 21, 0, 0))
    assert state(store).settled == 21


def test_a_grant_whose_answer_was_lost_is_taken_back_by_the_next_report(store: SharedStore) -> None:
    one = Worker(store, "a")
    one.says(asks=[[ask(need=80)]])  # and the worker never hears of it
    assert one.says(Report(DAY, 0, 0, 0), asks=[[ask(need=100)]]).grants == [(100,)]


def test_work_that_outgrew_its_lease_is_recorded_beyond_the_limit_and_nobody_gets_more(store: SharedStore) -> None:
    one = Worker(store, "a")
    one.says(Report(DAY, 130, 0, 0))
    assert state(store).settled == 130
    assert one.says(Report(DAY, 130, 0, 0), asks=[[ask(need=1)], [ask(need=0, want=5)]]).grants == [None, None]


def test_what_is_held_is_at_least_what_is_reserved(store: SharedStore) -> None:
    Worker(store, "a").says(Report(DAY, 0, -5, 20))
    assert state(store) == State(0, 20, 20)


def test_a_holder_that_stops_returns_its_slice_and_is_heard_no_more(store: SharedStore) -> None:
    one = Worker(store, "a")
    one.says(asks=[[ask(need=50)]])
    one.goes(Report(DAY, 12, 0, 0))
    assert state(store) == State(12, 0, 0)
    assert one.says(Report(DAY, 99, 9, 9)).stale
    one.goes(Report(DAY, 500, 0, 0))
    assert state(store) == State(12, 0, 0)


def test_a_holding_that_nobody_reports_on_is_charged_and_counted(store: SharedStore) -> None:
    Worker(store, "gone").says(Report(DAY, 5, 0, 0), asks=[[ask(need=30), ask(SLOTS, 4, 1)]])
    other = Worker(store, "b")
    answer = other.says(Report(DAY, 0, 0, 0), Report(SLOTS, 0, 0, 0), asks=[], at=NOW + TTL_S + 1)
    assert answer.states[DAY[:5]] == State(settled=35, held=0, reserved=0, expired=1)
    assert answer.states[SLOTS[:5]].committed == 0, "a slot is no amount: it is free again"
    assert answer.holders == 1


def test_a_holder_that_was_only_out_of_reach_goes_on_where_it_was(store: SharedStore) -> None:
    one = Worker(store, "a")
    one.says(asks=[[ask(need=30)]])
    answer = one.says(Report(DAY, 20, 10, 10), at=NOW + 5 * TTL_S)
    assert not answer.stale
    assert answer.states[DAY[:5]] == State(20, 10, 10)


def test_an_expired_holding_still_leaves_no_room_for_others(store: SharedStore) -> None:
    Worker(store, "gone").says(asks=[[ask(need=80)]])
    assert Worker(store, "b").says(asks=[[ask(need=21)]], at=NOW + TTL_S + 1).grants == [None]
    assert Worker(store, "b2").says(asks=[[ask(need=20)]], at=NOW + TTL_S + 1).grants == [(20,)]


def test_who_reports_for_the_dead_settles_exactly(store: SharedStore) -> None:
    Worker(store, "dead").says(asks=[[ask(need=60)]])
    store.release("dead", 2**40, [Report(DAY, 37, 0, 0)], NOW)
    store.release("dead", 2**40, [Report(DAY, 37, 0, 0)], NOW)
    assert state(store) == State(37, 0, 0)


def test_earlier_parts_of_a_sliding_window_count_with_the_latest(store: SharedStore) -> None:
    def part(start: int, *earlier: int) -> Account:
        return Account("chat", "energy", (), start, start + 3900, earlier)

    one = Worker(store, "a")
    base = int(NOW) // 300 * 300
    one.says(Report(part(base - 600), 30, 0, 0), Report(part(base - 300), 25, 5, 5))
    now = part(base, base - 600, base - 300)
    answer = one.says(asks=[[ask(now, 100, 41)], [ask(now, 100, 40)]])
    assert answer.grants == [None, (40,)]
    assert answer.states[now[:5]] == State(55, 45, 5)
    moved_on = part(base + 300, base - 300, base)
    assert one.says(asks=[[ask(moved_on, 100, 30)]]).grants == [(30,)], "what was spent first has left the window"


def test_a_grant_in_an_earlier_part_fits_into_every_later_window_that_counts_it(store: SharedStore) -> None:
    base = int(NOW) // 300 * 300
    first = Account("chat", "energy", (), base, base + 900, (base - 600, base - 300), later=(base + 300, base + 600))
    second, third = first.at(base + 300), first.at(base + 600)
    one = Worker(store, "a")
    assert one.says(asks=[[ask(first, 100, 20)], [ask(second, 100, 30)], [ask(third, 100, 35)]]).grants == [(20,), (30,), (35,)]
    assert one.says(asks=[[ask(first, 100, 16)]]).grants == [None], "its own window has room for 80 more, the last one for 15"
    assert one.says(asks=[[ask(first, 100, 5, 100)], [ask(first, 100, 0, 100)]]).grants == [(10,), (2,)]
    gone = Account("chat", "energy", (), base + 900, base + 1800, (base + 300, base + 600))
    assert one.says(asks=[[ask(gone, 100, 35)], [ask(gone, 100, 1)]]).grants == [(35,), None], "the first part counts no more"


def test_slots_are_counted_over_all_workers(opened: Opened) -> None:
    first, second = Worker(opened(), "a"), Worker(opened(), "b")
    assert first.says(asks=[[ask(SLOTS, 2, 1)]]).grants == [(1,)]
    assert second.says(asks=[[ask(SLOTS, 2, 1)], [ask(SLOTS, 2, 1)]]).grants == [(1,), None]
    first.says(Report(SLOTS, 0, 0, 0))
    assert second.says(Report(SLOTS, 0, 1, 1), asks=[[ask(SLOTS, 2, 1)]]).grants == [(1,)]


def test_the_smallest_amount_and_the_largest_are_exact(store: SharedStore) -> None:
    one = Worker(store, "a")
    one.says(Report(DAY, 2**53 - 1, 0, 0))
    assert one.says(asks=[[ask(DAY, 2**53, 1)]]).grants == [(1,)]
    assert state(store) == State(2**53 - 1, 1, 0)


def test_keys_with_any_characters_have_accounts_of_their_own(store: SharedStore) -> None:
    keys = [("a:b", "c"), ("a", "b:c"), ("été{}",), ('"\\\n\x00',), ()]
    one = Worker(store, "a")
    one.says(*[Report(DAY._replace(key=key), number, 0, 0) for number, key in enumerate(keys, 1)])
    assert {account.key: found.settled for account, found in store.states(NOW).items()} == {k: n for n, k in enumerate(keys, 1)}


def test_windows_that_are_over_are_not_shown(store: SharedStore) -> None:
    Worker(store, "a").says(Report(DAY, 5, 0, 0))
    assert state(store, at=DAY.until_s + 1) == State()


def test_the_decision_log_keeps_what_was_decided_in_order(store: SharedStore) -> None:
    entries = [Entry(NOW + n, "chat", "energy", ("mairie",), "refuse", "refuse", 10, 95, 3, 100, "limit") for n in range(5)]
    store.record(entries[:2])
    store.record(entries[2:])
    assert store.recorded() == entries
    assert store.recorded(since_s=NOW + 3) == entries[3:]
    assert store.recorded(most=2) == entries[3:]
    assert LOG_LINES >= 1000


def test_an_override_is_granted_seen_by_all_and_revoked_once(opened: Opened) -> None:
    store = opened()
    one = store.permit("chat", None, "maire", "élections", NOW, NOW + 3600)
    two = store.permit("chat", ("mairie",), "dsi", "test", NOW, NOW + 60)
    assert opened().overrides() == [one, two]
    assert one.holds(NOW)
    assert not one.holds(NOW + 3600)
    assert store.revoke(one.id, NOW + 1)
    assert not store.revoke(one.id, NOW + 2)
    assert not store.revoke(99, NOW)
    assert not store.overrides()[0].holds(NOW + 1)


def test_estimates_outlive_their_worker(opened: Opened) -> None:
    store = opened()
    of_route, of_model = Learnt("chat", "energy", "/ask", ""), Learnt("chat", "energy", "", "large")
    of_size = Learnt("chat", "energy", "", "large", "tokens<1024")
    store.keep_estimates({of_route: 12.5, of_model: 3.0, of_size: 7.0})
    store.keep_estimates({of_route: 14.0})
    assert opened().estimates() == {of_route: 14.0, of_model: 3.0, of_size: 7.0}


def test_many_workers_at_once_never_overshoot_and_their_sums_are_exact(opened: Opened) -> None:
    import threading

    limit, granted_to = 1000, [0] * 4

    def work(number: int) -> None:
        worker, settled = Worker(opened(), f"w{number}"), 0
        for _ in range(40):
            grant = worker.says(Report(DAY, settled, 0, 0), asks=[[ask(DAY, limit, 7)]]).grants[0]
            if grant is None:
                break
            settled += grant[0]
        worker.goes(Report(DAY, settled, 0, 0))
        granted_to[number] = settled

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted_to) == limit // 7 * 7
    assert state(opened()) == State(sum(granted_to), 0, 0)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 50))
def test_a_grant_is_between_need_and_want_and_leaves_most_of_the_rest(left: int, need: int, more: int, holders: int) -> None:
    amount = granted(left, need, need + more, holders)
    if need > left:
        assert amount is None
    else:
        assert amount is not None
        assert need <= amount <= need + more
        assert amount - need <= (left - need) / (2 * holders)


# -- SQLite's own


def test_many_workers_that_make_one_new_file_at_once_all_find_it_usable(tmp_path: Path) -> None:
    import threading

    for number in range(10):
        path, start, failed = tmp_path / f"{number}.sqlite", threading.Barrier(6), []

        def work(path: Path = path, start: threading.Barrier = start, failed: list[Exception] = failed) -> None:
            store = SqliteStore(path)
            start.wait()
            try:
                Worker(store, threading.current_thread().name).says(Report(DAY, 1, 0, 0))
            except Exception as error:
                failed.append(error)
            finally:
                store.close()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        with contextlib.closing(SqliteStore(path)) as store:
            assert state(store).settled == 6
        assert [each.name for each in tmp_path.glob(".*")] == []
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_on_a_network_file_system_is_refused_with_what_to_do(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:40 / {tmp_path}/share rw shared:1 - nfs4 filer:/x rw\n"
        f"23 22 8:2 / {tmp_path}/share/local\\040disk rw - xfs /dev/sdb rw\n"
    )
    with pytest.raises(ConfigurationError, match=r"is on nfs4, a file system of another machine.*redis://"):
        SqliteStore(tmp_path / "share" / "deep" / "b.sqlite", mountinfo=mounts)
    assert file_system(tmp_path / "share" / "local disk", mounts) == "xfs"
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "none") == ""
    SqliteStore(tmp_path / "share" / "local disk" / "b.sqlite", mountinfo=mounts)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "b.sqlite")
    Worker(store, "a").says(Report(DAY, 5, 0, 0))
    assert (tmp_path / "b.sqlite").stat().st_mode & 0o777 == 0o600
    store.close()


def test_a_file_that_another_process_holds_says_so_and_works_afterwards(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "b.sqlite")
    worker = Worker(store, "a")
    worker.says(Report(DAY, 5, 0, 0))
    other = sqlite3.connect(tmp_path / "b.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=f"held it for {BUSY_S} s") as told:
        worker.says(Report(DAY, 9, 0, 0))
    assert told.value.where == str(tmp_path / "b.sqlite")
    other.execute("ROLLBACK")
    other.close()
    worker.says(Report(DAY, 9, 0, 0))
    assert state(store).settled == 9
    store.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no database at all" * 100, "something else's"), (b"SQLite format 3\x00" + b"\xff" * 2000, "Look|move")],
)
def test_a_file_that_is_no_store_is_left_alone_and_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "b.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=says):
        SqliteStore(path).overrides()
    assert path.read_bytes() == content


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "b.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="its layout is 99"):
        SqliteStore(tmp_path / "b.sqlite").overrides()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        SqliteStore(tmp_path / "nowhere" / "b.sqlite").overrides()


def test_a_full_disk_changes_nothing_and_is_told(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "b.sqlite")
    worker = Worker(store, "a")
    worker.says(Report(DAY, 5, 0, 0))
    db = store._open()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")  # what a full disk does to it
    with pytest.raises(StoreError, match="disk is full"):
        worker.says(*[Report(DAY._replace(key=(f"tenant-{n}",)), 5, 0, 0) for n in range(2000)])
    assert state(store) == State(5, 0, 0)
    worker.says(Report(DAY, 6, 0, 0))
    assert state(store).settled == 6
    store.close()


def test_windows_long_over_are_forgotten(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "b.sqlite")
    worker = Worker(store, "a")
    worker.says(Report(DAY, 5, 0, 0))
    worker.says(at=DAY.until_s + 2 * 3600.0)
    assert store._open().execute("SELECT count(*) FROM accounts").fetchone() == (0,)
    store.close()


# -- which store


A_BUDGET = [Budget("chat", "5 kJ", per="day")]


@pytest.mark.parametrize(
    ("store", "environ", "address"),
    [
        ("memory", {}, "memory"),
        ("auto", {}, "memory"),
        ("auto", {"WEB_CONCURRENCY": "1"}, "memory"),
        ("sqlite:///var/lib/b.sqlite", {}, "sqlite:///var/lib/b.sqlite"),
        ("redis://cache:6379/0", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "redis://cache:6379/0"),
    ],
)
def test_the_store_is_the_one_that_is_told(store: str, environ: dict[str, str], address: str) -> None:
    assert address_of(store, "guichet", A_BUDGET, alone=False, environ=environ) == address


@pytest.mark.parametrize("environ", [{"WEB_CONCURRENCY": "4"}, {"SERVER_SOFTWARE": "gunicorn/23.0.0"}])
def test_one_worker_of_several_shares_a_file_by_itself(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path))
    address = address_of("auto", "guichet", A_BUDGET, alone=False, environ=environ)
    assert address.startswith(f"sqlite://{tmp_path}/budgets-")
    assert isinstance(open_store(address, "guichet"), SqliteStore)
    assert address_of("auto", "guichet", [], alone=False, environ=environ) == "memory"


@pytest.mark.parametrize(
    "store",
    ["postgres://x", "sqlite://", "sqlite:///", "sqlite://host/b.sqlite", "redis://", "", None, 5, "/var/b.sqlite", "Memory"],
)
def test_an_address_that_means_nothing_is_refused_in_one_line(store: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"store=.* cannot be: it is .*sqlite:///path") as told:
        address_of(store, "guichet", A_BUDGET, alone=False, environ={})
    assert "\n" not in str(told.value)


def test_a_password_in_a_wrong_address_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as told:
        address_of("rediss//user:s3cret@cache", "guichet", A_BUDGET, alone=False, environ={})
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize("store", ["auto", "memory", "sqlite:///var/lib/b.sqlite"])
def test_under_kubernetes_a_local_store_is_refused_with_the_remedy(store: str) -> None:
    cluster = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    with pytest.raises(ConfigurationError, match=r"every pod would have a budget of its own.*redis://.*scope=\"instance\""):
        address_of(store, "guichet", A_BUDGET, alone=False, environ=cluster)
    address_of(store, "guichet", [Budget("chat", "5 kJ", per="day", scope="instance")], alone=False, environ=cluster)
