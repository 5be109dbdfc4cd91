"""The agent's doors: each connection says who it is, then asks; all that wait for a record get the same one."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import struct
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Final

import msgspec

from ..ring.peers import started
from ..sources.agent_protocol import MAX_QUESTION, PROTOCOL, Ask, Hello, Offered, Refused, Told, Welcome, line, question
from .accounts import Account, Member
from .host import Host, handed

#: connections at once; whoever comes after them is told so
MAX_CONNECTIONS: Final = 1024
#: how long a connection may keep us waiting: to say who it is, and to take an answer
PATIENCE_S: Final = 5.0
#: struct ucred of unix(7): pid, uid, gid
_UCRED: Final = struct.Struct("3i")
_MAX_NAME: Final = 200

Fault = Callable[[str, BaseException], None]


class Server:
    """Serves `Host` to whoever comes through a door. ``tokens`` are by service, for TCP.

    A pass is made when somebody asks for one and the last is old enough, and at least every ``period_s``.
    """

    def __init__(
        self,
        host: Host,
        *,
        tokens: Mapping[str, str] | None = None,
        period_s: float = 1.0,
        after: Callable[[], None],
        fault: Fault,
    ) -> None:
        self.host, self.connections = host, 0
        self._tokens, self._period_s, self._after, self._fault = dict(tokens or {}), period_s, after, fault
        self._gpus = {handed(source) for source in host.sources if source.component == "gpu"}
        self._next: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, doors: list[socket.socket], stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Let callers in through ``doors`` (bound sockets) until ``stop``; ``ready`` is called once they may come."""
        servers = [
            await (asyncio.start_unix_server if door.family == socket.AF_UNIX else asyncio.start_server)(
                self._let_in, sock=door, limit=MAX_QUESTION, backlog=MAX_CONNECTIONS
            )
            for door in doors
        ]
        ready()
        steady = asyncio.create_task(self._steadily())
        try:
            await stop.wait()
        finally:
            for server in servers:
                server.close()
            for task in (steady, *self._tasks):
                task.cancel()
            await asyncio.gather(steady, *self._tasks, return_exceptions=True)

    async def _steadily(self) -> None:
        while True:
            idle_s = (self.host.t_ns - self._now_ns()) / 1e9 + self._period_s
            if idle_s > 0:
                await asyncio.sleep(idle_s)
            else:
                await self.record()

    def _now_ns(self) -> int:
        return self.host.clock()

    async def record(self) -> None:
        """Wait for a pass that begins from now on."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            self._next = loop.create_future()
            loop.call_later(max(0.0, (self.host.due_ns - self._now_ns()) / 1e9), self._pass)
        await asyncio.shield(self._next)

    def _pass(self) -> None:
        if self.host.due_ns > self._now_ns():  # the loop's clock is coarser than ours
            asyncio.get_running_loop().call_later((self.host.due_ns - self._now_ns()) / 1e9, self._pass)
            return
        waiting, self._next = self._next, None
        try:
            self.host.read()
            self._after()
        except Exception as error:
            self._fault("tick", error)
        if waiting is not None:
            waiting.set_result(None)

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            if self.connections > MAX_CONNECTIONS:
                writer.write(line(Refused(f"{MAX_CONNECTIONS} connections are open already")))
            else:
                await self._talk(reader, writer)
        except (OSError, TimeoutError, ValueError):  # gone, too slow, or a question without an end
            pass
        except Exception as error:
            self._fault("agent", error)
        finally:
            self.connections -= 1
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE_S):
            heard = await reader.readline()
        hello = _understood(heard)
        why = "say hello first" if not isinstance(hello, Hello) else self._why_not(hello, writer)
        if not isinstance(hello, Hello) or why is not None:
            writer.write(line(Refused(why or "say hello first")))
            return
        member, key = self._who(hello, writer)
        account = self.host.account(key)
        account.members.add(member)
        try:
            writer.write(line(Welcome(metadata.version("frugal-meter"), self._offered())))
            await self._answer(reader, writer, member, account)
        finally:
            account.members.discard(member)
            if not account.members:
                self.host.accounts.pop(key, None)

    def _why_not(self, hello: Hello, writer: asyncio.StreamWriter) -> str | None:
        if hello.protocol != PROTOCOL:
            ours = metadata.version("frugal-meter")
            return (
                f"this agent (frugal-meter {ours}) speaks protocol {PROTOCOL} and the service (frugal-meter {hello.version}) "
                f"protocol {hello.protocol}: update the {'agent' if hello.protocol > PROTOCOL else 'service'}"
            )
        if not _is_name(hello.service) or not _is_name(hello.group) or not (hello.share is None or 0 <= hello.share <= 1):
            return "a service has a name, a group, and a share from 0 to 1"
        if writer.get_extra_info("socket").family != socket.AF_UNIX and self._service_of(hello.token) is None:
            return "the token is no service's here: set FRUGAL_AGENT_TOKEN to one of the agent's --tokens file"
        return None

    def _service_of(self, token: str | None) -> str | None:
        """Whose token this is; as long for each, found or not."""
        found = None
        for service, known in self._tokens.items():
            if hmac.compare_digest((token or "").encode(), known.encode()):
                found = service
        return found

    def _who(self, hello: Hello, writer: asyncio.StreamWriter) -> tuple[Member, str]:
        """The member, and the key of its account: no name that a caller gives opens another user's, or another token's."""
        door = writer.get_extra_info("socket")
        if door.family != socket.AF_UNIX:
            return Member(None, None, hello.share), f"token {self._service_of(hello.token)} {hello.group}"
        pid, uid, _ = _UCRED.unpack(door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        start = started(pid) if pid > 0 else None  # 0: a process of a namespace that cannot be seen from here
        return Member(pid if start is not None else None, start, hello.share), f"user {uid} {hello.service} {hello.group}"

    def _offered(self) -> tuple[Offered, ...]:
        out: dict[str, Offered] = {}
        for source in self.host.sources:
            if (key := handed(source)) is not None:
                known = out.get(key)
                told = f"{known.provenance}; {source.provenance}" if known is not None else source.provenance
                busy, shared = getattr(source, "tells_busy", False), getattr(source, "shared", False)
                out[key] = Offered(key, source.sensor, source.resolution_nj or 0, told, busy, shared)
        return tuple(out.values())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, member: Member, account: Account) -> None:
        while heard := await reader.readline():
            asked = _understood(heard)
            if not isinstance(asked, Ask):
                writer.write(line(Refused("this is no question")))
                return
            member.say(asked.own_ns, asked.more_ns)
            if asked.fresh:
                member.hold({key: ns for key, ns in asked.held.items() if key in self._gpus}, self._now_ns())
                await self.record()
            told: Told = self.host.tell(account, asked.since_ns)
            writer.write(line(told))
            async with asyncio.timeout(PATIENCE_S):
                await writer.drain()


def _is_name(text: str) -> bool:
    return bool(text.strip()) and len(text) <= _MAX_NAME


def _understood(heard: bytes) -> Hello | Ask | None:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        said: Hello | Ask = question.decode(heard)
        return said
    return None
