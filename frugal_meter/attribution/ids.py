"""Ids of readings: made of a span, and back to its key."""

from __future__ import annotations

import uuid


def reading_id(unix_ns: int, key: int, random: int) -> str:
    """A UUIDv7 (RFC 9562) made of a span's start, its key, and 40 random bits of its process."""
    low = (random << 34 | key & (1 << 34) - 1) & (1 << 74) - 1
    value = unix_ns // 1_000_000 << 80 | 0x7 << 76 | (low >> 62) << 64 | 0b10 << 62 | low & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def key_of(id: str) -> int | None:
    """The key of the span that an id was made of; None for what is no id of ours."""
    try:
        return uuid.UUID(id).int & (1 << 34) - 1
    except ValueError:
        return None
