"""A container that has its host's /proc and /sys mounted elsewhere reads the host there, and finds itself in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PATIENCE_S

from frugal_meter import Meter
from frugal_meter.cli.gathering import diagnose
from frugal_meter.errors import ConfigurationError
from frugal_meter.sources.host_root import Roots, host_roots
from frugal_meter.sources.processes import own_pid
from frugal_meter.testing import CgroupTree, PowercapTree, ProcTree

BURN = """
import sys, time
while time.process_time() < float(sys.argv[1]): pass
print(time.process_time(), flush=True)
sys.stdin.readline()
"""

#: in a container of its own: a companion named by its number on the host, that the container's /proc does not even show
INSIDE = """
import json, os, sys, time
from pathlib import Path
from frugal_meter import Meter
from frugal_meter.records import Interval
from frugal_meter.sources import Sample

class HostOf:
    name, component, covers, scope, sensor = "host", "cpu", ("host",), "host", "synthetic"
    tier, method, provenance, resolution_nj = "measured", "synthetic/1", "synthetic", 1
    def read(self, window):
        nj = window.host_busy_ns or 0
        return Sample(nj, nj, nj, 0)
    def close(self): pass

host, server = sys.argv[1], int(sys.argv[2])
with Meter("tests", zone="FR", sources=[HostOf()], tick=60, workers="single", host_root=host) as meter:
    meter.pool("server", pid=server)
    meter.settle()
    with meter.measure("ask") as span, span.section("server"):
        print("ready", flush=True)
        sys.stdin.readline()
    meter.settle()
told = {"own": meter.ledger.companions.own_pid(), "inside": os.getpid(), "hidden": not Path(f"/proc/{server}").exists()}
print(json.dumps({**told, "cpu_s": span.reading.cpu_s, "errors": meter.errors}), flush=True)
"""
#: mounts the real /proc and /sys below a folder, then a /proc of its own, and runs the rest in it
CONTAINER = 'mount --bind /proc $0/proc && mount --rbind /sys $0/sys && mount -t proc proc /proc && exec "$@"'


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = ProcTree(root, cpus=6)
        self.powercap = PowercapTree(root / "sys/class/powercap")
        self.powercap.package(0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


def test_the_hosts_cpus_counters_and_companions_are_read_where_they_are_mounted(host: Host) -> None:
    host.proc.process(4_000_000, command=["llama-server"], cpu_seconds=1)
    meter = Meter("tests", zone="FR", host_root=host.root)
    assert meter.setup.probe.cpus() == 6
    assert "rapl:package-0" in [source.name for source in meter.setup.sources]
    before = meter.setup.probe.busy_ns()
    host.proc.advance(2.5)
    assert meter.setup.probe.busy_ns() - before == 2.5e9
    meter.pool("llama", command="llama-server")
    host.proc.process(4_000_000, command=["llama-server"], cpu_seconds=3)
    assert meter.ledger.companions.read() == {"llama": 2_000_000_000}


def test_the_environment_and_the_file_may_say_where_the_host_is(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "frugal.toml"
    config.write_text(f'[meter]\nservice = "tests"\nzone = "FR"\nhost_root = "{host.root}"\n')
    assert Meter.from_config(config).setup.roots.proc == host.root / "proc"
    monkeypatch.setenv("FRUGAL_HOST_ROOT", "")
    assert host_roots() == Roots()
    monkeypatch.setenv("FRUGAL_HOST_ROOT", str(host.root))
    assert Meter("tests", zone="FR").setup.probe.cpus() == 6
    found = diagnose("auto", {}, host_roots())
    assert (found.host.threads, found.exit_code) == (6, 0)


def test_where_there_is_no_proc_of_a_host_one_line_says_what_to_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").mkdir()
    with pytest.raises(ConfigurationError, match=r"host_root=.*no /proc of a host; mount it there \(docker run -v") as told:
        Meter("tests", zone="FR", host_root=tmp_path)
    assert "\n" not in str(told.value)
    monkeypatch.setenv("FRUGAL_HOST_ROOT", str(tmp_path))
    with pytest.raises(ConfigurationError, match="FRUGAL_HOST_ROOT"):
        Meter("tests", zone="FR")
    for wrong in (5, "", True):
        with pytest.raises(ConfigurationError, match="host_root is the folder"):
            Meter("tests", zone="FR", host_root=wrong)  # type: ignore[arg-type]


def test_without_the_hosts_sys_the_containers_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    roots = host_roots(tmp_path)
    assert (roots.proc, roots.sys, roots.powercap) == (tmp_path / "proc", Path("/sys"), Path("/sys/class/powercap"))
    assert own_pid(roots.proc) == os.getpid()


def test_the_tightest_limit_counts_whichever_of_both_trees_shows_it(host: Host) -> None:
    """The host's tree may name this container's cgroup, or its root only: then the container's own tree knows."""
    tree = CgroupTree(host.root / "sys/fs/cgroup", host.root / "proc")
    tree.enter("/kubepods/pod1")
    tree.limit("/kubepods/pod1", 0.001)  # below any limit that this machine may have
    assert host_roots(host.root).quota_cpus() == 0.001
    tree.enter("/")
    assert host_roots(host.root).quota_cpus() == Roots().quota_cpus()


def containers() -> bool:
    """Whether this process may make a mount and a process namespace."""
    try:
        return subprocess.run(["unshare", "-mpf", "true"], capture_output=True, timeout=PATIENCE_S).returncode == 0
    except OSError:
        return False


# Collected only where namespaces may be made (as root): nothing that could be installed is missing elsewhere.
if containers():

    @pytest.fixture
    def server() -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.readline()\n" + BURN, "0.4"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield process
            process.kill()

    def test_in_a_container_a_process_of_the_host_is_metered_by_its_number_there(
        tmp_path: Path, server: subprocess.Popen[str]
    ) -> None:
        for name in ("proc", "sys"):
            (tmp_path / name).mkdir()
        script = [sys.executable, "-c", INSIDE, str(tmp_path), str(server.pid)]
        with subprocess.Popen(
            ["unshare", "-mpf", "sh", "-c", CONTAINER, str(tmp_path), *script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as container:
            assert container.stdout is not None
            assert server.stdin is not None
            assert server.stdout is not None
            assert container.stdout.readline() == "ready\n"
            server.stdin.write("go\n")
            server.stdin.flush()
            used = float(server.stdout.readline())
            told = json.loads(container.communicate("\n", timeout=PATIENCE_S)[0])
        assert told["errors"] == {}
        assert told["hidden"]
        assert told["own"] != told["inside"]  # one number on the host, another in here
        assert told["cpu_s"] == pytest.approx(used, abs=0.08)
