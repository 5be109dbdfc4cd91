"""Live grids: replies in the documented shape, served on loopback by a real HTTP server; garbage, refusals and silence too."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from frugal_meter import Meter
from frugal_meter.carbon import factor as bundled
from frugal_meter.carbon.factors import Factor
from frugal_meter.carbon.fuels import LIFECYCLE_G_PER_KWH, lifecycle_of
from frugal_meter.carbon.in_force import InForce
from frugal_meter.carbon.live import LONGEST_RETRY_S, STALE_AFTER_S, Live, backoff_s, cache_folder
from frugal_meter.carbon.providers import ElectricityMaps, Entsoe, Rte, UkCarbonIntensity, Unanswered, provider
from frugal_meter.carbon.providers.base import Asked
from frugal_meter.carbon.providers.fetch import fetch
from frugal_meter.errors import ConfigurationError, FactorError
from frugal_meter.testing import SyntheticSource

PATIENCE_S = 20.0
NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)

#: two lines of eco2mix-national-tr as ODRÉ's API v2.1 answers: the quarters still to come are there, empty
RTE = {
    "total_count": 2,
    "results": [
        {"perimetre": "France", "nature": "Données temps réel", "date_heure": "2026-01-08T12:15:00+00:00", "taux_co2": None,
         "nucleaire": None, "gaz": None},
        {"perimetre": "France", "nature": "Données temps réel", "date_heure": "2026-01-08T12:00:00+00:00", "consommation": 70000,
         "fioul": 100, "charbon": 0, "gaz": 2500, "nucleaire": 50000, "eolien": 6000, "solaire": 3000, "hydraulique": 8000,
         "pompage": -500, "bioenergies": 1100, "ech_physiques": -1900, "taux_co2": 19, "stockage_batterie": 40},
    ],
}  # fmt: skip
MAPS = {
    "zone": "FR", "carbonIntensity": 31, "datetime": "2026-01-08T12:00:00.000Z", "updatedAt": "2026-01-08T11:51:02.892Z",
    "createdAt": "2026-01-05T12:54:01.319Z", "emissionFactorType": "lifecycle", "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}  # fmt: skip
UK = {
    "data": [
        {
            "from": "2026-01-08T12:00Z",
            "to": "2026-01-08T12:30Z",
            "intensity": {"forecast": 166, "actual": 163, "index": "moderate"},
        }
    ]
}


def entsoe(series: dict[str, list[float]], *, pumps: bool = True) -> bytes:
    """A generation document (A75) from 11:00 on, in quarters; a repeated value is left out, as curve type A03 does."""
    parts = []
    for kind, values in series.items():
        points, last = "", None
        for position, value in enumerate(values, 1):
            if value != last:
                points += f"<Point><position>{position}</position><quantity>{value}</quantity></Point>"
            last = value
        end = (NOON - timedelta(hours=1) + timedelta(minutes=15 * len(values))).strftime("%Y-%m-%dT%H:%MZ")
        parts.append(
            f"<TimeSeries><mRID>1</mRID><businessType>A01</businessType><inBiddingZone_Domain.mRID codingScheme='A01'>"
            f"10YFR-RTE------C</inBiddingZone_Domain.mRID><curveType>A03</curveType><MktPSRType><psrType>{kind}</psrType>"
            f"</MktPSRType><Period><timeInterval><start>2026-01-08T11:00Z</start><end>{end}</end></timeInterval>"
            f"<resolution>PT15M</resolution>{points}</Period></TimeSeries>"
        )
    if pumps:
        parts.append(parts[0].replace("inBiddingZone", "outBiddingZone").replace("B14", "B10"))
    root = "GL_MarketDocument"
    space = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
    return f'<?xml version="1.0" encoding="UTF-8"?><{root} xmlns="{space}">{"".join(parts)}</{root}>'.encode()


NO_DATA = (
    b'<?xml version="1.0"?><Acknowledgement_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0">'
    b"<Reason><code>999</code><text>No matching data found</text></Reason></Acknowledgement_MarketDocument>"
)
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def served(*answers: Answer) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A server on a spare port that gives ``answers`` in turn, the last for ever; its address, and what it was asked."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            answers[min(len(asked), len(answers)) - 1](self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/data", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(body: Any, status: int = 200, **headers: str) -> Answer:
    """An answer with ``body``, as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def fallback(zone: str = "FR", scope: str = "lifecycle") -> Factor:
    return Factor.declared(zone, 60, scope=scope, dataset="spare", year=2025)


