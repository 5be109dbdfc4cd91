"""What the exporter sends, through a collector that is not ours: Rotel, whose binary a package of the registry holds.

It speaks OTLP by its own implementation (Rust), batches, and hands on to the receiver of these tests. The upstream collector,
which `exporters/otel-collector` is written for, is in no registry that the tests may use.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from otlp_receiver import Receiver, attributes, number, receiving
from support import PATIENCE_S, burn, metered

from frugal_meter.exporters.otel import OtelExporter

pytestmark = pytest.mark.skipif(
    find_spec("rotel") is None, reason="no collector here: pip install 'rotel==0.0.1a15' (Linux on x86-64)"
)
#: metrics that go on between two exports
MOVING = ("process", "meter")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "ROTEL_")):
            monkeypatch.delenv(name)
    with receiving() as found:
        yield found


@pytest.fixture
def collector(receiver: Receiver, tmp_path: Path) -> Iterator[str]:
    """The address of a collector that hands on to ``receiver``; it listens when this returns."""
    import rotel

    with socket.socket() as http, socket.socket() as grpc:
        http.bind(("127.0.0.1", 0))
        grpc.bind(("127.0.0.1", 0))
        doors = [f"127.0.0.1:{each.getsockname()[1]}" for each in (http, grpc)]
    command = [str(Path(rotel.__file__).parent / "rotel-agent"), "start", "--otlp-http-endpoint", doors[0]]
    command += ["--otlp-grpc-endpoint", doors[1], "--exporter", "otlp", "--otlp-exporter-protocol", "http"]
    command += ["--otlp-exporter-endpoint", receiver.url.rstrip("/")]
    with (tmp_path / "rotel.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            host, _, port = doors[0].partition(":")
            wait_until(lambda: process.poll() is not None or _listens(host, int(port)))
            assert process.poll() is None, (tmp_path / "rotel.log").read_text()
            yield f"http://{doors[0]}"
        finally:
            process.kill()
            process.wait()


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as door:
        return door.connect_ex((host, port)) == 0


def told(receiver: Receiver, place: int) -> dict[Any, Any]:
    """Metric and attributes → value (sum, gauge) or count and sum (histogram), of the export at ``place``."""
    out = {}
    for metric in receiver.metrics[place].resource_metrics[0].scope_metrics[0].metrics:
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            value = (point.count, point.sum) if hasattr(point, "bucket_counts") else number(point)
            out[metric.name, metric.unit, attributes(point.attributes)] = value
    return out


def test_a_foreign_collector_takes_the_metrics_and_hands_them_on_unchanged(receiver: Receiver, collector: str) -> None:
    through, direct = OtelExporter(collector), OtelExporter(receiver.url)
    with metered(exporters=[through, direct]) as (meter, _):
        with meter.measure("/chat", model="small", unit="answer") as span:
            burn(0.01)
            span.add_tokens(input=12, output=5)
            span.add_units(1)
        meter.settle()
        direct.flush()
        through.flush()
        wait_until(lambda: len(receiver.metrics) == 2)
    mine, theirs = told(receiver, 0), told(receiver, 1)
    assert mine.keys() == theirs.keys()
    still = [key for key in mine if not any(word in key[0] for word in MOVING)]
    assert len(still) >= 30
    assert {key: mine[key] for key in still} == {key: theirs[key] for key in still}
