"""The last words of a stream that a hard budget cuts, in the dialect that its reader understands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from .usage import MAX_BYTES

_SSE: Final = b"text/event-stream"
_LINES: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines")
#: members of an OpenAI-shaped chunk that its last one repeats (API reference, "The chat completion chunk object")
_CHUNK: Final = ("id", "object", "created", "model", "system_fingerprint")


class Dialect(Protocol):
    """How a stream is written. It sees every chunk that goes out."""

    def see(self, chunk: bytes) -> None:
        """Take note of a chunk."""

    @property
    def is_over(self) -> bool:
        """Whether the stream has said its own last words."""

    def until(self, chunk: bytes) -> int:
        """How many bytes of ``chunk`` may go out so that no event is left half said; -1 when that cannot be had."""

    def last_words(self, problem: Mapping[str, Any]) -> bytes:
        """What ends the stream and says why: ``problem`` is the problem document (RFC 9457)."""


def dialect_of(headers: Iterable[tuple[bytes, bytes]]) -> Dialect | None:
    """The dialect that a response's headers announce; None for one that has no way to say why it ends, or is compressed."""
    named = {name.lower(): value.lower() for name, value in headers}
    if named.get(b"content-encoding", b"identity") != b"identity":
        return None
    kind = named.get(b"content-type", b"").partition(b";")[0].strip()
    return ServerSentEvents() if kind == _SSE else JsonLines() if kind in _LINES else None


class ServerSentEvents:
    """``text/event-stream``: an OpenAI-shaped one ends as such streams end, any other one with an ``error`` event."""

    def __init__(self) -> None:
        self._newline = b"\n"
        self._sample = self._tail = b""
        self._clean = True
        self.is_over = False

    def see(self, chunk: bytes) -> None:
        """Keep the latest chunk of a completion, and how lines end."""
        if b"\r\n" in chunk:
            self._newline = b"\r\n"
        if b'_completion"' in chunk or b'chat.completion.chunk"' in chunk:
            self._sample = chunk[:MAX_BYTES]
        self._clean = self._end(chunk) == len(chunk)
        self._tail = (self._tail + chunk)[-3:]  # the blank line that ends an event may come in pieces
        self.is_over = b"data: [DONE]" in chunk or b"data:[DONE]" in chunk

    def until(self, chunk: bytes) -> int:
        """Up to the end of the last whole event."""
        end = self._end(chunk)
        return end if end or self._clean else -1

    def _end(self, chunk: bytes) -> int:
        text = self._tail + chunk
        ends = (text.rfind(mark) + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if mark in text)
        return max(0, max(ends, default=0) - len(self._tail))

    def last_words(self, problem: Mapping[str, Any]) -> bytes:
        """The last event or events."""
        chunk = _chunk(self._sample)
        if chunk is None:
            lines = [b"event: error", b"data: " + msgspec.json.encode(problem), b"", b""]
        else:
            last = {name: chunk[name] for name in _CHUNK if name in chunk} | {"choices": _choices(chunk), "frugality": problem}
            lines = [b"data: " + msgspec.json.encode(last), b"", b"data: [DONE]", b"", b""]
        return (b"" if self._clean else self._newline * 2) + self._newline.join(lines)


def _chunk(sample: bytes) -> dict[str, Any] | None:
    """The latest OpenAI-shaped chunk among the events of ``sample``."""
    for line in reversed(sample.splitlines()):
        try:
            found = msgspec.json.decode(line.removeprefix(b"data:").strip())
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("object") in ("chat.completion.chunk", "text_completion"):
            return found
    return None


def _choices(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One closing choice for each that ``chunk`` has: "length" is what clients know for an answer that was not finished."""
    empty: dict[str, Any] = {"delta": {}} if chunk["object"] == "chat.completion.chunk" else {"text": ""}
    given = chunk.get("choices")
    indexes = [c.get("index", 0) for c in given if isinstance(c, dict)] if isinstance(given, list) else []
    return [{"index": index, **empty, "finish_reason": "length"} for index in indexes or [0]]


class JsonLines:
    """One JSON value a line: one of Ollama's streams ends as such streams end, any other one with an ``error`` line."""

    def __init__(self) -> None:
        self._sample = b""
        self._clean = True
        self.is_over = False

    def see(self, chunk: bytes) -> None:
        """Keep the latest chunk that says whether it is done."""
        if b'"done"' in chunk:
            self._sample = chunk[:MAX_BYTES]
        self._clean = chunk.endswith(b"\n")
        self.is_over = b'"done":true' in chunk.replace(b" ", b"")[:MAX_BYTES]

    def until(self, chunk: bytes) -> int:
        """Up to the end of the last whole line."""
        end = chunk.rfind(b"\n") + 1
        return end if end or self._clean else -1

    def last_words(self, problem: Mapping[str, Any]) -> bytes:
        """The last line."""
        last: dict[str, Any] = {"error": problem}
        for line in reversed(self._sample.splitlines()):
            try:
                found = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError):
                continue
            if isinstance(found, dict) and found.get("done") is False:
                kept = {name: found[name] for name in ("model", "created_at") if name in found}
                empty = {"response": ""} if "response" in found else {"message": {"role": "assistant", "content": ""}}
                last = {**kept, **empty, "done": True, "done_reason": "length", "frugality": problem}
                break
        return (b"" if self._clean else b"\n") + msgspec.json.encode(last) + b"\n"
