"""Metrics over OTLP, at a real receiver: the sums of the exposition, under names of the conventions or our own."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, hw_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics
from opentelemetry.semconv.attributes import http_attributes
from opentelemetry.semconv.schemas import Schemas
from otlp_receiver import Receiver, number, receiving, resource_of
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar
from support import PATIENCE_S, answer, ask, burn, metered

from frugal_meter import Budget, Meter, MeterMiddleware, config
from frugal_meter.errors import ConfigurationError
from frugal_meter.exporters import otel_names
from frugal_meter.exporters.aggregates import DURATION_BUCKETS_S
from frugal_meter.exporters.otel import OtelExporter, with_otel
from frugal_meter.exporters.otel_metrics import metrics_data
from frugal_meter.exporters.prometheus import SPEC
from frugal_meter.testing import FrozenClock, RecordingExporter, SyntheticSource

ROOT = Path(__file__).parent.parent


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    with receiving() as found:
        yield found


async def app(scope: Any, receive: Any, send: Any) -> None:
    burn(0.002)
    await answer(send, status=500 if scope["path"] == "/broken" else 200)


def use(meter: Meter) -> None:
    """Work of every kind that has a metric: routes, models, tokens, units, quality, a refusal."""
    asked = MeterMiddleware(app, meter=meter)
    for path in ("/a", "/a", "/broken"):
        asyncio.run(ask(asked, path))
    with meter.measure("/chat", model="small", tenant="town", unit="answer") as span:
        burn(0.01)
        span.add_tokens(input=12, output=5)
        span.add_units(1)
        span.quality(0.5)
    with meter.measure("index"):
        burn(0.002)
    meter.settle()


# -- the same figures


def test_every_sample_of_the_exposition_arrives_with_its_value(receiver: Receiver) -> None:
    exporter = OtelExporter(receiver.url)
    budgets = [Budget("day", "50 kJ", per="day"), Budget("words", "4000 tokens", per="hour", key="tenant")]
    with metered(exporters=[exporter], budgets=budgets) as (meter, _):
        use(meter)
        text, _ = meter.metrics()
        exporter.flush()
    arrived = receiver.points(0)
    told = 0
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            name = sample.name.removesuffix("_total")
            if SPEC.get(name, ("histogram",))[0] == "histogram":
                continue
            named = otel_names.metric(name, sample.labels)
            key = named.name, frozenset(otel_names.attributes(name, sample.labels).items())
            if name == "frugal_process_cpu_seconds":  # the process has worked on since
                assert number(arrived[key]) >= sample.value
            else:
                assert number(arrived[key]) == sample.value, key
            told += 1
    histograms = sum(point.__class__.__name__ == "HistogramDataPoint" for point in arrived.values())
    assert told == len(arrived) - histograms
    assert histograms == 9  # three routes or blocks with a cost of their own, three distributions each


def test_figures_stand_under_the_names_and_units_that_are_told(receiver: Receiver) -> None:
    exporter = OtelExporter(receiver.url)
    with metered(exporters=[exporter]) as (meter, _):
        use(meter)
        exporter.flush()
        truth_j = sum(meter.aggregates.energy_nj.values()) / 1e9
        chat = meter.aggregates.rows["/chat", "small", "town"]
    arrived = receiver.points(0)
    labels = {("http.route", "/chat"), ("gen_ai.response.model", "small"), ("frugal.tenant", "town")}
    cpu = {("hw.id", "synthetic"), ("hw.type", "cpu"), ("frugal.tier", "measured")}
    assert number(arrived["hw.energy", frozenset(cpu)]) == truth_j > 0
    assert number(arrived["frugal.cpu", frozenset(labels)]) == chat.cpu_ns / 1e9 > 0.009
    tier = {("hw.type", "cpu"), ("frugal.tier", "measured")}
    assert number(arrived["frugal.energy", frozenset(labels | tier)]) == sum(chat.sources_nj) / 1e9
    assert number(arrived["frugal.tokens", frozenset(labels | {("gen_ai.token.type", "output")})]) == 5
    assert number(arrived["frugal.functional_units", frozenset(labels | {("frugal.unit", "answer")})]) == 1
    unmatched = {("frugal.route", "unmatched"), ("frugal.outcome", "ok"), ("http.response.status_code", 200)}
    assert number(arrived["frugal.requests", frozenset(unmatched)]) == 2
    units = {metric.name: metric.unit for metric in receiver.metric_messages(0)}
    assert (units["frugal.energy"], units["hw.energy"], units["frugal.request.duration"]) == ("J", "J", "s")
    assert (units["frugal.requests"], units["frugal.co2e"], units["frugal.grid.carbon_intensity"]) == ("{request}", "g", "g/J")


def test_a_histogram_arrives_bucket_by_bucket_with_its_bounds(receiver: Receiver) -> None:
    exporter = OtelExporter(receiver.url)
    with metered(exporters=[exporter]) as (meter, _):
        use(meter)
        kept = meter.aggregates.distributions["/chat", "small"].duration_s
        exporter.flush()
    key = "frugal.request.duration", frozenset({("http.route", "/chat"), ("gen_ai.response.model", "small")})
    point = receiver.points(0)[key]
    assert list(point.bucket_counts) == kept.counts
    assert (point.count, point.sum) == (1, kept.total)
    assert tuple(point.explicit_bounds) == DURATION_BUCKETS_S
    assert not point.HasField("min")  # never kept: unknown, not 0
    assert not point.HasField("max")


def test_sums_are_cumulative_since_the_meter_was_made(receiver: Receiver) -> None:
    clock = FrozenClock()
    exporter = OtelExporter(receiver.url)
    with metered(exporters=[exporter], clock=clock) as (meter, _):
        begun = clock.time_ns()
        clock.advance(7)
        use(meter)
        exporter.flush()
    for metric in receiver.metric_messages(0):
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            assert point.time_unix_nano == begun + 7 * 10**9
            assert point.start_time_unix_nano == (0 if kind == "gauge" else begun)
        if kind != "gauge":
            assert getattr(metric, kind).aggregation_temporality == 2  # CUMULATIVE
        if kind == "sum":
            assert metric.sum.is_monotonic


def test_what_is_unknown_has_no_point(receiver: Receiver) -> None:
    exporter = OtelExporter(receiver.url)
    with metered(exporters=[exporter], sources=[]) as (meter, _):
        with meter.measure("index"):
            burn(0.001)
        meter.settle()
        exporter.flush()
    names = {name for name, _ in receiver.points(0)}
    assert "frugal.cpu" in names
    assert not names & {"frugal.energy", "hw.energy", "frugal.request.energy", "frugal.co2e", "frugal.tokens", "frugal.gpu"}


def test_exemplars_of_the_exposition_become_exemplars_of_the_trace() -> None:
    family = HistogramMetricFamily("frugal_request_energy_joules", "Energy.", labels=("route", "model"))
    exemplar = Exemplar({"trace_id": "0af7651916cd43dd8448eb211c80319c"}, 0.3, 1_767_225_600.0)
    family.add_metric(("/a", "none"), [("0.5", 1.0, exemplar), ("+Inf", 3.0)], 9.5)  # type: ignore[list-item]
    data = metrics_data([family], Resource({}), InstrumentationScope("tests"), 1, 2)
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    (found,) = point.exemplars
    assert (found.trace_id, found.value) == (0x0AF7651916CD43DD8448EB211C80319C, 0.3)
    assert found.time_unix_nano == 1_767_225_600 * 10**9
    assert not found.filtered_attributes
    assert (point.bucket_counts, point.count) == ([1, 2], 3)


# -- names


def in_prometheus(named: otel_names.Named, kind: str) -> str:
    """The name that a receiver gives a metric in Prometheus (OpenTelemetry specification, compatibility with Prometheus)."""
    words = {"s": "seconds", "J": "joules", "g": "grams", "W": "watts", "g/J": "grams_per_joule", "By": "bytes"}
    name = re.sub(r"[^a-zA-Z0-9_]", "_", named.name)
    unit = words.get(named.unit, "")
    if unit and not name.endswith(f"_{unit}"):
        name += f"_{unit}"
    if kind == "counter":
        name += "_total"
    return f"{name}_ratio" if kind == "gauge" and named.unit == "1" else name


def names_of_hosts() -> set[str]:
    return {"frugal_host_energy_joules"}


@pytest.mark.parametrize("name", sorted(SPEC.keys() - names_of_hosts()))
def test_our_names_come_back_to_those_of_the_exposition(name: str) -> None:
    kind = SPEC[name][0]
    named = otel_names.metric(name, dict.fromkeys(SPEC[name][2], "x"))
    assert named.name.startswith("frugal.")
    assert in_prometheus(named, kind) == (f"{name}_total" if kind == "counter" else name)
    assert named.unit or kind == "gauge", "a sum says what it counts"


def test_names_of_the_conventions_are_those_of_the_version_that_is_cited() -> None:
    assert otel_names.SCHEMA_URL in {each.value for each in Schemas}
    cpu, node = {"component": "cpu"}, {"component": "node"}
    assert otel_names.metric("frugal_host_energy_joules", cpu) == (hw_metrics.HW_ENERGY, "J")
    assert otel_names.metric("frugal_host_energy_joules", node) == (hw_metrics.HW_HOST_ENERGY, "J")
    labels = {"route": "/a", "model": "m", "status": "200", "direction": "input", "component": "dram", "source": "rapl"}
    assert otel_names.attributes("frugal_requests", labels) == {
        http_attributes.HTTP_ROUTE: "/a",
        gen_ai_attributes.GEN_AI_RESPONSE_MODEL: "m",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
        gen_ai_attributes.GEN_AI_TOKEN_TYPE: gen_ai_attributes.GenAiTokenTypeValues.INPUT.value,
        hw_attributes.HW_TYPE: hw_attributes.HwTypeValues.MEMORY.value,
        hw_attributes.HW_ID: "rapl",
    }


def test_a_limit_is_a_metric_of_its_own_for_each_unit() -> None:
    told = {name: otel_names.metric(name, {}) for name in SPEC if name.startswith("frugal_budget_limit_")}
    assert told["frugal_budget_limit_joules"] == ("frugal.budget.limit.joules", "J")
    assert told["frugal_budget_limit_grams"] == ("frugal.budget.limit.grams", "g")
    assert told["frugal_budget_limit_tokens"] == ("frugal.budget.limit.tokens", "{token}")
    assert len({named.name for named in told.values()}) == len(told) == 5


def test_what_was_folded_is_marked_as_the_specification_says() -> None:
    folded = {"route": "other", "model": "other", "tenant": "other", "outcome": "ok"}
    assert otel_names.attributes("frugal_requests", folded) == {"otel.metric.overflow": True, "frugal.outcome": "ok"}
    assert otel_names.attributes("frugal_cpu_seconds", {"route": "other", "model": "m"})["frugal.route"] == "other"
    assert otel_names.attributes("frugal_pue_ratio", {"source": "report"}) == {"frugal.pue_source": "report"}


_label = st.sampled_from(["none", "other", "unmatched", "/a", "200", "x", ""])
_labels = st.fixed_dictionaries({"route": _label, "model": _label, "tenant": _label, "status": _label})


@given(_labels, _labels)
def test_two_label_sets_never_become_one_point(one: dict[str, str], other: dict[str, str]) -> None:
    same = otel_names.attributes("frugal_requests", one) == otel_names.attributes("frugal_requests", other)
    assert same == (one == other)


# -- who sends, where, when


def test_the_resource_names_the_service_and_each_process_of_it(receiver: Receiver) -> None:
    for _ in range(2):
        with metered(exporters=[OtelExporter(receiver.url)]):
            pass
    first, second = (resource_of(request) for request in receiver.metrics)
    assert first["service.name"] == second["service.name"] == "tests"
    assert first["service.instance.id"] != second["service.instance.id"]
    (resource,) = receiver.metrics[0].resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "frugal_meter"
    assert scope.schema_url == otel_names.SCHEMA_URL


def test_the_environment_says_where_to_and_who(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "counter")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with metered(exporters=[OtelExporter()]) as (meter, _):
        use(meter)
    assert resource_of(receiver.metrics[-1])["service.name"] == "counter"


def test_the_sdk_switched_off_sends_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with metered(exporters=[OtelExporter(receiver.url)]) as (meter, _):
        use(meter)
    assert not receiver.asked.is_set()


def test_a_meter_switched_off_sends_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_DISABLED", "1")
    exporter = OtelExporter(receiver.url)
    with Meter("tests", zone="FR", sources=SyntheticSource(1, 1), exporters=[exporter]):
        exporter.flush()
    assert not receiver.asked.is_set()


def test_sums_are_sent_when_their_interval_has_passed_and_when_the_meter_stops(receiver: Receiver) -> None:
    clock = FrozenClock()
    with metered(exporters=[OtelExporter(receiver.url, interval=30)], clock=clock) as (meter, _):
        clock.advance(29)
        meter.settle()
        assert len(receiver.metrics) == 0
        clock.advance(1)
        meter.settle()
        assert len(receiver.metrics) == 1
        meter.settle()
        assert len(receiver.metrics) == 1
    assert len(receiver.metrics) == 2


def test_the_interval_of_the_environment_is_in_milliseconds(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "5000")
    clock = FrozenClock()
    with metered(exporters=[OtelExporter(receiver.url)], clock=clock) as (meter, _):
        clock.advance(5)
        meter.settle()
        assert len(receiver.metrics) == 1


def test_a_meter_that_starts_again_sends_again(receiver: Receiver) -> None:
    meter = Meter("tests", zone="FR", sources=SyntheticSource(1, 1), tick=60, exporters=[OtelExporter(receiver.url)])
    for _ in range(2):
        with meter, meter.measure("index"):
            burn(0.001)
    key = "frugal.requests", frozenset({("frugal.route", "index"), ("frugal.outcome", "ok")})
    assert [number(receiver.points(which)[key]) for which in (0, 1)] == [1, 2]


def test_no_reading_is_built_for_an_exporter_of_sums(receiver: Receiver) -> None:
    given: list[int] = []

    class Other:
        inline = True

        def export(self, readings: Any, ticks: Any) -> None:
            given.append(len(readings))

    for others, expected in (([], None), ([Other()], 1)):
        given.clear()
        with metered(exporters=[OtelExporter(receiver.url), *others]) as (meter, _):
            with meter.measure("index"):
                pass
            meter.settle()
            assert meter._dispatch.needs_readings == bool(others)
        assert expected is None or sum(given) == expected


_LEFT_RUNNING = """
import sys
from frugal_meter import Meter
from frugal_meter.exporters.otel import OtelExporter
from frugal_meter.testing import SyntheticSource

