"""Services to be studied, for the tests: small, and each with one trait."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from frugal_meter import Meter, MeterMiddleware

SECRET = "la question de Mme Dupont"


def _burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def ask(request: Request) -> JSONResponse:
    """Answers what the model's name says; "heavy" burns ten times as much as "light"."""
    asked = await request.json()
    _burn(0.02 if asked.get("model") == "heavy" else 0.002)
    if asked.get("model") == "broken" and asked["n"] % 2:
        return JSONResponse({"error": "broken"}, status_code=500)
    if asked.get("model") == "rude" and asked["n"] % 2:
        return JSONResponse({"error": "ask otherwise"}, status_code=422)
    return JSONResponse({"text": f"réponse à {asked['question']}", "score": 0.9 if asked.get("model") == "heavy" else 0.6})


def plain() -> Starlette:
    """An application without a meter."""
    return Starlette(routes=[Route("/ask", ask, methods=["POST"]), Route("/search", ask, methods=["POST"])])


def metered() -> Starlette:
    """One with its own, which counts a unit per answer."""
    meter = Meter("town-hall", zone="FR", sources="model", host_share=0.1, workers="single")

    @meter.measure(model=os.environ.get("HOUSE_MODEL", "house"), unit="answer")
    async def answer(request: Request) -> JSONResponse:
        return await ask(request)

    app = Starlette(routes=[Route("/ask", answer, methods=["POST"])])
    app.add_middleware(MeterMiddleware, meter=meter)
    return app


def slow_to_load() -> Starlette:
    """One whose start costs a second of CPU."""
    _burn(1.0)
    return metered()


def failing() -> Starlette:
    """One that cannot start."""
    raise RuntimeError("no weights to be had")


def failing_later() -> Starlette:
    """One that cannot start either, and says so in its lifespan."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise OSError("no database to be had")
        yield

    return Starlette(lifespan=lifespan)


def ends_at_once() -> Starlette:
    """One that ends its process when it is asked."""

    async def gone(request: Request) -> JSONResponse:
        os._exit(3)

    return Starlette(routes=[Route("/ask", gone, methods=["POST"])])


def score(request: dict[str, Any], answer: Any) -> float:
    """The score that the service gives itself."""
    return float(answer.json()["score"])


def raises(request: dict[str, Any], answer: Any) -> float:
    """A judge that cannot."""
    raise ValueError("no such rule")


def not_a_number(request: dict[str, Any], answer: Any) -> float:
    """A judge that divides nothing by nothing."""
    return float("nan")


def beyond(request: dict[str, Any], answer: Any) -> float:
    """A judge that counts in per cent."""
    return 80.0


def questions(variant: str) -> list[dict[str, Any]]:
    """A load from a function."""
    return [{"path": "/ask", "json": {"question": SECRET, "n": n, "variant": variant}} for n in range(2)]


DECLARATION = """
title = "Étude de l’accueil"
lang = "fr"
purpose = "Répondre aux habitants."
limits = ["Une machine de test."]

[service]
app = "tests.study_house:{app}"
factory = true
name = "town-hall"
{service}

[unit]
name = "{unit}"
description = "une réponse"

[use]
units_per_year = [1000, 2000, 4000]
hours_per_year = 100
starts_per_year = 12
source = "supposé pour le test"

[load]
file = "load.jsonl"
at_least_s = 0

[run]
warm_up = 1
repetitions = {repetitions}
baseline_s = 0.2
seed = 3

[judge]
call = "tests.study_house:{judge}"
metric = "self/1"

[carbon]
zone = "FR"

[[variant]]
name = "grand"
title = "Grand modèle"
kind = "ai"
set = {{ model = "{first}" }}

[[variant]]
name = "sans-ia"
title = "Recherche"
kind = "no-ai"
set = {{ model = "light" }}
"""


def declare(
    folder: Path,
    *,
    app: str = "metered",
    unit: str = "answer",
    judge: str = "score",
    first: str = "heavy",
    repetitions: int = 2,
    lines: int = 4,
    service: str = "",
) -> Path:
    """A declaration and its load in ``folder``."""
    folder.mkdir(exist_ok=True)
    load = ({"path": "/ask", "json": {"question": SECRET, "n": n}, "expect": n} for n in range(lines))
    (folder / "load.jsonl").write_text("".join(json.dumps(line) + "\n" for line in load))
    text = DECLARATION.format(app=app, unit=unit, judge=judge, first=first, repetitions=repetitions, service=service)
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"
