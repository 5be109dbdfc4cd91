"""The answer to a refused request: which form for which client, on which protocol. Failing to build it is a plain refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from .attribution.span import Span
from .exporters.live_page import negotiate
from .rate_limit import fields, refusing
from .refusal import document, problem, spread, status_of
from .refusal_page import page, wants_page

if TYPE_CHECKING:
    from .meter import Meter

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
_MAX_REASON: Final = 123  # bytes, RFC 6455 §5.5
_POLICY, _TRY_LATER = 1008, 1013  # close codes: RFC 6455 §7.4.1, and the IANA registry for 1013
_DENIAL: Final = "websocket.http.response"  # an ASGI extension: an HTTP answer to a handshake


async def refuse(span: Span, send: Send) -> None:
    """Answer for the budget that refused ``span``: problem details, a page, or a closed websocket."""
    refusal, meter = span.refusal, _meter(span)
    assert refusal is not None
    scope: Mapping[str, Any] = span.scope or {}
    if span.kind == "websocket":
        prefix = "websocket.http.response"
        if span.status is not None or _DENIAL not in (scope.get("extensions") or {}):
            span.status = span.status or 403
            await send(closing(refusal))
            return
    else:
        prefix = "http.response"
    span.status, headers, body = answer(meter, span, refusal, scope)
    if scope.get("method") == "HEAD":
        body = b""
    await send({"type": f"{prefix}.start", "status": span.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})


def closing(refusal: Mapping[str, Any]) -> dict[str, Any]:
    """The message that closes a websocket: against the policy, or to try again later when nobody could be asked."""
    store = refusal["reason"] == "store"
    text = "frugality budgets out of reach" if store else f"frugality budget exceeded: {refusal['budget']}"
    reason = text.encode("utf-8", "replace")[:_MAX_REASON].decode("utf-8", "ignore")
    return {"type": "websocket.close", "code": _TRY_LATER if store else _POLICY, "reason": reason}


def answer(meter: Meter, span: Span, refusal: Mapping[str, Any], scope: Mapping[str, Any]) -> tuple[int, Headers, bytes]:
    """Status, headers and body in the form that the client asks for."""
    settings = meter.refusals
    status, request_id = status_of(refusal, settings), meter.figures.uuid(span)
    told = spread(refusal, request_id)
    try:
        if wants_page(_header(scope, b"accept")):
            lang = negotiate(_header(scope, b"accept-language"))
            now_s = meter.clock.time_ns() / 1e9
            headers, body = page(told, settings, lang=lang, service=meter.service, now_s=now_s, request_id=request_id)
        else:
            headers, body = problem(told, settings, request_id)
        headers.append((b"vary", b"Accept, Accept-Language"))
        if settings.rate_limit:
            headers += fields(refusing(told, meter.admission.budgets, meter.clock.time_ns()))
    except Exception as error:
        meter.fault("refusal", error)
        headers, body = problem(told, settings, request_id)
    return status, headers, body


def said(span: Span, refusal: Mapping[str, Any]) -> dict[str, Any]:
    """The problem document for a place that has no headers: an event in a stream."""
    meter = _meter(span)
    request_id = meter.figures.uuid(span)
    return document(spread(refusal, request_id), meter.refusals, request_id)


def _meter(span: Span) -> Meter:
    return span.desk  # type: ignore[return-value]  # requests are opened by meters only


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return ", ".join(value.decode("latin-1") for key, value in scope.get("headers", ()) if key.lower() == name)
