"""The report's two plots, each drawn for a wide page and for a narrow one: quality against energy, and the tornado."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from ..exporters.page_figures import figure
from ..exporters.page_markup import Html, el, join
from ..records import Interval
from .report_axes import Axis, axis, span
from .report_svg import (
    ACCENT,
    CHARACTER,
    INK,
    PAPER,
    RULE,
    Drawing,
    diamond,
    line,
    n,
    picture,
    rectangle,
    ring,
    whisker,
    words,
)  # fmt: skip
from .report_view import View
from .report_words import amount_of, plain, score
from .results import Lever, Point, Scenario

#: widths of a plot, in CSS pixels: on a page or on paper, and on a telephone; each is shown where it fits
WIDE: Final = 760.0
SMALL: Final = 288.0
#: characters of a name beside its mark; the whole of it stands in the table
_LONGEST: Final = 36
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


class Scale(NamedTuple):
    """What the numbers of an axis are in: ``unit`` with its prefix, and how much of the base unit ``one`` of it is."""

    unit: str
    one: float


class Box(NamedTuple):
    """A rectangle of a drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point in common."""
        apart = self.right <= other.left or other.right <= self.left or self.bottom <= other.top or other.bottom <= self.top
        return not apart

    def holds(self, other: Box) -> bool:
        """Whether ``other`` lies inside."""
        inside = self.left <= other.left and other.right <= self.right
        return inside and self.top <= other.top and other.bottom <= self.bottom


def scale(largest: float, unit: str) -> Scale:
    """The prefix under which ``largest`` is 1…1000."""
    one, prefix = next(((o, p) for o, p in _PREFIXES if largest >= o), _PREFIXES[-1]) if largest > 0 else (1.0, "")
    return Scale(prefix + unit, one)


def _both(id: str, title: str, desc: str, draw: Callable[[float], Drawing]) -> Html:
    wide = picture(draw(WIDE), id=id, title=title, desc=desc, class_="plot wide")
    return join(wide, picture(draw(SMALL), id=f"{id}-small", title=title, desc=desc, class_="plot small"))


def _axis_said(view: View, key: str, unit: Scale, of: Axis) -> str:
    said = view.say(key, unit.unit)
    return view.say("axis_log", said) if of.logarithmic else said


def _tick(value: float, view: View) -> str:
    return amount_of(value, "", view.lang)


# -- quality against energy


def pareto_plot(view: View) -> Html:
    """Every variant with a score: a full diamond on the front, an open circle behind it, and its intervals."""
    points = view.study.pareto
    unit = scale(max(p.energy_j.mid for p in points), "J")
    across = axis([end / unit.one for p in points for end in (p.energy_j.low, p.energy_j.high)])
    up = span([end for p in points for end in (p.quality.low, p.quality.high)])
    desc = view.say(
        "pareto_desc",
        str(len(points)),
        view.say("scale_log" if across.logarithmic else "scale_linear"),
        score(up.low, view.lang),
        score(up.high, view.lang),
        ", ".join(view.find(p.variant).title for p in points if p.front) or view.say("none"),
    )
    return _both("pareto-plot", view.say("pareto_title"), desc, lambda width: _Pareto(view, width, across, up, unit).drawing())


class _Pareto:
    """The plot at one width."""

    def __init__(self, view: View, width: float, across: Axis, up: Axis, unit: Scale) -> None:
        self._view, self._across, self._up, self._unit = view, across, up, unit
        self._wide = width == WIDE
        self._size = 13.0 if self._wide else 12.0
        height = 380.0 if self._wide else 300.0
        self._whole = (width, height)
        self._area = Box(52.0, 30.0, width - 14.0, height - 52.0)

    def drawing(self) -> Drawing:
        """Frame, front, intervals, marks, names."""
        points = sorted(self._view.study.pareto, key=lambda p: p.energy_j.mid)
        front = self._front([p for p in points if p.front])
        bars = join(*(self._bars(p) for p in points))
        marks = join(*((diamond if p.front else ring)(*self._at(p)) for p in points))
        return Drawing(*self._whole, join(self._frame(), front, bars, marks, *self._names(points)))

    def _x(self, joules: float) -> float:
        return self._area.left + self._across.place(joules / self._unit.one) * (self._area.right - self._area.left)

    def _y(self, quality: float) -> float:
        return self._area.bottom - self._up.place(quality) * (self._area.bottom - self._area.top)

    def _at(self, point: Point) -> tuple[float, float]:
        return self._x(point.energy_j.mid), self._y(point.quality.mid)

    def _frame(self) -> Html:
        area, view, size = self._area, self._view, self._size
        parts: list[Html] = []
        for tick in self._across.ticks:
            x = self._x(tick * self._unit.one)
            parts.append(line(x, area.top, x, area.bottom, colour=RULE, class_="grid"))
            parts.append(words(x, area.bottom + 18, _tick(tick, view), anchor="middle", size=size, soft=True))
        for tick in self._up.ticks:
            y = self._y(tick)
            parts.append(line(area.left, y, area.right, y, colour=RULE, class_="grid"))
            parts.append(words(area.left - 8, y + size / 3, score(tick, view.lang), anchor="end", size=size, soft=True))
        middle = (area.left + area.right) / 2
        parts.append(
            words(middle, area.bottom + 42, _axis_said(view, "axis_j", self._unit, self._across), anchor="middle", size=size)
        )
        parts.append(words(8, area.top - 14, view.say("axis_quality"), size=size))
        return join(*parts)

    def _front(self, points: Sequence[Point]) -> Html:
        places = [self._at(p) for p in points]
        if len(places) < 2:
            return join()
        path = f"M{n(places[0][0])} {n(places[0][1])}" + "".join(f"H{n(x)}V{n(y)}" for x, y in places[1:])
        return el("path", d=path, fill="none", stroke=ACCENT, stroke_width="1.5", stroke_dasharray="5 4", class_="front")

    def _bars(self, point: Point) -> Html:
        x, y = self._at(point)
        level = whisker(self._x(point.energy_j.low), y, self._x(point.energy_j.high), y)
        return join(level, whisker(x, self._y(point.quality.low), x, self._y(point.quality.high)))

    def _names(self, points: Sequence[Point]) -> list[Html]:
        taken = [self._around(p) for p in points]
        taken += [bar for p in points for bar in self._reach(p)]
        taken += self._steps([self._at(p) for p in points if p.front])
        drawn = []
        for point in points:
            said = self._said(point)
            spots = [self._spot(point, said, right, above) for above in (True, False) for right in (True, False)]
            free = [s for s in spots if self._area.holds(s[2]) and not any(s[2].meets(box) for box in taken)]
            x, y, box = (free or spots)[0]
            taken.append(box)
            drawn.append(words(x, y, said, anchor="start" if box.left == x else "end", size=self._size, bold=True))
        return drawn

    def _steps(self, places: Sequence[tuple[float, float]]) -> list[Box]:
        """The strokes of the front."""
        level = [Box(x, y - 2, then, y + 2) for (x, y), (then, _) in pairwise(places)]
        return level + [Box(x - 2, y, x + 2, before) for (_, before), (x, y) in pairwise(places)]

    def _said(self, point: Point) -> str:
        letter, title = self._view.letters[point.variant], self._view.find(point.variant).title
        short = title if len(title) <= _LONGEST else f"{title[: _LONGEST - 1].rstrip()}…"
        return f"{letter} {short}" if self._wide else letter

    def _around(self, point: Point) -> Box:
        x, y = self._at(point)
        return Box(x - 8, y - 8, x + 8, y + 8)

    def _reach(self, point: Point) -> tuple[Box, Box]:
        x, y = self._at(point)
        level = Box(self._x(point.energy_j.low), y - 2, self._x(point.energy_j.high), y + 2)
        return level, Box(x - 2, self._y(point.quality.high), x + 2, self._y(point.quality.low))

    def _spot(self, point: Point, said: str, right: bool, above: bool) -> tuple[float, float, Box]:
        x, y = self._at(point)
        x, y = x + (10 if right else -10), y - 10 if above else y + self._size + 8
        width = len(said) * self._size * CHARACTER
        left = x if right else x - width
        return x, y, Box(left, y - self._size, left + width, y + 3)


# -- the tornado


class _Bar(NamedTuple):
    """A lever's line: the smallest and the largest result, and the values that make them."""

    lever: Lever
    low: Scenario
    high: Scenario


