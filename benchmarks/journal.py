"""What keeping a journal costs: CPU per request of building and writing it, and bytes per reading.

``python benchmarks/journal.py`` prints medians of several runs; the requests do nothing, so that the
difference is the journal.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from frugal_meter import Meter
from frugal_meter.journal.sqlite import SqliteJournal
from frugal_meter.testing import SyntheticSource

REQUESTS, BATCH, RUNS = 5000, 50, 5


def cost(path: Path | None) -> float:
    """CPU of the whole process per request, µs."""
    journal = None if path is None else f"sqlite:///{path}"
    meter = Meter("bench", zone="FR", sources=SyntheticSource(2.0, 10.0), journal=journal, tick=60, workers="single")
    with meter:
        begun = time.process_time()
        for _ in range(REQUESTS // BATCH):
            for _ in range(BATCH):
                with meter.measure("answer", model="tiny", unit="answer") as span:
                    span.add_units(1)
                    span.add_tokens(input=20, output=30)
            meter.settle()
        return (time.process_time() - begun) / REQUESTS * 1e6


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        without = [cost(None) for _ in range(RUNS)]
        paths = [Path(folder) / f"{run}.db" for run in range(RUNS)]
        kept = [cost(path) for path in paths]
        size = paths[0].stat().st_size
        readings = SqliteJournal(paths[0], create=False).info()["readings"]
        added = statistics.median(kept) - statistics.median(without)
        print(f"added CPU per request, readings built and written, {BATCH} a tick: {added:.0f} µs (off the request path)")
        print(f"bytes per reading, its part of the books included: {size / readings:.0f}")


if __name__ == "__main__":
    main()
