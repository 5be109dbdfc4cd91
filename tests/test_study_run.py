"""A declared study: it runs, it can be taken up again, and whoever has its folder can do every figure again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frugal_meter.errors import ConfigurationError
from frugal_meter.study import folder, raw, recompute
from frugal_meter.study.building import study_of
from frugal_meter.study.declaring import load
from frugal_meter.study.results import Study, decoded
from frugal_meter.study.running import order, run
from frugal_meter.study.service import serving
from frugal_meter.study.worker import Job
from tests.study_house import SECRET, declare

pytestmark = pytest.mark.xdist_group("study")


def silent(done: float, total: float, what: str) -> None:
    """Progress that nobody watches."""


def studied(where: Path, **declared: Any) -> Path:
    plan = load(declare(where / "declared", **declared))
    out = where / "out"
    run(plan, out, resume=False, progress=silent)
    folder.save(out, study_of(plan, out), "frugal-meter study run study.toml --out out")
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of a service that meters itself."""
    return studied(tmp_path_factory.mktemp("study"))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def recomputed(out: Path) -> subprocess.CompletedProcess[str]:
    """What a third party does: the folder's own script, with nothing but Python's standard library."""
    command = [sys.executable, "-I", "-S", str(out / "recompute.py")]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)


def resealed(out: Path) -> None:
    """What somebody does who changes figures and knows of the hashes."""
    text = json.loads((out / "manifest.json").read_text())
    for each in text["files"]:
        each["sha256"] = sha256((out / each["path"]).read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(text))
    named = [*(each["path"] for each in text["files"]), "manifest.json"]
    (out / "SHA256SUMS").write_text("".join(f"{sha256((out / n).read_bytes()).hexdigest()}  {n}\n" for n in named))


def test_a_third_party_recomputes_every_figure_with_the_standard_library_alone(copy: Path) -> None:
    done = recomputed(copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sound: every hash is right, all books close, ")
    assert folder.identity(copy) in done.stdout


def test_the_script_imports_nothing_of_ours() -> None:
    code = f"import runpy, sys; runpy.run_path({recompute.__file__!r}); print(*sys.modules)"
    told = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in told} <= {*sys.stdlib_module_names, "__main__"}


