"""The trace that is current, told without importing OpenTelemetry: an application that has none pays a look-up."""

from __future__ import annotations

import sys


def current_trace_id() -> str | None:
    """The trace id of the current sampled span, 32 lower-case hexadecimal digits (W3C Trace Context); None without one.

    Meant for exemplars: of a trace that is not sampled nothing could be looked up, so it has no id here.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid and context.trace_flags.sampled else None
