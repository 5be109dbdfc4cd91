"""The ASGI middleware: one span per HTTP request or websocket, around everything that the application does for it."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from .attribution.clocks import step
from .attribution.hooks import watch_running_loop
from .attribution.span import SPAN, Span
from .degrading import degraded
from .errors import BudgetRefused
from .exporters.trace_context import current_trace_id
from .measure import ASKS_SMALLER, outcome_of
from .meter import Meter
from .queueing import Arrivals
from .rate_limit import Pacing
from .refusing import refuse
from .rewriting import Rewriting
from .streams import Cutting
from .telling import Telling
from .usage import MAX_BYTES, note_body

# One look-up each, made here: an attribute that is called in place is not cached by the interpreter (CPython 3.11 and 3.12).
_span, _set_span, _reset_span = SPAN.get, SPAN.set, SPAN.reset
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
        self._shaped: App = Rewriting(Cutting(Telling(Pacing(app, meter), meter), meter), meter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        meter = self.meter
        if kind not in ("http", "websocket") or meter.disabled:
            await (self._lifespan if kind == "lifespan" and not meter.disabled else self.app)(scope, receive, send)
            return
        outer, app = _span(), self.app
        if outer is not None and outer.desk is meter and outer.kind == kind and not outer.t1_ns:
            await app(scope, receive, send)  # metered already, by a middleware further out
            return
        try:
            watch_running_loop()
            span = meter.open_request(kind, scope, app)
        except Exception as error:
            meter.fault("open", error)
            await app(scope, receive, send)
            return
        answer = _Answer(span, receive, send)
        token = _set_span(span)
        try:
            if span.waiting is not None and await answer.queue(meter):
                answer.gone = True  # in the queue: the application never knew of this request
            elif span.refusal is not None:
                meter.route_refused(span, self.app)
                await step(answer.refuse(), span)  # saying no costs CPU too, and it is this request's
            else:
                respond = answer.send if kind == "http" else answer.send_websocket
                if meter.shapes:
                    app = self._shaped
                await step(app(scope, answer.receive, respond), span)  # type: ignore[arg-type]
                if answer.replaced:
                    await answer.refuse()
        except BaseException as error:
            if not await answer.failed(error):
                raise
        finally:
            try:  # noqa: SIM105 - a context manager here would cost every request half a microsecond
                _reset_span(token)
            except ValueError:  # closed from another context: garbage collection, a loop's end
                pass
            if span.outcome == "ok" and (answer.gone or span.status is None or span.status >= 500):
                answer.judge()
            if answer.usage is not None and meter.capture_usage and not span.has_nested_tokens:
                with meter.guard("usage"):
                    note_body(span, answer.usage)
            meter.close_span(span)
            if answer.arrivals is not None:
                answer.arrivals.close()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.meter.guard("start"):
            self.meter.expect(scope.get("app") or self.app)
            self.meter.start()
        try:
            await self.app(scope, receive, send)
        finally:
            with self.meter.guard("stop"):
                self.meter.stop()


def _is_refusal(error: BaseException) -> bool:
    """Whether ``error`` is a budget's refusal, or a task group's bundle of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_refusal(each) for each in error.exceptions)
    return isinstance(error, BudgetRefused)


class _Answer(msgspec.Struct, eq=False):  # a record, since one is made per request: a quarter of a class's price
    """The exchange with the client, watched: status, end, disconnect, and the chunk that may hold a ``usage``."""

    span: Span
    _receive: Receive
    _send: Send
    complete: bool = False
    gone: bool = False
    started: bool = False
    replaced: bool = False
    usage: bytes | None = None
    arrivals: Arrivals | None = None  # of a request that had to wait

    async def queue(self, meter: Meter) -> bool:
        """Wait for the budgets' answer; True when the client left meanwhile."""
        self.arrivals = Arrivals(self._receive)
        return await self.arrivals.watch(meter.admitted(self.span))

    async def receive(self) -> Message:
        """``receive``, noticing a client that leaves before its answer is complete."""
        message = await (self._receive() if self.arrivals is None else self.arrivals.receive())
        if not self.complete and message["type"] in ("http.disconnect", "websocket.disconnect"):
            self.gone = True
        return message

    async def send(self, message: Message) -> None:
        """``send`` of an HTTP exchange."""
        if message["type"] == "http.response.body":
            if self.replaced:
                return
            if not message.get("more_body"):
                self.complete = True
            body = message.get("body")
            if body:
                if type(body) is not bytes:  # a memoryview or bytearray: rare, and searched only when small
                    body = bytes(body) if len(body) <= MAX_BYTES else b""
                if body.find(b'"usage"') >= 0:  # `in` first takes the needle for a number, and raises within: twice the price
                    self.usage = body
        elif message["type"] == "http.response.start":
            status = message["status"]
            if self.span.refusal is not None and status >= 500:
                # An inner error handler turned the refusal into a 500: the refusal is answered instead.
                self.replaced = True
                return
            self.started = True
            self.span.status = status
            if self.span.decision in ASKS_SMALLER:
                message = degraded(message, self.span)
            # Here, and not at the end: a trace that was opened inside of us is current when its application answers.
            self.span.trace_id = current_trace_id()
        else:  # pathsend, trailers, early hints: only the first ends the answer
            self.complete = self.complete or message["type"] == "http.response.pathsend"
        onward = self._send
        try:
            await onward(message)
        except OSError:
            self.gone = True
            raise

    async def send_websocket(self, message: Message) -> None:
        """``send`` of a websocket: accepted is 101, closed before that is 403."""
        if message["type"] == "websocket.accept":
            self.span.status = 101
            self.span.trace_id = current_trace_id()
        elif message["type"] == "websocket.close":
            self.complete = True
            if self.span.status is None:
                self.span.status = 403
        await self._send(message)

    async def failed(self, error: BaseException) -> bool:
        """Note what the application raised; True when it was a refusal, now answered."""
        span = self.span
        refused = _is_refusal(error)
        if refused and span.refusal is not None and not self.started:
            await self.refuse()
            return True
        if refused:
            span.outcome = "error"  # too late for a 429: the response had begun
        elif span.outcome == "ok":
            if span.status is None and span.kind == "http":
                span.status = 500  # what servers answer for an application that raised
            span.outcome = "client_disconnect" if self.gone and isinstance(error, OSError | CancelledError) else outcome_of(error)
        return False

    def judge(self) -> None:
        """The outcome of a call that returned, or status 500 for one that raised before it answered."""
        span = self.span
        if self.gone and not self.complete:
            span.outcome = "client_disconnect"
        elif span.status is not None and span.status >= 500:
            span.outcome = "error"

    async def refuse(self) -> None:
        """Answer for the budget that refused."""
        span = self.span
        span.outcome = "refused"
        if span.refusal is None or self.complete:  # an application may have closed its websocket on the way out
            return
        self.complete = True
        await refuse(span, self._send)
