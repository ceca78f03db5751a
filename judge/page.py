"""The parts of a report's page: sections, tables, numbers with their intervals, and plots in the page's own colours.

HTML out, escaped; plots are inline SVG of matplotlib's. Knows no measure.
"""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from judge.rubric import OVERALL, JudgeError, dimensions

Result = dict[str, Any]
# matplotlib writes literal colours; these stand for the page's own, so that one picture serves light and dark
INK, SOFT, JUDGE, BASE = "#010001", "#010002", "#010003", "#010004"
COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", JUDGE: "var(--judge)", BASE: "var(--base)"}
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1f; --soft: #5f6774; --line: #d5d9e0; --judge: #1f5fbf; --base: #a3480a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14161a; --ink: #e8e8ea; --soft: #a3acb8; --line: #353b45; --judge: #8ab4f8; --base: #f0a860; } }
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; } h2 { font-size: 1.25rem; } h3 { font-size: 1rem; }
section { display: flex; flex-wrap: wrap; gap: .75rem 2rem; align-items: flex-start; margin-top: 2.5rem; }
section > h2, section > h3, section > p, section > .wide { flex: 1 1 100%; margin: 0; min-width: 0; }
p { max-width: 60rem; } section > h3 { margin-top: .5rem; }
.row { display: flex; flex-wrap: wrap; gap: .75rem 2rem; }
figure { flex: 1 1 20rem; max-width: 34rem; margin: 0; min-width: 0; } figure.small { flex: 0 1 18rem; } figure svg { width: 100%; height: auto; }
.table { flex: 1 1 20rem; min-width: 0; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
th { font-weight: 600; } thead th { color: var(--soft); vertical-align: bottom; white-space: normal; }
tbody th { white-space: normal; min-width: 7rem; max-width: 20rem; }
small, .note { color: var(--soft); }
small { display: block; font-size: .8125rem; font-weight: 400; }
@media (max-width: 40rem) { tbody th { max-width: 9rem; overflow-wrap: anywhere; } }
td.text { white-space: normal; min-width: 16rem; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document; ``title`` is text, ``parts`` are HTML."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><main><h1>{html.escape(title)}</h1>{''.join(parts)}</main></body></html>\n"
    )


def section(heading: str, notes: Sequence[str], *blocks: str) -> str:
    """``notes`` are texts, empty ones left out; ``blocks`` are HTML. Without any block it says that there is nothing."""
    body = "".join(blocks) or "<p>Nothing to show: no such labels.</p>"
    lines = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes if note)
    return f"<section><h2>{html.escape(heading)}</h2>{lines}{body}</section>\n"


def row(*blocks: str) -> str:
    """Blocks beside each other on a row of their own, as far as the page is wide."""
    return f'<div class="wide row">{"".join(blocks)}</div>'


def sub(heading: str) -> str:
    """A heading within a section."""
    return f"<h3>{html.escape(heading)}</h3>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], wide: bool = False) -> str:
    """Cells are text; of a (text, text) the second stands small below the first. The first cell of a row is its heading.
    ``wide``: it takes a row of the page for itself. Empty without rows."""
    first = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in head)
    lines = ["<tr>" + "".join(_cell(c, i == 0) for i, c in enumerate(row)) + "</tr>" for row in rows]
    if not lines:
        return ""
    inner = f"<table><thead><tr>{first}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    # a box that scrolls sideways must be reachable by keyboard
    return f'<div class="table{" wide" if wide else ""}" tabindex="0" role="region" aria-label="{html.escape(head[0] or head[1])}">{inner}</div>'


def _cell(value: object, heading: bool) -> str:
    text, small = value if isinstance(value, tuple) else (value, "")
    below = f"<small>{html.escape(str(small))}</small>" if small else ""
    if heading:
        return f'<th scope="row">{html.escape(str(text))}{below}</th>'
    return f"<td{' class=text' if len(str(text)) > 60 else ''}>{html.escape(str(text))}{below}</td>"


def number(value: float | None) -> str:
    """Three decimals, a dash for none."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def signed(value: float | None) -> str:
    """With its sign, as a difference is read."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def span(interval: Sequence[float] | None) -> str:
    """The interval in brackets; empty where there is none."""
    if not interval:
        return ""
    # every resample the same: that is too little variety, not certainty
    doubt = " (no width: all trees alike)" if interval[0] == interval[1] else ""
    return f"[{number(interval[0])}, {number(interval[1])}]{doubt}"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A figure and its interval on one line."""
    return f"{number(value)} {span(interval)}".strip()


def measure(found: Result | None) -> str:
    """A ``{value, interval}`` on one line, with the reason where there is none."""
    if not found:
        return "–"
    return with_interval(found["value"], found["interval"]) + (f" ({found['reason']})" if "reason" in found else "")


def stacked(value: float | None, interval: Sequence[float] | None) -> tuple[str, str]:
    """A figure with its interval small below it."""
    return number(value), span(interval)


def row_name(row: Result) -> str:
    """What a row by dimension is called: the rubric's name, and its level where that is not plain."""
    key, level, known = str(row["key"]), row.get("level"), dimensions().get(str(row["key"]))
    if key == OVERALL:
        return "Overall (dialogue)" if level == "global" else "Overall"
    name = f"{key} {known.name}" if known else key
    unusual = level is not None and known is not None and level != known.level
    return f"{name} ({'turn' if level == 'local' else 'dialogue'})" if unusual else name


def legend(axes: Any) -> None:
    """Above the plot, so that it hides nothing."""
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def figure(draw: Callable[[Any], None], name: str, alt: str, height: float, width: float = 6) -> str:
    """What ``draw`` puts on the axes, as inline SVG of ``width`` x ``height`` inches, ids of its own, the page's colours.

    Raises JudgeError: matplotlib is missing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise JudgeError("Plots need matplotlib. Run: pip install 'intermt-studio[judge]'") from error
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = dict.fromkeys(ink, INK) | {
        "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": name, "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    written = io.StringIO()
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser draws the text, with its own fonts
        drawn = Figure(figsize=(width, height), layout="constrained")
        draw(drawn.add_subplot())
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawn.savefig(written, format="svg", transparent=True, metadata=nothing)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    for old, new in COLOURS.items():
        svg = svg.replace(old, new)
    for mark in (' id="', 'xlink:href="#', "url(#"):  # several plots share one page
        svg = svg.replace(mark, f"{mark}{name}-")
    for address in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):  # HTML needs no namespaces
        svg = svg.replace(f' xmlns="{address}"', "").replace(f' xmlns:xlink="{address}"', "")
    labelled = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)
    return f"<figure{' class=small' if width < 5 else ''}>{labelled}</figure>"
