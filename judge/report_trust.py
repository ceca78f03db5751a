"""The second half of a report: how far a judge's certainty and its scores are to be believed. HTML sections in lists.

A section that a report of the version before does not have is left out.
"""

from __future__ import annotations

from typing import Any

from judge.page import BASE, JUDGE, Result, figure, legend, measure, number, row, row_name, section, signed, span, table

LEAST_DRAWN = 30  # pairs or scores of one dimension below which it gets a row and no plot of its own
SMALL = 3.4  # inches, of a plot of one dimension


def reliability(report: Result) -> list[str]:
    """Does "80 % sure" come true: all comparisons by people, then each level and dimension."""
    found, rows = report["calibration"], report.get("calibration_by", [])
    if not found["n"]:
        return [section("Reliability", [])]
    note = (
        f"Confidence is the fitted model's probability of the favoured side. Expected calibration error "
        f"{number(found['ece'])}; with these confidences a perfectly calibrated judge would show "
        f"{number(found['ece_if_calibrated'])} on average. {found['n_ties']} ties left out."
    )
    bins = table(
        ["confidence from", "to", "pairs", "mean", "share right"],
        [[f"{b['low']:.2f}", f"{b['high']:.2f}", b["n"], number(b["confidence"]), number(b["right"])] for b in found["bins"] if b["n"]],
    )  # fmt: skip
    by = table(
        ["dimension", "pairs", "calibration error", "if calibrated"],
        [[row_name(r), r["n"], number(r["ece"]), number(r["ece_if_calibrated"])] for r in rows if r["n"]],
        wide=True,
    )
    small = [_curve(r, f"reliability-{i}", row_name(r), SMALL) for i, r in enumerate(rows) if r["n"] >= LEAST_DRAWN]
    plots = [row(*small)] if len(small) > 1 else []
    return [section("Reliability", [note], _curve(found, "reliability", "", 6), bins, by, *plots)]


def sure_and_unsure(report: Result) -> list[str]:
    """How often the sure third of pairs errs, and the unsure one."""
    sections = []
    for what, pairs in (("sure", "comparisons by people"), ("sure_derived", "pairs that follow from scores")):
        found = report.get(what)
        if not found or (what == "sure_derived" and not found["rows"]):
            continue
        heading = f"Where it is sure: {pairs}"
        if not found["rows"]:
            sections.append(section(heading, [], f"<p>Not told: {found['reason']}.</p>"))
            continue
        gap = found["difference"]
        verdict = {
            True: "More than chance would do.", False: "That may be chance: the spread says little here.", None: "",
        }[found["beyond_chance"]]  # fmt: skip
        note = (
            "Pairs by the difference of the two scores over its spread (bootstrapped heads), in thirds. The unsure third errs "
            f"{signed(gap['value'])} {span(gap['interval'])} more often than the sure one. {verdict}"
        )
        rows = [[r["third"], r["n"], _range(r), measure(r["error"])] for r in found["rows"]]
        sections.append(section(heading, [note], table(["third", "pairs", "difference / spread", "share wrong"], rows)))
    return sections


def calibrated_scores(report: Result) -> list[str]:
    """Do the probabilities of each score come true, by dimension."""
    rows = report.get("ordinal_calibration") or []
    if not rows:
        return []
    note = (
        "P(above k) as fitted, beside how often it came true. Ranked probability score: 0 is perfect; beside it that of one who "
        "knows only how often each score was given in the other trees."
    )
    head = [
        "dimension",
        "scores",
        "trees",
        "calibration error",
        "if calibrated",
        "ranked probability score",
        "by frequency alone",
        "gain",
    ]
    lines = [
        [row_name(r), r["n"], r["trees"], number(r["ece"]), number(r["ece_if_calibrated"]), measure(r["rps"]), measure(r["rps_marginal"]),
         measure(r["gain"]) + {True: ", beyond chance", False: ", may be chance", None: ""}[r["beyond_chance"]]]
        for r in rows
    ]  # fmt: skip
    levels = [
        [row_name(r), f"above {k['above']}", number(k["predicted"]), number(k["observed"])]
        for r in rows
        for k in r["levels"]
    ]
    plots = [_levels(r, f"levels-{i}") for i, r in enumerate(rows) if r["n"] >= LEAST_DRAWN]
    shares = table(["dimension", "score", "predicted share", "observed share"], levels)
    heading = "Do the scores' probabilities come true"
    return [section(heading, [note], table(head, lines, wide=True), row(shares), *([row(*plots)] if plots else []))]


