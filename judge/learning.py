"""When to stop rating: accuracy on the same unseen trees against the number of ratings, and what more of them would add.

Fits a quick judge (``judge.frozen``: the backbone as it is, only its head learns) to growing parts of the training trees.
Plain data in, a JSON-able dict out. Never reads a store, never trains LoRA; torch is imported when a curve is measured.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judge.datacard import data_card
from judge.evaluation import PairResult, Result, compare, pair_accuracy
from judge.examples import Comparison, Example, Level, Score, level_of
from judge.groups import group_of, split
from judge.labels import Prepared, Skipped, count, prepare, summary
from judge.rubric import JudgeError

if TYPE_CHECKING:
    from judge.frozen import States

SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training trees: each doubles the one before
LEAST_TRAIN, LEAST_TEST, LEAST_PAIRS = 16, 5, 10  # trees, trees, decided test pairs: below them no curve is drawn
ENOUGH_PAIRS = 20  # test pairs of one dimension below which its own gain is not told
MORE = 50  # ratings: what the next sitting might bring
Measured = tuple[float, list[list[Example]], list[list[PairResult]]]  # a share; of each order its trees, its test pairs
Progress = Callable[[int, int, float | None], None]  # steps done, of how many, seconds that are left


@dataclass(frozen=True)
class Plan:
    """What to measure with. ``seed`` deals the trees as training does; ``orders``: in how many orders they are added."""

    base: str = "builtin"
    level: str = "both"
    seed: int = 0
    orders: int = 5
    max_path: int | None = None  # None: as training chooses it
    derived: bool = True


def curve(examples: Sequence[Example], cache: Path, how: Plan = Plan(), *, kept: Path | None = None,
          progress: Progress = lambda done, of, left: None) -> Result:  # fmt: skip
    """Points of a learning curve, the gain of its last doubling, and a verdict in words. ``kept``: see ``frozen.read``.

    Accuracy is that of ``evaluation.pair_accuracy``: the mean over the orders, its interval by test tree. ``seeds`` are
    the accuracies of the single orders, ``spread`` their standard deviation. With too little data ``points`` is empty and
    the verdict says what is missing.

    Raises:
        JudgeError: an unknown level, no such backbone, a reply too long for ``how.max_path``.
    """
    started = time.monotonic()
    if how.level not in ("local", "global", "both"):
        raise JudgeError(f"A curve is of level local, global or both, not {how.level!r}.")
    levels: tuple[Level, ...] = ("local", "global") if how.level == "both" else (how.level,)  # type: ignore[assignment]
    prepared = prepare(examples, levels, how.derived, how.seed)
    labelled = prepared.examples
    parts = split(labelled, how.seed)
    pool = parts.of(labelled, "train") + parts.of(labelled, "validation")
    test = [e for e in parts.of(labelled, "test") if any(c.outcome != "tie" for c in e.comparisons)]
    shape: Result = {"base": how.base, "level": how.level, "seed": how.seed, "orders": how.orders,
                     "ratings": count(labelled), "trees": {"train": len(pool), "test": len(test)},
                     "skipped": summary(count(labelled) + len(prepared.left_out), prepared.left_out)}  # fmt: skip
    if missing := too_little(data_card(prepared, parts)):
        return shape | {"points": [], "verdict": {"kind": "too little", "text": missing}}
    fits = how.orders * (len(SHARES) - 1) + 1
    steps = len(pool) + len(test) + fits
    states = _states(pool, test, cache, how, kept, lambda done, left: progress(done, steps, left))
    rounds = _rounds(pool, how)
    shape["skipped"] = _skipped(prepared, states)
    measured: list[Measured] = []
    done = steps - fits
    for share, orders in zip(SHARES, rounds, strict=True):
        of_share = []
        for chosen in orders:
            if (pairs := _tested(states, chosen, test)) is not None:
                of_share.append((chosen, pairs))
            done += 1
            progress(done, steps, None)
        if of_share:
            measured.append((share, [chosen for chosen, _ in of_share], [pairs for _, pairs in of_share]))
    if len(measured) < 2 or measured[-1][0] < 1 or not any(p.outcome != "tie" for p in measured[-1][2][0]):
        text = f"Too few labels can be read to draw a curve. {shape['skipped']['sentence']}"
        return shape | {"points": [], "verdict": {"kind": "too little", "text": text}}
    found = shape | _told(measured)
    return found | {"verdict": verdict(found), "seconds": round(time.monotonic() - started, 1)}


def _skipped(prepared: Prepared, states: States) -> Result:
    """What becomes of every label: some were left out at once, others are about replies that are cut or cannot be read."""
    lost = list(prepared.left_out)
    for e in prepared.examples:
        labels: list[Score | Comparison] = [*e.scores, *(c for c in e.comparisons if c.margin is None)]
        for label in labels:
            nodes = (label.node,) if isinstance(label, Score) else (label.left, label.right)
            if whys := [why for n in nodes if (why := _why(states, e, n))]:
                whys.sort(
                    key=lambda why: why.startswith("cut")
                )  # what leaves a label out goes before what only cuts it
                level = level_of(label.dimension) if isinstance(label, Score) else label.level
                other = nodes[1] if len(nodes) > 1 else None
                lost.append(Skipped(whys[0], e.tree.id, nodes[0], other, level, label.dimension))
    return summary(count(prepared.examples) + len(prepared.left_out), lost)


def _why(states: States, example: Example, node: str) -> str | None:
    """Why a reply was not read, or not from its dialogue's beginning."""
    tree, vectors = example.tree, states.vectors
    if why := vectors.skipped.get((tree.id, node)):
        return why
    whole = sum(vectors.tokens.get((tree.id, n.id), 0) for n in tree.path(node))
    return f"cut at its beginning to {vectors.max_path:,} tokens" if whole > vectors.max_path else None


