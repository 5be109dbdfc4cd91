"""The forms in which a client is told no: for machines, for people, by header alone, and on a websocket of a real server."""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from browser import axe_violations, chromium, console_errors, prefer, requested_urls, screenshot, viewport
from exchange import a_meter, an_app, ask, later, statuses, talk, websocket_scope
from selenium.webdriver.common.by import By
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from support import served

from frugal_meter import Budget, Meter
from frugal_meter.errors import BudgetRefused, ConfigurationError
from frugal_meter.refusal import STATUSES, Refusals, problem, sentences
from frugal_meter.refusal_page import refusal_page, wants_page

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ONE = Budget("guichet", "1 requests", per="day")


def refused(headers: Any = None, *, method: str = "GET", budget: Budget = ONE, **settings: Any) -> httpx.Response:
    """The answer to the second of two requests under a budget of one."""
    with a_meter(budgets=[budget], **settings) as meter:
        app = an_app(meter)
        ask(app, "/hello")
        return ask(app, "/hello", headers=headers, method=method)[0]


def a_refusal(**more: Any) -> dict[str, Any]:
    """A refusal as a meter words it, with ``more`` in it."""
    with a_meter(budgets=[Budget("guichet", "1.5 kJ", per="day", estimate="1.5 kJ")]) as meter:
        held = [meter.open_span("block") for _ in range(2)]
        for span in held:
            meter.decide(span)
        assert held[1].refusal is not None
        return {**held[1].refusal, **more}


def text_of(page: str) -> str:
    """What a page says, without its markup."""
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).replace("\u202f", " ")


# -- for machines


def test_a_refused_client_is_told_of_the_counter_the_contact_the_scope_and_its_number() -> None:
    answer = refused(refusals=Refusals(fallback_url="https://example.org/guichet", contact="accueil@example.org"))
    said = answer.json()
    assert (said["fallback_url"], said["contact"]) == ("https://example.org/guichet", "accueil@example.org")
    assert said["scope"] == ["service"]
    assert said["retry_after_s"] == int(answer.headers["retry-after"])
    assert re.fullmatch(r"[0-9a-f-]{36}", said["request_id"])


def test_the_number_told_is_the_one_of_the_reading() -> None:
    with a_meter(budgets=[ONE]) as meter:
        said = [answer.json() for answer in ask(an_app(meter), "/hello", "/hello", "/hello")[1:] if answer.status_code == 429]
        meter.settle()
        ids = [span.reading.id for span in meter.recent]
    assert [each["request_id"] for each in said] == ids[1:]


def test_a_budgets_own_counter_wins_over_the_services() -> None:
    budget = Budget("guichet", "1 requests", per="day", fallback_url="/annexe")
    assert refused(budget=budget, refusals={"fallback_url": "https://example.org/"}).json()["fallback_url"] == "/annexe"


def test_what_was_not_given_is_not_told() -> None:
    assert refused().json().keys() & {"fallback_url", "contact"} == set()


@pytest.mark.parametrize("status", STATUSES)
def test_the_status_is_the_services_choice(status: int) -> None:
    answer = refused(refusals={"status": status})
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_a_refusal_to_a_head_request_has_headers_and_no_body() -> None:
    answer = refused(method="HEAD")
    assert (answer.status_code, answer.content) == (429, b"")
    assert int(answer.headers["content-length"]) > 0


def test_refused_requests_are_counted_under_the_route_that_they_asked_for() -> None:
    with a_meter(budgets=[ONE]) as meter:
        ask(an_app(meter), "/hello", "/hello")
        meter.settle()
        assert [(span.reading.route, span.reading.outcome) for span in meter.recent] == [("/hello", "ok"), ("/hello", "refused")]


def test_those_refused_together_are_told_to_come_back_apart_and_never_early() -> None:
    with a_meter(budgets=[Budget("hour", "1 requests", per="hour", timezone="UTC")]) as meter:
        later(meter, 1800)
        answers = ask(an_app(meter), *["/hello"] * 40)[1:]
    waits = [int(answer.headers["retry-after"]) for answer in answers]
    assert min(waits) >= 1800
    assert max(waits) <= 1860
    assert len(set(waits)) > 10


def test_rate_limit_fields_are_sent_only_when_asked_for() -> None:
    assert not [name for name in refused().headers if name.startswith("ratelimit")]
    with a_meter(budgets=[Budget("crédit", "2 requests", per="day")], refusals={"rate_limit": True}) as meter:
        answers = ask(an_app(meter), "/hello", "/hello", "/hello")
    assert statuses(answers) == [200, 200, 429]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"credit";q=2;w=86400'}
    assert [re.sub(r";t=\d+", "", answer.headers["ratelimit"]) for answer in answers] == [
        '"credit";r=1', '"credit";r=0', '"credit";r=0',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "policy"),
    [("50 kJ", 'q=50000;qu="joules"'), ("1.5 J", 'q=1500;qu="millijoules"'), ("20 gCO2e", 'q=20000;qu="milligrams-co2e"')],
)
def test_rate_limit_quantities_are_whole_numbers_of_a_named_unit(limit: str, policy: str) -> None:
    with a_meter(budgets=[Budget("b", limit, per="day")], refusals={"rate_limit": True}) as meter:
        answer = ask(an_app(meter), "/hello")[0]
    assert answer.headers["ratelimit-policy"] == f'"b";{policy};w=86400'


