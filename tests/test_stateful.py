"""Random lives of requests: whatever begins, nests, waits, hands on, fails or is cancelled, in whatever order, and wherever
ticks fall, every nanosecond of CPU is billed once and every nanojoule booked once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support import LOOPS, answer, assert_books_close, burn, metered, scope

from frugal_meter import MeterMiddleware
from frugal_meter.attribution import hooks

BURN_S = 0.0005
END = "end"
ENTER = "enter"
which = st.integers(0, 99)


class Request:
    """A request that does what it is told, one command after the other, and the spans it opened."""

    def __init__(self, machine):
        self.machine = machine
        self.orders: asyncio.Queue = asyncio.Queue()
        self.depth = 0
        app = MeterMiddleware(self.app, meter=machine.meter)
        self.task = asyncio.get_running_loop().create_task(app(scope(), None, self.send))

    async def send(self, message):
        pass

    async def app(self, scope, receive, send):
        self.machine.spans.append(self.machine.meter.current())
        await self.obey()
        await answer(send)

    async def obey(self):
        while (order := await self.orders.get()) != END:
            if order == ENTER:
                async with self.machine.meter.measure("block") as span:
                    self.machine.spans.append(span)
                    self.orders.task_done()
                    await self.obey()
                continue
            try:
                await order()
            finally:
                self.orders.task_done()
        self.orders.task_done()

    async def do(self, order):
        """Give an order and wait until it is done; the last one, until the request is over."""
        self.depth += {ENTER: 1, END: -1}.get(order, 0)
        self.orders.put_nowait(order)
        if self.depth < 0 or order == self.machine.fails:
            await asyncio.gather(self.task, return_exceptions=True)
        else:
            await self.orders.join()


class Lives(RuleBasedStateMachine):
    """Requests on one loop, their blocks, children and threads; ``truth`` is what each span was seen to burn."""

    loop = "asyncio"

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        runner = self.stack.enter_context(asyncio.Runner(loop_factory=LOOPS[self.loop]))
        self.meter, self.out = self.stack.enter_context(metered())
        self.begun_ns = time.process_time_ns()
        self.run = runner.run
        self.spans, self.requests, self.children, self.threads = [], [], [], []
        self.truth, self.loose_s = Counter(), 0.0

    def burn(self, late_s=0.0):
        """Burn in the name of the span that is current; after its end, and by ``late_s`` before, the work may be late."""
        span, used = self.meter.current(), burn(BURN_S)
        if span.t1_ns:
            self.loose_s += used
        else:
            self.truth[span.key] += used - late_s
            self.loose_s += late_s

    async def burns(self):
        self.burn()

    async def burns_in_a_thread(self):
        await asyncio.to_thread(self.burn)

    async def burns_in_a_plain_block(self):
        with self.meter.measure("plain") as span:
            self.spans.append(span)
            self.burn()

    async def starts_a_child(self):
        gate = asyncio.Event()

        async def child():
            self.burn()
            await gate.wait()
            self.burn()

        self.children.append((gate, asyncio.create_task(child())))
        await asyncio.sleep(0)

    async def starts_a_thread(self):
        gate, begun = threading.Event(), threading.Event()

        def work():
            self.burn(late_s=0.0001)  # an open stretch is taken this much short, and a span can end in it
            begun.set()
            gate.wait()
            self.loose_s += burn(BURN_S)  # before the tick after its span's end it is the span's, and then late

        future = asyncio.get_running_loop().run_in_executor(None, work)
        begun.wait()
        self.threads.append((gate, future))

    async def fails(self):
        raise ValueError("as applications do")

    @rule()
    @precondition(lambda self: len(self.requests) < 5)
    def a_request_comes(self):
        async def come():
            hooks.watch_running_loop()
            self.requests.append(Request(self))
            await asyncio.sleep(0)

        self.run(come())

    def told(self, index, order):
        request = self.requests[index % len(self.requests)]
        self.run(request.do(order))
        if request.task.done():
            self.requests.remove(request)

    @rule(index=which, order=st.sampled_from(["burns", "burns_in_a_thread", "burns_in_a_plain_block", "starts_a_child"]))
    @precondition(lambda self: self.requests)
    def it_works(self, index, order):
        self.told(index, getattr(self, order))

    @rule(index=which)
    @precondition(lambda self: self.requests and len(self.threads) < 3)
    def it_starts_a_thread(self, index):
        self.told(index, self.starts_a_thread)

    @rule(index=which, order=st.sampled_from([ENTER, END]))
    @precondition(lambda self: self.requests)
    def it_opens_or_closes_a_block(self, index, order):
        self.told(index, order)

    @rule(index=which)
    @precondition(lambda self: self.requests)
    def it_fails(self, index):
        self.told(index, self.fails)

    @rule(index=which)
    @precondition(lambda self: self.requests)
    def it_is_cancelled(self, index):
        request = self.requests.pop(index % len(self.requests))
        request.task.cancel()
        self.run(asyncio.wait([request.task]))

    @rule()
    @precondition(lambda self: self.children)
    def a_child_goes_on(self):
        gate, task = self.children.pop()
        gate.set()
        self.run(asyncio.wait([task]))

    @rule()
    @precondition(lambda self: self.threads)
    def a_thread_goes_on(self):
        gate, future = self.threads.pop()
        gate.set()
        self.run(asyncio.wait([future]))

    @rule()
    def a_tick(self):
        assert self.meter.settle()

    @invariant()
    def nobody_is_billed_ahead_of_the_clocks(self):
        spent_ns = time.process_time_ns() - self.begun_ns
        assert sum(span.account.billed_ns for span in self.spans if span.account is not None) <= spent_ns

    def teardown(self):
        with self.stack:
            while self.children:
                self.a_child_goes_on()
            while self.threads:
                self.a_thread_goes_on()
            while self.requests:
                self.told(0, END)
            self.a_tick()
            self.a_tick()
            self.everything_is_billed_once()

    def everything_is_billed_once(self):
        assert not self.meter.errors
        counted_ns = 0
        for span in self.spans:
            assert span.account.own_billed_ns == span.cpu_ns
            cells = span.cells.all if span.cells is not None else []
            assert all(cell.billed_ns == cell.cpu_ns for cell in cells)
            assert span.account.billed_ns <= span.total_cpu_ns
            assert span.account.billed_ns >= self.truth[span.key] * 1e9
            counted_ns += span.total_cpu_ns
        late = [cell for book in self.meter.ledger.late.values() for cell in book.all]
        assert all(cell.billed_ns == cell.cpu_ns for cell in late)
        counted_ns += sum(cell.cpu_ns for cell in late)
        assert counted_ns >= (sum(self.truth.values()) + self.loose_s) * 1e9
        assert counted_ns <= time.process_time_ns() - self.begun_ns

        assert_books_close(self.out.ticks)
        booked = Counter()
        for tick in self.out.ticks:
            booked.update(dict(tick.requests_nj))
        readings = {reading.id: reading for reading in self.out.readings}
        assert len(readings) == len(self.out.readings) == len(self.spans)
        for span in self.spans:
            assert booked.pop(span.key, 0) == sum(span.account.sources_nj)
            assert round(readings[span.reading.id].energy_dynamic_j * 1e9) == sum(span.account.sources_nj)
        assert not booked


class LivesOnUvloop(Lives):
    """The same on the other kind of loop, which wakes tasks by a queue of its own."""

    loop = "uvloop"


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
LivesOnUvloop.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestLives, TestLivesOnUvloop = Lives.TestCase, LivesOnUvloop.TestCase
