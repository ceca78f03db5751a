"""What the judgements look like, as plain values: spread, agreement, coverage, pairs, time; beside the paper's figures.

Turns the store's rows into what ``studio.statistics_section`` shows. Contains no SQL and no HTML, and writes nothing; what agreement,
spread, pace and drift mean is said in ``judge.agreement``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from judge.agreement import PAPER, Rating, agreement, by_dimension, correlations, distributions, drift, pace
from judge.rubric import JudgeError, the_nine
from studio import StudioError
from studio.store import Store

Result = dict[str, Any]
IMPORTED = ("intermt", "demo")  # their scores carry the moment of the import: no pace and no order in it
MANY = 4_000  # judgements from which an interval takes fewer resamples, so that the screen stays quick
MOST_PAIRS = 6  # of raters shown; with more, a table of numbers is better made in a notebook


def figures(store: Store, annotator: str, n_boot: int | None = None) -> Result:
    """Everything the section shows, as plain values. ``annotator``: who "mine" is. ``n_boot``: resamples, by size when None.

    Raises:
        StudioError: a score that its dimension does not have.
    """
    rows = store.ratings()
    ratings = [Rating(**{k: r[k] for k in Rating.__slots__}) for r in rows]
    comparisons = store.comparison_counts()
    judgements = len(rows) + sum(c["left"] + c["right"] + c["tie"] for c in comparisons)
    n_boot = n_boot or (1000 if judgements < MANY else 200)
    mine = [(r["created_at"], rating) for r, rating in zip(rows, ratings, strict=True) if rating.annotator == annotator]
    try:
        found = {
            "distributions": _spreads(ratings),
            "distributions_mine": _spreads([rating for _, rating in mine]),
            "correlations": [c for c in correlations(ratings, n_boot=n_boot) if c["n"]],
            "drift": drift(mine, n_boot=n_boot) if annotator not in IMPORTED else [],
            "agreement": _agreements(ratings, store.overlaps(), n_boot),
            "pace": pace([(at, who) for at, who in store.judgement_times() if who not in IMPORTED]),
        }
    except JudgeError as error:
        raise StudioError(f"The statistics stopped: {error}") from error
    return found | {
        "annotator": annotator, "annotators": len({r.annotator for r in ratings}), "scores": len(rows), "judgements": judgements,
        "rated": len({r.node for r in ratings}), "n_boot": n_boot, "coverage": store.coverage(annotator),
        "trees": store.touched(annotator), "comparisons": comparisons, "pairs": store.pair_counts(),
        "times": _times(store.times_taken()), "paper": _beside_paper(found),
    }  # fmt: skip


def _spreads(ratings: Sequence[Rating]) -> list[Result]:
    """Distributions of what was rated, with ``top_share``: how often its top level was given (a rater who always says it
    would agree as often)."""
    rows = [r for r in distributions(ratings) if r["n"]]
    return [r | {"top": list(r["counts"])[-1], "top_share": list(r["counts"].values())[-1] / r["n"]} for r in rows]


def _agreements(ratings: Sequence[Rating], overlaps: Sequence[Result], n_boot: int) -> Result:
    """For the first pairs of raters: agreement by dimension, and of each level's dimensions together."""
    kept: dict[tuple[str, int], list[Rating]] = defaultdict(list)
    for rating in ratings:
        kept[rating.annotator, rating.round].append(rating)
    shown = []
    for pair in overlaps[:MOST_PAIRS]:
        a, b = (pair["a"], pair["a_round"]), (pair["b"], pair["b_round"])
        rows = [r for r in by_dimension(kept[a] + kept[b], a, b, n_boot=n_boot) if r["n"]]
        levels = [_pooled(kept[a], kept[b], level, n_boot) for level in ("local", "global")]
        shown.append({"a": a, "b": b, "n": pair["n"], "dimensions": rows, "levels": [r for r in levels if r["n"]]})
    return {"pairs": shown, "more": max(0, len(overlaps) - MOST_PAIRS)}


def _pooled(first: Sequence[Rating], second: Sequence[Rating], level: str, n_boot: int) -> Result:
    """Agreement over all dimensions of a level: each (node, dimension) counts as one, trees are still drawn whole."""
    known = {code: d for code, d in the_nine().items() if d.level == level}
    values = tuple(sorted({value for d in known.values() for value in d.values}))
    one, two = (
        [Rating(f"{r.node} {r.dimension}", r.tree, level, r.annotator, r.round, r.value) for r in side if r.dimension in known]
        for side in (first, second)
    )  # fmt: skip
    return agreement(one, two, level, values, n_boot=n_boot)


def _times(rows: Sequence[Result]) -> list[Result]:
    """Median seconds of what was timed: ``{what, kind, n, median_seconds}``."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for r in rows:
        taken[r["what"], r["kind"]].append(r["seconds"])
    return [{"what": w, "kind": k, "n": len(s), "median_seconds": median(s)} for (w, k), s in sorted(taken.items())]


def _beside_paper(found: Result) -> list[Result]:
    """The paper's figures with ours: ``{what, paper: {of whom: value}, ours: {value, interval} or None, n}``.

    Our agreement is that of the two different annotators with most in common.
    """
    people = next((p for p in found["agreement"]["pairs"] if p["a"][0] != p["b"][0]), None)
    pooled = {r["dimension"]: r for r in people["levels"]} if people else {}
    agree, top = [], []
    for level in ("local", "global"):
        ours = pooled.get(level)
        paper = {"person with checker": PAPER["human_verifier"][level], "person with model": PAPER["human_ai"][level]}
        agree.append(
            {
                "what": f"Raw agreement, {level}",
                "paper": paper,
                "ours": ours and ours["agreement"],
                "n": ours["n"] if ours else 0,
            }
        )
        of = [r for r in found["distributions"] if (d := the_nine().get(r["dimension"])) and d.level == level]
        n = sum(r["n"] for r in of)
        share = {"value": sum(r["counts"]["3"] for r in of) / n, "interval": None} if n else None
        top.append(
            {
                "what": f"What always saying 3 reaches, {level}",
                "paper": {"of people's scores": PAPER["constant_3"][level]},
                "ours": share,
                "n": n,
            }
        )
    known = [r for r in found["correlations"] if r["pearson"]["value"] is not None]
    twins = [r for r in known if (r["a"], r["b"]) == ("L1", "L2")]
    crucial = sorted((r for r in known if "G3" in (r["a"], r["b"])), key=lambda r: -r["pearson"]["value"])
    for what, value, rows in (
        ("L1 with L2, Pearson", 0.81, twins),
        ("G3 with any other, Pearson, at most", 0.24, crucial),
    ):
        top.append(
            {
                "what": what,
                "paper": {"people": value},
                "ours": rows[0]["pearson"] if rows else None,
                "n": rows[0]["n"] if rows else 0,
            }
        )
    return agree + top
