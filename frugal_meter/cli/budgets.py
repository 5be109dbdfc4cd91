"""``frugal-meter budget list | show | grant | revoke | log``: what the service's store of budgets holds, and who may pass."""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from ..budgets.budget import Budget
from ..budgets.decisions import shown_key
from ..budgets.leases import ACTIONS
from ..budgets.overview import Use, uses
from ..budgets.stores import LOG_LINES, Entry, Override, SharedStore
from ..budgets.stores.opening import address_of, open_store, shared_file
from ..errors import ConfigurationError
from ..units import BOOKED_IN, SHOWN_IN
from .factors import table
from .texts import Words

#: a permission lasts as long as the longest window at most: what is needed for longer is another limit
LONGEST_S: Final = 31 * 86_400
_MOST_TEXT: Final = 300
_SECONDS: Final = {"m": 60, "min": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(min|m|h|d)")
#: what may stand in the log: what budgets do, and what people do to them
LOGGED: Final = (*ACTIONS, "grant", "revoke")


class Opened(NamedTuple):
    """The store of a configuration, its budgets, and what time it is (Unix seconds)."""

    store: SharedStore
    budgets: Sequence[Budget]
    now_s: float
    tenants: bool

    def named(self, name: str) -> Budget:
        """The budget called ``name``. Raises ConfigurationError with the nearest name."""
        names = [budget.name for budget in self.budgets]
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(map(repr, names)) or 'none'}"
            raise ConfigurationError(f"no budget {name!r} in the configuration; {hint}")
        return self.budgets[names.index(name)]

    def overrides(self, name: str, *, past: bool = False) -> list[Override]:
        """Those of one budget that are in force, or all there ever were."""
        return [o for o in self.store.overrides() if o.budget == name and (past or o.holds(self.now_s))]

    def record(self, action: str, override: Override, why: str) -> None:
        """Write down what somebody did to a budget."""
        budget = next((b for b in self.budgets if b.name == override.budget), None)
        resource, limit = ("", 0) if budget is None else (budget.resource, budget.limit.amount)
        key = override.key or ()
        if budget is not None and len(key) == len(budget.key):
            key = shown_key(budget, key, tenants=self.tenants)
        self.store.record([Entry(self.now_s, override.budget, resource, key, action, None, None, None, None, limit, why)])


@contextmanager
def opened(settings: Mapping[str, Any]) -> Iterator[Opened]:
    """The store that the service of these settings uses. Raises ConfigurationError where the command line cannot reach it."""
    if "service" not in settings:
        raise ConfigurationError(
            "no configuration: name the service's frugal.toml with --config, or set FRUGAL_CONFIG; "
            "budgets that are declared in its code alone are not seen from here"
        )
    budgets: list[Budget] = list(settings.get("budgets", ()))
    address = _address(settings.get("store", "auto"), settings["service"], budgets)
    store = open_store(address, settings["service"])
    assert store is not None
    try:
        yield Opened(store, budgets, time.time(), bool(settings.get("log_tenants", False)))
    finally:
        store.close()


def _address(told: object, service: str, budgets: Sequence[Budget]) -> str:
    address = address_of(told, service, budgets, alone=True)
    if told == "auto":
        file = shared_file(service)
        if file.exists():
            return f"sqlite://{file}"
        if address == "memory":
            raise ConfigurationError(f"{file}: there is no such store yet; start the service first, or mend store= in [meter]")
    if address == "memory":
        raise ConfigurationError(
            f"store={told!r}: the budgets of {service!r} are in the memory of its process, where nobody else can look; "
            'give it store="sqlite:///path/to/file" or "redis://host:6379/0" in [meter]'
        )
    if address.startswith("sqlite:") and not (file := Path(unquote(urlsplit(address).path))).exists():
        raise ConfigurationError(f"{file}: there is no such store; start the service first, or mend store= in [meter]")
    return address


# -- what there is


