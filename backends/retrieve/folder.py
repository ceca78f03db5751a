"""What a folder of pictures holds: every file with a stamp that changes when it or what is written beside it does.

Reads names, sizes and times, never a file. Links are not followed, so nothing outside the folder is ever reached.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backends import BackendError

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
OTHER_KINDS = (".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".svg", ".ico", ".psd")
SIDECARS = (".txt", ".json")
MAX_FILES = 200_000  # of one folder: 75 MB of vectors


@dataclass(slots=True)
class Listing:
    """Pictures by their path below the folder (with ``/``) and their stamps; how many entries were passed over, by reason."""

    files: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)


def check(root: Path) -> None:
    """Raise BackendError, with what to do, unless this is a folder that may be read."""
    try:
        with os.scandir(root):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BackendError(
            f"Cannot look into {str(root)[:200]!r}: {why}. Choose a folder that you may read."
        ) from error


def listing(root: Path) -> Listing:
    """Every picture file below ``root``, hidden ones and links left out.

    Raises:
        BackendError: no folder, or one that may not be read.
    """
    check(root)
    found = Listing()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(root / below) as entries:
                waiting += _folder(below, list(entries), found)
        except OSError:
            found.passed["a folder that may not be read"] += 1
    return found


def _folder(below: str, entries: list[os.DirEntry[str]], found: Listing) -> list[str]:
    """Put one folder's pictures into ``found``; returns the folders in it."""
    folders, pictures, beside = [], [], {}
    for entry in entries:
        kind = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            found.passed["a link, which is not followed"] += 1
        elif entry.is_dir(follow_symlinks=False):
            folders.append(f"{below}{entry.name}/")
        elif kind in KINDS and entry.is_file(follow_symlinks=False):
            pictures.append(entry)
        elif kind in SIDECARS and entry.is_file(follow_symlinks=False):
            beside[entry.name] = entry
        elif kind in OTHER_KINDS:
            found.passed["a kind that is not taken"] += 1
    for entry in pictures:
        if len(found.files) == MAX_FILES:
            found.passed[f"more than {MAX_FILES:,} pictures"] += 1
        else:
            found.files[below + entry.name] = _stamp(entry, beside)
    return folders


def _stamp(entry: os.DirEntry[str], beside: Mapping[str, os.DirEntry[str]]) -> str:
    parts = [entry, *(beside[n] for n in sidecar_names(entry.name) if n in beside)]
    try:
        stats = [p.stat(follow_symlinks=False) for p in parts]
    except OSError:  # gone since it was listed: the next look sees it
        return "gone"
    return "+".join(f"{s.st_size:x}.{s.st_mtime_ns:x}" for s in stats)


def sidecar_names(name: str) -> list[str]:
    """The files that may say something of a picture, such as ``a.jpg.txt`` and ``a.txt`` of ``a.jpg``; later ones add to earlier."""
    stem = os.path.splitext(name)[0]
    return [base + kind for kind in SIDECARS for base in (name, stem)]


def inside(root: Path, below: str) -> Path:
    """Where a listed file is now.

    Raises:
        BackendError: it is gone, or by now a link or a changed folder leads out of ``root``.
    """
    path = root / below
    try:
        if path.resolve(strict=True) == root.resolve(strict=True) / below and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError) as error:
        raise BackendError(f"{below[:200]!r} is no longer in {root}. Look through the folder again.") from error
    raise BackendError(
        f"{below[:200]!r} leads out of {root} by a link, and links are not followed. Take the file itself."
    )
