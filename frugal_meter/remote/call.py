"""A call to a model elsewhere: what was heard of it, and whose reading it is booked to when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..attribution.elsewhere import Elsewhere
from ..attribution.span import Span
from ..errors import ConfigurationError
from ..records import RemoteCall, label
from .contract import believed
from .estimate import Estimator, estimator
from .heard import Heard

MAX_NAME: Final = 128


class Call:
    """One call while it runs: to whom, and what was heard. ``metered``: its ``usage.frugal`` is believed."""

    __slots__ = ("_estimator", "_metered", "_model", "_provider", "heard")

    def __init__(self, provider: str, model: str, priced: Estimator, *, metered: bool) -> None:
        self._provider, self._model = label(provider) or "", label(model) or ""
        self._estimator, self._metered, self.heard = priced, metered, Heard()

    def finish(self, span: Span, wall_s: float) -> None:
        """Book its tokens and its cost to ``span``, which ends here, and to all around it."""
        span.is_call = True
        told, written, cached, flags = self.heard.counts()
        span.add_tokens(input=told, output=written, cached=cached)
        cost = RemoteCall(
            provider=self._provider, model=self._model, tokens_in=told, tokens_out=written, wall_s=wall_s, flags=flags
        )
        if self._metered and self.heard.frugal is not None:
            cost = believed(cost, self.heard.frugal)
        # What the callee itself counted comes before what somebody else supposes.
        book(span, cost if cost.energy_j is not None else self._estimator(cost))


def calls(provider: str, model: str, *, zone: str | None, like: str | None, metered: bool) -> Callable[[], Call]:
    """What makes the calls to one model. Raises MissingExtraError, ConfigurationError."""
    for name, value in (("provider", provider), ("model", model)):
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME:
            raise ConfigurationError(f'remote: {name} is a name such as "mistral-small", not {value!r:.200}')
    if like is not None and "/" not in like:
        raise ConfigurationError(f'remote: like is a provider and a model, such as "mistralai/mistral-small", not {like!r}')
    priced = estimator(provider, model, zone, like)
    return lambda: Call(provider, model, priced, metered=metered)


def book(span: Span, cost: RemoteCall) -> None:
    """Have ``span`` and all around it know of ``cost``; the outermost whose reading is not out yet pays for it."""
    payer, at = span, span
    while True:
        if not at.settled or at is span:
            if at.elsewhere is None:
                at.elsewhere = Elsewhere()
            at.elsewhere.add(cost)
            payer = at
        if at.parent is None:
            break
        at = at.parent
    if payer.pays is None:
        payer.pays = Elsewhere()
    payer.pays.add(cost)
