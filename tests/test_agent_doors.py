"""Who may ask the host agent, what it tells them, and what it makes of callers that are slow, many, or talk nonsense."""

from __future__ import annotations

import contextlib
import grp
import itertools
import json
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_house import Agent, Host, Service
from support import PATIENCE_S, burn

from frugal_meter.agent import doors
from frugal_meter.agent.doors import tcp_door, tokens_of, unix_door
from frugal_meter.errors import ConfigurationError
from frugal_meter.sources.agent_link import PATIENCE_S as PATIENCE_S_OF_LINK
from frugal_meter.sources.agent_link import Address, AgentLink, agent_address, agent_token
from frugal_meter.sources.agent_protocol import FINEST_NS, MAX_QUESTION, PROTOCOL, Ask, Hello, Part, Told, line

TOKEN = "a-token-of-accueil-01"
HELLO = Hello(PROTOCOL, "0.1.0", "accueil", "alone")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Agent]]:
    """A host and its agent, with a door for those who have a token."""
    folder = tmp_path_factory.mktemp("host")
    tokens = folder / "tokens.toml"
    tokens.write_text(f'[tokens]\naccueil = "{TOKEN}"\n', encoding="utf-8")
    tokens.chmod(0o600)
    host = Host(folder)
    with Agent(folder, "--tcp", "127.0.0.1:0", "--tokens", str(tokens), "--idle-watts", "cpu=0.5") as agent:
        yield host, agent


class Caller:
    """A bare connection to an agent's socket."""

    def __init__(self, agent: Agent, hello: Hello | None = HELLO) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(agent.socket))
        self.welcome = self.say(line(hello)) if hello is not None else {}

    def say(self, said: bytes) -> dict[str, Any]:
        self.socket.sendall(said)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        heard = b""
        while not heard.endswith(b"\n"):
            more = self.socket.recv(65536)
            if not more:
                return {}
            heard += more
        told: dict[str, Any] = json.loads(heard)
        return told

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()


def test_no_two_records_are_closer_than_a_tenth_of_a_second_however_often_they_are_asked_for(machine: tuple[Host, Agent]) -> None:
    with Caller(machine[1]) as caller, Caller(machine[1]) as other:
        ends = [each.say(line(Ask(fresh=True)))["t1_ns"] for _ in range(4) for each in (caller, other)]
    apart = [late - soon for soon, late in itertools.pairwise(ends) if late != soon]
    assert len(apart) >= 4
    assert min(apart) >= FINEST_NS


def test_a_caller_is_told_of_the_host_and_of_itself_and_of_nobody_else(machine: tuple[Host, Agent]) -> None:
    host, agent = machine
    with Caller(agent) as caller, Service(host.folder, "courrier") as neighbour:
        neighbour("start")
        base = caller.say(line(Ask(fresh=True)))["t1_ns"]
        neighbour("burn 0.05")
        burn(0.02)
        host.draw(10, cpu_seconds=0.1)
        told = caller.say(line(Ask(base, fresh=True)))
    assert set(told) == {"type", "t0_ns", "t1_ns", "host_ns", "own_ns", "parts"}
    assert set(told["parts"]) == {"cpu", "dram"}
    assert set(told["parts"]["cpu"]) == set(Part.__struct_fields__)
    assert told["host_ns"] == 100_000_000
    assert 20_000_000 <= told["own_ns"] < 100_000_000  # this process burned 20 ms; its neighbour 50, which are nowhere
    assert told["parts"]["cpu"]["energy_nj"] == 10_000_000_000


def test_what_a_local_caller_says_of_its_own_cpu_is_not_believed(machine: tuple[Host, Agent]) -> None:
    with Caller(machine[1]) as caller:
        base = caller.say(line(Ask(fresh=True, own_ns=0)))["t1_ns"]
        told = caller.say(line(Ask(base, fresh=True, own_ns=10**12)))
    assert told["own_ns"] < 10**9


