"""``frugal-meter factors``: what is there, how it is cited, what a choice changes, and how a table becomes a pack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frugal_meter.carbon.published import published
from frugal_meter.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    with pytest.raises(SystemExit) as ended:
        main(["factors", *words])
    out = capsys.readouterr()
    return int(ended.value.code or 0), out.out, out.err


def test_eight_published_lifecycle_factors_weigh_one_kilowatt_hour_in_france(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "compare", "--zone", "FR", "--energy", "1kWh", "--json")
    told = json.loads(out)
    lifecycle = [(row["year"], round(row["grams"])) for row in told if row["scope"] == "lifecycle"]
    assert code == 0
    assert lifecycle == [(2025, 31), (2024, 33), (2024, 44), (2023, 49), (2023, 56), (2021, 60), (2022, 91), (2019, 98)]
    assert [(row["id"], row["grams"]) for row in told if row["scope"] == "direct"] == [
        ("published:google:FR:2024", pytest.approx(16.3)),
        ("published:rte:FR:2024", pytest.approx(21.7)),
    ]
    assert all(row["source"] and row["licence"] and row["year"] for row in told)


@pytest.mark.parametrize(
    ("lang", "said"),
    [("fr", ("8 facteurs publiés", "× 3,16", "combustion directe :")), ("en", ("8 published", "× 3.16", "direct combustion:"))],
)
def test_direct_and_lifecycle_are_compared_apart_in_both_languages(
    capsys: pytest.CaptureFixture[str], lang: str, said: tuple[str, ...]
) -> None:
    _, out, _ = run(capsys, "compare", "--zone", "FR", "--energy", "50 kJ", "--lang", lang)
    assert all(words in out for words in said)
    assert all(each.cite() in out for each in published("FR"))


def test_a_factor_is_shown_with_all_that_citing_needs_and_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "show", "ember:FR:2024", "--lang", "en")
    for needed in ("44.1791 gCO2e/kWh", "CC-BY-4.0", "lifecycle, location-based, production mix", "31 to 91", "de5a4e99"):
        assert needed in out
    _, out, _ = run(capsys, "show", "ember:RE:2021", "--lang", "fr")
    assert "PÉRIMÉ : il décrit 2021" in out
    _, out, _ = run(capsys, "show", "published:jrc:FR:2019", "--json")
    assert json.loads(out)[0]["grams_per_kwh"] == 98


def test_a_long_list_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _, cut, _ = run(capsys, "list", "--lang", "en")
    _, whole, _ = run(capsys, "list", "--all", "--lang", "en")
    assert "and 326 more" in cut
    assert len(whole.splitlines()) == 367
    _, one, _ = run(capsys, "list", "--zone", "FR", "--dataset", "ember", "--lang", "en")
    assert [line.split()[0] for line in one.splitlines()[1:]] == ["ember:FR:2024", "ember:FR:2023"]


def test_a_table_becomes_a_pack_that_is_listed_shown_and_given_to_a_meter(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "pack.toml"
    table.write_text("zone,year,grams_per_kwh\nFR,2023,45\nFR,2024,32\nFR-COR,2024,500\n", encoding="utf-8")
    about = ["--dataset", "ours", "--licence", "own", "--source", "us", "--scope", "lifecycle"]
    code, said, _ = run(capsys, "import", str(table), "--out", str(out), *about, "--lang", "en")
    assert code == 0
    assert "3 yearly factors, 0 of an hour, zones FR, FR-COR" in said
    _, listed, _ = run(capsys, "list", "--pack", str(out), "--json")
    assert [row["id"] for row in json.loads(listed)] == ["pack:ours:FR:2023", "pack:ours:FR:2024", "pack:ours:FR-COR:2024"]
    _, shown, _ = run(capsys, "show", "FR", "--pack", str(out), "--lang", "en")
    assert "32 gCO2e/kWh" in shown
    _, zone, _ = run(capsys, "list", "--pack", str(out), "--zone", "FR-2A", "--json")
    assert [row["grams_per_kwh"] for row in json.loads(zone)] == [500]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "nowhere"], "unknown zone 'nowhere'"),
        (["show", "ember:FR:1999"], "no factor 'ember:FR:1999' is bundled"),
        (["compare", "--zone", "XX"], "unknown zone 'XX'"),
        (["compare", "--zone", "FR", "--energy", "3 tokens"], "is no energy"),
        (["compare", "--zone", "FR", "--energy", "1kw"], "is no energy"),
        (["show", "ember:FR:1999"], "factors list --zone FR"),
        (["compare", "--zone", "FR", "--energy", "much"], "is no energy"),
        (["list", "--dataset", "iea"], "unknown dataset 'iea'"),
        (["list", "--pack", "none.toml"], "cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_an_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "show", "ember:FR:1999", "--json")
    assert json.loads(out)["error"] == "FactorError"
