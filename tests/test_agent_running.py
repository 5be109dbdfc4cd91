"""``frugal-meter agent`` as operators run it, and what services, ``doctor`` and Prometheus make of it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from agent_house import Agent, Host
from prometheus_client.parser import text_string_to_metric_families
from support import PATIENCE_S

from frugal_meter import Meter
from frugal_meter.cli import main
from frugal_meter.errors import ConfigurationError, SourceError
from frugal_meter.exporters.spec import SPEC
from frugal_meter.setup import budget_tier
from frugal_meter.sources import findings
from frugal_meter.sources.agent import AgentSource
from frugal_meter.sources.agent_findings import nothing_to_hand_out
from frugal_meter.sources.model_findings import no_package
from frugal_meter.testing import PowercapTree, ProcTree
from frugal_meter.units import NJ_PER_J


def scraped(url: str, token: str | None = None) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }


def counted(agent: Agent) -> dict[tuple[str, ...], float]:
    return scraped(agent.addresses[-1])


def until_counted(agent: Agent, joules: float) -> dict[tuple[str, ...], float]:
    """The metrics once the agent's own passes have seen ``joules``; it makes ten a second here."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = counted(agent)
        if found["frugal_host_energy_joules_total", "cpu", "rapl:package-0", "measured"] >= joules:
            return found
    raise AssertionError(f"the agent never counted {joules} J")


METRICS = ("--metrics", "127.0.0.1:0", "--period", "0.1")


