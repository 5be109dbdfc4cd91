"""The books of a host: each nanojoule divided once over its services, and counted on by the next agent."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_house import Host as Trees

from frugal_meter.agent.accounts import KEPT, Account, Member
from frugal_meter.agent.host import Host, Totals
from frugal_meter.agent.memory import Memory, boot_id, recall, remember
from frugal_meter.attribution.idle import Baseline
from frugal_meter.errors import ConfigurationError
from frugal_meter.ring.peers import Peers
from frugal_meter.sources import Sample, Source, Window, rapl
from frugal_meter.sources.agent_protocol import Part
from frugal_meter.sources.procfs import HostCpu

SECOND = 1_000_000_000


class Clock:
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.ns = 5 * SECOND

    def __call__(self) -> int:
        return self.ns


class Machine:
    """A host over trees on disk and a clock of the test's."""

    def __init__(self, folder: Path, *, idle_watts: float = 1.0) -> None:
        self.trees, self.clock = Trees(folder), Clock()
        self.faults: list[str] = []
        self.idle_watts = idle_watts
        self.host = self.begin()

    def begin(self) -> Host:
        sources: list[Source] = list(rapl.discover(self.trees.powercap.root).sources)
        baselines = [Baseline(self.idle_watts), Baseline(0.0)]
        probe = HostCpu(self.trees.machine.proc, self.trees.machine.sys)
        return Host(
            sources, baselines, probe, fault=lambda stage, error: self.faults.append(f"{stage}: {error}"), clock=self.clock
        )

    def service(self, name: str, share: float | None = None) -> tuple[Account, Member]:
        member = Member(None, None, share)
        account = self.host.account(name)
        account.members.add(member)
        member.say(0, 0)
        return account, member

    def step(self, joules: float, cpu_seconds: float, *, seconds: float = 1.0, dram: float = 0.0) -> None:
        self.trees.draw(joules, dram=dram, cpu_seconds=cpu_seconds)
        self.clock.ns += round(seconds * SECOND)
        self.host.read()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_dynamic_energy_follows_cpu_and_idle_follows_the_slice(machine: Machine) -> None:
    one, member = machine.service("one")
    other, neighbour = machine.service("other")
    since = machine.host.tell(one, 0).t1_ns
    machine.host.tell(other, 0)
    member.say(SECOND, 0)
    neighbour.say(SECOND // 2, 0)
    machine.step(11, 2.0)
    told, theirs = (machine.host.tell(account, since).parts["cpu"] for account in (one, other))
    # 11 J in a second, 1 J of them idle; 2 CPU-seconds of the host, 1 and a half of them theirs
    assert told == Part(11 * SECOND, told.low_nj, told.high_nj, SECOND, 0, 5 * SECOND, SECOND // 2, None, "configured")
    assert (theirs.mine_nj, theirs.held_nj) == (2_500_000_000, 250_000_000)
    assert machine.host.tell(one, since).own_ns == SECOND


def test_declared_shares_of_the_host_never_add_up_to_more_than_all_of_it(machine: Machine) -> None:
    accounts = [machine.service(str(i), share)[0] for i, share in enumerate((0.5, 0.5, 0.7, None))]
    (since,) = {machine.host.tell(account, 0).t1_ns for account in accounts}
    machine.step(10, 1.0)
    held = [machine.host.tell(account, since).parts["cpu"].held_nj for account in accounts]
    assert sum(held) <= SECOND
    assert held[0] == held[1] < held[2]
    assert held[3] == 0  # it has used nothing


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_any_services_sum_to_no_more_than_the_host(tmp_path: Path, seed: int) -> None:
    any_ = random.Random(seed)
    machine = Machine(tmp_path, idle_watts=any_.choice([0.0, 0.5, 3.0]))
    services = [machine.service(str(i), any_.choice([None, None, 0.1, 0.9])) for i in range(any_.randint(1, 9))]
    (since,) = {machine.host.tell(account, 0).t1_ns for account, _ in services}
    cpu = [0] * len(services)
    for _ in range(5):
        for i, (_, member) in enumerate(services):
            cpu[i] += any_.randint(0, SECOND // 3)
            member.say(cpu[i], any_.randint(0, 1000))
        # the host's coarse counter may show less than its services have used, or much more
        machine.step(any_.random() * 20, any_.choice([0.0, 0.01, 2.0]), dram=any_.random())
    for component, source in (("cpu", 0), ("dram", 1)):
        parts = [machine.host.tell(account, since).parts[component] for account, _ in services]
        totals = machine.host.totals[source]
        assert {part.energy_nj for part in parts} == {totals.energy_nj}
        assert all(part.can_be for part in parts)
        assert sum(part.mine_nj for part in parts) + totals.idle_nj + totals.gap_nj <= totals.energy_nj
        assert sum(part.held_nj for part in parts) <= totals.idle_nj
    assert machine.faults == []


def test_a_sensor_that_vanishes_is_silent_and_its_return_is_a_gap(machine: Machine) -> None:
    account, _ = machine.service("one")
    first = machine.host.tell(account, 0).t1_ns
    machine.trees.powercap.vanish(machine.trees.package)
    machine.clock.ns += SECOND
    machine.host.read()
    away = machine.host.tell(account, first)
    assert away.parts["cpu"].silent
    assert not away.parts["dram"].silent
    machine.trees.powercap.restore(machine.trees.package)
    machine.step(8, 1.0)
    back = machine.host.tell(account, away.t1_ns).parts["cpu"]
    assert (back.gap, back.gap_nj, back.energy_nj, back.mine_nj) == ("vanished", 8 * SECOND, 8 * SECOND, 0)
    assert back.can_be


def test_a_source_that_fails_is_counted_and_the_others_go_on(machine: Machine) -> None:
    class Broken:
        name = component = "cpu"

        def read(self, window: Window) -> Sample | None:
            if window.t1_ns == window.t0_ns:
                return None
            raise RuntimeError("no")

        def close(self) -> None:
            pass

    broken: Any = Broken()
    sources = [broken, *rapl.discover(machine.trees.powercap.root).sources]
    probe = HostCpu(machine.trees.machine.proc, machine.trees.machine.sys)
    host = Host(sources, [Baseline(0.0)] * 3, probe, fault=lambda stage, error: machine.faults.append(stage), clock=machine.clock)
    machine.trees.draw(3)
    machine.clock.ns += SECOND
    host.read()
    assert machine.faults == ["source"]
    assert host.totals[1].energy_nj == 3 * SECOND
    assert host.up == [False, True, True]
    host.close()


def test_an_account_remembers_only_so_many_records(machine: Machine) -> None:
    account, _ = machine.service("one")
    first = machine.host.tell(account, 0).t1_ns
    for _ in range(KEPT):
        machine.step(1, 0.1, seconds=0.1)
        last = machine.host.tell(account, 0).t1_ns
    assert machine.host.tell(account, first).t0_ns == 0  # forgotten: told so, not guessed
    assert machine.host.tell(account, last).t0_ns == last
    assert len(account.told) <= KEPT


def test_a_process_that_says_its_count_anew_is_counted_from_there() -> None:
    account, member, peers = Account(1), Member(None, None, None), Peers()
    account.members.add(member)
    member.say(5 * SECOND, 0)
    assert account.used_ns(peers, SECOND) == 0
    member.say(5 * SECOND + 7, 3)
    assert account.used_ns(peers, SECOND) == 10
    member.say(4, 0)  # another process under the same name
    assert account.used_ns(peers, SECOND) == 0
    member.say(9, 0)
    assert account.used_ns(peers, SECOND) == 5
    member.say(10**15, 10**15)  # more than the whole host can have done
    assert account.used_ns(peers, SECOND) == SECOND


# -- the next agent


def test_the_next_agent_counts_on_and_books_the_time_between_as_a_gap(machine: Machine, tmp_path: Path) -> None:
    file, boot = tmp_path / "state", boot_id()
    machine.step(10, 1.0)
    remember(file, machine.host, boot)
    before = list(machine.host.totals)
    machine.host.close()
    machine.trees.draw(6)
    machine.clock.ns += 2 * SECOND
    machine.host = machine.begin()
    assert recall(file, machine.host, boot)
    cpu = machine.host.totals[0]
    assert cpu.energy_nj == before[0].energy_nj + 6 * SECOND
    assert cpu.gap_nj == 6 * SECOND
    assert cpu.reason == "agent-restart"
    machine.step(5, 1.0)
    assert machine.host.totals[0].energy_nj == 21 * SECOND
    assert machine.host.totals[0].gap_nj == 6 * SECOND


def test_a_counter_that_began_anew_meanwhile_adds_nothing(machine: Machine, tmp_path: Path) -> None:
    file, boot = tmp_path / "state", boot_id()
    machine.trees.draw(1000)
    machine.step(10, 1.0)
    remember(file, machine.host, boot)
    machine.trees.powercap.set(machine.trees.package, 5_000_000)
    machine.clock.ns += SECOND
    machine.host = machine.begin()
    recall(file, machine.host, boot)
    cpu = machine.host.totals[0]
    assert cpu.energy_nj == 1010 * SECOND
    assert (cpu.gap_nj, cpu.reason) == (0, "reset")


@pytest.mark.parametrize("change", [{"boot": "another"}, {"version": 0}, {"t_ns": 10**18}])
def test_a_memory_of_another_boot_version_or_time_is_left_aside(machine: Machine, tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "state"
    told = {"version": 1, "boot": "this", "t_ns": 0, "totals": {"rapl:package-0": Totals(7)}, "marks": {}, **change}
    file.write_bytes(msgspec.json.encode(told))
    assert not recall(file, machine.host, "this")
    assert machine.host.totals[0] == Totals()


def test_a_memory_that_was_cut_off_is_none_and_one_that_cannot_be_read_is_told(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "state"
    remember(file, machine.host, "this")
    assert msgspec.json.decode(file.read_bytes(), type=Memory).boot == "this"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(file.read_bytes()[:20])
    assert not recall(file, machine.host, "this")
    assert not recall(tmp_path / "none", machine.host, "this")
    with pytest.raises(ConfigurationError, match="--state"):
        recall(tmp_path, machine.host, "this")