def listing(found: Opened, words: Words) -> str:
    """A line a budget: of one that is kept per something its fullest part."""
    states = found.store.states(found.now_s)
    rows = [[words(f"column_{name}") for name in ("budget", "used", "level", "state", "reset", "overrides")]]
    for budget in found.budgets:
        parts = uses(budget, states, found.now_s)
        used, level, reset = ("–", "–", "–") if not parts else (_used(parts[0], words), _level(parts[0], words), _end(parts[0]))
        name = budget.name if not budget.key else f"{budget.name}{words('fullest', n=len(parts), keys=_keys(budget, words))}"
        granted = ", ".join(str(o.id) for o in found.overrides(budget.name)) or "–"
        rows.append([name, used, level, _state(budget, words), reset, granted])
    return table(rows) if found.budgets else words("budgets_none")


def shown(found: Opened, name: str, words: Words) -> str:
    """One budget: its limit, each part, permissions past and present, and what it decided last."""
    budget = found.named(name)
    head = words("budget_line", limit=budget.limit.text, per=words(f"window_{budget.per}"))
    lines = [f"{budget.name}{words.colon} {head}, {_state(budget, words)}"]
    parts = [[_key(use, found), _used(use, words), _level(use, words), _end(use)] for use in uses_of(found, budget)]
    lines += [table(parts)] if parts else []
    written = found.store.recorded(most=LOG_LINES)
    lines += _unmatched(budget, written, words)
    overrides = found.overrides(name, past=True)
    lines += ["", words("overrides_head"), *(_told(o, budget, found, words) for o in overrides)] if overrides else []
    last = [e for e in written if e.budget == name][-10:]
    lines += ["", words("log_head"), log(found, last, words)] if last else []
    return "\n".join(lines)


def _unmatched(budget: Budget, written: Sequence[Entry], words: Words) -> list[str]:
    """That a budget with a ``match`` has had nothing to decide on, which looks like one that is kept."""
    if not budget.match or any(e.budget == budget.name and e.action in ACTIONS for e in written):
        return []
    since = next((e.at_s for e in written if e.action in ACTIONS), None)
    told = {key: "…" if key == "tenant" else " | ".join(patterns) for key, patterns in budget.match.items()}
    match = ", ".join(f"{words(f'key_{key}')} {which}" for key, which in told.items())
    if since is None:
        return [words("unmatched_yet", match=match)]
    return [words("unmatched", match=match, since=_at(since, budget))]


def uses_of(found: Opened, budget: Budget) -> list[Use]:
    """`uses`, asked of the store now."""
    return uses(budget, found.store.states(found.now_s), found.now_s)


def records(found: Opened, name: str | None = None) -> list[dict[str, Any]]:
    """The same for programs: amounts in the unit shown to people, times in Unix seconds; tenants by name only where asked for."""
    states = found.store.states(found.now_s)
    return [
        {
            "budget": budget.name, "unit": SHOWN_IN[budget.resource], "limit": budget.limit.shown, "per": budget.per,
            "enforce": budget.enforce, "require_tier": budget.require_tier, "basis": budget.basis,
            "parts": [
                {
                    "key": list(shown_key(budget, use.key, tenants=found.tenants)), "host": use.host,
                    "settled": _amount(use.settled, budget.resource), "reserved": _amount(use.reserved, budget.resource),
                    "slices": _amount(use.slices, budget.resource), "level": use.level, "end_s": use.end_s,
                }
                for use in uses(budget, states, found.now_s)
            ],
            "overrides": [_record(o, found) for o in found.overrides(budget.name, past=name is not None)],
        }
        for budget in found.budgets
        if name in (None, budget.name)
    ]  # fmt: skip


# -- who may pass


