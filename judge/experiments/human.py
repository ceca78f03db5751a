"""How near does a judge come to people's scores? Cross-validation over groups of trees on one dimension, whatever comes out.

    python -m judge.experiments.human STUDIO_FILE OUT_FOLDER --dimension G3 --folds 5

Every tree is in the test once. Two judges stand beside each other: one trained with LoRA, and the plain backbone with a
fitted head. Pearson, Spearman and pair accuracy (of replies of different trees with different scores) are told with n and
intervals by tree, beside always saying the top score, which is often right and never useful, the commonest one, and
which dialogue is longer. After a stop the same command goes on with what is in OUT_FOLDER.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from judge import backbones, files, frozen
from judge.evaluation import PairResult, ScoreResult, evaluate
from judge.examples import Example, level_of, read
from judge.experiments.run import figure, to_stderr
from judge.groups import Split, folds
from judge.labels import prepare
from judge.measure import Reads, measure
from judge.model import JudgeModel, LoraSettings, scales_now
from judge.report import write
from judge.rubric import JudgeError, check
from judge.scoring import Scorer
from judge.settings import Settings, settings_from
from judge.training import train

LORA, FROZEN = "LoRA", "frozen backbone, fitted head"
PARTNERS = 7  # replies of other trees that each reply is compared with, at most
Reply = tuple[str, str, str]  # tree, node, annotator


@dataclass(frozen=True)
class Rated:
    """A person's score beside the judge's, and how many tokens the dialogue has that it is about."""

    score: ScoreResult
    tokens: int


@dataclass(frozen=True)
class Plan:
    """What to compare. ``max_path``: tokens of a dialogue; the beginning of a longer one is cut, a longer reply skipped."""

    dimension: str = "G3"
    folds: int = 5
    base: str = backbones.BUILTIN
    epochs: float = 1.0
    rank: int = 8
    max_path: int = 768


def on_dimension(examples: Sequence[Example], dimension: str) -> list[Example]:
    """The trees with usable scores on one dimension, and those scores alone, each tree in its group."""
    own = [
        replace(e, scores=[s for s in e.scores if s.dimension == dimension], comparisons=[],
                repeats=[r for r in e.repeats if r.dimension == dimension])
        for e in prepare(examples, derived=False).examples
    ]  # fmt: skip
    return [e for e in own if e.scores]


def rated(judge: Reads, examples: Sequence[Example]) -> dict[Reply, Rated]:
    """Every score of a reply that the judge can read, by what it is of."""
    found: dict[Reply, Rated] = {}
    for e in examples:
        for s in e.scores:
            _, scores = measure(judge, [replace(e, scores=[s], comparisons=[])])
            if scores:
                length = sum(judge.tokens(e, n.id) for n in e.tree.path(s.node))
                found[e.tree.id, s.node, s.annotator] = Rated(scores[0], length)
    return found


def across_trees(found: Mapping[Reply, Rated]) -> list[tuple[tuple[Reply, Reply], PairResult]]:
    """Pairs of replies of different groups that people scored differently; each takes part in about as many.

    The earlier of the two stands left, which says nothing of which is better. A pair counts for the group on its left in
    the bootstrap.
    """
    ordered = sorted(found)
    pairs = []
    for step in range(1, PARTNERS + 1):
        for a, b in zip(ordered, itertools.islice(itertools.cycle(ordered), step, None), strict=False):
            one, other = found[a].score, found[b].score
            if one.value != other.value and one.tree != other.tree:
                pairs.append(((a, b), PairResult(
                    one.tree, one.level, one.dimension, one.turn, one.depth, "left" if one.value > other.value else "right",
                    one.expected, other.expected, left_tokens=found[a].tokens, right_tokens=found[b].tokens,
                    human_margin=abs(one.value - other.value), cut=one.cut or other.cut,
                )))  # fmt: skip
    return pairs


def trained(examples: list[Example], plan: Plan, out: Path) -> dict[Reply, Rated]:
    """A judge trained with LoRA for each fold."""
    settings = Settings(base=plan.base, level=level_of(plan.dimension), epochs=plan.epochs, max_path=plan.max_path,
                        max_tokens=max(1024, plan.max_path), copies=4, derived=False,
                        lora=LoraSettings(rank=plan.rank, alpha=2 * plan.rank))  # fmt: skip
    found: dict[Reply, Rated] = {}
    for fold in folds(examples, plan.folds):
        name = f"fold-{fold.seed}"
        folder = out / "judges" / name
        if not folder.is_dir():
            done = train(examples, name, out / "judges", out / "backbones", settings, parts=fold, progress=to_stderr)
            if done.folder is None:
                raise JudgeError(f"Stopped after step {done.step} of {name}. The same command goes on from there.")
        elif not _same(files.read_card(folder), fold, settings):
            raise JudgeError(f"{folder} is of other dialogues or settings. Choose another folder for what comes out.")
        found |= rated(Scorer.load(folder, out / "backbones"), fold.of(examples, "test"))
    return found


def _same(card: Mapping[str, Any], fold: Split, settings: Settings) -> bool:
    """Whether a kept judge is what this fold would train."""
    kept = settings_from(card["settings"])
    asked = replace(
        settings, max_tokens=kept.max_tokens, pack_tokens=kept.pack_tokens, checkpoint_over=kept.checkpoint_over
    )
    return kept == asked and card["split"] == json.loads(json.dumps(asdict(fold)))


def probe(examples: Sequence[Example], plan: Plan, out: Path) -> dict[Reply, Rated]:
    """The head alone on the backbone as it is: every dialogue is read once, and each fold's head is fitted to the others.

    Hidden states are standardised by the training folds; the loss is the judge's own, with weight decay.
    """
    model = JudgeModel(backbones.load(plan.base, out / "backbones"), LoraSettings(rank=0), 0)
    vectors = frozen.read(model, examples, plan.max_path, out / "states",
                          progress=lambda done, of, left: to_stderr({"stage": "read", "done": done, "of": of, "eta_s": left}))  # fmt: skip
    found: dict[Reply, Rated] = {}
    for fold in folds(examples, plan.folds):
        learned = fold.of(examples, "train")
        judge = frozen.fit(frozen.States.of(vectors, learned), learned, scales_now())
        found |= rated(judge, fold.of(examples, "test"))
    return found


def report_on(judges: Mapping[str, Mapping[Reply, Rated]], examples: Sequence[Example]) -> dict[str, Any]:
    """The first judge's report, the others beside it on the same pairs; ``labels``: how many scores it could not read."""
    (name, first), *rest = judges.items()
    keyed = across_trees(first)
    others = {
        other: [(by[a].score.expected, by[b].score.expected) if a in by and b in by else None for (a, b), _ in keyed]
        for other, by in rest
    }
    given = sum(len(e.scores) for e in examples)
    report = evaluate([pair for _, pair in keyed], [one.score for one in first.values()], others=others,
                      ceiling=[r for e in examples for r in e.repeats])  # fmt: skip
    cut = sum(one.score.cut for one in first.values())
    return {**report, "judge": name, "labels": {"total": given, "cut": cut, "left_out": given - len(first)}}


