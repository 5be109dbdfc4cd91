"""``study.toml`` and its load: what is wrong is said in one line, with where and how to mend it, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frugal_meter.errors import ConfigurationError, UnknownZoneError
from frugal_meter.study.declaring import Plan, load
from frugal_meter.study.loads import load_of
from frugal_meter.study.template import TEMPLATES
from tests.study_house import declare


def edited(folder: Path, old: str, new: str) -> Path:
    file = declare(folder)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("repetitions = 2", "repetitoins = 2", r"\[run\] has no setting 'repetitoins'; did you mean repetitions\?"),
        ("purpose =", "purpse =", r"the file has no setting 'purpse'; did you mean purpose\?"),
        ('kind = "no-ai"', 'kind = "no-ai"\nptah = "/x"', r"\[\[variant\]\] 2 has no setting 'ptah'; did you mean path\?"),
        ("repetitions = 2", 'repetitions = "two"', r"run\.repetitions: expected `int`, got `str`"),
        ("repetitions = 2", "repetitions = 0", r"\[run\] repetitions = 0: it is from 1 to 1000"),
        ("warm_up = 1", "warm_up = -1", r"\[run\] warm_up = -1"),
        ('kind = "no-ai"', 'kind = "ai"', r'no alternative: add a \[\[variant\]\] of kind "no-ai" or "smaller-ai", or say why'),
        ('kind = "no-ai"', 'kind = "as-run"', r'sans-ia: kind is "ai", "smaller-ai" or "no-ai"'),
        ('kind = "no-ai"', 'kind = "none"', r"invalid enum value 'none'"),
        ('name = "sans-ia"', 'name = "grand"', r"'grand' is there twice"),
        ('name = "sans-ia"', 'name = "../sans"', r"name '\.\./sans': 1 to 40 of"),
        ('title = "Recherche"', "", r"needs `title`"),
        ("starts_per_year = 12", "starts_per_year = -1", r"\[use\] starts_per_year = -1"),
        ("hours_per_year = 100", "hours_per_year = 9000", r"\[use\] hours_per_year = 9000: it is from 1 to 8784"),
        (
            "[1000, 2000, 4000]",
            "[4000, 2000, 1000]",
            r"\[use\] units_per_year is \[4000\.0, 2000\.0, 1000\.0\]: write a number, or",
        ),
        ("[1000, 2000, 4000]", "0", r"units_per_year must be above 0"),
        ("[1000, 2000, 4000]", "nan", r"units_per_year is nan"),
        ('file = "load.jsonl"', "", r'\[load\] needs one of file = "questions\.jsonl" and call'),
        ('file = "load.jsonl"', 'file = "a"\ncall = "b:c"', r"\[load\] needs one of"),
        ("at_least_s = 0", "concurrency = 0", r"\[load\] concurrency = 0: it is from 1 to 1000"),
        ("at_least_s = 0", "timeout_s = 0", r"\[load\] timeout_s = 0"),
        ("at_least_s = 0", "requests = 0", r"\[load\] requests = 0"),
        ('zone = "FR"', 'zone = "FR"\npue = 1.2', r"\[carbon\] pue needs pue_source"),
        ('zone = "FR"', 'zone = "FR"\npue = 0.5\npue_source = "x"', r"pue is 0\.5"),
        ('zone = "FR"', 'zone = "FR"\nembodied_kg = 900', r"embodied_kg needs lifetime_years and embodied_source"),
        ('zone = "FR"', 'zone = ""', "A zone is required"),
        ("[unit]", "[service.meter]\njournal = 'x'\n[unit]", r"\[service\.meter\] has no setting 'journal'; known here: sources"),
        ("[unit]", "[service.meter]\nhost_shar = 1\n[unit]", r"host_shar'; did you mean host_share\?"),
        ('description = "une réponse"', 'description = " "', r"\[unit\] description is empty"),
        ("[unit]", "[alternative]\nnone = 'aucune'\n[unit]", r"says that there is none, and a \[\[variant\]\] is one"),
        ("[unit]", "[unit", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_declaration_is_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = edited(tmp_path, old, new)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ") or isinstance(caught.value, UnknownZoneError)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read .*; frugal-meter study init writes one"):
        load(tmp_path / "study.toml")


def test_no_alternative_is_accepted_with_a_reason(tmp_path: Path) -> None:
    file = edited(tmp_path, 'kind = "no-ai"', 'kind = "ai"')
    file.write_text(file.read_text().replace("[unit]", '[alternative]\nnone = "la loi l’exige"\n\n[unit]'))
    declared = load(file).declared
    assert declared.alternative is not None
    assert declared.alternative.none == "la loi l’exige"
    file.write_text(file.read_text().replace("la loi l’exige", " "))
    with pytest.raises(ConfigurationError, match=r"\[alternative\] none is empty"):
        load(file)


@pytest.mark.parametrize("lang", ["fr", "en"])
def test_the_template_is_a_declaration_as_it_stands(tmp_path: Path, lang: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(TEMPLATES[lang])  # type: ignore[index]
    plan = load(file)
    assert plan.declared.lang == lang
    assert [each.kind for each in plan.declared.variant] == ["ai", "smaller-ai", "no-ai"]


def test_what_the_template_leaves_out_can_be_put_in_as_it_is_written(tmp_path: Path) -> None:
    for lang, text in TEMPLATES.items():
        file = tmp_path / f"{lang}.toml"
        lines = []
        for line in text.splitlines():
            bare = line.removeprefix("# ")
            written = line.startswith("# ") and ("=" in bare or bare.startswith("[")) and "frugal-meter" not in bare
            wanted = written and not bare.startswith(("[alternative]", "none =", 'call = "charge', 'call = "load'))
            lines.append(bare if wanted else line)
        file.write_text("\n".join(lines))
        declared = load(file).declared
        assert declared.judge is not None
        assert declared.upstream[0].carbon_kg == 1200
        assert declared.carbon.pue == 1.3
        assert declared.rebound
        assert declared.service.meter == {"host_share": 0.25}


def test_comments_do_not_make_it_another_study(tmp_path: Path) -> None:
    file = declare(tmp_path)
    before = load(file).fingerprint
    file.write_text("# essai\n" + file.read_text())
    assert load(file).fingerprint == before
    file.write_text(file.read_text().replace("seed = 3", "seed = 4"))
    assert load(file).fingerprint != before


# -- the load


def plan_of(folder: Path, *lines: str) -> Plan:
    file = declare(folder)
    (folder / "load.jsonl").write_text("\n".join(lines) + "\n")
    return load(file)


GOOD = '{"path": "/ask", "json": {"question": "où ?"}}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"path": "/ask", "jsn": {}}', r"line 2: has no key 'jsn'; did you mean json\?"),
        ('{"path": "/ask", "json": {}', r"line 2: not JSON"),
        ("[]", r"line 2: is list; write an object"),
        ("", r"line 2: is empty; remove it"),
        ('{"json": {}}', r'line 2: path is \'\'; write one such as "/ask"'),
        ('{"path": "ask", "json": {}}', r"line 2: path is 'ask'"),
        ('{"path": "/où", "json": {}}', r"percent-encoded"),
        ('{"path": "/ask", "json": {}, "body": ""}', r"line 2: has both json and body"),
        ('{"path": "/ask", "body": "où ?"}', r"line 2: has no json, and variant 'grand' sets keys in it"),
        ('{"path": "/ask", "json": 3}', r"line 2: json is no object, and variant 'grand' sets keys in it"),
        ('{"path": "/ask", "json": {}, "method": 3}', r"line 2: method is 3"),
        ('{"path": "/ask", "json": {}, "headers": {"a": 1}}', r"line 2: headers is an object of texts"),
    ],
)
def test_a_typo_in_a_load_is_told_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    plan = plan_of(tmp_path, GOOD, line, GOOD)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_of(plan, plan.declared.variant[0])
    assert str(caught.value).startswith("load load.jsonl, line 2: ")


def test_a_load_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (tmp_path / "load.jsonl").write_text("")
    with pytest.raises(ConfigurationError, match=r"load\.jsonl: holds no request"):
        load_of(plan, plan.declared.variant[0])
    (tmp_path / "load.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load_of(plan, plan.declared.variant[0])
    (tmp_path / "load.jsonl").unlink()
    with pytest.raises(ConfigurationError, match=r"cannot be read .* its place is beside study\.toml"):
        load_of(plan, plan.declared.variant[0])


def test_a_variant_sets_its_model_in_every_request_and_may_ask_elsewhere(tmp_path: Path) -> None:
    file = declare(tmp_path)
    file.write_text(file.read_text() + 'path = "/search?full=1"\n')
    plan = load(file)
    grand, search = (load_of(plan, each) for each in plan.declared.variant)
    assert {json.loads(each.body or b"")["model"] for each in grand.requests} == {"heavy"}
    assert {each.path for each in grand.requests} == {"/ask"}
    assert {each.path for each in search.requests} == {"/search?full=1"}
    assert grand.sha256 == search.sha256  # the same questions
    assert [each.line for each in grand.requests] == [1, 2, 3, 4]
    assert {each.method for each in grand.requests} == {"POST"}


def test_a_request_without_a_body_is_a_get(tmp_path: Path) -> None:
    file = edited(tmp_path, 'set = { model = "heavy" }', "")
    (tmp_path / "load.jsonl").write_text('{"path": "/faq?q=oui"}\n{"path": "/ask", "body": "texte"}\n')
    plan = load(file)
    first, second = load_of(plan, plan.declared.variant[0]).requests
    assert (first.method, first.body) == ("GET", None)
    assert (second.method, second.body) == ("POST", b"texte")


def test_a_load_may_be_a_function_of_the_variant(tmp_path: Path) -> None:
    plan = load(edited(tmp_path, 'file = "load.jsonl"', 'call = "tests.study_house:questions"'))
    one, other = (load_of(plan, each) for each in plan.declared.variant)
    assert [each.said["json"]["variant"] for each in (*one.requests, *other.requests)] == ["grand"] * 2 + ["sans-ia"] * 2
    assert one.sha256 != other.sha256


def test_a_function_that_fails_is_told(tmp_path: Path) -> None:
    plan = load(edited(tmp_path, 'file = "load.jsonl"', 'call = "tests.study_house:failing"'))
    with pytest.raises(ConfigurationError, match=r"tests\.study_house:failing\('grand'\) failed: TypeError"):
        load_of(plan, plan.declared.variant[0])


def test_more_requests_than_the_load_has_are_not_made_up(tmp_path: Path) -> None:
    plan = load(edited(tmp_path, "at_least_s = 0", "at_least_s = 0\nrequests = 9"))
    with pytest.raises(ConfigurationError, match=r"holds 4 requests, and \[load\] requests asks for 9"):
        load_of(plan, plan.declared.variant[0])
