"""What budgets decided, for people to read afterwards, and the overrides that people have granted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from .budget import Budget
from .leases import Action
from .stores import Entry, Override, SharedStore

#: lines kept until a shared store takes them, and shown when there is none; in a storm of refusals older ones are dropped
MOST_LINES: Final = 5000


class Decisions:
    """The decision log of one worker. Plain admissions are one line per budget and flush, with their number."""

    def __init__(self) -> None:
        self.recent: deque[Entry] = deque(maxlen=MOST_LINES)
        self.noted = 0  # lines so far
        self._owed: deque[Entry] = deque(maxlen=MOST_LINES)
        self._admitted: Counter[str] = Counter()
        self.overrides: Sequence[Override] = ()

    def note(self, entry: Entry) -> None:
        """Append a line."""
        self.recent.append(entry)
        self.noted += 1
        self._owed.append(entry)

    def since(self, noted: int) -> list[Entry]:
        """The lines after the first ``noted``, as far as they are still kept."""
        lines = list(self.recent)
        return lines[max(0, len(lines) - (self.noted - noted)) :] if self.noted > noted else []

    def admitted(self, budgets: Sequence[Budget], counts: dict[tuple[str, Action], int], now_s: float) -> None:
        """One line per budget for what was admitted without a word since the last call; ``counts`` are totals."""
        for budget in budgets:
            total = counts[budget.name, "admit"]
            more = total - self._admitted[budget.name]
            if more > 0:
                self._admitted[budget.name] = total
                self.note(
                    Entry(
                        now_s,
                        budget.name,
                        budget.resource,
                        (),
                        "admit",
                        "admit",
                        0,
                        0,
                        0,
                        budget.limit.amount,
                        f"{more} requests",
                    )
                )

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
