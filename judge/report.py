"""A judge's evaluation as one page: plots with the numbers beside them, light and dark, readable without a network.

Takes the dict of ``judge.evaluation.evaluate``, also when it was read back from JSON or written by the version before.
What people compared comes first, then pairs that follow from scores, then how far its certainty is to be believed.
Never computes a measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from judge.page import (
    BASE,
    JUDGE,
    Result,
    figure,
    legend,
    measure,
    number,
    page,
    row_name,
    section,
    signed,
    span,
    stacked,
    sub,
    table,
)
from judge.report_trust import calibrated_scores, reliability, scores_by_value, sure_and_unsure
from judge.rubric import JudgeError

MARKS = {"longer": "^", "majority": "|"}  # of the baselines of a row, in its plot
MIXED = "Comparisons, and pairs that follow from scores (not kept apart by the version that wrote this)"
MOST_LISTED = 5  # names of a reason's labels


def write(report: Result, path: Path, title: str) -> None:
    """Write ``report`` as one self-contained HTML file at ``path``; ``title`` heads it.

    Raises:
        JudgeError: matplotlib is missing, or the file cannot be written.
    """
    document = page(
        title,
        [
            _opening(report),
            _data(report.get("data") or {}),
            _failed(report),
            _compared(report, "pairs", "Comparisons by people" if "derived" in report else MIXED),
            _compared(report, "derived", "Pairs that follow from scores") if _any(report, "derived") else "",
            *reliability(report),
            *sure_and_unsure(report),
            _all_scores(report),
            *calibrated_scores(report),
            *scores_by_value(report["scores_by"]),
            *_apart(report),
        ],
    )
    try:
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise JudgeError(f"Cannot write the report to {path} ({error}). Choose another file.") from error


def _opening(report: Result) -> str:
    method, pairs, derived, scores = report["method"], report["pairs"], report.get("derived"), report["scores"]
    apart = f", {derived['n']} pairs that follow from scores" if derived and derived["n"] else ""
    counts = (
        f"{_counted(pairs['n'], 'decided comparison')} and {_counted(pairs['n_ties'], 'tie')} of "
        f"{_counted(pairs['trees'], 'tree')}{apart}, {_counted(scores['n'], 'score')} of {_counted(scores['trees'], 'tree')}."
    )
    how = f"Brackets: {method['interval']}, {method['n_boot']} resamples, seed {method['seed']}. {pairs['tie_rule']}"
    return f"<p>{_safe(counts)} None of them was learned from.</p><p class=note>{_safe(how)}</p>"


def _failed(report: Result) -> str:
    """The baseline that is missing beside every accuracy, and why."""
    return f"<p>{_safe(report['baseline_failed'])}</p>" if "baseline_failed" in report else ""


def _data(card: Result) -> str:
    """Which labels were used, cut or left out, as they were counted before training."""
    labels = card.get("labels")
    if not labels:
        return ""
    rows = [
        [reason["reason"], reason["n"], _listed(reason.get("labels", []), reason["n"])] for reason in labels["reasons"]
    ]
    return section("Labels", [labels["sentence"]], table(["reason", "labels", "for example in"], rows) or "<p></p>")


def _listed(labels: Iterable[Result], n: int) -> str:
    trees = list(dict.fromkeys(str(label["tree"]) for label in labels))
    shown = ", ".join(trees[:MOST_LISTED])
    return f"{shown}, …" if len(trees) > MOST_LISTED or n > len(trees) > 0 else shown


def _compared(report: Result, what: str, heading: str) -> str:
    """What all pairs say, beside each baseline; then a row for each level and dimension, and its plot."""
    found = report[what]
    if not found["n"] + found["n_ties"]:
        return section(heading, [])
    rows = [r for r in report[f"{what}_by"] if r["by"] == "dimension"]
    ceiling = found.get("ceiling")
    notes = [
        f"Intervals: {found['interval_note']}." if found["interval_note"] else "",
        'Small under a baseline: this judge minus it, "?" where that may be chance.',
        "People's own agreement counts ties, as the judge's three-way accuracy does." if ceiling else "",
    ]
    return section(
        heading, notes,
        _against(report, what),
        sub("By level and dimension"), _accuracies("dimension", rows, found, wide=True), _dots(rows, what),
    )  # fmt: skip


def _against(report: Result, what: str) -> str:
    """This judge over all pairs, and what it gains over each baseline on the same pairs."""
    found = report[what]
    lines: list[list[object]] = [
        ["this judge", found["n"], _line(found["accuracy"], found["interval"]), measure(found["three_way"]), ""]
    ]
    for name, other in _others(report, what).items():
        gain = _gain(other["difference"], other["difference_interval"], other["beyond_chance"])
        lines.append([name, other["n"], measure(other), measure(other.get("three_way")), gain])
    for name, baseline in found["baselines"].items():
        shown = f"{name} ({baseline['side']})" if "side" in baseline else name
        difference = (baseline.get(k) for k in ("difference", "difference_interval", "beyond_chance"))
        gain = _gain(*difference) if "difference" in baseline else ""
        lines.append([shown, found["n"], measure(baseline), "", gain])
    if ceiling := found.get("ceiling"):
        who = "; ".join(f"{name}: {n}" for name, n in ceiling["who"].items())
        lines.append([("people with themselves or each other", who), ceiling["n"], "", measure(ceiling), ""])
    return table(["of all", "pairs", "accuracy", "three-way", "this judge minus it"], lines, wide=True)


def _others(report: Result, what: str) -> dict[str, Result]:
    """Other judges on these pairs, also from a report of the version before; with the three-way share where it was kept."""
    whole = report.get("others", {}) if what == "pairs" else {}
    if "others" in report[what]:
        return {
            name: {**row, "three_way": whole.get(name, {}).get("three_way")}
            for name, row in report[what]["others"].items()
        }
    return {
        name: {"n": old["n"], "value": old["accuracy"], "interval": old["interval"], "three_way": old["three_way"],
               "difference": old["versus"]["difference"], "difference_interval": old["versus"]["interval"],
               "beyond_chance": old["versus"]["beyond_chance"]}
        for name, old in whole.items()
    }  # fmt: skip


def _accuracies(by: str, rows: list[Result], found: Result, wide: bool = False) -> str:
    """Rows of accuracy, each with its n, interval and every baseline."""
    names = list(found.get("others", {}))
    ceiling = any(r.get("ceiling") for r in rows)
    head = [by, "pairs", "ties", "trees", "accuracy", "coin", "majority", "longer", *names, *(["people agree"] if ceiling else []), ""]  # fmt: skip
    lines: list[list[object]] = []
    for r in rows:
        coin, majority, longer = (r["baselines"][b] for b in ("coin", "majority", "longer"))
        others = [r.get("others", {}).get(name) for name in names]
        lines.append([
            row_name(r) if by == "dimension" else r["key"], r["n"], r["n_ties"], r["trees"],
            stacked(r["accuracy"], r["interval"]), stacked(coin["value"], coin["interval"]), number(majority["value"]),
            (number(longer["value"]), _short(longer)),
            *((number(o["value"]), _short(o, of=r["n"])) if o else "–" for o in others),
            *([_agreed(r.get("ceiling"))] if ceiling else []), r["interval_note"] or "",
        ])  # fmt: skip
    return table(head, lines, wide)


def _agreed(ceiling: Result | None) -> object:
    return (number(ceiling["value"]), f"n {ceiling['n']}") if ceiling else "–"


def _short(baseline: Result, of: int | None = None) -> str:
    """Beside a baseline's value: what the judge gains over it, and on how many pairs if those are not all."""
    few = f"n {baseline['n']}" if of is not None and baseline["n"] != of else ""
    if baseline.get("difference") is None:
        return few
    doubt = "" if baseline["beyond_chance"] else "?"
    return " ".join(t for t in (f"judge {signed(baseline['difference'])}{doubt}", few) if t)


