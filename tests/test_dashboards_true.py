"""Every panel against the truth: its own PromQL, a real Prometheus, a real service of several workers, one of them killed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dashboard_run import Run, a_run
from dashboard_truth import J_PER_CPU_S, Series, Truth

pytestmark = pytest.mark.xdist_group("dashboards")
DASHBOARDS = sorted((Path(__file__).parent.parent / "dashboards").glob("[!a]*.json"))
PANELS = [
    (file.stem, panel)
    for file in DASHBOARDS
    for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]
    if panel["type"] != "row"
]
#: compared below, one by one: with the truth to 1 % or nearer where there is one, else as near as its clocks or bounds allow
LOOSE = {
    "Measured share": "to 1 %: since the start, of all that the sources wrote down",
    "Power of the host": "to a ten-millionth: a scrape shows what some tick before it booked, and each tick was written down",
    "Energy of the host": "the same",
    "Where the host's energy goes": "idle the same, the whole and requests to 1 %; how the rest parts into overhead and other "
    "programs only the service knows, to 5 % by its clocks",
    "Overhead by part": "the sum to 5 % by clocks; its parts only the service knows",
    "CPU charged to requests": "to 3 %: the clocks of its processes are read a moment after the scrape",
    "The meter's own share": "to 10 %: a small part by clocks that are read a moment after the scrape, while it goes on ticking",
    "Time to exhaustion": "to 5 %: use at the first scrape is what the worker that answered had been told by then",
    "Estimate over use": "of budgets in requests exactly; in joules estimates are the budget's own",
    "Leases that went wrong": "how often an estimate was too low",
}
#: a budget in shadow judges by what its worker was told last: one or two of its decisions are early or late
NARROWED = {"Decisions": "joules|few"}
NEAR = 0.01


class Held(NamedTuple):
    """The run, its truth and what Prometheus answered, asked again with ``ask``."""

    run: Run
    truth: Truth

    def ask(self, expression: str) -> Series:
        return self.run.server.ask(self.written(expression), self.run.ended_s)

    def written(self, expression: str) -> str:
        """The expression as Grafana sends it, with every variable put in; windows reach from the first scrape to the last."""
        values = {
            "$__rate_interval": f"{round(self.run.seconds * 1000) + 1}ms",
            "$__range_s": f"{self.run.seconds:.3f}",
            "$__range": f"{round(self.run.seconds * 1000) + 1}ms",
            "$job": "kit",
            "$instance": self.run.target,
            "$route": "/away" if "downstream" in expression else "/ask|/search|/few",
            "$model": ".*" if "downstream" in expression else "small|tfidf|large|none",
            "$budget": "joules|few|watch",
        }
        for name, value in values.items():
            expression = expression.replace(name, value)
        return expression


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """One run for every test here."""
    folder = tmp_path_factory.mktemp("run", numbered=True)
    folder.chmod(0o700)
    with a_run(folder) as run:
        yield Held(run, Truth(run))


def shown(series: Series) -> Series:
    """What a panel draws: known children that stay at 0 are no news, and what is no number is not drawn."""
    return {labels: value for labels, value in series.items() if value and value == value}


def agree(found: Series, true: Series) -> bool:
    """Whether every series is there, no other is, and each value is within 1 %."""
    found, true = (shown(found), shown(true)) if any(true.values()) else (found, true)
    return found.keys() == true.keys() and all(value == pytest.approx(true[labels], rel=NEAR) for labels, value in found.items())


def narrowed(title: str, expression: str) -> str:
    return expression.replace("$budget", NARROWED.get(title, "$budget"))


def text(series: Series) -> str:
    return ", ".join(f"{' '.join(sorted(v for _, v in labels)) or '–'} {value:.6g}" for labels, value in shown(series).items())


def test_every_panel_shows_the_truth_also_after_a_worker_was_killed(held: Held, capsys: pytest.CaptureFixture[str]) -> None:
    lines, wrong = [], []
    for dashboard, panel in PANELS:
        title = panel["title"]
        expressions = [narrowed(title, target["expr"]) for target in panel["targets"]]
        if title in LOOSE:
            continue
        for expression, true in zip(expressions, held.truth.panels[title], strict=True):
            found = held.ask(expression)
            lines.append(f"{dashboard} | {title} | {expression} | {text(found) or '0'} | {text(true) or '0'}")
            if not agree(found, true):
                wrong.append(lines[-1])
    with capsys.disabled():
        print(f"\n{held.run.seconds:.0f} s, panel | PromQL | value | truth", *lines, sep="\n  ")
    assert wrong == []


def broken(expression: str) -> Iterator[str]:
    """The expression with one label misspelt, once for every label that it groups by or chooses a service by."""
    yield expression.replace('job=~"', 'jobb=~"', 1)
    for group in re.finditer(r"\bby \(([^)]*)\)", expression):
        for label in group[1].split(", "):
            if group[1].startswith("job, instance, ") and label in ("job", "instance"):
                continue  # keeps hosts that share a budget apart, and there is one here
            misspelt = group[0].replace(label, f"{label}_", 1)
            yield expression[: group.start()] + misspelt + expression[group.end() :]


def test_one_misspelt_label_makes_a_panel_wrong(held: Held) -> None:
    unseen, tried = [], 0
    for _, panel in PANELS:
        truths = held.truth.panels.get(panel["title"], [])
        for target, true in zip(panel["targets"], truths, strict=False):
            if not true:  # nothing to be wrong about: no GPU here
                continue
            for expression in broken(narrowed(panel["title"], target["expr"])):
                tried += 1
                if agree(held.ask(expression), true):
                    unseen.append((panel["title"], expression))
    assert tried > 100
    assert unseen == []


def test_what_only_the_service_can_tell_keeps_within_what_is_known_of_it(held: Held) -> None:
    run, truth = held.run, held.truth
    panels: dict[str, list[str]] = {p["title"]: [t["expr"] for t in p["targets"]] for _, p in PANELS}

    def value(title: str, number: int = 0) -> Any:
        return {" ".join(text for _, text in sorted(labels)): v for labels, v in held.ask(panels[title][number]).items()}

    def clock(which: int) -> float:
        return sum(each[which] - run.began_clocks.get(pid, (0.0, 0.0))[which] for pid, each in run.clocks.items())

    everything = [r for r in run.of("reading") if run.begun_s < r["started_at"] <= run.ended_s]  # scrapes and questions too
    cpu_s, joules = (sum(r[field] for r in everything) for field in ("cpu_s", "energy_dynamic_j"))
    assert value("CPU charged to requests")[""] == pytest.approx(cpu_s / clock(0), rel=0.03)
    assert value("The meter's own share")[""] == pytest.approx(clock(1) / clock(0), rel=0.1)
    assert value("Measured share")[""] == pytest.approx(truth.measured_share(), rel=NEAR)
    assert truth.is_told(value("Power of the host")[""] * run.seconds)
    # `increase` stretches what it saw over the millisecond by which its window is longer
    assert truth.is_told(value("Energy of the host")["kit"] * 3.6e6 * run.seconds / (run.seconds + 0.001))
    reasons = value("Where the host's energy goes", 1)
    whole = sum(reasons.values()) + value("Where the host's energy goes")[""]
    assert whole == pytest.approx(value("Power of the host")[""], rel=NEAR)  # but for what scrapes, in progress, have drawn
    assert truth.is_told(reasons["idle"] * run.seconds, "idle_nj")
    assert value("Where the host's energy goes")[""] * run.seconds == pytest.approx(joules, rel=NEAR)
    assert reasons["overhead"] * run.seconds == pytest.approx((clock(0) - cpu_s) * J_PER_CPU_S, rel=0.05)
    assert sum(value("Overhead by part").values()) == pytest.approx(reasons["overhead"], rel=1e-6)
    # From what the first scrape told: its worker may know of the others' spending later than they do.
    settled = 'max (frugal_budget_usage_ratio{job="kit", budget="joules", state="settled"})'
    (first,), (last,) = (run.server.ask(settled, at).values() for at in (run.begun_s, run.ended_s))
    assert last == pytest.approx(next(iter(truth.panels["Used in this window"][0].values())), rel=NEAR)
    left_s = (1 - last) / (last - first) * run.seconds
    assert value("Time to exhaustion")["joules //ask energy"] == pytest.approx(left_s, rel=0.05)
    estimates = value("Estimate over use")
    assert estimates["few requests"] == estimates["watch requests"] == 1
    assert estimates["joules energy"] > 0
    assert value("Leases that went wrong", 1) == value("Leases that went wrong", 2) == {"": 0.0}
    assert {title for _, p in PANELS if (title := p["title"]) in LOOSE} == LOOSE.keys()
