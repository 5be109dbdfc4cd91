"""The report as one page: everything in it, nothing from outside, no script. On paper and in a PDF it is the same page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Final

from ..exporters.page_frame import PALETTE, policy
from ..exporters.page_markup import Html, contact_link, el, join
from ..exporters.page_texts import LANGUAGES, Lang
from .report_answer import answer
from .report_method import cite, data, method, recompute
from .report_practices import practices
from .report_results import compared, pareto, results
from .report_scope import counted, limits, rebound, upstream
from .report_sensitivity import sensitivity
from .report_view import View
from .report_words import date

#: the order in which a decider reads; each is headed by the text of its name
SECTIONS: Final[dict[str, Callable[[View], Html]]] = {
    "answer": answer,
    "compared": compared,
    "results": results,
    "pareto": pareto,
    "sensitivity": sensitivity,
    "counted": counted,
    "upstream": upstream,
    "rebound": rebound,
    "limits": limits,
    "method": method,
    "data": data,
    "recompute": recompute,
    "cite": cite,
    "practices": practices,
}
_HERE: Final = Path(__file__).parent
_PAGE: Final = Template((_HERE / "report.html").read_text(encoding="utf-8"))
_STYLE: Final = PALETTE + (_HERE / "report.css").read_text(encoding="utf-8")


def page(view: View, *, other: str | None = None) -> str:
    """The whole page; ``other`` is the address of the one in the other language, beside it."""
    study = view.study
    style = _STYLE.replace("$footer", _css(f"{study.title} – {view.say('page')} "))
    return _PAGE.substitute(
        lang=view.lang,
        policy=join(policy(style)),
        style=style,
        title=join(study.title),
        author=join(study.organisation or study.author or study.service),
        description=join(view.say("kind"), ", ", study.service),
        date=study.made_at[:10],
        skip=join(view.say("skip")),
        head=_head(view, other),
        contents=_contents(view),
        sections=join(*_sections(view)),
        foot=_foot(view),
    )


def _css(text: str) -> str:
    """``text`` as the inside of a CSS string."""
    return "".join(c if c.isalnum() or c in " ,.’–-" else f"\\{ord(c):x} " for c in text)


def _head(view: View, other: str | None) -> Html:
    study = view.study
    lang: Lang = next(each for each in LANGUAGES if each != view.lang)
    switch = None if other is None else el("a", view.say("other_language"), href=other, lang=lang, hreflang=lang, class_="switch")
    who = [view.phrase("by", view.theirs(each)) for each in (study.author,) if each]
    if study.organisation:
        who.append(view.theirs(study.organisation))
    told = [view.say(f"origin_{study.origin}"), join(view.say("ended"), date(study.made_at, view.lang)), *who]
    return join(
        el("p", el("span", view.say("kind")), switch, class_="top"),
        el("h1", view.typed(study.title), lang=view.theirs_lang),
        el("p", view.phrase("service", el("strong", study.service)), class_="context"),
        el("p", *_dotted(told), class_="context"),
    )


def _dotted(parts: list[str]) -> list[str]:
    return [piece for place, part in enumerate(parts) for piece in ([" · ", part] if place else [part])]


def _contents(view: View) -> Html:
    items = (el("li", el("a", view.say(name), href=f"#{name}")) for name in SECTIONS)
    return el("nav", el("h2", view.say("contents"), id="contents"), el("ol", *items), aria_labelledby="contents")


def _sections(view: View) -> list[Html]:
    return [
        el("section", view.heading(name, number), draw(view), aria_labelledby=name, class_=name)
        for number, (name, draw) in enumerate(SECTIONS.items(), 1)
    ]


def _foot(view: View) -> Html:
    study = view.study
    contact = el("p", view.say("contact"), contact_link(study.contact)) if study.contact else None
    quoted = el("p", view.say(f"written_in_{study.lang}")) if view.theirs_lang else None
    return join(contact, el("p", view.say("made_with")), quoted)
