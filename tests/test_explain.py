"""``frugal-meter explain`` and ``compare``: figures redone from the printed text alone, and comparisons that are refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import burn, metered
from typer.testing import CliRunner

from frugal_meter import Reading
from frugal_meter.cli.app import app
from frugal_meter.exporters.json_lines import JsonLines
from frugal_meter.records import as_dict

USAGE = {"prompt_tokens": 12, "completion_tokens": 200}
#: "1.5 J × 2 g/kWh ÷ 3 = 4 g": numbers, operators, and words in between
EQUATION = re.compile(r"^(?:.*?: )?(?P<left>[\d.,]+ .*) = (?P<right>[\d.,]+)\b")


def run(*words: str) -> tuple[int, str, str]:
    """The command as a user gives it."""
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, list[Reading]]:
    """Readings of a request that asked a model elsewhere, of one that did not, and of a nested block, as a file."""
    path = tmp_path / "readings.jsonl"
    with metered(exporters=[file := JsonLines(path)], pue=1.3) as (meter, _):
        with meter.measure("asks", unit="answer") as asks:
            burn(0.02)
            with meter.remote(model="mistral-small", provider="mistralai") as call:
                call.note({"usage": USAGE})
            with meter.remote(model="inconnu", provider="albert", like="openai/gpt-4o") as second:
                second.note({"usage": USAGE})
        with meter.measure("plain", unit="answer") as plain:
            burn(0.02)
        meter.settle()
        readings = [asks.reading, plain.reading, call.reading]
    file.stop()
    return path, readings


def test_french_workings_are_in_french(exported: tuple[Path, list[Reading]]) -> None:
    path, readings = exported
    code, text, _ = run("explain", readings[0].id, "--from", str(path), "--lang", "fr")
    assert code == 0
    assert "puissance au repos : modélisée" in text
    assert "J de repos" in text
    assert "cpu-time/1+synthetic/1 : docs/method.md" in text
    odd = path.with_name("odd.jsonl")
    odd.write_bytes(msgspec.json.encode(as_dict(msgspec.structs.replace(readings[0], idle_source="rack+observed"))) + b"\n")
    assert "puissance au repos : rack, observée" in run("explain", readings[0].id, "--from", str(odd), "--lang", "fr")[1]


def redone(text: str, lang: str) -> int:
    """How many equations of the text there are; each holds to the digits printed."""
    count = 0
    for line in text.splitlines():
        found = EQUATION.match(line.strip().replace(" : ", ": "))
        if not found:
            continue
        left, right = found["left"], found["right"]
        if lang == "fr":
            left, right = left.replace(",", "."), right.replace(",", ".")
        left = re.sub(r"(?<![\d.])-?[^\d.×÷+ ]\S*", "", left)  # words and units
        assert re.fullmatch(r"[\d.×÷+ ]+", left), line
        value = eval(left.replace("×", "*").replace("÷", "/"))
        assert value == pytest.approx(float(right), rel=2e-5, abs=1e-12), line
        count += 1
    return count


@pytest.mark.parametrize("lang", ["fr", "en"])
def test_a_reading_is_redone_from_the_printed_text_alone(exported, lang):
    path, (asks, *_) = exported
    code, text, _ = run("explain", asks.id, "--from", str(path), "--lang", lang)
    assert code == 0
    # one source, its sum, the host; two calls and their two sums; three ends, here and in both places
    assert redone(text, lang) == 13
    last = [line for line in text.splitlines() if " = " in line][-1]
    printed = float(last.rpartition(" = ")[2].split()[0].replace(",", "."))
    assert printed == pytest.approx(asks.carbon_g, rel=1e-5)
    for said in (asks.method_id, *asks.factor_ids, "ecologits/", "Ember", "synthetic", "PUE", *asks.flags):
        assert said in text


def test_a_call_says_who_pays_for_it(exported):
    path, (asks, _, call) = exported
    _, text, _ = run("explain", call.id, "--from", str(path), "--lang", "en")
    assert f"paid by the request that called: {asks.id}" in text


def test_digits_of_the_headline_match_the_interval(exported):
    path, (_, plain, _) = exported
    _, text, _ = run("explain", plain.id, "--from", str(path), "--lang", "en")
    headline = next(line for line in text.splitlines() if line.startswith("Energy:"))
    assert re.search(r"Energy: \d+(\.\d)? m?J \(", headline)


def test_a_running_meter_explains_its_last_readings():
    with metered() as (meter, _):
        server = meter.serve_ops("127.0.0.1:0")
        try:
            with meter.measure("work", tenant="acme") as span:
                burn(0.01)
            meter.settle()
            code, text, _ = run("explain", span.reading.id, "--from", server.url, "--lang", "en")
            assert (code, redone(text, "en") >= 6) == (0, True)
            assert "acme" not in text
            for id in ("01a20232-e5e9-71f4-9a63-6c9c00000001", "none", "../metrics"):
                code, _, error = run("explain", id, "--from", server.url)
                assert (code, error.count("\n")) == (2, 1)
        finally:
            server.stop()
        assert meter.errors == {}


def test_a_provisional_or_unknown_reading_is_explained_as_such(tmp_path):
    with metered() as (meter, _), meter.measure("running") as span:
        burn(0.01)
        now = span.reading
    unknown = msgspec.structs.replace(
        now, id="x", energy_dynamic_j=None, energy_full_j=None, energy_low_j=None, energy_high_j=None,
        carbon_g=None, carbon_low_g=None, carbon_high_g=None, tier=None,
    )  # fmt: skip
    path = tmp_path / "now.jsonl"
    path.write_text("".join(json.dumps(as_dict(each)) + "\n" for each in (now, unknown)), encoding="utf-8")
    _, text, _ = run("explain", now.id, "--from", str(path), "--lang", "en")
    assert "Provisional" in text
    _, text, _ = run("explain", "x", "--from", str(path), "--lang", "fr")
    assert "inconnus : sans joules, pas de grammes" in text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no reading"),
        ("{\n", "line 1"),
        ('{"id": "a"}\n', "no reading of this version"),
        ("[1]\n", "no reading of this version"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path, content, told):
    path = tmp_path / "bad.jsonl"
    path.write_text(content, encoding="utf-8")
    code, _, error = run("explain", "a", "--from", str(path))
    assert (code, error.count("\n"), told in error) == (2, 1, True)


def test_what_is_not_there_is_told_in_one_line(tmp_path):
    for where in (str(tmp_path / "none.jsonl"), "http://127.0.0.1:1"):
        code, _, error = run("explain", "a", "--from", where)
        assert (code, error.count("\n")) == (2, 1)


def test_an_export_cut_short_by_a_kill_gives_what_is_whole(exported):
    path, (asks, *_) = exported
    with path.open("ab") as file:
        file.write(b'{"id": "half')
    assert run("explain", asks.id, "--from", str(path))[0] == 0


# -- compare


def changed(path: Path, name: str, readings: list[Reading], **changes: Any) -> str:
    out = path.with_name(name)
    out.write_text("".join(json.dumps(as_dict(msgspec.structs.replace(r, **changes))) + "\n" for r in readings), encoding="utf-8")
    return str(out)


def test_two_exports_of_one_method_are_compared_per_unit_with_bounds(exported):
    path, (_, plain, _) = exported
    one = changed(path, "a.jsonl", [plain])
    two = changed(path, "b.jsonl", [plain, plain], energy_full_j=plain.energy_full_j * 2, energy_high_j=plain.energy_high_j * 2)
    code, text, _ = run("compare", one, two, "--json")
    told = json.loads(text)
    assert (code, told["comparable"], told["energy_j"]["apart"]) == (0, True, False)
    assert told["energy_j"]["ratio"] == pytest.approx(2)
    assert told["carbon_g"]["ratio"] == pytest.approx(1)
    code, text, _ = run("compare", one, two, "--lang", "fr")
    assert code == 0
    assert "par answer (A : 1, B : 2)" in text
    assert "recouvrent" in text
    assert plain.method_id in text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"method_id": "cpu-time/2"}, "different methods: cpu-time/1+synthetic/1 and cpu-time/2"),
        ({"boundary": ("cpu", "board")}, "different boundaries"),
        ({"tier": "modelled"}, "different tiers: measured and modelled"),
        ({"unit": "letter"}, "different functional units: answer and letter"),
        ({"energy_dynamic_j": None}, "different bases"),
    ],
    ids=str,
)
def test_what_is_not_comparable_is_refused_and_says_why(exported, changes, why):
    path, (_, plain, _) = exported
    one, two = changed(path, "a.jsonl", [plain]), changed(path, "b.jsonl", [plain], **changes)
    code, text, _ = run("compare", one, two, "--lang", "en")
    assert (code, why in text) == (1, True)
    code, text, _ = run("compare", one, two, "--json")
    assert (code, json.loads(text)["comparable"]) == (1, False)


def test_a_side_that_mixes_methods_is_not_compared_with_itself(exported):
    path, (_, plain, _) = exported
    changed(path, "a.jsonl", [plain])
    other = changed(path, "b.jsonl", [plain], method_id="cpu-time/2")
    both = path.with_name("both.jsonl")
    both.write_bytes(path.with_name("a.jsonl").read_bytes() + Path(other).read_bytes())
    code, text, _ = run("compare", str(both), str(both), "--lang", "en")
    assert (code, "mixes" in text) == (1, True)


def test_a_request_with_a_model_elsewhere_is_not_compared_with_one_without(exported):
    path, (asks, plain, _) = exported
    code, text, _ = run("compare", asks.id, plain.id, "--from", str(path), "--lang", "en")
    assert (code, "different methods for models elsewhere" in text) == (1, True)


def test_grams_by_factors_of_different_kinds_are_left_out(exported):
    path, (_, plain, _) = exported
    one, two = changed(path, "a.jsonl", [plain]), changed(path, "b.jsonl", [plain], factor_ids=("rte:FR:2025",))
    code, text, _ = run("compare", one, two, "--lang", "en")
    assert code == 0
    assert "grams not compared" in text


def test_every_figure_of_a_reading_carries_tier_interval_method_and_factors(exported):
    for reading in exported[1]:
        assert reading.tier
        assert re.search(r"\w/\d", reading.method_id)
        assert reading.factor_ids
        assert reading.energy_low_j <= reading.energy_full_j <= reading.energy_high_j
        assert reading.carbon_low_g <= reading.carbon_g <= reading.carbon_high_g
        for call in reading.remote:
            assert call.energy_j.low < call.energy_j.mid < call.energy_j.high
            assert (call.tier, bool(call.method_id), bool(call.factor_ids)) == ("sourced", True, True)
        assert math.isclose(sum(p.dynamic_j + p.idle_j for p in reading.parts), reading.energy_full_j)


@pytest.mark.parametrize("name", ["nowhere.db", "nowhere/readings"])
def test_a_file_that_is_not_there_is_not_looked_up_as_a_reading(name: str) -> None:
    code, _, said = run("compare", name, "other.db")
    assert code == 2
    assert said == f"frugal-meter: {name}: there is no such file\n"


@pytest.mark.parametrize(("origin", "fr"), [("modelled", "modélisée"), ("observed", "observée"), (None, "inconnu")])
def test_where_idle_watts_come_from_is_said_in_french(
    exported: tuple[Path, list[Reading]], tmp_path: Path, origin: str | None, fr: str
) -> None:
    file = tmp_path / "one.jsonl"
    reading = msgspec.structs.replace(exported[1][0], idle_source=origin)
    file.write_bytes(msgspec.json.encode(as_dict(reading)) + b"\n")
    code, said, _ = run("explain", reading.id, "--from", str(file), "--lang", "fr")
    assert code == 0
    assert f"puissance au repos : {fr}" in said
