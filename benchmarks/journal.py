"""What keeping a journal costs: CPU per request of building and writing it, and bytes per reading.

``python benchmarks/journal.py [postgresql://…]`` prints medians of several runs, of an SQLite file or of an (empty) database; the
requests do nothing, so that the difference is the journal. With the extra ``llm`` also of requests that call a model elsewhere.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from frugal_meter import Meter
from frugal_meter.journal.opening import open_store
from frugal_meter.testing import SyntheticSource

REQUESTS, BATCH, RUNS = 5000, 50, 5
USAGE = {"usage": {"prompt_tokens": 12, "completion_tokens": 200}}


def cost(journal: str | None, *, remote: bool = False, requests: int = REQUESTS) -> float:
    """CPU of the whole process per request, µs."""
    meter = Meter("bench", zone="FR", sources=SyntheticSource(2.0, 10.0), journal=journal, tick=60, workers="single")
    with meter:
        begun = time.process_time()
        for _ in range(requests // BATCH):
            for _ in range(BATCH):
                with meter.measure("answer", model="tiny", unit="answer") as span:
                    span.add_units(1)
                    span.add_tokens(input=20, output=30)
                    if remote:
                        with meter.remote(model="mistral-small", provider="mistralai") as call:
                            call.note(USAGE)
            meter.settle()
        return (time.process_time() - begun) / requests * 1e6


def size(journal: str) -> float:
    """Bytes per reading, its part of the books included."""
    with open_store(journal, create=False) as store:
        told = store.info()
        return float(told["bytes"] / told["readings"])


def show(name: str, addresses: list[str], *, remote: bool, requests: int) -> None:
    """Print one line of figures."""
    without = statistics.median(cost(None, remote=remote, requests=requests) for _ in addresses)
    kept = statistics.median(cost(address, remote=remote, requests=requests) for address in addresses)
    print(
        f"{name}: {kept - without:.0f} µs of CPU per request, off the request path; {size(addresses[-1]):.0f} bytes per reading"
    )


def main() -> None:
    """Print the figures."""
    print(f"{BATCH} requests a tick, {RUNS} runs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder:

        def addresses(kind: str) -> list[str]:
            return sys.argv[1:2] * RUNS or [f"sqlite:///{Path(folder) / f'{kind}{run}.db'}" for run in range(RUNS)]

        show("requests", addresses("plain"), remote=False, requests=REQUESTS)
        if find_spec("ecologits") is not None:
            cost(None, remote=True, requests=BATCH)  # its tables are read once
            show("requests with a call elsewhere, two readings each", addresses("remote"), remote=True, requests=1000)


if __name__ == "__main__":
    main()
