"""`open_store`: the journal that an address names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import MissingExtraError
from .sqlite import SqliteJournal
from .store import JournalStore

#: how the address of a PostgreSQL database begins (libpq, "Connection URIs")
SERVERS: Final = ("postgresql://", "postgres://")


def is_server(where: str | Path) -> bool:
    """Whether this is the address of a database server, not a file."""
    return isinstance(where, str) and where.startswith(SERVERS)


def open_store(where: str | Path, *, create: bool = True) -> JournalStore:
    """The journal at ``postgresql://user@host/database``, ``sqlite:///path`` or a path; ``create=False``: for reading alone.

    Raises ConfigurationError for what cannot be a journal of this version, MissingExtraError without psycopg.
    """
    if not is_server(where):
        return SqliteJournal(str(where).removeprefix("sqlite:///"), create=create)
    try:
        from .postgresql import PostgresJournal
    except ImportError:
        raise MissingExtraError("postgresql", "a journal in PostgreSQL") from None
    return PostgresJournal(str(where), create=create)