def test_the_usual_tool_checks_the_hashes_too(copy: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", ["raw/001-grand.jsonl", "study.json", "manifest.json", "study.toml", "recompute.py"])
def test_one_changed_byte_is_noticed_and_named(copy: Path, file: str) -> None:
    content = bytearray((copy / file).read_bytes())
    place = len(content) // 2
    content[place] ^= 1
    (copy / file).write_bytes(content)
    faults, _ = folder.verify(copy)
    assert any(file in fault for fault in faults)
    if file != "recompute.py":  # a changed script is found by the one of the package, not by itself
        done = recomputed(copy)
        assert done.returncode == 1
        assert file in done.stdout


@pytest.mark.parametrize("name", ["raw/001-grand.jsonl", "study.json", "manifest.json", "SHA256SUMS"])
def test_what_is_missing_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert any(Path(name).name in fault for fault in folder.verify(copy)[0])


def test_raw_data_that_the_manifest_does_not_know_are_named(copy: Path) -> None:
    shutil.copy(copy / "raw/001-grand.jsonl", copy / "raw/003-grand.jsonl")
    assert "raw/003-grand.jsonl: is not in manifest.json" in folder.verify(copy)[0]


def test_books_that_do_not_close_are_found_behind_right_hashes(copy: Path) -> None:
    file = copy / "raw/001-grand.jsonl"
    lines = file.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"type":"pass"' in line)
    changed = json.loads(lines[place])
    changed["books"]["books"][0]["other_nj"] += 5
    lines[place] = json.dumps(changed)
    file.write_text("\n".join(lines) + "\n")
    resealed(copy)
    assert any("do not close: -5 nJ off" in fault for fault in folder.verify(copy)[0])


def test_a_reading_that_is_not_what_ticks_billed_to_it_is_found(copy: Path) -> None:
    file = copy / "raw/001-grand.jsonl"
    lines = file.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"type":"reading"' in line)
    changed = json.loads(lines[place])
    # moved between two of its own figures: no sum of the period notices
    changed["reading"]["energy_full_j"] += 1e-6
    lines[place] = json.dumps(changed)
    file.write_text("\n".join(lines) + "\n")
    resealed(copy)
    faults, _ = folder.verify(copy)
    assert any(f"reading {changed['reading']['id']} is not the " in fault for fault in faults)


FIGURES = ("variants", "comparisons", "pareto", "sensitivity")
#: what a line of the sensitivity run is about: declared, and not computed
INPUTS = ("value", "factor", "round")


def spoilt(value: Any, count: list[int]) -> Any:
    """The same with every number changed."""
    if isinstance(value, dict):
        return {k: v if k in INPUTS else spoilt(v, count) for k, v in value.items()}
    if isinstance(value, list):
        return [spoilt(each, count) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    count[0] += 1
    return value + 1


def test_no_number_of_the_figures_escapes_recomputation(copy: Path) -> None:
    text, count = json.loads((copy / "study.json").read_text()), [0]
    for section in FIGURES:
        text[section] = spoilt(text[section], count)
    (copy / "study.json").write_text(json.dumps(text))
    resealed(copy)
    faults, _ = folder.verify(copy)
    assert count[0] > 500
    assert len(faults) == count[0]


def test_a_figure_changed_by_its_last_digit_is_named_with_what_it_should_be(copy: Path) -> None:
    text = json.loads((copy / "study.json").read_text())
    text["variants"][0]["tested"]["energy_j"]["mid"] *= 1 + 1e-15
    (copy / "study.json").write_text(json.dumps(text))
    resealed(copy)
    (fault,) = folder.verify(copy)[0]
    assert fault.startswith("study.json: variants.grand.tested.energy_j.mid is ")
    assert "the raw data give" in fault


def _first(text: Any, section: str) -> Any:
    return text[section][0]


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (lambda s: _first(s, "variants")["tested"].update(saved_j=1e6), "variants.grand.tested.saved_j does not follow"),
        (lambda s: _first(s, "variants")["load"]["overhead_parts"].update(gift=1), "overhead_parts.gift does not follow"),
        (lambda s: s.update(rating="A"), "rating is none of its fields"),
        (lambda s: s["comparisons"].clear(), "comparisons are not those"),
        (lambda s: s["pareto"].pop(), "pareto does not hold"),
        (lambda s: s["sensitivity"].pop(), "the sensitivity run has other lines"),
        (lambda s: s["sensitivity"][0].update(in_force=True), "sensitivity.grand.grid is not the run"),
        (lambda s: s["sensitivity"][0]["factor"].update(grams_per_kwh=1.0), "sensitivity.grand.grid is not the run"),
        (lambda s: s["use"]["units"].update(high=1e9), "sensitivity.grand.use is not the run"),
        (lambda s: s.update(origin="journal"), "origin is not what the raw data tell"),
        (lambda s: s["factors"][0].update(year=2031), "factors is not what the raw data tell"),
        (lambda s: s["embodied"]["te_kg"].update(mid=1.0), "embodied is not what the raw data tell"),
        (lambda s: s["machine"].update(cpu="Frugal 1"), "machine is not what the raw data tell"),
        (lambda s: s["boundary"].append("network"), "boundary are not those of the raw data"),
        (lambda s: _first(s, "variants").update(flags=[]), "variants.grand.flags lack "),
        (lambda s: s.update(flags=[]), "flags lack "),
    ],
)
def test_what_study_json_tells_besides_is_held_to_the_raw_data(copy: Path, forge: Any, says: str) -> None:
    text = json.loads((copy / "study.json").read_text())
    forge(text)
    (copy / "study.json").write_text(json.dumps(text))
    resealed(copy)
    assert any(says in fault for fault in folder.verify(copy)[0])


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("study.json", b'"schema"', b'"zone": "CH", "schema"', "a key is twice in one object"),
        ("raw/001-grand.jsonl", b'"type":"exchange"', b'"type":"remark"', "a line of type 'remark' that has no place there"),
        ("raw/001-grand.jsonl", b'"grams_per_kwh":44.1791', b'"grams_per_kwh":31.0', "not weighed by the factor ember:FR:2024"),
        ("raw/001-grand.jsonl", b'"mid":1.56', b'"mid":1.2', "not weighed by the PUE"),
    ],
)
def test_raw_data_and_figures_are_read_in_one_way_only(copy: Path, name: str, old: bytes, new: bytes, says: str) -> None:
    content = (copy / name).read_bytes()
    assert old in content
    (copy / name).write_bytes(content.replace(old, new, 1))
    resealed(copy)
    assert any(says in fault for fault in folder.verify(copy)[0])


def test_a_reading_that_is_told_twice_is_found(copy: Path) -> None:
    file = copy / "raw/001-grand.jsonl"
    lines = file.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"type":"reading"' in line)
    file.write_text("\n".join([*lines[: place + 1], *lines[place:]]) + "\n")
    resealed(copy)
    assert any("is there twice" in fault for fault in folder.verify(copy)[0])


