"""One pass over the ring's state: CPU since the last record, and every nanojoule of it to a seat or a bucket. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ..ring.records import SEATS, UNSEEN, Pool, State, moved, plus
from ..sources import Own, Sample
from ..sources.procfs import NS_PER_S
from .split import Divider, idle_and_dynamic, split

#: one count of /proc/stat per CPU, twice: how far its counter may lag behind the clocks of processes
_LAG_NS: Final = 20_000_000
#: what a record says of a gap and of the idle baseline, by code
REASONS: Final = ("other", "suspend", "vanished", "reset", "implausible", "wrap-ambiguous", "held")
ORIGINS: Final = ("none", "configured", "observed", "modelled")


class Step(NamedTuple):
    """From the last record to now: CPU by seat, of the host (None: unseen), and what energy is divided by, ns.

    A seat's CPU is its process's and what it held of companions.
    """

    cpu_ns: list[int]
    host_ns: int | None
    whole_ns: int

    @property
    def workers_ns(self) -> int:
        """CPU of all the seats."""
        return sum(self.cpu_ns)


def whole_of(host_ns: int | None, workers_ns: int, owed_ns: int, cpus: int) -> tuple[int, int]:
    """What a record's energy is divided by, and what is owed then.

    The host's counter moves in steps of 10 ms, process clocks in nanoseconds: a short record may see less of the host
    than of its workers. The workers' CPU is then the whole, and what was taken ahead is owed by the records after, so
    that wholes sum to what the host used.
    """
    if host_ns is None:
        return workers_ns, 0
    whole = max(workers_ns, host_ns - owed_ns)
    return whole, min(owed_ns + whole - host_ns, _LAG_NS * cpus)


class Lent(NamedTuple):
    """What a companion used since it was last divided, ns, and what each seat held of it meanwhile, as weights."""

    pool: Pool
    used_ns: int
    held: Sequence[int]


def advance(
    state: State,
    *,
    t_ns: int,
    boot_ns: int,
    host_ns: int | None,
    cpus: int,
    raw_ns: Sequence[int | None],
    companions: Sequence[Lent] = (),
) -> Step:
    """Move ``state`` to now; ``raw_ns`` are the CPU clocks by seat, None for a process that has ended.

    A seat whose process has ended is free again. What it used since the last record nobody can bill: it stays in the
    host's CPU and so becomes *other*, not its neighbours'.
    """
    used = [0] * SEATS
    for i, raw in enumerate(raw_ns):
        if not state.pids[i]:
            continue
        if raw is None:
            state.free(i)
        elif state.active[i] and raw > state.raw_ns[i]:
            used[i] = raw - state.raw_ns[i]
            state.raw_ns[i] = raw
            state.cpu_ns[i] = plus(state.cpu_ns[i], used[i])
    for each in companions:
        used = [ns + more for ns, more in zip(used, divide(state, each.pool, each.used_ns, each.held), strict=True)]
    host = None
    if host_ns is None:
        state.host_ns = UNSEEN
    else:
        fell = state.host_ns - host_ns
        if state.host_ns != UNSEEN:
            host = max(0, -fell)
        # two workers may have smoothed the same small step back differently: not counted twice
        if not 0 < fell <= NS_PER_S * cpus:
            state.host_ns = host_ns
    whole, state.owed_ns = whole_of(host, sum(used), state.owed_ns, cpus)
    state.whole_ns = plus(state.whole_ns, whole)
    state.t_ns, state.boot_ns = t_ns, boot_ns
    return Step(used, host, whole)


def held_since(pool: Pool, levels: Sequence[float | None]) -> list[int]:
    """What each seat held of ``pool`` since it was last divided, as weights, by its ``levels`` now; None holds nothing."""
    weights = []
    for i, level in enumerate(levels):
        weights.append(0 if level is None else max(0, int(level - pool.level[i])))
        pool.level[i] = pool.level[i] if level is None else level
    return weights


def divide(state: State, pool: Pool, used_ns: int, weights: Sequence[int], whole: int | None = None) -> list[int]:
    """Add ``used_ns`` of ``pool`` to the seats by ``weights``, of ``whole`` (None: their sum); returns what each got.

    The share of a seat that does not bill, or that has died, is nobody else's.
    """
    pool.used_ns = plus(pool.used_ns, used_ns)
    given = Divider(used_ns, sum(weights) if whole is None else whole).take(weights)
    given = [ns if active else 0 for ns, active in zip(given, state.active, strict=True)]
    pool.lent_ns = [plus(total, ns) for total, ns in zip(pool.lent_ns, given, strict=True)]
    return given


class Use(NamedTuple):
    """Who used a GPU since the last record: weights by seat, of ``whole``; ``told`` by the driver, or by what sections held."""

    weights: list[int]
    whole: int
    told: bool


def use_of(state: State, by_process: Mapping[int, int] | None, seats: Mapping[int, int], held: Sequence[int]) -> Use:
    """The use of a GPU by seat. ``by_process`` is the driver's utilisation by process, ``seats`` the seat of each of these
    that is a worker's or descends from one. Where it tells of none of them all was the service's, by what sections held,
    evenly where nobody held any.
    """
    total = sum(by_process.values()) if by_process else 0
    if by_process and total and not seats.keys().isdisjoint(by_process):
        weights = [0] * SEATS
        for pid, used in by_process.items():
            if pid in seats:
                weights[seats[pid]] += used
    else:
        weights = list(held) if any(held) else state.active
        total = 0
    active = [weight if at else 0 for weight, at in zip(weights, state.active, strict=True)]
    return Use(active, total or sum(weights), bool(total))


def hold(state: State, step: Step, slice_ns: int) -> None:
    """Divide the service's part of the host over the seats, as share × ns."""
    for i, ns in enumerate(Divider(slice_ns, sum(weights := _weights(state, step))).take(weights)):
        state.held_ns[i] = plus(state.held_ns[i], ns)


