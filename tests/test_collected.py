"""A metered generator that nobody finishes is ended by the garbage collector: at any moment, on any thread, in the middle of
anything, our own steps included.
"""

from __future__ import annotations

import contextvars
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from exchange import a_meter

from frugal_meter import Budget

ROOT = Path(__file__).parent.parent
#: collects after nearly every allocation, in admissions, in settlements and in `ContextVar.set`
STORM = """
import gc
from frugal_meter import Budget, Meter
from frugal_meter.testing import SyntheticSource

budgets = [Budget("all", "90000 requests", per="month"), Budget("each", "90000 requests", per="month", key="route")]
meter = Meter(service="collected", zone="FR", sources=[SyntheticSource()], store="memory", budgets=budgets)

@meter.measure
def pieces():
    yield 1
    yield 2

class Abandoned:
    def __init__(self):
        self.me, self.pieces = self, pieces()
        next(self.pieces)

with meter:
    gc.set_threshold(1, 1, 1)
    for _ in range(1000):
        Abandoned()
        with meter.measure("short"):
            pass
    gc.set_threshold(700, 10, 10)
    gc.collect()
    assert meter.settle()
    print([(sum(b.settled for b in books), sum(b.reserved for b in books), sum(b.flight.count for b in books))
           for books in [list(meter.admission.store._books.values())]])
"""


def test_work_that_is_collected_in_the_middle_of_other_work_neither_blocks_nor_breaks_it_and_is_paid() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORM], capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[(4000, 0, 0)]"), done.stderr


def test_work_that_is_collected_in_the_middle_of_a_step_is_settled_with_the_next_tick() -> None:
    with a_meter(budgets=[Budget("all", "9 requests", per="day")]) as meter:

        @meter.measure
        def pieces() -> Iterator[int]:
            yield 1

        running, store = pieces(), meter.admission.store
        next(running)
        with store.lock:
            (book,) = store._books.values()
            del running
            gc.collect()
            assert (book.settled, book.reserved, book.flight.count) == (0, 1, 1)
        meter.settle()
        assert (book.settled, book.reserved, book.flight.count) == (1, 0, 0)


def test_a_block_that_is_collected_in_another_request_leaves_that_one_current() -> None:
    with a_meter() as meter:

        def left_open() -> Iterator[None]:
            with meter.measure("left open"):
                yield

        left = left_open()
        contextvars.copy_context().run(next, left)
        with meter.measure("another") as span:
            left.close()
            assert meter.current() is span
