"""Clauses of a contract against a journal whose figures are known: verdicts, reasons not to judge, contradictions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from clause_house import BEGIN_NS, HOUR_NS, a_pass, a_reading, fill
from typer.testing import CliRunner

from frugal_meter.clauses.contract import load
from frugal_meter.clauses.judging import judged
from frugal_meter.cli.app import app
from frugal_meter.journal.opening import open_store

ROOT = Path(__file__).parent.parent
HEAD = """
title = "Marché <b>& fils</b>"
buyer = "Ville"
unit = "answer"
timezone = "UTC"
least_units = 20
least_scores = 5

[[period]]
name = "day"
begin = 2025-01-01
end = 2025-01-02
"""
ENERGY = '[[clause]]\nid = "E"\nfigure = "energy"\nover = "{over}"\nat_most = "{limit}"\n'


def clause(figure: str, bound: str, limit: object, **more: object) -> str:
    fields = {"figure": figure, bound: limit, **more}
    return (
        "[[clause]]\n" + "\n".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()) + "\n"
    )


class House:
    """A folder with a journal and a file of clauses."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.clauses = f"{folder}/journal.db", folder / "clauses.toml"

    def write(self, text: str) -> None:
        self.clauses.write_text(text, encoding="utf-8")

    def check(self, *clauses: str, head: str = HEAD, code: int | None = None) -> dict[str, Any]:
        """The one verdict of the JSON report, or of the first clause where there are several."""
        self.write(head + "".join(clauses))
        told = json.loads(self.run("--json", code=code))
        return dict(told["periods"][0]["verdicts"][0])

    def run(self, *words: str, code: int | None = 0) -> str:
        done = CliRunner().invoke(app, ["clauses", "check", str(self.clauses), "--journal", self.journal, *words])
        assert code is None or done.exit_code == code, done.output
        return done.stdout if done.exit_code != 2 else done.output


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_the_interval_of_a_period_figure_decides_how_sure_a_verdict_is(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(1000)])  # 10 J per answer, 5 to 20
    for limit, grade, ruling, code in (
        ("20 J", "kept_surely", "kept", 0),
        ("19 J", "kept_probably", "kept", 0),
        ("10 J", "kept_probably", "kept", 0),
        ("9 J", "untold", "cannot_be_judged", 3),
        ("5 J", "untold", "cannot_be_judged", 3),
        ("4.9 J", "broken_surely", "broken", 1),
    ):
        found = house.check(ENERGY.format(over="period", limit=limit), code=code)
        assert (found["grade"], found["ruling"]) == (grade, ruling), limit
        assert found["value"] == {"low": 5.0, "mid": 10.0, "high": 20.0}


def test_a_contract_may_count_only_what_is_sure(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(1000)])
    sure = 'proof = "sure"\n' + HEAD
    assert house.check(ENERGY.format(over="period", limit="20 J"), head=sure, code=0)["ruling"] == "kept"
    found = house.check(ENERGY.format(over="period", limit="19 J"), head=sure, code=3)
    assert (found["grade"], found["ruling"], found["reasons"][0]["code"]) == ("kept_probably", "cannot_be_judged", "straddles")


def test_a_promise_of_at_least_is_judged_from_the_other_end(house: House) -> None:
    books = [a_pass(600), a_pass(400, tier="modelled")]
    fill(house.journal, [a_reading(n) for n in range(100)], books)
    assert house.check(clause("measured", "at_least", "60 %"), code=0)["grade"] == "kept_surely"
    assert house.check(clause("measured", "at_least", 0.61), code=1)["ruling"] == "broken"


def test_the_95th_percentile_is_the_nearest_rank_over_units_while_they_ran(house: House) -> None:
    fill(house.journal, [a_reading(n, float(n + 1), wide=2.0) for n in range(100)], [a_pass(1)])
    found = house.check(ENERGY.format(over="p95", limit="95 J"), code=0)
    assert found["value"] == {"low": 47.5, "mid": 95.0, "high": 190.0}
    assert found["counted"] == 100


