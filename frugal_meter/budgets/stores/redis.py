"""Budgets in Redis or Valkey: one Lua call for each exchange, for workers of any number of hosts.

Keys, all of one service with one hash tag (so that a cluster keeps them together, and an ACL rule names them):

=============================  =================================================================================
``frugal:{service}:a:<JSON>``  an account: a hash of its sums and of each holder's row; ends `KEEP_S` after it ceased to count
``frugal:{service}:holders``   when each holder was last heard of, by the server's clock
``frugal:{service}:h:<id>``    a holder's last ``seq``
``frugal:{service}:accounts``  the accounts there are, by the moment at which each may be forgotten
``frugal:{service}:log``       the decision log, a stream of the last `LOG_LINES` or a few more
``frugal:{service}:overrides`` overrides by number, and the last number
``frugal:{service}:estimates`` running estimates; end `ESTIMATES_S` after they were last kept
=============================  =================================================================================

Needs Redis 5 or newer, or any Valkey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple

import msgspec

from ...errors import StoreError
from . import KEEP_S, LOG_LINES, TTL_S, Account, Answer, Ask, Entry, Estimates, Learnt, Override, Report, State
from .redis_link import Link

#: a budget of a route that nobody has asked for in a quarter is estimated afresh
ESTIMATES_S: Final = 90 * 86_400
#: beyond it the doubles of Lua are not exact
LARGEST: Final = 2**53
_LUA: Final = files(__package__).joinpath("exchange.lua").read_text(encoding="utf-8")
_SHA: Final = hashlib.sha1(_LUA.encode(), usedforsecurity=False).hexdigest()
#: accounts read at once by `RedisStore.states`: the server serves nobody else meanwhile
_AT_ONCE: Final = 200


class _Outcome(NamedTuple):
    """What exchange.lua answers."""

    stale: int
    new: int
    holders: int
    grants: list[list[int]]
    states: list[list[int]]


class _Places:
    """The accounts of one call, each named once, by their places in it (from 1, as Lua counts)."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s
        self._places: dict[tuple[Any, ...], int] = {}
        self.names: list[str] = []
        self.keeps: list[int] = []
        self.earlier: list[list[int]] = []
        self.later: dict[str, list[int]] = {}

    def of(self, account: Account) -> int:
        """The place of ``account``; those that count with it come after it."""
        identity = account[:5]
        place = self._places.get(identity)
        if place is None:
            place = self._places[identity] = len(self.names) + 1
            self.names.append(msgspec.json.encode(identity).decode())
            slots = account.resource == "slots"
            self.keeps.append(0 if slots else max(1, round((account.until_s - self._now_s + KEEP_S) * 1000)))
            self.earlier.append([])
        if account.earlier and not self.earlier[place - 1]:
            length = account.until_s - account.start_s
            before = [account._replace(start_s=start, until_s=start + length, earlier=()) for start in account.earlier]
            self.earlier[place - 1] = [self.of(one) for one in before]
        return place

    def asked(self, account: Account) -> int:
        """`of`, and the later windows that a grant must fit into, too."""
        place = self.of(account)
        if account.later:
            self.later[str(place)] = [self.of(account.at(start)) for start in account.later]
        return place

    @property
    def identities(self) -> Iterable[tuple[Any, ...]]:
        """All of them, in the order of their places."""
        return self._places


