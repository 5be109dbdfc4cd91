"""One rule of quality for every answerer.

An answer is *right* when, after normalisation, it holds every expected fact of the question and no figure that
neither the right text nor the question holds. The second half is what catches a fluent model that invents a price.
The rule cannot see a wrong sentence without figures: it is a floor under error, not a proof of truth.
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

import msgspec

from .corpus import Corpus, HeldOut

METRIC: Final = "key-facts/1"
#: two-sided 95 % normal quantile
_Z95: Final = 1.959964
_FIGURE: Final = re.compile(r"\d+(?:[.,]\d+)?")


class Score(msgspec.Struct, frozen=True):
    """``right`` answers of ``n`` and the Wilson 95 % interval of their share, 0…1."""

    right: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """Right answers over all; None when nothing was asked."""
        return self.right / self.n if self.n else None


def normalise(text: str) -> str:
    """Lower case, accents off, one kind of apostrophe and space, "18h45" and "18 h 45" alike, "3 000" as 3000."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"(\d)\s*h\s*(?=\d)", r"\1 h ", plain)
    plain = re.sub(r"(\d)\s*h\b", r"\1 h", plain)
    plain = re.sub(r"(?<=\d)\s(?=\d{3}\b)", "", plain)
    return re.sub(r"\s+", " ", plain).strip()


def is_right(answer: str, question: HeldOut, corpus: Corpus) -> bool:
    """Whether ``answer`` is right under the rule of this module."""
    said = normalise(answer)
    if not all(re.search(fact, said) for fact in question.facts):
        return False
    source = corpus.by_id()[question.entry].answer if question.entry else corpus.counter
    allowed = set(_FIGURE.findall(normalise(source))) | set(_FIGURE.findall(normalise(question.text)))
    return set(_FIGURE.findall(said)) <= allowed


def score(right: Sequence[bool]) -> Score:
    """The share of right answers with its interval.

    Wilson score interval without continuity correction (E. B. Wilson, JASA 22, 1927); (0, 1) when nothing was asked.
    """
    n, k = len(right), sum(right)
    if n == 0:
        return Score(0, 0, 0.0, 1.0)
    p, z2 = k / n, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Score(k, n, max(0.0, centre - half), min(1.0, centre + half))


def shuffled_answers(questions: Sequence[HeldOut], corpus: Corpus, seed: int = 2024) -> list[str]:
    """For each question the answer of *another* entry: the floor that any answerer must beat."""
    chance = random.Random(seed)
    return [chance.choice([e.answer for e in corpus.entry if e.id != q.entry]) for q in questions]
