"""The exposition: it parses, its names keep the rules, its sums close, and nothing a client sends can break it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from exchange import a_meter, an_app, ask, hello, later, samples
from fastapi import APIRouter, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import frugal_meter
from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.exporters.live_state import live_state
from frugal_meter.exporters.prometheus import SPEC, MeterCollector
from frugal_meter.exporters.spec import STAGES
from frugal_meter.testing import RecordingExporter, SyntheticSource

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
#: prometheus.io/docs/practices/naming, base units; grams as promtool has it. A power is a rate of joules, and has no metric
BASE_UNITS = ("seconds", "joules", "grams", "joule", "ratio", "tokens", "requests", "units")
NOT_BASE = re.compile(r"k?wh|(kilo|milli|micro|nano|mega).*|.*hours?|.*watts?|minutes|days|[mnu]s|percent|kg|kj|mj|tonnes|[kw]")


def busy(*, exporters: Any = (), sources: Any = None) -> Meter:
    """A meter that has seen a little of everything."""
    limits = ("50 kJ", "9 gCO2e", "99 CPU-s", "1000 requests")
    budgets = [Budget("tokens", "1000 tokens", per="day", key="model"), *(Budget(limit, limit, per="day") for limit in limits)]
    sources = sources or [SyntheticSource(2, 10, name="a"), SyntheticSource(1, 5, "modelled", name="b", component="dram")]
    meter = a_meter(sources=sources, budgets=budgets, exporters=exporters)
    meter.measure("declared", model="large")(work)
    for number in range(5):
        with meter.measure("answer", model="large") as outer:
            outer.add_units(1, "answer")
            outer.quality(0.5, metric="exact")
            with meter.measure("search", model="small", tenant=f"t{number % 2}") as inner:
                inner.add_tokens(input=3, output=4)
                sum(range(20_000))
        later(meter, 0.2)
        meter.settle()
    return meter


def work() -> int:
    return sum(range(50_000))


def families(meter: Meter, accept: str = "") -> dict[str, Any]:
    body, kind = meter.metrics(accept)
    parse = parse_openmetrics if "openmetrics" in kind else parse_text
    return {family.name: family for family in parse(body.decode())}


@pytest.mark.parametrize("accept", ["", OPENMETRICS, "text/plain;version=0.0.4"])
def test_the_exposition_parses_in_the_format_that_was_asked_for(accept: str) -> None:
    with busy() as meter:
        body, kind = meter.metrics(accept)
        found = families(meter, accept)
    assert kind.startswith("application/openmetrics-text" if accept == OPENMETRICS else "text/plain")
    assert body.endswith(b"# EOF\n") is (accept == OPENMETRICS)
    assert found.keys() == SPEC.keys()


#: of a service that calls models elsewhere: see test_remote.py
ELSEWHERE = {name for name in SPEC if "_downstream_" in name}


def test_a_busy_meter_has_samples_of_every_metric_but_those_of_what_it_lacks() -> None:
    with busy() as meter:
        empty = {name for name, family in families(meter, OPENMETRICS).items() if not family.samples}
    lacking = {"frugal_gpu_seconds", "frugal_coverage_ratio", *ELSEWHERE}
    lacking |= {f"frugal_budget_{name}" for name in ("store_up", "store_holders", "store_exchanges", "workers_alone")}
    assert empty <= lacking | {"frugal_budget_expired_holdings", "frugal_budget_estimator_bias_ratio"}


def faults(name: str, kind: str) -> list[str]:
    """What is wrong with a metric's name: base units and suffixes as Prometheus' naming practice has them.

    promtool looks for some of it only: kWh, watts and grams per kWh pass it.
    """
    parts = name.split("_")
    found = [f"{part!r} is no base unit" for part in parts if NOT_BASE.fullmatch(part)]
    if not re.fullmatch(r"frugal_[a-z0-9_]+", name):
        found.append("not in the family's alphabet")
    if "total" in parts:
        found.append("the exposition adds _total")
    units = [part for part in parts if part in ("seconds", "joules", "grams", "ratio")]
    if units and parts[-1] not in BASE_UNITS:
        found.append(f"the unit {units[0]!r} is not at the end")
    if kind == "histogram" and parts[-1] not in BASE_UNITS:
        found.append("a histogram without a unit")
    if (kind == "gauge") != (parts[-1] in ("ratio", "info", "up", "enforced")) and parts[-1] in (
        "ratio",
        "info",
        "up",
        "enforced",
    ):
        found.append(f"{parts[-1]!r} is a gauge's")
    return found


@pytest.mark.parametrize("name", SPEC)
def test_a_metric_has_a_help_text_and_labels_and_a_name_in_base_units(name: str) -> None:
    kind, text, labels = SPEC[name]
    assert faults(name, kind) == []
    assert text.endswith(".")
    assert all(re.fullmatch(r"[a-z_]+", label) and label != "le" for label in labels)
    assert kind != "histogram" or "tenant" not in labels, "too many series"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("frugal_energy_kwh", "counter"),
        ("frugal_energy_kilowatthours", "counter"),
        ("frugal_host_power_watts", "gauge"),
        ("frugal_grid_grams_per_kwh", "gauge"),
        ("frugal_co2e_kilograms", "counter"),
        ("frugal_request_duration_ms", "histogram"),
        ("frugal_cpu_seconds_total", "counter"),
        ("frugal_joules_of_host", "counter"),
        ("frugal_request_energy", "histogram"),
        ("frugal_measured_ratio", "counter"),
        ("frugal_budget_percent", "gauge"),
        ("frugalEnergy_joules", "counter"),
    ],
)
def test_a_name_in_another_unit_or_without_its_suffix_is_found_out(name: str, kind: str) -> None:
    assert faults(name, kind)


def test_counters_are_named_total_and_nothing_else_is() -> None:
    with busy() as meter:
        for line in meter.metrics()[0].decode().splitlines():
            if line.startswith("# TYPE"):
                _, _, name, kind = line.split()
                assert name.endswith("_total") is (kind == "counter"), line


def promtool(*arguments: str, text: bytes) -> subprocess.CompletedProcess[bytes]:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: it comes with Prometheus (apt-get install prometheus)")
    return subprocess.run([found, *arguments], input=text, capture_output=True, check=False, timeout=20)


def test_promtool_finds_nothing_to_say() -> None:
    with busy() as meter:
        done = promtool("check", "metrics", text=meter.metrics()[0])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_prometheus_reads_every_sample_and_exemplar_of_the_openmetrics_exposition(tmp_path: Path) -> None:
    """With its own parser: `promtool tsdb` wants a time on each sample, which the exposition leaves to the scraper."""
    with busy() as meter:
        text = meter.metrics(OPENMETRICS)[0].decode()
    stamped = re.sub(r"^(frugal_[^#\n]*?)( #.*)?$", r"\1 1767225600\2", text, flags=re.MULTILINE)
    assert stamped.count(" # {reading_id=") >= 3
    (tmp_path / "metrics").write_text(stamped)
    told = promtool("tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "metrics"), str(tmp_path / "blocks"), text=b"")
    assert told.returncode == 0, told.stderr
    series = sum(not line.startswith("#") for line in text.splitlines())
    assert told.stdout.decode().splitlines()[-1].split()[4:7] == [str(series)] * 3  # samples, chunks, series


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_the_text_says_what_the_collector_says_through_prometheus_clients_own_writer(accept: str) -> None:
    with busy() as meter:
        registry = CollectorRegistry()
        registry.register(MeterCollector(meter))
        write, _ = choose_encoder(accept)
        theirs = write(registry).decode()
        parse = parse_openmetrics if accept else parse_text
        ours = meter.metrics(accept)[0].decode()
    moving = ("frugal_process_cpu_seconds_total",)

    def said(text: str) -> list[Any]:
        return [
            (f.name, f.type, f.documentation, [s for s in f.samples if s.name not in moving and not s.name.endswith("_sum")])
            for f in parse(text)
        ] + [sum(s.value for f in parse(text) for s in f.samples if s.name.endswith("_sum"))]

    assert said(ours) == said(theirs)


def test_an_exemplar_names_the_reading_of_the_last_request_in_its_bucket() -> None:
    exporter = RecordingExporter()
    with busy(exporters=[exporter]) as meter:
        found = [s for s in families(meter, OPENMETRICS)["frugal_request_energy_joules"].samples if s.exemplar]
    outer = {r.id: r for r in exporter.readings if r.parent is None}
    assert found
    for sample in found:
        assert sample.name.endswith("_bucket")
        reading = outer[sample.exemplar.labels["reading_id"]]
        assert sample.exemplar.value == pytest.approx(reading.inclusive_energy_full_j)
        assert sample.exemplar.value <= float(sample.labels["le"])
        assert float(sample.exemplar.timestamp) == pytest.approx(reading.started_at + reading.wall_s, abs=0.002)


@pytest.mark.parametrize("outside", [True, False], ids=["trace-outside", "trace-inside"])
def test_an_exemplar_names_the_trace_from_either_side_of_the_middleware(outside: bool) -> None:
    tracer = TracerProvider().get_tracer("tests")
    seen: list[str] = []

    def traced(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            with tracer.start_as_current_span("server") as span:
                seen.append(f"{span.get_span_context().trace_id:032x}")
                await app(scope, receive, send)

        return call

    with a_meter() as meter:
        app = Starlette(routes=[Route("/hello", hello)])
        ask(traced(MeterMiddleware(app, meter=meter)) if outside else MeterMiddleware(traced(app), meter=meter), "/hello")
        meter.settle()
        samples = families(meter, OPENMETRICS)["frugal_request_duration_seconds"].samples
    assert [s.exemplar.labels for s in samples if s.exemplar] == [{"trace_id": seen[0]}]


def test_exemplars_are_in_openmetrics_only() -> None:
    with busy() as meter:
        assert b" # {" not in meter.metrics()[0]


def test_a_scrape_and_a_look_at_the_page_are_no_requests_in_progress() -> None:
    with a_meter() as meter:
        app = an_app(meter, Route("/hello", hello), Mount("/frugal", meter.ops_app(public=True)))
        with meter.measure("running"):
            text = ask(app, "/frugal/metrics")[0].text
    assert "frugal_requests_in_progress 1.0" in text


def test_every_route_and_its_declared_model_are_there_at_0_before_the_first_request() -> None:
    meter = a_meter()
    api, sub = FastAPI(), APIRouter(prefix="/v1")

    @meter.measure(model="small")
    async def answer() -> str:
        return "yes"

    sub.get("/chat/{who}")(answer)
    api.include_router(sub)
    api.mount("/pages", Starlette(routes=[Route("/hello", hello)]))
    api.mount("/frugal", meter.ops_app(public=True))
    api.add_middleware(MeterMiddleware, meter=meter)
    with TestClient(api) as client:
        before = samples(meter, "frugal_requests_total")
        client.get("/v1/chat/ada")
        client.get("/pages/hello")
        meter.settle()
        after = samples(meter, "frugal_requests_total")
        joules = samples(meter, "frugal_energy_joules_total")
    assert set(before.values()) == {0}
    assert {dict(key)["route"] for key in before} == {"/v1/chat/{who}", "/pages/hello"}
    assert after.keys() == before.keys()
    assert sum(after.values()) == 2
    assert {dict(key)["model"] for key, n in after.items() if n} == {"small", "none"}
    ways = {(dict(key)["status"], dict(key)["outcome"]) for key in before}
    assert ways == {("200", "ok"), ("500", "error")}
    assert len(joules) * len(ways) == len(before)


def test_every_stage_in_which_the_meter_may_fail_is_counted_from_0() -> None:
    package = Path(frugal_meter.__file__).parent
    calls = re.compile(r'(?:\bfault|\bguard|\b_fault|\b_on_error)\("(\w+)"')
    named = {stage for path in package.rglob("*.py") for stage in calls.findall(path.read_text())}
    assert named == set(STAGES)
    with a_meter() as meter:
        assert {dict(key)["stage"] for key in samples(meter, "frugal_meter_errors_total")} == named


def test_the_sums_are_those_of_the_readings() -> None:
    exporter = RecordingExporter()
    with busy(exporters=[exporter]) as meter:
        readings = exporter.readings
        assert len(readings) == 10

        def total(name: str) -> float:
            return sum(samples(meter, name).values())

        assert total("frugal_requests_total") == sum(1 for r in readings if r.parent is None) == 5
        assert total("frugal_energy_joules_total") == pytest.approx(sum(r.energy_dynamic_j or 0 for r in readings), rel=1e-9)
        idle = sum((r.energy_full_j or 0) - (r.energy_dynamic_j or 0) for r in readings)
        assert total("frugal_idle_energy_joules_total") == pytest.approx(idle, abs=1e-9)
        assert total("frugal_cpu_seconds_total") == pytest.approx(sum(r.cpu_s for r in readings), rel=1e-9)
        assert total("frugal_co2e_grams_total") == pytest.approx(sum(r.carbon_g or 0 for r in readings), rel=1e-6)
        assert total("frugal_tokens_total") == 35
        assert total("frugal_functional_units_total") == 5
        assert total("frugal_quality_sum_total") / total("frugal_quality_count_total") == 0.5
        assert total("frugal_request_energy_joules_count") == 5


def test_every_joule_of_the_host_is_in_one_counter_and_only_one() -> None:
    with busy() as meter:
        with meter.measure("early"):
            afterwards = meter.carry(work)
        afterwards()
        with meter.measure("running"):
            work()
            later(meter, 1)
            meter.settle()

            def total(name: str) -> float:
                return sum(samples(meter, name).values())

            host = total("frugal_host_energy_joules_total")
            unattributed = samples(meter, "frugal_unattributed_energy_joules_total")
            late = sum(joules for labels, joules in unattributed.items() if dict(labels)["reason"] == "late")
            booked = total("frugal_energy_joules_total") + sum(unattributed.values())
            running = total("frugal_in_progress_energy_joules")
            assert min(host, late, running) > 0
            assert booked + running == pytest.approx(host, abs=1e-9)
            assert total("frugal_books_difference_joules") == 0


def test_a_histogram_counts_nested_work_with_its_request() -> None:
    with busy() as meter:
        counts = samples(meter, "frugal_request_energy_joules_count")
        joules = sum(samples(meter, "frugal_request_energy_joules_sum").values())
        assert [dict(labels)["model"] for labels in counts] == ["large"]
        both = ("frugal_energy_joules_total", "frugal_idle_energy_joules_total")
        assert joules == pytest.approx(sum(sum(samples(meter, name).values()) for name in both))


def test_ten_thousand_paths_that_lead_nowhere_are_one_series() -> None:
    with a_meter() as meter:
        app, answered = an_app(meter), 0

        async def visit_them_all() -> None:
            async def receive() -> Any:
                return {"type": "http.request"}

            async def send(message: Any) -> None:
                nonlocal answered
                answered += message.get("status") == 404

            for number in range(10_000):
                scope = {"type": "http", "method": "GET", "path": f"/{number}", "headers": [], "query_string": b""}
                await app(scope, receive, send)

        asyncio.run(visit_them_all())
        assert answered == 10_000
        meter.settle()
        counted = samples(meter, "frugal_requests_total")
        assert len(meter.metrics()[0]) < 60_000
    assert {dict(labels)["route"]: n for labels, n in counted.items()} == {"unmatched": 10_000}


def test_two_hundred_invented_methods_are_one_reading_method() -> None:
    exporter = RecordingExporter()
    with a_meter(exporters=[exporter]) as meter:
        app = an_app(meter)
        for number in range(200):
            ask(app, "/hello", method=f"M{number}")
        ask(app, "/hello", method="GET")
        meter.settle()
    assert {r.method for r in exporter.readings} == {"_OTHER", "GET"}


def test_models_without_end_fold_into_other_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugal_meter.exporters.aggregates.MAX_LABEL_SETS", 5)
    monkeypatch.setattr("frugal_meter.exporters.aggregates.MAX_DISTRIBUTIONS", 3)
    with a_meter() as meter:
        for number in range(12):
            with meter.measure("answer", model=f"model-{number}") as span:
                span.add_tokens(output=1)
        meter.settle()
        written = ((dict(key), n) for key, n in samples(meter, "frugal_tokens_total").items())
        by_model = {labels["model"]: n for labels, n in written if labels["direction"] == "output"}
        assert by_model == {**{f"model-{number}": 1 for number in range(5)}, "other": 7}
        assert {dict(key)["set"]: n for key, n in samples(meter, "frugal_label_overflow_total").items()} == {
            "requests": 7,
            "histograms": 9,
        }
        counts = samples(meter, "frugal_request_cpu_seconds_count")
        assert sorted(counts.values()) == [1, 1, 1, 9]


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
@pytest.mark.parametrize(
    "name",
    ['two\nlines "quoted" \\', "# HELP x", 'a",evil="1', "é\u2028", json.loads('"\\ud800"'), "x" * 100_000],
    ids=["newline", "comment", "label", "separator", "surrogate", "long"],
)
def test_a_hostile_name_of_a_model_stays_one_short_label(name: str, accept: str) -> None:
    with a_meter() as meter:
        with meter.measure("answer") as span:
            span.identify(model=name)
        meter.settle()
        body, _ = meter.metrics(accept)
        assert len(body) < 60_000
        found = families(meter, accept)["frugal_cpu_seconds"].samples
        assert len(found) == 1
        assert "evil" not in found[0].labels


@pytest.mark.parametrize("path", ["/a\nb", '/a"b', "/a\\b", "/é", "/{id}\u2028"])
def test_a_hostile_route_survives_the_exposition(path: str) -> None:
    with a_meter() as meter:
        with meter.measure(path):
            pass
        meter.settle()
        (labels,) = samples(meter, "frugal_cpu_seconds_total")
    assert dict(labels)["route"] == path


@pytest.mark.parametrize("answer", [5, ["a"], b"mairie", {"a": 1}, 1.5])
@pytest.mark.parametrize("budgets", [(), (Budget("each", "9 requests", per="day", key="tenant"),)])
def test_a_tenant_function_that_answers_nonsense_breaks_neither_requests_nor_ticks_nor_scrapes(answer: Any, budgets: Any) -> None:
    with a_meter(tenant=lambda scope: answer, budgets=budgets) as meter:
        assert ask(an_app(meter), "/hello")[0].text == "hello"
        assert meter.settle()
        assert "tick" not in meter.errors
        assert not meter.sampler.live
        assert sum(samples(meter, "frugal_requests_total").values()) == 1


def test_a_count_of_tokens_beyond_reason_is_left_out_and_scrapes_go_on() -> None:
    with a_meter() as meter:
        with meter.measure("answer", model="m") as span:
            span.add_tokens(input=10**400, output=3)
        meter.settle()
        counts = {dict(key)["direction"]: n for key, n in samples(meter, "frugal_tokens_total").items()}
    assert counts == {"output": 3}  # unknown is no sample


@pytest.mark.parametrize("units", [float("inf"), float("nan"), -1, 10**400], ids=["inf", "nan", "negative", "huge"])
def test_units_that_are_no_amount_are_left_out(units: float) -> None:
    with a_meter() as meter:
        with meter.measure("answer", unit="answer") as span:
            span.add_units(2)
            span.add_units(units)
        meter.settle()
        assert sum(samples(meter, "frugal_functional_units_total").values()) == 2


def test_scrapes_beside_ticks_never_fail_and_never_show_books_that_do_not_close() -> None:
    with a_meter(clock=None, tick=0.01, sources=SyntheticSource(5, 10)) as meter:
        differences: list[float] = []

        def scrape() -> None:
            for _ in range(30):
                found = parse_text(meter.metrics()[0].decode())
                differences.extend(s.value for f in found if f.name == "frugal_books_difference_joules" for s in f.samples)

        with ThreadPoolExecutor(2) as pool:
            scrapes = [pool.submit(scrape) for _ in range(2)]
            for number in range(100):
                with meter.measure(f"r{number % 3}", model=f"m{number % 2}") as span:
                    span.add_tokens(output=1)
                if number % 10 == 0:
                    meter.settle()
            for done in scrapes:
                done.result(timeout=30)
        meter.settle()
        assert differences == [0.0] * 60
        assert sum(samples(meter, "frugal_requests_total").values()) == 100


def test_the_collector_can_join_the_applications_own_registry() -> None:
    registry = CollectorRegistry()
    with busy() as meter:
        registry.register(MeterCollector(meter))
        assert registry.get_sample_value("frugal_requests_total", _labels_of_one_request(meter)) == 5


def _labels_of_one_request(meter: Meter) -> dict[str, str]:
    (labels,) = (key for key, count in samples(meter, "frugal_requests_total").items() if count)
    return dict(labels)


def test_without_a_source_joules_are_absent_and_not_zero() -> None:
    with a_meter(sources=[]) as meter:
        ask(an_app(meter, Route("/hello", hello)), "/hello")
        meter.settle()
        text = meter.metrics()[0].decode()
    assert [line for line in text.splitlines() if "joules" in line and "intensity" not in line and not line.startswith("#")] == []
    assert "frugal_requests_total{" in text


def test_two_accounts_of_a_budget_are_never_one_series() -> None:
    with a_meter(budgets=[Budget("each", "9 requests", per="day", key=("tenant", "model"))]) as meter:
        for tenant, model in (("a/b", "c"), ("a", "b/c")):
            with meter.measure("work", model=model, tenant=tenant):
                pass
        text = meter.metrics()[0].decode()
    series = [line.rpartition(" ")[0] for line in text.splitlines() if line.startswith("frugal_budget_usage_ratio{")]
    assert len(series) == len(set(series)) == 4


def test_a_meter_that_is_switched_off_gives_no_joules_and_enforces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_DISABLED", "1")
    meter = Meter("off", zone="FR", sources=SyntheticSource(1, 1), budgets=[Budget("b", "1 J", per="day")])
    with meter.measure("answer"):
        pass
    text = meter.metrics()[0].decode()
    assert 'frugal_budget_enforced{budget="b",resource="energy",tier="measured"} 0.0' in text
    assert not re.findall(r"^frugal_\w*energy_joules\w*[{ ].*", text, re.MULTILINE)
    assert live_state(meter).disabled