def levers(view: View) -> list[_Bar]:
    """The levers that move the reference's grams per unit, the most telling first."""
    found: dict[Lever, list[Scenario]] = {}
    for each in view.study.sensitivity:
        if each.variant == view.reference.name and _comparable(view, each):
            found.setdefault(each.lever, []).append(each)
    ends = ((lever, sorted(lines, key=lambda s: s.per_unit_g.mid)) for lever, lines in found.items() if len(lines) > 1)
    bars = [_Bar(lever, lines[0], lines[-1]) for lever, lines in ends]
    return sorted(bars, key=lambda b: b.low.per_unit_g.mid - b.high.per_unit_g.mid)


def _comparable(view: View, of: Scenario) -> bool:
    """Whether a factor counts what the one in force counts: combustion alone is not set beside a whole life cycle."""
    return of.factor is None or of.factor.scope in {factor.scope for factor in view.study.factors}


def tornado_plot(view: View, own: Interval) -> Html:
    """One bar per lever around ``own``, the study's own grams per unit."""
    bars = levers(view)
    unit = scale(own.mid, "gCO₂e")
    across = axis([b / unit.one for bar in bars for b in (bar.low.per_unit_g.mid, bar.high.per_unit_g.mid)])
    title = view.say("tornado_title", view.reference.title)
    names = [view.say(f"lever_{b.lever}") for b in bars]
    ends = (
        view.say("tornado_bar", name, _grams(b.low, unit, view), _grams(b.high, unit, view))
        for name, b in zip(names, bars, strict=True)
    )
    desc = view.say("tornado_desc", view.say("semicolon").join(ends), figure(own.mid, "gCO2e", view.lang, own))
    return _both("tornado-plot", title, desc, lambda width: _tornado(view, width, bars, across, unit, own))