def test_a_byte_of_the_sums_that_changes_no_hash_is_noticed_too(copy: Path) -> None:
    sums = copy / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes().replace(b"\n", b"\r\n"))
    assert "SHA256SUMS: was changed: it is not one line for each file" in folder.verify(copy)[0]
    lines = (line for line in sums.read_text().splitlines() if "manifest.json" not in line)
    sums.write_text("".join(f"{line}\n" for line in lines))
    assert "SHA256SUMS: does not name manifest.json" in folder.verify(copy)[0]


def test_a_declared_input_that_was_changed_moves_the_figures_that_rest_on_it(copy: Path) -> None:
    text = json.loads((copy / "study.json").read_text())
    text["use"]["units"]["mid"] *= 2
    (copy / "study.json").write_text(json.dumps(text))
    resealed(copy)
    assert any("variants.grand.year" in fault for fault in folder.verify(copy)[0])


# -- what it found


def study(out: Path) -> Study:
    return decoded((out / "study.json").read_bytes())


def test_the_heavy_model_costs_what_it_burns(finished: Path) -> None:
    heavy, light = study(finished).variants
    assert heavy.tested is not None
    assert light.tested is not None
    assert heavy.tested.energy_j.mid > 3 * light.tested.energy_j.mid
    assert (heavy.requests, heavy.failed, heavy.load.units) == (8, 0, 8.0)
    assert heavy.quality is not None
    assert heavy.quality.score.mid == pytest.approx(0.9)
    assert (heavy.quality.judged, heavy.quality.distinct) == (8, 4)
    assert heavy.latency is not None
    assert heavy.latency.p50_s >= 0.02


def test_the_cited_figure_holds_the_time_at_rest_and_the_starts(finished: Path) -> None:
    made = study(finished)
    for each in made.variants:
        assert each.rest is not None
        assert each.start_cost is not None
        assert each.tested is not None
        assert each.year is not None
        assert each.standing_w is not None
        assert made.use is not None
        seconds = made.use.hours * 3600 - made.use.units.mid * each.load.covered_s / each.load.units
        joules = (
            each.tested.energy_j.mid * made.use.units.mid
            + each.standing_w.mid * seconds
            + each.start_cost.energy_j.mid * made.use.starts
        )
        assert each.year.energy_j.mid == pytest.approx(joules, rel=1e-12)
        assert each.in_use is not None
        assert each.in_use.energy_j.mid == pytest.approx(joules / made.use.units.mid, rel=1e-12)
        assert each.while_it_ran_j is not None
        assert each.while_it_ran_j < each.in_use.energy_j.mid


def test_the_line_in_force_of_each_lever_is_the_figure_itself(finished: Path) -> None:
    made = study(finished)
    for each in made.variants:
        lines = [s for s in made.sensitivity if s.variant == each.name and s.in_force]
        assert {s.lever for s in lines} == {"grid", "pue", "lifetime", "use", "standing"}
        assert each.in_use is not None
        for line in lines:
            assert line.per_unit_g.mid == pytest.approx(each.in_use.carbon_g.mid, rel=1e-12)
            assert line.energy_j.mid == pytest.approx(each.in_use.energy_j.mid, rel=1e-12)


def test_the_grid_runs_through_every_published_factor(finished: Path) -> None:
    grid = [s for s in study(finished).sensitivity if s.lever == "grid" and s.variant == "grand"]
    values = [s.value for s in grid]
    assert values == sorted(values)
    assert 31.0 in values
    assert 98.0 in values
    assert [s.per_unit_g.mid for s in grid] == sorted(s.per_unit_g.mid for s in grid)
    assert all(s.factor is not None and s.factor.licence and s.factor.year for s in grid)


@pytest.mark.parametrize("seed", range(8))
def test_no_variant_is_measured_first_more_often_than_another(tmp_path: Path, seed: int) -> None:
    plan = load(declare(tmp_path / "declared", repetitions=4))
    run = msgspec.structs.replace(plan.declared.run, seed=seed)
    steps = order(msgspec.structs.replace(plan, declared=msgspec.structs.replace(plan.declared, run=run)))
    assert sorted(step.variant.name for step in steps[::2]) == ["grand", "grand", "sans-ia", "sans-ia"]