def lines(report: dict[str, Any]) -> list[str]:
    """A judge's figures as text, each with n, interval and baselines."""
    scores, pairs, labels = report["scores"], report["derived"], report["labels"]
    top, commonest = scores["baselines"]["always_top"], scores["baselines"]["majority"]
    n = scores["n"]

    def beside(key: str) -> str:
        return ", ".join(f"always {b['constant']} {b[key]['value']:.3f}" for b in (top, commonest))

    told = [f"{report['judge']}: {labels['total']} scores, {labels['cut']} cut, {labels['left_out']} left out"]
    for key in ("pearson", "spearman"):
        told.append(f"  {key} {figure(scores[key]['value'], scores[key]['interval'], n)}")
    if n:
        for key, name in (("agreement", "exact agreement"), ("mae", "mean absolute error")):
            told.append(f"  {name} {figure(scores[key]['value'], scores[key]['interval'], n)} ({beside(key)})")
    baselines = {**pairs["baselines"], **pairs["others"]}
    others = ", ".join(f"{k} {b['value']:.3f}" for k, b in baselines.items() if b["value"] is not None)
    told.append(f"  pairs across dialogues {figure(pairs['accuracy'], pairs['interval'], pairs['n'])} ({others})")
    return told


def main(argv: list[str] | None = None) -> int:
    """Train and test for each fold; write a report over all of them for each judge, and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m judge.experiments.human", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    for name in ("dimension", "folds", "base", "epochs", "rank", "max_path"):
        default = getattr(Plan, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"{default}")
    parser.add_argument("--frozen-only", action="store_true", help="no LoRA: minutes instead of an hour")
    asked = vars(parser.parse_args(argv))
    file, out, frozen_only = asked.pop("file"), asked.pop("out"), asked.pop("frozen_only")
    plan, started = Plan(**asked), time.monotonic()
    try:
        check(plan.dimension, None)
        examples = on_dimension(read(file), plan.dimension)
        if len(folds(examples, plan.folds)[-1].test) == 0:
            raise JudgeError(
                f"{len(examples)} dialogues with a {plan.dimension} do not fill {plan.folds} folds. Ask for fewer."
            )
        judges = {FROZEN: probe(examples, plan, out)}
        if not frozen_only:
            judges = {LORA: trained(examples, plan, out), **judges}
        out.mkdir(parents=True, exist_ok=True)
        for name, by in judges.items():
            report = report_on({name: by, **{k: v for k, v in judges.items() if k != name}}, examples)
            stem = out / ("report" if name == next(iter(judges)) else "report-frozen")
            stem.with_suffix(".json").write_text(json.dumps(report, indent=1))
            write(
                report,
                stem.with_suffix(".html"),
                f"{plan.dimension}, {name}, {plan.folds}-fold cross-validation over trees",
            )
            print("\n".join(lines(report)))
    except JudgeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
