"""What every test runs in."""

from __future__ import annotations

import os
import tempfile

import pytest

_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Meters of this run meet nobody else's: tests run side by side, with the same names of services."""
    folder = config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="frugal-run-")
    os.environ["FRUGAL_RUN_DIR"] = folder.name


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_FOLDER].cleanup()
