"""A real Prometheus of the test's own: started on a spare port, asked over HTTP, ended by its process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_S

ROOT = Path(__file__).parent.parent


def tool(name: str) -> str:
    """Where `prometheus` or `promtool` is: on the path, or where scripts/system-parts.sh unpacks it."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:{ROOT / '.cache/system/usr/bin'}")
    if found is None:
        pytest.skip(f"{name} is not installed: it comes with Debian's package prometheus (sh scripts/system-parts.sh)")
    return found


def a_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Prometheus:
    """One server: ``ask`` gives the result of a PromQL expression."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.address, self._process, self._log = f"http://127.0.0.1:{port}", process, log

    def get(self, path: str, **query: Any) -> Any:
        """The data of an answer of the API; AssertionError with Prometheus's own words where it refuses."""
        try:
            with urllib.request.urlopen(f"{self.address}{path}?{urllib.parse.urlencode(query)}", timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query.get('query')}: {error.read().decode()}") from None

    def ask(self, expression: str, at_s: float) -> dict[frozenset[tuple[str, str]], float]:
        """Labels and value of each series of ``expression`` at a moment (Unix time, s)."""
        found = self.get("/api/v1/query", query=expression, time=f"{at_s:.3f}")["result"]
        return {frozenset(series["metric"].items()): float(series["value"][1]) for series in found}

    def ready(self) -> bool:
        """Whether it answers queries."""
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=PATIENCE_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextlib.contextmanager
def prometheus(folder: Path, configuration: str, *flags: str) -> Iterator[Prometheus]:
    """A Prometheus with its data in ``folder``; ended when the block ends."""
    (folder / "prometheus.yml").write_text(configuration)
    port, log = a_port(), folder / "prometheus.log"
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            server, deadline = Prometheus(port, process, log), time.monotonic() + 3 * PATIENCE_S
            while not server.ready():
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
