"""Work that waits for its admission: for a shared store's answer, or for its turn under a budget that throttles.

The queue is fair between tenants: their turns go round, and each tenant's own requests go first come, first served. Who comes
while others wait for the same budget waits behind them. Turns come at the budget's `pace`; who could not have one before its
deadline is refused at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final, Protocol

from .bell import Bell
from .leases import Book, Claim, Verdict
from .pace import opens_at_ns
from .stores.memory import MemoryStore, Name

#: more than this many wait for nothing: those who come are refused at once
MOST_WAITING: Final = 1000
#: turns tried at each settlement: a queue of a thousand tenants must not be walked through by every request that ends
_TURNS_AT_ONCE: Final = 16
#: how long a request waits for a shared store's answer before ``on_store_error`` decides; less where that blocks an event loop
PATIENCE_S: Final = 2.0
_PATIENCE_ON_A_LOOP_S: Final = 0.25
#: what was asked for, and the verdict that refused it
Refused = tuple[Sequence[Claim], Verdict]


class Waiting:
    """One request that waits. ``future`` brings the verdict; `give_up` is for a client that leaves, or a deadline.

    ``larger``: what was asked for before, and its refusal, where ``claims`` are for a smaller model instead.
    """

    __slots__ = ("claims", "deadline", "future", "larger", "parked", "queued", "tenant")

    def __init__(self, claims: Sequence[Claim], tenant: str | None, wait_s: float, larger: Refused | None = None) -> None:
        self.claims, self.tenant, self.larger = claims, tenant, larger
        self.deadline = time.monotonic() + wait_s
        self.future: Future[Verdict] = Future()
        self.queued = False
        self.parked: list[tuple[Book, int, int]] = []  # book, amount and slots set aside while a shared store is asked

    @property
    def is_answered(self) -> bool:
        """Whether there is no answer of a shared store to wait for, or no longer."""
        return self.queued or self.future.done()

    @property
    def seconds(self) -> float:
        """How long it may still wait."""
        return max(0.0, self.deadline - time.monotonic())

    def resolve(self, verdict: Verdict) -> bool:
        """Hand the verdict over; False when nobody waits for it any more, and its leases must be given back."""
        if not self.future.set_running_or_notify_cancel():
            return False
        self.future.set_result(verdict)
        return True

    def give_up(self) -> Verdict | None:
        """Stop waiting; the verdict when it had come already."""
        return None if self.future.cancel() else self.future.result()


class Asked(Protocol):
    """A shared store, as those see it who wait for it: `sharing.Sharing`."""

    def ask(self, waiting: Waiting) -> None:
        """Put the question; the books' lock is held."""

    def hurry(self) -> None:
        """Have it put at once, by somebody else."""

    def serve(self, waiting: Waiting) -> None:
        """Put it here and now."""

    def unanswered(self, claims: Sequence[Claim], now_ns: int) -> Verdict:
        """The verdict without an answer; the books' lock is held."""


class Turns:
    """The queue. Every method is for who holds the books' lock."""

    def __init__(self) -> None:
        self._by_tenant: OrderedDict[str | None, deque[Waiting]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, waiting: Waiting, *, again: bool = False) -> bool:
        """Queue behind one's own tenant's, or before them when it has waited already; False when too many wait."""
        if self._count >= MOST_WAITING:
            return False
        queue = self._by_tenant.setdefault(waiting.tenant, deque())
        queue.appendleft(waiting) if again else queue.append(waiting)
        self._count += 1
        return True

    def remove(self, waiting: Waiting) -> bool:
        """Leave the queue; False for one that was not in it."""
        queue = self._by_tenant.get(waiting.tenant)
        if queue is None or waiting not in queue:
            return False
        queue.remove(waiting)
        self._count -= 1
        if not queue:
            del self._by_tenant[waiting.tenant]
        return True

    def heads(self) -> Iterator[Waiting]:
        """Whose turn it may be: the first of each tenant, the tenant longest without a turn first."""
        for queue in list(self._by_tenant.values()):
            if queue:
                yield queue[0]

    def served(self, waiting: Waiting) -> None:
        """Let go of one whose turn came; its tenant goes to the end of the round."""
        self.remove(waiting)
        if waiting.tenant in self._by_tenant:
            self._by_tenant.move_to_end(waiting.tenant)


#: the verdict on work that comes while others wait for the same budget
BEHIND: Final = Verdict("throttle", [], [], then="wait")


