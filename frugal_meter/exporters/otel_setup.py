"""What an `OtelExporter` is told, by its arguments and by the variables of the OpenTelemetry SDK, checked and resolved."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource

    from .otel_spans import RequestSpans

_PATH: Final = "/v1/metrics"
#: seconds between exports where nobody says: the specification's default (metrics SDK, periodic exporting reader)
_INTERVAL_S: Final = 60.0
_LONGEST_S: Final = 3600.0


def sdk() -> tuple[type[OTLPMetricExporter], Callable[..., MetricsData], type[RequestSpans]]:
    """What needs the SDK, imported; raises MissingExtraError where it is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        from .otel_metrics import metrics_data
        from .otel_spans import RequestSpans
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise MissingExtraError("otel", "exporting over OTLP") from None
    return OTLPMetricExporter, metrics_data, RequestSpans


def check_flags(**flags: object) -> None:
    """Refuse settings that are neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ConfigurationError(f"otel: {name} is True or False, not {value!r}")


def url_of(endpoint: object) -> str | None:
    """The URL that metrics are sent to; None leaves it to the environment."""
    if endpoint is None:
        return None
    try:
        parts = urlsplit(endpoint) if isinstance(endpoint, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        given = "one with a password" if "@" in str(endpoint) else repr(endpoint)
        raise ConfigurationError(f'otel: endpoint is the base URL of an OTLP/HTTP receiver, "http://localhost:4318", not {given}')
    base = str(endpoint).rstrip("/")
    return base if base.endswith(_PATH) else base + _PATH


def interval_s(interval: object) -> float:
    """Seconds between exports: as given, else the environment's, else the default."""
    name = "interval"
    if interval is None:
        name, text = "OTEL_METRIC_EXPORT_INTERVAL", os.environ.get("OTEL_METRIC_EXPORT_INTERVAL")
        if not text:
            return _INTERVAL_S
        interval = float(text) / 1000 if text.isascii() and text.isdigit() else text
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval <= _LONGEST_S:
        raise ConfigurationError(f"otel: {name}={interval!r} cannot be: it is seconds between exports, up to {_LONGEST_S:g}")
    return float(interval)


def sdk_disabled() -> bool:
    """Whether ``OTEL_SDK_DISABLED`` says that nothing is to be told."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def environment() -> Resource:
    """What the environment says of this process. Asks threads of its own, which an interpreter that ends no longer starts."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create()


def resource_of(found: Resource, service: str) -> Resource:
    """The service and this process of it. The environment may name the service otherwise, as it does for its traces."""
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

    # Workers of one service would write one another's sums over if they had one id, whoever gave it to them.
    own: dict[str, str] = {SERVICE_INSTANCE_ID: str(uuid.uuid4())}
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        own[SERVICE_NAME] = service
    return found.merge(Resource(own))
