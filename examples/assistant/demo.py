"""The run: load the models, size two budgets by what an answer costs here, serve, load, score, settle."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx
import msgspec
from starlette.types import ASGIApp

from frugal_meter import Budget, Meter
from frugal_meter.records import Reading

from . import client
from .app import create_app
from .corpus import HeldOut, load_heldout
from .figures import Account, QualityRow, Row, account, cost, requests, rows
from .language_model import LanguageModel, ModelUnavailable
from .quality import METRIC, is_right, score, shuffled_answers
from .service import Notebook
from .tiers import GENERATIVE, RETRIEVAL, Tiers

SERVICE: Final = "accueil-valmont"
SHUFFLED: Final = "shuffled"
#: how long the language model is asked held-out questions; --once must end within two minutes on two cores
QUALITY_SECONDS: Final[dict[str, float | None]] = {"brief": 4.0, "sample": 40.0, "full": None}
_SEED: Final = 2024

_BUDGETS: Final = {"/letters": "courrier", "/reports": "rapport"}

#: ``progress(phase, done, total)``
Progress = Callable[[str, int, int], None]


class Step(msgspec.Struct, frozen=True):
    """A rung of the ladder that a request met: which budget, what was asked and served, on which tier."""

    budget: str
    route: str
    requested: str | None
    served: str | None
    status: int | None
    tier: str | None
    refusal: dict[str, Any] | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the demonstration has to say, computed in this run."""

    rows: list[Row]
    account: Account
    quality: list[QualityRow]
    degraded: Step | None
    refused: Step | None
    requests: int
    expected: int
    client_error: str | None
    seconds: float


def load_tiers(want_language_model: bool) -> tuple[Tiers, str | None]:
    """Both answerers, and why the language model is missing when it is."""
    if not want_language_model:
        return Tiers(None), None
    try:
        return Tiers(LanguageModel()), None
    except ModelUnavailable as error:
        return Tiers(None), str(error)


def price(tiers: Tiers) -> Reading:
    """What one request to /ask costs on this machine, by a meter and an application that are then thrown away."""
    notebook = Notebook()
    with Meter(SERVICE, zone="FR", exporters=[notebook]) as meter:
        asyncio.run(_ask_twice(create_app(meter, tiers)))
        meter.settle()
    return requests(notebook.readings)[-1]


async def _ask_twice(app: ASGIApp) -> None:
    # The first call pays for pages, caches and lazy imports; the second is the price.
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://price") as http:
        for _ in range(2):
            await http.post("/ask", json={"question": client.BUDGET_QUESTION})


def budgets(request: Reading) -> list[Budget]:
    """Two small budgets, in joules where this machine has any, else in CPU seconds.

    /letters has room for four requests and degrades once the first has been paid; /reports has room for one and may
    not degrade, so the second is refused before it starts.
    """
    amount, unit = (request.energy_dynamic_j, "J") if request.energy_dynamic_j else (request.cpu_s, "CPU-s")
    one = f"{amount:.6f} {unit}"
    return [
        Budget("courrier", f"{4 * amount:.6f} {unit}", per="day", match="/letters", estimate=one, warn_at=0.05, degrade_at=0.1),
        Budget("rapport", f"{1.2 * amount:.6f} {unit}", per="day", match="/reports", estimate=one, degrade_at=None),
    ]


def send_load(base: str, progress: Progress) -> tuple[list[client.Outcome], str | None]:
    """The load, sent by a process of its own; outcomes, and what stopped it when something did."""
    command = [sys.executable, "-m", "examples.assistant.client", base]
    outcomes: list[client.Outcome] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8") as sender:
        for line in sender.stdout or ():
            outcomes.append(json.loads(line))
            progress("load", len(outcomes), client.TOTAL)
        error = sender.stderr.read().strip() if sender.stderr else ""
    return outcomes, (error.splitlines() or ["?"])[-1] if sender.returncode else None


class Answerer(msgspec.Struct, frozen=True):
    """Something that answers held-out question number ``index``; ``seconds`` bounds how long it is asked."""

    model: str
    answer: Callable[[int, HeldOut], str]
    seconds: float | None = None


class Graded(msgspec.Struct, frozen=True):
    """What an answerer did: right or wrong, and the span of each answer."""

    model: str
    right: list[bool]
    spans: list[Any]


def answerers(tiers: Tiers, seconds: float | None) -> list[Answerer]:
    """Who is scored: the language model when there is one, retrieval, and the shuffled floor."""
    floor = shuffled_answers(load_heldout(), tiers.corpus)
    who = [
        Answerer(RETRIEVAL, lambda _, question: tiers.retrieve(question.text).text),
        Answerer(SHUFFLED, lambda index, _: floor[index]),
    ]
    if tiers.language_model is not None:
        who.insert(0, Answerer(GENERATIVE, lambda _, question: tiers.generate(question.text).text, seconds))
    return who


def grade(meter: Meter, who: Answerer, tiers: Tiers, progress: Progress) -> Graded:
    """Ask the held-out questions in a seeded order, until all are asked or the time is up; each is metered."""
    questions = list(enumerate(load_heldout()))
    random.Random(_SEED).shuffle(questions)
    ends = None if who.seconds is None else time.monotonic() + who.seconds
    graded = Graded(who.model, [], [])
    for index, question in questions:
        if ends is not None and time.monotonic() > ends:
            break
        with meter.measure("quality", model=who.model, unit="answer") as span:
            text = who.answer(index, question)
            graded.right.append(is_right(text, question, tiers.corpus))
            span.quality(float(graded.right[-1]), metric=METRIC)
        graded.spans.append(span)
        progress("quality", len(graded.right), len(questions))
    return graded


def run(meter: Meter, notebook: Notebook, tiers: Tiers, base: str, progress: Progress, quality_seconds: float | None) -> Report:
    """Load the running service, score the answerers, settle, and close the books."""
    began = time.monotonic()
    outcomes, error = send_load(base, progress)
    graded = [grade(meter, who, tiers, progress) for who in answerers(tiers, quality_seconds)]
    meter.settle()
    notebook.close()
    books = account(notebook.ticks)
    host_j = books.energy_nj / 1e9 or None
    served = requests(notebook.readings)
    return Report(
        rows=rows(served, host_j),
        account=books,
        quality=[
            QualityRow(g.model, score(g.right), len(load_heldout()), cost([s.reading for s in g.spans], host_j)) for g in graded
        ],
        degraded=_step(served, "degrade", outcomes),
        refused=_step(served, "refuse", outcomes),
        requests=len(outcomes),
        expected=client.TOTAL,
        client_error=error,
        seconds=time.monotonic() - began,
    )


def _step(readings: Sequence[Reading], decision: str, outcomes: Sequence[client.Outcome]) -> Step | None:
    met = next((r for r in readings if r.decision == decision and r.route in _BUDGETS), None)
    if met is None or met.route is None:
        return None
    bodies = [o["body"] for o in outcomes if o["route"] == met.route and o["status"] == met.status]
    refusal = bodies[-1] if decision == "refuse" and bodies else None
    return Step(
        budget=_BUDGETS[met.route],
        route=met.route,
        requested=met.model_requested,
        served=met.model_served,
        status=met.status,
        # A refused request has spent nothing: what matters is the tier of the figures it was refused on.
        tier=refusal["tier"] if refusal else met.tier,
        refusal=refusal,
    )
