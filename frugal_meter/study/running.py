"""Runs a declared study: repetition after repetition, each durable before the next, so that one that is interrupted goes on."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..errors import ConfigurationError
from . import raw
from .declaring import Plan, VariantTable
from .folder import DECLARATION
from .judging import Judge, judge_of, scored
from .loads import Load, Request, load_of
from .service import Answer, Service, serving
from .worker import Job

_RAW: Final = "raw"
#: ``progress(done, total, what)``: requests and seconds at rest, of the whole study
Progress = Callable[[float, float, str], None]


class Step(NamedTuple):
    """One repetition of one variant."""

    round: int
    variant: VariantTable

    @property
    def name(self) -> str:
        """What it is called in an order, ``2:small``."""
        return f"{self.round}:{self.variant.name}"

    @property
    def file(self) -> str:
        """Its file in ``raw/``."""
        return f"{self.round:03d}-{self.variant.name}.jsonl"


def order(plan: Plan) -> list[Step]:
    """Every repetition, round after round: an order drawn from the seed, then its reverse, then another one drawn.

    Over two rounds each variant has the same mean place, so that a steady drift (heat, a machine filling up) favours none.
    """
    chance = random.Random(plan.declared.run.seed)
    steps: list[Step] = []
    variants = list(plan.declared.variant)
    for number in range(1, plan.declared.run.repetitions + 1):
        if number % 2:
            chance.shuffle(variants)
        else:
            variants.reverse()
        steps += [Step(number, each) for each in variants]
    return steps


def run(plan: Plan, out: Path, *, resume: bool, progress: Progress) -> None:
    """Measure all that is not measured yet, into ``out/raw``. Raises ConfigurationError; what is finished stays."""
    for place in (str(plan.folder), str(Path.cwd())):
        if place not in sys.path:
            sys.path.insert(0, place)
    judge = judge_of(plan.declared.judge)
    loads = {each.name: load_of(plan, each) for each in plan.declared.variant}
    prepare(plan, out, resume=resume)
    steps = order(plan)
    pace = _Pace(plan, loads, steps, progress)
    for step in steps:
        file = out / _RAW / step.file
        if file.is_file():
            _check_load(file, loads[step.variant.name])
            pace.skip(step)
        else:
            try:
                _repetition(plan, step, loads[step.variant.name], judge, file, pace)
            except ConfigurationError as error:
                raise ConfigurationError(f"variant {step.variant.name}, round {step.round}: {error}") from None


def prepare(plan: Plan, out: Path, *, resume: bool) -> None:
    """Make ``out``, or see that it holds this very study. Raises ConfigurationError."""
    held = out / DECLARATION
    if held.is_file():
        if msgspec.structs.replace(plan, text=_text(held)).fingerprint != plan.fingerprint:
            raise ConfigurationError(f"{out}: holds another study; name another folder. Nothing was changed")
        if not resume:
            raise ConfigurationError(f"{out}: holds this study already; go on with it with --resume, or name another folder")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: is there already, and is no study; name a folder that is not there")
    try:
        (out / _RAW).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be made ({error.strerror})") from None
    if not held.is_file():
        raw.write(held, [plan.text.encode()])


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{file}: cannot be read; name another folder") from None


def _check_load(file: Path, load: Load) -> None:
    head = next(raw.lines(file), None)
    if not isinstance(head, raw.Head):
        raise ConfigurationError(f"{file}: is no repetition of a study; remove it and run again with --resume")
    if head.load_sha256 != load.sha256:
        raise ConfigurationError(f"{load.origin}: has changed since {file} was measured; put it back, or name another folder")


class _Pace:
    """How far the study is, in requests and seconds at rest."""

    def __init__(self, plan: Plan, loads: dict[str, Load], steps: Sequence[Step], progress: Progress) -> None:
        self._plan, self._loads, self._progress = plan, loads, progress
        self._total = sum(map(self._weight, steps))
        self._done = 0.0
        self._what = ""

    def _weight(self, step: Step) -> float:
        run = self._plan.declared.run
        return run.warm_up + run.baseline_s + len(self._loads[step.variant.name].requests)

    def skip(self, step: Step) -> None:
        self._done += self._weight(step)
        self.say(f"{step.name} ✓")

    def say(self, what: str) -> None:
        self._what = what
        self._progress(self._done, self._total, what)

    def move(self, by: float = 1.0) -> None:
        self._done += by
        self._progress(self._done, self._total, self._what)


def _repetition(plan: Plan, step: Step, load: Load, judge: Judge | None, file: Path, pace: _Pace) -> None:
    declared, variant = plan.declared, step.variant
    run, asking = declared.run, declared.load
    began_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with tempfile.TemporaryDirectory(prefix="frugal-study-") as place:
        job = Job(
            variant=variant.name,
            round=step.round,
            app=variant.app or declared.service.app,
            factory=declared.service.factory,
            service=plan.service,
            meter=_beside(plan, declared.service.meter),
            carbon=declared.carbon,
            raw=f"{place}/lines",
            began_at=began_at,
        )
        pace.say(step.name)
        env = {**declared.service.env, **variant.env, "PYTHONPATH": _path(plan.folder)}
        with serving(job, Path.cwd(), env, Path(place) / "log") as service:

            def ask(requests: Sequence[Request], done: Callable[[], None]) -> list[tuple[Request, Answer]]:
                at_once, wait_s = asking.concurrency, float(asking.timeout_s)
                return list(service.send(requests, concurrency=at_once, timeout_s=wait_s, done=done))

            warmed = ask([load.requests[n % len(load.requests)] for n in range(run.warm_up)], pace.move)
            # A judge that cannot judge is found before anything is measured for nothing.
            _exchanges(warmed, judge, declared.judge.call if declared.judge else "")
            _rest(service, float(run.baseline_s), pace)
            service.phase("load")
            until = time.monotonic() + asking.at_least_s
            answered = ask(load.requests, pace.move)
            while time.monotonic() < until:
                answered += ask(load.requests, lambda: None)
            service.phase("end")
        exchanges = _exchanges(answered, judge, declared.judge.call if declared.judge else "")
        raw.write(file, _lines(service.head, Path(place) / "lines", load, exchanges))


def _beside(plan: Plan, settings: dict[str, object]) -> dict[str, object]:
    """Settings whose files lie beside the declaration."""
    files = ("calibration", "factor_pack")
    return {name: str(plan.folder / str(value)) if name in files else value for name, value in settings.items()}


def _path(folder: Path) -> str:
    return os.pathsep.join(filter(None, (str(Path.cwd()), str(folder), os.environ.get("PYTHONPATH", ""))))


def _rest(service: Service, seconds: float, pace: _Pace) -> None:
    service.phase("rest")
    left = seconds
    while left > 0:
        slept = min(1.0, left)
        time.sleep(slept)
        pace.move(slept)
        left -= slept


def _exchanges(answered: Sequence[tuple[Request, Answer]], judge: Judge | None, name: str) -> list[raw.Exchange]:
    return [
        raw.Exchange(
            line=request.line,
            seconds=answer.seconds,
            status=answer.status,
            ok=answer.ok,
            why=answer.why,
            score=scored(judge, name, request, answer) if judge is not None and answer.ok else None,
        )
        for request, answer in answered
    ]


def _lines(head: bytes, recorded: Path, load: Load, exchanges: Sequence[raw.Exchange]) -> list[bytes]:
    told = msgspec.json.decode(head, type=raw.Head)
    whole = msgspec.structs.replace(told, load=load.origin, load_sha256=load.sha256, requests=len(load.requests))
    lines = recorded.read_bytes().splitlines(keepends=True)
    # What the service does when it is told to end is no part of the study.
    end = max(place for place, line in enumerate(lines) if line.startswith(b'{"type":"phase","name":"end"'))
    return [raw.encoded(whole), *map(raw.encoded, exchanges), *lines[: end + 1]]
