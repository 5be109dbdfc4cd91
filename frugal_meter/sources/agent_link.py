"""A service's line to the host agent: asked once per tick, on the thread that ticks, and never waited for long."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from ..errors import ConfigurationError
from .agent_protocol import (
    FINEST_NS,
    MAX_ANSWER,
    PROTOCOL,
    SOCKET,
    Answer,
    Ask,
    Hello,
    Offered,
    Refused,
    Told,
    Welcome,
    answer,
    line,
)

log = logging.getLogger("frugal_meter")
#: a new record is at most `FINEST_NS` away; an agent that needs this much longer is away
PATIENCE_S: Final = FINEST_NS / 1e9 + 1.0
_CONNECT_S: Final = 0.5
#: an agent that did not let us in is asked again after so long; twice as long each time, up to the second figure
_RETRY_S: Final = (0.2, 5.0)


class Address(msgspec.Struct, frozen=True):
    """Where an agent listens: a socket's ``path``, or ``host`` and ``port``. ``asked`` for by name, or just the usual place."""

    path: str | None
    host: str = ""
    port: int = 0
    asked: bool = True

    def __str__(self) -> str:
        return self.path or f"tcp://{self.host}:{self.port}"


def agent_address() -> Address | None:
    """The agent of ``$FRUGAL_AGENT`` (a path, "tcp://host:port", or "off"), else a socket in its usual place; None for none.

    Raises ConfigurationError for what is no address.
    """
    given = os.environ.get("FRUGAL_AGENT", "")
    if given == "off":
        return None
    if not given:
        return Address(str(SOCKET), asked=False) if SOCKET.is_socket() else None
    if given.startswith("/"):
        return Address(given)
    host, _, port = given.removeprefix("tcp://").rpartition(":")
    if not given.startswith("tcp://") or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise ConfigurationError(f'FRUGAL_AGENT is a path, "tcp://host:port" or "off", not {given!r}')
    return Address(None, host.strip("[]"), int(port))


def agent_token() -> str | None:
    """The token of ``$FRUGAL_AGENT_TOKEN``, else of the file ``$FRUGAL_AGENT_TOKEN_FILE``; raises ConfigurationError."""
    file = os.environ.get("FRUGAL_AGENT_TOKEN_FILE")
    if not file or os.environ.get("FRUGAL_AGENT_TOKEN"):
        return os.environ.get("FRUGAL_AGENT_TOKEN") or None
    try:
        return Path(file).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"FRUGAL_AGENT_TOKEN_FILE={file!r} cannot be read: {error}") from None


