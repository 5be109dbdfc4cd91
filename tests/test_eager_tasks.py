"""Tasks that begin at once, inside the call that makes them (Python 3.12 and later): each pays for its own stretches."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support import LOOPS, about, answer, ask, burn, metered

from frugal_meter import MeterMiddleware


async def nap():
    await asyncio.sleep(0)


def by_factory(coro):
    return asyncio.create_task(coro)


def by_start(coro):
    return asyncio.get_running_loop().create_task(coro, eager_start=True)


async def run_with(begin, main):
    loop = asyncio.get_running_loop()
    if begin is by_factory:  # not before the loop runs: its first task cannot begin at once
        loop.set_task_factory(asyncio.eager_task_factory)
    try:
        return await main()
    finally:
        loop.set_task_factory(None)


def has(loop, begin):
    """Whether tasks begin at once this way, with nothing of ours around: not before 3.12, nor on every uvloop."""
    begun = []

    async def child():
        begun.append(1)

    async def main():
        with contextlib.closing(child()) as coro:
            task = begin(coro)
            at_once = bool(begun)
            await task
            return at_once

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        try:
            return runner.run(run_with(begin, main))
        except (AttributeError, TypeError):
            return False


#: kinds of loop, and how a task is made eager on them: by the loop's factory, or by asking
WAYS = [(loop, begin) for loop in LOOPS for begin in (by_factory, by_start) if has(loop, begin)]

# Collected only where the interpreter has such tasks: nothing to skip elsewhere.
if WAYS:

    @pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1].__name__}")
    def way(request):
        return request.param

    @pytest.fixture
    def begin(way):
        return way[1]

    @pytest.fixture
    def run(way):
        """``run(main)`` on a fresh loop."""
        with asyncio.Runner(loop_factory=LOOPS[way[0]]) as runner:
            yield lambda main: runner.run(run_with(way[1], main))

    def served(meter, app):
        return lambda: ask(MeterMiddleware(app, meter=meter))

    def test_a_request_pays_for_an_eager_task_before_and_after_its_first_await(run, begin):
        with metered() as (meter, out):
            used, order = [], []

            async def child():
                order.append("child")
                used.append(burn(0.01))
                await nap()
                used.append(burn(0.01))
                return 5

            async def app(scope, receive, send):
                task = begin(child())
                order.append("parent")
                used.append(burn(0.005))
                assert await task == 5
                await answer(send)

            run(served(meter, app))
            meter.settle()
            assert order == ["child", "parent"]
            assert about(out.readings[0].cpu_s, sum(used), slack=0.006)

    def test_a_block_in_an_eager_task_pays_for_its_own_and_not_for_who_made_the_task(run, begin):
        with metered() as (meter, out):
            inside, outside = [], []

            async def child():
                with meter.measure("inside"):
                    inside.append(burn(0.01))
                    await nap()
                    inside.append(burn(0.005))

            async def app(scope, receive, send):
                task = begin(child())
                outside.append(burn(0.02))  # while the block is open, and at nobody's expense but the request's
                await task
                outside.append(burn(0.005))
                await answer(send)

            run(served(meter, app))
            meter.settle()
            block, request = sorted(out.readings, key=lambda r: r.cpu_s)
            assert about(block.cpu_s, sum(inside))
            assert about(request.cpu_s, sum(outside), slack=0.006)

    def test_an_eager_task_that_ends_without_waiting_or_raises_is_as_ever(run, begin):
        with metered() as (meter, out):
            used = []

            async def done():
                used.append(burn(0.005))
                return "done"

            async def fails():
                used.append(burn(0.005))
                raise KeyError("mine")

            async def app(scope, receive, send):
                task = begin(done())
                assert task.done()
                assert await task == "done"
                broken = begin(fails())
                assert broken.done()
                with pytest.raises(KeyError, match="mine"):
                    await broken
                await answer(send)

            run(served(meter, app))
            meter.settle()
            assert out.readings[0].outcome == "ok"
            assert about(out.readings[0].cpu_s, sum(used), slack=0.006)

    def test_an_eager_task_is_cancelled_while_it_waits_as_ever(run, begin):
        with metered() as (meter, _):
            heard = []

            async def child():
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError as error:
                    heard.append(error.args)
                    raise

            async def app(scope, receive, send):
                task = begin(child())
                task.cancel("enough")
                with pytest.raises(asyncio.CancelledError):
                    await task
                await answer(send)

            run(served(meter, app))
            assert heard == [("enough",)]

    def test_eager_tasks_in_eager_tasks_and_groups_are_counted_once(run, begin):
        with metered() as (meter, out):
            used = []

            async def leaf():
                used.append(burn(0.004))
                await nap()
                used.append(burn(0.004))

            async def branch():
                used.append(burn(0.004))
                await asyncio.gather(begin(leaf()), begin(leaf()))

            async def app(scope, receive, send):
                async with asyncio.TaskGroup() as group:
                    group.create_task(branch())
                    group.create_task(branch())
                await answer(send)

            run(served(meter, app))
            meter.settle()
            assert about(out.readings[0].cpu_s, sum(used), slack=0.006)

    def test_without_a_request_a_block_in_an_eager_task_does_not_pay_for_who_made_it(run, begin):
        with metered() as (meter, out):
            inside, outside = [], []

            async def child():
                async with meter.measure("inside"):
                    inside.append(burn(0.01))
                    await nap()
                    inside.append(burn(0.005))

            async def main():
                task = begin(child())
                outside.append(burn(0.02))
                await task

            run(main)
            meter.settle()
            [block] = out.readings
            assert about(block.cpu_s, sum(inside))

    def test_a_plain_block_in_a_bare_eager_task_gives_its_first_stretch_back_and_says_so(run, begin):
        """It lets go to the code that made the task, which no hook sees."""
        with metered() as (meter, out):
            later = []

            async def child():
                with meter.measure("inside"):
                    burn(0.01)
                    await nap()
                    later.append(burn(0.01))

            async def main():
                task = begin(child())
                burn(0.03)
                await task

            run(main)
            meter.settle()
            [block] = out.readings
            assert about(block.cpu_s, sum(later))
            assert "cpu:from-first-await" in block.flags

    def test_an_eager_task_outlives_its_request_as_late_work(run, begin):
        with metered() as (meter, out):
            late, tasks = [], []

            async def child(go):
                await go.wait()
                late.append(burn(0.02))

            async def main():
                go = asyncio.Event()

                async def app(scope, receive, send):
                    tasks.append(begin(child(go)))
                    await answer(send)

                await ask(MeterMiddleware(app, meter=meter))
                go.set()
                await tasks[0]

            run(main)
            meter.settle()
            assert about(sum(t.late_nj for t in out.ticks) / 1e9 / 10, sum(late))
            assert about(out.readings[0].cpu_s, 0, slack=0.006)
