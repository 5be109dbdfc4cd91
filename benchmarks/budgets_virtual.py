"""200 requests on a virtual clock: what a policy admits, spends and wastes, the same at every run.

A request draws `WATTS` until it has used its cost, metered every `STEP_S`. One token stands for a millijoule: budgets count
integers of whatever they count.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from limits import RateLimitItemPerDay
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from frugal_meter import Budget, Meter
from frugal_meter.budgets.sizes import told as size_class
from frugal_meter.testing import FrozenClock, SyntheticSource

LIMIT, MEAN, REQUESTS = 500_000, 10_000, 200  # mJ
WATTS, STEP_S, TICK_S = 5.0, 0.1, 0.5
TOKEN = 10  # mJ for each token of the input, where cost follows size
STEP = round(WATTS * STEP_S * 1000)  # mJ


class Run(NamedTuple):
    """One run: what was used beyond the limit (a part of it; negative: left), requests completed, and joules lost in cut ones."""

    over: float
    completed: int
    wasted_j: float


def costs(seed: int, sigma: float, many: int = REQUESTS) -> list[int]:
    """Lognormal costs of mean `MEAN`, mJ."""
    draw = random.Random(f"{seed} {sigma}")
    scale = MEAN / 2.718281828459045 ** (sigma**2 / 2)
    return [max(1, round(scale * 2.718281828459045 ** draw.gauss(0, sigma))) for _ in range(many)]


def inputs(seed: int, wanted: list[int]) -> list[int]:
    """How large the input of each request is, in tokens, where the cost follows the size: within 20 % (lognormal) of it."""
    draw = random.Random(f"{seed} inputs")
    return [max(1, round(cost / TOKEN * 2.718281828459045 ** draw.gauss(0, 0.2))) for cost in wanted]


class PostDebit:
    """What limits offers: ask whether there is anything left, run, and debit what it was."""

    def __init__(self) -> None:
        self._limiter, self._item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerDay(LIMIT)

    def admit(self, cost: int, size: int | None) -> object | None:
        return object() if self._limiter.test(self._item, "service") else None

    def spend(self, request: object, amount: int) -> bool:
        return True

    def end(self, request: object, used: int) -> None:
        self._limiter.hit(self._item, "service", cost=used)

    def advance(self, seconds: float) -> None:
        pass

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


class Ours:
    """A meter. ``known`` tells it each cost, ``told`` the mean, ``learnt`` what as many requests of the day before had used, and
    ``sizes`` how large these were: it is then told the size of each.
    """

    def __init__(
        self,
        *,
        hard: bool = False,
        known: bool = False,
        told: bool = False,
        learnt: Sequence[int] = (),
        sizes: Sequence[int] = (),
    ) -> None:
        self._clock, self._known, self._sized = FrozenClock(), known, bool(sizes)
        estimate = f"{MEAN} tokens" if told else None
        budget = Budget("day", f"{LIMIT} tokens", per="day", degrade_at=None, hard=hard, estimate=estimate)
        self._meter = Meter(
            "bench", zone="FR", sources=SyntheticSource(0, 1), budgets=[budget], clock=self._clock, tick=60, workers="single"
        )
        self._meter.start()
        for used, size in zip_longest(learnt, sizes):
            self._meter.admission.estimator["day"].learn((None, None), used, None if size is None else size_class(size))

    def admit(self, cost: int, size: int | None) -> object | None:
        span = self._meter.open_span("block")
        span.size = size_class(size) if self._sized else None
        span.estimates = {"tokens": cost} if self._known else None
        self._meter.decide(span)
        if span.refusal is None:
            return span
        span.outcome = "refused"
        self._meter.close_span(span)
        return None

    def spend(self, span, amount: int) -> bool:
        span.add_tokens(output=amount)
        self._meter.top_up(span)
        return span.cut is None

    def end(self, span, used: int) -> None:
        self._meter.close_span(span)

    def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    def tick(self) -> None:
        self._meter.settle()

    def close(self) -> None:
        self._meter.stop()
        assert not self._meter.errors, self._meter.errors


def live(policy: PostDebit | Ours, wanted: list[int], in_flight: int, sizes: Sequence[int] = ()) -> Run:
    """All requests, at most ``in_flight`` at once; who is refused does not come back."""
    coming, running = deque(zip_longest(wanted, sizes)), []
    spent = completed = wasted = steps = 0
    try:
        while coming or running:
            while coming and len(running) < in_flight:
                cost, size = coming.popleft()
                request = policy.admit(cost, size)
                if request is not None:
                    running.append([request, cost, 0])
            policy.advance(STEP_S)
            for one in list(running):
                request, cost, used = one
                amount = min(STEP, cost - used)
                one[2] = used = used + amount
                spent += amount
                goes_on = policy.spend(request, amount)
                if used < cost and goes_on:
                    continue
                policy.end(request, used)
                running.remove(one)
                completed += used >= cost
                wasted += used if used < cost else 0
            steps += 1
            if steps % round(TICK_S / STEP_S) == 0:
                policy.tick()
    finally:
        policy.close()
    return Run(spent / LIMIT - 1, completed, wasted / 1000)


#: name → how to make it, from a seed and a σ. Only the first of ours looks ahead
POLICIES = {
    "`limits`, debit afterwards": lambda seed, sigma: PostDebit(),
    "ours, true cost known": lambda seed, sigma: Ours(known=True),
    "ours, p90 learnt the day before": lambda seed, sigma: Ours(learnt=costs(seed + 10_000, sigma)),
    "ours, mean told": lambda seed, sigma: Ours(told=True),
    "ours, mean told, hard": lambda seed, sigma: Ours(told=True, hard=True),
    "ours, nothing known": lambda seed, sigma: Ours(),
    "ours, nothing known, hard": lambda seed, sigma: Ours(hard=True),
}


def _day_before(seed: int, sigma: float, *, sized: bool) -> Ours:
    learnt = costs(seed + 10_000, sigma)
    return Ours(learnt=learnt, sizes=inputs(seed + 10_000, learnt) if sized else ())


#: the same where the cost follows the size of the input: both have learnt from as many requests of the day before
BY_SIZE = {
    "ours, p90 of all": lambda seed, sigma: _day_before(seed, sigma, sized=False),
    "ours, p90 of its size": lambda seed, sigma: _day_before(seed, sigma, sized=True),
}
