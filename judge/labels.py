"""From what people gave to what a judge learns from: which labels are usable, the pairs that scores imply, weights, sides.

``prepare`` is the one way there: training, the check before it, the learning curve, the estimate and the tests all call it.
Whatever is left out is counted with its reason. Plain data, no torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from judge.examples import Comparison, Example, Level, Score, level_of
from judge.groups import grouped
from judge.rubric import OVERALL, dimensions
from judge.standing import MIRRORED
from studio.tree import Tree

BOTH: tuple[Level, ...] = ("local", "global")
SHOWN = 50  # labels listed of each reason


@dataclass(frozen=True, slots=True)
class Skipped:
    """A label that teaches nothing, or (``reason`` begins with "cut") that is read without its beginning."""

    reason: str
    tree: str
    node: str
    other: str | None
    level: str
    dimension: str

    @property
    def is_cut(self) -> bool:
        """Whether the label counts all the same, with a shorter dialogue."""
        return self.reason.startswith("cut")


@dataclass(frozen=True)
class Prepared:
    """Trees with usable labels, each in its group, and the labels that were left out."""

    examples: list[Example]
    left_out: list[Skipped]
    seed: int


def prepare(
    examples: Iterable[Example], levels: Iterable[Level] = BOTH, derived: bool = True, seed: int = 0
) -> Prepared:
    """Usable labels of these levels. ``derived``: with the pairs that scores imply; ``seed``: which reply stands left.

    The order of a pair is chance by this seed, whatever it was stored as: nothing can be learned from a side.
    """
    kept, left_out = [], []
    wanted = tuple(levels)
    for example in grouped(list(examples)):
        usable, skipped = _usable(example.restrict(wanted))
        left_out += skipped
        if derived:
            usable = with_derived(usable)
        if usable.scores or usable.comparisons:
            kept.append(oriented(usable, seed))
    return Prepared(kept, left_out, seed)


def with_derived(example: Example) -> Example:
    """Add pairs that differing scores imply: siblings on local dimensions, dialogues with a common start on global ones.

    ``margin`` is the difference of the scores. A pair that a person compared on that dimension is left to the person.
    A family (siblings, or a tree's dialogues) of m scored replies has up to m(m-1)/2 pairs: they share half of what its
    scores weigh, and the scores keep the other half, so that no rating counts more than once.
    """
    means = _means(example.scores)
    by_person = {(frozenset((c.left, c.right)), c.level, c.dimension) for c in example.comparisons}
    families: dict[tuple[str, str | None], list[str]] = defaultdict(list)  # (dimension, parent or root)
    for node, dimension in means:
        local = level_of(dimension) == "local"
        above = example.tree.nodes[node].parent_id if local else example.tree.path(node)[0].id
        families[dimension, above].append(node)
    pairs: list[Comparison] = []
    halved: set[tuple[str, str]] = set()  # (reply, dimension) whose score is in a pair
    for (dimension, _), nodes in sorted(families.items(), key=lambda f: (f[0][0], f[0][1] or "")):
        level = level_of(dimension)
        differing = [
            (a, b) for a, b in combinations(sorted(nodes), 2)
            if means[a, dimension] != means[b, dimension] and (frozenset((a, b)), level, dimension) not in by_person
            and not (level == "global" and _in_line(example.tree, a, b))
        ]  # fmt: skip
        members = {n for pair in differing for n in pair}
        halved |= {(n, dimension) for n in members}
        mass = sum(s.weight for s in example.scores if s.dimension == dimension and s.node in members)
        for a, b in differing:
            gap = means[a, dimension] - means[b, dimension]
            outcome = "left" if gap > 0 else "right"
            pairs.append(Comparison(a, b, dimension, level, outcome, mass / 2 / len(differing), abs(gap)))  # type: ignore[arg-type]
    scores = [replace(s, weight=s.weight / 2) if (s.node, s.dimension) in halved else s for s in example.scores]
    return replace(example, scores=scores, comparisons=example.comparisons + pairs)


def oriented(example: Example, seed: int = 0) -> Example:
    """The same comparisons with left and right dealt by chance: by a hash of the seed and the two replies."""
    return replace(example, comparisons=[_turned(c, example.tree.id, seed) for c in example.comparisons])


def summary(total: int, skipped: Sequence[Skipped]) -> dict[str, Any]:
    """What becomes of ``total`` labels, in numbers, in a sentence, and by reason with the labels themselves."""
    by_reason: dict[str, list[Skipped]] = defaultdict(list)
    for one in skipped:
        by_reason[one.reason].append(one)
    cut = sum(one.is_cut for one in skipped)
    out = len(skipped) - cut
    listed = [
        {"reason": reason, "n": len(ones), "labels": [_listed(one) for one in ones[:SHOWN]]}
        for reason, ones in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return {
        "total": total, "used": total - out, "cut": cut, "left_out": out,
        "sentence": _sentence(total, cut, out, by_reason), "reasons": listed,
    }  # fmt: skip


def count(examples: Iterable[Example]) -> int:
    """Labels of people: scores and comparisons, without pairs derived from scores."""
    return sum(len(e.scores) + sum(c.margin is None for c in e.comparisons) for e in examples)


def _sentence(total: int, cut: int, out: int, by_reason: dict[str, list[Skipped]]) -> str:
    parts = [f"{cut:,} cut at their beginning"] if cut else []
    if out:
        whys = [f"{len(v):,} × {k}" if len(v) > 1 else k for k, v in by_reason.items() if not k.startswith("cut")]
        shown = "; ".join(whys[:3]) + (f"; {len(whys) - 3} more reasons" if len(whys) > 3 else "")
        parts.append(f"{out:,} left out: {shown}")
    rest = f"; {', '.join(parts)}" if parts else ", all usable"
    return f"{total:,} label{'' if total == 1 else 's'}{rest}."


def _listed(one: Skipped) -> dict[str, Any]:
    return {
        "tree": one.tree, "node": one.node, "other": one.other, "level": one.level, "dimension": one.dimension,
    }  # fmt: skip


def _means(scores: Iterable[Score]) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], tuple[float, float]] = {}
    for s in scores:
        total, weight = sums.get((s.node, s.dimension), (0.0, 0.0))
        sums[s.node, s.dimension] = total + s.value * s.weight, weight + s.weight
    return {key: total / weight for key, (total, weight) in sums.items()}


def _turned(c: Comparison, tree: str, seed: int) -> Comparison:
    left, right, outcome = c.canonical()
    digest = hashlib.sha256("\0".join((str(seed), tree, left, right)).encode()).digest()
    if digest[0] & 1:
        left, right, outcome = right, left, MIRRORED[outcome]
    return replace(c, left=left, right=right, outcome=outcome)


def _usable(example: Example) -> tuple[Example, list[Skipped]]:
    """Without labels that nothing can be learned from; each of those with its reason."""
    gone = _pruned(example.tree)
    skipped = []
    scores, comparisons = [], []
    for s in example.scores:
        if why := _why_not((s.node,), s.dimension, example.tree, gone) or _off_scale(s):
            skipped.append(Skipped(why, example.tree.id, s.node, None, level_of(s.dimension), s.dimension))
        else:
            scores.append(s)
    for c in example.comparisons:
        nodes = (c.left, c.right)
        if why := _why_not(nodes, c.dimension, example.tree, gone) or _no_pair(c, example.tree):
            skipped.append(Skipped(why, example.tree.id, c.left, c.right, c.level, c.dimension))
        else:
            comparisons.append(c)
    repeats = [r for r in example.repeats if not gone & set(r.nodes)]
    return replace(example, scores=scores, comparisons=comparisons, repeats=repeats), skipped


def _pruned(tree: Tree) -> set[str]:
    """Nodes that are pruned, or stand below one that is."""
    gone: set[str] = set()
    for node in tree.walk():
        if node.pruned_at or node.parent_id in gone:
            gone.add(node.id)
    return gone


def _why_not(nodes: tuple[str, ...], dimension: str, tree: Tree, gone: set[str]) -> str:
    if not all(n in tree.nodes for n in nodes):
        return "a reply that is not in its tree"
    if any(tree.nodes[n].role != "assistant" for n in nodes):
        return "a label of a question"
    if any(n in gone for n in nodes):
        return "a pruned branch"
    if dimension != OVERALL and dimension not in dimensions():
        return f"no dimension {dimension} in the rubric here (take over its rubric.json)"
    return ""


def _off_scale(s: Score) -> str:
    known = dimensions().get(s.dimension)
    if known and s.value not in known.values:
        return f"a score off the scale of {s.dimension}"
    return "" if known else "a score of overall, which has comparisons only"


def _no_pair(c: Comparison, tree: Tree) -> str:
    if c.left == c.right:
        return "a reply compared with itself"
    if c.level == "local":
        same = tree.nodes[c.left].parent_id == tree.nodes[c.right].parent_id
        return "" if same else "two replies to different questions"
    if tree.path(c.left)[0].id != tree.path(c.right)[0].id:
        return "two dialogues without a common start"
    return "a dialogue compared with its own beginning" if _in_line(tree, c.left, c.right) else ""


def _in_line(tree: Tree, a: str, b: str) -> bool:
    """Whether one of two nodes is an ancestor of the other."""
    return any(n.id == b for n in tree.path(a)) or any(n.id == a for n in tree.path(b))


def by_row(examples: Iterable[Example]) -> Iterator[tuple[str, str, str]]:
    """(level, dimension, kind) of every label; kind: scores, pairs, ties (of people) or derived."""
    for e in examples:
        for s in e.scores:
            yield level_of(s.dimension), s.dimension, "scores"
        for c in e.comparisons:
            kind = "derived" if c.margin is not None else "ties" if c.outcome == "tie" else "pairs"
            yield c.level, c.dimension, kind


def counts_by_row(examples: Iterable[Example]) -> dict[tuple[str, str], Counter[str]]:
    """How many labels of each kind every (level, dimension) has."""
    rows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for level, dimension, kind in by_row(examples):
        rows[level, dimension][kind] += 1
    return rows