class Told:
    """What a `Live` said, and a clock for it."""

    def __init__(self, at: datetime = NOON) -> None:
        self.factors: list[Factor] = []
        self.faults: list[str] = []
        self.now = at.timestamp() + 600

    def live(self, provider: Any, spare: Factor | None = None, **more: Any) -> Live:
        fault = lambda stage, error: self.faults.append(f"{stage}: {error}")  # noqa: E731
        kept = spare or fallback(provider.zone, provider.scope)
        seeded = random.Random(7)
        return Live(provider, kept, self.factors.append, fault=fault, now=lambda: self.now, rng=seeded, **more)


# -- replies


def test_rte_direct_is_its_own_rate_marked_direct_without_imports() -> None:
    found = Rte(scope="direct").read(json.dumps(RTE).encode())
    assert (found.grams_per_kwh, found.scope, found.mix, found.at) == (19, "direct", "production", "2026-01-08T12:00:00Z")
    assert "no imports" in found.source
    assert found.id == "rte-direct:FR:2026-01-08T12:00:00Z"
    with pytest.raises(FactorError, match="cannot be added"):
        InForce(bundled("FR"), now_ns=lambda: 0).change(found)


def test_rte_by_lifecycle_weighs_what_is_generated_and_leaves_pumps_out() -> None:
    found = Rte().read(json.dumps(RTE).encode())
    mw = {"oil": 100, "coal": 0, "gas": 2500, "nuclear": 50000, "wind": 6000, "solar": 3000, "hydro": 8000, "biomass": 1100}
    by_hand = sum(mw[fuel] * LIFECYCLE_G_PER_KWH[fuel] for fuel in mw) / sum(mw.values())
    assert found.grams_per_kwh == pytest.approx(by_hand)
    assert found.scope == "lifecycle"
    assert 30 < by_hand < 45  # beside 19 by combustion alone


def test_electricity_maps_flags_what_it_estimates() -> None:
    found = ElectricityMaps("FR", token="t0ken").read(json.dumps(MAPS).encode())
    assert (found.grams_per_kwh, found.scope, found.mix) == (31, "lifecycle", "consumption")
    assert found.flags == ("factor:live", "factor:estimated")


@pytest.mark.parametrize(("actual", "grams", "estimated"), [(163, 163, False), (None, 166, True)])
def test_great_britain_takes_the_forecast_flagged_until_the_actual_is_there(
    actual: int | None, grams: int, estimated: bool
) -> None:
    told = {"data": [{**UK["data"][0], "intensity": {**UK["data"][0]["intensity"], "actual": actual}}]}
    found = UkCarbonIntensity().read(json.dumps(told).encode())
    assert (found.grams_per_kwh, found.scope, "factor:estimated" in found.flags) == (grams, "direct", estimated)


def test_entsoe_weighs_the_newest_quarter_that_every_type_covers() -> None:
    body = entsoe({"B14": [40000, 40000, 41000, 42000], "B04": [2000, 3000, 3000], "B16": [0, 500, 1000, 1500]})
    found = Entsoe("FR", token="t0ken").read(body)
    mix = {"nuclear": 41000.0, "gas": 3000.0, "solar": 1000.0}
    assert (found.grams_per_kwh, found.at) == (pytest.approx(lifecycle_of(mix)), "2026-01-08T11:30:00Z")


GARBAGE = [
    b"",
    b"null",
    b"[]",
    b'{"data": []}',
    b"<html>portal</html>",
    b'{"results": [1]}',
    b"\xff\xfe",
    b'{"data": [{}]}',
    b"[" * 9999,
]


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:12]))
@pytest.mark.parametrize(
    "of",
    [Rte(), Rte(scope="direct"), ElectricityMaps("FR", token="t"), UkCarbonIntensity(), Entsoe("FR", token="t")],
    ids=lambda p: p.name,
)
def test_garbage_is_no_factor(of: Any, body: bytes) -> None:
    with pytest.raises(Unanswered):
        of.read(body)


