"""A service with a journal, in a process of its own that a test may kill: tells on stdout each id that has been settled."""

from __future__ import annotations

import sys
import threading
import time

from frugal_meter import Meter
from frugal_meter.testing import SyntheticSource


def main(address: str) -> None:
    meter = Meter("house", zone="FR", sources=SyntheticSource(2.0, 10.0), journal=address, tick=60, workers="single")

    def load() -> None:
        while True:
            with meter.measure("answer", unit="answer") as span:
                span.add_units(1)
                sum(range(2000))
            time.sleep(0.001)  # a load, not a storm: the test waits for settlements

    with meter:
        threading.Thread(target=load, daemon=True).start()
        while True:
            with meter.measure("marked") as span:
                sum(range(20_000))
            meter.settle()
            print(span.reading.id, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
