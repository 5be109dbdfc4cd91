"""A real PostgreSQL server for the tests: on a socket and a spare port of its own, killed with SIGKILL, brought back there."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import pytest

PATIENCE_S: Final = 60.0
_NUMBERS: Final = itertools.count(1)
_CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "system"
#: nothing is written to the disk itself: what is killed here is the server, never the machine
_SETTINGS: Final = {
    "fsync": "off", "full_page_writes": "off", "listen_addresses": "127.0.0.1", "timezone": "GMT", "log_timezone": "GMT",
    "shared_buffers": "16MB", "max_connections": "40", "autovacuum": "off", "lc_messages": "C",
}  # fmt: skip


def _programs() -> Path:
    """The folder of initdb and postgres: of the path, of Debian's package, or unpacked by scripts/system-parts.sh."""
    found = [Path(os.path.realpath(path)).parent for path in (shutil.which("initdb"),) if path]
    for root in (Path("/"), _CACHE):
        found += sorted((root / "usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    pytest.skip("PostgreSQL is not installed; on Debian: sh scripts/system-parts.sh, as root")


class PostgresServer:
    """One server over ``folder``; ``admin`` and every database's owner may come in without a password over the socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = _programs()
        self._process: subprocess.Popen[bytes] | None = None
        # Neither initdb nor the server runs as root.
        self._as: dict[str, Any] = {"user": "nobody", "group": os.stat("/dev/null").st_gid} if os.getuid() == 0 else {}
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = int(one.getsockname()[1])

    def __enter__(self) -> Self:
        try:
            self._make()
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _make(self) -> None:
        if self._as:
            shutil.chown(self.folder, "nobody")
            if not all(folder.stat().st_mode & 0o001 for folder in (self._programs, *self._programs.parents)):
                # Unpacked where root alone may look; it finds its own files relative to itself.
                unpacked = self._programs.parents[3]
                for part in ("lib/postgresql", "share/postgresql"):
                    shutil.copytree(unpacked / part, self.folder / "usr" / part, symlinks=True)
                self._programs = self.folder / "usr" / self._programs.relative_to(unpacked)
        options = ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = [str(self._programs / "initdb"), "-D", str(self.folder / "data"), "-U", "admin", *options]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, **self._as)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it, and return once it answers."""
        command = [
            str(self._programs / "postgres"),
            "-D",
            str(self.folder / "data"),
            "-k",
            str(self.folder),
            "-p",
            str(self.port),
        ]
        command += [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            to: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self._process = subprocess.Popen(command, cwd=self.folder, **to, **self._as)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(Exception), self.admin("postgres"):
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9 of it and all that serve its sessions, and return once they are gone. Does nothing to one that is dead."""
        if self._process is None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = [self._process.pid, *map(int, children.read_text().split())] if self._process.poll() is None else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process = None

    def admin(self, database: str) -> Any:
        """A connection with every right, closed at the end of a ``with``."""
        import psycopg

        return psycopg.connect(f"host={self.folder} port={self.port} user=admin dbname={database}", autocommit=True)

    def database(self) -> Database:
        """A new, empty database, and a user of the same name who owns it."""
        name = f"journal_{next(_NUMBERS)}"
        with self.admin("postgres") as link:
            link.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'")
            link.execute(f"CREATE DATABASE {name} OWNER {name} TEMPLATE template0")
        return Database(self, name)


class Database:
    """One database of a server; ``address`` is what a service is given."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server, self.name = server, name
        self.address = self.of()

    def of(self, *, password: str = "hunter2", user: str | None = None, database: str | None = None, more: str = "") -> str:
        """Its address over the loopback, with a password; what is given here stands instead."""
        return f"postgresql://{user or self.name}:{password}@127.0.0.1:{self.server.port}/{database or self.name}{more}"

    def run(self, *statements: str) -> list[Any]:
        """Run statements with every right; the rows of the last."""
        with self.server.admin(self.name) as link:
            for statement in statements:
                done = link.execute(statement)
            return done.fetchall() if done.description else []


@contextlib.contextmanager
def a_postgres() -> Iterator[PostgresServer]:
    """A running server in a folder of its own, a short one: a socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="fr-pg-") as folder, PostgresServer(Path(folder)) as server:
        yield server
