"""The statistics of the Data screen as one piece of HTML: plots with the numbers under them.

Takes the dict of ``studio.statistics.figures``. Everything that comes from the store is escaped, names of annotators too.
Never reads the store and never computes a measure.
"""

from __future__ import annotations

from typing import Any

from judge.agreement import PACE_RULE, PAPER
from judge.rubric import dimensions
from studio.plots import ACCENT, BELOW, LEVELS, OTHER, Bar, Piece, Range, bars, heat_map, ranges, table, text, titled

Result = dict[str, Any]
ONE = (ACCENT, "#fff")  # a bar of one piece
FIRST, SECOND, THIRD = LEVELS[3], LEVELS[2], LEVELS[0]  # of several, told apart by everyone
MOST_DAYS, MOST_BLOCKS, MOST_CODES = 14, 8, 12  # what can be read side by side; the tables have the rest


def section(found: Result) -> str:
    """The whole section as HTML; where nothing was judged, what to do."""
    if not found["judgements"]:
        replies = sum(r["replies"] for r in found["coverage"])
        there = f"Replies to rate: {replies:,}." if replies else "Ask something on Explore, or import dialogues."
        return (
            f'<div class="stats"><p class="none">Nothing has been judged yet. {there} Rate a reply on Explore with the keys '
            "0 to 3, or take a queue on Annotate; the figures then appear here.</p></div>"
        )
    parts = (_summary, _scores, _agreement, _paper, _coverage, _comparisons, _correlations, _work, _drift)
    return f'<div class="stats">{"".join(part(found) for part in parts)}</div>'


def _block(heading: str, note: str, *drawn: str, numbers: str = "") -> str:
    side_by_side = f'<div class="plots">{"".join(drawn)}</div>' if drawn else ""
    if drawn and numbers:
        numbers = f"<details><summary>The numbers</summary>{numbers}</details>"
    return f'<section><h3>{text(heading)}</h3><p class="note">{text(note)}</p>{side_by_side}{numbers}</section>'


def _summary(found: Result) -> str:
    trees, replies = found["trees"], sum(r["replies"] for r in found["coverage"])
    said = {
        "current scores": found["scores"],
        "current comparisons": found["judgements"] - found["scores"],
        "annotators with scores": found["annotators"],
        f"rated replies; {replies:,} are there, not pruned": found["rated"],
        f"judged trees, of {trees['trees']:,}; {trees['mine']:,} by you": trees["touched"],
    }
    return "<dl>" + "".join(f"<div><dt>{what}</dt><dd>{n:,}</dd></div>" for what, n in said.items()) + "</dl>"


# ---- what was given


def _scores(found: Result) -> str:
    legend = [(fill, str(level)) for level, (fill, _) in LEVELS.items()]
    drawn, numbers = [], ""
    for who, key in (("Everyone", "distributions"), (_you(found), "distributions_mine")):
        if rows := found[key]:
            plot = bars(f"Scores by dimension: {who}", [_spread(r) for r in rows], legend)
            drawn.append(titled(who, plot, f"scores-{'mine' if key.endswith('mine') else 'all'}"))
            levels = sorted({level for r in rows for level in r["counts"]}, key=int)
            lines = [
                [_name(r["dimension"]), r["n"], f"{r['mean']:.2f}", *map(r["counts"].get, levels), f"{r['top_share']:.0%}"]
                for r in rows
            ]  # fmt: skip
            numbers += table(["scores", "n", "mean", *levels, "always the top"], lines, who)
    note = (
        "The share of each score. Last in each line: how often the top score was given. Who always gives it, without looking, "
        "agrees that often with these scores."
    )
    return _block("Scores", note, *drawn, numbers=numbers)


def _spread(row: Result) -> Bar:
    pieces = [
        Piece(n, LEVELS.get(int(level), OTHER), f"{n / row['n']:.0%}", f"{level}: {n} of {row['n']}")
        for level, n in row["counts"].items()
    ]
    note = f"n {row['n']:,} · mean {row['mean']:.2f} · {row['top']}: {row['top_share']:.0%}"
    return Bar(_name(row["dimension"]), note, pieces)


def _correlations(found: Result) -> str:
    heading, rows = "Do the dimensions differ?", found["correlations"]
    if not rows:
        return _block(heading, "This needs replies that were rated on two dimensions or more.")
    order = [*dimensions(), *sorted({r[side] for r in rows for side in "ab"} - dimensions().keys())]
    codes = [c for c in order if any(c in (r["a"], r["b"]) for r in rows)][:MOST_CODES]
    known = {(r["a"], r["b"]): r["pearson"]["value"] for r in rows}
    squares = [(b, [_square(known.get((a, b))) for a in codes[:i]]) for i, b in enumerate(codes) if i]
    plot = heat_map("Pearson's r of every two dimensions", codes[:-1], squares)
    lines = [
        [f"{r['a']} with {r['b']}", _figure(r["pearson"]), r["n"], r["trees"], r["pearson"].get("reason") or r["interval_note"]]
        for r in rows
    ]  # fmt: skip
    note = "Over scores of one annotator, reply and round. No square: fewer than three, or one never varies."
    numbers = table(["Pearson's r", "r", "n", "trees", "note"], lines)
    return _block(heading, note, titled("Pearson's r, everyone", plot, "correlations"), numbers=numbers)


