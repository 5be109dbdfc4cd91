"""What `increase` sees of an application that is scraped from its start: every answer, token, unit, failure and refusal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from exchange import a_meter, ask, later
from prometheus_client.parser import text_string_to_metric_families
from real_prometheus import prometheus, tool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.exporters import aggregates
from frugal_meter.exporters.spec import SPEC
from frugal_meter.exporters.sums import LOST, Total
from frugal_meter.testing import SyntheticSource

EVERY_S, ROUNDS = 15, 40
#: what a request brings
TOKENS_IN, TOKENS_OUT, UNITS = 30, 10, 1


def an_app(meter: Meter) -> Starlette:
    """A route that answers with a model, one that fails, and one whose budget is spent at once."""

    @meter.measure("faq", model="faq", unit="answer")
    async def from_faq() -> str:
        return "see the page"

    @meter.measure("answer", model="small", unit="answer", fallback=from_faq)
    async def answer() -> str:
        span = meter.current()
        assert span is not None
        span.add_tokens(input=TOKENS_IN, output=TOKENS_OUT)
        return "yes"

    async def see(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await answer())

    async def fail(request: Request) -> PlainTextResponse:
        raise ZeroDivisionError

    app = Starlette(routes=[Route("/ask", see), Route("/few", see), Route("/fail", fail)])
    app.add_middleware(MeterMiddleware, meter=meter)
    return app


def scraped(meter: Meter, at_s: float, lines: dict[str, list[str]]) -> None:
    for family in text_string_to_metric_families(meter.metrics()[0].decode()):
        if family.type == "counter":
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                lines.setdefault(family.name, []).append(f"{sample.name}{{{labels}}} {sample.value!r} {at_s:.3f}")


def grown(folder: Path, lines: dict[str, list[str]], at_s: float, queries: dict[str, str]) -> dict[str, float]:
    """Each query's answer by a real Prometheus that has read ``lines``."""
    text = "".join(f"# TYPE {name} counter\n" + "\n".join(each) + "\n" for name, each in lines.items())
    (folder / "scrapes.txt").write_text(text + "# EOF\n")
    command = [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", "scrapes.txt", "data"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    with prometheus(folder, "scrape_configs: []\n", "--storage.tsdb.retention.time=100y") as server:
        return {name: sum(server.ask(query, at_s).values()) for name, query in queries.items()}


def test_increase_sees_every_token_unit_answer_failure_and_refusal_from_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: dict[str, list[str]] = {}
    budget = Budget("few", "1 requests", per="month", match="/few", degrade_at=None, warn_at=1.0)
    meter = a_meter(sources=[SyntheticSource(2, 10)], budgets=[budget])
    with TestClient(an_app(meter), raise_server_exceptions=False) as client:
        scraped(meter, meter.clock.time_ns() / 1e9, lines)
        for _ in range(ROUNDS):
            for path in ("/ask", "/few", "/fail"):
                client.get(path)
            later(meter, EVERY_S)
            meter.settle()
            scraped(meter, meter.clock.time_ns() / 1e9, lines)
        at_s = meter.clock.time_ns() / 1e9
    window = f"[{ROUNDS * EVERY_S}s]"
    truth = {
        "tokens": (f"increase(frugal_tokens_total{window})", (ROUNDS + 1) * (TOKENS_IN + TOKENS_OUT)),
        "units": (f'increase(frugal_functional_units_total{{unit="answer"}}{window})', (ROUNDS + 1) * UNITS),
        "answered": (f'increase(frugal_requests_total{{outcome="ok"}}{window})', ROUNDS + 1),
        "failed": (f'increase(frugal_requests_total{{outcome="error"}}{window})', ROUNDS),
        "refused": (f'increase(frugal_requests_total{{outcome="refused"}}{window})', ROUNDS - 1),
    }
    seen = grown(tmp_path, lines, at_s, {name: query for name, (query, _) in truth.items()})
    with capsys.disabled():
        print(f"\n  increase() over {ROUNDS} scrapes from the start-up on:")
        for name, (_, true) in truth.items():
            print(f"  {name:9} saw {seen[name]:8.2f} of {true:5} ({seen[name] / true - 1:+.2%})")
    for name, (_, true) in truth.items():
        assert seen[name] == pytest.approx(true, rel=0.01), name


def of(meter: Meter, name: str) -> dict[tuple[str, ...], float]:
    """The counter's samples by its labels, in the order in which docs/metrics.md lists them."""
    families = text_string_to_metric_families(meter.metrics()[0].decode())
    order = SPEC[name.removesuffix("_total")][2]
    return {tuple(s.labels[each] for each in order): s.value for family in families for s in family.samples if s.name == name}


def test_what_a_decorator_says_is_there_at_0_before_the_first_request() -> None:
    meter = a_meter(budgets=[Budget("few", "1 requests", per="month")])
    with TestClient(an_app(meter)):
        units, tokens, requests = (of(meter, f"frugal_{name}_total") for name in ("functional_units", "tokens", "requests"))
    for route in ("/ask", "/few", "/fail"):
        for model in ("small", "faq"):  # the one that stands in too
            assert units[route, model, "none", "answer"] == 0
            assert tokens[route, model, "none", "output"] == 0
        for model in ("none", "small", "faq"):
            assert {labels[3:] for labels in requests if labels[:3] == (route, model, "none")} == {
                ("200", "ok"),
                ("500", "error"),
                ("429", "refused"),
            }
    assert not any(requests.values())
    assert not any(model == "none" for _, model, *_ in tokens)  # of what names no model nobody expects tokens


def test_a_function_that_is_declared_while_the_application_runs_is_there_at_0_too() -> None:
    meter = a_meter()
    with TestClient(an_app(meter)):
        assert ("/ask", "late", "none", "page") not in of(meter, "frugal_functional_units_total")
        meter.measure("late", model="late", unit="page")(lambda: None)
        assert of(meter, "frugal_functional_units_total")["/ask", "late", "none", "page"] == 0


def test_without_a_budget_no_refusal_is_expected_and_a_call_elsewhere_has_its_joules_at_0() -> None:
    meter = a_meter()

    @meter.remote(model="mistral-small", provider="mistralai")
    def complete() -> None: ...

    app = an_app(meter)
    with TestClient(app):
        assert not any("refused" in labels for labels in of(meter, "frugal_requests_total"))
        assert of(meter, "frugal_downstream_energy_joules_total")["/ask", "mistral-small", "none", "sourced"] == 0


def test_a_label_set_that_nobody_announced_is_born_with_its_other_ends_at_0() -> None:
    with a_meter() as meter:
        ask(an_app(meter), "/nowhere")
        meter.settle()
        ends = {labels[3:]: n for labels, n in of(meter, "frugal_requests_total").items() if labels[0] == "unmatched"}
    assert ends == {("404", "ok"): 1, ("200", "ok"): 0, ("500", "error"): 0}


def test_what_is_expected_stays_within_the_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "MAX_LABEL_SETS", 4)
    monkeypatch.setattr(aggregates, "MAX_DISTRIBUTIONS", 3)
    meter = a_meter(sources=[SyntheticSource(2, 10)])
    works = [aggregates.Work(f"m{n}", "answer") for n in range(5)]
    meter.aggregates.expect([("/a", False), ("/b", True)], works)
    assert len(meter.aggregates.rows) == 4
    assert len(meter.aggregates.distributions) == 3
    monkeypatch.setattr(aggregates, "MAX_PAIRS", 9)
    few = a_meter(sources=[SyntheticSource(2, 10)])
    few.aggregates.expect([("/a", False), ("/b", True)], [*works, aggregates.Work(unit="page")])
    assert {model for _, model, _ in few.aggregates.rows} == {"none"}  # ten pairs are too many
    assert few.aggregates.rows["/b", "none", "none"].units == {"page": 0}
    assert few.aggregates.rows["/b", "none", "none"].outcomes == {("101", "ok"): 0, ("101", "error"): 0}


def test_losses_of_a_service_of_several_workers_are_counted_from_0() -> None:
    total = Total()
    total.lose(0, 1)
    labels, outcome = LOST
    assert total.rows[labels].outcomes == {outcome: 0}
    total.lose(2, 1)
    assert total.rows[labels].outcomes == {outcome: 2}
