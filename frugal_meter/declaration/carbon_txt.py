"""The ``carbon.txt`` of a service: where its declaration and its notice are, in the syntax of the Green Web Foundation."""

from __future__ import annotations

import json
from typing import Final

from .document import Declaration

#: version of the syntax, the first with ``measurement-data``; the validator is the package carbon-txt
SYNTAX: Final = "0.6"


def carbon_txt(declaration: Declaration, url: str, *, notice: str | None = None) -> str:
    """The file's text. ``url`` is where the public pages are, "https://ville.example/frugal"; ``notice`` that of the notice."""
    base, until = url.rstrip("/"), declaration.valid_until.date().isoformat()
    documents = (
        ("measurement-data", f"{base}/frugal-ai.json", "Energy and carbon of our AI services (frugal-ai/1)"),
        ("web-page", notice or f"{base}/notice", "What our AI services do and what they cost, in French and English"),
    )
    lines = "\n".join(
        f"  {{ doc_type = {_text(kind)}, url = {_text(where)}, title = {_text(title)}, valid_until = {until} }},"
        for kind, where, title in documents
    )
    updated = declaration.declared_at.date().isoformat()
    return f'version = "{SYNTAX}"\nlast_updated = {updated}\n\n[org]\ndisclosures = [\n{lines}\n]\n'


def _text(text: str) -> str:
    # A JSON string is a TOML string, but for DEL, which an address cannot hold.
    return json.dumps(text, ensure_ascii=False)