def book(
    state: State, step: Step, source: int, sample: Sample, idle_nj: int | None, origin: str, slice_: float, use: Use | None = None
) -> None:
    """Add the energy of one source since the last record: gap, idle, each seat's dynamic part, and other.

    Dynamic energy follows CPU; that of a GPU, its ``use``. ``slice_`` is the service's part of the host (0…1); its part
    of idle is divided over the seats by CPU, evenly when none ran, so that workers never hold more than the service does.
    """
    totals, energy = state.sources[source], sample.energy_nj
    totals.energy_nj = plus(totals.energy_nj, energy)
    totals.low_nj, totals.high_nj = plus(totals.low_nj, sample.low_nj), plus(totals.high_nj, sample.high_nj)
    if sample.gap is not None:
        totals.gap_nj = plus(totals.gap_nj, energy)
        totals.gaps = plus(totals.gaps, 1)
        totals.reason = _reason(sample.gap)
        return
    totals.origin = ORIGINS.index(origin)
    idle, dynamic = idle_and_dynamic(energy, idle_nj)
    if not step.whole_ns and use is None:  # nobody ran: whatever the baseline missed is idle too
        idle, dynamic = energy, 0
    divider = Divider(dynamic, step.whole_ns if use is None else use.whole)
    for i, nj in enumerate(divider.take(step.cpu_ns if use is None else use.weights)):
        totals.mine[i] = plus(totals.mine[i], nj)
    totals.idle_nj = plus(totals.idle_nj, idle)
    totals.other_nj = plus(totals.other_nj, divider.rest())
    weights = _weights(state, step)
    if total := sum(weights):
        for i, nj in enumerate(Divider(min(idle, int(idle * slice_)), total).take(weights)):
            totals.held[i] = plus(totals.held[i], nj)


