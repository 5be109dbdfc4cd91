"""The tick thread: forced, stopped, started again, stuck, and never in the way."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest
from support import PATIENCE_S, WATTS_PER_CPU, assert_books_close, burn, metered

from frugal_meter import Meter
from frugal_meter.attribution.ledger import CHUNK
from frugal_meter.exporters.dispatch import MAX_BATCHES, Dispatch
from frugal_meter.testing import RecordingExporter, SyntheticSource


def tick_threads():
    return [t for t in threading.enumerate() if t.name.startswith("frugal-meter")]


def in_time(fn, *args):
    """``fn()`` on a thread of its own; fails instead of hanging the suite."""
    out = []
    thread = threading.Thread(target=lambda: out.append(fn(*args)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "hangs"
    return out[0]


class Stuck(SyntheticSource):
    """A source whose read waits, when told to, until it is let go."""

    def __init__(self):
        super().__init__(1, WATTS_PER_CPU)
        self.hold = False
        self.reached, self.go = threading.Event(), threading.Event()

    def read(self, window):
        if self.hold:
            self.reached.set()
            assert self.go.wait(PATIENCE_S)
        return super().read(window)


def test_importing_and_building_a_meter_starts_no_thread():
    code = (
        "import threading, frugal_meter\n"
        "from frugal_meter.testing import SyntheticSource\n"
        "frugal_meter.Meter('x', zone='FR', sources=SyntheticSource(1, 1))\n"
        "print(threading.active_count())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_starts_are_counted_and_a_stopped_meter_starts_again():
    out = RecordingExporter()
    meter = Meter("tests", zone="FR", sources=SyntheticSource(1, WATTS_PER_CPU), tick=60, exporters=[out])
    for _ in range(3):
        meter.start()
        meter.start()
        meter.stop()
        assert meter.sampler.running
        with meter.measure("f"):
            burn(0.001)
        meter.stop()
        assert not meter.sampler.running
    meter.stop()  # one too many does nothing
    assert len(out.readings) == 3
    assert all(r.settled for r in out.readings)
    assert_books_close(out.ticks)
    assert not meter.errors


def test_what_is_open_when_the_meter_stops_settles_when_it_starts_again():
    out = RecordingExporter()
    meter = Meter("tests", zone="FR", sources=SyntheticSource(1, WATTS_PER_CPU), tick=60, exporters=[out])
    with meter.measure("f"):
        burn(0.01)
        meter.stop()
        burn(0.01)
    meter.start()
    assert meter.settle()
    meter.stop()
    assert [r.settled for r in out.readings] == [True]
    assert_books_close(out.ticks)


def test_settle_forces_a_tick_from_a_running_event_loop_and_exports_before_it_returns():
    with metered() as (meter, out):

        async def main():
            async with meter.measure("f") as span:
                pass
            assert meter.settle()
            return span

        span = asyncio.run(main())
        assert span.reading.settled
        assert len(out.readings) == 1


def test_settle_without_a_started_meter_ticks_by_itself():
    meter = Meter("tests", zone="FR", sources=SyntheticSource(1, WATTS_PER_CPU))
    assert meter.settle()
    assert not meter.sampler.running


def test_concurrent_calls_of_settle_each_get_a_tick_that_began_after_they_asked():
    with metered() as (meter, _):
        failed = []

        def work():
            for _ in range(10):
                with meter.measure("f") as span:
                    pass
                if not (meter.settle() and span.settled):
                    failed.append(span)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []


def test_an_exporter_may_call_settle_and_stop_without_hanging():
    class Eager:
        inline = True

        def export(self, readings, ticks):
            answers.append(meter.settle())
            if len(answers) == 2:
                meter.sampler.stop(0.1)

    answers = []
    meter = Meter("tests", zone="FR", sources=SyntheticSource(1, 1), tick=60, exporters=[Eager()])
    meter.start()
    in_time(meter.settle)
    in_time(meter.settle)
    in_time(meter.stop)
    assert answers[:2] == [False, False]


def test_stopping_does_not_wait_for_a_source_that_hangs():
    source = Stuck()
    meter = Meter("tests", zone="FR", sources=source, tick=60)
    meter.start()
    source.hold = True
    asking = threading.Thread(target=meter.settle, args=(0.1,), daemon=True)
    asking.start()
    assert source.reached.wait(PATIENCE_S)
    in_time(meter.sampler.stop, 0.1)
    source.go.set()
    source.hold = False
    asking.join(PATIENCE_S)
    meter.stop()


def test_settle_beside_stop_returns_at_once():
    source = Stuck()
    meter = Meter("tests", zone="FR", sources=source, tick=60)
    meter.start()
    source.hold = True
    first = threading.Thread(target=meter.settle)
    first.start()
    assert source.reached.wait(PATIENCE_S)
    took = []

    def ask():
        begun = time.monotonic()
        meter.settle(60)
        took.append(time.monotonic() - begun)

    second = threading.Thread(target=ask, daemon=True)
    second.start()
    stopping = threading.Thread(target=meter.stop)
    stopping.start()
    source.go.set()
    for thread in (first, stopping, second):
        thread.join(PATIENCE_S)
    assert took
    assert took[0] < PATIENCE_S


def test_settle_says_no_when_it_took_too_long_and_the_next_tick_makes_good():
    source = Stuck()
    with metered(sources=source) as (meter, out):
        source.hold = True
        with meter.measure("f"):
            pass
        assert not meter.settle(0.01)
        source.hold = False
        source.go.set()
        assert meter.settle()
        assert len(out.readings) == 1


def test_settle_says_no_when_the_tick_failed():
    with metered() as (meter, out):
        probe, meter.sampler.probe = meter.sampler.probe, None
        with meter.measure("f"):
            pass
        assert not meter.settle()
        meter.sampler.probe = probe
        assert meter.settle()
        assert meter.errors == {"tick": 1}
        assert [r.settled for r in out.readings] == [True]


def test_an_exporter_that_raises_is_counted_and_the_others_get_everything():
    class Rude:
        def __init__(self, inline):
            self.inline = inline

        def export(self, readings, ticks):
            raise RuntimeError("no")

    out = RecordingExporter()
    with metered(exporters=[Rude(True), Rude(False), out]) as (meter, _):
        with meter.measure("f"):
            pass
        assert meter.settle()
        assert len(out.readings) == 1
        assert meter.errors["export"] >= 2


def test_a_slow_exporter_delays_neither_the_tick_nor_the_others_and_gets_all_in_order():
    class Slow:
        def __init__(self):
            self.go, self.ids = threading.Event(), []

        def export(self, readings, ticks):
            assert self.go.wait(PATIENCE_S)
            self.ids += [r.id for r in readings]

    slow, out = Slow(), RecordingExporter()
    slow.go.set()
    with metered(exporters=[slow, out]) as (meter, _):
        slow.go.clear()
        for _ in range(5):
            with meter.measure("f"):
                pass
            assert not meter.settle(0.05)  # the slow one has not got it yet
        assert (len(slow.ids), len(out.readings)) == (0, 5)
        slow.go.set()
        assert meter.settle()
        assert slow.ids == [r.id for r in out.readings]
        assert meter.dropped == 0


def test_an_exporter_that_hangs_loses_what_does_not_fit_and_holds_up_nobody():
    class Hung:
        def __init__(self):
            self.go = threading.Event()

        def export(self, readings, ticks):
            self.go.wait(PATIENCE_S)

    hung = Hung()
    dispatch = Dispatch([hung], lambda stage, error: None)
    dispatch.start()
    for _ in range(MAX_BATCHES + 5):
        dispatch.send(["a reading"], [])
    assert 3 <= dispatch.dropped <= 5
    assert not dispatch.flush(0.01)
    in_time(dispatch.stop, 0.05)
    hung.go.set()


def test_what_is_finished_is_exported_when_the_interpreter_ends():
    code = """
