"""What is Redis's own: one script that keeps the contract, servers that die, hang, fail over and forget, TLS, ACL, keys' ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import RedisServer, Sentinel, a_server, age

from frugal_meter.budgets.stores import KEEP_S, TTL_S, Account, Ask, Entry, Learnt, Report, State, holdings
from frugal_meter.budgets.stores import redis as redis_module
from frugal_meter.budgets.stores.opening import address_of
from frugal_meter.budgets.stores.redis import RedisStore
from frugal_meter.budgets.stores.redis_address import sentinels_of
from frugal_meter.errors import ConfigurationError, MissingExtraError, StoreError

NOW_S = 1_767_225_600.0
DAY = Account("day", "energy", (), int(NOW_S), int(NOW_S) + 86_400)
TENANT = Account("tenant", "tokens", ('a"b', "é"), int(NOW_S), int(NOW_S) + 3_600)
SLOTS = Account("busy", "slots", (), 0, 0)
SLIDING = Account("slides", "energy", (), int(NOW_S), int(NOW_S) + 3_600, (int(NOW_S) - 1_200, int(NOW_S) - 600))
#: as work asks for it that began there and tops up when SLIDING has begun
BEFORE = SLIDING.at(int(NOW_S) - 600)._replace(later=(int(NOW_S),))
ACCOUNTS = (DAY, TENANT, SLOTS, SLIDING, BEFORE)


def a_store(server: RedisServer, **query: Any) -> RedisStore:
    """A store for the service "tests"; what a test makes the server do takes a tenth of a second at most."""
    more = "&".join(f"{name}={value}" for name, value in query.items())
    return RedisStore(server.url + ("&" if "?" in server.url else "?") + more if more else server.url, "tests")


class Dicts:
    """The tables of `holdings` in plain dicts."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[Any, ...]] = Counter()
        self.kept: dict[tuple[Any, ...], dict[str, holdings.Row]] = {}
        self.heard: dict[str, float] = {}

    def settled(self, account: tuple[Any, ...]) -> int:
        return self.sums[account]

    def settle(self, account: tuple[Any, ...], more: int) -> None:
        self.sums[account] += more

    def rows(self, account: tuple[Any, ...]) -> dict[str, holdings.Row]:
        return self.kept.setdefault(account, {})


HOLDERS = ("ann", "bob", "cleo")
amounts = st.integers(0, 400)
reports = st.builds(Report, st.sampled_from(ACCOUNTS), amounts, amounts, amounts)
asks = st.builds(lambda a, need, more: Ask(a, 1000, need, need + more), st.sampled_from(ACCOUNTS), amounts, amounts)
exchanges = st.tuples(
    st.just("exchange"),
    st.sampled_from(HOLDERS),
    st.lists(reports, max_size=3),
    st.lists(st.lists(asks, min_size=1, max_size=2), max_size=3),
)
releases = st.tuples(st.just("release"), st.sampled_from(HOLDERS), st.lists(reports, max_size=2), st.just([]))
silences = st.tuples(st.just("silence"), st.sampled_from([5, TTL_S + 1]), st.just([]), st.just([]))


