"""Pictures from bytes and back: upright, 8 bits a channel, within limits. Nothing that comes in is trusted; nothing is kept."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from backends import BackendError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
MAX_PIXELS = 40_000_000
MAX_BYTES = 20 * 2**20
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError, struct.error)
# each is smaller than the one before; transparency leaves only the second kind
SETTINGS: dict[str, list[tuple[str, dict[str, int]]]] = {
    "PNG": [("PNG", {}), ("WEBP", {"quality": 95, "method": 2})],
    "JPEG": [("JPEG", {"quality": q, "subsampling": 0}) for q in (95, 90, 80)],
}

Find = Callable[[str], Image.Image]


@dataclass(frozen=True, slots=True)
class Edited:
    """A new picture: the bytes of its file, type, size in pixels, and what the person should know of how it was made."""

    data: bytes
    mime: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


def opened(data: bytes) -> tuple[Image.Image, str, tuple[str, ...]]:
    """The picture in a file as RGB or RGBA, turned upright; its own kind of file for the result; what was left out of it.

    16 bits a channel become 8 (the high ones); of an animation the first frame is taken.

    Raises:
        BackendError: no PNG, JPEG, WEBP or GIF; broken; over 40 megapixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                fits(*picture.size, "The picture")  # the header tells, before anything is decoded
                notes = _left_out(picture)
                kind = "JPEG" if picture.format in ("JPEG", "MPO") else "PNG"
                picture.seek(0)
                upright = plain(picture)
                ImageOps.exif_transpose(upright, in_place=True)  # most need no turn, and then no copy
                return upright, kind, notes
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BackendError(f"The picture is far too large once unpacked ({error}). Make it smaller.") from error
    except UnidentifiedImageError as error:
        raise BackendError("The file is no PNG, JPEG, WEBP or GIF, whatever its name says. Take another.") from error
    except BROKEN as error:
        raise BackendError(f"The picture is broken and cannot be read ({str(error)[:80]}). Take another.") from error


def _left_out(picture: Image.Image) -> tuple[str, ...]:
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    animated = (f"Only the first of {frames} frames was taken.",) if frames > 1 else ()
    return animated + (("Its 16 bits a channel became 8.",) if picture.mode.startswith("I;16") else ())


def plain(picture: Image.Image) -> Image.Image:
    """Any picture as RGB, or RGBA where it has transparency. A copy, except where it is that already."""
    if picture.mode in ("RGB", "RGBA"):
        picture.load()
        return picture
    if picture.mode.startswith("I;16"):  # convert() would clip to white: keep the high bytes
        high = slice(0, None, 2) if picture.mode == "I;16B" else slice(1, None, 2)
        shallow = Image.frombytes("L", picture.size, picture.tobytes()[high]).convert("RGB")
        shallow.info = dict(picture.info)
        shallow.getexif().load(picture.getexif().tobytes())
        return shallow
    clear = picture.mode in ("LA", "PA", "La", "RGBa") or "transparency" in picture.info
    return picture.convert("RGBA" if clear else "RGB")


def fits(width: int, height: int, what: str) -> None:
    """Raise BackendError when a size is zero or over 40 megapixels."""
    if width < 1 or height < 1:
        raise BackendError(f"{what} would have {width} x {height} pixels: nothing is left. Choose a larger part.")
    if width * height > MAX_PIXELS:
        raise BackendError(
            f"{what} has {width} x {height} pixels, {width * height / 1e6:.0f} million; at most {MAX_PIXELS // 10**6} are taken. Make it smaller."
        )


def written(picture: Image.Image, kind: str = "PNG", notes: tuple[str, ...] = ()) -> Edited:
    """A picture as the bytes of a file without metadata: as ``kind`` while that keeps under 20 MB.

    A larger PNG is written as a WEBP of high quality and a larger JPEG more tightly; the notes say so. Alpha that is opaque
    everywhere is dropped; a picture with transparency is never a JPEG.

    Raises:
        BackendError: no way of writing it keeps under 20 MB.
    """
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    picture.info = {}  # no comment, profile or EXIF is written
    tries = SETTINGS["PNG" if picture.mode == "RGBA" else kind]
    if max(picture.size) > 16_383:  # more than a WEBP can have
        tries = [t for t in tries if t[0] != "WEBP"] + (SETTINGS["JPEG"] if picture.mode == "RGB" else [])
    for attempt, (form, settings) in enumerate(tries):
        out = io.BytesIO()
        picture.save(out, form, **settings)
        if out.tell() <= MAX_BYTES:
            tight = (
                (f"Kept as {form} of quality {settings['quality']}: larger than 20 MB otherwise.",) if attempt else ()
            )
            return Edited(out.getvalue(), MIMES[form], *picture.size, notes + tight)
    raise BackendError(
        f"The result has over {MAX_BYTES // 2**20} MB however it is written. Make the picture smaller first."
    )


def smaller(picture: Image.Image, side: int) -> bytes:
    """A picture for the screen, at most ``side`` pixels long: exact while it is small, else a WEBP."""
    exact = max(picture.size) <= side and picture.width * picture.height <= 1_000_000
    if not exact:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    picture.info = {}
    out = io.BytesIO()
    picture.save(out, "PNG" if exact else "WEBP", **({"compress_level": 1} if exact else {"quality": 85, "method": 0}))
    return out.getvalue()
