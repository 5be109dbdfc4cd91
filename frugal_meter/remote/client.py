"""Listening to an httpx client: each OpenAI-shaped reply that it reads becomes a span of its own when its stream ends."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, Protocol

import msgspec

from ..attribution.span import SPAN, Kind, Span
from ..errors import ConfigurationError
from ..records import label
from ..usage import MAX_BYTES
from .call import MAX_NAME, Call, calls
from .estimate import estimator

#: a whole reply beyond this is not read: embeddings of thousands of texts, whose tokens nobody prices anyway
MAX_REPLY: Final = 4 * 1024 * 1024
#: encodings that the standard library undoes as they come; a client that offers others is asked for these
_ENCODINGS: Final = "gzip, deflate"
_BEGAN: Final = "frugal_meter.began"


class _Asked(msgspec.Struct):
    model: Any = None


class Switchboard(Protocol):
    """The meter, as far as a client's calls need it."""

    clock: Any

    def open_span(self, kind: Kind, parent: Span | None = None) -> Span:
        """A running span."""

    def close_span(self, span: Span) -> None:
        """Its end."""

    def fault(self, stage: str, error: BaseException) -> None:
        """Count a fault of the meter's own."""


def listen(meter: Switchboard, client: Any, *, provider: str, zone: str | None, like: str | None, metered: Sequence[str]) -> Any:
    """Hang `_Line`'s hooks on ``client``; see `Meter.remote_client`."""
    hooks = getattr(client, "event_hooks", None)
    if not isinstance(hooks, dict):
        raise ConfigurationError(f"remote_client takes an httpx.Client or AsyncClient, not {type(client).__name__}")
    if isinstance(metered, str):
        raise ConfigurationError(f"remote_client: metered is a list of hosts, such as [{metered!r}]")
    calls(provider, "any", zone=None, like=like, metered=False)  # names and extras are refused here, not at the first request
    if zone is not None:
        estimator("mistralai", "mistral-small", zone)
    line = _Line(meter, provider, zone, like, frozenset(metered))
    ask, hear = (line.ask, line.hear) if not hasattr(client, "aclose") else (line.ask_later, line.hear_later)
    client.event_hooks = {**hooks, "request": [*hooks["request"], ask], "response": [*hooks["response"], hear]}
    return client


class _Line:
    """One client's calls. Nothing that fails here reaches the application."""

    def __init__(self, meter: Switchboard, provider: str, zone: str | None, like: str | None, metered: frozenset[str]) -> None:
        self._meter, self._provider, self._zone, self._like, self._metered = meter, provider, zone, like, metered

    def ask(self, request: Any) -> None:
        """As a request goes out."""
        try:
            request.extensions[_BEGAN] = (self._meter.clock.monotonic_ns(), SPAN.get())
            if "br" in request.headers.get("accept-encoding", "") or "zstd" in request.headers.get("accept-encoding", ""):
                request.headers["accept-encoding"] = _ENCODINGS
        except Exception as error:
            self._meter.fault("remote", error)

    def hear(self, response: Any) -> None:
        """As a reply begins: its stream is listened to while somebody reads it."""
        try:
            began, kind = response.request.extensions.get(_BEGAN), response.headers.get("content-type", "").lower()
            sse = "text/event-stream" in kind
            if began is None or not (sse or "json" in kind) or response.status_code >= 400 or response.is_stream_consumed:
                return
            model = _model_of(response.request)
            if model is None:
                return
            host = response.request.url
            known = bool(self._metered & {host.host, host.netloc.decode("ascii")})
            call = calls(self._provider, model, zone=self._zone, like=self._like, metered=known)()
            ear = _Ear(call, response.headers.get("content-encoding", "identity"), sse=sse)
            wrapped = _streams()[hasattr(response.stream, "aclose")]
            response.stream = wrapped(response.stream, ear, lambda: self._end(ear, model, *began))
        except Exception as error:
            self._meter.fault("remote", error)

    async def ask_later(self, request: Any) -> None:
        """`ask`, for an AsyncClient."""
        self.ask(request)

    async def hear_later(self, response: Any) -> None:
        """`hear`, for an AsyncClient."""
        self.hear(response)

    def _end(self, ear: _Ear, model: str, began_ns: int, around: Span | None) -> None:
        meter = self._meter
        try:
            ear.close()
            if ear.heard_nothing:
                return
            parent = around if around is not None and id(around.desk) == id(meter) and not around.t1_ns else None
            span = meter.open_span("block", parent)
            # The client's own CPU is its caller's already: this span has the call's time, and what it cost there.
            span.t0_ns = began_ns
            span.model, span.route = label(model), (parent.route if parent is not None else None)
            span.route = span.route or label(f"{self._provider}/{model}")
            span.tenant = parent.tenant if parent is not None else None
            try:
                ear.call.finish(span, (meter.clock.monotonic_ns() - began_ns) / 1e9)
            finally:
                meter.close_span(span)
        except Exception as error:
            meter.fault("remote", error)


