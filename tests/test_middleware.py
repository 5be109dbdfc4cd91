"""`MeterMiddleware`: one request, one reading, with the right outcome, whatever the application and the client do."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import socket
import threading
import weakref

import anyio
import pytest
import trio
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from support import PATIENCE_S, about, answer, ask, assert_books_close, burn, metered, scope, served

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.testing import FrozenClock, SyntheticSource


def requests_of(out):
    return [r for r in out.readings if r.kind != "block"]


def run_one(app, path="/", **more):
    """One request to ``app`` behind the middleware; its settled reading and what was sent."""
    with metered() as (meter, out):
        sent = asyncio.run(ask(MeterMiddleware(app, meter=meter), path, **more))
        meter.settle()
        assert not meter.sampler.live
        assert not meter.errors
        assert_books_close(out.ticks)
        [reading] = requests_of(out)
        return reading, sent


# -- what it pays for


def test_a_request_pays_for_its_own_cpu_and_its_joules_follow():
    used = []

    async def app(scope, receive, send):
        used.append(burn(0.02))
        await answer(send)

    reading, sent = run_one(app)
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert (reading.outcome, reading.status, reading.method, reading.kind) == ("ok", 200, "GET", "http")
    assert about(reading.cpu_s, used[0])
    assert about(reading.energy_dynamic_j, 10 * used[0], slack=0.03)
    assert reading.energy_full_j > reading.energy_dynamic_j


def test_concurrent_requests_pay_for_their_own_steps():
    with metered() as (meter, out):
        used = {}

        async def app(scope, receive, send):
            heavy = 10 if scope["path"] == "/heavy" else 1
            used[scope["path"]] = 0.0
            for _ in range(5):
                used[scope["path"]] += burn(0.002 * heavy)
                await asyncio.sleep(0)
            await answer(send)

        async def main():
            wrapped = MeterMiddleware(app, meter=meter)
            await asyncio.gather(*(ask(wrapped, path) for path in ("/heavy", "/light")))

        asyncio.run(main())
        meter.settle()
        heavy, light = sorted(out.readings, key=lambda r: -r.cpu_s)
        assert about(heavy.cpu_s, used["/heavy"])
        assert about(light.cpu_s, used["/light"])
        assert_books_close(out.ticks)


def test_a_synchronous_endpoint_pays_for_its_threadpool_work():
    used = []

    def endpoint(request):
        used.append(burn(0.02))
        return PlainTextResponse("ok")

    reading, _ = run_one(Starlette(routes=[Route("/x", endpoint)]), "/x")
    assert reading.route == "/x"
    assert about(reading.cpu_s, used[0])


@pytest.mark.parametrize("how", ["async", "sync"])
def test_a_streamed_answer_is_paid_for_to_its_last_chunk(how):
    used = []

    async def chunks():
        for _ in range(4):
            used.append(burn(0.005))
            yield b"x"

    def sync_chunks():
        for _ in range(4):
            used.append(burn(0.005))
            yield b"x"

    async def endpoint(request):
        return StreamingResponse(chunks() if how == "async" else sync_chunks())

    reading, sent = run_one(Starlette(routes=[Route("/x", endpoint)]), "/x")
    assert b"".join(m.get("body", b"") for m in sent) == b"xxxx"
    assert about(reading.cpu_s, sum(used))


def test_background_tasks_of_the_answer_belong_to_the_request():
    used = []

    async def endpoint(request):
        return PlainTextResponse("ok", background=BackgroundTask(lambda: used.append(burn(0.02))))

    reading, _ = run_one(Starlette(routes=[Route("/x", endpoint)]), "/x")
    assert about(reading.cpu_s, used[0])


def test_work_under_a_base_http_middleware_is_still_the_requests():
    used = []

    class Plain(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            return await call_next(request)

    async def endpoint(request):
        used.append(burn(0.02))
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/x", endpoint)])
    app.add_middleware(Plain)
    reading, _ = run_one(app, "/x")
    assert (reading.route, reading.outcome) == ("/x", "ok")
    assert about(reading.cpu_s, used[0])


# -- routes and methods


def test_the_route_is_the_whole_template_under_mounts_and_routers():
    async def endpoint(request):
        return PlainTextResponse("ok")

    inner = Starlette(routes=[Route("/items/{item}", endpoint)])
    mounted = Starlette(routes=[Mount("/shop", app=inner)])
    assert run_one(mounted, "/shop/items/3")[0].route == "/shop/items/{item}"
    router = APIRouter(prefix="/v1")
    router.add_api_route("/things/{thing}", lambda thing: thing)
    fastapi = FastAPI()
    fastapi.include_router(router, prefix="/api")
    assert run_one(fastapi, "/api/v1/things/3")[0].route == "/api/v1/things/{thing}"
    sub = FastAPI()
    sub.mount("/sub", fastapi)
    assert run_one(sub, "/proxy/sub/api/v1/things/3", root_path="/proxy")[0].route == "/sub/api/v1/things/{thing}"


def test_paths_and_methods_that_a_client_invents_are_one_label():
    app = Starlette(routes=[Route("/x", lambda request: PlainTextResponse("ok")), Mount("/m", app=answer_only)])
    assert run_one(app, "/nowhere/1")[0].route == "unmatched"
    assert run_one(app, "/m/anything")[0].route == "unmatched"
    assert run_one(app, "/x", method="BREW")[0].method == "_OTHER"


async def answer_only(scope, receive, send):
    await answer(send)


# -- outcomes


def test_an_exception_leaves_unchanged_and_is_an_error():
    class Trouble(Exception):
        pass

    trouble = Trouble("x")

    async def app(scope, receive, send):
        await asyncio.sleep(0)
        raise trouble

    with metered() as (meter, out):
        with pytest.raises(Trouble) as caught:
            asyncio.run(ask(MeterMiddleware(app, meter=meter)))
        assert caught.value is trouble
        assert caught.traceback[-1].name == "app"
        assert trouble.__context__ is None
        meter.settle()
        [reading] = out.readings
        assert (reading.outcome, reading.status) == ("error", 500)


def test_a_cancelled_request_is_cancelled_and_pays_what_it_used():
    used = []

    async def app(scope, receive, send):
        used.append(burn(0.01))
        await asyncio.Event().wait()

    with metered() as (meter, out):

        async def main():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await ask(MeterMiddleware(app, meter=meter))

        asyncio.run(main())
        meter.settle()
        [reading] = out.readings
        assert reading.outcome == "cancelled"
        assert about(reading.cpu_s, used[0])


def test_a_request_cancelled_before_its_first_step_leaves_nothing_open():
    async def app(scope, receive, send):
        raise AssertionError("never runs")

    with metered() as (meter, out):

        async def main():
            task = asyncio.create_task(ask(MeterMiddleware(app, meter=meter)))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        meter.settle()
        assert not meter.sampler.live
        assert out.readings == []


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_client_that_leaves_a_stream_is_a_client_disconnect(spec):
    """Before spec 2.4 a disconnect is a message; from 2.4 on ``send`` raises OSError."""

    async def endpoint(request):
        async def chunks():
            while True:
                yield b"x"
                await asyncio.sleep(0)

        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/x", endpoint)])

    async def main(wrapped):
        sent, gone = 0, asyncio.Event()

        async def receive():
            if spec == "2.4":
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            nonlocal sent
            sent += 1
            if sent > 5:
                gone.set()
                if spec == "2.4":
                    raise OSError("connection reset")

        with contextlib.suppress(ClientDisconnect):
            await wrapped(scope("/x", spec=spec), receive, send)

    with metered() as (meter, out):
        asyncio.run(main(MeterMiddleware(app, meter=meter)))
        meter.settle()
        [reading] = out.readings
        assert (reading.outcome, reading.status) == ("client_disconnect", 200)


@pytest.mark.parametrize("last", ["http.response.body", "http.response.pathsend"])
def test_a_disconnect_after_the_answer_is_none(last):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": last})
        assert (await receive())["type"] == "http.disconnect"

    reading, _ = run_one(app, messages=[{"type": "http.disconnect"}])
    assert reading.outcome == "ok"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_client_that_leaves_a_real_server_settles_its_request(loop):
    with metered() as (meter, out):
        closed = threading.Semaphore(0)

        async def endpoint(request: Request):
            async def chunks():
                try:
                    while True:
                        burn(0.0005)
                        yield b"x" * 1000
                        await asyncio.sleep(0.001)
                finally:
                    closed.release()

            return StreamingResponse(chunks())

        app = MeterMiddleware(Starlette(routes=[Route("/x", endpoint)]), meter=meter)

        def visit(port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")

        async def main():
            async with served(app, loop=loop) as port:
                for _ in range(20):
                    await asyncio.to_thread(visit, port)
                for _ in range(20):
                    assert await asyncio.to_thread(closed.acquire, True, PATIENCE_S)

        asyncio.run(main())
        meter.settle()
        assert [r.outcome for r in requests_of(out)] == ["client_disconnect"] * 20
        assert all(r.settled and r.cpu_s > 0.0005 for r in requests_of(out))
        assert not meter.sampler.live


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_keep_alive_connection_gives_one_reading_per_request_to_the_right_route(loop):
    with metered() as (meter, out):

        def make(seconds):
            async def endpoint(request):
                await request.body()
                burn(seconds)
                return PlainTextResponse("ok")

            return endpoint

        endpoints = {"/heavy": make(0.02), "/light": make(0.002)}
        routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
        app = MeterMiddleware(Starlette(routes=routes), meter=meter)

        def talk(port):
            import http.client

            client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            for path in ("/heavy", "/light") * 3:
                client.request("POST", path, body=b"x" * 200_000)  # large enough to pause the transport
                assert client.getresponse().read() == b"ok"
            client.close()

        async def main():
            async with served(app, loop=loop) as port:
                await asyncio.to_thread(talk, port)

        asyncio.run(main())
        meter.settle()
        readings = requests_of(out)
        assert [r.route for r in readings] == ["/heavy", "/light"] * 3
        assert all(0.02 <= r.cpu_s < 0.04 for r in readings[::2])
        assert all(0.002 <= r.cpu_s < 0.015 for r in readings[1::2])
        assert_books_close(out.ticks)


def test_websockets_are_metered_from_accept_to_close():
    used = []

    async def endpoint(websocket):
        await websocket.accept()
        used.append(burn(0.01))
        await websocket.send_text("hello")
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)])
    reading, sent = run_one(app, "/ws", kind="websocket", messages=[{"type": "websocket.connect"}])
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert (reading.kind, reading.route, reading.status, reading.outcome, reading.method) == ("websocket", "/ws", 101, "ok", None)
    assert about(reading.cpu_s, used[0])


def test_a_websocket_whose_client_vanishes_under_the_application_is_a_client_disconnect():
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.receive_text()

    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)])
    messages = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    with metered() as (meter, out):
        with contextlib.suppress(WebSocketDisconnect):
            asyncio.run(ask(MeterMiddleware(app, meter=meter), "/ws", kind="websocket", messages=messages))
        meter.settle()
        [reading] = out.readings
        assert reading.outcome == "client_disconnect"


def test_the_lifespan_passes_through_untouched_and_starts_and_stops_the_meter():
    seen = []
    meter = Meter("tests", zone="FR", sources=SyntheticSource(1, 1), tick=60)

    async def app(scope, receive, send):
        seen.append((scope, receive, send, meter.sampler.running, meter.current()))

    async def main():
        given = {"type": "lifespan", "state": {}}, object(), object()
        await MeterMiddleware(app, meter=meter)(*given)
        return given

    given = asyncio.run(main())
    [(*got, running, span)] = seen
    assert all(a is b for a, b in zip(got, given, strict=True))
    assert (running, span, meter.sampler.running) == (True, None, False)


# -- do no harm


def test_an_application_without_a_started_meter_is_metered_from_its_first_request():
    meter = Meter("tests", zone="FR", sources=SyntheticSource(1, 1), tick=60)

    async def app(scope, receive, send):
        await answer(send)

    asyncio.run(ask(MeterMiddleware(app, meter=meter)))
    assert meter.sampler.running
    assert meter.settle()
    meter.stop()


def test_a_tenant_function_that_returns_nonsense_costs_the_request_nothing():
    each = Budget("each", "10 requests", per="day", key="tenant")
    with metered(tenant=lambda scope: ["not", "a", "name"], budgets=[each]) as (meter, out):
        sent = asyncio.run(ask(MeterMiddleware(answer_only, meter=meter)))
        assert sent[0]["status"] == 200
        meter.settle()
        assert not meter.sampler.live
        assert len(out.readings) == 1


def test_a_request_coroutine_closed_in_another_context_is_settled():
    """What the garbage collector and a loop that shuts down do to an unfinished task."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    class Forever:
        def __await__(self):
            yield self

    async def send(message):
        await Forever()

    with metered() as (meter, out):

        async def main():
            running = MeterMiddleware(app, meter=meter)(scope(), None, send)
            contextvars.copy_context().run(running.send, None)
            contextvars.copy_context().run(running.close)

        asyncio.run(main())
        meter.settle()
        assert not meter.sampler.live
        [reading] = out.readings
        assert reading.outcome == "cancelled"


