"""A real redis-server for the tests: started on a socket of its own, killed with SIGKILL, brought back at the same address."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from frugal_meter.budgets.stores import Answer
from frugal_meter.budgets.stores.redis import RedisStore

if TYPE_CHECKING:
    import redis

PATIENCE_S = 20.0
_DOCS: Final = Path(__file__).parent.parent / "docs" / "redis.md"


def _acl() -> list[str]:
    """The rule that the documents advise, for the service of the tests: the least a store needs."""
    for line in _DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("ACL SETUSER "):
            return line.replace("{accueil-usagers}", "{tests}").replace(">password", ">s3same").split()[2:]
    raise AssertionError(f"{_DOCS.name} has no ACL rule")


class RedisServer:
    """One server over ``folder``; ``url`` says how to reach it, through a socket's path or over TLS.

    kind: "redis" or "valkey". durable: an append-only file, synced at every write. tcp: a port too, for replicas. cluster: a node
    of one, with no slots yet.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: str = "redis",
        durable: bool = True,
        tls: bool = False,
        tcp: bool = False,
        cluster: bool = False,
        replica_of: RedisServer | None = None,
    ) -> None:
        binary = shutil.which(f"{kind}-server")
        if binary is None:
            pytest.skip(f"{kind}-server is not installed; on Debian: sh scripts/system-parts.sh, as root")
        self.folder, self.durable, self.tls, self.cluster = folder, durable, tls, cluster
        self.binary, self._replica_of = binary, replica_of
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "redis.sock"
        self.port = _spare_port() if tls or tcp or cluster or replica_of else 0
        self.url = f"rediss://frugal:s3same@127.0.0.1:{self.port}/0" if tls else f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}/0"
        if tls:
            self.certificate = _certificate(folder)
            self.url += f"?ssl_ca_certs={self.certificate}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process that answers."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it answers."""
        command = [self.binary, "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", "", "--bind", "127.0.0.1"]
        command += ["--repl-diskless-sync-delay", "0"]
        command += ["--port", str(0 if self.tls else self.port), "--logfile", str(self.folder / "redis.log")]
        if self.durable:
            command += ["--appendonly", "yes", "--appendfsync", "always"]
        if self.tls:
            command += ["--tls-port", str(self.port), "--tls-auth-clients", "no", "--user", *_acl()]
            command += ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.folder / "key.pem")]
        if self.cluster:
            self.bus = _spare_port()
            command += ["--cluster-enabled", "yes", "--cluster-port", str(self.bus)]
        if self._replica_of is not None:
            command += ["--replicaof", "127.0.0.1", str(self._replica_of.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.wait_until(lambda client: client.ping())
        if self._replica_of is not None:
            self.wait_until(lambda client: client.info("replication")["master_link_status"] == "up")

    def kill(self) -> None:
        """kill -9: no farewell, no flush. Does nothing to one that is dead."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process = None
        self.socket.unlink(missing_ok=True)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """While this lasts it takes connections and answers nothing, as a server on a machine that swaps."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client of the tests' own, with every right."""
        import redis  # takes half a second, and this module is known to all tests

        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True, protocol=2)

    def wait_until(self, ready: Callable[[redis.Redis], Any]) -> None:
        """Return once ``ready(client)`` says so; not for longer than a while."""
        from redis import RedisError

        deadline = time.monotonic() + PATIENCE_S
        with self.client() as client:
            while True:
                with contextlib.suppress(RedisError):
                    if ready(client):
                        return
                assert self._process is not None
                assert self._process.poll() is None, (self.folder / "redis.log").read_text()
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.01)


class Sentinel:
    """One sentinel that watches ``primary`` under the name "budgets" and alone decides who takes its place."""

    def __init__(self, folder: Path, primary: RedisServer) -> None:
        self.port, self._log = _spare_port(), folder / "sentinel.log"
        told = folder / "sentinel.conf"
        told.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nlogfile {self._log}\n"
            f"sentinel monitor budgets 127.0.0.1 {primary.port} 1\nsentinel down-after-milliseconds budgets 300\n"
            "sentinel failover-timeout budgets 3000\n"
        )
        command = [primary.binary, str(told), "--sentinel"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def wait_until(self, ready: Callable[[dict[str, Any]], Any]) -> None:
        """Return once ``ready(what it says of the primary)``; not for longer than a while."""
        import redis

        deadline = time.monotonic() + PATIENCE_S
        with redis.Redis(port=self.port, decode_responses=True, protocol=2) as client:
            while True:
                with contextlib.suppress(redis.RedisError):
                    if ready(client.sentinel_master("budgets")):
                        return
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.01)


class StoreOfItsTime(RedisStore):
    """A store whose server's clock seems to go with ``now_s``: it cannot be turned, so what is written there is made older."""

    def __init__(self, server: RedisServer, service: str, clock: list[float]) -> None:
        super().__init__(server.url, service)
        self._server, self._service, self._clock = server, service, clock

    def exchange(self, holder: str, seq: int, reports: Any, asks: Any, now_s: float) -> Answer:
        """See `RedisStore`; ``clock`` holds the time of the last exchange over all stores of one server."""
        if self._clock and now_s > self._clock[0]:
            age(self._server, now_s - self._clock[0], self._service)
        self._clock[:] = [now_s]
        return super().exchange(holder, seq, reports, asks, now_s)


def age(server: RedisServer, seconds: float, service: str = "tests") -> None:
    """As if ``seconds`` had gone by since all that was written."""
    with server.client() as client:
        holders = f"frugal:{{{service}}}:holders"
        for holder in client.zrange(holders, 0, -1):
            client.zincrby(holders, -seconds * 1000, holder)
        for account in client.scan_iter(f"frugal:{{{service}}}:a:*"):
            client.hincrby(account, "swept", -round(seconds * 1000))


@contextlib.contextmanager
def a_server(**options: Any) -> Iterator[RedisServer]:
    """A running server in a folder of its own, a short one: a socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="fr-") as folder, RedisServer(Path(folder), **options) as server:
        yield server


def _spare_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _certificate(folder: Path) -> Path:
    certificate = folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(certificate)],
        check=True, capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip
    return certificate
