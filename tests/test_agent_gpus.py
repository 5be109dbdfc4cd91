"""GPUs through the host agent: read once per host, and each service is told its own joules and nobody else's."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agent_house import Agent, Host, Service
from hypothesis import given
from hypothesis import strategies as st
from nvml_fake import build
from support import PATIENCE_S
from test_agent_running import Container, scraped

from frugal_meter.agent.accounts import WHOLE, Account, Member
from frugal_meter.agent.gpus import divide, owners
from frugal_meter.sources.agent_link import Address, AgentLink
from frugal_meter.testing import PowercapTree, ProcTree

J = 10**9
LATER_US = 10**16
KEY = "gpu:GPU-fake-0"
GPU, OTHER_GPU = "agent:gpu:GPU-fake-0", "agent:gpu:GPU-fake-1"
#: idle is nothing here, so that what a board draws is its users' to the nanojoule; only questions make the agent read
OPTIONS = ("--idle-watts", "gpu=0", "--period", "60")


class Boards:
    """The host's GPUs as the stand-in driver tells of them, each with a counter that the test moves."""

    def __init__(self, folder: Path, count: int = 1, more: str = "util=50") -> None:
        (folder / "driver").mkdir()
        self.file, self.more = folder / "machine", more
        self.env = {"LD_LIBRARY_PATH": str(build(folder / "driver")), "FAKE_NVML": str(self.file)}
        self.joules = [0.0] * count
        self.draw()

    def draw(self, *joules: float, users: dict[int, dict[int, int]] | None = None, more: str | None = None) -> None:
        """Each board has drawn so much more; ``users`` tells utilisation by board and process, ``more`` is of all boards."""
        for i, each in enumerate(joules):
            self.joules[i] += each
        lines = [f"gpu {i} energy_mj={drawn * 1000:.0f} {more or self.more}" for i, drawn in enumerate(self.joules)]
        for i, used in (users or {}).items():
            lines += [f"process {i} {pid} {LATER_US} {percent}" for pid, percent in used.items()]
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.replace(self.file)


@pytest.fixture
def boards(tmp_path: Path) -> Boards:
    Host(tmp_path)
    return Boards(tmp_path)


def began(*services: Service) -> None:
    for each in services:
        each("start")
    for each in services:
        each("tick")


def row(service: Service, source: str = GPU) -> dict[str, Any]:
    told = service("tick")
    assert told["errors"] == {}
    assert all(each["closes"] for each in told["books"].values())
    found: dict[str, Any] = told["books"][source]
    return found


def last_reading(service: Service) -> dict[str, Any]:
    service("release")
    reading: dict[str, Any] = service("tick")["readings"][-1]
    return reading


