"""``frugal-meter``: what doctor says of machines on disk, and a real application served by ``run``."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import string
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from frugal_meter import Budget, FrugalMeterError, Meter
from frugal_meter.carbon import grid
from frugal_meter.cli import main, texts
from frugal_meter.cli.account import Tally, account
from frugal_meter.cli.app import app
from frugal_meter.cli.budget_states import budget_states
from frugal_meter.cli.diagnosis import Roots
from frugal_meter.cli.gathering import diagnose
from frugal_meter.cli.probing import PAUSE_S, watts_now
from frugal_meter.errors import BudgetNotEnforceableError
from frugal_meter.loading import load_app
from frugal_meter.sources.discovery import discover
from frugal_meter.sources.procfs import HostCpu
from frugal_meter.testing import CgroupTree, PowercapTree, ProcTree, SyntheticSource

SKYLAKE = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "85", "model name": "Intel(R) Xeon(R) Gold 6130 CPU"}
NOBODY = {"vendor_id": "Nobody", "cpu family": "1", "model": "1", "model name": "Abacus"}
LANGUAGES = ("fr", "en")


class Machine:
    """A machine made of files, and ``doctor`` run on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = ProcTree(root, cpus=4)
        self.tree.cpuinfo(SKYLAKE)
        self.roots = Roots(self.tree.proc, self.tree.sys, root / "powercap")

    def config(self, text: str) -> str:
        path = self.root / "frugal.toml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return str(path)

    def doctor(self, *options: str, **environment: str):
        roots = ("--proc-root", self.roots.proc, "--sys-root", self.roots.sys, "--powercap-root", self.roots.powercap)
        env = {"LC_ALL": "C", "COLUMNS": "80", "FRUGAL_CONFIG": None, **environment}
        return CliRunner().invoke(app, ["doctor", *map(str, roots), *options], env=env)

    def json(self, *options: str) -> dict:
        return json.loads(self.doctor("--json", *options).stdout)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


# -- doctor: exit codes


@pytest.mark.parametrize(("lang", "verdict"), [("fr", "MESURÉ."), ("en", "MEASURED.")])
def test_a_machine_with_a_sensor_is_measured_and_exits_0(machine, lang, verdict):
    PowercapTree.dual_socket_with_psys(machine.roots.powercap)
    told = machine.doctor("--zone", "FR", "--lang", lang)
    assert (told.exit_code, told.stderr) == (0, "")
    assert verdict in told.stdout


@pytest.mark.parametrize(("lang", "verdict"), [("fr", "MODÉLISÉ SEULEMENT."), ("en", "MODELLED ONLY.")])
def test_a_machine_without_a_sensor_is_modelled_and_exits_1(machine, lang, verdict):
    told = machine.doctor("--zone", "FR", "--lang", lang, "--sources", "model")
    assert (told.exit_code, told.stderr) == (1, "")
    assert verdict in told.stdout


@pytest.mark.parametrize(("lang", "says"), [("fr", "les serveurs de son fabricant"), ("en", "servers of its vendor")])
def test_a_cpu_of_a_known_vendor_that_is_not_in_the_table_is_said(machine, lang, says):
    machine.tree.cpuinfo({"vendor_id": "AuthenticAMD", "cpu family": "27", "model": "1", "model name": "AMD EPYC 2030"})
    told = machine.doctor("--zone", "FR", "--lang", lang, "--sources", "model")
    assert (told.exit_code, told.stderr) == (1, "")
    assert says in " ".join(told.stdout.split())
    assert "cpu_idle" in told.stdout


@pytest.mark.parametrize(("lang", "verdict"), [("fr", "INUTILISABLE EN L'ÉTAT."), ("en", "NOT USABLE AS IT IS.")])
def test_an_unknown_cpu_exits_2_until_its_watts_are_declared(machine, lang, verdict):
    machine.tree.cpuinfo(NOBODY)
    options = ("--zone", "FR", "--lang", lang, "--sources", "model")
    told = machine.doctor(*options)
    assert (told.exit_code, told.stderr) == (2, "")
    assert verdict in told.stdout
    assert "declared = { cpu_idle = …, cpu_full = … }" in told.stdout
    config = machine.config('[meter]\nservice = "a"\ndeclared = { cpu_idle = 30, cpu_full = 150 }\n')
    mended = machine.doctor(*options, "--config", config)
    assert mended.exit_code == 1
    assert "cpu_idle" not in mended.stdout