def _dots(rows: list[Result], name: str) -> str:
    shown = [r for r in rows if r["accuracy"] is not None]
    if not shown:
        return ""

    def draw(axes: Any) -> None:
        axes.axvline(0.5, color=BASE, linestyle=":", label="coin")
        for i, r in enumerate(shown):
            axes.plot(r["accuracy"], i, "o", color=JUDGE, label="" if i else "this judge")
            if r["interval"]:
                axes.plot(r["interval"], [i, i], color=JUDGE)
            for baseline, mark in MARKS.items():
                if (value := r["baselines"][baseline]["value"]) is not None:
                    axes.plot(value, i, mark, color=BASE, fillstyle="none", label="" if i else baseline)
            for at, other in enumerate(r.get("others", {}).items()):
                if other[1]["value"] is not None:
                    axes.plot(
                        other[1]["value"], i, "xsd+"[at % 4], color=BASE, fillstyle="none", label="" if i else other[0]
                    )
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.5, -0.5), xlabel="accuracy")
        axes.set_yticks(range(len(shown)), [_tick(r) for r in shown])
        legend(axes)

    alt = "Accuracy: " + "; ".join(f"{_tick(r)} {number(r['accuracy'])}" for r in shown)
    return figure(draw, f"dots-{name}", alt, height=1.8 + 0.35 * len(shown))


