"""Which trees belong together, so that none of them is in the test while its twin is in the training; and the split by them.

Two trees share a group when they share a root question (each root counts), a near-duplicate of one, a picture (equal, or
looking the same), or a copied later turn. Groups are transitive. Folds, curves, bootstraps and resamplings all use them.
Plain data; pictures are opened only to be hashed.
"""

from __future__ import annotations

import functools
import io
import math
import random
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from judge.examples import Example, level_of
from studio.tree import Node

Set = Literal["train", "validation", "test"]
SETS: tuple[Set, ...] = ("train", "validation", "test")
NEAR = 0.8  # Jaccard similarity of two questions' shingles from which they count as the same
SHINGLE = 2  # words
# a letter of a script that puts no space between words (Thai, Lao, Myanmar, Khmer, kana, Han), or a word of any other
ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNITS = re.compile(rf"[{ALONE}]|[^\W{ALONE}]+")
LEAST_NEAR, LEAST_COPIED_QUESTION, LEAST_COPIED_REPLY = 8, 12, 20  # words; shorter ones are alike by chance
BITS_APART = 3  # of a 64-bit perceptual hash
PLAIN_BITS = 8  # a hash with fewer bits of either kind is of a picture without structure


@dataclass(frozen=True)
class Split:
    """Three sets of tree ids, and the seed that made them."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    seed: int

    @classmethod
    def load(cls, row: Mapping[str, Any]) -> Split:
        """A split as a card keeps it."""
        return cls(tuple(row["train"]), tuple(row["validation"]), tuple(row["test"]), row["seed"])

    def of(self, examples: Iterable[Example], part: Set) -> list[Example]:
        """The examples of one part, in the order given."""
        ids = set(getattr(self, part))
        return [e for e in examples if e.tree.id in ids]


def grouped(examples: Sequence[Example]) -> list[Example]:
    """The same examples with ``group`` set: the smallest tree id among those that belong together."""
    ids = [e.tree.id for e in examples]
    joined = _Joined(ids)
    by_key: dict[Hashable, list[str]] = defaultdict(list)
    for e in examples:
        for key in _keys(e):
            by_key[key].append(e.tree.id)
    for same in by_key.values():
        joined.join(same)
    for a, b in (*_near_questions(examples), *_near_pictures(examples)):
        joined.join((a, b))
    return [replace(e, group=joined.root(e.tree.id)) for e in examples]


def split(examples: Sequence[Example], seed: int = 0, validation: float = 0.1, test: float = 0.2) -> Split:
    """Deal whole groups of trees into three sets, the same mix of levels in each as far as there are groups for it.

    Few groups are dealt to training first, then to the test. Examples without a group get theirs here.
    """
    rng = random.Random(seed)
    families = _families(examples)
    strata: dict[tuple[str, ...], list[list[Example]]] = defaultdict(list)
    for _, family in sorted(families.items()):
        kinds = {
            *(level_of(s.dimension) for e in family for s in e.scores),
            *(c.level for e in family for c in e.comparisons),
        }
        strata[tuple(sorted(kinds))].append(family)
    dealt: dict[Set, list[str]] = {"train": [], "validation": [], "test": []}
    for _, groups in sorted(strata.items()):
        rng.shuffle(groups)
        n_test, n_validation = round(len(groups) * test), round(len(groups) * validation)
        for i, family in enumerate(groups):
            part: Set = "test" if i < n_test else "validation" if i < n_test + n_validation else "train"
            dealt[part] += [e.tree.id for e in family]
    train, held_out, tested = (tuple(sorted(dealt[part])) for part in SETS)
    return Split(train, held_out, tested, seed)


def folds(examples: Sequence[Example], n: int, seed: int = 0) -> list[Split]:
    """Each tree in the test of one fold, groups undivided; largest groups first, each to the smallest fold so far."""
    families = sorted(_families(examples).items())
    random.Random(seed).shuffle(families)
    families.sort(key=lambda item: -len(item[1]))
    tests: list[list[str]] = [[] for _ in range(n)]
    for _, family in families:
        min(tests, key=len).extend(e.tree.id for e in family)
    ids = sorted(e.tree.id for e in examples)
    return [
        Split(tuple(i for i in ids if i not in set(held)), (), tuple(sorted(held)), fold)
        for fold, held in enumerate(tests)
    ]


def group_of(example: Example) -> str:
    """The group of a tree; a tree that was not grouped stands alone."""
    return example.group or example.tree.id


def _families(examples: Sequence[Example]) -> dict[str, list[Example]]:
    known = examples if all(e.group for e in examples) else grouped(examples)
    families: dict[str, list[Example]] = defaultdict(list)
    for e in known:
        families[group_of(e)].append(e)
    return families


# ---- what two trees can share


def normalised(text: str) -> str:
    """Lower case, words only, what is written without spaces as single letters: what two copies of a text still share.

    A text of symbols alone is itself.
    """
    units = UNITS.findall(text.casefold())
    return " ".join(units) if units else " ".join(text.split())


def _keys(e: Example) -> set[Hashable]:
    """What a tree has that another must not have, to be of another group."""
    keys: set[Hashable] = set()
    roots = set(e.tree.children.get(None, ()))
    for node in e.tree.walk():
        text = normalised(node.text)
        words = text.count(" ") + 1 if text else 0
        pictures = tuple(p.image_sha256 or p.text for p in node.images)
        keys |= {("picture", p) for p in pictures if p}
        if node.id in roots and (text or any(pictures)):
            keys.add(("question", text, pictures))
        if node.role == "user" and words >= LEAST_COPIED_QUESTION:
            keys.add(("turn", text))
        if node.role == "assistant" and words >= LEAST_COPIED_REPLY:
            keys.add(("reply", text))
    return keys


def _near_questions(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Pairs of trees with root questions at least NEAR alike: exact, by prefix filtering (Bayardo et al., WWW 2007)."""
    questions = [
        (e.tree.id, shingles)
        for e in examples
        for root in e.tree.children.get(None, ())
        if (shingles := _shingles(e.tree.nodes[root]))
    ]
    frequency = Counter(s for _, shingles in questions for s in shingles)
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    pairs = []
    for i, (tree, shingles) in enumerate(questions):
        rare_first = sorted(shingles, key=lambda s: (frequency[s], s))
        # two sets that are NEAR alike share at least one of so many of their rarest members
        prefix = rare_first[: len(shingles) - math.ceil(NEAR * len(shingles)) + 1]
        for j in {j for s in prefix for j in index[s]}:
            other, theirs = questions[j]
            if other != tree and len(shingles & theirs) >= NEAR * len(shingles | theirs):
                pairs.append((other, tree))
        for s in prefix:
            index[s].append(i)
    return pairs


