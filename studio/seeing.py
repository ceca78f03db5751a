"""What pictures show, by a CLIP model: the model that studio.toml names, its vectors kept in the index, and rankings by them.

Joins the encoder with the index; knows no screen and no media. The model is ``[retrieve] clip = "a folder"``.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import BackendError, images, retrieve
from backends.retrieve import clip, meaning
from studio import StudioError
from studio.background import Task
from studio.store.measured import Measured
from studio.store.retrieve import PictureIndex

if TYPE_CHECKING:
    import numpy as np

BATCH = 8  # pictures between two looks at the button that cancels
TEXTS = 500  # vectors of texts kept in memory
GET_IT = (
    "By what a picture shows: not set up. Download CLIP on Settings, or write into studio.toml: [retrieve] and below it "
    'clip = "/folder/of/clip-vit-base-patch32" (ONNX); then restart.'
)


class Sight:
    """The CLIP model of one run of the studio, if there is one. Nothing is loaded before it is asked for."""

    def __init__(self, settings: dict[str, Any], index: PictureIndex) -> None:
        self.folder = Path(str(settings["clip"])).expanduser() if settings.get("clip") else None
        self.index, self.kept = index, Measured(index)
        self._clip = clip.Clip(self.folder) if self.folder else None
        self._lock = threading.Lock()
        self._block: tuple[int, float, meaning.Vectors] | None = None
        self._texts: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()

    @property
    def trouble(self) -> str:
        """Why pictures cannot be found by what they show, as one line with what to do; '' when they can. Loads nothing."""
        if self.folder is None:
            return GET_IT
        if lacking := clip.missing():
            return f"By what a picture shows needs {', '.join(lacking)}. Get it with: {clip.GET_IT}"
        try:
            clip.found(self.folder)
        except BackendError as error:
            return str(error)
        return ""

    @property
    def model(self) -> clip.Clip:
        """The encoder. Raises StudioError when there is none."""
        if self._clip is None:
            raise StudioError(GET_IT)
        return self._clip

    # ---- keeping

    def look(self, folder: int, root: Path, task: Task) -> None:
        """Make the vectors that a folder still lacks; stops early, with what is done kept."""
        key = self.model.key
        task.done, task.total, task.note = 0, self.kept.count_unseen(folder, key), "looking at pictures"
        while not task.stop.is_set() and (some := self.kept.unseen(folder, key, BATCH)):
            self.kept.keep_vectors([(sha256, self._of_file(root, path)) for sha256, path in some], key)
            task.done += len(some)

    def _of_file(self, root: Path, path: str) -> bytes:
        try:
            data = retrieve.whole(retrieve.inside(root, path))
        except BackendError:
            return b""  # gone or changed since it was listed: the next look finds it under another hash
        return self.packed(data)

    def packed(self, data: bytes) -> bytes:
        """The vector of a picture file as it is kept; of no bytes when no picture can be had from it.

        Raises:
            BackendError: the model cannot be used.
        """
        try:
            picture = images.opened(data)[0]
        except BackendError:
            return b""
        return meaning.packed(self.model.pictures([picture]))[0]

    # ---- ranking

    def of_text(self, text: str) -> np.ndarray:
        """The vector of a text, length 1; the last ones are remembered."""
        with self._lock:
            known = self._texts.get(text)
        if known is None:
            known = self.model.texts([text])[0]
            with self._lock:
                self._texts[text] = known
                while len(self._texts) > TEXTS:
                    self._texts.popitem(last=False)
        return known

    def knows(self, text: str) -> bool:
        """Whether the vector of a text is at hand."""
        with self._lock:
            return text in self._texts

    def nearest(self, vector: np.ndarray, most: int, folder: int | None, busy: bool) -> dict[int, float]:
        """Ids of pictures of folders with their cosines, best first; while ``busy`` the block is read anew only now and then."""
        near = self._current(busy).nearest(vector, most, folder)
        return {i: round(c, 4) for i, c in near}

    def _current(self, busy: bool) -> meaning.Vectors:
        with self._lock:
            old = self._block
            if old is None or (old[0] != self.index.changes and not (busy and time.monotonic() - old[1] < 3)):
                self._block = (
                    self.index.changes,
                    time.monotonic(),
                    meaning.Vectors(*self.kept.vectors(self.model.key)),
                )
            assert self._block is not None
            return self._block[2]


def direction(packed: bytes) -> np.ndarray | None:
    """A kept vector with length 1; None of no bytes."""
    import numpy as np

    if not packed:
        return None
    plain = np.frombuffer(packed, np.int8).astype(np.float32)
    return plain / max(float(np.linalg.norm(plain)), 1e-12)


def cosine(one: Sequence[float] | np.ndarray | None, other: np.ndarray | None) -> float | None:
    """Of two vectors of length 1; None where one is not known."""
    import numpy as np

    return None if one is None or other is None else round(float(np.dot(np.asarray(one), other)), 4)