def too_little(card: Result) -> str | None:
    """Why no curve can be drawn from data with this card (``examples.data_card``), and what to do; None when it can."""
    train = card["trees"]["train"] + card["trees"]["validation"]
    test = card["groups_with_test_pairs"]
    pairs = sum(row.get("test_pairs", 0) + row.get("test_derived", 0) for row in card["rows"])
    if train >= LEAST_TRAIN and test >= LEAST_TEST and pairs >= LEAST_PAIRS:
        return None
    return (
        f"Too little to draw a curve: {train} dialogues to learn from (it takes {LEAST_TRAIN}), {test} with a decided pair kept apart for the test "
        f"({LEAST_TEST}), {pairs} decided pairs among those ({LEAST_PAIRS}). Rate or compare replies of more dialogues."
    )


def verdict(found: Result) -> dict[str, str]:
    """What a curve says, and no more: its kind (rising, flat, falling), and a sentence with the interval in it."""
    gain, (half, whole) = found["gain"], found["points"][-2:]
    if gain["interval"] is None:
        return {"kind": "unknown", "text": "The test pairs are of one independent dialogue only, so no interval can be given: "
                "compare replies of more dialogues, then measure again."}  # fmt: skip
    low, high = gain["interval"]
    span = f"{_points(gain['value'])} points (95 % interval {_points(low)} to {_points(high)})"
    step = f"the last doubling, from about {half['ratings']} to {whole['ratings']} ratings, gave {span}"
    if low > 0:
        return {"kind": "rising", "text": f"Still rising: {step}. More ratings of this kind are likely to help."}
    if high < 0:
        return {"kind": "falling", "text": f"Not rising: {step}. Look for ratings that contradict each other."}
    told = f"Flat as far as this test can tell: {step}, less than its noise. Up to {_points(high)} points may be hidden in it."
    if whole["interval"] and whole["interval"][0] <= 0.5:
        told += " And the judge is not yet surely better than a coin, so this is no sign that there are enough ratings."
    return {"kind": "flat", "text": told}


def next_ratings(card: Result, found: Result | None, more: int = MORE) -> Result:
    """What ``more`` ratings would add if they are mixed as those until now: an estimate, by level and dimension.

    ``labels``: scores and comparisons; ``pairs``: comparisons and pairs that follow from scores. ``gain``: accuracy read
    off the last doubling of the curve ``found``, value and interval, None where there is none; a gain is taken to go on
    with the logarithm of the number of ratings, which a curve that levels off does not.
    """
    rows = card["rows"]
    given = [sum(_all(row, kind) for kind in ("scores", "pairs", "ties")) for row in rows]
    now = sum(given)
    if not now:
        return {"more": more, "rows": [], "total": None}
    doublings = math.log2(1 + more / now)
    known = {(r["level"], r["dimension"]): r["gain"] for r in (found or {}).get("by", [])}
    listed = []
    for row, n in zip(rows, given, strict=True):
        pairs = (_all(row, "pairs") + _all(row, "derived")) * more / now  # both grow as the ratings do
        gain = _scaled(known.get((row["level"], row["dimension"])), doublings)
        listed.append({"level": row["level"], "dimension": row["dimension"], "labels": round(more * n / now),
                       "pairs": round(pairs), "gain": gain})  # fmt: skip
    total = {"ratings": now, "gain": _scaled((found or {}).get("gain"), doublings)}
    return {"more": more, "rows": listed, "total": total}


def _states(pool: list[Example], test: list[Example], cache: Path, how: Plan, kept: Path | None,
            progress: Callable[[int, float | None], None]) -> States:  # fmt: skip
    from judge import backbones, frozen, sizes
    from judge.model import JudgeModel, LoraSettings

    backbone = backbones.load(how.base, cache)
    model = JudgeModel(backbone, LoraSettings(rank=0), 0)
    longest = sizes.path_to_read(backbone, [*pool, *test]) if how.max_path is None else how.max_path
    room = min(longest, backbone.max_positions)
    vectors = frozen.read(model, [*pool, *test], room, kept, lambda done, of, left: progress(done, left))
    return frozen.States.of(vectors, pool)


