"""The report on clauses as a page: nothing against its accessibility, nothing asked of anybody, no sideways scrolling."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import axe_violations, chromium, console_errors, prefer, requested_urls, viewport
from clause_house import a_pass, a_reading, fill

from frugal_meter.clauses.contract import load
from frugal_meter.clauses.judging import judged
from frugal_meter.clauses.report import Report
from frugal_meter.journal.opening import open_store

CLAUSES = """
title = "Assistant d’accueil"
buyer = "Ville"
unit = "answer"
timezone = "UTC"
[[period]]
name = "2025-01-01"
begin = 2025-01-01
end = 2025-01-02
[[clause]]
id = "kept"
figure = "energy"
over = "period"
at_most = "100 J"
[[clause]]
id = "broken"
figure = "carbon"
over = "period"
at_most = "1 µgCO2e"
[[clause]]
id = "open"
figure = "quality"
at_least = 0.5
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (clauses := tmp_path / "clauses.toml").write_text(CLAUSES, encoding="utf-8")
    fill(str(tmp_path / "journal.db"), [a_reading(number) for number in range(120)], [a_pass(1000)])
    contract = load(clauses)
    (stretch,) = contract.periods
    with open_store(tmp_path / "journal.db", create=False) as journal:
        report = Report(contract, [judged(contract, stretch, journal, stretch.end_s)], "journal.db", stretch.end_s)
    assert [each.ruling for each in report.judgements[0].verdicts] == ["kept", "broken", "cannot_be_judged"]
    out = tmp_path / "report.html"
    out.write_text(report.html("fr"), encoding="utf-8")
    return out


def test_the_report_is_accessible_at_every_width_in_light_and_dark(page: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as browser:
        for width, scheme in ((1280, "light"), (1280, "dark"), (320, "light"), (320, "dark")):
            viewport(browser, width)
            prefer(browser, prefers_color_scheme=scheme)
            requested_urls(browser)
            browser.get(page.as_uri())
            assert axe_violations(browser) == [], (width, scheme)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert [url for url in requested_urls(browser) if not url.startswith(("file:", "data:"))] == []
            assert console_errors(browser) == []