def test_the_host_has_metrics_of_its_own_with_the_names_that_services_use(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with Agent(tmp_path, *METRICS, "--idle-watts", "cpu=0.5") as agent:
        host.draw(12, dram=2, cpu_seconds=0.1)
        found = until_counted(agent, 12)
        assert agent.stop() == 0
    assert found["frugal_host_energy_joules_total", "cpu", "rapl:package-0", "measured"] == 12
    assert found["frugal_host_energy_joules_total", "dram", "rapl:dram-0", "measured"] == 2
    assert 0 < found["frugal_unattributed_energy_joules_total", "cpu", "idle", "rapl:package-0"] <= 12
    assert found["frugal_energy_source_up", "cpu", "rapl:package-0"] == 1
    assert {name.removesuffix("_total") for name, *_ in found} <= set(SPEC)
    assert not (tmp_path / "agent.sock").exists()


def test_promtool_has_nothing_to_say_of_the_hosts_metrics(tmp_path: Path) -> None:
    Host(tmp_path)
    with Agent(tmp_path, *METRICS) as agent, urllib.request.urlopen(agent.addresses[-1], timeout=20) as answer:
        text = answer.read()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_an_agent_that_was_killed_is_followed_by_one_that_counts_on(tmp_path: Path) -> None:
    host, state = Host(tmp_path), ("--state", str(tmp_path / "state"))
    with Agent(tmp_path, *METRICS, *state) as agent:
        host.draw(12, cpu_seconds=0.1)
        until_counted(agent, 12)
        agent.kill()
    host.draw(30)
    with Agent(tmp_path, *METRICS, *state) as agent:  # over the socket that the other left behind
        found = until_counted(agent, 42)
    assert found["frugal_host_energy_joules_total", "cpu", "rapl:package-0", "measured"] == 42
    assert found["frugal_unattributed_energy_joules_total", "cpu", "gap", "rapl:package-0"] == 30


def test_metrics_beyond_loopback_need_a_token_and_then_ask_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host(tmp_path)
    assert run(host, "--metrics", "0.0.0.0:0") == 2
    assert "FRUGAL_OPS_TOKEN" in capsys.readouterr().err
    with Agent(tmp_path, "--metrics", "0.0.0.0:0", env={"FRUGAL_OPS_TOKEN": "a-token-of-the-ops"}) as agent:
        url = agent.addresses[-1].replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(urllib.error.HTTPError) as refused:
            scraped(url)
        refused.value.close()
        assert refused.value.code == 403
        assert scraped(url, "a-token-of-the-ops")


def run(host: Host, *options: str) -> object:
    """The exit code of ``frugal-meter agent`` where it ends by itself."""
    trees = ["--proc-root", host.machine.proc, "--sys-root", host.machine.sys, "--powercap-root", host.powercap.root]
    with pytest.raises(SystemExit) as ended:
        main(["agent", "--socket", str(host.folder / "agent.sock"), *map(str, trees), *options])
    return ended.value.code


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--no-socket"], "needs a door"),
        (["--tcp", "127.0.0.1:0"], "--tokens"),
        (["--period", "0.05"], "0.1 to 60"),
        (["--idle-watts", "cpu"], "cpu=35"),
        (["--idle-watts", "gpu=3"], "no sensor or component"),
        (["--group", "no-such-group", "--metrics", "off"], "groupadd"),
        (["--tokens", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert run(Host(tmp_path), *options) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_host_without_sensors_has_nothing_to_hand_out_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host(tmp_path)
    host.powercap.vanish(host.package)
    host.powercap.vanish(host.dram)
    assert run(host) == 1
    said = capsys.readouterr().err
    assert "no sensor can be read here" in said
    assert "services on this host use the power model by themselves" in said


@pytest.mark.parametrize("why", [findings.rapl_absent(Path("/p")), findings.rapl_failing(Path("/p")), no_package(Path("/p"))])
def test_an_agent_without_a_sensor_does_not_speak_of_a_power_model_of_its_own(why: findings.Finding) -> None:
    told = nothing_to_hand_out(why)
    for said in (told.remedy, told.remedy_fr):
        assert findings.MODEL not in said
        assert findings.MODEL_FR not in said
        assert "sources='auto'" not in said
    assert told.remedy.count("power model") == told.remedy_fr.count("modèle de puissance") == 1


# -- how services find it


class Container:
    """What a service sees in a container on ``host``: its ``/proc``, and no counter."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = host.folder / "container"
        self.trees = ProcTree(self.folder, cpus=4)
        PowercapTree(self.folder / "powercap")
        monkeypatch.setenv("FRUGAL_AGENT", str(host.folder / "agent.sock"))

    def meter(self, **settings: Any) -> Meter:
        return Meter("accueil", zone="FR", host_root=self.folder, **{"workers": "single", **settings})

    def doctor(self, capsys: pytest.CaptureFixture[str], *options: str) -> str:
        roots = ["--proc-root", self.trees.proc, "--sys-root", self.trees.sys, "--powercap-root", self.folder / "powercap"]
        with pytest.raises(SystemExit):
            main(["doctor", *map(str, roots), *options])
        return capsys.readouterr().out


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    return Container(Host(tmp_path), monkeypatch)


def names(meter: Meter) -> list[str]:
    for source in meter.setup.sources:
        source.close()
    return [source.name for source in meter.setup.sources]


STOOD_IN = ["agent:cpu", "agent:dram", "model:cpu:stand-in", "model:memory:stand-in", "model:board"]


def test_auto_takes_the_agent_where_no_sensor_can_be_read(tmp_path: Path, container: Container) -> None:
    with Agent(tmp_path):
        assert names(container.meter()) == STOOD_IN
        assert names(container.meter(sources="model")) == ["model:cpu", "model:memory", "model:board"]
    assert names(container.meter()) == STOOD_IN  # asked for by name: it will be back


def test_a_socket_left_in_its_usual_place_is_not_waited_for(
    tmp_path: Path, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Agent(tmp_path) as agent:
        monkeypatch.delenv("FRUGAL_AGENT")
        monkeypatch.setattr("frugal_meter.sources.agent_link.SOCKET", agent.socket)
        assert names(container.meter()) == STOOD_IN
        agent.kill()
    assert names(container.meter()) == ["model:cpu", "model:memory", "model:board"]


def test_sensors_of_ones_own_are_preferred_to_the_agent(tmp_path: Path, container: Container) -> None:
    tree = PowercapTree(container.trees.sys / "class/powercap")
    tree.package(0)
    with Agent(tmp_path):
        assert names(container.meter()) == ["rapl:package-0", "model:memory", "model:board"]


def test_an_agent_that_is_required_and_nowhere_to_be_found_is_one_line(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUGAL_AGENT", "off")
    with pytest.raises(SourceError, match="no host agent is here"):
        container.meter(sources="agent")


def test_idle_watts_of_what_the_agent_reads_are_the_agents_to_know(tmp_path: Path, container: Container) -> None:
    with Agent(tmp_path), pytest.raises(ConfigurationError, match="--idle-watts"):
        container.meter(idle_watts={"cpu": 3})


def test_a_source_on_the_agent_says_whose_sensor_it_is(tmp_path: Path, container: Container) -> None:
    with Agent(tmp_path) as agent:
        meter = container.meter()
        source = meter.setup.sources[0]
        assert isinstance(source, AgentSource)
        assert (source.tier, source.scope, source.covers) == ("measured", "host", ("package:*",))
        assert str(agent.socket) in source.provenance
        assert "powercap" in source.provenance
        assert source.resolution_nj is not None
        source.close()


@pytest.mark.parametrize(("lang", "says"), [("fr", "son agent"), ("en", "its agent")])
def test_doctor_says_that_the_agent_reads_for_this_service(
    tmp_path: Path, container: Container, capsys: pytest.CaptureFixture[str], lang: str, says: str
) -> None:
    with Agent(tmp_path):
        told = json.loads(container.doctor(capsys, "--json"))
        shown = " ".join(container.doctor(capsys, "--lang", lang).replace("│", " ").split())
    assert "agent-used" in {finding["code"] for finding in told["findings"]}
    assert "counter-still" in {finding["code"] for finding in told["findings"]}  # asked, and answered: nothing was drawn here
    assert told["exit_code"] == 0
    assert says in shown


@pytest.mark.parametrize(("lang", "says"), [("fr", "ne répond pas"), ("en", "does not answer")])
def test_doctor_says_that_the_agent_is_away(
    container: Container, capsys: pytest.CaptureFixture[str], lang: str, says: str
) -> None:
    told = json.loads(container.doctor(capsys, "--json", "--sources", "agent"))
    shown = " ".join(container.doctor(capsys, "--lang", lang, "--sources", "agent").replace("│", " ").split())
    assert "agent-away" in {finding["code"] for finding in told["findings"]}
    assert says in shown


def test_a_budget_that_requires_measured_joules_is_not_hard_on_an_agent_that_may_be_away(
    tmp_path: Path, container: Container
) -> None:
    from frugal_meter import Budget

    with Agent(tmp_path):
        meter = container.meter()
        assert budget_tier(Budget("chat", "50 kJ", per="day"), meter.setup.sources) == "modelled"
        names(meter)
    assert NJ_PER_J == 10**9
