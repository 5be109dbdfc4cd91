"""The commands of ``frugal-meter budget`` and their options; what they do is in `budgets`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import Config, Json, Language, one_line, settings_of

budget = typer.Typer(no_args_is_help=True, help="Budgets of a running service: list, show, grant, revoke, log.")
Store = Annotated[str | None, typer.Option(metavar="URL", help="The service's store. [default: [meter] store in the file]")]
Who = Annotated[str, typer.Option(metavar="NAME", help="Who decides: kept in the log.")]


@budget.command("list", short_help="What every budget has spent, and the overrides in force.")
@one_line
def budget_list(config: Config = None, store: Store = None, as_json: Json = False, lang: Language = None) -> None:
    """What every budget has spent, over all workers, and the overrides in force."""
    from . import budgets
    from .texts import Words, language_of

    words = Words(language_of(lang))
    with budgets.opened(settings_of(config, store=store)) as found:
        print(_document(budgets.records(found)) if as_json else budgets.listing(found, words))


@budget.command("show", short_help="One budget: parts, overrides, last decisions.")
@one_line
def budget_show(
    name: Annotated[str, typer.Argument(metavar="BUDGET")],
    config: Config = None,
    store: Store = None,
    as_json: Json = False,
    lang: Language = None,
) -> None:
    """One budget: each part, its overrides past and present, its last decisions."""
    from . import budgets
    from .texts import Words, language_of

    words = Words(language_of(lang))
    with budgets.opened(settings_of(config, store=store)) as found:
        found.named(name)
        print(_document(budgets.records(found, name)) if as_json else budgets.shown(found, name, words))


@budget.command("grant", short_help="Let requests pass for a while, with a name and a reason.")
@one_line
def budget_grant(
    name: Annotated[str, typer.Argument(metavar="BUDGET")],
    who: Who,
    why: Annotated[str, typer.Option(metavar="TEXT", help="The reason: kept in the log.")],
    lasting: Annotated[str | None, typer.Option("--for", metavar="2h", help="How long: 30m, 2h, 1d.")] = None,
    until: Annotated[str | None, typer.Option(metavar="MOMENT", help="Until when: 2026-12-24T18:00, budget's timezone.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only this part; once for each of the budget's keys.")] = None,
    config: Config = None,
    store: Store = None,
    lang: Language = None,
) -> None:
    """Let requests pass a budget that would refuse them: named, reasoned, ending. They are metered and charged."""
    from . import budgets
    from .texts import Words, language_of

    words = Words(language_of(lang))
    with budgets.opened(settings_of(config, store=store)) as found:
        override = budgets.granted(found, name, key or (), who, why, (lasting, until))
        print(budgets.told(override, found, words), words("granted"), sep="\n")


@budget.command("revoke")
@one_line
def budget_revoke(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As `budget list` tells it.")],
    who: Who,
    config: Config = None,
    store: Store = None,
    lang: Language = None,
) -> None:
    """End an override now."""
    from . import budgets
    from .texts import Words, language_of

    words = Words(language_of(lang))
    with budgets.opened(settings_of(config, store=store)) as found:
        ended = budgets.revoked(found, number, who)
        print(budgets.told(ended._replace(revoked_s=found.now_s), found, words))


@budget.command("log", short_help="What budgets decided, and what people did to them.")
@one_line
def budget_log(
    since: Annotated[str | None, typer.Option(metavar="1h", help="No older than this: 30m, 2h, 1d.")] = None,
    name: Annotated[str | None, typer.Option("--budget", metavar="BUDGET", help="One budget only.")] = None,
    action: Annotated[str | None, typer.Option(metavar="refuse", help="One action only.")] = None,
    most: Annotated[int, typer.Option(help="The last so many.", min=1, max=100_000)] = 100,
    config: Config = None,
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one line each.")] = False,
    lang: Language = None,
) -> None:
    """What budgets decided, with the figures of the moment, and what people did to them."""
    from . import budgets
    from .texts import Words, language_of

    words = Words(language_of(lang))
    with budgets.opened(settings_of(config, store=store)) as found:
        lines = budgets.chosen(found, since, name, action, most)
        print("\n".join(map(budgets.log_record, lines)) if as_json else budgets.log(found, lines, words))


def _document(records: object) -> str:
    return json.dumps(records, ensure_ascii=False, indent=2)
