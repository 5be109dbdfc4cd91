"""Sections that open by themselves: the native pool, held while a known library computes for the running span.

Only where the heavy call is one plain Python method. A library is never imported: one that is there when a meter starts, or
at a later tick, has its method wrapped on its class, which bound methods, subclasses and signatures do not show. Without a
span the original runs at the price of one look. What else computes natively is held by hand: ``meter.holding``.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, NamedTuple

from ..errors import ConfigurationError
from .pools import NATIVE, Section
from .span import SPAN, Span


class Method(NamedTuple):
    """A method that blocks its caller while the library's own threads compute."""

    module: str
    owner: str
    name: str


_ONNX: Final = "onnxruntime.capi.onnxruntime_inference_collection"
#: as found in onnxruntime 1.31, ik-llama-cpp-python 0.1 and the source of llama-cpp-python 0.3; none of them calls another one.
#: onnxruntime's ``run_async`` is left out: it returns before the work is done
METHODS: Final = (
    Method(_ONNX, "Session", "run"),
    Method(_ONNX, "Session", "run_with_iobinding"),
    Method(_ONNX, "Session", "run_with_ort_values"),
    Method(_ONNX, "Session", "run_with_ortvaluevector"),
    Method("llama_cpp._internals", "LlamaContext", "decode"),
    Method("llama_cpp._internals", "LlamaContext", "encode"),
    Method("ik_llama_cpp._internals", "IkContext", "decode"),
)


class _Wrapped(NamedTuple):
    owner: type
    original: Callable[..., Any]
    ours: Callable[..., Any]


#: off means pass-through: what is wrapped stays so where somebody has wrapped it again
enabled = True
_wrapped: dict[Method, _Wrapped] = {}


class _Thread(threading.local):
    section: Section | None = None  # the last one that opened by itself here


_thread = _Thread()


def wanted(setting: object) -> bool:
    """Whether ``native_sections`` asks for this; raises ConfigurationError for what is neither "auto" nor "off"."""
    if setting not in ("auto", "off"):
        raise ConfigurationError(f'native_sections is "auto" or "off", not {setting!r}')
    return setting == "auto"


def install() -> None:
    """Wrap the methods of the libraries that are imported; safe to call again and again."""
    global enabled
    enabled = True
    look()


def look() -> None:
    """Wrap what has been imported since the last look; a few lookups where nothing has."""
    for method in METHODS if enabled else ():
        if method not in _wrapped and method.module in sys.modules:
            _wrap(method)


def uninstall() -> None:
    """Turn the sections off; an original is put back only where ours is still outermost."""
    global enabled
    enabled = False
    for method, (owner, original, ours) in list(_wrapped.items()):
        if vars(owner).get(method.name) is ours:
            setattr(owner, method.name, original)
            del _wrapped[method]


def _wrap(method: Method) -> None:
    # By the module's own dictionary: asking a lazy module for an attribute would import what nobody has asked for.
    owner = getattr(sys.modules[method.module], "__dict__", {}).get(method.owner)
    original = vars(owner).get(method.name) if isinstance(owner, type) else None
    if owner is None or type(original) is not FunctionType or _returns_before_its_work(original):
        return  # half imported, another version, or no plain method: left as it is
    ours = _held(original)
    # One of two meters that look at the same time wraps; the other finds it done.
    if _wrapped.setdefault(method, _Wrapped(owner, original, ours)).ours is ours:
        setattr(owner, method.name, ours)


def _returns_before_its_work(fn: FunctionType) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)


def _held(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def held(*args: Any, **kwargs: Any) -> Any:
        span = SPAN.get() if enabled else None
        section = None if span is None else _opened(span)
        if section is None:
            return original(*args, **kwargs)
        try:
            return original(*args, **kwargs)
        finally:
            _close(section, span)

    return held


def _opened(span: Span) -> Section | None:
    """A section of ``span``; None where it is held already, not wanted, or could not be opened."""
    try:
        sections = span.desk.sections
        if not sections.automatic or span.t1_ns or _holds(span):
            return None
        section = Section(sections, NATIVE, span.key, 1)
        section.__enter__()
    except Exception as error:
        span.desk.fault("section", error)
        return None
    _thread.section = section
    return section


def _close(section: Section, span: Span | None) -> None:
    try:
        section.__exit__(None, None, None)
    except Exception as error:
        if span is not None:
            span.desk.fault("section", error)


def _holds(span: Span) -> bool:
    """Whether ``span``, or one around it, holds the pool by its own word, or by a call that this one is made from.

    Its calls on other threads do not count: two at once are two shares of the pool, and either may end first.
    """
    last = _thread.section
    caller = last.span_key if last is not None and last.open else None
    at: Span | None = span
    while at is not None:
        if at.declared or at.key == caller:
            return True
        at = at.parent
    return False
