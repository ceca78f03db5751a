"""Does asking about what the judge is least sure of teach it sooner than asking at random? A simulation, told whatever it is.

    python -m judge.experiments.queue STUDIO_FILE OUT_FOLDER

The items are pairs of a real reply and a damaged copy (``judge.experiments.words``), whose labels are known. Each seed deals
the trees anew; both queues begin with the same few labels. In each round a queue names the next batch, the head is fitted
again to all that is labelled (backbone frozen: every reply is read once, for all seeds), and accuracy is measured on the test
trees. Random takes any item; unsure takes those where the difference of the two expected scores is smallest, counted in its
spread over bootstrapped heads.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from judge import backbones, frozen
from judge.evaluation import pair_accuracy
from judge.examples import Comparison, Example, read
from judge.experiments.words import DIMENSION, damaged
from judge.groups import split
from judge.measure import measure
from judge.model import NINE, JudgeModel, LoraSettings
from judge.readings import difference_spread
from judge.rubric import JudgeError

RULES = ("random", "unsure")
SCALES = {d: NINE[d] for d in sorted({d for d, _ in DIMENSION.values()})}
Item = tuple[int, int]  # which example, which of its comparisons


@dataclass(frozen=True)
class Recipe:
    """How to simulate. ``trees``: at most so many take part; ``first``: labels at the start; ``batch``: labels a round."""

    base: str = backbones.BUILTIN
    trees: int = 150
    seeds: int = 5
    first: int = 8
    batch: int = 8
    rounds: int = 10
    copies: int = 8
    max_path: int = 512


def simulate(examples: Sequence[Example], recipe: Recipe, cache: Path, kept: Path | None = None,
             progress: Callable[[dict[str, Any]], None] = lambda line: None) -> dict[str, Any]:  # fmt: skip
    """Read every pair once, run both queues for each seed; returns ``rows`` by number of labels, and what it took.

    Raises:
        JudgeError: too few items for the rounds, no such backbone.
    """
    started = time.monotonic()
    made, _ = damaged(examples)
    made = made[: recipe.trees]
    model = JudgeModel(backbones.load(recipe.base, cache), LoraSettings(rank=0), 0)
    vectors = frozen.read(model, made, recipe.max_path, kept,
                          lambda done, of, left: progress({"read": done, "of": of, "eta_s": left}))  # fmt: skip
    reading = time.monotonic() - started
    runs: dict[str, list[list[float]]] = {rule: [] for rule in RULES}
    for seed in range(recipe.seeds):
        parts = split(made, seed, 0.0, 0.3)
        pool, test = parts.of(made, "train"), parts.of(made, "test")
        states = frozen.States.of(vectors, pool)
        for rule in RULES:
            runs[rule].append(_run(states, pool, test, rule, recipe, seed))
            progress({"seed": seed, "rule": rule, "accuracy": runs[rule][-1]})
    return {"recipe": asdict(recipe), "trees": len(made), "items": sum(len(e.comparisons) for e in made),
            "rows": table(runs, recipe), "runs": runs, "reading_s": round(reading, 1),
            "seconds": round(time.monotonic() - started, 1)}  # fmt: skip


def _run(
    states: frozen.States, pool: list[Example], test: list[Example], rule: str, recipe: Recipe, seed: int
) -> list[float]:
    """Accuracy on the test after the first labels and after each round."""
    rng = random.Random(seed)
    open_items = [(i, k) for i, e in enumerate(pool) for k in range(len(e.comparisons))]
    needed = recipe.first + recipe.batch * recipe.rounds
    if len(open_items) < needed:
        raise JudgeError(f"{len(open_items)} pairs to learn from are fewer than the {needed} labels of all rounds. "
                         "Give more dialogues, or fewer rounds.")  # fmt: skip
    rng.shuffle(open_items)
    labelled, open_items = open_items[: recipe.first], open_items[recipe.first :]
    found = []
    while True:
        known = [replace(e, comparisons=[e.comparisons[k] for j, k in labelled if j == i]) for i, e in enumerate(pool)]
        judge = frozen.fit(states, [e for e in known if e.comparisons], SCALES, copies=recipe.copies, seed=seed)
        found.append(float(pair_accuracy(measure(judge, test)[0], n_boot=0)["accuracy"]))
        if len(found) > recipe.rounds:
            return found
        if rule == "unsure":
            open_items = least_sure(judge, pool, open_items)
        labelled, open_items = labelled + open_items[: recipe.batch], open_items[recipe.batch :]


def least_sure(judge: frozen.FrozenJudge, pool: Sequence[Example], items: Sequence[Item]) -> list[Item]:
    """Items with the least margin first, counted in spreads, as the studio's queue counts it."""
    read_off = {i: judge.tree(pool[i]) for i in {i for i, _ in items}}

    def margin(item: Item) -> float:
        c: Comparison = pool[item[0]].comparisons[item[1]]
        left, right = (read_off[item[0]][n] for n in (c.left, c.right))
        spread = difference_spread(left, right, c.row)
        apart = abs(left.value(c.row) - right.value(c.row))
        return apart / spread if spread else (math.inf if apart else 0.0)

    return sorted(items, key=margin)


