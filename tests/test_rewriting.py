"""Degrading: a smaller model is named in the request before the application reads it, the reply says so, and floors forbid it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from exchange import a_meter, account, an_app
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from support import answer, scope, served

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.errors import BudgetRefused, ConfigurationError

#: degrades from the first request on
TIGHT = Budget("all", "100 requests", per="day", warn_at=0.01, degrade_at=0.01)
CALM = Budget("all", "100 requests", per="day")
JSON = {"content-type": "application/json"}
ASKED = {"model": "large", "messages": [{"role": "user", "content": "Où ?"}]}


class Asked:
    """An application that keeps what it was asked and answers with it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.lengths: list[str | None] = []

    async def reply(self, request: Request) -> JSONResponse:
        self.bodies.append(await request.body())
        self.lengths.append(request.headers.get("content-length"))
        return JSONResponse({"ok": True})

    @property
    def model(self) -> str:
        """The model that was asked for last."""
        return str(json.loads(self.bodies[-1])["model"])


def post(meter: Meter, asked: Any, content: Any = None, headers: Any = None, times: int = 2) -> list[httpx.Response]:
    """The answers to ``times`` requests with the same body."""
    app = an_app(meter, Route("/chat", asked.reply if isinstance(asked, Asked) else asked, methods=["POST"]))

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://guichet") as http:
            body = json.dumps(ASKED).encode() if content is None else content
            return [await http.post("/chat", content=body, headers=headers or JSON) for _ in range(times)]

    return asyncio.run(all_of_them())


def degrading(budget: Budget = TIGHT, **settings: Any) -> Meter:
    """A meter that has "small" stand in for "large"."""
    return a_meter(budgets=[budget], **{"rewrite": {"large": "small"}, **settings})


def last_reading(meter: Meter) -> Any:
    meter.settle()
    return meter.recent[-1].reading


def test_a_degraded_request_names_the_smaller_model_and_the_reply_and_the_reading_say_so() -> None:
    with degrading() as meter:
        asked = Asked()
        _, degraded = post(meter, asked)
        reading = last_reading(meter)
    assert asked.model == "small"
    assert asked.lengths[-1] == str(len(asked.bodies[-1]))
    assert degraded.headers["frugality-degraded"] == 'served="small", requested="large"'
    assert (reading.model_requested, reading.model_served, reading.decision) == ("large", "small", "degrade")


def test_far_from_the_limit_nothing_is_read_nor_changed() -> None:
    with degrading(CALM) as meter:
        asked = Asked()
        replies = post(meter, asked)
    assert asked.model == "large"
    assert not [reply for reply in replies if "frugality-degraded" in reply.headers]


def test_every_other_member_stays_as_it_was_written() -> None:
    whole = b'{"seed": 12345678901234567890123, "model": "large", "x": 1.0e2, "text": "\\u00e9", "model": "large"}'
    with degrading() as meter:
        asked = Asked()
        post(meter, asked, whole)
    assert asked.bodies[-1] == b'{"seed":12345678901234567890123,"model":"small","x":1.0e2,"text":"\\u00e9"}'


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"not", JSON), (b"[1, 2]", JSON), (b'{"model": 3}', JSON), (b'{"model": "other"}', JSON), (b"", JSON),
        (b'{"prompt": "no model"}', JSON), (b"[" * 100_000, JSON), (json.dumps(ASKED).encode(), {"content-type": "text/plain"}),
        (gzip.compress(json.dumps(ASKED).encode(), mtime=0), {**JSON, "content-encoding": "gzip"}),
        (json.dumps({**ASKED, "pad": "x" * 2000}).encode(), JSON), (json.dumps({"model": "l" * 2**20}).encode(), JSON),
    ],
)  # fmt: skip
def test_what_is_not_a_short_json_request_for_a_known_model_passes_byte_for_byte(body: bytes, headers: Any) -> None:
    with degrading(rewrite_limit=1000) as meter:
        asked = Asked()
        assert post(meter, asked, body, headers)[-1].status_code == 200
        assert meter.errors == {}
    assert asked.bodies[-1] == body


@pytest.mark.parametrize("limit", [1000, 50])
def test_a_chunked_body_is_read_ahead_up_to_the_limit_and_no_further(limit: int) -> None:
    pieces = [json.dumps(ASKED).encode()[at : at + 20] for at in range(0, 90, 20)]
    ahead: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ahead.append(given)
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        whole.append(body)
        assert (await receive())["type"] == "http.disconnect", "what comes after the body is delivered as ever"
        await answer(send)

    async def exchange() -> None:
        nonlocal given
        messages = [{"type": "http.request", "body": piece, "more_body": piece is not pieces[-1]} for piece in pieces]
        messages.append({"type": "http.disconnect"})
        given = 0

        async def receive() -> Any:
            nonlocal given
            given += 1
            return messages[given - 1]

        async def send(message: Any) -> None:
            """Nobody listens."""

        headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
        await MeterMiddleware(app, meter)(scope("/chat", method="POST", headers=headers), receive, send)

    given, whole = 0, []
    with degrading(rewrite_limit=limit) as meter:
        for _ in range(2):
            asyncio.run(exchange())
    if limit == 1000:
        assert json.loads(whole[-1])["model"] == "small"
    else:
        assert whole[-1] == b"".join(pieces)
        assert ahead[-1] == 3, "three pieces of 20 bytes are beyond a limit of 50"


