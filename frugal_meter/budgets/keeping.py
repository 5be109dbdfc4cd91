"""Beside budgets in the memory of one process a file: what must outlive that process, and what the command line reads and writes.

The memory alone decides, and no request waits for the file. It has the layout of a store that workers share, so that
``frugal-meter budget`` reads both, and a service that grows to several workers goes on from it. Each tick tells it what has
moved: a process that is killed loses what it did since its last tick, no more.

What was permitted and decided outlives the process wherever the file is. What was *spent* and *learnt* does so in a folder
that somebody chose (``$FRUGAL_RUN_DIR``); in the system's temporary one, which may go at any time, the next process begins
anew, as do scripts and tests that run twice a day.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import StoreError
from ..ring.election import SharedFile
from .leases import Book
from .slices import Slices
from .stores import HEARTBEAT_S, Account, Learnt, Report, State
from .stores.sqlite import BUSY_S, SqliteStore

if TYPE_CHECKING:
    from .admission import Admission

log = logging.getLogger("frugal_meter")
_OVERRIDES_S: Final = 2.0
#: a file that cannot be written is tried again after so long, doubled up to the second
_RETRY_S: Final = (1.0, 300.0)
#: how long a tick, which has figures to tell, waits for who else holds the file; at the start and the end there is time
_BUSY_S: Final = 0.05
#: holders of this kind write alone: whoever has the lock knows that those before it are gone
_ONE: Final = "one:"
Fault = Callable[[str, BaseException], None]


class Keeping:
    """Keeps the budgets of one process in the file of ``store``; of several processes the first keeps what it has spent there.

    A file that cannot be written is a fault that is counted and told once: the process then goes on in its memory alone.
    """

    def __init__(self, store: SqliteStore, admission: Admission, *, service: str, fault: Fault) -> None:
        self.store, self._service, self._admission = store, service, admission
        self._now_ns, self._fault = admission.now_ns, fault
        self._lasting = bool(os.environ.get("FRUGAL_RUN_DIR"))
        self._slices = Slices(admission.store, admission.now_ns, spans_hosts=False)
        self._begin()

    def _begin(self) -> None:
        self.holder = f"{_ONE}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"
        self._seq = 0
        self._lock = SharedFile(Path(f"{self.store.path}.keeper"))
        self._owner = self._rival = self._started = self._taken_up = self._admission.store.kept = False
        self._moved: dict[Learnt, float] = {}
        self._failures = 0
        self._again_at = self._heard_at = self._overrides_at = 0.0

    # -- life

    def start(self) -> None:
        """Take up what a process before this one has left."""
        if not self._started:
            self._started = True
            self.tick()
            self.store.wait_at_most(_BUSY_S)

    def _meet(self) -> None:
        try:
            self._lock.open(patience_s=0.0)
            self._owner = self._admission.store.kept = True
            if not self._lasting:
                self.store.forget(_ONE)
        except TimeoutError:
            self._rival = True
            log.warning(
                "frugal_meter: another meter of service %r keeps its budgets here, so this one has budgets of its own: "
                'let them share one with store="sqlite:///path/to/file"',
                self._service,
            )
        except OSError as error:
            raise StoreError(
                f"budgets are in memory only, for their file cannot be written: {error.strerror}", str(self._lock.path),
                "Let the service's user write there, or name another folder in FRUGAL_RUN_DIR.",
            ) from error  # fmt: skip

    def stop(self) -> None:
        """Tell the file a last time, and let it go. What still runs is charged at its reservation."""
        if not self._started:
            return
        try:
            self.store.wait_at_most(BUSY_S)
            self._pass()
            if self._owner:
                self._release()
        except StoreError as error:
            self._fault("store", error)
        self.store.close()
        self._lock.close()
        with self._admission.store.lock:
            for book in self._admission.store.every() if self._owner else ():
                book.base, book.told = book.committed, None  # what it really used is the next holder's to tell, as a difference
        self._begin()

    def _release(self) -> None:
        with self._admission.store.lock:
            last = [Report(self._account(b), b.committed - b.base, 0, 0) for b in self._admission.store.every()]
        self._seq += 1
        if self._lasting:
            self.store.release(self.holder, self._seq, last, self._now_ns() / 1e9)
        else:  # what is released is no longer told apart from what others have spent
            self.store.exchange(self.holder, self._seq, last, [], self._now_ns() / 1e9)

    def after_fork_in_child(self) -> None:
        """The file's lock and what is told there stay the parent's."""
        self._lock.close()
        for book in self._admission.store.every():
            book.base, book.told = book.settled, None
        met = self._owner or self._rival
        self._begin()
        self._rival = met

    def look_again(self) -> None:
        """Budgets have been reloaded: what the file tells of new ones is taken up with the next tick."""
        self._taken_up = False

    # -- each tick

    def tick(self) -> None:
        """Tell the file what has moved, and hear what people have granted."""
        if not self._started or time.monotonic() < self._again_at:
            return
        try:
            self._pass()
            self._failures = 0
        except Exception as error:  # damaged rows are no StoreError, and no reason to let requests go undecided either
            first, most = _RETRY_S
            self._again_at = time.monotonic() + min(most, first * 2.0 ** min(self._failures, 16))
            self._failures += 1
            self._fault("store", error)

    def _pass(self) -> None:
        admission = self._admission
        self._moved |= admission.learnt(moved=True)
        if not (self._owner or self._rival):
            self._meet()
        if self._owner:
            if self._seq and not self.store.path.exists():
                self._tell_anew()
            self._tell()
            if not self._taken_up:
                self._take_up(self.store.states(self._now_ns() / 1e9))
        if not self._taken_up:
            if self._lasting:
                admission.recall(self.store.estimates())
            self._taken_up = True
        admission.log.flush(self.store)
        if self._moved and self._lasting:
            self.store.keep_estimates(self._moved)
        self._moved = {}
        if time.monotonic() >= self._overrides_at:
            admission.log.overrides, self._overrides_at = self.store.overrides(), time.monotonic() + _OVERRIDES_S

    def _tell(self) -> None:
        """What has moved since the last time; a word now and then also where nothing has."""
        reports: list[tuple[Book, Report]] = []
        for book in self._admission.store.every():  # without the lock: requests must not wait while thousands are looked at
            now = (book.settled - book.base, book.reserved, book.reserved)
            if book.told != now:
                reports.append((book, Report(self._account(book), *now)))
        if not reports and time.monotonic() < self._heard_at:
            return
        self._seq += 1
        self.store.exchange(self.holder, self._seq, [report for _, report in reports], [], self._now_ns() / 1e9)
        self._heard_at = time.monotonic() + HEARTBEAT_S
        for book, report in reports:
            book.told = (report.settled, report.held, report.reserved)

    def _tell_anew(self) -> None:
        """Somebody has taken the file away: another one is made, and told everything."""
        self.store.close()
        with self._admission.store.lock:
            for book in self._admission.store.every():
                book.base, book.told = 0, None
        self._moved = dict(self._admission.learnt())

    def _take_up(self, states: Mapping[Account, State]) -> None:
        """Count in this process's books what those before it have spent, and what they held when they died."""
        books, now_ns = self._admission.store, self._now_ns()
        others: Counter[Book] = Counter()
        with books.lock:
            for budget in self._admission.budgets:
                for account, state in states.items():
                    if account[:2] != (budget.name, budget.resource) or len(account.key) != len(budget.key):
                        continue
                    window_s = budget.window(account.start_s)
                    if (account.start_s, account.until_s) == window_s[::2] and window_s[0] * 10**9 <= now_ns:
                        book = books.part(budget, account.key, account.start_s, now_ns)
                        # Keys beyond those that there is room for share a book, which is told under its own.
                        mine = book.told[:2] if book.told is not None and book.key == account.key else (0, 0)
                        others[book] += state.settled + state.held - sum(mine)
            for book, amount in others.items():
                more = max(0, amount - book.base)
                book.settled += more
                book.base += more

    def _account(self, book: Book) -> Account:
        return self._slices.account(book)._replace(earlier=())
