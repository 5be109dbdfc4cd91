"""What every live grid provider is: a request, and the reading of its reply."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from ...errors import ConfigurationError, FactorError
from ..factors import Basis, Factor, Mix, Scope

LIVE_FLAG: Final = "factor:live"
ESTIMATED_FLAG: Final = "factor:estimated"


class Unanswered(Exception):
    """No factor came: silence, a refusal, garbage. ``retry_after_s`` is what the provider asked to wait, or None.

    The message never holds the address, for it may hold the token.
    """

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Asked(msgspec.Struct, frozen=True):
    """One GET: address and headers. Secrets may be in either: never log it."""

    url: str
    headers: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Asked({self.url.partition('?')[0]!r})"


class Provider(Protocol):
    """A source of factors that change within the day."""

    name: str
    zone: str
    scope: Scope
    basis: Basis
    #: how often a new figure is worth asking for, seconds
    period_s: float

    def ask(self, now: datetime) -> Asked:
        """The request to send at ``now`` (UTC)."""

    def read(self, body: bytes) -> Factor:
        """The newest factor in a reply; raises `Unanswered` for one that holds none."""


def live_factor(
    provider: Provider,
    grams: float,
    at: datetime,
    *,
    dataset: str,
    name: str,
    mix: Mix | None,
    licence: str,
    source: str,
    estimated: bool = False,
) -> Factor:
    """A provider's figure as a `Factor` of the moment ``at``; raises `Unanswered` for a figure that cannot be."""
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        return Factor(
            id=f"{provider.name}:{provider.zone}:{moment}",
            zone=provider.zone,
            zone_name=name,
            grams_per_kwh=grams,
            dataset=dataset,
            version="live",
            year=at.year,
            scope=provider.scope,
            basis=provider.basis,
            mix=mix,
            licence=licence,
            source=source,
            flags=(LIVE_FLAG, *((ESTIMATED_FLAG,) if estimated else ())),
            at=moment,
        )
    except FactorError as error:
        raise Unanswered(str(error)) from None


def parsed(body: bytes) -> Any:
    """The JSON of a reply; raises `Unanswered` for what is none (a captive portal's page, half an answer)."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unanswered("the reply is not JSON") from None


def number(value: Any) -> float:
    """A finite number of a reply; raises `Unanswered`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unanswered(f"the reply holds {str(value)[:40]!r} where a number belongs")
    return float(value)


def moment(value: Any) -> datetime:
    """A time with its zone; raises `Unanswered`."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Unanswered(f"the reply holds {str(value)[:40]!r} where a time belongs")
    return found.astimezone(UTC)


def zone_of(zone: str, name: str, served: Mapping[str, str]) -> str:
    """``zone`` when ``served`` (zone → its code there) holds it; raises `ConfigurationError`."""
    if zone not in served:
        known = ", ".join(sorted(served))
        raise ConfigurationError(f"live grid {name!r} does not serve zone {zone!r}: it serves {known}")
    return zone


def token_of(token: str, name: str) -> str:
    """``token`` when it can be one; raises `ConfigurationError`, without repeating it."""
    if not token:
        raise ConfigurationError(f"live grid {name!r} needs a token: set FRUGAL_GRID_TOKEN (never in a file)")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(f"live grid {name!r}: FRUGAL_GRID_TOKEN holds characters that no token has; copy it again")
    return token