def test_a_request_with_several_answers_weighs_as_many(house: House) -> None:
    many = [a_reading(n, 1.0) for n in range(50)] + [a_reading(50, 500.0, units=50.0)]
    fill(house.journal, many, [a_pass(1)])
    assert house.check(ENERGY.format(over="p95", limit="10 J"), code=0)["value"]["mid"] == 10.0


def test_what_ran_inside_a_request_is_part_of_it_and_its_units_are_the_requests(house: House) -> None:
    rows = []
    for n in range(0, 100, 2):
        request = a_reading(n, 1.0, kind="http", unit=None, units=None)
        rows += [a_reading(n + 1, 3.0, kind="block", parent=request.id), request]
    fill(house.journal, rows, [a_pass(1)])
    found = house.check(ENERGY.format(over="p95", limit="4 J"), code=0)
    assert (found["value"]["mid"], found["counted"]) == (4.0, 50)


def test_requests_without_a_figure_widen_the_interval_and_too_many_of_them_stop_the_verdict(house: House) -> None:
    rows = [a_reading(n, float(n + 1)) for n in range(97)] + [a_reading(n, None) for n in range(97, 100)]
    fill(house.journal, rows, [a_pass(1)])
    found = house.check(ENERGY.format(over="p95", limit="93 J"), code=0)
    assert (found["value"], found["grade"]) == ({"low": 92.0, "mid": 93.0, "high": 95.0}, "kept_probably")
    assert found["reasons"] == [{"code": "unknown_requests", "values": {"count": 3}}]


@pytest.mark.parametrize("lost", [4, 6])
def test_readings_that_were_lost_may_have_been_anything(lost: int, house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(100)], lost=lost)
    found = house.check(ENERGY.format(over="p95", limit="2 J"), code=0 if lost == 4 else 3)
    assert ("too_many_unknown" in [reason["code"] for reason in found["reasons"]]) == (lost == 6)
    refused = house.check(clause("refused", "at_most", "3 %"), code=0)
    assert refused["value"]["high"] == pytest.approx(lost / (100 + lost))


def test_shares_count_what_budgets_did_to_requests(house: House) -> None:
    rows = [a_reading(n) for n in range(90)]
    rows += [a_reading(n, decision="degrade") for n in range(90, 95)] + [a_reading(95, decision="cut")]
    rows += [a_reading(n, 0.0, outcome="refused", decision="refuse", units=None) for n in range(96, 99)]
    rows += [a_reading(99, outcome="error", units=None)]
    fill(house.journal, rows, [a_pass(100)])
    for figure, share in (("degraded", 0.06), ("refused", 0.03), ("degraded or refused", 0.09), ("failed", 0.01)):
        assert house.check(clause(figure, "at_most", share), code=0)["value"]["mid"] == pytest.approx(share), figure
        assert house.check(clause(figure, "at_most", share - 0.005), code=1)["ruling"] == "broken", figure


def test_quality_is_the_mean_of_the_scores_of_one_metric(house: House) -> None:
    scores = (
        [(n, 1.0, "thumb") for n in range(6)] + [(n, 0.5, "thumb") for n in range(3)] + [(n, 0.0, "judge") for n in range(6, 12)]
    )
    fill(house.journal, [a_reading(n) for n in range(30)], [a_pass(100)], scores)
    assert [r["code"] for r in house.check(clause("quality", "at_least", 0.5), code=3)["reasons"]] == ["metrics", "scores"]
    found = house.check(clause("quality", "at_least", 0.75, metric="thumb"), code=0)
    assert (found["value"]["mid"], found["counted"]) == (0.75, 6)
    assert house.check(clause("quality", "at_least", 0.76, metric="thumb"), code=1)["ruling"] == "broken"
    assert house.check(clause("quality", "at_least", 0.1, metric="none"), code=3)["reasons"][0]["code"] == "hardly_any"


