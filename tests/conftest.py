"""What every test runs in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings
from redis_server import RedisServer, a_server

# The same examples at every run, and no clock in a verdict: the machines are shared.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

#: these start several real processes and compare their clocks on a machine that others use too: one more try, told by the report
REAL_PROCESSES = frozenset(
    (
        *("test_agent", "test_agent_doors", "test_agent_running", "test_multiprocess", "test_people", "test_ring_pools"),
        *("test_sharing", "test_store_away", "test_store_redis", "test_streams", "test_workers", "test_libraries", "test_fluid"),
        *("test_companions", "test_dashboards_true", "test_closure", "test_live_page_in_browser", "test_refusal_forms"),
        *("test_cli", "test_demo", "test_journal", "test_otel", "test_fork", "test_hooks", "test_stateful", "test_host_changes"),
    )
)

_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Meters of this run meet nobody else's: tests run side by side, with the same names of services."""
    folder = config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="frugal-run-")
    os.environ["FRUGAL_RUN_DIR"] = folder.name
    for name in ("KUBERNETES_SERVICE_HOST", "WEB_CONCURRENCY"):  # a budget's store is chosen by them, wherever tests run
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One more try where real processes share the machine."""
    for item in items:
        if item.path.stem in REAL_PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_FOLDER].cleanup()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of this test's own, durable."""
    with a_server() as server:
        yield server