def test_a_client_that_leaves_in_the_middle_of_its_body_is_seen_to_leave() -> None:
    seen: list[type] = []

    async def chat(request: Request) -> PlainTextResponse:
        try:
            await request.body()
        except ClientDisconnect:
            seen.append(ClientDisconnect)
        return PlainTextResponse("nobody")

    async def exchange(*messages: Any) -> None:
        coming = list(messages)

        async def receive() -> Any:
            return coming.pop(0)

        async def send(message: Any) -> None:
            """Nobody listens."""

        asked = scope("/chat", method="POST", headers=[(b"content-type", b"application/json")])
        await an_app(meter, Route("/chat", chat, methods=["POST"]), outside=True)(asked, receive, send)

    with degrading() as meter:
        asyncio.run(exchange({"type": "http.request", "body": b"{}"}))
        asyncio.run(exchange({"type": "http.request", "body": b'{"mod', "more_body": True}, {"type": "http.disconnect"}))
    assert seen == [ClientDisconnect]


def test_a_streamed_reply_of_a_smaller_model_comes_piece_by_piece_and_says_so_first() -> None:
    async def chat(request: Request) -> StreamingResponse:
        model = (await request.json())["model"]

        async def pieces() -> AsyncIterator[str]:
            for number in range(3):
                yield f"data: {model} {number}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def over_a_socket() -> httpx.Response:
        async with served(an_app(meter, Route("/chat", chat, methods=["POST"]))) as port, httpx.AsyncClient() as http:
            for _ in range(2):
                reply = await http.post(f"http://127.0.0.1:{port}/chat", json=ASKED)
            return reply

    with degrading() as meter:
        reply = asyncio.run(over_a_socket())
    assert reply.headers["frugality-degraded"] == 'served="small", requested="large"'
    assert reply.text == "".join(f"data: small {number}\n\n" for number in range(3))


def test_a_fallback_inside_the_request_is_told_in_the_reply_as_well() -> None:
    with a_meter(budgets=[TIGHT]) as meter:

        @meter.measure(model="petit modèle")
        def small() -> str:
            return "short"

        @meter.measure(model="large", fallback=small)
        def large() -> str:
            return "long"

        async def chat(request: Request) -> PlainTextResponse:
            return PlainTextResponse(large())

        first, second = post(meter, chat)
    assert (first.text, second.text) == ("long", "short")
    assert "frugality-degraded" not in first.headers
    assert second.headers["frugality-degraded"] == 'served=%"petit mod%c3%a8le", requested="large"'


def test_a_request_that_had_to_wait_its_turn_is_degraded_too_and_says_so() -> None:
    steep = Budget("all", "100 requests", per="day", warn_at=0.01, degrade_at=0.01, throttle_at=0.01)
    with degrading(steep) as meter:
        asked = Asked()
        degraded = post(meter, asked)[-1]
        assert last_reading(meter).decision == "throttle"
    assert asked.model == "small"
    assert "frugality-degraded" in degraded.headers


# -- budgets per model


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "sqlite"])
def test_the_smaller_models_budget_is_asked_and_the_larger_ones_reservation_let_go(tmp_path: Path, shared: bool) -> None:
    store = {"store": f"sqlite:///{tmp_path}/budgets.sqlite"} if shared else {}
    with degrading(Budget("each", "10 requests", per="day", key="model", warn_at=0.1, degrade_at=0.1), **store) as meter:
        asked = Asked()
        post(meter, asked, times=3)
        assert account(meter, "each", "large") == (1, 0)
        assert account(meter, "each", "small") == (2, 0)
        assert meter.errors == {}
        meter.settle()
        assert account(meter, "each", "large").settled == 1
    assert asked.model == "small"


def test_a_spent_budget_of_a_model_is_refused_before_the_application_is_asked() -> None:
    with degrading(Budget("one", "1 requests", per="day", match={"model": "large"}, degrade_at=None)) as meter:
        asked = Asked()
        replies = post(meter, asked)
    assert [reply.status_code for reply in replies] == [200, 429]
    assert replies[1].json()["violated-policies"] == ["one"]
    assert len(asked.bodies) == 1


