"""The observatory's page: what may be compared, table by table; whole without its script, which only sorts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from ..declaration.document import Bounds, Language
from ..declaration.notice import spoken
from ..declaration.notice_texts import NoticeWords, unit_words
from ..declaration.plain_figures import GRAMS, JOULES, KILOWATT_HOURS, Scale, between
from ..exporters.page_figures import day, percent
from ..exporters.page_frame import GROUND, NAMES, TABLES, framed
from ..exporters.page_markup import Html, cell, el, join, row, row_head
from ..exporters.page_texts import LANGUAGES
from .gathering import is_address
from .harvest import Entry, Harvest, Likeness, groups
from .observatory_texts import said, term

FILES: Final[dict[Language, str]] = {"fr": "observatoire.html", "en": "observatory.html"}
JSON_FILE: Final = "observatory.json"
CSV_FILE: Final = "observatory.csv"
_STYLE: Final = (
    GROUND
    + TABLES
    + """body { max-width: 76rem; }
@media (min-width: 48.01rem) { tbody th { min-width: 11rem; } td { min-width: 6.5rem; } }
th button { padding: 0; border: 0; background: none; color: var(--link); font: inherit; text-align: left; cursor: pointer;
  text-decoration: underline; text-underline-offset: .15em; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
@media print { th button { color: inherit; text-decoration: none; } }
"""
)
#: heads of columns become buttons; a click sorts, a second one turns the order round
_SCRIPT: Final = """
for (const table of document.querySelectorAll('table')) table.querySelectorAll('thead th').forEach((head, column) => {
  const button = document.createElement('button');
  button.type = 'button'; button.textContent = head.textContent; head.replaceChildren(button);
  button.onclick = () => {
    const up = head.getAttribute('aria-sort') !== 'ascending', body = table.tBodies[0];
    for (const other of table.querySelectorAll('thead th')) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const key = line => { const one = line.cells[column]; return one.dataset.value ?? one.textContent; };
    const lines = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b), n = x - y;
      if (x === '' || y === '') return (x === '') - (y === '');
      return (up ? 1 : -1) * (isNaN(n) ? x.localeCompare(y, document.documentElement.lang) : n);
    });
    body.append(...lines);
  };
});
"""


def observatory(harvest: Harvest, lang: Language, *, now: datetime) -> str:
    """The page in ``lang``; it links to the other language and to the data beside it."""
    entries = harvest.entries
    other: Language = next(each for each in LANGUAGES if each != lang)
    head = el("nav", el("a", NAMES[other], href=FILES[other], lang=other, hreflang=other), aria_label=said(lang, "languages"))
    lead = said(lang, "lead" if len(entries) != 1 else "lead_one", services=len(entries), date=day(now, lang))
    body = join(
        el("h1", said(lang, "title")),
        el("p", lead, class_="lead"),
        el("h2", said(lang, "reading")),
        el("ul", *(el("li", said(lang, key)) for key in ("declared", "alike", "bounds", "it"))),
        *(_group(likeness, members, lang) for likeness, members in groups(entries).items()),
        *_without(entries, lang),
        *_uses(entries, lang),
        *_refused(harvest, lang),
        el("h2", said(lang, "data")),
        el("p", el("a", "JSON", href=JSON_FILE), ", ", el("a", "CSV", href=CSV_FILE), ". ", said(lang, "data_note")),
    )
    return framed(lang, said(lang, "title"), head, el("main", body), style=_STYLE, script=_SCRIPT)


def _group(of: Likeness, members: Sequence[Entry], lang: Language) -> Html:
    unit, methods, boundary, factors = of
    counted, kinds = (", ".join(term(lang, each) for each in names) or "–" for names in (boundary, factors))
    caption = said(lang, "group_of", method=", ".join(methods) or "–", boundary=counted, factor=kinds)
    columns = [said(lang, key) for key in ("service", "energy", "carbon", "year", "evidence", "quality", "period")]
    return join(
        el("h2", said(lang, "group", one=unit_words(unit, NoticeWords(lang)))),
        _table(caption, columns, [_figures(entry, columns, lang) for entry in members]),
        el("p", said(lang, "alone"), class_="soft") if len(members) == 1 else None,
    )


def _table(caption: str, columns: Sequence[str], rows: Sequence[Html]) -> Html:
    heads = (el("th", name, scope="col", role="columnheader") for name in columns)
    return el(
        "table",
        el("caption", caption),
        el("thead", row(*heads), role="rowgroup"),
        el("tbody", *rows, role="rowgroup"),
        role="table",
    )


def _figures(entry: Entry, columns: Sequence[str], lang: Language) -> Html:
    service, period = entry.service, entry.taken.declaration.period
    each, year = service.per_unit, service.per_year
    end = period.end - timedelta(seconds=1)
    return row(
        _named(entry, lang),
        _bounds(columns[1], each.it_energy_j if each else None, JOULES, lang),
        _bounds(columns[2], each.co2e_g if each else None, GRAMS, lang),
        _bounds(columns[3], year.it_energy_kwh if year else None, KILOWATT_HOURS, lang),
        _value(columns[4], _share(entry, lang), service.method.measured_share),
        _value(columns[5], *_quality(entry, lang)),
        _value(columns[6], said(lang, "to", day(period.begin, lang), day(end, lang)), period.end.timestamp()),
    )


def _named(entry: Entry, lang: Language) -> Html:
    of, service = entry.taken.declaration, entry.service
    name = spoken(service.name, lang) if service.name else el("span", service.id)
    if is_address(entry.taken.source):
        name = el("a", name, href=entry.taken.source)
    note = el("span", of.organisation.name or said(lang, "not_said"), class_="note")
    return Html(str(row_head(name, note)).replace("<th ", f'<th data-value="{Html(join(entry.name))}" ', 1))


def _bounds(column: str, of: Bounds | None, scales: Sequence[Scale], lang: Language) -> Html:
    return _value(column, said(lang, "unknown") if of is None else between(of, scales, lang), of.mid if of else None)


def _value(column: str, shown: str, value: float | None) -> Html:
    return el("td", shown, role="cell", data_label=column, data_value="" if value is None else repr(value))


def _share(entry: Entry, lang: Language) -> str:
    method = entry.service.method
    if method.tier is None:
        return said(lang, "unknown")
    tier = said(lang, f"tier_{method.tier}")
    share = method.measured_share
    return f"{tier}, {said(lang, 'share', percent(share, lang))}" if share is not None and 0 < share < 1 else tier


def _quality(entry: Entry, lang: Language) -> tuple[str, float | None]:
    quality = entry.service.quality
    return (said(lang, "not_measured"), None) if quality is None else (percent(quality.mean, lang), quality.mean)


def _without(entries: Sequence[Entry], lang: Language) -> Iterator[Html]:
    without = [entry for entry in entries if entry.service.per_unit is None]
    if not without:
        return
    yield el("h2", said(lang, "nothing"))
    yield el("ul", *(el("li", _plain_name(entry), " – ", said(lang, _why(entry))) for entry in without))


def _plain_name(entry: Entry) -> str:
    organisation = entry.taken.declaration.organisation.name
    return f"{organisation}, {entry.service.id}" if organisation else entry.service.id


def _why(entry: Entry) -> str:
    place = entry.taken.declaration.services.index(entry.service)
    path = f"/services/{place}/per_unit"
    code = next((each.code for each in entry.taken.declaration.unknown if each.path == path), None)
    return f"why_{code}" if code in ("too_few", "none_delivered") else "why_other"


def _uses(entries: Sequence[Entry], lang: Language) -> Iterator[Html]:
    if not entries:
        return
    columns = [said(lang, key) for key in ("service", "purpose", "decisions", "models", "alternative")]
    yield el("h2", said(lang, "uses"))
    yield _table(said(lang, "declared"), columns, [_use(entry, columns, lang) for entry in entries])


def _use(entry: Entry, columns: Sequence[str], lang: Language) -> Html:
    service, silent = entry.service, said(lang, "not_said")
    models = ", ".join(model.name for model in service.models or ()) or silent
    alternative = spoken(service.human_alternative, lang) if service.human_alternative else silent
    decisions = said(lang, f"contribution_{service.contribution}") if service.contribution else silent
    return row(
        _named(entry, lang),
        cell(columns[1], spoken(service.purpose, lang) if service.purpose else silent),
        cell(columns[2], decisions),
        cell(columns[3], models),
        cell(columns[4], alternative),
    )


def _refused(harvest: Harvest, lang: Language) -> Iterator[Html]:
    yield el("h2", said(lang, "refused"))
    if not harvest.refused:
        yield el("p", said(lang, "refused_none"))
        return
    # Reasons are for who publishes: in the language of error lines, and said so to screen readers.
    told = (join(each.source, " – ", el("span", each.why, lang="en" if lang != "en" else None)) for each in harvest.refused)
    yield el("ul", *(el("li", line) for line in told))
