"""GPUs and companions under the ring: one reader tells for all workers who used them, and each joule is booked once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvml_fake import build
from support import burn, metered
from worker_house import House, Process, assert_every_record_is_booked_once
from worker_process import WATTS_PER_CPU

from frugal_meter.attribution.pools import Section, Sections
from frugal_meter.attribution.shares import Lent, advance, book, divide, held_since, use_of
from frugal_meter.ring.levels import CELL_BYTES, Board, Levels
from frugal_meter.ring.records import COMPANIONS, SEATS, Ring, State
from frugal_meter.sources import Sample
from frugal_meter.sources.power_model import CpuModelSource
from frugal_meter.sources.processes import forebear
from frugal_meter.sources.watts import declared_cpu

LATER_US = 10**16
GPU = "nvml:GPU-fake-0"
J = 10**9


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def lent_s(each: Process, begun_ns: int) -> float:
    """What a worker was charged beyond its own CPU, in CPU seconds."""
    return each.last["books"]["power"]["mine_nj"] / J / WATTS_PER_CPU - (each.last["cpu_ns"] - begun_ns) / 1e9


def test_workers_pay_for_a_companion_by_what_the_sections_of_all_of_them_held(house: House) -> None:
    one, other = house.process("service"), house.process("service")
    server = house.process("llama-server")
    for each in (one, other):
        each("pool llama *llama-server*")
        house.tick(each)
    begun = {each.pid: each.last["cpu_ns"] for each in (one, other)}
    before = {each.pid: lent_s(each, begun[each.pid]) for each in (one, other)}
    one("section llama 1")
    server("burn 0.3")
    house.tick(other)  # which held nothing: the first one's sections are read without asking it
    other("section llama 3")
    server("burn 0.4")
    house.tick(one)
    other("release")
    server("burn 0.2")
    house.tick(other)
    one("release")
    house.tick(one)
    server("burn 0.2")  # held by nobody: another program
    for each in (one, other):
        house.tick(each)
    paid = [lent_s(each, begun[each.pid]) - before[each.pid] for each in (one, other)]
    assert paid == pytest.approx([0.3 + 0.1 + 0.2, 0.3], abs=0.05)
    for each in (one, other):
        assert all(book["closes"] for book in each.last["books"].values())
        (reading,) = each.last["readings"]
        own_s, lent = (each.last["cpu_ns"] - begun[each.pid]) / 1e9, paid[each is other]
        assert lent - 0.02 <= reading[1] <= lent + own_s + 0.02  # two counts of 10 ms, of the host or of its
        assert "alignment:tick" not in reading[3]
    records = next(found for pid, found in house.rings().items() if pid in begun)
    assert_every_record_is_booked_once(records)
    lent = [sum(pool.lent_ns) for pool in records[-1].pools]
    assert sum(lent) / 1e9 == pytest.approx(sum(paid), abs=0.03)  # its clock, in steps of 10 ms, runs ahead of the host
    # The books of the host hold it once: own CPU and what was lent are parts of the host's CPU, never more.
    power = records[-1].sources[0]
    assert power.other_nj / J / WATTS_PER_CPU >= 0.2


def test_a_worker_is_no_companion_though_the_pattern_names_it(house: House) -> None:
    one, other = house.process("service"), house.process("service")
    for each in (one, other):
        each(f"pool python *{house.folder}*")
        house.tick(each)
    one("section python 1")
    other("burn 0.2")
    for each in (one, other):
        house.tick(each)
    (records,) = (found for pid, found in house.rings().items() if pid == one.pid)
    assert sum(sum(pool.lent_ns) for pool in records[-1].pools) == 0
    assert_every_record_is_booked_once(records)


class Machine:
    """A machine with one GPU: its lines, and its energy so far."""

    def __init__(self, house: House) -> None:
        self.house, self.joules = house, 0.0
        self.file = Path(house.env["FAKE_NVML"])
        self.set()

    def set(self, joules: float = 0, users: dict[int, int] | None = None) -> None:
        self.joules += joules
        lines = [f"gpu 0 energy_mj={self.joules * 1000:.0f} util=50"]
        lines += [f"process 0 {pid} {LATER_US} {used}" for pid, used in (users or {}).items()]
        self.file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def gpu_house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "driver").mkdir()
    driver = build(tmp_path / "driver")
    house = House(tmp_path, LD_LIBRARY_PATH=str(driver), FAKE_NVML=str(tmp_path / "machine"))
    yield house
    house.close()


def gpu_of(house: House, each: Process) -> tuple[State, Any]:
    (records,) = house.rings().values()
    assert_every_record_is_booked_once(records)
    return records[-1], records[-1].sources[2]


def test_one_reader_tells_every_workers_share_of_a_gpu(gpu_house: House) -> None:
    """By the utilisation of each worker's process; what other processes used is nobody's here."""
    house, board = gpu_house, Machine(gpu_house)
    one, other = house.process("service"), house.process("service")
    for each in (one, other):
        each("section gpu 1")
    board.set(100, {one.pid: 30, other.pid: 10, 1: 40})
    house.tick(one)
    board.set(80, {other.pid: 40})
    house.tick(other)
    house.tick(one)
    state, totals = gpu_of(house, one)
    seats = [state.seat_of(each.pid, each.start) for each in (one, other)]
    assert [totals.mine[seat] for seat in seats] == [37.5 * J, 92.5 * J]
    assert (totals.energy_nj, totals.other_nj) == (180 * J, 50 * J)
    for each, mine in ((one, 37.5 * J), (other, 92.5 * J)):
        each("release")
        house.tick(each)
        assert each.last["books"][GPU]["mine_nj"] == mine
        assert each.last["books"][GPU]["closes"]
        (reading,) = each.last["readings"]
        assert "gpu:shared-unknown" not in reading[3]
        assert reading[2] > 0
    # Busy half of the time: what the workers were told sums to what was theirs of it.
    state, _ = gpu_of(house, one)
    busy_s = sum(each.last["readings"][0][2] for each in (one, other))
    assert busy_s == pytest.approx(sum(state.pools[0].lent_ns) / 1e9, abs=1e-6)


def test_where_no_driver_tells_users_the_sections_of_all_workers_share_a_gpu_and_are_flagged(gpu_house: House) -> None:
    house, board = gpu_house, Machine(gpu_house)
    one, other = house.process("service"), house.process("service")
    house.tick(one)
    one("section gpu 1.5")
    other("section gpu:0 4.5")
    house.tick(other)
    board.set(100)
    time.sleep(0.05)
    house.tick(one)
    for each in (one, other):
        each("release")
        house.tick(each)
    gpu_of(house, one)
    mine = [each.last["books"][GPU]["mine_nj"] for each in (one, other)]
    assert sum(mine) == 100 * J
    assert mine[1] / mine[0] == pytest.approx(3, rel=0.05)
    for each in (one, other):
        assert "gpu:shared-unknown" in each.last["readings"][0][3]


def test_power_that_workers_integrate_in_turn_is_integrated_once(gpu_house: House) -> None:
    house = gpu_house
    Path(house.env["FAKE_NVML"]).write_text("gpu 0 power_mw=100000 util=50\n")
    one, other = house.process("service"), house.process("service")
    for _ in range(3):
        for each in (one, other):
            each("burn 0.01")
            house.tick(each)
    (records,) = house.rings().values()
    assert_every_record_is_booked_once(records)
    both = [state for state in records if sum(state.active) == 2]
    first, last = both[0], both[-1]
    energy_j = (last.sources[2].energy_nj - first.sources[2].energy_nj) / J
    assert energy_j == pytest.approx(100 * (last.t_ns - first.t_ns) / 1e9, rel=1e-3)


# -- levels


class Clock:
    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def levels(tmp_path: Path) -> Iterator[Levels]:
    ring = Ring(tmp_path / "ring", 1, 1)
    ring.open()
    yield ring.levels
    ring.close()


def test_what_is_held_is_known_at_any_moment_without_asking(levels: Levels) -> None:
    clock = Clock()
    sections = Sections(clock)
    early = sections_of(sections, "gpu", 2)
    early.__enter__()
    sections.share(Board(levels, 5, {"gpu": (0,), "llama": (1,)}, clock))
    clock.ns += 1_000
    assert levels.read(5, 0, clock.ns) == 2e6 * 1_000
    with sections_of(sections, "llama", 3):
        clock.ns += 10
        early.weight = 5
        clock.ns += 10
    assert levels.read(5, 0, clock.ns) == 2e6 * 1_010 + 5e6 * 10
    assert levels.read(5, 1, clock.ns + 99) == 3e6 * 20
    early.__exit__(None, None, None)
    assert levels.read(5, 0, clock.ns + 10**12) == 2e6 * 1_010 + 5e6 * 10
    sections.share(None)
    with sections_of(sections, "llama", 3):
        clock.ns += 10
    assert levels.read(5, 1, clock.ns) == 3e6 * 20


def test_a_companion_that_is_given_another_place_holds_from_then_on(levels: Levels) -> None:
    clock = Clock()
    sections = Sections(clock)
    sections.share(Board(levels, 0, {}, clock))
    with sections_of(sections, "llama", 1):
        clock.ns += 5
        sections.place("llama", 2)
        clock.ns += 7
        assert levels.read(0, 2, clock.ns) == 7e6
        sections.place("llama", None)
        clock.ns += 11
        assert levels.read(0, 2, clock.ns) == 7e6


def test_a_cell_torn_by_a_dead_writer_is_unknown(levels: Levels) -> None:
    levels.write(1, 0, 5.0, 7, 100)
    assert levels.read(1, 0, 101) == 12.0
    levels._map[levels._at(1, 0)] ^= 0xFF
    assert levels.read(1, 0, 101) is None
    assert levels.read(SEATS - 1, levels.places - 1, 10) == 0.0
    assert levels._at(SEATS - 1, levels.places - 1) + CELL_BYTES == Ring(Path("x"), 1, 1)._records_at


def sections_of(sections: Sections, pool: str, weight: float) -> Any:
    return Section(sections, pool, 1, weight)


# -- by arithmetic alone


def state_with(*active: int) -> State:
    ring = Ring(Path("unused"), 2, 1)
    state = State([0] * ring._count, 1 + COMPANIONS)
    for i, flag in enumerate(active):
        state.pids[i], state.starts[i], state.outer[i], state.active[i] = 100 + i, 1, 100 + i, flag
    return state


def of_seats(*values: int) -> list[int]:
    return [*values, *[0] * (SEATS - len(values))]


def test_what_a_dead_worker_held_is_nobody_elses() -> None:
    state = state_with(1, 1)
    pool = state.pools[1]
    lent = [Lent(pool, 400, held_since(pool, [30.0, 10.0, *[None] * (SEATS - 2)]))]
    dead: list[int | None] = [50, None, *[0] * (SEATS - 2)]
    step = advance(state, t_ns=1, boot_ns=0, host_ns=1_000, cpus=1, raw_ns=dead, companions=lent)
    assert (step.cpu_ns[:2], step.whole_ns) == ([350, 0], 1_000)
    assert (pool.used_ns, pool.lent_ns[:2], state.cpu_ns[0]) == (400, [300, 0], 50)


@given(
    st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**9), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 10**10),
    st.integers(0, 10**10),
    st.integers(0, 10**14),
    st.one_of(st.none(), st.dictionaries(st.integers(98, 108), st.integers(0, 100))),
)
def test_whatever_workers_hold_and_drivers_tell_each_joule_of_a_record_is_booked_once(
    seats: list[tuple[int, int, bool]], used_ns: int, others_ns: int, energy: int, users: dict[int, int] | None
) -> None:
    """``seats``: CPU, what is held of both pools, and whether it is alive; some processes are no worker's."""
    state = state_with(*[1] * len(seats))
    gpu, companion = state.pools[0], state.pools[1]
    levels: list[float | None] = [*[float(held) for _, held, _ in seats], *[None] * (SEATS - len(seats))]
    lent = [Lent(companion, used_ns, held_since(companion, levels))]
    held = held_since(gpu, levels)
    raw_ns: list[int | None] = [*[ns if alive else None for ns, _, alive in seats], *[0] * (SEATS - len(seats))]
    workers_ns = sum(ns for ns, _, alive in seats if alive)
    host_ns = workers_ns + used_ns + others_ns
    step = advance(state, t_ns=1, boot_ns=0, host_ns=host_ns, cpus=4, raw_ns=raw_ns, companions=lent)
    use = use_of(state, users, {100 + i: i for i in range(len(seats))}, held)
    divide(state, gpu, used_ns, use.weights, use.whole)
    sample = Sample(energy, energy, energy)
    book(state, step, 0, sample, energy // 3, "configured", 0.5)
    book(state, step, 1, sample, energy // 3, "configured", 0.5, use)
    for totals in state.sources:
        assert sum(totals.mine) + totals.idle_nj + totals.other_nj + totals.gap_nj == totals.energy_nj == energy
        assert sum(totals.held) <= totals.idle_nj
    assert step.workers_ns == sum(state.cpu_ns) + sum(companion.lent_ns) <= step.whole_ns
    for pool in (gpu, companion):
        assert sum(pool.lent_ns) <= pool.used_ns == used_ns
    for i, (_, _, alive) in enumerate(seats):
        if not alive:
            assert companion.lent_ns[i] == gpu.lent_ns[i] == state.sources[1].mine[i] == 0


def test_a_gpu_is_shared_by_what_drivers_tell_else_by_sections_else_evenly() -> None:
    state = state_with(1, 1, 0)
    held = of_seats(1, 3)
    assert use_of(state, {100: 30, 7: 20, 55: 50}, {100: 0, 7: 1}, held) == (of_seats(30, 20), 100, True)
    assert use_of(state, {55: 50}, {}, held) == (of_seats(1, 3), 4, False)
    assert use_of(state, None, {}, of_seats()) == (of_seats(1, 1), 2, False)
    # The share of one who does not bill through the ring is not the others'.
    assert use_of(state, {100: 30, 102: 30}, {100: 0, 102: 2}, held) == (of_seats(30), 60, True)


def test_a_child_is_its_nearest_worker_s(tmp_path: Path) -> None:
    for pid, parent in ((10, 1), (20, 10), (30, 20), (40, 41), (41, 40)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (x) S {parent} " + "0 " * 50)
    assert [forebear(pid, {10, 20}, tmp_path) for pid in (10, 30, 20, 40, 99)] == [10, 20, 20, None, None]


# -- in this process


def test_a_forked_child_leaves_its_parents_cells_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / "run"))
    model: Any = CpuModelSource(declared_cpu(idle_watts=10, full_watts=90))
    with metered(sources=model, workers="shared") as (meter, _):
        meter.pool("server", command="no-such-program")
        meter.settle()
        ring = Ring(next((tmp_path / "run").iterdir()), 1)
        ring.open()
        ring.file.unlock()
        section = meter.open_span("block").section("server", weight=2)
        section.__enter__()
        place = next(i for i, pool in enumerate(ring.last().pools) if pool.key)
        now = time.monotonic_ns()
        grown = ring.levels.read(0, place, now + 1_000) - ring.levels.read(0, place, now)  # type: ignore[operator]
        assert grown == pytest.approx(2e6 * 1_000, rel=1e-3)
        child = os.fork()
        if not child:
            section.__exit__(None, None, None)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        later = ring.levels.read(0, place, now + 2_000)
        assert later == pytest.approx(ring.levels.read(0, place, now) + 2e6 * 2_000, rel=1e-6)  # type: ignore[operator]
        section.__exit__(None, None, None)
        burn(0.001)
        ring.close()


def test_more_companions_than_places_are_said_and_cost_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / "run"))
    model: Any = CpuModelSource(declared_cpu(idle_watts=10, full_watts=90))
    with metered(sources=model, workers="shared") as (meter, out):
        for i in range(COMPANIONS + 1):
            meter.pool(f"server-{i}", command=f"no-such-program-{i}")
        with meter.measure("work"):
            burn(0.002)
        meter.settle()
        meter.settle()
        assert meter.errors == {"workers": 1}
        assert out.readings[-1].cpu_s is not None
        assert len({pool.key for pool in last_state(tmp_path).pools if pool.key}) == COMPANIONS


def last_state(tmp_path: Path) -> State:
    ring = Ring(next((tmp_path / "run").iterdir()), 1)
    ring.open()
    state = ring.last()
    ring.close()
    return state
