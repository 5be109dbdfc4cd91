"""``frugal.toml``: a meter's settings in a file, with every key checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .budgets.budget import Budget
from .errors import ConfigurationError
from .tables import only, read_tables

DEFAULT_PATH: Final = "frugal.toml"
METER_KEYS: Final = (
    "service",
    "zone",
    "sources",
    "tick",
    "pue",
    "factor_pack",
    "grid",
    "host_share",
    "idle_watts",
    "declared",
    "calibration",
    "capture_usage",
    "workers",
    "host_root",
    "native_sections",
    "store",
    "on_store_error",
    "log_tenants",
    "refusals",
    "rewrite",
    "rewrite_limit",
    "qualities",
    "usage_carbon",
    "callers",
    "journal",
)
BUDGET_KEYS: Final = (
    "name",
    "limit",
    "per",
    "key",
    "match",
    "estimate",
    "warn_at",
    "degrade_at",
    "throttle_at",
    "throttle_wait",
    "max_fraction",
    "max_in_flight",
    "hard",
    "enforce",
    "require_tier",
    "basis",
    "timezone",
    "sliding",
    "scope",
    "min_quality",
    "fallback_url",
)
OTEL_KEYS: Final = ("endpoint", "interval", "spans", "settled_spans")


def load(path: str | Path | None = None) -> dict[str, Any]:
    """Keyword arguments for `Meter` from ``path``, ``$FRUGAL_CONFIG`` or ``frugal.toml``.

    The file has a ``[meter]`` table, any number of ``[[budget]]`` tables, to export over OTLP an ``[otel]`` table and for the
    public a ``[declaration]`` table, which are handed on as they are. Raises ConfigurationError, in one line with
    the file and the key, for a file that cannot be read, a key that does not exist or a value that cannot mean anything.
    """
    file = Path(path or os.environ.get("FRUGAL_CONFIG") or DEFAULT_PATH)
    _, tables = read_tables(file, "name the file, or set FRUGAL_CONFIG")
    only(f"{file}: the file", tables, ("meter", "budget", "otel", "declaration"))
    meter = tables.get("meter", {})
    if not isinstance(meter, dict):
        raise ConfigurationError(f"{file}: [meter] is a table")
    only(f"{file}: [meter]", meter, METER_KEYS)
    if "service" not in meter:
        raise ConfigurationError(f'{file}: [meter] needs service = "…", the name of what is metered')
    for name in ("calibration", "factor_pack"):
        if isinstance(meter.get(name), str):
            meter[name] = str(file.parent / meter[name])  # beside the file, wherever the service is started
    return {
        **meter,
        "budgets": [_budget(file, table) for table in _tables(file, tables.get("budget", []))],
        **_otel(file, tables),
        **({"declaration": tables["declaration"]} if "declaration" in tables else {}),
    }


def _otel(file: Path, tables: Mapping[str, Any]) -> dict[str, Any]:
    otel = tables.get("otel")
    if otel is None:
        return {}
    if not isinstance(otel, dict):
        raise ConfigurationError(f"{file}: [otel] is a table")
    only(f"{file}: [otel]", otel, OTEL_KEYS)
    return {"otel": otel}


def _tables(file: Path, budgets: Any) -> list[dict[str, Any]]:
    if not isinstance(budgets, list) or not all(isinstance(b, dict) for b in budgets):
        raise ConfigurationError(f"{file}: budgets are written as [[budget]] tables, with double brackets")
    return budgets


def _budget(file: Path, table: dict[str, Any]) -> Budget:
    where = f"[[budget]] {table.get('name', '')!r}"
    only(f"{file}: {where}", table, BUDGET_KEYS)
    missing = [key for key in ("name", "limit", "per") if key not in table]
    if missing:
        raise ConfigurationError(f"{file}: {where} needs {', '.join(missing)}")
    if isinstance(table.get("key"), list):
        table["key"] = tuple(table["key"])
    try:
        return Budget(**table)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


class WatchedFile:
    """The configuration file, and whether it has changed since it was last read."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = Path(path or os.environ.get("FRUGAL_CONFIG") or DEFAULT_PATH).absolute()
        self._seen = self._mark()

    def changed(self) -> bool:
        """Whether it is another file, or was written, since the last look; one that is gone is not."""
        mark = self._mark()
        if mark is None or mark == self._seen:
            return False
        self._seen = mark
        return True

    def budgets(self) -> list[Budget]:
        """Its budgets now; raises ConfigurationError."""
        found: list[Budget] = load(self.path)["budgets"]
        return found

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
