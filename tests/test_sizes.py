"""Estimates by the size of the input: where it is read, what it is worth, and what a client may not do with it."""

from __future__ import annotations

import math
import random
from typing import Any

import httpx
import pytest
from exchange import a_meter, account, an_app, ask
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from frugal_meter import Budget, Meter
from frugal_meter.attribution.span import Span
from frugal_meter.budgets import sizes
from frugal_meter.budgets.estimates import ENOUGH, Estimates
from frugal_meter.budgets.stores import Learnt
from frugal_meter.errors import ConfigurationError

TOKENS = Budget("t", "100000 tokens", per="day", estimate="10 tokens", degrade_at=None, warn_at=1.0)


def post(length: bytes | None, method: str = "POST") -> dict[str, Any]:
    """The scope of a request that declares its length."""
    headers = [(b"host", b"x"), *([] if length is None else [(b"content-length", length)])]
    return {"type": "http", "method": method, "headers": headers}


# -- the class of a size


@pytest.mark.parametrize(
    ("length", "known"),
    [
        (b"0", "bytes<1"),
        (b"1", "bytes<2"),
        (b"1023", "bytes<1024"),
        (b"1024", "bytes<2048"),
        (b"10000000000", f"bytes<{2**34}"),
        (b"9" * 12, f"bytes<{2**40}"),
        (b"9" * 18, f"bytes<{2**40}"),
        (b"9" * 5000, None),
        (b"-5", None),
        (b"1e3", None),
        (b"5, 5", None),
        (b"nan", None),
        (b"\xc2\xb2", None),
        (b"", None),
        (None, None),
    ],
)
def test_the_length_of_a_body_falls_into_a_class_of_powers_of_two(length: bytes | None, known: str | None) -> None:
    assert sizes.of_request(post(length)) == known


def test_requests_without_a_body_have_no_size_whatever_they_declare() -> None:
    assert sizes.of_request(post(b"5", method="GET")) is None
    assert sizes.of_request({"type": "websocket"}) is None
    assert sizes.of_request(None) is None


def test_a_client_makes_no_more_classes_than_there_are() -> None:
    drawn = random.Random(1)
    found = {sizes.of_request(post(str(drawn.randrange(10 ** drawn.randrange(1, 19))).encode())) for _ in range(20_000)}
    assert len(found) <= 41


@pytest.mark.parametrize("size", [-1, -0.5, math.nan, math.inf, -math.inf, True, "12", b"1", 1j, [3]])
def test_what_is_no_size_is_refused_where_it_is_written(size: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"measure: size is a number from 0 up .*, not "):
        a_meter().measure("work", size=size)


def test_a_size_that_is_told_may_be_any_number_from_0_up() -> None:
    assert [sizes.told(size) for size in (0, 0.2, 1, 1023.5, 10**30)] == [
        *("size<1", "size<2", "size<2", "size<2048"),
        f"size<{2**40}",
    ]


# -- what a class has taught


def test_each_class_has_a_percentile_of_its_own_once_enough_of_it_were_seen() -> None:
    estimates = Estimates(TOKENS)
    for _ in range(ENOUGH - 1):
        estimates.learn(("/a", None), 100, "size<64")
        estimates.learn(("/a", None), 1000, "size<512")
    believed = estimates.of("/a", None)
    assert estimates.of("/a", None, "size<64") == believed, "of too few nothing is believed"
    estimates.learn(("/a", None), 100, "size<64")
    estimates.learn(("/a", None), 1000, "size<512")
    assert (estimates.of("/a", None, "size<64"), estimates.of("/a", None, "size<512")) == (100, 1000)
    assert estimates.of("/a", None, "size<8") == estimates.of("/a", None)
    assert estimates.of("/b", None, "size<64") == 10, "another route's sizes say nothing of this one"


def test_the_few_largest_reserve_what_their_like_needed_and_not_what_most_need() -> None:
    estimates = Estimates(TOKENS)
    for _ in range(200):
        estimates.learn(("/a", None), 100, "size<64")
    estimates.learn(("/a", None), 5000, "size<4096")
    assert estimates.of("/a", None, "size<4096") == 5000
    assert estimates.of("/a", None, "size<64") == pytest.approx(100, rel=0.1)


def test_nine_of_ten_of_every_class_fit_what_is_reserved_where_cost_follows_size() -> None:
    estimates, drawn, fitted = Estimates(TOKENS), random.Random(3), dict.fromkeys((64, 512, 4096), 0)
    for turn in range(6000):
        size = drawn.choice(list(fitted))
        used, known = size * drawn.uniform(0.8, 1.2), sizes.told(size)
        if turn >= 3000:
            fitted[size] += used <= estimates.of("/a", None, known)
        estimates.learn(("/a", None), used, known)
    assert all(0.85 <= 3 * each / 3000 <= 0.95 for each in fitted.values()), fitted


def test_what_clients_declare_fills_no_more_than_a_bounded_memory() -> None:
    estimates = Estimates(TOKENS)
    for route in range(5000):
        for size in ("bytes<2", "bytes<4"):
            estimates.learn((f"/{route}", None), 5, size)
    assert len(estimates._few) <= 4096
    for _ in range(ENOUGH):
        estimates.learn(("/0", None), 5, "bytes<2")
    assert estimates.by_size("/0", None) == {"bytes<2": 5}, "what is known goes on being learnt"


