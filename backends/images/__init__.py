"""Image tools: what changes a picture, without a model, a store or a screen.

An edit is ``{"tool": name, "params": {...}}``, its coordinates in pixels of the upright picture. Edits follow one another:
each sees the picture that the one before it made. The same list can be repeated on any picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from backends.images.checks import MAX_EDITS, Edit, checked, checked_all, words
from backends.images.draw import change
from backends.images.files import MAX_BYTES, MAX_PIXELS, Edited, Find, opened, smaller, written

__all__ = ["MAX_BYTES", "MAX_EDITS", "MAX_PIXELS", "Edit", "Edited", "Find", "apply", "checked", "checked_all", "edited",
           "opened", "smaller", "words", "written"]  # fmt: skip


def edited(picture: Image.Image, edits: Sequence[Mapping[str, Any]], find: Find | None = None) -> Image.Image:
    """The picture after all ``edits``, in RGB or RGBA; the one given stays as it is.

    Raises:
        BackendError: an edit that is none, or does not fit the picture at its point of the list.
    """
    for number, edit in enumerate(checked_all(edits), 1):
        picture = change(picture, edit, find, f"Edit {number} ({edit['tool']})" if len(edits) > 1 else edit["tool"])
    return picture


def apply(
    picture: bytes | Image.Image, edit: Mapping[str, Any] | Sequence[Mapping[str, Any]], find: Find | None = None
) -> Edited:
    """One edit or several on a picture, as the bytes of a new file; ``find`` gives the other pictures of a grid by hash.

    Bytes of a JPEG stay a JPEG while the result has no transparency; all else becomes a PNG. See ``files.written``.

    Raises:
        BackendError: no picture that can be read, an edit that is none, or a result that is too large.
    """
    edits = [edit] if isinstance(edit, Mapping) else list(edit)
    if isinstance(picture, Image.Image):
        return written(edited(picture, edits, find), "PNG")
    *source, kind, notes = opened(picture)
    return written(edited(source.pop(), edits, find), kind, notes)  # popped: 160 MB are free after the first edit
