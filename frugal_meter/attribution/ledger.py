"""The books of a tick: who burned what since the last one, and every nanojoule of every source booked once.

`Ledger.settle` is a generator: it does one chunk of work at a time and yields, so that the tick thread can let go of
the interpreter between chunks (5,000 spans in one go make a neighbour wait for 11 ms instead of 0.5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import add

from ..records import Shares, Tick
from ..sources import Sample, Source, Window
from ..sources.companions import Companions
from ..sources.host_root import Roots
from .clocks import Cell, open_ns
from .gpu import Gpus, GpuShare, can_be
from .idle import Baseline, Ends, HostSlice
from .lending import add_native, lend
from .pools import Sections
from .shares import Part, part_by_source
from .span import Account, Late, Span
from .split import Divider, idle_and_dynamic
from .walls import BusyUnion, overlap

#: at most this many spans between two breaths
CHUNK = 50
#: every CPU-second of a tick costs the same in this method; hot and cool work differ by up to this much (expert assumption,
#: which a calibration replaces for CPUs)
KEY_LOW, KEY_HIGH = 0.33, 2.0
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
        "ends",
        "energy_nj",
        "gap",
        "gap_nj",
        "gpu",
        "idle_divider",
        "idle_lists",
        "idle_nj",
        "idle_origin",
        "idle_share",
        "key",
        "lam",
        "lam_high",
        "lam_low",
        "lists",
        "on_gpu",
        "others_nj",
        "part",
        "sample",
        "slice_nj",
        "source",
        "up",
        "whole_ns",
    )

    def __init__(self, source: Source, baseline: Baseline, prior: float | None, key: tuple[float, float]) -> None:
        self.source, self.baseline, self.key = source, baseline, key
        self.on_gpu = source.component == "gpu"
        # J per CPU-second of the last tick, for provisional figures; before the first tick a prior, as wide as the model
        self.lam = prior
        self.lam_low, self.lam_high = (prior or 0.0) * key[0] / 2, (prior or 0.0) * key[1] * 2
        self.up: bool | None = None
        self.idle_origin = "none"
        self.sample: Sample | None = None
        self.gpu: GpuShare | None = None  # given by the ledger to those of GPUs
        self.part: Part | None = None  # what this worker bills of records that others read too

    def read(self, window: Window) -> None:
        """Ask the source; no sample when it vanished. Raises for one that fails or tells what cannot be."""
        self.sample, self.part, self.up = None, None, False
        sample = self.source.read(window)
        if sample is None:
            if getattr(self.source, "stood_in", False):  # what stands in for it has joules per CPU-second of its own
                self.lam, self.lam_low, self.lam_high = 0.0, 0.0, 0.0
            return
        if not all(type(nj) is int for nj in (sample.energy_nj, sample.low_nj, sample.high_nj, sample.idle_nj or 0)) or not (
            0 <= sample.low_nj <= sample.energy_nj <= sample.high_nj
            and (sample.idle_nj is None or sample.idle_nj >= 0)
            and can_be(sample)
        ):
            raise ValueError(f"source {self.source.name!r} told an impossible sample: {sample}")
        self.sample, self.up = sample, True
        self.part = part_by_source(sample)

    def open(self, window: Window, process_ns: int, slice_: HostSlice, in_flight: float, overlap_ns: int) -> None:
        """Prepare the division of the energy just read."""
        sample = self.sample
        if sample is None:
            return
        energy = self.energy_nj = sample.energy_nj
        self.gap = sample.gap
        self.gap_nj = energy if self.gap is not None else 0
        self.others_nj = 0
        if self.part is not None:
            self._open_part(self.part, window, process_ns, in_flight, overlap_ns)
            return
        if self.gap is not None:
            self.idle_nj = self.dynamic_nj = 0
            self.ends = Ends(0, 0, 0, 0), Ends(0, 0, 0, 0)
        else:
            self.baseline.observe(window, sample, on_gpu=self.on_gpu, name=self.source.name)
            known, self.idle_origin = self.baseline.idle_nj(window, sample)
            self.idle_nj, self.dynamic_nj = idle_and_dynamic(energy, known)
            self.ends = self.baseline.ends(window, sample, self.idle_nj)
        own_nj = self.dynamic_nj
        if self.gpu is not None:
            self.whole_ns, own_nj = self.gpu.open(sample, own_nj), self.gpu.own_nj
        else:
            self.whole_ns = self._whole(window, process_ns)
        if not self.whole_ns and not self.on_gpu:
            # Nobody ran: whatever the baseline missed is idle too.
            self.idle_nj, self.dynamic_nj, own_nj = self.idle_nj + self.dynamic_nj, 0, 0
            self.ends = Ends(0, sample.low_nj, 0, sample.low_nj), Ends(0, sample.high_nj, 0, sample.high_nj)
        self.dividers = Divider(own_nj, self.whole_ns)
        share = slice_.of(window, process_ns, self._whole(window, process_ns))
        self.slice_nj = int(self.idle_nj * share)
        self.idle_share = share * in_flight if overlap_ns else 0.0
        self.idle_divider = Divider(int(self.idle_nj * self.idle_share), overlap_ns)
        self.lists: list[int] = []
        self.idle_lists: list[int] = []

    def _open_part(self, part: Part, window: Window, process_ns: int, in_flight: float, overlap_ns: int) -> None:
        """The same from records that were divided over the workers already: what is ours is divided over our CPU."""
        self.gap_nj, self.idle_nj, self.idle_origin = part.gap_nj, part.idle_nj, part.origin
        self.dynamic_nj, self.slice_nj = part.mine_nj, part.held_nj
        self.whole_ns = process_ns if self.gpu is None else self.gpu.open_part(part)
        dynamic_nj = part.energy_nj - part.gap_nj - part.idle_nj
        self.others_nj = dynamic_nj - part.mine_nj
        self.dividers = Divider(part.mine_nj, self.whole_ns)
        self.idle_divider = Divider(int(part.held_nj * in_flight) if overlap_ns else 0, overlap_ns)
        self.idle_share = self.idle_divider.total / part.idle_nj if part.idle_nj else 0.0
        self.lists, self.idle_lists = [], []
        mine = part.mine_nj / dynamic_nj if dynamic_nj else 0.0
        told = Sample(part.energy_nj, part.low_nj, part.high_nj, part.idle_nj)
        low, high = self.baseline.ends(window, told, part.idle_nj)
        self.ends = (
            Ends(low.dynamic * mine, low.idle, low.other_dynamic * mine, low.other_idle),
            Ends(high.dynamic * mine, high.idle, high.other_dynamic * mine, high.other_idle),
        )

    @property
    def own_only(self) -> bool:
        """Whether its energy is divided over this process's CPU alone, so that companions have no part in it."""
        return self.source.scope == "process"

    def _whole(self, window: Window, process_ns: int) -> int:
        if self.source.scope == "process" or window.host_busy_ns is None:
            return process_ns
        return max(window.host_busy_ns, process_ns)  # /proc/stat counts in jiffies, coarser than thread clocks

    def _service(self, used_nj: int) -> tuple[int, int]:
        """Bounds of what this service drew: ``used_nj`` of the dynamic energy, and its slice of idle."""
        used = used_nj / self.dynamic_nj if self.dynamic_nj else 0.0
        share = self.slice_nj / self.idle_nj if self.idle_nj else 0.0
        key_low, key_high = (KEY_LOW, KEY_HIGH) if self.on_gpu else self.key
        low, high = self.ends
        least = min(used * low.dynamic * key_low + share * low.idle, used * low.other_dynamic * key_low + share * low.other_idle)
        most = max(
            used * high.dynamic * key_high + share * high.idle, used * high.other_dynamic * key_high + share * high.other_idle
        )
        booked_nj = used_nj + self.slice_nj
        # Nobody draws more than there is; and no bound lies inside what was booked.
        return min(int(least), booked_nj), max(booked_nj, min(int(most), self.sample.high_nj if self.sample is not None else 0))

    def close(
        self,
        window: Window,
        keys: Sequence[int],
        late_ns: int,
        overhead_ns: int,
        meter_ns: int,
        spin_ns: int,
        startup: bool,
        slice_share: float,
    ) -> Tick | None:
        """The tick's record, once every span has taken its share."""
        if self.sample is None:
            return None
        divider = self.dividers
        if self.on_gpu:
            late, other = 0, self.dynamic_nj - divider.total + self.others_nj
            overhead = divider.rest()
            parts = {"gpu_no_section": overhead} if overhead else {}
        else:
            late, overhead = divider.take([late_ns, overhead_ns])
            other = divider.rest() + self.others_nj
            meter = overhead * min(meter_ns, overhead_ns) // overhead_ns if overhead_ns else 0
            spin = overhead * min(spin_ns, overhead_ns - min(meter_ns, overhead_ns)) // overhead_ns if overhead_ns else 0
            parts = {"startup" if startup else "framework": overhead - meter - spin, "meter": meter} if overhead else {}
            if spin:
                parts["native_spin"] = spin
        if self.whole_ns >= _LAMBDA_MIN_NS and self.gap is None and not self.on_gpu:
            self.lam = self.dynamic_nj / self.whole_ns
            low, high = self.ends
            self.lam_low = min(low.dynamic, low.other_dynamic) / self.whole_ns * self.key[0]
            self.lam_high = max(high.dynamic, high.other_dynamic) / self.whole_ns * self.key[1]
        service_low, service_high = self._service(sum(self.lists) + late + overhead)
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
            slice_share=slice_share,
            slice_nj=None if self.idle_origin == "none" and self.gap is None else self.slice_nj,
            service_low_nj=service_low,
            service_high_nj=service_high,
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
        key: tuple[float, float] = (KEY_LOW, KEY_HIGH),
        roots: Roots = Roots(),  # noqa: B008 - frozen
    ) -> None:
        self._fault, self.key = fault, key
        self.books = [SourceBooks(*each, key) for each in zip(sources, baselines, priors, strict=True)]
        self.gpus = Gpus(sources)
        for books in self.books:
            books.gpu = self.gpus.shares.get(books.source.name)
        self.slice = slice_
        self.sections = sections
        self.embodied = embodied
        self.late: dict[str, Late] = {}
        self.ticks: list[Tick] = []
        self._zeros = (0,) * len(self.books)
        self.unaligned = False  # other workers bill the same energy, and not from the same records
        self.shared: frozenset[str] = frozenset()  # sources whose records in this tick other workers bill too
        self.held_share: float | None = None  # this worker's part of the host by the records it shares; None: by `slice`
        self.coverage: float | None = None  # spans' CPU over the process's CPU, last tick
        self._lingering: list[Cell] = []  # threads still at work for a span that is over
        self._late_new_ns = 0
        self._left: dict[int, list[tuple[Cell, int]]] = {}
        self.companions = Companions(roots.proc, roots.cgroups)
        self.lent_ns: dict[str, int] = {}  # CPU of companions in this tick, that spans share
        self._mark = sections.native.look()
        self._seen_span = False
        self.lam: float | None = None
        self.lam_low = self.lam_high = 0.0
        self._learn()

    def prime(self) -> None:
        """What pools used before now is nobody's."""
        self.sections.native.prime()
        self.companions.read()
        self.prepare()

    def prepare(self) -> None:
        """Have whoever reads sources for us read them now: joules and CPU must be of the same moment, and it may take a while."""
        for books in self.books:
            if (prepare := getattr(books.source, "prepare", None)) is not None:
                try:
                    held = self.gpus.held_ns(self.sections.held_ns(self.sections.mono())) if self.gpus.shares else {}
                    prepare(sum(self.lent_ns.values()), held)
                except Exception as error:
                    self._fault("source", error)

    def read(self, window: Window) -> None:
        """Read every source; close in time to ``window``'s end, since joules and CPU must be of the same moment."""
        self.lent_ns, self.shared = self.companions.read(), frozenset()
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
        self._mark = self.sections.native.look()

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
            account = span.account = Account(self._zeros, self._zeros)
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
            weights += [
                # Began and ended in this tick, on one thread: nearly every request. Its account is opened when it is billed.
                span.cpu_ns if span.account is None and span.cells is None else self._finished_ns(span)
                for span in finished[start : start + _READ_CHUNK]
            ]
            yield []
        overlaps: list[int] = []
        busy = BusyUnion()
        yield from ([] for _ in overlap(window, spans, overlaps, busy))
        in_flight = min(1.0, busy.ns / (window.t1_ns - window.t0_ns)) if window.t1_ns > window.t0_ns else 0.0
        use = self.sections.use(window.t1_ns)
        on_gpu = self.gpus.hold(use, live, finished)
        late_ns, self._late_new_ns = self._late_new_ns, 0
        yield from ([] for _ in self.sections.native.settle(self._mark))
        owed, spin_ns = self.sections.native.take()
        if self.sections.native.held:
            self.sections.native.let_go({span.key for span in finished}, {span.key for span in live})
        add_native(owed, max(0, process_ns - sum(weights) - late_ns), spans, weights)
        lent = lend(self.lent_ns, use, spans)
        burned = sum(weights) + late_ns
        self.coverage = min(1.0, burned / process_ns) if process_ns else None
        process_ns = max(process_ns, burned)
        service_ns = process_ns + sum(lent)
        overlap_ns = sum(overlaps)
        for books in self.books:
            cpu_ns = process_ns if books.own_only else service_ns
            books.open(window, cpu_ns, self.slice, in_flight, overlap_ns)
        share = self.held_share
        if share is None:
            share = self.slice.of(window, service_ns, max(window.host_busy_ns or 0, service_ns))
        rates = self._rates(window, share * in_flight, overlap_ns)
        keys = [span.key for span in spans]
        running, rest = len(live), deque(spans)
        del live, finished, spans
        yield []
        yield from self._bill(rest, running, weights, lent, overlaps, on_gpu, rates)
        self.ticks = [
            tick
            for books in self.books
            if (tick := books.close(window, keys, late_ns, process_ns - burned, meter_ns, spin_ns, not self._seen_span, share))
            is not None
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
        self.companions.after_fork_in_child()
        self.gpus.after_fork_in_child()

    def late_of(self, span: Span) -> Late:
        """The late book of the span's route."""
        route = span.route or "none"
        late = self.late.get(route)
        if late is None:
            late = self.late.setdefault(route, Late(route))
        return late

    def _rates(self, window: Window, held_share: float, overlap_ns: int) -> _Rates:
        """What a nanosecond of CPU and of wall time carries of the bounds (see `Ends`) and of embodied carbon."""
        rates = _Rates()
        for books in self.books:
            if books.sample is None:
                rates.missing = rates.missing or not getattr(books.source, "stood_in", False)
                continue
            rates.gap = rates.gap or books.gap is not None
            rates.unknown_idle = rates.unknown_idle or books.idle_origin == "none"
            rates.host_nj += books.energy_nj
            low, high = books.ends
            rates.idle_varies = rates.idle_varies or low.idle != low.other_idle or high.idle != high.other_idle
            held = books.idle_share / overlap_ns if overlap_ns else 0.0
            rates.wall_low += held * low.idle
            rates.wall_high += held * high.idle
            rates.other_wall_low += held * low.other_idle
            rates.other_wall_high += held * high.other_idle
            if books.on_gpu or not books.whole_ns:
                continue
            cpu_low, cpu_high = low.dynamic / books.whole_ns * self.key[0], high.dynamic / books.whole_ns * self.key[1]
            rates.cpu_low += cpu_low
            rates.cpu_high += cpu_high
            if not books.own_only:
                rates.lent_low += cpu_low
                rates.lent_high += cpu_high
            rates.other_cpu_low += low.other_dynamic / books.whole_ns * self.key[0]
            rates.other_cpu_high += high.other_dynamic / books.whole_ns * self.key[1]
        if overlap_ns:
            rates.embodied_g = self.embodied(window.seconds, held_share) / overlap_ns
        return rates

    def _bill(
        self,
        spans: deque[Span],
        running: int,
        weights: list[int],
        lent: list[int],
        overlaps: list[int],
        on_gpu: bool,
        rates: _Rates,
    ) -> Iterator[list[Span]]:
        cpu_low, cpu_high, wall_low, wall_high = rates.cpu_low, rates.cpu_high, rates.wall_low, rates.wall_high
        host_nj, embodied_g = rates.host_nj, rates.embodied_g
        for start in range(0, len(spans), CHUNK):
            chunk = [spans.popleft() for _ in range(min(CHUNK, len(spans)))]  # so that nobody here keeps what is settled
            own, wall = weights[start : start + CHUNK], overlaps[start : start + CHUNK]
            more = lent[start : start + CHUNK]
            cpu = list(map(add, own, more)) if more else own
            if on_gpu:
                self._open_accounts(chunk, cpu)
            dynamic, idle = self._shares(chunk, own, cpu, wall)
            for span, own_ns, cpu_ns, wall_ns, used_nj, held_nj in zip(chunk, own, cpu, wall, dynamic, idle, strict=True):
                low_nj = own_ns * cpu_low + wall_ns * wall_low
                high_nj = own_ns * cpu_high + wall_ns * wall_high
                if rates.idle_varies:
                    low_nj = min(low_nj, own_ns * rates.other_cpu_low + wall_ns * rates.other_wall_low)
                    high_nj = max(high_nj, own_ns * rates.other_cpu_high + wall_ns * rates.other_wall_high)
                account = span.account
                if account is None:  # in one call what would be ten assignments
                    ns = span.cpu_ns
                    grams = wall_ns * embodied_g
                    span.account = Account(used_nj, held_nj, ns, ns, cpu_ns, 0, 0, 1, low_nj, high_nj, host_nj, grams)
                    continue
                if account.ticks:
                    used_nj = tuple(map(add, account.sources_nj, used_nj))
                    held_nj = tuple(map(add, account.idle_nj, held_nj))
                account.ticks += 1
                account.sources_nj, account.idle_nj = used_nj, held_nj
                account.low_nj += low_nj
                account.high_nj += high_nj
                account.host_nj += host_nj
                account.embodied_g += wall_ns * embodied_g
            if on_gpu:
                self._bound_gpus(chunk)
            if more or rates.missing or rates.gap or rates.unknown_idle:
                self._note(chunk, more, rates)
            # A span that ended while this tick was under way is in its live part: the next tick finishes it.
            del chunk[: max(0, running - start)]
            yield chunk

    def _shares(
        self, spans: list[Span], own: list[int], both: list[int], wall: list[int]
    ) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Dynamic and idle nanojoules of a chunk: one tuple per span, in the order of the sources. ``both`` is their own CPU
        and what companions lent them.
        """
        nothing = [0] * len(own)
        dynamic, idle = [], []
        for books in self.books:
            shares, held = nothing, nothing
            if books.sample is not None:
                cpu = own if books.own_only else both
                shares = books.dividers.take(books.gpu.take(spans) if books.gpu is not None else cpu)
                held = books.idle_divider.take(wall)
                books.lists += shares
                books.idle_lists += held
            dynamic.append(shares)
            idle.append(held)
        if not self.books:
            return [()] * len(own), [()] * len(own)
        return list(zip(*dynamic, strict=True)), list(zip(*idle, strict=True))

    def _open_accounts(self, chunk: list[Span], cpu_ns: list[int]) -> None:
        for span, ns in zip(chunk, cpu_ns, strict=True):
            if span.account is None:
                span.account = Account(self._zeros, self._zeros, span.cpu_ns, span.cpu_ns, ns)

    def _bound_gpus(self, chunk: list[Span]) -> None:
        for books in self.books:
            if books.gpu is not None and books.sample is not None and books.whole_ns:
                low, high = books.ends
                own = books.gpu.own_nj / books.dynamic_nj / books.whole_ns if books.dynamic_nj else 0.0
                least, most = min(low.dynamic, low.other_dynamic), max(high.dynamic, high.other_dynamic)
                books.gpu.bound(chunk, least * own * KEY_LOW, most * own * KEY_HIGH)

    @staticmethod
    def _note(chunk: list[Span], lent: list[int], rates: _Rates) -> None:
        for place, span in enumerate(chunk):
            account = span.account
            if account is None:
                continue
            account.gap = account.gap or rates.missing or rates.gap
            account.idle_unknown = account.idle_unknown or rates.unknown_idle
            if lent:
                account.low_nj += lent[place] * rates.lent_low
                account.high_nj += lent[place] * rates.lent_high


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
        "host_nj",
        "idle_varies",
        "lent_high",
        "lent_low",
        "missing",
        "other_cpu_high",
        "other_cpu_low",
        "other_wall_high",
        "other_wall_low",
        "unknown_idle",
        "wall_high",
        "wall_low",
    )

    def __init__(self) -> None:
        self.cpu_low = self.cpu_high = self.wall_low = self.wall_high = self.embodied_g = 0.0
        self.other_cpu_low = self.other_cpu_high = self.other_wall_low = self.other_wall_high = 0.0
        self.lent_low = self.lent_high = 0.0
        self.host_nj = 0
        self.gap = self.missing = self.unknown_idle = self.idle_varies = False
