"""``frugal-meter dashboards``: Grafana's dashboards and alert rules, put where people look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import one_line

dashboards = typer.Typer(no_args_is_help=True, help="Grafana dashboards and alert rules.")


@dashboards.command("push", short_help="Put dashboards and alert rules into a Grafana.")
@one_line
def dashboards_push(
    url: Annotated[str, typer.Option(metavar="URL", help="Grafana's address.")],
    token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN", envvar="GRAFANA_TOKEN", show_envvar=False, help="Service account token. [default: $GRAFANA_TOKEN]"
        ),
    ] = "",
    datasource: Annotated[
        str | None, typer.Option(metavar="NAME", help="Prometheus data source, where there are several.")
    ] = None,
    directory: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Dashboards of your own instead.")] = None,
    no_alerts: Annotated[bool, typer.Option("--no-alerts", help="Dashboards only: Prometheus evaluates the alerts.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also over changes that somebody made there.")] = False,
) -> None:
    """Put folder, dashboards and alert rules into a Grafana; again whenever they change."""
    from .grafana import Grafana
    from .pushing import folder_of, push

    place = folder_of(directory)
    for line in push(Grafana(url, token), place, datasource=datasource, alerts=not no_alerts, dry=dry_run, force=force):
        print(line, flush=True)
