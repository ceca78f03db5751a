"""What every reader yields: one tree as plain records, checked, with pictures as references; and how it enters the store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio import StudioError
from studio.media import MAX_BYTES, Media
from studio.store import APART, Store, now
from studio.tree import Part, Role

TOKEN = re.compile(r"<\s*image\s*,\s*([^<>]*)>", re.IGNORECASE)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
UNIQUE_NAME = 16  # a file name this long (a uuid, a hash) is found anywhere below a folder; '3.png' is not


@dataclass
class NodeRecord:
    """One message at its source. ``images`` are references (paths, URLs); ``scores`` by dimension, given in this ``round``."""

    source_id: str
    parent_id: str | None
    role: Role
    text: str
    images: list[str] = field(default_factory=list)
    model: str | None = None
    scores: dict[str, int] = field(default_factory=dict)
    rationale: str = ""
    round: int = 1
    pruned: bool = False
    created_at: str | None = None


@dataclass(frozen=True)
class ComparisonRecord:
    """A preference between two siblings at their source, on the overall dimension. The same one again has the same ``id``."""

    id: str
    left: str
    right: str
    outcome: str


@dataclass
class TreeRecord:
    """One tree, or a part of one, nodes after their parents."""

    title: str
    source: str
    tags: list[str]
    annotator: str
    nodes: list[NodeRecord]
    comparisons: list[ComparisonRecord] = field(default_factory=list)


@dataclass
class Report:
    """What an import or export did. ``known`` nodes were there before; ``filled`` pictures had been missing.

    ``merged``: new scores, comparisons, feedback and crucial steps of dialogues that were here; ``conflicts``: a line for each
    reply and dimension of these on which two people are two levels or more apart; ``notes``: what else was counted.
    """

    trees: int = 0
    nodes: int = 0
    images: int = 0
    scores: int = 0
    comparisons: int = 0
    known: int = 0
    filled: int = 0
    missing: int = 0
    merged: int = 0
    skipped: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """One line for the person."""
        new = f"{self.trees} new trees, {self.nodes} messages, {self.images} pictures and {self.scores} scores"
        rest = [
            self.comparisons and f"{self.comparisons:,} comparisons of siblings, by their ranks, are new",
            *self.notes,
            self.known and f"{self.known} messages were here before",
            self.filled and f"{self.filled} missing pictures were filled in",
            self.missing and f"{self.missing} pictures are missing: give their folder to fill them in",
            self.merged and f"{self.merged} judgements of dialogues that were here are new",
            self.conflicts
            and f"people differ by {APART} or more on {len(self.conflicts)}, such as {self.conflicts[0]}",
            self.skipped and f"{len(self.skipped)} rows were left out ({self.skipped[0]})",
        ]
        return "; ".join([new, *(line for line in rest if line)]) + "."


class Folder:
    """Finds picture files below a folder by the reference they had at their source."""

    def __init__(self, root: Path | None) -> None:
        """Raises StudioError when ``root`` is no folder."""
        self.root = root
        self._by_name: dict[str, Path] = {}
        if root is not None:
            if not root.is_dir():
                raise StudioError(f"{root} is no folder. Give the folder that holds the pictures.")
            for path in root.rglob("*"):
                if path.suffix.lower() in SUFFIXES and len(path.stem) >= UNIQUE_NAME:
                    self._by_name.setdefault(path.stem, path)

    def find(self, reference: str) -> Path | None:
        """The file of a reference: by its path below the folder, by that of its last folders, or by a unique name."""
        pieces = [p for p in re.split(r"[/\\]", reference) if p not in ("", ".", "..")]
        if self.root is None or not pieces:
            return None
        stem, _, suffix = pieces[-1].rpartition(".")
        # the reduced copies of the web examples are JPEG; '3_jpg.jpg' is what was 3.jpg where a 3.png was there too
        names = [f"{stem}_jpg.jpg"] if suffix in ("jpg", "jpeg") else []
        names += [pieces[-1], *(f"{stem}{s}" for s in SUFFIXES)]
        for start in range(len(pieces)):
            below = pieces[start:-1]
            # '3.png' without the folder it was in could be anybody's
            if start and len(stem) < UNIQUE_NAME and len(below) < 2 and pieces[start - 1] != self.root.name:
                continue
            for name in names:
                if (path := self.root.joinpath(*below, name)).is_file():
                    return path
        return self._by_name.get(stem)


def read_json(path: Path) -> Any:
    """A whole JSON file. Raises StudioError naming the file and the place where it breaks off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudioError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise StudioError(f"{path.name} is no text file in UTF-8 (byte {error.start}).") from error
    except json.JSONDecodeError as error:
        raise StudioError(
            f"{path.name} is no whole JSON file: {error.msg} at line {error.lineno}. Was it cut short? Get it again."
        ) from error


