"""The books: whatever happens, each nanojoule and each CPU-second is booked once, and to the right one."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from support import LOOPS, PATIENCE_S, WATTS_PER_CPU, about, answer, ask, assert_books_close, burn, metered

from frugal_meter import MeterMiddleware
from frugal_meter.attribution.idle import Baseline, HostSlice
from frugal_meter.records import Interval
from frugal_meter.sources import Sample, Window
from frugal_meter.testing import FrozenClock, SyntheticSource


class Worker:
    """A thread that burns CPU for a span step by step, when told to, and says when each step is done."""

    def __init__(self, work):
        self.used = 0.0
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._steps, self._over = [], threading.Event()
        self._work = work

    def run(self):
        """The body of the thread: call it wherever the work is to be done."""
        while True:
            assert self._go.acquire(timeout=PATIENCE_S)
            seconds = self._steps.pop(0)
            if seconds is None:
                self._over.set()
                return
            self.used += burn(seconds)
            self._done.release()

    def burn(self, seconds):
        """Have it burn ``seconds`` more, and wait until it has."""
        self._steps.append(seconds)
        self._go.release()
        assert self._done.acquire(timeout=PATIENCE_S)

    def end(self):
        """Have it return."""
        self._steps.append(None)
        self._go.release()
        assert self._over.wait(PATIENCE_S)


def joules(out, bucket):
    return sum(getattr(t, bucket) for t in out.ticks) / 1e9


def requests_j(out):
    return sum(sum(t.requests_nj.values()) for t in out.ticks) / 1e9


def test_every_tick_of_a_mixed_load_closes_to_the_nanojoule():
    random.seed(2)
    with metered() as (meter, out):

        @meter.measure("inner")
        def inner(seconds):
            burn(seconds)

        async def app(scope, receive, send):
            seconds = random.uniform(0.0001, 0.003)
            burn(seconds)
            await asyncio.gather(asyncio.to_thread(inner, seconds), anyio.to_thread.run_sync(burn, seconds))
            await answer(send)

        async def main():
            wrapped = MeterMiddleware(app, meter=meter)
            for _ in range(4):
                await asyncio.gather(*(ask(wrapped) for _ in range(15)))
                burn(0.005)
                await asyncio.to_thread(meter.settle)

        asyncio.run(main())
        meter.settle()
        assert_books_close(out.ticks)
        assert len(out.readings) == 120
        assert sum(round(r.energy_dynamic_j * 1e9) for r in out.readings) == sum(sum(t.requests_nj.values()) for t in out.ticks)
        source = meter.setup.sources[0]
        assert sum(t.energy_nj for t in out.ticks) == source.truth_nj
        for earlier, later in pairwise(out.ticks):
            assert earlier.t1_ns == later.t0_ns


def test_a_settled_span_is_billed_exactly_the_cpu_that_its_clock_saw_however_often_the_tick_looked():
    with metered() as (meter, out):
        done = threading.Event()
        spans = []

        def work():
            while not done.is_set():
                with meter.measure("block") as span:
                    spans.append(span)
                    burn(0.001)
                    with meter.measure("inner") as inner:
                        spans.append(inner)
                        burn(0.001)
                    burn(0.001)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(12):
            meter.settle()
        done.set()
        for thread in threads:
            thread.join()
        meter.settle()
        assert len(spans) > 10
        wrong = [(s.account.cpu_ns, s.total_cpu_ns) for s in spans if s.account.cpu_ns != s.total_cpu_ns]
        assert wrong == []
        assert_books_close(out.ticks)


def test_a_switch_between_two_reads_of_the_tick_is_not_counted_twice():
    """The tick reads open stretches and closed ones one after the other; here a thread ends its stretch in between."""
    with metered() as (meter, _):
        worker = Worker(meter)
        leave = threading.Event()
        spans = []

        def work():
            with meter.measure("block") as span:
                spans.append(span)
                worker.run()
            leave.set()

        thread = threading.Thread(target=work)
        thread.start()
        worker.burn(0.03)

        class Ends(list):
            def __iter__(self):
                # the ledger asks for this span's cells: by now the other thread has left its block
                if not leave.is_set():
                    worker.end()
                    assert leave.wait(PATIENCE_S)
                return super().__iter__()

        with meter.measure("first") as first:
            first.lendable().all = Ends()
            everyone, meter.sampler.live = meter.sampler.live, [first, spans[0]]  # in this order
            meter.sampler.tick()
            meter.sampler.live = everyone
        thread.join()
        meter.settle()
        meter.settle()
        assert spans[0].account.cpu_ns == spans[0].total_cpu_ns


def test_a_running_request_is_billed_as_it_goes():
    with metered() as (meter, out):
        with meter.measure("long") as span:
            first = burn(0.03)
            meter.settle()
            assert about(span.account.cpu_ns / 1e9, first)
            assert about(sum(out.ticks[-1].requests_nj.values()) / 1e9, first * WATTS_PER_CPU, slack=0.03)
            second = burn(0.02)
        meter.settle()
        [reading] = out.readings
        assert about(reading.cpu_s, first + second)
        assert about(reading.energy_dynamic_j, WATTS_PER_CPU * (first + second), slack=0.06)


def run_with_thread_that_outlives_its_request(meter, worker, during, after):
    """A request whose worker thread goes on after it: ``during`` it and ``after`` it are told when to happen."""

    async def app(scope, receive, send):
        asyncio.get_running_loop().run_in_executor(pool, worker.run)
        await asyncio.to_thread(during)
        await answer(send)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(ask(MeterMiddleware(app, meter=meter)))
        after()


def test_a_thread_that_outlives_its_request_is_paid_for_once_by_the_request_and_then_by_late_work():
    with metered() as (meter, out):
        worker = Worker(meter)

        def during():
            worker.burn(0.05)
            meter.settle()

        def after():
            meter.settle()
            worker.burn(0.03)
            meter.settle()
            worker.end()

        run_with_thread_that_outlives_its_request(meter, worker, during, after)
        meter.settle()
        [reading] = out.readings
        assert about(reading.energy_dynamic_j / WATTS_PER_CPU, 0.05, slack=0.01)
        assert about(joules(out, "late_nj") / WATTS_PER_CPU, 0.03)
        assert about((requests_j(out) + joules(out, "late_nj")) / WATTS_PER_CPU, worker.used, slack=0.01)
        assert_books_close(out.ticks)


def test_a_thread_that_no_tick_saw_before_its_request_ended_is_still_the_requests_until_then():
    with metered() as (meter, out):
        worker = Worker(meter)

        def after():
            meter.settle()
            worker.burn(0.03)
            meter.settle()
            worker.end()

        run_with_thread_that_outlives_its_request(meter, worker, lambda: worker.burn(0.05), after)
        meter.settle()
        assert about(requests_j(out) / WATTS_PER_CPU, 0.05, slack=0.01)
        assert about(joules(out, "late_nj") / WATTS_PER_CPU, 0.03)


def test_late_work_is_booked_as_it_goes_and_starves_no_request_when_it_ends():
    with metered() as (meter, out):
        worker = Worker(meter)

        def after():
            meter.settle()
            for _ in range(5):
                worker.burn(0.05)
                meter.settle()
            with meter.measure("neighbour"):
                burn(0.03)
            worker.end()

        run_with_thread_that_outlives_its_request(meter, worker, lambda: worker.burn(0.001), after)
        meter.settle()
        assert about(joules(out, "late_nj") / WATTS_PER_CPU, 0.25, slack=0.01)
        [neighbour] = [r for r in out.readings if r.route == "neighbour"]
        assert about(neighbour.energy_dynamic_j / WATTS_PER_CPU, 0.03)


def test_tasks_of_a_loop_inside_a_worker_thread_leave_nothing_behind():
    """A synchronous endpoint that calls ``asyncio.run``: its inner tasks pay into cells of the outer span."""
    with metered() as (meter, out):

        @meter.measure("part")
        async def part():
            return burn(0.001)

        async def inner():
            return sum(await asyncio.gather(part(), part()))

        async def app(scope, receive, send):
            await anyio.to_thread.run_sync(asyncio.run, inner())
            await answer(send)

        async def main():
            for _ in range(10):
                await ask(MeterMiddleware(app, meter=meter))

        asyncio.run(main())
        meter.settle()
        meter.settle()
        assert len(out.readings) == 30
        assert all(0.002 < r.inclusive_cpu_s < 0.02 for r in out.readings if r.kind == "http")
        assert len(meter.ledger._lingering) == 0


def test_a_settled_reading_is_the_same_whenever_it_is_first_looked_at():
    with metered(exporters=[]) as (meter, _):
        worker = Worker(meter)
        spans = []

        async def app(scope, receive, send):
            spans.append(meter.current())
            asyncio.get_running_loop().run_in_executor(pool, worker.run)
            await asyncio.to_thread(worker.burn, 0.02)
            await answer(send)

        with ThreadPoolExecutor(1) as pool:
            asyncio.run(ask(MeterMiddleware(app, meter=meter)))
            meter.settle()
            worker.burn(0.04)
            worker.end()
        meter.settle()
        assert spans[0].reading.settled
        assert spans[0].reading.cpu_s < 0.04


def test_a_task_that_outlives_its_request_is_late_work_of_its_route():
    with metered() as (meter, out):
        used = []

        async def main():
            answered, tasks = asyncio.Event(), []

            async def later():
                await answered.wait()
                used.append(burn(0.02))
                await asyncio.sleep(0)
                used.append(await asyncio.to_thread(burn, 0.02))

            async def app(scope, receive, send):
                tasks.append(asyncio.create_task(later()))
                await answer(send)

            await ask(MeterMiddleware(app, meter=meter))
            answered.set()
            await tasks[0]

        asyncio.run(main())
        meter.settle()
        [reading] = out.readings
        assert reading.cpu_s < 0.01
        assert about(joules(out, "late_nj") / WATTS_PER_CPU, sum(used), slack=0.01)
        assert_books_close(out.ticks)


def test_late_calls_in_threads_do_not_pile_up():
    with metered() as (meter, _):

        async def main():
            answered, tasks = asyncio.Event(), []

            async def later():
                await answered.wait()
                for _ in range(50):
                    await asyncio.to_thread(int)

            async def app(scope, receive, send):
                tasks.append(asyncio.create_task(later()))
                await answer(send)

            await ask(MeterMiddleware(app, meter=meter))
            answered.set()
            await tasks[0]

        asyncio.run(main())
        [late] = meter.ledger.late.values()
        assert len(late.all) <= 4


def test_work_without_a_span_is_overhead_of_the_framework_or_of_the_start():
    with metered() as (meter, out):
        before = burn(0.02)
        meter.settle()
        with meter.measure("f"):
            pass
        meter.settle()
        after = burn(0.02)
        meter.settle()
        parts = {}
        for tick in out.ticks:
            for part, nj in tick.overhead_parts.items():
                parts[part] = parts.get(part, 0) + nj / 1e9 / WATTS_PER_CPU
        assert before <= parts["startup"]
        assert after <= parts["framework"] < after * 1.3 + 0.01
        assert 0 < parts["meter"] < 0.02
        assert_books_close(out.ticks)


def test_a_nested_span_and_its_parent_hold_the_machine_once():
    clock = FrozenClock()
    with metered(idle_watts=100.0, clock=clock, host_share=1.0) as (meter, out):
        with meter.measure("outer") as outer:
            clock.advance(1)
            with meter.measure("inner") as inner:
                clock.advance(3)
        clock.advance(1)
        burn(0.01)
        meter.settle()
        assert_books_close(out.ticks)
        tick = out.ticks[-1]
        assert tick.idle_nj == pytest.approx(500e9)
        held = {k: v / 1e9 for k, v in tick.idle_requests_nj.items()}
        assert held[outer.key] == pytest.approx(100, rel=0.01)
        assert held[inner.key] == pytest.approx(300, rel=0.01)
        assert outer.reading.inclusive_energy_full_j == pytest.approx(outer.reading.energy_full_j + inner.reading.energy_full_j)
        assert outer.reading.wall_s == 4.0


def test_idle_is_allocated_out_of_the_declared_slice_only():
    clock = FrozenClock()
    with metered(idle_watts=100.0, clock=clock, host_share=0.25) as (meter, out):
        with meter.measure("a"), meter.measure("b"):
            clock.advance(2)
        burn(0.01)
        meter.settle()
        tick = out.ticks[-1]
        assert tick.idle_nj == pytest.approx(200e9)
        assert sum(tick.idle_requests_nj.values()) == pytest.approx(50e9, rel=0.001)


def test_without_any_source_energy_is_unknown_and_cpu_is_not():
    with metered(sources=[]) as (meter, out):
        with meter.measure("f"):
            used = burn(0.01)
        meter.settle()
        [reading] = out.readings
        assert about(reading.cpu_s, used)
        joules = (reading.energy_dynamic_j, reading.energy_full_j, reading.energy_low_j, reading.energy_high_j)
        assert joules == (None,) * 4
        assert (reading.carbon_g, reading.tier, reading.measured_share) == (None,) * 3


class Broken(SyntheticSource):
    """A source that, once told how, answers as no source should."""

    how = "well"

    def read(self, window):
        sample = super().read(window)
        if self.how == "raises":
            raise OSError("the sensor has gone")
        if self.how == "vanishes":
            return None
        if self.how == "negative":
            return Sample(-5, -5, -5)
        if self.how == "negative idle":
            return Sample(sample.energy_nj, sample.energy_nj, sample.energy_nj, idle_nj=-(10**9))
        if self.how == "float":
            return Sample(1.5e9, 1.5e9, 1.5e9)
        if self.how == "nan":
            return Sample(float("nan"), 0, 0)
        return sample


@pytest.mark.parametrize("how", ["raises", "vanishes", "negative", "negative idle", "float", "nan"])
def test_a_source_that_misbehaves_costs_no_reading_and_books_nothing_absurd(how):
    broken, sound = Broken(1, 5, name="broken"), SyntheticSource(2, WATTS_PER_CPU, name="sound")
    with metered(sources=[broken, sound]) as (meter, out):
        broken.how = how
        with meter.measure("while broken"):
            used = burn(0.02)
        assert meter.settle()
        broken.how = "well"
        with meter.measure("mended"):
            used_later = burn(0.02)
        assert meter.settle()
        first, second = out.readings
        assert_books_close(out.ticks)
        assert sum(t.energy_nj for t in out.ticks if t.source == "sound") == sound.truth_nj
        assert first.energy_dynamic_j >= used * WATTS_PER_CPU
        assert about(second.energy_dynamic_j, used_later * (WATTS_PER_CPU + 5), slack=0.06)
        if how not in ("negative idle", "float"):
            assert "energy:incomplete" in first.flags
        assert "energy:incomplete" not in second.flags


def test_a_gap_is_booked_apart_and_never_to_a_request():
    class Slept(SyntheticSource):
        def read(self, window):
            sample = super().read(window)
            return Sample(sample.energy_nj, sample.low_nj, sample.high_nj, gap="suspend") if sample.energy_nj else sample

    with metered(sources=Slept(1, WATTS_PER_CPU)) as (meter, out):
        with meter.measure("f"):
            burn(0.01)
        meter.settle()
        assert all(t.gap_nj == t.energy_nj for t in out.ticks)
        assert requests_j(out) == 0
        assert "energy:incomplete" in out.readings[0].flags
        assert_books_close(out.ticks)


def test_joules_that_are_not_linear_in_cpu_still_close():
    with metered(sources=SyntheticSource(power=lambda cpus: 20 + 30 * cpus**0.6)) as (meter, out):
        for _ in range(3):
            with meter.measure("f"):
                burn(0.01)
            meter.settle()
        assert_books_close(out.ticks)
        for reading in out.readings:
            assert reading.energy_low_j <= reading.energy_full_j <= reading.energy_high_j


def test_many_spans_settle_in_one_pass_and_each_gets_its_share():
    with metered() as (meter, out):
        for _ in range(3000):
            with meter.measure("f"):
                pass
        assert meter.settle()
        assert len(out.readings) == 3000
        assert all(r.settled and r.cpu_s > 0 for r in out.readings)
        assert_books_close(out.ticks)
        assert not meter.errors


def test_deeply_nested_spans_settle_and_can_be_read():
    with metered() as (meter, out):

        @meter.measure("f")
        def f(depth):
            return f(depth - 1) if depth else meter.current()

        with meter.measure("top") as top:
            f(150)
        assert top.reading.inclusive_cpu_s >= top.reading.cpu_s
        meter.settle()
        assert len(out.readings) == 152
        assert not meter.errors


class OfTheHost(SyntheticSource):
    """A source that meters the whole machine, as RAPL does."""

    scope = "host"

    def read(self, window):
        seconds, idle = window.seconds, round(5e9 * window.seconds)
        busy = max(window.host_busy_ns or 0, window.process_ns)
        energy = idle + 10 * busy
        return Sample(energy, energy, energy, idle_nj=idle) if seconds > 0 else Sample(0, 0, 0)


def test_what_other_processes_use_is_theirs():
    with metered(sources=OfTheHost()) as (meter, out):
        other = subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"])
        with meter.measure("f"):
            used = burn(0.1)
        other.wait(PATIENCE_S)
        meter.settle()
        assert_books_close(out.ticks)
        [reading] = out.readings
        assert about(reading.energy_dynamic_j / WATTS_PER_CPU, used, slack=0.01)
        # /proc/stat counts in hundredths of a second on each CPU
        assert joules(out, "other_nj") / WATTS_PER_CPU >= 0.35
        assert reading.host_share < 0.5


def test_late_work_is_booked_under_the_route_of_its_request():
    with metered() as (meter, _):

        async def main():
            answered, tasks = asyncio.Event(), []

            async def later():
                await answered.wait()
                burn(0.001)

            async def endpoint(request):
                tasks.append(asyncio.create_task(later()))
                return PlainTextResponse("ok")

            app = Starlette(routes=[Route("/letters/{letter}", endpoint)])
            await ask(MeterMiddleware(app, meter=meter), "/letters/7")
            answered.set()
            await tasks[0]

        asyncio.run(main())
        meter.settle()
        assert list(meter.ledger.late) == ["/letters/{letter}"]


@pytest.mark.parametrize("loop", LOOPS)
def test_under_a_load_of_tasks_threads_and_blocks_every_span_is_billed_its_clock_to_the_nanosecond(loop):
    random.seed(3)
    spans = []
    with metered() as (meter, out), asyncio.Runner(loop_factory=LOOPS[loop]) as runner:

        @meter.measure("coroutine")
        async def coroutine(seconds):
            spans.append(meter.current())
            burn(seconds)
            await asyncio.sleep(0)
            burn(seconds)

        @meter.measure("function")
        def function(seconds):
            spans.append(meter.current())
            burn(seconds)

        async def app(scope, receive, send):
            spans.append(meter.current())
            seconds = random.uniform(0.0001, 0.001)
            async with asyncio.TaskGroup() as group:
                group.create_task(coroutine(seconds))
                group.create_task(asyncio.to_thread(function, seconds))
                group.create_task(anyio.to_thread.run_sync(burn, seconds))
            async with meter.measure("block") as block:
                spans.append(block)
                burn(seconds)
                await asyncio.sleep(0)
                burn(seconds)
            await answer(send)

        async def main():
            wrapped, over = MeterMiddleware(app, meter=meter), threading.Event()

            def look():
                while not over.is_set():
                    meter.settle()

            looking = asyncio.create_task(asyncio.to_thread(look))
            for _ in range(4):
                await asyncio.gather(*(ask(wrapped) for _ in range(10)))
            over.set()
            await looking

        runner.run(main())
        meter.settle()
        assert len(spans) == len(out.readings) == 160
        assert [s.account.cpu_ns for s in spans] == [s.total_cpu_ns for s in spans]
        billed = sum(sum(t.requests_nj.values()) for t in out.ticks)
        assert billed / 1e9 == pytest.approx(sum(s.total_cpu_ns for s in spans) * WATTS_PER_CPU / 1e9, rel=1e-6)
        assert joules(out, "late_nj") == 0
        assert_books_close(out.ticks)


# -- idle


def window(seconds=1.0, busy=0.0, cpus=4, process=0.0):
    return Window(0, round(seconds * 1e9), round(busy * 1e9), cpus, round(process * 1e9))


def sample(joules, idle=None):
    nj = round(joules * 1e9)
    return Sample(nj, nj, nj, idle_nj=None if idle is None else round(idle * 1e9))


def test_the_idle_baseline_is_configured_else_observed_else_modelled_else_unknown():
    unknown = Baseline()
    assert unknown.idle_nj(window(), sample(50)) == (None, "none")
    modelled = Baseline(modelled=Interval(20, 30, 40))
    assert modelled.idle_nj(window(2), sample(50)) == (60 * 10**9, "modelled")
    for joules in range(19):
        modelled.observe(window(busy=0.01), sample(25 + joules))
    modelled.observe(window(busy=3.0), sample(400))  # a busy host says nothing of idle
    assert modelled.watts == (30, "modelled")
    modelled.observe(window(busy=0.01), sample(1))  # one glitch is not the baseline
    assert modelled.watts == (25, "observed")
    configured = Baseline(12.5, Interval(20, 30, 40))
    assert configured.idle_nj(window(2), sample(50, idle=9)) == (25 * 10**9, "configured")
    assert Baseline().idle_nj(window(), sample(50, idle=9)) == (9 * 10**9, "modelled")


def test_the_slice_of_the_host_is_declared_else_its_quota_else_its_share_of_the_cpu_time():
    assert HostSlice(0.25, 1.0).of(window(), 3, 4) == 0.25
    assert HostSlice(None, 1.0).of(window(cpus=4), 3, 4) == 0.25
    assert HostSlice(None, 9.0).of(window(cpus=4), 3, 4) == 1.0
    assert HostSlice().of(window(), 3, 4) == 0.75
    assert HostSlice().of(window(), 5, 4) == 1.0
    assert HostSlice().of(window(), 0, 0) == 0.0


def test_no_bound_of_a_reading_lies_inside_what_was_booked():
    with metered(sources=SyntheticSource(0.0, 7.3)) as (meter, out):  # 7.3 nJ a nanosecond: seldom whole
        for known_exactly in (meter.ledger, *meter.ledger.books):
            known_exactly.key = (1.0, 1.0)  # the bounds are then the figure itself, which is booked in whole nanojoules
        for _ in range(50):
            with meter.measure("little"):
                burn(0.0001)
        assert meter.settle()
    little = [reading for reading in out.readings if reading.energy_full_j]
    assert len(little) == 50
    assert all(r.energy_low_j <= r.energy_full_j <= r.energy_high_j for r in little)
    assert all(r.carbon_low_g <= r.carbon_g <= r.carbon_high_g for r in little)
