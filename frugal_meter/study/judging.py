"""Who says how good an answer is: a function of the service's own, ``judge(request, answer) -> 0…1``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from ..errors import ConfigurationError
from ..loading import load_object
from .declaring import JudgeTable
from .loads import Request
from .service import Answer

Judge = Callable[[dict[str, Any], Answer], float | None]
_EXAMPLE: Final = "write MODULE:FUNCTION, such as judge:score"


def judge_of(table: JudgeTable | None) -> Judge | None:
    """The declared judge, or None. Raises ConfigurationError."""
    if table is None:
        return None
    found = load_object(table.call, "judge", _EXAMPLE)
    if not callable(found):
        raise ConfigurationError(f"[judge] call = {table.call!r} is no function; {_EXAMPLE}")
    return found  # type: ignore[no-any-return]


def scored(judge: Judge, name: str, request: Request, answer: Answer) -> float | None:
    """The score of one answer, or None where the judge has none to give. Raises ConfigurationError that names the line."""
    where = f"[judge] {name}, on line {request.line} of the load"
    try:
        score = judge(request.said, answer)
    except Exception as error:
        raise ConfigurationError(f"{where}: raised {type(error).__name__}: {error}") from None
    if score is None:
        return None
    if isinstance(score, bool):
        score = float(score)
    if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise ConfigurationError(f"{where}: returned {score!r}; a score is a number from 0 to 1, or None where there is none")
    return float(score)
