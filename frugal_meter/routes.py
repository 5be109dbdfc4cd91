"""The route template of a request: known after routing, and before it only by asking the router."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final

UNMATCHED: Final = "unmatched"
#: anything else a client invents is one label
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OTHER_METHOD: Final = "_OTHER"


#: more routes than this are looked at anew each time
_MOST_KNOWN: Final = 1000


class Templates:
    """`template`, kept per route object: a request then costs a look-up instead of six questions to its route."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, str]] = {}  # the route is kept, so that its id stays its own

    def of(self, scope: Mapping[str, Any], root_before: str) -> str:
        """`template` of ``scope``."""
        route = scope.get("route")
        if route is None or "fastapi" in scope or scope.get("root_path", "") != root_before:
            return template(scope, root_before)
        known = self._known.get(id(route))
        if known is None:
            known = route, template(scope, root_before)
            if len(self._known) < _MOST_KNOWN:
                self._known[id(route)] = known
        return known[1]


def template(scope: Mapping[str, Any], root_before: str) -> str:
    """The template of the route that handled ``scope``, after the call; ``unmatched`` where there was none.

    FastAPI leaves the whole path format in the scope. Starlette leaves the innermost route, whose path lacks what
    mounts in front of it took: that is what ``root_path`` has gained since ``root_before``.
    """
    fastapi = scope.get("fastapi")
    if fastapi is not None:
        context = fastapi.get("effective_route_context") if isinstance(fastapi, Mapping) else None
        path = getattr(context, "path_format", None)
        if isinstance(path, str):
            return _gained(scope, root_before) + path
    route = scope.get("route")
    path = getattr(route, "path", None)
    if not isinstance(path, str) or hasattr(route, "routes"):  # a Mount is no route
        return UNMATCHED
    return _gained(scope, root_before) + path


def method(scope: Mapping[str, Any]) -> str | None:
    """The request's method, invented ones as one."""
    name = scope.get("method")
    return name if name in METHODS else OTHER_METHOD


def _gained(scope: Mapping[str, Any], root_before: str) -> str:
    root = scope.get("root_path") or ""
    return root[len(root_before) :] if root.startswith(root_before) else ""


def match(app: Any, scope: Mapping[str, Any]) -> str | None:
    """The template that ``app``'s router will choose for ``scope``; None when it cannot be asked."""
    routes = getattr(app, "routes", None)
    return None if routes is None else _match(routes, dict(scope), "")


def templates(app: Any, skip: Collection[object] = (), prefix: str = "", *, hidden: bool = False) -> Iterator[tuple[str, bool]]:
    """The template of each route of ``app``, mounted ones too, and whether it is a websocket's. Left out: applications in
    ``skip``, and unless ``hidden`` what the application hides from its own schema (FastAPI's documentation pages).
    """
    for route in _flat(getattr(app, "routes", None) or ()):
        path = prefix + _path(route)
        inner = getattr(route, "app", None)
        if hasattr(route, "endpoint"):
            if hidden or getattr(route, "include_in_schema", True):
                yield path, not hasattr(getattr(route, "starlette_route", None) or route, "methods")
        elif not any(inner is each for each in skip):
            yield from templates(route, skip, path, hidden=hidden)


def leads_to(app: Any, scope: Mapping[str, Any], targets: Collection[object]) -> bool:
    """Whether ``app``'s router hands ``scope`` to one of the applications ``targets``, mounted at any depth."""
    at: MutableMapping[str, Any] = dict(scope)
    while targets and (routes := getattr(app, "routes", None)):
        for route in _flat(routes):
            found, child = route.matches(at) if hasattr(route, "matches") else (None, {})
            if found is not None and found.value > 1:  # Match.FULL
                at, app = {**at, **child}, getattr(route, "app", None)
                break
        else:
            return False
        if any(app is target for target in targets):
            return True
    return False


def _match(routes: Iterable[Any], scope: MutableMapping[str, Any], prefix: str) -> str:
    partial: str | None = None  # the path fits and the method does not: what the router answers 405 with
    for route in _flat(routes):
        matches = getattr(route, "matches", None)
        if matches is None:
            continue
        found, child = matches(scope)
        if not found.value:  # Match.NONE
            continue
        path = prefix + _path(route)
        if hasattr(route, "endpoint"):
            below = path
        else:  # a mount, or another router inside
            inner = getattr(route, "routes", None)
            below = _match(inner, {**scope, **child}, path) if inner else UNMATCHED
        if found.value > 1:  # Match.FULL
            return below
        partial = partial or below
    return partial or UNMATCHED


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """FastAPI keeps an included router as one entry, whose contexts are its routes with their prefixes."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if callable(contexts):
            yield from contexts()
        else:
            yield route


def _path(route: Any) -> str:
    for holder, name in ((route, "path_format"), (getattr(route, "starlette_route", None), "path"), (route, "path")):
        path = getattr(holder, name, None)
        if path and isinstance(path, str) and (name != "path_format" or hasattr(route, "endpoint")):
            return path
    return ""
