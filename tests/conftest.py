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

_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Meters of this run meet nobody else's: tests run side by side, with the same names of services."""
    folder = config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="frugal-run-")
    os.environ["FRUGAL_RUN_DIR"] = folder.name
    for name in ("KUBERNETES_SERVICE_HOST", "WEB_CONCURRENCY"):  # a budget's store is chosen by them, wherever tests run
        os.environ.pop(name, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_FOLDER].cleanup()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of this test's own, durable."""
    with a_server() as server:
        yield server
