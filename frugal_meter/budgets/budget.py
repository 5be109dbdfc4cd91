"""`Budget`: what a service may spend, on what, over which window."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from ..errors import ConfigurationError, UnitError, UnknownBudgetKeyError
from ..records import TIERS, Tier
from ..units import Quantity, Resource, parse_quantity
from .windows import PERIODS, Per, sliding_at, window_at, zone

KEYS: Final = ("route", "model", "tenant")
#: a default above the ``degrade_at`` that was given never warns, and is no mistake of anybody's
WARN_AT: Final = 0.7
Key = str | tuple[str, ...] | None
Match = str | Mapping[str, str | Collection[str]] | None


class Budget:
    """A limit on what requests may use, ``Budget("chat", "50 kJ", per="day", degrade_at=0.8)``.

    limit: a quantity with a unit: "50 kJ", "3 Wh", "20 gCO2e", "120 CPU-s", "40000 tokens", "1000 requests".
    per: minute, hour, day, week or month, on the clock of ``timezone``; with ``sliding`` the last minute … 30 days instead.
    key: None (one budget for the service), or "route", "model", "tenant" or a tuple of them (one budget each).
    match: which requests count: a route pattern ("/letters/*"), or {"route": …, "model": …, "tenant": …}.
    estimate: what one request is taken to need before any has been seen, a quantity of the same kind; without it
        1 % of the limit (1 for requests). Afterwards the running 90th percentile of its route and model.
    max_fraction: no single request reserves more than this share of the limit at first; if it needs more it asks again.
    warn_at, degrade_at, throttle_at: shares of the limit, settled and reserved together, at which the ladder steps up.
    throttle_wait: how long a throttled request waits for its turn, seconds, before it is refused.
    max_in_flight: at most so many at once, a second guard.
    hard: a stream that outgrows what is left is cut; else what runs may finish, and what it took is recorded.
    enforce: False only watches (shadow mode). require_tier: weaker joules warn and degrade, never refuse.
    basis: "dynamic" debits what the request used, "full" also its part of the idle machine.
    scope: "cluster" is one budget for all instances, "instance" one for each host or pod.

    Raises ConfigurationError (UnitError, UnknownBudgetKeyError) in one line for anything that cannot mean anything.
    """

    def __init__(
        self,
        name: str,
        limit: str,
        *,
        per: Per,
        key: Key = None,
        match: Match = None,
        estimate: str | None = None,
        warn_at: float = WARN_AT,
        degrade_at: float | None = 0.8,
        throttle_at: float | None = None,
        throttle_wait: float = 10.0,
        max_fraction: float = 1.0,
        max_in_flight: int | None = None,
        hard: bool = False,
        enforce: bool = True,
        require_tier: Tier | None = None,
        basis: Literal["dynamic", "full"] = "dynamic",
        timezone: str = "Europe/Paris",
        sliding: bool = False,
        scope: Literal["cluster", "instance"] = "cluster",
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"a budget needs a name, not {name!r}")
        self.name = name
        self.limit: Quantity = _quantity(name, "limit", limit)
        self.per = _one_of(name, "per", per, PERIODS)
        self.key = _keys(name, key)
        self.match = _match(name, match)
        self.estimate = self._estimate(estimate)
        self.warn_at = _share(name, "warn_at", warn_at)
        self.degrade_at = None if degrade_at is None else _share(name, "degrade_at", degrade_at)
        if self.degrade_at is not None and self.warn_at > self.degrade_at and warn_at != WARN_AT:
            raise ConfigurationError(
                f"budget {name!r}: warn_at={warn_at!r} is above degrade_at={degrade_at!r}: it would never warn"
            )
        self.throttle_at = None if throttle_at is None else _share(name, "throttle_at", throttle_at)
        if self.throttle_at is not None and self.throttle_at < (self.degrade_at or 0.0):
            raise ConfigurationError(
                f"budget {name!r}: throttle_at={throttle_at!r} is below degrade_at={degrade_at!r}: it would never only degrade"
            )
        self.throttle_wait = _seconds(name, "throttle_wait", throttle_wait)
        self.max_fraction = _share(name, "max_fraction", max_fraction)
        self.hard = _one_of(name, "hard", hard, (True, False))
        if max_in_flight is not None and (type(max_in_flight) is not int or max_in_flight < 1):
            raise ConfigurationError(f"budget {name!r}: max_in_flight is a whole number of at least 1, not {max_in_flight!r}")
        self.max_in_flight = max_in_flight
        self.enforce = _one_of(name, "enforce", enforce, (True, False))
        self.require_tier = None if require_tier is None else _one_of(name, "require_tier", require_tier, TIERS)
        self.basis = _one_of(name, "basis", basis, ("dynamic", "full"))
        self.timezone = timezone
        self.zone = zone(timezone)
        self.sliding = _one_of(name, "sliding", sliding, (True, False))
        self.scope = _one_of(name, "scope", scope, ("cluster", "instance"))
        self.first_step = min(self.warn_at, self.degrade_at or 1.0, self.throttle_at or 1.0)

    def window(self, at_s: float) -> tuple[int, int, int]:
        """``(start, end, until)``, Unix seconds: the window (sliding: sub-window) that is charged at ``at_s``, and when it
        ceases to count.
        """
        if self.sliding:
            return sliding_at(self.per, at_s)
        start, end = window_at(self.per, self.zone, at_s)
        return start, end, end

    def counts_like(self, other: Budget) -> bool:
        """Whether what ``other`` has counted so far means the same here: what a change of configuration must not lose."""
        mine, theirs = (
            (b.name, b.resource, b.basis, b.key, b.per, b.sliding, b.sliding or b.timezone, b.scope) for b in (self, other)
        )
        return mine == theirs

    @property
    def resource(self) -> Resource:
        """What it counts."""
        return self.limit.resource

    @property
    def needs(self) -> frozenset[str]:
        """The keys that must be known before it can be decided."""
        return frozenset(self.key) | frozenset(self.match)

    def concerns(self, known: Mapping[str, str | None]) -> bool:
        """Whether a request with these keys counts against it."""
        return all(_fits(known.get(name), patterns) for name, patterns in self.match.items())

    def key_of(self, known: Mapping[str, str | None]) -> tuple[str, ...]:
        """The request's own part of the budget; an unknown value has a budget of its own, "none"."""
        return tuple(known.get(name) or "none" for name in self.key)

    def __repr__(self) -> str:
        return f"Budget({self.name!r}, {self.limit.text!r}, per={self.per!r})"

    def _estimate(self, estimate: str | None) -> int:
        if estimate is None:
            return 1 if self.resource == "requests" else max(1, self.limit.amount // 100)
        quantity = _quantity(self.name, "estimate", estimate)
        if quantity.amount > self.limit.amount:
            raise ConfigurationError(
                f"budget {self.name!r}: estimate {estimate!r} is more than its limit {self.limit.text!r}: nothing would fit"
            )
        if quantity.resource != self.resource:
            raise ConfigurationError(
                f"budget {self.name!r}: estimate {estimate!r} is not an amount of {self.resource} like {self.limit.text!r}"
            )
        return quantity.amount


def _quantity(name: str, what: str, text: Any) -> Quantity:
    try:
        return parse_quantity(text)
    except UnitError as error:
        raise UnitError(text, f"budget {name!r}: {what} {error}") from None


def _one_of(name: str, what: str, value: Any, known: Collection[Any]) -> Any:
    if not isinstance(value, str | bool) or value not in known:
        raise ConfigurationError(f"budget {name!r}: {what}={value!r} is not known; use {', '.join(map(str, known))}")
    return value


def _share(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or not 0 < value <= 1:
        raise ConfigurationError(f"budget {name!r}: {what} is a share of the limit between 0 and 1, not {value!r}")
    return float(value)


def _seconds(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
        raise ConfigurationError(f"budget {name!r}: {what} is a number of seconds from 0 to 3600, not {value!r}")
    return float(value)


def _keys(name: str, key: Key) -> tuple[str, ...]:
    if key is not None and not isinstance(key, str | tuple | list):
        raise UnknownBudgetKeyError(key, KEYS, name)
    keys = () if key is None else (key,) if isinstance(key, str) else tuple(key)
    for one in keys:
        if one not in KEYS:
            raise UnknownBudgetKeyError(one, KEYS, name)
    return keys


def _match(name: str, match: Match) -> dict[str, tuple[str, ...]]:
    if match is None:
        return {}
    if isinstance(match, str):
        match = {"route": match}
    if not isinstance(match, Mapping):
        raise ConfigurationError(
            f"budget {name!r}: match is a route pattern or a mapping such as {{'model': 'large-*'}}, not {match!r}"
        )
    out = {}
    for key, patterns in match.items():
        if key not in KEYS:
            raise UnknownBudgetKeyError(key, KEYS, name)
        several = (patterns,) if isinstance(patterns, str) else patterns
        if not isinstance(several, list | tuple | set | frozenset) or not several or not all(isinstance(p, str) for p in several):
            raise ConfigurationError(f"budget {name!r}: match[{key!r}] is a pattern or a list of patterns, not {patterns!r}")
        out[key] = tuple(several)
    return out


def _fits(value: str | None, patterns: Collection[str]) -> bool:
    return value is not None and any(fnmatchcase(value, pattern) for pattern in patterns)