def test_callers_that_talk_nonsense_are_let_go_and_the_others_go_on(machine: tuple[Host, Agent]) -> None:
    nonsense = [b"GET / HTTP/1.1\r\n\r\n", b"\n", b"\xff\xfe\n", b'{"type":"hello"}\n', b"[" * 3000 + b"\n"]
    with Caller(machine[1]) as honest:
        for said in nonsense:
            with Caller(machine[1], None) as caller:
                assert caller.say(said)["type"] == "refused"
        with Caller(machine[1], None) as endless:
            endless.socket.sendall(b"x" * (3 * MAX_QUESTION))
            with contextlib.suppress(ConnectionResetError):
                assert endless.hear() == {}
        with Caller(machine[1]) as caller:
            assert caller.say(b'{"type":"ask","since_ns":"yesterday"}\n')["type"] == "refused"
        with Caller(machine[1]) as silent:  # who has said hello may be silent as long as it likes
            assert honest.say(line(Ask()))["t1_ns"] > 0
            assert silent.say(line(Ask()))["t1_ns"] > 0


def test_a_thousand_connections_are_served_from_one_record(machine: tuple[Host, Agent]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Caller(machine[1])) for _ in range(1000)]
        assert all(caller.welcome["type"] == "welcome" for caller in callers)
        for caller in callers:
            caller.socket.sendall(line(Ask(fresh=True)))
        ends = [caller.hear()["t1_ns"] for caller in callers]
        more = [stack.enter_context(Caller(machine[1])) for _ in range(30)]
        refused = [caller.welcome for caller in more if caller.welcome["type"] == "refused"]
    assert len(set(ends)) <= 5  # as they were asked for, over a moment or two
    assert refused
    assert "1024 connections" in refused[0]["why"]


def test_a_record_that_the_agent_does_not_know_tells_nothing(machine: tuple[Host, Agent]) -> None:
    with Caller(machine[1]) as caller:
        told = caller.say(line(Ask(since_ns=123)))
    assert (told["t0_ns"], told["parts"]) == (0, {})
    assert told["t1_ns"] > 0


@pytest.mark.parametrize(("theirs", "older"), [(PROTOCOL + 1, "agent"), (PROTOCOL - 1, "service")])
def test_another_version_is_refused_in_one_line_that_says_who_is_older(
    machine: tuple[Host, Agent], theirs: int, older: str
) -> None:
    with Caller(machine[1], None) as caller:
        told = caller.say(line(Hello(theirs, "9.9", "accueil", "alone")))
    assert told["type"] == "refused"
    assert told["why"].endswith(f"update the {older}")
    assert "\n" not in told["why"]


def test_over_tcp_the_token_names_the_service_which_states_its_own_cpu(machine: tuple[Host, Agent]) -> None:
    host, agent = machine
    _, _, port = agent.addresses[1].rpartition(":")
    link = AgentLink(Address(None, "127.0.0.1", int(port)), "any name", token=TOKEN)
    link.refresh(0)
    base = link.tell(0)
    burn(0.02)
    host.draw(4, cpu_seconds=0.1)
    assert base is not None
    link.refresh(base.t1_ns)
    told = link.tell(base.t1_ns)
    link.close()
    assert told is not None
    assert told.own_ns >= 20_000_000
    assert 0 < told.parts["cpu"].mine_nj < told.parts["cpu"].energy_nj == 4_000_000_000


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], "é"])
def test_over_tcp_nobody_is_let_in_without_a_token_and_one_line_says_why(
    machine: tuple[Host, Agent], token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, port = machine[1].addresses[1].rpartition(":")
    link = AgentLink(Address(None, "127.0.0.1", int(port)), "accueil", token=token)
    assert not link.open()
    assert "FRUGAL_AGENT_TOKEN" in link.why
    assert len(caplog.messages) == 1
    assert not token or len(token) < 5 or token not in caplog.text


def test_an_agent_that_says_nothing_is_waited_for_once_and_briefly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with unix_door(tmp_path / "agent.sock", None) as door:
        door.listen()
        link = AgentLink(Address(str(tmp_path / "agent.sock")), "accueil")
        begun = time.monotonic()
        link.refresh(0)
        link.refresh(0)
        assert time.monotonic() - begun < 2 * PATIENCE_S_OF_LINK
        link.close()
    assert link.tell(0) is None
    assert "does not answer in time" in link.why
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.example ESMTP\n",
        b'{"type":"welcome"',
        line(Told(0, 1, None, 0, {})),
        b"x" * 100_000,
    ],
)
def test_whatever_else_listens_there_is_no_agent(tmp_path: Path, said: bytes) -> None:
    here, there = socket.socketpair()
    link = AgentLink(Address(str(tmp_path / "agent.sock")), "accueil")
    with unix_door(tmp_path / "agent.sock", None) as door, here, there:
        door.listen()
        with contextlib.ExitStack() as stack:

            def serve() -> None:
                caller, _ = door.accept()
                stack.callback(caller.close)
                with contextlib.suppress(OSError):
                    caller.sendall(said)
                    caller.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=serve)
            thread.start()
            assert not link.open()
            thread.join(PATIENCE_S)
    assert link.why
    assert link.tell(0) is None


