"""From clauses and evidence to verdicts.

The interval of a figure decides how sure a verdict is: all of it within the limit is *kept for sure*; its middle within, its end
beyond is *probably kept*; its middle beyond, its other end within *cannot be told*; all of it beyond is *broken for sure*. Which
of these counts as kept is the contract's choice (``proof``); broken is only what is broken for sure; the rest cannot be judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError
from ..journal.store import JournalStore
from ..periods import LEAST_PUBLIC, Period, public
from ..records import Interval
from .contract import Clause, Contract, Proof, Stretch
from .evidence import Evidence

Grade = Literal["kept_surely", "kept_probably", "untold", "broken_surely"]
Ruling = Literal["kept", "broken", "cannot_be_judged"]


class Reason(msgspec.Struct, frozen=True):
    """Why a clause cannot be judged, or what to know of its figure: a code, and the figures that its sentence has blanks for."""

    code: str
    values: dict[str, Any] = {}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a clause. ``value`` is in the limit's unit; None is unknown, or kept back because it is of too few."""

    clause: Clause
    ruling: Ruling
    grade: Grade | None
    value: Interval | None
    counted: float | None  # units, requests or scores that the value is of; None where it is too few to tell
    reasons: tuple[Reason, ...]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All verdicts of one period. ``figures`` is None where too few requests are in it to tell anything of them."""

    period: Stretch
    verdicts: tuple[Verdict, ...]
    figures: Period | None
    lost_readings: int
    lost_ticks: int

    @property
    def ruling(self) -> Ruling:
        """Broken where one is; kept where all are."""
        return overall(each.ruling for each in self.verdicts)


def overall(rulings: Any) -> Ruling:
    """Of several rulings: broken where one is, kept where all are."""
    found = set(rulings)
    return "broken" if "broken" in found else "cannot_be_judged" if found != {"kept"} else "kept"


def chosen(contract: Contract, name: str | None, now_s: float) -> Sequence[Stretch]:
    """The periods to judge: the named one, else all that are over, else the one that is under way. Raises ConfigurationError."""
    if name is not None:
        found = [each for each in contract.periods if each.name == name]
        if not found:
            raise ConfigurationError(f"--period {name!r} is none of {', '.join(repr(each.name) for each in contract.periods)}")
        return found
    over = [each for each in contract.periods if each.end_s <= now_s]
    found = over or [each for each in contract.periods if each.begin_s <= now_s]
    if not found:
        raise ConfigurationError("no period of the contract has begun yet")
    return found


def judged(contract: Contract, stretch: Stretch, journal: JournalStore, now_s: float) -> Judgement:
    """Every clause over one period. Raises ConfigurationError where the journal is another service's."""
    services = journal.services()
    if contract.service is not None and services and services != [contract.service]:
        raise ConfigurationError(f"the clauses are for service {contract.service!r}, and the journal is of {', '.join(services)}")
    evidence = Evidence(journal, (int(stretch.begin_s * 1e9), int(stretch.end_s * 1e9)))
    figures = evidence.figures("request")
    against = _against_all(contract, stretch, figures, now_s)
    verdicts = tuple(_judge(clause, contract, evidence, against) for clause in contract.clauses)
    return Judgement(
        period=stretch,
        verdicts=verdicts,
        figures=public(figures) if figures.requests >= contract.least_units else None,
        lost_readings=evidence.lost_readings,
        lost_ticks=evidence.lost_ticks,
    )


def _against_all(contract: Contract, stretch: Stretch, figures: Period, now_s: float) -> list[Reason]:
    """Why nothing of the period can be judged."""
    covered = min(1.0, figures.covered_s / (stretch.end_s - stretch.begin_s))
    reasons = []
    if now_s < stretch.end_s:
        reasons.append(Reason("not_over"))
    if covered < contract.least_covered:
        reasons.append(Reason("not_covered", {"covered": covered, "least": contract.least_covered}))
    return reasons


class _Found(msgspec.Struct):
    """A figure that a clause speaks of: its value, of how many, what stands against judging it, and what to know of it."""

    value: Interval | None
    counted: float
    least: int
    against: list[Reason] = []
    notes: list[Reason] = []


