"""People and budgets: the command line beside a running service, overrides, the log of decisions, and what is told of a store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from exchange import a_meter, an_app, ask
from prometheus_client.parser import text_string_to_metric_families
from redis_server import RedisServer
from support import PATIENCE_S
from typer.testing import CliRunner, Result

from frugal_meter import Budget, Meter
from frugal_meter.budgets.overview import uses
from frugal_meter.budgets.stores import Account, Report
from frugal_meter.budgets.stores.sqlite import SqliteStore
from frugal_meter.cli.app import app
from frugal_meter.cli.budgets import _until
from frugal_meter.errors import ConfigurationError
from frugal_meter.exporters.live_page import render_page
from frugal_meter.exporters.live_state import live_state
from frugal_meter.testing import SyntheticSource

REPOSITORY = Path(__file__).parents[1]
TINY = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})
"""
#: how long a whole process may take on a busy machine; never reached by a test that passes
MOST_S = 120.0
LISTENS = re.compile(r"http://127\.0\.0\.1:\d+")


class Service:
    """A service run by the command line, and that command line beside it: real processes over one folder and one store."""

    def __init__(self, folder: Path, store: str, budgets: str) -> None:
        self.folder = folder
        (folder / "tiny.py").write_text(TINY)
        self.file = folder / "frugal.toml"
        head = f'[meter]\nservice = "guichet"\nzone = "FR"\nsources = "model"\ntick = 0.05\nstore = "{store}"\n'
        self.file.write_text(head + budgets, encoding="utf-8")
        self._env = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(REPOSITORY), "FRUGAL_RUN_DIR": str(folder)}
        self._env.pop("FRUGAL_CONFIG", None)
        self._cli = [sys.executable, "-m", "frugal_meter.cli"]

    def __enter__(self) -> Self:
        run = [*self._cli, "run", "tiny:app", "--port", "0", "--ops", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            run, cwd=self.folder, env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self.process.stderr is not None
        said = ""
        while len(found := LISTENS.findall(said)) < 3:
            line = self.process.stderr.readline()
            assert line, said
            said += line
        self.url, self.page, self.metrics = found[0], found[1], found[2] + "/metrics"
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=MOST_S)

    def status(self) -> int:
        return httpx.get(self.url, timeout=MOST_S).status_code

    def samples(self) -> dict[tuple[str, ...], float]:
        """The samples of the service: (name, values of its labels in the order of their names…) → value."""
        text = httpx.get(self.metrics, timeout=MOST_S).text
        families = text_string_to_metric_families(text)
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    def until(self, ready: Callable[[], Any]) -> Any:
        """What ``ready`` gives once it is true."""
        deadline = time.monotonic() + MOST_S
        while not (found := ready()):
            assert time.monotonic() < deadline, "it does not come to be"
            time.sleep(0.05)
        return found

    def cli(self, *words: str) -> str:
        """What ``frugal-meter budget …`` prints, run in the service's folder."""
        done = subprocess.run(
            [*self._cli, "budget", *words], cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=MOST_S
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def log(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.cli("log", "--json", *words).splitlines() if line]


@pytest.fixture(params=["auto", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A service's store: by default the memory of its one process, with a file beside it."""
    if request.param == "auto":
        return "auto"
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'budgets.sqlite'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


def cli(*words: object) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(app, ["budget", *map(str, words)], env={"LC_ALL": "C", "FRUGAL_CONFIG": None, "COLUMNS": "300"})


# -- a running service


def test_somebody_is_let_through_in_writing_and_all_of_it_survives_kill_9(tmp_path: Path, store: str) -> None:
    budget = '[[budget]]\nname = "guichet"\nlimit = "2 requests"\nper = "month"\ndegrade_at = 1.0\n'
    with Service(tmp_path, store, budget) as service:
        assert [service.status() for _ in range(3)] == [200, 200, 429]
        [told] = service.until(lambda: [b for b in json.loads(service.cli("list", "--json")) if b["parts"][0]["settled"] == 2])
        assert (told["limit"], told["unit"], told["parts"][0]["level"], told["overrides"]) == (2, "requests", "refuse", [])

        said = service.cli("grant", "guichet", "--who", "Mme Durand", "--why", "examens de juin", "--for", "2h", "--lang", "fr")
        assert said.startswith("n° 1, guichet : passe jusqu'au ")
        assert "(Mme Durand : examens de juin)" in said
        service.until(lambda: service.samples()["frugal_budget_overrides", "guichet", "requests"] == 1)
        assert service.status() == 200
        service.until(lambda: service.samples()["frugal_budget_decisions_total", "override", "guichet", "requests"] == 1)
        page = httpx.get(service.page, headers={"accept-language": "en"}, timeout=PATIENCE_S).text
        assert "may be passed until <time" in page
        assert "Durand" not in page

        service.cli("revoke", "1", "--who", "M. Petit")
        service.until(lambda: service.samples()["frugal_budget_overrides", "guichet", "requests"] == 0)
        assert service.status() == 429
        service.until(lambda: len(service.log("--action", "refuse")) == 2)
        service.kill()
        log = service.log("--since", "1h")
        done = [line["action"] for line in log if line["action"] not in ("admit", "warn")]
        assert done == ["refuse", "grant", "override", "revoke", "refuse"]
        by = {line["action"]: line for line in log}
        assert by["override"]["why"] == "1: Mme Durand, examens de juin"
        assert by["revoke"]["why"] == "1: M. Petit"
        refused = by["refuse"]
        assert [refused[name] for name in ("settled", "reserved", "estimate", "limit", "unit")] == [3, 0, 1, 2, "requests"]
        assert refused["start_s"] < refused["at_s"] < refused["end_s"]
        shown = service.cli("show", "guichet", "--lang", "en")
        assert "3 requests of 2 requests (150%)" in shown
        assert "no. 1, guichet: revoked " in shown


def test_a_limit_that_was_watched_is_enforced_without_a_restart_and_counts_what_was_spent(tmp_path: Path, store: str) -> None:
    budget = '[[budget]]\nname = "guichet"\nlimit = "2 requests"\nper = "month"\nenforce = false\n'
    with Service(tmp_path, store, budget) as service:
        assert [service.status() for _ in range(4)] == [200] * 4
        would = ("frugal_budget_decisions_total", "would_refuse", "guichet", "requests")
        service.until(lambda: service.samples()[would] == 2)
        assert "spent, would refuse" in service.cli("list", "--lang", "en")
        service.file.write_text(service.file.read_text().replace("enforce = false", "enforce = true"))
        service.until(lambda: service.status() == 429)
        assert service.samples()["frugal_budget_usage_ratio", "guichet", "", "requests", "settled"] >= 2
        assert "épuisé : refuse" in service.cli("list", "--lang", "fr")


def test_redis_away_is_told_in_metrics_and_on_the_page(tmp_path: Path, redis_server: RedisServer) -> None:
    budget = '[[budget]]\nname = "guichet"\nlimit = "2000 requests"\nper = "month"\n'
    with Service(tmp_path, redis_server.url + "?socket_timeout=0.2", budget) as service:
        assert service.samples()["frugal_budget_store_up", "redis"] == 1
        assert service.samples()["frugal_budget_workers_alone", "local"] == 0
        redis_server.kill()
        service.until(lambda: service.samples()["frugal_budget_store_up", "redis"] == 0)
        assert service.samples()["frugal_budget_workers_alone", "local"] == 1
        for lang, told in (
            ("fr", "il dépense sa seule part de ce qui restait"),
            ("en", "it spends only its part of what was left"),
        ):
            assert told in httpx.get(f"{service.page}/?lang={lang}", timeout=PATIENCE_S).text
        redis_server.start()
        service.until(lambda: service.samples()["frugal_budget_store_up", "redis"] == 1)


# -- two workers, one budget


def samples(meter: Meter) -> dict[tuple[str, ...], float]:
    text = meter.metrics()[0].decode()
    return {(s.name, *s.labels.values()): s.value for family in text_string_to_metric_families(text) for s in family.samples}


def met(*meters: Meter) -> None:
    """Each tells the store what it has, and then hears what the others told."""
    for _ in range(2):
        for meter in meters:
            assert meter.admission.sharing is not None
            assert meter.admission.sharing.settle(PATIENCE_S)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Meter, Meter]]:
    budget = Budget("day", "1000 tokens", per="month", estimate="10 tokens")
    one, other = (
        Meter(
            "guichet", zone="FR", sources=SyntheticSource(0, 10), tick=60, budgets=[budget],
            workers="single", store=f"sqlite://{tmp_path / 'budgets.sqlite'}",
        )
        for _ in range(2)
    )  # fmt: skip
    with one, other:
        yield one, other


def test_usage_is_that_of_the_whole_shared_budget_settled_and_reserved_apart(workers: tuple[Meter, Meter]) -> None:
    one, other = workers
    with one.measure("index") as span:
        span.add_tokens(output=30)
    with other.measure("index") as span:
        span.add_tokens(output=12)
    running = other.open_span("block")
    other.decide(running)
    met(one, other)
    for meter in workers:
        told = samples(meter)
        assert told["frugal_budget_usage_ratio", "day", "", "tokens", "settled"] == pytest.approx(0.042)
        assert told["frugal_budget_usage_ratio", "day", "", "tokens", "reserved"] == pytest.approx(0.010)
        assert told["frugal_budget_store_holders",] == 2
        state = live_state(meter).budgets[0]
        assert (state.settled, state.reserved, state.level) == (42, 10, "ok")
    assert samples(one)["frugal_budget_leases", "day", "tokens"] == 0
    assert samples(other)["frugal_budget_leases", "day", "tokens"] == 1
    other.close_span(running)
    one.settle()
    assert samples(one)["frugal_budget_estimator_bias_ratio", "day", "tokens"] == pytest.approx(10 / 30)
    assert samples(one)["frugal_budget_store_exchanges_total",] > 0


def test_reservations_that_grow_while_work_runs_are_counted() -> None:
    meter = a_meter(budgets=[Budget("day", "1000 tokens", per="month", estimate="10 tokens")])
    with meter:
        span = meter.open_span("block")
        meter.decide(span)
        span.add_tokens(output=50)
        meter.settle()
        assert samples(meter)["frugal_budget_top_ups_total",] == 1
        meter.close_span(span)
    assert not any(name.startswith("frugal_budget_store") for name, *_ in samples(meter))


# -- the log holds no tenant


@pytest.mark.parametrize(("asked", "key"), [(False, ("…", "/hello")), (True, ("mairie", "/hello"))])
def test_the_log_names_a_tenant_only_where_that_was_asked_for(asked: bool, key: tuple[str, ...]) -> None:
    budget = Budget("per tenant", "1 requests", per="month", key=("tenant", "route"))
    meter = a_meter(budgets=[budget], tenant=lambda scope: "mairie", log_tenants=asked)
    with meter:
        assert [answer.status_code for answer in ask(an_app(meter), "/hello", "/hello")] == [200, 429]
    assert [entry.key for entry in meter.admission.log.recent if entry.action == "refuse"] == [key]


# -- what the command line reads


def test_a_sliding_window_is_the_sum_of_its_parts_that_still_count(tmp_path: Path) -> None:
    budget, now_s = Budget("hour", "100 tokens", per="hour", sliding=True), 1_800_000_000.0
    store = SqliteStore(tmp_path / "budgets.sqlite")
    reports = []
    for before_s, tokens in ((0, 5), (600, 7), (3 * 3600, 40)):
        start_s, _, until_s = budget.window(now_s - before_s)
        reports.append(
            Report(Account("hour", "tokens", (), start_s, until_s), tokens, 3 if not before_s else 0, 1 if not before_s else 0)
        )
    store.exchange("one", 1, reports, [], now_s)
    [use] = uses(budget, store.states(now_s), now_s)
    assert (use.settled, use.reserved, use.slices, use.level) == (12, 1, 2, "ok")
    store.close()


def test_a_budget_of_each_instance_is_told_by_host() -> None:
    budget = Budget("own", "100 tokens", per="month", scope="instance", key="route")
    from frugal_meter.budgets.stores import State

    start_s, _, until_s = budget.window(1_800_000_000.0)
    states = {
        Account(f"own@{host}", "tokens", ("/ask",), start_s, until_s): State(settled=n) for host, n in (("a", 1), ("b", 95))
    }
    assert [(u.host, u.key, u.settled, u.level) for u in uses(budget, states, 1_800_000_000.0)] == [
        ("b", ("/ask",), 95, "degrade"),
        ("a", ("/ask",), 1, "ok"),
    ]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose store is there, and empty."""
    store = SqliteStore(tmp_path / "budgets.sqlite")
    store.overrides()
    store.close()
    file = tmp_path / "frugal.toml"
    file.write_text(
        f'[meter]\nservice = "guichet"\nzone = "FR"\nstore = "sqlite://{store.path}"\n'
        '[[budget]]\nname = "chat"\nlimit = "50 kJ"\nper = "day"\n'
        '[[budget]]\nname = "parts"\nlimit = "10 requests"\nper = "hour"\nkey = ["route", "model"]\n'
    )
    return file


BAD: list[tuple[list[str], str]] = [
    (["grant", "caht", "--who", "a", "--why", "b", "--for", "1h"], "no budget 'caht' in the configuration; did you mean 'chat'?"),
    (["grant", "chat", "--who", "a", "--why", "b"], "a permission ends: give --for"),
    (["grant", "chat", "--who", "a", "--why", "b", "--for", "1h", "--until", "2030-01-01"], "a permission ends: give --for"),
    (["grant", "chat", "--who", "a", "--why", "b", "--for", "forever"], "--for 'forever' is no duration"),
    (["grant", "chat", "--who", "a", "--why", "b", "--for", "0h"], "--for '0h' is no duration"),
    (["grant", "chat", "--who", "a", "--why", "b", "--for", "90d"], "within 31 days"),
    (["grant", "chat", "--who", "a", "--why", "b", "--until", "2001-01-01"], "must end later than now"),
    (["grant", "chat", "--who", "a", "--why", "b", "--until", "tomorrow"], "--until 'tomorrow' is no moment"),
    (["grant", "chat", "--who", " ", "--why", "b", "--for", "1h"], "--who is one line of 1 to 300 characters"),
    (["grant", "chat", "--who", "a", "--why", "b\nc", "--for", "1h"], "--why is one line of 1 to 300 characters"),
    (["grant", "chat", "--who", "a", "--why", "b" * 301, "--for", "1h"], "--why is one line of 1 to 300 characters"),
    (["grant", "chat", "--who", "a", "--why", "b", "--for", "1h", "--key", "/x"], "'chat' has no parts"),
    (["grant", "parts", "--who", "a", "--why", "b", "--for", "1h", "--key", "/x"], "is kept per route, model: give --key once"),
    (
        ["grant", "chat", "--who", "a", "--why", "b", "--for", "1h", "--key", "\x1b[31m"],
        "--key is one line of 1 to 300 characters",
    ),
    (["revoke", "7", "--who", "a"], "no override 7 is in force; in force: none"),
    (["log", "--action", "forbid"], "--action 'forbid' is not known; use admit, warn"),
    (["log", "--since", "yesterday"], "--since 'yesterday' is no duration"),
    (["show", "nothing"], "no budget 'nothing' in the configuration; there are: 'chat', 'parts'"),
    (["list", "--store", "memory"], "are in the memory of its process, where nobody else can look"),
    (["list", "--store", "sqlite:///nowhere/at/all.sqlite"], "there is no such store; start the service first"),
    (["list", "--store", "mongodb://x"], "cannot be: it is"),
]


@pytest.mark.parametrize(("words", "line"), BAD, ids=[" ".join(words)[:60] for words, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2_and_changes_nothing(config: Path, words: list[str], line: str) -> None:
    done = cli(*words, "--config", config)
    assert done.exit_code == 2, done.output
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert (cli("log", "--json", "--config", config).stdout.strip(), done.stdout) == ("", "")


def test_the_store_of_auto_is_the_file_that_workers_share_once_it_is_there(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frugal_meter.budgets.stores.opening import shared_file

    monkeypatch.setenv("FRUGAL_RUN_DIR", str(tmp_path))
    assert "there is no such store yet; start the service first" in cli("list", "--store", "auto", "--config", config).stderr
    (tmp_path / "budgets.sqlite").rename(shared_file("guichet"))
    assert cli("list", "--store", "auto", "--config", config).exit_code == 0


def test_a_permission_for_one_part_lets_only_that_part_pass(config: Path) -> None:
    done = cli("grant", "parts", "--who", "a", "--why", "b", "--for", "30m", "--key", "/x", "--key", "m", "--config", config)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("no. 1, parts /x/m: passes until ")
    [told] = json.loads(cli("show", "parts", "--json", "--config", config).stdout)
    assert [(o["key"], o["who"], o["in_force"]) for o in told["overrides"]] == [(["/x", "m"], "a", True)]
    store = SqliteStore(config.parent / "budgets.sqlite")
    [override] = store.overrides()
    assert (override.key, override.until_s - override.at_s) == (("/x", "m"), pytest.approx(1800))
    store.close()


@pytest.mark.parametrize("lang", ["fr", "en"])
def test_every_budget_of_the_configuration_is_listed_also_before_its_first_request(config: Path, lang: str) -> None:
    lines = cli("list", "--lang", lang, "--config", config).stdout.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("chat ")
    assert ("0 J sur 50 kJ" if lang == "fr" else "0 J of 50 kJ") in lines[1].replace("\u00a0", " ")
    assert ("le plus plein de 0, par route × modèle" if lang == "fr" else "fullest of 0, per route × model") in lines[2]


NOON_UTC = 1_800_000_000.0 // 86_400 * 86_400 + 43_200  # 2027-01-15


@pytest.mark.parametrize(
    ("moment", "line"),
    [
        ("2027-03-28T02:30", "'2027-03-28T02:30' is left out by the clock of Europe/Paris: write the offset too"),
        ("2027-10-31T02:30", "'2027-10-31T02:30' comes twice on the clock of Europe/Paris: write the offset too"),
        ("2027-01-15T12:59:59", "it must end later than now"),
        ("2027-02-20T00:00", "it must end later than now and within 31 days"),
        ("0001-01-01T00:00", "it must end later than now"),
        ("9999-12-31T23:59", "it must end later than now and within 31 days"),
        ("2027-01-15T18:00 Europe/Paris", "is no moment: write"),
        ("2027-01-15T18:00[Mars/Olympus]", "is no moment: write"),
        ("2027-13-01", "is no moment: write"),
        ("nan", "is no moment: write"),
        ("", "is no moment: write"),
    ],
)
def test_a_moment_that_is_none_on_the_budget_s_clock_ends_no_permission(moment: str, line: str) -> None:
    budget = Budget("chat", "50 kJ", per="day")
    with pytest.raises(ConfigurationError, match=re.escape(line)):
        _until(None, moment, budget, NOON_UTC)


def test_a_moment_is_on_the_budget_s_clock_unless_it_says_its_own_offset() -> None:
    paris, cayenne = (Budget("chat", "50 kJ", per="day", timezone=zone) for zone in ("Europe/Paris", "America/Cayenne"))
    found = [_until(None, "2027-01-15T18:00", budget, NOON_UTC) - NOON_UTC for budget in (paris, cayenne)]
    assert found == [5 * 3600, 9 * 3600]
    assert _until(None, "2027-01-15T18:00+05:30", paris, NOON_UTC) - NOON_UTC == 1800


# -- a budget that cannot refuse here


@pytest.mark.parametrize(("lang", "said"), [("fr", "il faudrait un chiffre mesuré"), ("en", "that would take a measured figure")])
def test_a_budget_that_cannot_refuse_here_says_so_on_the_page(lang: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    weak = SyntheticSource(0, 10, tier="modelled")
    meter = a_meter(sources=weak, budgets=[Budget("day", "50 kJ", per="day", require_tier="measured")])
    assert "it warns and degrades, and refuses nothing" in caplog.text
    assert said in render_page(live_state(meter), lang=lang)
    assert samples(meter)["frugal_budget_enforced", "day", "energy", "modelled"] == 0
