"""`meter.measure`: what a decorated function or a block pays for, and that it stays the function it was."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import threading
import traceback
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from support import LOOPS, PATIENCE_S, about, answer, ask, assert_books_close, burn, metered

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.errors import BudgetRefused
from frugal_meter.testing import SyntheticSource


@pytest.fixture
def meter():
    with metered() as (meter, _):
        yield meter


def readings_of(out, name):
    return [r for r in out.readings if r.route == name]


def about_or_flagged(reading, true):
    """Exact, or never too much and saying that it is not the whole."""
    partial = any(flag.startswith("cpu:") for flag in reading.flags)
    return about(reading.cpu_s, true) or (partial and reading.cpu_s <= true * 1.3 + 0.003)


# -- what it leaves alone


def test_a_decorated_function_keeps_its_kind_signature_and_docstring(meter):
    def plain(a: int, *, b: str = "x") -> str:
        """Plain."""
        return b * a

    async def coroutine(a: int) -> int:
        """Coroutine."""
        return a

    def generator(n: int):
        """Generator."""
        yield from range(n)

    async def async_generator(n: int):
        """Async generator."""
        for i in range(n):
            yield i

    kinds = [inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction]
    for fn in (plain, coroutine, generator, async_generator):
        wrapped = meter.measure(model="m")(fn)
        assert inspect.signature(wrapped) == inspect.signature(fn)
        assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == (fn.__name__, fn.__doc__, fn)
        assert [kind(wrapped) for kind in kinds] == [kind(fn) for kind in kinds]
    assert meter.measure(plain)(2) == "xx"


def test_methods_classmethods_and_staticmethods_can_be_measured_in_either_order(meter):
    class Model:
        @meter.measure("m")
        def method(self, x):
            return self, x

        @classmethod
        @meter.measure("m")
        def inner_class(cls, x):
            return cls, x

        @staticmethod
        @meter.measure("m")
        def inner_static(x):
            return x

        @meter.measure("m")
        @classmethod
        def outer_class(cls, x):
            return cls, x

        @meter.measure("m")
        @staticmethod
        def outer_static(x):
            return x

    model = Model()
    assert model.method(1) == (model, 1)
    assert model.inner_class(2) == model.outer_class(2) == Model.outer_class(2) == (Model, 2)
    assert model.inner_static(3) == model.outer_static(3) == Model.outer_static(3) == 3


def test_a_partial_of_a_coroutine_function_is_measured_as_one(meter):
    async def add(a, b):
        return a + b

    assert asyncio.run(meter.measure("add")(functools.partial(add, 1))(2)) == 3


def test_an_exception_passes_with_its_traceback_and_without_a_reference_cycle(meter):
    class Trouble(Exception):
        pass

    @meter.measure("sync")
    def sync():
        raise Trouble("x")

    @meter.measure("coroutine")
    async def coroutine():
        await asyncio.sleep(0)
        raise Trouble("x")

    @meter.measure("generator")
    def generator():
        yield 1
        raise Trouble("x")

    @meter.measure("async generator")
    async def async_generator():
        yield 1
        raise Trouble("x")

    async def awaited():
        try:
            await coroutine()
        except Trouble as error:
            return check(error, "coroutine")

    async def drained():
        try:
            async for _ in async_generator():
                pass
        except Trouble as error:
            return check(error, "async_generator")

    def called(fail, name):
        try:
            fail()
        except Trouble as error:
            return check(error, name)

    def check(error, name):
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert (str(error), names[-1], len(names) < 9) == ("x", name, True)
        return weakref.ref(error)

    gc.collect()
    gc.disable()
    try:
        assert called(sync, "sync")() is None
        assert called(lambda: list(generator()), "generator")() is None
        with asyncio.Runner() as runner:
            assert runner.run(awaited())() is None
            assert runner.run(drained())() is None
    finally:
        gc.enable()


def test_a_generator_that_lets_a_thrown_exception_through_leaves_no_cycle(meter):
    class Trouble(Exception):
        pass

    @meter.measure("g")
    def generator():
        yield 1

    gc.collect()
    gc.disable()
    try:
        running = generator()
        next(running)
        trouble = Trouble()
        seen = weakref.ref(trouble)
        with contextlib.suppress(Trouble):
            running.throw(trouble)
        del trouble, running
        assert seen() is None
    finally:
        gc.enable()


def test_an_answer_whose_attributes_raise_is_returned_untouched(meter):
    class Awkward:
        def __getattr__(self, name):
            raise RuntimeError(f"no {name} today")

    awkward = Awkward()
    assert meter.measure("f")(lambda: awkward)() is awkward


# -- blocks


def test_a_block_pays_for_its_body_and_its_parent_for_the_rest():
    with metered() as (meter, out):
        with meter.measure("outer") as outer:
            mine = burn(0.02)
            with meter.measure("inner") as inner:
                its = burn(0.03)
            mine += burn(0.01)
        meter.settle()
        assert about(outer.reading.cpu_s, mine)
        assert about(inner.reading.cpu_s, its)
        assert about(outer.reading.inclusive_cpu_s, mine + its)
        assert inner.reading.parent == outer.reading.id
        assert_books_close(out.ticks)


def test_a_block_held_across_awaits_pays_for_its_own_steps_only():
    with metered() as (meter, _):
        spans, burned = {}, {}

        async def app(scope, receive, send):
            name = scope["path"]
            async with meter.measure(name) as spans[name]:
                burned[name] = 0.0
                for _ in range(4):
                    burned[name] += burn(0.01 if name == "/a" else 0.02)
                    await asyncio.sleep(0)
            await answer(send)

        async def main():
            wrapped = MeterMiddleware(app, meter=meter)
            await asyncio.gather(ask(wrapped, "/a"), ask(wrapped, "/b"))

        asyncio.run(main())
        meter.settle()
        for name in ("/a", "/b"):
            assert about(spans[name].reading.cpu_s, burned[name])


def test_a_block_in_a_child_task_of_a_request_pays_across_awaits():
    with metered() as (meter, out):
        spans, burned = [], []

        async def child(each):
            async with meter.measure("block") as span:
                used = burn(each)
                await asyncio.sleep(0)
                used += burn(each)
            spans.append(span)
            burned.append(used)

        async def app(scope, receive, send):
            async with asyncio.TaskGroup() as group:
                for each in (0.01, 0.02):
                    group.create_task(child(each))
            await answer(send)

        asyncio.run(ask(MeterMiddleware(app, meter=meter)))
        meter.settle()
        for span, used in zip(spans, burned, strict=True):
            assert about(span.reading.cpu_s, used)
        request = next(r for r in out.readings if r.kind == "http")
        assert request.cpu_s < 0.01


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["async with", "with"])
def test_a_block_in_a_bare_task_never_pays_for_the_tasks_that_run_while_it_waits(kind, loop):
    with metered() as (meter, out), asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        others = 0.0

        async def other(go):
            nonlocal others
            await go.wait()
            for _ in range(5):
                others += burn(0.01)
                await asyncio.sleep(0)

        async def main():
            go = asyncio.Event()
            task = asyncio.ensure_future(other(go))
            await asyncio.sleep(0)
            ready = [asyncio.ensure_future(other(go)) for _ in range(2)]  # run before anything that the block can schedule
            block = meter.measure("block")
            async with block if kind == "async with" else contextlib.nullcontext():
                with block if kind == "with" else contextlib.nullcontext():
                    used = burn(0.02)
                    go.set()
                    await asyncio.gather(task, *ready)
            burn(0.02)  # after the block: nobody's
            return used

        used = runner.run(main())
        meter.settle()
        [reading] = readings_of(out, "block")
        assert others >= 0.15
        assert about_or_flagged(reading, used)
        assert_books_close(out.ticks)


def test_nested_blocks_of_a_bare_task_each_pay_for_their_own():
    with metered() as (meter, _):

        async def main():
            async with meter.measure("outer") as outer:
                mine = burn(0.01)
                async with meter.measure("inner") as inner:
                    its = burn(0.02)
                mine += burn(0.03)
            return outer, mine, inner, its

        outer, mine, inner, its = asyncio.run(main())
        meter.settle()
        assert about(inner.reading.cpu_s, its)
        assert about(outer.reading.cpu_s, mine)


def test_a_bare_block_suspended_inside_a_nested_one_pays_for_no_other_task():
    with metered() as (meter, _):

        async def other():
            for _ in range(3):
                burn(0.02)
                await asyncio.sleep(0)

        async def main():
            task = asyncio.create_task(other())
            async with meter.measure("outer") as outer:
                async with meter.measure("inner") as inner:
                    await asyncio.sleep(0)
                    its = burn(0.005)
                await task
                mine = burn(0.005)
            return outer, mine, inner, its

        outer, mine, inner, its = asyncio.run(main())
        meter.settle()
        assert about_or_flagged(outer.reading, mine)
        assert about_or_flagged(inner.reading, its)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_measured_coroutine_awaited_in_a_bare_block_pays_and_the_block_does_not(loop):
    with metered() as (meter, out), asyncio.Runner(loop_factory=LOOPS[loop]) as runner:

        @meter.measure("inner")
        async def inner():
            used = 0.0
            for _ in range(4):
                used += burn(0.01)
                await asyncio.sleep(0)
            return used

        async def main():
            async with meter.measure("outer"):
                own = burn(0.01)
                return own, await inner()

        own, used = runner.run(main())
        meter.settle()
        inside, around = sorted(out.readings, key=lambda r: r.parent is None)
        assert about(inside.cpu_s, used)
        assert about_or_flagged(around, own)


def test_a_block_in_a_loop_inside_a_worker_thread_of_a_request_pays_for_no_other_task():
    """A synchronous endpoint that calls ``asyncio.run``: its inner tasks are stepped by nobody, below a cell of the request."""
    with metered() as (meter, out):

        async def other():
            for _ in range(3):
                burn(0.02)
                await asyncio.sleep(0)

        async def inner():
            task = asyncio.create_task(other())
            async with meter.measure("block"):
                await asyncio.sleep(0)
                await task

        async def app(scope, receive, send):
            await asyncio.to_thread(lambda: asyncio.run(inner()))
            await answer(send)

        asyncio.run(ask(MeterMiddleware(app, meter=meter)))
        meter.settle()
        [block] = [r for r in out.readings if r.kind == "block"]
        assert block.cpu_s < 0.02
        [request] = [r for r in out.readings if r.kind == "http"]
        assert about(request.inclusive_cpu_s, 0.06, slack=0.006)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_cancelled_while_it_enters_a_block_leaves_nothing_open(loop):
    with metered() as (meter, out), asyncio.Runner(loop_factory=LOOPS[loop]) as runner:

        async def hold():
            async with meter.measure("block"):
                await asyncio.sleep(30)

        async def main():
            for steps in range(3):
                task = asyncio.create_task(hold())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert meter.current() is None
            burn(0.03)

        runner.run(main())
        meter.settle()
        assert not meter.sampler.live
        assert {r.outcome for r in out.readings} == {"cancelled"}
        assert sum(r.cpu_s for r in out.readings) < 0.02


def test_interleaved_blocks_of_bare_tasks_leave_no_owner_behind():
    with metered() as (meter, out):
        shared = meter.measure("shared")

        async def hold(entered, leave):
            async with shared as span:
                entered.set()
                await leave.wait()
            return span

        async def main():
            a_in, b_in, a_out, b_out = (asyncio.Event() for _ in range(4))
            a = asyncio.create_task(hold(a_in, a_out))
            await a_in.wait()
            b = asyncio.create_task(hold(b_in, b_out))
            await b_in.wait()
            a_out.set()
            first = await a
            burn(0.03)
            b_out.set()
            second = await b
            burn(0.03)
            return first, second

        first, second = asyncio.run(main())
        burn(0.03)
        meter.settle()
        assert first is not second
        assert [first.t1_ns < second.t1_ns, first.outcome, second.outcome] == [True, "ok", "ok"]
        assert first.reading.cpu_s < 0.01
        assert second.reading.cpu_s < 0.01
        assert sum(out.ticks[-1].requests_nj.values()) < 0.02 * 10e9
        assert meter.current() is None


def test_one_measure_object_may_be_shared_by_threads_and_entered_again():
    with metered() as (meter, out):
        shared = meter.measure("shared")
        barrier = threading.Barrier(2)
        used = {}

        def work(seconds):
            with shared as outer:
                barrier.wait(PATIENCE_S)
                used[outer.key] = burn(seconds)
                with shared as inner:
                    used[inner.key] = burn(seconds)
                barrier.wait(PATIENCE_S)

        threads = [threading.Thread(target=work, args=(s,)) for s in (0.01, 0.03)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        meter.settle()
        assert len(used) == 4
        assert sorted(round(r.cpu_s, 2) for r in out.readings) == [0.01, 0.01, 0.03, 0.03]
        assert sum(r.parent is None for r in out.readings) == 2


def test_a_block_entered_in_one_thread_and_left_in_another_charges_neither_afterwards():
    # what a synchronous ``yield`` dependency of FastAPI does
    with metered() as (meter, _), ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        block = meter.measure("block")
        with meter.measure("outer") as outer:
            one.submit(lambda: None).result()  # the threads exist
        before = outer.total_cpu_ns
        span = one.submit(block.__enter__).result()
        two.submit(block.__exit__, None, None, None).result()
        one.submit(burn, 0.03).result()
        two.submit(burn, 0.03).result()
        meter.settle()
        assert outer.total_cpu_ns == before
        assert span.reading.settled
        assert span.reading.cpu_s < 0.02
        assert two.submit(meter.current).result() is None


def test_a_request_whose_dependency_holds_a_block_across_worker_threads_pays_all_the_same():
    with metered() as (meter, out):
        block = meter.measure("dependency")
        used = []

        async def app(scope, receive, send):
            await anyio.to_thread.run_sync(block.__enter__)
            used.append(await anyio.to_thread.run_sync(burn, 0.02))
            await anyio.to_thread.run_sync(block.__exit__, None, None, None)
            used.append(await anyio.to_thread.run_sync(burn, 0.02))
            await answer(send)

        asyncio.run(ask(MeterMiddleware(app, meter=meter)))
        meter.settle()
        request = next(r for r in out.readings if r.kind == "http")
        assert about(request.inclusive_cpu_s, sum(used))
        assert {r.outcome for r in out.readings} == {"ok"}


def test_blocks_that_concurrent_requests_hold_across_worker_threads_are_not_mixed_up():
    with metered() as (meter, out):
        block, entered = meter.measure("dependency"), []

        async def main():
            both, first_left = asyncio.Barrier(2), asyncio.Event()

            async def app(scope, receive, send):
                first = scope["path"] == "/first"
                span = await anyio.to_thread.run_sync(block.__enter__)
                span.add_tokens(input=1 if first else 2)
                entered.append(span)
                await both.wait()
                if not first:
                    await first_left.wait()
                await anyio.to_thread.run_sync(block.__exit__, None, None, None)
                first_left.set()
                await answer(send)

            wrapped = MeterMiddleware(app, meter=meter)
            await asyncio.gather(ask(wrapped, "/first"), ask(wrapped, "/second"))

        asyncio.run(main())
        meter.settle()
        blocks = [r for r in out.readings if r.kind == "block"]
        assert [r.tokens_in for r in blocks] == [1, 2]  # in the order in which they ended


def test_the_provisional_figure_of_a_block_is_there_at_once_and_settles_at_the_next_tick(meter):
    with meter.measure("f") as span:
        used = burn(0.02)
    early = span.reading
    assert not early.settled
    assert about(early.cpu_s, used)
    assert early.energy_low_j < early.energy_full_j < early.energy_high_j
    meter.settle()
    late = span.reading
    assert late.settled
    assert late is span.reading
    assert about(late.energy_dynamic_j, used * 10, slack=0.03)


# -- generators


def test_a_generator_pays_for_its_steps_and_its_consumer_for_what_lies_between():
    with metered() as (meter, out):

        @meter.measure("letters", unit="letter")
        def letters():
            for each in "abc":
                burn(0.01)
                yield each

        with meter.measure("consumer") as consumer:
            own = 0.0
            for _ in letters():
                assert meter.current() is consumer
                own += burn(0.02)
        meter.settle()
        [reading] = [r for r in out.readings if r.unit == "letter"]
        assert about(reading.cpu_s, 0.03)
        assert about(consumer.reading.cpu_s, own)
        assert reading.units == 1


def test_generators_answer_send_throw_and_return_as_they_did(meter):
    def conversation():
        heard = []
        while len(heard) < 3:
            try:
                heard.append((yield len(heard)))
            except KeyError as error:
                heard.append(f"caught {error.args[0]}")
        return heard

    wrapped = meter.measure("c")(conversation)
    for make in (conversation, wrapped):
        running = make()
        assert next(running) == 0
        assert running.send("a") == 1
        assert running.throw(KeyError("b")) == 2
        with pytest.raises(StopIteration) as end:
            running.send("c")
        assert end.value.value == ["a", "caught b", "c"]


async def _converse_asynchronously(meter):
    async def conversation():
        heard = []
        while len(heard) < 4:
            try:
                heard.append((yield list(heard)))
            except KeyError as error:
                heard.append(f"caught {error.args[0]}")

    for make in (conversation, meter.measure("c")(conversation)):
        running = make()
        assert await running.asend(None) == []
        assert await running.asend("a") == ["a"]
        assert await running.athrow(KeyError("b")) == ["a", "caught b"]
        assert await running.athrow(KeyError("c")) == ["a", "caught b", "caught c"]
        with pytest.raises(StopAsyncIteration):
            await running.athrow(KeyError("d"))
        with pytest.raises(StopAsyncIteration):
            await anext(running)


def test_async_generators_answer_asend_and_athrow_as_they_did(meter):
    asyncio.run(_converse_asynchronously(meter))


@pytest.mark.parametrize("end", ["break", "close", "error in finally"])
def test_a_generator_closed_early_is_settled_once(end):
    with metered() as (meter, out):
        cleaned = []

        @meter.measure("g")
        def numbers():
            try:
                yield 1
                yield 2
            finally:
                cleaned.append(burn(0.01))
                if end == "error in finally":
                    raise KeyError("in finally")

        running = numbers()
        next(running)
        with pytest.raises(KeyError) if end == "error in finally" else contextlib.nullcontext():
            running.close()
        meter.settle()
        [reading] = out.readings
        assert reading.settled
        assert about(reading.cpu_s, cleaned[0])
        assert not meter.sampler.live


@pytest.mark.parametrize("end", ["aclose", "error in finally"])
def test_an_async_generator_closed_early_is_settled_once(end):
    with metered() as (meter, out):
        cleaned = []

        @meter.measure("g")
        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                cleaned.append(burn(0.01))
                if end == "error in finally":
                    raise KeyError("in finally")

        async def main():
            running = numbers()
            await anext(running)
            with pytest.raises(KeyError) if end == "error in finally" else contextlib.nullcontext():
                await running.aclose()

        asyncio.run(main())
        meter.settle()
        [reading] = out.readings
        assert about(reading.cpu_s, cleaned[0])
        assert not meter.sampler.live


def test_context_variables_are_seen_across_yields_and_awaits(meter):
    seen = contextvars.ContextVar("seen", default="nothing")

    @meter.measure("async generator")
    async def numbers():
        seen.set("by the generator")
        yield 1
        assert seen.get() == "by the consumer"
        yield 2

    @meter.measure("coroutine")
    async def coroutine():
        seen.set("by the coroutine")
        await asyncio.sleep(0)

    async def main():
        async for number in numbers():
            if number == 1:
                assert seen.get() == "by the generator"
                seen.set("by the consumer")
        await coroutine()
        assert seen.get() == "by the coroutine"
        assert meter.current() is None

    asyncio.run(main())


# -- coroutines


def test_a_cancelled_coroutine_pays_what_it_used_and_says_cancelled():
    with metered() as (meter, out):
        used = []

        @meter.measure("slow")
        async def slow():
            used.append(burn(0.01))
            await asyncio.Event().wait()

        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await slow()
            task = asyncio.create_task(slow())
            task.cancel()  # before its first step: nothing ran, nothing is metered
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        meter.settle()
        [reading] = out.readings
        assert reading.outcome == "cancelled"
        assert about(reading.cpu_s, used[0])


def test_concurrent_coroutines_pay_for_themselves():
    with metered() as (meter, out):
        used = {}

        @meter.measure("work")
        async def work(seconds):
            used[seconds] = 0.0
            for _ in range(5):
                used[seconds] += burn(seconds)
                await asyncio.sleep(0)

        async def main():
            await asyncio.gather(*(work(s) for s in (0.001, 0.004, 0.01)))

        asyncio.run(main())
        meter.settle()
        for reading, seconds in zip(sorted(out.readings, key=lambda r: r.cpu_s), sorted(used), strict=True):
            assert about(reading.cpu_s, used[seconds])
        assert_books_close(out.ticks)


def test_a_measured_function_in_run_in_executor_belongs_to_the_request_that_sent_it_there():
    with metered(budgets=[Budget("all", "1 requests", per="day")]) as (meter, out):

        @meter.measure("model", model="m")
        def model():
            return burn(0.02)

        async def app(scope, receive, send):
            await asyncio.get_running_loop().run_in_executor(None, model)
            await answer(send)

        sent = asyncio.run(ask(MeterMiddleware(app, meter=meter)))
        meter.settle()
        assert sent[0]["status"] == 200
        request = next(r for r in out.readings if r.kind == "http")
        assert about(request.inclusive_cpu_s, 0.02)


def test_a_measured_block_in_work_that_outlives_its_request_is_asked_for_its_own_budget():
    with metered(budgets=[Budget("all", "1 requests", per="day")]) as (meter, _):
        verdict = []

        async def forever(answered):
            await answered.wait()
            try:
                with meter.measure("after"):
                    verdict.append("admitted")
            except BudgetRefused:
                verdict.append("refused")

        async def main():
            answered, tasks = asyncio.Event(), []

            async def app(scope, receive, send):
                tasks.append(asyncio.create_task(forever(answered)))
                await answer(send)

            await ask(MeterMiddleware(app, meter=meter))
            answered.set()
            await tasks[0]

        asyncio.run(main())
        assert verdict == ["refused"]


# -- the off switch


def test_a_disabled_meter_keeps_nothing(monkeypatch):
    monkeypatch.setenv("FRUGAL_DISABLED", "1")
    meter = Meter("off", zone="FR", sources=SyntheticSource(1, 1))

    @meter.measure("f", unit="answer")
    def f():
        return 1

    for _ in range(100):
        assert f() == 1
        with meter.measure("block") as span:
            span.add_tokens(input=1)
    assert not meter.sampler.running
    assert len(meter.sampler.finished) == len(meter.sampler.live) == 0
    assert not meter.errors
    meter.stop()


def test_two_meters_in_a_process_each_close_their_own_books():
    with metered() as (one, first), metered() as (two, second):
        with one.measure("one") as outer:
            mine = burn(0.02)
            with two.measure("two") as inner:
                its = burn(0.02)
        one.settle()
        two.settle()
        assert about(outer.reading.cpu_s, mine)
        assert about(inner.reading.cpu_s, its)
        assert inner.reading.parent is None
        assert_books_close(first.ticks + second.ticks)


# -- what a span is told


def test_tokens_units_and_quality_that_a_block_is_told_are_in_its_reading(meter):
    with meter.measure("f", unit="answer", model="large") as span:
        span.add_tokens(input=120, output=40)
        span.add_tokens(output=8, cached=100)
        span.quality(0.5, metric="exact")
        span.quality(0.8, metric="exact")
    reading = span.reading
    assert (reading.tokens_in, reading.tokens_out, reading.unit, reading.units) == (120, 48, "answer", 1)
    assert (reading.quality, reading.quality_metric, reading.model_requested, reading.model_served) == (
        0.8,
        "exact",
        "large",
        "large",
    )


@pytest.mark.parametrize("nonsense", [-1, 1.5, "7", None, True, 2**80, float("nan")])
def test_counts_that_mean_nothing_leave_the_figure_unknown(meter, nonsense):
    with meter.measure("f") as span:
        span.add_tokens(input=nonsense)
        span.quality(nonsense if nonsense != 1.5 else 1.01)
    assert (span.reading.tokens_in, span.reading.quality) == (None, None)


def test_a_usage_that_a_function_returns_is_counted(meter):
    @meter.measure("f")
    def f():
        seen.append(meter.current())
        return {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

    seen = []
    f()
    assert (seen[0].reading.tokens_in, seen[0].reading.tokens_out) == (5, 2)


def test_ids_are_of_version_7_ordered_in_time_and_never_twice():
    with metered() as (meter, out):
        for _ in range(500):
            with meter.measure("f"):
                pass
        meter.settle()
        ids = [r.id for r in out.readings]
        assert len(set(ids)) == 500
        assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids} == {(7, uuid.RFC_4122)}
        assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


# -- when a budget degrades


def answers(fn):
    """All that one call of a measured function of any kind gives."""

    async def awaited():
        return [await fn()]

    async def drained():
        return [item async for item in fn()]

    if inspect.iscoroutinefunction(fn):
        return asyncio.run(awaited())
    if inspect.isasyncgenfunction(fn):
        return asyncio.run(drained())
    return list(fn()) if inspect.isgeneratorfunction(fn) else [fn()]


async def large_coroutine():
    return "large"


def large_function():
    return "large"


def large_generator():
    yield "large"


async def large_async_generator():
    yield "large"


ASYNC = [large_coroutine, large_async_generator]


@pytest.mark.parametrize(
    ("large", "awaited"),
    [*((large, False) for large in (large_function, large_generator, *ASYNC)), *((large, True) for large in ASYNC)],
)
def test_a_degraded_call_is_answered_by_the_fallback_and_the_reading_names_both_models(large, awaited):
    degrading = Budget("day", "4 requests", per="day", warn_at=0.1, degrade_at=0.5)
    with metered(budgets=[degrading]) as (meter, out):

        @meter.measure(model="small")
        def small():
            return "small"

        async def small_awaited():
            return "small"

        fn = meter.measure("answer", model="large", fallback=small_awaited if awaited else small)(large)
        assert [answers(fn) for _ in range(3)][-1] == ["small"]
        meter.settle()
        asked = [r for r in out.readings if r.model_requested == "large"]
        assert (asked[0].model_served, asked[0].outcome) == ("large", "ok")
        assert asked[-1].decision == "degrade"
        assert asked[-1].model_served == ("small_awaited" if awaited else "small")


def test_a_refused_call_raises_before_it_begins_and_names_the_budget():
    with metered(budgets=[Budget("day", "1 requests", per="day")]) as (meter, out):
        began = []

        @meter.measure("f")
        def f():
            began.append(1)

        f()
        with pytest.raises(BudgetRefused, match="'day'") as caught:
            f()
        assert caught.value.refusal["budget"] == "day"
        assert began == [1]
        meter.settle()
        assert [r.outcome for r in out.readings] == ["ok", "refused"]
        assert meter.current() is None
