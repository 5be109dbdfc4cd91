"""A budget that matches nothing is told of: at the start where the routes say so, later where nothing has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from exchange import a_meter, ask, hello
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from typer.testing import CliRunner

from frugal_meter import Budget, Meter, MeterMiddleware
from frugal_meter.budgets.matching import misses
from frugal_meter.budgets.stores import Entry
from frugal_meter.budgets.stores.sqlite import SqliteStore
from frugal_meter.cli.app import app as command
from frugal_meter.exporters.live_page import render_page
from frugal_meter.exporters.live_state import ENOUGH_REQUESTS, live_state

ROUTES = {"/ask", "/letters", "/letters/{id}", "unmatched"}


def of(*patterns: str) -> Budget:
    return Budget("some", "1000 requests", per="day", match={"route": patterns})


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (("/letters/*",), None),
        (("/lettres/*", "/ask"), None),
        (("*",), None),
        (("unmatched",), None),
        (("nightly index",), None),
        (("/lettre/*",), "no route of this application fits '/lettre/*'; did you mean '/letters"),
        (("ask",), "no route of this application fits 'ask'; did you mean '/ask'?"),
        (("/xyzzy", "/plugh"), "fits '/xyzzy' or '/plugh'; it has /ask, /letters, /letters/{id}, unmatched"),
    ],
)
def test_a_route_pattern_that_no_route_fits_is_told_with_the_nearest(patterns: Collection[str], said: str | None) -> None:
    lines = misses([of(*patterns), Budget("all", "1 J", per="day", match={"model": "large"})], ROUTES)
    assert len(lines) == (said is not None)
    assert said is None or (lines[0].startswith("budget 'some' counts nothing: ") and said in lines[0])


def test_where_the_routes_are_not_known_nothing_is_said() -> None:
    assert misses([of("/lettre/*")], set()) == []


def live(meter: Meter, *routes: BaseRoute) -> None:
    """The application's life, from its start to its end."""

    async def lifespan() -> None:
        told = asyncio.Queue[Any]()
        await told.put({"type": "lifespan.startup"})
        await told.put({"type": "lifespan.shutdown"})

        async def send(message: Any) -> None:
            assert message["type"].endswith("complete")

        app = MeterMiddleware(Starlette(routes=list(routes)), meter=meter)
        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, told.get, send)

    asyncio.run(lifespan())


def test_it_is_said_at_the_start_of_the_application(caplog: pytest.LogCaptureFixture) -> None:
    live(a_meter(budgets=[of("/lettre/*")]), Route("/letters/{id}", hello))
    assert (
        "budget 'some' counts nothing: no route of this application fits '/lettre/*'; did you mean '/letters/{id}'?"
        in caplog.text
    )


@pytest.mark.parametrize("pattern", ["/hidden", "/below/letters/*", "/file/*", "unmatched"])
def test_hidden_mounted_and_foreign_routes_are_routes(pattern: str, caplog: pytest.LogCaptureFixture) -> None:
    below = Mount("/below", routes=[Route("/letters/{id}", hello)])
    hidden = Route("/hidden", hello, include_in_schema=False)
    live(a_meter(budgets=[of(pattern)]), hidden, below, Route("/file/{path:path}", hello))
    assert "counts nothing" not in caplog.text


def test_it_is_said_of_budgets_that_a_reload_brings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = '[meter]\nservice = "guichet"\nzone = "FR"\nsources = "model"\ntick = 60\n'
    file = tmp_path / "frugal.toml"
    file.write_text(head)
    with Meter.from_config(file) as meter:
        meter.expect(Starlette(routes=[Route("/letters", hello)]))
        file.write_text(head + '[[budget]]\nname = "some"\nlimit = "9 requests"\nper = "day"\nmatch = {route = "letters"}\n')
        assert meter.settle()
    assert "did you mean '/letters'?" in caplog.text


# -- after some traffic


@pytest.mark.parametrize(
    ("lang", "said"), [("fr", "aucune requête ne lui a correspondu depuis le"), ("en", "has matched no request since")]
)
def test_the_page_tells_of_a_budget_that_has_matched_nothing_of_much(lang: Any, said: str) -> None:
    never = Budget("never", "1000 requests", per="day", match={"model": "gemma-*"})
    app = Starlette(routes=[Route("/hello", hello)])
    with a_meter(budgets=[never, Budget("all", "1000 requests", per="day")]) as meter:
        metered = MeterMiddleware(app, meter=meter)
        ask(metered, *["/hello"] * (ENOUGH_REQUESTS - 1))
        meter.settle()
        assert said not in render_page(live_state(meter), lang=lang), "too few to tell"
        ask(metered, "/hello")
        meter.settle()
        page = render_page(live_state(meter), lang=lang)
        assert page.count(said) == 1
        assert "&lt;time" not in page, "the moment is an element, and no text"
        with meter.measure("chat", model="gemma-3"):
            pass
        assert said not in render_page(live_state(meter), lang=lang)


def show(folder: Path, *written: Entry, lang: str = "en") -> str:
    store = SqliteStore(folder / "b.sqlite")
    store.record(written)
    store.close()
    file = folder / "frugal.toml"
    file.write_text(
        f'[meter]\nservice = "guichet"\nzone = "FR"\nstore = "sqlite://{folder}/b.sqlite"\n'
        '[[budget]]\nname = "never"\nlimit = "9 requests"\nper = "day"\nmatch = {model = ["gemma-*", "small"]}\n'
        '[[budget]]\nname = "all"\nlimit = "9 requests"\nper = "day"\ntimezone = "America/Cayenne"\n'
    )
    done = CliRunner().invoke(command, ["budget", "show", "never", "--config", str(file), "--lang", lang], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done.stdout


def entry(at_s: float, budget: str = "all", action: str = "admit") -> Entry:
    return Entry(at_s, budget, "requests", (), action, "admit", None, None, None, 9, "3 requests")


def test_the_command_line_tells_since_when_a_budget_has_matched_nothing(tmp_path: Path) -> None:
    assert "Has matched nothing yet (model gemma-* | small)" in show(tmp_path)
    told = show(tmp_path, entry(1_780_000_000.0), entry(1_780_000_600.0))
    assert "Has matched nothing (model gemma-* | small) since 2026-05-28 22:26:40+02:00 Europe/Paris: worth a look" in told
    assert "Aucune requête ne lui a correspondu (modèle gemma-* | small) depuis le 2026-05-28" in show(tmp_path, lang="fr")
    assert "atched nothing" not in show(tmp_path, entry(time.time(), "never"))


def test_the_log_is_on_each_budget_s_own_clock_which_is_named(tmp_path: Path) -> None:
    show(tmp_path, entry(1_780_000_000.0), entry(1_780_000_000.0, "never"), entry(1_780_000_000.0, "gone"))
    done = CliRunner().invoke(command, ["budget", "log", "--config", str(tmp_path / "frugal.toml")], env={"COLUMNS": "300"})
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "2026-05-28 17:26:40-03:00 America/Cayenne",
        "2026-05-28 22:26:40+02:00 Europe/Paris",
        "2026-05-28 20:26:40+00:00 UTC",
    ]
