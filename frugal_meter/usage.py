"""Token counts from an OpenAI-shaped ``usage``, in a JSON body or in the last event of a stream; nothing else is read or kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .attribution.span import Span

#: a body or event larger than this is not searched: a usage is small, and parsing holds the interpreter
MAX_BYTES: Final = 65_536


class _Body(msgspec.Struct):
    usage: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def note_usage(span: Span, usage: Any) -> None:
    """Add the token counts of ``usage`` (mapping or object); anything malformed is left out, never guessed."""
    if usage is None:
        return

    def read(of: Any, name: str) -> Any:
        return of.get(name) if isinstance(of, Mapping) else getattr(of, name, None)

    spent = read(usage, "prompt_tokens"), read(usage, "completion_tokens")
    if spent == (None, None):
        spent = read(usage, "input_tokens"), read(usage, "output_tokens")
    details = read(usage, "prompt_tokens_details") or read(usage, "input_tokens_details")
    span.add_tokens(input=spent[0], output=spent[1], cached=read(details, "cached_tokens"))


def note_body(span: Span, chunk: bytes) -> None:
    """Take the usage out of a response body, or of the server-sent events in one chunk of a stream."""
    if len(chunk) > MAX_BYTES:
        return
    stream = chunk.lstrip().startswith((b"data:", b"event:", b":"))
    for line in reversed(chunk.splitlines() if stream else [chunk]):  # counts in a stream are cumulative: the last holds
        text = line.removeprefix(b"data:").strip()
        if b'"usage"' not in text:
            continue
        try:
            usage = _decode(text).usage
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(usage, Mapping):
            note_usage(span, usage)
            return
