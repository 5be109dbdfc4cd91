"""The report on clauses for both parties: as text, as JSON, and as one page in French and English that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from ..exporters.page_figures import HOLD, NARROW, bounds, count, day, figure, localised, percent, tier_words
from ..exporters.page_frame import GROUND, NAMES, TABLES, framed
from ..exporters.page_markup import Html, cell, el, join, notes, row, row_head
from ..exporters.page_texts import LANGUAGES, Lang, word
from ..records import Interval
from .contract import KINDS, Clause, Contract
from .judging import Judgement, Reason, Verdict, overall
from .texts import words

_UNITS: Final = {"energy": "J", "carbon": "gCO2e"}
_STYLE: Final = (
    GROUND
    + TABLES
    + """body { max-width: 60rem; }
:root { --kept: #1d5e33; --broken: #9b2413; --open: #6b4a00; }
@media screen and (prefers-color-scheme: dark) { :root { --kept: #83cf9b; --broken: #f0a08e; --open: #e3bd6a; } }
.kept { color: var(--kept); }
.broken { color: var(--broken); }
.cannot_be_judged { color: var(--open); }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (min-width: 48.01rem) { tbody th { min-width: 7rem; } td:nth-child(2) { width: 34%; } }
section { margin-top: 3.5rem; border-top: 2px solid var(--rule); padding-top: .5rem; }
@media print { header { display: none; } }
"""
)


class Report(msgspec.Struct, frozen=True):
    """A contract, what was found for each period judged, in which journal (without a password), and when (Unix s)."""

    contract: Contract
    judgements: Sequence[Judgement]
    journal: str
    made_s: float

    @property
    def exit_code(self) -> int:
        """0 all kept, 1 one is broken, 3 none is broken for sure and not all can be judged."""
        return {"kept": 0, "broken": 1, "cannot_be_judged": 3}[overall(each.ruling for each in self.judgements)]

    def json(self) -> dict[str, Any]:
        """Every field, for programs; what is unknown or kept back is null."""
        told = [
            {
                "period": msgspec.to_builtins(each.period),
                "ruling": each.ruling,
                "lost_readings": each.lost_readings,
                "lost_ticks": each.lost_ticks,
                "figures": None if each.figures is None else msgspec.to_builtins(each.figures),
                "verdicts": [msgspec.to_builtins(verdict) for verdict in each.verdicts],
            }
            for each in self.judgements
        ]
        head = {"exit_code": self.exit_code, "version": metadata.version("frugal-meter"), "made_s": self.made_s}
        about = {"journal": self.journal, "contract": msgspec.to_builtins(self.contract)}
        return {"schema": "frugal-meter/clauses/1", **head, **about, "periods": told}

    def text(self, lang: Lang) -> str:
        """For a terminal; with ordinary spaces."""
        lines = [words("heading", lang) + (f" – {self.contract.title}" if self.contract.title else "")]
        for each in self.judgements:
            lines += ["", _labelled("period", _stretch(each, self.contract, lang), lang)]
            lines += [_labelled("overall", words(f"all_{each.ruling}", lang), lang)]
            for verdict in each.verdicts:
                lines += ["", f"  {verdict.clause.id}  {_promise(verdict.clause, self.contract, lang)}"]
                told = (_found(verdict, self.contract, lang), _verdict(verdict, lang), *_reasons(verdict, self.contract, lang))
                lines += [f"    {line}" for line in told]
        lines += ["", words(f"how_{self.contract.proof}", lang)]
        return "\n".join(lines).replace(NARROW, " ").replace(HOLD, " ")

    def html(self, lang: Lang) -> str:
        """The page: whole in ``lang``, and whole again in the other language below."""
        other: Lang = next(each for each in LANGUAGES if each != lang)
        title = self.contract.title or words("heading", lang)
        skip = el("a", words("skip", lang), href=f"#overall-{lang}", class_="skip")
        switch = el("a", NAMES[other], href=f"#{other}", lang=other, hreflang=other)
        below = el("section", self._body(other, 2), id=other, lang=other)
        head = join(skip, el("span"), switch)
        return framed(lang, title, head, el("main", self._body(lang, 1), below), style=_STYLE)

    def _body(self, lang: Lang, level: int) -> Html:
        contract = self.contract
        parties = [(key, getattr(contract, key)) for key in ("buyer", "supplier", "service")]
        heading = f"{words('heading', lang)} – {contract.title}" if contract.title else words("heading", lang)
        return join(
            el(f"h{level}", heading),
            _pairs([(words(key, lang), said) for key, said in parties if said]),
            *(self._period(each, lang, level + 1, first=not number) for number, each in enumerate(self.judgements)),
            el(f"h{level + 1}", words("reading_title", lang)),
            *(el("p", words(key, lang)) for key in ("how_interval", f"how_{contract.proof}", "how_period")),
            el(f"h{level + 1}", words("sources_title", lang)),
            _pairs(
                [
                    # the other party learns which file, not where the supplier keeps it
                    (words("journal", lang), self.journal if "://" in self.journal else Path(self.journal).name),
                    (words("contract_sha", lang), contract.sha256),
                    (words("made", lang), f"frugal-meter {metadata.version('frugal-meter')}, {self._when(lang)}"),
                ]
            ),
        )

    def _when(self, lang: Lang) -> str:
        return words("on", lang, when=_day(self.made_s, self.contract, lang))

    def _period(self, each: Judgement, lang: Lang, level: int, *, first: bool) -> Html:
        names = [words(key, lang) for key in ("clause", "promise", "found", "verdict")]
        head = row(*(el("th", name, scope="col", role="columnheader") for name in names))
        rows = [
            row(
                row_head(verdict.clause.id),
                cell(names[1], _promise(verdict.clause, self.contract, lang)),
                cell(names[2], _found(verdict, self.contract, lang)),
                cell(
                    names[3],
                    el("strong", _verdict(verdict, lang), class_=verdict.ruling),
                    notes(*_reasons(verdict, self.contract, lang)),
                ),
            )
            for verdict in each.verdicts
        ]
        caption = f"{words('period', lang)} {_stretch(each, self.contract, lang)}"
        conclusion = _labelled("overall", words(f"all_{each.ruling}", lang), lang)
        return join(
            el(f"h{level}", caption),
            el("p", el("strong", conclusion, class_=each.ruling), id=f"overall-{lang}" if first else None),
            el(
                "table",
                el("caption", caption, class_="hidden"),
                el("thead", head, role="rowgroup"),
                el("tbody", *rows, role="rowgroup"),
                role="table",
            ),
            _evidence(each, lang),
        )


def _evidence(of: Judgement, lang: Lang) -> Html:
    figures = of.figures
    if figures is None:
        return el("p", words("too_few_to_tell", lang))
    unknown = words("unknown_value", lang)
    rows = [
        ("covered", percent(min(1.0, figures.covered_s / (of.period.end_s - of.period.begin_s)), lang)),
        ("requests", f"{count(figures.requests, lang)} ({count(figures.failed, lang)}, {count(figures.refused, lang)})"),
        ("tier", f"{tier_words(figures.tier, lang)}, {percent(figures.measured_share, lang)}" if figures.tier else unknown),
        ("factors", ", ".join(figures.factor_ids) or unknown),
        ("methods", ", ".join(figures.method_ids) or unknown),
        ("boundary", ", ".join(word("component", part, lang) for part in figures.boundary) or unknown),
        ("lost", f"{count(of.lost_readings, lang)}, {count(of.lost_ticks, lang)}"),
    ]
    return _pairs([(words(key, lang), said) for key, said in rows])


def _pairs(rows: Sequence[tuple[str, str]]) -> Html:
    return el("dl", *(el("div", el("dt", name), el("dd", said)) for name, said in rows), class_="pairs") if rows else Html()


def _labelled(key: str, said: str, lang: Lang) -> str:
    return words("labelled", lang, name=words(key, lang), said=said)


def _stretch(of: Judgement, contract: Contract, lang: Lang) -> str:
    # The end is the first moment after: people are told the last day.
    begin, end = _day(of.period.begin_s, contract, lang), _day(of.period.end_s - 1, contract, lang)
    return f"{of.period.name} ({begin} – {end})"


def _day(at_s: float, contract: Contract, lang: Lang) -> str:
    try:
        moment = datetime.fromtimestamp(at_s, ZoneInfo(contract.timezone))
    except (KeyError, ValueError, OSError):
        moment = datetime.fromtimestamp(at_s, UTC)
    return day(moment, lang)


def _promise(clause: Clause, contract: Contract, lang: Lang) -> str:
    if clause.figure in _UNITS:
        named = words(f"{clause.figure}_{clause.over}", lang, unit=_called(clause.unit, contract, lang))
    elif clause.figure == "quality" and clause.metric:
        named = words("quality_of", lang, metric=clause.metric)
    else:
        named = words(clause.figure, lang)
    return words(clause.bound, lang, figure=named, limit=_amount(clause.limit, clause, lang, exact=True))


def _called(unit: str, contract: Contract, lang: Lang) -> str:
    default = {"request": {"fr": "demande"}}.get(unit, {})
    return {**default, **contract.unit_names.get(unit, {})}.get(lang, unit)


def _amount(value: float, clause: Clause, lang: Lang, *, exact: bool = False) -> str:
    kind = KINDS[clause.figure]
    if kind == "share":
        return _decimal(value * 100, lang) + (f"{NARROW}%" if lang == "fr" else "%") if exact else percent(value, lang)
    if kind == "score":
        return localised(f"{value:.3g}", lang)
    if exact:  # a limit is what was signed, to its last digit
        shown = _signed(value, _UNITS[kind], lang)
        if clause.watt_hours is None:
            return shown
        written = clause.watt_hours.replace(".", ",") if lang == "fr" else clause.watt_hours
        return f"{written} ({shown})"
    return figure(value, _UNITS[kind], lang)


def _signed(value: float, unit: str, lang: Lang) -> str:
    power = next((p for p in (9, 6, 3, 0, -3, -6, -9) if value >= 10.0**p), -9)
    prefix = {9: "G", 6: "M", 3: "k", 0: "", -3: "m", -6: "µ", -9: "n"}[power]
    return f"{_decimal(value / 10.0**power, lang)}{NARROW}{prefix}{word('unit', unit, lang)}"


def _decimal(value: float, lang: Lang) -> str:
    return localised(f"{value:.15g}", lang)


def _found(verdict: Verdict, contract: Contract, lang: Lang) -> str:
    clause, value = verdict.clause, verdict.value
    if value is None:
        few = any(reason.code in ("too_few", "hardly_any") for reason in verdict.reasons)
        return words("withheld" if few else "unknown_value", lang)
    shown = _amount(value.mid, clause, lang)
    if value.low != value.high:
        shown += f" ({_interval(value, clause, lang)})"
    of = "of_units" if clause.figure in _UNITS else "of_scores" if clause.figure == "quality" else "of_requests"
    return f"{shown}, {words(of, lang, n=count(verdict.counted, lang), unit=_called(clause.unit, contract, lang))}"


def _interval(value: Interval, clause: Clause, lang: Lang) -> str:
    if clause.figure in _UNITS:
        return bounds(value, _UNITS[clause.figure], lang)
    ends = (_amount(end, clause, lang) for end in (value.low, value.high))
    return f" {'à' if lang == 'fr' else 'to'} ".join(ends)


def _verdict(verdict: Verdict, lang: Lang) -> str:
    if verdict.ruling == "cannot_be_judged":
        return words("unproved" if verdict.grade == "kept_probably" else "cannot_be_judged", lang)
    return words(str(verdict.grade), lang)


def _reasons(verdict: Verdict, contract: Contract, lang: Lang) -> Iterator[str]:
    for reason in verdict.reasons:
        yield words(f"r_{reason.code}", lang, **{k: _blank(v, reason, contract, lang) for k, v in reason.values.items()})


def _blank(value: Any, reason: Reason, contract: Contract, lang: Lang) -> str:
    if reason.code == "not_covered":
        return percent(value, lang)
    if reason.code == "no_unit":
        return _called(value, contract, lang)
    return count(value, lang) if isinstance(value, int | float) else str(value)
