"""The frame of pages for the public: one style, light and dark, no script unless its text is given, nothing from outside."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from ..exporters.page_markup import Html, join
from .document import Language

NAMES: Final[dict[Language, str]] = {"fr": "Français", "en": "English"}
STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1b222c; --soft: #505a67; --rule: #d8d4ca; --link: #144f7d;
  --card: #f2efe8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e9e7e1; --soft: #aab2bc; --rule: #333a43; --link: #93c4ea; --card: #1d232a; }
}
* { box-sizing: border-box; }
html { font: 106.25%/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; }
body { margin: 0 auto; max-width: 44rem; padding: 1.5rem clamp(1rem, 5vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--ink); overflow-wrap: break-word; }
body.wide { max-width: 76rem; }
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
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); gap: 1rem; margin: 1.2rem 0 0; }
.figures div { padding: 1rem 1.2rem; border-radius: .4rem; background: var(--card); }
.figures dt { color: var(--soft); }
.figures dd { margin: .3rem 0 0; }
.figures dd.main { font-size: 1.25rem; font-weight: 600; line-height: 1.3; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); font-size: .92rem; }
table { width: 100%; margin: 1rem 0 0; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .6rem; text-align: left; }
th, td { padding: .55rem .7rem .55rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
th .note { font-weight: 400; }
tbody th { min-width: 11rem; }
td { min-width: 6.5rem; }
thead th { color: var(--soft); font-weight: 600; overflow-wrap: normal; }
th button { padding: 0; border: 0; background: none; color: var(--link); font: inherit; text-align: left; cursor: pointer;
  text-decoration: underline; text-underline-offset: .15em; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
.note { display: block; color: var(--soft); font-size: .88rem; }
@media (max-width: 48rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, caption, tbody, tr, th, td { display: block; min-width: 0; overflow-wrap: anywhere; }
  tbody tr { padding: .8rem 0; border-bottom: 1px solid var(--rule); }
  tbody th, td { min-width: 0; padding: .15rem 0; border: 0; }
  td[data-label]::before { content: attr(data-label) " – "; color: var(--soft); }
}
@media print { body { max-width: none; } th button { color: inherit; text-decoration: none; } }
"""


def policy(script: str = "") -> str:
    """The content security policy under which a page in this frame is whole."""
    scripts = f" script-src '{_digest(script)}';" if script else ""
    return f"default-src 'none'; style-src '{_digest(STYLE)}';{scripts} img-src data:; base-uri 'none'; form-action 'none'"


def framed(lang: Language, title: str, head: Html, body: Html, *, script: str = "", wide: bool = False) -> str:
    """A whole page. ``head`` is what stands above the main part; ``script`` runs at the end."""
    words = {
        "lang": lang,
        "policy": join(policy(script)),
        "title": join(title),
        "style": STYLE,
        "class": ' class="wide"' if wide else "",
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
<body{class}>
<header>{head}</header>
{body}
{script}</body>
</html>
"""


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