class Line:
    """All that wait for one meter's budgets.

    ``store`` is put the questions that only a shared store can answer, and brings each back to `judge`; ``now_ns`` is Unix time.
    """

    def __init__(self, books: MemoryStore, now_ns: Callable[[], int]) -> None:
        self._books, self._now_ns = books, now_ns
        self._turns = Turns()
        self._bell = Bell(self.next_turns, now_ns)
        self._at = 0
        #: what waits for a turn, by budget and key: how many, and what they need together
        self._waits: dict[Name, tuple[int, int]] = {}
        self.queued = 0  # how many wait for their turn: looked at by every settlement
        self.store: Asked | None = None

    def enter(self, claims: Sequence[Claim], verdict: Verdict, tenant: str | None) -> Waiting:
        """Wait for what ``verdict`` says: a turn, or an answer. The outcome may be there at once."""
        waiting = Waiting(claims, tenant, PATIENCE_S)
        with self._books.lock:
            if verdict.then == "ask" and self.store is not None:
                self.store.ask(waiting)
            else:
                self._queue(waiting)
                if verdict is BEHIND:
                    self._next_turns()
        return waiting

    def is_behind(self, claims: Sequence[Claim]) -> bool:
        """Whether others wait for a turn under one of the budgets that are asked; the books' lock is held."""
        return any((claim.budget.name, claim.key) in self._waits for claim in claims if claim.budget.throttle_at is not None)

    def opens_at_ns(self, book: Book, estimate: int, now_ns: int) -> int:
        """When ``estimate`` more may be committed in ``book`` at its pace, behind all who wait for it already; Unix time."""
        waits = self._waits.get((book.budget.name, book.key), (0, 0))[1]
        return opens_at_ns(book, book.committed_by_all + waits + estimate, now_ns)

    def ask_instead(self, claims: Sequence[Claim], larger: Refused, before: Waiting | None, tenant: str | None) -> Waiting:
        """Wait for a shared store's answer on a smaller model, within the same wait where ``before`` was for an answer too."""
        wait_s = PATIENCE_S if before is None or before.queued else before.seconds
        waiting = Waiting(claims, tenant, wait_s, larger)
        with self._books.lock:
            self.store.ask(waiting) if self.store is not None else self.judge(waiting)
        return waiting

    def judge(self, waiting: Waiting) -> None:
        """Decide over one whose answer from a shared store has come, or will not. The books' lock is held."""
        if waiting.future.cancelled():
            return  # its client has left: what the store granted is the worker's, for the next
        waiting.claims = self._books.in_force(waiting.claims)
        # Who makes do with a smaller model has had its turn already.
        verdict = self._books.judge(waiting.claims, self._now_ns(), asked=True, last=waiting.larger is not None)
        if verdict.then == "wait":
            self._queue(waiting)
        else:
            self._resolve(waiting, verdict)

    def _queue(self, waiting: Waiting) -> None:
        again, waiting.queued = waiting.queued, True
        if not again:  # a turn that came to nothing gives no more time
            waits = [claim.budget.throttle_wait for claim in waiting.claims if claim.budget.throttle_at is not None]
            waiting.deadline = time.monotonic() + min(waits)
        now_ns = self._now_ns()
        in_vain = self._due_ns(waiting, now_ns, hopeful=True) - now_ns > waiting.seconds * 1e9
        if in_vain or not self._turns.put(waiting, again=again):
            self._resolve(waiting, self._books.judge(waiting.claims, now_ns, asked=True, last=True))
            return
        self._count(waiting, 1)
        due_ns = self._due_ns(waiting, now_ns)
        if due_ns > now_ns:
            self._bell.sooner(due_ns)

    def _due_ns(self, waiting: Waiting, now_ns: int, *, hopeful: bool = False) -> int:
        """When it may have its turn, Unix time; ``hopeful``: if all that is reserved is given back."""
        due_ns = now_ns
        for claim in waiting.claims:
            if claim.budget.throttle_at is None or not (claim.may_refuse and claim.budget.enforce):
                continue
            book = self._books.book(claim.budget, claim.key, now_ns)
            committed = book.committed_by_all - (book.reserved_by_all if hopeful else 0)
            due_ns = max(due_ns, opens_at_ns(book, committed + claim.estimate, now_ns))
            if not hopeful and book.is_denied(claim.estimate, now_ns):
                due_ns = max(due_ns, book.denied[1])
        return due_ns

    def _count(self, waiting: Waiting, sign: int) -> None:
        """Keep account of who waits for what; `Turns` has just changed."""
        self.queued = len(self._turns)
        for claim in waiting.claims:
            if claim.budget.throttle_at is not None:
                name = claim.budget.name, claim.key
                many, amount = self._waits.get(name, (0, 0))
                self._waits[name] = many + sign, amount + sign * claim.estimate
                if not self._waits[name][0]:
                    del self._waits[name]
        if not self.queued:
            self._bell.set(None)

    def _resolve(self, waiting: Waiting, verdict: Verdict) -> None:
        if waiting.resolve(verdict):
            return
        self._books.undo(verdict.leases)  # its client has left in the meantime: nobody runs, nothing is charged

    def next_turns(self) -> None:
        """Let in whose turn it is: after a settlement, at every tick, and when the pace allows for the next."""
        if self._books.is_mine:  # the garbage collector has ended work in the middle of another step: the tick will do it
            return
        with self._books.lock:
            self._next_turns()

    def _next_turns(self) -> None:
        heads = list(self._turns.heads())
        rest = heads[_TURNS_AT_ONCE:]
        # First come, first tried; and of all others some each time, for the first may wait for what is theirs alone.
        self._at = at = self._at + _TURNS_AT_ONCE if self._at + _TURNS_AT_ONCE < len(rest) else 0
        now_ns, due_ns, served = self._now_ns(), [], False
        saved: set[Name] = set()
        for waiting in heads[:_TURNS_AT_ONCE] + rest[at : at + _TURNS_AT_ONCE]:
            self._take_up(waiting)
            if any((claim.budget.name, claim.key) in saved for claim in waiting.claims):
                continue
            verdict = self._books.judge(waiting.claims, now_ns)
            if verdict.then == "wait":
                due_ns.append(self._due_ns(waiting, now_ns))  # not after now: a settlement or the tick will tell
                saved |= self._saved_for(waiting, now_ns)
                continue
            self._turns.served(waiting)
            self._count(waiting, -1)
            served = True
            if verdict.then == "ask" and self.store is not None:
                self.store.ask(waiting)
                self.store.hurry()
            else:
                self._resolve(waiting, verdict)
        if self.queued:  # who comes after one that was served has not been looked at
            self._bell.set(now_ns if served else min((due for due in due_ns if due > now_ns), default=None))

    def _saved_for(self, waiting: Waiting, now_ns: int) -> set[Name]:
        """The part of a budget that will hold ``waiting`` last, if before its deadline: nobody behind it may take that meanwhile,
        or small requests would keep a large one from its turn for ever.
        """
        books = [
            (self._books.book(claim.budget, claim.key, now_ns), claim.estimate)
            for claim in waiting.claims
            if claim.budget.throttle_at is not None and claim.may_refuse and claim.budget.enforce
        ]
        dues = {(book.budget.name, book.key): opens_at_ns(book, book.committed_by_all + need, now_ns) for book, need in books}
        last_ns = max(dues.values(), default=now_ns)
        if not now_ns < last_ns <= now_ns + waiting.seconds * 1e9:
            return set()
        return {name for name, due_ns in dues.items() if due_ns == last_ns}

    def _take_up(self, waiting: Waiting) -> None:
        """What is asked may have changed with the configuration."""
        claims = self._books.in_force(waiting.claims)
        if claims is not waiting.claims:
            self._count(waiting, -1)
            waiting.claims = claims
            self._count(waiting, 1)

    async def wait(self, waiting: Waiting) -> Verdict:
        """The outcome, awaited on the event loop. Whoever is cancelled leaves the queue and holds nothing."""
        if self.store is not None and not waiting.is_answered:
            self.store.hurry()
        outcome = asyncio.wrap_future(waiting.future)
        try:
            while not outcome.done():
                await asyncio.wait((outcome,), timeout=waiting.seconds)
                if not outcome.done() and not waiting.seconds:  # a question may have become a place in the queue: more time
                    return self._last_word(waiting)
        except asyncio.CancelledError:
            self.leave(waiting)
            raise
        return outcome.result()

    def wait_here(self, waiting: Waiting, *, hurried: bool = False) -> Verdict:
        """The outcome, on the calling thread, which is blocked: on an event loop's (``hurried`` where that is not asyncio's) not
        for a turn, and for an answer briefly.
        """
        on_a_loop = hurried or is_on_a_loop()
        if self.store is not None and not waiting.is_answered:
            self.store.hurry() if on_a_loop else self.store.serve(waiting)
        while True:
            seconds = waiting.seconds
            if on_a_loop:
                seconds = 0.0 if waiting.queued else min(seconds, _PATIENCE_ON_A_LOOP_S)
            try:
                return waiting.future.result(seconds)
            except FutureTimeoutError:
                if on_a_loop or not waiting.seconds:
                    return self._last_word(waiting)
            except BaseException:
                self.leave(waiting)
                raise

    def leave(self, waiting: Waiting) -> None:
        """Stop waiting; what was admitted in this very moment is given back."""
        verdict = self._out(waiting)
        if verdict is not None:
            self._books.settle(verdict.leases, [0] * len(verdict.leases))

    def _last_word(self, waiting: Waiting) -> Verdict:
        """The deadline is here: what came in this very moment, else what can be had at once, else a refusal."""
        verdict = self._out(waiting)
        if verdict is not None:
            return verdict
        with self._books.lock:
            waiting.claims = self._books.in_force(waiting.claims)
            if self.store is not None and not waiting.queued:
                return self.store.unanswered(waiting.claims, self._now_ns())
            # Who may not wait, or no longer, does not take what others wait for.
            return self._books.judge(waiting.claims, self._now_ns(), asked=True, last=True, behind=self._waits)

    def _out(self, waiting: Waiting) -> Verdict | None:
        with self._books.lock:
            if self._turns.remove(waiting):
                self._count(waiting, -1)
            return waiting.give_up()

    def after_fork_in_child(self) -> None:
        """Who waits is the parent's."""
        self._turns, self._waits = Turns(), {}
        self._bell = Bell(self.next_turns, self._now_ns)
        self.queued = 0


def is_on_a_loop() -> bool:
    """Whether the calling thread runs an asyncio event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
