"""The two answerers behind one shape: a small language model, and the retrieval it falls back to."""

from __future__ import annotations

from typing import Final

import msgspec

from . import language_model, retrieval
from .corpus import Corpus, load_corpus
from .language_model import Generation, LanguageModel
from .retrieval import Retrieval

GENERATIVE: Final = language_model.MODEL_NAME
RETRIEVAL: Final = retrieval.MODEL_NAME
COUNTER: Final = "human-counter"
#: characters of a citizen's question that are read; more would not fit the language model's context
MAX_QUESTION: Final = 300


class Answer(msgspec.Struct, frozen=True):
    """What the citizen reads, the model that wrote it, and the entry it rests on (None: the human counter)."""

    text: str
    model: str
    entry: str | None
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None


class Tiers:
    """Both answerers, loaded once. ``language_model`` is None where it cannot be had."""

    def __init__(self, model: LanguageModel | None) -> None:
        self.corpus: Corpus = load_corpus()
        self.retrieval = Retrieval(self.corpus)
        self.language_model = model

    @property
    def dearest(self) -> str:
        """The name of the best model there is here."""
        return GENERATIVE if self.language_model else RETRIEVAL

    def retrieve(self, question: str) -> Answer:
        """The corpus text nearest to ``question``, word for word."""
        found = self.retrieval.answer(question[:MAX_QUESTION])
        return Answer(found.text, RETRIEVAL, found.id)

    def generate(self, question: str) -> Answer:
        """A sentence written by the language model from the retrieved passage.

        The counter's address is never left to a model to write: without a passage it is given as it is.
        """
        question = question[:MAX_QUESTION]
        found = self.retrieval.answer(question)
        if found.id is None or self.language_model is None:
            return Answer(found.text, RETRIEVAL, found.id)
        done = self.language_model.answer(question, found.text)
        return Answer(done.text, GENERATIVE, found.id, done.tokens_in, done.tokens_out, done.tokens_cached)

    def stream(self, question: str) -> tuple[Generation | None, Answer]:
        """A generation to iterate, and what to say where there is none to be had."""
        question = question[:MAX_QUESTION]
        found = self.retrieval.answer(question)
        plain = Answer(found.text, RETRIEVAL, found.id)
        if found.id is None or self.language_model is None:
            return None, plain
        return self.language_model.generate(question, found.text), plain
