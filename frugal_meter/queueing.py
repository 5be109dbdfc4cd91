"""A request that waits for its admission, and its client, who may leave meanwhile: then it leaves the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
#: how much of a body is read ahead while its request waits: a larger upload is left with the server, and its client unwatched
_MOST_BYTES: Final = 64 * 1024
_LEFT: Final = ("http.disconnect", "websocket.disconnect")


class Arrivals:
    """A client's messages, read while its request waits and handed to the application afterwards, in order."""

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._read: list[Message] = []
        self._bytes = 0
        self._next: asyncio.Future[Message] | None = None

    async def watch(self, work: Awaitable[None]) -> bool:
        """Await ``work``; True when the client left first: ``work`` is then cancelled. What ``work`` raises is raised."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                if self._next is None and self._bytes < _MOST_BYTES:
                    self._next = asyncio.ensure_future(self._receive())
                either: list[asyncio.Future[Any]] = [task, *([self._next] if self._next is not None else [])]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._next is not None and self._next.done() and self._left(self._next):
                    break
        finally:
            left = not task.done()
            task.cancel()
            await asyncio.wait([task])
        if not left:
            task.result()
        return left

    def _left(self, arrived: asyncio.Future[Message]) -> bool:
        """Keep what has arrived; whether it is the client's leaving."""
        if arrived.cancelled() or arrived.exception() is not None:
            self._bytes = _MOST_BYTES  # the application meets it when it reads
            return False
        message = arrived.result()
        self._next = None
        self._read.append(message)
        self._bytes += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
        return message["type"] in _LEFT

    async def receive(self) -> Message:
        """The next message: what was read ahead, then what comes."""
        if self._read:
            return self._read.pop(0)
        if self._next is not None:
            awaited, self._next = self._next, None
            return await awaited
        return await self._receive()

    def close(self) -> None:
        """Nobody reads any more."""
        if self._next is not None:
            self._next.cancel()