meter = Meter("script", zone="FR", sources=SyntheticSource(1, 10), tick=60, exporters=[OtelExporter(sys.argv[1])])
with meter.measure("index"):
    sum(range(1000))
"""


def test_a_script_that_ends_with_its_meter_running_has_sent_its_sums(receiver: Receiver) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LEFT_RUNNING, receiver.url], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    key = "frugal.requests", frozenset({("frugal.route", "index"), ("frugal.outcome", "ok")})
    assert number(receiver.points(0)[key]) == 1


_WORKERS = """
import os, sys
from frugal_meter import Meter
from frugal_meter.exporters.otel import OtelExporter
from frugal_meter.testing import SyntheticSource

meter = Meter("workers", zone="FR", sources=SyntheticSource(1, 10), tick=60, exporters=[OtelExporter(sys.argv[1])])
children = []
for requests in (3, 5):
    child = os.fork()
    if not child:
        with meter:
            for _ in range(requests):
                with meter.measure("index"):
                    sum(range(1000))
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_workers_that_a_master_forked_send_sums_of_their_own(receiver: Receiver) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WORKERS, receiver.url], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    key = "frugal.requests", frozenset({("frugal.route", "index"), ("frugal.outcome", "ok")})
    assert sorted(number(receiver.points(which)[key]) for which in range(len(receiver.metrics))) == [3, 5]
    assert len({resource_of(request)["service.instance.id"] for request in receiver.metrics}) == 2