import sys
from frugal_meter import Meter
from frugal_meter.testing import SyntheticSource

class Out:
    def export(self, readings, ticks):
        for reading in readings:
            sys.stdout.write(f"{reading.route} {reading.settled}\\n")

meter = Meter("x", zone="FR", sources=SyntheticSource(1, 1), tick=60, exporters=[Out()])
with meter.measure("last words"):
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("last words True\n", "")


def test_the_meters_own_cpu_is_measured():
    with metered() as (meter, _):
        before = meter.sampler.meter_cpu_ns
        for _ in range(200):
            with meter.measure("f"):
                pass
        meter.settle()
        assert 0 < meter.sampler.meter_cpu_ns - before < 2e9


@pytest.mark.parametrize("period", [0.02])
def test_the_tick_comes_by_itself(period):
    ticked = threading.Semaphore(0)

    class Out:
        inline = True

        def export(self, readings, ticks):
            ticked.release()

    with metered(tick=period, exporters=[Out()]):
        for _ in range(4):
            assert ticked.acquire(timeout=PATIENCE_S)


def test_a_stopped_meter_is_let_go():
    with metered() as (meter, _):
        with meter.measure("f"):
            pass
        seen = weakref.ref(meter)
    del meter
    gc.collect()
    assert seen() is None


def test_a_span_whose_bookkeeping_fails_costs_the_others_nothing():
    with metered() as (meter, out):
        settled = meter.sampler._on_chunk

        def fails_once(spans):
            meter.sampler._on_chunk = settled
            raise RuntimeError("a fault of the meter's own")

        meter.sampler._on_chunk = fails_once
        for _ in range(120):
            with meter.measure("f"):
                pass
        meter.settle()
        assert meter.errors == {"settle": 1}
        assert len(out.readings) >= 70
        assert_books_close(out.ticks)


def test_spans_are_let_go_when_one_tick_after_the_other_fails():
    with metered() as (meter, out):
        probe, meter.sampler.probe = meter.sampler.probe, None
        with meter.measure("f"):
            burn(0.001)
        assert [meter.settle() for _ in range(5)] == [False] * 5
        assert not meter.sampler.finished
        meter.sampler.probe = probe
        assert meter.settle()
        assert [r.route for r in out.readings] == ["f"]


def test_spans_are_let_go_chunk_by_chunk_and_not_all_at_the_end(monkeypatch):
    alive = []
    with Meter("tests", zone="FR", sources=SyntheticSource(1, WATTS_PER_CPU), tick=60) as meter:
        known = [weakref.ref(span) for span in [meter.open_request("http", {"path": "/"}, None) for _ in range(20 * CHUNK)]]
        for span in [ref() for ref in known]:
            meter.close_span(span)
        del span
        monkeypatch.setattr(meter.sampler, "_on_chunk", lambda spans: alive.append(sum(ref() is not None for ref in known)))
        assert meter.settle()
    # while the tick is at one chunk, the one before it may still be in hand
    assert all(left <= (20 - done + 1) * CHUNK for done, left in enumerate(alive))
    assert len(alive) == 20
