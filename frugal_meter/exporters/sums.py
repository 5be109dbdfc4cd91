"""What one process knows, as a record that others can read, and the sum of such records: pure, and exact in nanojoules.

Workers of one service share the host's energy through the ring (`ring.records`), whose records hold running totals.
So the service's part of a source is not the sum of what its workers saw, since each of them saw the whole host:

    host        what the ring's total moved since the first of these workers began to bill from it
    requests    settled spans, late work and overhead: each worker's own, summed, of those that have ended too
    running     what the ring has booked to the seats of living workers and they have not settled yet
    other       the rest: other processes, and what a worker that was killed had not settled

What a worker bills alone, also before another one came, counts with its own books as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import add as plus
from operator import sub as minus
from typing import Final, TypeVar

import msgspec

from ..ring.records import moved
from . import aggregates
from .aggregates import BUCKETS, OTHER, OTHER_KIND, Distribution, Histogram, Labels, Mark, Row
from .budget_sums import BudgetCounts, BudgetGauges

Key = TypeVar("Key", bound=tuple[str, ...] | str)
Item = TypeVar("Item", Row, Distribution)
#: Floats of one process are rounded to whole parts of a power of two before they are added: such a sum is exact, in whatever
#: order workers are met, up to 2^33 J, s or units and 2^20 g. Otherwise a sum may fall by its last bit from one scrape to
#: the next, which Prometheus takes for a counter that began anew: `rate` then adds the whole of it once more
_GRAIN: Final = 2.0**20
_GRAIN_G: Final = 2.0**33
#: requests that a worker answered and took with it when it was killed: neither route nor status is known any more
LOST: Final = (("none", "none", "none"), ("none", "lost"))
#: books of a source that has told nothing yet
NOTHING: Final[Mapping[str, int]] = dict.fromkeys(("told", *BUCKETS), 0)


class Point(msgspec.Struct, array_like=True, frozen=True):
    """The ring's totals after record ``seq``, by source, nJ; ``mine_nj`` by source and seat, ``pids`` who sits there.

    Unsigned 64-bit integers that may wrap: take `moved`.
    """

    seq: int
    pids: list[int]
    energy_nj: list[int]
    idle_nj: list[int]
    gap_nj: list[int]
    other_nj: list[int]
    mine_nj: list[list[int]]


class Seat(msgspec.Struct, array_like=True, frozen=True):
    """A worker's place in the ring that was made at ``born`` (Unix, ns): where it began, and what it billed last. By source,
    those that are not in the ring at 0.
    """

    born: int
    place: int
    base: Point
    last: Point

    def mine_nj(self, source: int, until: Point) -> int:
        """What the ring has booked to it of a source, ``until`` a record."""
        return moved(until.mine_nj[source][self.place], self.base.mine_nj[source][self.place])


class Books(msgspec.Struct, array_like=True):
    """One source as one process booked it since its start, nJ. ``alone``: what it told and where that was booked, but for what
    was billed through the ring, which is in the ring's totals; late work and overhead are of both. ``up`` is None before the
    first reading.
    """

    alone: dict[str, int]
    late_nj: int
    overhead_nj: int
    up: bool | None = None


class Sums(msgspec.Struct, array_like=True):
    """Everything one process contributes: running sums, and gauges as they stood at ``at_ns`` (monotonic).

    ``rows`` and ``kinds`` are those of `Aggregates`; ``coverage`` is CPU of requests and of the process in the last tick,
    ns; ``running_nj`` is what is booked to spans not settled, by source; ``since_ns`` when it began (Unix; 0: not told).
    """

    pid: int
    at_ns: int
    rows: dict[Labels, Row]
    kinds: dict[tuple[str, str], Distribution]
    overflow: dict[str, int]
    overhead_nj: dict[str, int]
    sources: list[Books]
    running_nj: list[int]
    process_ns: int
    meter_ns: int
    dropped: int
    errors: dict[str, int]
    decisions: dict[tuple[str, str], int]
    in_progress: int
    coverage: tuple[int, int] | None
    seat: Seat | None = None
    cut_nj: int = 0
    budgets: BudgetCounts = msgspec.field(default_factory=BudgetCounts)
    budgets_now: BudgetGauges = msgspec.field(default_factory=BudgetGauges)
    left: list[Seat] = []  # where it sat before its meter was stopped and started again
    since_ns: int = 0

    def seats(self) -> list[Seat]:
        """Every seat that it has had."""
        return self.left if self.seat is None else [*self.left, self.seat]

    def settled_nj(self) -> list[int]:
        """Dynamic energy of settled spans, by source."""
        return _settled(self.rows, len(self.sources))

    def booked_nj(self) -> list[int]:
        """The same with late work and overhead."""
        own = zip(self.settled_nj(), self.sources, strict=True)
        return [nj + books.late_nj + books.overhead_nj for nj, books in own]


def _settled(rows: Mapping[Labels, Row], sources: int) -> list[int]:
    total = [0] * sources
    for row in list(rows.values()):
        total = list(map(plus, total, row.sources_nj))
    return total


class Total(msgspec.Struct, array_like=True):
    """The sum over processes, and the form in which those that have ended are kept.

    ``alone`` has, by source, energy and buckets of what was billed alone; ``booked_nj`` what all have booked; ``rings`` the
    first and the last totals of each ring they billed from, by its birth. ``names`` are the files that were folded in last.
    ``since_ns``: when the first of them began (Unix; 0: nobody told).
    """

    rows: dict[Labels, Row] = {}
    kinds: dict[tuple[str, str], Distribution] = {}
    overflow: dict[str, int] = {}
    overhead_nj: dict[str, int] = {}
    process_ns: int = 0
    meter_ns: int = 0
    dropped: int = 0
    errors: dict[str, int] = {}
    decisions: dict[tuple[str, str], int] = {}
    cut_nj: int = 0
    alone: list[dict[str, int]] = []
    late_nj: list[int] = []
    overhead_own_nj: list[int] = []
    booked_nj: list[int] = []
    rings: dict[int, tuple[Point, Point]] = {}
    names: list[str] = []
    budgets: BudgetCounts = msgspec.field(default_factory=BudgetCounts)
    since_ns: int = 0

    def add(self, sums: Sums, *, lost: int = 0) -> None:
        """Add one process; its rows become this total's. ``lost`` requests ended in it and were never settled."""
        _add_counts(self.overflow, sums.overflow)
        _add_counts(self.overhead_nj, sums.overhead_nj)
        _add_counts(self.errors, sums.errors)
        _add_counts(self.decisions, sums.decisions)
        self.process_ns += sums.process_ns
        self.meter_ns += sums.meter_ns
        self.dropped += sums.dropped
        self.cut_nj += sums.cut_nj
        self.budgets.add(sums.budgets)
        self.since_ns = min(filter(None, (self.since_ns, sums.since_ns)), default=0)
        self._add_sources(sums)
        _take(self.rows, sums.rows, _add_row)
        _take(self.kinds, sums.kinds, _add_kind)
        if lost:
            self.lose(lost, len(sums.sources))

    def lose(self, requests: int, sources: int) -> None:
        """Count requests of workers that were killed; with 0 of them the series is there, for ``increase`` to see the first."""
        labels, outcome = LOST
        row = self.rows.setdefault(labels, Row(0, [0] * sources))
        row.outcomes[outcome] = row.outcomes.get(outcome, 0) + requests

    def _add_sources(self, sums: Sums) -> None:
        if not self.alone:
            self.alone = [dict(NOTHING) for _ in sums.sources]
            self.late_nj, self.overhead_own_nj, self.booked_nj = ([0] * len(sums.sources) for _ in range(3))
        for i, (books, booked_nj) in enumerate(zip(sums.sources, sums.booked_nj(), strict=True)):
            self.late_nj[i] += books.late_nj
            self.overhead_own_nj[i] += books.overhead_nj
            self.booked_nj[i] += booked_nj
            _add_counts(self.alone[i], books.alone)
        for seat in sums.seats():
            base, last = self.rings.get(seat.born, (seat.base, seat.last))
            self.rings[seat.born] = min(base, seat.base, key=_seq), max(last, seat.last, key=_seq)

    def close_rings(self, living: Iterable[Sums]) -> None:
        """Keep only the sums of rings that none of ``living`` has sat at and that another has come after: nobody will add to
        them, and they would be as many as workers have ended.
        """
        in_use = {seat.born for sums in living for seat in sums.seats()} | {max(self.rings, default=0)}
        for born in self.rings.keys() - in_use:
            base, last = self.rings.pop(born)
            for i, alone in enumerate(self.alone):
                _add_counts(
                    alone,
                    {
                        "told": moved(last.energy_nj[i], base.energy_nj[i]),
                        "idle": moved(last.idle_nj[i], base.idle_nj[i]),
                        "gap": moved(last.gap_nj[i], base.gap_nj[i]),
                        "other": moved(last.other_nj[i], base.other_nj[i]),
                        "requests": sum(map(moved, last.mine_nj[i], base.mine_nj[i])),
                    },
                )

    def cap(self) -> None:
        """Fold what is beyond the caps on label sets into "other": the youngest, so that who is in stays in."""
        rows, kinds = aggregates.MAX_LABEL_SETS, aggregates.MAX_DISTRIBUTIONS
        sources = len(self.alone)
        folded = _fold(self.rows, rows, OTHER, lambda: Row(0, [0] * sources), _add_row)
        requests = sum(sum(row.outcomes.values()) for row in folded)
        folded_kinds = _fold(self.kinds, kinds, OTHER_KIND, Distribution.new, _add_kind)
        more = sum(sum(kind.duration_s.counts) for kind in folded_kinds)
        _add_counts(self.overflow, {"requests": requests, "histograms": more})


