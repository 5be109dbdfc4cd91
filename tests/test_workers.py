"""Several workers of one service, real processes on one host: each pays for its own, and all of it is booked once."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exchange import samples
from support import assert_books_close, burn, metered
from worker_house import House, Process, assert_every_record_is_booked_once
from worker_process import WATTS_PER_CPU

from frugal_meter import Meter
from frugal_meter.errors import ConfigurationError
from frugal_meter.ring.peers import started
from frugal_meter.ring.records import SEATS, Ring, State, moved
from frugal_meter.sources.power_model import CpuModelSource
from frugal_meter.sources.watts import declared_cpu
from frugal_meter.testing import FrozenClock, SyntheticSource


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def test_four_workers_a_second_service_and_a_neighbour_bill_every_joule_once(house: House) -> None:
    """Ticks out of phase, work slotted at their period, one worker killed and replaced."""
    workers = [house.process("service") for _ in range(4)]
    second, neighbour = house.process("second"), house.process("neighbour")
    everybody = list(workers)
    begun = {each.pid: each.last["cpu_ns"] for each in everybody}
    for each in (*workers, second):
        each("hold")
    for turn in range(12):
        for slot, each in enumerate(workers):
            each("burn 0.010" if slot else "burn 0.040")  # the first always just before the second's tick
            if slot == 2:
                for other in (workers[3], second, neighbour):
                    other.begin("burn 0.015")
                for other in (workers[3], second, neighbour):
                    other.end()
            house.tick(workers[(slot + 1) % 4])
        house.tick(second)
        if turn == 5:
            workers[3]("burn 0.02")  # never billed to anybody: it dies before a tick
            workers[3].kill()
            workers[3] = house.process("service")
            everybody.append(workers[3])
            begun[workers[3].pid] = workers[3].last["cpu_ns"]
    for each in (*workers, second):
        house.tick(each)
    records = next(found for pid, found in house.rings().items() if pid in begun)
    assert len(house.rings()) == 3
    assert_every_record_is_booked_once(records)
    for each in everybody:
        books = each.last["books"]
        assert all(book["closes"] for book in books.values())
        true_j = (each.last["cpu_ns"] - begun[each.pid]) / 1e9 * WATTS_PER_CPU
        for source, book in books.items():
            assert book["mine_nj"] / 1e9 == pytest.approx(true_j, rel=0.03), source
    assert_ticks_add_up_to_the_records(everybody, records)


def assert_ticks_add_up_to_the_records(everybody: list[Process], records: list[State]) -> None:
    """What a worker booked is what its seat had been given at one of the records; all idle slices lie within idle."""
    last = records[-1]
    assert last.seat_of(everybody[3].pid, everybody[3].start) is None
    for i, source in enumerate(("power", "rapl:package-0")):
        totals, held = last.sources[i], 0
        for each in everybody:
            mine = [s.sources[i].mine[at] for s in records if (at := s.seat_of(each.pid, each.start)) is not None]
            book = each.last["books"][source]
            assert book["mine_nj"] in [moved(nj, mine[0]) for nj in mine]
            # after its last tick: the killed one's last slot (0.1 J), but not what it burned after the last record (0.2 J)
            assert moved(mine[-1], mine[0]) - book["mine_nj"] < 0.15e9
            held += book["held_nj"]
        assert held <= totals.idle_nj
        assert (held > 0) == (source == "power")
        assert totals.energy_nj == sum(totals.mine) + totals.idle_nj + totals.gap_nj + totals.other_nj


def test_a_counter_loses_nothing_when_its_reader_dies(house: House) -> None:
    """Joules that only the dead one had read are in its records; those that nobody had are in the next one's."""
    one, other = house.process("service"), house.process("service")
    house.tick(one)
    house.tick(other)
    (before,) = house.rings().values()
    for joules, reader in ((5.0, one), (7.0, None), (11.0, other)):
        house.tree.advance(house.zone, joules=joules)
        if reader is None:
            one.kill()
        else:
            assert reader("tick")["errors"] == {}
    (after,) = house.rings().values()
    assert_every_record_is_booked_once(after)
    told = [state.sources[1].energy_nj for state in after if state.seq >= before[-1].seq]
    assert [later - earlier for earlier, later in itertools.pairwise(told)] == [5_000_000_000, 18_000_000_000]


