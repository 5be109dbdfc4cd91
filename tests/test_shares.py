"""One pass over the ring's state, by arithmetic alone: exact, fair, and nobody pays for a neighbour that died."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from frugal_meter.attribution.shares import Part, Step, advance, book, hold, part_of, rest_of, whole_of
from frugal_meter.ring.records import SEATS, UNSEEN, State, moved, plus
from frugal_meter.sources import Sample

NS = st.integers(0, 10**12)
NJ = st.integers(0, 10**15)
FIELDS = 6 + 7 * SEATS + 10 + 2 * SEATS


def state_of(*cpus_ns: int, total: int = 0) -> State:
    """Seats that have used ``cpus_ns`` so far, with every total of the one source at ``total``."""
    state = State([0] * FIELDS)
    for i, ns in enumerate(cpus_ns):
        state.pids[i], state.starts[i], state.active[i], state.raw_ns[i] = 100 + i, 1, 1, ns
    for name in ("energy_nj", "low_nj", "high_nj", "idle_nj", "other_nj"):
        setattr(state.sources[0], name, total)
    return state


def step_of(cpus_ns: list[int], whole_ns: int) -> Step:
    return Step(cpus_ns + [0] * (SEATS - len(cpus_ns)), whole_ns, whole_ns)


def booked(state: State, before: State) -> tuple[list[Part], int, int]:
    """Every seat's part, the source's energy, and the sum of all its buckets."""
    parts = [part_of(state, before, 0, seat) for seat in range(SEATS)]
    other = moved(state.sources[0].other_nj, before.sources[0].other_nj)
    first = parts[0]
    return parts, first.energy_nj, sum(p.mine_nj for p in parts) + other + first.idle_nj + first.gap_nj


@given(st.lists(NS, min_size=1, max_size=SEATS), NS, NJ, NJ, st.floats(0, 1), st.sampled_from([None, "suspend", "odd"]))
def test_a_record_is_booked_to_the_nanojoule_and_by_cpu(
    cpus: list[int], others: int, energy: int, idle: int, share: float, gap: str | None
) -> None:
    before, state = state_of(*[0] * len(cpus)), state_of(*[0] * len(cpus))
    step = step_of(cpus, sum(cpus) + others)
    book(state, step, 0, Sample(energy, energy, energy, None, gap), idle, "configured", share)
    parts, told, summed = booked(state, before)
    assert told == summed == energy
    assert sum(p.held_nj for p in parts) <= parts[0].idle_nj
    dynamic = energy - parts[0].idle_nj - parts[0].gap_nj
    for part, cpu_ns in zip(parts, cpus, strict=False):
        ideal = dynamic * cpu_ns / step.whole_ns if step.whole_ns else 0
        assert abs(part.mine_nj - ideal) <= 1 + ideal * 1e-12
        assert part.gap == (None if gap is None else "suspend" if gap == "suspend" else "other")


@given(st.lists(st.tuples(NS, NJ), min_size=1, max_size=4))
def test_totals_may_wrap(uses: list[tuple[int, int]]) -> None:
    state, before = state_of(0, total=UNSEEN - 5), state_of(0, total=UNSEEN - 5)
    for cpu_ns, energy in uses:
        book(state, step_of([cpu_ns], cpu_ns), 0, Sample(energy, energy, energy), 0, "none", 0.0)
    _, told, summed = booked(state, before)
    assert told == summed == sum(energy for _, energy in uses)
    assert plus(UNSEEN, 1) == 0
    assert moved(0, UNSEEN) == 1


@given(st.lists(st.tuples(st.integers(0, 40_000_000), st.floats(0, 1)), min_size=1, max_size=50))
def test_wholes_follow_the_host_though_its_counter_is_coarse(records: list[tuple[int, float]]) -> None:
    """Of every record the workers use a part; the host shows what was used in steps of 10 ms."""
    true = shown = wholes = owed = 0
    for used, part in records:
        true += used
        moved_ns = true // 10_000_000 * 10_000_000 - shown
        shown += moved_ns
        whole, owed = whole_of(moved_ns, int(used * part), owed, cpus=1)
        assert whole >= int(used * part)
        wholes += whole
    assert shown <= wholes <= true + 10_000_000


def test_an_unseen_host_leaves_the_workers_cpu_as_the_whole() -> None:
    state = state_of(0, 0)
    step = advance(state, t_ns=5, boot_ns=0, host_ns=None, cpus=2, raw_ns=[30, 10] + [0] * (SEATS - 2))
    assert (step.host_ns, step.whole_ns, step.workers_ns) == (None, 40, 40)
    step = advance(state, t_ns=9, boot_ns=0, host_ns=1_000, cpus=2, raw_ns=[30, 10] + [0] * (SEATS - 2))
    assert step.host_ns is None  # the first look at a counter only says where it stands


def test_a_dead_workers_last_cpu_is_nobody_elses() -> None:
    state, before = state_of(0, 0), state_of(0, 0)
    step = advance(state, t_ns=1, boot_ns=0, host_ns=1_000, cpus=1, raw_ns=[300, None] + [0] * (SEATS - 2))
    book(state, step, 0, Sample(1_000, 1_000, 1_000), 0, "none", 1.0)
    parts, told, summed = booked(state, before)
    assert (state.pids[1], state.active[1]) == (0, 0)
    assert (parts[0].mine_nj, parts[1].mine_nj, told, summed) == (300, 0, 1_000, 1_000)
    assert state.sources[0].other_nj == 700


def test_a_worker_that_bills_alone_still_is_other_to_those_who_share() -> None:
    state = state_of(0, 0)
    state.active[1] = 0
    step = advance(state, t_ns=1, boot_ns=0, host_ns=1_000, cpus=1, raw_ns=[300, 600] + [0] * (SEATS - 2))
    assert (step.workers_ns, step.whole_ns, state.cpu_ns[1]) == (300, 1_000, 0)


def test_workers_divide_the_slice_by_cpu_and_evenly_when_none_ran() -> None:
    state = state_of(0, 0)
    hold(state, step_of([10, 30], 100), 400)
    hold(state, step_of([0, 0], 0), 400)
    assert state.held_ns[:2] == [100 + 200, 300 + 200]
    book(state, step_of([0, 0], 0), 0, Sample(90, 90, 90), 80, "configured", 0.5)
    assert (state.sources[0].idle_nj, state.sources[0].held[:2]) == (90, [22, 23])


def test_small_steps_back_of_the_host_are_not_counted_twice() -> None:
    state = state_of()
    quiet: list[int | None] = [0] * SEATS
    told = [
        advance(state, t_ns=1, boot_ns=0, host_ns=host_ns, cpus=1, raw_ns=quiet).host_ns
        for host_ns in (5_000, 4_000, 6_000, 9_000_000_000, 7_000, 8_000)
    ]
    assert told == [5_000, 0, 1_000, 8_999_994_000, 0, 1_000]


@given(NJ, NJ, st.integers(0, 20))
def test_a_reader_books_only_what_others_have_not(energy: int, booked_nj: int, percent: int) -> None:
    sample = Sample(energy, energy - energy * percent // 100, energy + energy * percent // 100)
    rest = rest_of(sample, booked_nj, None, None)
    assert rest.energy_nj == max(0, energy - booked_nj)
    assert 0 <= rest.low_nj <= rest.energy_nj <= rest.high_nj