@pytest.mark.parametrize(
    "settings",
    [
        {"status": 418}, {"status": True}, {"fallback_url": "javascript:alert(1)"}, {"fallback_url": "//example.org"},
        {"fallback_url": "https://"}, {"fallback_url": "https://[x"}, {"contact": ""}, {"contact": "a\nb"}, {"contact": 3},
        {"rate_limit": 1}, {"fallback": "x"}, 429,
    ],
)  # fmt: skip
def test_settings_of_refusals_that_mean_nothing_are_refused_in_one_line(settings: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^refusals") as refusal:
        Meter("guichet", zone="FR", refusals=settings)
    assert "\n" not in str(refusal.value)


def test_a_budgets_counter_must_be_an_address() -> None:
    with pytest.raises(ConfigurationError, match=r"^budget 'b': fallback_url is an address"):
        Budget("b", "1 requests", per="day", fallback_url="guichet")


def test_a_store_that_cannot_be_asked_is_nobodys_spent_budget() -> None:
    refusal = a_refusal(reason="store", retry_after_s=5)
    headers, body = problem(refusal, Refusals(status=402))
    assert b'"status":503' in body
    assert b"#temporary-reduced-capacity" in body
    assert b"violated-policies" not in body
    assert b"settled" not in body, "what this worker knows alone is no figure"
    assert dict(headers)[b"retry-after"] == b"5"
    assert "cannot be asked" in sentences(refusal)[0]
    page = text_of(refusal_page(refusal, Refusals(), lang="en", service="guichet", now_s=0.0))
    assert "out of reach" in page
    assert "hors d’atteinte" in page


# -- for people


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER["accept"], True), ("text/html", True), ("text/html;q=0.5, */*;q=0.1", True), ("", False), ("*/*", False),
        ("application/json, text/html", False), ("text/html;q=0", False), ("application/json, text/html;q=0.9", False),
        ("text/html;q=nonsense", False), ("TEXT/HTML", True), ("text/html;q=0.4, */*", False),
    ],
)  # fmt: skip
def test_a_page_is_for_those_who_ask_for_html_by_name(accept: str, page: bool) -> None:
    assert wants_page(accept) is page


@pytest.mark.parametrize(("languages", "first"), [("fr-FR,fr;q=0.9,en;q=0.5", "fr"), ("en-GB", "en"), ("de", "en"), ("", "fr")])
def test_the_page_begins_in_the_readers_language_and_holds_both(languages: str, first: str) -> None:
    answer = refused({**BROWSER, "accept-language": languages})
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-language"] == ", ".join((first, "en" if first == "fr" else "fr"))
    assert f'<html lang="{first}">' in answer.text
    said = text_of(answer.text)
    french, english = said.index("Votre demande n’a pas été traitée", 60), said.index("Your request was not processed", 60)
    assert (french < english) is (first == "fr")
    assert answer.headers["retry-after"]
    assert answer.headers["vary"] == "Accept, Accept-Language"


def test_the_page_says_whose_limit_it_is_what_it_counts_and_until_when() -> None:
    page = refusal_page(a_refusal(scope=["tenant"]), Refusals(), lang="fr", service="guichet", now_s=1_767_225_600.0)
    said = text_of(page)
    assert "Votre compte a une limite d’énergie à ne pas dépasser, et elle est atteinte pour aujourd’hui." in said
    assert "1,5 kJ par jour" in said
    assert "à partir du 2 janvier 2026 à 0 h 00 (heure de Paris)" in re.sub(r"\s+", " ", said)
    assert "Your account has a limit of energy" in said
    assert "from 2 January 2026 at 00:00 (Paris time)" in re.sub(r"\s+", " ", said)


def test_nothing_reserved_is_0_requests_in_english_and_0_demande_in_french() -> None:
    counted = a_refusal(unit="requests", resource="requests", limit=3.0, settled=3.0, reserved=0.0, estimate=1.0, tier=None)
    said = text_of(refusal_page(counted, Refusals(), lang="en", service="guichet", now_s=1_767_225_600.0))
    plain = re.sub(r"\s+", " ", said)
    for shown in ("0 requests", "0 demande ", "3 demandes par jour", "1 request "):
        assert shown in plain


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("accueil@example.org", 'href="mailto:accueil@example.org"'), ("01 23 45 67 89", 'href="tel:0123456789"'),
        ("https://example.org/aide", 'href="https://example.org/aide"'), ("bureau 12, 1er étage", "bureau 12, 1er étage"),
    ],
)  # fmt: skip
def test_a_contact_can_be_followed_when_it_is_an_address_or_a_number(contact: str, link: str) -> None:
    assert link in refusal_page(a_refusal(), Refusals(contact=contact), lang="fr", service="guichet", now_s=0.0)