def _rounds(pool: Sequence[Example], how: Plan) -> list[list[list[Example]]]:
    """For each share, the training trees in each order: every part holds the one before it, the last is all, once.

    Trees of one group follow one another, so that half of the trees is half of what is independent.
    """
    families: dict[str, list[Example]] = {}
    for e in sorted(pool, key=lambda e: e.tree.id):
        families.setdefault(group_of(e), []).append(e)
    orders = []
    for k in range(how.orders):
        keys = sorted(families)
        random.Random(f"{how.seed} {k}").shuffle(keys)
        orders.append([e for key in keys for e in families[key]])
    return [
        [order[: max(1, round(share * len(pool)))] for order in (orders if share < 1 else orders[:1])]
        for share in SHARES
    ]


def _tested(states: States, chosen: Sequence[Example], test: Sequence[Example]) -> list[PairResult] | None:
    """The test pairs by a head fitted to some trees; None where nothing of those can be read."""
    from judge import frozen
    from judge.measure import measure
    from judge.model import scales_now

    try:
        judge = frozen.fit(states, chosen, scales_now())
    except JudgeError:
        return None
    pairs = measure(judge, test)[0]
    people = [p for p in pairs if p.human_margin is None]
    return people if sum(p.outcome != "tie" for p in people) >= LEAST_PAIRS else pairs


def _told(measured: Sequence[Measured]) -> Result:
    """Accuracies and the gain of the last doubling, from the trees of each share and order and the test pairs of each."""
    points = []
    for share, orders, tested in measured:
        every = pair_accuracy([p for pairs in tested for p in pairs])  # an order is a repeat of the same trees
        single = [pair_accuracy(pairs, n_boot=0)["accuracy"] for pairs in tested]
        points.append({
            "share": share, "trees": len(orders[0]), "ratings": round(statistics.mean(map(count, orders))),
            "accuracy": every["accuracy"], "interval": every["interval"], "interval_note": every["interval_note"],
            "seeds": single, "spread": statistics.stdev(single) if len(single) > 1 else None,
        })  # fmt: skip
    whole, halves = measured[-1][2][0], measured[-2][2]
    counted = pair_accuracy(whole)
    kinds = sorted({(p.level, p.dimension) for p in whole})
    of = (
        "people's comparisons"
        if all(p.human_margin is None for p in whole)
        else "pairs that scores imply, and comparisons"
    )
    return {"points": points, "n": counted["n"], "of": of, "baselines": counted["baselines"], "gain": _gain(whole, halves),
            "by": [_by(whole, halves, level, dimension) for level, dimension in kinds]}  # fmt: skip


def _gain(whole: list[PairResult], halves: list[list[PairResult]]) -> Result:
    """Accuracy of ``whole`` minus the mean of ``halves`` on the same pairs.

    The interval holds both doubts, added as squares: which trees were in the test (paired bootstrap by tree), and which
    were in the half (Student's t over the orders).
    """
    from scipy.stats import t

    found = compare(whole * len(halves), [p for pairs in halves for p in pairs])
    single = [compare(whole, pairs, n_boot=0)["difference"] for pairs in halves]
    n, value = len(halves), found["difference"]
    by_order = float(t.ppf(0.975, n - 1)) * statistics.stdev(single) / math.sqrt(n) if n > 1 else 0.0
    span = found["interval"] and [
        value - math.hypot(value - found["interval"][0], by_order),
        value + math.hypot(found["interval"][1] - value, by_order),
    ]
    return {"value": value, "interval": span, "interval_note": found["interval_note"], "seeds": single}


def _by(whole: list[PairResult], halves: list[list[PairResult]], level: str, dimension: str) -> Result:
    def only(pairs: list[PairResult]) -> list[PairResult]:
        return [p for p in pairs if (p.level, p.dimension) == (level, dimension)]

    n = sum(p.outcome != "tie" for p in only(whole))
    accuracy = pair_accuracy(only(whole))
    enough = n >= ENOUGH_PAIRS and accuracy["trees"] >= LEAST_TEST
    return {"level": level, "dimension": dimension, "n": n, "accuracy": accuracy["accuracy"], "interval": accuracy["interval"],
            "longer": accuracy["baselines"]["longer"]["value"],
            "gain": _gain(only(whole), [only(pairs) for pairs in halves]) if enough else None}  # fmt: skip


def _scaled(gain: Result | None, doublings: float) -> Result | None:
    if not gain or not gain["interval"]:
        return None
    return {"value": gain["value"] * doublings, "interval": [end * doublings for end in gain["interval"]]}


def _all(row: dict[str, Any], kind: str) -> int:
    return sum(row.get(f"{part}_{kind}", 0) for part in ("train", "validation", "test"))


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
