"""What one picture file says: its content's hash, size, name in words, EXIF and XMP text, sidecar files, and how it looks.

Nothing that comes in is trusted: files are bounded before they are read, decoded small, and every text is cut.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import io
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from backends import BackendError
from backends.images.files import BROKEN, FORMATS, MAX_BYTES, MAX_PIXELS
from backends.retrieve.folder import sidecar_names

MAX_TEXT = 4_000  # characters kept of one text
MAX_SIDECAR = 256 * 2**10
BOMB = f"over {MAX_PIXELS // 10**6} megapixels once unpacked"
SMALL = (128, 128)  # a JPEG is decoded no larger than it must be for the hash of its looks
FLAT = 12  # of 64 bits: a hash with fewer set, or fewer clear, is that of a picture without shapes, and says nothing
EXIF_TEXT = {270: "ImageDescription", 315: "Artist", 33432: "Copyright", 40091: "XPTitle", 40092: "XPComment", 40094: "XPKeywords",
             40095: "XPSubject"}  # fmt: skip
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
INFO_TEXT = ("Title", "Description", "Author", "Comment", "comment", "Copyright")
XMP_TEXT = re.compile(r"<dc:(title|description|subject|creator|rights)\b[^>]{0,500}>(.{0,8000}?)</dc:\1>", re.DOTALL)
TAG = re.compile(r"<[^>]{0,2000}>")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
SAID = {  # what a sidecar may call it
    "caption": ("caption", "description", "title", "text", "alt", "prompt"),
    "tags": ("tags", "keywords"),
    "licence": ("licence", "license", "rights"),
    "author": ("author", "creator", "artist"),
    "source_url": ("source_url", "source", "url"),
}


class Unusable(BackendError):
    """A file that no picture can be had from; the message is the reason, the same for all files of its kind."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file. ``looks``: 64 bits as a signed integer, alike for pictures that look alike; None: not known."""

    sha256: str
    width: int
    height: int
    bytes: int
    name: str
    caption: str = ""
    said: str = ""
    licence: str = ""
    author: str = ""
    source_url: str = ""
    looks: int | None = None
    problem: str = ""

    @property
    def text(self) -> str:
        """What the meaning is taken from; '' when nothing but a number is known."""
        name = " ".join(w for w in self.name.split() if len(w) > 2 and w.isalpha())
        return ". ".join(t for t in (self.caption, self.said, name) if t)[:1_000]


def facts(path: Path, below: str) -> Facts:
    """Read one file. ``below`` is its path under the folder, from which its name in words is made.

    Raises:
        Unusable: too large, no picture, broken, or may not be read.
    """
    data = whole(path)
    with _opened(data) as picture:
        size, said = picture.size, _said(picture)
        picture.draft("L", SMALL)
        picture.load()
        alike = _looks(picture)
    beside, problem = _sidecars(path)
    licence, author = (beside.get(k) or said.pop(k, "") for k in ("licence", "author"))
    words = joined([*said.values(), beside.get("tags", "")])
    return Facts(
        hashlib.sha256(data).hexdigest(), *size, len(data), name_in_words(below), beside.get("caption", ""), words,
        licence, author, beside.get("source_url", ""), alike, problem,
    )  # fmt: skip


def whole(path: Path) -> bytes:
    """The bytes of a file of at most 20 MB that is no link. Raises Unusable."""
    return _bytes(path, MAX_BYTES)


def small(data: bytes, side: int) -> bytes:
    """A picture as a WEBP of at most ``side`` x ``side`` pixels, upright, without what its file says. Raises Unusable."""
    with _opened(data) as picture:
        picture.draft("RGB", (2 * side, 2 * side))
        plain = _shallow(picture)
        clear = plain.mode in ("RGBA", "LA", "PA") or "transparency" in plain.info
        made = plain.convert("RGBA" if clear else "RGB")
        made.thumbnail((side, side), Image.Resampling.BILINEAR)
        upright = ImageOps.exif_transpose(made)
        upright.info = {}
        out = io.BytesIO()
        upright.save(out, "WEBP", quality=80, method=0)
        return out.getvalue()


def looks(data: bytes) -> int | None:
    """How a picture file looks, as in ``Facts``. Raises Unusable."""
    with _opened(data) as picture:
        picture.draft("L", SMALL)
        picture.load()
        return _looks(picture)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A picture within limits; every way in which Pillow gives up on bad bytes, also while it is used, as an Unusable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:  # the header tells, before anything is decoded
                    raise Unusable(BOMB)
                yield picture
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unusable(BOMB) from error
    except UnidentifiedImageError as error:
        raise Unusable("no PNG, JPEG, WEBP or GIF, whatever its name says") from error
    except BROKEN as error:
        raise Unusable("broken, and cannot be read to its end") from error


def name_in_words(below: str) -> str:
    """``holiday/IMG_redCar2.jpg`` as ``holiday IMG red Car 2``."""
    return clean(CAMEL.sub(" ", re.sub(r"[\W_]+", " ", os.path.splitext(below)[0])))


