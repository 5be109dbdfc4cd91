"""One pass over the ring's state: CPU since the last record, and every nanojoule of it to a seat or a bucket. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..sources import Sample
from ..sources.procfs import NS_PER_S
from .ring import SEATS, UNSEEN, State, moved, plus
from .split import Divider, idle_and_dynamic

#: one count of /proc/stat per CPU, twice: how far its counter may lag behind the clocks of processes
_LAG_NS: Final = 20_000_000
#: what a record says of a gap and of the idle baseline, by code
REASONS: Final = ("other", "suspend", "vanished", "reset", "implausible", "wrap-ambiguous", "held")
ORIGINS: Final = ("none", "configured", "observed", "modelled")


class Step(NamedTuple):
    """From the last record to now: CPU by seat, of the host (None: unseen), and what energy is divided by, ns."""

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


def advance(state: State, *, t_ns: int, boot_ns: int, host_ns: int | None, cpus: int, raw_ns: Sequence[int | None]) -> Step:
    """Move ``state`` to now; ``raw_ns`` are the CPU clocks by seat, None for a process that has ended.

    A seat whose process has ended is free again. What it used since the last record nobody can bill: it stays in the
    host's CPU and so becomes *other*, not its neighbours'.
    """
    used = [0] * SEATS
    for i, raw in enumerate(raw_ns):
        if not state.pids[i]:
            continue
        if raw is None:
            state.pids[i] = state.starts[i] = state.active[i] = 0
        elif state.active[i] and raw > state.raw_ns[i]:
            used[i] = raw - state.raw_ns[i]
            state.raw_ns[i] = raw
            state.cpu_ns[i] = plus(state.cpu_ns[i], used[i])
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


def hold(state: State, step: Step, slice_ns: int) -> None:
    """Divide the service's part of the host over the seats, as share × ns."""
    for i, ns in enumerate(Divider(slice_ns, sum(weights := _weights(state, step))).take(weights)):
        state.held_ns[i] = plus(state.held_ns[i], ns)


def book(state: State, step: Step, source: int, sample: Sample, idle_nj: int | None, origin: str, slice_: float) -> None:
    """Add the energy of one source since the last record: gap, idle, each seat's dynamic part, and other.

    ``slice_`` is the service's part of the host (0…1); its part of idle is divided over the seats by CPU, evenly when
    none ran, so that workers never hold more than the service does.
    """
    totals, energy = state.sources[source], sample.energy_nj
    totals.energy_nj = plus(totals.energy_nj, energy)
    totals.low_nj, totals.high_nj = plus(totals.low_nj, sample.low_nj), plus(totals.high_nj, sample.high_nj)
    if sample.gap is not None:
        totals.gap_nj = plus(totals.gap_nj, energy)
        totals.gaps = plus(totals.gaps, 1)
        totals.reason = REASONS.index(sample.gap) if sample.gap in REASONS else 0
        return
    totals.origin = ORIGINS.index(origin)
    idle, dynamic = idle_and_dynamic(energy, idle_nj)
    if not step.whole_ns:  # nobody ran: whatever the baseline missed is idle too
        idle, dynamic = energy, 0
    divider = Divider(dynamic, step.whole_ns)
    for i, nj in enumerate(divider.take(step.cpu_ns)):
        totals.mine[i] = plus(totals.mine[i], nj)
    totals.idle_nj = plus(totals.idle_nj, idle)
    totals.other_nj = plus(totals.other_nj, divider.rest())
    weights = _weights(state, step)
    if total := sum(weights):
        for i, nj in enumerate(Divider(min(idle, int(idle * slice_)), total).take(weights)):
            totals.held[i] = plus(totals.held[i], nj)


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
    """What one seat bills of one source: the totals between two of its ticks, nJ."""

    energy_nj: int
    low_nj: int
    high_nj: int
    idle_nj: int
    gap_nj: int
    mine_nj: int
    held_nj: int
    gap: str | None
    origin: str


def part_of(now: State, before: State, source: int, seat: int) -> Part:
    """What ``seat`` bills of ``source`` from ``before`` to ``now``."""
    one, other = now.sources[source], before.sources[source]
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
    )