class AgentLink:
    """A line to the agent at ``address``. Nothing here raises for an agent that is away, slow or talks nonsense: `refresh` and
    `tell` answer None, ``why`` says why, and it is tried again.
    """

    def __init__(self, address: Address, service: str, *, share: float | None = None, token: str | None = None) -> None:
        self._socket: socket.socket | None = None
        self.address, self.offered, self.why = address, dict[str, Offered](), ""
        self._service, self._share, self._token = service, share, token
        self._pid = os.getpid()
        self._group = self._alone = secrets.token_hex(8)
        self._more_ns = 0
        self._told: Told | None = None
        self._asked_ns = 0
        self._retry_s, self._retry_at = _RETRY_S[0], 0.0
        self._was_up: bool | None = None

    @property
    def up(self) -> bool:
        """Whether the agent answered last."""
        return self._socket is not None

    def refresh(self, since_ns: int, more_ns: int = 0, held: Mapping[str, int] | None = None) -> None:
        """Have the agent read now, and hear what there was since the record ``since_ns``; at most `PATIENCE_S`.

        ``more_ns``: CPU of companions in the last tick, that requests held; ``held``: time that they held each GPU, ns.
        """
        self._more_ns += more_ns
        self._told = self._ask(since_ns, fresh=True, held=held)

    def tell(self, since_ns: int) -> Told | None:
        """What there was since the record ``since_ns``; None while the agent is away. At the price of a look where it is what
        `refresh` has just heard.
        """
        if self._told is not None and since_ns and since_ns != self._asked_ns:
            self._told = self._ask(since_ns, fresh=False)
        return self._told

    def meet(self, group: str | None) -> None:
        """From now on bill with the processes of ``group`` (None: alone)."""
        if (group or self._alone) != self._group:
            self._group = group or self._alone
            self._hang_up()
            self._told = self._ask(0, fresh=False)

    def open(self) -> bool:
        """Be let in, if that is not so yet and it is time to try; False while the agent is away."""
        if self._pid != os.getpid():  # a fork: the line is the parent's
            self._hang_up()
            self._pid, self._group = os.getpid(), secrets.token_hex(8)
            self._alone, self._more_ns, self._retry_at = self._group, 0, 0.0
        if self._socket is not None:
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._enter()
        except OSError as error:
            self._lost(error)
        return self._socket is not None

    def _enter(self) -> None:
        unix = self.address.path is not None
        self._socket = socket.socket(socket.AF_UNIX) if unix else None
        if self._socket is not None:
            self._socket.settimeout(_CONNECT_S)
            self._socket.connect(self.address.path or "")
        else:
            self._socket = socket.create_connection((self.address.host, self.address.port), _CONNECT_S)
        hello = Hello(
            PROTOCOL, metadata.version("frugal-meter"), self._service, self._group, self._share, None if unix else self._token
        )
        welcome = self._say(line(hello))
        if not isinstance(welcome, Welcome):
            raise ConnectionRefusedError(welcome.why if isinstance(welcome, Refused) else "it did not say welcome")
        self.offered = {each.component: each for each in welcome.offered}
        self._retry_s, self.why = _RETRY_S[0], ""
        if self._was_up is False:
            log.warning("frugal_meter: the host agent at %s answers again; figures are measured", self.address)
        self._was_up = True

    def _ask(self, since_ns: int, *, fresh: bool, held: Mapping[str, int] | None = None) -> Told | None:
        if not self.open():
            return None
        try:
            told = self._say(line(Ask(since_ns, fresh, time.process_time_ns(), self._more_ns, dict(held or {}))))
            if not isinstance(told, Told) or not all(part.can_be for part in told.parts.values()):
                raise ConnectionAbortedError(told.why if isinstance(told, Refused) else "its answer makes no sense")
        except OSError as error:
            self._lost(error)
            return None
        self._asked_ns = since_ns
        return told

    def _say(self, question: bytes) -> Answer:
        """Ask, and wait for the answer; raises OSError for none, and for one that is none."""
        assert self._socket is not None
        deadline = time.monotonic() + PATIENCE_S
        self._socket.settimeout(PATIENCE_S)
        self._socket.sendall(question)
        heard = b""
        while not heard.endswith(b"\n"):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            more = self._socket.recv(MAX_ANSWER)
            if not more or len(heard) + len(more) > MAX_ANSWER:
                raise ConnectionAbortedError("it hung up" if not more else "its answer is too long")
            heard += more
        try:
            said: Answer = answer.decode(heard)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ConnectionAbortedError("it is no frugal-meter agent, or one of another version") from None
        return said

    def _lost(self, error: OSError) -> None:
        self._hang_up()
        self.why = "it does not answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(_RETRY_S[1], 2 * self._retry_s)
        if self._was_up is not False:
            log.warning("frugal_meter: no host agent at %s (%s): figures are modelled until it answers", self.address, self.why)
        self._was_up = False

    def _hang_up(self) -> None:
        gone, self._socket, self._told = self._socket, None, None
        if gone is not None:
            gone.close()

    def __del__(self) -> None:
        self._hang_up()  # of a meter that was made and never started, nobody else would

    def close(self) -> None:
        """Hang up; safe to call twice, and `open` opens it again."""
        self._hang_up()
        self._retry_at = 0.0
