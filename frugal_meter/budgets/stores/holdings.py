"""The contract of a shared store over plain dicts: what SQLite runs inside a transaction, and other stores are tested against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from . import TTL_S, Account, Answer, Ask, Report, State, granted

#: an account without ``earlier``: what identifies it
Identity = tuple[Any, ...]


class Row:
    """What one holder has in one account."""

    __slots__ = ("held", "reserved", "settled")

    def __init__(self, settled: int = 0, held: int = 0, reserved: int = 0) -> None:
        self.settled, self.held, self.reserved = settled, held, reserved


class Tables(Protocol):
    """Where an exchange finds and leaves its rows. All are read at most once per exchange, and written when it ends."""

    def settled(self, account: Identity) -> int:
        """What all holders have settled, those gone included."""

    def settle(self, account: Identity, more: int) -> None:
        """Add to it."""

    def rows(self, account: Identity) -> dict[str, Row]:
        """The holders' rows, to be changed in place."""


class Seen:
    """The rows of one account, read already and for looking at only: a `Tables`."""

    def __init__(self, settled: int, rows: dict[str, Row]) -> None:
        self._settled, self._rows = settled, rows

    def settled(self, account: Identity) -> int:
        """See `Tables`."""
        return self._settled

    def settle(self, account: Identity, more: int) -> None:
        """Nothing is written here."""
        raise NotImplementedError

    def rows(self, account: Identity) -> dict[str, Row]:
        """See `Tables`."""
        return self._rows


def exchange(
    tables: Tables, holder: str, heard: dict[str, float], reports: Sequence[Report], asks: Sequence[Sequence[Ask]], now_s: float
) -> Answer:
    """Apply ``reports`` and grant ``asks`` for ``holder``; ``heard`` tells when every holder was last heard of."""
    new = holder not in heard
    heard[holder] = now_s
    alive = {name for name, at in heard.items() if now_s - at < TTL_S}
    for report in reports:
        _take(tables, holder, report)
    grants = [_grant(tables, holder, alive, group) for group in asks]
    mentioned = [r.account for r in reports] + [ask.account for group in asks for ask in group]
    states: dict[Identity, State] = {account[:5]: state(tables, account, alive) for account in mentioned}
    return Answer(grants, states, len(alive), new=new)


def _take(tables: Tables, holder: str, report: Report) -> None:
    account = report.account[:5]
    row = tables.rows(account).setdefault(holder, Row())
    if report.settled != row.settled:
        tables.settle(account, report.settled - row.settled)
    row.settled, row.held, row.reserved = report.settled, max(report.held, report.reserved), report.reserved


def _grant(tables: Tables, holder: str, alive: set[str], group: Sequence[Ask]) -> tuple[int, ...] | None:
    amounts = []
    for ask in group:
        windows = (ask.account, *(ask.account.at(start) for start in ask.account.later))
        left = ask.limit - max(state(tables, window, alive).committed for window in windows)
        amount = granted(left, ask.need, ask.want, len(alive))
        if amount is None:
            return None
        amounts.append(amount)
    for ask, amount in zip(group, amounts, strict=True):
        tables.rows(ask.account[:5]).setdefault(holder, Row()).held += amount
    return tuple(amounts)


def release(tables: Tables, holder: str, reports: Sequence[Report], accounts: Iterator[Identity]) -> None:
    """Take a holder's last reports and drop its rows in ``accounts``; what it has settled stays."""
    for report in reports:
        _take(tables, holder, report)
    for account in accounts:
        tables.rows(account).pop(holder, None)


def state(tables: Tables, account: Account, alive: set[str]) -> State:
    """An account over all holders, its earlier sub-windows included."""
    settled = held = reserved = expired = 0
    length = account.until_s - account.start_s
    each = [account[:5], *((*account[:3], start, start + length) for start in account.earlier)]
    for one in each:
        settled += tables.settled(one)
        for holder, row in tables.rows(one).items():
            if holder in alive:
                held += row.held
                reserved += row.reserved
            elif row.held:
                expired += 1
                # Nobody knows what it has done since: all that it could is charged. A slot is no amount, and just free again.
                settled += row.held if account.resource != "slots" else 0
    return State(settled, held, reserved, expired)
