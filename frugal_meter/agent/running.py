"""The daemon: sensors found, doors opened, and one loop until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from ..attribution.idle import Baseline
from ..errors import ConfigurationError, SourceError
from ..records import Interval
from ..sources import Source, agent_findings, model_findings
from ..sources.agent_protocol import FINEST_NS
from ..sources.discovery import Discovery, discover
from ..sources.host_root import Roots
from ..sources.procfs import HostCpu
from .doors import tcp_door, tokens_of, unix_door
from .host import Host
from .memory import boot_id, recall, remember
from .server import MAX_CONNECTIONS, Server

log = logging.getLogger("frugal_meter")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent is told: see docs/agent.md."""

    socket: Path | None
    group: str | None = None
    tcp: str | None = None
    tokens: Path | None = None
    metrics: str | None = None
    metrics_token: str | None = None
    period_s: float = 1.0
    state: Path | None = None
    idle_watts: Mapping[str, float] = {}
    roots: Roots = Roots()


class Agent:
    """A host agent; `run` serves until SIGTERM or SIGINT. Raises ConfigurationError, SourceError where there is no sensor."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self.errors = settings, dict[str, int]()
        if settings.socket is None and settings.tcp is None:
            raise ConfigurationError("the agent needs a door: --socket PATH, --tcp ADDRESS, or both")
        if not FINEST_NS / 1e9 <= settings.period_s <= 60:
            raise ConfigurationError(f"--period {settings.period_s:g}: seconds between passes, from 0.1 to 60")
        self.tokens = tokens_of(settings.tokens) if settings.tokens is not None else {}
        if settings.tcp is not None and not self.tokens:
            raise ConfigurationError("--tcp needs --tokens FILE: nobody else can tell there who asks")
        self.host = _host(settings, self.fault)
        self._boot = boot_id(settings.roots.proc)
        if settings.state is not None:
            recall(settings.state, self.host, self._boot)

    def fault(self, stage: str, error: BaseException) -> None:
        """Count what failed and go on; each stage is logged once."""
        if stage not in self.errors:
            log.warning("frugal_meter: agent: %s failed (%s: %s)", stage, type(error).__name__, error)
        self.errors[stage] = self.errors.get(stage, 0) + 1

    def run(self, ready: Callable[[list[str]], None]) -> None:
        """Serve until told to stop; ``ready`` gets the addresses once they are open."""
        with contextlib.suppress(OSError, ValueError):  # fewer will do until there are more connections
            resource.setrlimit(resource.RLIMIT_NOFILE, _files())
        with contextlib.ExitStack() as stack:
            stack.callback(self.host.close)
            doors, addresses = [], []
            if (path := self._settings.socket) is not None:
                doors.append(stack.enter_context(unix_door(path, self._settings.group)))
                addresses.append(str(path))
            if self._settings.tcp is not None:
                door = stack.enter_context(tcp_door(self._settings.tcp))
                doors.append(door)
                addresses.append("tcp://{}:{}".format(*door.getsockname()))
            if self._settings.metrics is not None:
                addresses.append(self._serve_metrics(self._settings.metrics, stack))
            asyncio.run(self._serve(doors, lambda: ready(addresses)))

    async def _serve(self, doors: list[socket.socket], ready: Callable[[], None]) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop.set)
        server = Server(self.host, tokens=self.tokens, period_s=self._settings.period_s, after=self._remember, fault=self.fault)

        def is_ready() -> None:
            ready()
            _notify()

        await server.serve(doors, stop, is_ready)

    def _remember(self) -> None:
        if self._settings.state is not None:
            try:
                remember(self._settings.state, self.host, self._boot)
            except OSError as error:
                self.fault("state", error)

    def _serve_metrics(self, address: str, stack: contextlib.ExitStack) -> str:
        from ..exporters.ops import OpsServer
        from .metrics import metrics_app

        token = self._settings.metrics_token
        app = metrics_app(self.host, self.errors, token=token, public=False)
        try:
            server = OpsServer(app, address, guarded=token is None)
        except ConfigurationError as error:
            raise ConfigurationError(f"--metrics: {error}; the token is read from FRUGAL_OPS_TOKEN") from None
        stack.callback(server.stop)
        return f"{server.url}metrics"


def _host(settings: Settings, fault: Callable[[str, BaseException], None]) -> Host:
    roots = settings.roots
    found = discover("auto", powercap_root=roots.powercap, proc_root=roots.proc, sys_root=roots.sys)
    sensors = [source for source in found.sources if source.tier == "measured"]
    if not sensors:
        of_rapl = (finding for finding in found.findings if finding.code.startswith("rapl"))
        why = agent_findings.nothing_to_hand_out(next(of_rapl, model_findings.no_package(roots.powercap)))
        raise SourceError(why.what, why.where, why.remedy)
    names = {source.name for source in sensors} | {source.component for source in sensors}
    if unknown := sorted(set(settings.idle_watts) - names):
        raise ConfigurationError(f"--idle-watts {unknown[0]}: no sensor or component here; known: {', '.join(sorted(names))}")
    baselines = [_baseline(source, sensors, settings.idle_watts, found) for source in sensors]
    return Host(sensors, baselines, HostCpu(roots.proc, roots.sys), fault=fault)


def _baseline(source: Source, sensors: list[Source], configured: Mapping[str, float], found: Discovery) -> Baseline:
    """Idle watts as declared, else the CPU's by the table (its packages share it evenly) until idleness is observed."""
    packages = sum(each.component == "cpu" for each in sensors)
    by_table: Interval | None = found.baseline.times(1 / packages) if found.baseline and source.component == "cpu" else None
    return Baseline(configured.get(source.name, configured.get(source.component)), by_table)


def _files() -> tuple[int, int]:
    """As many open files as connections and processes need, where the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 3 * MAX_CONNECTIONS
    return (max(soft, needed if hard == resource.RLIM_INFINITY else min(needed, hard)), hard)


def _notify() -> None:
    """Tell systemd that the doors are open: sd_notify(3)."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)
