"""The report for people: four small tables and a few sentences, 80 to 100 columns wide."""

from __future__ import annotations

import textwrap

from rich import box
from rich.console import Console
from rich.table import Table

from frugal_meter.records import Interval

from .demo import SHUFFLED, Report, Step
from .figures import BUCKETS, Cost
from .tiers import GENERATIVE, RETRIEVAL
from .words import Words


def show(report: Report, words: Words, console: Console, factors: str, interval: str) -> None:
    """Print ``report``; every figure with its unit, tier and interval."""
    _costs(report, words, console, factors, interval)
    _account(report, words, console)
    _quality(report, words, console)
    for step, key in ((report.degraded, "degraded"), (report.refused, "refused")):
        _say(console, _sentence(step, key, words))
    if report.client_error is not None:
        console.print(words("client_failed", n=report.requests, all=report.expected, why=report.client_error), style="red")


def _say(console: Console, text: str, style: str | None = None) -> None:
    # rich breaks lines at a no-break space too, and what the meter says has plain ones: "« rapport »" would be torn
    held = text.replace("« ", "«\u00a0").replace(" »", "\u00a0»")
    lines = textwrap.fill(held, console.width, break_on_hyphens=False)  # nor "cpu-time/1"
    console.print(lines, style=style, highlight=False, markup=False)


def _table(words: Words, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, key in enumerate(columns):
        table.add_column(words(key), justify="left" if number == 0 or key in {"model", "tier"} else "right", no_wrap=True)
    return table


def _print(console: Console, title: str, table: Table) -> None:
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    console.print(table)


def _interval(value: Interval | None, unit: str, words: Words) -> str:
    return words("unknown") if value is None else words.bounds(value.mid, value.low, value.high, unit)


def _tier(cost: Cost, words: Words) -> str:
    return words(cost.tier or "unknown")


def _percent(share: float | None, words: Words) -> str:
    return words("unknown") if share is None else words.percent(share, 1)


def _costs(report: Report, words: Words, console: Console, factors: str, interval: str) -> None:
    table = _table(words, "route", "model", "n", "cpu", "joules", "carbon", "share", "tier")
    for row in report.rows:
        cost = row.cost
        table.add_row(
            row.route,
            row.model or "–",
            str(cost.n),
            words.figure(cost.cpu_s, "s"),
            _interval(cost.full_j, "J", words),
            _interval(cost.carbon_g, "g", words),
            _percent(cost.host_share, words),
            _tier(cost, words),
        )
    _print(console, words("table"), table)
    _say(console, words("table_note", factors=factors, interval=interval), "dim")


def _account(report: Report, words: Words, console: Console) -> None:
    books = report.account
    table = _table(words, "bucket", "joules", "share")
    for name in BUCKETS:
        share = books.buckets_nj[name] / books.energy_nj if books.energy_nj else None
        table.add_row(words(name), _interval(books.buckets_j.get(name), "J", words), _percent(share, words))
    table.add_section()
    table.add_row(words("total"), _interval(books.energy_j, "J", words), "")
    _print(console, words("account", seconds=words.figure(books.seconds, "s")), table)
    sources = ", ".join(f"{name} ({words(tier)})" for name, tier in books.sources.items()) or words("unknown")
    _say(console, f"{words('closes', difference=books.difference_nj)} {sources}")


def _quality(report: Report, words: Words, console: Console) -> None:
    table = _table(words, "model", "n", "right", "joules", "per_right", "tier")
    for row in report.quality:
        score = row.score
        ends = f"{words.percent(score.low)}–{words.percent(score.high)}"
        share = "–" if score.share is None else f"{score.right}/{score.n} = {words.percent(score.share)} [{ends}]"
        name = words("shuffled") if row.model == SHUFFLED else row.model
        joules = _interval(row.cost.full_j, "J", words)
        table.add_row(name, str(score.n), share, joules, _interval(row.joules_per_right, "J", words), _tier(row.cost, words))
    _print(console, words("answers"), table)
    _say(console, words("rule", n=max((row.of for row in report.quality), default=0)), "dim")
    for row in report.quality:
        if row.score.n < row.of:
            console.print(words("sample", model=row.model, n=row.score.n, all=row.of), style="dim", highlight=False)
    full = {row.model: row.cost.full_j for row in report.quality}
    dear, frugal = full.get(GENERATIVE), full.get(RETRIEVAL)
    if dear is not None and frugal is not None and frugal.mid:
        console.print(words("ratio", ratio=words.number(dear.mid / frugal.mid)), style="bold", highlight=False)


def _sentence(step: Step | None, key: str, words: Words) -> str:
    if step is None:
        return words("no_step", what=words(f"word_{key}"))
    line = words(
        key,
        budget=step.budget,
        route=step.route,
        requested=step.requested,
        served=step.served,
        status=step.status,
        tier=words(step.tier or "unknown"),
    )
    said = (step.refusal or {}).get("detail_fr" if words.language == "fr" else "detail")
    return f"{line} {said}" if said else line
