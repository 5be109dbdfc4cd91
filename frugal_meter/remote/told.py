"""`Told`: who is told in a reply's ``usage`` what a request cost."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Told(msgspec.Struct, frozen=True):
    """Who is told: everybody of ``usage.carbon``, or the networks of ``callers`` of ``usage.frugal``."""

    usage_carbon: bool = False
    callers: tuple[Network, ...] = ()

    @classmethod
    def of(cls, usage_carbon: Any, callers: Any) -> Told:
        """From the settings; raises ConfigurationError."""
        if not isinstance(usage_carbon, bool):
            raise ConfigurationError(f"usage_carbon is True or False, not {usage_carbon!r}")
        if not isinstance(callers, Sequence) or isinstance(callers, str | bytes):
            raise ConfigurationError(f'callers is a list of addresses or networks, such as ["10.0.3.0/24"], not {callers!r}')
        try:
            return cls(usage_carbon, tuple(ipaddress.ip_network(each) for each in callers))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f'callers: {error}; write an address or a network, such as "10.0.3.0/24"') from None

    def __bool__(self) -> bool:
        return self.usage_carbon or bool(self.callers)
