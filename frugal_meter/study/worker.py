"""The process that serves one repetition: the application under its meter, told over stdin which phase it is in.

``python -m frugal_meter.study.worker``. It reads a `Job` as one line of JSON, then one word a line (start, rest, load, end), and
answers each with one line of JSON; whatever the application prints goes to stderr. It ends when stdin does.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from ..carbon.sci import NOT_COUNTED
from ..errors import ConfigurationError, FrugalMeterError, MissingExtraError
from ..journal.rows import PassRow, pass_of, spans_of
from ..loading import load_app, meter_of
from ..meter import Meter
from ..middleware import MeterMiddleware
from ..records import Reading, Tick
from ..sources.cpuinfo import cpu_model
from ..sources.procfs import memory_bytes
from .declaring import CarbonTable, embodied_of, pue_of
from .raw import Head, Mark, ReadingLine, encoded, pass_line
from .results import Embodied, Machine, Pue, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

    from ..exporters.view import MeterView

#: an application that loads a large model may take this long to come up
PATIENCE_S: Final = 600.0
#: how long work may go on after the last answer, and still be booked as the load's
LINGER_S: Final = 30.0
_SETTLE_S: Final = 60.0


class DidNotStart(ConfigurationError):
    """The application's start failed; why is in its log."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve: ``raw`` is the file that records go to; ``meter`` are settings for an application without one."""

    variant: str
    round: int
    app: str
    factory: bool
    service: str
    meter: dict[str, Any]
    carbon: CarbonTable
    raw: str
    began_at: str


class Recorder:
    """An exporter that writes passes and readings as lines of raw data, weighed as the study declares."""

    needs_readings = True

    def __init__(self, out: IO[bytes], carbon: CarbonTable) -> None:
        self._out, self._carbon = out, carbon
        self._meter: MeterView | None = None
        self._lock = threading.Lock()
        self.lost: str | None = None  # why something could not be written

    def bind(self, meter: MeterView) -> None:
        """Look at this meter for what ticks do not say."""
        self._meter = meter

    def export(self, readings: Sequence[Reading], ticks: Sequence[Tick]) -> None:
        """Write what settled in one tick, without tenants."""
        if ticks:
            self.write(encoded(pass_line(self._row(ticks))))
        for reading in readings:
            self.write(encoded(ReadingLine(reading=msgspec.structs.replace(reading, tenant=None))))

    def write(self, line: bytes) -> None:
        """One line. A failure is kept: the meter would count it and go on, and a study must not."""
        with self._lock:
            try:
                if self._out.write(line) != len(line):
                    self.lost = "no room"
            except OSError as error:
                self.lost = error.strerror

    def _row(self, ticks: Sequence[Tick]) -> PassRow:
        meter = self._meter
        assert isinstance(meter, Meter)
        pue = pue_of(self._carbon) or meter.setup.pue
        setup = msgspec.structs.replace(meter.setup, embodied=embodied_of(self._carbon, meter.setup.embodied))
        books = pass_of(
            meter.figures,
            ticks,
            pue=pue.interval,
            embodied_g=setup.embodied_grams,
            embodied_spread=setup.embodied_spread,
            flags=(*(flag for flag in meter.figures.flags if flag != "pue:default"), *pue.flags),
        )
        return PassRow(books, {tick.source: spans_of(tick) for tick in ticks})


