"""The hooks: work that a request starts elsewhere is the request's, and nobody notices that they are there."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import traceback
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.from_thread
import pytest
from support import LOOPS, about, answer, ask, burn, metered

from frugal_meter import MeterMiddleware
from frugal_meter.attribution import clocks, hooks
from frugal_meter.attribution.span import SPAN


@pytest.fixture(params=LOOPS)
def run(request):
    """``run(main())`` on a fresh loop of each kind."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


async def nap():
    await asyncio.sleep(0)


async def by_run_in_executor(used):
    await asyncio.get_running_loop().run_in_executor(None, lambda: used.append(burn(0.02)))


async def by_to_thread(used):
    await asyncio.to_thread(lambda: used.append(burn(0.02)))


async def by_anyio(used):
    await anyio.to_thread.run_sync(lambda: used.append(burn(0.02)))


async def by_submit(used):
    with ThreadPoolExecutor(1) as pool:
        await asyncio.wrap_future(pool.submit(lambda: used.append(burn(0.02))))


async def by_map(used):
    with ThreadPoolExecutor(2) as pool:
        used += list(pool.map(burn, [0.01, 0.01]))


async def by_task(used):
    async def child():
        for _ in range(3):
            used.append(burn(0.005))
            await nap()

    await asyncio.create_task(child())


async def by_grandchild(used):
    await asyncio.create_task(by_task(used))


async def by_gather(used):
    await asyncio.gather(by_task(used), by_task(used))


async def by_task_group(used):
    async with asyncio.TaskGroup() as group:
        group.create_task(by_task(used))
        group.create_task(by_to_thread(used))


async def by_anyio_task_group(used):
    async with anyio.create_task_group() as group:
        group.start_soon(by_task, used)
        group.start_soon(by_anyio, used)


async def by_from_thread(used):
    await anyio.to_thread.run_sync(anyio.from_thread.run, by_task, used)


async def by_run_in_a_thread(used):
    await asyncio.to_thread(lambda: asyncio.run(by_gather(used)))


async def by_a_thread_from_a_thread(used):
    def outer():
        used.append(burn(0.005))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: used.append(burn(0.01))).result()

    await asyncio.to_thread(outer)


