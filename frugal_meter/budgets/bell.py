"""Rings when the next turn is due: a thread that lives for as long as anybody waits for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

#: the clock may jump, and one that stands still in a test may be moved on
_LOOK_S: Final = 1.0


class Bell:
    """Calls ``ring`` on a thread of its own once ``now_ns()``, Unix time, has reached the moment that was set last."""

    def __init__(self, ring: Callable[[], None], now_ns: Callable[[], int]) -> None:
        self._ring, self._now_ns = ring, now_ns
        self._changed = threading.Condition()
        self._at_ns: int | None = None
        self._thread: threading.Thread | None = None

    def sooner(self, at_ns: int) -> None:
        """Ring at ``at_ns`` unless it is to ring before that."""
        if self._at_ns is None or at_ns < self._at_ns:
            self.set(at_ns)

    def set(self, at_ns: int | None) -> None:
        """Ring at ``at_ns`` and no longer at the moment set before; None: not at all."""
        with self._changed:
            if at_ns == self._at_ns:
                return
            self._at_ns = at_ns
            if self._thread is not None:
                self._changed.notify()
            elif at_ns is not None:
                self._thread = threading.Thread(target=self._run, name="frugal-meter-turns", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._is_due():
            try:
                self._ring()
            except BaseException:
                with self._changed:
                    self._thread = self._at_ns = None
                raise

    def _is_due(self) -> bool:
        """Wait for the moment; False when there is none any more, and this thread ends."""
        with self._changed:
            while self._at_ns is not None:
                left_s = (self._at_ns - self._now_ns()) / 1e9
                if left_s <= 0:
                    self._at_ns = None
                    return True
                self._changed.wait(min(left_s, _LOOK_S))
            self._thread = None
            return False
