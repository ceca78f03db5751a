"""Image files by the hash of their content: checked, stripped of metadata, written whole or not at all.

Owns ``HOME/media``. Knows nothing of rows, trees or tools. Everything that comes in is untrusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import struct
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from studio import StudioError

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif"}
MIMES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
MAX_PIXELS = 40_000_000
MAX_BYTES = 20 * 2**20
HASH = re.compile(r"[0-9a-f]{64}")
# What a clean file may be made of: pixels, geometry and colour, nothing that tells of a person, a place or a program.
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"bKGD", b"sBIT", b"IDAT", b"IEND"}
WEBP_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
JPEG_APPS = {0xE0: 16, 0xEE: 14}  # JFIF without a thumbnail, Adobe's colour transform: marker -> size of the segment
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError, struct.error)
NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # past the pixels: no stuffed byte, no restart
UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
           5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored image: hash of its bytes, type, size in pixels and bytes, and where it is."""

    sha256: str
    mime: str
    width: int
    height: int
    bytes: int
    path: Path


class Media:
    """``HOME/media/ab/<sha256>.<ext>`` and thumbnails in ``HOME/media/.thumbs``. Safe from many threads and processes."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "media"

    def add(self, data: bytes, name: str = "") -> Stored:
        """Check and store an image; the same content is stored once.

        A clean file (still, upright, sRGB, no metadata, nothing after its end) is kept byte for byte, so adding a stored file
        again gives the same hash. Others are drawn again in their own format: metadata dropped, EXIF orientation applied,
        GIFs and animations as a PNG of their first frame.

        Raises:
            StudioError: no PNG, JPEG, WEBP or GIF; broken; over 40 megapixels or 20 MB; or the disk refuses.
        """
        label = name[:80] or "The picture"
        if len(data) > MAX_BYTES:
            raise StudioError(
                f"{label} has {len(data) / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are taken. Make it smaller."
            )
        with _reading(label), Image.open(io.BytesIO(data), formats=list(EXTENSIONS)) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:  # the header tells, before anything is decoded
                raise StudioError(
                    f"{label} has {width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS // 10**6} are taken. Make it smaller."
                )
            kind = _kind(picture)
            picture.load()
            if not _is_clean(picture, data):
                data, kind, (width, height) = _drawn_again(picture)
        extension = EXTENSIONS[kind]
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest[:2] / f"{digest}.{extension}"
        if not path.exists():
            write_whole(path, data)
        return Stored(digest, MIMES[extension], width, height, len(data), path)

    def add_verbatim(self, data: bytes, sha256: str) -> None:
        """Store a file that another studio had stored, byte for byte.

        Raises:
            StudioError: its content is not what its hash says, or it is no picture that ``add`` would take.
        """
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StudioError(
                f"The picture {sha256[:12]} is damaged: its content is not what its hash says. Get the file again."
            )
        with _reading(f"The picture {sha256[:12]}"), Image.open(io.BytesIO(data), formats=list(EXTENSIONS)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise StudioError(f"The picture {sha256[:12]} has over {MAX_PIXELS // 10**6} megapixels.")
            picture.load()
            extension = EXTENSIONS[_kind(picture)]
        write_whole(self.folder / sha256[:2] / f"{sha256}.{extension}", data)

    def path(self, sha256: str) -> Path | None:
        """Where an image is, or None: no such file, or not a hash at all (so no path from outside reaches the disk)."""
        if not HASH.fullmatch(sha256):
            return None
        candidates = (self.folder / sha256[:2] / f"{sha256}.{e}" for e in MIMES)
        return next((p for p in candidates if p.is_file() and not p.is_symlink()), None)

    def thumbnail(self, sha256: str, size: int = 320) -> Path:
        """A WEBP that fits ``size`` x ``size`` pixels, made once. Raises StudioError when the image is not there."""
        source = self.path(sha256)
        if source is None:
            raise StudioError(f"No picture has the hash {sha256[:16]!r}. Import it again with its folder of pictures.")
        target = self.folder / ".thumbs" / f"{sha256}-{size}.webp"
        if not target.exists():
            with _reading(source.name), Image.open(source, formats=list(EXTENSIONS)) as picture:
                picture.draft("RGB", (size, size))
                small = picture.convert("RGBA" if _transparent(picture) else "RGB")
                small.thumbnail((size, size))
                out = io.BytesIO()
                small.save(out, "WEBP", quality=82, method=0)  # three times as quick for 4 % more bytes
            write_whole(target, out.getvalue())
        return target

    def verify(self, sha256: str) -> bool:
        """Whether the file is there and still has the content its name says."""
        path = self.path(sha256)
        return path is not None and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old state or the new one: temp file, fsync, rename, fsync of the folder.

    Raises:
        StudioError: the disk is full or cannot be written; nothing is left behind.
    """
    temp = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temp = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if temp:
            with contextlib.suppress(OSError):
                os.unlink(temp)
        raise StudioError(f"Cannot write {path.name} into {path.parent}: {error.strerror or error}. Free some space, or choose "
                          "another folder with --home. Nothing else was changed.") from error  # fmt: skip


