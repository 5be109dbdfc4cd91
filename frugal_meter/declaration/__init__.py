"""What a service tells the public: the declaration, its schema, the notice for citizens; see docs/declaration.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .statement import Statement


def stated(declaration: Any) -> Statement | None:
    """The checked statement of `Meter(declaration=)`, None where nothing is said. Raises ConfigurationError."""
    if declaration is None:  # most meters: what reads it is then not imported either
        return None
    from .statement import statement_of

    return statement_of(declaration)