@pytest.mark.parametrize("setting", ['store = "redi://x"', 'on_store_error = "opn"', 'refusals = { contct = "x" }'])
def test_doctor_refuses_a_setting_that_no_meter_would_start_with(machine, setting):
    config = machine.config(f'[meter]\nservice = "a"\nzone = "FR"\n{setting}\n')
    assert machine.doctor("--config", config).exit_code == 2


def test_an_unknown_cpu_with_a_sensor_is_measured_all_the_same(machine):
    machine.tree.cpuinfo(NOBODY)
    PowercapTree.mmio_twin(machine.roots.powercap)
    assert machine.doctor("--zone", "FR").exit_code == 0


@pytest.mark.parametrize(
    ("lang", "says"), [("fr", "La source exigée (rapl) manque"), ("en", "The required source (rapl) is missing")]
)
def test_a_required_source_that_is_missing_exits_2_and_the_rest_is_still_told(machine, lang, says):
    told = machine.doctor("--zone", "FR", "--lang", lang, "--sources", "rapl")
    assert told.exit_code == 2
    assert says in told.stdout
    assert "modprobe intel_rapl_msr" in told.stdout
    assert "Skylake" in told.stdout


def test_a_tree_without_a_package_says_why_it_is_not_the_rapl_that_was_required(machine):
    PowercapTree(machine.roots.powercap).zone("psys")
    told = machine.json("--sources", "rapl")
    assert (told["exit_code"], told["required_missing"]) == (2, "rapl")
    assert "rapl-no-package" in [finding["code"] for finding in told["findings"]]


# -- doctor: what it says


def test_json_is_one_document_with_stable_keys(machine):
    PowercapTree.amd_core_in_package(machine.roots.powercap)
    told = machine.json("--zone", "FR")
    assert set(told) == {
        "schema", "version", "exit_code", "tier", "measured_share", "method_id", "required_missing", "boundary", "cpu", "host",
        "sources", "total_now_w", "idle", "zone", "factor", "factor_stale", "alternatives", "pue", "embodied",
        "carbon_now_g_per_h", "budgets", "findings",
    }  # fmt: skip
    assert (told["schema"], told["exit_code"], told["zone"]) == ("frugal-meter/doctor/1", 0, "FR")
    assert told["factor"]["licence"] == grid.factor("FR").licence
    tiers = {source["component"]: source["tier"] for source in told["sources"]}
    assert tiers.items() >= {"cpu": "measured", "dram": "modelled", "board": "modelled"}.items()
    assert told["pue"]["flags"] == ["pue:default"]
    assert all(finding["what"] and finding["what_fr"] and finding["remedy_fr"] for finding in told["findings"])


def test_without_a_zone_energy_is_shown_and_carbon_is_not_guessed(machine):
    told = machine.json("--sources", "model")
    assert (told["zone"], told["factor"], told["carbon_now_g_per_h"]) == (None, None, None)
    assert told["total_now_w"]["mid"] > 0
    shown = machine.doctor("--sources", "model").stdout
    assert "it is never guessed" in shown
    assert "gCO₂e/kWh" not in shown
    assert "frugal-meter doctor --zone FR" in shown


def test_modelled_watts_lie_between_idle_and_full_load(machine):
    told = machine.json("--sources", "model")
    cpu = next(source for source in told["sources"] if source["component"] == "cpu")
    # nobody moves the counters of this tree: its machine is idle
    assert cpu["now_w"]["mid"] == pytest.approx(cpu["idle_w"]["mid"], rel=1e-3)
    assert cpu["idle_w"]["mid"] < cpu["full_w"]["mid"]
    assert {each["component"]: each["origin"] for each in told["idle"]} == dict.fromkeys(("cpu", "dram", "board"), "modelled")


