"""A pytest plugin that runs somebody else's test suite with our hooks installed and a span active in every test.

    sh scripts/upstream-suites.sh          anyio's and Starlette's, without the hooks and with them, and what differs
    PYTHONPATH=tests python -m pytest -p hooks_plugin …/anyio-x.y/tests …/starlette-x.y/tests

Every loop, asyncio's and uvloop's, gets our task factory when it is made, and the span is set in the context that
loops and worker threads copy: so each task, executor call and anyio worker thread of those suites runs metered.
What fails here and not without ``-p hooks_plugin`` is ours to mend.
"""

from __future__ import annotations

import asyncio.base_events
import functools
from typing import Any

import pytest
import uvloop

from frugal_meter import Meter
from frugal_meter.attribution import hooks
from frugal_meter.attribution.span import SPAN
from frugal_meter.testing import SyntheticSource

_KEY = pytest.StashKey[Meter]()


def _watched(loop_class: type[Any]) -> None:
    """Loops of ``loop_class`` are watched from their birth on."""
    inner = loop_class.__init__

    @functools.wraps(inner)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        inner(self, *args, **kwargs)
        hooks.watch_loop(self)

    loop_class.__init__ = __init__


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported."""
    hooks.install()
    _watched(asyncio.base_events.BaseEventLoop)
    _watched(uvloop.Loop)
    meter = Meter("upstream", zone="FR", sources=[SyntheticSource(2, 10)])
    config.stash[_KEY] = meter
    SPAN.set(meter.open_span("block"))
    meter.start()


def pytest_report_header(config: pytest.Config) -> str:
    """Say so, lest a run without the hooks is taken for one with them."""
    return "frugal_meter hooks: installed, and a span around every test"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What the span was charged shows that the tests did run through the hooks."""
    meter = config.stash[_KEY]
    span = meter.current()
    meter.settle()
    terminalreporter.write_line(f"frugal_meter hooks: {span.reading.cpu_s:.1f} CPU-s charged to the span")