def test_variants_are_interleaved_in_an_order_drawn_from_the_seed(tmp_path: Path) -> None:
    plan = load(declare(tmp_path, repetitions=6))
    steps = [step.name for step in order(plan)]
    assert steps == [step.name for step in order(plan)]
    rounds = [[name for name in steps if name.startswith(f"{n}:")] for n in range(1, 7)]
    assert all(sorted(each) == [f"{n}:grand", f"{n}:sans-ia"] for n, each in enumerate(rounds, 1))
    assert len({tuple(name.partition(":")[2] for name in each) for each in rounds}) == 2


def test_no_question_and_no_answer_is_kept(finished: Path) -> None:
    for file in finished.rglob("*"):
        assert not file.is_file() or SECRET not in file.read_text()


def test_no_machine_name_is_kept(finished: Path) -> None:
    import platform

    name = platform.node()
    assert len(name) < 4 or not any(name in file.read_text() for file in finished.rglob("*") if file.is_file())


def test_what_starting_costs_is_a_figure_of_its_own(tmp_path: Path) -> None:
    out = studied(tmp_path, app="slow_to_load", repetitions=1, lines=1)
    slow = study(out).variants[0]
    assert slow.start is not None
    assert slow.start.overhead_nj > slow.load.overhead_nj
    # a second of CPU, at 0.5 W or more
    assert slow.start.overhead_nj > 0.5e9
    assert folder.verify(out)[0] == []


@pytest.mark.parametrize(("model", "status"), [("broken", 500), ("rude", 422)])
def test_an_application_without_a_meter_is_given_one_and_what_fails_is_no_answer(tmp_path: Path, model: str, status: int) -> None:
    meter = '[service.meter]\nsources = "model"\nhost_share = 0.1'
    out = studied(tmp_path, app="plain", unit="request", repetitions=1, first=model, service=meter)
    broken, other = study(out).variants
    assert (broken.requests, broken.failed, broken.load.units) == (4, 2, 2.0)
    assert broken.why_failed == (f"2 × HTTP {status}",)
    assert "study:failed-many" in broken.flags
    assert "study:failed-many" not in other.flags
    assert broken.quality is not None
    assert (broken.quality.judged, broken.quality.unjudged) == (2, 2)
    assert study(out).machine.host_share == 0.1
    assert folder.verify(out)[0] == []


# -- interrupted


class Interruption:
    """Ctrl-C when so many repetitions are done."""

    def __init__(self, after: int) -> None:
        self.after, self.seen = after, set[str]()

    def __call__(self, done: float, total: float, what: str) -> None:
        self.seen.add(what)
        if len(self.seen) > self.after:
            raise KeyboardInterrupt


def test_a_study_that_was_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan = load(declare(tmp_path / "declared", lines=1))
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(plan, out, resume=False, progress=Interruption(2))
    kept = {file.name: file.read_bytes() for file in (out / "raw").iterdir()}
    assert len(kept) == 2
    with pytest.raises(ConfigurationError, match="--resume"):
        run(plan, out, resume=False, progress=silent)
    with pytest.raises(ConfigurationError, match=r"finishes a study that was interrupted"):
        folder.read(out)
    run(plan, out, resume=True, progress=silent)
    assert len(list((out / "raw").iterdir())) == 4
    assert all((out / "raw" / name).read_bytes() == content for name, content in kept.items())
    folder.save(out, study_of(plan, out), "…")
    assert folder.verify(out)[0] == []


def test_a_repetition_that_was_cut_in_its_file_is_named(copy: Path) -> None:
    file = copy / "raw/001-grand.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ConfigurationError, match=r"001-grand\.jsonl: its end is missing; remove it"):
        raw.read(file)
    file.write_bytes(b"".join(lines)[:-10])
    with pytest.raises(ConfigurationError, match=rf"001-grand\.jsonl, line {len(lines)}: "):
        raw.read(file)