def test_the_last_worker_takes_the_file_away(house: House) -> None:
    one, other = house.process("service"), house.process("service")
    one("stop")
    assert len(house.rings()) == 1
    other("stop")
    assert list((house.folder / "run").iterdir()) == []


# -- in this process


def host_model() -> Any:
    return CpuModelSource(declared_cpu(idle_watts=10, full_watts=90))


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def test_a_worker_on_its_own_bills_as_it_always_did(run_dir: Path) -> None:
    with metered(sources=host_model()) as (meter, out):
        with meter.measure("work"):
            burn(0.01)
        meter.settle()
        assert meter.sampler._workers is not None
        assert not meter.sampler._workers.sharing
        assert_books_close(out.ticks)
        assert "alignment:tick" not in out.readings[-1].flags
    assert list(run_dir.iterdir()) == []


def test_a_second_worker_makes_the_first_one_share_at_its_next_tick(run_dir: Path) -> None:
    with metered(sources=host_model()) as (meter, out):
        workers = meter.sampler._workers
        assert workers is not None
        ring = Ring(next(run_dir.iterdir()), 1)
        ring.open()
        state = ring.last()
        start = started(os.getppid())
        assert start is not None
        state.pids[SEATS - 1], state.starts[SEATS - 1] = os.getppid(), start
        ring.append(state)
        ring.file.unlock()
        with meter.measure("alone"):
            burn(0.01)
        meter.settle()
        assert workers.sharing
        with meter.measure("shared"):
            burn(0.01)
        meter.settle()
        ring.file.lock()
        assert len(list(ring.records())) == 4
        ring.close()
        assert_books_close(out.ticks)
        alone, shared = out.readings
        assert alone.energy_dynamic_j is not None  # 0 where the host's counter, in steps of 10 ms, did not move
        assert shared.energy_dynamic_j is not None
        assert shared.energy_low_j <= shared.energy_full_j <= shared.energy_high_j
        assert meter.errors == {}


def test_no_counter_falls_when_a_second_worker_comes_nor_when_the_meter_is_stopped_and_started(run_dir: Path) -> None:
    def told() -> dict[Any, float]:
        assert sum(samples(meter, "frugal_books_difference_joules").values()) == 0
        names = (
            "frugal_host_energy_joules_total",
            "frugal_unattributed_energy_joules_total",
            "frugal_overhead_energy_joules_total",
        )
        every = {(name, key): joules for name in names for key, joules in samples(meter, name).items()}
        host, attributed = sum(samples(meter, names[0]).values()), sum(samples(meter, "frugal_energy_joules_total").values())
        assert sum(samples(meter, names[1]).values()) + attributed == pytest.approx(host, abs=1e-8)
        return every

    def work() -> dict[Any, float]:
        with meter.measure("work"):
            burn(0.03)
        assert meter.settle()
        return told()

    meter, seen = Meter("x", zone="FR", sources=host_model(), tick=60), []
    for _ in range(2):
        with meter:
            seen.append(work())
            ring = Ring(next(run_dir.iterdir()), 1)
            ring.open()
            state = ring.last()
            state.pids[SEATS - 1], state.starts[SEATS - 1] = os.getppid(), started(os.getppid()) or 0
            ring.append(state)
            ring.file.unlock()
            seen += [work(), work()]  # a tick that still is its own, and one by the records
            workers = meter.sampler._workers
            assert workers is not None
            assert workers.sharing
        seen.append(told())
        ring.close()
        next(run_dir.iterdir()).unlink()  # as the last one to leave does: the next ring is another one
    for before, after in itertools.pairwise(seen):
        for key, joules in before.items():
            assert after[key] >= joules, key


def test_a_run_folder_that_another_user_could_enter_is_not_met_in_and_the_figures_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRUGAL_RUN_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/23.0.0")
    (tmp_path / "frugal-meter").mkdir()
    (tmp_path / "frugal-meter").chmod(0o777)
    with metered(sources=host_model()) as (meter, out):
        with meter.measure("work"):
            burn(0.001)
        assert meter.settle()
        assert "alignment:tick" in out.readings[-1].flags
        assert set(meter.errors) == {"share", "workers"}
    assert list((tmp_path / "frugal-meter").iterdir()) == []