def test_each_service_is_told_the_joules_of_its_own_processes_to_the_nanojoule(tmp_path: Path, boards: Boards) -> None:
    with (
        Agent(tmp_path, *OPTIONS, env=boards.env),
        Service(tmp_path, "accueil") as one,
        Service(tmp_path, "courrier") as other,
    ):
        began(one, other)
        for each in (one, other):
            each("gpu")
        boards.draw(100, users={0: {one.pid: 30, other.pid: 10, 1: 40}})
        row(one)
        boards.draw(80, users={0: {other.pid: 40}})
        row(other)
        boards.draw(0.001, users={0: {one.pid: 1, other.pid: 1, 1: 1}})  # a third of a millijoule is no whole number of nJ
        row(one)
        rows = [row(each) for each in (one, other)]
        readings = [last_reading(each) for each in (one, other)]
    third = J // 3000
    assert [each["energy_nj"] for each in rows] == [180 * J + J // 1000] * 2
    assert rows[0]["mine_nj"] == pytest.approx(37_500_000_000 + third, abs=1)
    assert rows[1]["mine_nj"] == pytest.approx(12_500_000_000 + 80 * J + third, abs=1)
    assert sum(each["mine_nj"] for each in rows) <= 180 * J + J // 1000 - 50 * J
    for reading, each in zip(readings, rows, strict=True):
        assert "gpu:shared-unknown" not in reading["flags"]
        assert each["tier"] == "measured"
        assert each["parts"].get("gpu_no_section", 0) == 0
        assert reading["gpu_s"] > 0


def test_a_service_is_told_of_its_own_processes_and_of_no_neighbours(tmp_path: Path, boards: Boards) -> None:
    with Agent(tmp_path, *OPTIONS, env=boards.env) as agent, Service(tmp_path, "accueil") as neighbour:
        began(neighbour)
        link = AgentLink(Address(str(agent.socket)), "courrier")
        link.refresh(0)
        begun = link.tell(0)
        assert begun is not None
        boards.draw(10, users={0: {neighbour.pid: 30, os.getpid(): 10}})
        link.refresh(begun.t1_ns)
        told = link.tell(begun.t1_ns)
        link.close()
    assert told is not None
    part = told.parts[KEY]
    assert (part.energy_nj, part.mine_nj, part.users, part.untold) == (10 * J, 2_500_000_000, {os.getpid(): 2_500_000_000}, False)
    assert set(told.parts) == {"cpu", "dram", KEY}


def test_a_child_of_a_service_works_on_its_behalf(tmp_path: Path, boards: Boards) -> None:
    account = Account(1)
    account.members.add(Member(os.getppid(), 1, None))
    assert owners({os.getpid(): 5, 1: 7}, [account]) == {os.getpid(): 0}


@pytest.mark.parametrize(("what", "more"), [("MIG", "mig=1"), ("no process utilisation", "util=50")])
def test_where_nobody_tells_who_used_a_gpu_those_pay_whose_requests_held_it_flagged(tmp_path: Path, what: str, more: str) -> None:
    Host(tmp_path)
    boards = Boards(tmp_path, more=more)
    with (
        Agent(tmp_path, *OPTIONS, env=boards.env),
        Service(tmp_path, "accueil") as one,
        Service(tmp_path, "courrier") as other,
    ):
        began(one, other)
        one("gpu")
        boards.draw(40)
        alone = row(one)["mine_nj"]
        nothing = row(other)["mine_nj"]
        other("gpu")
        row(other)
        boards.draw(60)
        row(one)
        rows = [row(each) for each in (other, one)]
        readings = [last_reading(each) for each in (one, other)]
    assert (alone, nothing) == (40 * J, 0)
    assert sum(each["mine_nj"] for each in rows) == 100 * J  # nothing lost, and nothing twice
    assert all(each["mine_nj"] > 0 for each in rows)
    for reading in readings:
        assert "gpu:shared-unknown" in reading["flags"]
        if what == "MIG":
            assert reading["gpu_s"] is None


def test_an_engine_that_is_no_process_of_the_service_is_paid_by_who_held_it_and_not_by_whom_the_driver_names(
    tmp_path: Path, boards: Boards
) -> None:
    with (
        Agent(tmp_path, *OPTIONS, env=boards.env),
        Service(tmp_path, "accueil") as gateway,
        Service(tmp_path, "courrier") as trainer,
    ):
        began(gateway, trainer)
        gateway("gpu")
        trainer("gpu")
        row(trainer)  # it says what it holds, which counts for nothing while the driver names it
        boards.draw(100, users={0: {1: 75, trainer.pid: 25}})  # process 1 is the gateway's engine
        row(gateway)
        rows = [row(each) for each in (gateway, trainer)]
        readings = [last_reading(each) for each in (gateway, trainer)]
    assert [each["mine_nj"] for each in rows] == [75 * J, 25 * J]
    assert ["gpu:shared-unknown" in each["flags"] for each in readings] == [True, False]


def test_of_two_gpus_each_is_paid_by_who_used_it(tmp_path: Path) -> None:
    Host(tmp_path)
    boards = Boards(tmp_path, count=2)
    with (
        Agent(tmp_path, *OPTIONS, env=boards.env),
        Service(tmp_path, "accueil") as one,
        Service(tmp_path, "courrier") as other,
    ):
        began(one, other)
        one("gpu gpu:GPU-fake-1")
        other("gpu gpu:0")
        boards.draw(10, 7, users={0: {other.pid: 9}, 1: {one.pid: 5, other.pid: 2}})
        row(one)
        books = [each("tick")["books"] for each in (one, other)]
    assert [each[GPU]["mine_nj"] for each in books] == [0, 10 * J]
    assert [each[OTHER_GPU]["mine_nj"] for each in books] == [5 * J, 2 * J]
    assert books[0][OTHER_GPU]["parts"].get("gpu_no_section", 0) == 0
    assert books[1][OTHER_GPU]["parts"]["gpu_no_section"] == 2 * J  # it held the other one


def test_a_gpu_that_is_lost_is_incomplete_and_the_joules_of_its_return_are_a_gap(tmp_path: Path, boards: Boards) -> None:
    with Agent(tmp_path, *OPTIONS, env=boards.env), Service(tmp_path, "accueil") as service:
        began(service)
        service("gpu")
        boards.draw(10, users={0: {service.pid: 9}})
        row(service)
        boards.draw(5, more="util=50 fail=15")
        service("tick")
        lost = last_reading(service)
        boards.draw(6, users={0: {service.pid: 9}})
        back = row(service)
        boards.draw(3, users={0: {service.pid: 9}})
        again = row(service)
    assert "energy:incomplete" in lost["flags"]
    assert (back["energy_nj"], back["gap_nj"], back["mine_nj"]) == (21 * J, 11 * J, 10 * J)
    assert again["mine_nj"] == 13 * J


def test_while_the_agent_is_away_readings_lack_the_gpu_and_say_so_and_it_is_taken_back(tmp_path: Path, boards: Boards) -> None:
    with Agent(tmp_path, *OPTIONS, env=boards.env) as agent, Service(tmp_path, "accueil") as service:
        began(service)
        service("gpu")
        boards.draw(10, users={0: {service.pid: 9}})
        before = row(service)
        agent.kill()
        boards.draw(1000)  # nobody sees this
        service("tick")
        away = last_reading(service)
        with Agent(tmp_path, *OPTIONS, env=boards.env):
            boards.draw(1000)
            until_back(service, boards)
            base = row(service)
            service("gpu")
            boards.draw(7, users={0: {service.pid: 9}})
            after = row(service)
            back = last_reading(service)
    assert before["mine_nj"] == 10 * J
    assert {"energy:agent-away", "energy:incomplete"} <= set(away["flags"])
    assert after["mine_nj"] - base["mine_nj"] == after["energy_nj"] - base["energy_nj"] == 7 * J
    assert base["energy_nj"] < 1000 * J
    assert "energy:incomplete" not in back["flags"]


def until_back(service: Service, boards: Boards) -> None:
    """Tick until a millijoule that the board draws is seen again."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        before = service("tick")["books"][GPU]["energy_nj"]
        boards.draw(0.001)
        if service("tick")["books"][GPU]["energy_nj"] > before:
            return
    raise AssertionError("the agent was never taken back")


def test_a_service_that_could_read_a_gpu_itself_does_not_count_it_twice(tmp_path: Path, boards: Boards) -> None:
    own = {**boards.env, "TEST_SOURCES": "auto"}
    with Agent(tmp_path, *OPTIONS, env=boards.env), Service(tmp_path, "accueil", **own) as service:
        sources = service("start")["sources"]
        service("tick")
        service("gpu")
        boards.draw(10, users={0: {service.pid: 9}})
        told = service("tick")["books"]
    assert [name for name in sources if "GPU" in name] == [GPU]
    assert sum(each["energy_nj"] for name, each in told.items() if "GPU" in name) == 10 * J
    with Service(tmp_path, "accueil", **own) as service:  # nobody tells of GPUs: it reads what it can
        assert [name for name in service("start")["sources"] if "GPU" in name] == ["nvml:GPU-fake-0"]


def test_workers_of_one_service_share_its_part_of_a_gpu_by_their_processes(tmp_path: Path, boards: Boards) -> None:
    env = {"TEST_WORKERS": "shared"}
    with (
        Agent(tmp_path, *OPTIONS, env=boards.env),
        Service(tmp_path, "accueil", **env) as first,
        Service(tmp_path, "accueil", **env) as second,
        Service(tmp_path, "courrier") as neighbour,
    ):
        workers, everyone = (first, second), (first, second, neighbour)
        began(*everyone)
        for each in everyone:
            each("gpu")
            each("tick")
        boards.draw(100, users={0: {first.pid: 30, second.pid: 10, neighbour.pid: 50, 1: 10}})
        row(second)
        boards.draw(0.007, users={0: {first.pid: 1, second.pid: 1, neighbour.pid: 1}})
        row(first)
        for each in everyone:
            row(each)
        boards.draw(50)  # nobody is told of: whoever held it
        row(first)
        rows = [row(each) for each in (neighbour, second, first)]
        readings = [last_reading(each) for each in workers]
    ours = rows[1]["mine_nj"] + rows[2]["mine_nj"]
    assert [each["energy_nj"] for each in rows] == [150 * J + 7 * J // 1000] * 3
    assert rows[2]["mine_nj"] - rows[1]["mine_nj"] > 19 * J
    assert ours + rows[0]["mine_nj"] == 140 * J + 7 * J // 1000  # 0 nJ off: process 1 used the 10 J that are missing
    assert all("gpu:shared-unknown" in reading["flags"] for reading in readings)


def test_workers_that_the_driver_names_pay_what_it_tells_of_each_and_are_not_flagged(tmp_path: Path, boards: Boards) -> None:
    env = {"TEST_WORKERS": "shared"}
    with (
        Agent(tmp_path, *OPTIONS, env=boards.env) as agent,
        Service(tmp_path, "accueil", **env) as first,
        Service(tmp_path, "accueil", **env) as second,
    ):
        began(first, second)
        for each in (first, second):
            each("gpu")
            each("tick")
        boards.draw(100, users={0: {first.pid: 30, second.pid: 10, 1: 40}})
        row(second)
        boards.draw(80, users={0: {second.pid: 40}})
        row(first)
        rows = [row(each) for each in (second, first)]
        readings = [last_reading(each) for each in (first, second)]
        agent.kill()
        for each in (first, second):
            each("tick")
        with Agent(tmp_path, *OPTIONS, env=boards.env):  # a record of the one before is no beginning for ever
            until_back(first, boards)
            base = [row(each)["mine_nj"] for each in (first, second)]
            boards.draw(4, users={0: {first.pid: 1, second.pid: 3}})
            row(first)
            after = [row(each)["mine_nj"] for each in (first, second)]
    assert [each["mine_nj"] for each in rows] == [92_500_000_000, 37_500_000_000]
    assert not any("gpu:shared-unknown" in reading["flags"] for reading in readings)
    assert [now - then for now, then in zip(after, base, strict=True)] == [J, 3 * J]


def test_the_hosts_metrics_tell_its_gpus(tmp_path: Path, boards: Boards) -> None:
    options = ("--metrics", "127.0.0.1:0", "--period", "0.1", "--idle-watts", "gpu=0.001")
    with Agent(tmp_path, *options, env=boards.env) as agent:
        boards.draw(12)
        name, deadline = ("frugal_host_energy_joules_total", "gpu", "nvml:GPU-fake-0", "measured"), time.monotonic() + PATIENCE_S
        while (found := scraped(agent.addresses[-1]))[name] < 12 and time.monotonic() < deadline:
            pass
    assert found[name] == 12
    assert found["frugal_energy_source_up", "gpu", "nvml:GPU-fake-0"] == 1
    assert 0 < found["frugal_unattributed_energy_joules_total", "gpu", "idle", "nvml:GPU-fake-0"] < 12


def test_a_host_with_gpus_and_no_rapl_has_an_agent_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    PowercapTree(tmp_path / "powercap")
    ProcTree(tmp_path, cpus=4)
    boards = Boards(tmp_path)
    with (
        Agent(tmp_path, *OPTIONS, env=boards.env),
        Service(tmp_path, "accueil", TEST_SOURCES="auto") as service,
        Service(tmp_path, "courrier") as other,
    ):
        sources = [each("start")["sources"] for each in (service, other)]
        service("tick")
        boards.draw(10, users={0: {service.pid: 9}})
        told = row(service)
        seen = json.loads(Container(SimpleNamespace(folder=tmp_path), monkeypatch).doctor(capsys, "--json"))
    assert {"agent-used", "rapl-masked"} <= {finding["code"] for finding in seen["findings"]}  # the processor is the model's
    assert sources == [["model:cpu", "model:memory", "model:board", GPU]] * 2
    assert told["mine_nj"] == 10 * J


def test_doctor_tells_of_a_gpu_that_the_agent_reads_and_misses_no_driver_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    container, boards = Container(Host(tmp_path), monkeypatch), Boards(tmp_path, more="mig=1")
    with Agent(tmp_path, *OPTIONS, env=boards.env):
        told = json.loads(container.doctor(capsys, "--json"))
    codes = {finding["code"]: finding["where"] for finding in told["findings"]}
    assert codes["nvml-mig-shared"] == "GPU-fake-0"
    assert not {"nvml-no-driver", "nvml-extra-missing"} & set(codes)
    assert {source["name"] for source in told["sources"] if source["component"] == "gpu"} == {GPU}


# -- the division itself


def service_of(pid: int | None, claim: int) -> Account:
    account, member = Account(1), Member(pid, None if pid is None else 1, None)
    account.members.add(member)
    member.hold({}, 0)
    member.hold({KEY: claim}, WHOLE)
    return account


@given(
    dynamic=st.integers(0, 10**15),
    busy=st.integers(0, 10**9),
    used=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2 * WHOLE)), min_size=1, max_size=6),
    apart=st.integers(0, 100),
)
def test_however_a_gpu_was_used_and_whatever_services_say_no_nanojoule_is_given_twice(
    dynamic: int, busy: int, used: list[tuple[int, int]], apart: int
) -> None:
    first = 2**22 + 1  # beyond any process number: nobody's but these
    accounts = [service_of(first + i, claim) for i, (_, claim) in enumerate(used)] + [service_of(None, WHOLE)]
    users = {first + i: percent for i, (percent, _) in enumerate(used)} | {1: apart}
    divide(0, KEY, dynamic, busy, users, accounts)
    total = sum(users.values())
    assert sum(account.mine_nj[0] for account in accounts) == dynamic  # the last one claims whatever is left
    assert sum(account.busy_ns[0] for account in accounts) == busy
    for account, (percent, _) in zip(accounts, used, strict=False):
        if percent:
            assert abs(account.mine_nj[0] - dynamic * percent / total) <= 1 + dynamic / 2**52
        assert account.untold[0] == (0 if percent or not account.mine_nj[0] else 1)
        assert sum(account.users_nj[0].values()) == (account.mine_nj[0] if percent else 0)


def test_a_claim_is_a_part_of_the_time_and_never_more_than_all_of_it() -> None:
    account = service_of(None, 10**18)
    assert account.claim(KEY) == WHOLE
    (member,) = account.members
    member.hold({KEY: WHOLE // 4}, 2 * WHOLE)
    assert account.claim(KEY) == WHOLE // 4
    account.members.add(Member(None, None, None))
    assert account.claim(KEY) == WHOLE // 4
    member.hold({}, 3 * WHOLE)
    assert account.claim(KEY) == 0


def test_numbers_of_processes_that_are_not_in_view_are_those_of_another_place() -> None:
    far, account = 2**22 + 5, Account(1)
    account.members.add(Member(os.getpid(), 1, None))
    assert owners({far: 50}, [account]) is None
    assert owners({far: 50, 1: 20}, [account]) == {}
    assert owners({os.getpid(): 0}, [account]) is None
    assert owners(None, [account]) is None


def test_only_so_many_processes_of_a_service_are_remembered() -> None:
    account = Account(1)
    for pid in range(3000):
        account.use(0, 1, 1, pid)
    assert len(account.users_nj[0]) <= 1024
    assert account.mine_nj[0] == 3000