def _tick(row: Result) -> str:
    return row_name(row) if row["by"] == "dimension" else str(row["key"])


def _apart(report: Result) -> list[str]:
    """The same pairs by turn, group and annotator, and those that were cut: a section each, where there is something to tell."""
    sections = []
    for by, heading in (("cut", "Dialogues that were cut, and whole ones"), ("turn", "Accuracy by turn"),
                        ("group", "Accuracy by group"), ("annotator", "Accuracy by annotator")):  # fmt: skip
        blocks = []
        for what, kind in (("pairs", "Comparisons by people"), ("derived", "Pairs that follow from scores")):
            rows = [r for r in report.get(f"{what}_by", []) if r["by"] == by]
            if len(rows) > 1 or (by == "cut" and rows):
                plot = _dots(rows, f"{what}-{by}") if by in ("turn", "group") and what == "pairs" else ""
                blocks += [sub(kind), _accuracies(by, rows, report[what], wide=True), plot]
        if blocks:
            sections.append(section(heading, [], *blocks))
    return sections


def _all_scores(report: Result) -> str:
    scores, constants = report["scores"], report["scores"]["baselines"]
    top = constants.get("always_top") or constants["always_3"]
    always = "top of the scale" if top["constant"] is None else str(top["constant"])
    named = [("this judge", scores), (f"always {always}", top)]
    named.append((f"always {constants['majority']['constant']}, the commonest", constants["majority"]))
    for r in report["scores_by"]:
        if r["by"] == "dimension":
            named += [(row_name(r), r), (f"  always {_top_of(r)['constant']}", _top_of(r))]
    rows = [
        [name, r.get("n", ""), *(measure(r[m]) for m in ("mae", "agreement", "pearson", "spearman"))]
        for name, r in named
    ]
    if ceiling := scores.get("ceiling"):
        rows.append(["people with themselves or each other", ceiling["n"], "", measure(ceiling), "", ""])
    head = ["", "scores", "mean absolute error", "exact agreement", "Pearson", "Spearman"]
    notes = [
        f"Intervals: {scores['interval_note']}." if scores["interval_note"] else "",
        "Scales of different lengths are pooled in the first lines: read the rows below."
        if scores.get("scales", 1) > 1
        else "",
    ]
    return section("Scores", notes, table(head, rows, wide=True) if scores["n"] else "")


def _top_of(row: Result) -> Result:
    found: Result = row["baselines"].get("always_top") or row["baselines"]["always_3"]
    return found


def _gain(difference: float | None, interval: list[float] | None, beyond: bool | None) -> str:
    verdict = {True: ", beyond chance", False: ", may be chance", None: ""}[beyond]
    return f"{signed(difference)} {span(interval)}".strip() + verdict if difference is not None else "–"


def _line(value: float | None, interval: list[float] | None) -> str:
    return f"{number(value)} {span(interval)}".strip()


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _any(report: Result, what: str) -> bool:
    return bool(report.get(what) and report[what]["n"] + report[what]["n_ties"])


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
