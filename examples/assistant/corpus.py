"""The texts: what the assistant may say, and the questions kept apart to score it.

Both files are TOML beside this module. Everything in them was written for the demonstration; the commune is fictitious.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

_HERE: Final = Path(__file__).parent


class Entry(msgspec.Struct, frozen=True):
    """One question and its answer, in French; ``also``: the words citizens use instead of the administration's."""

    id: str
    topic: str
    question: str
    also: str
    answer: str


class HeldOut(msgspec.Struct, frozen=True):
    """A question as a citizen writes it.

    ``entry`` is the id of the text that answers it, or "" when none does and the right answer is the human counter;
    ``facts`` are regular expressions over normalised text (see ``quality.normalise``).
    """

    text: str
    entry: str
    facts: tuple[str, ...]


class Corpus(msgspec.Struct, frozen=True):
    """The whole of what the service knows, ``counter``: what it says when it does not know, ``stop``: words without weight."""

    commune: str
    counter: str
    stop: str
    entry: tuple[Entry, ...]

    def by_id(self) -> dict[str, Entry]:
        """Entries by id."""
        return {e.id: e for e in self.entry}


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_HERE / name).read_text(encoding="utf-8"))


def load_corpus() -> Corpus:
    """The bundled corpus; ``msgspec.ValidationError`` names the entry and field that is wrong."""
    return msgspec.convert(_read("corpus.toml"), Corpus)


def load_heldout() -> tuple[HeldOut, ...]:
    """The held-out questions, in file order."""
    return msgspec.convert(_read("heldout.toml")["question"], tuple[HeldOut, ...])
