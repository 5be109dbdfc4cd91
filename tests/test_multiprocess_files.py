"""The files in which workers tell their sums: what is left in them by a worker that died at any instruction."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from exchange import samples
from support import burn

from frugal_meter import Meter
from frugal_meter.exporters.sums import Sums, Total
from frugal_meter.ring.peers import Peers, lives, started
from frugal_meter.testing import SyntheticSource

#: no process has it: numbers end at 2^22 (proc_sys_kernel_pid_max(5))
DEAD = "4194999-1"


@pytest.fixture(autouse=True)
def under_gunicorn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process is a worker, as gunicorn tells its own."""
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/23.0.0")
    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path))
    tmp_path.chmod(0o700)


def a_worker() -> Meter:
    return Meter("files", zone="FR", sources=SyntheticSource(2, 10), tick=60)


def folder(tmp_path: Path) -> Path:
    (found,) = tmp_path.glob("sums-*")
    return found


def own(tmp_path: Path) -> Path:
    return folder(tmp_path) / f"{os.getpid()}-{started()}.sums"


def leave_behind(tmp_path: Path, *, ended: int) -> Sums:
    """A dead worker's files: a copy of this one's snapshot, and a count of requests."""
    told = msgspec.msgpack.decode(own(tmp_path).read_bytes(), type=Sums)
    (folder(tmp_path) / f"{DEAD}.sums").write_bytes(own(tmp_path).read_bytes())
    (folder(tmp_path) / f"{DEAD}.count").write_bytes(ended.to_bytes(8, "little"))
    return told


def requests(meter: Meter) -> dict[str, float]:
    """Requests by outcome, of those that there were any of."""
    out: dict[str, float] = {}
    for key, n in samples(meter, "frugal_requests_total").items():
        out[dict(key)["outcome"]] = out.get(dict(key)["outcome"], 0) + n
    return {outcome: n for outcome, n in out.items() if n}


def work(meter: Meter, times: int) -> None:
    for _ in range(times):
        with meter.measure("work"):
            burn(0.001)
    assert meter.settle()


def test_a_dead_workers_requests_and_joules_are_told_and_folded_into_one_file(tmp_path: Path) -> None:
    with a_worker() as meter:
        work(meter, 3)
        joules = sum(samples(meter, "frugal_energy_joules_total").values())
        leave_behind(tmp_path, ended=5)
        assert requests(meter) == {"ok": 6, "lost": 2}
        assert sum(samples(meter, "frugal_energy_joules_total").values()) == pytest.approx(2 * joules, abs=1e-9)
        assert sum(samples(meter, "frugal_books_difference_joules").values()) == 0
        assert sorted(path.name for path in folder(tmp_path).iterdir()) == sorted(
            ["ended", "lock", own(tmp_path).name, own(tmp_path).with_suffix(".count").name]
        )
        assert requests(meter) == {"ok": 6, "lost": 2}
        assert meter.errors == {}


def test_a_worker_killed_between_folding_and_taking_away_counts_nobody_twice(tmp_path: Path) -> None:
    with a_worker() as meter:
        work(meter, 2)
        told = leave_behind(tmp_path, ended=2)
        total = Total()
        total.add(told)
        total.names = [DEAD]  # as it lies there after the fold, with the files not yet taken away
        (folder(tmp_path) / "ended").write_bytes(msgspec.msgpack.encode(total))
        assert requests(meter) == {"ok": 4}
        (folder(tmp_path) / "4194998-1.count").write_bytes(bytes(8))  # another death, so that somebody folds
        assert requests(meter) == {"ok": 4}
        assert not list(folder(tmp_path).glob("4194*"))


def test_a_snapshot_that_nobody_can_read_is_left_out_and_counted(tmp_path: Path) -> None:
    with a_worker() as meter:
        work(meter, 2)
        leave_behind(tmp_path, ended=1)
        (folder(tmp_path) / f"{DEAD}.sums").write_bytes(b"\xc1 not a record")
        assert requests(meter) == {"ok": 2}
        assert set(meter.errors) == {"share"}