WAYS = [
    by_run_in_executor,
    by_to_thread,
    by_anyio,
    by_submit,
    by_map,
    by_task,
    by_grandchild,
    by_gather,
    by_task_group,
    by_anyio_task_group,
    by_from_thread,
    by_run_in_a_thread,
    by_a_thread_from_a_thread,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_request_pays_for_work_that_it_starts(run, way):
    with metered() as (meter, out):
        used = []

        async def app(scope, receive, send):
            await way(used)
            await answer(send)

        run(ask(MeterMiddleware(app, meter=meter)))
        meter.settle()
        [reading] = out.readings
        assert about(reading.cpu_s, sum(used), slack=0.006)


def test_work_in_a_pool_shared_by_two_requests_is_charged_to_the_one_that_sent_it():
    with metered() as (meter, out), ThreadPoolExecutor(1) as pool:
        used = {}

        async def app(scope, receive, send):
            seconds = 0.03 if scope["path"] == "/heavy" else 0.005
            used[scope["path"]] = await asyncio.get_running_loop().run_in_executor(pool, burn, seconds)
            await answer(send)

        async def main():
            wrapped = MeterMiddleware(app, meter=meter)
            await asyncio.gather(*(ask(wrapped, path) for path in ("/heavy", "/light", "/light")))

        asyncio.run(main())
        meter.settle()
        heavy, *light = sorted(out.readings, key=lambda r: -r.cpu_s)
        assert about(heavy.cpu_s, used["/heavy"])
        assert all(about(r.cpu_s, 0.005) for r in light)


class Slotted(ThreadPoolExecutor):
    def __setattr__(self, name, value):
        if name.startswith("_frugal"):
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_an_executor_that_keeps_no_attributes_works_on():
    with metered() as (meter, out), Slotted(1) as pool:
        assert pool.submit(lambda: 1).result() == 1
        with meter.measure("work"):
            pool.submit(burn, 0.01).result()
        assert meter.settle()
        assert 0.01 <= out.readings[-1].cpu_s < 0.02
        assert meter.errors == {}


@pytest.mark.parametrize("strangers", [False, True])
def test_a_pools_thread_is_paid_for_between_two_requests_unless_others_gave_it_work(strangers, monkeypatch):
    """The first request leaves a callback behind, as asyncio does to hand over a result."""
    monkeypatch.setattr(clocks, "_HANDING_OVER_NS", 10_000_000)  # wider than a crowded machine is slow
    with metered() as (meter, _), ThreadPoolExecutor(1) as pool:
        gate = threading.Event()
        if strangers:
            pool.submit(int).result()
        with meter.measure("first"):
            future = pool.submit(gate.wait)
            future.add_done_callback(lambda _: burn(0.001))
            gate.set()
        with meter.measure("second") as span:
            pool.submit(int).result()
        assert (span.cells.total_ns() >= 1_000_000) is not strangers


def test_a_loop_whose_threads_work_for_others_too_charges_requests_for_their_own_work_only(run):
    async def main():
        with metered() as (meter, _):
            await anyio.to_thread.run_sync(burn, 0.0002)  # without a span
            async with meter.measure("block") as span:
                await anyio.to_thread.run_sync(int)
            return span.cells.total_ns()

    assert run(main()) < 200_000


def test_carry_takes_the_span_where_no_hook_sees_it():
    with metered() as (meter, out):
        used, seen = [], []

        def work(number, *, more):
            seen.append(meter.current())
            used.append(burn(0.02))
            return number + more

        with meter.measure("f") as span:
            carried = meter.carry(work)
            thread = threading.Thread(target=carried, args=(1,), kwargs={"more": 2})
            thread.start()
            thread.join()
        assert carried.__name__ == "work"
        assert seen == [span]
        meter.settle()
        assert about(out.readings[0].cpu_s, sum(used))
        assert meter.carry(work) is work  # no span runs here
        assert carried(1, more=2) == 3
        assert meter.current() is None


def test_a_child_task_looks_like_the_coroutine_it_carries(run):
    with metered() as (meter, _):

        async def child(go):
            await go.wait()
            return 5

        async def app(scope, receive, send):
            go = asyncio.Event()
            task = asyncio.create_task(child(go), name="mine")
            await nap()
            coro = task.get_coro()
            assert coro.__qualname__.endswith("child")
            assert coro.__name__ == "child"
            assert coro.cr_code is child.__code__
            assert inspect.getcoroutinestate(coro) == inspect.CORO_SUSPENDED
            assert "child" in repr(task)
            assert task.get_name() == "mine"
            assert [frame.f_code.co_name for frame in task.get_stack()] == ["child"]
            go.set()
            assert await task == 5
            await answer(send)

        run(ask(MeterMiddleware(app, meter=meter)))


def test_a_child_task_is_cancelled_before_its_first_step_and_midway_as_ever(run):
    with metered() as (meter, out):
        heard = []

        async def child():
            heard.append("began")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError as error:
                heard.append(error.args)
                raise

        async def app(scope, receive, send):
            early = asyncio.create_task(child())
            early.cancel()
            with pytest.raises(asyncio.CancelledError):
                await early
            midway = asyncio.create_task(child())
            await nap()
            midway.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await midway
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    late = asyncio.create_task(child())
                    await nap()  # only once it has begun: a short timeout can be over before that
                    limit.reschedule(asyncio.get_running_loop().time())
                    await late
            await answer(send)

        run(ask(MeterMiddleware(app, meter=meter)))
        meter.settle()
        assert heard == ["began", ("enough",), "began", ()]
        assert out.readings[0].outcome == "ok"


def test_an_exception_of_a_child_task_keeps_its_traceback_and_is_let_go():
    class Trouble(Exception):
        pass

    with metered() as (meter, _):
        seen = []

        async def child():
            await nap()
            raise Trouble("x")

        async def app(scope, receive, send):
            task = asyncio.create_task(child())
            try:
                await task
            except Trouble as error:
                tb = error.__traceback__
                names = []
                while tb is not None:
                    names.append(tb.tb_frame.f_code.co_name)
                    tb = tb.tb_next
                assert names[-1] == "child"
                seen.append(weakref.ref(error))
            del task
            await nap()  # the loop's own handle lets go of the task
            assert seen[0]() is None
            await answer(send)

        gc.collect()
        gc.disable()
        try:
            asyncio.run(ask(MeterMiddleware(app, meter=meter)))
        finally:
            gc.enable()


def test_a_child_task_never_run_warns_as_ever_and_no_more():
    with metered() as (meter, _):

        async def child():
            raise AssertionError("never runs")

        with meter.measure("f"):
            loop = asyncio.new_event_loop()
            hooks.watch_loop(loop)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                task = loop.create_task(child())
                task._log_destroy_pending = False
                loop.close()
                del task
                gc.collect()
        assert [str(w.message) for w in caught if w.category is RuntimeWarning] == [
            "coroutine 'test_a_child_task_never_run_warns_as_ever_and_no_more.<locals>.child' was never awaited"
        ]


def test_a_task_factory_of_the_applications_own_goes_on_making_its_tasks(run):
    class Mine(asyncio.Task):
        pass

    with metered() as (meter, out):
        used = []

        async def app(scope, receive, send):
            task = asyncio.create_task(by_task(used), context=contextvars.copy_context(), name="n")
            assert type(task) is Mine
            assert task.get_name() == "n"
            await task
            await answer(send)

        async def main():
            wrapped = MeterMiddleware(app, meter=meter)
            loop = asyncio.get_running_loop()
            for _ in range(2):
                loop.set_task_factory(lambda loop, coro, **more: Mine(coro, loop=loop, **more))  # replaced between requests
                await ask(wrapped)

        run(main())
        meter.settle()
        assert len(out.readings) == 2
        assert about(sum(r.cpu_s for r in out.readings), sum(used), slack=0.006)


def test_create_task_refuses_what_is_no_coroutine_as_ever(run):
    with metered() as (meter, _):

        async def app(scope, receive, send):
            with pytest.raises(TypeError, match="coroutine"):
                asyncio.get_running_loop().create_task(5)
            await answer(send)

        run(ask(MeterMiddleware(app, meter=meter)))


def test_without_a_span_nothing_is_wrapped():
    with metered():

        async def child():
            return SPAN.get()

        async def main():
            hooks.watch_running_loop()
            task = asyncio.create_task(child())
            assert inspect.iscoroutine(task.get_coro())
            return await task

        assert asyncio.run(main()) is None
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(SPAN.get).result() is None


def test_a_worker_thread_keeps_nothing_of_the_span_after_its_work():
    with metered() as (meter, _), ThreadPoolExecutor(1) as pool:
        with meter.measure("f") as span:
            inside = pool.submit(meter.current).result()
        assert inside in (None, span)
        assert pool.submit(meter.current).result() is None


def test_hooks_turned_off_are_passed_through_and_put_back_only_when_outermost():
    with metered() as (meter, _):
        mine = ThreadPoolExecutor.submit
        assert mine.__name__ == "submit"
        try:
            hooks.uninstall()
            assert ThreadPoolExecutor.submit is not mine
            with meter.measure("f") as span, ThreadPoolExecutor(1) as pool:
                used = pool.submit(burn, 0.01).result()
            assert span.total_cpu_ns / 1e9 < used
            hooks.install()
            ours = ThreadPoolExecutor.submit

            def theirs(self, fn, /, *args, **kwargs):
                return ours(self, fn, *args, **kwargs)

            ThreadPoolExecutor.submit = theirs
            hooks.uninstall()
            assert ThreadPoolExecutor.submit is theirs
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(int).result() == 0
            hooks.install()
            with meter.measure("f") as span, ThreadPoolExecutor(1) as pool:
                used = pool.submit(burn, 0.01).result()
            assert about(span.total_cpu_ns / 1e9, used)
            ThreadPoolExecutor.submit = ours
        finally:
            hooks.install()


@pytest.mark.parametrize("way", ["submit", "to_thread", "anyio", "carry", "task"])
def test_a_traceback_has_at_most_one_frame_of_ours(run, way):
    def fails():
        raise ValueError("mine")

    async def fails_too():
        fails()

    async def frames(meter):
        loop = asyncio.get_running_loop()
        try:
            if way == "submit":
                await loop.run_in_executor(None, fails)
            elif way == "to_thread":
                await asyncio.to_thread(fails)
            elif way == "anyio":
                await anyio.to_thread.run_sync(fails)
            elif way == "carry":
                meter.carry(fails)()
            else:
                await asyncio.create_task(fails_too())
        except ValueError as error:
            return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]

    async def both():
        with metered() as (meter, _):
            hooks.watch_running_loop()
            plain = await frames(meter)
            async with meter.measure("f"):
                return plain, await frames(meter)

    plain, carried = run(both())
    ours = [name for name in carried if "frugal_meter/attribution" in name]
    # functools.wraps of `carry` is a function of its own
    assert len(ours) <= (2 if way == "carry" else 1)
    assert [name for name in carried if name not in ours] == plain
