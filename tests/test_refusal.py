"""What a client is told when a budget says no: at the door, in the middle of a request, on a websocket, or by a smaller model."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from exchange import HERE, a_meter, account, an_app, ask, hello, later, samples, statuses, talk, websocket_scope
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.errors import BudgetRefused
from frugal_meter.refusal import problem, sentences
from frugal_meter.testing import RecordingExporter, SyntheticSource

ONE_A_DAY = {"limit": "1 requests", "per": "day"}
ONE_LARGE = Budget("large", **ONE_A_DAY, match={"model": "large"})  # type: ignore[arg-type]


def large(meter: Meter, tokens: int = 0) -> None:
    """Work with the model that the budget "large" admits once."""
    with meter.measure("work", model="large") as span:
        span.add_tokens(output=tokens)


def readings(meter: Meter) -> list[Any]:
    """Every request settled so far."""
    meter.settle()
    return [span.reading for span in meter.recent]


def test_a_refusal_at_the_door_is_a_problem_document_with_the_figures_behind_it() -> None:
    with a_meter(budgets=[Budget("guichet", "2 requests", per="day")]) as meter:
        answer = ask(an_app(meter), "/hello", "/hello", "/hello")[2]
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) == len(answer.content)
    said = answer.json()
    assert said["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert said["status"] == 429
    assert said["violated-policies"] == ["guichet"]
    figures = {k: said[k] for k in ("resource", "unit", "limit", "settled", "reserved", "estimate", "tier", "window")}
    assert figures == {
        "resource": "requests", "unit": "requests", "limit": 2, "settled": 2, "reserved": 0, "estimate": 1, "tier": None,
        "window": "day",
    }  # fmt: skip


def test_a_refusal_speaks_english_and_french() -> None:
    with a_meter(budgets=[Budget("guichet", "1.5 kJ", per="hour", estimate="1.5 kJ")]) as meter:
        held = [meter.open_span("block") for _ in range(2)]
        for span in held:
            meter.decide(span)
        assert held[1].refusal is not None
        english, french = sentences(held[1].refusal)
    assert "'guichet' of 1.5 kJ per hour (measured figures, computing energy without the share of idle)" in english
    assert "« guichet » de 1,5 kJ par heure (grandeur mesurée, énergie de calcul sans la part de repos)" in french
    assert "60 min" in english
    assert "60 min" in french


@pytest.mark.parametrize("limit", ["1000000 tokens", "123456789 requests"])
def test_a_large_count_is_written_out_in_full(limit: str) -> None:
    with a_meter(budgets=[Budget("guichet", limit, per="day", estimate=limit)]) as meter:
        held = [meter.open_span("block") for _ in range(2)]
        meter.admission.store.books(meter.clock.time_ns())[0].settled = int(limit.split()[0])
        meter.decide(held[0])
        assert held[0].refusal is not None
        for sentence in sentences(held[0].refusal):
            assert "e+0" not in sentence
            assert limit.split()[0] in "".join(c for c in sentence if c.isdigit())


@pytest.mark.parametrize("tier", ["measured", "modelled"])
def test_a_refusal_on_joules_says_of_which_tier_they_are(tier: Any) -> None:
    budget = Budget("joules", "1 J", per="minute", estimate="1 J", degrade_at=None)
    with a_meter(sources=SyntheticSource(0, 10, tier), budgets=[budget]) as meter:
        meter.decide(meter.open_span("block"))
        said = ask(an_app(meter), "/hello")[0].json()
    assert (said["tier"], said["unit"], said["limit"]) == (tier, "J", 1)
    assert tier in said["detail"]


def test_the_wait_is_never_shorter_than_the_window_and_long_waits_tell_clients_not_to_retry() -> None:
    with a_meter(budgets=[Budget("minute", "1 requests", per="minute"), Budget("day", "2 requests", per="day")]) as meter:
        app = an_app(meter)
        later(meter, 29.6)
        short = ask(app, "/hello", "/hello")[1]
        assert 31 <= int(short.headers["retry-after"]) <= 34, "those refused together do not come back together"
        assert short.headers.get("x-should-retry") is None
        later(meter, 31)
        long = ask(app, "/hello", "/hello")[1]
        later(meter, 60)
        long = ask(app, "/hello")[0]
        assert long.json()["violated-policies"] == ["day"]
        assert long.headers["x-should-retry"] == "false"
        later(meter, int(long.headers["retry-after"]))
        assert statuses(ask(app, "/hello")) == [200]


def test_a_refusal_costs_nothing_and_is_recorded() -> None:
    exporter = RecordingExporter()
    with a_meter(budgets=[Budget("guichet", **ONE_A_DAY)], exporters=[exporter]) as meter:
        ask(an_app(meter), "/hello", "/hello")
        meter.settle()
        assert account(meter, "guichet") == (1, 0)
    refused = exporter.readings[1]
    assert (refused.status, refused.outcome, refused.decision) == (429, "refused", "refuse")


def test_a_request_refused_in_its_middle_does_not_use_up_a_budget_of_requests() -> None:
    with a_meter(budgets=[Budget("all", "10 requests", per="day"), ONE_LARGE]) as meter:

        async def chat(request: Request) -> PlainTextResponse:
            large(meter)
            return PlainTextResponse("answer")

        assert statuses(ask(an_app(meter, Route("/chat", chat)), "/chat", "/chat", "/chat")) == [200, 429, 429]
        meter.settle()
        assert account(meter, "all").settled == 1


def test_a_request_refused_in_its_middle_pays_for_what_it_used_before() -> None:
    with a_meter(budgets=[Budget("tokens", "100 tokens", per="day", estimate="1 token"), ONE_LARGE]) as meter:

        async def chat(request: Request) -> PlainTextResponse:
            with meter.measure("search", model="small") as span:
                span.add_tokens(output=10)
            large(meter)
            return PlainTextResponse("answer")

        assert statuses(ask(an_app(meter, Route("/chat", chat)), "/chat", "/chat")) == [200, 429]
        meter.settle()
        assert account(meter, "tokens") == (20, 0)


@pytest.mark.parametrize("outside", [False, True], ids=["added from inside", "wrapped from outside"])
@pytest.mark.parametrize("kind", ["coroutine", "thread", "task group"])
def test_a_refusal_from_measure_gives_the_same_answer_as_one_at_the_door(outside: bool, kind: str) -> None:
    with a_meter(budgets=[Budget("large", **ONE_A_DAY, match={"model": "large"})]) as meter:

        async def in_coroutine(request: Request) -> PlainTextResponse:
            large(meter)
            return PlainTextResponse("answer")

        def in_thread(request: Request) -> PlainTextResponse:
            large(meter)
            return PlainTextResponse("answer")

        async def in_task_group(request: Request) -> PlainTextResponse:
            async def part() -> None:
                large(meter)

            async with asyncio.TaskGroup() as group:
                group.create_task(part())
            return PlainTextResponse("answer")

        endpoint = {"coroutine": in_coroutine, "thread": in_thread, "task group": in_task_group}[kind]
        first, second = ask(an_app(meter, Route("/chat", endpoint), outside=outside), "/chat", "/chat")
        assert first.text == "answer"
        assert second.status_code == 429
        assert second.json()["violated-policies"] == ["large"]
        assert [(r.status, r.outcome) for r in readings(meter)] == [(200, "ok"), (429, "refused")]


def test_an_error_handler_of_the_application_does_not_hide_a_refusal() -> None:
    with a_meter(budgets=[ONE_LARGE]) as meter:

        async def chat(request: Request) -> PlainTextResponse:
            large(meter)
            return PlainTextResponse("answer")

        async def broken(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"error": "broken"}, 500)

        app = MeterMiddleware(Starlette(routes=[Route("/chat", chat)], exception_handlers={Exception: broken}), meter=meter)
        assert statuses(ask(app, "/chat", "/chat")) == [200, 429]


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("status", [200, 503])
def test_an_application_that_catches_the_refusal_is_always_answered(outside: bool, status: int) -> None:
    with a_meter(budgets=[ONE_LARGE]) as meter:

        async def chat(request: Request) -> PlainTextResponse:
            try:
                large(meter)
            except BudgetRefused as refused:
                return PlainTextResponse(f"from the book: {refused.refusal['budget']}", status)
            return PlainTextResponse("answer")

        answer = ask(an_app(meter, Route("/chat", chat), outside=outside), "/chat", "/chat")[1]
        assert answer.status_code == 429 or (answer.status_code == status and answer.text == "from the book: large")


def test_a_refusal_after_the_answer_began_does_not_corrupt_it() -> None:
    with a_meter(budgets=[ONE_LARGE]) as meter:

        async def stream(request: Request) -> StreamingResponse:
            async def pieces() -> Any:
                yield "one "
                large(meter)
                yield "two"

            return StreamingResponse(pieces())

        whole, cut = ask(an_app(meter, Route("/chat", stream), outside=True), "/chat", "/chat")
        assert whole.text == "one two"
        assert (cut.status_code, cut.text) == (200, "one ")
        assert readings(meter)[1].outcome in ("error", "refused")


def test_outside_http_a_refusal_is_an_exception_that_carries_the_figures() -> None:
    with a_meter(budgets=[ONE_LARGE]) as meter:
        large(meter)
        with pytest.raises(BudgetRefused, match="'large' of 1 requests per day") as refused:
            large(meter)
    assert refused.value.refusal["limit"] == 1
    headers, body = problem(refused.value.refusal)
    assert dict(headers)[b"content-length"] == str(len(body)).encode()


@pytest.mark.parametrize("outside", [False, True], ids=["added from inside", "wrapped from outside"])
def test_a_budget_per_route_holds_each_route_apart(outside: bool) -> None:
    with a_meter(budgets=[Budget("each", **ONE_A_DAY, key="route")]) as meter:
        routes = [Route("/a/{id}", hello), Mount("/m", routes=[Route("/b", hello)])]
        app = an_app(meter, *routes, outside=outside)
        assert statuses(ask(app, "/a/1", "/a/2", "/m/b", "/m/b", "/nowhere", "/nowhere2")) == [200, 429, 200, 429, 404, 429]
        assert account(meter, "each", "/a/{id}").settled == 1
        assert account(meter, "each", "/m/b").settled == 1


def test_a_budget_per_route_knows_the_routes_of_included_fastapi_routers() -> None:
    letters, v1, app = APIRouter(prefix="/letters"), APIRouter(prefix="/v1"), FastAPI()

    @letters.get("/{number}")
    def letter(number: int) -> int:
        return number

    v1.include_router(letters)
    app.include_router(v1)
    with a_meter(budgets=[Budget("each", **ONE_A_DAY, key="route")]) as meter:
        app.add_middleware(MeterMiddleware, meter=meter)
        assert statuses(ask(app, "/v1/letters/1", "/v1/letters/2", "/nowhere")) == [200, 429, 404]
        assert account(meter, "each", "/v1/letters/{number}").settled == 1
        assert [r.route for r in readings(meter)] == ["/v1/letters/{number}", "/v1/letters/{number}", "unmatched"]


def test_an_application_wrapped_twice_by_one_meter_is_charged_once() -> None:
    with a_meter(budgets=[Budget("all", "2 requests", per="day")]) as meter:
        app = MeterMiddleware(an_app(meter), meter=meter)
        assert statuses(ask(app, "/hello", "/hello", "/hello")) == [200, 200, 429]
        assert len(readings(meter)) == 3


def test_a_request_served_by_another_model_after_a_refusal_names_the_one_that_served() -> None:
    with a_meter(budgets=[ONE_LARGE]) as meter:

        async def chat(request: Request) -> PlainTextResponse:
            try:
                large(meter)
            except BudgetRefused:
                with meter.measure("work", model="small"):
                    pass
            return PlainTextResponse("answer")

        assert statuses(ask(an_app(meter, Route("/chat", chat)), "/chat", "/chat")) == [200, 200]
        assert [r.model_served for r in readings(meter)] == ["large", "small"]


def test_the_route_at_the_door_is_the_one_that_the_router_takes() -> None:
    with a_meter(budgets=[Budget("each", "9 requests", per="day", key="route")]) as meter:
        app = an_app(meter, Route("/items/{id}", hello, methods=["GET"]), Route("/items/new", hello, methods=["POST"]))
        ask(app, "/items/new")
        ask(app, "/items/new", method="POST")
        assert account(meter, "each", "/items/{id}").settled == 1
        assert account(meter, "each", "/items/new").settled == 1


def test_a_mounted_application_has_the_same_route_with_and_without_a_budget() -> None:
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("raw")(scope, receive, send)

    routes = []
    for budgets in ([], [Budget("each", "9 requests", per="day", key="route")]):
        with a_meter(budgets=budgets) as meter:
            ask(an_app(meter, Mount("/static", app=raw)), "/static/x.css")
            routes.append(readings(meter)[0].route)
    assert routes[0] == routes[1]


def test_a_budget_per_tenant_never_shows_one_tenant_the_figures_of_another() -> None:
    def tenant(scope: Any) -> str | None:
        return dict(scope["headers"]).get(b"x-signed-in", b"").decode() or None

    with a_meter(tenant=tenant, budgets=[Budget("each", "2 requests", per="day", key="tenant")]) as meter:
        app = an_app(meter)
        ask(app, "/hello", headers={"x-signed-in": "caf"})
        answers = ask(app, *["/hello"] * 3, headers={"x-signed-in": "mairie"})
        assert statuses(answers) == [200, 200, 429]
        assert answers[2].json()["settled"] == 2
        assert "caf" not in answers[2].text
        assert statuses(ask(app, "/hello", "/hello", "/hello")) == [200, 200, 429], "nobody signed in: an account of its own"


def test_a_websocket_is_refused_before_it_is_accepted() -> None:
    with a_meter(budgets=[Budget("guichet", **ONE_A_DAY)]) as meter:

        async def line(socket: WebSocket) -> None:
            await socket.accept()
            await socket.close()

        app = an_app(meter, WebSocketRoute("/line", line))
        opened = talk(app, websocket_scope("/line"), {"type": "websocket.connect"})
        refused = talk(app, websocket_scope("/line"), {"type": "websocket.connect"})
        assert [message["type"] for message in opened] == ["websocket.accept", "websocket.close"]
        assert [(message["type"], message["code"]) for message in refused] == [("websocket.close", 1008)]
        assert [(r.status, r.outcome) for r in readings(meter)] == [(101, "ok"), (403, "refused")]


def test_a_websocket_refused_while_open_is_closed_with_a_reason_that_fits_its_frame() -> None:
    with a_meter(budgets=[Budget("é" * 130, **ONE_A_DAY, match={"model": "large"})]) as meter:

        async def line(socket: WebSocket) -> None:
            await socket.accept()
            large(meter)
            large(meter)

        sent = talk(an_app(meter, WebSocketRoute("/line", line)), websocket_scope("/line"), {"type": "websocket.connect"})
        assert sent[-1]["code"] == 1008
        assert len(sent[-1]["reason"].encode()) <= 123, "RFC 6455, 5.5: a close frame holds 125 bytes, two of them the code"
        assert [(r.status, r.outcome) for r in readings(meter)] == [(101, "refused")]


def test_a_burst_at_the_door_is_admitted_to_the_limit_and_not_one_joule_beyond() -> None:
    budget = Budget("joules", "500 J", per="day", estimate="10 J", degrade_at=None)
    with a_meter(budgets=[budget]) as meter:

        async def burst() -> list[int]:
            all_in, entered = asyncio.Event(), 0

            async def chat(request: Request) -> PlainTextResponse:
                nonlocal entered
                entered += 1
                if entered == 50:
                    all_in.set()
                await all_in.wait()
                return PlainTextResponse("answer")

            transport = httpx.ASGITransport(an_app(meter, Route("/chat", chat)), client=HERE)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                return statuses(await asyncio.gather(*(http.get("/chat") for _ in range(200))))

        got = asyncio.run(asyncio.wait_for(burst(), 30))
        assert (got.count(200), got.count(429)) == (50, 150)
        assert account(meter, "joules").reserved == 0


def test_requests_far_from_every_limit_are_counted_in_their_window() -> None:
    with a_meter(budgets=[Budget("all", "100 requests", per="minute"), Budget("tokens", "5000 tokens", per="day")]) as meter:
        app = an_app(meter)
        ask(app, "/hello", "/hello")
        assert account(meter, "all") == (2, 0)
        later(meter, 60)
        ask(app, "/hello")
        assert account(meter, "all") == (1, 0)
        admitted = samples(meter, "frugal_budget_decisions_total")
    assert {dict(k)["budget"]: n for k, n in admitted.items() if dict(k)["action"] == "admit"} == {"all": 3, "tokens": 3}


def test_no_more_requests_than_allowed_run_at_once_and_the_next_may_try_again_soon() -> None:
    with a_meter(budgets=[Budget("two", "1000 requests", per="month", max_in_flight=2)]) as meter:

        async def three_at_once() -> list[httpx.Response]:
            turned_away = asyncio.Event()

            async def chat(request: Request) -> PlainTextResponse:
                await turned_away.wait()
                return PlainTextResponse("answer")

            transport = httpx.ASGITransport(an_app(meter, Route("/chat", chat)), client=HERE)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                requests = [asyncio.create_task(http.get("/chat")) for _ in range(3)]
                done, _ = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
                turned_away.set()
                await asyncio.gather(*requests)
                return [next(iter(done)).result(), *(one.result() for one in requests if one not in done)]

        refused, *others = asyncio.run(asyncio.wait_for(three_at_once(), 30))
        assert statuses(others) == [200, 200]
        assert (refused.status_code, refused.json()["reason"], refused.headers["retry-after"]) == (429, "in_flight", "1")
        assert "x-should-retry" not in refused.headers
        assert "2 requests run at once" in refused.json()["detail"]
        assert "2 demandes à la fois" in refused.json()["detail_fr"]


def test_requests_on_eight_threads_are_admitted_to_the_limit_and_not_one_beyond() -> None:
    budgets = [Budget("tokens", "100 tokens", per="day", estimate="1 token"), Budget("wide", "1 kJ", per="day", estimate="1 mJ")]
    with a_meter(budgets=budgets) as meter:
        app, together = an_app(meter), threading.Barrier(8)

        def client(_: int) -> list[int]:
            together.wait(10)
            spans = [meter.open_request("http", {"type": "http", "path": "/hello", "headers": []}, app) for _ in range(25)]
            return [span.refusal is None for span in spans]

        with ThreadPoolExecutor(8) as pool:
            admitted = sum(map(sum, pool.map(client, range(8))))
        assert admitted == 100
        assert account(meter, "tokens").reserved == 100
        assert ask(app, "/hello")[0].json()["violated-policies"] == ["tokens"]


def test_a_client_gone_before_its_refusal_leaves_nothing_behind() -> None:
    with a_meter(budgets=[Budget("guichet", **ONE_A_DAY)]) as meter:
        app = MeterMiddleware(an_app(a_meter()), meter=meter)
        ask(app, "/hello")

        async def gone(message: Any) -> None:
            raise OSError("broken pipe")

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": "/hello", "headers": [], "query_string": b""}
        with pytest.raises(OSError, match="broken pipe"):
            asyncio.run(app(scope, receive, gone))
        meter.settle()
        assert not meter.sampler.live


def test_a_cancelled_request_pays_what_it_used() -> None:
    with a_meter(budgets=[Budget("tokens", "100 tokens", per="day", estimate="50 tokens")]) as meter:

        async def run() -> None:
            begun = asyncio.Event()

            async def chat(request: Request) -> PlainTextResponse:
                meter.current().add_tokens(output=7)  # type: ignore[union-attr]
                begun.set()
                await asyncio.Event().wait()
                return PlainTextResponse("never")

            transport = httpx.ASGITransport(an_app(meter, Route("/chat", chat)), client=HERE)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                request = asyncio.create_task(http.get("/chat"))
                await begun.wait()
                assert account(meter, "tokens") == (0, 50)
                request.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await request

        asyncio.run(run())
        assert readings(meter)[0].outcome == "cancelled"
        assert account(meter, "tokens") == (7, 0)


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async generator"])
def test_when_a_budget_degrades_the_smaller_model_answers_and_the_reading_says_both(kind: str) -> None:
    exporter = RecordingExporter()
    budget = Budget("all", "10 requests", per="day", warn_at=0.1, degrade_at=0.1)
    with a_meter(budgets=[budget], exporters=[exporter]) as meter:

        @meter.measure(model="small-1")
        def small() -> str:
            return "short"

        measured = meter.measure("answer", model="large-1", fallback=small)
        if kind == "plain":

            @measured
            def plain() -> str:
                return "long"

            said = [plain(), plain()]
        elif kind == "coroutine":

            @measured
            async def coroutine() -> str:
                return "long"

            said = [asyncio.run(coroutine()), asyncio.run(coroutine())]
        elif kind == "generator":

            @measured
            def generator() -> Any:
                yield "long"

            said = ["".join(generator()), "".join(generator())]
        else:

            @measured
            async def async_generator() -> Any:
                yield "long"

            async def joined() -> str:
                return "".join([piece async for piece in async_generator()])

            said = [asyncio.run(joined()), asyncio.run(joined())]
        meter.settle()
    assert said == ["long", "short"]
    outermost = [r for r in exporter.readings if r.parent is None]
    assert [(r.model_requested, r.model_served, r.decision) for r in outermost] == [
        ("large-1", "large-1", "admit"), ("large-1", "small-1", "degrade"),
    ]  # fmt: skip


def test_requests_at_the_door_reserve_what_such_requests_have_used() -> None:
    with a_meter(budgets=[Budget("tokens", "100000 tokens", per="day")]) as meter:

        async def chat(request: Request) -> PlainTextResponse:
            seen.append(account(meter, "tokens").reserved)
            meter.current().add_tokens(output=40)  # type: ignore[union-attr]
            return PlainTextResponse("answer")

        seen: list[float] = []
        app = an_app(meter, Route("/chat", chat))
        ask(app, "/chat")
        meter.settle()
        ask(app, "/chat")
    assert seen == [1000, 40], "1 % of the limit before anything is known, then what was used"


def test_a_spent_budget_does_not_hide_the_meters_own_pages_nor_count_them() -> None:
    with a_meter(budgets=[Budget("all", "2 requests", per="day")]) as meter:
        pages = meter.ops_app()
        app = an_app(meter, Route("/chat", hello), Mount("/frugal", pages))
        assert statuses(ask(app, "/frugal/metrics", "/chat", "/frugal/data.json", "/chat")) == [200, 200, 200, 200]
        meter.settle()
        assert account(meter, "all").settled == 2
        assert statuses(ask(app, "/chat", "/frugal/metrics", "/frugal/")) == [429, 200, 200]
