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
from frugal_meter.budgets.leases import Claim, Lease
from frugal_meter.budgets.sharing import Sharing
from frugal_meter.budgets.stores import Answer, Report, holdings
from frugal_meter.budgets.stores.memory import MemoryStore
from frugal_meter.budgets.survival import FAR_SEQ
from frugal_meter.budgets.waiting import Line, Waiting
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
        self.line.ask = self.sharing.ask
        self.books.share()
        self.sharing._thread = object()  # type: ignore[assignment] # alive, as far as anybody asks; it runs when we say
        self.leases: list[tuple[Lease, int]] = []
        self.waiting: list[tuple[Waiting, int]] = []

    def admit(self, estimate: int, window: int) -> None:
        claims = [Claim(self.machine.budget, (), estimate, True, (None, None))]
        verdict = self.books.admit(claims, self.machine.now_ns())
        if verdict.then == "done":
            self.leases += [(lease, window) for lease in verdict.leases]
        else:
            self.waiting.append((self.line.enter(claims, verdict, None), window))

    def exchange(self) -> None:
        self.sharing._pass()
        for waiting, window in self.waiting:
            verdict = waiting.give_up()
            if verdict is not None:
                self.leases += [(lease, window) for lease in verdict.leases]
        self.waiting = []

    def owed(self) -> list[Report]:
        """What the record of a killed worker tells."""
        return [Report(self.sharing._slices.account(b), b.settled - b.base + b.reserved, 0, 0) for b in self.books.every()]


class Budgets(RuleBasedStateMachine):
    """Several workers, one budget of an hour; ``charged`` is what each window has truly been charged."""

    @initialize(share=st.sampled_from([0.0, 0.05, 0.5]), sliding=st.booleans())
    def begins(self, share: float, sliding: bool) -> None:
        self.share = share
        self.at_s = 1_767_225_600
        self.tables = Tables()
        self.budget = Budget("all", f"{LIMIT} tokens", per="hour", degrade_at=None, warn_at=1.0, sliding=sliding)
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
        worker.admit(estimate, self.window())
        if worker.waiting:
            worker.exchange()

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

    @rule(index=which, pick=which, more=st.integers(1, 100))
    def work_asks_for_more(self, index: int, pick: int, more: int) -> None:
        worker = self.one(index)
        if worker.leases:
            lease, _ = worker.leases[pick % len(worker.leases)]
            if not worker.books.top_up(lease, more, 1):
                worker.sharing.ask_more(lease, more, 1)

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
        for window, promised in ceilings.items():
            assert promised <= LIMIT + self.excess[window], (window, promised)

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