def scores_by_value(rows: list[Result]) -> list[str]:
    """What people gave beside what the judge expected, each scale drawn on its own."""
    rows = [r for r in rows if r["by"] == "value"]
    scales: dict[tuple[int, ...], list[Result]] = {}
    for r in rows:
        scales.setdefault(tuple(r.get("scale") or ()), []).append(r)
    if not rows:
        return [section("Human and judge", [])]
    blocks = []
    for i, (scale, own) in enumerate(sorted(scales.items())):
        lines = [[r["key"], r["n"], r["trees"], measure(r["expected"]), measure(r["agreement"])] for r in own]
        head = ["human score", "scores", "trees", "judge's mean", "exact agreement"]
        blocks.append(row(_means(own, scale, f"scores-{i}"), table(head, lines)))
    return [section("Human and judge", [], *blocks)]


def _curve(found: Result, name: str, title: str, width: float) -> str:
    bins = [b for b in found["bins"] if b["n"]]

    def draw(axes: Any) -> None:
        axes.plot([0.5, 1], [0.5, 1], ":", color=BASE, label="calibrated")
        axes.plot([b["confidence"] for b in bins], [b["right"] for b in bins], "o-", color=JUDGE, label="this judge")
        axes.set(xlim=(0.49, 1.01), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="share right")
        if title:
            axes.set_title(f"{title}, n {found['n']}", fontsize=9)
        else:
            legend(axes)

    told = "; ".join(f"{number(b['confidence'])} sure, {number(b['right'])} right" for b in bins)
    return figure(
        draw, name, f"Reliability {title}: {told}".replace(" :", ":"), height=3.6 if width > SMALL else 2.6, width=width
    )


def _levels(row: Result, name: str) -> str:
    at = range(len(row["levels"]))

    def draw(axes: Any) -> None:
        axes.plot(at, [k["observed"] for k in row["levels"]], "s", color=BASE, fillstyle="none", label="came true")
        axes.plot(at, [k["predicted"] for k in row["levels"]], "o", color=JUDGE, label="predicted")
        axes.set(ylim=(-0.02, 1.02), xlim=(-0.5, len(at) - 0.5), ylabel="share")
        axes.set_xticks(at, [f"> {k['above']}" for k in row["levels"]])
        axes.set_title(f"{row_name(row)}, n {row['n']}", fontsize=9)
        axes.legend(frameon=False, fontsize=7)

    told = "; ".join(
        f"above {k['above']} {number(k['predicted'])}, came true {number(k['observed'])}" for k in row["levels"]
    )
    return figure(draw, name, f"{row_name(row)}: {told}", height=2.6, width=SMALL)


def _means(rows: list[Result], scale: tuple[int, ...], name: str) -> str:
    keys = list(scale) or [r["key"] for r in rows]

    def draw(axes: Any) -> None:
        axes.plot([min(keys), max(keys)], [min(keys), max(keys)], ":", color=BASE, label="the same")
        axes.plot(
            [r["key"] for r in rows],
            [r["expected"]["value"] for r in rows],
            "o",
            color=JUDGE,
            label="this judge's mean",
        )
        for r in rows:
            if r["expected"]["interval"]:
                axes.plot([r["key"]] * 2, r["expected"]["interval"], color=JUDGE)
        axes.set(xlabel="human score", ylabel="judge's expected score")
        axes.set_xticks(keys)
        legend(axes)

    alt = "Human and judge: " + "; ".join(f"{r['key']} is {number(r['expected']['value'])}" for r in rows)
    return figure(draw, name, alt, height=3.6)


def _range(row: Result) -> str:
    low, high = (number(row[k]) if row[k] is not None else "∞" for k in ("from", "to"))
    return f"{low} to {high}"