def test_the_smaller_model_is_refused_when_its_own_budget_is_spent() -> None:
    with degrading(Budget("each", "1 requests", per="day", key="model", degrade_at=0.01, warn_at=0.01)) as meter:
        meter.admission.store.books(0)
        asked = Asked()
        post(meter, asked, json.dumps({"model": "small"}).encode(), times=1)
        large = [post(meter, asked, times=1)[0].status_code for _ in range(2)]
    assert large == [200, 429]
    assert account(meter, "each", "large") == (1, 0)


# -- the floor


@pytest.mark.parametrize(("score", "model"), [(0.9, "small"), (0.7, "small"), (0.6, "large"), (None, "large")])
def test_a_budgets_floor_keeps_a_poor_or_unknown_model_from_standing_in(score: float | None, model: str) -> None:
    budget = Budget("all", "100 requests", per="day", warn_at=0.01, degrade_at=0.01, min_quality=0.7)
    with degrading(budget, qualities=None if score is None else {"small": score}) as meter:
        asked = Asked()
        reply = post(meter, asked)[-1]
        reading = last_reading(meter)
    assert asked.model == model
    assert ("frugality-degraded" in reply.headers) is (model == "small")
    assert (reading.model_served, reading.decision) == (model, "degrade" if model == "small" else "warn")


@pytest.mark.parametrize(("floor", "said"), [(0.5, "short"), (0.8, "long")])
def test_a_measures_own_floor_keeps_its_fallback_from_answering(floor: float, said: str) -> None:
    with a_meter(budgets=[TIGHT]) as meter:
        meter.quality_of("small", 0.6, metric="exact")

        @meter.measure(model="small")
        def small() -> str:
            return "short"

        @meter.measure(model="large", fallback=small, min_quality=floor)
        def large() -> str:
            return "long"

        assert [large(), large()][-1] == said


@pytest.mark.parametrize(("score", "said", "decision"), [(0.7, "short", "degrade"), (0.5, "long", "warn")])
def test_the_floor_of_a_models_own_budget_takes_the_rung_out_of_its_ladder(score: float, said: str, decision: str) -> None:
    budget = Budget("large", "100 requests", per="day", match={"model": "large"}, warn_at=0.01, degrade_at=0.01, min_quality=0.6)
    with a_meter(budgets=[budget], qualities={"small": score}) as meter:
        large = meter.measure("chat", model="large", fallback=meter.measure(model="small")(lambda: "short"))(lambda: "long")
        assert [large(), large()][-1] == said
        assert last_reading(meter).decision == decision
        assert meter.admission.decisions["large", decision] == 1  # type: ignore[index]


def test_what_does_not_fit_is_served_by_a_smaller_model_only_if_it_is_good_enough() -> None:
    budget = Budget("tokens", "100 tokens", per="day", match={"model": "large"}, estimate="60 tokens", min_quality=0.6)
    for score, said in ((0.7, "short"), (0.5, None)):
        with a_meter(budgets=[budget], qualities={"small": score}) as meter:
            meter.admission.estimator["tokens"].recall(("chat", "small"), 10)
            large = meter.measure("chat", model="large", fallback=meter.measure(model="small")(lambda: "short"))(lambda: "long")
            other = meter.open_span("block")
            other.route, other.model = "chat", "large"
            meter.decide(other)  # holds 60 of 100
            if said is None:
                with pytest.raises(BudgetRefused):
                    large()
            else:
                assert large() == said
            meter.close_span(other)


def test_the_floor_is_said_once_in_the_log_and_not_at_every_request(caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget("all", "100 requests", per="day", warn_at=0.01, degrade_at=0.01, min_quality=0.7)
    with degrading(budget) as meter:
        post(meter, Asked(), times=4)
    assert [record.message for record in caplog.records if "stand in" in record.message] == [
        "frugal_meter: 'small' does not stand in: its quality is not declared (meter.quality_of), the floor is 0.7"
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"rewrite": ["large"]}, {"rewrite": {"large": ""}}, {"rewrite": {"large": "large"}}, {"rewrite": {1: "small"}},
        {"rewrite_limit": -1}, {"rewrite_limit": 1.5}, {"rewrite_limit": True}, {"qualities": ["small"]},
        {"qualities": {"small": 2}}, {"qualities": {"small": float("nan")}}, {"qualities": {"": 0.5}},
        {"qualities": {"small": True}},
    ],
)  # fmt: skip
def test_settings_of_degrading_that_mean_nothing_are_refused_in_one_line(settings: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Meter("guichet", zone="FR", **settings)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("floor", [-0.1, 1.1, True, "high"])
def test_a_floor_that_is_no_score_is_refused(floor: Any) -> None:
    with pytest.raises(ConfigurationError, match="min_quality"):
        a_meter().measure("x", min_quality=floor)
    with pytest.raises(ConfigurationError, match="min_quality"):
        Budget("b", "1 J", per="day", min_quality=floor)
