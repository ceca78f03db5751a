"""Models that can be downloaded, from ``assets/catalogue.json``, and which of their files are on this machine.

Owns that list, where its files lie (``HOME/models/<owner>--<name>/``) and the record of what was verified there. Never
contacts anybody: ``studio.downloads`` does. ``memory_bytes`` is an estimate: the files, a context of 8,192 tokens, 0.3 GB; of
models that draw, four bytes a published parameter, which is what they take on a processor, and half of it on a GPU.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

RECORD = ".studio.json"  # beside the files: what was verified, and when all that belongs to a model is there
PART = ".part"
ROOM = 1.2  # memory over the files of a GGUF that is not measured
TIGHT, FULL = 0.7, 0.95  # of the machine's memory: above the first it is tight, above the second it does not fit


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue. Sizes in bytes, None where nobody measured; ``file`` empty: all that transformers reads."""

    name: str
    repository: str
    backend: str
    file: str = ""
    mmproj: str = ""
    parts: tuple[str, ...] = ()  # further files, such as the two encoders of CLIP
    size_bytes: int | None = None
    memory_bytes: int | None = None
    images: bool = False
    context: int | None = None
    licence: str = ""
    called: str = ""  # in the list, where the person gave it a name
    tasks: tuple[str, ...] = ()  # of a model that draws
    defaults: dict[str, Any] = field(default_factory=dict)  # what it is drawn with, where its files do not tell

    @property
    def files(self) -> tuple[str, ...]:
        """The files it is made of; none: whatever the hub lists and transformers reads."""
        return tuple(f for f in (self.file, self.mmproj, *self.parts) if f)


@functools.cache
def entries() -> tuple[Entry, ...]:
    """The whole catalogue, in its own order."""
    rows = json.loads(files("assets").joinpath("catalogue.json").read_text(encoding="utf-8"))
    return tuple(Entry(**row | {name: tuple(row.get(name, ())) for name in ("tasks", "parts")}) for row in rows)


def fetched(home: Path) -> list[Entry]:
    """What lies whole in ``HOME/models`` beside the models of the catalogue: whole repositories, and single GGUF files."""
    found, known = [], {(e.repository, e.files) for e in entries()}
    for where in sorted(p for p in (home / "models").glob("*--*") if p.is_dir()):
        repository, kept = where.name.replace("--", "/", 1), record(where)
        ggufs = sorted(name for name in kept["files"] if name.endswith(".gguf"))
        eyes = next((name for name in ggufs if "mmproj" in name), "")
        made = [own(repository, name, eyes) for name in ggufs if name != eyes]
        made += [own(repository)] if {"config.json", "model_index.json"} & set(kept["files"]) else []
        listed = {f for e in entries() if e.repository == repository for f in e.files}
        found += [e for e in made if (e.repository, e.files) not in known and e.file not in listed and here(home, e)]
    return found


def own(repository: str, file: str = "", mmproj: str = "", called: str = "") -> Entry:
    """A model of the hub that is in no catalogue: all that transformers reads of it, or one GGUF with its mmproj."""
    name = f"{repository}/{file}" if file else repository
    return Entry(
        name, repository, "llama" if file else "transformers", file, mmproj, images=bool(mmproj), called=called
    )


def folder(home: Path, repository: str) -> Path:
    """Where the files of a repository lie, there or not."""
    return home / "models" / repository.replace("/", "--")


def record(where: Path) -> dict[str, Any]:
    """What was verified in a folder: ``files`` (name -> size and sha256) and ``whole``; empty when nothing was."""
    try:
        found = json.loads((where / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"files": {}, "whole": False}
    known = found.get("files") if isinstance(found, dict) else None
    return (
        {"files": known, "whole": bool(found.get("whole"))}
        if isinstance(known, dict)
        else {"files": {}, "whole": False}
    )


def write_record(where: Path, known: dict[str, Any]) -> None:
    """Keep what ``record`` reads. Raises OSError."""
    temp = where / f"{RECORD}.new"
    temp.write_text(json.dumps(known, indent=1), encoding="utf-8")
    os.replace(temp, where / RECORD)


def verified(where: Path, name: str, known: dict[str, Any]) -> bool:
    """Whether a file is there with the size it had when it was verified."""
    try:
        return (where / name).stat().st_size == known["files"][name]["size"]
    except (OSError, KeyError, TypeError):
        return False


def here(home: Path, entry: Entry) -> bool:
    """Whether all files of a model are on this machine, verified."""
    where = folder(home, entry.repository)
    known = record(where)
    if not entry.files and not known["whole"]:
        return False
    return all(verified(where, name, known) for name in entry.files or known["files"])


def kept_bytes(home: Path, entry: Entry) -> int:
    """Bytes of a model that are on the disk, parts of files included."""
    where = folder(home, entry.repository)
    wanted = {n for f in entry.files for n in (f, f + PART)}
    try:
        return sum(
            p.stat().st_size
            for p in where.rglob("*")
            if p.is_file() and (not wanted or p.relative_to(where).as_posix() in wanted)
        )
    except OSError:
        return 0


def machine_bytes() -> int | None:
    """Memory of this machine; None where it does not tell."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def needed_bytes(home: Path, entry: Entry) -> int | None:
    """Memory that a model needs; from its files once they are here, where the catalogue has no estimate."""
    if entry.memory_bytes or not here(home, entry):
        return entry.memory_bytes
    # transformers computes in 32 bits on a processor, twice what the files hold
    return round(kept_bytes(home, entry) * (ROOM if entry.backend == "llama" else 2 * ROOM))


def fit(needed: int | None, machine: int | None) -> str:
    """'fits', 'tight', 'does not fit', or '' when one of the two is unknown."""
    if not needed or not machine:
        return ""
    return "fits" if needed <= TIGHT * machine else "tight" if needed <= FULL * machine else "does not fit"