class _Ear:
    """Bytes of a reply as they come, undone where compressed; only events and bodies with a ``usage`` or a piece are parsed."""

    def __init__(self, call: Call, encoding: str, *, sse: bool) -> None:
        self.call, self._sse = call, sse
        self._undo = _undoing(encoding)
        self._rest = bytearray()
        self._deaf = self._undo is None

    @property
    def heard_nothing(self) -> bool:
        """Whether neither a usage nor a piece came: no reply of a language model."""
        return self.call.heard.usage is None and not self.call.heard.pieces

    def hear(self, chunk: bytes) -> None:
        """Some bytes."""
        if self._deaf or self._undo is None:
            return
        try:
            self._rest += self._undo(chunk)
        except zlib.error:  # the client will say so itself
            self._deaf = True
            return
        if self._sse:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest[: MAX_BYTES + 1])
            for line in lines:
                self._line(line)
        elif len(self._rest) > MAX_REPLY:
            self._deaf = True
            self._rest.clear()

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:") and len(line) <= MAX_BYTES:
            self._take(line[5:])

    def _take(self, text: bytes) -> None:
        try:
            told = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):  # [DONE], or no JSON
            return
        if isinstance(told, dict):
            self.call.heard.take(told)

    def close(self) -> None:
        """The end of it."""
        if self._sse:
            self._line(bytes(self._rest))
        elif b'"usage"' in self._rest:
            self._take(bytes(self._rest))
        self._rest.clear()


class _Heard:
    """An httpx byte stream that hands on what it reads untouched."""

    def __init__(self, stream: Any, ear: _Ear, end: Callable[[], None]) -> None:
        self._stream, self._ear, self._end = stream, ear, end

    def _hear(self, chunk: bytes) -> bytes:
        self._ear.hear(chunk)
        return chunk

    def _finish(self) -> None:
        end, self._end = self._end, _nothing
        end()


@cache
def _streams() -> tuple[type[_Heard], type[_Heard]]:
    """The two kinds of stream that httpx tells apart by their class."""
    import httpx

    class Sync(_Heard, httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return map(self._hear, self._stream)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:  # a call that was broken off has cost what came until then
                self._finish()

    class Async(_Heard, httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                yield self._hear(chunk)

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._finish()

    return Sync, Async


def _nothing() -> None:
    """A call ends once."""


def _undoing(encoding: str) -> Callable[[bytes], bytes] | None:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk: chunk
    if encoding in ("gzip", "deflate"):
        undo = zlib.decompressobj(47 if encoding == "gzip" else 15)
        return lambda chunk: undo.decompress(chunk, MAX_REPLY)
    return None


def _model_of(request: Any) -> str | None:
    """The model that a JSON request names; None for any other request, or one whose body is a stream."""
    if "json" not in request.headers.get("content-type", ""):
        return None
    try:
        model = msgspec.json.decode(request.content, type=_Asked).model
    except Exception:  # not read yet, no JSON, no object
        return None
    return model if isinstance(model, str) and model.strip() and len(model) <= MAX_NAME else None
