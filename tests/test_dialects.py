"""The last words of a cut stream, in the dialect of the stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from frugal_meter.dialects import Dialect, JsonLines, ServerSentEvents, dialect_of

PROBLEM = {"title": "Frugality budget exceeded", "detail_fr": "… « guichet » …"}
CHUNK = {
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "large",
    "choices": [{"index": 0, "delta": {"content": "Bon"}, "finish_reason": None}],
}  # fmt: skip


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def end_of(dialect: Dialect, *chunks: bytes) -> bytes:
    """The last words after ``chunks``."""
    for chunk in chunks:
        dialect.see(chunk)
    return dialect.last_words(PROBLEM)


@pytest.mark.parametrize(
    ("headers", "dialect"),
    [
        ([(b"content-type", b"text/event-stream")], ServerSentEvents),
        ([(b"Content-Type", b"Text/Event-Stream; charset=utf-8")], ServerSentEvents),
        ([(b"content-type", b"application/x-ndjson")], JsonLines),
        ([(b"content-type", b"application/jsonl")], JsonLines),
        ([(b"content-type", b"text/plain")], type(None)),
        ([], type(None)),
        ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], type(None)),
    ],
)
def test_the_dialect_is_the_one_that_the_headers_announce(headers: Any, dialect: type) -> None:
    assert type(dialect_of(headers)) is dialect


def test_a_chat_stream_ends_as_one_that_ran_out_of_length() -> None:
    last, done, rest = end_of(ServerSentEvents(), event({**CHUNK, "choices": []}), event(CHUNK)).split(b"\n\n")
    said = json.loads(last.removeprefix(b"data: "))
    assert {name: said[name] for name in ("id", "object", "created", "model")} == {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "large",
    }  # fmt: skip
    assert said["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert said["frugality"] == PROBLEM
    assert (done, rest) == (b"data: [DONE]", b"")


def test_a_completion_stream_ends_in_its_own_shape() -> None:
    chunk = {"id": "c", "object": "text_completion", "choices": [{"index": 3, "text": "Bon"}]}
    said = json.loads(end_of(ServerSentEvents(), event(chunk)).split(b"\n\n")[0].removeprefix(b"data: "))
    assert said["choices"] == [{"index": 3, "text": "", "finish_reason": "length"}]


def test_any_other_stream_of_events_ends_with_an_error_event() -> None:
    assert end_of(ServerSentEvents(), b"data: hello\n\n") == b"event: error\ndata: " + compact(PROBLEM) + b"\n\n"


def test_the_ends_of_lines_are_those_of_the_stream() -> None:
    assert end_of(ServerSentEvents(), b"data: hello\r\n\r\n").endswith(b"\r\n\r\n")


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "broken", [b'data: {"object": "chat.completion.chunk"\n\n', b"data: " + b"[" * 30_000 + b'chat_completion"\n\n']
)
def test_a_chunk_that_is_no_json_is_no_sample(broken: bytes) -> None:
    assert end_of(ServerSentEvents(), broken).startswith(b"event: error")


@pytest.mark.parametrize(
    ("before", "chunk", "kept"),
    [
        (b"data: a\n\n", b"data: b\n\n", 9), (b"data: a\n\n", b"data: b\n\ndata: c", 9), (b"data: a\n\n", b"data: b", 0),
        (b"data: a", b"bc", -1), (b"data: a", b"b\n\nda", 3), (b"data: a\n", b"\n", 1), (b"", b"data: a", 0),
        (b"data: a\r\n", b"\r\ndata", 2),
    ],
)  # fmt: skip
def test_no_event_is_left_half_said(before: bytes, chunk: bytes, kept: int) -> None:
    dialect = ServerSentEvents()
    dialect.see(before) if before else None
    assert dialect.until(chunk) == kept


def test_an_event_that_cannot_be_finished_is_ended_before_the_last_words() -> None:
    assert end_of(ServerSentEvents(), b"data: a").startswith(b"\n\nevent: error")


def test_a_stream_that_has_said_its_own_last_words_is_over() -> None:
    dialect = ServerSentEvents()
    dialect.see(event(CHUNK))
    assert not dialect.is_over
    dialect.see(b"data: [DONE]\n\n")
    assert dialect.is_over


def test_lines_of_json_end_with_a_line_that_says_why() -> None:
    dialect = JsonLines()
    assert json.loads(end_of(dialect, b'{"a": 1}\n')) == {"error": PROBLEM}
    assert dialect.until(b'{"b": 2}\n{"c"') == 9
    assert end_of(dialect, b'{"b"').startswith(b"\n{")
    assert dialect.until(b": 3") == -1


@pytest.mark.parametrize(("shape", "empty"), [("message", {"role": "assistant", "content": ""}), ("response", "")])
def test_a_stream_of_ollamas_ends_as_one_that_ran_out_of_length(shape: str, empty: Any) -> None:
    dialect = JsonLines()
    said = json.loads(end_of(dialect, json.dumps({"model": "large", shape: "Bon", "done": False}).encode() + b"\n"))
    assert said == {"model": "large", shape: empty, "done": True, "done_reason": "length", "frugality": PROBLEM}
    assert not dialect.is_over
    dialect.see(b'{"done": true}\n')
    assert dialect.is_over
