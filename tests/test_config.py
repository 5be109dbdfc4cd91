"""``frugal.toml``: what it may say, and one line for everything that it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugal_meter import Meter
from frugal_meter.config import BUDGET_KEYS, METER_KEYS, load
from frugal_meter.errors import ConfigurationError

WHOLE = """
[meter]
service = "accueil-usagers"
zone = "FR"
sources = "model"
tick = 0.25
pue = 1.4
host_share = 0.5
capture_usage = false

[meter.declared]
cpu_idle = 20.0
cpu_full = 90.0

[[budget]]
name = "chat"
limit = "50 kJ"
per = "day"
key = ["route", "model"]
match = { route = "/chat*" }
degrade_at = 0.9

[[budget]]
name = "all"
limit = "1000 requests"
per = "hour"
enforce = false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "frugal.toml"


def test_a_whole_file_makes_a_meter_with_its_budgets(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    meter = Meter.from_config(file)
    assert (meter.service, meter.capture_usage, meter.sampler.period_s) == ("accueil-usagers", False, 0.25)
    assert meter.figures.pue.value == 1.4
    chat, everything = meter.admission.budgets
    assert (chat.name, chat.limit.text, chat.per, chat.key, chat.degrade_at) == ("chat", "50 kJ", "day", ("route", "model"), 0.9)
    assert chat.concerns({"route": "/chat/new"})
    assert not everything.enforce


def test_keyword_arguments_win_over_the_file(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    meter = Meter.from_config(file, service="autre", budgets=[])
    assert (meter.service, meter.admission.budgets) == ("autre", ())


def test_the_file_is_found_by_its_argument_then_by_the_environment_then_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("frugal.toml", "env.toml", "given.toml"):
        (tmp_path / name).write_text(f'[meter]\nservice = "{name}"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRUGAL_CONFIG", raising=False)
    assert load()["service"] == "frugal.toml"
    monkeypatch.setenv("FRUGAL_CONFIG", str(tmp_path / "env.toml"))
    assert load()["service"] == "env.toml"
    assert load("given.toml")["service"] == "given.toml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[meter\n", "not valid TOML"),
        ("[meter]\nservice = 'a'\nservice = 'b'\n", "not valid TOML"),
        ("", '[meter] needs service = "…"'),
        ("[meter]\nzone = 'FR'\n", '[meter] needs service = "…"'),
        ("meter = 5\n", "[meter] is a table"),
        ("[metre]\nservice = 'a'\n", "the file has no setting 'metre'; did you mean meter?"),
        ("[meter]\nservice = 'a'\nzonne = 'FR'\n", "[meter] has no setting 'zonne'; did you mean zone?"),
        ("[meter]\nservice = 'a'\nqqq = 1\n", "[meter] has no setting 'qqq'; known: service, zone"),
        ("[meter]\nservice = 'a'\n[budget]\nname = 'x'\n", "[[budget]] tables, with double brackets"),
        ("budget = [1]\n[meter]\nservice = 'a'\n", "[[budget]] tables, with double brackets"),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nper = 'day'\n", "[[budget]] 'x' needs limit"),
        ("[meter]\nservice = 'a'\n[[budget]]\n", "[[budget]] '' needs name, limit, per"),
        (
            "[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = '5 J'\nper = 'day'\nwarn = 0.5\n",
            "[[budget]] 'x' has no setting 'warn'; did you mean warn_at?",
        ),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = '50 kW/day'\nper = 'day'\n", "is power, not an amount"),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = 50\nper = 'day'\n", "50 has no unit"),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = '5 J'\nper = 'year'\n", "use minute, hour, day, week, month"),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = '5 J'\nper = 'day'\nkey = 'user'\n", "key 'user'"),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = '5 J'\nper = 'day'\nkey = 5\n", "key"),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = '5 J'\nper = 'day'\ntimezone = 5\n", "timezone"),
        ("[meter]\nservice = 'a'\n[[budget]]\nname = 'x'\nlimit = '5 J'\nper = 'day'\nenforce = 'false'\n", "enforce"),
    ],
)
def test_a_file_that_cannot_mean_anything_is_refused_in_one_line_that_names_it(file: Path, text: str, says: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bad_budget_is_named_among_its_neighbours(file: Path) -> None:
    file.write_text(WHOLE.replace('"1000 requests"', '"1000 W"'), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="'all'"):
        load(file)


def test_a_file_that_is_not_there_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read .*name the file, or set FRUGAL_CONFIG"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path)


def test_a_file_that_is_not_text_is_refused_in_one_line(file: Path) -> None:
    file.write_bytes(b"[meter]\nservice = 'mairie d\xe9l\xe9gu\xe9e'\n")
    with pytest.raises(ConfigurationError, match=r"frugal\.toml: .*UTF-8"):
        load(file)


def test_every_setting_of_the_file_is_a_parameter_of_the_class_it_goes_to() -> None:
    import inspect

    from frugal_meter import Budget

    assert set(METER_KEYS) <= inspect.signature(Meter).parameters.keys()
    assert set(BUDGET_KEYS) == inspect.signature(Budget).parameters.keys()


def test_what_the_meter_refuses_of_a_file_is_one_line_too(file: Path) -> None:
    file.write_text("[meter]\nservice = 'a'\nzone = 'FRX'\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"unknown zone 'FRX'.*Did you mean FR"):
        Meter.from_config(file)


def test_refusals_rewriting_and_qualities_are_settings_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "frugal.toml"
    file.write_text(
        """
        [meter]
        service = "guichet"
        zone = "FR"
        refusals = { contact = "accueil@example.org", status = 422 }
        rewrite = { large = "small" }
        rewrite_limit = 4096
        qualities = { small = 0.7 }

        [[budget]]
        name = "day"
        limit = "9 requests"
        per = "day"
        min_quality = 0.6
        fallback_url = "/guichet"
        """,
        encoding="utf-8",
    )
    meter = Meter.from_config(file)
    assert (meter.refusals.contact, meter.refusals.status) == ("accueil@example.org", 422)
    assert meter.degrading.rewrite == {"large": "small"}
    assert meter.degrading.reaches("small", 0.6)
    assert (meter.admission.budgets[0].min_quality, meter.admission.budgets[0].fallback_url) == (0.6, "/guichet")