def test_the_watts_of_now_come_from_the_counter(machine):
    tree = PowercapTree.amd_core_in_package(machine.roots.powercap)
    watts, began = 40.0, time.monotonic()

    def pause(seconds: float) -> None:
        time.sleep(seconds)  # the time over which power is a mean, not a wait for somebody
        tree.advance("intel-rapl:0", joules=watts * seconds)

    def probe(sources, host):
        return watts_now(sources, host, pause=pause)

    found = diagnose("rapl", {"zone": "FR"}, machine.roots, probe=probe)
    took = time.monotonic() - began
    cpu = next(line for line in found.sources if line.component == "cpu")
    assert watts * PAUSE_S / took * 0.9 <= cpu.now_w.mid <= watts * 1.01
    assert cpu.now_w.low < cpu.now_w.mid < cpu.now_w.high
    assert found.carbon_now_g_per_h.mid == pytest.approx(
        found.total_now_w.mid * 3600 * grid.factor("FR").grams_per_joule * found.pue.value
    )
    # the sensor holds nearly all of the power here; what it does not is modelled, and says so above 5 %
    weakest = "modelled" if found.measured_share < 0.95 else "measured"
    assert found.tier == weakest


def test_a_counter_that_stands_still_is_unknown_and_not_0_w(machine):
    PowercapTree.amd_core_in_package(machine.roots.powercap)
    told = machine.json("--zone", "FR")
    cpu = next(source for source in told["sources"] if source["component"] == "cpu")
    assert (cpu["now_w"], cpu["now_unknown"]) == (None, "still")
    assert (told["total_now_w"], told["carbon_now_g_per_h"]) == (None, None)
    assert "counter-still" in [finding["code"] for finding in told["findings"]]
    shown = machine.doctor("--zone", "FR").stdout
    assert "counter stands still" in shown


def test_what_is_said_of_several_places_is_said_once(machine):
    PowercapTree.dual_socket_with_psys(machine.roots.powercap)
    shown = " ".join(machine.doctor("--zone", "FR").stdout.split())
    assert shown.count("did not move between two readings") == 1
    assert "(rapl:package-0, rapl:dram-0, rapl:package-1, rapl:dram-1)" in shown
    assert "CPU 0 measured" in shown
    assert "CPU 1 measured" in shown


def test_a_counter_that_goes_away_or_falls_back_has_no_watts(machine):
    tree = PowercapTree.amd_core_in_package(machine.roots.powercap)
    tree.set("intel-rapl:0", 5_000_000)
    happens = {"gap": lambda: tree.set("intel-rapl:0", 1_000_000), "silent": lambda: tree.vanish("intel-rapl:0")}
    for why, change in happens.items():
        found = discover("rapl", powercap_root=machine.roots.powercap, proc_root=machine.tree.proc, sys_root=machine.tree.sys)
        now = watts_now(found.sources, HostCpu(machine.tree.proc, machine.tree.sys), pause=lambda _, change=change: change())
        assert (now[0].watts, now[0].why) == (None, why)


def test_the_idle_baseline_says_where_it_comes_from(machine):
    PowercapTree.dual_socket_with_psys(machine.roots.powercap)
    config = machine.config('[meter]\nservice = "a"\nidle_watts = { "rapl:package-0" = 21.5 }\n')
    idle = {each["source"]: each for each in machine.json("--config", config)["idle"]}
    assert idle["rapl:package-0"] == {
        "source": "rapl:package-0", "component": "cpu", "watts": {"low": 21.5, "mid": 21.5, "high": 21.5}, "origin": "configured",
    }  # fmt: skip
    assert idle["rapl:package-1"]["origin"] == "modelled"
    assert idle["rapl:package-1"]["watts"]["mid"] > 0
    assert (idle["rapl:dram-0"]["origin"], idle["rapl:dram-0"]["watts"]) == ("observed-later", None)


def test_the_slice_is_declared_or_the_quota_or_left_to_use(machine):
    assert machine.json()["host"]["slice_origin"] == "use"
    cgroup = CgroupTree(machine.tree.sys / "fs/cgroup", machine.tree.proc)
    cgroup.limit("/", 1.0)
    host = machine.json()["host"]
    assert (host["quota_cpus"], host["slice"], host["slice_origin"], host["cpu_scope"]) == (1.0, 0.25, "quota", "host")
    config = machine.config('[meter]\nservice = "a"\nhost_share = 0.5\n')
    host = machine.json("--config", config)["host"]
    assert (host["slice"], host["slice_origin"]) == (0.5, "declared")


