"""The host agent: one reader for all services of a host, each of which learns its own part and nobody else's."""

from __future__ import annotations

import time
from pathlib import Path

from agent_house import Agent, Host, Service
from support import PATIENCE_S

CPU, DRAM = "agent:cpu", "agent:dram"


def test_two_services_on_one_host_never_bill_more_than_the_host_drew(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with (
        Agent(tmp_path, "--idle-watts", "cpu=0.5", "--period", "60"),
        Service(tmp_path, "accueil") as first,
        Service(tmp_path, "courrier") as second,
    ):
        services = (first, second)
        for each in services:
            each("start")
            each("hold")
        for round_ in range(3):
            first.say("burn 0.06")
            second.say("burn 0.02")
            for each in services:
                each.answer()
            host.draw(20 + round_, dram=3, cpu_seconds=0.2)
            for each in services:
                each.say("tick")
            told = [each.answer() for each in services]
        one, other = (each("tick")["books"] for each in services)
    del told
    for source, drew_nj in ((CPU, 63_000_000_000), (DRAM, 9_000_000_000)):
        assert one[source]["closes"]
        assert other[source]["closes"]
        # both saw the last draw in their last two ticks, whoever had the agent read it
        assert one[source]["energy_nj"] == other[source]["energy_nj"] == drew_nj
        assert one[source]["idle_nj"] == other[source]["idle_nj"]
        assert one[source]["mine_nj"] + other[source]["mine_nj"] + one[source]["idle_nj"] <= drew_nj
        assert one[source]["held_nj"] + other[source]["held_nj"] <= one[source]["idle_nj"]
        assert one[source]["mine_nj"] > 1.5 * other[source]["mine_nj"] > 0


def test_a_service_on_the_agent_reads_measured_joules_with_its_part_of_idle(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with Agent(tmp_path, "--idle-watts", "cpu=0.1", "--idle-watts", "dram=0.01"), Service(tmp_path, "accueil") as service:
        service("start")
        service("burn 0.05")
        host.draw(10, cpu_seconds=0.1)
        told = service("tick")
    (reading,) = told["readings"]
    assert told["errors"] == {}
    # the host worked 0.1 s, this request half of it or a little more: the rest is other processes'
    assert 4 <= reading["dynamic_j"] <= 8
    assert reading["dynamic_j"] < reading["full_j"]
    assert reading["tier"] == "measured" or reading["measured"] > 0.5
    assert "energy:agent-away" not in reading["flags"]
    assert "configured" in reading["idle"]


def test_while_the_agent_is_away_the_model_stands_in_flagged_and_the_agent_is_taken_back(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with Agent(tmp_path) as agent, Service(tmp_path, "accueil") as service:
        service("start")
        service("burn 0.02")
        host.draw(10, cpu_seconds=0.05)
        measured = service("tick")["books"]
        agent.kill()
        host.draw(1000)  # nobody sees this
        service("burn 0.02")
        away = service("tick")
        with Agent(tmp_path):
            host.draw(1000)  # nor what was drawn before the first record of the new agent
            retry_until_back(service)
            base = service("tick")["books"]
            service("burn 0.02")
            host.draw(7, cpu_seconds=0.05)
            back = service("tick")
    assert measured[CPU]["energy_nj"] == away["books"][CPU]["energy_nj"] == 10_000_000_000
    stand_in = away["books"]["model:cpu:stand-in"]
    assert stand_in["energy_nj"] > 0
    assert stand_in["tier"] == "modelled"
    (_, modelled, again) = (away["readings"] + back["readings"][-1:])[:3]
    assert "energy:agent-away" in modelled["flags"]
    assert "energy:incomplete" not in modelled["flags"]
    assert modelled["tier"] == "modelled"
    assert modelled["measured"] == 0
    assert back["books"][CPU]["energy_nj"] - base[CPU]["energy_nj"] == 7_000_000_000
    assert back["books"]["model:cpu:stand-in"]["energy_nj"] == base["model:cpu:stand-in"]["energy_nj"]
    assert "energy:agent-away" not in again["flags"]
    assert all(row["closes"] for row in back["books"].values())


def retry_until_back(service: Service) -> None:
    """Tick until the service has heard the agent again: it asks anew after a fifth of a second at first."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        before = service("tick")["books"]["model:cpu:stand-in"]["energy_nj"]
        if service("tick")["books"]["model:cpu:stand-in"]["energy_nj"] == before:
            return
    raise AssertionError("the agent was never taken back")


def test_a_service_may_start_before_its_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with Service(tmp_path, "accueil") as service:
        service("start")
        service("burn 0.01")
        before = service("tick")
        with Agent(tmp_path):
            retry_until_back(service)
            service("burn 0.01")
            host.draw(5, cpu_seconds=0.05)
            after = service("tick")
    assert before["readings"][0]["tier"] == "modelled"
    assert after["books"][CPU]["energy_nj"] == 5_000_000_000


def test_workers_of_one_service_share_its_part_through_their_ring(tmp_path: Path) -> None:
    host = Host(tmp_path)
    env = {"TEST_WORKERS": "shared"}
    with (
        Agent(tmp_path, "--idle-watts", "cpu=0.5", "--period", "60"),
        Service(tmp_path, "accueil", **env) as first,
        Service(tmp_path, "accueil", **env) as second,
        Service(tmp_path, "courrier") as other,
    ):
        everyone = (first, second, other)
        for each in everyone:
            each("start")
            each("hold")
        for each in everyone:
            each("tick")
        base = [each("tick")["books"][CPU] for each in everyone]
        for _ in range(3):
            for each in everyone:
                each.say("burn 0.03")
            for each in everyone:
                each.answer()
            host.draw(20, cpu_seconds=0.15)
            for each in everyone:
                each("tick")
        for each in everyone:
            each("tick")
        books = [each("tick")["books"] for each in everyone]
    told = [
        {key: row[CPU][key] - before[key] for key in ("mine_nj", "held_nj", "energy_nj")}
        for row, before in zip(books, base, strict=True)
    ]
    mine, held = sum(each["mine_nj"] for each in told), sum(each["held_nj"] for each in told)
    assert all(row["closes"] for each in books for row in each.values())
    assert [each["energy_nj"] for each in told] == [60_000_000_000] * 3
    assert all(each["mine_nj"] > 8_000_000_000 for each in told)
    assert mine <= 60_000_000_000
    assert held <= books[0][CPU]["idle_nj"]