def test_how_few_scores_there_are_is_told_nowhere(house: House, tmp_path: Path) -> None:
    fill(house.journal, [a_reading(n) for n in range(30)], [a_pass(100)], [(n, 0.37, "thumb") for n in range(3)])
    house.write(HEAD + clause("quality", "at_least", 0.5))
    (judged,) = json.loads(house.run("--json", code=3))["periods"]
    (verdict,) = judged["verdicts"]
    assert (verdict["value"], verdict["counted"], [each["code"] for each in verdict["reasons"]]) == (None, None, ["hardly_any"])
    assert judged["figures"]["quality"] is None
    told = house.run("--html", str(tmp_path / "r.html"), code=3) + (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"0[.,]37|3 notes|3 scores", told)


def test_no_score_at_all_is_said_and_not_taken_for_bad(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(30)], [a_pass(100)])
    found = house.check(clause("quality", "at_least", 0.5), code=3)
    assert (found["value"], found["reasons"]) == (None, [{"code": "no_score", "values": {}}])


@pytest.mark.parametrize(
    ("rows", "books", "text", "reason"),
    [
        (19, [a_pass(100)], ENERGY.format(over="period", limit="1 kJ"), "too_few"),
        (30, [a_pass(100, hours=20)], ENERGY.format(over="period", limit="1 kJ"), "not_covered"),
        (30, [a_pass(100)], clause("energy", "at_most", "1 kJ", over="period", unit="page"), "no_unit"),
        (30, [], ENERGY.format(over="period", limit="1 kJ"), "not_covered"),
    ],
)
def test_what_cannot_be_judged_says_why_and_is_neither_kept_nor_broken(
    rows: int, books: Any, text: str, reason: str, house: House
) -> None:
    fill(house.journal, [a_reading(n) for n in range(rows)], books)
    found = house.check(text, code=3)
    assert found["grade"] is None
    assert found["ruling"] == "cannot_be_judged"
    assert reason in [each["code"] for each in found["reasons"]]


def test_of_too_few_nothing_is_told_anywhere_in_the_report(house: House, tmp_path: Path) -> None:
    fill(house.journal, [a_reading(n, 7.35) for n in range(3)], [a_pass(3 * 7.35)])
    house.write(HEAD + ENERGY.format(over="period", limit="1 kJ") + clause("carbon", "at_most", "1 gCO2e", over="p95"))
    told = house.run("--json", code=3) + house.run("--html", str(tmp_path / "r.html"), code=3)
    assert not re.search(r"(?<![\d.])(7[.,][34]|22[.,])", told + (tmp_path / "r.html").read_text(encoding="utf-8"))
    (period,) = json.loads(house.run("--json", code=3))["periods"]
    assert period["figures"] is None
    assert [(each["value"], each["counted"]) for each in period["verdicts"]] == [(None, None)] * 2


def test_what_has_become_sums_by_the_hour_keeps_its_period_figures_and_no_percentile(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(1000, low=1, high=1)])
    with open_store(house.journal) as journal:
        journal.roll_up(BEGIN_NS + 48 * HOUR_NS)
    assert house.check(ENERGY.format(over="period", limit="10 J"), code=0)["value"]["mid"] == 10.0
    assert house.check(ENERGY.format(over="p95", limit="10 J"), code=3)["reasons"][0] == {
        "code": "rolled",
        "values": {"count": 100},
    }
    assert house.check(clause("refused", "at_most", "1 %"), code=0)["ruling"] == "kept"


def test_a_period_that_is_not_over_is_not_judged(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(1000)])
    house.write(HEAD + ENERGY.format(over="period", limit="1 kJ"))
    contract = load(house.clauses)
    (stretch,) = contract.periods
    with open_store(house.journal, create=False) as journal:
        for now_s, ruling in ((stretch.end_s - 1, "cannot_be_judged"), (stretch.end_s, "kept")):
            assert judged(contract, stretch, journal, now_s).ruling == ruling