def table(runs: dict[str, list[list[float]]], recipe: Recipe) -> list[dict[str, Any]]:
    """A row for each number of labels: mean and standard deviation over the seeds, and the paired difference."""
    rows = []
    for r in range(recipe.rounds + 1):
        at = {rule: [run[r] for run in runs[rule]] for rule in RULES}
        rows.append({"labels": recipe.first + recipe.batch * r, **{rule: _spread(values) for rule, values in at.items()},
                     "difference": paired(at["unsure"], at["random"])})  # fmt: skip
    means = {rule: [statistics.mean(run[1:]) for run in runs[rule]] for rule in RULES}
    rows.append({"labels": "mean of the rounds", **{rule: _spread(values) for rule, values in means.items()},
                 "difference": paired(means["unsure"], means["random"])})  # fmt: skip
    return rows


def paired(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Mean of a - b, seed by seed, and its 95 % interval by Student's t; None with a single seed."""
    from scipy.stats import t

    apart = [x - y for x, y in zip(a, b, strict=True)]
    mean, n = statistics.mean(apart), len(apart)
    if n < 2:
        return {"mean": mean, "interval": None}
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(apart) / math.sqrt(n)
    return {"mean": mean, "interval": [mean - half, mean + half]}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def lines(found: dict[str, Any]) -> list[str]:
    """The table as text."""
    head = f"{'labels':>18}  {'random':>15}  {'unsure':>15}  unsure - random, 95 % interval"
    told = []
    for row in found["rows"]:
        at = "  ".join(f"{row[rule]['mean']:.3f} +- {row[rule]['sd']:.3f}".rjust(15) for rule in RULES)
        span = row["difference"]["interval"]
        between = f" [{span[0]:+.3f}, {span[1]:+.3f}]" if span else ""
        told.append(f"{row['labels']:>18}  {at}  {row['difference']['mean']:+.3f}{between}")
    about = (f"{found['trees']} trees, {found['items']} pairs, {found['recipe']['seeds']} seeds; "
             f"{found['seconds']:.0f} s, of these {found['reading_s']:.0f} s for reading")  # fmt: skip
    return [head, *told, about]


def main(argv: list[str] | None = None) -> int:
    """Simulate, print the table, write ``queue.json`` into the folder."""
    parser = argparse.ArgumentParser(prog="python -m judge.experiments.queue", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="a studio file with dialogues of two turns or more")
    parser.add_argument("out", type=Path, help="a folder for the result, and for what was read")
    parser.add_argument("--base", default=Recipe.base)
    for name in ("trees", "seeds", "first", "batch", "rounds", "copies"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe, name), help=f"{getattr(Recipe, name)}")
    asked = vars(parser.parse_args(argv))
    file, out = asked.pop("file"), asked.pop("out")
    try:
        found = simulate(read(file), Recipe(**asked), out / "backbones", out / "states",
                         lambda line: print(json.dumps(line), file=sys.stderr, flush=True))  # fmt: skip
        (out / "queue.json").write_text(json.dumps(found, indent=1))
    except (JudgeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
