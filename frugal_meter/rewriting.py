"""Degrading by rewriting: the ``model`` of an OpenAI-shaped request becomes the smaller one before the application reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .attribution.span import SPAN, Span
from .measure import ASKS_SMALLER
from .records import label
from .refusal import refused

if TYPE_CHECKING:
    from .meter import Meter

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode


class Rewriting:
    """An ASGI application around another: reads the model that a request names and, when a budget degrades, names a smaller.

    Only JSON bodies of up to the meter's limit are read, and only where a budget degrades or is kept per model; whatever is
    longer, compressed or not JSON passes as it came, byte for byte.
    """

    def __init__(self, app: App, meter: Meter) -> None:
        self.app, self.meter = app, meter

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request. Raises BudgetRefused where a budget on the model says no."""
        span = SPAN.get()
        if span is not None and self._concerns(span, scope):
            body = _Body(receive, self.meter.degrading.limit_bytes)
            await body.read()
            await self._rewrite(span, scope, body)
            receive = body.receive
        await self.app(scope, receive, send)

    def _concerns(self, span: Span, scope: Mapping[str, Any]) -> bool:
        if scope["type"] != "http" or not (span.decision in ASKS_SMALLER or self.meter.admission.needs_model):
            return False
        headers = dict(reversed(scope["headers"]))
        if (
            b"json" not in headers.get(b"content-type", b"").lower()
            or headers.get(b"content-encoding", b"identity") != b"identity"
        ):
            return False
        length = headers.get(b"content-length", b"0")
        return length.isdigit() and int(length) <= self.meter.degrading.limit_bytes

    async def _rewrite(self, span: Span, scope: Any, body: _Body) -> None:
        members = body.members()
        model = _model(members)
        if members is None or model is None:
            return
        small = await self._stand_in(span, model)
        if small is not None:
            # Every other member stays as it was written: numbers beyond a double, escapes, order.
            body.replace(msgspec.json.encode({**members, "model": msgspec.Raw(msgspec.json.encode(small))}))
            # In place, since other middleware reads from this very scope what the router will write into it.
            length = str(len(body.whole or b"")).encode()
            scope["headers"] = [(name, length if name == b"content-length" else value) for name, value in scope["headers"]]

    async def _stand_in(self, span: Span, model: str) -> str | None:
        """Decide over the budgets on ``model``; the smaller one that is to serve it, or None. Raises BudgetRefused."""
        meter = self.meter
        small = span.smaller = meter.degrading.rewrite.get(model)
        await self._identify(span, model)
        if small is None or span.decision not in ASKS_SMALLER:
            return None
        if not meter.may_serve(span, small, None):
            span.decision = "warn"  # the ladder goes on without this rung
            return None
        # What the smaller one needs is reserved before the reservation for the larger is let go: nothing is promised twice.
        given = [lease for lease in span.leases or () if lease.book.budget.needs_model]
        span.leases = [lease for lease in span.leases or () if not lease.book.budget.needs_model]
        try:
            await self._identify(span, small)
        finally:
            span.model = model
            meter.admission.store.settle(given, [0] * len(given))
        span.model_served = small
        return small

    async def _identify(self, span: Span, model: str) -> None:
        span.model = model
        self.meter.decide(span, later=True)
        if span.waiting is not None:
            await self.meter.decided(span)
        if span.refusal is not None:
            raise refused(span.refusal)


def _model(members: Mapping[str, msgspec.Raw] | None) -> str | None:
    if members is None or "model" not in members:
        return None
    try:
        return label(_text(members["model"]))
    except msgspec.DecodeError:
        return None


class _Body:
    """A request's body, read ahead up to a limit and handed on: whole and maybe changed, or in the very messages it came in."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._ahead: list[Message] = []
        self.whole: bytes | None = None

    async def read(self) -> None:
        """Read until the body's end, the client's, or the limit."""
        size = 0
        while size <= self._limit:
            message = await self._receive()
            self._ahead.append(message)
            if message["type"] != "http.request":
                return
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                if size <= self._limit:
                    self.whole = b"".join(each.get("body", b"") for each in self._ahead)
                return

    def members(self) -> dict[str, msgspec.Raw] | None:
        """The members of the JSON object that the body is; None when it is none, or was not read whole."""
        if not self.whole:
            return None
        try:
            return _members(self.whole)
        except (msgspec.DecodeError, RecursionError):
            return None

    def replace(self, whole: bytes) -> None:
        """Hand on ``whole`` instead of what came."""
        self.whole = whole
        self._ahead = [{"type": "http.request", "body": whole, "more_body": False}]

    async def receive(self) -> Message:
        """What an application receives: what was read ahead, then what comes, a disconnect included."""
        return self._ahead.pop(0) if self._ahead else await self._receive()
