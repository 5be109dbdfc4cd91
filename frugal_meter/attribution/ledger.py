"""The books of a tick: who burned what since the last one, and every nanojoule of every source booked once.

`Ledger.settle` is a generator: it does one chunk of work at a time and yields, so that the tick thread can let go of
the interpreter between chunks (5,000 spans in one go make a neighbour wait for 11 ms instead of 0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import add

from ..records import Shares, Tick
from ..sources import Sample, Source, Window
from .clocks import Cell, open_ns, threads_ns
from .idle import Baseline, HostSlice
from .pools import Sections
from .shares import Part
from .span import Account, Late, Span
from .split import Divider, busy_union_ns, idle_and_dynamic

#: at most this many spans between two breaths
CHUNK = 50
#: every CPU-second of a tick costs the same in this method; hot and cool work differ by up to this much (expert assumption)
KEY_LOW, KEY_HIGH = 0.67, 1.5
KEY = "cpu-time/1"
_READ_CHUNK = 500  # reading a span's CPU is twenty times cheaper than settling it
_LAMBDA_MIN_NS = 1_000_000

#: (seconds, share of the host) → gCO2e
EmbodiedGrams = Callable[[float, float], float]


class SourceBooks:
    """One source of a ledger: its baseline, and its books over one tick."""

    __slots__ = (
        "baseline",
        "dividers",
        "dynamic_nj",
        "energy_nj",
        "gap",
        "gap_nj",
        "high",
        "idle_divider",
        "idle_lists",
        "idle_nj",
        "idle_origin",
        "lam",
        "lam_high",
        "lam_low",
        "lists",
        "low",
        "on_gpu",
        "others_nj",
        "part",
        "sample",
        "source",
        "up",
        "whole_ns",
    )

    def __init__(self, source: Source, baseline: Baseline, prior: float | None) -> None:
        self.source, self.baseline = source, baseline
        self.on_gpu = source.component == "gpu"
        # J per CPU-second of the last tick, for provisional figures; before the first tick a prior, as wide as the model
        self.lam = prior
        self.lam_low, self.lam_high = (prior or 0.0) * KEY_LOW / 2, (prior or 0.0) * KEY_HIGH * 2
        self.up: bool | None = None
        self.idle_origin = "none"
        self.sample: Sample | None = None
        self.part: Part | None = None  # what this worker bills of records that others read too

    def read(self, window: Window) -> None:
        """Ask the source; no sample when it vanished. Raises for one that fails or tells what cannot be."""
        self.sample, self.part, self.up = None, None, False
        sample = self.source.read(window)
        if sample is None:
            return
        if not all(type(nj) is int for nj in (sample.energy_nj, sample.low_nj, sample.high_nj, sample.idle_nj or 0)) or not (
            0 <= sample.low_nj <= sample.energy_nj <= sample.high_nj and (sample.idle_nj is None or sample.idle_nj >= 0)
        ):
            raise ValueError(f"source {self.source.name!r} told an impossible sample: {sample}")
        self.sample, self.up = sample, True

    def open(self, window: Window, process_ns: int, slice_: HostSlice, in_flight: float, overlap_ns: int, gpu_use: int) -> None:
        """Prepare the division of the energy just read."""
        sample = self.sample
        if sample is None:
            return
        energy = self.energy_nj = sample.energy_nj
        self.gap = sample.gap
        self.low = sample.low_nj / energy if energy else 1.0
        self.high = sample.high_nj / energy if energy else 1.0
        self.gap_nj = energy if self.gap is not None else 0
        self.others_nj = 0
        if self.part is not None:
            self._open_part(self.part, process_ns, in_flight, overlap_ns)
            return
        if self.gap is not None:
            self.idle_nj = self.dynamic_nj = 0
        else:
            self.baseline.observe(window, sample)
            known, self.idle_origin = self.baseline.idle_nj(window, sample)
            self.idle_nj, self.dynamic_nj = idle_and_dynamic(energy, known)
        self.whole_ns = gpu_use if self.on_gpu else self._whole(window, process_ns)
        if not self.whole_ns and not self.on_gpu:
            # Nobody ran: whatever the baseline missed is idle too.
            self.idle_nj, self.dynamic_nj = self.idle_nj + self.dynamic_nj, 0
        self.dividers = Divider(self.dynamic_nj, self.whole_ns)
        held = slice_.of(window, process_ns, self._whole(window, process_ns)) * in_flight
        self.idle_divider = Divider(int(self.idle_nj * held) if overlap_ns else 0, overlap_ns)
        self.lists: list[int] = []
        self.idle_lists: list[int] = []

    def _open_part(self, part: Part, process_ns: int, in_flight: float, overlap_ns: int) -> None:
        """The same from records that were divided over the workers already: what is ours is divided over our CPU."""
        self.gap_nj, self.idle_nj, self.idle_origin = part.gap_nj, part.idle_nj, part.origin
        self.dynamic_nj, self.whole_ns = part.mine_nj, process_ns
        self.others_nj = part.energy_nj - part.gap_nj - part.idle_nj - part.mine_nj
        self.dividers = Divider(part.mine_nj, process_ns)
        self.idle_divider = Divider(int(part.held_nj * in_flight) if overlap_ns else 0, overlap_ns)
        self.lists, self.idle_lists = [], []

    def _whole(self, window: Window, process_ns: int) -> int:
        if self.source.scope == "process" or window.host_busy_ns is None:
            return process_ns
        return max(window.host_busy_ns, process_ns)  # /proc/stat counts in jiffies, coarser than thread clocks

    def close(
        self, window: Window, keys: Sequence[int], late_ns: int, overhead_ns: int, meter_ns: int, startup: bool
    ) -> Tick | None:
        """The tick's record, once every span has taken its share."""
        if self.sample is None:
            return None
        divider = self.dividers
        if self.on_gpu:
            late = other = 0
            overhead = divider.rest()
            parts = {"gpu_no_section": overhead} if overhead else {}
        else:
            late, overhead = divider.take([late_ns, overhead_ns])
            other = divider.rest() + self.others_nj
            meter = overhead * min(meter_ns, overhead_ns) // overhead_ns if overhead_ns else 0
            parts = {"startup" if startup else "framework": overhead - meter, "meter": meter} if overhead else {}
        if self.whole_ns >= _LAMBDA_MIN_NS and self.gap is None and not self.on_gpu:
            self.lam = self.dynamic_nj / self.whole_ns
            self.lam_low, self.lam_high = self.lam * self.low * KEY_LOW, self.lam * self.high * KEY_HIGH
        return Tick(
            source=self.source.name,
            t0_ns=window.t0_ns,
            t1_ns=window.t1_ns,
            energy_nj=self.energy_nj,
            idle_nj=self.idle_nj,
            requests_nj=Shares(keys, self.lists),
            late_nj=late,
            overhead_nj=overhead,
            other_nj=other,
            gap_nj=self.gap_nj,
            idle_requests_nj=Shares(keys, self.idle_lists),
            overhead_parts=parts,
            component=self.source.component,
            tier=self.source.tier,
            low_nj=self.sample.low_nj,
            high_nj=self.sample.high_nj,
            gap_reason=self.gap,
        )


