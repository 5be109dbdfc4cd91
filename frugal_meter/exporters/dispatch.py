"""Hands settled figures to exporters, in order, each slow one on a thread of its own with a bounded queue."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..attribution.span import Span
from ..records import Exporter, Reading, Tick

if TYPE_CHECKING:
    from .view import MeterView

#: set by the ops pages in the scope of a request for them
OPS_MARK = "frugal_meter.ops"
#: name of the thread that serves the ops pages on a port of their own
OPS_THREAD = "frugal-meter-ops"
#: batches waiting for one exporter; beyond it the newest is dropped and counted
MAX_BATCHES = 1000
Batch = tuple[Sequence[Reading], Sequence[Tick]]


class _Lane:
    """One exporter, its queue and its thread; ``inline = True`` on the exporter is called on the tick thread instead."""

    def __init__(self, exporter: Exporter, fault: Callable[[str, BaseException], None]) -> None:
        self.exporter, self._fault = exporter, fault
        self.inline = bool(getattr(exporter, "inline", False))
        self.dropped = 0
        self._queue: queue.Queue[Batch | None] = queue.Queue(MAX_BATCHES)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self.inline or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="frugal-meter-export", daemon=True)
        self._thread.start()

    def send(self, batch: Batch) -> None:
        if self.inline or self._thread is None:
            self._export(batch)
            return
        try:
            self._queue.put_nowait(batch)
        except queue.Full:
            self.dropped += len(batch[0])

    def flush(self, until: float) -> bool:
        while self._thread is not None and self._queue.unfinished_tasks:
            if time.monotonic() > until:
                return False
            with self._queue.all_tasks_done:
                self._queue.all_tasks_done.wait(0.05)
        return True

    def stop(self, until: float) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):  # an exporter that hangs keeps its thread; the process ends all the same
                self._queue.put(None, timeout=max(0.0, until - time.monotonic()))
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            self._export(batch)
            self._queue.task_done()
        self._finish()
        self._queue.task_done()

    def _finish(self) -> None:
        try:
            getattr(self.exporter, "stop", lambda: None)()
        except Exception as error:
            self._fault("export", error)

    def _export(self, batch: Batch) -> None:
        try:
            self.exporter.export(*batch)
        except Exception as error:
            self._fault("export", error)


class Dispatch:
    """All exporters of one meter."""

    def __init__(self, exporters: Sequence[Exporter], fault: Callable[[str, BaseException], None]) -> None:
        self.exporters, self._fault = list(exporters), fault
        self._lanes = [_Lane(e, fault) for e in self.exporters]
        #: one that looks at the meter's sums needs none, and building them is the dearest part of a settlement
        self.needs_readings = any(getattr(e, "needs_readings", True) for e in self.exporters)
        #: called in the context of each span as it ends
        self.closing: list[Callable[[Span], None]] = [e.closing for e in self.exporters if hasattr(e, "closing")]

    def add(self, exporter: Exporter) -> None:
        """One more, before `bind` and `start`."""
        self.exporters.append(exporter)
        self._lanes.append(_Lane(exporter, self._fault))
        self.needs_readings |= bool(getattr(exporter, "needs_readings", True))

    def bind(self, meter: MeterView) -> None:
        """Give the meter to those exporters that ask for it."""
        for exporter in self.exporters:
            if hasattr(exporter, "bind"):
                exporter.bind(meter)

    @property
    def dropped(self) -> int:
        """Readings dropped because an exporter was too slow."""
        return sum(lane.dropped for lane in self._lanes)

    def start(self) -> None:
        """Start the threads of exporters that have one."""
        for lane in self._lanes:
            lane.start()

    def send(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Hand over one tick's worth; never waits for a slow exporter."""
        for lane in self._lanes:
            lane.send((readings, ticks))

    def flush(self, timeout_s: float) -> bool:
        """Wait until every queue is empty; False when it took longer."""
        until = time.monotonic() + timeout_s
        return not [lane for lane in self._lanes if not lane.flush(until)]

    def stop(self, timeout_s: float = 5.0) -> None:
        """Export what is queued and end the threads."""
        until = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.stop(until)

    def after_fork_in_child(self) -> None:
        """Threads do not survive a fork, and what was queued is the parent's to export."""
        self._lanes = [_Lane(e, self._fault) for e in self.exporters]
