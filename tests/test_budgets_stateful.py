"""Random lives of budgets: workers admit, top up, settle, are corrected, stop, die and come back, windows turn and the store
fails, in whatever order: no work is forgotten, none is charged twice, and nothing is promised beyond the limit.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from frugal_meter import Budget
from frugal_meter.budgets.decisions import Decisions
from frugal_meter.budgets.leases import Claim, Lease, Verdict
from frugal_meter.budgets.sharing import Sharing
from frugal_meter.budgets.stores import Answer, Report, holdings
from frugal_meter.budgets.stores.memory import MemoryStore
from frugal_meter.budgets.survival import FAR_SEQ
from frugal_meter.budgets.waiting import BEHIND, Line, Waiting
from frugal_meter.budgets.windows import SLIDING
from frugal_meter.errors import StoreError

LIMIT = 1000
which = st.integers(0, 99)


class Tables:
    """The rows of a store, in memory: `holdings` says what they mean."""

    kind, spans_hosts = "model", True

    def __init__(self) -> None:
        self.sums: Counter[Any] = Counter()
        self.by_account: dict[Any, dict[str, holdings.Row]] = {}
        self.heard: dict[str, float] = {}
        self.seq: dict[str, int] = {}
        self.over: set[str] = set()
        self.away = self.loses_answers = False

    def settled(self, account: Any) -> int:
        return self.sums[account]

    def settle(self, account: Any, more: int) -> None:
        self.sums[account] += more

    def rows(self, account: Any) -> dict[str, holdings.Row]:
        return self.by_account.setdefault(account, {})

    def exchange(self, holder: str, seq: int, reports: Any, asks: Any, now_s: float) -> Answer:
        if self.away:
            raise StoreError("away", "here", "wait")
        if holder in self.over or seq <= self.seq.get(holder, 0):
            return Answer([None] * len(asks), {}, len(self.heard), stale=True)
        answer = holdings.exchange(self, holder, self.heard, reports, asks, now_s)
        self.seq[holder] = seq
        if self.loses_answers:
            raise StoreError("the answer was lost", "here", "wait")
        return answer

    def release(self, holder: str, seq: int, reports: Any, now_s: float) -> None:
        if self.away:
            raise StoreError("away", "here", "wait")
        if holder in self.over or seq <= self.seq.get(holder, 0):
            return
        holdings.release(self, holder, reports, iter(list(self.by_account)))
        self.over.add(holder)
        self.heard.pop(holder, None)

    def record(self, entries: Any) -> None: ...
    def overrides(self) -> list[Any]:
        return []

    def states(self, now_s: float) -> dict[Any, Any]:
        return {}

    def estimates(self) -> dict[Any, float]:
        return {}

    def close(self) -> None: ...


class Silent:
    """A bell that never rings: turns come when the machine says so."""

    def set(self, at_ns: int | None) -> None: ...
    def sooner(self, at_ns: int) -> None: ...


class Worker:
    """One worker: its books, its leases, and every exchange made when the machine says so."""

    def __init__(self, machine: Budgets) -> None:
        self.machine, self.books = machine, MemoryStore()
        self.line = Line(self.books, machine.now_ns)
        self.sharing = Sharing(
            machine.tables, self.books, Decisions(), service="s", address="a", on_error="closed", now_ns=machine.now_ns,  # type: ignore[arg-type]
            resolved=self.line.judge, recall=lambda learnt: None, fault=lambda stage, error: None, folder=None,
            share=machine.share,
        )  # fmt: skip
        self.line.store, self.line._bell = self.sharing, Silent()  # type: ignore[assignment]
        self.books.share()
        self.sharing._thread = object()  # type: ignore[assignment] # alive, as far as anybody asks; it runs when we say
        self.leases: list[tuple[Lease, int]] = []
        self.waiting: list[Waiting] = []

    def admit(self, estimate: int) -> None:
        claims = [Claim(self.machine.budget, (), estimate, True, (None, None))]
        with self.books.lock:
            behind = self.line.queued and self.line.is_behind(claims)
            verdict = BEHIND if behind else self.books.judge(claims, self.machine.now_ns())
        if verdict.then == "done":
            self.begin(verdict)
        else:
            self.waiting.append(self.line.enter(claims, verdict, None))

    def begin(self, verdict: Verdict) -> None:
        self.leases += [(lease, lease.book.start_ns // 10**9) for lease in verdict.leases]

    def exchange(self) -> None:
        self.sharing._tell_all()
        self.turn()

    def turn(self) -> None:
        """Who has an answer begins; who waits for a turn waits on."""
        self.line.next_turns()
        for waiting in [each for each in self.waiting if each.future.done()]:
            self.waiting.remove(waiting)
            self.begin(waiting.future.result())
        assert self.line.queued <= len(self.waiting)

    def leave(self) -> None:
        for waiting in self.waiting:
            self.line.leave(waiting)
        self.waiting = []
        assert (self.line.queued, self.line._waits) == (0, {})

    def owed(self) -> list[Report]:
        """What the record of a killed worker tells."""
        return [Report(self.sharing._slices.account(b), b.settled - b.base + b.reserved, 0, 0) for b in self.books.every()]


class Budgets(RuleBasedStateMachine):
    """Several workers, one budget of an hour; ``charged`` is what each window has truly been charged."""

    @initialize(share=st.sampled_from([0.0, 0.05, 0.5]), sliding=st.booleans(), throttle_at=st.sampled_from([None, 0.3, 0.8]))
    def begins(self, share: float, sliding: bool, throttle_at: float | None) -> None:
        self.share = share
        self.at_s = 1_767_225_600
        self.tables = Tables()
        more: dict[str, Any] = {"degrade_at": None, "warn_at": 1.0, "throttle_at": throttle_at, "throttle_wait": 3600}
        self.budget = Budget("all", f"{LIMIT} tokens", per="hour", sliding=sliding, hard=True, **more)
        self.charged: Counter[int] = Counter()
        self.excess: Counter[int] = Counter()
        self.workers = [Worker(self), Worker(self)]

    def now_ns(self) -> int:
        return self.at_s * 10**9

    def window(self) -> int:
        return self.budget.window(self.at_s)[0]

    def one(self, index: int) -> Worker:
        return self.workers[index % len(self.workers)]

    @rule(index=which, estimate=st.integers(1, 300))
    def work_comes(self, index: int, estimate: int) -> None:
        worker = self.one(index)
        worker.admit(estimate)
        if worker.waiting:
            worker.exchange()

    @rule(index=which)
    def all_that_is_left_is_taken(self, index: int) -> None:
        for estimate in (300, 300, 100, 100, 30, 30, 10, 10):
            self.work_comes(index, estimate)

    @rule(index=which, pick=which, part=st.floats(0, 1.5))
    def work_ends(self, index: int, pick: int, part: float) -> None:
        worker = self.one(index)
        if worker.leases:
            lease, window = worker.leases.pop(pick % len(worker.leases))
            used = int(lease.amount * part)
            self.excess[window] += max(0, used - lease.amount)
            worker.books.settle([lease], [used * 1000])
            worker.books.settle([lease], [99_000])  # idempotent
            self.charged[window] += used
            worker.books.correct({lease.book: -1000 * (used // 10)})
            self.charged[window] -= used // 10

    @rule(index=which, pick=which, more=st.sampled_from([1, 20, 300]))
    def work_asks_for_more(self, index: int, pick: int, more: int) -> None:
        worker = self.one(index)
        if worker.leases:
            lease, _ = worker.leases[pick % len(worker.leases)]
            if not worker.books.top_up(lease, more, 1):
                worker.sharing.ask_more(lease, more, 1)

    @rule(index=which)
    def all_that_runs_asks_for_more(self, index: int) -> None:
        for pick in range(len(self.one(index).leases)):
            self.work_asks_for_more(index, pick, 300)
        self.one(index).exchange()

    @rule(index=which)
    def a_worker_ticks(self, index: int) -> None:
        self.one(index).exchange()

    @rule(index=which)
    def an_answer_is_lost(self, index: int) -> None:
        self.tables.loses_answers = True
        self.one(index).exchange()
        self.tables.loses_answers = False

    @rule(index=which)
    def the_store_is_away_for_a_while(self, index: int) -> None:
        self.tables.away = True
        self.one(index).exchange()
        self.tables.away = False

    @rule(index=which)
    def a_worker_is_killed_and_buried(self, index: int) -> None:
        worker = self.one(index)
        worker.leave()
        self.workers.remove(worker)
        for lease, window in worker.leases:
            self.charged[window] += lease.amount
        for _ in range(2):  # two survivors find it
            self.tables.release(worker.sharing.holder, FAR_SEQ, worker.owed(), self.at_s)
        self.workers.append(Worker(self))

    @rule(index=which)
    def a_worker_is_taken_for_dead(self, index: int) -> None:
        worker = self.one(index)
        worker.exchange()
        if not worker.leases:
            self.tables.release(worker.sharing.holder, FAR_SEQ, [], self.at_s)
            worker.exchange()  # it learns of it before anybody else is granted what it held: no other order is safe

    @rule(minutes=st.sampled_from([1, 6, 59, 61]))
    def time_goes_on(self, minutes: int) -> None:
        self.at_s += 60 * minutes
        for worker in self.workers:
            worker.turn()

    @rule(index=which)
    def all_who_wait_leave(self, index: int) -> None:
        self.one(index).leave()

    @precondition(lambda self: len(self.workers) < 4)
    @rule()
    def a_worker_comes(self) -> None:
        self.workers.append(Worker(self))

    @invariant()
    def nothing_is_promised_beyond_the_limit(self) -> None:
        """What all workers have charged and may still commit: only work that outgrew its lease goes beyond."""
        if not hasattr(self, "workers"):
            return
        ceilings: Counter[int] = Counter(self.charged)
        for worker in self.workers:
            for book in worker.books.every():
                ceilings[book.start_ns // 10**9] += max(book.room + book.parked, 0) + book.reserved
        length = SLIDING["hour"][0] if self.budget.sliding else 0
        for window in ceilings:
            counted = [part for part in ceilings if window - length <= part <= window]
            promised = sum(ceilings[part] for part in counted)
            assert promised <= LIMIT + sum(self.excess[part] for part in counted), (window, promised)

    @invariant()
    def books_are_the_sum_of_their_leases(self) -> None:
        for worker in getattr(self, "workers", ()):
            reserved: Counter[int] = Counter()
            for lease, _ in worker.leases:
                reserved[id(lease.book)] += lease.amount
            for book in worker.books.every():
                assert book.reserved == reserved[id(book)]
                assert book.parked == 0

    def teardown(self) -> None:
        if not hasattr(self, "workers"):
            return
        for worker in self.workers:
            worker.leave()
            while worker.leases:
                lease, window = worker.leases.pop()
                worker.books.settle([lease], [7000])
                self.charged[window] += 7
        for _ in range(3):
            for worker in self.workers:
                worker.exchange()
        told = {account[3]: amount for account, amount in self.tables.sums.items() if amount}
        assert told == {window: amount for window, amount in self.charged.items() if amount}


Budgets.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBudgets = Budgets.TestCase


def test_work_that_runs_on_into_a_later_part_grows_by_no_more_than_that_one_has_left() -> None:
    machine = Budgets()
    machine.begins(0.0, True, None)
    machine.work_comes(0, 100)
    machine.time_goes_on(6)
    machine.all_that_is_left_is_taken(1)
    taken = sum(lease.amount for worker in machine.workers for lease, _ in worker.leases)
    assert LIMIT - 20 <= taken < LIMIT
    machine.all_that_runs_asks_for_more(0)
    machine.nothing_is_promised_beyond_the_limit()
    assert taken < sum(lease.amount for worker in machine.workers for lease, _ in worker.leases) <= LIMIT