def test_a_finished_request_is_let_go_without_the_garbage_collector():
    with metered() as (meter, _):

        class Connection:
            async def receive(self):
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(self, message):
                pass

        async def app(scope, receive, send):
            await receive()
            await answer(send)

        async def main():
            wrapped = MeterMiddleware(app, meter=meter)
            connection = Connection()
            request = scope()
            await wrapped(request, connection.receive, connection.send)
            return weakref.ref(connection)

        gc.collect()
        gc.disable()
        try:
            connection = asyncio.run(main())
            meter.settle()
            assert connection() is None
        finally:
            gc.enable()


def test_a_usage_is_read_from_the_answer_and_a_body_of_any_bytes_type_is_passed_on():
    body = b'{"usage": {"prompt_tokens": 7, "completion_tokens": 3}}'

    def sends(payload):
        async def app(scope, receive, send):
            await answer(send, payload)

        return app

    reading, _ = run_one(sends(body))
    assert (reading.tokens_in, reading.tokens_out) == (7, 3)
    reading, sent = run_one(sends(memoryview(body)))
    assert bytes(sent[1]["body"]) == body
    assert (reading.tokens_in, reading.tokens_out) == (7, 3)
    for broken in (b'{"usage": 5}', b'"usage"', b'{"usage": {"prompt_tokens": -1, "completion_tokens": "x"}}', b'{"usage": {'):
        reading, _ = run_one(sends(broken))
        assert (reading.tokens_in, reading.tokens_out) == (None, None)


