"""A judge's evaluation as one page: plots with the numbers beside them, light and dark, readable without a network.

Takes the dict of ``judge.evaluation.evaluate``, also when it was read back from JSON. Never computes a measure.
"""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from judge.rubric import JudgeError

Result = dict[str, Any]
# matplotlib writes literal colours; these stand for the page's own, so that one picture serves light and dark
INK, SOFT, JUDGE, BASE = "#010001", "#010002", "#010003", "#010004"
COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", JUDGE: "var(--judge)", BASE: "var(--base)"}
LINES = {"coin": ":", "majority": "--", "longer": "-."}
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1f; --soft: #6b7280; --judge: #1f5fbf; --base: #b45309; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14161a; --ink: #e8e8ea; --soft: #9aa3af; --judge: #8ab4f8; --base: #f0a860; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto;
  padding: 0 1rem; }
section { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
section > h2, section > p { flex-basis: 100%; margin: 1.5rem 0 .5rem; }
figure { flex: 1 1 26rem; max-width: 34rem; margin: 0; } figure svg { width: 100%; height: auto; }
.table { flex: 1 1 26rem; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid var(--soft); white-space: nowrap; }
.note { color: var(--soft); }
"""


def write(report: Result, path: Path, title: str) -> None:
    """Write ``report`` as one self-contained HTML file at ``path``; ``title`` heads it.

    Raises:
        JudgeError: matplotlib is missing, or the file cannot be written.
    """
    method, pairs, scores = report["method"], report["pairs"], report["scores"]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{pairs['n']} decided pairs and {pairs['n_ties']} ties of {pairs['trees']} trees, {scores['n']} scores of "
        f"{scores['trees']} trees. Brackets: {html.escape(method['interval'])}, "
        f"{method['n_boot']} resamples, seed {method['seed']}. {html.escape(pairs['tie_rule'])}</p>",
        _all_pairs(report),
        _accuracy_by(report, "dimension", "Accuracy by dimension"),
        _accuracy_by(report, "turn", "Accuracy by turn"),
        _accuracy_by(report, "group", "Accuracy by group"),
        _reliability(report["calibration"]),
        _all_scores(report),
        _human_and_judge(report["scores_by"]),
    ]
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise JudgeError(f"Cannot write the report to {path} ({error}). Choose another file.") from error


def _all_pairs(report: Result) -> str:
    pairs = report["pairs"]
    rows = [["this judge", _with_interval(pairs["accuracy"], pairs["interval"]), _measure(pairs["three_way"]), ""]]
    for name, other in report["others"].items():
        versus = other["versus"]
        verdict = {True: ", beyond chance", False: ", may be chance", None: ""}[versus["beyond_chance"]]
        gain = _with_interval(versus["difference"], versus["interval"]) + verdict
        rows.append([name, _with_interval(other["accuracy"], other["interval"]), _measure(other["three_way"]), gain])
    for name, baseline in pairs["baselines"].items():
        shown = f"{name} ({baseline['side']})" if "side" in baseline else name
        rows.append([shown, _measure(baseline), "", ""])
    head = ["", "accuracy", "three-way", "this judge minus it"]
    return _section("Pairs", _note(pairs), "", _table(head, rows) if pairs["n"] + pairs["n_ties"] else "")


def _accuracy_by(report: Result, by: str, heading: str) -> str:
    rows = [r for r in report["pairs_by"] if r["by"] == by]
    baselines = ("coin", "majority", "longer")
    table = _table(
        [by, "pairs", "ties", "trees", "accuracy", *baselines, ""],
        [[r["key"], r["n"], r["n_ties"], r["trees"], _with_interval(r["accuracy"], r["interval"]),
          *(_number(r["baselines"][b]["value"]) for b in baselines), r["interval_note"] or ""] for r in rows],
    ) if rows else ""  # fmt: skip
    shown = [r for r in rows if r["accuracy"] is not None]

    def draw(axes: Any) -> None:
        for i, r in enumerate(shown):
            axes.plot(r["accuracy"], i, "o", color=JUDGE)
            if r["interval"]:
                axes.plot(r["interval"], [i, i], color=JUDGE)
        for name, style in LINES.items():
            if (value := report["pairs"]["baselines"][name]["value"]) is not None:
                axes.axvline(value, color=BASE, linestyle=style, label=f"{name}, all pairs")
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.5, -0.5), xlabel="accuracy", ylabel=by)
        axes.set_yticks(range(len(shown)), [str(r["key"]) for r in shown])
        _legend(axes)

    alt = f"{heading}: " + "; ".join(f"{r['key']} {_number(r['accuracy'])}" for r in shown)
    figure = _figure(draw, by, alt, height=1.6 + 0.35 * len(shown)) if shown else ""
    return _section(heading, "", figure, table)


def _reliability(found: Result) -> str:
    bins = [b for b in found["bins"] if b["n"]]
    note = (
        f"Expected calibration error {_number(found['ece'])}; with these confidences a perfectly calibrated judge would \
show {_number(found['ece_if_calibrated'])} on average. {found['n_ties']} ties left out."
    )

    def draw(axes: Any) -> None:
        axes.plot([0.5, 1], [0.5, 1], ":", color=BASE, label="calibrated")
        axes.plot([b["confidence"] for b in bins], [b["right"] for b in bins], "o-", color=JUDGE, label="this judge")
        axes.set(xlim=(0.49, 1.01), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="share right")
        _legend(axes)

    alt = "Reliability: " + "; ".join(f"{_number(b['confidence'])} sure, {_number(b['right'])} right" for b in bins)
    table = _table(
        ["confidence from", "to", "pairs", "mean", "share right"],
        [[f"{b['low']:.2f}", f"{b['high']:.2f}", b["n"], _number(b["confidence"]), _number(b["right"])] for b in bins],
    )
    figure = _figure(draw, "reliability", alt, height=3.6) if bins else ""
    return _section("Reliability", note if bins else "", figure, table if bins else "")


def _all_scores(report: Result) -> str:
    scores, constants = report["scores"], report["scores"]["baselines"]
    named = [("this judge", scores), ("always 3", constants["always_3"])]
    named.append((f"always {constants['majority']['constant']}, the commonest", constants["majority"]))
    named += [(f"this judge, {r['key']}", r) for r in report["scores_by"] if r["by"] == "dimension"]
    rows = [[name, *(_measure(r[m]) for m in ("mae", "agreement", "pearson", "spearman"))] for name, r in named]
    head = ["", "mean absolute error", "exact agreement", "Pearson", "Spearman"]
    return _section("Scores", _note(scores), "", _table(head, rows) if scores["n"] else "")


def _human_and_judge(rows: list[Result]) -> str:
    rows = [r for r in rows if r["by"] == "value"]
    keys = [r["key"] for r in rows]

    def draw(axes: Any) -> None:
        axes.plot([min(keys), max(keys)], [min(keys), max(keys)], ":", color=BASE, label="the same")
        axes.plot(keys, [r["expected"]["value"] for r in rows], "o", color=JUDGE, label="this judge's mean")
        for r in rows:
            if r["expected"]["interval"]:
                axes.plot([r["key"]] * 2, r["expected"]["interval"], color=JUDGE)
        axes.set(xlabel="human score", ylabel="judge's expected score")
        axes.set_xticks(keys)
        _legend(axes)

    table = _table(
        ["human score", "scores", "trees", "judge's mean", "exact agreement"],
        [[r["key"], r["n"], r["trees"], _measure(r["expected"]), _measure(r["agreement"])] for r in rows],
    )
    alt = "Human and judge: " + "; ".join(f"{r['key']} is {_number(r['expected']['value'])}" for r in rows)
    figure = _figure(draw, "scores", alt, height=3.6) if rows else ""
    return _section("Human and judge", "", figure, table if rows else "")


def _section(heading: str, note: str, figure: str, table: str) -> str:
    """``note`` is text; ``figure`` and ``table`` are HTML. Without either, the section says that there is nothing."""
    body = figure + (f'<div class="table">{table}</div>' if table else "") or "<p>Nothing to show: no such labels.</p>"
    said = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<section><h2>{html.escape(heading)}</h2>{said}{body}</section>\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    first = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in head)
    rest = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{first}</tr></thead><tbody>{rest}</tbody></table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if not interval:
        return _number(value)
    # every resample the same: that is too little variety, not certainty
    doubt = " (no width: all trees alike)" if interval[0] == interval[1] else ""
    return f"{_number(value)} [{_number(interval[0])}, {_number(interval[1])}]{doubt}"


def _measure(found: Result | None) -> str:
    if not found:
        return "–"
    return _with_interval(found["value"], found["interval"]) + (f" ({found['reason']})" if "reason" in found else "")


def _note(found: Result) -> str:
    return f"Intervals: {found['interval_note']}." if found["interval_note"] else ""


def _legend(axes: Any) -> None:
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _figure(draw: Callable[[Any], None], name: str, alt: str, height: float) -> str:
    """What ``draw`` puts on the axes, as a figure of 6 x ``height`` inches: inline SVG, ids of its own, page's colours."""
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
        figure = Figure(figsize=(6, height), layout="constrained")
        draw(figure.add_subplot())
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    for old, new in COLOURS.items():
        svg = svg.replace(old, new)
    for mark in (' id="', 'xlink:href="#', "url(#"):  # several plots share one page
        svg = svg.replace(mark, f"{mark}{name}-")
    for address in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):  # HTML needs no namespaces
        svg = svg.replace(f' xmlns="{address}"', "").replace(f' xmlns:xlink="{address}"', "")
    return f'<figure>{svg.replace("<svg", f"""<svg role="img" aria-label="{html.escape(alt)}" """, 1)}</figure>'
