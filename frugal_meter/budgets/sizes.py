"""How large a request is, before it has run: its class by powers of two, since what two requests of one class need is alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ..attribution.span import Span
from ..errors import ConfigurationError

#: classes end at 2^40 (a terabyte): who tells more is in the last one, and no client makes more classes than these
_CLASSES: Final = 41
_BYTES: Final = tuple(f"bytes<{2**power}" for power in range(_CLASSES))
_TOKENS: Final = tuple(f"tokens<{2**power}" for power in range(_CLASSES))
_TOLD: Final = tuple(f"size<{2**power}" for power in range(_CLASSES))
#: a number of so many digits is in one of the classes; a longer one is in the last, or no length at all
_SURE_DIGITS: Final = 12
_MOST_DIGITS: Final = 18
#: methods whose requests have no body: nobody needs to look for its length
_BODILESS: Final = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))


def of_request(scope: Mapping[str, Any] | None) -> str | None:
    """The class of an HTTP request's Content-Length, bytes; None for one without (chunked), or with one that is no number.

    The body itself is not looked at: what a client declares too small its server does not let it send.
    """
    if scope is None or scope.get("method", "GET") in _BODILESS:
        return None
    for name, value in scope.get("headers", ()):
        if name == b"content-length":
            if not value.isdigit() or len(value) > _MOST_DIGITS:
                return None
            return _BYTES[int(value).bit_length()] if len(value) <= _SURE_DIGITS else _BYTES[-1]
    return None


def of_span(span: Span) -> str | None:
    """The class of ``span``: by its input tokens where they are told already, else by what its caller said, else by its body."""
    if span.tokens_in is not None:
        return _TOKENS[min(span.tokens_in.bit_length(), _CLASSES - 1)]
    if span.size is None:
        span.size = of_request(span.scope)
    return span.size


def told(size: Any) -> str:
    """The class of a size that the application tells, in a unit of its own. Raises ConfigurationError for what is no size."""
    if isinstance(size, bool) or not isinstance(size, int | float) or not math.isfinite(size) or size < 0:
        raise ConfigurationError(f"measure: size is a number from 0 up (characters, tokens, seconds), not {str(size)[:60]!r}")
    return _TOLD[min(math.ceil(size).bit_length(), _CLASSES - 1)]
