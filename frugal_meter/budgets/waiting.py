"""Work that waits for its admission: for a shared store's answer, or for its turn under a budget that throttles.

The queue is fair between tenants: their turns go round, and each tenant's own requests go first come, first served.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Final

from .leases import Book, Claim, Verdict

#: more than this many wait for nothing: those who come are refused at once
MOST_WAITING: Final = 1000


class Waiting:
    """One request that waits. ``future`` brings the verdict; `give_up` is for a client that leaves, or a deadline."""

    __slots__ = ("claims", "deadline", "future", "parked", "tenant")

    def __init__(self, claims: Sequence[Claim], tenant: str | None, wait_s: float) -> None:
        self.claims, self.tenant = claims, tenant
        self.deadline = time.monotonic() + wait_s
        self.future: Future[Verdict] = Future()
        self.parked: list[tuple[Book, int, int]] = []  # book, amount and slots set aside while a shared store is asked

    @property
    def seconds(self) -> float:
        """How long it may still wait."""
        return max(0.0, self.deadline - time.monotonic())

    def resolve(self, verdict: Verdict) -> bool:
        """Hand the verdict over; False when nobody waits for it any more, and its leases must be given back."""
        if not self.future.set_running_or_notify_cancel():
            return False
        self.future.set_result(verdict)
        return True

    def give_up(self) -> Verdict | None:
        """Stop waiting; the verdict when it had come already."""
        return None if self.future.cancel() else self.future.result()


class Turns:
    """The queue. Every method is for who holds the books' lock."""

    def __init__(self) -> None:
        self._by_tenant: OrderedDict[str | None, deque[Waiting]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, waiting: Waiting) -> bool:
        """Queue behind one's own tenant; False when too many wait."""
        if self._count >= MOST_WAITING:
            return False
        self._by_tenant.setdefault(waiting.tenant, deque()).append(waiting)
        self._count += 1
        return True

    def remove(self, waiting: Waiting) -> None:
        """Leave the queue."""
        queue = self._by_tenant.get(waiting.tenant)
        if queue is not None and waiting in queue:
            queue.remove(waiting)
            self._count -= 1
            if not queue:
                del self._by_tenant[waiting.tenant]

    def heads(self) -> Iterator[Waiting]:
        """Whose turn it may be: the first of each tenant, the tenant longest without a turn first."""
        for queue in list(self._by_tenant.values()):
            if queue:
                yield queue[0]

    def served(self, waiting: Waiting) -> None:
        """Let go of one whose turn came; its tenant goes to the end of the round."""
        self.remove(waiting)
        if waiting.tenant in self._by_tenant:
            self._by_tenant.move_to_end(waiting.tenant)

    def after_fork_in_child(self) -> None:
        """Who waits is the parent's."""
        self._by_tenant.clear()
        self._count = 0
