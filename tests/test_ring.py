"""The ring in a file: what is written whole counts, whatever kills the writer; and the turn to write passes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import PATIENCE_S, burn

from frugal_meter.errors import ConfigurationError
from frugal_meter.ring import election
from frugal_meter.ring.election import run_folder
from frugal_meter.ring.peers import Peers, started
from frugal_meter.ring.records import CAPACITY, COMPANIONS, SEATS, Ring

HERE = Path(__file__).parent


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    ring = Ring(tmp_path / "ring", 2)
    ring.open()
    yield ring
    ring.close()


def write(ring: Ring, energy_nj: int) -> None:
    state = ring.last()
    state.sources[1].energy_nj = energy_nj
    state.sources[1].mine[SEATS - 1] = energy_nj
    ring.append(state)


def test_a_record_comes_back_as_it_was_written(ring: Ring) -> None:
    state = ring.last()
    assert (state.seq, state.taken) == (0, 0)
    values = [1, *range(1_000, 1_000 + len(state.values()) - 1)]
    ring.append(type(state)([0, *values[1:]], COMPANIONS))
    assert ring.last().values() == values
    assert ring.taken == SEATS


def test_the_ring_goes_round_and_says_what_it_no_longer_holds(ring: Ring) -> None:
    for energy in range(1, CAPACITY + 11):
        write(ring, energy)
    kept = [state.seq for state in ring.records()]
    assert kept == list(range(11, CAPACITY + 11))
    assert [state.sources[1].energy_nj for state in ring.records(after=CAPACITY + 8)] == [CAPACITY + 9, CAPACITY + 10]
    assert ring.last().sources[1].energy_nj == CAPACITY + 10  # totals: who comes back late has missed nothing


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 1.0])
def test_a_torn_record_does_not_count(ring: Ring, part: float) -> None:
    for energy in range(CAPACITY):
        write(ring, energy)
    before = ring.last().values()
    at = ring._place(ring.last().seq + 1)
    cut = int(part * ring._step)
    ring.map[at : at + cut] = os.urandom(cut)
    assert ring.last().values() == before
    write(ring, 77)
    assert ring.last().sources[1].energy_nj == 77


def test_a_head_that_names_a_broken_record_is_not_believed(ring: Ring) -> None:
    write(ring, 5)
    write(ring, 6)
    ring.map[ring._place(2) + 100] ^= 0xFF
    assert ring.last().sources[1].energy_nj == 5
    assert [state.seq for state in ring.records()] == [1]


def test_the_turn_is_one_workers_at_a_time(ring: Ring) -> None:
    other = Ring(ring.file.path, 2)
    with pytest.raises(TimeoutError, match="holds its turn"):
        other.open(0)
    ring.file.unlock()
    other.open(0)
    write(other, 9)
    other.close()
    ring.file.lock(0)
    assert ring.last().sources[1].energy_nj == 9


def test_a_turn_is_waited_for_while_its_holder_waits_for_a_processor(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds
        if now_s[0] >= 0.9:
            ring.file.unlock()

    monkeypatch.setattr(election, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep))
    other = Ring(ring.file.path, 2)
    other.open()
    assert 0.9 <= now_s[0] < 1.0
    other.close()


def test_a_file_taken_away_by_the_last_worker_is_made_anew(ring: Ring) -> None:
    write(ring, 9)
    ring.file.remove()
    later = Ring(ring.file.path, 2)
    later.open(0)
    assert later.last().seq == 0
    later.close()


WRITER = """
import mmap, sys
from frugal_meter.ring import records as module
ring = module.Ring(module.Path(sys.argv[1]), 2)
ring.open()
state = ring.last()
state.sources[1].energy_nj = 7
ring.append(state)

class Stops(mmap.mmap):  # the mapping that a reader writes into, killed after some bytes of the next record
    def __setitem__(self, key, data):
        cut = int(float(sys.argv[2]) * len(data))
        super().__setitem__(slice(key.start, key.start + cut), data[:cut])
        print("writing", flush=True)
        sys.stdin.read()

ring._map.close()
ring._map = Stops(ring.file.fd, ring._records_at + module.CAPACITY * ring._step)
state.sources[1].energy_nj = 8
ring.append(state)
"""


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 1.0])
def test_a_reader_killed_while_it_writes_leaves_its_turn_and_the_last_whole_record(tmp_path: Path, part: float) -> None:
    path = tmp_path / "ring"
    command = [sys.executable, "-c", WRITER, str(path), str(part)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        ring = Ring(path, 2)
        with pytest.raises(TimeoutError):
            ring.open(0)
        writer.send_signal(signal.SIGKILL)
        writer.wait(PATIENCE_S)
        ring.open(0)
        assert (ring.last().seq, ring.last().sources[1].energy_nj) == (1, 7)
        write(ring, 20)
        assert [(state.seq, state.sources[1].energy_nj) for state in ring.records()] == [(1, 7), (2, 20)]
        ring.close()


def test_another_process_is_read_by_its_clock_until_it_ends() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from support import burn; burn(0.05); print(flush=1); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(HERE)]
    peers = Peers()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = started(process.pid)
        assert start is not None
        used = peers.cpu_ns(process.pid, start)
        assert used is not None
        assert used >= 50_000_000
        assert peers.cpu_ns(process.pid, start + 1) is None  # the number alone is nobody
        process.kill()
        process.wait(PATIENCE_S)
        assert peers.cpu_ns(process.pid, start) is None
    assert started(process.pid) is None
    own = started()
    assert own is not None
    before = peers.cpu_ns(os.getpid(), own)
    burn(0.002)
    after = peers.cpu_ns(os.getpid(), own)
    assert before is not None
    assert after is not None
    assert after - before >= 2_000_000
    peers.close()


def test_workers_meet_where_nobody_else_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / "given"))
    assert run_folder() == tmp_path / "given"
    monkeypatch.delenv("FRUGAL_RUN_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run_folder() == tmp_path / "frugal-meter"
    assert (tmp_path / "frugal-meter").stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(election.tempfile, "tempdir", str(tmp_path))
    assert run_folder() == tmp_path / f"frugal-meter-{os.getuid()}"


def test_a_folder_that_others_write_into_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("open", "file", "link", "file/below"):
        monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path / name))
        with pytest.raises(ConfigurationError, match=name):
            run_folder()