@pytest.mark.parametrize(
    ("of", "told", "why"),
    [
        (ElectricityMaps("FR", token="t"), {**MAPS, "zone": "DE"}, "of zone 'DE'"),
        (ElectricityMaps("FR", token="t"), {**MAPS, "emissionFactorType": "direct"}, "not lifecycle"),
        (ElectricityMaps("FR", token="t"), {**MAPS, "carbonIntensity": "31"}, "where a number belongs"),
        (ElectricityMaps("FR", token="t"), {**MAPS, "carbonIntensity": -5}, "cannot be negative"),
        (ElectricityMaps("FR", token="t"), {**MAPS, "carbonIntensity": True}, "where a number belongs"),
        (ElectricityMaps("FR", token="t"), {**MAPS, "datetime": "noon"}, "where a time belongs"),
        (Rte(scope="direct"), {"results": [{"taux_co2": 1e9, "date_heure": "2026-01-08T12:00Z"}]}, "above any grid"),
        (Rte(), {"results": [{"nucleaire": 0, "date_heure": "2026-01-08T12:00Z"}]}, "without generation"),
        (Rte(), {"results": RTE["results"][:1]}, "no line of the reply has a figure yet"),
        (UkCarbonIntensity(), {"data": [{"from": "2026-01-08T12:00Z", "intensity": {}}]}, "where a number belongs"),
    ],
)
def test_a_figure_that_lies_is_no_factor(of: Any, told: dict[str, Any], why: str) -> None:
    with pytest.raises(Unanswered, match=why):
        of.read(json.dumps(told).encode())


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (NO_DATA, "No matching data found"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "declares entities"),
        (b"<html/>", "not a generation document"),
        (entsoe({"B14": []}, pumps=False), "holds no generation"),
        (entsoe({"B99": [1]}, pumps=False), "none known here"),
        (entsoe({"B14": [1]}, pumps=False).replace(b"PT15M", b"P1Y"), "has resolution"),
        (entsoe({"B14": [1]}, pumps=False).replace(b"<quantity>1", b"<quantity>x"), "without a position or quantity"),
        (entsoe({"B14": [-5]}, pumps=False), "without generation"),
    ],
)
def test_a_generation_document_that_says_nothing_is_no_factor(body: bytes, why: str) -> None:
    with pytest.raises(Unanswered, match=why):
        Entsoe("FR", token="t").read(body)


def test_a_mix_of_unknown_fuel_or_unknown_power_has_no_factor() -> None:
    for mix, why in (({"thorium": 1.0}, "no lifecycle figure"), ({"gas": float("nan")}, "no number")):
        with pytest.raises(FactorError, match=why):
            lifecycle_of(mix)


# -- requests over a real socket


@pytest.mark.parametrize(
    ("make", "body", "grams", "sends"),
    [
        (lambda url: Rte(base_url=url), RTE, None, "nucleaire+is+not+null"),
        (lambda url: Rte(scope="direct", base_url=url), RTE, 19, "taux_co2+is+not+null"),
        (lambda url: ElectricityMaps("FR", token="t0ken", base_url=url), MAPS, 31, "zone=FR"),
        (lambda url: UkCarbonIntensity(base_url=url), UK, 163, "/data"),
        (lambda url: Entsoe("FR", token="t0ken", base_url=url), entsoe({"B14": [9.0], "B04": [1.0]}), 59.8, "documentType=A75"),
    ],
    ids=["rte", "rte-direct", "electricity-maps", "uk", "entsoe"],
)
def test_each_provider_is_asked_and_read_over_http(make: Any, body: Any, grams: float | None, sends: str) -> None:
    with served(says(body)) as (url, asked):
        found = make(url)
        factor = found.read(fetch(found.ask(NOON)))
    assert grams is None or factor.grams_per_kwh == pytest.approx(grams)
    path, headers = asked[0]
    assert sends in path
    assert "t0ken" not in path or found.name == "entsoe"
    assert headers.get("auth-token") == ("t0ken" if found.name == "electricity-maps" else None)


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Says nothing until the other side goes away."""
    handler.connection.recv(1)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """One byte at a time, without end: each comes soon enough for a socket's timeout."""
    handler.send_response(200)
    handler.end_headers()
    stop = threading.Event()
    try:
        while not stop.wait(0.02):
            handler.wfile.write(b" ")
    except OSError:
        pass


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    """Not HTTP at all."""
    handler.wfile.write(b"\x00\x01\x02\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says(b"", 500), "HTTP 500"),
        (says(b"", 204), "HTTP 204"),
        (says(b"x" * 10_000_000), "larger than 2000000 bytes"),
        (says(b"", 302, Location="http://127.0.0.1:9/elsewhere"), "HTTP 302"),
        (hang, "no answer within|unreachable"),
        (drip, "does not end"),
        (nonsense, "broken reply"),
    ],
    ids=["500", "204", "10 MB", "redirect", "silence", "drip", "nonsense"],
)
def test_a_bad_answer_is_bounded_and_named_without_the_address(answer: Answer, why: str) -> None:
    with served(answer) as (url, asked), pytest.raises(Unanswered, match=why) as caught:
        fetch(Asked(f"{url}?securityToken=s3cret", {"auth-token": "s3cret"}), timeout_s=0.5)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Asked(f"{url}?securityToken=s3cret"))
    assert len(asked) == 1  # a redirect was not followed


