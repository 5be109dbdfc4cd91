"""Declarations for tests: a full one, one of a service hardly used, one hostile in every text, and any number of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from frugal_meter import Budget
from frugal_meter.carbon import factor
from frugal_meter.declaration.declaring import declare
from frugal_meter.declaration.document import Declaration
from frugal_meter.declaration.keeping import Kept, fingerprint
from frugal_meter.declaration.statement import statement_of
from frugal_meter.periods import Books, Pass, Tally, Weight, period
from frugal_meter.records import Interval

PARIS = ZoneInfo("Europe/Paris")
BEGIN, END = datetime(2026, 10, 1, tzinfo=PARIS), datetime(2026, 11, 1, tzinfo=PARIS)
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
HOUR_NS = 3_600_000_000_000
EVIL = "</p><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{0}${x}"

STATED: dict[str, Any] = {
    "organisation": "Ville de Brest-sur-Exemple",
    "siret": "21290019900016",
    "contact": "numerique@ville.example",
    "answerable": {"fr": "la direction du numérique", "en": "the digital department"},
    "url": "https://ville.example/ia",
    "public": True,
    "unit": "answer",
    "name": {"fr": "Accueil des usagers", "en": "Front desk"},
    "purpose": {
        "fr": "L’IA propose une réponse aux questions sur les démarches. Elle cherche dans les fiches de la ville.",
        "en": "AI suggests an answer to questions about formalities. It looks in the city’s own pages.",
    },
    "status": "in_service",
    "users": "public",
    "necessity": "Une recherche par mots-clés ne trouvait pas la bonne fiche une fois sur trois.",
    "contribution": "partial",
    "human_oversight": "Deux agents relisent chaque semaine cent réponses tirées au hasard.",
    "human_alternative": {"fr": "Au guichet de la mairie, du lundi au samedi.", "en": "At the town hall, Monday to Saturday."},
    "human_alternative_url": "https://ville.example/guichet",
    "suppliers": [{"name": "Hébergeur public", "service": "machines", "figure": "Aucun chiffre reçu."}],
    "legal": {"individual_decisions": True, "rules_url": "https://ville.example/algorithmes", "ai_act_class": "limited"},
    "models": [
        {
            "name": "smollm2-135m",
            "provider": "Hugging Face",
            "parameters": 135e6,
            "open_weights": True,
            "licence": "Apache-2.0",
            "hosting_country": "FR",
            "training": "Le fournisseur n’a pas donné de chiffre.",
        }
    ],
}
BUDGETS = (Budget("chat", "50 kJ", per="day"), Budget("essai", "3.5 Wh", per="hour", key="tenant", enforce=False))


def kept(
    *,
    joules: float = 5e6,
    requests: int = 12_345,
    unit: str = "answer",
    units: float | None = None,
    failed: int = 12,
    hours: int = 740,
    tier: Any = "modelled",
    method: str = "cpu-time/1+power-model/2",
    remote_j: float | None = None,
    quality: float | None = 0.87,
) -> Kept:
    """The figures of a service that drew ``joules`` for ``requests``, of which ``failed`` failed."""
    nj, begin_ns = round(joules * 1e9), round(BEGIN.timestamp() * 1e9)
    flags, ids = ("pue:default", "embodied:default"), ("ember:FR:2024",)
    pue = Interval(1.1, 1.56, 2.0)
    weight = Weight(
        grams_per_joule=44.18 / 3.6e6, pue=pue, embodied_low=0.5, embodied_high=2.0, factor_ids=ids, method_id=method,
        boundary=("cpu", "memory", "board"), flags=flags,
    )  # fmt: skip
    parts = {"energy_nj": nj, "idle_nj": nj // 2, "slice_nj": nj // 2, "requests_nj": nj // 2, "late_nj": 0}
    books = Books(
        source="model", component="cpu", tier=tier, **parts, overhead_nj=nj - nj // 2 - nj // 2, other_nj=0, gap_nj=0,
        low_nj=nj // 2, high_nj=nj * 2, overhead_parts={},
    )  # fmt: skip
    passed = Pass(
        process="1", t0_ns=begin_ns, t1_ns=begin_ns + hours * HOUR_NS, weight=weight, embodied_g=joules / 1e5, books=(books,)
    )  # fmt: skip
    good = requests - failed
    scored = {} if quality is None else {"quality_sum": quality * good, "quality_count": good}
    ran = {"kind": "http", "nested": False, "route": "/ask", "model": "m"}
    tallies = [
        Tally(**ran, outcome="ok", unit=unit, count=good, units=good if units is None else units, known=good,
              remote_nj=None if remote_j is None else round(remote_j * 1e9), **scored),
        Tally(**ran, outcome="error", unit=None, count=failed, known=failed),
    ]  # fmt: skip
    found = period([passed], tallies, begin_s=BEGIN.timestamp(), end_s=END.timestamp(), unit=unit)
    return Kept(found, (pue,), {("chat", "refuse"): 42, ("chat", "degrade"): 117}, fingerprint(found))


def declared(figures: Any = None, *, service: str = "accueil-usagers", budgets: Any = BUDGETS, **stated: Any) -> Declaration:
    """A declaration; ``figures`` as `kept` gives them, or the reason why there are none."""
    statement = statement_of({**STATED, **stated})
    known = {"ember:FR:2024": factor("FR")}
    told: Any = kept() if figures is None else figures
    return declare(statement, service, told, begin=BEGIN, end=END, now=NOW, budgets=budgets, factor=known.get)


def hostile() -> Declaration:
    """A declaration that holds markup in every text that can."""
    return msgspec.convert(_poisoned(msgspec.to_builtins(declared())), Declaration)


_NO_TEXTS = ("url", "schema", "declared_at", "valid_until", "begin", "end", "path", "sha256", "siret", "country", "licence")


def _poisoned(of: Any, key: str = "") -> Any:
    if isinstance(of, dict):
        return {name: _poisoned(value, name) for name, value in of.items()}
    if isinstance(of, list | tuple):
        return [_poisoned(value, key) for value in of]
    choices = ("status", "key", "users", "contribution", "ai_act_class", "per", "code", "scope", "basis", "tier", "quantity")
    if not isinstance(of, str) or key in choices or any(key.endswith(name) for name in _NO_TEXTS):
        return of
    return EVIL + of


def town(number: int, **changes: Any) -> Declaration:
    """One of many towns, each with its own figures."""
    figures = kept(
        joules=(2 + number) * 1e6, requests=9_000 + 1_000 * number, tier=("modelled", "measured")[number % 2], **changes
    )
    named = {"organisation": f"Ville n° {number}", "siret": f"{21_000_000_000_000 + number}", "name": f"Service {number}"}
    return declared(figures, service=f"service-{number}", **named)


def later(of: Declaration, days: int) -> Declaration:
    """The same, declared some days later."""
    return msgspec.structs.replace(of, declared_at=of.declared_at + timedelta(days=days))
