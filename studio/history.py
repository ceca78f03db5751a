"""How a picture was made, written into a PNG file as text and read back from one. Knows no store and no tools.

What a file says of itself is a claim: it is cut to a fixed shape of short texts, shown as such, and never acted upon.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from studio import StudioError
from studio.media import BROKEN, EXTENSIONS, MAX_PIXELS

KEY = "intermt-studio history"  # the keyword of the text chunk: a JSON list of steps, the oldest source first
TEXTS = ("origin", "tool", "words", "prompt", "size", "source_url", "licence", "made_at")  # of one step
MAX_STEPS, MAX_TEXT, MAX_PARAMS = 50, 500, 15_000  # characters: together under the megabyte of text that Pillow reads
MAX_CHUNKS = 2**20  # bytes in front of the pixels that are looked through
PNG = b"\x89PNG\r\n\x1a\n"


def step(**fields: Any) -> dict[str, Any]:
    """One step of a history: the fields of ``TEXTS`` and ``params``; what is empty is left out.

    Raises:
        TypeError: a field that a step does not have.
    """
    if strange := set(fields) - {*TEXTS, "params"}:
        raise TypeError(f"a step has no {sorted(strange)}")
    return _cleaned(fields)


def with_history(path: Path, steps: Sequence[Mapping[str, Any]]) -> bytes:
    """A stored picture as a PNG that tells how it was made.

    Raises:
        StudioError: the file cannot be read.
    """
    chunks = PngInfo()
    chunks.add_text("Description", "; ".join(s.get("words") or s.get("origin", "") for s in steps)[:2000], zip=False)
    chunks.add_itxt(KEY, json.dumps(list(steps), ensure_ascii=False), zip=True)
    out = io.BytesIO()
    try:
        with Image.open(path, formats=list(EXTENSIONS)) as picture:
            plain = picture.convert("RGB") if picture.mode == "CMYK" else picture
            plain.save(out, "PNG", pnginfo=chunks)
    except BROKEN as error:
        raise StudioError(
            f"The picture {path.stem[:12]} cannot be read ({str(error)[:80]}). Import it again."
        ) from error
    return out.getvalue()


def claimed(data: bytes) -> dict[str, Any]:
    """What a file from outside says of its making, as a column of ``images``: ``{"params": {"history": steps}}``, or nothing.

    Never raises: a file that says nothing, or nonsense, simply has no history.
    """
    if not data.startswith(PNG) or KEY.encode() not in data[:MAX_CHUNKS]:
        return {}
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return {}
            said = json.loads(picture.info.get(KEY, ""))  # in front of the pixels: nothing is decoded for it
    except (UnidentifiedImageError, Image.DecompressionBombError, RecursionError, *BROKEN):
        return {}
    steps = [_cleaned(s) for s in said[:MAX_STEPS] if isinstance(s, dict)] if isinstance(said, list) else []
    steps = [s for s in steps if s]
    return {"params": {"history": steps}} if steps else {}


def _cleaned(said: Mapping[str, Any]) -> dict[str, Any]:
    texts = {
        k: "".join(c for c in v[:MAX_TEXT] if c.isprintable()) for k in TEXTS if isinstance(v := said.get(k), str) and v
    }
    params = said.get("params")
    small = isinstance(params, dict) and params and len(json.dumps(params)) <= MAX_PARAMS
    return texts | ({"params": params} if small else {})
