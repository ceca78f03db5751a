"""Image files by the hash of their content: checked, stripped of metadata, written whole or not at all.

Owns ``HOME/media``. Knows nothing of rows, trees or tools. Everything that comes in is untrusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from studio import StudioError

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif"}
MIMES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
MAX_PIXELS = 40_000_000
MAX_BYTES = 20 * 2**20
HASH = re.compile(r"[0-9a-f]{64}")
# what a clean file's header may carry: geometry and colour, nothing that tells of a person, a place or a program
CLEAN_INFO = {"dpi", "jfif", "jfif_version", "jfif_unit", "jfif_density", "gamma", "srgb", "transparency", "interlace",
              "aspect", "chromaticity", "progressive", "progression", "background", "timestamp", "duration", "loop", "version",
              "compression", "default_image"}  # fmt: skip


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
        animations reduced to their first frame (as PNG).

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
            kind = picture.format or ""
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
            extension = EXTENSIONS[picture.format or ""]
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
                small.save(out, "WEBP", quality=82)
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
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
        raise StudioError(
            f"{label} is broken and cannot be read ({str(error)[:80]}). Save it again, or take another."
        ) from error


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def _is_clean(picture: Image.Image, data: bytes) -> bool:
    # Pillow puts what it finds beside the pixels into info; app markers and comments of a JPEG are listed apart
    markers = {name for name, _ in getattr(picture, "applist", [])} - {"APP0", "APP14"}
    return (
        not set(picture.info) - CLEAN_INFO
        and not markers
        and getattr(picture, "n_frames", 1) == 1
        and picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA")
        and not picture.getexif()
        and _ends_cleanly(picture.format or "", data)
    )


def _ends_cleanly(kind: str, data: bytes) -> bool:
    """Nothing behind the picture's own end: what is there could be a second file."""
    if kind == "PNG":
        return data.endswith(b"IEND\xaeB`\x82") and data.count(b"IEND\xaeB`\x82") == 1
    if kind == "JPEG":
        return data.endswith(b"\xff\xd9") and data.count(b"\xff\xd8\xff") == 1
    if kind == "WEBP":
        return len(data) == int.from_bytes(data[4:8], "little") + 8
    return data.endswith(b"\x00;") and data.count(b"\x00;\x00") == 0


def _drawn_again(picture: Image.Image) -> tuple[bytes, str, tuple[int, int]]:
    kind = "PNG" if picture.format == "GIF" or getattr(picture, "n_frames", 1) > 1 else str(picture.format)
    picture.seek(0)
    upright = ImageOps.exif_transpose(picture)
    mode = "RGBA" if _transparent(upright) and kind != "JPEG" else "L" if upright.mode in ("L", "1") else "RGB"
    clean = upright.convert(mode)
    bare = Image.new(mode, clean.size)  # a new image carries no info at all
    bare.paste(clean)
    out = io.BytesIO()
    settings = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "method": 4}, "PNG": {}}[kind]
    bare.save(out, kind, **settings)
    return out.getvalue(), kind, bare.size
