"""The ops pages: who may see them, how they answer, and where they listen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from exchange import HERE, a_meter, an_app, ask, hello, statuses
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from frugal_meter import Meter
from frugal_meter.errors import ConfigurationError
from frugal_meter.exporters.ops import ops_app

PAGES = ("/", "/metrics", "/data.json")
AFAR = ("203.0.113.9", 40_000)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    monkeypatch.delenv("FRUGAL_OPS_TOKEN", raising=False)
    with a_meter() as one:
        yield one


@pytest.mark.parametrize("client", [HERE, ("127.8.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)])
def test_the_machine_itself_sees_every_page(meter: Meter, client: tuple[str, int]) -> None:
    assert statuses(ask(meter.ops_app(), *PAGES, client=client)) == [200, 200, 200]


@pytest.mark.parametrize(
    "client",
    [
        AFAR, ("10.0.0.1", 1), ("0.0.0.0", 1), ("2001:db8::1", 1), ("::ffff:203.0.113.9", 1), ("fe80::1%eth0", 1),
        ("testclient", 1), ("", 0), ("127.0.0.1.evil.example", 1), None,
    ],
)  # fmt: skip
def test_nobody_else_does(meter: Meter, client: Any) -> None:
    answers = ask(meter.ops_app(), *PAGES, client=client)
    assert statuses(answers) == [403, 403, 403]
    assert all("answers the machine itself only" in answer.text for answer in answers)


@pytest.mark.parametrize(
    "header",
    [
        "Forwarded", "X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-HOST", "X-Forwarded-Proto", "X-Forwarded-Port",
        "X-Forwarded", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Real-IP", "Via", "CF-Connecting-IP", "True-Client-IP",
        "X-Client-IP", "X-Cluster-Client-IP", "X-Original-Forwarded-For", "Fly-Client-IP", "Fastly-Client-IP", "Forwarded-For",
    ],
)  # fmt: skip
def test_a_request_that_came_through_a_proxy_does_not_pass_for_the_machine_itself(meter: Meter, header: str) -> None:
    assert statuses(ask(meter.ops_app(), *PAGES, headers={header: "127.0.0.1"})) == [403, 403, 403]


def test_header_names_are_compared_in_any_case_even_where_a_server_left_them_as_sent(meter: Meter) -> None:
    async def shout(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = [(name.upper(), value) for name, value in scope["headers"]]
        await meter.ops_app()(scope, receive, send)

    assert statuses(ask(shout, "/metrics", headers={"x-forwarded-for": "::1"})) == [403]


def test_a_server_that_rewrites_the_client_from_headers_opens_nothing(meter: Meter) -> None:
    behind = ProxyHeadersMiddleware(meter.ops_app(), trusted_hosts="*")
    assert statuses(ask(behind, "/metrics", headers={"x-forwarded-for": "127.0.0.1"}, client=AFAR)) == [403]


def test_a_token_opens_the_pages_from_anywhere_and_nothing_else_does(meter: Meter) -> None:
    app = meter.ops_app(token="sésame")
    right = {"authorization": b"Bearer s\xc3\xa9same", "x-forwarded-for": b"203.0.113.9"}
    assert statuses(ask(app, *PAGES, headers=right, client=AFAR)) == [200, 200, 200]
    for wrong in (None, {"authorization": "Bearer"}, {"authorization": "Bearer sesame"}, {"authorization": "Basic c2VzYW1l"}):
        assert statuses(ask(app, *PAGES, headers=wrong)) == [403, 403, 403], "the machine itself needs the token too"


def test_the_token_may_come_from_the_environment(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_OPS_TOKEN", "s3same")
    app = meter.ops_app()
    assert statuses(ask(app, "/metrics", headers={"authorization": "Bearer s3same"}, client=AFAR)) == [200]
    assert statuses(ask(app, "/metrics")) == [403]


def test_an_empty_token_is_no_token(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_OPS_TOKEN", "")
    for app in (meter.ops_app(), meter.ops_app(token="")):
        assert statuses(ask(app, "/metrics")) == [200]
        assert statuses(ask(app, "/metrics", headers={"authorization": "Bearer "}, client=AFAR)) == [403]


def test_public_pages_are_public(meter: Meter) -> None:
    assert statuses(ask(meter.ops_app(public=True), *PAGES, client=AFAR, headers={"via": "1.1 proxy"})) == [200, 200, 200]


def test_nothing_is_kept_by_caches_and_the_page_may_load_nothing_from_elsewhere(meter: Meter) -> None:
    page, metrics, data = ask(meter.ops_app(), *PAGES)
    assert {answer.headers["cache-control"] for answer in (page, metrics, data)} == {"no-store"}
    policy = dict(rule.strip().partition(" ")[::2] for rule in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
    assert f'nonce="{nonce}"' in page.text
    assert "unsafe" not in page.headers["content-security-policy"]
    assert ask(meter.ops_app(), "/")[0].headers["content-security-policy"] != page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"


def test_the_page_speaks_the_language_that_was_asked_for(meter: Meter) -> None:
    french, english = (ask(meter.ops_app(), "/", headers={"accept-language": lang})[0] for lang in ("fr-FR,fr;q=0.9", "en"))
    assert (french.headers["content-language"], english.headers["content-language"]) == ("fr", "en")
    assert '<html lang="fr"' in french.text


def test_metrics_come_in_the_format_that_was_asked_for(meter: Meter) -> None:
    (answer,) = ask(meter.ops_app(), "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_head_is_answered_like_get_without_a_body(meter: Meter) -> None:
    assert [(a.status_code, a.content) for a in ask(meter.ops_app(), *PAGES, method="HEAD")] == [(200, b"")] * 3
    assert statuses(ask(meter.ops_app(), *PAGES, method="HEAD", client=AFAR)) == [403] * 3
    assert statuses(ask(meter.ops_app(), *PAGES, method="POST")) == [405] * 3


def test_the_pages_work_below_a_prefix_and_are_metered_like_any_other(meter: Meter) -> None:
    app = an_app(meter, Route("/hello", hello))
    app.mount("/frugal", meter.ops_app())
    assert statuses(ask(app, "/frugal/", "/frugal/metrics", "/frugal/data.json")) == [200, 200, 200]
    (bare,) = ask(app, "/frugal")
    assert (bare.status_code, bare.headers["location"].rpartition("/frugal")[2]) == (307, "/")
    assert statuses(ask(app, "/frugal/", "/frugal/metrics", client=AFAR)) == [403, 403]


def test_figures_are_drawn_on_a_worker_thread_and_not_on_the_event_loop(meter: Meter) -> None:
    drawn_by: list[int] = []
    loop_of: list[int] = []

    def metrics(accept: str) -> tuple[bytes, str]:
        drawn_by.append(threading.get_ident())
        return meter.metrics(accept)

    async def where(request: Request) -> PlainTextResponse:
        loop_of.append(threading.get_ident())
        return PlainTextResponse("")

    def never() -> Any:
        raise AssertionError("the page was not asked for")

    app: Starlette = ops_app(metrics, never, token=None, public=False)
    app.router.routes.append(Route("/where", where))
    assert statuses(ask(app, "/where", "/metrics")) == [200, 200]
    assert drawn_by[0] != loop_of[0]


def test_the_pages_listen_on_a_port_of_their_own(meter: Meter) -> None:
    server = meter.serve_ops("127.0.0.1:0")
    try:
        assert server.address[1] > 0
        assert httpx.get(server.url, timeout=10).status_code == 200
        assert "frugal_build_info" in httpx.get(server.url + "metrics", timeout=10).text
        assert httpx.get(server.url + "metrics", headers={"x-forwarded-for": "127.0.0.1"}, timeout=10).status_code == 403
    finally:
        server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, timeout=2)


def test_a_page_of_its_own_on_ipv6_has_an_address_that_opens(meter: Meter) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback: enable net.ipv6 to run this")
    server = meter.serve_ops("[::1]:0")
    try:
        assert httpx.get(server.url, timeout=10).status_code == 200
    finally:
        server.stop()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"])
def test_listening_beyond_this_machine_needs_a_token_or_public(meter: Meter, address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"would listen beyond this machine: give token=.* or public=True"):
        meter.serve_ops(address)


def test_with_a_token_of_the_environment_the_pages_may_listen_beyond_this_machine(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUGAL_OPS_TOKEN", "s3same")
    server = meter.serve_ops("0.0.0.0:0")
    try:
        url = f"http://127.0.0.1:{server.address[1]}/metrics"
        assert httpx.get(url, timeout=10).status_code == 403
        assert httpx.get(url, headers={"authorization": "Bearer s3same"}, timeout=10).status_code == 200
    finally:
        server.stop()


@pytest.mark.parametrize("address", ["9464", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:²", ""])
def test_an_address_without_a_port_is_refused_with_an_example(meter: Meter, address: str) -> None:
    with pytest.raises(ConfigurationError, match=r'write an address and a port, such as "127\.0\.0\.1:9464"'):
        meter.serve_ops(address)


def test_a_port_in_use_is_one_clear_error_and_not_the_end_of_the_application(meter: Meter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=address):
            meter.serve_ops(address)
