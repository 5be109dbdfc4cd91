"""The ASGI middleware: one span per HTTP request or websocket, around everything that the application does for it."""

from __future__ import annotations

from asyncio import CancelledError, get_running_loop
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from . import routes
from .attribution.clocks import drive
from .attribution.hooks import TaskFactory, watch_loop
from .attribution.span import SPAN, Span
from .errors import BudgetRefused
from .measure import outcome_of
from .meter import Meter
from .refusal import problem
from .usage import note_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class MeterMiddleware:
    """Pure ASGI: ``app.add_middleware(MeterMiddleware, meter=meter)``, or ``MeterMiddleware(app, meter=meter)``.

    http and websocket are metered, anything else passes through untouched; the meter runs for as long as the
    application's lifespan does, and starts with the first request where there is no lifespan.
    """

    def __init__(self, app: App, meter: Meter) -> None:
        self.app, self.meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        meter = self.meter
        if meter.disabled or kind not in ("http", "websocket"):
            if kind == "lifespan" and not meter.disabled:
                await self._lifespan(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        try:
            loop = get_running_loop()
            if type(loop.get_task_factory()) is not TaskFactory:
                watch_loop(loop)
            span = meter.open_request(kind, scope)
        except Exception as error:
            meter.fault("open", error)
            await self.app(scope, receive, send)
            return
        if span.refusal is not None:
            await _Answer(span, send, kind).refuse()
            meter.close_span(span)
            return
        await self._metered(span, scope, receive, send, kind)

    async def _metered(self, span: Span, scope: Scope, receive: Receive, send: Send, kind: str) -> None:
        answer = _Answer(span, send, kind)
        span.root_before = scope.get("root_path", "")
        token = SPAN.set(span)
        try:
            await drive(self.app(scope, answer.watched(receive), answer.send), span)  # type: ignore[arg-type]
        except BudgetRefused:
            if span.refusal is None or (answer.started and not answer.replaced):
                span.outcome = "error"
                raise
            await answer.refuse()
        except BaseException as error:
            if span.outcome == "ok":
                span.outcome = "client_disconnect" if isinstance(error, OSError) and answer.send_failed else outcome_of(error)
            if isinstance(error, CancelledError) and answer.gone:
                span.outcome = "client_disconnect"
            raise
        finally:
            SPAN.reset(token)
            self._close(span, scope, answer)

    def _close(self, span: Span, scope: Scope, answer: _Answer) -> None:
        meter = self.meter
        try:
            if span.route is None:
                span.route = routes.template(scope, span.root_before)
            if span.status is None and span.outcome == "error" and span.kind == "http":
                span.status = 500  # what servers answer for an application that raised
            if span.outcome == "ok":
                if answer.gone:
                    span.outcome = "client_disconnect"
                elif span.status is not None and span.status >= 500:
                    span.outcome = "error"
            if answer.usage is not None and meter.capture_usage:
                note_body(span, answer.usage)
        except Exception as error:
            meter.fault("close", error)
        meter.close_span(span)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.meter.guard("start"):
            self.meter.start()
        try:
            await self.app(scope, receive, send)
        finally:
            with self.meter.guard("stop"):
                self.meter.stop()


class _Answer:
    """What goes back to the client, watched: status, end, disconnect, and the chunk that may hold a ``usage``."""

    __slots__ = ("_kind", "_send", "complete", "gone", "replaced", "send", "send_failed", "span", "started", "usage")

    def __init__(self, span: Span, send: Send, kind: str) -> None:
        self.span, self._send, self._kind = span, send, kind
        self.complete = self.gone = self.started = self.send_failed = self.replaced = False
        self.usage: bytes | None = None
        self.send: Send = self._send_http if kind == "http" else self._send_websocket

    async def _send_http(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if self.replaced:
                return
            if not message.get("more_body"):
                self.complete = True
            body = message.get("body", b"")
            if b'"usage"' in body:
                self.usage = body
        elif message["type"] == "http.response.start":
            status = message["status"]
            if self.span.refusal is not None and status >= 500:
                # An inner error handler turned the refusal into a 500: answer the refusal instead.
                self.replaced = True
                return
            self.started = True
            self.span.status = status
        try:
            await self._send(message)
        except OSError:
            self.send_failed = self.gone = True
            raise

    async def _send_websocket(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            self.span.status = 101
        elif message["type"] == "websocket.close":
            self.complete = True
            if self.span.status is None:
                self.span.status = 403
        await self._send(message)

    def watched(self, receive: Receive) -> Receive:
        """``receive``, noticing a client that leaves before its answer is complete."""

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not self.complete:
                self.gone = True
            return message

        return watched_receive

    async def refuse(self) -> None:
        """Answer 429, or close the websocket with a policy code."""
        span = self.span
        span.outcome = "refused"
        if span.refusal is None:
            return
        if self._kind == "websocket":
            span.status = 403
            await self._send({"type": "websocket.close", "code": 1008, "reason": f"frugality budget {span.refusal['budget']} exceeded"})
            return
        span.status = 429
        headers, body = problem(span.refusal)
        await self._send({"type": "http.response.start", "status": 429, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