def test_a_folder_that_holds_another_study_is_left_alone(copy: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    other = load(declare(tmp_path / "other", repetitions=3))
    with pytest.raises(ConfigurationError, match="holds another study"):
        run(other, copy, resume=True, progress=silent)
    assert before == {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}


def test_a_folder_that_is_no_study_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is no study"):
        run(load(declare(tmp_path / "declared")), tmp_path, resume=True, progress=silent)
    assert not (tmp_path / "raw").exists()


def test_a_load_that_changed_meanwhile_is_refused(finished: Path, tmp_path: Path) -> None:
    plan = load(declare(tmp_path / "declared", lines=5))
    with pytest.raises(ConfigurationError, match=r"load\.jsonl: has changed since"):
        run(plan, finished, resume=True, progress=silent)


# -- what cannot be studied, said when it runs


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("raises", r"tests\.study_house:raises, on line 1 of the load: raised ValueError: no such rule"),
        ("not_a_number", r"line 1 of the load: returned nan"),
        ("beyond", r"returned 80\.0; a score is a number from 0 to 1"),
        ("absent", r"has no attribute 'absent'"),
        ("SECRET", r"is no function"),
    ],
)
def test_a_judge_that_cannot_judge_is_told_before_anything_is_measured(tmp_path: Path, judge: str, said: str) -> None:
    plan = load(declare(tmp_path / "declared", judge=judge))
    with pytest.raises(ConfigurationError, match=said):
        run(plan, tmp_path / "out", resume=False, progress=silent)
    assert not list(tmp_path.glob("out/raw/*"))


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("failing", r"^variant \S+, round 1: tests\.study_house:failing\(\) failed: RuntimeError: no weights to be had"),
        ("failing_later", r"the application did not start; it said last: OSError: no database to be had$"),
        ("absent", r"module 'tests\.study_house' has no attribute 'absent'"),
    ],
)
def test_a_service_that_does_not_start_says_why(tmp_path: Path, app: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        run(load(declare(tmp_path / "declared", app=app)), tmp_path / "out", resume=False, progress=silent)
    assert "\n" not in str(caught.value)


def test_a_service_that_ends_under_load_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the service ended by itself"):
        run(load(declare(tmp_path / "declared", app="ends_at_once")), tmp_path / "out", resume=False, progress=silent)


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("[service.meter]\nhost_share = 0.5", r"\[service\.meter\] host_share: tests\.study_house:metered meters itself"),
        ("[service.env]\nFRUGAL_DISABLED = '1'", "FRUGAL_DISABLED is set"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(tmp_path: Path, service: str, said: str) -> None:
    plan = load(declare(tmp_path / "declared", service=service))
    with pytest.raises(ConfigurationError, match=said):
        run(plan, tmp_path / "out", resume=False, progress=silent)


def test_a_zone_that_is_not_the_services_own_is_refused(tmp_path: Path) -> None:
    file = declare(tmp_path / "declared")
    file.write_text(file.read_text().replace('zone = "FR"', 'zone = "DE"'))
    with pytest.raises(ConfigurationError, match="zone is 'DE' and the service's own meter has 'FR'"):
        run(load(file), tmp_path / "out", resume=False, progress=silent)


def test_a_declared_pue_and_lifetime_weigh_what_was_measured(tmp_path: Path) -> None:
    file = declare(tmp_path / "declared", repetitions=1, lines=1)
    mine = 'zone = "FR"\npue = 1.2\npue_source = "hébergeur"\nlifetime_years = 5'
    file.write_text(file.read_text().replace('zone = "FR"', mine))
    plan, out = load(file), tmp_path / "out"
    run(plan, out, resume=False, progress=silent)
    made = study_of(plan, out)
    assert (made.pue.value.mid, made.pue.source, made.pue.flags) == (1.2, "hébergeur", ())
    assert "pue:default" not in made.flags
    assert made.embodied is not None
    assert made.embodied.lifespan_s.mid == 5 * 365 * 86_400
    load_of_it = made.variants[0].load
    grams = load_of_it.energy_j.mid * 1.2 * made.factors[0].grams_per_joule
    assert load_of_it.operational_g.mid == pytest.approx(grams, rel=1e-12)
    lines: Iterator[Any] = (s for s in made.sensitivity if s.lever == "lifetime")
    assert {s.value for s in lines} == {3.0, 4.0, 5.0, 6.0}


def test_a_full_disk_is_no_study(tmp_path: Path) -> None:
    """The kernel's own full device, in the place of the file that the service's records go to."""
    declared = load(declare(tmp_path)).declared
    job = Job(
        **{"variant": "grand", "round": 1, "app": declared.service.app, "factory": True, "service": "town-hall", "meter": {}},
        **{"carbon": declared.carbon, "raw": "/dev/full", "began_at": "2026-01-01T00:00:00Z"},
    )
    with (
        pytest.raises(ConfigurationError, match=r"/dev/full: cannot be written \(No space left on device\)"),
        serving(job, Path.cwd(), {"PYTHONPATH": str(Path.cwd())}, tmp_path / "log") as service,
    ):
        service.phase("rest")


def test_raw_data_are_lines_of_json_that_anybody_reads(finished: Path) -> None:
    kinds = set()
    for line in (finished / "raw/001-grand.jsonl").read_text().splitlines():
        kinds.add(msgspec.json.decode(line)["type"])
    assert kinds == {"head", "exchange", "phase", "pass", "reading"}