class Ledger:
    """Bills each source's energy to the spans, tick after tick."""

    def __init__(
        self,
        sources: Sequence[Source],
        baselines: Sequence[Baseline],
        priors: Sequence[float | None],
        slice_: HostSlice,
        sections: Sections,
        embodied: EmbodiedGrams,
        fault: Callable[[str, BaseException], None],
    ) -> None:
        self._fault = fault
        self.books = [SourceBooks(*each) for each in zip(sources, baselines, priors, strict=True)]
        self.slice = slice_
        self.sections = sections
        self.embodied = embodied
        self.late: dict[str, Late] = {}
        self.ticks: list[Tick] = []
        self._zeros = (0,) * len(self.books)
        self.unaligned = False  # other workers bill the same energy, and not from the same records
        self.held_share: float | None = None  # this worker's part of the host by the records it shares; None: by `slice`
        self.coverage: float | None = None  # spans' CPU over the process's CPU, last tick
        self._lingering: list[Cell] = []  # threads still at work for a span that is over
        self._late_new_ns = 0
        self._left: dict[int, list[tuple[Cell, int]]] = {}
        self._known_ns = threads_ns()
        self._seen_span = False
        self.lam: float | None = None
        self.lam_low = self.lam_high = 0.0
        self._learn()

    def read(self, window: Window) -> None:
        """Read every source; close in time to ``window``'s end, since joules and CPU must be of the same moment."""
        for books in self.books:
            self.read_one(books, window)

    def read_one(self, books: SourceBooks, window: Window) -> None:
        """Read one source; one that fails has no sample."""
        try:
            books.read(window)
        except Exception as error:
            self._fault("source", error)

    def live_ns(self, live: Sequence[Span], finished: Sequence[Span]) -> list[int]:
        """New CPU of running spans; before the process's clock. Also that of threads still at work for a finished span
        (billed to it up to now, and from then on as late work) and of late work, both kept for `settle`.
        """
        late = [cell for book in list(self.late.values()) for cell in book.all]
        # Counters first, open stretches after: see clocks.open_ns.
        read = [(span, span.cpu_ns, _counters(span)) for span in live]
        left = [(span, _counters(span)) for span in finished if span.cells is not None]
        late_read = [(cell, cell.open, cell.cpu_ns) for cell in (*late, *self._lingering)]
        running = open_ns()

        def now(cells: Sequence[tuple[Cell, int]]) -> list[tuple[Cell, int]]:
            return [(cell, ns + running.get(id(cell), 0)) for cell, ns in cells]

        self._late_new_ns = sum(_bill_cell(cell, cpu_ns + running.get(id(cell), 0)) for cell, _, cpu_ns in late_read)
        closed = {id(cell) for cell, lent, _ in late_read if not lent}
        self._lingering = [cell for cell in self._lingering if id(cell) not in closed]
        self._left = {span.key: now(cells) for span, cells in left}
        return [self._charge(span, cpu_ns + running.get(id(span), 0), now(cells)) for span, cpu_ns, cells in read]

    def _finished_ns(self, span: Span) -> int:
        if span.cells is None:
            return self._charge(span, span.cpu_ns, ())
        lent = [cell for cell in span.cells.all if cell.open]  # asked before their CPU is read: one seen closed is complete
        cells = [*self._left.pop(span.key, ()), *_counters(span)]
        self._lingering += lent
        return self._charge(span, span.cpu_ns, cells)

    def _charge(self, span: Span, own_ns: int, cells: Sequence[tuple[Cell, int]]) -> int:
        account = span.account
        if account is None:
            account = span.account = Account(self._zeros)
        new = max(0, own_ns - account.own_billed_ns)
        account.own_billed_ns += new
        for cell, ns in cells:
            new += _bill_cell(cell, ns)
        account.billed_ns += new
        account.cpu_ns += new
        return new

    def settle(
        self, window: Window, live: list[Span], live_ns: list[int], finished: list[Span], process_ns: int, meter_ns: int
    ) -> Iterator[list[Span]]:
        """Book one tick; yields each chunk of spans that are settled for good. ``self.ticks`` holds the records after."""
        spans, weights = live + finished, live_ns
        self._seen_span = self._seen_span or bool(spans)
        for start in range(0, len(finished), _READ_CHUNK):
            weights += [self._finished_ns(span) for span in finished[start : start + _READ_CHUNK]]
            yield []
        overlaps, in_flight = self._overlaps(window, spans)
        yield []
        use = self.sections.use(window.t1_ns)
        self._add_native(process_ns, spans, weights, use.get("native"))
        gpu_use = use.get("gpu") or {}
        late_ns, self._late_new_ns = self._late_new_ns, 0
        burned = sum(weights) + late_ns
        self.coverage = min(1.0, burned / process_ns) if process_ns else None
        process_ns = max(process_ns, burned)
        overlap_ns = sum(overlaps)
        for books in self.books:
            books.open(window, process_ns, self.slice, in_flight, overlap_ns, sum(gpu_use.values()))
        rates = self._rates(window, process_ns, in_flight, overlap_ns)
        keys = [span.key for span in spans]
        yield from self._bill(spans, len(live), weights, overlaps, gpu_use, rates)
        self.ticks = [
            tick
            for books in self.books
            if (tick := books.close(window, keys, late_ns, process_ns - burned, meter_ns, not self._seen_span)) is not None
        ]
        self._learn()

    def _learn(self) -> None:
        """Joules per CPU-second for provisional figures, summed over the sources that follow the CPU."""
        known = [b for b in self.books if not b.on_gpu]
        if known and all(b.lam is not None for b in known):
            self.lam = sum(b.lam or 0.0 for b in known)
            self.lam_low, self.lam_high = sum(b.lam_low for b in known), sum(b.lam_high for b in known)

    def after_fork_in_child(self) -> None:
        """The child's threads and late work begin anew."""
        self.late, self._lingering = {}, []
        self._known_ns = threads_ns()

    def late_of(self, span: Span) -> Late:
        """The late book of the span's route."""
        route = span.route or "none"
        late = self.late.get(route)
        if late is None:
            late = self.late.setdefault(route, Late(route))
        return late

    def _overlaps(self, window: Window, spans: Sequence[Span]) -> tuple[list[int], float]:
        """Wall time of each span in the window, nested time counted once; and the share of it with anybody in flight."""
        t0, t1 = window.t0_ns, window.t1_ns
        overlaps: list[int] = []
        intervals: list[tuple[int, int]] = []
        index: dict[int, int] = {}
        nested = False
        for place, span in enumerate(spans):
            start, end = max(span.t0_ns, t0), min(span.t1_ns or t1, t1)
            overlaps.append(max(0, end - start))
            if end > start:
                intervals.append((start, end))
            index[span.key] = place
            nested = nested or span.parent is not None
        if nested:
            walls = overlaps.copy()
            for place, span in enumerate(spans):
                above = index.get(span.parent.key) if span.parent is not None else None
                if above is not None:
                    overlaps[above] = max(0, overlaps[above] - walls[place])
        return overlaps, (min(1.0, busy_union_ns(intervals) / (t1 - t0)) if t1 > t0 else 0.0)

    def _add_native(self, process_ns: int, spans: Sequence[Span], weights: list[int], use: dict[int, int] | None) -> None:
        """Share the CPU that no Python thread's clock saw over the sections that held the native pool."""
        known = threads_ns()
        native = process_ns - (known - self._known_ns)
        self._known_ns = known
        if not use or native <= 0:
            return
        native = min(native, max(0, process_ns - sum(weights)))
        divider = Divider(native, sum(use.values()))
        for place, span in enumerate(spans):
            held = use.get(span.key)
            if held:
                share = divider.take([held])[0]
                weights[place] += share
                if span.account is not None:
                    span.account.cpu_ns += share

    def _rates(self, window: Window, process_ns: int, in_flight: float, overlap_ns: int) -> _Rates:
        """What a nanosecond of CPU, of wall time and of GPU section carries of the bounds and of embodied carbon."""
        rates = _Rates()
        for books in self.books:
            if books.sample is None:
                rates.missing = True
                continue
            rates.gap = rates.gap or books.gap is not None
            rates.unknown_idle = rates.unknown_idle or books.idle_origin == "none"
            rates.host_nj += books.energy_nj
            if overlap_ns:
                held = books.idle_divider.total / overlap_ns
                rates.wall_low += held * books.low
                rates.wall_high += held * books.high
            if not books.whole_ns:
                continue
            lam = books.dynamic_nj / books.whole_ns
            if books.on_gpu:
                rates.gpu_low += lam * books.low * KEY_LOW
                rates.gpu_high += lam * books.high * KEY_HIGH
            else:
                rates.cpu_low += lam * books.low * KEY_LOW
                rates.cpu_high += lam * books.high * KEY_HIGH
        if overlap_ns:
            share = self.held_share
            if share is None:
                share = self.slice.of(window, process_ns, max(window.host_busy_ns or 0, process_ns))
            rates.embodied_g = self.embodied(window.seconds, share * in_flight) / overlap_ns
        return rates

    def _bill(
        self, spans: list[Span], running: int, weights: list[int], overlaps: list[int], gpu_use: dict[int, int], rates: _Rates
    ) -> Iterator[list[Span]]:
        for start in range(0, len(spans), CHUNK):
            chunk = spans[start : start + CHUNK]
            own, wall = weights[start : start + CHUNK], overlaps[start : start + CHUNK]
            gpu = [gpu_use.get(s.key, 0) for s in chunk] if gpu_use else []
            dynamic, idle = self._shares(own, wall, gpu)
            for span, cpu_ns, wall_ns, used_nj, held_nj in zip(chunk, own, wall, dynamic, idle, strict=True):
                account = span.account
                if account is None:
                    continue
                if account.ticks:
                    used_nj = tuple(map(add, account.sources_nj, used_nj))
                    held_nj = tuple(map(add, account.idle_nj, held_nj))
                account.ticks += 1
                account.sources_nj, account.idle_nj = used_nj, held_nj
                account.low_nj += cpu_ns * rates.cpu_low + wall_ns * rates.wall_low
                account.high_nj += cpu_ns * rates.cpu_high + wall_ns * rates.wall_high
                account.host_nj += rates.host_nj
                account.embodied_g += wall_ns * rates.embodied_g
            if gpu or rates.missing or rates.gap or rates.unknown_idle:
                self._note(chunk, gpu, rates)
            # A span that ended while this tick was under way is in its live part: the next tick finishes it.
            yield chunk[max(0, running - start) :]

    def _shares(self, own: list[int], wall: list[int], gpu: list[int]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Dynamic and idle nanojoules of a chunk: one tuple per span, in the order of the sources."""
        nothing = [0] * len(own)
        dynamic, idle = [], []
        for books in self.books:
            shares, held = nothing, nothing
            if books.sample is not None:
                shares = books.dividers.take((gpu or nothing) if books.on_gpu else own)
                held = books.idle_divider.take(wall)
                books.lists += shares
                books.idle_lists += held
            dynamic.append(shares)
            idle.append(held)
        if not self.books:
            return [()] * len(own), [()] * len(own)
        return list(zip(*dynamic, strict=True)), list(zip(*idle, strict=True))

    @staticmethod
    def _note(chunk: list[Span], gpu: list[int], rates: _Rates) -> None:
        for place, span in enumerate(chunk):
            account = span.account
            if account is None:
                continue
            account.gap = account.gap or rates.missing or rates.gap
            account.idle_unknown = account.idle_unknown or rates.unknown_idle
            if gpu:
                account.low_nj += gpu[place] * rates.gpu_low
                account.high_nj += gpu[place] * rates.gpu_high


def _counters(span: Span) -> list[tuple[Cell, int]]:
    return [(cell, cell.cpu_ns) for cell in span.cells.all] if span.cells is not None else []


def _bill_cell(cell: Cell, cpu_ns: int) -> int:
    new = max(0, cpu_ns - cell.billed_ns)
    cell.billed_ns += new
    return new


class _Rates:
    """Constants of one tick, per nanosecond; see `Ledger._rates`."""

    __slots__ = (
        "cpu_high",
        "cpu_low",
        "embodied_g",
        "gap",
        "gpu_high",
        "gpu_low",
        "host_nj",
        "missing",
        "unknown_idle",
        "wall_high",
        "wall_low",
    )

    def __init__(self) -> None:
        self.cpu_low = self.cpu_high = self.wall_low = self.wall_high = self.gpu_low = self.gpu_high = self.embodied_g = 0.0
        self.host_nj = 0
        self.gap = self.missing = self.unknown_idle = False
