"""What a model's reply tells of its tokens: an OpenAI-shaped ``usage``, whole or as the last of a stream, else its pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: tokens of one call beyond which a ``usage`` is not believed: no model published so far writes a tenth of it in one reply
MOST_TOKENS: Final = 10_000_000
MALFORMED_FLAG: Final = "usage:malformed"
COUNTED_FLAG: Final = "tokens:counted"
ABSENT_FLAG: Final = "usage:absent"
CONTRADICTED_FLAG: Final = "usage:contradicted"
UNLISTED_FLAG: Final = "tokens:unlisted"
#: pieces that one token may come in: a server that resends by the byte parts few tokens, and none in more
_PIECES_A_TOKEN: Final = 2


class Heard:
    """What was heard of one call so far. Neither questions nor answers are kept: a usage, and how many pieces came."""

    __slots__ = ("pieces", "usage")

    def __init__(self) -> None:
        self.usage: Any = None
        self.pieces = 0

    def take(self, reply: Any) -> None:
        """A reply, or one piece of its stream: mapping or object."""
        # Responses API: the last event wraps the response that has the usage.
        usage = read(reply, "usage") or read(read(reply, "response"), "usage")
        if usage is not None:
            self.usage = usage  # counts in a stream are cumulative: the last holds
        if _has_text(reply):
            self.pieces += 1

    def counts(self) -> tuple[int | None, int | None, int | None, tuple[str, ...]]:
        """Tokens read, written and cached, and what to know of them; None for what is not told, or cannot be."""
        if self.usage is None:
            # Most servers send one token a piece; one that groups them is undercounted, hence the flag.
            return (None, self.pieces, None, (COUNTED_FLAG,)) if self.pieces else (None, None, None, (ABSENT_FLAG,))
        told = read(self.usage, "prompt_tokens"), read(self.usage, "completion_tokens")
        if told == (None, None):
            told = read(self.usage, "input_tokens"), read(self.usage, "output_tokens")
        details = read(self.usage, "prompt_tokens_details") or read(self.usage, "input_tokens_details")
        cached = read(details, "cached_tokens")
        lies = told == (None, None) or any(each is not None and not _is_count(each) for each in told)
        if lies:
            return None, None, None, (MALFORMED_FLAG,)
        cached = cached if _is_count(cached) and cached <= (told[0] or 0) else None
        written, flags = self._written(*told)
        return told[0], written, cached, flags

    def _written(self, asked: int | None, written: int | None) -> tuple[int | None, tuple[str, ...]]:
        """Tokens written, by whichever of usage, total and pieces tells most; and a flag where they do not agree."""
        if self.pieces > _PIECES_A_TOKEN * (written or 0):
            return self.pieces, (CONTRADICTED_FLAG,)
        total = read(self.usage, "total_tokens")
        if asked is not None and written is not None and _is_count(total) and total > asked + written:
            # Gemini and Grok leave a model's reasoning out of completion_tokens; it was computed all the same.
            return total - asked, (UNLISTED_FLAG,)
        return written, ()

    @property
    def frugal(self) -> Any:
        """What a callee that is metered by us says that the call cost; believed only where it was listed."""
        return read(self.usage, "frugal")


def read(of: Any, name: str) -> Any:
    """Member ``name`` of a mapping or an object; None when it has none."""
    return of.get(name) if isinstance(of, Mapping) else getattr(of, name, None)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_TOKENS


def _has_text(piece: Any) -> bool:
    """Whether a streamed piece carries part of an answer."""
    kind = read(piece, "type")
    if isinstance(kind, str) and kind.endswith(("output_text.delta", "content_block_delta")):
        return True
    choices = read(piece, "choices")
    if not isinstance(choices, list | tuple):
        return False
    return any(_speaks(read(each, "delta")) or (read(each, "message") is None and bool(read(each, "text"))) for each in choices)


def _speaks(delta: Any) -> bool:
    return any(bool(read(delta, name)) for name in ("content", "reasoning_content", "tool_calls", "refusal"))
