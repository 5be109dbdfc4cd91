"""The frame of every page for people: one palette, one ground style, light and dark, nothing from outside.

The live page and the report of a study have layouts of their own and take the palette alone.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from .page_markup import Html, join
from .page_texts import Lang

#: what each language calls itself
NAMES: Final[dict[Lang, str]] = {"fr": "Français", "en": "English"}
#: colours by their part; dark ones on screens alone, since paper is white whatever its reader prefers
PALETTE: Final = """:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --ink: #1b222c; --soft: #505a67; --rule: #d8d4ca; --strong-rule: #7d7a70; --link: #144f7d;
}
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e9e7e1; --soft: #aab2bc; --rule: #333a43; --strong-rule: #828b96; --link: #93c4ea; }
}
"""
#: text, headings, links, and pairs of a term and what it is
GROUND: Final = (
    PALETTE
    + """* { box-sizing: border-box; }
html { font: 106.25%/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; }
body { margin: 0 auto; max-width: 44rem; padding: 1.5rem clamp(1rem, 5vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--ink); overflow-wrap: break-word; }
header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 2rem; color: var(--soft); }
header p { margin: 0; }
h1, h2, h3 { line-height: 1.2; letter-spacing: -.01em; text-wrap: balance; }
h1 { margin: 2rem 0 0; font-size: clamp(1.7rem, 1.3rem + 2vw, 2.4rem); }
h2 { margin: 2.6rem 0 0; font-size: 1.3rem; }
h3 { margin: 1.6rem 0 0; font-size: 1.05rem; }
p, ul { margin: .8rem 0 0; }
ul { padding-left: 1.2rem; }
li { margin: .3rem 0 0; }
.lead { font-size: 1.15rem; }
.soft, caption, footer, small { color: var(--soft); }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; }
.pairs { margin: 1rem 0 0; }
.pairs div { display: grid; grid-template-columns: minmax(0, 17rem) minmax(0, 1fr); gap: 0 1.5rem; margin: .4rem 0 0; }
.pairs dt { color: var(--soft); }
.pairs dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 44rem) { .pairs div { grid-template-columns: 1fr; margin-top: .7rem; } }
@media print { body { max-width: none; } }
"""
)
#: tables that become cards where the page is narrow or much enlarged, and the notes in their cells
TABLES: Final = """table { width: 100%; margin: 1rem 0 0; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .6rem; text-align: left; }
th, td { padding: .55rem .7rem .55rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
th .note { font-weight: 400; }
thead th { color: var(--soft); font-weight: 600; overflow-wrap: normal; }
.note { display: block; color: var(--soft); font-size: .88rem; }
@media (max-width: 48rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, caption, tbody, tr, th, td { display: block; min-width: 0; overflow-wrap: anywhere; }
  tbody tr { padding: .8rem 0; border-bottom: 1px solid var(--rule); }
  tbody th, td { padding: .15rem 0; border: 0; }
  td[data-label]::before { content: attr(data-label) " – "; color: var(--soft); }
}
"""


def digest(text: str) -> str:
    """The source expression of an inline style or script (Content Security Policy level 3, §2.3.1), without its quotes."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def policy(style: str, script: str = "") -> str:
    """The content security policy under which a page with this style and script is whole."""
    scripts = f" script-src '{digest(script)}';" if script else ""
    return f"default-src 'none'; style-src '{digest(style)}';{scripts} img-src data:; base-uri 'none'; form-action 'none'"


def framed(lang: Lang, title: str, head: Html, body: Html, *, style: str, script: str = "") -> str:
    """A whole page. ``head`` is what stands above the main part; ``script`` runs at the end."""
    words = {
        "lang": lang,
        "policy": join(policy(style, script)),
        "title": join(title),
        "style": style,
        "head": head,
        "body": body,
        "script": f"<script>{script}</script>\n" if script else "",
    }
    return _PAGE.format(**words)


_PAGE: Final = """<!doctype html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="content-security-policy" content="{policy}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>{head}</header>
{body}
{script}</body>
</html>
"""
