"""An hour of a service, compressed: do the books close in Prometheus as well, and against what the source truly gave?"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from real_prometheus import prometheus, tool
from support import burn

from frugal_meter import Meter
from frugal_meter.testing import FrozenClock, SyntheticSource

SCRAPES, EVERY_S = 240, 15
#: what is attributed, what is not, and the whole
BOOKED = ("frugal_energy_joules_total", "frugal_unattributed_energy_joules_total")
HOST = "frugal_host_energy_joules_total"
LATE = SCRAPES // 2


class Scrapes:
    """Expositions with the moment of each, as promtool reads them: OpenMetrics, a family at a time."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}
        self._kinds: dict[str, str] = {}

    def add(self, exposition: bytes, at_s: float) -> None:
        """One scrape's counters of energy."""
        for family in text_string_to_metric_families(exposition.decode()):
            for sample in family.samples:
                if sample.name in (*BOOKED, HOST):
                    labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                    line = f'{sample.name}{{job="hour",{labels}}} {sample.value!r} {at_s:.3f}'
                    self._lines.setdefault(family.name.removesuffix("_total"), []).append(line)

    def text(self) -> str:
        """All of them."""
        families = (f"# TYPE {name} counter\n" + "\n".join(lines) + "\n" for name, lines in self._lines.items())
        return "".join(families) + "# EOF\n"


@pytest.fixture(scope="module")
def hour() -> tuple[Scrapes, float, float]:
    """An hour's scrapes, the moment of the last, and the joules that the source gave between the first and the last.

    The clock is virtual; the CPU burned is real, and a CPU-second costs as much as minutes of a server's do.
    """
    clock, source, scrapes = FrozenClock(), SyntheticSource(idle_watts=20, watts_per_cpu=100_000), Scrapes()
    with Meter("hour", zone="FR", sources=source, clock=clock, tick=60) as meter:
        clock.advance(1)
        # routes of an application are there at 0 from its start-up; a block of code is there once it has run
        for route in ("/ask", "/search"):
            with meter.measure(route, model="small"):
                pass
        meter.settle()
        scrapes.add(meter.metrics()[0], clock.time_ns() / 1e9)
        begun_nj = source.truth_nj
        for number in range(SCRAPES):
            with meter.measure("/ask" if number % 3 else "/search", model="small"):
                burn(0.002)
            if number > LATE and number % 2:
                with meter.measure("/born-late", model="large"):
                    burn(0.001)
            clock.advance(EVERY_S)
            meter.settle()
            scrapes.add(meter.metrics()[0], clock.time_ns() / 1e9)
        return scrapes, clock.time_ns() / 1e9, (source.truth_nj - begun_nj) / 1e9


def test_an_hour_of_requests_and_the_rest_is_the_hosts_energy_in_prometheus(
    hour: tuple[Scrapes, float, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scrapes, ended_s, true_j = hour
    (tmp_path / "hour.txt").write_text(scrapes.text())
    command = [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", "hour.txt", "data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    with prometheus(tmp_path, "scrape_configs: []\n", "--storage.tsdb.retention.time=100y") as server:

        def grew(*names: str) -> float:
            terms = " + ".join(f"sum(increase({name}[{SCRAPES * EVERY_S}s]))" for name in names)
            (value,) = server.ask(terms, ended_s).values()
            return value

        attributed, rest, host = (grew(name) for name in (*BOOKED, HOST))
        (late,) = server.ask('sum(frugal_energy_joules_total{route="/born-late"})', ended_s).values()
        (seen,) = server.ask(
            f'sum(increase(frugal_energy_joules_total{{route="/born-late"}}[{SCRAPES * EVERY_S}s]))', ended_s
        ).values()
    with capsys.disabled():
        print(
            f"\n  one hour, {SCRAPES} scrapes: requests {attributed:.1f} + unattributed {rest:.1f} = {attributed + rest:.1f} J"
            f"\n  host {host:.1f} J ({(attributed + rest) / host - 1:+.3%}); source {true_j:.1f} J ({host / true_j - 1:+.3%})"
            f"\n  of the route born late increase() saw {seen:.1f} J of {late:.1f} J ({seen / late - 1:+.2%})"
        )
    assert attributed > 0.02 * host  # a crowded machine works longer at everything else
    assert attributed + rest == pytest.approx(host, rel=0.005)
    assert host == pytest.approx(true_j, rel=0.005)
    assert seen < late  # why a figure that is cited is summed from readings
