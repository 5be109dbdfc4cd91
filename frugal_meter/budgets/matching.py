"""A budget that nothing can match counts nothing, and looks kept: who wrote "/lettre/*" for "/letters/*" wants to know."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from .budget import Budget


def misses(budgets: Iterable[Budget], routes: Collection[str]) -> list[str]:
    """A line for each budget whose route patterns fit none of ``routes``, all that the application has.

    A pattern that does not begin with "/" may mean a measured block, which nobody knows beforehand: it is told of only where
    it is a route that lacks its slash.
    """
    return [line for budget in budgets if routes and (line := _miss(budget, routes))]


def _miss(budget: Budget, routes: Collection[str]) -> str | None:
    patterns = budget.match.get("route", ())
    if not patterns or _fit(patterns, routes):
        return None
    slashed = [pattern if pattern.startswith("/") else f"/{pattern}" for pattern in patterns]
    found = [route for route in sorted(routes) if _fit(slashed, (route,))]
    if not found:
        if any(not pattern.startswith("/") for pattern in patterns):
            return None
        found = difflib.get_close_matches(patterns[0], sorted(routes), 1, cutoff=0.5)
    hint = f"did you mean {found[0]!r}?" if found else f"it has {', '.join(sorted(routes)[:5])}"
    return f"budget {budget.name!r} counts nothing: no route of this application fits {' or '.join(map(repr, patterns))}; {hint}"


def _fit(patterns: Iterable[str], routes: Iterable[str]) -> bool:
    return any(fnmatchcase(route, pattern) for pattern in patterns for route in routes)
