"""Everywhere a figure appears it can be cited: tier, interval, method with its version, and the ids of its factors.

Each surface shows the same work of one meter; what it prints is searched for the four, and every interval is read back.
"""

from __future__ import annotations

import asyncio
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from rich.console import Console
from support import burn, metered
from typer.testing import CliRunner

from examples.assistant import demo, figures, tables
from examples.assistant.quality import score
from examples.assistant.words import Words as DemoWords
from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.cli.account import Tally, account
from frugal_meter.cli.app import app
from frugal_meter.cli.texts import Words
from frugal_meter.exporters.json_lines import JsonLines
from frugal_meter.testing import ProcTree, RecordingExporter, SyntheticSource

FACTOR = "ember:FR:2024"
METHOD = "cpu-time/1+synthetic/1"
_PREFIX = {"n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6}
_NUMBER = r"(\d[\d.,]*)[\s\u202f\xa0]*"
_UNIT = r"(?:([nµmkM]?)(J|W|gCO₂e|gCO2e|g)\b)?"
#: "70 mJ (15 to 220 mJ)", "4,2 kJ (2,1 à 8,0 kJ)", and the demonstration's "8.4 [1.7–24] mJ"
_SPELT = re.compile(rf"{_NUMBER}{_UNIT},? ?\({_NUMBER}{_UNIT}[\s\u202f\xa0]*(?:to|à)[\s\u202f\xa0]*{_NUMBER}{_UNIT}\)")
_BRACKETS = re.compile(r"(\d[\d.,]*) \[(\d[\d.,]*)–(\d[\d.,]*)\] [nµmkM]?(?:J|g)")
#: on the live page: an amount, and the first line under it when that is bounds
_BOUNDS_UNDER = re.compile(
    r'(?<=class="(?:amount|figure)">)([^<]*)</span><span class="note">([^<]* (?:to|à) [^<]*?)(?=, [^<]*<|<)'
)


class Work:
    """A meter that has served requests, refused one and kept their readings, with the files that commands read."""

    def __init__(
        self, meter: Meter, out: RecordingExporter, tally: Tally, file: Path, answers: dict[str, httpx.Response]
    ) -> None:
        self.meter, self.out, self.tally, self.file, self.answers = meter, out, tally, file, answers
        self.reading = next(r for r in out.readings if r.outcome == "ok" and r.energy_full_j)
        self.folder = file.parent

    def command(self, *words: str) -> str:
        """What a command prints; it must succeed, or say that it only models."""
        done = CliRunner().invoke(app, list(words), env={"COLUMNS": "400", "FRUGAL_CONFIG": None})
        assert done.exit_code in (0, 1), done.stderr
        return done.stdout


async def _asked(meter: Meter) -> dict[str, httpx.Response]:
    async def served(scope: Any, receive: Any, send: Any) -> None:
        burn(0.02)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    ops = meter.ops_app(public=True)
    door = httpx.ASGITransport(MeterMiddleware(served, meter=meter))
    async with httpx.AsyncClient(transport=door, base_url="http://a") as client:
        assert (await client.get("/first")).status_code == 200
        meter.settle()
        refused = {"problem": await client.get("/second"), "page": await client.get("/third", headers={"accept": "text/html"})}
    meter.settle()
    id = meter.figures.whole(meter.recent[0]).id
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ops), base_url="http://a") as client:
        seen = {path: await client.get(f"/{path}") for path in ("data.json", f"readings/{id}", "metrics")}
        pages = {f"live {lang}": await client.get("/", params={"lang": lang}) for lang in ("en", "fr")}
    return refused | pages | {"data": seen["data.json"], "reading": seen[f"readings/{id}"], "metrics": seen["metrics"]}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    file = tmp_path_factory.mktemp("cited") / "readings.jsonl"
    exporters = [out := RecordingExporter(), tally := Tally(), lines := JsonLines(file)]
    budgets = [Budget("chat", "0.1 J", per="day", estimate="1 mJ", warn_at=0.1, degrade_at=0.2)]
    source = SyntheticSource(2.0, 10.0, error=0.4)
    journal = f"sqlite:///{file.with_name('journal.db')}"
    with metered(sources=source, exporters=exporters, budgets=budgets, journal=journal) as (meter, _):
        answers = asyncio.run(_asked(meter))
    lines.stop()
    return Work(meter, out, tally, file, answers)