def test_an_answer_cut_short_is_no_factor() -> None:
    with served(cut) as (url, _), pytest.raises(Unanswered):
        Rte().read(fetch(Asked(url), timeout_s=2))


def test_nobody_there_is_said_at_once() -> None:
    with served(says(b"")) as (url, _):
        pass
    with pytest.raises(Unanswered, match="unreachable"):
        fetch(Asked(url), timeout_s=2)


def after_429(header: str | None) -> float | None:
    """What a refusal with this header asks to wait."""
    headers = {} if header is None else {"Retry_After": header}
    with served(says(b"", 429, **headers)) as (url, _), pytest.raises(Unanswered, match="429") as caught:
        fetch(Asked(url))
    return caught.value.retry_after_s


def test_retry_after_is_read_in_both_its_forms() -> None:
    assert after_429("120") == 120
    hour = after_429(format_datetime(datetime.now(UTC) + timedelta(hours=1)))
    assert hour is not None
    assert hour == pytest.approx(3600, abs=60)
    assert after_429(format_datetime(datetime.now(UTC) - timedelta(hours=1))) == 0
    assert after_429("soon") is None
    assert after_429(None) is None


# -- keeping in step


def test_an_answer_is_in_force_and_its_failure_is_bridged_by_the_last_one_flagged() -> None:
    told = Told()
    with served(says(MAPS), says(b"", 503), says({**MAPS, "carbonIntensity": 44, "datetime": "2026-01-08T13:00Z"})) as (
        url,
        asked,
    ):
        live = told.live(ElectricityMaps("FR", token="t", base_url=url))
        assert live.refresh() == 1800
        told.now += 1800
        retry = live.refresh()
        assert 15 <= retry <= 30
        told.now += retry
        assert live.refresh() == 1800
    assert [f.grams_per_kwh for f in told.factors] == [31, 31, 44]
    assert ["factor:cached" in f.flags for f in told.factors] == [False, True, False]
    assert told.faults == ["grid: HTTP 503"]
    assert (len(asked), live.failures) == (3, 0)


def test_without_any_answer_the_fallback_holds_flagged() -> None:
    told = Told()
    with served(says(b"garbage")) as (url, _):
        told.live(UkCarbonIntensity(base_url=url)).refresh()
    (found,) = told.factors
    assert (found.grams_per_kwh, found.flags) == (60, ("factor:declared", "factor:fallback"))


def test_an_answer_that_grew_old_gives_way_to_the_fallback() -> None:
    told = Told()
    with served(says(MAPS), says(b"", 503)) as (url, _):
        live = told.live(ElectricityMaps("FR", token="t", base_url=url))
        live.refresh()
        told.now = NOON.timestamp() + STALE_AFTER_S + 1
        live.refresh()
    assert [f.id for f in told.factors] == ["electricity-maps:FR:2026-01-08T12:00:00Z", fallback().id]


def test_an_answer_about_yesterday_is_not_in_force_today() -> None:
    told = Told(NOON + timedelta(days=1))
    with served(says(MAPS)) as (url, _):
        told.live(ElectricityMaps("FR", token="t", base_url=url)).refresh()
    assert "factor:fallback" in told.factors[0].flags


def test_waits_double_with_jitter_up_to_an_hour_and_keep_to_retry_after() -> None:
    waits = [backoff_s(n, None, random.Random(n)) for n in range(1, 30)]
    assert waits == [backoff_s(n, None, random.Random(n)) for n in range(1, 30)]
    assert all(15 * 2 ** (n - 1) <= wait <= 30 * 2 ** (n - 1) for n, wait in enumerate(waits[:7], 1))
    assert LONGEST_RETRY_S / 2 <= waits[-1] <= LONGEST_RETRY_S
    assert len({round(backoff_s(3, None, random.Random(seed))) for seed in range(20)}) > 10
    assert backoff_s(1, 600.0, random.Random(1)) == 600
    assert backoff_s(1, 1e9, random.Random(1)) == 86_400
    assert backoff_s(2000, None, random.Random(1)) <= LONGEST_RETRY_S


def test_workers_and_restarts_share_an_answer_on_disk(tmp_path: Path) -> None:
    first, second = Told(), Told()
    with served(says(MAPS)) as (url, asked):
        first.live(ElectricityMaps("FR", token="s3cret", base_url=url), cache=tmp_path).refresh()
        second.now += 600
        assert second.live(ElectricityMaps("FR", token="s3cret", base_url=url), cache=tmp_path).refresh() == 1200
    assert len(asked) == 1
    assert second.factors == first.factors
    (file,) = tmp_path.iterdir()
    assert b"s3cret" not in file.read_bytes()


