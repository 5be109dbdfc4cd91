"""The live page in a real headless Chromium, behind a real server and under its own content security policy."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from browser import axe_violations, chromium, console_errors, prefer, requested_urls, screenshot, viewport
from live_page_samples import EVIL, STATES, busy, hostile, reading
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from frugal_meter.exporters.live_page import content_security_policy, negotiate, render_data, render_page
from frugal_meter.exporters.page_texts import LANGUAGES
from frugal_meter.records import Interval


class LiveServer:
    """The page behind a real server on a spare loopback port; ``state`` may change, ``broken`` answers 503."""

    def __init__(self) -> None:
        self.state, self.broken, self.asked = busy(), False, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                """Quiet: the test reads ``asked`` instead."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/frugal/"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        lang = negotiate(request.headers.get("Accept-Language"), parse_qs(address.query).get("lang", [None])[0])
        nonce = secrets.token_urlsafe(16)
        self.asked.append(request.path)
        pages = {
            "/frugal/": ("text/html; charset=utf-8", lambda: render_page(self.state, lang=lang, nonce=nonce).encode()),
            "/frugal/data.json": ("application/json", lambda: render_data(self.state, lang=lang)),
        }
        kind, draw = pages.get(address.path, ("text/plain", bytes))
        body = draw()
        request.send_response(404 if address.path not in pages else 503 if self.broken else 200)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("X-Content-Type-Options", "nosniff")):
            request.send_header(name, value)
        request.send_header("Content-Security-Policy", content_security_policy(nonce))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[LiveServer]:
    live = LiveServer()
    yield live
    live.close()


@pytest.fixture(scope="module")
def _chromium(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def browser(_chromium):
    viewport(_chromium, 1280)
    prefer(_chromium, prefers_color_scheme="light")
    console_errors(_chromium)
    requested_urls(_chromium)
    yield _chromium
    _chromium.get("about:blank")


def said(browser, selector: str) -> str:
    # in one step: an element found first and read after may have been refreshed away in between
    seen = browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)
    return re.sub(r"[\s\u00a0\u202f]+", " ", seen).strip()


def patience(browser) -> WebDriverWait:
    return WebDriverWait(browser, 20, poll_frequency=0.05)


def until(browser, selector: str, wanted: str) -> None:
    patience(browser).until(lambda _: wanted in said(browser, selector), f"{selector} never said {wanted!r}")


def hurry(browser) -> None:
    """Refresh every 30 ms instead of every two seconds; the first turn, already set, still takes its two."""
    browser.execute_script("document.getElementById('status').dataset.every = 30")


def sideways(browser) -> list[str]:
    """Elements that stick out of the window, and boxes that hide a part of their own text."""
    return browser.execute_script("""
      const wide = document.documentElement.clientWidth, bad = [];
      if (document.documentElement.scrollWidth > wide) bad.push("page " + document.documentElement.scrollWidth + " > " + wide);
      for (const e of document.querySelectorAll("body *:not(.skip):not(script):not(defs *)")) {
        const box = e.getBoundingClientRect();
        if (!box.width || e.closest("thead") && getComputedStyle(e.closest("thead")).position === "absolute") continue;
        if (box.right > wide + 1 || box.left < -1) bad.push(e.tagName + "." + e.className + " " + Math.round(box.right));
        const cut = e.scrollWidth > e.clientWidth + 1 && e.clientWidth && getComputedStyle(e).display !== "inline";
        if (cut) bad.push("cut " + e.tagName + "." + e.className + " " + e.textContent.slice(0, 40));
      }
      return bad;
    """)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("width", [320, 360, 640, 760, 1280])