def _grams(of: Scenario, unit: Scale, view: View) -> str:
    return f"{plain(of.per_unit_g.mid / unit.one, view.lang)} {unit.unit}"


def _tornado(view: View, width: float, bars: Sequence[_Bar], across: Axis, unit: Scale, own: Interval) -> Drawing:
    # names stand beside the bars where there is room, above them where there is not
    beside = width == WIDE
    size, step, top, left, right = (13.0, 36.0, 36.0, 300.0, width - 84.0) if beside else (12.0, 54.0, 36.0, 66.0, width - 62.0)
    bottom = top + step * len(bars)

    def x(grams: float) -> float:
        return left + across.place(grams / unit.one) * (right - left)

    parts: list[Html] = []
    for tick in across.ticks:
        at = x(tick * unit.one)
        parts.append(line(at, top, at, bottom, colour=RULE, class_="grid"))
        parts.append(words(at, bottom + 18, _tick(tick, view), anchor="middle", size=size, soft=True))
    for place, bar in enumerate(bars):
        y = top + place * step + (8 if beside else 24)
        parts.append(words(0, y + (13 if beside else -7), view.say(f"lever_{bar.lever}"), size=size, bold=True))
        parts.append(_bar(view, bar, x(bar.low.per_unit_g.mid), x(own.mid), x(bar.high.per_unit_g.mid), y, size))
    said = view.say("own_value", figure(own.mid, "gCO2e", view.lang, own))
    parts.append(words(x(own.mid), top - 14, said, anchor="middle", size=size, bold=True))
    parts.append(words((left + right) / 2, bottom + 42, _axis_said(view, "axis_g", unit, across), anchor="middle", size=size))
    return Drawing(width, bottom + 54, join(*parts))


def _bar(view: View, bar: _Bar, low: float, own: float, high: float, y: float, size: float) -> Html:
    """Open below the study's own value, full above it, and the values of the assumption at the ends."""
    ends = [amount_of(s.value, s.value_unit, view.lang, bare=True) for s in (bar.low, bar.high)]
    return join(
        rectangle(low, y, min(own, high) - low, 18, class_="under", fill=PAPER) if own > low else None,
        rectangle(max(own, low), y, high - max(own, low), 18, class_="over", fill=ACCENT) if high > own else None,
        line(own, y - 5, own, y + 23, colour=INK, class_="strong", width=2),
        words(low - 7, y + 13, ends[0], anchor="end", size=size),
        words(high + 7, y + 13, ends[1], size=size),
    )