def _square(value: float | None, scale: float = 1) -> tuple[float | None, str]:
    return (None, "") if value is None else (value / scale, f"{value:.2f}")


# ---- how good it is


def _agreement(found: Result) -> str:
    pairs, more = found["agreement"]["pairs"], found["agreement"]["more"]
    if not pairs:
        return _block("Agreement", "This needs replies rated twice: by two annotators, or by one in two rounds.")
    legend = [(ACCENT, "raw agreement, 95 % interval"), (BELOW, "always the top score")]
    drawn, numbers = [], ""
    for i, pair in enumerate(pairs):
        who = f"{_rater(pair['a'])} with {_rater(pair['b'])}"
        rows = [*pair["levels"], *pair["dimensions"]]
        drawn.append(titled(who, ranges(f"Agreement: {who}", [_mark(r) for r in rows], legend), f"agreement-{i + 1}"))
        head = [
            "agreement",
            "n",
            "trees",
            "raw",
            "always the top",
            "weighted kappa",
            "ordinal alpha",
            "Pearson",
            "note",
        ]
        numbers += table(head, [_agreement_line(r) for r in rows], who)
    note = (
        "Raw agreement is worth what it is above always giving the top score, also shown. "
        f"Intervals: {found['n_boot']:,} resamples of whole trees."
        + (f" {more} more pairs are not shown." if more else "")
    )
    return _block("Agreement", note, *drawn, numbers=numbers)


def _mark(row: Result) -> Range:
    raw, top = row["agreement"], row["constant"]
    note = f"{_figure(raw, True)} · top {_figure(top | {'interval': None}, True)} · n {row['n']:,}"
    return Range(_level(row), note, raw["value"], raw["interval"], top["value"])


def _agreement_line(row: Result) -> list[Any]:
    measures = [_figure(row[m]) for m in ("kappa", "alpha_ordinal", "pearson")]
    shares = [_figure(row[m], True) for m in ("agreement", "constant")]
    return [_level(row), row["n"], row["trees"], *shares, *measures, row["interval_note"]]


def _paper(found: Result) -> str:
    lines = []
    for row in found["paper"]:
        share = "Pearson" not in row["what"]
        theirs = ", ".join(f"{v:.1%} {whose}" if share else f"{v:.2f}" for whose, v in row["paper"].items())
        lines.append([row["what"], theirs, _figure(row["ours"], share) if row["ours"] else None, row["n"] or None])
    note = (
        f"From {PAPER['source']}. Agreement here: the two annotators with most in common; the rest: everyone's scores."
    )
    return _block("Beside InterMT", note, numbers=table(["figure", "InterMT", "here", "n"], lines))


def _drift(found: Result) -> str:
    heading, rows = "Does your measure drift?", found["drift"]
    last = max((r["block"] for r in rows), default=0)
    if last < 2:
        return _block(heading, "Shown once you have given more than 50 scores on one dimension.")
    blocks = range(max(1, last - MOST_BLOCKS + 1), last + 1)
    means = {(r["dimension"], r["block"]): r["mean"]["value"] for r in rows}
    codes = list(dict.fromkeys(r["dimension"] for r in rows))[:MOST_CODES]
    squares = [(code, [_square(means.get((code, block)), 3) for block in blocks]) for code in codes]
    plot = heat_map("Mean of each 50 scores, by dimension", [str(b) for b in blocks], squares)
    lines = [
        [f"{r['dimension']}, {r['block']}", r["n"], r["start"][:10], _figure(r["mean"]), r["earlier_median"]] for r in rows
    ]  # fmt: skip
    note = (
        "The mean of each 50 scores, in the order in which you gave them. If it climbs or falls: read the rubric again."
    )
    numbers = table(["block", "n", "from", "mean", "median before"], lines)
    return _block(heading, note, titled(_you(found), plot, "drift"), numbers=numbers)


# ---- how much there is


def _coverage(found: Result) -> str:
    rows, drawn = found["coverage"], []
    for who, key in (("Everyone", "rated"), (_you(found), "mine")):
        plot = bars(f"Share of replies rated, by turn: {who}", [_covered(r, key) for r in rows], scale=1)
        drawn.append(titled(who, plot, f"coverage-{key}"))
    numbers = table(
        ["turn", "replies", "rated", "by you"], [[r["turn"], r["replies"], r["rated"], r["mine"]] for r in rows]
    )
    note = "Replies with a score on any dimension, by turn. Pruned branches and failed replies are left out."
    return _block("Coverage", note, *drawn, numbers=numbers)


