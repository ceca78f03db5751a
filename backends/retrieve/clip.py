"""Pictures and texts as directions in one space, by a CLIP model in ONNX: what a picture shows finds it, and so does another picture.

A. Radford and others, "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021. The model is a folder as exported
for Transformers.js (Xenova/clip-vit-base-patch32): ``onnx/vision_model.onnx`` (pixel_values -> image_embeds), ``onnx/text_model.onnx``
(input_ids -> text_embeds), quantised ones as well; ``preprocessor_config.json`` and ``tokenizer.json``. Knows no rows and downloads nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import BackendError
from backends.retrieve import onnx

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

NEEDS = ("onnxruntime", "tokenizers", "numpy")
VARIANTS = (
    "",
    "_quantized",
    "_int8",
    "_uint8",
    "_fp16",
    "_q4",
    "_q4f16",
    "_bnb4",
)  # in this order where there are several
MAX_JSON = 64 * 2**20
MAX_TOKENS = 77  # of CLIP's text encoder
GET_IT = "pip install 'intermt-studio[retrieve]'"
EXPECTED = (
    "A folder with onnx/vision_model.onnx, onnx/text_model.onnx, tokenizer.json and preprocessor_config.json is needed, "
    "such as Xenova/clip-vit-base-patch32."
)
NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32"}


def missing() -> list[str]:
    """The packages that searching by picture lacks here; none is imported."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def found(folder: Path) -> tuple[Path, Path]:
    """The files of the image and the text encoder in a folder; opens neither.

    Raises:
        BackendError: no folder, one that may not be read, or one without them.
    """
    try:
        names = {p.name: p for place in (folder, folder / "onnx") if place.is_dir() for p in sorted(place.iterdir())}
        if not folder.is_dir():
            raise BackendError(f"{str(folder)[:200]!r} is no folder. {EXPECTED}")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BackendError(f"Cannot look into {str(folder)[:200]!r}: {why}. {EXPECTED}") from error
    chosen = [next((names[n] for v in VARIANTS if (n := f"{kind}_model{v}.onnx") in names), None) for kind in ("vision", "text")]  # fmt: skip
    lacking = [f"{kind}_model.onnx" for kind, path in zip(("vision", "text"), chosen, strict=True) if path is None]
    lacking += [name for name in ("tokenizer.json", "preprocessor_config.json") if name not in names]
    if lacking or chosen[0] is None or chosen[1] is None:
        raise BackendError(f"{folder} has no {', '.join(lacking)}. {EXPECTED}")
    return chosen[0], chosen[1]


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is made ready: shorter side, cut from the middle (width, height), mean and deviation a channel."""

    side: int
    cut: tuple[int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def ready(self, picture: Image.Image) -> np.ndarray:
        """A picture as (3, height, width), as transformers' CLIPImageProcessor makes it with Pillow."""
        import numpy as np
        from PIL import Image

        if picture.mode == "RGBA":
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        plain, (width, height) = picture.convert("RGB"), picture.size
        short, long = min(width, height), max(width, height)
        other = min(int(self.side * long / short), 100 * self.side)  # a line of 30,000 x 1 becomes no bomb
        size = (self.side, other) if width <= height else (other, self.side)
        plain = plain.resize(size, Image.Resampling.BICUBIC)
        left, top = ((size[i] - self.cut[i]) // 2 for i in (0, 1))
        plain = plain.crop((left, top, left + self.cut[0], top + self.cut[1]))
        pixels = (np.asarray(plain, np.float32) / 255 - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)  # fmt: skip
        return pixels.transpose(2, 0, 1)


class Clip:
    """Makes vectors of length 1 of pictures and of texts. Loads itself on first use; many threads may use it, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._loaded: tuple[Any, Any, Any, Look] | None = None
        self._key = ""

    @property
    def key(self) -> str:
        """A name of the model by the content of its image encoder: vectors of two are never compared. Raises as ``pictures``."""
        with self._lock:
            if not self._key:
                self._key = _digest(found(self.folder)[0])
            return self._key

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """One vector of length 1 a picture: (pictures, dimensions), float32.

        Raises:
            BackendError: a package or file is missing, or a file is no model or another one.
        """
        import numpy as np

        with self._lock:
            vision, _, _, look = self._models()
            name, kind = vision.get_inputs()[0].name, NUMPY[vision.get_inputs()[0].type]
            rows = [_vector(vision, {name: look.ready(p)[None].astype(kind)}, "image_embeds") for p in pictures]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """One vector of length 1 a text, of which the first 77 tokens count: (texts, dimensions), float32. Raises as ``pictures``."""
        import numpy as np

        with self._lock:
            _, model, tokenizer, _ = self._models()
            rows = [_vector(model, _tokens(model, tokenizer, text), "text_embeds") for text in texts]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def _models(self) -> tuple[Any, Any, Any, Look]:
        if self._loaded is None:
            if lacking := missing():
                raise BackendError(f"Searching by picture needs {', '.join(lacking)}. Get it with: {GET_IT}")
            vision, text = found(self.folder)
            look, tokenizer = _look(self.folder), _tokenizer(self.folder)
            seeing = _encoder(vision, "pixel_values", "image_embeds")
            self._loaded = (seeing, _encoder(text, "input_ids", "text_embeds"), tokenizer, look)
        return self._loaded


def _encoder(path: Path, takes: str, gives: str) -> Any:
    model = onnx.session(path, EXPECTED)
    inputs, outputs = [i.name for i in model.get_inputs()], [o.name for o in model.get_outputs()]
    if takes not in inputs or gives not in outputs or any(i.type not in NUMPY for i in model.get_inputs()):
        raise BackendError(
            f"{path} is no encoder of CLIP: it makes {', '.join(outputs)[:80]} of {', '.join(inputs)[:80]}, not {gives} of {takes}. {EXPECTED}"
        )
    return model


def _vector(model: Any, given: dict[str, Any], gives: str) -> np.ndarray:
    import numpy as np

    made = np.asarray(onnx.run(model, given, gives, EXPECTED), np.float32).ravel()
    length = float(np.linalg.norm(made))
    if not np.isfinite(length) or length == 0:
        raise BackendError(
            f"The CLIP model makes no direction ({length:g}). Its files do not belong together. {EXPECTED}"
        )
    return made / length


def _tokens(model: Any, tokenizer: Any, text: str) -> dict[str, Any]:
    """The inputs of the text encoder; one text at a time, so that nothing is padded except where the model's length is fixed."""
    import numpy as np

    ids = tokenizer.encode(text[:4_000]).ids
    fixed = next(i.shape[-1] for i in model.get_inputs() if i.name == "input_ids")
    pad = max(0, fixed - len(ids)) if isinstance(fixed, int) else 0
    rows = {"input_ids": ids + ids[-1:] * pad, "attention_mask": [1] * len(ids) + [0] * pad}
    return {i.name: np.array([rows[i.name]], NUMPY[i.type]) for i in model.get_inputs() if i.name in rows}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror or error}. {EXPECTED}") from error