class RedisStore:
    """A `SharedStore` in a Redis or Valkey server at ``url`` for the workers of ``service``. Connects when first asked."""

    kind = "redis"
    spans_hosts = True

    def __init__(self, url: str, service: str) -> None:
        self._link = Link(url)
        self._prefix = f"frugal:{{{service}}}:"
        self._acked: dict[str, int] = {}

    @property
    def where(self) -> str:
        """The server, without secrets."""
        return self._link.where

    def exchange(self, holder: str, seq: int, reports: Sequence[Report], asks: Sequence[Sequence[Ask]], now_s: float) -> Answer:
        """One round trip; see `SharedStore.exchange`."""
        places = _Places(now_s)
        told = [[places.of(r.account), r.settled, r.held, r.reserved] for r in reports]
        asked = [[self._asked(places, ask) for ask in group] for group in asks]
        out = self._exchange(places, holder=holder, seq=seq, acked=self._acked.get(holder, 0), reports=told, asks=asked)
        if out.stale:
            return Answer([None] * len(asks), {}, out.holders, stale=True)
        self._acked[holder] = seq
        grants = [None if granted == [-1] else tuple(granted) for granted in out.grants]
        states = dict(zip(places.identities, (State(*one) for one in out.states), strict=True))
        return Answer(grants, states, out.holders, new=bool(out.new))

    def release(self, holder: str, seq: int, reports: Sequence[Report], now_s: float) -> None:
        """See `SharedStore.release`. A few hundred accounts at a time; cut short, the rest expires as a dead holder's does."""
        told = {report.account: report for report in reports}
        accounts = [*told, *(account for account in self._accounts() if account not in told)]
        chunks = [accounts[first : first + _AT_ONCE] for first in range(0, len(accounts), _AT_ONCE)] or [[]]
        for chunk in chunks:
            places = _Places(now_s)
            found = [(places.of(account), account) for account in chunk]
            last = [[place, *told[account][1:]] for place, account in found if account in told]
            self._exchange(places, holder=holder, seq=seq, acked=0, reports=last, drop=True, gone=chunk is chunks[-1])
        self._acked.pop(holder, None)

    def record(self, entries: Sequence[Entry]) -> None:
        """See `SharedStore.record`."""
        if entries:
            add = ("XADD", self._prefix + "log", "MAXLEN", "~", LOG_LINES, "*", "entry")
            self._link.many([(*add, msgspec.json.encode(entry)) for entry in entries])

    def recorded(self, *, since_s: float = 0, most: int = 1000) -> list[Entry]:
        """See `SharedStore.recorded`."""
        lines = self._link("XREVRANGE", self._prefix + "log", "+", "-", "COUNT", most)
        entries = [msgspec.json.decode(text, type=Entry) for _, (_, text) in reversed(lines)]
        return [entry for entry in entries if entry.at_s >= since_s]

    def permit(self, budget: str, key: tuple[str, ...] | None, who: str, why: str, at_s: float, until_s: float) -> Override:
        """See `SharedStore.permit`."""
        number = self._link("HINCRBY", self._prefix + "overrides", "last", 1)
        override = Override(number, budget, key, who, why, at_s, until_s)
        self._keep(override)
        return override

    def revoke(self, number: int, now_s: float) -> bool:
        """See `SharedStore.revoke`."""
        text = self._link("HGET", self._prefix + "overrides", number)
        override = None if text is None else msgspec.json.decode(text, type=Override)
        if override is None or not override.holds(now_s):
            return False
        self._keep(override._replace(revoked_s=now_s))
        return True

    def overrides(self) -> list[Override]:
        """See `SharedStore.overrides`."""
        kept = self._hash("overrides")
        return sorted(msgspec.json.decode(text, type=Override) for name, text in kept.items() if name != b"last")

    def keep_estimates(self, estimates: Estimates) -> None:
        """See `SharedStore.keep_estimates`."""
        if estimates:
            key = self._prefix + "estimates"
            fields = [part for name, amount in estimates.items() for part in (msgspec.json.encode(name), amount)]
            self._link.many([("HSET", key, *fields), ("EXPIRE", key, ESTIMATES_S)])

    def estimates(self) -> Estimates:
        """See `SharedStore.estimates`."""
        kept = self._hash("estimates")
        return {msgspec.json.decode(name, type=Learnt): float(amount) for name, amount in kept.items()}

    def states(self, now_s: float) -> dict[Account, State]:
        """See `SharedStore.states`; read a few hundred at a time, each few at one moment."""
        open_now = [one for one in self._accounts() if one.resource == "slots" or now_s < one.until_s]
        found: dict[Account, State] = {}
        for first in range(0, len(open_now), _AT_ONCE):
            some, places = open_now[first : first + _AT_ONCE], _Places(now_s)
            for account in some:
                places.of(account)
            out = self._exchange(places, holder="")
            found.update(zip(some, (State(*one) for one in out.states), strict=True))
        return found

    def close(self) -> None:
        """See `SharedStore.close`."""
        self._link.close()

    def _exchange(self, places: _Places, *, holder: str, reports: Any = (), asks: Any = (), **more: Any) -> _Outcome:
        argument = {
            "holder": holder, "ttl_ms": TTL_S * 1000, "keep_ms": KEEP_S * 1000, "reports": reports, "asks": asks,
            "names": places.names, "keeps": places.keeps, "earlier": places.earlier, "later": places.later, **more,
        }  # fmt: skip
        keys = [*(self._prefix + name for name in ("holders", "accounts", f"h:{holder}"))]
        keys += [f"{self._prefix}a:{name}" for name in places.names]
        return msgspec.json.decode(self._link.script(_LUA, _SHA, keys, msgspec.json.encode(argument)), type=_Outcome)

    def _asked(self, places: _Places, ask: Ask) -> list[int]:
        if ask.limit > LARGEST:
            name = ask.account.budget
            raise StoreError(f"the limit of budget {name!r} is beyond 2^53 of its integer unit", self.where, "Lower it.")
        return [places.asked(ask.account), ask.limit, ask.need, ask.want]

    def _accounts(self) -> list[Account]:
        names = self._link("ZRANGE", self._prefix + "accounts", 0, -1)
        return [Account(*msgspec.json.decode(name, type=tuple[str, str, tuple[str, ...], int, int])) for name in names]  # type: ignore[arg-type]

    def _hash(self, name: str) -> dict[bytes, bytes]:
        flat = self._link("HGETALL", self._prefix + name)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _keep(self, override: Override) -> None:
        self._link("HSET", self._prefix + "overrides", override.id, msgspec.json.encode(override))