class Told(msgspec.Struct, frozen=True):
    """A source as the service tells it: its energy, what of that no settled or running request was charged for, by reason, nJ;
    and whether it could be read last (None: not read yet).
    """

    energy_nj: int
    unattributed_nj: dict[str, int]
    up: bool | None


class Service(msgspec.Struct):
    """The figures of a service, over all its processes."""

    total: Total
    sources: list[Told]
    running_nj: int
    difference_nj: int
    workers: int
    in_progress: int
    coverage: float | None
    budgets: BudgetGauges


def service_of(ended: Total, living: Sequence[Sums]) -> Service:
    """The service's figures: those of the processes that have ended, and of each that lives. ``ended`` is added to."""
    total, booked = ended, [sums.booked_nj() for sums in living]  # before the rows become the total's
    for sums in living:
        total.add(sums)
    unsettled = [list(map(minus, _own_nj(sums, total.rings), nj)) for sums, nj in zip(living, booked, strict=True)]
    # Without a ring the spans are asked: in the middle of a tick the rows are ahead of the books.
    running = [nj if sums.seat is not None else sums.running_nj for sums, nj in zip(living, unsettled, strict=True)]
    newest = max(living, key=lambda sums: sums.at_ns, default=None)
    sources = []
    for i in range(len(total.alone)):
        energy_nj, reasons = _told(total, i, sum(nj[i] for nj in unsettled))
        sources.append(Told(energy_nj, reasons, None if newest is None else newest.sources[i].up))
    total.cap()
    budgets = BudgetGauges()
    for sums in living:
        budgets.add(sums.budgets_now)
    seen = [sums.coverage for sums in living if sums.coverage is not None]
    whole_ns = sum(process_ns for _, process_ns in seen)
    return Service(
        total,
        sources,
        sum(map(sum, running)),
        _difference_nj(total),
        len(living),
        sum(sums.in_progress for sums in living),
        min(1.0, sum(own_ns for own_ns, _ in seen) / whole_ns) if whole_ns else None,
        budgets,
    )


