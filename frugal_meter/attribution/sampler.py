"""The tick: a thread of its own that reads every source and settles what has finished.

The request path only adds to ``live`` and ``finished``; everything that costs time happens here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ..records import Tick
from ..sources import Window
from ..sources.procfs import boot_offset_ns, slept_ns
from .ledger import Ledger
from .span import Span
from .workers import Taken, Workers

#: let go of the interpreter this long, so that a waiting request gets in …
BREATH_S = 0.0005
#: … whenever this much time has passed at work: a chunk alone is often done in a third of it
BREATH_AFTER_NS = 300_000
_MAX_FAILURES = 3


class HostProbe(Protocol):
    """What the sampler asks of the host (`sources.procfs.HostCpu` answers)."""

    def busy_ns(self) -> int | None:
        """Cumulative busy CPU of the host, ns."""

    def cpus(self) -> int:
        """Online hardware threads."""

    def scope(self) -> str:
        """Whose CPU ``busy_ns`` counts: host, container or unknown."""


class Clock(Protocol):
    """Wall and monotonic time, in nanoseconds."""

    def time_ns(self) -> int:
        """Unix time."""

    def monotonic_ns(self) -> int:
        """Monotonic time."""


class SystemClock:
    """The machine's own clocks."""

    time_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


class Sampler:
    """Runs `Ledger.settle` every ``period_s``, and at once when asked.

    ``on_chunk(spans)`` gets spans settled for good, ``on_tick(ticks, window)`` the records of a pass; both on the
    thread that ticks. ``on_error(stage, error)`` gets what failed; the thread goes on.
    """

    def __init__(
        self,
        ledger: Ledger,
        probe: HostProbe,
        clock: Clock,
        period_s: float,
        *,
        on_chunk: Callable[[list[Span]], None],
        on_tick: Callable[[Sequence[Tick], Window], None],
        on_error: Callable[[str, BaseException], None],
        workers: Workers | None = None,
    ) -> None:
        self.ledger, self.probe, self.clock, self.period_s = ledger, probe, clock, period_s
        self._on_chunk, self._on_tick, self._on_error = on_chunk, on_tick, on_error
        self._workers = workers
        self.live: set[Span] = set()
        self.finished: deque[Span] = deque()
        self.meter_cpu_ns = 0
        self._meter_last_ns = 0
        self._ticking = threading.Lock()
        self._ticker: int | None = None  # the thread inside a tick
        self._wake = threading.Condition()
        self._asked = self._done = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._sound = True  # the last pass succeeded
        self._taken: deque[Span] = deque()  # of this pass, not settled yet
        self._failures = 0
        self._cpus: int | None = None
        self._scope = "unknown"
        self._primed = False

    @property
    def process_ns_since_start(self) -> int:
        """CPU of this process since the sources were first read."""
        return time.process_time_ns() - self._process_begun_ns if self._primed else 0

    @property
    def seat(self) -> Taken | None:
        """Where this process sits among the workers that bill from the same records; None when it bills alone."""
        return self._workers.seat if self._workers is not None else None

    @property
    def seats_left(self) -> Sequence[Taken]:
        """Where it sat before."""
        return self._workers.left if self._workers is not None else ()

    @property
    def running(self) -> bool:
        """Whether the tick thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Prime the sources and start the tick thread; raises RuntimeError when the interpreter is ending."""
        self.prime()
        self._stopping = False
        thread = threading.Thread(target=self._run, name="frugal-meter-tick", daemon=True)
        thread.start()
        self._thread = thread

    def prime(self) -> None:
        """Take the first reading of every source: the energy of the next tick counts from here."""
        self._t_ns = self.clock.monotonic_ns()
        self._process_ns = self._process_begun_ns = time.process_time_ns()
        self._host_ns = self.probe.busy_ns()
        self._boot_ns = boot_offset_ns()
        self.ledger.prime()
        window = Window(self._t_ns, self._t_ns, 0, self.probe.cpus(), 0, 0, "host")
        for books in self.ledger.books:
            with contextlib.suppress(Exception):
                books.source.read(window)
        self._primed = True
        if self._workers is not None:
            self._workers.join(self._host_ns)

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread, then tick once more so that nothing finished stays unsettled."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        self.tick(timeout_s)
        if self._workers is not None:
            self._workers.leave()
        with self._wake:
            self._done = self._asked
            self._wake.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Force one tick that begins after this call, and wait for its end; False when it took too long."""
        if not self.running:
            return self.tick(timeout_s)
        if self._ticker == threading.get_ident():
            return False  # asked from inside a tick, by an exporter or a source: that tick goes on
        with self._wake:
            self._asked += 1
            mine = self._asked
            self._wake.notify_all()
            return self._wake.wait_for(lambda: self._done >= mine, timeout_s) and self._sound

    def tick(self, timeout_s: float = -1) -> bool:
        """One pass over sources and spans; False when it failed (counted, and the next one goes on)."""
        if self._ticker == threading.get_ident() or not self._ticking.acquire(timeout=timeout_s):
            return False
        begun_ns = time.thread_time_ns()
        self._ticker = threading.get_ident()
        try:
            self._tick()
        except Exception as error:
            self._on_error("tick", error)
            self._take_back()
            return False
        finally:
            self._ticker = None
            self._meter_last_ns = time.thread_time_ns() - begun_ns
            self.meter_cpu_ns += self._meter_last_ns
            self._ticking.release()
        return True

    def _tick(self) -> None:
        if not self._primed:
            self.prime()
        self.ledger.prepare()
        breathed_ns = time.monotonic_ns()
        with self._workers.turn() if self._workers is not None else contextlib.nullcontext():
            finished = [self.finished.popleft() for _ in range(len(self.finished))]
            self._taken = deque(finished)
            live = list(self.live)
            live_ns = self.ledger.live_ns(live, finished)
            window, process_ns = self._window()
            if self._workers is None:
                self.ledger.read(window)
            else:
                process_ns = self._workers.read(window, self._host_ns)
        settling = self.ledger.settle(window, live, live_ns, finished, process_ns, self._meter_last_ns)
        del live, finished  # what is settled is let go chunk by chunk: 5,000 spans at once would take 5 ms
        for chunk in settling:
            if chunk:
                try:
                    self._on_chunk(chunk)
                except Exception as error:
                    self._on_error("settle", error)
                for _ in chunk:
                    self._taken.popleft()
            if time.monotonic_ns() - breathed_ns >= BREATH_AFTER_NS:
                time.sleep(BREATH_S)
                breathed_ns = time.monotonic_ns()
        self._failures = 0
        self._on_tick(self.ledger.ticks, window)

    def _take_back(self) -> None:
        """After a failed pass: its spans wait for the next; after three in a row they are let go without energy."""
        left, self._taken = [span for span in self._taken if not span.settled], deque()
        self._failures += 1
        if self._failures < _MAX_FAILURES:
            self.finished.extendleft(reversed(left))
        elif left:
            self._on_chunk(left)

    def _window(self) -> tuple[Window, int]:
        t_ns, process, host, boot = self.clock.monotonic_ns(), time.process_time_ns(), self.probe.busy_ns(), boot_offset_ns()
        busy = None if host is None or self._host_ns is None else max(0, host - self._host_ns)
        process_ns = max(0, process - self._process_ns)
        cpus = self.probe.cpus()
        if cpus != self._cpus or self._scope == "unknown":  # asked only then: it costs as much as all the rest of a look
            self._cpus, self._scope = cpus, self.probe.scope()
        scope = self._scope
        window = Window(
            self._t_ns,
            t_ns,
            busy,
            cpus,
            process_ns,
            slept_ns(self._boot_ns, boot),
            "container" if scope == "container" else "host" if scope == "host" else "unknown",
        )
        self._t_ns, self._process_ns, self._host_ns, self._boot_ns = t_ns, process, host, boot
        return window, process_ns

    def _run(self) -> None:
        due = time.monotonic() + self.period_s
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._asked > self._done, max(0.0, due - time.monotonic()))
                if self._stopping:
                    return
                asked = self._asked
            self._sound = self.tick()
            due = max(due, time.monotonic()) + self.period_s if time.monotonic() >= due else due
            with self._wake:
                self._done = asked
                self._wake.notify_all()

    def after_fork_in_child(self) -> None:
        """Forget everything that belongs to the parent: its spans, its thread, its locks."""
        self.live, self.finished = set(), deque()
        self._ticking, self._wake = threading.Lock(), threading.Condition()
        self._thread = self._ticker = None
        self._asked = self._done = 0
        self._primed = False
        if self._workers is not None:
            self._workers.after_fork_in_child()
        self.ledger.after_fork_in_child()