def _demo(work: Work, lang: str) -> str:
    served = figures.requests([r for r in work.out.readings if r.outcome == "ok"])
    books = figures.account(work.out.ticks)
    row = figures.QualityRow("a", score([True]), 1, figures.cost(served, 1.0))
    report = demo.Report(
        rows=figures.rows(served, 1.0), account=books, quality=[row], degraded=None, refused=None, requests=1, expected=1,
        client_error=None, seconds=1.0,
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=400, record=True)
    words = DemoWords(lang)  # type: ignore[arg-type]
    tables.show(report, words, console, FACTOR, METHOD)
    assert all((r.cost.method_ids, r.cost.factor_ids) == ((METHOD,), (FACTOR,)) for r in (*report.rows, row)), "and its JSON"
    return console.export_text()


def _doctor(work: Work, *more: str) -> str:
    tree = ProcTree(work.folder / "machine", cpus=2) if not (work.folder / "machine").exists() else None
    if tree is not None:
        tree.cpuinfo({"vendor_id": "GenuineIntel", "cpu family": "6", "model": "85", "model name": "Intel(R) Xeon(R) Gold 6130"})
    roots = [f"--{name}-root={work.folder / 'machine' / name}" for name in ("proc", "sys")]
    return work.command("doctor", "--zone", "FR", "--sources", "model", *roots, *more)


def _live_page(work: Work, lang: str) -> str:
    """The page's body, the note under a figure put behind it in brackets, as a reader takes it."""
    page = work.answers[f"live {lang}"]
    assert page.headers["content-type"].startswith("text/html")
    body = html.unescape(page.text.partition("<main")[2].partition("<script")[0])
    return _BOUNDS_UNDER.sub(r"\1 (\2)", body)


#: where figures appear: what it is, and what it shows in one language
SURFACES: dict[str, Callable[[Work, str], str]] = {
    "reading": lambda work, lang: msgspec.json.encode(work.reading).decode(),
    "exported readings": lambda work, lang: work.file.read_text(encoding="utf-8"),
    "/readings/ID": lambda work, lang: work.answers["reading"].text,
    "/data.json": lambda work, lang: work.answers["data"].text,
    "/metrics": lambda work, lang: work.answers["metrics"].text,
    "live page": _live_page,
    "account of run": lambda work, lang: "\n".join(account(work.meter, work.tally, 1.0, Words(lang))),  # type: ignore[arg-type]
    "explain": lambda work, lang: work.command("explain", work.reading.id, "--from", str(work.file), "--lang", lang),
    "compare": lambda work, lang: work.command("compare", str(work.file), str(work.file), "--lang", lang),
    "compare --json": lambda work, lang: work.command("compare", str(work.file), str(work.file), "--json"),
    "refusal": lambda work, lang: work.answers["problem"].text,
    "refusal page": lambda work, lang: work.answers["page"].text,
    "journal period": lambda work, lang: work.command("journal", "period", str(work.folder / "journal.db"), "--lang", lang),
    "journal period --json": lambda work, lang: work.command("journal", "period", str(work.folder / "journal.db"), "--json"),
    "demo": _demo,
    "doctor": lambda work, lang: _doctor(work, "--lang", lang),
    "doctor --json": lambda work, lang: _doctor(work, "--json"),
}
TIERS = {"en": r"measured|modelled", "fr": r"mesuré|modélisé"}
#: what parts thousands: a comma in English, a narrow space in French
THOUSANDS = {"en": ",", "fr": r"[\s]"}
#: keys that belong together: low, middle, high
TRIPLES = (
    ("low", "mid", "high"),
    ("energy_low_j", "energy_full_j", "energy_high_j"),
    ("carbon_low_g", "carbon_g", "carbon_high_g"),
    ("settled_low", "settled", "settled_high"),
)
#: a refusal in joules has no grams to cite; the family of the factor is a metric's label, its id a reading's
WITHOUT_FACTOR = {"refusal", "refusal page", "/metrics"}
BY_KEYS = (
    "reading",
    "exported readings",
    "/readings/ID",
    "/data.json",
    "compare --json",
    "journal period --json",
    "refusal",
    "doctor --json",
)


@pytest.mark.parametrize("lang", ["en", "fr"])
@pytest.mark.parametrize("name", SURFACES)
def test_a_figure_carries_its_tier_method_and_factors_wherever_it_appears(work: Work, name: str, lang: str) -> None:
    shown = SURFACES[name](work, lang)
    assert re.search(TIERS[lang] + "|measured|modelled", shown), "tier"
    method = "cpu-time/1+power-model/3" if name.startswith("doctor") else METHOD
    assert method in shown, "method id and version"
    if name == "/metrics":
        assert 'tier="measured"' in shown
        assert "frugal_grid_carbon_intensity_grams_per_joule{" in shown
    if name not in WITHOUT_FACTOR:
        assert FACTOR in shown, "factor id"