def _covered(row: Result, key: str) -> Bar:
    share = row[key] / row["replies"]
    return Bar(
        f"Turn {row['turn']}",
        f"{row[key]:,} of {row['replies']:,} · {share:.0%}",
        [Piece(share, ONE, "", "rated")],
    )


def _comparisons(found: Result) -> str:
    drawn, numbers = [], ""
    if rows := found["comparisons"]:
        legend = [(FIRST[0], "left"), (SECOND[0], "tie"), (THIRD[0], "right")]
        plot = bars("Comparisons by level and dimension", [_compared(r) for r in rows], legend)
        drawn.append(titled("Comparisons", plot, "comparisons"))
        lines = [[_kind(r), r["left"], r["tie"], r["right"], r["shown_left"], r["shown"]] for r in rows]
        head = ["compared", "left", "tie", "right", "left on the screen won", "of"]
        numbers += table(head, lines, "Comparisons")
    if rows := found["pairs"]:
        legend = [(FIRST[0], "compared"), (SECOND[0], "from scores")]
        most = max(r["explicit"] + r["derived"] for r in rows)
        plot = bars("Pairs to train on, by level and dimension", [_pairs(r) for r in rows], legend, most)
        drawn.append(titled("Pairs to train on", plot, "pairs"))
        lines = [[_kind(r), r["explicit"], r["derived"], r["ties"]] for r in rows]
        numbers += table(["pairs", "compared", "from scores", "ties"], lines, "Pairs to train on")
    note = "Siblings whose scores differ on a local dimension make a pair to train on without being compared."
    if not drawn:
        note += " There is none yet: compare two replies on Annotate, or rate the siblings of a reply."
    return _block("Comparisons and pairs", note, *drawn, numbers=numbers)


def _compared(row: Result) -> Bar:
    sides = (("left", FIRST), ("tie", SECOND), ("right", THIRD))
    pieces = [Piece(row[side], colours, f"{row[side]:,}", side) for side, colours in sides]
    return Bar(_kind(row), f"n {sum(p.amount for p in pieces):,} · ties {row['tie']:,}", pieces)


def _pairs(row: Result) -> Bar:
    pieces = [Piece(row["explicit"], FIRST, "", "compared"), Piece(row["derived"], SECOND, "", "from scores")]
    return Bar(_kind(row), f"{row['explicit']:,} compared · {row['derived']:,} from scores", pieces)


def _work(found: Result) -> str:
    pace, drawn, numbers = found["pace"], [], ""
    if days := pace["days"][-MOST_DAYS:]:
        most = max(d["n"] for d in days)
        rows = [Bar(d["day"], f"{d['n']:,}", [Piece(d["n"], ONE, "", "judgements")]) for d in days]
        drawn.append(titled("Judgements a day", bars("Judgements a day", rows, scale=most), "days"))
        numbers = table(["day", "judgements"], [[d["day"], d["n"]] for d in pace["days"]])
    beside = ""
    if times := found["times"]:
        lines = [[f"{r['kind']} {r['what']}", r["n"], _seconds(r)] for r in times]
        beside += table(["on Annotate", "n", "median s"], lines, "Seconds an item")
    if people := pace["annotators"]:
        lines = [[r["annotator"], r["n"], _seconds(r), r["gaps"], r["pauses"]] for r in people]
        head = ["annotator", "judgements", "median s", "gaps", "pauses"]
        beside += table(head, lines, "From one judgement to the next")
    if beside:
        drawn.append(f"<div>{beside}</div>")
    note = f"{PACE_RULE} Imported scores have no pace. A ranking counts its time once for each of its pairs."
    return _block("Time and pace", note, *drawn, numbers=numbers)


# ---- words


def _you(found: Result) -> str:
    return f"You ({found['annotator']})"


def _name(code: str) -> str:
    return f"{code} {dimensions()[code].name}" if code in dimensions() else code


def _kind(row: Result) -> str:
    return f"{row['level']} · {_name(row['dimension'])}"


def _rater(rater: tuple[str, int]) -> str:
    return f"{rater[0]} (round {rater[1]})"


def _level(row: Result) -> str:
    return {"local": "All local", "global": "All global"}.get(row["dimension"]) or _name(row["dimension"])


def _seconds(row: Result) -> str | None:
    return None if row["median_seconds"] is None else f"{row['median_seconds']:.1f}"


def _figure(found: Result, percent: bool = False) -> str | None:
    """A value with its interval, in per cent or with two digits; None where there is none."""
    if found["value"] is None:
        return None
    scale, digits = (100, 0) if percent else (1, 2)
    value = f"{found['value'] * scale:.{digits}f}{'%' if percent else ''}"
    ends = ", ".join(f"{end * scale:.{digits}f}" for end in found["interval"] or ())
    return f"{value} [{ends}]" if ends else value
