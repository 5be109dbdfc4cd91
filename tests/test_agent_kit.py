"""What operators deploy for the host agent fits the agent: its options, its doors, its files."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from frugal_meter.agent.doors import MIN_TOKEN
from frugal_meter.cli.app import app as cli
from frugal_meter.sources.agent_link import agent_address
from frugal_meter.sources.agent_protocol import SOCKET

KIT = Path(__file__).parent.parent / "exporters/host-agent"
UNIT = KIT / "frugal-meter-agent.service"


def options() -> set[str]:
    group: Any = typer.main.get_command(cli)
    return {flag for option in group.commands["agent"].params for flag in option.opts}


def exec_start() -> list[str]:
    (command,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return shlex.split(command)


def kubernetes() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all((KIT / "daemonset.yaml").read_text(encoding="utf-8"))}


def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((KIT / "compose.yml").read_text(encoding="utf-8"))["services"]
    return services


def container() -> dict[str, Any]:
    (found,) = kubernetes()["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize(
    "words", [exec_start()[2:], compose()["agent"]["command"], container()["args"]], ids=["unit", "compose", "pod"]
)
def test_every_option_that_is_given_exists(words: list[str]) -> None:
    given = {word for word in words if word.startswith("--")}
    assert given
    assert given <= options()


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    """Verified as it is but for the program, which is not installed here."""
    text = UNIT.read_text(encoding="utf-8").replace(exec_start()[0], "/bin/true")
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_systemd_rates_the_units_exposure_as_low(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-600:] + done.stderr


def test_the_unit_has_one_capability_and_a_socket_where_services_look() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == "CAP_DAC_READ_SEARCH"
    assert service["ProtectSystem"] == "strict"
    assert Path("/run") / service["RuntimeDirectory"] == SOCKET.parent
    assert service["Type"] == "notify"
    users = (KIT / "frugal-meter-agent.sysusers.conf").read_text(encoding="utf-8")
    assert f"g {service['Group']} -" in users
    assert f"u {service['User']} -:{service['Group']} " in users
    assert exec_start()[exec_start().index("--group") + 1] == service["Group"]


def test_containers_run_without_a_capability_and_read_the_host_read_only() -> None:
    agent, pod = compose()["agent"], container()
    assert agent["cap_drop"] == ["ALL"]
    assert agent["read_only"] is True
    assert {"/proc:/host/proc:ro", "/sys:/host/sys:ro", f"{SOCKET.parent}:{SOCKET.parent}"} == set(agent["volumes"])
    security = pod["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in pod["volumeMounts"]}
    assert mounts == {"/host/proc": True, "/host/sys": True, "/etc/frugal-meter": True, "/run/frugal-meter": False}
    assert "FRUGAL_HOST_ROOT=/host" in (KIT / "Containerfile").read_text(encoding="utf-8")


def test_the_services_socket_is_the_agents() -> None:
    service = compose()["accueil"]
    assert service["environment"]["FRUGAL_AGENT"] == str(SOCKET)
    assert service["volumes"] == [f"{SOCKET.parent}:{SOCKET.parent}:ro"]
    assert service["group_add"] == compose()["agent"]["group_add"]


def test_pods_reach_the_agent_of_their_node_by_a_token_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    told = kubernetes()
    spec, pod = told["DaemonSet"]["spec"]["template"], container()
    assert told["Service"]["spec"]["internalTrafficPolicy"] == "Local"
    assert (
        told["Service"]["spec"]["selector"] == spec["metadata"]["labels"] == told["DaemonSet"]["spec"]["selector"]["matchLabels"]
    )
    ports = {port["name"]: port["containerPort"] for port in pod["ports"]}
    ends = {word.rpartition(":")[2] for word in pod["args"] if word.startswith("0.0.0.0:")}
    assert ends == {str(port) for port in ports.values()}
    assert told["Service"]["spec"]["ports"] == [{"name": "agent", "port": ports["agent"], "targetPort": "agent"}]
    volumes = {volume["name"] for volume in spec["spec"]["volumes"]}
    assert {mount["name"] for mount in pod["volumeMounts"]} == volumes
    (secret,) = (volume["secret"] for volume in spec["spec"]["volumes"] if "secret" in volume)
    assert secret["defaultMode"] & 0o007 == 0
    tokens = tomllib.loads(told["Secret"]["stringData"]["tokens.toml"])["tokens"]
    assert min(map(len, tokens.values())) >= MIN_TOKEN
    example = {each["name"]: each for each in yaml.safe_load(told["ConfigMap"]["data"]["env.yaml"])}
    monkeypatch.setenv("FRUGAL_AGENT", example["FRUGAL_AGENT"]["value"])
    address = agent_address()
    assert address is not None
    assert (address.host, address.port) == (f"{told['Service']['metadata']['name']}.frugal", ports["agent"])
    assert "valueFrom" in example["FRUGAL_AGENT_TOKEN"]
