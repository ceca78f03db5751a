"""Making the index of a folder what the folder is, piece by piece: what is new or changed is read, what is gone is dropped.

Knows no screen and no media. Everything that was done before it is told to stop is kept.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends import BackendError, retrieve
from backends.retrieve import meaning
from studio.background import Task
from studio.store.retrieve import PictureIndex

BATCH = 64  # files written together


def update(index: PictureIndex, folder: int, root: Path, task: Task) -> None:
    """Make the index of a folder what the folder is; stops early, with what is done kept, when the task is told to.

    Raises:
        BackendError: the folder is gone or may not be read; what is known of it stays.
    """
    there, known = retrieve.listing(root), index.stamps(folder)
    gone = [path for path in known if path not in there.files]
    if gone:
        index.drop(folder, gone)
    new = [path for path, stamp in there.files.items() if known.get(path) != stamp]
    task.done, task.total, task.note = 0, len(new), "reading files"
    for start in range(0, len(new), BATCH):
        if task.stop.is_set():
            return
        some = new[start : start + BATCH]
        index.save(folder, [_row(root, path, there.files[path]) for path in some])
        task.done += len(some)
    index.looked(folder, there.passed)


def _row(root: Path, path: str, stamp: str) -> dict[str, Any]:
    try:
        found = retrieve.facts(retrieve.inside(root, path), path)
    except BackendError as error:
        reason = str(error) if isinstance(error, retrieve.Unusable) else "gone, or a link by now"
        return {"path": path, "stamp": stamp, "problem": reason, "text": ""}
    return asdict(found) | {"path": path, "stamp": stamp, "text": found.text}


def encode(index: PictureIndex, folder: int, encoder: meaning.Encoder, task: Task) -> None:
    """Make the vectors that are still missing; stops early, with what is done kept."""
    waiting = next((f["waiting"] for f in index.folders() if f["id"] == folder), 0)
    if not waiting:
        return
    task.done, task.total, task.note = 0, waiting, "reading for meaning"
    while not task.stop.is_set() and (some := index.waiting(folder, BATCH)):
        vectors = meaning.packed(encoder.encode([text for _, text in some]))
        index.give_vectors(zip((i for i, _ in some), vectors, strict=True))
        task.done += len(some)