@pytest.mark.parametrize("text", ["", "{", '{"retrieved_at": 1}', "null"])
def test_a_broken_cache_is_no_answer_and_no_fault(tmp_path: Path, text: str) -> None:
    told = Told()
    (tmp_path / "grid-electricity-maps-FR.json").write_text(text, encoding="utf-8")
    with served(says(MAPS)) as (url, asked):
        told.live(ElectricityMaps("FR", token="t", base_url=url), cache=tmp_path).refresh()
    assert (len(asked), told.faults, told.factors[0].grams_per_kwh) == (1, [], 31)


def test_a_cache_that_cannot_be_written_is_counted_and_the_answer_stands(tmp_path: Path) -> None:
    told, blocked = Told(), tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with served(says(MAPS)) as (url, _):
        told.live(ElectricityMaps("FR", token="t", base_url=url), cache=blocked / "below").refresh()
    assert told.factors[0].grams_per_kwh == 31
    assert [fault.partition(":")[0] for fault in told.faults] == ["grid-cache"]


def test_the_cache_lies_where_the_system_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "frugal-meter"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "frugal-meter"


# -- the meter


def test_a_meter_asks_its_grid_off_the_request_path_and_its_readings_carry_the_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked_by, now = [], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z")
    changed = threading.Event()

    class Watched(ElectricityMaps):
        def read(self, body: bytes) -> Factor:
            asked_by.append(threading.current_thread().name)
            return super().read(body)

    with served(says({**MAPS, "datetime": now})) as (url, _):
        grid = Watched("FR", token="t", base_url=url)
        meter = Meter("tests", zone="FR", grid=grid, sources=SyntheticSource(0, 10), tick=60, pue=1.0, embodied=None)
        change = meter.figures.in_force.change

        def heard(factor: Factor) -> None:
            change(factor)
            changed.set()

        meter._grid._change = heard
        with meter:
            assert changed.wait(PATIENCE_S)
            with meter.measure("work") as span:
                sum(range(100_000))
            meter.settle()
        exposed = meter.metrics()[0]
    assert b'factor="Electricity Maps live:FR"' in exposed  # one series, not one for each hour
    assert asked_by == ["frugal-grid"]
    assert span.reading.factor_ids == (f"electricity-maps:FR:{now}",)
    assert "factor:live" in span.reading.flags
    assert span.reading.carbon_g == pytest.approx(span.reading.energy_full_j * 31 / 3.6e6)
    assert not any(thread.name == "frugal-grid" for thread in threading.enumerate())


def test_a_fault_of_a_providers_own_is_counted_and_asking_goes_on_later() -> None:
    told, counted = Told(), threading.Event()

    class Faulty(Rte):
        def read(self, body: bytes) -> Factor:
            raise ZeroDivisionError

    with served(says(RTE)) as (url, _):
        live = told.live(Faulty(base_url=url))
        fault, live._fault = live._fault, lambda stage, error: (fault(stage, error), counted.set())
        live.start()
        assert counted.wait(PATIENCE_S)
        assert live._thread is not None
        assert live._thread.is_alive()
        live.stop()
    assert told.faults == ["grid: "]
    assert told.factors == []


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"zone": "FR", "grid": "rte-direct"}, "give factor=Factor.declared"),
        ({"zone": "GB", "grid": "uk-carbon-intensity"}, "they cannot be added"),
        ({"zone": "DE", "grid": "rte"}, "does not serve zone 'DE'"),
        ({"zone": "FR", "grid": "edf"}, "unknown live grid 'edf'"),
        ({"zone": "FR", "grid": "electricity-maps"}, "needs a token: set FRUGAL_GRID_TOKEN"),
        ({"zone": "FR", "grid": "entsoe"}, "needs a token"),
        ({"zone": "FR", "grid": 7}, "grid is a name"),
        ({"zone": "DE", "grid": Rte()}, "of zone FR and its fallback of DE"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value["grid"])[:20],
)
def test_a_grid_that_cannot_be_is_refused_at_start_up_in_one_line(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], why: str
) -> None:
    monkeypatch.delenv("FRUGAL_GRID_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match=why) as caught:
        Meter("tests", sources="model", **settings)
    assert "\n" not in str(caught.value)


def test_a_token_comes_from_the_environment_and_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAL_GRID_TOKEN", "s3cret with a space")
    with pytest.raises(ConfigurationError, match="copy it again") as caught:
        provider("entsoe", "FR")
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("FRUGAL_GRID_TOKEN", "s3cret")
    assert provider("electricity-maps", "fra").ask(NOON).headers["auth-token"] == "s3cret"