@contextlib.contextmanager
def _reading(label: str) -> Iterator[None]:
    """Every way in which Pillow gives up on bad bytes, as one line; its own bomb warning is an error too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise StudioError(f"{label} is far too large once unpacked ({error}). Make it smaller.") from error
    except UnidentifiedImageError as error:
        raise StudioError(
            f"{label} is no PNG, JPEG, WEBP or GIF, whatever its name says. Save it as one of these."
        ) from error
    except BROKEN as error:
        raise StudioError(
            f"{label} is broken and cannot be read ({str(error)[:80]}). Save it again, or take another."
        ) from error


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def _kind(picture: Image.Image) -> str:
    return "JPEG" if picture.format == "MPO" else str(picture.format)  # a phone's photo with a second one behind it


def _is_clean(picture: Image.Image, data: bytes) -> bool:
    return picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA") and _made_of_pixels(_kind(picture), data)


def _made_of_pixels(kind: str, data: bytes) -> bool:
    """Whether every byte belongs to a known harmless piece, up to the picture's own end: behind it could be a second file.

    A GIF is never: it may hold comments and frames, and its first frame loses nothing as a PNG.
    """
    if kind == "PNG":
        return _png_end(data) == len(data)
    if kind == "WEBP":
        return _webp_end(data) == len(data) == int.from_bytes(data[4:8], "little") + 8
    return kind == "JPEG" and _jpeg_end(data) == len(data)


def _png_end(data: bytes) -> int:
    at = 8  # behind the signature; a chunk is size, name, content, checksum
    while (name := data[at + 4 : at + 8]) in PNG_CHUNKS:
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if name == b"IEND":
            return at
    return -1


def _webp_end(data: bytes) -> int:
    at = 12  # behind RIFF, size, WEBP; a chunk is name, size, content, made even
    while data[at : at + 4] in WEBP_CHUNKS:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return at


def _jpeg_end(data: bytes) -> int:
    at = 2  # behind the start; a segment is ff, marker, size (of itself and what follows)
    while data[at : at + 1] == b"\xff" and at + 1 < len(data):
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xD9:
            return at + 2
        known = marker == 0xFF or 0xC0 <= marker <= 0xCF or 0xDA <= marker <= 0xDF
        if not known and JPEG_APPS.get(marker) != size:
            return -1
        at += 1 if marker == 0xFF else 2 + size  # ff may be repeated before a marker
        if marker == 0xDA:
            found = NEXT_MARKER.search(data, at)
            at = found.start() if found else len(data)
    return -1


def _drawn_again(picture: Image.Image) -> tuple[bytes, str, tuple[int, int]]:
    kind = _kind(picture)
    if kind == "GIF" or (kind != "JPEG" and getattr(picture, "is_animated", False)):
        kind = "PNG"
    turn = UPRIGHT.get(picture.getexif().get(0x0112, 1))
    picture.seek(0)
    if picture.mode == "I;16":  # convert() would clip to white: keep the high bytes
        clean = Image.frombytes("L", picture.size, picture.tobytes()[1::2])
    else:
        plain = "L" if picture.mode in ("L", "1") else "RGB"
        clean = picture.convert("RGBA" if _transparent(picture) and kind != "JPEG" else plain)
    if turn is not None:
        clean = clean.transpose(turn)
    clean.info.clear()  # no comment, profile or EXIF is written
    out = io.BytesIO()
    settings = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "method": 4}, "PNG": {}}[kind]
    clean.save(out, kind, **settings)
    return out.getvalue(), kind, clean.size
