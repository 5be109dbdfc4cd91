"""GPUs: one tick's use of each, split over the sections that held it.

A section with a weight of its own (other than 1) counts weight × time. Sections without one count their time, and
what those of them whose spans told tokens hold together is dealt out among these by work, ``a·(input − cached) +
b·output``: output tokens alone would let a long prompt ride free. So spans whose tokens are not known pay by time, and
never for or against the tokens of others.

Tokens often come when the work is done. A tick bills what it knows then, by time, and **the past is never priced
anew**: tokens told later are taken as made evenly over the time held since the span last told any, and the part of
them that falls on ticks already billed is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ..errors import ConfigurationError
from ..sources import Sample, Source
from .pools import GPU, UNWEIGHTED
from .shares import Part
from .span import Span
from .split import Divider, split

#: work is counted in millionths of an input token, so that shares stay exact
_WORK_UNIT: Final = 1_000_000
#: flags of a span's GPU share, as bits of `Account.gpu_notes`
SHARED_UNKNOWN, DEFAULT_WEIGHTS, DECLARED_WEIGHTS, BY_TIME = 1, 2, 4, 8
FLAGS: Final = {
    SHARED_UNKNOWN: "gpu:shared-unknown",
    DEFAULT_WEIGHTS: "gpu-weights:default",
    DECLARED_WEIGHTS: "gpu-weights:declared",
    BY_TIME: "gpu:by-time",
}

Use = Mapping[str, Mapping[int, int]]


class TokenWeights(NamedTuple):
    """What an input token (``a``) and an output token (``b``) of a model cost, relative to each other, and who says so.

    ``low`` and ``high`` are other values of ``b ÷ a`` that are as likely: they enter the bounds of energy.
    """

    a: float
    b: float
    source: str
    low: float
    high: float

    @property
    def ratios(self) -> tuple[tuple[float, float], ...]:
        """``(a, b)`` as stated, and at both ends."""
        return (self.a, self.b), (self.a, self.a * self.low), (self.a, self.a * self.high)


#: prompt tokens are read many at a time and answers written one by one; published ratios run from 5 to 20 in one
#: engine, and from 1 (a saturated batch) to 30 (one user alone). *Expert assumption*
DEFAULT: Final = TokenWeights(1.0, 10.0, "expert assumption", 1.0, 30.0)


def declared_weights(a: float, b: float, source: str) -> TokenWeights:
    """Weights of one model, checked; raises ConfigurationError. A stated ratio has no spread of its own."""
    for name, weight in (("a", a), ("b", b)):
        numeric = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not numeric or not 1e-3 <= weight <= 1e6:
            raise ConfigurationError(f"token weight {name}={weight!r} cannot be: it is a number from 0.001 to 1000000")
    if not isinstance(source, str) or not source.strip():
        raise ConfigurationError('token weights need source="…": where they were measured or published')
    return TokenWeights(float(a), float(b), source, b / a, b / a)


class Told:
    """Tokens of a running span that have been billed, and the time it has held a GPU since it last told any."""

    __slots__ = ("billed", "waited")

    def __init__(self) -> None:
        self.billed = (0, 0)  # input − cached, output
        self.waited = 0


class _Work(NamedTuple):
    """Tokens told since the last tick by a span that held GPUs for ``held`` of the ``over`` they were made in."""

    fresh: tuple[int, int]
    held: int
    over: int
    weights: TokenWeights
    declared: bool

    def amounts(self, held: int) -> list[int]:
        """Work done while ``held`` (of one GPU) in this tick, as stated and at both ends of the ratio."""
        tokens = [a * self.fresh[0] + b * self.fresh[1] for a, b in self.weights.ratios]
        return [max(1, round(each * _WORK_UNIT) * held // self.over) for each in tokens]


def can_be(sample: Sample) -> bool:
    """Whether what a sample tells of a GPU's use can be true."""
    busy_ns, own = sample.busy_ns, sample.own_share
    return (busy_ns is None or (type(busy_ns) is int and busy_ns >= 0)) and (own is None or 0 <= own <= 1)


class Held:
    """The weights of one GPU over one tick: span key → integer; ``low`` and ``high`` bound those that tokens dealt out."""

    __slots__ = ("high", "low", "notes", "total", "weight")

    def __init__(self) -> None:
        self.weight: dict[int, int] = {}
        self.low: dict[int, int] = {}
        self.high: dict[int, int] = {}
        self.notes: dict[int, int] = {}
        self.total = 0

    def add(self, key: int, weight: int, low: int, high: int, note: int) -> None:
        """Add to what ``key`` holds."""
        for of, more in ((self.weight, weight), (self.low, low), (self.high, high)):
            of[key] = of.get(key, 0) + more
        self.notes[key] = self.notes.get(key, 0) | note
        self.total += weight


