"""The commands and their options; what each does is in its own module, imported when it runs."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ..config import DEFAULT_PATH
from ..errors import ConfigurationError, MissingExtraError, SourceError
from ..sources.host_root import Roots, host_roots
from .budget_commands import budget
from .clause_commands import clauses
from .dashboard_commands import dashboards
from .declaration_commands import declaration, harvest
from .journal_commands import journal
from .options import Config, Json, Language, config_file, one_line, say, settings_of
from .study_commands import study

# plain help and plain errors: one line each, and an ordinary traceback should this code itself be wrong
#: help lists what a newcomer runs first, then who needs what
_ORDER = (
    "doctor", "run", "budget", "explain", "compare", "journal", "study", "declaration", "harvest", "clauses",
    "factors", "calibrate", "agent", "dashboards", "version",
)  # fmt: skip


class _InOrder(typer.core.TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """The commands by `_ORDER`; one that it forgets comes last."""
        return sorted(super().list_commands(ctx), key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


app = typer.Typer(cls=_InOrder, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

Zone = Annotated[str | None, typer.Option(metavar="FR", help="Electricity zone of the machine; never guessed.")]
Sources = Annotated[str | None, typer.Option(metavar="auto|model|rapl|agent|codecarbon", help="What to read. [default: auto]")]
_Root = Annotated[Path | None, typer.Option(hidden=True)]


def _version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def frugal_meter(
    asked: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version, and exit.")] = False,
) -> None:
    """Compute, energy and carbon of each request of an AI service."""


@app.command(short_help="What this machine can measure, at which tier.")
@one_line
def doctor(
    zone: Zone = None,
    config: Config = None,
    sources: Sources = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of the report.")] = False,
    lang: Language = None,
    proc_root: _Root = None,
    sys_root: _Root = None,
    powercap_root: _Root = None,
) -> None:
    """What can be measured on this machine, at which tier, and what would improve it.

    Exit code: 0 measured, 1 modelled only, 2 not usable (unknown CPU without declared watts, a required source missing,
    or a setting that cannot be).
    """
    from .diagnosis import as_json as document
    from .gathering import diagnose
    from .texts import Words, language_of

    words = Words(language_of(lang))
    settings = settings_of(config, zone=zone, sources=sources)
    own = host_roots(settings.get("host_root"))
    roots = Roots(proc_root or own.proc, sys_root or own.sys, powercap_root or own.powercap, own.mounted)
    diagnosis = diagnose(settings.get("sources", "auto"), settings, roots)
    if as_json:
        print(document(diagnosis))
    else:
        try:
            from .report import show
        except ImportError:  # typer alone may be here without rich
            raise MissingExtraError("cli", "the report") from None
        show(diagnosis, words)
    raise typer.Exit(diagnosis.exit_code)


@app.command(short_help="Serve an ASGI application, metered, its code untouched.")
@one_line
def run(
    target: Annotated[str, typer.Argument(metavar="MODULE:APP", help="Any ASGI application, such as main:app.")],
    host: Annotated[str, typer.Option(help="Where the application listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0 takes a spare one.", min=0, max=65535)] = 8000,
    zone: Zone = None,
    service: Annotated[str | None, typer.Option(help="Name of the service. [default: the module's]")] = None,
    config: Config = None,
    ops: Annotated[str, typer.Option(help='Where live page and metrics listen; "off" for nowhere.')] = "127.0.0.1:9464",
    factory: Annotated[bool, typer.Option("--factory", help="APP is a function that returns the application.")] = False,
    workers: Annotated[int, typer.Option(help="Must be 1.")] = 1,
    lang: Language = None,
) -> None:
    """Serve an ASGI application, metered, without touching its code."""
    from ..loading import load_app
    from .serving import refuse_workers, serve
    from .texts import Words, language_of

    words = Words(language_of(lang))
    refuse_workers(workers)
    settings = settings_of(config, zone=zone, service=service)
    settings.setdefault("service", target.partition(":")[0].rpartition(".")[2])
    if settings.get("zone") is None:
        raise ConfigurationError(
            f"zone is required: give --zone FR (the grid that feeds this machine), or zone in {DEFAULT_PATH}; it is never guessed"
        )
    loaded = load_app(target, factory=factory)
    code = serve(loaded, settings, host=host, port=port, ops=ops, words=words, config=config_file(config))
    raise typer.Exit(code)


@app.command(short_help="Narrow the interval of shares: measure kinds of work here.")
@one_line
def calibrate(
    seconds: Annotated[float, typer.Option(help="How long to measure, about.", min=1, max=3600)] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of TOML.")] = False,
    lang: Language = None,
    proc_root: _Root = None,
    sys_root: _Root = None,
    powercap_root: _Root = None,
) -> None:
    """Measure how far CPU-seconds of different work lie apart in joules here: `frugal-meter calibrate > calibration.toml`.

    Exit code: 0 written to stdout, 1 nothing can be calibrated here (no sensor, or one that tells nothing), 2 bad input.
    """
    from .calibrating import calibrate as measured
    from .texts import Words, language_of

    words, own = Words(language_of(lang)), host_roots()
    roots = Roots(proc_root or own.proc, sys_root or own.sys, powercap_root or own.powercap)
    try:
        found = measured(roots, seconds, begin=lambda: say(words("calibrating", seconds=words.number(seconds))))
    except SourceError as error:
        say(error)
        if as_json:
            print(json.dumps({"exit_code": 1, "error": type(error).__name__, "message": str(error)}, ensure_ascii=False))
        raise typer.Exit(1) from None
    print(found.json() if as_json else found.toml(), end="")
    say(words("calibrated", low=words.number(found.key_low), high=words.number(found.key_high)))


@app.command(short_help="Read the host's sensors once, for all its services.")
@one_line
def agent(
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Unix socket for services. [default: /run/frugal-meter/agent.sock]")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Group whose users may open it. [default: its owner]")
    ] = None,
    tcp: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Listen here too, for services with a token.")] = None,
    tokens: Annotated[Path | None, typer.Option(metavar="FILE", help="Tokens by service, for --tcp.")] = None,
    metrics: Annotated[str, typer.Option(help='Where the host\'s /metrics listens; "off" for nowhere.')] = "127.0.0.1:9466",
    period: Annotated[float, typer.Option(help="Seconds between passes that nobody asked for, 0.1 to 60.")] = 1.0,
    state: Annotated[Path | None, typer.Option(metavar="FILE", help="Where counters are kept over a restart.")] = None,
    idle_watts: Annotated[list[str] | None, typer.Option(metavar="cpu=35", help="Measured idle watts; repeat it.")] = None,
    no_socket: Annotated[bool, typer.Option("--no-socket", help="No Unix socket; --tcp alone.")] = False,
    lang: Language = None,
    proc_root: _Root = None,
    sys_root: _Root = None,
    powercap_root: _Root = None,
) -> None:
    """Read this host's sensors once, for all its services: they need no rights of their own.

    Exit code: 0 stopped by a signal, 1 no sensor can be read here, 2 bad input.
    """
    from ..agent.running import Agent, Settings
    from ..sources.agent_protocol import SOCKET
    from .texts import Words, language_of

    words, own = Words(language_of(lang)), host_roots()
    settings = Settings(
        socket=None if no_socket else socket or SOCKET,
        group=group,
        tcp=tcp,
        tokens=tokens,
        metrics=None if metrics == "off" else metrics,
        metrics_token=os.environ.get("FRUGAL_OPS_TOKEN") or None,
        period_s=period,
        state=state,
        idle_watts=dict(map(_watts, idle_watts or ())),
        roots=Roots(proc_root or own.proc, sys_root or own.sys, powercap_root or own.powercap, own.mounted),
    )
    try:
        running = Agent(settings)
    except SourceError as error:
        say(error)
        raise typer.Exit(1) from None
    names = ", ".join(source.name for source in running.host.sources)
    running.run(lambda addresses: say(words("agent_serving", sources=names, addresses=", ".join(addresses))))


def _watts(given: str) -> tuple[str, float]:
    name, _, watts = given.partition("=")
    try:
        value = float(watts)
    except ValueError:
        value = -1.0
    if not name or not 0 <= value <= 1e5:
        raise ConfigurationError(f"--idle-watts {given!r}: write a component and its watts, such as cpu=35")
    return name, value


factors = typer.Typer(no_args_is_help=True, help="Emission factors: list, show, import, compare.")
app.add_typer(factors, name="factors")
app.add_typer(budget, name="budget")
app.add_typer(dashboards, name="dashboards")
app.add_typer(study, name="study")
app.add_typer(declaration, name="declaration")
app.command(short_help="Make an observatory of what many services declare.")(harvest)
app.add_typer(clauses, name="clauses")
app.add_typer(journal, name="journal")
Pack = Annotated[Path | None, typer.Option(metavar="FILE", help="A factor pack instead of the bundled tables.")]


@factors.command("list")
@one_line
def factors_list(
    zone: Annotated[
        str | None, typer.Option(metavar="FR", help="Every factor of one zone. [default: each zone's newest]")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="ember|electricity-maps", help="One bundled table only.")] = None,
    pack: Pack = None,
    every: Annotated[bool, typer.Option("--all", help="The whole list, however long.")] = False,
    as_json: Json = False,
    lang: Language = None,
) -> None:
    """The factors there are."""
    from .factors import as_json as document
    from .factors import listed, listing
    from .texts import Words, language_of

    words, found = Words(language_of(lang)), listed(zone, dataset, pack)
    print(document(found) if as_json else listing(found, words, every=every))


@factors.command("show")
@one_line
def factors_show(
    name: Annotated[str, typer.Argument(metavar="ID|ZONE", help='Such as "ember:FR:2024", or "FR" for the one in force.')],
    pack: Pack = None,
    as_json: Json = False,
    lang: Language = None,
) -> None:
    """One factor with all that citing it needs."""
    from .factors import as_json as document
    from .factors import found, show
    from .texts import Words, language_of

    words, one = Words(language_of(lang)), found(name, pack)
    print(document([one]) if as_json else show(one, words))


@factors.command("import", short_help="Make a factor pack of a table.")
@one_line
def factors_import(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A CSV file, as its publisher gives it out.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The manifest to write (.toml); its rows go beside it (.csv).")],
    dataset: Annotated[str, typer.Option(help="What the table is called: part of every figure's citation.")],
    licence: Annotated[str, typer.Option(help="Under which licence you hold it.")],
    source: Annotated[str, typer.Option(help="Who published it.")],
    shape: Annotated[str, typer.Option(metavar="plain|ademe|electricity-maps|supplier", help="Whose columns.")] = "plain",
    scope: Annotated[str, typer.Option(metavar="direct|lifecycle", help="What the figures count.")] = "",
    table_version: Annotated[str, typer.Option("--table-version", help="Its version, if it has one.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a pack of that name.")] = False,
    lang: Language = None,
) -> None:
    """Make a factor pack, with sha256, of a table of ADEME, Electricity Maps, a supplier, or your own."""
    from .factors import imported
    from .texts import Words, language_of

    about = {"dataset": dataset, "version": table_version, "scope": scope, "licence": licence, "source": source}
    print(imported(table, out, shape, about, force, Words(language_of(lang))))


@factors.command("compare", short_help="The same energy under every published factor.")
@one_line
def factors_compare(
    zone: Annotated[str, typer.Option(metavar="FR", help="Whose published factors.")],
    energy: Annotated[str, typer.Option(metavar="1kWh", help='How much electricity: "1 kWh", "50 kJ".')] = "1 kWh",
    as_json: Json = False,
    lang: Language = None,
) -> None:
    """The same energy under every published factor of a zone: how much the choice of a factor changes."""
    from .factors import compare
    from .texts import Words, language_of

    text, records = compare(zone, energy, Words(language_of(lang)))
    print(json.dumps(records, ensure_ascii=False, indent=2) if as_json else text)


From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="URL|FILE",
        help="A meter's ops pages, a journal, or exported readings (JSON lines). [default: http://127.0.0.1:9464]",
    ),
]


@app.command(short_help="One reading's joules and grams, step by step.")
@one_line
def explain(
    id: Annotated[str, typer.Argument(metavar="ID", help="A reading's id.")], where: From = None, lang: Language = None
) -> None:
    """How one reading's joules and grams came about, step by step, with sources: to be done again on paper."""
    from .explain import explain as explained
    from .readings import book_of, found
    from .texts import Words, language_of

    print(explained(found(id, book_of(where)), Words(language_of(lang))))