def _seq(point: Point) -> int:
    return point.seq


def _own_nj(sums: Sums, rings: Mapping[int, tuple[Point, Point]]) -> list[int]:
    """What is booked to a living process, by source; through the ring by the newest record that anybody told."""
    own = [books.alone["requests"] + books.alone["late"] + books.alone["overhead"] for books in sums.sources]
    for seat in sums.seats():
        newest = rings[seat.born][1]
        until = newest if seat is sums.seat and newest.pids[seat.place] == sums.pid else seat.last  # else it has left
        own = [nj + seat.mine_nj(i, until) for i, nj in enumerate(own)]
    return own


def _told(total: Total, i: int, unsettled_nj: int) -> tuple[int, dict[str, int]]:
    """What a source told, and what of it no request was charged for; ``unsettled_nj`` of it waits in living processes."""
    alone = total.alone[i]
    energy, idle, gap = alone["told"], alone["idle"], alone["gap"]
    for base, last in total.rings.values():
        energy += moved(last.energy_nj[i], base.energy_nj[i])
        idle += moved(last.idle_nj[i], base.idle_nj[i])
        gap += moved(last.gap_nj[i], base.gap_nj[i])
    return energy, {
        "late": total.late_nj[i],
        "overhead": total.overhead_own_nj[i],
        "other": energy - idle - gap - total.booked_nj[i] - unsettled_nj,
        "idle": idle,
        "gap": gap,
    }