# -- a receiver that is away


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="opentelemetry")


@pytest.mark.usefixtures("quiet")
def test_a_refused_export_is_counted_and_loses_nothing(receiver: Receiver) -> None:
    clock = FrozenClock()
    with metered(exporters=[OtelExporter(receiver.url)], clock=clock) as (meter, _):
        receiver.status = 400
        with meter.measure("index"):
            burn(0.001)
        clock.advance(60)
        assert meter.settle()
        assert (receiver.refused, meter.errors) == (1, {"export": 1})
        receiver.status = 200
        clock.advance(60)
        assert meter.settle()
        text, _ = meter.metrics()
    key = "frugal.requests", frozenset({("frugal.route", "index"), ("frugal.outcome", "ok")})
    assert number(receiver.points(0)[key]) == 1
    assert b'frugal_meter_errors_total{stage="export"} 1.0' in text


@pytest.mark.usefixtures("quiet")
def test_a_service_answers_while_the_receiver_does_not(receiver: Receiver) -> None:
    clock = FrozenClock()
    receiver.open.clear()
    with metered(exporters=[OtelExporter(receiver.url)], clock=clock) as (meter, _):
        asked = MeterMiddleware(app, meter=meter)
        clock.advance(60)
        assert meter.sampler.settle(PATIENCE_S)
        assert receiver.asked.wait(PATIENCE_S)
        for _ in range(20):
            assert asyncio.run(ask(asked))[0]["status"] == 200
        assert meter.sampler.settle(PATIENCE_S)
        assert sum(meter.aggregates.rows["unmatched", "none", "none"].outcomes.values()) == 20  # settled all the same
        assert meter.errors == {}
        assert not meter.settle(timeout=0.1)  # who waits for what has been exported is told that it has not
        receiver.open.set()
    assert (
        number(
            receiver.points()[
                "frugal.requests",
                frozenset({("frugal.route", "unmatched"), ("frugal.outcome", "ok"), ("http.response.status_code", 200)}),
            ]
        )
        == 20
    )


