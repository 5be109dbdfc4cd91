"""``module:attribute`` to an ASGI application, with one line for each way in which it can fail."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from .errors import ConfigurationError
from .meter import Meter
from .middleware import MeterMiddleware

_EXAMPLE: Final = "write MODULE:APP, such as main:app"


def load_app(target: str, *, factory: bool = False, metered: bool = False) -> Any:
    """The ASGI application that ``target`` names; with ``factory``, what the function that it names returns.

    The current folder is importable, as with ``python -m``. One that meters itself is refused, unless ``metered``.
    Raises ConfigurationError, in one line.
    """
    found = load_object(target, "application", _EXAMPLE)
    if factory:
        found = _made(found, target)
    refuse_what_is_not_asgi(found, target)
    if not metered:
        refuse_what_meters_itself(found, target)
    return found


def load_object(target: str, what: str, example: str) -> Any:
    """What ``MODULE:NAME`` names, as ``what`` it is to be, with an ``example``. Raises ConfigurationError, in one line."""
    name, colon, attributes = target.partition(":")
    if not (name and colon and attributes):
        raise ConfigurationError(f"{target!r} names no {what}: {example}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _module(name, target)
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise ConfigurationError(f"{target}: module {name!r} has no attribute {attributes!r}; {example}") from None
    return found


def meter_of(app: Any) -> Meter | None:
    """The meter that ``app`` has around it (Starlette's and FastAPI's middleware, or `MeterMiddleware` itself), or None."""
    if isinstance(app, MeterMiddleware):
        return app.meter
    given = getattr(app, "user_middleware", ())
    for each in given if isinstance(given, list | tuple) else ():
        cls, options = getattr(each, "cls", None), getattr(each, "kwargs", {})
        if inspect.isclass(cls) and issubclass(cls, MeterMiddleware) and "meter" in options:
            return options["meter"]  # type: ignore[no-any-return]
    return None


def _module(name: str, target: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"{target}: module {name!r} is not found; run this in its folder, or put its folder on PYTHONPATH"
            ) from None
        raise ConfigurationError(f"{target} cannot be imported: {_cause(error)}") from None
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{target} cannot be imported: {_cause(error)}") from None


def _made(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise ConfigurationError(f"{target} is not a function: leave --factory out")
    try:
        return factory()
    except Exception as error:
        raise ConfigurationError(f"{target}() failed: {_cause(error)}") from None


def _cause(error: BaseException) -> str:
    """What failed, and the innermost line of code where."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    said = str(error.msg if isinstance(error, SyntaxError) else error)
    return f"{type(error).__name__}: {said.splitlines()[0] if said else ''}{where}"


def refuse_what_is_not_asgi(app: Any, target: str) -> None:
    """Raise ConfigurationError unless ``app`` can be called as ``app(scope, receive, send)`` and awaited."""
    if not callable(app):
        raise ConfigurationError(f"{target} is not an ASGI application but {_a(app)}; {_EXAMPLE}")
    if inspect.isclass(app) and not hasattr(app, "__await__"):
        raise ConfigurationError(f"{target} is a class, not an ASGI application: name an instance of it, or add --factory")
    takes = [count for count in range(4) if _can_take(app, count)]
    if 3 in takes:
        return
    if 0 in takes:
        raise ConfigurationError(
            f"{target} is a function without arguments, not an ASGI application: if it makes one, add --factory"
        )
    if 2 in takes:
        raise ConfigurationError(
            f"{target} looks like a WSGI application (Flask, Django's wsgi.py): name its ASGI one, or wrap it with a2wsgi"
        )
    raise ConfigurationError(f"{target} is not an ASGI application: it cannot be called with (scope, receive, send)")


def refuse_what_meters_itself(app: Any, target: str) -> None:
    """Raise ConfigurationError when ``app`` is in a MeterMiddleware already: each request would be metered twice."""
    given = getattr(app, "user_middleware", ())  # Starlette and FastAPI
    classes = [getattr(each, "cls", None) for each in given] if isinstance(given, list | tuple) else []
    if isinstance(app, MeterMiddleware) or any(inspect.isclass(c) and issubclass(c, MeterMiddleware) for c in classes):
        raise ConfigurationError(
            f"{target} meters itself already (MeterMiddleware in it): start it with uvicorn, or remove it and @meter.measure"
        )


def _can_take(app: Any, count: int) -> bool:
    try:
        inspect.signature(app).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a callable written in C does not tell: let it try
        return count == 3
    return True


def _a(thing: object) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
