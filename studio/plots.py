"""Plots as SVG text: bars, a heat map, ranges with a dot; light and dark, and whole when saved as a file.

Pure strings: knows no data, no store and no page. Every text that comes in is escaped here. Colours are ``currentColor`` and the
page's variables, with light values to fall back on in a saved file. Widths are in a view of ``WIDTH`` units that scales.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH = 440  # narrow enough that 13 units of text can still be read on a phone
ACCENT, SOFT, LINE = "var(--accent, #4f46e5)", "var(--soft, #5b6675)", "var(--line, #d9dfe8)"
BELOW = "#b45309"  # negative values: orange against blue can be told apart by everyone
LEVELS = {  # a score's fill and the ink on it, the same in light and dark
    -1: ("#6b7280", "#fff"), 0: ("#b45309", "#fff"), 1: ("#f0b35e", "#1b1b1f"), 2: ("#9cc3e6", "#1b1b1f"), 3: ("#1f5fbf", "#fff"),
}  # fmt: skip
OTHER = ("#6b7280", "#fff")


class Piece(NamedTuple):
    """A part of a bar: its amount, fill and ink, what is written in it, and what it is."""

    amount: float
    colours: tuple[str, str]
    text: str
    what: str


class Bar(NamedTuple):
    """One bar: ``label`` on the left above it, ``note`` on the right."""

    label: str
    note: str
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Range:
    """One row: a dot at ``value``, a line over ``interval``, a tick at ``baseline``; all on 0 to 1, None: not there."""

    label: str
    note: str
    value: float | None
    interval: Sequence[float] | None
    baseline: float | None


def text(words: object) -> str:
    """Words as HTML that is only text. Braces and dollars too: Gradio's templates read those."""
    escaped = html.escape(str(words))
    return escaped.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;").replace("`", "&#96;")


def short(words: object, length: int) -> str:
    """Words cut to ``length`` characters."""
    whole = str(words)
    return whole if len(whole) <= length else f"{whole[: length - 1]}…"


def bars(title: str, rows: Sequence[Bar], legend: Sequence[tuple[str, str]] = (), scale: float | None = None) -> str:
    """Horizontal bars of pieces; each as long as ``scale`` allows, or (None) full, to show shares. ``legend``: (fill, meaning)."""
    body, top = _legend(legend)
    for row in rows:
        whole = scale or sum(piece.amount for piece in row.pieces) or 1
        body += _head(top, row.label, row.note)
        body += f'<rect x="0" y="{top + 19}" width="{WIDTH}" height="16" rx="3" fill="{LINE}" fill-opacity=".6"/>'
        x = 0.0
        for piece in row.pieces:
            wide = piece.amount / whole * WIDTH
            fill, ink = piece.colours
            body += f'<rect x="{x:.1f}" y="{top + 19}" width="{wide:.1f}" height="16" fill="{fill}"><title>{text(piece.what)}</title></rect>'
            if piece.text and wide > 9 * len(piece.text):
                body += _words(x + wide / 2, top + 31.5, piece.text, ink, "middle", 11)
            x += wide
        top += 44
    return _svg(title, top, body)


def heat_map(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[float | None, str]]]]) -> str:
    """A table of squares, each ``(shade, words)``: shade -1 to 1 is how much colour (None: empty), words stand in it."""
    wide = min(48.0, (WIDTH - 52) / max(len(columns), 1))
    body = "".join(_words(52 + wide * (i + 0.5), 14, short(c, 5), SOFT, "middle", 11, c) for i, c in enumerate(columns))
    top = 20.0
    for label, cells in rows:
        body += _words(0, top + 18, short(label, 7), "currentColor", "start", 12, label)
        for i, (shade, words) in enumerate(cells):
            if shade is None:
                continue
            fill = ACCENT if shade >= 0 else BELOW
            body += (
                f'<rect x="{52 + wide * i:.1f}" y="{top}" width="{wide - 2:.1f}" height="26" rx="3" fill="{fill}" '
                f'fill-opacity="{0.06 + 0.44 * min(1, abs(shade)):.2f}"/>'
            )
            body += _words(52 + wide * (i + 0.5) - 1, top + 17.5, words, "currentColor", "middle", 11)
        top += 28
    return _svg(title, top + 4, body)


def ranges(title: str, rows: Sequence[Range], legend: Sequence[tuple[str, str]] = ()) -> str:
    """Values on a line from 0 to 1, with their intervals and what to hold them against."""
    body, top = _legend(legend)
    for row in rows:
        body += _head(top, row.label, row.note)
        y = top + 28
        body += f'<path d="M0 {y}H{WIDTH}" stroke="{LINE}" stroke-width="2"/>'
        if row.interval:
            low, high = (_place(end) for end in row.interval)
            body += f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{ACCENT}" stroke-width="6" stroke-opacity=".45"/>'
        if row.baseline is not None:
            body += f'<path d="M{_place(row.baseline):.1f} {y - 9}v18" stroke="{BELOW}" stroke-width="3"/>'
        if row.value is not None:
            body += f'<circle cx="{_place(row.value):.1f}" cy="{y}" r="6" fill="{ACCENT}"/>'
        top += 44
    return _svg(title, top, body)


def titled(words: str, svg: str, name: str) -> str:
    """A plot on the page under a few words, with a link that saves it as ``name``.svg: white paper, dark ink."""
    alone = svg.replace("<svg ", '<svg style="color:#1b1b1f;background:#fff" ', 1)
    data = base64.b64encode(alone.encode()).decode()
    link = f'<a class="save" download="{text(name)}.svg" href="data:image/svg+xml;base64,{data}">Save SVG</a>'
    return f"<figure><figcaption>{text(words)} {link}</figcaption>{svg}</figure>"


def table(head: Sequence[object], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table; the first column heads its row. None is written as a dash."""
    said = f"<caption>{text(caption)}</caption>" if caption else ""
    top = "".join(f'<th scope="col">{text(h)}</th>' for h in head)
    lines = ""
    for row in rows:
        cells = "".join(f"<td>{text('–' if cell is None else cell)}</td>" for cell in row[1:])
        lines += f'<tr><th scope="row">{text(row[0])}</th>{cells}</tr>'
    return f'<div class="scroll"><table>{said}<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _svg(title: str, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 0 {WIDTH + 4} {height:.0f}" role="img" aria-label="{text(title)}" '
        f'font-family="system-ui, sans-serif" fill="currentColor">{body}</svg>'
    )


def _place(share: float) -> float:
    return 7 + max(0.0, min(1.0, share)) * (WIDTH - 14)


def _words(x: float, y: float, words: str, fill: str, anchor: str, size: int, whole: str = "") -> str:
    more = f"<title>{text(whole)}</title>" if whole and whole != words else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" font-size="{size}">{text(words)}{more}</text>'


def _head(top: float, label: str, note: str) -> str:
    room = max(8, 66 - len(note))  # characters: both share the line above a bar
    left = _words(0, top + 13, short(label, room), "currentColor", "start", 13, label)
    return left + _words(WIDTH, top + 13, note, SOFT, "end", 12)


def _legend(legend: Sequence[tuple[str, str]]) -> tuple[str, float]:
    body, x = "", 0.0
    for fill, meaning in legend:
        body += f'<rect x="{x:.1f}" y="3" width="11" height="11" rx="2" fill="{fill}"/>'
        body += _words(x + 16, 13, meaning, SOFT, "start", 12)
        x += 30 + 6.6 * len(meaning)
    return body, 24.0 if legend else 0.0