# -- doors


def test_a_socket_that_an_agent_left_behind_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with unix_door(path, None):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_a_socket_in_use_and_what_is_no_socket_are_left_alone(tmp_path: Path) -> None:
    path, file = tmp_path / "agent.sock", tmp_path / "letter.txt"
    file.write_text("mine", encoding="utf-8")
    with unix_door(path, None) as door:
        door.listen()
        with pytest.raises(ConfigurationError, match="another agent listens there"), unix_door(path, None):
            pass
        assert path.exists()
    with pytest.raises(ConfigurationError, match="no socket lies there"), unix_door(file, None):
        pass
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_group_may_open_the_socket_and_nobody_else(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    with unix_door(tmp_path / "agent.sock", group):
        found = (tmp_path / "agent.sock").stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == os.getgid()
    with pytest.raises(ConfigurationError, match="groupadd"), unix_door(tmp_path / "agent.sock", "no-such-group"):
        pass


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (f'[tokens]\na = "{TOKEN}"', 0o644, "chmod 640"),
        ('[tokens]\na = "short"', 0o600, "shorter than 16"),
        (f'[tokens]\na = "{TOKEN}"\nb = "{TOKEN}"', 0o600, "same token"),
        (f'a = "{TOKEN}"', 0o600, r"\[tokens\]"),
        (f"[tokens]\na = {TOKEN}", 0o600, "no TOML"),
    ],
)
def test_a_tokens_file_that_cannot_be_is_refused_without_showing_a_token(tmp_path: Path, text: str, mode: int, says: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=says) as refused:
        tokens_of(file)
    assert TOKEN not in str(refused.value)
    assert doors.MIN_TOKEN == 16


@pytest.mark.parametrize("address", ["9467", "127.0.0.1:", "127.0.0.1:99999", "203.0.113.7:0"])
def test_an_address_that_cannot_be_listened_on_is_one_line(address: str) -> None:
    with pytest.raises(ConfigurationError, match="--tcp") as refused, tcp_door(address):
        pass
    assert "\n" not in str(refused.value)


# -- where a service looks


@pytest.mark.parametrize("given", ["agent.sock", "tcp://", "tcp://host", "tcp://host:0", "http://host:80", "tcp://host:99999"])
def test_an_address_that_is_none_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("FRUGAL_AGENT", given)
    with pytest.raises(ConfigurationError, match="FRUGAL_AGENT is a path"):
        agent_address()


def test_the_agent_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRUGAL_AGENT", "tcp://[::1]:9467")
    assert agent_address() == Address(None, "::1", 9467)
    monkeypatch.setenv("FRUGAL_AGENT", "/run/agent.sock")
    assert str(agent_address()) == "/run/agent.sock"
    monkeypatch.setenv("FRUGAL_AGENT", "off")
    assert agent_address() is None
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n", encoding="utf-8")
    monkeypatch.delenv("FRUGAL_AGENT_TOKEN", raising=False)
    monkeypatch.setenv("FRUGAL_AGENT_TOKEN_FILE", str(file))
    assert agent_token() == TOKEN
    monkeypatch.setenv("FRUGAL_AGENT_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="FRUGAL_AGENT_TOKEN_FILE"):
        agent_token()
