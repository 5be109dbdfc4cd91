"""Cutting: what a hard budget has cut is stopped, told why, and ended, so that no more joules are drawn for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from .attribution.span import SPAN, Span
from .dialects import Dialect, dialect_of
from .refusal import refused
from .refusing import closing, said

if TYPE_CHECKING:
    from .meter import Meter

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]
#: seconds between two looks at a request that sends nothing: as often as a tick can change its mind, and a little more
_MOST_WAIT_S: Final = 0.25


class StreamCut(OSError):
    """What an application's ``send`` raises once its stream is cut: by its base, a client that has gone (ASGI 2.4)."""


class Cutting:
    """An ASGI application around another: stops it when a hard budget has cut its span, and says the last words.

    To the application a cut looks like a client that leaves: ``send`` raises, ``receive`` tells of a disconnect, and where
    it does neither its task is cancelled.
    """

    def __init__(self, app: App, meter: Meter) -> None:
        self.app, self.meter = app, meter

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request or websocket. Raises BudgetRefused where it is cut before it has begun to answer."""
        span = SPAN.get()
        if span is None or not any(budget.hard for budget in self.meter.admission.budgets):
            await self.app(scope, receive, send)
            return
        await _Exchange(self.meter, span, receive, send).run(self.app, scope)


class _Exchange:
    """One request under hard budgets."""

    def __init__(self, meter: Meter, span: Span, receive: Receive, send: Send) -> None:
        self._meter, self._span = meter, span
        self._receive, self._send = receive, send
        self._began = self._complete = self._stopped = self._over = self._cancelled = False
        self._dialect: Dialect | None = None
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # a server runs an application in a task
        self._task = task
        self._wait_s = min(_MOST_WAIT_S, meter.sampler.period_s)
        self._deaf_s = math.inf  # from when on an application that goes on after its cut is cancelled
        self._timer = self._loop.call_later(self._wait_s, self._look)

    async def run(self, app: App, scope: Any) -> None:
        """Run the application to its end, or to its cut."""
        before = self._task.cancelling()
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            if self._left_to_others(before) or not self._stopped or not isinstance(error, Exception | asyncio.CancelledError):
                raise
        else:
            self._left_to_others(before)
        finally:
            self._timer.cancel()
        if self._stopped and not self._complete:
            await self._end()

    def _left_to_others(self, before: int) -> bool:
        """Take back our own cancellation, as `asyncio.timeout` does; whether somebody else's is still to be obeyed."""
        self._over = True
        return self._cancelled and self._task.uncancel() > before

    async def receive(self) -> Message:
        """What the application receives: once cut, a client that has gone."""
        if self._stopped:
            kind = self._span.kind
            return {"type": f"{kind}.disconnect"} | ({"code": 1006} if kind == "websocket" else {})
        return await self._receive()

    async def send(self, message: Message) -> None:
        """What the application sends, up to the cut."""
        if self._stopped:
            if self._loop.time() > self._deaf_s:
                self._cancel()  # it goes on in spite of what `send` raises
            raise StreamCut("the stream was cut by a hard budget")
        kind = message["type"]
        if kind in ("http.response.body", "websocket.send"):
            await self._send_piece(message)
            return
        if kind in ("http.response.start", "websocket.accept"):
            self._began = True
            self._dialect = dialect_of(message.get("headers", ()))
        elif kind in ("http.response.pathsend", "websocket.close"):
            self._complete = True
        await self._send(message)

    async def _send_piece(self, message: Message) -> None:
        dialect, body = self._dialect, bytes(message.get("body") or b"")
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._complete = True
        elif self._is_cut() and not (dialect is not None and dialect.is_over):
            self._stop()
            if dialect is not None and (end := dialect.until(body)) >= 0:
                message = {**message, "body": body[:end]}
        if dialect is not None:
            dialect.see(message.get("body") or b"")
        await self._send(message)
        if self._stopped:
            raise StreamCut("the stream was cut by a hard budget")

    def _is_cut(self) -> bool:
        """Ask for more where the live meter says that the lease is outgrown; whether that was refused."""
        for each in _family(self._span):
            self._meter.top_up(each)
        return _cut_of(self._span) is not None

    def _look(self) -> None:
        """From time to time while the application is silent."""
        if self._over or self._complete:
            return
        if self._is_cut():
            self._stop()
            self._cancel()
        else:
            self._timer = self._loop.call_later(self._wait_s, self._look)

    def _stop(self) -> None:
        self._stopped = True
        self._deaf_s = self._loop.time() + self._wait_s

    def _cancel(self) -> None:
        # When nothing runs: a task that cancels itself would be told at whatever it awaits next, ours or the server's.
        self._loop.call_soon(self._cancel_now)

    def _cancel_now(self) -> None:
        if not self._over and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    async def _end(self) -> None:
        span, cut = self._span, _cut_of(self._span) or {}
        told = {**cut, "reason": "cut"}
        span.decision = "cut"
        if not self._began:
            span.refusal = told
            raise refused(told)
        span.outcome = "cancelled"
        if span.kind == "websocket":
            await self._send(closing(told))
        elif self._dialect is not None:
            last = self._dialect.last_words(said(span, told))
            await self._send({"type": "http.response.body", "body": last})
        # Else the response is left unfinished: a reader that knows no last words must not take what it has for all of it.


def _family(span: Span) -> Iterator[Span]:
    """The span and the blocks that run inside it."""
    yield span
    for child in list((span.nested or {}).values()):
        yield from _family(child)


def _cut_of(span: Span) -> Mapping[str, Any] | None:
    """Why ``span``, or a block inside it, was cut."""
    return next((each.cut for each in _family(span) if each.cut is not None), None)
