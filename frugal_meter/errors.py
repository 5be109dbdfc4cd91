"""Everything that frugal_meter raises on purpose.

The tree::

    FrugalMeterError
    ├── ConfigurationError        a setting, argument or file that cannot mean anything
    │   ├── MissingSettingError   a setting that is never guessed was not given
    │   ├── UnitError             "50 kW/day": not a quantity of something a budget can hold
    │   ├── UnknownZoneError      no emission factor for this zone; carries the nearest names
    │   ├── UnknownBudgetKeyError a budget keyed by something no request has
    │   └── BudgetNotEnforceableError  nothing on this machine could ever count against it
    ├── FactorError               factors that must not be combined (direct with lifecycle, …)
    ├── MissingExtraError         an optional library is absent; says the pip command
    ├── SourceError               an energy source that cannot be read; carries what, where, remedy
    ├── StoreError                a shared budget store that cannot be reached or written; carries where, remedy
    ├── ReceiverError             a Grafana that refused what was sent; carries what, where, remedy
    ├── DeclarationError          a declaration that cannot be believed or read; says why in one line
    └── BudgetRefused             a budget said no; raised by ``measure`` outside HTTP

Each message is one line: what, where, how to mend it. A fault *inside* the meter never raises:
it is counted in ``frugal_meter_errors_total`` and the application goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class FrugalMeterError(Exception):
    """Base of every error raised by this package."""


class ConfigurationError(FrugalMeterError, ValueError):
    """A setting that cannot mean anything; the message says which, where and what would."""


class MissingSettingError(ConfigurationError, TypeError):
    """A required setting was not given."""


class UnitError(ConfigurationError):
    """A quantity without a known unit, or with a unit of the wrong kind.

    ``text`` is the quantity as written.
    """

    def __init__(self, text: object, message: str) -> None:
        super().__init__(message)
        self.text = text


class UnknownZoneError(ConfigurationError):
    """No emission factor is known for ``zone``; ``nearest`` holds zones with a similar name."""

    def __init__(self, zone: object, nearest: Sequence[str] = (), hint: str = "") -> None:
        near = f" Did you mean {', '.join(nearest)}?" if nearest else ""
        super().__init__(
            f"unknown zone {zone!r}: no emission factor is bundled for it.{near} "
            f"{hint or 'Give an ISO country code such as FR, or your own Factor.'}".strip()
        )
        self.zone = zone
        self.nearest = tuple(nearest)


class UnknownBudgetKeyError(ConfigurationError):
    """A budget keyed by something other than route, model or tenant."""

    def __init__(self, key: object, known: Sequence[str], budget: str) -> None:
        super().__init__(
            f"budget {budget!r}: unknown key {key!r}: use {', '.join(known)}, a tuple of them, or None for the service"
        )
        self.key = key


class BudgetNotEnforceableError(ConfigurationError):
    """A budget on a figure that this machine can never produce (joules without any source of joules, …)."""

    def __init__(self, budget: str, reason: str, remedy: str) -> None:
        super().__init__(f"budget {budget!r} can never count: {reason}. {remedy}")
        self.budget = budget


class FactorError(FrugalMeterError, ValueError):
    """Emission factors that must not be mixed, or a figure that cannot be a factor."""


class MissingExtraError(FrugalMeterError, ImportError):
    """An optional dependency is absent; ``extra`` names what to install."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an optional dependency: pip install 'frugal-meter[{extra}]'")
        self.extra = extra


class SourceError(FrugalMeterError):
    """An energy source that cannot be read: ``what`` it is, ``where``, and how to mend it (``remedy``)."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{what} ({where}). {remedy}")
        self.what, self.where, self.remedy = what, where, remedy


class StoreError(FrugalMeterError):
    """A shared budget store that cannot be reached or written: ``where`` it is, without its password, and how to mend it."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{what} ({where}). {remedy}")
        self.where, self.remedy = where, remedy


class ReceiverError(FrugalMeterError):
    """A Grafana that refused dashboards: ``what`` it said, ``where`` it is, and how to mend it (``remedy``)."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{what} ({where}). {remedy}")
        self.what, self.where, self.remedy = what, where, remedy


class DeclarationError(FrugalMeterError, ValueError):
    """A declaration of AI services that is ill-formed, stale, too large, or contradicts itself; the message says which."""


class BudgetRefused(FrugalMeterError):
    """A budget refused this work before it began.

    ``refusal`` holds the figures of the refusal (unit, limit, settled, reserved, estimate, tier,
    window, reset): the members of the ``application/problem+json`` body.
    """

    def __init__(self, message: str, refusal: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.refusal = refusal
