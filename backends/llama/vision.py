"""Images for a model that has an mmproj: pixels in, what the model reads out, by llama.cpp's MTMD.

Owns the projector and the marker that stands for an image in a prompt. Never decides what a dialogue says.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.base import BackendError, Image
from backends.llama.loading import COMPLAINTS, Loaded, check_memory, complaint
from backends.llama.prefix import Portion, portions


class Vision:
    """The projector of one loaded model."""

    def __init__(self, path: Path, loaded: Loaded) -> None:
        """Load ``path``. Raises BackendError: no projector, one for another model, or one that sees nothing."""
        import llama_cpp.mtmd_cpp as mtmd

        self.mtmd: Any = mtmd
        self.loaded, self.path = loaded, path
        check_memory(path.name, path.stat().st_size, "choose a smaller one")
        # nobody can write what nobody can guess, so only our images are images
        self.marker = f"<__media_{secrets.token_hex(8)}__>"
        self._marker = self.marker.encode()
        params = mtmd.mtmd_context_params_default()
        params.print_timings, params.warmup, params.media_marker = False, False, self._marker
        params.n_threads = os.cpu_count() or 2
        COMPLAINTS.clear()
        self.context = mtmd.mtmd_init_from_file(os.fsencode(path), loaded.model, params)
        if not self.context:
            raise BackendError(
                f"llama.cpp cannot use {path} with {loaded.path.name}{complaint()}. Choose the mmproj of that very model."
            )
        self._release = weakref.finalize(self, mtmd.mtmd_free, self.context)
        self._release.atexit = False
        if not mtmd.mtmd_support_vision(self.context):
            self.free()
            raise BackendError(f"{path} reads no images. Choose the mmproj of a model that does.")

    def free(self) -> None:
        """Give the memory back, which also happens when nobody refers to this any more."""
        self._release()
        self.context = None

    def read(self, image: Image) -> Any:
        """The pixels of an image, None when its file is gone. Raises BackendError for a broken one."""
        from PIL import Image as Pillow
        from PIL import ImageOps

        if image.path is None or not image.path.exists():
            return None
        try:
            with Pillow.open(image.path) as opened:
                turned = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, ValueError, Pillow.DecompressionBombError) as error:
            raise BackendError(
                f"The image {image.caption!r} cannot be read: {error}. Take it out of the dialogue."
            ) from error
        return turned

    def portions(self, text: str, images: Sequence[Any], begin: bool) -> list[Portion]:
        """A prompt with markers as portions, each image one of its own. ``begin``: with the beginning-of-text token."""
        mtmd = self.mtmd
        chunks = mtmd.mtmd_input_chunks_init()
        owner = _Chunks()
        weakref.finalize(owner, mtmd.mtmd_input_chunks_free, chunks).atexit = False
        data = text.encode("utf-8", "surrogatepass")
        bitmaps = []
        try:
            for image in images:
                pixels = image.tobytes()
                buffer = (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels)
                bitmaps.append(mtmd.mtmd_bitmap_init(image.width, image.height, buffer))
                name = hashlib.sha256(f"{image.size}".encode() + pixels).hexdigest()
                mtmd.mtmd_bitmap_set_id(bitmaps[-1], name.encode())
            asked = mtmd.mtmd_input_text(text=data, text_len=len(data), add_special=begin, parse_special=True)
            listed = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            COMPLAINTS.clear()
            code = mtmd.mtmd_tokenize(self.context, chunks, ctypes.byref(asked), listed, len(bitmaps))
        finally:
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)
        if code == 1:
            raise BackendError(f"The chat template of {self.loaded.path.name} leaves images out. Choose another model.")
        if code:
            raise BackendError(
                f"{self.path.name} cannot read these images{complaint()}. Take them out, or make them smaller."
            )
        return self._collected(chunks, owner)

    def _collected(self, chunks: Any, owner: _Chunks) -> list[Portion]:
        mtmd = self.mtmd
        found: list[Portion] = []
        for i in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, i)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                size = ctypes.c_size_t()
                tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
                found += portions(tokens[: size.value])
                continue
            name = mtmd.mtmd_input_chunk_get_id(chunk)
            keys = tuple((name, i, j) for j in range(mtmd.mtmd_input_chunk_get_n_tokens(chunk)))
            found.append(Portion(keys, mtmd.mtmd_input_chunk_get_n_pos(chunk), _Reader(self, chunk, owner)))
        return found


class _Chunks:
    """What keeps a prompt's chunks in memory; llama.cpp's are freed with it."""


class _Reader:
    """Encodes one image and reads it into sequence 0, once."""

    def __init__(self, vision: Vision, chunk: Any, owner: _Chunks) -> None:
        self.vision, self.chunk, self.owner = vision, chunk, owner

    def __call__(self, position: int) -> int:
        end = self.vision.loaded.lib.llama_pos(0)
        context, batch = self.vision.loaded.context, self.vision.loaded.lib.llama_n_batch(self.vision.loaded.context)
        return int(
            self.vision.mtmd.mtmd_helper_eval_chunk_single(
                self.vision.context, context, self.chunk, position, 0, batch, False, ctypes.byref(end)
            )
        )