@settings(max_examples=80)
@given(st.lists(exchanges | exchanges | exchanges | releases | silences, max_size=25))
def test_the_script_answers_as_the_contract_over_plain_dicts_does(shared_server: RedisServer, story: list[Any]) -> None:
    with shared_server.client() as client:
        client.flushall()
    store, tables, now_s = a_store(shared_server), Dicts(), NOW_S
    lives, seq = Counter(HOLDERS), 0
    for kind, who, told, asked in story:
        seq += 1
        if kind == "silence":
            now_s += who
            age(shared_server, who)
            continue
        holder = f"{who}-{lives[who]}"
        if kind == "release":
            store.release(holder, seq, told, now_s)
            holdings.release(tables, holder, told, iter([account[:5] for account in ACCOUNTS]))
            tables.heard.pop(holder, None)
            lives[who] += 1
            continue
        returns = now_s - tables.heard.get(holder, now_s) >= TTL_S
        if returns:  # who was given up tells everything again: that is what `new` asks for
            assert store.exchange(holder, seq, [], [], now_s).new
            rows = [(a, tables.rows(a[:5])[holder]) for a in ACCOUNTS if holder in tables.rows(a[:5])]
            told, seq = [*(Report(a, r.settled, r.held, r.reserved) for a, r in rows), *told], seq + 1
        answer = store.exchange(holder, seq, told, asked, now_s)
        expected = holdings.exchange(tables, holder, tables.heard, told, asked, now_s)
        assert (answer.grants, answer.holders, answer.stale) == (expected.grants, expected.holders, False)
        assert {a: answer.states[a] for a in expected.states} == expected.states
        assert store.exchange(holder, seq, told, asked, now_s).stale
    store.close()


@pytest.fixture
def tls_server() -> Iterator[RedisServer]:
    """Over TLS, for a user who may touch the keys of one service only."""
    with a_server(tls=True) as server:
        yield server


