"""Finding pictures: 1,000 JPEGs indexed, the unchanged folder looked through again, 100,000 rows asked; and, printed, how often the
right picture of InterMT's examples comes first.

The peer of indexing is Pillow opening and decoding the same files whole, and hashlib reading them; of the second look a bare os.walk with
a stat a file; of a question the same product with one float32 matrix.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backends.retrieve import fused, meaning
from studio import indexing
from studio.background import Task
from studio.exchange import intermt_web
from studio.exchange.records import Report
from studio.store.retrieve import PictureIndex
from tests.conftest import SHARED
from tests.perf import Row, Unavailable, compare
from tests.perf.makings import THINGS

FILES, SIZE, ROWS, ROUNDS = 1_000, (640, 480), 100_000, 9


def measure() -> list[Row]:
    """Four rows; goals of time in one are 6 ms a file and 50 ms a thousand, given in the detail."""
    if lacking := meaning.missing():
        raise Unavailable(f"needs {', '.join(lacking)}: {meaning.GET_IT}")
    recall()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pictures"
        root.mkdir()
        _pictures(root)
        return [*_indexing(root, Path(folder)), *_asking(Path(folder) / "many")]


def _pictures(root: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(FILES):
        coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(root / f"{THINGS[i % 10]}_{i}.jpg", quality=88)


def _took(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def _indexing(root: Path, home: Path) -> list[Row]:
    first: tuple[list[float], list[float]] = ([], [])
    again: tuple[list[float], list[float]] = ([], [])
    for i in range(3):
        with closing(PictureIndex(home / f"index{i}")) as index:
            number = index.folder(root)

            def look(index: PictureIndex = index, number: int = number) -> None:
                indexing.update(index, number, root, Task("k", "t"))

            first[0].append(_took(look) / FILES)
            first[1].append(_took(lambda: _decoded(root)) / FILES)
            for _ in range(ROUNDS):
                again[0].append(_took(look))
                again[1].append(_took(lambda: _walked(root)))
    return [
        compare("index 1,000 JPEGs, words and looks / Pillow and sha256", *first, "<= 1.5", "{ours:.2f} ms a file (goal 6) / {peer:.2f} ms"),
        compare("look again, 1,000 files unchanged / bare walk", *again, None, "{ours:.1f} ms (goal 50) / {peer:.1f} ms"),
    ]  # fmt: skip


def _decoded(root: Path) -> None:
    for path in root.iterdir():
        data = path.read_bytes()
        hashlib.sha256(data).hexdigest()
        with Image.open(path) as picture:
            picture.load()


def _walked(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            os.lstat(os.path.join(folder, name))


def _asking(home: Path) -> list[Row]:
    """100,000 rows with words and vectors of their own; the block of vectors is in memory as it is while somebody types."""
    rng = np.random.default_rng(2)
    exact = rng.normal(size=(ROWS, meaning.DIMENSIONS)).astype(np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    words = rng.integers(0, 5_000, (ROWS, 8))
    with closing(PictureIndex(home)) as index:
        number = index.folder(home)
        index.save(number, ({"path": f"{i}.jpg", "stamp": "", "sha256": f"{i:064x}", "text": "x", "name": THINGS[i % 10],
                             "caption": " ".join(f"word{w}" for w in words[i])} for i in range(ROWS)))  # fmt: skip
        index.give_vectors(zip(range(1, ROWS + 1), meaning.packed(exact), strict=True))
        vectors = meaning.Vectors(*index.vectors())
        questions = [exact[i] for i in range(0, 20 * 37, 37)]
        near = [_took(lambda q=q: vectors.nearest(q, 200)) for q in questions]
        plain = [_took(lambda q=q: np.argsort(-(exact @ q))[:200]) for q in questions]
        asked = [_took(lambda i=i: index.by_words(f"violin word{i} word{i + 1}", 200)) for i in range(20)]
    return [
        compare(
            "100,000 vectors of 384 bytes / one float32 matrix", near, plain, None, "{ours:.0f} ms / {peer:.0f} ms"
        ),
        compare("100,000 captions by words / the vectors", asked, near, None, "{ours:.0f} ms / {peer:.0f} ms"),
    ]


# ---- how often the right one comes first


def recall() -> None:
    """Print recall at 1 and at 5 on InterMT's examples: each picture is described by the message that shows it, and looked for with
    the message before it, by words, by meaning and by both. Messages with several pictures count for each."""
    pairs = _pairs(SHARED / "intermt_examples")
    if not pairs:
        return print("no InterMT examples here: recall was not measured")
    encoder = meaning.Encoder()
    with tempfile.TemporaryDirectory() as home, closing(PictureIndex(Path(home))) as index:
        number = index.folder(Path(home))
        index.save(number, ({"path": f"{i}.jpg", "stamp": "", "sha256": f"{i:064x}", "caption": told, "text": told[:1000]}
                            for i, (told, _) in enumerate(pairs)))  # fmt: skip
        index.give_vectors(
            zip(range(1, len(pairs) + 1), meaning.packed(encoder.encode([t[:1000] for t, _ in pairs])), strict=True)
        )
        vectors = meaning.Vectors(*index.vectors())
        found: dict[str, list[list[int]]] = {"words": [], "meaning": [], "both": []}
        for _, asked in pairs:
            by_words = index.by_words(asked, 200)
            near = [i for i, _ in vectors.nearest(encoder.encode([asked])[0], 200)]
            found["words"].append(by_words)
            found["meaning"].append(near)
            found["both"].append([i for i, _ in fused({"words": by_words, "meaning": near})])
    for way, rankings in found.items():
        at = {k: sum(i + 1 in ranking[:k] for i, ranking in enumerate(rankings)) for k in (1, 5)}
        print(
            f"InterMT examples, {len(pairs)} pictures, by {way}: recall at 1 {at[1] / len(pairs):.2f}, at 5 {at[5] / len(pairs):.2f}"
        )


def _pairs(folder: Path) -> list[tuple[str, str]]:
    """For each picture that a message shows: that message, and the one before it (the one after it for a first question)."""
    pairs = []
    for path in intermt_web.files(folder) if folder.is_dir() else []:
        for tree in intermt_web.read(path, False, Report()):
            for at, node in enumerate(tree.nodes):
                other = tree.nodes[at - 1] if at else tree.nodes[1]
                pairs += [(node.text, other.text)] * len(node.images)
    return pairs
