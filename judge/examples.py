"""What a judge learns from: trees with their scores and comparisons, as plain data. No store, no screen, no torch.

Read from the lines of a studio file (``read``), or made by hand in a notebook.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from judge.rubric import JudgeError, dimensions
from studio.tree import Node, Part, Tree

Level = Literal["local", "global"]
Outcome = Literal["left", "right", "tie"]
Set = Literal["train", "validation", "test"]
PARTS: tuple[Set, ...] = ("train", "validation", "test")
OVERALL = "overall"
ENOUGH = 50  # labels of a dimension below which a judge's numbers about it mean little
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a judge: it is a folder's
LINES = "studio.jsonl"  # the name inside a studio file


@dataclass(frozen=True, slots=True)
class Score:
    """``value`` on ``dimension``'s scale for one reply (global dimensions: for the dialogue that ends there)."""

    node: str
    dimension: str
    value: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which of two replies is better. ``margin``: the difference of scores it was derived from; None: a person compared."""

    left: str
    right: str
    dimension: str
    level: Level
    outcome: Outcome
    weight: float = 1.0
    margin: float | None = None


@dataclass
class Example:
    """One tree and what is known about it. ``images``: the bytes or the file of each image by its hash."""

    tree: Tree
    scores: list[Score] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    images: dict[str, bytes | Path] = field(default_factory=dict)

    def restrict(self, levels: Iterable[Level]) -> Example:
        """The same tree with the labels of these levels only."""
        kept = set(levels)
        return replace(
            self,
            scores=[s for s in self.scores if level_of(s.dimension) in kept],
            comparisons=[c for c in self.comparisons if c.level in kept],
        )


@dataclass(frozen=True)
class Split:
    """Three sets of tree ids, and the seed that made them."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    seed: int

    def of(self, examples: Iterable[Example], part: Set) -> list[Example]:
        """The examples of one part, in the order given."""
        wanted = set(getattr(self, part))
        return [e for e in examples if e.tree.id in wanted]


def level_of(dimension: str) -> Level:
    """Of a scored dimension. A dimension unknown to the rubric is local."""
    known = dimensions().get(dimension)
    return known.level if known else "local"