def test_what_was_learnt_of_sizes_is_told_as_far_as_it_moved_and_recalled() -> None:
    estimates = Estimates(TOKENS)
    for _ in range(ENOUGH):
        estimates.learn(("/a", "m"), 70, "size<64")
    assert estimates.moved() == {("/a", "m", None): pytest.approx(70, rel=0.05), ("/a", "m", "size<64"): 70}
    assert estimates.moved() == {}
    again = Estimates(TOKENS)
    for (route, model, size), amount in estimates.known().items():
        again.recall((route, model), amount, size)
    for nothing in (math.nan, -3.0, math.inf):
        again.recall(("/a", "m"), nothing, "size<8")
    assert (again.of("/a", "m", "size<64"), again.of("/a", "m", "size<8")) == (70, 70)
    again.learn(("/a", "m"), 140, "size<64")
    again.recall(("/a", "m"), 1.0, "size<64")
    assert again.of("/a", "m", "size<64") > 70, "what has been learnt since stands"


# -- where it is read


async def answer(request: Request) -> PlainTextResponse:
    """Uses as many tokens as its body has bytes, and none before it is read."""
    body = await request.body()
    request.scope["meter"].current().add_tokens(output=max(1, len(body)))
    return PlainTextResponse("ok")


def served(meter: Meter) -> Any:
    """An application that answers by the size of the body."""
    app = an_app(meter, Route("/a", answer, methods=["POST"]), outside=True)

    async def with_meter(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "meter": meter}, receive, send)

    return with_meter


def send(app: Any, *bodies: bytes) -> None:
    import asyncio

    async def all_of_them() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
            for body in bodies:
                assert (await http.post("/a", content=body)).status_code == 200

    asyncio.run(all_of_them())


@pytest.mark.parametrize("key", [None, "route"])
def test_the_length_of_a_request_s_body_says_what_is_reserved_before_it_is_read(key: Any) -> None:
    budget = Budget("t", "100000 tokens", per="day", key=key, estimate="10 tokens", degrade_at=None, warn_at=1.0)
    with a_meter(budgets=[budget]) as meter:
        app = served(meter)
        for size in (50, 3000):
            send(app, *[b"x" * size] * ENOUGH)
        meter.settle()
        reserved: list[int] = []

        def look(span: Span) -> None:
            reserved.extend(lease.amount for lease in span.leases)

        meter._closing.append(look)
        send(app, b"y" * 45, b"y" * 2500)
        assert reserved == [50, 3000]
        assert meter.errors == {}


def test_a_body_that_comes_in_chunks_is_estimated_by_its_route() -> None:
    with a_meter(budgets=[TOKENS]) as meter:
        send(served(meter), *[b"x" * 50] * ENOUGH)
        meter.settle()
        chunked = {"type": "http", "method": "POST", "path": "/a", "headers": [(b"transfer-encoding", b"chunked")]}
        span = meter.open_request("http", chunked, None)
        assert (span.size, [lease.amount for lease in span.leases]) == (None, [50])
        meter.close_span(span)


def test_a_block_takes_the_size_that_its_caller_tells_else_that_of_the_request_around_it() -> None:
    with a_meter(budgets=[TOKENS]) as meter:

        @meter.measure("answer", size=lambda question: len(question))
        def answered(question: str) -> str | None:
            span = meter.current()
            assert span is not None
            return span.size

        assert answered("x" * 100) == "size<128"
        with meter.measure("fixed", size=7) as span:
            assert span.size == "size<8"
        around = meter.open_request("http", {**post(b"300"), "path": "/a"}, None)
        from frugal_meter.attribution.span import SPAN

        token = SPAN.set(around)
        with meter.measure("inside") as inside:
            assert inside.size == "bytes<512"
        SPAN.reset(token)
        meter.close_span(around)


def test_tokens_that_are_told_before_the_model_is_named_are_its_size() -> None:
    of_model = Budget("m", "100000 tokens", per="day", match={"model": "large"}, estimate="10 tokens")
    with a_meter(budgets=[of_model]) as meter:
        meter.admission.recall({Learnt("m", "tokens", "chat", "large", "tokens<512"): 900.0})
        with meter.measure("chat") as span:
            span.add_tokens(input=300)
            span.identify(model="large")
            assert account(meter, "m").reserved == 900


@pytest.mark.parametrize("told", [-1, math.nan, "many", None])
def test_a_size_function_that_fails_is_counted_and_passed_over(told: Any) -> None:
    with a_meter(budgets=[TOKENS]) as meter:

        @meter.measure("answer", size=lambda: told)
        def answered() -> str:
            return "served"

        assert answered() == "served"
        assert meter.errors == {"size": 1}


def test_a_caller_s_estimate_wins_over_its_size() -> None:
    with a_meter(budgets=[TOKENS]) as meter:
        meter.admission.recall({Learnt("t", "tokens", "work", "", "size<64"): 900.0})
        with meter.measure("work", size=50):
            assert account(meter, "t").reserved == 900
        with meter.measure("work", size=50, estimate="30 tokens"):
            assert account(meter, "t").reserved == 30


def test_a_budget_in_requests_looks_at_no_size() -> None:
    with a_meter(budgets=[Budget("r", "100 requests", per="day")]) as meter:
        span = meter.open_request("http", {**post(b"300"), "path": "/a"}, None)
        assert (span.size, span.decision) == (None, "admit")
        meter.close_span(span)
        assert [answer.status_code for answer in ask(an_app(meter), "/hello", method="POST")] == [200]
