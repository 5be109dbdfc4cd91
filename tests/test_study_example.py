"""The ready scenario of the assistant: its questions, its way without AI, its judge; and it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the demonstration needs scikit-learn: pip install -r examples/assistant/requirements.txt")

from examples.assistant.corpus import load_corpus, load_heldout
from examples.assistant.quality import is_right
from examples.impact_study.scenario import Keywords, questions
from frugal_meter.study import folder
from frugal_meter.study.building import study_of
from frugal_meter.study.declaring import load
from frugal_meter.study.loads import load_of
from frugal_meter.study.running import run

ROOT = Path(__file__).parent.parent
DECLARED = ROOT / "examples" / "impact_study" / "study.toml"

pytestmark = pytest.mark.xdist_group("study")


def test_every_variant_is_asked_the_same_questions() -> None:
    plan = load(DECLARED)
    assert [each.kind for each in plan.declared.variant] == ["ai", "smaller-ai", "no-ai"]
    loads = [load_of(plan, each) for each in plan.declared.variant]
    assert len({each.sha256 for each in loads}) == 1
    assert len(loads[0].requests) == len(questions("")) == 13


def test_the_way_without_ai_is_no_straw_man() -> None:
    held, corpus, search = load_heldout(), load_corpus(), Keywords()
    right = sum(is_right(search.answer(each.text).text, each, corpus) for each in held)
    assert right >= 50
    assert search.answer("zzz").entry is None


def test_the_scenario_runs_and_is_recomputed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = DECLARED.read_text()
    head, *variants = text.split("[[variant]]")
    (without,) = (each for each in variants if 'kind = "no-ai"' in each)
    short = head.replace("repetitions = 3", "repetitions = 1").replace("baseline_s = 4", "baseline_s = 0.2")
    file = tmp_path / "study.toml"
    short = short.replace("at_least_s = 0.5", "at_least_s = 0")
    file.write_text(f"{short}[[variant]]{without}")
    plan, out = load(file), tmp_path / "out"
    run(plan, out, resume=False, progress=lambda done, total, what: None)
    made = study_of(plan, out)
    (search,) = made.variants
    assert (search.requests, search.failed, search.load.units, search.models) == (13, 0, 13.0, ("keywords",))
    assert search.quality is not None
    assert search.quality.score.mid > 0.5
    folder.save(out, made, "…")
    assert folder.verify(out)[0] == []