def _shingles(node: Node) -> set[tuple[str, ...]]:
    words = normalised(node.text).split()
    if len(words) < LEAST_NEAR:
        return set()
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def _near_pictures(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Pairs of trees with pictures that look the same (perceptual hashes at most BITS_APART apart)."""
    hashes: dict[tuple[str, int], None] = {}  # (tree, hash), in order
    for e in examples:
        for sha, data in e.images.items():
            if (code := _perceptual_hash(sha, data if isinstance(data, Path) else _Bytes(data))) is not None:
                hashes[e.tree.id, code] = None
    bands: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    pairs = []
    for tree, code in hashes:
        mine = [(band, code >> 16 * band & 0xFFFF) for band in range(4)]
        # at most three bits apart: one of four bands is equal
        for other, theirs in {one for key in mine for one in bands[key]}:
            if other != tree and (code ^ theirs).bit_count() <= BITS_APART:
                pairs.append((other, tree))
        for key in mine:
            bands[key].append((tree, code))
    return pairs


class _Bytes:
    """Bytes that a cache does not have to hash: the picture's own hash is the key beside them."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bytes)


@functools.lru_cache(maxsize=65536)
def _perceptual_hash(sha256: str, data: Path | _Bytes) -> int | None:
    """A 64-bit hash by imagehash's pHash; None for what cannot be read and for pictures without structure."""
    try:
        import imagehash
        from PIL import Image
    except ImportError:  # without the judge's packages nothing is trained; equal pictures are found all the same
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what cannot be read is no twin
            with Image.open(data if isinstance(data, Path) else io.BytesIO(data.data)) as image:
                image.draft("L", (128, 128))
                code = int(str(imagehash.phash(image.convert("L"))), 16)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return code if PLAIN_BITS <= code.bit_count() <= 64 - PLAIN_BITS else None


class _Joined:
    """Disjoint sets of tree ids; the smallest id of a set is its root."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._above = {i: i for i in ids}

    def root(self, one: str) -> str:
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def join(self, same: Sequence[str]) -> None:
        for other in same[1:]:
            a, b = sorted((self.root(same[0]), self.root(other)))
            self._above[b] = a
