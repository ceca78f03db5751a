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

import torch

from judge import backbones
from judge.batches import Reader
from judge.evaluation import PairResult, ScoreResult, evaluate
from judge.examples import Example, Split, level_of, read
from judge.losses import label_losses
from judge.measure import measure
from judge.model import JudgeModel, LoraSettings, ScoreHead
from judge.packing import pack, plan
from judge.report import write
from judge.rubric import JudgeError, check, dimensions
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


def probe(
    examples: Sequence[Example], dimension: str, n_folds: int, base: str, max_path: int, cache: Path
) -> list[ScoreResult]:
    """The head alone on the backbone as it is: every dialogue is read once, and each fold's head is fitted to the others.

    Hidden states are standardised by the training folds; the loss is the judge's own, with weight decay.
    """
    model = JudgeModel(backbones.load(base, cache), LoraSettings(rank=0), 0)
    hidden: dict[str, torch.Tensor] = {}
    for done, e in enumerate(examples, 1):
        hidden |= read_hidden(model, e, max_path)
        print(json.dumps({"read": done, "of": len(examples)}), file=sys.stderr, flush=True)
    row, lowest = model.head.rows.index(dimension), dimensions()[dimension].values[0]
    found: list[ScoreResult] = []
    for fold in folds(examples, n_folds):
        train_on = [(hidden[s.node], s.value - lowest) for e in fold.of(examples, "train") for s in e.scores]
        x, y = torch.stack([h for h, _ in train_on]), torch.tensor([v for _, v in train_on])
        mean, scale = x.mean(0), x.std(0) + 1e-3
        head = fit_head(ScoreHead(x.shape[1], 0), (x - mean) / scale, y, row)
        for e in fold.of(examples, "test"):
            for s in e.scores:
                expected = float(head.expected(head(((hidden[s.node] - mean) / scale)[None])[0, 0])[row])
                depth = len(e.tree.path(s.node))
                found.append(
                    ScoreResult(e.tree.id, level_of(dimension), dimension, (depth + 1) // 2, depth, s.value, expected)
                )
    return found


@torch.no_grad()
def read_hidden(model: JudgeModel, e: Example, max_path: int) -> dict[str, torch.Tensor]:
    """Hidden states (h,) at the last token of every scored reply."""
    reader = Reader(model.encoder, [e])
    wanted = sorted({(s.node,) for s in e.scores})
    found: dict[str, torch.Tensor] = {}
    for part in plan(e.tree, wanted, lambda n: reader.piece(e.tree, n), 4 * max_path, max_path):
        forest = pack([part], reader.piece)
        states = model.hidden(forest.ids, forest.positions, forest.layout, reader.pixels([part], forest.pictures))
        found |= {n: states[forest.ends[0][n]].float() for (n,) in part.items}
    return found


def fit_head(head: ScoreHead, x: torch.Tensor, y: torch.Tensor, row: int, steps: int = 300) -> ScoreHead:
    """Fit one dimension of a head to scores ``y`` (n,), counted from 0, at states ``x`` (n, h)."""
    torch.nn.init.zeros_(head.weight)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=1.0)
    index = torch.arange(len(y))
    batch = {"scores": torch.stack([index, torch.full_like(index, row), y], 1), "score_weights": torch.ones(len(y), 1),
             "pairs": torch.zeros(0, 4, dtype=torch.long), "pair_weights": torch.zeros(0, 1), "margins": torch.zeros(0)}  # fmt: skip
    for _ in range(steps):
        optimizer.zero_grad()
        (label_losses(head, head(x), batch)[0] / len(y)).backward()
        optimizer.step()
    return head.requires_grad_(False)


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
            scores = probe(examples, asked.dimension, asked.folds, asked.base, asked.max_path, asked.out / "backbones")
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
