"""`Live`: keeps a meter's factor in step with a live grid provider, on a thread of its own.

Each answer is in force from the moment it came. Answers are kept on disk, so that workers and restarts do not ask again;
when a provider fails it is asked ever more rarely, and once its last answer is old the fallback takes over, flagged.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from ..errors import ConfigurationError, FactorError
from .factors import Factor, check_compatible
from .packs import FALLBACK_FLAG
from .providers.base import Asked, Provider, Unanswered
from .providers.fetch import fetch

FIRST_RETRY_S: Final = 30.0
LONGEST_RETRY_S: Final = 3600.0
#: an answer that describes a moment further back than this is not "now" any more; ENTSO-E is up to three hours late
STALE_AFTER_S: Final = 6 * 3600.0
CACHED_FLAG: Final = "factor:cached"
_STOP_WAIT_S: Final = 2.0


class Kept(msgspec.Struct, frozen=True):
    """An answer on disk: the factor, and when it came (Unix time, s)."""

    retrieved_at: float
    factor: Factor


class Live:
    """Asks ``provider`` once per period and hands what comes to ``change``.

    ``fallback`` holds until the first answer and whenever the newest is older than six hours; it must be of the provider's
    scope and basis. ``cache`` is a folder, None for none. ``fault`` counts what went wrong. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        provider: Provider,
        fallback: Factor,
        change: Callable[[Factor], None],
        *,
        fault: Callable[[str, BaseException], None],
        cache: Path | None = None,
        get: Callable[[Asked], bytes] = fetch,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        check_fallback(provider, fallback)
        self.provider, self._change, self._fault, self._get, self._now = provider, change, fault, get, now
        self.fallback = msgspec.structs.replace(fallback, flags=tuple(dict.fromkeys((*fallback.flags, FALLBACK_FLAG))))
        self._file = None if cache is None else cache / f"grid-{provider.name}-{provider.zone}.json"
        # Workers that start together must not come back together.
        self._rng = rng or random.Random()
        self.failures = 0
        self._kept: Kept | None = None
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start asking, at once."""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frugal-grid", args=(self._wake,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop asking; a request under way is left to its own time limit, on its daemon thread."""
        thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join(_STOP_WAIT_S)

    def _run(self, wake: threading.Event) -> None:
        wait_s = 0.0
        while not wake.wait(wait_s):
            try:
                wait_s = self.refresh()
            except Exception as error:
                self._fault("grid", error)
                wait_s = LONGEST_RETRY_S

    def refresh(self) -> float:
        """Ask once, unless a fresh answer is on disk; returns the seconds until the next time."""
        now = self._now()
        if (other := self._from_disk()) is not None and (self._kept is None or other.retrieved_at > self._kept.retrieved_at):
            self._kept = other
        if self._kept is not None and 0 <= now - self._kept.retrieved_at < self.provider.period_s:
            self._put(self._kept.factor, now)
            return self.provider.period_s - (now - self._kept.retrieved_at)
        try:
            factor = self.provider.read(self._get(self.provider.ask(datetime.fromtimestamp(now, UTC))))
        except Unanswered as error:
            return self._failed(error, now)
        self.failures = 0
        self._kept = Kept(now, factor)
        self._to_disk(self._kept)
        self._put(factor, now)
        return self.provider.period_s

    def _failed(self, error: Unanswered, now: float) -> float:
        self.failures += 1
        self._fault("grid", error)
        if self._kept is not None:
            told = self._kept.factor
            self._put(msgspec.structs.replace(told, flags=tuple(dict.fromkeys((*told.flags, CACHED_FLAG)))), now)
        else:
            self._change(self.fallback)
        return backoff_s(self.failures, error.retry_after_s, self._rng)

    def _put(self, factor: Factor, now: float) -> None:
        described = datetime.fromisoformat(factor.at or "").timestamp()
        self._change(factor if now - described <= STALE_AFTER_S else self.fallback)

    def _from_disk(self) -> Kept | None:
        """The last answer, of this process or another; None for none that can be read: it is a cache."""
        if self._file is None:
            return None
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=Kept)
            check_compatible(self.fallback, kept.factor)
        except (OSError, msgspec.MsgspecError, FactorError, UnicodeDecodeError):
            return None
        same = kept.factor.zone == self.provider.zone and kept.factor.id.startswith(f"{self.provider.name}:")
        return kept if same and kept.factor.at is not None else None

    def _to_disk(self, kept: Kept) -> None:
        if self._file is None:
            return
        trial = self._file.with_suffix(f".{os.getpid()}.part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(msgspec.json.encode(kept))
            trial.replace(self._file)
        except OSError as error:
            self._fault("grid-cache", error)
            with contextlib.suppress(OSError):
                trial.unlink()


def check_fallback(provider: Provider, fallback: Factor) -> None:
    """Raise `ConfigurationError` unless ``fallback`` may stand in for the provider's figures in one sum."""
    if (provider.scope, provider.basis) != (fallback.scope, fallback.basis):
        raise ConfigurationError(
            f"live grid {provider.name!r} is {provider.scope}, {provider.basis}-based, and its fallback {fallback.id} is "
            f"{fallback.scope}, {fallback.basis}-based: they cannot be added; give "
            f"factor=Factor.declared({provider.zone!r}, …, scope={provider.scope!r}, …)"
        )
    if fallback.zone != provider.zone:
        raise ConfigurationError(f"live grid {provider.name!r} is of zone {provider.zone} and its fallback of {fallback.zone}")


def backoff_s(failures: int, retry_after_s: float | None, rng: random.Random) -> float:
    """Seconds to wait after so many failures in a row: doubling from 30 s to an hour, half of it jitter.

    What the provider asked for (Retry-After) is kept, up to a day: a longer one is a mistake or an attack.
    """
    grown = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 10))
    waited = grown * (0.5 + 0.5 * rng.random())
    return waited if retry_after_s is None else max(waited, min(retry_after_s, 86_400.0))


def cache_folder() -> Path | None:
    """``$XDG_CACHE_HOME/frugal-meter``, else ``~/.cache/frugal-meter``; None where there is no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "frugal-meter"
    try:
        return Path.home() / ".cache" / "frugal-meter"
    except RuntimeError:
        return None
