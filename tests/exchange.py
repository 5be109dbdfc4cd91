"""What the tests of budgets, metrics and the ops pages share: a meter at hand, HTTP without a socket, a budget's account."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route

from frugal_meter import Meter, MeterMiddleware
from frugal_meter.testing import FrozenClock, SyntheticSource
from frugal_meter.units import BOOKED_IN

HERE = ("127.0.0.1", 40_000)
#: the instant at which a FrozenClock stands, 2026-01-01T00:00:00Z, in nanoseconds
AT_NS = 1_767_225_600 * 10**9


def a_meter(**settings: Any) -> Meter:
    """A meter on a clock that stands still and a source of 10 J per CPU-second, which ticks only when asked."""
    given = {"service": "guichet", "zone": "FR", "sources": SyntheticSource(0, 10), "clock": FrozenClock(), "tick": 60}
    return Meter(**{**given, **settings})


def later(meter: Meter, seconds: float) -> None:
    """Let the meter's clock, which stands still, go on by ``seconds``."""
    assert isinstance(meter.clock, FrozenClock)
    meter.clock.advance(seconds)


async def hello(request: Request) -> PlainTextResponse:
    """The least an application can do."""
    return PlainTextResponse("hello")


def an_app(meter: Meter, *routes: BaseRoute, outside: bool = False) -> Any:
    """A Starlette application behind the middleware, added from inside or wrapped around it from outside."""
    app = Starlette(routes=list(routes) or [Route("/hello", hello, methods=["GET", "POST"])])
    if outside:
        return MeterMiddleware(app, meter=meter)
    app.add_middleware(MeterMiddleware, meter=meter)
    return app


def ask(app: Any, *paths: str, method: str = "GET", headers: Any = None, client: tuple[str, int] = HERE) -> list[httpx.Response]:
    """The answers to one request after the other, straight through ASGI."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return [await http.request(method, path, headers=headers) for path in paths]

    return asyncio.run(all_of_them())


def talk(app: Any, scope: dict[str, Any], *said: dict[str, Any]) -> list[dict[str, Any]]:
    """Drive ``app`` by hand: ``said`` is what the server passes in, the answer what the application sent."""
    sent: list[dict[str, Any]] = []
    waiting = list(said)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def websocket_scope(path: str) -> dict[str, Any]:
    """The scope of a websocket to ``path``."""
    return {"type": "websocket", "path": path, "raw_path": path.encode(), "headers": [], "query_string": b"", "subprotocols": []}


class Account(NamedTuple):
    """Where a budget stands, in the unit of its limit."""

    settled: float
    reserved: float


def account(meter: Meter, name: str, *key: str) -> Account:
    """The account of the budget ``name`` (for ``key``) in the window now open."""
    books = meter.admission.store.books(meter.clock.time_ns())
    book = next(b for b in books if (b.budget.name, b.key) == (name, key))
    scale = BOOKED_IN[book.budget.resource][1]
    return Account(book.settled / scale, book.reserved / scale)


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    """The status of each answer."""
    return [answer.status_code for answer in answers]


def samples(meter: Meter, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples called ``name`` in the exposition: sorted labels → value."""
    text = meter.metrics()[0].decode()
    found = (s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name)
    return {tuple(sorted(s.labels.items())): s.value for s in found}
