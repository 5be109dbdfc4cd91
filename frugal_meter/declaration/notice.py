"""The notice: a declaration as a page for citizens, in plain French or English. It says nothing that the declaration does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from ..exporters.page_figures import day, percent
from ..exporters.page_frame import GROUND, NAMES, framed
from ..exporters.page_markup import Html, el, join
from ..exporters.page_texts import LANGUAGES
from ..units import J_PER_KWH
from .document import Bounds, BudgetLine, Code, Declaration, Language, Model, Said, Service
from .notice_texts import NoticeWords, unit_words
from .plain_figures import GRAMS, JOULES, KILOWATT_HOURS, LITRES, around, between, whole

#: joules that heat a litre of water from 15 to 100 °C: 4.18 J/(g·K) (CRC Handbook of Chemistry and Physics, properties of water)
LITRE_J: Final = 4.18 * 1000 * (100 - 15)
_MANY: Final = 1000.0
STYLE: Final = (
    GROUND
    + """:root { --card: #f2efe8; }
@media screen and (prefers-color-scheme: dark) { :root { --card: #1d232a; } }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); gap: 1rem; margin: 1.2rem 0 0; }
.figures div { padding: 1rem 1.2rem; border-radius: .4rem; background: var(--card); }
.figures dt { color: var(--soft); }
.figures dd { margin: .3rem 0 0; }
.figures dd.main { font-size: 1.25rem; font-weight: 600; line-height: 1.3; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); font-size: .92rem; }
"""
)
#: a limit as it is declared: its number, its unit
_QUANTITY: Final = re.compile(r"([\d_ .]*\d)\s*(\D\S*)$")


def notice(
    of: Declaration, lang: Language, *, links: dict[Language, str] | None = None, document: str | None = "frugal-ai.json"
) -> str:
    """The page of the declaration's first service. ``links`` lead to the other language, ``document`` to the declaration."""
    service, words = of.services[0], NoticeWords(lang)
    name = service.name.best(lang)[1] if service.name else service.id
    links = links if links is not None else {each: f"?lang={each}" for each in LANGUAGES}
    head = join(el("p", of.organisation.name or service.id), _languages(words, links))
    sections = (
        ("does", _does(service, words)),
        ("costs", _costs(of, service, words)),
        ("not_counted", _not_counted(service, words)),
        ("budget", _budgets(service, words)),
        ("people", _people(of, service, words)),
    )
    lead = words(f"lead_{service.status}" if service.status in ("pilot", "stopped") else "lead")
    body = join(
        el("h1", words("title", name=name)),
        el("p", lead, class_="lead"),
        *(el("section", el("h2", words(key), id=key), *parts, aria_labelledby=key) for key, parts in sections),
    )
    whole = join(el("main", body), _foot(of, service, words, document))
    return framed(lang, words("title", name=name), head, whole, style=STYLE)


def _languages(words: NoticeWords, links: dict[Language, str]) -> Html:
    others = [each for each in LANGUAGES if each != words.lang and each in links]
    return el("nav", *(el("a", NAMES[each], href=links[each], lang=each, hreflang=each) for each in others),
              aria_label=words("languages"))  # fmt: skip


def spoken(of: Said, lang: Language) -> Html:
    """A text in ``lang``, or in the other language and marked so that a screen reader changes its voice."""
    found, text = of.best(lang)
    return el("span", text, lang=None if found == lang else found)


def _does(service: Service, words: NoticeWords) -> Iterator[Html]:
    yield el("p", spoken(service.purpose, words.lang) if service.purpose else words("purpose_unknown"))
    yield el("p", " ".join(_roles(service, words)))
    if service.necessity:
        yield el("p", words("why"), spoken(service.necessity, words.lang))
    if service.human_oversight:
        yield el("p", words("oversight"), spoken(service.human_oversight, words.lang))
    if service.models:
        yield el("p", words("models", ", ".join(_model(model, words) for model in service.models)))
    if service.suppliers:
        yield el("p", words("suppliers", ", ".join(each.name for each in service.suppliers)))
    if service.legal.individual_decisions:
        yield el("p", words("rights"))
    if service.legal.rules_url:
        yield el("p", el("a", words("rules"), href=service.legal.rules_url))


def _roles(service: Service, words: NoticeWords) -> Iterator[str]:
    if service.users:
        yield words(f"users_{service.users}")
    yield words(f"contribution_{service.contribution or 'unknown'}")


def _model(model: Model, words: NoticeWords) -> str:
    about = [model.provider] if model.provider else []
    if model.open_weights is not None:
        about.append(words("model_open" if model.open_weights else "model_closed"))
    return f"{model.name} ({', '.join(about)})" if about else model.name


def _costs(of: Declaration, service: Service, words: NoticeWords) -> Iterator[Html]:
    lang, period = words.lang, of.period
    yield el("p", words("period", begin=day(period.begin, lang), end=day(period.end - timedelta(seconds=1), lang)))
    if service.it_energy_kwh is None or service.co2e is None:
        yield el("p", el("strong", words.absent(_why(of, "/services/0/it_energy_kwh"))))
        return
    yield el("dl", *_figures(service, words), class_="figures")
    energy, carbon = _pair(service.it_energy_kwh, service.co2e.total_kg, words)
    yield el("p", words("total", energy=energy, carbon=carbon, requests=whole(service.volume.requests or 0, lang)))
    if service.method.tier:
        yield el("p", words(f"tier_{service.method.tier}"))
    yield el("p", words("means"))
    yield el("p", words("whole"))
    if period.covered_share is not None and period.covered_share < 0.99:
        yield el("p", words("covered", percent(period.covered_share, lang)))
    if service.per_year and (litres := service.per_year.it_energy_kwh).low * J_PER_KWH >= LITRE_J:
        yield el("p", words("kettle", litres=between(litres, LITRES, lang, J_PER_KWH / LITRE_J)))


def _figures(service: Service, words: NoticeWords) -> Iterator[Html]:
    lang = words.lang
    if (each := service.per_unit) is None:
        yield el("div", el("dt", words("per_unit", one=unit_words(service.unit.name, words))), el("dd", words("each_unknown")))
    else:
        many = words("per_thousand", between(each.it_energy_j, KILOWATT_HOURS, lang, _MANY / J_PER_KWH))
        yield _card(
            words("per_unit", one=unit_words(service.unit.name, words)),
            words("of_electricity", between(each.it_energy_j, JOULES, lang)),
            words("of_co2", between(each.co2e_g, GRAMS, lang)),
            many,
        )
    if service.per_year is None:
        yield el("div", el("dt", words("per_year")), el("dd", words("year_unknown")))
        return
    yield _card(words("per_year"), *_pair(service.per_year.it_energy_kwh, service.per_year.co2e_kg, words), words("pace"))


def _pair(energy_kwh: Bounds, carbon_kg: Bounds, words: NoticeWords) -> tuple[str, str]:
    energy = words("of_electricity", between(energy_kwh, KILOWATT_HOURS, words.lang))
    return energy, words("of_co2", between(carbon_kg, GRAMS, words.lang, 1000.0))


def _card(name: str, first: str, *others: str) -> Html:
    return el("div", el("dt", name), el("dd", first, class_="main"), *(el("dd", other) for other in others))


def _why(of: Declaration, path: str) -> Code:
    """Why there are no figures: of the codes, those that can be the reason for that."""
    found = next((each.code for each in of.unknown if each.path == path), None)
    return found if found in ("too_few", "no_journal") else "no_books"


def _not_counted(service: Service, words: NoticeWords) -> Iterator[Html]:
    names = [words(each) if words.known(each) else each for each in service.boundary.excluded]
    if (kwh := service.elsewhere_kwh) is not None:
        names.append(words("elsewhere", around(kwh, KILOWATT_HOURS, words.lang)))
    yield el("ul", *(el("li", name) for name in names))
    for model in service.models or ():
        if model.training:
            yield el("p", words("training", model=model.name), spoken(model.training, words.lang))


def _budgets(service: Service, words: NoticeWords) -> Iterator[Html]:
    if not service.budgets:
        yield el("p", words("no_budget"))
        return
    yield el("ul", *(el("li", *_budget(budget, words)) for budget in service.budgets))


def _budget(budget: BudgetLine, words: NoticeWords) -> Iterator[Html]:
    told = [words("limit", limit=_limit(budget.limit, words), per=words(budget.per))]
    told += [words("keyed", words(key)) for key in budget.key]
    yield join(", ".join(told), None if budget.enforced else words("watched"), ".")
    if not budget.enforced or budget.refused is None or budget.degraded is None:
        return  # a limit that is only watched holds nobody back
    acted = budget.refused or budget.degraded
    counts = (words(f"acted_{name}", n=whole(n, words.lang)) for name in ("refused", "degraded") if (n := getattr(budget, name)))
    yield join(" ", words("acted", what=words("and").join(counts)) if acted else words("not_acted"), ".")


def _limit(limit: str, words: NoticeWords) -> str:
    """``"60 requests"`` in the reader's words: "60 demandes"; a unit that nobody put into words stays as it was declared."""
    found = _QUANTITY.match(limit)
    number, unit = found.groups() if found else ("", limit)
    shown = number.replace(".", ",") if words.lang == "fr" else number
    said = words(f"limit_{unit}") if words.known(f"limit_{unit}") else unit
    return f"{shown}\u00a0{said}".lstrip()


def _people(of: Declaration, service: Service, words: NoticeWords) -> Iterator[Html]:
    lang, answerable = words.lang, of.organisation.answerable
    if answerable:
        yield el("p", words("answerable"), spoken(answerable, lang))
    else:
        yield el("p", words("answerable_unknown"))
    if service.human_alternative:
        yield el("p", words("alternative"), spoken(service.human_alternative, lang))
    if service.human_alternative_url:
        yield el("p", el("a", words("alternative_link"), href=service.human_alternative_url))
    if not service.human_alternative and not service.human_alternative_url:
        yield el("p", words("people_unknown"))
    if of.organisation.contact:
        yield el("p", words("contact"), _contact(of.organisation.contact))


def _contact(told: str) -> Html | str:
    return el("a", told, href=f"mailto:{told}") if "@" in told and " " not in told else told


def _foot(of: Declaration, service: Service, words: NoticeWords, document: str | None) -> Html:
    lang = words.lang
    links = [(document, "document"), (service.impact_study_url, "study"), (service.rgesn_url, "design")]
    lines = [
        el("p", words("dated", declared=day(of.declared_at, lang), until=day(of.valid_until, lang))),
        *(el("p", el("a", words(key), href=address)) for address, key in links if address),
        el("p", words("licence", words(of.licence) if words.known(of.licence) else of.licence)),
    ]
    if service.method.ids:
        lines.append(el("p", words("method", ", ".join(service.method.ids))))
    return el("footer", *lines)
