"""Pieces of HTML for notebooks. Styles are inline and follow the notebook's own colours."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

_CARD = (
    "padding:10px 12px;border:1px solid rgba(128,128,128,.4);border-radius:6px;max-width:60em;overflow-x:auto;"
    "font:13px sans-serif"
)
#: Against the notebook's own tables, which have margins, stripes and a size.
TABLE = "border-collapse:collapse;border:none;margin:0;font-size:13px"
ROW = "background:none"
_COLORS = {"done": "#2e9e5b", "SUCCESS": "#2e9e5b", "failed": "#d64545", "FAILED": "#d64545", "CANCELED": "#d64545"}


def size(count: float) -> str:
    """Bytes for people.

    >>> size(3 << 20)
    '3.0 MiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def count(number: int, thing: str) -> str:
    """So many of them.

    >>> count(1, "row"), count(1500, "row")
    ('1 row', '1,500 rows')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def color(state: str) -> str:
    """The colour of a state of a query or stage."""
    return _COLORS.get(state, "#c98a1b")


def text(value: Any) -> str:
    """A value as text of a page."""
    return html.escape(str(value))


def card(title: str, *parts: str) -> str:
    """A block with a title. Parts are HTML."""
    return (
        f'<div style="{_CARD}"><div style="font-weight:600;margin-bottom:6px">{text(title)}</div>{"".join(parts)}</div>'
    )


def table(rows: Mapping[str, Any]) -> str:
    """Names and values."""
    cell = "padding:1px 12px 1px 0;text-align:left;border:none"
    lines = (
        f'<tr style="{ROW}"><td style="{cell};opacity:.7">{text(name)}</td><td style="{cell}">{text(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table style="{TABLE}">{"".join(lines)}</table>'


def bar(share: float, state: str) -> str:
    """A bar that is full at 1."""
    outer = "display:inline-block;width:9em;height:8px;border-radius:4px;background:rgba(128,128,128,.25)"
    inner = f"display:block;width:{100 * min(1.0, max(0.0, share)):.0f}%;height:8px;border-radius:4px;background:{color(state)}"
    return f'<span style="{outer}"><span style="{inner}"></span></span>'