def _judge(clause: Clause, contract: Contract, evidence: Evidence, against: Sequence[Reason]) -> Verdict:
    found = _FINDERS[clause.figure](clause, contract, evidence)
    reasons = [*against, *found.against]
    few = found.counted < found.least
    if few and not any(each.code in ("no_unit", "no_score") for each in reasons):
        # How few can itself tell of somebody.
        hardly = found.counted < LEAST_PUBLIC
        told = {"least": found.least} if hardly else {"counted": found.counted, "least": found.least}
        reasons.append(Reason("hardly_any" if hardly else "too_few", told))
    value = None if few else found.value
    if found.value is None and not reasons:
        reasons.append(Reason("unknown"))
    grade = None if reasons or value is None else graded(value, clause)
    ruling: Ruling = "cannot_be_judged" if grade is None else _ruling(grade, contract.proof)
    if grade is not None and ruling == "cannot_be_judged":
        reasons.append(Reason("straddles"))
    return Verdict(
        clause=clause,
        ruling=ruling,
        grade=grade,
        value=value,
        counted=found.counted if found.counted >= LEAST_PUBLIC else None,
        reasons=(*reasons, *found.notes),
    )


def graded(value: Interval, clause: Clause) -> Grade:
    """How sure it is that ``value`` is within the limit."""
    sign = 1 if clause.bound == "at_most" else -1
    best, worst = (value.low, value.high) if sign == 1 else (value.high, value.low)
    limit = sign * clause.limit
    if sign * worst <= limit:
        return "kept_surely"
    if sign * value.mid <= limit:
        return "kept_probably"
    return "untold" if sign * best <= limit else "broken_surely"


def _ruling(grade: Grade, proof: Proof) -> Ruling:
    if grade == "broken_surely":
        return "broken"
    kept = ("kept_surely", "kept_probably") if proof == "probable" else ("kept_surely",)
    return "kept" if grade in kept else "cannot_be_judged"


def _exact(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, value, value)


def _weighed(clause: Clause, contract: Contract, evidence: Evidence) -> _Found:
    figures = evidence.figures(clause.unit)
    found = _Found(figures.per_unit_j if clause.figure == "energy" else figures.per_unit_g, figures.units, contract.least_units)
    if not figures.units:
        found.against.append(Reason("no_unit", {"unit": clause.unit}))
    if clause.over == "p95":
        _per_request(found, evidence)
        found.value, unknown = evidence.percentile(clause.unit, clause.figure)
        if unknown:
            found.notes.append(Reason("unknown_requests", {"count": unknown}))
        if found.value is not None and math.isinf(found.value.high):
            found.against.append(Reason("too_many_unknown"))
            found.value = None
    elif evidence.lost_readings:
        found.notes.append(Reason("lost", {"count": evidence.lost_readings}))
    if figures.remote_j and (clause.figure == "energy" or clause.over == "period"):
        found.notes.append(Reason("remote"))
    return found


def _per_request(found: _Found, evidence: Evidence) -> None:
    if evidence.rolled:
        found.against.append(Reason("rolled", {"count": evidence.rolled}))


def _measured(clause: Clause, contract: Contract, evidence: Evidence) -> _Found:
    figures = evidence.figures(clause.unit)
    return _Found(_exact(figures.measured_share), figures.requests, contract.least_units)


def _share(clause: Clause, contract: Contract, evidence: Evidence) -> _Found:
    figures = evidence.figures(clause.unit)
    found = _Found(None, figures.requests, contract.least_units)
    counts = {"refused": figures.refused, "failed": figures.failed}
    if clause.figure in counts:
        count = counts[clause.figure]
    else:
        _per_request(found, evidence)
        also = clause.figure == "degraded or refused"
        count = sum(each.degraded or (also and each.outcome == "refused") for each in evidence.requests)
    whole, lost = figures.requests, evidence.lost_readings
    if whole:
        # A request that was lost may have been any.
        found.value = Interval(count / (whole + lost), count / whole, (count + lost) / (whole + lost))
    return found


def _quality(clause: Clause, contract: Contract, evidence: Evidence) -> _Found:
    figures = evidence.figures(clause.unit)
    found = _Found(_exact(figures.quality), figures.quality_count, contract.least_scores)
    if not figures.quality_count:
        found.against.append(Reason("no_score"))
        return found
    if clause.metric is not None:
        _per_request(found, evidence)
        said = [score for metric, score in evidence.scores() if metric == clause.metric]
        found.counted, found.value = len(said), _exact(math.fsum(said) / len(said)) if said else None
    elif len(figures.quality_metrics) > 1:
        found.against.append(Reason("metrics", {"metrics": ", ".join(figures.quality_metrics)}))
    if min(found.counted, figures.units) >= LEAST_PUBLIC:  # of fewer, how few can itself tell of somebody
        found.notes.append(Reason("scores", {"scores": found.counted, "units": figures.units}))
    return found


_FINDERS = {
    **dict.fromkeys(("energy", "carbon"), _weighed),
    **dict.fromkeys(("degraded", "refused", "failed", "degraded or refused"), _share),
    "measured": _measured,
    "quality": _quality,
}
