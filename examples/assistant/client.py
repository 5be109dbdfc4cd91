"""The load: real HTTP requests from a process of its own, so that the client's work is booked as "other processes".

Run as ``python -m examples.assistant.client URL [--seed N]``; prints one JSON line per finished request.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx

from .corpus import load_heldout

#: how many requests of each kind, and how many at once: enough for stable means, short enough for two cores
FAQ_ALONE: Final = 24
FAQ_BESIDE: Final = 24
ASK: Final = 8
CONCURRENCY: Final = 4
CUT_AFTER: Final = 3
LETTERS: Final = 2
REPORTS: Final = 2
TOTAL: Final = FAQ_ALONE + FAQ_BESIDE + ASK + 2 + LETTERS + REPORTS
#: always the same question where a budget is shown: what it costs is known beforehand
BUDGET_QUESTION: Final = "Combien coûte la location de la salle des fêtes ?"
#: one that has a text and takes some fifty tokens: a citizen can hang up in the middle
STREAM_QUESTION: Final = "Quelle autorisation pour un abri de jardin ?"

Outcome = dict[str, Any]


def send(http: httpx.Client, kind: str, question: str) -> Outcome:
    """One request; answers with its kind, status, seconds and decoded body."""
    began = time.perf_counter()
    if kind == "/faq":
        reply = http.get("/faq", params={"q": question})
    else:
        reply = http.post(kind, json={"question": question})
    body = reply.json() if "json" in reply.headers.get("content-type", "") else None
    return {"route": kind, "status": reply.status_code, "seconds": time.perf_counter() - began, "body": body}


def listen(http: httpx.Client, question: str, stop_after: int | None) -> Outcome:
    """One streamed answer, left after ``stop_after`` events when given: a citizen who hangs up."""
    began, events = time.perf_counter(), 0
    with http.stream("GET", "/ask/stream", params={"q": question}) as reply:
        for line in reply.iter_lines():
            events += line.startswith("data: {")
            if events == stop_after:
                break
    seconds = time.perf_counter() - began
    return {"route": "/ask/stream", "status": reply.status_code, "seconds": seconds, "body": {"events": events}}


def load(base: str, seed: int) -> Iterator[Outcome]:
    """The whole load against ``base``: retrieval alone, generation and retrieval together, streams, budgets."""
    chance = random.Random(seed)
    questions = [q.text for q in load_heldout() if q.entry]
    chance.shuffle(questions)
    with httpx.Client(base_url=base, timeout=120, trust_env=False) as http, ThreadPoolExecutor(CONCURRENCY) as crowd:
        yield from crowd.map(lambda q: send(http, "/faq", q), questions[:FAQ_ALONE])
        mixed = [("/ask", q) for q in questions[:ASK]] + [("/faq", q) for q in questions[-FAQ_BESIDE:]]
        chance.shuffle(mixed)
        yield from crowd.map(lambda job: send(http, *job), mixed)
        yield listen(http, STREAM_QUESTION, None)
        yield listen(http, STREAM_QUESTION, CUT_AFTER)
        for kind, times in (("/letters", LETTERS), ("/reports", REPORTS)):
            for _ in range(times):
                yield send(http, kind, BUDGET_QUESTION)


def main(argv: Sequence[str] | None = None, write: Callable[[str], object] = sys.stdout.write) -> int:
    """Send the load to the URL on the command line; 1 with one line on stderr when nobody answers there."""
    parser = argparse.ArgumentParser(prog="python -m examples.assistant.client")
    parser.add_argument("url")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args(argv)
    try:
        for outcome in load(asked.url, asked.seed):
            write(json.dumps(outcome, ensure_ascii=False) + "\n")
            sys.stdout.flush()
    except httpx.HTTPError as error:
        print(f"{asked.url}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