def test_one_broken_clause_is_the_exit_code_of_all(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(1000)])
    kept, broken = ENERGY.format(over="period", limit="20 J"), clause("carbon", "at_most", "1 mgCO2e", over="period")
    untold = clause("quality", "at_least", 0.5)
    house.check(kept, untold, code=3)
    house.check(kept, untold, broken, code=1)
    text = house.run("--lang", "en", code=1)
    assert "at least one clause is broken" in text
    assert "greenhouse gases per “answer”, over the whole period: at most 1 mgCO₂e" in text
    assert "broken, for sure" in text


def test_the_report_is_in_both_languages_and_escapes_what_the_contract_says(house: House, tmp_path: Path) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(1000)])
    house.write(HEAD + ENERGY.format(over="p95", limit="20 J"))
    french = house.run("--lang", "fr", "--html", str(tmp_path / "fr.html"))
    assert "énergie par « answer » pendant son traitement, pour 95 sur 100 d’entre elles : au plus 20 J" in french
    assert "respectée, à coup sûr" in french
    page = (tmp_path / "fr.html").read_text(encoding="utf-8")
    assert page.startswith('<!doctype html>\n<html lang="fr">')
    assert "<dd>journal.db</dd>" in page
    assert str(tmp_path) not in page
    assert "<dt>Périmètre</dt><dd>processeur" in page
    assert "<b>" not in page
    assert "Marché &lt;b&gt;&amp; fils&lt;/b&gt;" in page
    assert "while it ran" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)
    assert "is there already" in house.run("--html", str(tmp_path / "fr.html"), code=2)


def test_clauses_of_another_service_are_refused(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(30)], [a_pass(100)])
    house.write('service = "courrier"\n' + HEAD + ENERGY.format(over="period", limit="1 J"))
    assert "for service 'courrier', and the journal is of accueil" in house.run(code=2)


def test_periods_are_judged_one_by_one_or_by_name(house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(100)], [a_pass(1000)])
    more = '[[period]]\nname = "next"\nbegin = 2025-01-02\nend = 2025-01-03\n'
    house.write(HEAD + more + ENERGY.format(over="period", limit="20 J"))
    assert [each["ruling"] for each in json.loads(house.run("--json", code=3))["periods"]] == ["kept", "cannot_be_judged"]
    house.run("--period", "day", code=0)
    assert "is none of 'day', 'next'" in house.run("--period", "dya", code=2)