def _difference_nj(total: Total) -> int:
    """What the sources told minus all that was booked, by processes that bill alone and in the rings: 0 when the books close."""
    off = sum(alone["told"] - sum(alone[bucket] for bucket in BUCKETS) for alone in total.alone)
    for base, last in total.rings.values():
        for i in range(len(last.energy_nj)):
            parts = ((p.idle_nj[i], p.gap_nj[i], p.other_nj[i], *p.mine_nj[i]) for p in (last, base))
            off += moved(last.energy_nj[i], base.energy_nj[i]) - sum(map(moved, *parts))
    return off


def _add_counts(into: dict[Key, int], more: Mapping[Key, int]) -> None:
    for key, count in list(more.items()):
        into[key] = into.get(key, 0) + count


def _take(into: dict[Key, Item], more: Mapping[Key, Item], add: Callable[[Item, Item], None]) -> None:
    """Take items over, or add them to the one that is there."""
    for key, item in more.items():
        if (known := into.get(key)) is None:
            into[key] = item
        else:
            add(known, item)


def _fold(
    into: dict[Key, Item], most: int, other: Key, empty: Callable[[], Item], add: Callable[[Item, Item], None]
) -> list[Item]:
    """Keep the ``most`` oldest items and add each younger one to ``other``; what was added."""
    if len(into) <= most:
        return []
    younger = sorted((key for key in into if key != other), key=lambda key: (into[key].born_ns, key))[most:]
    folded = [into.pop(key) for key in younger]
    for item in folded:
        if other not in into:
            into[other] = empty()
        add(into[other], item)
    return folded


def _add_row(row: Row, more: Row) -> None:
    row.born_ns = min(row.born_ns, more.born_ns)
    row.sources_nj = list(map(plus, row.sources_nj, more.sources_nj))
    _add_counts(row.outcomes, more.outcomes)
    row.cpu_ns += more.cpu_ns
    row.gpu_ns += more.gpu_ns
    row.idle_nj += more.idle_nj
    row.tokens_in = _known(row.tokens_in, more.tokens_in)
    row.tokens_out = _known(row.tokens_out, more.tokens_out)
    row.operational_g += more.operational_g
    row.embodied_g += more.embodied_g
    row.quality_sum += more.quality_sum
    row.quality_count += more.quality_count
    for unit, count in more.units.items():
        row.units[unit] = row.units.get(unit, 0) + count
    for tier, joules in more.remote_j.items():
        row.remote_j[tier] = row.remote_j.get(tier, 0.0) + joules
    row.remote_g += more.remote_g
    row.remote_unknown += more.remote_unknown
    row.remote_calls += more.remote_calls


def grain(sums: Sums) -> Sums:
    """Round the floats of a record that was read, so that adding it to others is exact; the record itself."""
    for row in sums.rows.values():
        row.operational_g, row.embodied_g = _grained(row.operational_g, _GRAIN_G), _grained(row.embodied_g, _GRAIN_G)
        row.remote_g, row.quality_sum = _grained(row.remote_g, _GRAIN_G), _grained(row.quality_sum, _GRAIN)
        row.units = {unit: _grained(count, _GRAIN) for unit, count in row.units.items()}
        row.remote_j = {tier: _grained(joules, _GRAIN) for tier, joules in row.remote_j.items()}
    for kind in sums.kinds.values():
        for histogram in (kind.duration_s, kind.cpu_s, kind.energy_j):
            histogram.total = _grained(histogram.total, _GRAIN)
    return sums


def _grained(value: float, parts: float) -> float:
    return round(value * parts) / parts


def _known(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other


def _add_kind(kind: Distribution, more: Distribution) -> None:
    kind.born_ns = min(kind.born_ns, more.born_ns)
    _add_histogram(kind.duration_s, more.duration_s)
    _add_histogram(kind.cpu_s, more.cpu_s)
    _add_histogram(kind.energy_j, more.energy_j)


def _add_histogram(histogram: Histogram, more: Histogram) -> None:
    histogram.counts = list(map(plus, histogram.counts, more.counts))
    histogram.total += more.total
    both = zip(histogram.marks, more.marks, strict=True)
    histogram.marks = [
        one if other is None or (one is not None and _ended(one) > _ended(other)) else other for one, other in both
    ]


def _ended(mark: Mark) -> int:
    return mark[3]