def test_a_factor_of_years_ago_is_called_stale(machine):
    year = datetime.now(UTC).year
    zone = next(zone for zone in grid.zones() if grid.factor(zone).is_stale(year))
    assert "STALE" in machine.doctor("--zone", zone).stdout
    assert "PÉRIMÉ" in machine.doctor("--zone", zone, "--lang", "fr").stdout
    assert "factor-stale" in [finding["code"] for finding in machine.json("--zone", zone)["findings"]]


def test_a_declared_pue_is_exact_and_no_longer_advised(machine):
    config = machine.config('[meter]\nservice = "a"\nzone = "FR"\npue = 1.25\n')
    told = machine.doctor("--config", config).stdout
    assert "1.25 (exact), declared by the operator" in told
    assert "pue = …" not in told


BUDGETS = """
    [meter]
    service = "a"
    zone = "FR"
    [[budget]]
    name = "day"
    limit = "50 kJ"
    per = "day"
    key = ["route", "model"]
    [[budget]]
    name = "strict"
    limit = "20 gCO2e"
    per = "hour"
    require_tier = "measured"
    [[budget]]
    name = "shadow"
    limit = "1000 requests"
    per = "week"
    enforce = false
"""


def test_budgets_say_on_which_tier_they_hold_and_which_cannot_refuse(machine):
    config = machine.config(BUDGETS)
    told = {budget["name"]: budget for budget in machine.json("--config", config, "--sources", "model")["budgets"]}
    assert {name: (budget["state"], budget["tier"]) for name, budget in told.items()} == {
        "day": ("enforced", "modelled"), "strict": ("cannot-refuse", "modelled"), "shadow": ("watches", None),
    }  # fmt: skip
    for lang, words in {"en": "CANNOT REFUSE here", "fr": "NE PEUT PAS REFUSER ici"}.items():
        assert words in machine.doctor("--config", config, "--sources", "model", "--lang", lang).stdout


def test_doctor_and_the_meter_agree_on_every_budget():
    budgets = [Budget("day", "50 kJ", per="day"), Budget("strict", "3 Wh", per="day", require_tier="measured")]
    meter = Meter("a", zone="FR", sources="model", budgets=budgets)
    states = budget_states(budgets, meter.setup.sources)
    assert {state.name: state.tier for state in states} == meter.admission.tiers
    assert {state.name: state.state == "enforced" for state in states} == {b.name: meter.admission.can_refuse(b) for b in budgets}


def test_a_budget_that_nothing_can_count_is_told_as_the_meter_refuses_it():
    budget, sources = Budget("gpu", "120 GPU-s", per="day"), [SyntheticSource(idle_watts=1.0)]
    with pytest.raises(BudgetNotEnforceableError):
        Meter("a", zone="FR", sources=sources, budgets=[budget])
    assert [state.state for state in budget_states([budget], sources)] == ["cannot-count"]


@pytest.mark.parametrize("by", ["environment", "folder"])
def test_settings_are_found_where_from_config_finds_them(machine, monkeypatch, by):
    path = machine.config(BUDGETS)
    elsewhere = machine.root / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(machine.root if by == "folder" else elsewhere)
    told = machine.doctor("--sources", "model", FRUGAL_CONFIG=path if by == "environment" else None)
    assert "CANNOT REFUSE here" in told.stdout


# -- doctor: how it reads


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("shape", ["model", "rapl"])
def test_the_report_fits_80_columns_and_is_plain_when_piped(machine, lang, shape):
    if shape == "rapl":
        PowercapTree.dual_socket_with_psys(machine.roots.powercap)
    told = machine.doctor("--zone", "FR", "--lang", lang, "--config", machine.config(BUDGETS), COLUMNS="200").stdout
    lines = told.splitlines()
    assert len(lines) > 40
    assert not [line for line in lines if len(line) > 80]
    assert not [line for line in lines if line != line.rstrip()]
    assert not [line for line in lines if line.strip()[:1] in {";", ":", "?", "!", "»"}]
    assert "\x1b" not in told
    assert not re.search("[\ue000-\uf8ff]", told)


