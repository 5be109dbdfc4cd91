"""Telling: what a request cost, in the ``usage`` of an OpenAI-shaped reply, for those who asked for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .attribution.clocks import enter, here
from .attribution.span import SPAN, Span
from .exporters.ops import is_direct
from .remote.contract import carbon_of, frugal_of
from .remote.told import Told

if TYPE_CHECKING:
    from .meter import Meter

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]
#: a longer reply passes as it is: an answer of a language model is far below, and holding it back costs memory
MAX_REPLY: Final = 1024 * 1024
#: headers whose value is of the very bytes: such a reply is not touched
_OF_BYTES: Final = frozenset({b"etag", b"digest", b"content-digest", b"repr-digest", b"content-md5", b"content-range"})
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Telling:
    """An ASGI application around another: adds ``usage.carbon`` and ``usage.frugal`` to JSON replies and to streams.

    Figures are provisional and carry the reading's id; what is unknown is left out. Everything else of a reply stays as it was
    written, and so does one that is compressed, signed, longer than 1 MiB or not OpenAI-shaped.
    """

    def __init__(self, app: App, meter: Meter) -> None:
        self.app, self.meter = app, meter

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request."""
        span = SPAN.get()
        told = self.meter.told
        to_caller = is_caller(told, scope)
        if span is None or scope["type"] != "http" or not (told.usage_carbon or to_caller):
            await self.app(scope, receive, send)
            return
        reply = _Reply(self.meter, span, send, to_caller=to_caller)
        await self.app(scope, receive, reply.send)


class _Reply:
    """One reply on its way out."""

    def __init__(self, meter: Meter, span: Span, send: Send, *, to_caller: bool) -> None:
        self._meter, self._span, self._send, self._to_caller = meter, span, send, to_caller
        self._start: Message | None = None  # held back until the body's length is known
        self._body = bytearray()
        self._stream = False

    async def send(self, message: Message) -> None:
        """``send``, editing."""
        if message["type"] == "http.response.start":
            headers = {name.lower(): value.lower() for name, value in message.get("headers", ())}
            plain = headers.get(b"content-encoding", b"identity") == b"identity" and not headers.keys() & _OF_BYTES
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip()
            if plain and message["status"] == 200 and kind == b"application/json" and _fits(headers.get(b"content-length")):
                self._start = message
                return
            self._stream = plain and kind == b"text/event-stream" and b"content-length" not in headers
        elif message["type"] == "http.response.body" and self._start is not None:
            await self._hold(message)
            return
        elif message["type"] == "http.response.body" and self._stream and b'"usage"' in (body := bytes(message.get("body", b""))):
            message = {**message, "body": b"".join(map(self._line, body.splitlines(keepends=True)))}
        elif self._start is not None:
            await self._let_go()
        await self._send(message)

    async def _hold(self, message: Message) -> None:
        self._body += message.get("body", b"")
        if message.get("more_body"):
            if len(self._body) > MAX_REPLY:
                await self._let_go(more=True)
            return
        start, body = self._start, self._told(bytes(self._body))
        assert start is not None  # held until here
        length = str(len(body)).encode()
        headers = [(name, length if name.lower() == b"content-length" else value) for name, value in start.get("headers", ())]
        self._start = None
        await self._send({**start, "headers": headers})
        await self._send({**message, "body": body})

    async def _let_go(self, *, more: bool = False) -> None:
        """As it came: too long, or not a body."""
        start, self._start = self._start, None
        assert start is not None  # asked only while it is held
        await self._send(start)
        if self._body or more:
            await self._send({"type": "http.response.body", "body": bytes(self._body), "more_body": True})
            self._body.clear()

    def _line(self, line: bytes) -> bytes:
        """A line of a stream: an event that has a usage tells more; one in pieces stays as it is."""
        if not line.startswith(b"data:") or b'"usage"' not in line:
            return line
        text = line[5:].rstrip(b"\r\n")
        return b"data: " + self._told(text.strip()) + line[5 + len(text) :]

    def _told(self, text: bytes) -> bytes:
        try:
            members = _members(text)
            usage = _members(members["usage"])
        except (msgspec.DecodeError, RecursionError, KeyError):  # no object, or one without a usage: not ours to touch
            return text
        if not usage.keys() & {"completion_tokens", "prompt_tokens", "output_tokens", "input_tokens"}:
            return text
        with self._meter.guard("usage"):
            more = self._figures()
            if more:
                raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in more.items()}
                usage_now = msgspec.Raw(msgspec.json.encode({**usage, **raw}))
                return msgspec.json.encode({**members, "usage": usage_now})
        return text

    def _figures(self) -> dict[str, Any]:
        enter(here().owner)  # what this very step has used is charged at its end: too late for this figure
        reading = self._meter.figures.whole(self._span)
        told = {
            "carbon": carbon_of(reading) if self._meter.told.usage_carbon else None,
            "frugal": frugal_of(reading) if self._to_caller else None,
        }
        return {name: value for name, value in told.items() if value is not None}


def is_caller(told: Told, scope: Mapping[str, Any]) -> bool:
    """Whether a request comes straight from a listed network; what came through a proxy comes from the proxy."""
    if not told.callers or scope.get("client") is None or not is_direct(scope):
        return False
    try:
        address = ipaddress.ip_address(str(scope["client"][0]).split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in network for network in told.callers)


def _fits(length: bytes | None) -> bool:
    return length is None or (length.isdigit() and int(length) <= MAX_REPLY)