def _written_over(path: Path, meter: Meter) -> None:
    with path.open("r+b") as file:
        file.write(random.Random(7).randbytes(path.stat().st_size))


def _emptied(path: Path, meter: Meter) -> None:
    with path.open("r+b") as file:
        file.seek(64)
        file.write(bytes(path.stat().st_size - 64))


def _taken_away(path: Path, meter: Meter) -> None:
    path.unlink()


def _given_to_another(path: Path, meter: Meter) -> None:
    ring = Ring(path, 1)
    ring.open()
    state, start = ring.last(), started(os.getppid())
    assert start is not None
    state.pids[0], state.starts[0] = os.getppid(), start
    ring.append(state)
    ring.close()


@pytest.mark.parametrize("harm", [_written_over, _emptied, _taken_away, _given_to_another])
def test_a_worker_whose_seat_is_gone_takes_another_and_bills_on(run_dir: Path, harm: Any) -> None:
    with metered(sources=host_model(), workers="shared") as (meter, out):
        for again in range(4):
            if again == 1:
                harm(next(run_dir.iterdir()), meter)
            with meter.measure("work"):
                burn(0.05)
            assert meter.settle()
        assert_books_close(out.ticks)
        assert all((reading.energy_dynamic_j or 0) > 0 for reading in out.readings)
        assert sum(tick.energy_nj for tick in out.ticks) < 90e9 * meter.sampler.probe.cpus() * 60
        assert meter.errors == {"workers": 1}
        workers = meter.sampler._workers
        assert workers is not None
        assert workers.sharing
        assert sum(samples(meter, "frugal_books_difference_joules").values()) == 0
        (host,) = samples(meter, "frugal_host_energy_joules_total").values()
        assert host == pytest.approx(sum(tick.energy_nj for tick in out.ticks) / 1e9)


def test_two_meters_of_one_process_are_not_two_workers(run_dir: Path) -> None:
    with metered(sources=host_model()) as (one, _), metered(sources=host_model()) as (other, out):
        with other.measure("work"):
            burn(0.005)
        other.settle()
        one.settle()
        assert_books_close(out.ticks)
        assert not any(each.sampler._workers.sharing for each in (one, other) if each.sampler._workers)


def test_a_reader_that_holds_its_turn_costs_a_tick_and_no_energy(run_dir: Path) -> None:
    with metered(sources=host_model(), workers="shared") as (meter, out):
        ring = Ring(next(run_dir.iterdir()), 1)
        ring.open()
        with meter.measure("work"):
            burn(0.01)
        assert not meter.settle()
        assert meter.errors == {"tick": 1}
        ring.close()
        assert meter.settle()
        assert_books_close(out.ticks)
        assert out.readings[-1].energy_dynamic_j is not None


def test_a_full_house_leaves_a_worker_alone_and_its_figures_say_so(run_dir: Path) -> None:
    with metered(sources=host_model()) as (_, _):
        ring = Ring(next(run_dir.iterdir()), 1)
        ring.open()
        state = ring.last()
        start = started(os.getppid())
        assert start is not None
        state.pids, state.starts = [os.getppid()] * SEATS, [start] * SEATS
        ring.append(state)
        ring.file.unlock()
        with metered(sources=host_model()) as (meter, out):
            with meter.measure("work"):
                burn(0.002)
            meter.settle()
            assert "alignment:tick" in out.readings[-1].flags
        ring.close()


def test_energy_of_one_process_is_never_shared_and_what_cannot_be_is_refused(tmp_path: Path, run_dir: Path) -> None:
    assert Meter("one", zone="FR", sources=SyntheticSource(1, 1)).sampler._workers is None
    assert Meter("one", zone="FR", sources="model", workers="single").sampler._workers is None
    assert Meter("one", zone="FR", sources="model", clock=FrozenClock()).sampler._workers is None
    with pytest.raises(ConfigurationError, match='"auto", "shared" or "single"'):
        Meter("one", zone="FR", workers="both")
    with pytest.raises(ConfigurationError, match="counts the host"):
        Meter("one", zone="FR", sources=SyntheticSource(1, 1), workers="shared")
    run_dir.mkdir(exist_ok=True)
    run_dir.chmod(0o777)
    with pytest.raises(ConfigurationError, match="mode 0700"):
        Meter("one", zone="FR", sources="model")
