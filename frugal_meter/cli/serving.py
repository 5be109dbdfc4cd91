"""``frugal-meter run``: the application on uvicorn with the meter around it, its ops pages on a port of their own."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError, MissingExtraError
from ..exporters.dispatch import OPS_THREAD
from ..exporters.otel import with_otel
from ..meter import Meter
from ..middleware import MeterMiddleware
from .account import Tally, account
from .texts import Words

if TYPE_CHECKING:
    from uvicorn import Server

    from ..exporters.ops import OpsServer

#: exit code of an application that did not come up, as uvicorn's own command line gives it
STARTUP_FAILED: Final = 3
NOWHERE: Final = "off"


def refuse_workers(workers: int) -> None:
    """Raise ConfigurationError unless there is one worker."""
    if workers != 1:
        raise ConfigurationError(
            f"--workers {workers}: one worker only in this version, for each would keep its own budgets; "
            "run one per container, each with its host_share"
        )


def serve(
    app: Any, settings: Mapping[str, Any], *, host: str, port: int, ops: str, words: Words, config: Path | None = None
) -> int:
    """Serve ``app`` until SIGINT or SIGTERM, then print the account; returns the exit code.

    ``settings`` are keyword arguments of `Meter`, those of ``config`` included, whose budgets are taken up anew when it changes;
    ``ops`` is an address or "off". What it says goes to stderr, for stdout is the application's. Raises ConfigurationError (a
    port that is taken, a zone unknown, …) and MissingExtraError.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError("cli", "frugal-meter run") from None
    tally = Tally()
    meter = _metering({**settings, "exporters": [tally]}, config)
    began = time.monotonic()
    logging.getLogger("uvicorn.error").addFilter(_not_of_the_pages)
    with listening(host, port, "--port") as door, _ops_pages(meter, ops) as pages:

        class Announcing(uvicorn.Server):
            """Says where it listens once the application is up."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
                if self.started:
                    _say(*announcement(meter, _url(door), pages, words))

        # created after the ops server, whose own configuration quietens uvicorn's loggers
        server = Announcing(uvicorn.Config(MeterMiddleware(app, meter=meter), interface="asgi3"))
        with meter, _stopping(server):
            server.run([door])
    if not server.started:
        return STARTUP_FAILED
    if not meter.disabled:
        _say(*account(meter, tally, time.monotonic() - began, words))
    return 0


def _metering(settings: dict[str, Any], config: Path | None) -> Meter:
    if config is None:
        return Meter(**with_otel(settings))
    return Meter.from_config(config, **{name: value for name, value in settings.items() if name not in ("budgets", "otel")})


def _not_of_the_pages(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's is the application's: that its ops pages start and end is said by the addresses."""
    return record.threadName != OPS_THREAD or record.levelno >= logging.WARNING


@contextmanager
def listening(host: str, port: int, option: str) -> Iterator[socket.socket]:
    """A socket bound to ``host`` and ``port``, closed at the end; ConfigurationError names ``option`` when it cannot be."""
    door = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with door:
        try:
            door.bind((host, port))
        except OSError as error:
            raise ConfigurationError(_why_not(host, port, option, error)) from None
        yield door


def _why_not(host: str, port: int, option: str, error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine ({error.strerror}); use 127.0.0.1, or 0.0.0.0 for all of them"
    if error.errno == errno.EACCES:
        return f"port {port} is not open to this user ({error.strerror}): choose one above 1023 with {option}"
    why = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
    return f"port {port} of {host} {why}: choose another with {option} (port 0 takes a spare one)"


@contextmanager
def _ops_pages(meter: Meter, address: str) -> Iterator[OpsServer | None]:
    if address == NOWHERE:
        yield None
        return
    host, _, port = address.rpartition(":")
    if port.isdigit() and int(port) < 65536:
        # asked here first, for a line that names the option to change
        with listening(host.strip("[]") or "127.0.0.1", int(port), "--ops"):
            pass
    try:
        pages = meter.serve_ops(address, token=os.environ.get("FRUGAL_OPS_TOKEN"))
    except ConfigurationError as error:
        hint = "the token is read from FRUGAL_OPS_TOKEN, and --ops off serves no pages"
        raise ConfigurationError(f"--ops: {error}; {hint}") from None
    try:
        yield pages
    finally:
        pages.stop()


@contextmanager
def _stopping(server: Server) -> Iterator[None]:
    """Take SIGINT and SIGTERM as the end that was asked for: uvicorn raises them again once it has stopped."""

    def stop(signum: int, frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def announcement(meter: Meter, url: str, pages: OpsServer | None, words: Words) -> list[str]:
    """Where the application, the live page and the metrics are."""
    if meter.disabled:
        head = words("run_disabled")
    else:
        head = words("run_serving", service=meter.service)
    places = [(words("run_app"), url)]
    if pages is not None:
        places += [(words("run_page"), pages.url), (words("run_metrics"), f"{pages.url}metrics")]
    width = max(len(label) for label, _ in places)
    return [head, *(f"  {label:<{width}}  {place}" for label, place in places)]


def _url(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _say(head: str, *lines: str) -> None:
    print(f"frugal-meter: {head}", *lines, sep="\n", file=sys.stderr, flush=True)
