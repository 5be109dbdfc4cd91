"""Documents cannot lag: what exists is documented, what is documented exists, and what they show runs."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer.main
import yaml

from frugal_meter import Budget, Meter, Reading, Tick, config, errors
from frugal_meter.attribution.span import Span
from frugal_meter.cli.app import app as cli
from frugal_meter.exporters import aggregates
from frugal_meter.exporters.prometheus import SPEC
from frugal_meter.sources.cpu_table import UNKNOWN, CpuMatch
from frugal_meter.sources.watts import cpu_power, ends, table_cpu

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
KITS = sorted([*(ROOT / "exporters").rglob("*.md"), *(ROOT / "dashboards").rglob("*.md"), *ROOT.glob("C*.md")])
MOST_S = 60.0
#: what is written `frugal_…` and is no metric: names of Python and files
PYTHON_NAMES = {"frugal_meter", "frugal_ops_token"}
_FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--\s*not run: \S.*?-->\s*\Z", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")  # pictures too


class Block(NamedTuple):
    """A fenced block of code: its language, the file it is to be saved as ("" for none), its text; and whether it is run."""

    language: str
    title: str
    code: str
    runs: bool


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        language, _, options = found["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', options)
        yield Block(language, title[1] if title else "", found["code"], not _COMMENT.search(text[: found.start()]))


def rows(page: str, section: str = "") -> list[list[str]]:
    """The cells of every table row between the heading ``section`` and the next one (of the whole page without it)."""
    text = _FENCE.sub("", read(DOCS / page))
    if section:
        found = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
        assert found, f"{page} has no section {section!r}"
        text = found[1]
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(cells: list[list[str]]) -> list[str]:
    """The names in backticks that rows begin with, in order."""
    return [found[1] for row in cells if (found := re.fullmatch(r"`([^`]+)`", row[0]))]


def exposed(name: str) -> str:
    return f"{name}_total" if SPEC[name][0] == "counter" else name


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


# -- metrics


def test_every_extra_is_in_the_table_of_extras() -> None:
    extras = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    told = {name.strip("[]") for name in names(rows("settings.md", "Extras"))}
    assert told == extras.keys() - {"docs", "test", "dev"}


def test_metrics_are_documented_with_their_type_and_labels_and_no_other_is() -> None:
    told = {}
    for row in rows("metrics.md"):
        if len(row) == 5 and (name := re.fullmatch(r"`(frugal_\w+)`", row[0])):
            told[name[1]] = (row[1], tuple(label for label in row[2].split(", ") if label != "–"))
    assert told == {exposed(name): (kind, labels) for name, (kind, _, labels) in SPEC.items()}


@pytest.mark.parametrize("page", [*PAGES, *KITS], ids=lambda page: str(page.relative_to(ROOT)))
def test_documents_name_no_metric_that_does_not_exist(page: Path) -> None:
    known = {exposed(name) for name in SPEC} | PYTHON_NAMES
    known |= {f"{name}_{part}" for name, (kind, *_) in SPEC.items() if kind == "histogram" for part in ("bucket", "sum", "count")}
    assert set(re.findall(r"\bfrugal_[a-z0-9_]+", read(page))) <= known


def test_histogram_bounds_are_those_of_the_exposition() -> None:
    told = {row[0].strip("`"): tuple(float(bound) for bound in row[1].split()) for row in rows("metrics.md", "Histograms")[1:]}
    assert told == {
        "frugal_request_duration_seconds": aggregates.DURATION_BUCKETS_S,
        "frugal_request_cpu_seconds": aggregates.CPU_BUCKETS_S,
        "frugal_request_energy_joules": aggregates.ENERGY_BUCKETS_J,
    }


# -- settings


@pytest.mark.parametrize("face", [Meter, Budget], ids=["Meter", "Budget"])
def test_every_keyword_is_in_its_table_of_settings_and_nothing_else_is(face: type) -> None:
    told = names(rows("settings.md", face.__name__))
    assert sorted(told) == sorted(parameters(face))


def test_defaults_told_for_budgets_are_the_ones_in_force() -> None:
    told = {row[0].strip("`"): row[1] for row in rows("settings.md", "Budget")}
    for name, parameter in inspect.signature(Budget).parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert told[name] == "required", name
        elif name != "estimate":  # its default is a rule, told in words
            default = parameter.default
            assert told[name].partition(":")[0].strip("`") == (f'"{default}"' if isinstance(default, str) else str(default)), name


def test_keywords_of_measure_and_of_the_ops_pages_are_told() -> None:
    text = read(DOCS / "settings.md")
    for function in (
        Meter.measure,
        Meter.remote,
        Meter.remote_client,
        Meter.token_weights,
        Meter.ops_app,
        Meter.serve_ops,
        Meter.metrics,
        Meter.settle,
    ):
        call = re.search(rf"meter\.{function.__name__}\(([^)]*)\)", text)
        assert call, function.__name__
        for name in set(parameters(function)) - {"address"}:
            assert re.search(rf"\b{name}\b", call[1]), f"{function.__name__}({name}=)"


def test_file_keys_are_told_and_the_example_file_uses_only_known_ones(tmp_path: Path) -> None:
    text = read(DOCS / "settings.md")
    told = re.search(r"^Keys of `\[meter\]`: (.*?)\.\s+Keys of\s+`\[\[budget\]\]`", text, re.MULTILINE | re.DOTALL)
    assert told
    assert re.findall(r"`(\w+)`", told[1]) == list(config.METER_KEYS)
    assert sorted(config.BUDGET_KEYS) == sorted(parameters(Budget))
    (example,) = (block for block in blocks(text) if block.title == "frugal.toml")
    file = tmp_path / "frugal.toml"
    file.write_text(example.code, encoding="utf-8")
    assert [budget.name for budget in config.load(file)["budgets"]] == ["chat", "letters"]


def test_environment_variables_are_told_and_no_other_is() -> None:
    sources = "".join(read(path) for path in (ROOT / "frugal_meter").rglob("*.py"))
    used = set(re.findall(r"[\"'](FRUGAL_[A-Z_]+)[\"']", sources))
    assert set(names(rows("settings.md", "Environment"))) == used
    for page in PAGES:
        assert set(re.findall(r"\bFRUGAL_[A-Z_]+", read(page))) <= used, page.name


def test_errors_are_told_with_what_they_carry() -> None:
    told = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in rows("settings.md", "Errors")[1:]}
    classes = {
        name: each for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, errors.FrugalMeterError)
    }
    assert told.keys() == classes.keys()
    for name, each in classes.items():
        carried = set(re.findall(r"self\.(\w+)", re.sub(r"= .*", "", inspect.getsource(each))))
        assert told[name] == carried, name


# -- records


@pytest.mark.parametrize("record", [Reading, Tick], ids=["Reading", "Tick"])
def test_every_field_of_a_record_is_told_and_nothing_else_is(record: type[msgspec.Struct]) -> None:
    told = names(rows("reading.md", record.__name__))
    assert sorted(told) == sorted(record.__struct_fields__)


@pytest.mark.parametrize("record", [Reading, Tick], ids=["Reading", "Tick"])
def test_fields_that_may_be_none_say_what_that_means(record: type[msgspec.Struct]) -> None:
    optional = {f.name for f in msgspec.structs.fields(record) if type(None) in getattr(f.type, "__args__", ())}
    told = {row[0].strip("`"): row[3] for row in rows("reading.md", record.__name__)[1:]}
    assert {name for name, meaning in told.items() if not meaning.startswith("never")} == optional


def test_flags_are_told_and_no_other_is() -> None:
    sources = "".join(read(path) for path in (ROOT / "frugal_meter").rglob("*.py"))
    told = names(rows("reading.md", "Flags"))
    used = set(
        re.findall(
            r'"((?:factor|pue|embodied|interval|cpu|vm|energy|idle|gpu|gpu-weights|alignment|budget|remote|usage|tokens):[a-z][a-z-]+)"',
            sources,
        )
    )
    assert set(told) == used


def test_what_applications_call_on_a_span_is_told() -> None:
    text = "".join(row[0] for row in rows("reading.md", "Span"))
    assert re.findall(r"`span\.(\w+)", text) == ["reading", "add_tokens", "note", "add_units", "quality", "section", "identify"]
    for name in ("add_tokens", "note", "add_units", "quality", "section", "identify"):
        call = re.search(rf"span\.{name}\(([^)]*)\)", text)
        assert call
        told = {word.strip(" =") for word in call[1].split(",")}
        expected = set(parameters(getattr(Span, name)))
        assert told == (expected if name != "quality" else {"score", "metric"}), name


# -- the method


def test_watts_told_of_the_power_model_are_the_ones_it_gives() -> None:
    skylake, zen_5 = CpuMatch("Skylake server", "skylake", "exact"), CpuMatch("Zen 5", "amd-epyc-5th-gen", "exact")
    machines = [(skylake, False), (zen_5, False), (zen_5, True), (UNKNOWN, True)]
    told = [row[1:] for row in rows("method.md", "The power model")[1:5]]
    for cells, (match, virtual) in zip(told, machines, strict=True):
        watts = table_cpu(match, 1, virtual=virtual)
        for cell, load in zip(cells, (0.0, 0.5, 1.0), strict=True):
            figures = [float(figure) for figure in cell.split(" – ")]
            # two figures are shown, and less where that is a digit more than the interval deserves
            assert figures == pytest.approx(ends(cpu_power(watts, load)), rel=0.12), (match, cell)


# -- the command line


def commands() -> dict[str, set[str]]:
    """Each command and the options that it shows; a group's are those of all its commands."""
    group: Any = typer.main.get_command(cli)
    return {
        name: {flag for each in (command, *subcommands(command)) for flag in flags(each)}
        for name, command in group.commands.items()
    }