def test_an_application_under_trio_is_metered_too():
    used = []

    async def app(scope, receive, send):
        used.append(burn(0.01))
        await trio.sleep(0)
        used.append(burn(0.01))
        await answer(send)

    async def send(message):
        pass

    with metered() as (meter, out):
        trio.run(MeterMiddleware(app, meter=meter), scope(), None, send)
        meter.settle()
        [reading] = out.readings
        assert about(reading.cpu_s, sum(used))
        assert not meter.errors


def test_a_disabled_meter_calls_the_application_itself(monkeypatch):
    monkeypatch.setenv("FRUGAL_DISABLED", "1")
    meter = Meter("off", zone="FR", sources=SyntheticSource(1, 1))
    seen = []

    async def app(*given):
        seen.append(given)

    given = (scope(), object(), object())
    asyncio.run(MeterMiddleware(app, meter=meter)(*given))
    assert all(a is b for a, b in zip(seen[0], given, strict=True))
    assert not meter.sampler.running


# -- refusals


def test_a_refused_request_is_answered_429_and_costs_nothing():
    with metered(budgets=[Budget("one", "1 requests", per="day")]) as (meter, out):

        async def main():
            wrapped = MeterMiddleware(answer_only, meter=meter)
            first = await ask(wrapped)
            return first, await ask(wrapped), await ask(wrapped, kind="websocket", messages=[{"type": "websocket.connect"}])

        first, second, third = asyncio.run(main())
        meter.settle()
        assert [first[0]["status"], second[0]["status"]] == [200, 429]
        assert (third[0]["type"], third[0]["code"]) == ("websocket.close", 1008)
        assert [r.outcome for r in out.readings] == ["ok", "refused", "refused"]


