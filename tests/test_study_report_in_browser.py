"""A study's report in a real headless Chromium: found accessible by axe-core, and whole at any width."""

from __future__ import annotations

import msgspec
import pytest
import study_samples
from browser import axe_violations, chromium, console_errors, prefer, requested_urls, screenshot, viewport

from frugal_meter.study.report import write
from frugal_meter.study.results import encoded

LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 3


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


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The reports of a study, by its name and language."""
    whole = study_samples.study(failing=3)
    bare = study_samples.study(judged=False, supplied=False)
    variants = tuple(msgspec.structs.replace(v, title=LONG, models=(LONG,), why_failed=(LONG,)) for v in whole.variants)
    long = msgspec.structs.replace(whole, title=LONG, service=LONG, variants=variants)
    studies = {"whole": whole, "bare": bare, "long": long}
    found = {}
    for name, study in studies.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "study.json").write_bytes(encoded(study))
        found |= {(name, path.suffixes[0][1:]): path for path in write(folder) if path.suffix == ".html"}
    return found


def sideways(browser) -> list[str]:
    """What sticks out of the window."""
    return browser.execute_script("""
      const wide = document.documentElement.clientWidth, bad = [];
      const whole = document.documentElement.scrollWidth;
      if (whole > wide) bad.push("page " + whole + " > " + wide);
      for (const e of document.querySelectorAll("main *:not(thead *):not(title):not(desc)")) {
        const box = e.getBoundingClientRect();
        if (box.width > 1 && (box.right > wide + 1 || box.left < -1)) bad.push(e.tagName + e.textContent.slice(0, 40));
      }
      return bad.slice(0, 5);""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
@pytest.mark.parametrize("page", [("whole", "fr"), ("whole", "en"), ("bare", "fr")], ids="-".join)
def test_axe_finds_nothing(browser, pages, page: tuple[str, str], width: int, scheme: str) -> None:
    viewport(browser, width)
    prefer(browser, prefers_color_scheme=scheme)
    browser.get(pages[page].as_uri())
    assert axe_violations(browser) == []


@pytest.mark.parametrize("width", [1280, 640, 320])
@pytest.mark.parametrize("page", [("whole", "fr"), ("whole", "en"), ("long", "en")], ids="-".join)
def test_nothing_sticks_out_at_any_width(browser, pages, page: tuple[str, str], width: int) -> None:
    viewport(browser, width)
    browser.get(pages[page].as_uri())
    assert sideways(browser) == []


def test_the_page_asks_for_nothing_and_breaks_no_rule_of_its_own(browser, pages) -> None:
    address = pages["whole", "fr"].as_uri()
    browser.get(address)
    assert [url for url in requested_urls(browser) if not url.startswith("data:")] == [address]
    assert console_errors(browser) == []
    # the style is in force, so that its hash in the policy is right
    assert browser.execute_script("return getComputedStyle(document.querySelector('.inside')).borderTopStyle") == "solid"


def test_one_plot_is_shown_at_a_time_and_its_names_keep_apart(browser, pages) -> None:
    for width, shown in ((1280, "wide"), (320, "small")):
        viewport(browser, width)
        browser.get(pages["whole", "fr"].as_uri())
        seen = browser.execute_script("""
          const drawn = [...document.querySelectorAll("svg.plot")].filter(s => s.getBoundingClientRect().width);
          return drawn.map(s => s.classList[1]);""")
        assert seen == [shown, shown]
        assert overlapping(browser) == []


def overlapping(browser) -> list[str]:
    """Words of drawings that lie on each other."""
    return browser.execute_script("""
      const bad = [];
      for (const svg of document.querySelectorAll("svg.plot")) {
        const boxes = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
        if (!svg.getBoundingClientRect().width) continue;
        boxes.forEach(([a, x], i) => boxes.slice(i + 1).forEach(([b, y]) => {
          const beside = x.left >= y.right - 1 || y.left >= x.right - 1;
          if (!beside && x.top < y.bottom - 3 && y.top < x.bottom - 3) bad.push(a + " / " + b);
        }));
      }
      return bad;""")


def test_the_first_stop_of_the_keyboard_leads_past_the_head(browser, pages) -> None:
    browser.get(pages["whole", "fr"].as_uri())
    skip = browser.find_element("css selector", ".skip")
    browser.execute_script("arguments[0].focus()", skip)
    assert skip.rect["x"] >= 0
    skip.click()
    assert browser.execute_script("return document.activeElement.id") == "main"


def test_dark_is_dark_and_its_drawings_follow(browser, pages, tmp_path) -> None:
    prefer(browser, prefers_color_scheme="dark")
    browser.get(pages["whole", "fr"].as_uri())
    ink = browser.execute_script("return getComputedStyle(document.querySelector('svg.plot .ink')).fill")
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ink, paper) == ("rgb(233, 231, 225)", "rgb(20, 24, 29)")
    assert screenshot(browser, tmp_path / "dark.png")
