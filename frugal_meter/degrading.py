"""What a smaller model must be good for to stand in, and how the reply says that it did."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

from .attribution.span import Span
from .errors import ConfigurationError
from .records import label

log = logging.getLogger("frugal_meter")
#: bytes of a request's body that are read to find its ``model``; a longer one passes untouched
MAX_BODY_BYTES: Final = 1 << 20


class Score(NamedTuple):
    """How good a model's answers are, 0…1, and by which metric that was found."""

    value: float
    metric: str | None


class Degrading:
    """Which model stands in for which, and how good each is said to be: the meter's settings of degrading."""

    def __init__(self, rewrite: Any, rewrite_limit: Any, qualities: Any) -> None:
        self.rewrite = _models(rewrite)
        if type(rewrite_limit) is not int or rewrite_limit < 0:
            raise ConfigurationError(f"rewrite_limit is a number of bytes, not {rewrite_limit!r}")
        self.limit_bytes = rewrite_limit
        self.scores: dict[str, Score] = {}
        self._told: set[tuple[str, float]] = set()
        if not isinstance(qualities or {}, Mapping):
            raise ConfigurationError(f'qualities maps models to scores, {{"small": 0.7}}, not {qualities!r}')
        for model, score in (qualities or {}).items():
            self.declare(model, score)

    def declare(self, model: str, score: float, metric: str | None = None) -> None:
        """Note how good ``model`` is; raises ConfigurationError for what is no score."""
        if not isinstance(model, str) or not model.strip():
            raise ConfigurationError(f"a quality is declared for a model by its name, not {model!r}")
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ConfigurationError(f"the quality of {model!r} is a score between 0 and 1, not {score!r}")
        self.scores[label(model) or ""] = Score(float(score), label(metric))

    def allows(self, span: Span, model: str, floor: float | None) -> bool:
        """Whether ``model`` may stand in for ``span``: good enough for the caller's ``floor`` and for that of its budgets.

        Without any floor every model may.
        """
        floors = [lease.book.budget.min_quality for each in _upwards(span) for lease in each.leases or ()]
        highest = max((each for each in (floor, *floors) if each is not None), default=None)
        return highest is None or self.reaches(model, highest)

    def reaches(self, model: str, floor: float) -> bool:
        """Whether ``model`` is said to be as good as ``floor``. One whose quality nobody declared is not; a no is logged once."""
        score = self.scores.get(model)
        if score is not None and score.value >= floor:
            return True
        if (model, floor) not in self._told and len(self._told) < 100:
            self._told.add((model, floor))
            known = "is not declared (meter.quality_of)" if score is None else f"is {score.value:g}"
            log.warning("frugal_meter: %r does not stand in: its quality %s, the floor is %g", model, known, floor)
        return False


def _models(rewrite: Any) -> dict[str, str]:
    if rewrite is None:
        return {}
    if not isinstance(rewrite, Mapping):
        raise ConfigurationError(f'rewrite maps models to smaller ones, {{"large": "small"}}, not {rewrite!r}')
    for large, small in rewrite.items():
        if not all(isinstance(each, str) and each.strip() for each in (large, small)) or large == small:
            raise ConfigurationError(f'rewrite maps a model to another one, {{"large": "small"}}, not {large!r} to {small!r}')
    return dict(rewrite)


def _upwards(span: Span | None) -> Iterator[Span]:
    while span is not None:
        yield span
        span = span.parent


def served(span: Span) -> tuple[str | None, str] | None:
    """``(requested, served)`` where a smaller model stands in for ``span`` or for a block inside it; else None."""
    if span.model_served is not None and span.model_served != span.model:
        return span.model, span.model_served
    return next((found for child in list((span.nested or {}).values()) if (found := served(child)) is not None), None)


def degraded(message: MutableMapping[str, Any], span: Span) -> MutableMapping[str, Any]:
    """A response's start with ``frugality-degraded: served="small", requested="large"`` (an RFC 9651 dictionary) added, if so."""
    models = served(span)
    if models is None:
        return message
    requested, small = models
    members = {"served": small, "requested": requested}
    text = ", ".join(f"{name}={_string(model)}" for name, model in members.items() if model is not None)
    return {**message, "headers": [*message.get("headers", ()), (b"frugality-degraded", text.encode())]}


def _string(text: str) -> str:
    """An RFC 9651 string; a display string (§3.3.8) where ASCII cannot hold it."""
    if text.isascii() and text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    octets = (chr(o) if 0x20 <= o < 0x7F and o not in b'%"' else f"%{o:02x}" for o in text.encode())
    return '%"' + "".join(octets) + '"'
