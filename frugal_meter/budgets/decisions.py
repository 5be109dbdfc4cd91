"""What budgets decided, for people to read afterwards, and the overrides that people have granted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from ..records import Decision, Tier
from .budget import Budget
from .leases import Action, Book
from .stores import Entry, Override, SharedStore

#: lines kept until a shared store takes them, and shown when there is none; in a storm of refusals older ones are dropped
MOST_LINES: Final = 5000


def shown_key(budget: Budget, key: tuple[str, ...], *, tenants: bool) -> tuple[str, ...]:
    """A key as it is written down: without tenants' names, unless they were asked for."""
    return tuple("…" if what == "tenant" and not tenants else part for what, part in zip(budget.key, key, strict=True))


class Decisions:
    """The decision log of one worker. Plain admissions are one line per budget and flush, with their number."""

    def __init__(self) -> None:
        self.recent: deque[Entry] = deque(maxlen=MOST_LINES)
        self.noted = 0  # lines so far
        self._owed: deque[Entry] = deque(maxlen=MOST_LINES)
        self._admitted: Counter[str] = Counter()
        self.overrides: Sequence[Override] = ()
        #: whether lines name tenants
        self.tenants = False

    def note(self, entry: Entry) -> None:
        """Append a line."""
        self.recent.append(entry)
        self.noted += 1
        self._owed.append(entry)

    def since(self, noted: int) -> list[Entry]:
        """The lines after the first ``noted``, as far as they are still kept."""
        lines = list(self.recent)
        return lines[max(0, len(lines) - (self.noted - noted)) :] if self.noted > noted else []

    def decided(
        self, book: Book, tier: Tier | None, action: Action, decision: Decision | None, estimate: int, now_s: float, why: str
    ) -> None:
        """Append what ``book`` did, with its figures of now."""
        budget, reserved = book.budget, book.reserved_by_all
        key = shown_key(budget, book.key, tenants=self.tenants)
        figures = (estimate, book.committed_by_all - reserved, reserved, budget.limit.amount)
        window = (book.start_ns // 10**9, book.end_ns // 10**9)
        self.note(Entry(now_s, budget.name, budget.resource, key, action, decision, *figures, why, tier, *window))

    def admitted(self, budgets: Sequence[Budget], counts: dict[tuple[str, Action], int], now_s: float) -> None:
        """One line per budget for what was admitted without a word since the last call; ``counts`` are totals."""
        for budget in budgets:
            total = counts[budget.name, "admit"]
            more = total - self._admitted[budget.name]
            if more > 0:
                self._admitted[budget.name] = total
                limit, why = budget.limit.amount, f"{more} request{'' if more == 1 else 's'}"
                self.note(Entry(now_s, budget.name, budget.resource, (), "admit", "admit", None, None, None, limit, why))

    def flush(self, store: SharedStore) -> None:
        """Hand what is owed to a shared store; what it does not take is owed on. Raises StoreError."""
        if not self._owed:
            return
        lines = [self._owed.popleft() for _ in range(len(self._owed))]
        try:
            store.record(lines)
        except BaseException:
            self._owed.extendleft(reversed(lines))
            raise

    def permit(self, budget: str, key: tuple[str, ...], now_s: float) -> Override | None:
        """The override that lets this part of a budget pass now."""
        for override in self.overrides:
            if override.budget == budget and override.key in (None, key) and override.holds(now_s):
                return override
        return None

    def after_fork_in_child(self) -> None:
        """What is owed is the parent's to hand over."""
        self._owed.clear()