@pytest.mark.parametrize("lang", ["en", "fr"])
@pytest.mark.parametrize("name", [name for name in SURFACES if name not in (*BY_KEYS, "/metrics", "explain")])
def test_an_interval_stands_beside_each_figure_and_holds_it(work: Work, name: str, lang: str) -> None:
    found = _intervals(re.sub(rf"(?<=\d){THOUSANDS[lang]}(?=\d{{3}}\b)", "", SURFACES[name](work, lang)))
    assert found, "no interval is shown"
    for shown, mid, low, high in found:
        assert low <= mid * 1.0001, shown
        assert mid <= high * 1.0001, shown
        assert _digits(shown) <= (3 if high < 1.1 * low else 2), f"{shown}: more digits than the interval holds"


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_no_joule_watt_or_gram_of_the_live_page_stands_alone(work: Work, lang: str) -> None:
    shown = re.findall(r'class="(?:amount|figure)">([^<]*[JWe][^<]*)<', _live_page(work, lang))
    figures = [figure for figure in shown if re.match(r"\d.*(?:J|W|gCO₂e)\b(?!/)", figure)]
    assert len(figures) >= 12, "watts, since start, requests, seven parts of the account, a budget, a source, three requests"
    assert [figure for figure in figures if not re.search(r"\(.* (?:to|à) .*\)", figure)] == []


@pytest.mark.parametrize("name", BY_KEYS)
def test_an_interval_stands_beside_each_key_and_holds_it(work: Work, name: str) -> None:
    for line in SURFACES[name](work, "en").splitlines() if name == "exported readings" else [SURFACES[name](work, "en")]:
        assert list(_held(json.loads(line))), "no interval is told"


def test_the_workings_of_explain_end_in_the_figures_of_the_reading(work: Work) -> None:
    text, r = SURFACES["explain"](work, "en"), work.reading
    for value in (r.energy_full_j, r.energy_low_j, r.energy_high_j, r.carbon_g, r.carbon_low_g, r.carbon_high_g):
        assert any(float(word) == pytest.approx(value, rel=1e-5) for word in re.findall(r"\d+\.\d+", text)), value


def test_one_reading_is_the_same_figure_on_every_surface(work: Work) -> None:
    told = [json.loads(work.answers["reading"].text), next(map(json.loads, work.file.read_text().splitlines()))]
    told += [next(r for r in json.loads(work.answers["data"].text)["state"]["requests"] if r["outcome"] == "ok")]
    for field in ("energy_full_j", "energy_low_j", "energy_high_j", "carbon_g", "tier", "method_id", "factor_ids"):
        one, *others = [json.dumps(each[field]) for each in told]
        assert all(other == one for other in others), field


def _intervals(text: str) -> list[tuple[str, float, float, float]]:
    """Figures with their bounds as they are spelt: the text of the figure, and the three in one unit."""
    found = []
    text = re.sub(r"<[^>]+>", " ", text)
    for mid, p, u, low, low_p, low_u, high, high_p, high_u in _SPELT.findall(text):
        if u and high_u:
            ends = _value(low, low_p if low_u else high_p), _value(high, high_p)
            found.append((mid, _value(mid, p), *ends))
    found += [(mid, *(_value(each, "") for each in (mid, low, high))) for mid, low, high in _BRACKETS.findall(text)]
    return found


def _value(number: str, prefix: str) -> float:
    return float(number.rstrip(",.").replace(",", ".")) * _PREFIX[prefix]


def _digits(number: str) -> int:
    plain = number.rstrip(",.").replace(",", ".")
    kept = plain.replace(".", "").lstrip("0")
    return len(kept if "." in plain else kept.rstrip("0"))


def _held(told: Any) -> Iterator[tuple[float, float, float]]:
    """Intervals anywhere in a document, each checked: low ≤ mid ≤ high, under any of the names that are used."""
    if isinstance(told, list):
        for each in told:
            yield from _held(each)
    if not isinstance(told, dict):
        return
    for names in TRIPLES:
        ends = [told.get(name) for name in names]
        if all(isinstance(end, int | float) for end in ends):
            assert ends == sorted(ends), (names, ends)
            yield tuple(ends)  # type: ignore[misc]
        else:
            known = isinstance(told.get(names[1]), float) and "bounds" not in told
            assert not known, f"{names[1]} without its bounds"
    for value in told.values():
        yield from _held(value)