class GpuShare:
    """One GPU of a ledger: whose its dynamic energy and its busy time of a tick are."""

    __slots__ = ("busy", "held", "names", "note", "own_nj", "scope")

    def __init__(self, names: Iterable[str], scope: str) -> None:
        self.names, self.scope = tuple(names), scope
        self.held = Held()

    def open(self, sample: Sample, dynamic_nj: int) -> int:
        """Part the tick's dynamic energy into this process's (kept in ``own_nj``) and others'; returns Σ weights."""
        own = sample.own_share
        self.note = SHARED_UNKNOWN if own is None and self.scope != "process" else 0
        own = 1.0 if own is None else own
        self.own_nj = min(dynamic_nj, round(dynamic_nj * own))
        self.busy = Divider(round((sample.busy_ns or 0) * own), self.held.total)
        return self.held.total

    def open_part(self, part: Part) -> int:
        """The same where the records of all workers say what is this process's; returns Σ weights."""
        self.note = SHARED_UNKNOWN if part.untold else 0
        self.own_nj = part.mine_nj
        self.busy = Divider(part.busy_ns, self.held.total)
        return self.held.total

    def take(self, spans: Sequence[Span]) -> list[int]:
        """The weights of a chunk of spans, whose busy time is billed on the way."""
        weight = self.held.weight
        weights = [weight.get(span.key, 0) for span in spans] if weight else [0] * len(spans)
        for span, ns in zip(spans, self.busy.take(weights), strict=True) if self.busy.total else ():
            if span.account is not None:
                span.account.gpu_ns += ns
        return weights

    def bound(self, spans: Sequence[Span], low: float, high: float) -> None:
        """Add the bounds of the chunk's shares, at ``low`` and ``high`` nanojoules per weight, and what to know of them."""
        held = self.held
        for span in spans:
            account = span.account
            if account is not None and span.key in held.weight:
                account.low_nj += held.low[span.key] * low
                account.high_nj += held.high[span.key] * high
                if high:
                    account.gpu_notes |= held.notes[span.key] | self.note


class Gpus:
    """The GPUs of a ledger, and the tokens that its running spans have told."""

    def __init__(self, sources: Sequence[Source]) -> None:
        gpus = [source for source in sources if source.component == "gpu"]
        self.shares = {
            source.name: GpuShare((GPU, f"{GPU}:{place}", *_covered(source)), source.scope) for place, source in enumerate(gpus)
        }
        self.weights: dict[str, TokenWeights] = {}
        self._told: dict[int, Told] = {}

    def hold(self, use: Use, live: Sequence[Span], finished: Sequence[Span]) -> bool:
        """Weigh one tick's sections (pool → span key → weight × time); False when no GPU was held by anybody."""
        pools = {name for share in self.shares.values() for name in share.names}
        loose = {pool: use[pool + UNWEIGHTED] for pool in pools if pool + UNWEIGHTED in use}
        work = self._work(_sum(loose.values()), live, finished)
        for share in self.shares.values():
            held = share.held = Held()
            for key, weight in _sum(use[pool] for pool in share.names if pool in use).items():
                held.add(key, weight, weight, weight, 0)
            _deal(held, _sum(loose[pool] for pool in share.names if pool in loose), work)
        return any(share.held.total for share in self.shares.values())

    def held_ns(self, by_pool: Mapping[str, int]) -> dict[str, int]:
        """Time that sections held each board, by what it covers ("gpu:GPU-3f…"), out of that of the pools."""
        held = {share.names[-1]: sum(by_pool.get(name, 0) for name in set(share.names)) for share in self.shares.values()}
        return {name: ns for name, ns in held.items() if ns}

    def weights_of(self, span: Span) -> tuple[TokenWeights, bool]:
        """The weights of the model that served ``span``, and whether somebody stated them."""
        stated = self.weights.get(span.model_served or span.model or "")
        return (DEFAULT, False) if stated is None else (stated, True)

    def _work(self, held: Mapping[int, int], live: Sequence[Span], finished: Sequence[Span]) -> dict[int, _Work]:
        if not held and not self._told:
            return {}
        work, before, self._told = {}, self._told, {}
        concerned = held.keys() | before.keys()
        for spans, running in ((live, True), (finished, False)):
            for span in [each for each in spans if each.key in concerned]:
                told = before.get(span.key) or Told()
                if (fresh := self._fresh(span, told, held.get(span.key, 0))) is not None:
                    work[span.key] = fresh
                if running:
                    self._told[span.key] = told
        return work

    def _fresh(self, span: Span, told: Told, held: int) -> _Work | None:
        now = max(0, (span.tokens_in or 0) - (span.tokens_cached or 0)), span.tokens_out or 0
        fresh = max(0, now[0] - told.billed[0]), max(0, now[1] - told.billed[1])
        over = told.waited + held
        if not any(fresh):
            told.waited = over
            return None
        told.billed, told.waited = now, 0
        return _Work(fresh, held, over, *self.weights_of(span)) if held else None

    def after_fork_in_child(self) -> None:
        """The parent's spans are the parent's."""
        self._told = {}


def _deal(held: Held, loose: Mapping[int, int], work: Mapping[int, _Work]) -> None:
    """Deal the time of spans that told tokens out among them by work; the others keep theirs."""
    known = [key for key in loose if key in work]
    by_time = BY_TIME if len(loose.keys() | held.weight.keys()) > 1 else 0
    for key, time in loose.items():
        if key not in work:
            held.add(key, time, time, time, by_time)
    if not known:
        return
    total = sum(loose[key] for key in known)
    ways = [split(total, way) for way in zip(*(work[key].amounts(loose[key]) for key in known), strict=True)]
    for key, ends in zip(known, zip(*ways, strict=True), strict=True):
        # A ratio that could not have moved the share is nothing to warn of.
        moved = len(known) > 1
        note = (DECLARED_WEIGHTS if work[key].declared else DEFAULT_WEIGHTS) if moved else 0
        held.add(key, ends[0], min(ends), max(ends), note)


def _covered(source: Source) -> tuple[str, ...]:
    """The names of a GPU by what it covers: ``gpu:GPU-3f…``, the UUID that nvidia-smi shows."""
    return tuple(cover for cover in source.covers if cover.startswith(f"{GPU}:"))


def _sum(parts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for part in parts:
        for key, amount in part.items():
            total[key] = total.get(key, 0) + amount
    return total


def notes_as_flags(notes: int) -> tuple[str, ...]:
    """The flags of a span's GPU share."""
    return tuple(flag for bit, flag in FLAGS.items() if notes & bit)