def granted(found: Opened, name: str, key: Sequence[str], who: str, why: str, until: tuple[str | None, str | None]) -> Override:
    """Let requests pass ``name`` until then: they are metered and charged all the same. ``until``: a duration, or a moment.

    Raises ConfigurationError, in one line, for what cannot be.
    """
    budget = found.named(name)
    who, why, key = _line("--who", who), _line("--why", why), [_line("--key", part) for part in key]
    if key and len(key) != len(budget.key):
        kept = f"is kept per {', '.join(budget.key)}: give --key once for each, in this order" if budget.key else "has no parts"
        raise ConfigurationError(f"budget {name!r} {kept}; without --key all of it passes")
    until_s = _until(*until, budget, found.now_s)
    override = found.store.permit(name, tuple(key) or None, who, why, found.now_s, until_s)
    found.record("grant", override, f"{override.id}: {who}, {why}, until {_at(until_s, budget)}")
    return override


def revoked(found: Opened, number: int, who: str) -> Override:
    """End a permission now. Raises ConfigurationError where there is none of that number in force."""
    who = _line("--who", who)
    override = next((o for o in found.store.overrides() if o.id == number), None)
    if override is None or not found.store.revoke(number, found.now_s):
        in_force = ", ".join(str(o.id) for o in found.store.overrides() if o.holds(found.now_s)) or "none"
        raise ConfigurationError(f"no override {number} is in force; in force: {in_force}")
    found.record("revoke", override, f"{number}: {who}")
    return override


def told(override: Override, found: Opened, words: Words) -> str:
    """A permission in a sentence."""
    return _told(override, next((b for b in found.budgets if b.name == override.budget), None), found, words)


# -- the log


def chosen(found: Opened, since: str | None, budget: str | None, action: str | None, most: int) -> list[Entry]:
    """The last ``most`` lines of the decision log that were asked for, oldest first. Raises ConfigurationError."""
    if action is not None and action not in LOGGED:
        raise ConfigurationError(f"--action {action!r} is not known; use {', '.join(LOGGED)}")
    since_s = 0.0 if since is None else found.now_s - _duration("--since", since)
    all_of_them = budget is None and action is None
    lines = found.store.recorded(since_s=since_s, most=most if all_of_them else LOG_LINES)
    return [e for e in lines if budget in (None, e.budget) and action in (None, e.action)][-most:]


def log(found: Opened, lines: Sequence[Entry], words: Words) -> str:
    """The decision log as a table, oldest first."""
    known = {budget.name: budget for budget in found.budgets}

    def row(e: Entry) -> list[str]:
        at, action = _at(e.at_s, known.get(e.budget)), words(f"action_{e.action}")
        return [at, e.budget, "/".join(e.key), action, _figures(e, words), e.tier or "", e.why]

    rows = [row(entry) for entry in lines]
    return table(rows) if rows else words("log_empty")


def log_record(entry: Entry) -> str:
    """One line of the log as one line of JSON: amounts in the unit shown to people, unknown is null."""
    amounts = {name: _amount(getattr(entry, name), entry.resource) for name in ("estimate", "settled", "reserved", "limit")}
    unit = SHOWN_IN[entry.resource] if entry.resource in BOOKED_IN else None
    return json.dumps({**entry._asdict(), **amounts, "unit": unit}, ensure_ascii=False)


# -- inside


def _amount(amount: int | None, resource: str) -> float | None:
    return None if amount is None or resource not in BOOKED_IN else amount / BOOKED_IN[resource][1]


def _figure(amount: int | None, resource: str, words: Words) -> str:
    return words.figure(_amount(amount, resource), SHOWN_IN[resource])  # type: ignore[index]


def _used(use: Use, words: Words) -> str:
    resource, limit = use.budget.resource, use.budget.limit.amount
    share = words.percent(use.committed / limit)
    return words("used_of", used=_figure(use.committed, resource, words), limit=_figure(limit, resource, words), share=share)


def _level(use: Use, words: Words) -> str:
    return words(f"level_{use.level}") if use.budget.enforce or use.level != "refuse" else words("level_would")


def _state(budget: Budget, words: Words) -> str:
    if not budget.enforce:
        return words("in_shadow")
    return words("in_force") if budget.require_tier is None else words("in_force_from", tier=words.tier(budget.require_tier))


