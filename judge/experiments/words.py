"""Does a judge learn from words? Real replies against damaged copies of themselves, on trees it has never seen.

    python -m judge.experiments.words STUDIO_FILE OUT_FOLDER --epochs 1

Each tree gives one question with its history and siblings below it: the reply as it was (cut to whole sentences), and
damaged ones: its words shuffled; the reply of another dialogue; a contradiction (statements turned into their denial);
and, against another whole-sentence cut of the reply, one that breaks off in mid-sentence. The label is on the dimension
that was damaged. Lengths are matched, so that the longer one is as often the worse one. Beside the judge stands a bag of words
fitted to the same pairs (``judge.experiments.unigram``): what needs no order of words is no evidence of reading.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judge.examples import Comparison, Example, Level, read
from judge.groups import Split, group_of, grouped, split
from judge.rubric import JudgeError
from studio.tree import Node, Part, Tree

DIMENSION: dict[str, tuple[str, Level]] = {
    "shuffled": ("L4", "local"), "swapped": ("L3", "local"), "contradicted": ("L1", "local"), "broken off": ("G2", "global"),
}  # fmt: skip
DENIALS = {"is": "isn't", "are": "aren't", "was": "wasn't", "were": "weren't", "can": "can't", "will": "won't", "should": "shouldn't",
           "has": "hasn't", "have": "haven't", "does": "doesn't", "do": "don't", "always": "never", "more": "less", "before": "after",
           "left": "right", "increase": "decrease", "high": "low", "all": "no", "first": "last", "with": "without"}  # fmt: skip
WORDS = 60  # of a reply; its sentences up to here are kept


def damaged(
    examples: Sequence[Example], seed: int = 0, parts: Split | None = None
) -> tuple[list[Example], dict[tuple[str, str], str]]:
    """An example a tree, and which damage each (left, right) pair shows. Trees without a long enough reply are left out.

    ``parts``: a reply is swapped only for one of the same part, so that no test reply is ever read in training.
    """
    rng = random.Random(seed)
    part_of = {tree: name for name in ("train", "validation", "test") for tree in getattr(parts, name, ())}
    chosen = [(e, path, said) for e in examples if (found := _reply(e)) for path, said in [found]]
    pool = sorted({(whole(said, WORDS), part_of.get(e.tree.id, "")) for e, _, said in chosen})
    made, groups = [], {}
    for e, path, said in chosen:
        short = whole(said, WORDS)
        other = _swap(short, [p for p, part in pool if p != short and part == part_of.get(e.tree.id, "")], rng)
        complete, broken = _break_off(said, rng)
        bad = {
            "shuffled": _shuffle(short, rng),
            "swapped": other,
            "contradicted": _deny(short, rng),
            "broken off": broken,
        }
        good = {**dict.fromkeys(bad, short), "broken off": complete}
        nodes = [Node(n.id, e.tree.id, path[i - 1].id if i else None, 0, n.role, n.parts) for i, n in enumerate(path)]
        texts: dict[str, str] = {}
        comparisons = []
        for kind, text in bad.items():
            if text is None or text == good[kind]:
                continue
            ids = [texts.setdefault(t, f"{e.tree.id}-{len(texts)}") for t in (good[kind], text)]
            flip = rng.random() < 0.5
            dimension, level = DIMENSION[kind]
            pair = (ids[1], ids[0]) if flip else (ids[0], ids[1])
            comparisons.append(Comparison(*pair, dimension, level, "right" if flip else "left"))
            groups[pair] = kind
        nodes += [
            Node(i, e.tree.id, path[-1].id, n, "assistant", [Part("text", t)]) for n, (t, i) in enumerate(texts.items())
        ]
        made.append(Example(Tree(e.tree.id, nodes=nodes), comparisons=comparisons, group=group_of(e)))
    return made, groups


def _reply(e: Example) -> tuple[list[Node], str] | None:
    """The history of the first long enough reply from the second turn on, as text alone, and that reply."""
    for node in e.tree.walk():
        path = e.tree.path(node.id)
        if node.role == "assistant" and len(path) > 2 and len(whole(node.text, WORDS).split()) >= 25:
            bare = [
                Node(n.id, n.tree_id, n.parent_id, 0, n.role, [Part("text", whole(n.text, WORDS) or n.text[:300])])
                for n in path
            ]
            return bare[-4:-1], node.text
    return None


def _clean(text: str) -> str:
    return " ".join(re.sub(r"<Image,[^>]*>|[*#`_>]+", " ", text).split())


def sentences(text: str) -> list[str]:
    """The sentences of a text without its markup."""
    return [s for s in re.split(r"(?<=[.!?])\s+", _clean(text)) if s]


def whole(text: str, words: int) -> str:
    """Whole sentences of a text up to about so many words; empty when the first alone is too long."""
    kept: list[str] = []
    for sentence in sentences(text):
        if len(" ".join([*kept, sentence]).split()) > words or sentence[-1] not in ".!?":
            break
        kept.append(sentence)
    return " ".join(kept)


def _shuffle(text: str, rng: random.Random) -> str:
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def _swap(text: str, others: list[str], rng: random.Random) -> str | None:
    n = len(text.split())
    near = sorted(others, key=lambda o: abs(len(o.split()) - n))[:6]
    return rng.choice(near) if near else None


def _deny(text: str, rng: random.Random) -> str | None:
    words = text.split()
    spots = [i for i, w in enumerate(words) if w.lower() in DENIALS]
    if len(spots) < 2:
        return None
    for i in spots:
        words[i] = DENIALS[words[i].lower()]
    return " ".join(words)


def _break_off(text: str, rng: random.Random) -> tuple[str, str | None]:
    """The reply up to the end of a sentence, and up to the middle of that one or of the next."""
    listed = sentences(text)
    ends = [i for i in range(1, len(listed) - 1) if len(listed[i].split()) > 6 and len(listed[i + 1].split()) > 6
            and 15 < len(" ".join(listed[: i + 1]).split()) < WORDS]  # fmt: skip
    if not ends:
        return whole(text, WORDS), None
    i = rng.choice(ends)
    complete = " ".join(listed[: i + 1])
    upto = i + rng.randrange(2)
    part = listed[upto].split()
    return complete, " ".join([*listed[:upto], *part[: len(part) // 2]]).rstrip(".,;:!?")


def run(
    examples: Sequence[Example], out: Path, *, base: str, epochs: float, rank: int, rate: float, seed: int
) -> dict[str, Any]:
    """Train on damaged copies, test on unseen trees: the report of ``judge.evaluation``, unigrams among its ``others``.

    Raises JudgeError: too few dialogues with a long enough reply, or as ``judge.training.train``.
    """
    from judge.evaluation import evaluate
    from judge.experiments.run import fit
    from judge.experiments.unigram import NAME, unigrams

    usable = grouped([e for e in examples if _reply(e)])
    parts = split(usable, seed, validation=0.0)
    made, groups = damaged(usable, seed, parts)
    keyed, scores, seconds = fit(made, parts, groups, out, base=base, epochs=epochs, rank=rank, rate=rate, seed=seed)
    by_words = unigrams(parts.of(made, "train"), parts.of(made, "test"))
    others = {NAME: [(by_words[left], by_words[right]) for (left, right, _), _ in keyed]}
    return {**evaluate([pair for _, pair in keyed], scores, others=others), "train_seconds": round(seconds, 1)}


def main(argv: list[str] | None = None) -> int:
    """Run the experiment; write ``report.json`` and ``report.html`` into the folder and print the accuracies."""
    from judge.experiments.run import figure
    from judge.report import write

    parser = argparse.ArgumentParser(prog="python -m judge.experiments.words", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="a studio file with dialogues of two turns or more")
    parser.add_argument("out", type=Path, help="a folder for the judge and the report")
    parser.add_argument("--base", default="builtin")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    asked = vars(parser.parse_args(argv))
    file, out = asked.pop("file"), asked.pop("out")
    try:
        report = run(read(file), out, **asked)
        write(report, out / "report.html", "Real replies against damaged copies")
    except JudgeError as error:
        print(error, file=sys.stderr)
        return 1
    (out / "report.json").write_text(json.dumps(report, indent=1))
    rows = {row["key"]: row for row in report["pairs_by"] if row["by"] == "group"}
    for name, row in {**rows, "all": report["pairs"]}.items():
        beside = {**row["baselines"], **row["others"]}
        others = ", ".join(f"{k} {v['value']:.3f}" for k, v in beside.items() if v["value"] is not None)
        print(f"{name}: {figure(row['accuracy'], row['interval'], row['n'])} ({others})")
    print(f"trained in {report['train_seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