def test_names_of_strangers_are_text_on_the_page() -> None:
    evil = "<script>alert(1)</script>"
    page = refusal_page(a_refusal(budget=evil), Refusals(contact=evil), lang="fr", service=evil, now_s=0.0, request_id=evil)
    assert "<script" not in page


def test_a_page_that_cannot_be_drawn_is_a_problem_document_and_a_counted_fault() -> None:
    with a_meter(budgets=[ONE]) as meter:
        app = an_app(meter)
        ask(app, "/hello")
        meter.service = 3  # type: ignore[assignment]  # nothing that a page can name
        answer = ask(app, "/hello", headers=BROWSER)[0]
    assert answer.headers["content-type"] == "application/problem+json"
    assert meter.errors["refusal"] == 1


@pytest.mark.parametrize("lang", ["fr", "en"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_at_every_width_and_fetches_nothing(tmp_path: Path, lang: str, scheme: str) -> None:
    settings = Refusals(fallback_url="https://example.org/guichet", contact="accueil@example.org")
    meter = a_meter(budgets=[Budget("un budget au nom vraiment très long", "1 requests", per="day")], refusals=settings)
    with meter, chromium(tmp_path / "profile") as browser:

        async def look() -> None:
            async with served(an_app(meter)) as port:
                url = f"http://127.0.0.1:{port}/hello"
                async with httpx.AsyncClient() as client:
                    assert (await client.get(url)).status_code == 200
                await asyncio.to_thread(browser.execute_cdp_cmd, "Network.enable", {})
                headers = {"headers": {"Accept-Language": lang}}
                await asyncio.to_thread(browser.execute_cdp_cmd, "Network.setExtraHTTPHeaders", headers)
                await asyncio.to_thread(browser.get, url)

        prefer(browser, prefers_color_scheme=scheme)
        asyncio.run(look())
        assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == lang
        for width in (320, 390, 1280):
            viewport(browser, width)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert axe_violations(browser) == []
            assert len(screenshot(browser, tmp_path / f"{width}.png")) > 10_000
        headings = [each.tag_name for each in browser.find_elements(By.CSS_SELECTOR, "h1, h2, h3")]
        assert headings == ["h1", "h2", "h2", "h2", "h3", "h3"]
        asked = {url for url in requested_urls(browser) if url.startswith("http")}
        assert asked == {browser.current_url}
        assert [error for error in console_errors(browser) if "429" not in error] == []


# -- on a websocket


async def line(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def test_a_websocket_whose_server_can_is_refused_with_the_whole_answer() -> None:
    with a_meter(budgets=[ONE]) as meter:
        app = an_app(meter, WebSocketRoute("/line", line))
        scope = {**websocket_scope("/line"), "extensions": {"websocket.http.response": {}}}
        talk(app, scope, {"type": "websocket.connect"})
        start, body = talk(app, scope, {"type": "websocket.connect"})
        meter.settle()
        assert meter.recent[1].status == 429
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
    assert b"quota-exceeded" in body["body"]


def test_a_websocket_is_told_to_come_back_when_it_is_the_store_that_is_away() -> None:
    from frugal_meter.refusing import closing

    assert closing({"reason": "store"})["code"] == 1013


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
def test_a_real_server_shows_a_refused_websocket_the_status_and_the_document(ws: str) -> None:
    async def connect_twice() -> Any:
        async with served(an_app(meter, WebSocketRoute("/line", line)), ws=ws) as port:
            async with websockets.connect(f"ws://127.0.0.1:{port}/line"):
                pass
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with websockets.connect(f"ws://127.0.0.1:{port}/line"):
                    raise AssertionError("admitted")
            return refused.value.response

    with a_meter(budgets=[ONE]) as meter:
        response = asyncio.run(connect_twice())
    assert response.status_code == 429
    assert b"quota-exceeded" in response.body
    assert int(response.headers["retry-after"]) > 0


def test_outside_http_the_sentence_is_the_same() -> None:
    with a_meter(budgets=[Budget("large", "1 requests", per="day", match={"model": "large"})]) as meter:
        with meter.measure("one", model="large"):
            pass
        with pytest.raises(BudgetRefused) as refusal, meter.measure("two", model="large"):
            pass
    assert str(refusal.value) == sentences(refusal.value.refusal)[0]
