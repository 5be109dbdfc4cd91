"""``doctor``'s diagnosis for people: calm, 80 columns wide, the same with and without a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..exporters.page_texts import Lang
from ..records import Interval
from ..sources.findings import Finding
from ..sources.watts import ASSUMPTIONS
from .advice import COMMANDS, SETTINGS
from .diagnosis import MEASURED, MODELLED_ONLY, Diagnosis, SourceLine
from .report_lines import budget_lines, carbon_lines
from .texts import Words

#: WCAG 2.1, success criterion 1.4.8 (2018): lines of at most 80 characters
WIDTH = 80
#: stands for a space that must not end a line, until the lines are made: rich breaks at no-break spaces too
_HELD = "\ue000"
_VERDICTS = {MEASURED: ("verdict_measured", "bold green"), MODELLED_ONLY: ("verdict_modelled", "bold yellow")}


def show(diagnosis: Diagnosis, words: Words) -> None:
    """The report on standard output, at most `WIDTH` columns wide, without colours unless it is a terminal."""
    width = min(WIDTH, Console().width)
    out = Console(highlight=False, markup=False, emoji=False, width=width)
    with out.capture() as report:
        Report(diagnosis, words, out).show()
    # tables fill their lines with spaces: of no use to a reader, in the way of diff and grep
    print("\n".join(line.rstrip() for line in report.get().replace(_HELD, " ").splitlines()))


class Report:
    """Prints a `Diagnosis` in one language."""

    def __init__(self, diagnosis: Diagnosis, words: Words, out: Console) -> None:
        self._d, self._words, self._out = diagnosis, words, out

    def show(self) -> None:
        """The whole report."""
        words, d = self._words, self._d
        self._out.print(Text.assemble(("frugal-meter doctor", "bold"), f" {d.version} · {words('doctor')}"))
        self._verdict()
        self._section("machine", self._machine())
        self._section("energy", None)
        self._out.print(self._watts())
        self._print_pairs(self._energy())
        self._section("carbon", carbon_lines(d, words))
        self._section("budgets", budget_lines(d.budgets, words))
        self._section("improve", None)
        self._advice()

    def _verdict(self) -> None:
        d, words = self._d, self._words
        key, style = _VERDICTS.get(d.exit_code, ("verdict_unusable", "bold red"))
        if d.required_missing is not None:
            says = words("says_required", source=d.required_missing)
        elif d.exit_code == MEASURED:
            measured = ", ".join(dict.fromkeys(words(f"component_{s.component}") for s in d.sources if s.tier == "measured"))
            share = words("share_unknown") if d.measured_share is None else words.percent(d.measured_share)
            says = words("says_measured", measured=measured, share=share, tier=words.tier(d.tier))
        else:
            says = words("says_modelled" if d.exit_code == MODELLED_ONLY else "says_unknown_cpu")
        self._out.print()
        self._out.print(Text.assemble((words(key), style), ". ", _held(says)))

    # -- parts: pairs of a label and a text

    def _machine(self) -> Iterable[tuple[str, str]]:
        words, cpu, host = self._words, self._d.cpu, self._d.host
        threads = words("threads_1") if cpu.threads == 1 else words("threads", n=cpu.threads)
        relation = "declared" if cpu.known and cpu.relation == "unknown" else cpu.relation
        names = [cpu.name or words("unknown"), *([cpu.microarchitecture] if cpu.relation != "unknown" else [])]
        virtual = [words("virtual")] if cpu.virtual else []
        yield words("cpu"), ", ".join([*names, threads, *virtual, words(f"relation_{relation}")])
        yield words("cpu_time"), words(f"scope_{host.cpu_scope}", n=host.threads)
        quota = words("quota_none") if host.quota_cpus is None else words("quota_cpus", n=words.number(host.quota_cpus))
        yield words("quota"), quota
        yield words("slice"), words(f"slice_{host.slice_origin}", share=words.percent(host.slice))

    def _watts(self) -> Padding:
        words = self._words
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="", pad_edge=False)
        for key in ("component", "tier", "idle", "full", "now"):
            table.add_column(words(key))
        for source in self._d.sources:
            table.add_row(
                self._component(source), words.tier(source.tier), self._idle_of(source), self._full_of(source),
                self._now_of(source),
            )  # fmt: skip
        if self._d.total_now_w is not None:
            table.add_row(words("total"), words.tier(self._d.tier), "", "", self._two_lines(self._d.total_now_w))
        return Padding(table, (0, 0, 0, 2))

    def _component(self, source: SourceLine) -> str:
        """The component in a word, with its number (or the start of its UUID) where there are several."""
        word = self._words(f"component_{source.component}")
        twins = sum(other.component == source.component for other in self._d.sources)
        return f"{word} {source.covers[0].partition(':')[2][:8]}" if twins > 1 else word

    def _idle_of(self, source: SourceLine) -> str:
        idle = next(each for each in self._d.idle if each.source == source.name)
        return self._words("unknown") if idle.watts is None else self._two_lines(idle.watts)

    def _full_of(self, source: SourceLine) -> str:
        return self._words("full_sensor") if source.full_w is None else self._two_lines(source.full_w)

    def _now_of(self, source: SourceLine) -> str:
        if source.now_w is None:
            return self._words(f"now_{source.now_unknown}")
        return self._two_lines(source.now_w)

    def _two_lines(self, watts: Interval) -> str:
        return f"{self._words.figure(watts.mid, 'W', watts)}\n{self._words.bounds(watts, 'W')}"

    def _energy(self) -> Iterable[tuple[str, str]]:
        words, d = self._words, self._d
        if any(source.component == "board" for source in d.sources):
            yield "", words("rest_means")
        for origin, components in self._baselines().items():
            yield words("idle_baseline"), f"{', '.join(components)}{words.colon} {words(f'idle_{origin}')}"
        yield words("method"), d.method_id
        for source in d.sources:
            yield words("origins"), source.provenance
        for flag in dict.fromkeys(flag for source in d.sources for flag in source.flags):
            yield words("assumptions"), ASSUMPTIONS[flag][words.lang] if flag in ASSUMPTIONS else flag

    def _baselines(self) -> dict[str, list[str]]:
        """Where idle watts come from, and the components that take theirs from there."""
        sensors = {source.name for source in self._d.sources if source.tier == "measured"}
        by: dict[str, list[str]] = {}
        for idle in self._d.idle:
            origin = "until" if idle.origin == "modelled" and idle.source in sensors else idle.origin
            component, known = self._words(f"component_{idle.component}"), by.setdefault(origin, [])
            known += [] if component in known else [component]
        return by

    def _advice(self) -> None:
        if not self._d.findings:
            self._out.print(Text(f"  {self._words('improve_none')}"))
        for finding, places in _grouped(self._d.findings):
            what, remedy = localised(finding, self._words.lang)
            self._bullet(f"{what} ({', '.join(places)})")
            self._indented(Text(_held(remedy)), 4)
            command, setting = COMMANDS.get(finding.code), SETTINGS.get(finding.code)
            if setting is not None:
                self._indented(Text(self._words("in_file")), 4)
            if command or setting:
                # one line as it is to be typed, never wrapped
                self._out.print(Text(f"      {command or setting}", style="bold"), soft_wrap=True)

    def _bullet(self, text: str) -> None:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row("•", Text(_held(text)))
        self._out.print(Padding(grid, (0, 0, 0, 2)))

    def _indented(self, text: Text, columns: int) -> None:
        self._out.print(Padding(text, (0, 0, 0, columns)))

    # -- frame

    def _section(self, key: str, pairs: Iterable[tuple[str, str]] | None) -> None:
        self._out.print()
        self._out.print(Text(self._words(key), style="bold"))
        self._print_pairs(pairs or ())

    def _print_pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(min_width=16, overflow="fold")
        table.add_column(overflow="fold")
        last = None
        for label, text in pairs:
            table.add_row(Text("" if label == last else label), Text(_held(text)))
            last = label
        if table.row_count:
            self._out.print(Padding(table, (0, 0, 0, 2)))


def localised(finding: Finding, lang: Lang) -> tuple[str, str]:
    """What and remedy of a finding, in one language."""
    return (finding.what_fr, finding.remedy_fr) if lang == "fr" else (finding.what, finding.remedy)


def _held(text: str) -> str:
    """French double punctuation stays with its word (Imprimerie nationale, Lexique, 2002)."""
    return re.sub(" (?=[;:?!»])|(?<=«) ", _HELD, text)


def _grouped(findings: Iterable[Finding]) -> Iterable[tuple[Finding, list[str]]]:
    """Findings in their order; those that say the same of several places once, with all their places."""
    places: dict[tuple[str, str, str], list[str]] = {}
    first: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        said = finding.code, finding.what, finding.remedy
        first.setdefault(said, finding)
        places.setdefault(said, []).append(finding.where)
    return [(finding, places[said]) for said, finding in first.items()]