def from_dump(dump: dict[str, Any], images: dict[str, bytes | Path] | None = None) -> Example:
    """One line of a studio file as an example: current labels only; several people's labels share one label's weight.

    Raises:
        JudgeError: the line lacks something; what, is named.
    """
    try:
        parts: dict[str, list[Part]] = defaultdict(list)
        for row in sorted(dump.get("parts", []), key=lambda r: r["ordinal"]):
            parts[row["node_id"]].append(
                Part(row["kind"], row["text"] or "", row["image_sha256"], row["caption"] or "")
            )
        tree = Tree(dump["tree"]["id"], dump["tree"].get("title") or "", nodes=[
            Node(r["id"], r["tree_id"], r["parent_id"], r["ordinal"], r["role"], parts[r["id"]],
                 model=r.get("model"), status=r.get("status") or "done", pruned_at=r.get("pruned_at"))
            for r in dump["nodes"]
        ])  # fmt: skip
        scores = _shared([r for r in dump.get("scores", []) if _current(r)], ("node_id", "dimension"))
        compared = _shared([r for r in dump.get("comparisons", []) if _current(r)],
                           ("left_node", "right_node", "dimension", "level"))  # fmt: skip
        example = Example(
            tree,
            [Score(r["node_id"], r["dimension"], r["value"], w) for r, w in scores if r["value"] is not None],
            [Comparison(r["left_node"], r["right_node"], r["dimension"], r["level"], r["outcome"], w)
             for r, w in compared if r["outcome"] is not None],
            images or {},
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise JudgeError(f"A tree of the studio file lacks {error}. Export it again.") from error
    return example


def read(path: Path) -> list[Example]:
    """The examples of a studio file: the ``.zip`` or the folder that ``intermt-studio export`` writes.

    Raises:
        JudgeError: it cannot be read, or is no studio file.
    """
    try:
        return list(_read_zip(path) if path.suffix.lower() == ".zip" else _read_folder(path))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise JudgeError(
            f"Cannot read {path} as a studio file ({error}). Make one with: intermt-studio export"
        ) from error


def _read_zip(path: Path) -> Iterator[Example]:
    with zipfile.ZipFile(path) as archive:
        names = {Path(n).stem: n for n in archive.namelist() if n.startswith("media/")}
        with archive.open(LINES) as lines:
            yield from _read_lines(lines, lambda sha: archive.read(names[sha]) if sha in names else None)


def _read_folder(path: Path) -> Iterator[Example]:
    file = path / LINES if path.is_dir() else path
    names = {p.stem: p for p in (file.parent / "media").glob("*.*")}
    with file.open("rb") as lines:
        yield from _read_lines(lines, names.get)


def _read_lines(lines: Iterable[bytes], image: Callable[[str], bytes | Path | None]) -> Iterator[Example]:
    for dump in itertools.islice(map(json.loads, lines), 1, None):
        wanted = {r["image_sha256"] for r in dump["parts"] if r["image_sha256"]}
        yield from_dump(dump, {sha: found for sha in sorted(wanted) if (found := image(sha)) is not None})


def _current(row: dict[str, Any]) -> bool:
    return row.get("superseded_at") is None


def _shared(rows: list[dict[str, Any]], key: tuple[str, ...]) -> list[tuple[dict[str, Any], float]]:
    counts = Counter(tuple(r[k] for k in key) for r in rows)
    return [(r, 1.0 / counts[tuple(r[k] for k in key)]) for r in rows]


def with_derived(example: Example, also_compared: bool = False) -> Example:
    """Add pairs that differing scores imply: siblings on local dimensions, dialogues of the tree on global ones.

    ``margin`` is the difference of the scores. Pairs that a person compared on any dimension of that level are left as
    they are, unless ``also_compared``.
    """
    means: dict[tuple[str, str], float] = {}
    for (node, dimension), group in itertools.groupby(
        sorted(example.scores, key=lambda s: (s.node, s.dimension)), key=lambda s: (s.node, s.dimension)
    ):
        labels = list(group)
        means[node, dimension] = sum(s.value * s.weight for s in labels) / sum(s.weight for s in labels)
    seen = {(frozenset((c.left, c.right)), c.level) for c in example.comparisons}
    families: dict[tuple[str, str | None], list[str]] = defaultdict(list)  # (dimension, parent or None) -> nodes
    for node, dimension in means:
        parent = example.tree.nodes[node].parent_id if level_of(dimension) == "local" else None
        families[dimension, parent].append(node)
    derived = [
        Comparison(a, b, d, level_of(d), "left" if means[a, d] > means[b, d] else "right", 1.0, abs(means[a, d] - means[b, d]))
        for (d, _), nodes in sorted(families.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        for a, b in itertools.combinations(sorted(nodes), 2)
        if means[a, d] != means[b, d] and (also_compared or (frozenset((a, b)), level_of(d)) not in seen)
    ]  # fmt: skip
    return replace(example, comparisons=example.comparisons + derived)


def split(examples: list[Example], seed: int = 0, validation: float = 0.1, test: float = 0.2) -> Split:
    """Deal whole trees into three sets, the same mix of levels in each as far as there are trees for it.

    Trees that grew from the same question go together: their siblings are each other's. Few trees are dealt to
    training first, then to the test.
    """
    rng = random.Random(seed)
    families: dict[str, list[Example]] = defaultdict(list)
    for e in examples:
        families[_root_hash(e.tree)].append(e)
    strata: dict[tuple[str, ...], list[list[Example]]] = defaultdict(list)
    for _, family in sorted(families.items()):
        kinds = {
            *(level_of(s.dimension) for e in family for s in e.scores),
            *(c.level for e in family for c in e.comparisons),
        }
        strata[tuple(sorted(kinds))].append(family)
    dealt: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for _, groups in sorted(strata.items()):
        rng.shuffle(groups)
        n_test, n_validation = round(len(groups) * test), round(len(groups) * validation)
        for i, family in enumerate(groups):
            part = "test" if i < n_test else "validation" if i < n_test + n_validation else "train"
            dealt[part] += [e.tree.id for e in family]
    train, held_out, tested = (tuple(sorted(dealt[p])) for p in PARTS)
    return Split(train, held_out, tested, seed)


def same_question(tree: Tree) -> str:
    """A hash that trees grown from the same question share."""
    return _root_hash(tree)


def _root_hash(tree: Tree) -> str:
    roots = [tree.nodes[i] for i in tree.children.get(None, [])]
    said = [[(p.kind, " ".join(p.text.split()).casefold(), p.image_sha256) for p in n.parts] for n in roots]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def data_hash(examples: Iterable[Example]) -> str:
    """A hash over every word, image and label: two judges with the same one learned from the same data."""
    digest = hashlib.sha256()
    for e in sorted(examples, key=lambda e: e.tree.id):
        nodes = [
            (n.id, n.parent_id, n.role, [(p.kind, p.text, p.image_sha256, p.caption) for p in n.parts])
            for n in e.tree.walk()
        ]
        labels = sorted((s.node, s.dimension, s.value, s.weight) for s in e.scores)
        compared = sorted((c.left, c.right, c.dimension, c.outcome, c.weight, c.margin or 0) for c in e.comparisons)
        digest.update(json.dumps([nodes, labels, compared]).encode())
    return digest.hexdigest()


def data_card(examples: list[Example], parts: Split) -> dict[str, Any]:
    """Counts of trees, scores, comparisons, ties and derived pairs by level and dimension, and what is too little.

    ``warnings`` are sentences for a person; more than nothing in ``rows`` can still be too little to trust.
    """
    rows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for part in PARTS:
        for e in parts.of(examples, part):
            for s in e.scores:
                rows[level_of(s.dimension), s.dimension][f"{part}_scores"] += 1
            for c in e.comparisons:
                kind = "ties" if c.outcome == "tie" else "pairs" if c.margin is None else "derived"
                rows[c.level, c.dimension][f"{part}_{kind}"] += 1
    warnings = []
    for (level, dimension), counts in sorted(rows.items()):
        n = sum(v for k, v in counts.items() if k.startswith("train"))
        if n < ENOUGH:
            warnings.append(
                f"{dimension} ({level}) has {n} labels to train on; below {ENOUGH} its numbers mean little."
            )
        if not sum(v for k, v in counts.items() if k.startswith("test")):
            warnings.append(f"{dimension} ({level}) has no label in the test trees: its accuracy cannot be told.")
    trees = {p: len(getattr(parts, p)) for p in PARTS}
    if trees["test"] < 5:
        warnings.append(
            f"The test has {trees['test']} trees: an interval over so few says little. Rate more dialogues."
        )
    listed = [{"level": level, "dimension": d, **dict(sorted(c.items()))} for (level, d), c in sorted(rows.items())]
    return {"trees": trees, "rows": listed, "warnings": warnings}