E = ENERGY.format(over="period", limit="10 J")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD, "has no [[clause]]"),
        (E, "has no [[period]]"),
        (HEAD + E + "[[period]]\nname='b'\nbegin=2025-01-01T12:00:00\nend=2025-01-03\n", "periods 'day' and 'b' overlap"),
        (HEAD + E + "[[period]]\nbegin=2025-02-02\nend=2025-02-01\n", "ends before it begins"),
        (HEAD + E + "[[period]]\nbegin='yesterday'\nend=2025-02-01\n", "begin is a day or a moment"),
        (HEAD + E + ENERGY.format(over="period", limit="5 J"), "two clauses are called 'E'"),
        (HEAD + E + clause("energy", "at_most", "5 J", over="period"), "limit one figure twice"),
        (HEAD + clause("quality", "at_least", 0.9) + clause("quality", "at_most", 0.8), "contradict each other"),
        (HEAD + clause("energy", "at_most", "10 lumens", over="period"), "unit 'lumens' is not known"),
        (HEAD + clause("energy", "at_most", "10 gCO2e", over="period"), "is no amount of energy"),
        (HEAD + clause("carbon", "at_most", 10, over="period"), "10 has no unit"),
        (HEAD + clause("energy", "at_most", "10 W", over="period"), "is power"),
        (HEAD + clause("quality", "at_least", 1.2), "a score from 0 to 1"),
        (HEAD + clause("measured", "at_least", "150 %"), "is no share"),
        (HEAD + clause("measured", "at_least", 50), 'write "5 %"'),
        (HEAD + clause("measured", "at_least", "half"), "is no share"),
        (HEAD + clause("energy", "at_most", "10 J"), "over is missing"),
        (HEAD + clause("energy", "at_most", "10 J", over="p99"), "over = 'p99' cannot be"),
        (HEAD + clause("refused", "at_most", "1 %", over="p95"), "is always of the whole period"),
        (HEAD + clause("refused", "at_most", "1 %", metric="thumb"), 'metric is for "quality" alone'),
        (HEAD + clause("joy", "at_least", 0.5), "figure = 'joy' cannot be"),
        (HEAD + "[[clause]]\nfigure = 'measured'\n", "at_most or at_least, one of them"),
        (HEAD + "[[clause]]\nfigure = 'measured'\nat_lest = 0.5\n", "did you mean at_least?"),
        ("least_unit = 5\n" + HEAD + E, "did you mean least_units?"),
        (HEAD.replace("s = 20", "s = 19", 1) + ENERGY.format(over="p95", limit="1 J"), "least_units = 19 is too few"),
        (HEAD.replace("least_units = 20", "least_units = 4") + E, "at least 5"),
        (HEAD.replace('"UTC"', '"Mars/Olympus"') + E, "no time zone"),
        ('proof = "maybe"\n' + HEAD + E, '"probable" or "sure"'),
        ("unit = 5\n", "it is a text"),
        ("[[period]]\nbegin = 0001-01-01\nend = 2026-01-01\n" + E, "begin is of the year 1: write one from 1970 to 2199"),
        ('supplier = "a\\u001b[2J"\n' + HEAD + E, "without control characters"),
        ('service = "a\\u202e"\n' + HEAD + E, "without control characters"),
        ('unit_names.answer = {fr = "a\\nb"}\n' + HEAD + E, "without control characters"),
        (
            HEAD + clause("refused", "at_least", "10 %") + clause("degraded or refused", "at_most", "5 %", id="b"),
            "clauses '1' and 'b' contradict each other: refused cannot be at least 0.1 and degraded or refused at most 0.05",
        ),
        ("clause = 5\n", "write [[clause]]"),
        ("title = \n", "not valid TOML"),
    ],
)
def test_clauses_that_cannot_be_are_refused_in_one_line(text: str, says: str, house: House) -> None:
    fill(house.journal, [a_reading(n) for n in range(30)], [a_pass(100)])
    house.write(text)
    output = house.run("--lang", "en", code=2)
    assert says in output
    assert output.count("\n") == 1
    assert str(house.clauses) in output


@pytest.mark.parametrize(
    ("lang", "limit", "says"),
    [
        ("fr", "0.1 Wh", "au plus 0,1 Wh (360 J)"),
        ("en", "2 kWh", "at most 2 kWh (7.2 MJ)"),
        ("fr", "400 J", "au plus 400 J\n"),
    ],
)
def test_a_limit_is_told_as_it_was_signed_and_in_the_unit_of_what_was_found(
    lang: str, limit: str, says: str, house: House
) -> None:
    fill(house.journal, [a_reading(n) for n in range(30)], [a_pass(30)])
    house.write(HEAD + ENERGY.format(over="period", limit=limit))
    assert says in house.run("--lang", lang, code=0)


def test_a_journal_that_is_not_there_is_said_in_one_line(house: House) -> None:
    house.write(HEAD + E)
    output = house.run(code=2)
    assert "there is no such file" in output
    assert output.count("\n") == 1


def test_the_example_is_a_contract_that_loads() -> None:
    contract = load(ROOT / "examples" / "clauses" / "clauses.toml")
    assert [each.id for each in contract.clauses] == ["E1", "E2", "C1", "M1", "Q1", "D1"]
    january = contract.periods[0]
    assert (january.end_s - january.begin_s) / 86_400 == 31
