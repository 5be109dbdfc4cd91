"""Hooks that carry the running span into work it starts: child tasks, executors, anyio's worker threads.

Installed once, reversible, chained with others' hooks, and invisible to code that runs without a span. What they do
not see (``call_soon``, executor classes of one's own, bare threads, process pools) is booked as overhead, or carried
by hand with ``meter.carry``.
"""

from __future__ import annotations

import asyncio
import collections.abc
import functools
import importlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from .clocks import Owner, enter, leave, take_over
from .span import SPAN, Span

#: off means pass-through: the hooks stay where they are and do nothing
enabled = True

_submit: Callable[..., Any] | None = None
_anyio: tuple[type, Any, Any] | None = None


class ChildTask(collections.abc.Coroutine[Any, Any, Any]):
    """A coroutine run at its span's expense, that looks like the one it carries.

    A class and not an ``async def``: names, ``repr``, cancellation before the first step and tracebacks stay the user's.
    """

    __slots__ = ("__weakref__", "_coro", "_owner", "_span")

    def __init__(self, coro: Coroutine[Any, Any, Any], span: Span) -> None:
        self._coro = coro
        self._span: Span | None = span
        self._owner: Owner | None = span.owner()

    def _payer(self) -> Owner | None:
        span = self._span
        if span is not None and span.t1_ns:
            # The span is over: what goes on after it is late work, booked by route.
            self._span = None
            self._owner = span.desk.late(span).cell_here()
        return self._owner

    def send(self, value: Any) -> Any:
        """One step of the coroutine, charged."""
        previous = enter(self._payer())
        try:
            return self._coro.send(value)
        finally:
            self._owner = leave(previous)  # a block opened inside goes on paying after an await

    def __next__(self) -> Any:
        previous = enter(self._payer())  # as `send`, which a task asks for this way; calling it would be a second frame
        try:
            return self._coro.send(None)
        finally:
            self._owner = leave(previous)

    def throw(self, *error: Any) -> Any:
        """Raise inside the coroutine, charged."""
        previous = enter(self._payer())
        try:
            return self._coro.throw(*error)
        finally:
            self._owner = leave(previous)

    def close(self) -> None:
        """Close the coroutine, charged."""
        previous = enter(self._payer())
        try:
            self._coro.close()
        finally:
            leave(previous)

    def __await__(self) -> ChildTask:
        return self

    __iter__ = __await__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)  # cr_frame, cr_code, __qualname__ …

    def __repr__(self) -> str:
        return repr(self._coro)


class TaskFactory:
    """Makes tasks as the factory before it did, of coroutines that carry the current span."""

    __slots__ = ("inner",)

    def __init__(self, inner: Callable[..., Any] | None) -> None:
        self.inner = inner

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        if enabled:
            context = kwargs.get("context")
            span = SPAN.get() if context is None else context.get(SPAN)
            # Anything else is passed on untouched, so that create_task(5) fails as it always did.
            if span is not None and asyncio.iscoroutine(coro) and type(coro) is not ChildTask:
                coro = ChildTask(coro, span)
        if self.inner is not None:
            return self.inner(loop, coro, **kwargs)
        return asyncio.Task(coro, loop=loop, **kwargs)


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Put our task factory outermost on ``loop``; asked at each request, since users replace factories."""
    factory = loop.get_task_factory()
    if type(factory) is not TaskFactory:
        loop.set_task_factory(TaskFactory(factory))


def watch_running_loop() -> None:
    """`watch_loop` on the loop that runs here; nothing outside asyncio (trio)."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if type(loop.get_task_factory()) is not TaskFactory:
        watch_loop(loop)


def install() -> None:
    """Hook ``ThreadPoolExecutor.submit`` and anyio's worker threads; safe to call again and again."""
    global enabled
    enabled = True
    _install_submit()
    _install_anyio()


def uninstall() -> None:
    """Turn the hooks off; an original is put back only where ours is still outermost."""
    global enabled, _submit, _anyio
    enabled = False
    if _submit is not None and getattr(ThreadPoolExecutor.submit, "_frugal", False):
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]
        _submit = None
    if _anyio is not None:
        backend, original, ours = _anyio
        if backend.__dict__.get("run_sync_in_worker_thread") is ours:
            backend.run_sync_in_worker_thread = original  # type: ignore[attr-defined]
            _anyio = None


def _install_submit() -> None:
    global _submit
    if _submit is not None:
        return
    original = _submit = ThreadPoolExecutor.submit

    @functools.wraps(cast("Callable[..., Any]", original))
    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        span = SPAN.get() if enabled else None
        if span is None:
            _pool_of(self).mixed = True
            return original(self, fn, *args, **kwargs)
        span.lendable()
        return original(self, _in_worker, span, _pool_of(self), fn, *args, **kwargs)

    submit._frugal = True  # type: ignore[attr-defined]
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]


def _install_anyio() -> None:
    global _anyio
    if _anyio is not None:
        return
    try:
        # anyio imports its backend at first use; waiting for that would lose the first requests.
        module = importlib.import_module("anyio._backends._asyncio")
    except ImportError:
        return
    backend = module.AsyncIOBackend
    original = backend.__dict__["run_sync_in_worker_thread"]
    inner = original.__func__

    @functools.wraps(inner)
    def run_sync_in_worker_thread(cls: type, func: Callable[..., Any], args: Any, *rest: Any, **kwargs: Any) -> Any:
        span = SPAN.get() if enabled else None
        pool = _pool_of(asyncio.get_running_loop())  # anyio's worker threads are a loop's
        if span is None:
            pool.mixed = True
            return inner(cls, func, args, *rest, **kwargs)
        span.lendable()
        return inner(cls, _in_worker, (span, pool, func, *args), *rest, **kwargs)

    ours: Any = classmethod(run_sync_in_worker_thread)
    backend.run_sync_in_worker_thread = ours
    _anyio = (backend, original, ours)


class _Pool:
    """What is known of the threads of an executor, or of a loop: whether any work without a span was ever given to them."""

    __slots__ = ("mixed",)

    def __init__(self) -> None:
        self.mixed = False


def _pool_of(holder: Any) -> _Pool:
    try:
        return holder._frugal_pool  # type: ignore[no-any-return]
    except AttributeError:
        pool = _Pool()
    try:
        holder._frugal_pool = pool
    except Exception:  # a loop or executor that keeps no attributes: nothing is known of its threads, and it works on
        pool.mixed = True
    return pool


def _in_worker(span: Span, pool: _Pool | None, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """``fn`` in a worker thread, which may have a context of its own: the span is made current there too."""
    home = span.home()
    cell = home.borrow()
    token = SPAN.set(span)
    # Asked now: whatever this thread has done without a span was given to the pool before.
    previous = enter(cell) if pool is None or pool.mixed else take_over(cell)
    try:
        return fn(*args, **kwargs)
    finally:
        leave(previous)
        home.give_back(cell)
        SPAN.reset(token)


def carried(fn: Callable[..., Any], span: Span | None) -> Callable[..., Any]:
    """``fn`` at ``span``'s expense on whatever thread it runs; ``fn`` itself without a span."""
    if span is None:
        return fn

    span.lendable()

    @functools.wraps(fn)
    def at_its_expense(*args: Any, **kwargs: Any) -> Any:
        return _in_worker(span, None, fn, *args, **kwargs)

    return at_its_expense
