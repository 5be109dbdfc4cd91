"""Markup that escapes by default: whatever is not `Html` already is text, a route named ``<script>`` included."""

from __future__ import annotations

import html


class Html(str):
    """Markup that is already safe. Any operation on it gives a plain ``str`` back, which is escaped again."""

    __slots__ = ()


def el(tag: str, *children: str | None, **attributes: str | None) -> Html:
    """One element; ``class_`` is written ``class``, ``data_label`` ``data-label``; None children and attributes are left out."""
    named = ((k.rstrip("_").replace("_", "-"), v) for k, v in attributes.items() if v is not None)
    opening = "".join(f' {name}="{html.escape(value)}"' for name, value in named)
    return Html(f"<{tag}{opening}>{join(*children)}</{tag}>")


def join(*parts: str | None) -> Html:
    """The parts one after the other, each escaped unless it is `Html`."""
    return Html("".join(p if isinstance(p, Html) else html.escape(p) for p in parts if p is not None))


def notes(*lines: str | None) -> Html:
    """The lines under a figure, each on its own."""
    return join(*(el("span", line, class_="note") for line in lines if line))


def amount(shown: str, *lines: str | None) -> Html:
    """A figure and the lines under it: its bounds, its tier, what it holds."""
    return join(el("span", shown, class_="amount"), notes(*lines))


def contact_link(contact: str) -> Html:
    """The contact as something to follow: an address to write to, a page, a number to call, or the words as they are."""
    bare = contact.strip()
    number = bare.replace(" ", "").replace(".", "").replace("\u00a0", "")
    if bare.startswith(("https://", "http://")):
        return el("a", bare, href=bare)
    if "@" in bare and " " not in bare:
        return el("a", bare, href=f"mailto:{bare}")
    if number.lstrip("+").isdecimal():
        return el("a", bare, href=f"tel:{number}")
    return join(bare)


# The roles below repeat what the tags say: in the narrow layout rows become blocks, and browsers then forget the table.


def row(*cells: Html) -> Html:
    """A row of a table."""
    return el("tr", *cells, role="row")


def row_head(*children: str | None) -> Html:
    """The cell that names its row."""
    return el("th", *children, scope="row", role="rowheader")


def cell(column: str, *children: str | None) -> Html:
    """A cell that carries its column's name, for the narrow layout where the header row is out of sight."""
    return el("td", *children, role="cell", data_label=column)


def empty_row(said: str, columns: int) -> Html:
    """The one row of a table that has nothing to list yet."""
    return row(el("td", said, colspan=str(columns), role="cell", class_="empty"))


def named(name: str, *lines: str | None) -> Html:
    """The name of a thing, free to break anywhere since strangers choose it, and the lines under it."""
    return join(el("span", name, class_="name"), notes(*lines))
