"""A real OTLP/HTTP receiver on a spare loopback port: it parses what it is sent with the protocol's own messages."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Attributes = frozenset[tuple[str, Any]]


class Receiver:
    """What has arrived; ``status`` is what it answers, and it answers only while ``open`` is set."""

    def __init__(self) -> None:
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.traces: list[ExportTraceServiceRequest] = []
        self.refused = 0
        self.status = 200
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.url = ""

    def take(self, path: str, body: bytes) -> int:
        """Parse one request; raises for what is not the protocol."""
        self.asked.set()
        self.open.wait(20)
        if self.status != 200:
            self.refused += 1
        elif path == "/v1/metrics":
            self.metrics.append(ExportMetricsServiceRequest.FromString(body))
        elif path == "/v1/traces":
            self.traces.append(ExportTraceServiceRequest.FromString(body))
        else:
            return 404
        return self.status

    def points(self, which: int = -1) -> dict[tuple[str, Attributes], Any]:
        """The points of one export: (metric, attributes) → the point."""
        out: dict[tuple[str, Attributes], Any] = {}
        for metric in self.metric_messages(which):
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                key = metric.name, attributes(point.attributes)
                assert key not in out, f"two points of {metric.name} are one: {key[1]}"
                out[key] = point
        return out

    def metric_messages(self, which: int = -1) -> list[Any]:
        """The metrics of one export."""
        (resource,) = self.metrics[which].resource_metrics
        (scope,) = resource.scope_metrics
        return list(scope.metrics)

    def spans(self) -> list[Any]:
        """All spans that have arrived."""
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def resource_of(request: ExportMetricsServiceRequest) -> Mapping[str, Any]:
    """The resource's attributes of an export."""
    (resource,) = request.resource_metrics
    return dict(attributes(resource.resource.attributes))


def attributes(pairs: Any) -> Attributes:
    """Attributes of a message as plain values, arrays as tuples."""
    return frozenset((pair.key, plain(pair.value)) for pair in pairs)


def plain(value: Any) -> Any:
    """An AnyValue as Python's."""
    kind = value.WhichOneof("value")
    return tuple(plain(each) for each in value.array_value.values) if kind == "array_value" else getattr(value, kind)


def number(point: Any) -> float:
    """The value of a number point."""
    return float(getattr(point, point.WhichOneof("value")))


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            self.send_response(receiver.take(self.path, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.block_on_close = False
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