def test_nothing_runs_off_the_side_of_the_window(browser, server, state, width):
    server.state = STATES[state]()
    viewport(browser, width)
    browser.get(server.url + "?lang=fr")
    assert sideways(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("state", ["busy", "blind", "quiet"])
def test_axe_finds_nothing_against_the_page(browser, server, state, lang, scheme):
    server.state = STATES[state]()
    prefer(browser, prefers_color_scheme=scheme)
    browser.get(f"{server.url}?lang={lang}")
    assert axe_violations(browser) == []


def test_axe_finds_nothing_against_the_cards_of_a_phone(browser, server):
    viewport(browser, 320)
    browser.get(server.url)
    assert axe_violations(browser) == []


@pytest.mark.parametrize("width", [320, 640])
def test_on_a_narrow_window_a_row_is_a_card_whose_cells_say_their_column(browser, server, width):
    viewport(browser, width)
    browser.get(server.url + "?lang=en")
    told = browser.execute_script("""
      const cells = [...document.querySelectorAll(".requests tbody tr:first-child td")];
      return cells.map(cell => getComputedStyle(cell, "::before").content.replaceAll('"', "").replace(/[: ].*/, ""));
    """)
    assert told == ["Model", "Compute", "Energy", "Carbon", "Decision"]
    boxes = browser.execute_script("return [...document.querySelectorAll('.cards td')].map(c => c.getBoundingClientRect().width)")
    assert min(boxes) > 0.8 * width


def test_the_page_asks_nobody_else_and_its_policy_forbids_nothing_it_needs(browser, server):
    browser.get(server.url)
    until(browser, "#status", "Updated every")
    patience(browser).until(lambda _: any("data.json" in p for p in server.asked))
    outside = [u for u in requested_urls(browser) if not u.startswith((server.url, "data:"))]
    assert outside == []
    assert console_errors(browser) == []
    assert {urlsplit(p).path for p in server.asked} == {"/frugal/", "/frugal/data.json"}


def test_a_route_named_like_a_script_shows_as_text_at_first_and_after_a_refresh(browser, server):
    server.state = hostile()
    browser.get(server.url)
    for route in ("", " again"):
        server.state = msgspec.structs.replace(server.state, requests=(reading(0, route=EVIL + route),))
        hurry(browser)
        until(browser, ".requests .name", f'onerror="window.pwned=1">"\'&{route}')
        assert browser.execute_script("return window.pwned") is None
        assert browser.execute_script("return document.querySelectorAll('img, script').length") == 1
    assert said(browser, "h1").startswith("<script>window.pwned=1</script>")
    assert console_errors(browser) == []


def test_figures_refresh_in_place_and_stand_still_when_paused(browser, server):
    browser.get(server.url)
    assert "14 W" in said(browser, "[data-part=now]")
    hurry(browser)
    server.state = busy(watts_now=Interval(20.0, 28.0, 40.0))
    until(browser, "[data-part=now]", "28 W")
    pause = browser.find_element(By.ID, "pause")
    pause.click()
    assert said(browser, "#status") == "Paused: the figures stand still."
    server.state = busy(watts_now=Interval(30.0, 56.0, 90.0))
    # six turns of the page's own clock: long enough for a page that ignores its button to show the new figure
    browser.execute_async_script("setTimeout(arguments[0], 180)")
    assert "28 W" in said(browser, "[data-part=now]")
    pause.click()
    until(browser, "[data-part=now]", "56 W")
    assert said(browser, "#status") == "Updated every 2 seconds."


def test_a_refresh_announces_nothing_while_nothing_changes_for_the_listener(browser, server):
    browser.get(server.url)
    browser.execute_script("""
      window.spoken = 0;
      const any = {childList: true, subtree: true, characterData: true};
      new MutationObserver(() => window.spoken++).observe(document.getElementById("status"), any);
    """)
    hurry(browser)
    before = len(server.asked)
    patience(browser).until(lambda _: len(server.asked) > before + 5)
    assert browser.execute_script("return window.spoken") == 0
    assert browser.execute_script("return document.querySelectorAll('[aria-live], [role=alert], [role=log]').length") == 0


def test_a_service_that_falls_silent_is_said_and_its_last_figures_stay(browser, server):
    browser.get(server.url)
    hurry(browser)
    server.broken = True
    until(browser, "#status", "no longer answers")
    assert "14 W" in said(browser, "[data-part=now]")
    server.broken = False
    until(browser, "#status", "Updated every 2 seconds.")


def test_the_language_switch_changes_the_page_and_its_declared_language(browser, server):
    browser.get(server.url)
    root = browser.find_element(By.TAG_NAME, "html")
    assert root.get_attribute("lang") == "en"
    browser.find_element(By.LINK_TEXT, "Français").click()
    until(browser, "[data-part=now]", "Puissance de la machine")
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "fr"
    assert browser.find_element(By.CSS_SELECTOR, "nav [aria-current=true]").text == "Français"
    hurry(browser)
    server.state = busy(watts_now=Interval(1.0, 2.3, 4.0))
    until(browser, "[data-part=now]", "2,3 W")


def focused(browser) -> dict[str, Any]:
    return browser.execute_script("""
      const e = document.activeElement, s = getComputedStyle(e), box = e.getBoundingClientRect();
      const seen = box.left >= 0 && box.width > 0;
      return {name: e.id || e.textContent.trim(), outline: s.outlineStyle + " " + s.outlineWidth, seen};
    """)


def test_a_keyboard_reaches_everything_in_order_and_shows_where_it_is(browser, server):
    browser.get(server.url + "?lang=en")
    reached = []
    for _ in range(6):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        here = focused(browser)
        assert here["seen"], here
        assert here["outline"] == "solid 3px", here
        reached.append(here["name"])
    assert reached == ["Skip to content", "Français", "English", "pause", "Raw metrics (Prometheus)", "Data of this page (JSON)"]
    every = browser.find_elements(By.CSS_SELECTOR, 'a[href], button, input, select, summary, [tabindex="0"]')
    assert len(every) == len(reached)


def test_the_skip_link_and_the_pause_button_work_from_the_keyboard(browser, server):
    browser.get(server.url + "?lang=en")
    browser.find_element(By.CSS_SELECTOR, ".skip").send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"
    browser.find_element(By.ID, "pause").send_keys(Keys.SPACE)
    assert said(browser, "#status") == "Paused: the figures stand still."
    assert said(browser, "#pause") == "Resume"


def test_at_200_percent_nothing_is_lost(browser, server):
    browser.get(server.url)
    whole = said(browser, "main").lower()
    viewport(browser, 640, 450, scale=2)
    assert sideways(browser) == []
    zoomed = said(browser, "main").lower()
    for name in ("power of the machine", "14 w", "42 kj of 50 kj", "accueil", "ember", "27%"):
        assert (name in zoomed) == (name in whole)
    browser.execute_script("document.documentElement.style.fontSize = '200%'")
    assert sideways(browser) == []


def test_the_spacing_a_reader_may_ask_for_cuts_nothing(browser, server):
    """WCAG 2.2, success criterion 1.4.12: line 1.5, paragraph 2, letters 0.12 and words 0.16 times the font size."""
    for width in (320, 1280):
        viewport(browser, width)
        browser.get(server.url)
        browser.execute_script("""
          const wide = new CSSStyleSheet();
          wide.replaceSync("* {line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important}" +
                           "p {margin-bottom: 2em !important}");
          document.adoptedStyleSheets = [wide];
        """)
        assert sideways(browser) == []


def test_nothing_moves_and_less_still_when_the_reader_asks_for_it(browser, server):
    prefer(browser, prefers_reduced_motion="reduce")
    browser.get(server.url)
    assert browser.execute_script("return document.getAnimations().length") == 0
    moving = "return [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    assert browser.execute_script(moving) == 0
    assert browser.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_headings_go_down_one_step_at_a_time(browser, server):
    browser.get(server.url)
    levels = [int(h.tag_name[1]) for h in browser.find_elements(By.CSS_SELECTOR, "h1, h2, h3, h4, h5, h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_the_chart_is_told_by_place_letter_and_texture_and_by_its_table(browser, server):
    browser.get(server.url)
    letters = browser.execute_script("return [...document.querySelectorAll('.stack text')].map(t => t.textContent)")
    keys = browser.execute_script("return [...document.querySelectorAll('.account .letter')].map(t => t.textContent)")
    fills = browser.execute_script("return [...document.querySelectorAll('.stack .segment')].map(t => t.getAttribute('fill'))")
    assert keys == list("ABCDEF")
    assert set(letters) <= set(keys)
    assert len(set(fills)) == 6
    assert "Requests 27%" in browser.find_element(By.CSS_SELECTOR, ".stack").get_attribute("aria-label")


def _ink(browser, selector: str) -> dict[str, float]:
    """What a screenshot of an element holds, read back pixel by pixel by the browser itself."""
    shot = browser.find_element(By.CSS_SELECTOR, selector).screenshot_as_base64
    return browser.execute_async_script(
        """
      const [data, done] = arguments, image = new Image();
      image.onload = () => {
        const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
        pen.drawImage(image, 0, 0);
        const px = pen.getImageData(0, 0, image.width, image.height).data;
        const light = i => (0.2126 * px[i] + 0.7152 * px[i + 1] + 0.0722 * px[i + 2]) / 255;
        let ink = 0;
        for (let i = 0; i < px.length; i += 4) ink += Math.abs(light(i) - light(0)) > 0.4;
        done({paper: light(0), ink: ink / (px.length / 4)});
      };
      image.src = "data:image/png;base64," + data;
    """,
        shot,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_painted_in_the_readers_theme(browser, server, scheme, tmp_path):
    prefer(browser, prefers_color_scheme=scheme)
    browser.get(server.url)
    for selector in ("h1", "[data-part=now]", ".account", ".requests"):
        seen = _ink(browser, selector)
        assert (seen["paper"] > 0.9) if scheme == "light" else (seen["paper"] < 0.15)
        assert 0.004 < seen["ink"] < 0.5, (selector, seen)
    assert len(screenshot(browser, tmp_path / "page.png")) > 20_000