@pytest.mark.usefixtures("quiet")
def test_nobody_listening_is_counted_and_the_meter_stops_all_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with metered(exporters=[OtelExporter(f"http://127.0.0.1:{port}")]) as (meter, _):
        use(meter)
    assert meter.errors == {"export": 1}


# -- settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"endpoint": "collector:4318"}, "base URL"),
        ({"endpoint": "grpc://collector:4317"}, "base URL"),
        ({"endpoint": 4318}, "base URL"),
        ({"endpoint": "http://[::1"}, "base URL"),
        ({"endpoint": "user:secret@collector"}, "not one with a password$"),
        ({"interval": 0}, "interval=0"),
        ({"interval": math.nan}, "interval=nan"),
        ({"interval": True}, "interval=True"),
        ({"spans": "no"}, "spans is True or False"),
        ({"settled_spans": 1}, "settled_spans is True or False"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        OtelExporter(**settings)
    assert "\n" not in str(refused.value)


def test_an_interval_of_the_environment_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "often")
    with pytest.raises(ConfigurationError, match="OTEL_METRIC_EXPORT_INTERVAL='often'"):
        OtelExporter("http://127.0.0.1:1")


def test_an_exporter_belongs_to_one_meter(receiver: Receiver) -> None:
    exporter = OtelExporter(receiver.url)
    with metered(exporters=[exporter]), pytest.raises(ConfigurationError, match="one meter"):
        Meter("other", zone="FR", sources=SyntheticSource(1, 1), exporters=[exporter])