def subcommands(command: Any) -> list[Any]:
    return list(getattr(command, "commands", {}).values())


def flags(command: Any) -> set[str]:
    shown = [option for option in command.params if not getattr(option, "hidden", False)]
    return {flag for option in shown for flag in option.opts if flag.startswith("--")}


def test_commands_and_their_options_are_told() -> None:
    text = "".join(read(page) for page in PAGES)
    for command, options in commands().items():
        assert f"frugal-meter {command}" in text
        for option in options:
            assert re.search(rf"(?<![\w-]){option}\b", text), f"frugal-meter {command} {option}"


@pytest.mark.parametrize("page", [*PAGES, *KITS], ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines_shown_use_what_exists(page: Path) -> None:
    known = commands()
    shown = [line.strip().removeprefix("$ ") for block in blocks(read(page)) for line in block.code.splitlines()]
    for line in (line for line in shown if line.startswith("frugal-meter ")):
        words = shlex.split(line, comments=True)[1:]
        if words[0] in ("--help", "COMMAND"):
            continue
        assert words[0] in known, line
        inside: Any = typer.main.get_command(cli)
        group = subcommands(inside.commands[words[0]])
        assert not group or words[1] in [each.name for each in group], line
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known[words[0]] | {"--help"}, line


@pytest.mark.parametrize("page", [*PAGES, *KITS], ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_shown_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\$ )make ([a-z]+)", read(page), re.MULTILINE)) <= targets


# -- what is shown runs


_PAGES_WITH_CODE = [page for page in PAGES if any(block.language == "python" for block in blocks(read(page)))]


@pytest.mark.parametrize("page", _PAGES_WITH_CODE, ids=lambda page: page.name)
def test_python_blocks_run_in_their_order(page: Path, tmp_path: Path) -> None:
    """In one namespace and an empty folder; a block with a title is saved there first, and imported where it is a module."""
    script = []
    for number, block in enumerate(blocks(read(page)), 1):
        if block.title:
            (tmp_path / block.title).write_text(block.code, encoding="utf-8")
        if block.language == "python" and block.runs:
            stem = Path(block.title).stem if block.title and not block.title.startswith("test_") else ""
            script.append(f"import {stem}\n" if stem else _numbered(block.code, page, number))
    (tmp_path / "page.py").write_text("\n".join(script), encoding="utf-8")
    # Warnings are errors here too; a page says what an operator would see, on this machine and its own sources.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("FRUGAL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=tmp_path,
        env={**outside, "XDG_RUNTIME_DIR": str(tmp_path)},  # where another page's service of the same name is not met
        capture_output=True,
        text=True,
        timeout=MOST_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _numbered(code: str, page: Path, number: int) -> str:
    """The block as one statement, so that a traceback names the page and its block."""
    return f"exec(compile({code!r}, {f'{page.name}, block {number}'!r}, 'exec'), globals())"


def test_blocks_that_are_not_run_are_few_and_give_a_reason() -> None:
    left_out = [
        (page.name, block.code) for page in PAGES for block in blocks(read(page)) if block.language == "python" and not block.runs
    ]
    assert len(left_out) <= 2, left_out


def test_the_scrape_configuration_asks_where_the_command_line_serves() -> None:
    loaded = yaml.safe_load(read(ROOT / "exporters/prometheus/scrape.yml"))
    (job,) = loaded["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    address = inspect.signature(Meter.serve_ops).parameters["address"].default
    assert job["static_configs"] == [{"targets": [address]}]


# -- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built strictly: a warning is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(ROOT / "mkdocs.yml"), "-d", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=MOST_S, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    return out


def test_the_site_is_built_strictly_and_holds_every_page(site: Path) -> None:
    nav = re.findall(r"(\w+\.md)", read(ROOT / "mkdocs.yml"))
    assert sorted(nav) == sorted(page.name for page in DOCS.glob("*.md"))
    assert {Path(name).stem for name in nav} <= {page.stem for page in site.glob("*.html")}


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)\b[^>]*\bsrc="([^"]+)"', read(page))
        loaded += re.findall(r'<link\b(?=[^>]*rel="(?:stylesheet|preconnect|icon)")[^>]*\bhref="([^"]+)"', read(page))
        assert [address for address in loaded if re.match(r"(?:https?:)?//", address)] == [], page.name


@pytest.mark.parametrize("page", [*PAGES, *KITS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_resolve(page: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", read(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: the words of the heading, joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