class Worker:
    """One repetition's service: a meter of its own while the application loads, then the application's."""

    def __init__(self, job: Job, out: IO[bytes]) -> None:
        self.job = job
        self._recorder = Recorder(out, job.carbon)
        self._meter: Meter | None = None

    def loaded(self) -> Any:
        """The application, metered. What loading costs is booked by a meter that is there before it."""
        job = self.job
        first = self._own_meter()
        if first.disabled:
            raise ConfigurationError("FRUGAL_DISABLED is set: nothing would be measured; unset it")
        if not first.setup.sources:
            raise ConfigurationError("no source of joules on this machine: see frugal-meter doctor")
        first.export_to(self._recorder)
        self._mark("start")
        first.start()
        try:
            app = load_app(job.app, factory=job.factory, metered=True)
            own = meter_of(app)
        except BaseException:
            first.stop()
            raise
        if own is None:
            self._meter = first
            return MeterMiddleware(app, meter=first)
        _settled(first)
        first.stop()
        self._check(own, first.setup.factor.zone)
        own.export_to(self._recorder)
        own.start()
        self._meter = own
        return app

    def _own_meter(self) -> Meter:
        return Meter(**{"service": self.job.service, "zone": self.job.carbon.zone, "workers": "single", **self.job.meter})

    def _check(self, own: Meter, ours: str) -> None:
        theirs = own.setup.factor.zone
        if theirs != ours:
            raise ConfigurationError(
                f"[carbon] zone is {ours!r} and the service's own meter has {theirs!r}: a study has one; mend either"
            )
        if own.sampler.running:
            raise ConfigurationError(
                f"{self.job.app}: its meter runs before it is served; leave meter.start() to the middleware, or to its lifespan"
            )
        if self.job.meter:
            raise ConfigurationError(
                f"[service.meter] {', '.join(self.job.meter)}: {self.job.app} meters itself; set these where it makes its Meter"
            )

    def phase(self, name: str) -> None:
        """Book all that was so far to the phase before, and begin another."""
        meter = self._meter
        assert meter is not None
        until = time.monotonic() + LINGER_S
        while meter.sampler.live and time.monotonic() < until:
            time.sleep(0.01)
        _settled(meter)
        self._mark(name)
        if self._recorder.lost is not None:
            raise ConfigurationError(
                f"{self.job.raw}: cannot be written ({self._recorder.lost}); set TMPDIR to a place with room"
            )
        if meter.dropped:
            raise ConfigurationError(f"{meter.dropped} readings were lost: the machine is too slow for so many at once")

    def _mark(self, name: str) -> None:
        self._recorder.write(encoded(Mark(name=name, at_s=time.time())))  # type: ignore[arg-type]

    def stop(self) -> None:
        """End the meter."""
        if self._meter is not None:
            self._meter.stop()

    @property
    def head(self) -> Head:
        """Who was measured, as far as this process knows."""
        meter, job = self._meter, self.job
        assert meter is not None
        setup = meter.setup
        pue, hardware = pue_of(job.carbon) or setup.pue, embodied_of(job.carbon, setup.embodied)
        return Head(
            variant=job.variant,
            round=job.round,
            began_at=job.began_at,
            service=meter.service,
            zone=setup.factor.zone,
            factors=(setup.factor, *(each for _, each in setup.steps)),
            pue=Pue(value=pue.interval, source=pue.source, flags=pue.flags),
            embodied=None if hardware is None else Embodied(**msgspec.structs.asdict(hardware)),
            machine=machine(meter),
            not_counted=NOT_COUNTED,
            versions={name: metadata.version(name) for name in ("frugal-meter", "starlette", "uvicorn", "msgspec")},
        )


def machine(meter: Meter) -> Machine:
    """This machine, without its name."""
    sources = meter.setup.sources
    held = memory_bytes()
    return Machine(
        cpu=found.name if (found := cpu_model()) is not None else None,
        cpus=os.cpu_count(),
        memory_gib=None if held is None else round(held / 2**30, 1),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        python=platform.python_version(),
        sensors=tuple(Sensor(source=each.name, component=each.component, tier=each.tier) for each in sources),
        host_share=meter.ledger.slice.declared,
    )


def _settled(meter: Meter) -> None:
    if not meter.settle(_SETTLE_S):
        raise ConfigurationError(f"the meter did not settle within {_SETTLE_S:g} s: is the machine overloaded?")


@contextmanager
def _serving(app: Any) -> Iterator[str]:
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError("cli", "frugal-meter study run") from None
    up = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            up.set()

    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False))

    def run() -> None:
        try:
            server.run()
        finally:
            up.set()

    thread = threading.Thread(target=run, name="uvicorn")
    thread.start()
    try:
        if not up.wait(PATIENCE_S) or not server.started:
            raise DidNotStart("the application did not start")
        yield _address(server)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


def _address(server: uvicorn.Server) -> str:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return f"http://{host}:{port}"


def main() -> int:
    """Serve one repetition; exit code 2 for what the user can mend, said on stdout as ``{"error": …}``."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**what: str) -> None:
        told.write(msgspec.json.encode(what).decode() + "\n")
        told.flush()

    job = msgspec.json.decode(sys.stdin.readline(), type=Job)
    try:
        # Unbuffered: what a full disk does not take is known at once, and not when the file is closed.
        with Path(job.raw).open("wb", buffering=0) as out:
            worker = Worker(job, out)
            try:
                _serve(worker, tell)
            finally:
                worker.stop()
    except FrugalMeterError as error:
        tell(error=str(error), see="log" if isinstance(error, DidNotStart) else "")
        return 2
    return 0


def _serve(worker: Worker, tell: Callable[..., None]) -> None:
    with _serving(worker.loaded()) as url:
        tell(url=url, head=encoded(worker.head).decode())
        for word in map(str.strip, sys.stdin):
            worker.phase(word)
            tell(phase=word)
            if word == "end":
                break


if __name__ == "__main__":
    raise SystemExit(main())
