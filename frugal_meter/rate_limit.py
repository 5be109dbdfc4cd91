"""``RateLimit`` and ``RateLimit-Policy``: what is left of the budgets, for clients that pace themselves. Opt-in.

The fields are those of draft-ietf-httpapi-ratelimit-headers-10 (RFC 9651 lists of strings). The draft's registry of quota
units holds no joule, gram nor second yet: ``qu`` then carries a name that is not registered, which a client may ignore.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .attribution.span import SPAN
from .budgets.budget import Budget
from .budgets.leases import Book
from .units import BOOKED_IN, Resource

if TYPE_CHECKING:
    from .meter import Meter

Message = MutableMapping[str, Any]
#: names of the units in which each resource is booked, and of those a thousand times larger, up to the one people use
_UNITS: Final[dict[Resource, tuple[str, ...]]] = {
    "energy": ("microjoules", "millijoules", "joules"),
    "carbon": ("nanograms-co2e", "micrograms-co2e", "milligrams-co2e", "grams-co2e"),
    "cpu": ("cpu-microseconds", "cpu-milliseconds", "cpu-seconds"),
    "gpu": ("gpu-microseconds", "gpu-milliseconds", "gpu-seconds"),
    "tokens": ("tokens",),
    "requests": ("requests",),
}


class Quota(NamedTuple):
    """A budget as its client sees it: ``left`` in its integer unit, ``window_s`` long, new after ``reset_s``."""

    budget: Budget
    left: int
    window_s: int
    reset_s: int | None


def quotas(books: Iterable[Book], now_ns: int) -> list[Quota]:
    """What is left in each of ``books`` at ``now_ns`` (Unix time); one per budget, the one with the least left."""
    found: dict[str, Quota] = {}
    for book in books:
        left = max(0, book.budget.limit.amount - book.committed_by_all)
        known = found.get(book.budget.name)
        if known is None or left < known.left:
            window_s = _length(book.budget, (book.start_ns // 10**9, book.end_ns // 10**9, book.until_ns // 10**9))
            # A sliding window never turns as a whole: no moment to tell.
            reset_s = None if book.budget.sliding else max(0, -(-(book.end_ns - now_ns) // 10**9))
            found[book.budget.name] = Quota(book.budget, left, window_s, reset_s)
    return list(found.values())


def refusing(refusal: Mapping[str, Any], budgets: Iterable[Budget], now_ns: int) -> list[Quota]:
    """The quota of the budget that refused, from the figures of the refusal; none when it was no budget."""
    budget = next((each for each in budgets if each.name == refusal.get("budget")), None)
    if budget is None:
        return []
    scale = BOOKED_IN[budget.resource][1]
    left = max(0, budget.limit.amount - round((refusal["settled"] + refusal["reserved"]) * scale))
    return [Quota(budget, left, _length(budget, budget.window(now_ns / 1e9)), refusal["retry_after_s"])]


def _length(budget: Budget, window: tuple[int, int, int]) -> int:
    """Seconds over which the limit holds: of a sliding window, whose parts count for that long after they end, as well."""
    start_s, end_s, until_s = window
    return until_s - end_s if budget.sliding else end_s - start_s


def fields(of: Iterable[Quota]) -> list[tuple[bytes, bytes]]:
    """The two header fields; none without a budget."""
    policies, states = [], []
    for budget, left, window_s, reset_s in of:
        unit, scale = _unit(budget)
        name = _string(budget.name)
        named = "" if unit == "requests" else f';qu="{unit}"'  # "requests" is what the draft takes it for
        policies.append(f"{name};q={budget.limit.amount // scale}{named};w={window_s}")
        states.append(f"{name};r={left // scale}" + ("" if reset_s is None else f";t={reset_s}"))
    if not policies:
        return []
    return [(b"ratelimit-policy", ", ".join(policies).encode()), (b"ratelimit", ", ".join(states).encode())]


def _unit(budget: Budget) -> tuple[str, int]:
    """The largest unit in which the limit is a whole number of at least 100, for quantities here are integers."""
    names, scale = _UNITS[budget.resource], 1
    place = 0
    while place + 1 < len(names) and budget.limit.amount % (scale * 1000) == 0 and budget.limit.amount >= scale * 100_000:
        place, scale = place + 1, scale * 1000
    assert scale <= BOOKED_IN[budget.resource][1]
    return names[place], scale


def _string(name: str) -> str:
    """An RFC 9651 string: ASCII in quotes; accents are dropped, what has no ASCII letter becomes "?"."""
    plain = unicodedata.normalize("NFKD", name)
    ascii_ = "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()
    printable = "".join(c if c.isprintable() else "?" for c in ascii_)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Pacing:
    """An ASGI application around another: its admitted answers tell what is left of the budgets, before they are settled."""

    def __init__(self, app: Callable[..., Awaitable[None]], meter: Meter) -> None:
        self.app, self.meter = app, meter

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        """Serve one request."""
        span = SPAN.get()
        if span is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                books = [lease.book for lease in span.leases or ()]
                more = fields(quotas(books, self.meter.clock.time_ns()))
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        await self.app(scope, receive, telling)
