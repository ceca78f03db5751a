"""What a judge learns from: trees with their scores and comparisons, as plain data. No store, no screen, no torch.

Read from the lines of a studio file (``read``), or made by hand in a notebook.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from judge.rubric import JudgeError, dimensions, row_of
from judge.standing import MIRRORED, Outcome, Repeat, repeats, standing_comparisons, standing_scores
from studio.tree import Node, Part, Tree

Level = Literal["local", "global"]
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
    annotator: str = ""


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
    annotator: str = ""

    @property
    def row(self) -> str:
        """The row of a head that this comparison is about."""
        return row_of(self.level, self.dimension)

    def canonical(self) -> tuple[str, str, Outcome]:
        """Both replies in the order of their ids, and the outcome: the same whichever was written first."""
        if self.left <= self.right:
            return self.left, self.right, self.outcome
        return self.right, self.left, MIRRORED[self.outcome]


@dataclass
class Example:
    """One tree and what is known about it. ``images``: the bytes or the file of each image by its hash.

    ``group``: what trees share that must not be divided between training and test; empty: nothing, the tree stands alone.
    """

    tree: Tree
    scores: list[Score] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    images: dict[str, bytes | Path] = field(default_factory=dict)
    group: str = ""
    repeats: list[Repeat] = field(default_factory=list)

    def restrict(self, levels: Iterable[Level]) -> Example:
        """The same tree with the labels of these levels only."""
        kept = set(levels)
        return replace(
            self,
            scores=[s for s in self.scores if level_of(s.dimension) in kept],
            comparisons=[c for c in self.comparisons if c.level in kept],
            repeats=[r for r in self.repeats if r.level in kept],
        )


def level_of(dimension: str) -> Level:
    """Of a scored dimension. A dimension unknown to the rubric is local."""
    known = dimensions().get(dimension)
    return known.level if known else "local"


def from_dump(dump: dict[str, Any], images: dict[str, bytes | Path] | None = None) -> Example:
    """One line of a studio file as an example: the labels that stand (``judge.standing``), each thing judged with weight 1.

    Several people's labels of the same reply or pair share that weight.

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
        standing, compared = standing_scores(dump), standing_comparisons(dump)
        example = Example(
            tree,
            [Score(r["node_id"], r["dimension"], r["value"], w, r.get("annotator") or "") for r, w in standing],
            [_comparison(r, w) for r, w in compared],
            images or {},
            repeats=repeats(dump),
        )
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


def _comparison(row: dict[str, Any], weight: float) -> Comparison:
    return Comparison(
        row["left_node"], row["right_node"], row["dimension"], row["level"], row["outcome"], weight,
        annotator=row.get("annotator") or "",
    )  # fmt: skip


def data_hash(examples: Iterable[Example]) -> str:
    """A hash over every word, image and label: two judges with the same one learned from the same data."""
    digest = hashlib.sha256()
    for e in sorted(examples, key=lambda e: e.tree.id):
        nodes = [
            (n.id, n.parent_id, n.role, [(p.kind, p.text, p.image_sha256, p.caption) for p in n.parts])
            for n in e.tree.walk()
        ]
        labels = sorted((s.node, s.dimension, s.value, s.weight) for s in e.scores)
        compared = sorted((*c.canonical(), c.level, c.dimension, c.weight, c.margin or 0) for c in e.comparisons)
        digest.update(json.dumps([nodes, labels, compared]).encode())
    return digest.hexdigest()