def book_own(state: State, step: Step, source: int, sample: Sample, own: Own, use: Use | None = None) -> None:
    """Add what a source told that divides its energy itself: ``own`` is the service's, and the seats' by their CPU; that of a
    GPU by their ``use``.
    """
    totals = state.sources[source]
    totals.energy_nj, totals.idle_nj = plus(totals.energy_nj, sample.energy_nj), plus(totals.idle_nj, sample.idle_nj or 0)
    totals.low_nj, totals.high_nj = plus(totals.low_nj, sample.low_nj), plus(totals.high_nj, sample.high_nj)
    totals.gap_nj, totals.origin = plus(totals.gap_nj, own.gap_nj), ORIGINS.index(own.origin)
    if sample.gap is not None:
        totals.gaps, totals.reason = plus(totals.gaps, 1), _reason(sample.gap)
    weights = _weights(state, step)
    divider = Divider(own.mine_nj, sum(weights) if use is None else use.whole)
    parts = divider.take(weights if use is None else use.weights)
    for i, (mine, held) in enumerate(zip(parts, split(own.held_nj, weights), strict=True)):
        totals.mine[i], totals.held[i] = plus(totals.mine[i], mine), plus(totals.held[i], held)
    others_nj = sample.energy_nj - (sample.idle_nj or 0) - own.gap_nj - own.mine_nj
    totals.other_nj = plus(totals.other_nj, others_nj + divider.rest())


def _reason(gap: str) -> int:
    return REASONS.index(gap) if gap in REASONS else 0


def rest_of(sample: Sample, booked_nj: int, idle_nj: int | None, gap: str | None) -> Sample:
    """What of a counter's step since this reader's last look other readers have not booked yet, bounds in proportion."""
    energy = max(0, sample.energy_nj - booked_nj)
    if not sample.energy_nj:
        return Sample(0, 0, 0, idle_nj, gap)
    low = sample.low_nj * energy // sample.energy_nj
    high = -(-sample.high_nj * energy // sample.energy_nj)
    return Sample(energy, low, high, idle_nj, gap)


def _weights(state: State, step: Step) -> list[int]:
    return step.cpu_ns if any(step.cpu_ns) else state.active


class Part(NamedTuple):
    """What one seat bills of one source: the totals between two of its ticks, nJ.

    Of a GPU also its busy time, and whether some of it was divided without the driver telling who used it.
    """

    energy_nj: int
    low_nj: int
    high_nj: int
    idle_nj: int
    gap_nj: int
    mine_nj: int
    held_nj: int
    gap: str | None
    origin: str
    busy_ns: int = 0
    untold: bool = False


def part_by_source(sample: Sample) -> Part | None:
    """What is ours of a sample whose source knows it; None where it does not."""
    own = sample.own
    if own is None:
        return None
    nj = (sample.energy_nj, sample.low_nj, sample.high_nj, sample.idle_nj or 0, own.gap_nj, own.mine_nj, own.held_nj)
    return Part(*nj, sample.gap, own.origin, own.busy_ns, own.untold)


def part_of(now: State, before: State, source: int, seat: int, place: int | None = None) -> Part:
    """What ``seat`` bills of ``source`` from ``before`` to ``now``; ``place`` is that of a GPU among the pools."""
    one, other = now.sources[source], before.sources[source]
    busy_ns = 0 if place is None else lent_of(now, before, place, seat)
    untold = place is not None and now.pools[place].untold != before.pools[place].untold
    return Part(
        moved(one.energy_nj, other.energy_nj),
        moved(one.low_nj, other.low_nj),
        moved(one.high_nj, other.high_nj),
        moved(one.idle_nj, other.idle_nj),
        moved(one.gap_nj, other.gap_nj),
        moved(one.mine[seat], other.mine[seat]),
        moved(one.held[seat], other.held[seat]),
        REASONS[one.reason] if one.gaps != other.gaps else None,
        ORIGINS[one.origin],
        busy_ns,
        untold,
    )


def lent_of(now: State, before: State, place: int, seat: int) -> int:
    """What ``seat`` held of a pool's use from ``before`` to ``now``, ns; 0 when another pool has come to its place."""
    one, other = now.pools[place], before.pools[place]
    return moved(one.lent_ns[seat], other.lent_ns[seat]) if one.key == other.key else 0
