"""A study as one reader is shown it: in a language, with what must not be published taken out, and the tables all alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from ..exporters.page_markup import Html, cell, el, join, notes, row, row_head
from ..exporters.page_texts import Lang, typeset
from ..periods import public
from .report_texts import TEXTS, say
from .results import Comparison, Cost, Study, Variant

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Seal(NamedTuple):
    """A file that the report is made from: its name in the study's folder and its SHA-256 in hexadecimal."""

    name: str
    sha256: str


def fit_for_publication(study: Study) -> tuple[Study, frozenset[str]]:
    """``study`` without the figures of variants that too few requests made (`periods.public`), and the names of those."""
    few = frozenset(v.name for v in study.variants if public(v.load) is None)
    if not few:
        return study, few
    held = msgspec.structs.replace(
        study,
        variants=tuple(_without_figures(v) if v.name in few else v for v in study.variants),
        comparisons=tuple(c for c in study.comparisons if not {c.variant, c.reference} & few),
        pareto=tuple(p for p in study.pareto if p.variant not in few),
        sensitivity=tuple(s for s in study.sensitivity if s.variant not in few),
    )
    return held, few


def _without_figures(variant: Variant) -> Variant:
    nothing = dict.fromkeys(
        ("in_use", "tested", "while_it_ran_j", "year", "idle_share", "standing_w", "start_cost", "quality", "latency", "spread_j")
    )
    return msgspec.structs.replace(variant, **nothing, repetitions=(), why_failed=())


class View:
    """``study`` in ``lang``; ``seals`` are the files it was read from."""

    def __init__(self, study: Study, lang: Lang, seals: Sequence[Seal] = ()) -> None:
        self.study, self.withheld = fit_for_publication(study)
        self.lang, self.seals = lang, tuple(seals)

    def say(self, key: str, *parts: str) -> str:
        """The text of ``key``, its blanks filled with plain text."""
        return say(key, self.lang, *parts)

    def phrase(self, key: str, *parts: str) -> Html:
        """The text of ``key``, its blanks filled in order with markup or text; text is escaped."""
        pieces = TEXTS[self.lang][key].split("{}")
        assert len(pieces) == len(parts) + 1, f"{key}: {len(pieces) - 1} blanks, {len(parts)} parts"
        return join(pieces[0], *(each for pair in zip(parts, pieces[1:], strict=True) for each in pair))

    @property
    def theirs_lang(self) -> str | None:
        """The ``lang`` attribute of what the team wrote; None where it is the page's own."""
        return None if self.study.lang == self.lang else self.study.lang

    def theirs(self, text: str) -> Html:
        """What the team wrote, marked with its language where that is another."""
        said = self.typed(text)
        return join(said) if self.theirs_lang is None else el("span", said, lang=self.theirs_lang)

    def english(self, text: str) -> Html:
        """What published data say of themselves; our tables keep it in English."""
        return join(text) if self.lang == "en" else el("span", text, lang="en")

    def sourced(self, text: str, flags: Sequence[str]) -> Html:
        """Who says so: our own table where a flag tells of a default, else the team."""
        return self.english(text) if any(flag.endswith(":default") for flag in flags) else self.theirs(text)

    def typed(self, text: str) -> str:
        """What the team wrote, its French punctuation held to its word: keyboards have no key for that space."""
        return typeset(text) if self.study.lang == "fr" else text

    def quoted(self, text: str) -> Html:
        """The same between quotation marks."""
        return self.phrase("quote", self.theirs(text))

    def passage(self, text: str) -> Html:
        """A longer text of the team, as a quotation of its own."""
        return el("blockquote", el("p", self.typed(text)), lang=self.theirs_lang)

    # -- variants

    @cached_property
    def letters(self) -> dict[str, str]:
        """A letter for each variant, to find it again in plots."""
        return {variant.name: LETTERS[place % 26] for place, variant in enumerate(self.study.variants)}

    def named(self, variant: Variant) -> Html:
        """A variant with its letter, as it heads a row."""
        letter = el("span", self.letters[variant.name], class_="letter")
        return join(letter, " ", el("span", self.theirs(variant.title), class_="name"))

    def title(self, name: str) -> Html:
        """The title of the variant called ``name``, between quotation marks."""
        return self.quoted(self.find(name).title)

    def find(self, name: str) -> Variant:
        """The variant called ``name``."""
        return next(v for v in self.study.variants if v.name == name)

    @cached_property
    def reference(self) -> Variant:
        """What the study is about: what the others are compared with, else the first AI, else the first of all."""
        named = self.study.comparisons[0].reference if self.study.comparisons else None
        first = next((v for v in self.study.variants if v.kind == "ai"), self.study.variants[0])
        return first if named is None else self.find(named)

    @cached_property
    def alternatives(self) -> tuple[Comparison, ...]:
        """Comparisons with the reference, the variant without AI first, then the others as they stand."""
        kinds = {v.name: v.kind for v in self.study.variants}
        return tuple(sorted(self.study.comparisons, key=lambda c: kinds[c.variant] != "no-ai"))

    def cited(self, variant: Variant) -> Cost | None:
        """The figure to cite: over the year where its use is declared, else as tested."""
        return variant.in_use if self.study.use is not None and variant.in_use is not None else variant.tested

    @property
    def basis(self) -> str:
        """What `cited` stands on: ``year``, ``test``, or ``period`` for a service as it ran."""
        if self.study.use is not None and any(v.in_use is not None for v in self.study.variants):
            return "year"
        return "period" if self.study.origin == "journal" else "test"

    # -- pieces

    def cell(self, head: str, *shown: str | None) -> Html:
        """A cell: the figure, and its notes under it."""
        return cell(head, el("span", shown[0] or "", class_="amount"), notes(*shown[1:]))

    def text_cell(self, head: str, said: str, *more: str | None) -> Html:
        """A cell of running text, and its notes under it."""
        return cell(head, el("span", said, class_="text"), notes(*more))

    def heading(self, id: str, number: int) -> Html:
        """The heading of a section."""
        return el("h2", f"{number}. ", self.say(id), id=id)


def table(caption: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[Html]]], *, class_: str | None = None) -> Html:
    """A table with a caption and headed columns; each of ``rows`` is its name and its cells."""
    body = [row(row_head(name), *cells) for name, cells in rows]
    columns = (el("th", head, scope="col", role="columnheader") for head in heads)
    return el(
        "table",
        el("caption", caption),
        el("thead", el("tr", *columns, role="row"), role="rowgroup"),
        el("tbody", *body, role="rowgroup"),
        role="table",
        class_=class_,
    )


def facts(pairs: Iterable[tuple[str, str | None]]) -> Html:
    """A list of terms and what is said of each; those of which nothing is said are left out."""
    told = [(term, said) for term, said in pairs if said]
    return el("dl", *(part for term, said in told for part in (el("dt", term), el("dd", said))), class_="facts")


def bullets(items: Iterable[str]) -> Html:
    """A plain list."""
    return el("ul", *(el("li", each) for each in items))
