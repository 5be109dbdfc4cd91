"""What is studied: three ways of answering the same questions, the questions themselves, and who judges the answers.

Each application loads what it needs and no more: what starting costs, and what waits between questions, is its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.assistant.app import Question, create_app
from examples.assistant.corpus import Corpus, HeldOut, load_corpus, load_heldout
from examples.assistant.demo import SERVICE
from examples.assistant.language_model import LanguageModel
from examples.assistant.quality import is_right, normalise
from examples.assistant.tiers import MAX_QUESTION, Answer, Tiers
from frugal_meter import Meter, MeterMiddleware


def _meter() -> Meter:
    # One of twenty services of a town hall's machine: that part of its idle is this one's.
    return Meter(SERVICE, zone="FR", host_share=0.05, workers="single")


def generative() -> Starlette:
    """The assistant with its language model, which writes the answer from the passage that was found."""
    return create_app(_meter(), Tiers(LanguageModel()))


def retrieval() -> Starlette:
    """The assistant without a language model: the passage nearest to the question, by a small statistical model."""
    return create_app(_meter(), Tiers(None))


def keywords() -> Starlette:
    """No AI at all: the passage that shares most words with the question, as a site's search engine finds it."""
    meter, search = _meter(), Keywords()

    @meter.measure(model="keywords", unit="answer")
    def answer(question: str) -> Answer:
        return search.answer(question[:MAX_QUESTION])

    async def ask(request: Request) -> Response:
        asked = msgspec.json.decode(await request.body(), type=Question)
        return JSONResponse(msgspec.to_builtins(await run_in_threadpool(answer, asked.question)))

    app = Starlette(routes=[Route("/ask", ask, methods=["POST"])])
    app.add_middleware(MeterMiddleware, meter=meter)
    return app


class Keywords:
    """The words in common, rare ones first, as a site's search engine ranks pages; the counter's address where there are none."""

    def __init__(self) -> None:
        self.corpus = load_corpus()
        self._stop = set(self.corpus.stop.split())
        self._entries = [(e, self._words(f"{e.question} {e.also} {e.answer}")) for e in self.corpus.entry]
        self._found_in = Counter(word for _, words in self._entries for word in words)

    def _words(self, text: str) -> set[str]:
        # Six letters stand for a word and its endings.
        words = re.findall(r"\w+", normalise(text))
        return {word[:6] for word in words if word not in self._stop and len(word) > 1}

    def answer(self, question: str) -> Answer:
        """The passage that shares most with the question: the sum over words of log(passages / passages that have it)."""
        asked = self._words(question)
        weight, entry = max(((self._weight(asked & words), e) for e, words in self._entries), key=lambda each: each[0])
        if not weight:
            return Answer(self.corpus.counter, "keywords", None)
        return Answer(entry.answer, "keywords", entry.id)

    def _weight(self, shared: set[str]) -> float:
        return math.fsum(math.log(len(self._entries) / self._found_in[word]) for word in shared)


def questions(variant: str) -> list[dict[str, Any]]:
    """Every fifth held-out question, the same for every variant; ``expect`` is its place among them."""
    held = load_heldout()
    return [{"path": "/ask", "json": {"question": held[n].text}, "expect": n} for n in range(0, len(held), 5)]


@cache
def _texts() -> tuple[tuple[HeldOut, ...], Corpus]:
    return load_heldout(), load_corpus()


def right(request: dict[str, Any], answer: Any) -> float:
    """1 for a right answer, else 0, by the rule of ``examples/assistant/quality.py``."""
    held, corpus = _texts()
    return float(is_right(answer.json()["text"], held[request["expect"]], corpus))