# ---- the two files beside the encoders


def _said(folder: Path, name: str) -> dict[str, Any]:
    path = next((p for p in (folder / name, folder / "onnx" / name) if p.is_file()), folder / name)
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"over {MAX_JSON // 2**20} MB")
        said = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError(f"{path} cannot be read ({str(error)[:80]}). {EXPECTED}") from error
    return said


def _look(folder: Path) -> Look:
    said = _said(folder, "preprocessor_config.json")
    try:
        size, cut = said.get("size", 224), said.get("crop_size", 224)
        side = size if isinstance(size, int) else size.get("shortest_edge") or min(size["width"], size["height"])
        width, height = (cut, cut) if isinstance(cut, int) else (cut["width"], cut["height"])
        numbers = [tuple(float(v) for v in said[name]) for name in ("image_mean", "image_std")]
        if not all(8 <= v <= 1_024 for v in (side, width, height)) or any(len(n) != 3 for n in numbers) or min(numbers[1]) <= 0:  # fmt: skip
            raise ValueError(f"a side of {side}, a cut of {width} x {height}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackendError(f"preprocessor_config.json in {folder} is not CLIP's ({str(error)[:80]}). {EXPECTED}") from error  # fmt: skip
    return Look(int(side), (int(width), int(height)), *numbers)


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    said = _said(folder, "tokenizer.json")
    model = said.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise BackendError(f"tokenizer.json in {folder} has no vocabulary. {EXPECTED}")
    made = Tokenizer.from_str(json.dumps(said))
    made.enable_truncation(MAX_TOKENS)
    made.no_padding()
    return made