def clean(text: str) -> str:
    """One line of printable characters, at most ``MAX_TEXT``."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * MAX_TEXT]).split())[:MAX_TEXT]


def joined(texts: Iterable[str]) -> str:
    """Texts without those that say the same again."""
    return clean(" · ".join(dict.fromkeys(t for t in texts if t)))


def _bytes(path: Path, most: int) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Unusable(f"cannot be opened ({error.strerror or 'no reason told'})") from error
    if len(data) > most:
        raise Unusable(f"over {most // 2**20} MB")
    return data


# ---- what the file itself says


def _said(picture: Image.Image) -> dict[str, str]:
    """Texts by where they stand; ``licence`` and ``author`` where they are told. A broken block of text is no broken picture."""
    found: dict[str, str] = {}
    exif: Mapping[int, Any] = {}
    try:
        read = picture.getexif()
        exif = {**read, USER_COMMENT: read.get_ifd(EXIF_IFD).get(USER_COMMENT)}
    except BROKEN:
        pass
    for tag, name in EXIF_TEXT.items():
        found[name] = _text(exif.get(tag), wide=name.startswith("XP"))
    found["UserComment"] = _comment(exif.get(USER_COMMENT))
    found |= {f"info {name}": _text(picture.info.get(name)) for name in INFO_TEXT}
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    plain = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp)
    found |= {f"xmp {name}": clean(unescape(TAG.sub(" ", inner))) for name, inner in XMP_TEXT.findall(plain[:200_000])}
    found["author"] = found.pop("Artist") or found.pop("info Author") or found.pop("xmp creator", "")
    found["licence"] = found.pop("Copyright") or found.pop("info Copyright") or found.pop("xmp rights", "")
    return {k: v for k, v in found.items() if v}


def _text(value: Any, wide: bool = False) -> str:
    if isinstance(value, tuple) and all(isinstance(v, int) and 0 <= v < 256 for v in value):
        value = bytes(value)
    if isinstance(value, bytes):
        value = value[: 4 * MAX_TEXT].decode("utf-16-le" if wide else "utf-8", "replace")
    return clean(value) if isinstance(value, str) else ""


def _comment(value: Any) -> str:
    """EXIF's user comment: eight bytes that name the alphabet, then the text."""
    if not isinstance(value, bytes):
        return _text(value)
    alphabet, text = value[:8].rstrip(b"\x00 "), value[8:]
    if alphabet == b"UNICODE":
        big = text[:2] == b"\xfe\xff" or (text[:2] != b"\xff\xfe" and text[:1] == b"\x00")
        return clean(text[: 4 * MAX_TEXT].decode("utf-16-be" if big else "utf-16-le", "replace").lstrip("\ufeff"))
    return _text(text if alphabet in (b"ASCII", b"JIS", b"") else value)


# ---- what stands beside it


def _sidecars(path: Path) -> tuple[dict[str, str], str]:
    """What the sidecar files say, and what is wrong with them ('' when nothing is)."""
    found: dict[str, str] = {}
    problem = ""
    for name in sidecar_names(path.name):
        beside = path.with_name(name)
        if not beside.is_file():
            continue
        try:
            said = _sidecar(name, _bytes(beside, MAX_SIDECAR).decode("utf-8-sig"))
        except (Unusable, ValueError, RecursionError):  # no text, no JSON, too large
            problem = "taken, but its sidecar file cannot be read"
            continue
        for key, text in said.items():
            found[key] = joined([found[key], text]) if key == "caption" and key in found else text
    return found, problem


def _sidecar(name: str, text: str) -> dict[str, str]:
    if not name.endswith(".json"):
        return {"caption": clean(text)}
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError("no object")
    found = {key: next((t for n in names if (t := _words(said.get(n)))), "") for key, names in SAID.items()}
    return {key: text for key, text in found.items() if text}


def _words(value: Any) -> str:
    if isinstance(value, list):
        return clean(", ".join(v for v in value[:100] if isinstance(v, str)))
    return clean(value) if isinstance(value, str) else ""


# ---- how it looks


@functools.cache
def can_compare() -> bool:
    """Whether pictures can be compared by their looks: the package imagehash is there. Does not import it."""
    return importlib.util.find_spec("imagehash") is not None


def _looks(picture: Image.Image) -> int | None:
    """A perceptual hash (DCT of 32 x 32 greys, 64 bits; imagehash.phash)."""
    if not can_compare():
        return None
    import imagehash
    import numpy as np

    bits = imagehash.phash(_grey(picture)).hash.ravel()
    if not FLAT <= int(bits.sum()) <= 64 - FLAT:
        return None
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def _grey(picture: Image.Image) -> Image.Image:
    if picture.mode == "L":
        return picture
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("L")
    return _shallow(picture).convert("L")


def _shallow(picture: Image.Image) -> Image.Image:
    """A picture of 16 bits a channel with its high ones: convert() would clip it to white."""
    if picture.mode != "I;16":
        return picture
    return Image.frombytes("L", picture.size, picture.tobytes()[1::2])
