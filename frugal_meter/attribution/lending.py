"""What pools add to the spans of a tick: CPU of native threads, and that of companion processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .span import Span
from .split import Divider


def add_native(owed: Mapping[int, int], room_ns: int, spans: Sequence[Span], weights: list[int]) -> None:
    """Add to ``weights`` what each span owes for native threads; together no more than ``room_ns``, what the process used."""
    if not owed:
        return
    shares = [owed.get(span.key, 0) for span in spans]
    whole = sum(shares)
    if whole > room_ns:
        shares = Divider(room_ns, whole).take(shares)
    for place, share in enumerate(shares):
        if share:
            weights[place] += share
            _charge(spans[place], share)


def lend(used: Mapping[str, int], use: Mapping[str, Mapping[int, int]], spans: Sequence[Span]) -> list[int]:
    """CPU of companions for each span, ns: what each pool ``used``, by weight × time held; empty when none was held."""
    held_by = [(ns, held) for pool, ns in used.items() if ns > 0 and (held := use.get(pool))]
    if not held_by:
        return []
    lent = [0] * len(spans)
    for ns, held in held_by:
        shares = Divider(ns, sum(held.values())).take([held.get(span.key, 0) for span in spans])
        for place, share in enumerate(shares):
            if share:
                lent[place] += share
                _charge(spans[place], share)
    return lent


def _charge(span: Span, cpu_ns: int) -> None:
    # One without an account gets it when it is billed, with this in it.
    if span.account is not None:
        span.account.cpu_ns += cpu_ns