@app.command(short_help="Two readings or exports, side by side, per unit.")
@one_line
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A journal, a file of exported readings, or a reading's id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    where: From = None,
    as_json: Json = False,
    lang: Language = None,
) -> None:
    """Two readings or two exports side by side, per functional unit; refuses what is not comparable and says why.

    Exit code: 0 compared, 1 not comparable, 2 bad input.
    """
    from .comparing import compared, obstacles, side
    from .readings import book_of
    from .texts import Words, language_of

    words, book = Words(language_of(lang)), book_of(where)
    ours, theirs = side(a, book), side(b, book)
    if against := obstacles(ours, theirs, words):
        print(json.dumps({"comparable": False, "why": against}, ensure_ascii=False) if as_json else words("c_refused"))
        print("" if as_json else "\n".join(f"  {line}" for line in against), end="" if as_json else "\n")
        raise typer.Exit(1)
    text, record = compared(ours, theirs, words)
    print(json.dumps({"comparable": True, **record}, ensure_ascii=False) if as_json else text)


@app.command(short_help="Versions of frugal-meter, Python and the system.")
def version() -> None:
    """The version of frugal-meter, Python and the system."""
    system = f"{platform.system()} {platform.machine()}"
    print(f"frugal-meter {metadata.version('frugal-meter')} (Python {platform.python_version()}, {system})")