def add(store: Store, media: Media, record: TreeRecord, folder: Folder, report: Report) -> None:
    """Bring a tree into the store in one transaction; what was imported before is found again and left as it is.

    Raises StudioError when its messages are in several dialogues here.
    """
    known = store.by_source(n.source_id for n in record.nodes)
    found = {
        ref: file for n in record.nodes if n.source_id not in known for ref in n.images if (file := folder.find(ref))
    }
    hashes = {ref: _stored(store, media, file) for ref, file in found.items()}
    # everything is read before the first write: in a big transaction a reader may have to wait for its own writer
    places = store.places(known.values())
    homes = sorted({tree for tree, _ in places.values()})
    expect(len(homes) < 2, f"“{record.title[:40]}”", f"its messages are in {len(homes)} dialogues here")
    have = {r: store.scores(known.values(), record.annotator, r) for r in {n.round for n in record.nodes}}
    with store.write():
        tree_id = homes[0] if homes else store.create_tree(record.title, record.tags, record.source)
        report.trees += not homes
        for n in record.nodes:
            here = known.get(n.source_id)
            if here is None:
                here = known[n.source_id] = _new(store, tree_id, known.get(n.parent_id or ""), n, hashes, report)
            else:
                report.known += 1
                if n.text and places[here][1]:  # it was missing when what answers it came in
                    store.grow(here, _parts(n, hashes))
            if n.scores:
                _judge(store, record.annotator, here, n, have[n.round].get(here, {}), report)
        for c in record.comparisons:
            report.comparisons += store.add_comparison(c.id, known[c.left], known[c.right], c.outcome, record.annotator)


def _new(store: Store, tree_id: str, parent: str | None, n: NodeRecord, hashes: dict[str, str], report: Report) -> str:
    parts = _parts(n, hashes)
    report.nodes += 1
    report.images += sum(p.image_sha256 is not None for p in parts)
    return store.add_node(
        tree_id,
        parent,
        n.role,
        parts,
        source_id=n.source_id,
        model=n.model,
        pruned_at=now() if n.pruned else None,
        created_at=n.created_at,
    )


def fill_in(store: Store, media: Media, folder: Folder, report: Report) -> None:
    """Give every missing picture its file, where the folder has it."""
    for row in store.missing_images():
        file = folder.find(row["reference"])
        if file:
            store.fill_image(row["node_id"], row["ordinal"], _stored(store, media, file))
            report.filled += 1
    report.missing = len(store.missing_images())


def expect(condition: object, where: str, what: str) -> None:
    """Raise StudioError naming the row when something is not as the format says."""
    if not condition:
        raise StudioError(f"{where}: {what}.")


def rows_of(path: Path, rows: Any, read: Any, skip_bad: bool, report: Report) -> Iterator[Any]:
    """``read(where, row)`` of each row; a bad one raises, or with ``skip_bad`` is noted and left out."""
    expect(isinstance(rows, list), path.name, f"it holds {type(rows).__name__}, not a list of rows")
    for i, row in enumerate(rows):
        try:
            yield read(f"{path.name} row {i}", row)
        except StudioError as error:
            if not skip_bad:
                raise
            report.skipped.append(str(error))


def _stored(store: Store, media: Media, file: Path) -> str:
    if file.stat().st_size > MAX_BYTES:
        raise StudioError(f"{file} is larger than {MAX_BYTES // 2**20} MB. Make it smaller.")
    kept = media.add(file.read_bytes(), file.name)
    store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "import")
    return kept.sha256


def _parts(n: NodeRecord, hashes: dict[str, str]) -> list[Part]:
    tokens = [t.strip() for t in TOKEN.findall(n.text)]
    captions = tokens if len(tokens) == len(n.images) else [""] * len(n.images)  # they agree in 94 % of turns only
    text = [Part("text", n.text)] if n.text else []
    return text + [
        Part("image", ref, hashes.get(ref), caption) for ref, caption in zip(n.images, captions, strict=True)
    ]


def _judge(store: Store, annotator: str, node_id: str, n: NodeRecord, have: dict[str, int], report: Report) -> None:
    """A rating that is here already wins: a second import changes nothing. ``have``: scores of the message here."""
    for dimension, value in n.scores.items():
        if dimension not in have:
            store.rate(node_id, dimension, value, annotator, n.round)
            report.scores += 1
            if n.rationale:
                level = "global" if dimension[0] == "G" else "local"
                store.say(node_id, level, "rationale", n.rationale, annotator, round=n.round)