def _end(use: Use) -> str:
    return f"{datetime.fromtimestamp(use.end_s, use.budget.zone).isoformat(' ', 'minutes')} {use.budget.timezone}"


def _keys(budget: Budget, words: Words) -> str:
    return " × ".join(words(f"key_{name}") for name in budget.key)


def _key(use: Use, found: Opened) -> str:
    return "/".join(shown_key(use.budget, use.key, tenants=found.tenants)) + (f" @{use.host}" if use.host else "")


def _told(override: Override, budget: Budget | None, found: Opened, words: Words) -> str:
    key = ""
    if override.key is not None:
        kept = budget is not None and len(override.key) == len(budget.key)
        key = " " + "/".join(shown_key(budget, override.key, tenants=found.tenants) if budget and kept else override.key)
    state = "revoked" if override.revoked_s is not None else "holds" if override.holds(found.now_s) else "over"
    return words(
        f"override_{state}", id=override.id, budget=override.budget + key, who=override.who, why=override.why,
        until=_at(override.until_s, budget), end=_at(override.revoked_s or override.until_s, budget),
    )  # fmt: skip


def _record(override: Override, found: Opened) -> dict[str, Any]:
    budget = found.named(override.budget)
    key = override.key
    if key is not None and len(key) == len(budget.key):
        key = shown_key(budget, key, tenants=found.tenants)
    return {**override._asdict(), "key": key, "in_force": override.holds(found.now_s)}


def _figures(entry: Entry, words: Words) -> str:
    if entry.settled is None or entry.reserved is None:
        return ""
    keys = {name: _figure(getattr(entry, name), entry.resource, words) for name in ("estimate", "settled", "reserved", "limit")}
    return words("log_figures", **keys)


def _at(at_s: float, budget: Budget | None) -> str:
    """A moment on the clock of ``budget``, which is named; of one that is no more on that of UTC."""
    zone, name = (UTC, "UTC") if budget is None else (budget.zone, budget.timezone)
    return f"{datetime.fromtimestamp(at_s, zone).isoformat(' ', 'seconds')} {name}"


def _line(option: str, text: str) -> str:
    said = text.strip()
    if not said or len(said) > _MOST_TEXT or not said.isprintable():
        raise ConfigurationError(f"{option} is one line of 1 to {_MOST_TEXT} characters, not {text[:40]!r}: it is kept for audit")
    return said


def _duration(option: str, text: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise ConfigurationError(f'{option} {text!r} is no duration: write "30m", "2h" or "1d"')
    return float(found[1]) * _SECONDS[found[2]]


def _moment(text: str, budget: Budget) -> float:
    """A moment on the budget's clock, unless it says its own offset; one that this clock leaves out, or shows twice, is none."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.timestamp()
        first, second = (at.replace(tzinfo=budget.zone, fold=fold).timestamp() for fold in (0, 1))
    except (ValueError, OverflowError):
        raise ConfigurationError(f'--until {text!r} is no moment: write "2026-12-24T18:00" or "…+01:00"') from None
    if first != second:
        what = "is left out by" if first > second else "comes twice on"
        raise ConfigurationError(f"--until {text!r} {what} the clock of {budget.timezone}: write the offset too, as in +01:00")
    return first


def _until(duration: str | None, moment: str | None, budget: Budget, now_s: float) -> float:
    if (duration is None) == (moment is None):
        raise ConfigurationError('a permission ends: give --for "2h", or --until "2026-12-24T18:00", one of them')
    if duration is not None:
        until_s = now_s + _duration("--for", duration)
    else:
        until_s = _moment(moment or "", budget)
    if not now_s < until_s <= now_s + LONGEST_S:
        raise ConfigurationError(
            f"{'--for' if duration else '--until'} {duration or moment!r}: it must end later than now and within "
            f"{LONGEST_S // 86_400} days; for longer, raise the limit"
        )
    return until_s