def test_figures_are_written_as_the_language_writes_them(machine):
    french, english = (machine.doctor("--zone", "FR", "--sources", "model", "--lang", lang).stdout for lang in LANGUAGES)
    grams = f"{grid.factor('FR').grams_per_kwh:.2f} gCO₂e/kWh"
    assert grams in english
    assert grams.replace(".", ",") in french
    assert re.search(r" à \d+,\d+ W", french)
    assert re.search(r" to \d+\.\d+ W", english)


@pytest.mark.parametrize(
    ("environment", "lang"),
    [
        ({"LC_ALL": "fr_FR.UTF-8", "LANG": "C"}, "fr"),
        ({"LC_ALL": "", "LC_MESSAGES": "fr_BE", "LANG": "en_GB"}, "fr"),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "fr"}, "fr"),
        ({"LC_ALL": "C.UTF-8", "LANG": "fr_FR"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale(environment, lang):
    assert texts.language_of(None, environment) == lang


def test_an_asked_language_wins_over_the_locale(machine):
    assert "Machine\n  Processeur" in machine.doctor("--sources", "model", LC_ALL="fr_FR.UTF-8").stdout
    assert "Machine\n  CPU" in machine.doctor("--sources", "model", "--lang", "en", LC_ALL="fr_FR.UTF-8").stdout


def test_every_text_has_both_languages_with_the_same_blanks():
    def blanks(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for key, (french, english) in texts._WORDS.items():
        assert french, key
        assert english, key
        assert blanks(french) == blanks(english), key


# -- bad input: one line


@pytest.mark.parametrize(
    ("config", "options", "line"),
    [
        ('[meter]\nservice = "a"\npuee = 1.2\n', (), "did you mean pue?"),
        ('[meter]\nservice = "a"\npue = 0.5\n', (), "pue is 0.5"),
        ('[meter]\nservice = "a"\nsources = ["rapl"]\n', (), "write one of auto, model, rapl, agent, codecarbon"),
        ("[meter\n", (), "not valid TOML"),
        ('[meter]\nservice = "a"\n', ("--zone", "Frnace"), "Did you mean FR (France)"),
        ('[meter]\nservice = "a"\n', ("--lang", "de"), "use fr or en"),
        ('[meter]\nservice = "a"\n', ("--sources", "magic"), "unknown sources 'magic'"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(machine, config, options, line):
    told = machine.doctor("--config", machine.config(config), *options)
    assert (told.exit_code, told.stdout) == (2, "")
    assert line in told.stderr
    assert told.stderr.count("\n") == 1


def test_a_meter_that_would_be_switched_off_is_a_finding(machine, monkeypatch):
    monkeypatch.setenv("FRUGAL_DISABLED", "1")
    assert machine.json()["findings"][0]["code"] == "meter-disabled"


def test_a_bad_setting_under_json_is_still_one_document(machine):
    told = machine.doctor("--json", "--zone", "Atlantis")
    assert told.exit_code == 2
    assert json.loads(told.stdout).items() >= {"exit_code": 2, "error": "UnknownZoneError"}.items()
    assert "unknown zone 'Atlantis'" in told.stderr


APPS = """
    async def application(scope, receive, send): ...
    def returns_it(): return application
    def wsgi(environ, start_response): ...
    def one(scope): ...
    class Klass: ...
    number = 3
    written_in_c = min
    def fails(): raise RuntimeError("no database")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of its own name into the current folder, and returns that name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    written: list[str] = []

    def write(text: str = APPS) -> str:
        name = f"cli_{tmp_path.name.replace('-', '_')}_{len(written)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_an_application_of_the_current_folder_is_found(module):
    name = module()
    found = load_app(f"{name}:application")
    assert found is sys.modules[name].application
    assert load_app(f"{name}:returns_it", factory=True) is found
    # a callable written in C that does not tell its arguments is let through: it may be one
    assert load_app(f"{name}:written_in_c") is min


@pytest.mark.parametrize(
    ("attribute", "factory", "line"),
    [
        ("nothing", False, "has no attribute 'nothing'"),
        ("number", False, "not an ASGI application but an int"),
        ("wsgi", False, "looks like a WSGI application"),
        ("returns_it", False, "add --factory"),
        ("Klass", False, "is a class"),
        ("one", False, "cannot be called with (scope, receive, send)"),
        ("number", True, "leave --factory out"),
        ("fails", True, "RuntimeError: no database"),
    ],
)
def test_what_is_no_application_is_refused_in_one_line(module, attribute, factory, line):
    with pytest.raises(FrugalMeterError) as refused:
        load_app(f"{module()}:{attribute}", factory=factory)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import a_library_that_is_not_here", "No module named 'a_library_that_is_not_here'"),
        ("x = (", "SyntaxError: '(' was never closed"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('two\\nlines')", "SystemExit: two ("),
    ],
)
def test_a_module_that_does_not_import_says_what_failed_and_where(module, text, line):
    name = module(text)
    with pytest.raises(FrugalMeterError) as refused:
        load_app(f"{name}:application")
    assert line in str(refused.value)
    assert f"{name}.py, line 1)" in str(refused.value)


METERED = """
    from starlette.applications import Starlette
    from frugal_meter import Meter, MeterMiddleware
    meter = Meter("itself", zone="FR", sources="model")
    added, around = Starlette(), MeterMiddleware(Starlette(), meter=meter)
    added.add_middleware(MeterMiddleware, meter=meter)
"""


@pytest.mark.parametrize("attribute", ["added", "around"])
def test_an_application_that_meters_itself_is_refused(module, attribute):
    with pytest.raises(
        FrugalMeterError, match=f":{attribute} meters itself already .MeterMiddleware in it.: start it with uvicorn"
    ):
        load_app(f"{module(METERED)}:{attribute}")


@pytest.mark.parametrize(("target", "line"), [("nobody_wrote_this:app", "is not found"), ("main", "such as main:app")])
def test_a_module_that_is_not_there_is_told_apart(module, target, line):
    with pytest.raises(FrugalMeterError, match=line):
        load_app(target)


# -- run: a real server


TINY = """
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                step = (await receive())["type"]
                await send({"type": f"{step}.complete"})
                if step == "lifespan.shutdown":
                    return
        sum(i * i for i in range(50_000))
        status = 500 if scope["path"] == "/broken" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
"""


class Served:
    """``frugal-meter run`` in a process of its own, on spare ports."""

    def __init__(self, folder: Path, *options: str, text: str = TINY, **environment: str) -> None:
        (folder / "tiny.py").write_text(textwrap.dedent(text))
        command = [sys.executable, "-m", "frugal_meter.cli", "run", "tiny:app", "--port", "0", "--ops", "127.0.0.1:0", *options]
        env = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
        env.pop("FRUGAL_CONFIG", None)
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.said = ""

    def addresses(self, count: int = 3) -> list[str]:
        """Wait for the addresses that it prints once it is up."""
        assert self.process.stderr is not None
        while len(found := re.findall(r"^  .*(http://\S+)$", self.said, re.MULTILINE)) < count:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        return found

    def end(self, by: signal.Signals = signal.SIGTERM) -> str:
        self.process.send_signal(by)
        return self.process.communicate(timeout=60)[1]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


def scraped(metrics: str, requests: int) -> str:
    """The exposition, once the tick has booked so many requests."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        text = httpx.get(metrics).text
        if sum(map(float, re.findall(r"^frugal_requests_total\{.*\} (\S+)", text, re.MULTILINE))) >= requests:
            return text
    raise AssertionError(text)


def test_an_untouched_application_is_served_metered_and_leaves_its_account(tmp_path):
    with Served(tmp_path, "--zone", "FR", "--service", "guichet") as served:
        base, page, metrics = served.addresses()
        for path in ("/", "/", "/broken"):
            httpx.get(base + path.lstrip("/"))
        seen = scraped(metrics, requests=3)
        assert httpx.get(page).status_code == 200
        assert httpx.get(base + "metrics").text == "ok"  # the application's port is the application's alone
        account = served.end()
        assert served.process.returncode == 0
    assert (served.said + account).count("Started server process") == 1
    assert 'zone="FR"' in seen
    assert "frugal-meter: The account of guichet" in account
    assert re.search(r"requests +4 \(3 ok, 1 errors\)", account)
    assert re.search(r"their energy +\S+ m?J \(.* to .*J\), (modelled|measured), .* for their computing", account)
    assert "close: 0 nJ off" in account


def test_ctrl_c_ends_it_as_gently_and_in_french(tmp_path):
    with Served(tmp_path, "--zone", "FR", "--lang", "fr") as served:
        httpx.get(served.addresses()[0])
        account = served.end(signal.SIGINT)
        assert served.process.returncode == 0
    assert "Le compte de tiny" in account
    assert "requêtes" in account
    assert "tombent juste : 0 nJ" in account


def test_without_ops_pages_only_the_application_listens(tmp_path):
    with Served(tmp_path, "--zone", "FR", "--ops", "off") as served:
        assert len(served.addresses(1)) == 1
        assert httpx.get(served.addresses(1)[0]).text == "ok"
        served.end()
        assert "metrics" not in served.said


def test_a_disabled_meter_says_so_and_serves(tmp_path):
    with Served(tmp_path, "--zone", "FR", FRUGAL_DISABLED="1") as served:
        assert httpx.get(served.addresses()[0]).text == "ok"
        assert "nothing is metered" in served.said
        assert served.said.count("Started server process") == 1
        assert "frugal_host_energy_joules_total{" not in httpx.get(served.addresses()[2]).text
        assert "Meter switched off (FRUGAL_DISABLED=1)" in httpx.get(served.addresses()[1], params={"lang": "en"}).text
        assert "account" not in served.end()


def test_an_application_that_does_not_come_up_exits_3(tmp_path):
    broken = 'async def app(scope, receive, send):\n    await receive()\n    await send({"type": "lifespan.startup.failed"})\n'
    with Served(tmp_path, "--zone", "FR", text=broken) as served:
        said = served.process.communicate(timeout=60)[1]
        assert served.process.returncode == 3
    assert "is metered" not in said


def run(folder: Path, *options: str) -> tuple[int, str]:
    (folder / "tiny.py").write_text(textwrap.dedent(TINY))
    command = [sys.executable, "-m", "frugal_meter.cli", "run", "tiny:app", *options]
    env = {key: value for key, value in os.environ.items() if key != "FRUGAL_CONFIG"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("option", ["--port", "--ops"])
def test_a_port_that_is_taken_is_one_line(tmp_path, option):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--port": "0", "--ops": "127.0.0.1:0", option: str(port) if option == "--port" else f"127.0.0.1:{port}"}
        code, said = run(tmp_path, "--zone", "FR", *(part for pair in ports.items() for part in pair))
    assert code == 2
    assert f"port {port} of 127.0.0.1 is taken by another program: choose another with {option}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "zone is required: give --zone FR"),
        (("--zone", "Atlantis"), "unknown zone 'Atlantis'"),
        (("--zone", "FR", "--workers", "4"), "one worker only"),
        (("--zone", "FR", "--port", "0", "--ops", "0.0.0.0:0"), "FRUGAL_OPS_TOKEN"),
        (("--zone", "FR", "--port", "0", "--ops", "here"), "127.0.0.1:9464"),
        (("--zone", "FR", "--port", "0", "--host", "203.0.113.1"), "is no address of this machine"),
    ],
)
def test_run_refuses_bad_input_in_one_line(tmp_path, options, line):
    code, said = run(tmp_path, *options)
    assert code == 2
    assert line in said
    assert said.count("\n") == 1


# -- the account


def test_the_account_adds_lows_to_lows_and_a_nested_block_is_no_request():
    tally = Tally()
    meter = Meter("a", zone="FR", sources=[SyntheticSource(idle_watts=5.0, watts_per_cpu=20.0, error=0.1)], exporters=[tally])
    with meter:
        for _ in range(3):
            with meter.measure("outer"), meter.measure("inner"):
                sum(i * i for i in range(20_000))
    assert tally.outcomes == {"ok": 3}
    assert tally.energy_j.interval.low < tally.energy_j.interval.mid < tally.energy_j.interval.high
    assert tally.energy_j.tier == "measured"
    assert tally.machine_j.interval.mid == pytest.approx(sum(meter.aggregates.totals_nj().values()) / 1e9)
    assert tally.machine_j.interval.mid >= tally.energy_j.interval.mid
    lines = account(meter, tally, 1.0, texts.Words("en"))
    assert not [line for line in lines if len(line) > 110]


def test_without_a_source_the_account_says_how_many_have_no_figure():
    tally = Tally()
    meter = Meter("a", zone="FR", sources=[], exporters=[tally])
    with meter, meter.measure("block"):
        pass
    assert (tally.energy_j.interval, tally.energy_j.tier, tally.unknown) == (None, None, 1)
    lines = account(meter, tally, 1.0, texts.Words("en"))
    assert "1 without a figure" in lines[-1]


# -- the command itself


@pytest.mark.parametrize("how", ["version", "--version"])
def test_the_version_is_told(how):
    told = subprocess.run([sys.executable, "-m", "frugal_meter.cli", how], capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stderr) == (0, "")
    assert re.match(r"frugal-meter \d+\.\d+\.\d+ \(Python 3\.", told.stdout)


@pytest.mark.parametrize(("absent", "command"), [("typer", "version"), ("rich", "doctor"), ("uvicorn", "run")])
def test_a_missing_extra_is_one_line_with_its_pip_command(tmp_path, absent, command):
    (tmp_path / "tiny.py").write_text(textwrap.dedent(TINY))
    options = ["tiny:app", "--zone", "FR", "--port", "0", "--ops", "off"] if command == "run" else []
    program = textwrap.dedent(f"""
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == {absent!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Blocker())
        from frugal_meter.cli import main
        main({[command, *options]!r})
    """)
    told = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout) == (2, "")
    assert "pip install 'frugal-meter[cli]'" in told.stderr
    assert told.stderr.count("\n") == 1


def test_an_old_terminal_encoding_is_no_traceback(machine):
    command = [sys.executable, "-m", "frugal_meter.cli", "doctor", "--zone", "FR", "--sources", "model", "--lang", "fr"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "FRUGAL_CONFIG": machine.config('[meter]\nservice = "a"\n')}
    told = subprocess.run(command, cwd=machine.root, env=env, capture_output=True, timeout=60)
    assert (told.returncode, told.stderr) in [(1, b""), (2, b"")]
    assert b"gCO?e/kWh" in told.stdout


def test_every_command_option_and_key_is_in_the_documentation(machine):
    page = (Path(__file__).parents[1] / "docs/cli.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == {
        "agent",
        "budget",
        "calibrate",
        "clauses",
        "compare",
        "dashboards",
        "declaration",
        "doctor",
        "explain",
        "factors",
        "harvest",
        "journal",
        "run",
        "study",
        "version",
    }
    for name, command in commands.items():
        assert f"frugal-meter {name}" in page
        options = [word for option in command.params if not getattr(option, "hidden", False) for word in option.opts]
        assert not [word for word in options if word.startswith("--") and f"`{word}" not in page]
    assert not [key for key in machine.json() if f"`{key}`" not in page]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nosuch"], "no such command 'nosuch'; see frugal-meter --help"),
        (["study", "run", "study.toml"], "missing option '--out'; see frugal-meter study run --help"),
        (["compare", "a"], "missing argument 'B'; see frugal-meter compare --help"),
    ],
)
def test_a_command_line_that_means_nothing_is_one_line(words, line, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"frugal-meter: {line}\n"


def test_without_a_command_the_help_is_told_and_each_command_in_order(capsys):
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    told = "".join(capsys.readouterr())
    names = [line.split()[0] for line in told.partition("Commands:")[2].splitlines() if line.strip()]
    assert names[:3] == ["doctor", "run", "budget"]
    assert sorted(names) == sorted(typer.main.get_command(app).commands)


def test_no_line_of_help_is_cut_off_in_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    groups = [[name] for name, found in typer.main.get_command(app).commands.items() if hasattr(found, "commands")]
    assert len(groups) >= 7
    for words in ([], *groups):
        told = CliRunner().invoke(app, [*words, "--help"]).output
        assert "..." not in told.partition("Commands:")[2], told
