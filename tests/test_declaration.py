"""The public declaration: its schema, its figures, what is left out of it, and who may read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from declaration_samples import BUDGETS, NOW, STATED, declared, hostile, kept, town
from exchange import HERE, a_meter, ask
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from postgres_server import PostgresServer
from starlette.applications import Starlette
from starlette.routing import Mount
from support import burn, metered
from typer.testing import CliRunner

from frugal_meter import Budget, Meter
from frugal_meter.cli.app import app
from frugal_meter.cli.gathering import diagnose
from frugal_meter.config import load
from frugal_meter.declaration.calendar import last_whole, valid_until
from frugal_meter.declaration.declaring import bounds, in_fives
from frugal_meter.declaration.document import (
    REASONS,
    Declaration,
    Legal,
    Model,
    Objective,
    Supplier,
    as_json,
    json_schema,
    nulls,
)
from frugal_meter.declaration.reading import declaration_of
from frugal_meter.declaration.serving import CitizenPages, Declarer, finder, schema_file
from frugal_meter.declaration.statement import Statement, statement_of
from frugal_meter.errors import ConfigurationError, DeclarationError
from frugal_meter.journal.opening import open_store
from frugal_meter.journal.rows import Batch, reading_row
from frugal_meter.journal.sqlite import SqliteJournal
from frugal_meter.periods import period
from frugal_meter.records import Interval
from frugal_meter.sources.host_root import host_roots

AFAR = ("203.0.113.9", 40_000)
SAMPLES = {
    "full": declared(),
    "hardly used": declared(kept(requests=4, failed=0)),
    "nothing delivered": declared(kept(units=0)),
    "half covered": declared(kept(hours=100)),
    "with a model elsewhere": declared(kept(remote_j=7200.0, quality=None)),
    "no journal": declared("no_journal"),
    "nothing stated": declared("no_books", **dict.fromkeys(set(STATED) - {"public", "unit"})),
    "hostile": hostile(),
    "another town": town(3),
}  # fmt: skip


def plain(of: Declaration) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(as_json(of))
    return told


def refusal(told: Any) -> str:
    with pytest.raises(DeclarationError) as raised:
        declaration_of(told if isinstance(told, bytes) else json.dumps(told).encode(), now=NOW)
    return str(raised.value)


# -- the schema


def test_the_published_schema_is_the_one_that_is_read_by() -> None:
    assert schema_file() == json_schema()
    Draft202012Validator.check_schema(json.loads(schema_file()))


@pytest.mark.parametrize("name", SAMPLES)
def test_declarations_hold_to_the_schema_and_are_read_back_as_they_were(name: str) -> None:
    validator = Draft202012Validator(json.loads(schema_file()), format_checker=FormatChecker())
    assert [error.message for error in validator.iter_errors(plain(SAMPLES[name]))] == []
    assert declaration_of(as_json(SAMPLES[name]), now=NOW) == SAMPLES[name]


_BROKEN: dict[str, tuple[tuple[Any, ...], Any]] = {
    "another version": (("schema",), "frugal-ai/2"),
    "an unknown key": (("services", 0, "greenness"), 1),
    "a text for a number": (("services", 0, "it_energy_kwh", "mid"), "1"),
    "a truth for a number": (("services", 0, "it_energy_kwh", "mid"), True),
    "negative energy": (("services", 0, "it_energy_kwh", "low"), -1),
    "a share above one": (("services", 0, "method", "measured_share"), 1.5),
    "no service": (("services",), []),
    "a script for an address": (("services", 0, "human_alternative_url"), "javascript:alert(1)"),
    "an address with a line break": (("services", 0, "human_alternative_url"), "https://ville.example/\n"),
    "a control character": (("organisation", "name"), "Ville\u0000"),
    "a turned direction": (("organisation", "name"), "Ville \u202e"),
    "an empty text": (("services", 0, "purpose"), {"fr": " "}),
    "a text in no language": (("services", 0, "purpose"), {}),
    "a text in another language": (("services", 0, "purpose"), {"de": "Zweck"}),
    "a short siret": (("organisation", "siret"), "123"),
    "an unknown licence": (("licence",), "all rights reserved"),
    "a very long text": (("organisation", "name"), "x" * 601),
}


@pytest.mark.parametrize("name", _BROKEN)
def test_what_breaks_the_schema_is_refused_by_it_and_by_the_reader(name: str) -> None:
    told = plain(SAMPLES["full"])
    (*path, last), value = _BROKEN[name]
    at: Any = told
    for key in path:
        at = at[key]
    at[last] = value
    assert not Draft202012Validator(json.loads(schema_file())).is_valid(told)
    assert "\n" not in refusal(told)


@pytest.mark.parametrize("where", ["declared_at", "period", "services", "unknown", "provenance"])
def test_a_missing_field_is_refused_by_name(where: str) -> None:
    told = plain(SAMPLES["full"])
    del told[where]
    assert where in refusal(told)


# -- what a stranger may send


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "a JSON object is expected"),
        (b"null", "a JSON object is expected"),
        (b'{"schema": 1}', "wrong version"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e999}', "larger than a number can be"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"\xff\xfe{}", "not UTF-8 (byte 0)"),
        (b'{"schema": "caf\xe9"}', "not UTF-8 (byte 15)"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"schema": "' + b"\x1b[31m" * 100 + b'"}', "not JSON"),
        (b" " * 1_000_001, "larger than 1 MB"),
    ],
)
def test_what_is_no_declaration_is_refused_in_one_line(data: bytes, says: str) -> None:
    why = refusal(data)
    assert says in why
    assert why.isprintable()
    assert len(why) < 300


@given(st.integers(0, 10**6), st.binary(max_size=12), st.integers(0, 40))
def test_a_declaration_with_bytes_changed_is_read_or_refused_and_nothing_else(at: int, put: bytes, cut: int) -> None:
    data = as_json(SAMPLES["full"])
    at %= len(data)
    why = ""
    try:
        declaration_of(data[:at] + put + data[at + cut :], now=NOW)
    except DeclarationError as error:
        why = str(error)
    assert why.isprintable()


@given(st.text(min_size=1), st.text(min_size=1))
def test_whatever_the_operator_calls_things_the_declaration_holds_to_its_schema(service: str, budget: str) -> None:
    named = [Budget(budget, "50 kJ", per="day")] if budget.strip() else []
    declaration = declared(service=service, budgets=named)
    assert declaration_of(as_json(declaration), now=NOW) == declaration


def changed(*path: Any, to: Any) -> dict[str, Any]:
    told = plain(SAMPLES["full"])
    at: Any = told
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return told


def test_a_number_too_large_is_refused() -> None:
    assert "out of range" in refusal(changed("services", 0, "it_energy_kwh", "high", to=10**400))


def test_figures_that_contradict_each_other_are_refused() -> None:
    assert "not in the order" in refusal(changed("services", 0, "it_energy_kwh", "high", to=0.0001))
    three = {"low": 1.0, "mid": 2.0, "high": 3.0}
    assert "carbon is not the sum of its parts" in refusal(changed("services", 0, "co2e", "total_kg", to=three))
    assert "energy per unit is not the energy divided" in refusal(changed("services", 0, "per_unit", "it_energy_j", to=three))
    assert "carbon per unit is not the carbon divided" in refusal(changed("services", 0, "per_unit", "co2e_g", to=three))


def test_a_null_without_a_reason_and_a_reason_without_a_null_are_refused() -> None:
    assert "/organisation/name is null" in refusal(changed("organisation", "name", to=None))
    made_up = {"path": "/organisation/name", "code": "not_declared", "reason": "x"}
    told = plain(SAMPLES["full"])
    told["unknown"].append(made_up)
    assert "is no null" in refusal(told)


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        (("valid_until",), "2026-11-02T08:59:59Z", "ends before it is declared"),
        (("declared_at",), "2026-12-01T00:00:00Z", "in the future"),
        (("declared_at",), "2026-10-15T00:00:00Z", "before its period had ended"),
        (("period", "end"), "2026-09-01T00:00:00Z", "ends before it begins"),
        (("declared_at",), "2026-11-02T09:00:00", "schema"),  # in no zone
    ],
)
def test_times_that_cannot_be_are_refused(path: tuple[Any, ...], to: str, says: str) -> None:
    assert says in refusal(changed(*path, to=to))


def test_a_declaration_is_stale_from_the_moment_it_says() -> None:
    data, until = as_json(SAMPLES["full"]), SAMPLES["full"].valid_until
    assert declaration_of(data, now=until - timedelta(seconds=1)) == SAMPLES["full"]
    with pytest.raises(DeclarationError, match="stale: it was valid until 2027-01-02"):
        declaration_of(data, now=until)


def test_a_service_that_is_there_twice_is_refused() -> None:
    told = plain(SAMPLES["full"])
    told["services"] *= 2
    told["unknown"] += [{**each, "path": each["path"].replace("/0/", "/1/", 1)} for each in told["unknown"]]
    assert "twice" in refusal(told)


# -- figures


def test_every_null_says_why_and_nothing_else_does() -> None:
    for name, sample in SAMPLES.items():
        told = plain(sample)
        assert {each["path"] for each in told.pop("unknown")} == set(nulls(told)), name
    assert {each.reason for sample in SAMPLES.values() for each in sample.unknown} <= {*REASONS.values(), *_poisoned_reasons()}


def _poisoned_reasons() -> set[str]:
    return {each.reason for each in SAMPLES["hostile"].unknown}


def test_figures_are_those_of_the_period_to_three_digits_and_their_ends_are_outward() -> None:
    figures, service = kept().figures, declared().services[0]
    assert service.per_unit is not None
    assert service.per_year is not None
    assert figures.per_unit_j is not None
    each = service.per_unit.it_energy_j
    assert each.mid == pytest.approx(figures.per_unit_j.mid, rel=0.005)
    assert each.low <= figures.per_unit_j.low <= figures.per_unit_j.high <= each.high
    assert service.per_year.it_energy_kwh.mid == pytest.approx(figures.energy_j.mid / 3.6e6 * 365 / 31, rel=0.01)
    assert service.it_energy_kwh == bounds(figures.energy_j, 1 / 3.6e6)


@given(st.floats(0, 1e12), st.floats(1, 3), st.floats(1, 3))
def test_rounded_bounds_hold_what_they_round(low: float, up: float, further: float) -> None:
    of = Interval(low, low * up, low * up * further)
    shown = bounds(of)
    assert shown.low <= of.low
    assert shown.high >= of.high
    assert shown.mid == pytest.approx(of.mid, rel=0.006)


@given(st.integers(0, 10**9))
def test_counts_are_in_fives_and_never_further_off_than_two(count: int) -> None:
    assert in_fives(count) % 5 == 0
    assert abs(in_fives(count) - count) <= 2


@pytest.mark.parametrize(
    "figures", [kept(requests=4, failed=0, units=4000.0), kept(requests=500, failed=0, units=4.0)], ids=["requests", "units"]
)
def test_of_a_service_hardly_used_no_figure_is_published(figures: Any) -> None:
    declaration = declared(figures)
    (service,) = declaration.services
    assert service.volume == type(service.volume)(requests=None, failed=None, refused=None)
    for name in ("it_energy_kwh", "co2e", "per_unit", "per_year", "quality", "elsewhere_kwh"):
        assert getattr(service, name) is None
    assert service.unit.delivered is None
    assert {budget.refused for budget in service.budgets} == {None}
    assert declaration.provenance.figures_sha256 is None
    assert service.method.flags == service.method.factors == service.method.ids == ()
    codes = {each.path: each.code for each in declaration.unknown}
    assert codes["/services/0/it_energy_kwh"] == codes["/services/0/budgets/0/refused"] == "too_few"


def test_five_requests_are_enough() -> None:
    assert declared(kept(requests=5, failed=0)).services[0].volume.requests == 5


def test_few_scores_are_not_published() -> None:
    few = kept(requests=500, failed=0, quality=0.5)
    few = few._replace(figures=msgspec.structs.replace(few.figures, quality_count=4))
    declaration = declared(few)
    assert declaration.services[0].quality is None
    assert {e.path: e.code for e in declaration.unknown}["/services/0/quality"] == "too_few"


def test_a_year_is_not_told_from_less_than_half_a_period() -> None:
    assert declared(kept(hours=380)).services[0].per_year is not None
    assert declared(kept(hours=360)).services[0].per_year is None


def test_budgets_are_told_with_what_they_did_in_the_period() -> None:
    chat, trial = declared(budgets=BUDGETS).services[0].budgets
    assert (chat.limit, chat.per, chat.enforced, chat.refused, chat.degraded) == ("50 kJ", "day", True, 40, 115)
    assert (trial.key, trial.enforced, trial.refused) == (("tenant",), False, 0)


def test_an_hourly_series_of_factors_is_cut_and_says_so() -> None:
    hours = kept()
    many = tuple(f"rte:FR:{n}" for n in range(700))
    method = declared(hours._replace(figures=msgspec.structs.replace(hours.figures, factor_ids=many))).services[0].method
    assert (len(method.factors), method.factors_left_out) == (20, 680)


# -- periods


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.sampled_from(["month", "quarter", "year"]))
def test_the_last_whole_period_has_ended_and_the_next_one_has_not(now: datetime, span: Any) -> None:
    zone = ZoneInfo("Europe/Paris")
    at = now.replace(tzinfo=UTC)
    begin, end = last_whole(span, at, zone)
    assert begin < end <= at
    assert (begin.day, begin.hour, end.day, end.hour) == (1, 0, 1, 0)
    following = last_whole(span, end + timedelta(days=400), zone)
    assert begin < following[0]
    assert last_whole(span, end, zone) == (begin, end)
    assert last_whole(span, end - timedelta(seconds=1), zone)[1] == begin
    assert valid_until(begin, end) > end + (end - begin)


# -- the statement


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"purpse": "x"}, "did you mean purpose?"),
        (
            {"models": [{"name": "m", "licences": "x"}]},
            "models[0] has no setting 'licences'; did you mean licence?",
        ),
        ({"models": [{"provider": "x"}]}, "models[0].name"),
        ({"legal": {"ai_act_class": "tiny"}}, "legal.ai_act_class"),
        ({"status": "running"}, "status"),
        ({"public": "yes"}, "public"),
        ({"siret": "1"}, "siret: write 14 digits"),
        ({"siret": 21290019900016}, "siret"),
        ({"url": "ville.example"}, "url: write an address such as"),
        ({"human_alternative_url": "javascript:alert(1)"}, "human_alternative_url: write an address"),
        ({"purpose": "a\nb"}, "purpose.fr: write one line"),
        ({"purpose": {"de": "x"}}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"timezone": "Paris"}, "timezone: 'Paris' is none"),
        ({"period": "week"}, "period"),
        ({"models": "m"}, "models"),
        ("x", "is a table"),
    ],
)
def test_a_statement_that_cannot_mean_anything_is_refused_in_one_line(table: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        statement_of(table)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_people_have_not_said_is_named() -> None:
    assert statement_of(STATED).missing() == ()
    empty = statement_of(None).missing()
    assert {"organisation", "purpose", "answerable", "human_alternative", "models", "suppliers", "legal"} <= set(empty)
    partly = {**STATED, "models": [{"name": "m"}], "legal": {"individual_decisions": False}}
    missing = statement_of(partly).missing()
    assert "legal.ai_act_class" in missing
    assert "models[0].training" in missing
    assert "models" in statement_of({**STATED, "models": []}).missing()


@pytest.mark.parametrize("page", ["declaration.md", "declarer.md"])
def test_the_example_of_the_documentation_says_everything(page: str) -> None:
    text = (Path(__file__).parent.parent / "docs" / page).read_text(encoding="utf-8")
    shown = [textwrap.dedent(block) for block in re.findall(r"^ *```toml[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)]
    (stated,) = (tables["declaration"] for tables in map(tomllib.loads, shown) if "declaration" in tables)
    assert statement_of(stated).missing() == ()


def test_every_key_code_and_option_is_told() -> None:
    text = (Path(__file__).parent.parent / "docs" / "declaration.md").read_text(encoding="utf-8")
    keys = text[text.index("## Keys of") : text.index("## The notice")]
    told = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in keys.splitlines() if line.startswith("| `"))))
    assert told == set(Statement.__struct_fields__)
    for part in (Legal, Model, Supplier, Objective):
        assert [name for name in part.__struct_fields__ if f"`{name}`" not in keys] == []
    assert [code for code in REASONS if f"| `{code}` |" not in text] == []


TOML = """
[meter]
service = "accueil-usagers"
zone = "FR"

