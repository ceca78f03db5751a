"""How near does a judge come to people's scores? Cross-validation over trees on one dimension, whatever comes out.

    python -m judge.experiments.human STUDIO_FILE OUT_FOLDER --dimension G3 --folds 5

Every tree is in the test once. Pearson, Spearman and pair accuracy (of replies of different trees with different scores)
are told with intervals by tree, beside always saying the top score, which is often right and never useful.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from judge import backbones, frozen
from judge.evaluation import PairResult, ScoreResult, evaluate
from judge.examples import Example, Split, level_of, read
from judge.measure import measure
from judge.model import JudgeModel, LoraSettings, scales_now
from judge.report import write
from judge.rubric import JudgeError, check
from judge.scoring import Scorer
from judge.training import Settings, train


def folds(examples: Sequence[Example], n: int) -> list[Split]:
    """Each tree in one fold's test; the fold's number decides, so that every call deals alike."""
    ids = sorted(e.tree.id for e in examples)
    return [Split(tuple(i for k, i in enumerate(ids) if k % n != f), (), tuple(i for k, i in enumerate(ids) if k % n == f), f)
            for f in range(n)]  # fmt: skip


def across_trees(scores: Sequence[ScoreResult]) -> list[PairResult]:
    """Pairs of replies of different trees that people scored differently; each tree takes part in about as many."""
    ordered = sorted(scores, key=lambda s: s.tree)
    pairs = []
    for step in range(1, 8):
        for a, b in zip(ordered, itertools.islice(itertools.cycle(ordered), step, None), strict=False):
            if a.value != b.value and a.tree != b.tree:
                pairs.append(PairResult(a.tree, a.level, a.dimension, a.turn, a.depth, "left" if a.value > b.value else "right",
                                        a.expected, b.expected))  # fmt: skip
    return pairs


def trained(examples: list[Example], n_folds: int, settings: Settings, out: Path) -> list[ScoreResult]:
    """A judge trained for each fold."""
    scores: list[ScoreResult] = []
    for fold in folds(examples, n_folds):
        done = train(examples, f"fold-{fold.seed}", out / "judges", out / "backbones", settings, parts=fold,
                     progress=lambda line: print(json.dumps(line), file=sys.stderr, flush=True))  # fmt: skip
        assert done.folder
        scores += measure(Scorer.load(done.folder, out / "backbones"), fold.of(examples, "test"))[1]
    return scores


def probe(examples: Sequence[Example], n_folds: int, base: str, max_path: int, cache: Path) -> list[ScoreResult]:
    """The head alone on the backbone as it is: every dialogue is read once, and each fold's head is fitted to the others.

    Hidden states are standardised by the training folds; the loss is the judge's own, with weight decay.
    """
    model = JudgeModel(backbones.load(base, cache), LoraSettings(rank=0), 0)
    vectors = frozen.read(
        model,
        examples,
        max_path,
        progress=lambda done, of, left: print(json.dumps({"read": done, "of": of}), file=sys.stderr, flush=True),
    )
    found: list[ScoreResult] = []
    for fold in folds(examples, n_folds):
        learned = fold.of(examples, "train")
        judge = frozen.fit(frozen.States.of(vectors, learned), learned, scales_now())
        found += measure(judge, fold.of(examples, "test"))[1]
    return found


def main(argv: list[str] | None = None) -> int:
    """Train and test a judge for each fold; write ``report.json`` and ``report.html`` over all of them."""
    parser = argparse.ArgumentParser(prog="python -m judge.experiments.human", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dimension", default="G3")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--base", default="builtin")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument(
        "--rank", type=int, default=0, help="of LoRA; 0 reads every dialogue once and fits the head alone"
    )
    parser.add_argument("--max-path", type=int, default=768, help="tokens of a dialogue; its beginning is cut")
    asked = parser.parse_args(argv)
    try:
        check(asked.dimension, None)
        examples = [
            replace(e, scores=[s for s in e.scores if s.dimension == asked.dimension], comparisons=[])
            for e in read(asked.file)
        ]
        examples = [e for e in examples if e.scores]
        settings = Settings(base=asked.base, level=level_of(asked.dimension), epochs=asked.epochs, max_path=asked.max_path,
                            max_tokens=max(1024, asked.max_path), batch_tokens=4096, copies=4, derived=False,
                            lora=LoraSettings(rank=asked.rank, alpha=2 * asked.rank))  # fmt: skip
        started = time.monotonic()
        if asked.rank:
            scores = trained(examples, asked.folds, settings, asked.out)
        else:
            scores = probe(examples, asked.folds, asked.base, asked.max_path, asked.out / "backbones")
    except JudgeError as error:
        print(error, file=sys.stderr)
        return 1
    found = evaluate(across_trees(scores), scores)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "report.json").write_text(json.dumps(found, indent=1))
    write(found, asked.out / "report.html", f"{asked.dimension} by {asked.folds}-fold cross-validation over trees")
    print(
        json.dumps(
            {"scores": found["scores"], "pairs": found["pairs"], "seconds": round(time.monotonic() - started)}, indent=1
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
