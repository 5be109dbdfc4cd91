"""Pieces of a drawing: shapes and words that carry their own colours, so that they are right in a page, on paper and in a PDF.

A style sheet may repaint them by class (a dark page does); where none reaches, what is written on the shape holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..exporters.page_markup import Html, el, join

INK: Final = "#1b222c"
SOFT: Final = "#505a67"
RULE: Final = "#d8d4ca"
ACCENT: Final = "#12507b"
PAPER: Final = "#ffffff"
#: the page's own; a drawing inside a PDF does not inherit it
FONTS: Final = "Inter, 'Source Sans 3', 'Liberation Sans', 'DejaVu Sans', Arial, sans-serif"
#: mean width of a character, as a part of the font size: to keep words apart without measuring them
CHARACTER: Final = 0.56


class Drawing(NamedTuple):
    """A drawing ``width`` × ``height``, to be shown at that size or smaller; ``body`` is what is in it."""

    width: float
    height: float
    body: Html


def picture(drawing: Drawing, *, id: str, title: str, desc: str, class_: str) -> Html:
    """``<svg role="img">`` with a name and a description; the data stand in a table beside it."""
    return el(
        "svg",
        el("title", title, id=f"{id}-title"),
        el("desc", desc, id=f"{id}-desc"),
        drawing.body,
        id=id,
        class_=class_,
        viewBox=f"0 0 {n(drawing.width)} {n(drawing.height)}",
        width=n(drawing.width),
        height=n(drawing.height),
        role="img",
        aria_labelledby=f"{id}-title",
        aria_describedby=f"{id}-desc",
        xmlns="http://www.w3.org/2000/svg",
        font_family=FONTS,
    )


def n(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0").replace("-0", "0") if abs(value) < 0.05 else f"{value:.1f}".removesuffix(".0")


def line(x1: float, y1: float, x2: float, y2: float, *, class_: str = "line", colour: str = SOFT, width: float = 1) -> Html:
    """A stroke."""
    return el("line", x1=n(x1), y1=n(y1), x2=n(x2), y2=n(y2), stroke=colour, stroke_width=n(width), class_=class_)


def words(
    x: float, y: float, said: str, *, anchor: str = "start", size: float = 13, bold: bool = False, soft: bool = False
) -> Html:
    """One line of text on the baseline ``y``."""
    return el(
        "text",
        said,
        x=n(x),
        y=n(y),
        text_anchor=None if anchor == "start" else anchor,
        font_size=n(size),
        font_weight="600" if bold else None,
        fill=SOFT if soft else INK,
        class_="soft" if soft else "ink",
    )


def rectangle(x: float, y: float, width: float, height: float, *, class_: str, fill: str, stroke: str = INK) -> Html:
    """A box."""
    return el(
        "rect", x=n(x), y=n(y), width=n(width), height=n(height), fill=fill, stroke=stroke, stroke_width="1.2", class_=class_
    )


def diamond(x: float, y: float, size: float = 7.5) -> Html:
    """The mark of a variant on the front: a full diamond."""
    d = f"M{n(x - size)} {n(y)}L{n(x)} {n(y - size)}L{n(x + size)} {n(y)}L{n(x)} {n(y + size)}Z"
    return el("path", d=d, fill=ACCENT, stroke=PAPER, stroke_width="1", class_="full")


def ring(x: float, y: float, size: float = 6) -> Html:
    """The mark of a variant behind the front: an open circle."""
    return el("circle", cx=n(x), cy=n(y), r=n(size), fill=PAPER, stroke=INK, stroke_width="2", class_="open")


def whisker(x1: float, y1: float, x2: float, y2: float, *, cap: float = 4) -> Html:
    """An interval, level or upright, with a cap at either end."""
    over = (0.0, cap) if y1 == y2 else (cap, 0.0)
    ends = ((x1, y1), (x2, y2))
    caps = [line(x - over[0], y - over[1], x + over[0], y + over[1], colour=INK, class_="strong") for x, y in ends]
    return join(line(x1, y1, x2, y2, colour=INK, class_="strong", width=1.4), *caps)