[[budget]]
name = "chat"
limit = "50 kJ"
per = "day"

[declaration]
organisation = "Ville de Brest-sur-Exemple"
purpose = "Répondre aux questions sur les démarches."
unit = "answer"
url = "https://ville.example/ia"

[[declaration.models]]
name = "smollm2-135m"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "frugal.toml"
    file.write_text(TOML, encoding="utf-8")
    return file


def test_the_file_states_what_the_meter_declares(config: Path) -> None:
    meter = Meter.from_config(config, sources="model")
    assert meter.statement.organisation == "Ville de Brest-sur-Exemple"
    config.write_text(TOML.replace("purpose", "purpse"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="did you mean purpose"):
        Meter.from_config(config, sources="model")


def test_doctor_tells_what_the_declaration_lacks(config: Path) -> None:
    found = diagnose("model", load(config), host_roots()).findings
    (finding,) = (each for each in found if each.code == "declaration-incomplete")
    assert "human_alternative" in finding.what
    assert "human_alternative" in finding.what_fr
    silent = {name: value for name, value in load(config).items() if name != "declaration"}
    assert "declaration-incomplete" not in [each.code for each in diagnose("model", silent, host_roots()).findings]
    with pytest.raises(ConfigurationError):
        diagnose("model", {**silent, "declaration": {"purpse": "x"}}, host_roots())


# -- from a journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    with metered(journal=f"sqlite:///{path}", tenant=lambda scope: "secret-tenant") as (meter, _):
        for _ in range(12):
            with meter.measure("answer", model="smollm2-135m", unit="answer", tenant="secret-tenant") as span:
                span.add_units(1)
                burn(0.002)
        meter.settle()
    return path


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["declaration", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def moments(journal: Path) -> tuple[str, str]:
    told = SqliteJournal(journal, create=False).info()
    begin, end = (datetime.fromtimestamp(told[f"{name}_ns"] / 1e9, UTC) for name in ("begin", "end"))
    return (begin - timedelta(seconds=1)).isoformat(), (end + timedelta(microseconds=1)).isoformat()


def test_files_for_a_web_server_are_written_from_a_journal(config: Path, journal: Path, tmp_path: Path) -> None:
    out, (begin, end) = tmp_path / "public", moments(journal)
    said = run("write", "--config", config, "--journal", journal, "--out", out, "--begin", begin, "--end", end, "--lang", "en")
    assert "still to fill in" in said
    names = {"frugal-ai.json", "frugal-ai-1.schema.json", "notice.fr.html", "notice.en.html", "carbon.txt"}
    assert {path.name for path in out.iterdir()} == names
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}
    data = (out / "frugal-ai.json").read_bytes()
    found = declaration_of(data, now=datetime.now(UTC))
    store = SqliteJournal(journal, create=False)
    within = {"begin_s": datetime.fromisoformat(begin).timestamp(), "end_s": datetime.fromisoformat(end).timestamp()}
    exact = period((row.books for row in store.passes()), store.tallies(), unit="answer", **within)
    assert exact.per_unit_j is not None
    assert found.services[0].per_unit is not None
    assert found.services[0].per_unit.it_energy_j == bounds(exact.per_unit_j)
    assert found.services[0].unit.delivered == 10
    assert not [path.name for path in out.iterdir() if b"secret-tenant" in path.read_bytes()]
    # Publishing again replaces, and the same figures give the same fingerprint.
    run("write", "--config", config, "--journal", journal, "--out", out, "--begin", begin, "--end", end)
    again = declaration_of((out / "frugal-ai.json").read_bytes(), now=datetime.now(UTC))
    assert again.provenance == found.provenance
    assert again.provenance.figures_sha256 is not None


def test_a_declaration_out_of_a_database_is_the_one_out_of_a_file(
    config: Path, journal: Path, postgres: PostgresServer, tmp_path: Path
) -> None:
    database, (begin, end) = postgres.database(), moments(journal)
    with SqliteJournal(journal, create=False) as file, open_store(database.address) as held:
        end_ns = file.info()["end_ns"]
        readings = [reading_row(each, end_ns) for each in file.readings()]
        held.write(Batch(list(file.passes()), readings, (), ()))
    made = []
    for where in (journal, database.address):
        said = run("write", "--config", config, "--journal", where, "--out", tmp_path / "public", "--begin", begin, "--end", end)
        assert "hunter2" not in said
        data = (tmp_path / "public/frugal-ai.json").read_bytes()
        made.append(declaration_of(data, now=datetime.now(UTC)))
    assert made[0].provenance.figures_sha256 is not None
    assert (made[0].services, made[0].provenance) == (made[1].services, made[1].provenance)


def test_carbon_txt_is_what_its_own_validator_takes(config: Path, journal: Path, tmp_path: Path) -> None:
    out, (begin, end) = tmp_path / "public", moments(journal)
    run("write", "--config", config, "--journal", journal, "--out", out, "--begin", begin, "--end", end)
    validator = Path(sys.executable).with_name("carbon-txt")
    if not validator.exists():
        pytest.skip("needs carbon-txt: pip install carbon-txt")
    checked = subprocess.run([validator, "validate", "file", out / "carbon.txt"], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout
    assert "syntax version 0.6" in checked.stdout
    (out / "carbon.txt").write_text((out / "carbon.txt").read_text().replace("measurement-data", "joules"))
    spoilt = subprocess.run([validator, "validate", "file", out / "carbon.txt"], capture_output=True, text=True, timeout=60)
    assert spoilt.returncode != 0


def test_a_period_without_books_is_declared_without_figures(config: Path, journal: Path, tmp_path: Path) -> None:
    said = run("write", "--config", config, "--journal", journal, "--out", tmp_path / "public", "--lang", "fr")
    assert "le journal ne contient rien de cette période" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--begin", "2026-01-01"), "go together"),
        (("--begin", "2026-02-01", "--end", "2026-01-01"), "ends before it begins"),
        (("--begin", "2026-02-01", "--end", "2999-01-01"), "still to come"),
        (("--begin", "2020-01-01", "--end", "2020-02-01"), "readers would refuse it"),
        (("--begin", "soon", "--end", "later"), "no moment"),
        (("--url", "ville.example"), "url: write an address"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    config: Path, journal: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    said = run("write", "--config", config, "--journal", journal, "--out", tmp_path / "public", *words, code=2)
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "public").exists()


def test_check_lists_what_is_missing_and_its_exit_code_says_so(config: Path) -> None:
    lines = run("check", "--config", config, "--lang", "fr", code=1).splitlines()
    assert "[declaration] human_alternative : comment être servi par une personne" in lines
    assert len(lines) == len(statement_of(load(config)["declaration"]).missing())


def test_check_says_what_each_key_of_an_empty_declaration_asks(tmp_path: Path) -> None:
    (tmp_path / "frugal.toml").write_text('[meter]\nservice = "guichet"\nzone = "FR"\n')
    lines = run("check", "--config", tmp_path / "frugal.toml", "--lang", "en", code=1).splitlines()
    assert "[declaration] users: who uses it: agents, public or both" in lines
    assert not [line for line in lines if line.endswith("for a person to fill in")]


def test_check_without_a_configuration_says_that_rather_than_that_all_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRUGAL_CONFIG", raising=False)
    assert "no configuration" in run("check", code=2)


def test_the_schema_is_printed() -> None:
    assert run("schema").encode() == schema_file()


# -- served

PAGES = ("/frugal-ai.json", "/frugal-ai-1.schema.json", "/notice", "/carbon.txt")


def test_the_public_pages_are_open_only_on_purpose_and_open_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRUGAL_OPS_TOKEN", raising=False)
    with a_meter(declaration=STATED | {"public": False}) as meter:
        assert [each.status_code for each in ask(meter.ops_app(), *PAGES, client=HERE)] == [200] * 4
        assert [each.status_code for each in ask(meter.ops_app(), *PAGES, client=AFAR)] == [403] * 4
        assert [each.status_code for each in ask(meter.ops_app(public=True), *PAGES, client=AFAR)] == [200] * 4
    with a_meter(declaration=STATED) as meter:
        assert [each.status_code for each in ask(meter.ops_app(), *PAGES, client=AFAR)] == [200] * 4
        assert [each.status_code for each in ask(meter.ops_app(token="t"), *PAGES, client=AFAR)] == [200] * 4
        assert [each.status_code for each in ask(meter.ops_app(), "/", "/metrics", "/data.json", client=AFAR)] == [403] * 3


def just_after_the_month(of: Path, hours: float = 2) -> int:
    """Some hours after the month in which the journal ends, Unix ns."""
    end_ns = SqliteJournal(of, create=False).info()["end_ns"]
    last = datetime.fromtimestamp(end_ns / 1e9, ZoneInfo("Europe/Paris"))
    following = (last.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return round((following.timestamp() + hours * 3600) * 1e9)


def pages_of(journal: Path | None, now_ns: int, **stated: Any) -> CitizenPages:
    opener = None if journal is None else partial(SqliteJournal, journal, create=False)
    declarer = Declarer(statement_of({**STATED, **stated}), "accueil-usagers", opener, lambda: (), finder(()))
    return CitizenPages(declarer, lambda: now_ns)


def test_the_last_whole_month_is_served_from_the_journal_and_stands_until_the_next(journal: Path) -> None:
    now_ns = just_after_the_month(journal)
    pages = pages_of(journal, now_ns)
    first = pages.answer("/frugal-ai.json", "fr")
    assert first.headers["content-type"] == "application/json"
    declaration = declaration_of(first.body, now=datetime.fromtimestamp(now_ns / 1e9, UTC))
    assert declaration.services[0].volume.requests == 10
    assert declaration.services[0].per_year is None  # a second of a month
    assert declaration.services[0].method.factors[0].dataset == "ember"
    assert b"secret-tenant" not in first.body
    journal.unlink()  # what was made stands: nobody's visits make the journal be read again
    assert pages.answer("/frugal-ai.json", "fr") == first
    assert "Front desk" in pages.answer("/notice", "en").body.decode()


def test_a_month_is_served_once_its_last_ticks_are_written(journal: Path) -> None:
    pages = pages_of(journal, just_after_the_month(journal, hours=0.5))
    declaration = msgspec.json.decode(pages.answer("/frugal-ai.json", "fr").body, type=Declaration)
    assert declaration.services[0].volume.requests is None
    assert {each.path: each.code for each in declaration.unknown}["/services/0/volume/requests"] == "no_books"


def test_a_journal_that_cannot_be_read_is_a_503_and_no_traceback(tmp_path: Path) -> None:
    answer = pages_of(tmp_path / "gone.db", 10**18).answer("/frugal-ai.json", "fr")
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")


def test_without_an_address_there_is_no_carbon_txt_and_the_page_says_why() -> None:
    answer = pages_of(None, 10**18, url=None).answer("/carbon.txt", "fr")
    assert answer.status == 404
    assert b"[declaration] url" in answer.body


def test_pages_for_the_public_may_be_kept_and_read_from_other_sites_only_where_they_are_public() -> None:
    for public in (True, False):
        headers = pages_of(None, 10**18, public=public).answer("/frugal-ai.json", "fr").headers
        assert ("access-control-allow-origin" in headers) is public
        assert headers.get("cache-control") == ("public, max-age=3600" if public else None)


@pytest.mark.parametrize(
    ("accept", "query", "says"), [("en", "", "What AI does"), ("fr", "", "Ce que"), ("fr", "?lang=en", "What AI")]
)
def test_the_notice_is_in_the_language_that_was_asked_for(accept: str, query: str, says: str) -> None:
    with a_meter(declaration=STATED) as meter:
        (answer,) = ask(meter.ops_app(), f"/notice{query}", client=AFAR, headers={"accept-language": accept})
    assert says in answer.text
    assert answer.headers["content-language"] == ("en" if says.startswith("What") else "fr")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_mounted_below_a_path_the_pages_are_the_same() -> None:
    with a_meter(declaration=STATED) as meter:
        outer = Starlette(routes=[Mount("/frugal", meter.ops_app())])
        answers = ask(outer, *(f"/frugal{path}" for path in PAGES), client=AFAR)
    assert [each.status_code for each in answers] == [200] * 4
    assert answers[1].content == schema_file()
