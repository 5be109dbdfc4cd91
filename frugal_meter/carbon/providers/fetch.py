"""One GET of a live grid provider: bounded in time and size, to one host only, with errors that never show the address."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from .base import Asked, Unanswered

TIMEOUT_S: Final = 10.0
#: the largest reply in shape is ENTSO-E's of six hours, some 100 kB
LARGEST_BYTES: Final = 2_000_000
_CHUNK: Final = 65_536


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another host must not be sent the token."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Never: the redirect itself is then the (unusable) answer."""


_OPENER: Final = urllib.request.build_opener(_NoRedirect())


def fetch(asked: Asked, *, timeout_s: float = TIMEOUT_S, largest: int = LARGEST_BYTES) -> bytes:
    """The body of a 200 reply. Raises `Unanswered` for any other, for silence, for a reply too slow or too large."""
    begun = time.monotonic()
    request = urllib.request.Request(asked.url, headers={"User-Agent": "frugal-meter", **asked.headers})
    try:
        with _OPENER.open(request, timeout=timeout_s) as reply:
            if reply.status != 200:
                raise Unanswered(f"HTTP {reply.status}")
            return _body(reply, begun + timeout_s, largest)
    except urllib.error.HTTPError as error:
        with error:
            raise Unanswered(f"HTTP {error.code}", _retry_after_s(error.headers.get("Retry-After"))) from None
    except urllib.error.URLError as error:
        raise Unanswered(f"unreachable ({type(error.reason).__name__})") from None
    except TimeoutError:
        raise Unanswered(f"no answer within {timeout_s:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unanswered(f"broken reply ({type(error).__name__})") from None


def _body(reply: http.client.HTTPResponse, until: float, largest: int) -> bytes:
    parts, size = [], 0
    # In pieces: a server that drips one byte a second passes every socket timeout.
    while part := reply.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > largest:
            raise Unanswered(f"the reply is larger than {largest} bytes")
        if time.monotonic() > until:
            raise Unanswered("the reply does not end")
    return b"".join(parts)


def _retry_after_s(text: str | None) -> float | None:
    """Seconds, from either form of the header (RFC 9110, §10.2.3); None for what is neither."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
