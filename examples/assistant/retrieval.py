"""The frugal tier: finds the text that answers, in well under a CPU-millisecond or two, and knows when it has none.

Character n-grams forgive typos and endings, words carry meaning; both are TF-IDF weighted and compared by cosine
(G. Salton, C. Buckley, Information Processing & Management 24, 1988). Fitted at start on the bundled corpus alone.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final, NamedTuple

from frugal_meter.errors import MissingExtraError

from .corpus import Corpus

MODEL_NAME: Final = "tfidf-valmont"
#: cosine under which the counter is given; set on the tuning questions of tests/test_demo.py, none of them held out
THRESHOLD: Final = 0.14


class Found(NamedTuple):
    """An answer, the cosine it was found with (0…1), and its entry's id: None when the counter is given."""

    text: str
    score: float
    id: str | None


class Retrieval:
    """Nearest corpus text by TF-IDF cosine. Read-only once built: threads may share it."""

    def __init__(self, corpus: Corpus) -> None:
        """Fit on ``corpus``. Raises ``MissingExtraError`` without scikit-learn."""
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ImportError:
            raise MissingExtraError("demo", "the retrieval tier of the assistant") from None
        self._corpus = corpus
        # The question counts twice: citizens' words are nearer to it than to the answer.
        texts = [f"{e.topic} {e.question} {e.question} {e.also} {e.answer}" for e in corpus.entry]
        self._stop = frozenset(corpus.stop.split())
        settings: dict[str, Any] = {"preprocessor": self._plain, "sublinear_tf": True}
        views = [
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **settings),
            TfidfVectorizer(analyzer="word", ngram_range=(1, 2), token_pattern=r"[a-z0-9]+", **settings),
        ]
        self._views: list[tuple[Any, Any]] = [(view, view.fit_transform(texts)) for view in views]

    def answer(self, question: str) -> Found:
        """The nearest text, or the human counter when nothing is near enough."""
        # Rows are of unit length, so a product is a cosine; the two views weigh the same.
        by_view = [(matrix @ view.transform([question]).T).toarray().ravel() for view, matrix in self._views]
        cosines = sum(by_view) / len(by_view)
        best = int(cosines.argmax())
        cosine = float(cosines[best])
        if cosine < THRESHOLD:
            return Found(self._corpus.counter, cosine, None)
        entry = self._corpus.entry[best]
        return Found(entry.answer, cosine, entry.id)

    def _plain(self, text: str) -> str:
        bare = unicodedata.normalize("NFKD", text.lower())
        words = re.findall(r"[a-z0-9]+", "".join(c for c in bare if not unicodedata.combining(c)))
        return " ".join(word for word in words if word not in self._stop)
