"""What every test runs in."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings
from postgres_server import PostgresServer, a_postgres
from redis_server import RedisServer, a_server
from support import burn

# The same examples at every run, and no clock in a verdict: the machines are shared.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

#: what a test imports when its verdict hangs on the clocks and the scheduler of a machine that others use too
_OF_THE_MACHINE = frozenset(
    (
        *("subprocess", "time", "agent_house", "browser", "dashboard_run", "journal_house", "native_burner", "otlp_receiver"),
        *("postgres_server", "real_prometheus", "redis_server", "served_app", "worker_house", "worker_process"),
    )
)

_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Meters of this run meet nobody else's: tests run side by side, with the same names of services."""
    folder = config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="frugal-run-")
    os.environ["FRUGAL_RUN_DIR"] = folder.name
    for name in ("KUBERNETES_SERVICE_HOST", "WEB_CONCURRENCY"):  # a budget's store is chosen by them, wherever tests run
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; the servers of tests must not inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Two more tries where real CPU is burned or real processes share the machine, told in the report; none elsewhere."""
    modules = {item.module for item in items if isinstance(item, pytest.Function)}
    unsteady = {module for module in modules if any(_of_the_machine(thing) for thing in vars(module).values())}
    for item in items:
        if isinstance(item, pytest.Function) and item.module in unsteady:
            item.add_marker(pytest.mark.flaky(reruns=2))
        if config.getoption("loadgroup", False):
            _keep_together(item)


def _keep_together(item: pytest.Item) -> None:
    """Name the group in the item's id, by which `--dist loadgroup` sends it to one process: pytest-xdist 3.8 writes it where
    pytest 9.2 no longer reads it, and each process then made a module's servers anew.
    """
    mark, id = item.get_closest_marker("xdist_group"), getattr(item, "_id", None)
    if mark is not None and id is not None and not item.nodeid.endswith(suffix := f"@{mark.args[0]}"):
        item._id = type(id).parse(f"{item.nodeid}{suffix}")  # type: ignore[attr-defined]


def _of_the_machine(thing: object) -> bool:
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return thing is burn or name in _OF_THE_MACHINE


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_FOLDER].cleanup()


@pytest.fixture(autouse=True)
def _no_budget_outlives_its_test() -> Iterator[None]:
    """What a meter alone has kept of its budgets would be taken up by the next test's."""
    yield
    for file in Path(os.environ["FRUGAL_RUN_DIR"]).glob("budgets-*"):
        file.unlink(missing_ok=True)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of this test's own, durable."""
    with a_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the tests of this process; each takes a database of its own. It is neither stopped nor killed."""
    with a_postgres() as server:
        yield server
