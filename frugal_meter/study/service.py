"""The service of one repetition, as the study sees it: a process of its own, and the requests sent to it."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ..errors import ConfigurationError
from .loads import Request
from .worker import Job

#: the line of a log that tells why: the last that names an exception
_EXCEPTION: Final = re.compile(r"^[\w.]*(?:Error|Exception|Exit|Interrupt|Unavailable)\b.*", re.MULTILINE)
_MOST_SAID: Final = 300
_STOP_S: Final = 60.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back; ``status`` None and ``why`` where nothing did. Kept until it is judged, and not longer."""

    status: int | None
    seconds: float
    headers: dict[str, str] = {}
    body: bytes = b""
    why: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it is an answer, and no error."""
        return self.status is not None and self.status < 400

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, decoded. Raises msgspec.DecodeError."""
        return msgspec.json.decode(self.body)


class Service:
    """A running worker: `phase` tells it what begins, `send` asks it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self.url = ""
        self.head = b""

    def phase(self, name: str) -> None:
        """Begin a phase; returns once all that was before is booked. Raises ConfigurationError."""
        self._say(name.encode())
        self.heard()

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except OSError:  # it has ended: what it said last tells why
            pass

    def heard(self) -> dict[str, str]:
        """What the worker answers. Raises ConfigurationError for an error, or its end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ConfigurationError(f"the service ended by itself{self._last_words()}")
        told = msgspec.json.decode(line, type=dict[str, str])
        if "error" in told:
            raise ConfigurationError(f"{told['error']}{self._last_words() if told['see'] else ''}")
        return told

    def _last_words(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        why = _EXCEPTION.findall(text) or text.splitlines()
        return f"; it said last: {why[-1].strip()[:_MOST_SAID]}" if why else ""

    def begin(self, job: Job) -> None:
        """Start serving. Raises ConfigurationError."""
        self._say(msgspec.json.encode(job))
        told = self.heard()
        self.url, self.head = told["url"], told["head"].encode()

    def send(
        self, requests: Sequence[Request], *, concurrency: int, timeout_s: float, done: Callable[[], None]
    ) -> Iterator[tuple[Request, Answer]]:
        """Ask ``requests``, so many at once, in their order; ``done`` is called after each, on any thread."""
        host = urlsplit(self.url).netloc

        def ask(request: Request) -> tuple[Request, Answer]:
            answer = asked(host, request, timeout_s)
            done()
            return request, answer

        with ThreadPoolExecutor(concurrency) as crowd:
            yield from crowd.map(ask, requests)


def asked(host: str, request: Request, timeout_s: float) -> Answer:
    """One request on a connection of its own; a failure is an answer too."""
    began = time.perf_counter()
    link = http.client.HTTPConnection(host, timeout=timeout_s)
    try:
        link.request(request.method, request.path, request.body, request.headers)
        reply = link.getresponse()
        body, headers = reply.read(), {name.lower(): value for name, value in reply.getheaders()}
        why = None if reply.status < 400 else f"HTTP {reply.status}"
        return Answer(status=reply.status, seconds=time.perf_counter() - began, headers=headers, body=body, why=why)
    except TimeoutError:
        return Answer(status=None, seconds=time.perf_counter() - began, why=f"no answer within {timeout_s:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Answer(status=None, seconds=time.perf_counter() - began, why=type(error).__name__)
    finally:
        link.close()


@contextmanager
def serving(job: Job, folder: Path, env: dict[str, str], log: Path) -> Iterator[Service]:
    """A worker for ``job``, started in ``folder`` with ``env`` added, ended with the block. Raises ConfigurationError."""
    # Its own session: Ctrl-C is the study's to handle, and ends the worker in good order.
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "frugal_meter.study.worker"],
            cwd=folder,
            env={**os.environ, **env},
            stderr=errors,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    service = Service(process, log)
    try:
        service.begin(job)
        yield service
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        process.wait(_STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
