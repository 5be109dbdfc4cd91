"""Settled figures on their way to exporters: in order, never waiting, nothing lost without being counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from exchange import a_meter, later, samples

from frugal_meter import Meter, Reading, Tick
from frugal_meter.exporters.dispatch import Dispatch
from frugal_meter.testing import RecordingExporter, SyntheticSource


class Slow:
    """An exporter that waits until it is let go."""

    def __init__(self) -> None:
        self.go, self.entered = threading.Event(), threading.Event()
        self.readings: list[Reading] = []
        self.threads: set[str] = set()

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        self.entered.set()
        self.go.wait(30)
        self.threads.add(threading.current_thread().name)
        self.readings += readings


class Broken:
    """An exporter that fails every time."""

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        raise ConnectionError("the receiver is away")


@pytest.fixture
def slow() -> Iterator[Slow]:
    exporter = Slow()
    yield exporter
    exporter.go.set()


@pytest.fixture
def readings() -> list[Reading]:
    exporter = RecordingExporter()
    with a_meter(exporters=[exporter]) as meter:
        for number in range(6):
            with meter.measure(f"r{number}"):
                pass
        meter.settle()
    return exporter.readings


def one_tick(meter: Meter, name: str) -> None:
    with meter.measure(name):
        pass
    later(meter, 1)


def test_an_exporter_gets_its_readings_in_order_on_a_thread_of_the_meters_own(slow: Slow) -> None:
    slow.go.set()
    with a_meter(exporters=[slow]) as meter:
        for number in range(5):
            one_tick(meter, f"r{number}")
            assert meter.settle()
    assert [reading.route for reading in slow.readings] == [f"r{number}" for number in range(5)]
    assert slow.threads == {"frugal-meter-export"}


def test_a_slow_exporter_holds_up_neither_the_tick_nor_its_neighbour(slow: Slow) -> None:
    quick = RecordingExporter()
    with a_meter(exporters=[slow, quick]) as meter:
        for number in range(3):
            one_tick(meter, f"r{number}")
            meter.settle(timeout=0.01)
        assert meter.sampler.settle(10)
        assert len(quick.readings) == 3
        slow.go.set()
        assert meter.settle()
        assert len(slow.readings) == 3


def test_what_does_not_fit_a_queue_is_dropped_and_counted(
    slow: Slow, readings: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugal_meter.exporters.dispatch.MAX_BATCHES", 2)
    dispatch = Dispatch([slow], lambda stage, error: None)
    dispatch.start()
    dispatch.send(readings[:1], [])
    assert slow.entered.wait(10)
    for reading in readings[1:]:
        dispatch.send([reading], [])
    assert dispatch.dropped == 3
    slow.go.set()
    assert dispatch.flush(10)
    dispatch.stop()
    assert slow.readings == readings[:3]


def test_stopping_exports_what_is_queued(slow: Slow, readings: list[Reading]) -> None:
    dispatch = Dispatch([slow], lambda stage, error: None)
    dispatch.start()
    dispatch.send(readings[:1], [])
    assert slow.entered.wait(10)
    dispatch.send(readings[1:], [])
    slow.go.set()
    dispatch.stop()
    assert slow.readings == readings


def test_an_exporter_that_hangs_with_a_full_queue_does_not_keep_the_service_from_ending(
    slow: Slow, readings: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugal_meter.exporters.dispatch.MAX_BATCHES", 1)
    dispatch = Dispatch([slow], lambda stage, error: None)
    dispatch.start()
    dispatch.send(readings[:1], [])
    assert slow.entered.wait(10)
    dispatch.send(readings[1:2], [])
    stopping = threading.Thread(target=dispatch.stop, args=(0.05,), daemon=True)
    stopping.start()
    stopping.join(5)
    assert not stopping.is_alive()


def test_flush_says_when_it_took_too_long(slow: Slow, readings: list[Reading]) -> None:
    dispatch = Dispatch([slow], lambda stage, error: None)
    dispatch.start()
    dispatch.send(readings, [])
    assert not dispatch.flush(0.01)
    slow.go.set()
    assert dispatch.flush(10)
    dispatch.stop()


def test_an_exporter_that_fails_is_counted_and_its_neighbour_served() -> None:
    good = RecordingExporter()
    with a_meter(exporters=[Broken(), good]) as meter:
        for number in range(2):
            one_tick(meter, f"r{number}")
            meter.settle()
        assert meter.errors == {"export": 2}
        assert samples(meter, "frugal_meter_errors_total")[(("stage", "export"),)] == 2
    assert len(good.readings) == 2


def test_after_stop_a_meter_can_start_again_and_export(slow: Slow) -> None:
    slow.go.set()
    meter = a_meter(exporters=[slow], sources=SyntheticSource(1, 10))
    for number in range(2):
        with meter:
            one_tick(meter, f"r{number}")
    assert [reading.route for reading in slow.readings] == ["r0", "r1"]
