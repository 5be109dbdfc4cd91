"""Cutting a stream under a hard budget: the last words, the end of the work, and what it is charged. On a real server too."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import websockets
from exchange import a_meter, account, an_app, later, samples
from fastapi import FastAPI
from openai import AsyncOpenAI
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from support import PATIENCE_S, ask, burn, metered, scope, served

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.budgets.upkeep import LOOK_NS

#: one chunk is 10 tokens: the fifth does not fit
HARD = Budget("hard", "45 tokens", per="day", estimate="10 tokens", hard=True, degrade_at=None)
SSE = "text/event-stream"


class Work:
    """A generation of at most ``most`` chunks of 10 tokens, which knows how far it went and whether it was stopped."""

    def __init__(self, meter: Meter, chunk: Callable[[int], str] = lambda n: f"data: {n}\n\n", most: int = 1000) -> None:
        self.meter, self.chunk, self.most = meter, chunk, most
        self.made = 0
        self.stopped = threading.Event()

    def make(self) -> str:
        """One chunk."""
        span = self.meter.current()
        assert span is not None
        span.add_tokens(output=10)
        later(self.meter, LOOK_NS / 1e9)  # a chunk looks at its leases no more often than this
        self.made += 1
        return self.chunk(self.made)

    async def pieces(self) -> AsyncIterator[str]:
        """As an async generator."""
        try:
            while self.made < self.most:
                yield self.make()
        finally:
            self.stopped.set()

    def sync_pieces(self) -> Iterator[str]:
        """As a generator, which Starlette runs on worker threads."""
        try:
            while self.made < self.most:
                yield self.make()
        finally:
            self.stopped.set()


def hard_meter(**settings: Any) -> Meter:
    return a_meter(**{"budgets": [HARD], **settings})


def fetch(app: Any, path: str = "/chat") -> httpx.Response:
    """One request over a real socket; what came of a response that was not finished is its text."""

    async def over_a_socket() -> httpx.Response:
        async with (
            served(app) as port,
            httpx.AsyncClient() as http,
            http.stream("GET", f"http://127.0.0.1:{port}{path}") as reply,
        ):
            body = b""
            try:
                async for part in reply.aiter_raw():
                    body += part
            except httpx.RemoteProtocolError:
                body += b" <unfinished>"
            return httpx.Response(reply.status_code, headers=reply.headers, content=body)

    return asyncio.run(asyncio.wait_for(over_a_socket(), PATIENCE_S))


def assert_cut(meter: Meter, work: Work, *, tokens: int = 50) -> None:
    """The work has stopped, and is charged what it made and no more."""
    assert work.stopped.wait(PATIENCE_S)
    meter.settle()
    reading = meter.recent[-1].reading
    assert (reading.status, reading.decision, reading.outcome) == (200, "cut", "cancelled")
    assert work.made == tokens // 10
    assert account(meter, "hard") == (tokens, 0)
    assert meter.errors == {}


@pytest.mark.parametrize("kind", ["async", "sync", "sse-starlette", "base-http-middleware", "fastapi"])
def test_a_cut_stream_of_events_ends_with_an_error_event_and_its_generator_is_stopped(kind: str) -> None:
    with hard_meter() as meter:
        work = Work(meter)

        async def chat(request: Request) -> Response:
            if kind == "sse-starlette":

                async def events() -> AsyncIterator[dict[str, str]]:
                    async for piece in work.pieces():
                        yield {"data": piece.strip().removeprefix("data: ")}

                return EventSourceResponse(events())
            return StreamingResponse(work.sync_pieces() if kind == "sync" else work.pieces(), media_type=SSE)

        app: Any = an_app(meter, Route("/chat", chat))
        if kind == "base-http-middleware":
            app = Starlette(routes=[Route("/chat", chat)])

            async def dispatch(request: Request, call_next: Any) -> Response:
                return await call_next(request)  # type: ignore[no-any-return]

            app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
            app.add_middleware(MeterMiddleware, meter=meter)
        if kind == "fastapi":
            app = FastAPI()
            app.get("/chat")(chat)
            app.add_middleware(MeterMiddleware, meter=meter)
        reply = fetch(app)
        assert_cut(meter, work)
    # Such a middleware reads one piece ahead of what it has sent.
    sent = 4 if kind == "base-http-middleware" else 5
    *events, last = [event for event in reply.text.replace("\r\n", "\n").split("\n\n") if event and not event.startswith(":")]
    assert events == [f"data: {n}" for n in range(1, sent + 1)]
    name, data = last.split("\n")
    assert name == "event: error"
    said = json.loads(data.removeprefix("data: "))
    assert said["type"].endswith("#quota-exceeded")
    assert (said["reason"], said["violated-policies"]) == ("cut", ["hard"])
    assert "cannot hold the rest of this request" in said["detail"]
    assert "ne permet pas d'achever cette demande" in said["detail_fr"]


def test_a_measured_generation_is_cut_by_the_budget_of_its_model() -> None:
    budget = Budget("hard", "45 tokens", per="day", estimate="10 tokens", hard=True, degrade_at=None, match={"model": "large"})
    with hard_meter(budgets=[budget]) as meter:
        work = Work(meter)
        generate = meter.measure(model="large")(work.pieces)

        async def chat(request: Request) -> Response:
            return StreamingResponse(generate(), media_type=SSE)

        reply = fetch(an_app(meter, Route("/chat", chat)))
        assert_cut(meter, work)
    assert reply.text.count("data: ") == 6


def test_a_hard_budget_that_only_watches_cuts_nothing() -> None:
    budget = Budget("hard", "45 tokens", per="day", estimate="10 tokens", hard=True, enforce=False)
    with hard_meter(budgets=[budget]) as meter:
        work = Work(meter, most=10)

        async def chat(request: Request) -> Response:
            return StreamingResponse(work.pieces(), media_type=SSE)

        assert fetch(an_app(meter, Route("/chat", chat))).text.count("data: ") == 10


def test_under_a_server_that_raises_when_a_client_has_gone_it_is_the_same() -> None:
    with hard_meter() as meter:
        work = Work(meter)

        async def chat(request: Request) -> Response:
            return StreamingResponse(work.pieces(), media_type=SSE)

        app = MeterMiddleware(Starlette(routes=[Route("/chat", chat)]), meter=meter)
        sent = asyncio.run(ask(app, "/chat", spec="2.4"))
        assert_cut(meter, work)
    assert sent[-1]["body"].startswith(b"event: error")
    assert not sent[-1].get("more_body")


def test_the_joules_of_a_cut_request_are_counted_as_drawn_for_no_whole_answer() -> None:
    budget = Budget("hard", "100 mJ", per="day", estimate="10 mJ", hard=True, degrade_at=None)
    with metered(budgets=[budget]) as (meter, out):

        async def chat(request: Request) -> StreamingResponse:
            async def pieces() -> AsyncIterator[str]:
                while True:
                    burn(0.002)
                    meter.settle()  # 10 W: 20 mJ a piece, and the meter knows it
                    yield "data: x\n\n"
                    await asyncio.sleep(LOOK_NS / 1e9)

            return StreamingResponse(pieces(), media_type=SSE)

        reply = fetch(an_app(meter, Route("/chat", chat)))
        meter.settle()
        ((_, counted),) = samples(meter, "frugal_cut_energy_joules_total").items()
        settled, reserved = account(meter, "hard")
    assert "event: error" in reply.text
    assert counted == pytest.approx(out.readings[-1].energy_dynamic_j)
    assert (settled, reserved) == (pytest.approx(counted, abs=2e-6), 0)
    assert counted >= 0.1


def test_openais_own_client_reads_a_cut_stream_as_one_that_ran_out_of_length() -> None:
    with hard_meter() as meter:
        base = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "large"}

        def chunk(n: int) -> str:
            choices = [{"index": 0, "delta": {"role": "assistant", "content": f"{n} "}, "finish_reason": None}]
            return f"data: {json.dumps({**base, 'choices': choices})}\n\n"

        work = Work(meter, chunk)

        async def chat(request: Request) -> StreamingResponse:
            return StreamingResponse(work.pieces(), media_type=SSE)

        async def complete() -> list[Any]:
            async with served(an_app(meter, Route("/v1/chat/completions", chat, methods=["POST"]))) as port:
                client = AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
                async with client:
                    stream = await client.chat.completions.create(model="large", messages=[], stream=True)
                    return [piece async for piece in stream]

        *pieces, last = asyncio.run(asyncio.wait_for(complete(), PATIENCE_S))
        assert_cut(meter, work)
    assert "".join(piece.choices[0].delta.content for piece in pieces) == "1 2 3 4 5 "
    assert last.choices[0].finish_reason == "length"
    assert last.model_extra["frugality"]["violated-policies"] == ["hard"]


def test_lines_of_json_end_with_a_line_that_says_why() -> None:
    with hard_meter() as meter:
        work = Work(meter, lambda n: json.dumps({"n": n}) + "\n")

        async def chat(request: Request) -> StreamingResponse:
            return StreamingResponse(work.pieces(), media_type="application/x-ndjson")

        reply = fetch(an_app(meter, Route("/chat", chat)))
        assert_cut(meter, work)
    *lines, last = map(json.loads, reply.text.splitlines())
    assert lines == [{"n": n} for n in range(1, 6)]
    assert last["error"]["reason"] == "cut"


def test_text_without_last_words_is_left_visibly_unfinished() -> None:
    with hard_meter() as meter:
        work = Work(meter, lambda n: f"{n} ")

        async def chat(request: Request) -> StreamingResponse:
            return StreamingResponse(work.pieces(), media_type="text/plain")

        reply = fetch(an_app(meter, Route("/chat", chat)))
        assert_cut(meter, work)
    assert reply.text == "1 2 3 4 5  <unfinished>"


def test_a_stream_that_has_said_it_is_done_is_not_cut() -> None:
    with hard_meter() as meter:
        work = Work(meter, lambda n: "data: [DONE]\n\n" if n == 4 else f"data: {n}\n\n", most=5)

        async def chat(request: Request) -> StreamingResponse:
            return StreamingResponse(work.pieces(), media_type=SSE)

        assert fetch(an_app(meter, Route("/chat", chat))).text.endswith("data: [DONE]\n\ndata: 5\n\n")


def test_an_application_that_is_silent_is_cut_where_it_waits() -> None:
    with hard_meter() as meter:
        stopped = asyncio.Event()

        async def chat(request: Request) -> StreamingResponse:
            async def pieces() -> AsyncIterator[str]:
                yield "data: 1\n\n"
                try:
                    meter.current().add_tokens(output=100)  # type: ignore[union-attr]
                    later(meter, LOOK_NS / 1e9)
                    await asyncio.Event().wait()  # a model elsewhere that goes on and on
                finally:
                    stopped.set()

            return StreamingResponse(pieces(), media_type=SSE)

        reply = fetch(an_app(meter, Route("/chat", chat)))
        meter.settle()
        assert stopped.is_set()
        assert meter.recent[-1].reading.decision == "cut"
    assert reply.text.startswith("data: 1\n\nevent: error\n")


def test_work_that_is_cut_before_it_has_begun_to_answer_is_refused() -> None:
    with hard_meter() as meter:

        async def chat(request: Request) -> PlainTextResponse:
            meter.current().add_tokens(output=100)  # type: ignore[union-attr]
            await asyncio.Event().wait()
            return PlainTextResponse("never")

        reply = fetch(an_app(meter, Route("/chat", chat)))
        meter.settle()
        reading = meter.recent[-1].reading
    assert (reply.status_code, reply.json()["reason"]) == (429, "cut")
    assert (reading.status, reading.outcome, reading.decision) == (429, "refused", "cut")
    assert account(meter, "hard") == (100, 0), "what was drawn is charged"


def test_an_answer_given_in_one_piece_is_never_cut() -> None:
    with hard_meter() as meter:

        async def chat(request: Request) -> PlainTextResponse:
            meter.current().add_tokens(output=100)  # type: ignore[union-attr]
            return PlainTextResponse("whole")

        assert fetch(an_app(meter, Route("/chat", chat))).text == "whole"


def test_without_a_hard_budget_a_stream_that_outgrows_what_is_left_is_finished() -> None:
    soft = Budget("hard", "45 tokens", per="day", estimate="10 tokens", degrade_at=None)
    with a_meter(budgets=[soft]) as meter:
        work = Work(meter, most=10)

        async def chat(request: Request) -> StreamingResponse:
            return StreamingResponse(work.pieces(), media_type=SSE)

        assert fetch(an_app(meter, Route("/chat", chat))).text.count("data: ") == 10
        meter.settle()
        assert account(meter, "hard") == (100, 0)


def test_an_application_that_goes_on_in_spite_of_its_cut_is_cancelled() -> None:
    with hard_meter() as meter:
        ended = asyncio.Event()

        async def deaf(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", SSE.encode())]})
            try:
                while True:
                    meter.current().add_tokens(output=10)  # type: ignore[union-attr]
                    later(meter, LOOK_NS / 1e9)
                    try:
                        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
                    except OSError:
                        assert (await receive())["type"] == "http.disconnect"
                        await asyncio.sleep(0)
            finally:
                ended.set()

        reply = fetch(MeterMiddleware(deaf, meter=meter))
        assert ended.is_set()
    assert reply.text.count("data: x\n\n") == 5
    assert "event: error" in reply.text


def test_somebody_elses_cancellation_is_obeyed_and_not_taken_for_the_cut() -> None:
    async def exchange() -> None:
        begun = asyncio.Event()

        async def chat(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def nothing(message: Any = None) -> Any:
            await asyncio.Event().wait()

        task = asyncio.create_task(MeterMiddleware(chat, meter=meter)(scope("/chat"), nothing, nothing))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    with hard_meter() as meter:
        asyncio.run(exchange())


def test_a_cut_websocket_is_closed_against_the_policy() -> None:
    with hard_meter() as meter:
        ended = threading.Event()

        async def line(socket: WebSocket) -> None:
            await socket.accept()
            try:
                while True:
                    meter.current().add_tokens(output=10)  # type: ignore[union-attr]
                    later(meter, LOOK_NS / 1e9)
                    await socket.send_text("mot")
            finally:
                ended.set()

        async def listen() -> tuple[int, Any, Any]:
            async with served(an_app(meter, WebSocketRoute("/line", line)), ws="websockets-sansio") as port:
                said = []
                async with websockets.connect(f"ws://127.0.0.1:{port}/line") as socket:
                    with pytest.raises(websockets.ConnectionClosedError):
                        while True:
                            said.append(await socket.recv())
                return len(said), socket.close_code, socket.close_reason

        assert asyncio.run(listen()) == (5, 1008, "frugality budget exceeded: hard")
        assert ended.wait(PATIENCE_S)
        meter.settle()
        assert (meter.recent[-1].reading.decision, meter.recent[-1].reading.outcome) == ("cut", "cancelled")
        assert account(meter, "hard") == (50, 0)


# -- clients that leave


def leaving_app(meter: Meter, kind: str, gone: threading.Event) -> Any:
    """An endless stream of 2 ms of CPU a piece."""

    def sync_pieces() -> Iterator[str]:
        while not gone.is_set():
            burn(0.002)
            yield "data: x\n\n"

    async def pieces() -> AsyncIterator[str]:
        while True:
            burn(0.002)
            yield "data: x\n\n"
            await asyncio.sleep(0.001)

    async def chat(request: Request) -> StreamingResponse:
        return StreamingResponse(sync_pieces() if kind == "sync stream" else pieces(), media_type=SSE)

    async def line(socket: WebSocket) -> None:
        await socket.accept()
        while True:
            burn(0.002)
            await socket.send_text("x")
            await asyncio.sleep(0.001)

    return an_app(meter, Route("/chat", chat), WebSocketRoute("/line", line))


@pytest.mark.parametrize("kind", ["sse", "sync stream", "websocket"])
@pytest.mark.parametrize("hard", [False, True])
def test_twenty_clients_of_twenty_that_leave_pay_what_they_used_and_hold_nothing(kind: str, hard: bool) -> None:
    budget = Budget("joules", "10 kJ", per="day", estimate="100 J", hard=hard)
    gone = threading.Event()

    async def leave_in_the_middle(port: int) -> None:
        if kind == "websocket":
            async with websockets.connect(f"ws://127.0.0.1:{port}/line") as socket:
                await socket.recv()
                await socket.recv()
                socket.transport.abort()  # a telephone out of reach says no goodbye
            return
        async with httpx.AsyncClient() as http, http.stream("GET", f"http://127.0.0.1:{port}/chat") as reply:
            parts = reply.aiter_raw()
            await anext(parts)

    async def twenty() -> None:
        async with served(leaving_app(meter, kind, gone), ws="websockets-sansio") as port:
            for _ in range(20):
                await leave_in_the_middle(port)
            await asyncio.to_thread(all_settled)
            gone.set()

    def all_settled() -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:  # a server tells an application of a client's departure when it comes round to it
            meter.settle()
            if len(out.readings) == 20 and not meter.sampler.live:
                return
            time.sleep(0.01)

    with metered(budgets=[budget]) as (meter, out):
        asyncio.run(twenty())
        assert len(out.readings) == 20
        used = [reading.energy_dynamic_j for reading in out.readings]
        assert all(joules is not None and 0.02 <= joules < 100 for joules in used), "10 W for 2 ms or more; not all it reserved"
        settled, reserved = account(meter, "joules")
        assert reserved == 0
        assert settled == pytest.approx(sum(used), rel=0.01)
        assert {reading.outcome for reading in out.readings} <= {"client_disconnect", "cancelled"}