def test_a_block_refused_inside_a_request_is_answered_429_also_through_an_error_handler():
    with metered(budgets=[Budget("large", "1 requests", per="day", match={"model": "large"})]) as (meter, out):

        async def endpoint(request):
            with meter.measure("m", model="large"):
                pass
            return PlainTextResponse("ok")

        app = Starlette(routes=[Route("/x", endpoint)])
        app.add_middleware(MeterMiddleware, meter=meter)

        async def main():
            return await ask(app, "/x"), await ask(app, "/x")

        first, second = asyncio.run(main())
        meter.settle()
        assert [first[0]["status"], second[0]["status"]] == [200, 429]
        assert [r.outcome for r in requests_of(out)] == ["ok", "refused"]


def test_a_task_group_in_an_endpoint_is_paid_for():
    used = []

    async def part():
        for _ in range(3):
            used.append(burn(0.003))
            await anyio.sleep(0)

    async def app(scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(part)
            group.start_soon(part)
        async with asyncio.TaskGroup() as native:
            native.create_task(part())
        await asyncio.gather(part(), part())
        await answer(send)

    reading, _ = run_one(app)
    assert about(reading.cpu_s, sum(used))


def test_a_request_that_passes_two_middlewares_of_one_meter_is_one_request():
    """An application that meters itself, started by a command that meters whatever it starts."""
    with metered(budgets=[Budget("one", "1 requests", per="day")]) as (meter, out):
        used = []

        async def app(scope, receive, send):
            used.append(burn(0.01))
            await answer(send)

        sent = asyncio.run(ask(MeterMiddleware(MeterMiddleware(app, meter=meter), meter=meter)))
        meter.settle()
        assert sent[0]["status"] == 200
        [reading] = requests_of(out)
        assert about(reading.cpu_s, used[0])


def test_the_usage_of_a_stream_is_read_from_its_last_event():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        chunk = b'data: {"choices": [{"delta": "\\"usage\\""}]}\n\n'
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        usage = b'{"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 5}}'
        await send({"type": "http.response.body", "body": b'data: {"usage": ' + usage + b"}\n\ndata: [DONE]\n\n"})

    reading, _ = run_one(app)
    assert (reading.tokens_in, reading.tokens_out) == (9, 4)


def test_tasks_of_anyio_are_cancelled_before_their_first_step_and_midway_as_ever():
    heard = []

    async def part(name):
        heard.append(name)
        try:
            await anyio.sleep(30)
        except asyncio.CancelledError:
            heard.append(f"{name} cancelled")
            raise

    async def app(scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(part, "midway")
            await anyio.sleep(0)
            await anyio.sleep(0)
            group.start_soon(part, "never begins")
            group.cancel_scope.cancel()
        with anyio.move_on_after(0.001):
            await part("timed out")
        await answer(send)

    reading, _ = run_one(app)
    assert reading.outcome == "ok"
    assert [h for h in heard if "never" not in h] == ["midway", "midway cancelled", "timed out", "timed out cancelled"]


def test_a_loop_in_debug_mode_runs_a_metered_application():
    used = []

    async def part():
        used.append(burn(0.002))
        await asyncio.sleep(0)

    async def app(scope, receive, send):
        await asyncio.gather(part(), part(), asyncio.to_thread(burn, 0.001))
        await answer(send)

    with metered() as (meter, out), asyncio.Runner(debug=True) as runner:
        runner.run(ask(MeterMiddleware(app, meter=meter)))
        meter.settle()
        assert out.readings[0].cpu_s >= sum(used)
        assert not meter.errors


class Clock(FrozenClock):
    """A clock that, once broken, raises."""

    broken = False

    def monotonic_ns(self):
        if self.broken:
            raise OSError("no time today")
        return super().monotonic_ns()


def test_a_fault_of_the_meters_own_reaches_neither_the_application_nor_the_client():
    clock = Clock()
    with metered(clock=clock) as (meter, _):
        clock.broken = True
        sent = asyncio.run(ask(MeterMiddleware(answer_only, meter=meter)))
        clock.broken = False
        assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
        assert meter.errors == {"open": 1}
        assert meter.current() is None


def test_a_request_keeps_nothing_of_its_scope_after_its_end():
    # what a server puts there (headers, state, a body) would live until the next tick, times thousands
    class State(dict):
        pass

    async def app(scope, receive, send):
        await answer(send)

    with metered() as (meter, _):
        state = State()
        seen = weakref.ref(state)
        asyncio.run(ask(MeterMiddleware(app, meter=meter), state=state))
        del state
        assert seen() is None
        meter.settle()