@pytest.fixture(scope="module", params=["redis", "valkey"])
def shared_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One server for many examples; what it holds is flushed between them."""
    with a_server(kind=request.param, durable=False) as server:
        yield server


def test_a_server_that_has_forgotten_the_script_is_given_it_again(redis_server: RedisServer) -> None:
    store = a_store(redis_server)
    store.exchange("ann", 1, [], [[Ask(DAY, 100, 10, 10)]], NOW_S)
    with redis_server.client() as client:
        client.script_flush()
    answer = store.exchange("ann", 2, [Report(DAY, 4, 6, 6)], [], NOW_S)
    assert answer.states[DAY[:5]] == State(4, 6, 6)


def test_what_was_settled_survives_a_killed_server(redis_server: RedisServer) -> None:
    store = a_store(redis_server)
    store.exchange("ann", 1, [Report(DAY, 40, 10, 10)], [], NOW_S)
    redis_server.kill()
    with pytest.raises(StoreError, match="does not answer"):
        store.exchange("ann", 2, [Report(DAY, 50, 0, 0)], [], NOW_S)
    redis_server.start()
    answer = store.exchange("ann", 3, [Report(DAY, 50, 0, 0)], [], NOW_S)
    assert (answer.new, answer.states[DAY[:5]]) == (False, State(50))


def test_a_server_that_has_lost_everything_says_so_and_is_made_whole_by_reports(redis_server: RedisServer) -> None:
    ann, bob = a_store(redis_server), a_store(redis_server)
    ann.exchange("ann", 1, [Report(DAY, 40, 10, 10)], [], NOW_S)
    bob.exchange("bob", 1, [Report(DAY, 5, 20, 7)], [], NOW_S)
    with redis_server.client() as client:
        client.flushall()
    assert ann.exchange("ann", 2, [], [], NOW_S).new
    assert bob.exchange("bob", 2, [], [], NOW_S).new
    ann.exchange("ann", 3, [Report(DAY, 41, 9, 9)], [], NOW_S)
    answer = bob.exchange("bob", 3, [Report(DAY, 5, 20, 7)], [], NOW_S)
    assert (answer.new, answer.states[DAY[:5]]) == (False, State(46, 29, 16))


def test_a_replica_that_takes_over_without_the_last_writes_is_told_them_again() -> None:
    with a_server(tcp=True) as primary, a_server(replica_of=primary) as replica:
        store = a_store(primary)
        store.exchange("ann", 1, [Report(DAY, 40, 10, 10)], [], NOW_S)
        with pytest.raises(StoreError, match="not the primary"):
            a_store(replica).exchange("ann", 2, [], [], NOW_S)
        with primary.client() as client, replica.client() as other:
            assert client.wait(1, 10_000) == 1
            other.replicaof("NO", "ONE")
        assert store.exchange("ann", 2, [Report(DAY, 49, 1, 1)], [], NOW_S).states[DAY[:5]].settled == 49
        primary.kill()
        replica.socket.rename(primary.socket)  # as a name that now leads to the other server
        assert store.exchange("ann", 3, [], [], NOW_S).new, "what was acknowledged is not known here"
        assert store.exchange("ann", 4, [Report(DAY, 49, 1, 1)], [], NOW_S).states[DAY[:5]] == State(49, 1, 1)


def test_the_sentinels_are_asked_again_who_is_the_primary_when_the_last_one_has_died(tmp_path: Path) -> None:
    with a_server(tcp=True) as primary, a_server(replica_of=primary) as replica, Sentinel(tmp_path, primary) as sentinel:
        sentinel.wait_until(lambda state: state["num-slaves"] == 1)
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/budgets/0?socket_timeout=0.2"
        store = RedisStore(url, "tests")
        assert store.where == url.partition("?")[0]
        assert store.exchange("ann", 1, [Report(DAY, 40, 10, 10)], [], NOW_S).states[DAY[:5]] == State(40, 10, 10)
        with primary.client() as client:
            assert client.wait(1, 10_000) == 1
        primary.kill()
        with pytest.raises(StoreError, match="does not answer"):
            store.exchange("ann", 2, [Report(DAY, 44, 6, 6)], [], NOW_S)
        sentinel.wait_until(lambda state: state["port"] == replica.port)
        replica.wait_until(lambda client: client.info("replication")["role"] == "master")
        assert store.exchange("ann", 3, [Report(DAY, 44, 6, 6)], [], NOW_S).states[DAY[:5]] == State(44, 6, 6)
        assert store.states(NOW_S)[DAY].settled == 44
        with pytest.raises(StoreError, match=r"does not answer: .*nobody"):
            RedisStore(url.replace("budgets", "nobody"), "tests").overrides()
        store.close()


@pytest.mark.parametrize(
    ("url", "hosts", "server"),
    [("redis+sentinel://a,b:1/n", (("a", 26_379), ("b", 1)), "redis://name/"),
     ("rediss+sentinel://u:p%40@[::1]:5/n/2?sentinel_password=x", (("::1", 5),), "rediss://u:p%40@name/2?sentinel_password=x")],
)  # fmt: skip
def test_an_address_of_sentinels_names_them_and_the_primary(url: str, hosts: Any, server: str) -> None:
    assert sentinels_of(url) == (hosts, "n", server)
    assert RedisStore(url, "tests").where.endswith("/n" if "b:1" in url else "/n/2")
    assert "p%40" not in RedisStore(url, "tests").where
    assert address_of(url, "guichet", [], alone=False, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == url


def test_a_grant_whose_answer_was_lost_is_taken_back_whenever_the_server_gets_to_it(redis_server: RedisServer) -> None:
    store = a_store(redis_server, socket_timeout=0.1)
    store.exchange("ann", 1, [Report(DAY, 0, 0, 0)], [], NOW_S)
    with redis_server.stopped(), pytest.raises(StoreError, match="does not answer"):
        store.exchange("ann", 2, [Report(DAY, 0, 0, 0)], [[Ask(DAY, 100, 60, 60)]], NOW_S)
    assert store.exchange("ann", 3, [Report(DAY, 0, 0, 0)], [[Ask(DAY, 100, 60, 60)]], NOW_S).grants == [(60,)]
    with redis_server.client() as client:
        assert client.ping(), "and so everything that was sent before has been run"
    assert store.exchange("bob", 1, [], [[Ask(DAY, 100, 40, 40)]], NOW_S).states[DAY[:5]].held == 100


def test_a_store_that_hangs_costs_its_timeout_and_no_more(redis_server: RedisServer) -> None:
    store = a_store(redis_server, socket_timeout=0.05)
    assert store.exchange("ann", 1, [], [], NOW_S).holders == 1
    with redis_server.stopped():
        for seq in (2, 3):  # an open connection, and one to be made
            with pytest.raises(StoreError, match="does not answer"):
                store.exchange("ann", seq, [], [], NOW_S)
    assert store.exchange("ann", 4, [], [], NOW_S).holders == 1


def test_eight_holders_at_once_never_hold_more_than_the_limit(redis_server: RedisServer) -> None:
    together = threading.Barrier(8)

    def work(number: int) -> tuple[int, int]:
        store, settled, held = a_store(redis_server), 0, 0
        together.wait()
        for seq in range(1, 40):
            answer = store.exchange(f"h{number}", seq, [Report(DAY, settled, held, held)], [[Ask(DAY, 1000, 9, 9)]], NOW_S)
            assert answer.states[DAY[:5]].committed <= 1000
            held += 9 if answer.grants[0] else 0
            if seq % 3 == 0:
                settled, held = settled + held, 0
        store.exchange(f"h{number}", 99, [Report(DAY, settled, held, held)], [], NOW_S)
        store.close()
        return settled, held

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(work, range(8)))
    assert a_store(redis_server).states(NOW_S)[DAY] == State(
        sum(s for s, _ in ends), sum(h for _, h in ends), sum(h for _, h in ends)
    )
    assert sum(s + h for s, h in ends) == 999, "111 times 9: the limit is used up"


def test_an_exchange_is_as_much_work_for_the_server_with_a_hundred_holders_as_with_two(redis_server: RedisServer) -> None:
    store = a_store(redis_server)

    def commands() -> int:
        with redis_server.client() as client:
            client.config_resetstat()
            store.exchange("ann", seq, [Report(DAY, 1, 1, 1)], [[Ask(DAY, 10_000, 1, 1)]], NOW_S)
            return sum(each["calls"] for each in client.info("commandstats").values())

    counted = []
    for seq, others in ((1, 2), (2, 100)):
        for number in range(others):
            store.exchange(f"h{number}", seq, [Report(DAY, 1, 1, 1)], [], NOW_S)
        counted.append(commands())
    assert counted[1] <= counted[0] < 20


def test_amounts_are_exact_up_to_two_to_the_fifty_third(redis_server: RedisServer) -> None:
    store, most = a_store(redis_server), 2**53 - 1
    answer = store.exchange("ann", 1, [Report(DAY, most - 3, 2, 1)], [[Ask(DAY, most, 1, 1)], [Ask(DAY, most, 1, 1)]], NOW_S)
    assert answer.grants == [(1,), None]
    assert answer.states[DAY[:5]] == State(most - 3, 3, 1)
    assert store.states(NOW_S)[DAY].settled == 9_007_199_254_740_988
    with pytest.raises(StoreError, match="'day' is beyond"):
        store.exchange("ann", 2, [], [[Ask(DAY, 2**53 + 1, 1, 1)]], NOW_S)


def test_every_key_ends_but_those_of_people(redis_server: RedisServer) -> None:
    store = a_store(redis_server)
    store.exchange("ann", 1, [Report(account, 5, 5, 5) for account in (DAY, TENANT, SLOTS)], [], NOW_S)
    store.keep_estimates({Learnt("day", "energy", "/ask", "large"): 2.5})
    store.record([Entry(NOW_S, "day", "energy", (), "refuse", "refuse", 1, 2, 3, 4)])
    store.permit("day", None, "Claire Martin", "open day", NOW_S, NOW_S + 60)
    with redis_server.client() as client:
        ends = {name.partition("}:")[2]: client.pttl(name) / 1000 for name in client.scan_iter()}
    assert {name for name, seconds in ends.items() if seconds < 0} == {"log", "overrides"}
    windows = {name: seconds for name, seconds in ends.items() if name.startswith('a:["')}
    assert [round(seconds, -1) for _, seconds in sorted(windows.items())] == [KEEP_S, 86_400 + KEEP_S, 3_600 + KEEP_S]
    assert ends["h:ann"] <= KEEP_S
    assert min(ends["holders"], ends["accounts"]) >= 86_400


def test_a_worker_whose_clock_jumps_ends_no_account_early_and_expires_nobody(redis_server: RedisServer) -> None:
    ann, bob = a_store(redis_server), a_store(redis_server)
    ann.exchange("ann", 1, [Report(DAY, 5, 5, 5), Report(SLOTS, 0, 1, 1)], [], NOW_S)
    answer = bob.exchange("bob", 1, [Report(DAY, 1, 0, 0), Report(SLOTS, 0, 0, 0)], [], NOW_S + 10 * 86_400)
    assert answer.states == {DAY[:5]: State(6, 5, 5), SLOTS[:5]: State(0, 1, 1)}
    assert answer.holders == 2
    with redis_server.client() as client:
        (name,) = client.keys("*day*")
        assert client.ttl(name) > 86_000


def test_a_holder_that_is_not_heard_of_is_charged_what_it_held_until_it_speaks_again(redis_server: RedisServer) -> None:
    ann, bob = a_store(redis_server), a_store(redis_server)
    ann.exchange("ann", 1, [Report(DAY, 40, 10, 8), Report(SLOTS, 0, 2, 2)], [], NOW_S)
    age(redis_server, TTL_S + 1)
    for seq in (1, 2):
        answer = bob.exchange("bob", seq, [Report(DAY, 3, 0, 0), Report(SLOTS, 0, 0, 0)], [], NOW_S)
        assert answer.states == {DAY[:5]: State(53, 0, 0, 1), SLOTS[:5]: State(0, 0, 0, 1)}
    answer = ann.exchange("ann", 2, [Report(DAY, 44, 0, 0), Report(SLOTS, 0, 0, 0)], [], NOW_S)
    assert answer.new, "so that it tells the rest again, too"
    assert answer.states == {DAY[:5]: State(47), SLOTS[:5]: State()}


def test_a_dead_workers_last_word_settles_it_exactly_and_once(redis_server: RedisServer) -> None:
    ann, bob = a_store(redis_server), a_store(redis_server)
    ann.exchange("ann", 1, [Report(DAY, 40, 10, 8), Report(TENANT, 1, 2, 2)], [], NOW_S)
    for _ in range(2):  # two survivors notice
        bob.release("ann", 2**40, [Report(DAY, 48, 0, 0)], NOW_S)
        assert bob.states(NOW_S) == {DAY: State(48), TENANT: State(1)}
    assert ann.exchange("ann", 2, [Report(DAY, 40, 10, 8)], [], NOW_S).stale, "it was not dead, and is told so"
    assert bob.states(NOW_S)[DAY] == State(48)


def test_many_accounts_are_released_and_listed_a_few_at_a_time(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_AT_ONCE", 3)
    store, accounts = a_store(redis_server), [DAY._replace(key=(f"t{n}",)) for n in range(10)]
    store.exchange("ann", 1, [Report(account, 1, 1, 1) for account in accounts], [], NOW_S)
    assert store.states(NOW_S) == dict.fromkeys(accounts, State(1, 1, 1))
    store.release("ann", 2, [Report(accounts[4], 2, 0, 0)], NOW_S)
    assert store.states(NOW_S) == {account: State(2 if account is accounts[4] else 1) for account in accounts}
    assert store.exchange("ann", 3, [Report(DAY, 1, 1, 1)], [], NOW_S).stale
    assert store.states(NOW_S + 86_400) == {}, "their window is over"


def test_the_decision_log_keeps_the_latest_lines(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "LOG_LINES", 200)
    store = a_store(redis_server)
    lines = [Entry(NOW_S + n, "day", "energy", ("é",), "warn", "warn", n, 2, 3, 4) for n in range(1000)]
    store.record(lines)
    assert store.recorded(most=2) == lines[-2:]
    assert store.recorded(since_s=NOW_S + 997) == lines[-3:]
    with redis_server.client() as client:
        assert 200 <= client.xlen("frugal:{tests}:log") <= 400


def test_over_tls_a_user_who_may_touch_one_service_only_can_do_everything(tls_server: RedisServer) -> None:
    store = a_store(tls_server)
    answer = store.exchange("ann", 1, [Report(a, 1, 2, 2) for a in ACCOUNTS], [[Ask(DAY, 100, 1, 9)]], NOW_S)
    assert answer.states[DAY[:5]].settled == 1
    store.record([Entry(NOW_S, "day", "energy", (), "refuse", "refuse", 1, 2, 3, 4)])
    store.keep_estimates({Learnt("day", "energy", "/ask", ""): 2.0})
    number = store.permit("day", ("a",), "Claire Martin", "open day", NOW_S, NOW_S + 60).id
    assert (len(store.recorded()), len(store.overrides()), len(store.estimates())) == (1, 1, 1)
    assert store.revoke(number, NOW_S + 1)
    assert not store.revoke(number, NOW_S + 2)
    store.release("ann", 2, [], NOW_S)
    assert store.states(NOW_S)[DAY] == State(1)
    store.close()
    assert store.overrides()[0].revoked_s == NOW_S + 1, "it connects again"
    with pytest.raises(StoreError, match="may not do") as other:
        RedisStore(tls_server.url, "another").exchange("ann", 1, [], [], NOW_S)
    wrong = RedisStore(tls_server.url.replace("s3same", "sesame-0uvre"), "tests")
    with pytest.raises(StoreError, match="refuses the user or password") as refused:
        wrong.overrides()
    stranger = RedisStore(tls_server.url.partition("?")[0], "tests")
    with pytest.raises(StoreError, match=r"(?i)certificate"):
        stranger.overrides()
    assert "s3same" not in str(other.value)
    assert "sesame" not in str(refused.value)


def test_a_cluster_takes_every_call_at_whichever_node() -> None:
    with a_server(cluster=True, durable=False) as one, a_server(cluster=True, durable=False) as other:
        with one.client() as client, other.client() as another:
            client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.bus)
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8_191)
            another.execute_command("CLUSTER ADDSLOTSRANGE", 8_192, 16_383)
        for server in (one, other):
            server.wait_until(lambda client: client.cluster("INFO")["cluster_state"] == "ok")
        for number, server in enumerate((one, other), 1):
            store = RedisStore(server.tcp_url, "tests")
            answer = store.exchange(f"h{number}", 1, [Report(a, 1, 2, 2) for a in ACCOUNTS], [], NOW_S)
            assert answer.states[TENANT[:5]] == State(number, 2, 2)
            store.release(f"h{number}", 2, [], NOW_S)
            assert store.states(NOW_S)[DAY] == State(number)


@pytest.mark.parametrize(
    "url",
    ["redis://u:geh3im@host:port/0", "redis://u:geh3im@[::1", "redis://:geh3im@host/?socket_timeout=soon", "http://u:geh3im@host/",
     "rediss://u:geh3im@host/?no_such_option=1", "redis+sentinel://u:geh3im@host", "redis+sentinel://u:geh3im@host:port/n",
     "redis+sentinel://u:geh3im@a,,b/n", "redis+sentinel://u:geh3im@a/n?no_such_option=1", "geh3im", ""],
)  # fmt: skip
def test_a_url_that_cannot_be_is_refused_in_one_line_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not understood: use redis://") as refused:
        RedisStore(url, "tests")
    assert "geh3im" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_without_the_library_the_pip_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"redis://host needs .* pip install 'frugal-meter\[redis\]'"):
        RedisStore("redis://:geh3im@host", "tests")


def test_a_servers_own_complaint_is_passed_on(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
    with pytest.raises(StoreError, match=r"the budget store says: .*maxmemory"):
        a_store(redis_server).exchange("ann", 1, [], [], NOW_S)


def test_redis_is_imported_by_nobody_who_does_not_use_it() -> None:
    code = "import sys, frugal_meter.cli, frugal_meter.meter, frugal_meter.middleware; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    assert redis.__version__
