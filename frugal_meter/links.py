"""Addresses that people are sent to, checked when they are given."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigurationError


def checked_url(what: str, url: Any) -> str | None:
    """``url`` when a browser may be sent there: http, https or a path of this site; None stays None.

    Raises ConfigurationError, which begins with ``what``, for anything else: ``javascript:`` included.
    """
    if url is None:
        return None
    if is_line(url) and " " not in url:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if (url.startswith("/") and not url.startswith("//")) or (parts.scheme in ("http", "https") and parts.netloc):
            return str(url)
    raise ConfigurationError(f'{what} is an address such as "https://example.org/guichet" or "/guichet", not {url!r}')


def is_line(text: Any) -> bool:
    """Whether ``text`` is one line that people can read."""
    return isinstance(text, str) and bool(text.strip()) and text.isprintable()
