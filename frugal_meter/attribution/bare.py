"""Blocks in bare tasks: ``async with meter.measure()`` in a task that its loop drives and nobody of ours steps.

A task is woken by ``loop.call_soon`` with its context, on asyncio and on uvloop. While such a block is open, callbacks
whose context holds it are wrapped: the span pays from the wake-up to the next suspension, and for nothing between.
The loop gets its own ``call_soon`` back when the last block closes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from .clocks import Owner, Segment, clock, enter, here, leave
from .hooks import ChildTask
from .span import SPAN, Span

_COUNT = "_frugal_meter_bare_blocks"


def bare_task(owner: Owner | None, around: Span | None) -> asyncio.Task[Any] | None:
    """The running task when it is bare; None where a step of ours drives it, or where there is no task.

    ``owner`` pays on this thread now, ``around`` is the span of the context. A span of ours that drives this code is both.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    if task is None or type(task.get_coro()) is ChildTask:
        return None
    if around is not None and owner is around and around.bare_task is None:
        return None
    return task


def follow(span: Span, task: asyncio.Task[Any]) -> None:
    """From now on, and until `unfollow`, ``span`` pays for the wake-ups of its task."""
    span.bare_task = task
    loop: Any = task.get_loop()
    count = getattr(loop, _COUNT, 0)
    setattr(loop, _COUNT, count + 1)
    if not count:
        loop.call_soon = _following(loop.call_soon)


def unfollow(span: Span) -> None:
    """The block is over."""
    task, span.bare_task = span.bare_task, None
    if task is None:
        return
    loop: Any = task.get_loop()
    count = getattr(loop, _COUNT, 1) - 1
    setattr(loop, _COUNT, count)
    if not count and getattr(loop.__dict__.get("call_soon"), "_frugal", False):
        del loop.call_soon  # somebody else's on top of ours is left alone, and ours passes through


def park_at_first_await(span: Span, task: asyncio.Task[Any], before: Owner | None) -> None:
    """For a plain ``with``, which cannot wait for a first wake-up: stop paying as soon as the task lets go,
    and let whoever paid ``before`` pay again.

    Exact where the loop's queue can be seen. On uvloop it cannot, and an eager task (3.12) first lets go to the code that
    made it and not to the loop: others may have run by then, so the block's first stretch is given back to nobody, and the
    span says so.
    """
    loop = task.get_loop()
    ready = getattr(loop, "_ready", None)
    exact = isinstance(ready, deque) and task not in getattr(asyncio.tasks, "_eager_tasks", ())
    handle = loop.call_soon(_park, here(), task, before, exact, context=Context())
    if isinstance(ready, deque) and ready and ready[-1] is handle:
        ready.rotate(1)


def _park(segment: Segment, task: asyncio.Task[Any], before: Owner | None, exact: bool) -> None:
    owner = segment.owner
    if not isinstance(owner, Span) or owner.bare_task is not task:
        return
    if exact:
        enter(before)
        return
    segment.since_ns, segment.owner = clock(), before
    owner.partial = True


class _Resume:
    """A callback of a bare task, run at its block's expense."""

    __slots__ = ("_callback", "_span")

    def __init__(self, callback: Callable[..., Any], span: Span) -> None:
        self._callback, self._span = callback, span

    def __call__(self, *args: Any) -> Any:
        previous = enter(None if self._span.t1_ns else self._span)
        try:
            return self._callback(*args)
        finally:
            leave(previous)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)

    def __repr__(self) -> str:
        return repr(self._callback)


def _following(inner: Callable[..., Any]) -> Callable[..., Any]:
    def call_soon(callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        span = SPAN.get() if context is None else context.get(SPAN)
        if span is not None and span.bare_task is not None and not span.t1_ns:
            callback = _Resume(callback, span)
        return inner(callback, *args, context=context)

    call_soon._frugal = True  # type: ignore[attr-defined]
    return call_soon