def test_a_sum_of_the_dead_that_nobody_can_read_costs_the_sum_and_not_the_scrape(tmp_path: Path) -> None:
    with a_worker() as meter:
        work(meter, 2)
        (folder(tmp_path) / "ended").write_bytes(b"\xc1 not a record")
        assert requests(meter) == {"ok": 2}
        assert set(meter.errors) == {"share"}


def test_a_disk_that_is_full_costs_the_folding_and_no_counter(tmp_path: Path) -> None:
    with a_worker() as meter:
        work(meter, 3)
        leave_behind(tmp_path, ended=5)
        (folder(tmp_path) / "ended.new").mkdir()  # nothing can be written under this name, as on a full disk
        assert requests(meter) == {"ok": 6, "lost": 2}
        assert set(meter.errors) == {"share"}
        (folder(tmp_path) / "ended.new").rmdir()
        assert requests(meter) == {"ok": 6, "lost": 2}
        assert not list(folder(tmp_path).glob(f"{DEAD}.*"))


@contextlib.contextmanager
def no_file_to_open() -> Iterator[None]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    open_now = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest)]  # below the highest none is free
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_now) + 1, most[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
        for fd in open_now:
            os.close(fd)


def test_a_process_without_a_file_to_open_takes_nobody_for_dead_and_tells_no_counter_that_falls(tmp_path: Path) -> None:
    with a_worker() as meter:
        work(meter, 3)
        leave_behind(tmp_path, ended=3)
        assert requests(meter) == {"ok": 6}
        with no_file_to_open():
            with pytest.raises(OSError, match="Too many open files"):
                lives(os.getpid(), started() or 0)
            assert Peers().cpu_ns(os.getppid(), 1, last_ns=5) == 5
            assert requests(meter) == {"ok": 6}
        assert requests(meter) == {"ok": 6}


def test_cleaners_of_temporary_files_pass_over_the_run_folder_while_a_worker_runs(tmp_path: Path) -> None:
    def clean() -> None:  # what systemd-tmpfiles asks first (tmpfiles.d(5))
        fd = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)

    clean()
    with a_worker() as meter:
        work(meter, 1)
        with pytest.raises(BlockingIOError):
            clean()


def test_a_run_folder_that_is_taken_away_costs_the_sum_and_nothing_else(tmp_path: Path) -> None:
    with a_worker() as meter:
        work(meter, 1)
        found = folder(tmp_path)
        found.rename(tmp_path / "elsewhere")
        work(meter, 2)
        assert requests(meter) == {"ok": 3}, "its own figures go on"
        assert set(meter.errors) == {"share"}


def test_what_a_server_that_is_gone_has_left_is_taken_away(tmp_path: Path) -> None:
    old = tmp_path / f"sums-{DEAD}-{'0' * 24}"
    old.mkdir()
    (old / f"{DEAD}.count").write_bytes(bytes(8))
    orphaned = tmp_path / f"sums-{DEAD}-{'1' * 24}"
    orphaned.mkdir()
    (orphaned / f"{os.getpid()}-{started()}.count").write_bytes(bytes(8))
    with a_worker() as meter:
        assert meter.errors == {}
        assert not old.exists()
        assert orphaned.exists(), "its server was killed, and it still answers"


def test_a_second_meter_of_the_same_name_in_one_process_is_not_another_worker(tmp_path: Path) -> None:
    with a_worker() as meter, a_worker() as second:
        work(meter, 2)
        work(second, 1)
        assert requests(meter) == {"ok": 2}
        assert requests(second) == {"ok": 1}
        assert samples(meter, "frugal_workers") == {(): 1}


def test_a_meter_that_is_started_again_goes_on_from_its_sums(tmp_path: Path) -> None:
    meter = a_worker()
    for times in (2, 3):
        with meter:
            work(meter, times)
    assert requests(meter) == {"ok": 5}
    count = own(tmp_path).with_suffix(".count").read_bytes()[:8]
    assert int.from_bytes(count, "little") == 5


def test_workers_that_are_told_to_be_single_share_nothing(tmp_path: Path) -> None:
    with Meter("files", zone="FR", sources=SyntheticSource(2, 10), tick=60, workers="single") as meter:
        work(meter, 1)
        assert requests(meter) == {"ok": 1}
    assert list(tmp_path.glob("sums-*")) == []
