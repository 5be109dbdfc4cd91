"""Between the books of this worker and a store that several workers share: a thread that asks ahead, reports and returns.

The request path never waits for it while a slice lasts. Where one does not, the request waits for its answer (`waiting`), and
all that wait go out in one exchange: of the thread, or of a waiting thread that may block, which saves two changes of thread.

An exchange for those who wait tells of their accounts alone; that of a tick, of all that has moved since the last.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..errors import StoreError
from .decisions import Decisions
from .leases import Book, Lease
from .outage import OnStoreError, Outage
from .overview import Overview
from .slices import Slices
from .stores import HEARTBEAT_S, SLICE, Answer, Estimates, Report, SharedStore
from .stores.memory import MemoryStore
from .survival import FAR_SEQ, Record, prefix, the_dead
from .waiting import Waiting

#: accounts told of in one exchange
_AT_ONCE: Final = 200
_RETRY_S: Final = (0.25, 10.0)
_SURVIVORS_S: Final = 5.0
_OVERRIDES_S: Final = 2.0
Fault = Callable[[str, BaseException], None]
#: running work, what it asks for, and the least that is of use to it
Topping = tuple[Lease, int, int]


class Sharing:
    """This worker's part of a shared store.

    slice: the part of a limit that may lie in unused slices over all workers; 0 asks for every lease.
    ``resolved(waiting)`` is called under the books' lock for each request that waited, once it can be judged;
    ``recall(estimates)`` once, with what was learnt before a restart. ``folder``: where workers of this host leave their records.
    """

    def __init__(
        self,
        store: SharedStore,
        books: MemoryStore,
        log: Decisions,
        *,
        service: str,
        address: str,
        on_error: OnStoreError,
        now_ns: Callable[[], int],
        resolved: Callable[[Waiting], None],
        recall: Callable[[Estimates], None],
        fault: Fault,
        folder: Path | None,
        share: float = SLICE,
    ) -> None:
        self.store, self._books, self._log = store, books, log
        self.on_error, self._now_ns, self._resolved, self._fault = on_error, now_ns, resolved, fault
        self._recall: Callable[[Estimates], None] | None = recall
        self._keep: Estimates = {}
        self._folder, self._prefix = folder, prefix(service, address)
        self._slices = Slices(books, now_ns, spans_hosts=store.spans_hosts, share=share)
        self._outage = Outage(books, self._slices, on_error)
        #: what the policy says to who has waited for an answer for too long; the books' lock is held
        self.unanswered = self._outage.admit
        self._wake, self._exchanging = threading.Condition(), threading.Lock()
        self._thread: threading.Thread | None = None
        self.exchanges = self._failures = 0
        self.overview = Overview(self._slices.name)
        self.down = False
        self._begin()

    def _begin(self) -> None:
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"
        self._seq = 0
        self._pending: list[Waiting] = []
        self._topping: list[Topping] = []
        #: top-ups on their way to the store, and those it had nothing for
        self.asking: set[Lease] = set()
        self.denied: set[Lease] = set()
        self._asked = self._done = 0
        self._stopping = False
        self._record: Record | None = None
        self._cells: dict[Book, int] = {}
        self._survivors_at = self._overrides_at = 0.0
        self._books.on_new = self._new_book
        self._slices.watch_all()

    @property
    def holders(self) -> int:
        """How many workers share, as last told."""
        return self._slices.holders

    # -- life

    def start(self) -> None:
        """Meet the store once, so that the first request finds a slice; then go on in a thread."""
        if self._thread is not None:
            return
        self._stopping = False
        if self._folder is not None and self._record is None:
            try:
                self._record = Record(self._folder, self._prefix, self.holder)
            except OSError as error:  # a death is then charged when the store misses us, and in full
                self._fault("store", error)
        self._books.share()
        self._tell_all()
        self._thread = threading.Thread(target=self._run, name="frugal-meter-budgets", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Report a last time, return every slice, and let the store go."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        thread.join(timeout_s)
        with self._exchanging:
            self._leave()

    def _leave(self) -> None:
        with self._books.lock:
            self._seq += 1
            last = [Report(self._slices.account(b), b.committed - b.base, 0, 0) for b in self._books.every()]
            self._books.store_away = self._books.closed_by_store = False
        try:
            self.store.release(self.holder, self._seq, last, self._now_ns() / 1e9)
            self._hand_over()
            kept = True
        except StoreError as error:
            self._fault("store", error)
            kept = False  # who starts next on this host settles what the file tells
        self._drop_record(remove=kept)
        self.store.close()
        with self._books.lock:
            self._begin_again()

    def _begin_again(self) -> None:
        """A holder is not used twice. What still ran has been charged at its reservation: what it really used is the next one's
        to report, as a difference.
        """
        for book in self._books.every():
            book.base, book.told, book.ceiling = book.committed, None, book.committed
            book.flight.told = (0, 0)
            book.reckon()
        self._begin()

    def _drop_record(self, *, remove: bool) -> None:
        with self._books.lock:
            for book in self._cells:
                book.cell = None
            self._cells = {}
        if self._record is not None:
            self._record.close(remove=remove)
            self._record = None

    def after_fork_in_child(self) -> None:
        """The child is a holder of its own: the parent's file, leases and reports stay the parent's."""
        for book in self._books.every():
            book.cell = None
            book.base, book.told, book.parked = book.settled, None, 0
            book.ceiling, book.flight.ceiling = book.committed, None if book.flight.ceiling is None else 0
            book.reckon()
        if self._record is not None:
            self._record.close(remove=False)
        self._wake, self._exchanging, self._thread = threading.Condition(), threading.Lock(), None
        self._begin()

    # -- who asks

    def ask(self, waiting: Waiting) -> None:
        """Ask the store for what ``waiting`` needs, once `hurry` or `serve` is called or a tick comes; the books' lock is held.

        While the store is down its policy decides at once.
        """
        if self.down or self._thread is None:
            self._resolved(waiting)
        else:
            self._pending.append(waiting)

    def hurry(self) -> None:
        """Have the thread ask for all who wait: for a caller that may not block."""
        with self._wake:
            self._wake.notify_all()

    def serve(self, waiting: Waiting) -> None:
        """Ask here and now for all who wait, until ``waiting`` has its answer: for a caller that blocks in any case."""
        while not waiting.is_answered and self._exchanging.acquire(timeout=waiting.seconds):
            try:
                if waiting.is_answered or self._thread is None or waiting not in self._pending:
                    return
                self._pass()
            finally:
                self._exchanging.release()

    def ask_more(self, lease: Lease, more: int, least: int) -> None:
        """Ask the store for more for running work; nobody waits for that."""
        with self._books.lock:
            if self.down or self._thread is None or lease in self.asking:
                return
            self.asking.add(lease)
            self._topping.append((lease, more, least))
        with self._wake:
            self._wake.notify_all()

    def keep(self, estimates: Estimates) -> None:
        """Have the store keep running estimates, with the next exchange."""
        self._keep = estimates

    def tick(self) -> None:
        """The meter's tick: report, return and ask ahead, soon and not here."""
        with self._wake:
            self._asked += 1
            self._wake.notify_all()

    def settle(self, timeout_s: float) -> bool:
        """Wait until an exchange that began after this call is over; False when that took too long, or failed."""
        if self._thread is None:
            return True
        with self._wake:
            self._asked += 1
            mine = self._asked
            self._wake.notify_all()
            return self._wake.wait_for(lambda: self._done >= mine, timeout_s) and not self.down

    # -- the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._stopping or self._pending or self._topping or self._asked > self._done, HEARTBEAT_S
                )
                if self._stopping:
                    return
                asked = self._asked
                whole = asked > self._done or not (self._pending or self._topping)
            if whole:
                self._tell_all()
            else:
                with self._exchanging:
                    self._pass()
            with self._wake:
                self._done = asked
                self._wake.notify_all()
                if self.down:
                    self._wake.wait_for(lambda: self._stopping, self._backoff())

    def _backoff(self) -> float:
        first, most = _RETRY_S
        return min(most, first * 2.0 ** min(self._failures, 8)) * random.uniform(0.5, 1.0)

    def _pass(self, some: Sequence[Book] = ()) -> None:
        """One exchange, for those who wait and of ``some`` books; a store that fails is down until one succeeds.

        Who calls it holds ``_exchanging``.
        """
        try:
            self._exchange(some)
            self._failures = 0
        except Exception as error:
            self._failed(error)

    def _tell_all(self) -> None:
        """Of all that has moved, a few hundred accounts at a time: neither a server nor a request is held up by thousands."""
        with self._books.lock:
            books = self._slices.tick(alone=self.down)
        for first in range(0, max(1, len(books)), _AT_ONCE):
            with self._exchanging:
                self._pass(books[first : first + _AT_ONCE])
            if self.down:
                return
        with self._exchanging:
            self._rest()

    def _rest(self) -> None:
        """What else is due with a store that answers, and no request waits for."""
        try:
            now = time.monotonic()
            self._hand_over()
            self.overview.look(self.store, self._now_ns() / 1e9)
            if now >= self._overrides_at:
                self._log.overrides, self._overrides_at = self.store.overrides(), now + _OVERRIDES_S
            if now >= self._survivors_at:
                self._survivors_at = now + _SURVIVORS_S
                self._free_cells()
                self._bury()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self.down:
            self._fault("store", error)
        self._failures += 1
        self._went_down()

    def _hand_over(self) -> None:
        """Log lines and estimates: what the store keeps and no grant waits for."""
        self._log.flush(self.store)
        if self._recall is not None:
            self._recall(self.store.estimates())
            self._recall = None
        if self._keep:
            self.store.keep_estimates(self._keep)
            self._keep = {}

    def _free_cells(self) -> None:
        """Let go of the cells of books that nothing can charge any more: else the record grows with every window."""
        with self._books.lock:
            kept = set(self._books.every())
            for book in [each for each in self._cells if each not in kept]:
                book.cell = None
                if self._record is not None:
                    self._record.free(self._cells.pop(book))

    def _bury(self) -> None:
        """Settle what workers of this host left behind when they died."""
        if self._folder is None:
            return
        for left in the_dead(self._folder, self._prefix):
            self.store.release(left.holder, FAR_SEQ, left.reports, self._now_ns() / 1e9)

    # -- down and up

    def _went_down(self) -> None:
        """Go on without the store as ``on_store_error`` says, and let it decide over those who wait."""
        with self._books.lock:
            first, self.down = not self.down, True
            if first:
                self._outage.begins()
            waiting, self._pending = self._pending, []
            for one in waiting:
                self._resolved(one)

    # -- one exchange

    def _exchange(self, some: Sequence[Book]) -> None:
        with self._books.lock:
            waiting, self._pending = self._pending, []
            topping, self._topping = self._topping, []
            groups = [self._slices.park(one) for one in waiting]
            groups += [[self._slices.want(lease.book, least, more)] for lease, more, least in topping]
            asking = [book for one in waiting for book, _, _ in one.parked] + [lease.book for lease, _, _ in topping]
            books = dict.fromkeys((*some, *asking))
            if not self.down:
                groups += [[want] for want in self._slices.ahead(books)]
            reported = self._slices.reports(books, alone=self.down)
            self._seq += 1
        try:
            asks = [[ask for ask, _ in group] for group in groups]
            answer = self.store.exchange(self.holder, self._seq, [r for _, r in reported], asks, self._now_ns() / 1e9)
        except BaseException:
            with self._books.lock:
                self.asking.clear()
                self._slices.unpark(waiting)
                self._pending = waiting + self._pending  # `_went_down` lets the policy decide
            raise
        self.exchanges += 1
        with self._books.lock:
            self._slices.unpark(waiting)
            if self.down:
                self.down = False
                self._outage.ends()
            if answer.stale:
                self._rise_again()
            self._slices.apply(answer, reported, groups)
            if answer.new and self._seq > 1:  # the store has lost its data: it is told everything again
                self._slices.watch_all()
                for book in self._books.every():
                    book.told, book.flight.told = None, (0, 0)
            self._answer(answer, waiting, topping)

    def _rise_again(self) -> None:
        """Somebody buried us alive: what was reported stays charged, and the rest is a new holder's."""
        self._slices.watch_all()
        for book in self._books.every():
            book.base += book.told[0] if book.told is not None else 0
            book.told, book.flight.told, book.ceiling = None, (0, 0), book.committed
            book.reckon()
        self.holder, self._seq = f"{self.holder}+", 0

    def _answer(self, answer: Answer, waiting: Sequence[Waiting], topping: Sequence[Topping]) -> None:
        """Hand out what was granted, to who waited in turn; what a stale exchange asked for is asked again."""
        if answer.stale:
            self._pending = [*waiting, *self._pending]
            self.asking.clear()
            return
        for one in waiting:
            self._resolved(one)
        for (lease, _, _), grant in zip(topping, answer.grants[len(waiting) :], strict=False):
            self.asking.discard(lease)
            if grant is None:
                self.denied.add(lease)
            elif lease.charged_milli is None:
                self._books.enlarge(lease, grant[0])
        if self.denied:  # what has ended asks no more
            self.denied = {lease for lease in list(self.denied) if lease.charged_milli is None}

    # -- accounts

    def _new_book(self, book: Book) -> None:
        self._slices.watch(book)
        if self._record is not None:
            cell = self._record.take(self._slices.account(book), book.base)
            if cell is not None:
                self._cells[book], book.cell = cell
                book.note()
        if self.down:
            self._outage.allow(book)