def test_deltas_are_left_to_the_collector_and_that_is_said(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    with metered(exporters=[OtelExporter(receiver.url)]):
        pass
    assert "cumulativetodelta" in caplog.text


def test_a_table_of_the_file_makes_the_exporter_beside_those_given(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "frugal.toml"
    file.write_text(f'[meter]\nservice = "tests"\nzone = "FR"\n[otel]\nendpoint = "{receiver.url}"\ninterval = 15\n', "utf-8")
    out = RecordingExporter()
    with Meter.from_config(file, exporters=[out], sources=SyntheticSource(1, 1)) as meter, meter.measure("index"):
        pass
    assert len(receiver.metrics) == 1
    assert len(out.readings) == 1
    assert "exporters" not in with_otel({"service": "tests"})


def test_a_key_that_the_table_does_not_have_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "frugal.toml"
    file.write_text('[meter]\nservice = "tests"\n[otel]\nendpont = "http://localhost:4318"\n', "utf-8")
    with pytest.raises(ConfigurationError, match=r"\[otel\] has no setting 'endpont'; did you mean endpoint"):
        config.load(file)
    file.write_text('otel = 3\n[meter]\nservice = "tests"\n', "utf-8")
    with pytest.raises(ConfigurationError, match=r"\[otel\] is a table"):
        config.load(file)


@pytest.mark.parametrize("absent", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"])
def test_without_the_sdk_the_pip_command_is_printed(absent: str) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None\nfrom frugal_meter.exporters.otel import OtelExporter\nOtelExporter()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("exporting over OTLP needs an optional dependency: pip install 'frugal-meter[otel]'")


def test_the_sdk_is_imported_by_who_makes_an_exporter_and_by_nobody_else() -> None:
    code = "import sys, frugal_meter.meter, frugal_meter.exporters.otel\nprint('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


# -- documents and the collector's kit


def table(section: str) -> list[list[str]]:
    """The cells of the rows of one table of docs/otel.md, its head left out."""
    text = (ROOT / "docs/otel.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {section}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, section
    lines = [line for line in found[1].splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines][1:]


def test_settings_of_the_exporter_are_told() -> None:
    told = [row[0].strip("`") for row in table("Settings")]
    assert told == [name for name in inspect.signature(OtelExporter).parameters if name != "self"]
    assert set(config.OTEL_KEYS) == set(told) - {"tracer_provider"}


def test_every_metric_is_told_with_the_name_and_unit_it_has_over_otlp() -> None:
    told = {row[0].strip("`"): (row[1].strip("`"), row[2].strip("`")) for row in table("Names of metrics")}
    expected = {}
    for name, (kind, _, labels) in SPEC.items():
        values = dict.fromkeys(labels, "cpu")
        exposed = f"{name}_total" if kind == "counter" else name
        named = otel_names.metric(name, values)
        expected[exposed] = (named.name, named.unit or "–")
    assert told == expected


def test_attributes_of_spans_are_told() -> None:
    told = {name for row in table("Attributes of spans") for name in re.findall(r"`([\w.]+)`", row[0])}
    assert told == {
        "frugal.reading_id",
        "http.route",
        *(f"frugal.{field}" for field in otel_names.FIGURES),
        *otel_names.GENERATION,
    }


#: components of the contributors' distribution that the kit may use (opentelemetry-collector-releases, manifest of v0.144 on)
KNOWN = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "attributes", "batch"},
    "exporters": {"otlp_http", "prometheus"},
    "extensions": {"health_check"},
}


def test_the_collectors_configuration_is_whole() -> None:
    loaded = yaml.safe_load((ROOT / "exporters/otel-collector/config.yaml").read_text(encoding="utf-8"))
    assert set(loaded) == {*KNOWN, "service"}
    for kind, known in KNOWN.items():
        assert {name.partition("/")[0] for name in loaded[kind]} == known
    used: dict[str, set[str]] = {kind: set() for kind in KNOWN}
    for signal, pipeline in loaded["service"]["pipelines"].items():
        assert signal.partition("/")[0] in ("metrics", "traces")
        assert pipeline["processors"][0] == "memory_limiter"
        for kind, names in pipeline.items():
            used[kind] |= set(names)
    used["extensions"] = set(loaded["service"]["extensions"])
    assert used == {kind: set(loaded[kind]) for kind in KNOWN}, "what is defined is used, and the other way round"


def test_the_collector_listens_where_the_exporter_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = yaml.safe_load((ROOT / "exporters/otel-collector/config.yaml").read_text(encoding="utf-8"))
    for name in list(os.environ):
        if name.startswith("OTEL_EXPORTER"):
            monkeypatch.delenv(name)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import DEFAULT_ENDPOINT

    address = loaded["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert address.startswith("127.0.0.1:")
    assert f"http://localhost:{address.partition(':')[2]}/" == DEFAULT_ENDPOINT


def test_the_collector_drops_who_asked_from_traces() -> None:
    loaded = yaml.safe_load((ROOT / "exporters/otel-collector/config.yaml").read_text(encoding="utf-8"))
    dropped = {each["key"] for each in loaded["processors"]["attributes/nobody"]["actions"] if each["action"] == "delete"}
    assert dropped >= {"client.address", "user_agent.original", "url.query", "http.target", "net.peer.ip", "http.user_agent"}
    assert "attributes/nobody" in loaded["service"]["pipelines"]["traces"]["processors"]
