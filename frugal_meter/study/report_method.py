"""How it was measured, with which factors, how to compute it again, and how to cite it."""

from __future__ import annotations

from collections.abc import Iterator

from ..carbon.factors import Factor
from ..exporters.page_figures import count, figure, percent, tier_words
from ..exporters.page_markup import Html, el, join
from ..exporters.page_texts import word
from ..records import Interval
from .report_citation import bibtex
from .report_texts import said_of
from .report_view import View, facts, table
from .report_words import amount_of, listed, plain
from .results import Machine

COMMAND = "python3 -I -S recompute.py"
#: seconds in the year that lives of hardware are told in (365 days: SCI's own example)
_YEAR_S = 31_536_000
EQUATIONS = range(1, 8)


def method(view: View) -> Html:
    """The protocol, the machine, the equations and the identifiers."""
    return join(
        el("h3", view.say("method_steps")),
        facts(_protocol(view)),
        el("h3", view.say("equations"), id="equations"),
        _equations(view),
        el("h3", view.say("method_ids")),
        el("ul", *(el("li", el("code", id)) for id in view.study.method_ids)),
        el("p", view.say("method_where"), class_="note"),
    )


def _protocol(view: View) -> Iterator[tuple[str, str | None]]:
    told, lang = view.study.protocol, view.lang
    load = None
    if told.requests is not None:
        figures = (count(each, lang) for each in (told.requests, told.concurrency, told.warm_up))
        load = view.phrase("load_said", *figures)
        load = join(load, f" ({told.load})") if told.load else load
    rest = None if told.baseline_s is None else view.say("baseline_said", figure(told.baseline_s, "s", lang))
    yield view.say("load"), load
    yield view.say("repetitions"), None if told.repetitions is None else str(told.repetitions)
    yield view.say("order"), None if told.seed is None else view.say("order_said", str(told.seed))
    yield view.say("baseline"), rest
    yield view.say("judge"), join(el("code", told.judge), f" ({told.metric})") if told.judge else view.say("none")
    yield view.say("machine"), _machine(view, view.study.machine)
    share = view.study.machine.host_share
    yield view.say("host_share"), None if share is None else percent(share, lang)
    yield view.say("sensors"), _sensors(view)


def _machine(view: View, machine: Machine) -> str:
    cpus = view.say("unknown") if machine.cpus is None else str(machine.cpus)
    memory = view.say("unknown") if machine.memory_gib is None else plain(machine.memory_gib, view.lang, 3)
    return view.say("machine_said", machine.cpu or view.say("cpu_unknown"), cpus, memory, machine.system)


def _sensors(view: View) -> Html:
    said = [
        join(el("code", each.source), f" ({word('component', each.component, view.lang)}, {tier_words(each.tier, view.lang)})")
        for each in view.study.machine.sensors
    ]
    return listed(said, view.lang) if said else join(view.say("none"))


def _equations(view: View) -> Html:
    listed_here = el("ol", *(el("li", view.say(f"eq_{number}")) for number in EQUATIONS))
    return join(listed_here, el("p", view.say("equations_said"), class_="note"))


def data(view: View) -> Html:
    """Factors and constants, each with year, licence and source."""
    study = view.study
    swept = (s.factor for s in study.sensitivity if s.factor is not None)
    factors = {f.id: f for f in (*study.factors, *swept)}
    heads = [view.say(key) for key in ("factor", "value", "year", "perimeter", "licence")]
    heads[1] = f"{heads[1]} (gCO₂e/kWh)"
    own = {f.id for f in study.factors}
    rows = ((_factor_name(view, f, f.id in own), _factor(view, f, heads)) for f in factors.values())
    bare = el("p", view.say("embodied_none")) if study.embodied is None else None
    return join(table(view.say("factors_caption"), heads, rows, class_="factors"), _constants(view), bare)


def _factor_name(view: View, factor: Factor, own: bool) -> Html:
    badge = el("span", view.say("in_force"), class_="badge") if own else None
    said = el("span", f"{factor.dataset} {factor.version}, {factor.zone_name}", class_="note")
    return join(el("code", factor.id, class_="name"), badge, said)


def _factor(view: View, factor: Factor, heads: list[str]) -> list[Html]:
    kinds = [f"scope_{factor.scope}", f"basis_{factor.basis}", *([f"mix_{factor.mix}"] if factor.mix else [])]
    return [
        view.cell(heads[1], amount_of(factor.grams_per_kwh, "", view.lang)),
        view.text_cell(heads[2], str(factor.year)),
        view.text_cell(heads[3], ", ".join(view.say(kind) for kind in kinds)),
        view.text_cell(heads[4], view.english(factor.licence), view.english(factor.source)),
    ]


def _constants(view: View) -> Html:
    study = view.study
    heads = [view.say(key) for key in ("constant", "value", "source")]
    rows: list[tuple[str, Interval, str, str, str | None]] = [
        ("pue", study.pue.value, "", view.sourced(study.pue.source, study.pue.flags), None)
    ]
    if (made := study.embodied) is not None:
        source, years = view.sourced(made.source, made.flags), made.lifespan_s.times(1 / _YEAR_S)
        covers = view.say("covers", said_of("covers", made.covers, view.lang) or made.covers)
        rows += [("te", made.te_kg, "kgCO2e", source, covers), ("life", years, "years", source, None)]

    def cells(of: Interval, unit: str, source: str, more: str | None) -> list[Html]:
        return [view.cell(heads[1], *_range(view, of, unit)), view.text_cell(heads[2], source, more)]

    named = ((el("span", view.say(key), class_="name"), cells(of, unit, source, more)) for key, of, unit, source, more in rows)
    return table(view.say("others_caption"), heads, named, class_="three")


def _range(view: View, of: Interval, unit: str) -> tuple[str, ...]:
    mid = amount_of(of.mid, unit, view.lang)
    if of.low == of.high:
        return (mid,)
    return mid, view.say("ratio_bounds", *(amount_of(end, unit, view.lang, bare=True) for end in (of.low, of.high)))


def recompute(view: View) -> Html:
    """The command, the hashes that it checks, and the versions."""
    heads = [view.say("file"), "SHA-256"]
    seals = ((el("code", s.name), [view.cell("SHA-256", el("code", _spaced(s.sha256), class_="hash"))]) for s in view.seals)
    hashes = table(view.say("hashes_caption"), heads, seals, class_="hashes") if view.seals else el("p", view.say("no_seals"))
    program = [view.say("program"), view.say("version")]
    versions = ((el("code", name), [view.cell(program[1], el("code", v))]) for name, v in view.study.versions.items())
    return join(
        el("p", view.say("recompute_said")),
        el("pre", el("code", COMMAND), tabindex="0"),
        hashes,
        table(view.say("versions_caption"), program, versions, class_="two"),
    )


def _spaced(sha256: str) -> Html:
    """A hash that may break between its eighths; copied, it is whole."""
    eighths = [sha256[i : i + 8] for i in range(0, len(sha256), 8)]
    return join(eighths[0], *(part for each in eighths[1:] for part in (Html("<wbr>"), each)))


def cite(view: View) -> Html:
    """The references to copy."""
    return join(el("p", view.say("cite_said")), el("pre", el("code", bibtex(view.study, view.seals)), tabindex="0"))
