"""Our own format: ``studio.jsonl`` (a header line, then a tree a line) and ``media/``, in one zip or one folder. No loss.

Written whole or not at all; read without ever unpacking a name that the file gives.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from studio import StudioError, __version__
from studio.exchange.records import Report, expect
from studio.media import EXTENSIONS, MAX_BYTES, Media
from studio.store import Store, now

FORMAT, VERSION = "intermt-studio", 1
LINES = "studio.jsonl"
JUDGEMENTS = ("scores", "comparisons", "feedback", "crucial_steps")
MAX_LINE = 256 * 2**20  # bytes: a tree of a million words
PICTURE = re.compile(rf"media/([0-9a-f]{{64}})\.({'|'.join(EXTENSIONS.values())})")
Progress = Callable[[int, int | None, str], None]


class Source(Protocol):
    """Where a file's lines and pictures are read from: a zip or a folder."""

    def lines(self) -> contextlib.AbstractContextManager[IO[bytes]]: ...

    def picture(self, sha256: str) -> bytes | None: ...


class ZipSource:
    """A zip; only ``studio.jsonl`` and ``media/<hash>.<ext>`` are ever looked at."""

    def __init__(self, path: Path) -> None:
        """Raises StudioError when it is no whole zip, or not one of ours."""
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise StudioError(f"{path.name} is no whole zip file ({error}). Was it cut short? Get it again.") from error
        self.name = path.name
        self.pictures = {m[1]: i for i in self.zip.infolist() if (m := PICTURE.fullmatch(i.filename))}
        if LINES not in self.zip.namelist():
            raise StudioError(f"{path.name} has no {LINES}: it was not exported by a studio.")

    def lines(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self.zip.open(LINES)

    def picture(self, sha256: str) -> bytes | None:
        info = self.pictures.get(sha256)
        if info is None:
            return None
        if info.file_size > MAX_BYTES:
            raise StudioError(
                f"{self.name}: the picture {sha256[:12]} unpacks to over {MAX_BYTES // 2**20} MB. It is no file of ours."
            )
        with self.zip.open(info) as file:
            return file.read(MAX_BYTES + 1)


class FolderSource:
    """A folder with ``studio.jsonl`` and ``media/``, or the ``.jsonl`` file itself."""

    def __init__(self, path: Path) -> None:
        self.file = path / LINES if path.is_dir() else path

    def lines(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        try:
            return self.file.open("rb")
        except OSError as error:
            raise StudioError(f"Cannot read {self.file}: {error.strerror}.") from error

    def picture(self, sha256: str) -> bytes | None:
        for extension in EXTENSIONS.values():
            path = self.file.parent / "media" / f"{sha256}.{extension}"
            if path.is_file() and not path.is_symlink():
                return path.read_bytes()
        return None


def fits(path: Path) -> bool:
    """Whether a path looks like an export of a studio."""
    if path.is_dir():
        return (path / LINES).is_file()
    if path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return f'"{FORMAT}"'.encode() in file.read(200)


def read(
    store: Store, media: Media, path: Path, skip_bad: bool, progress: Progress, report: Report, annotator: str = ""
) -> None:
    """Bring every tree in, one transaction each; what is here already is merged, pictures are checked against their hash.

    With ``skip_bad`` a judgement that says something impossible is left out, and the rest of its tree comes in.
    ``annotator``: who imports it; judges of others get their maker's name.

    Raises:
        StudioError: naming the file and line; the trees before it stay imported, of the broken one nothing.
    """
    source = ZipSource(path) if path.suffix.lower() == ".zip" else FolderSource(path)
    merged: list[str | None] = []
    with source.lines() as lines:
        sender = ""
        for number, dump in _dumps(path.name, lines):
            if number == 1:
                sender = _sender(dump)
                continue
            where = f"{path.name} line {number}"
            left_out: list[str] | None = [] if skip_bad else None
            try:
                with store.write():
                    merged.append(_load(store, media, source, dump, where, report, left_out, (sender, annotator)))
                report.skipped += left_out or []
            except StudioError as error:
                if not skip_bad:
                    raise
                report.skipped.append(str(error))
            progress(number - 1, None, "trees")
    if report.merged:
        for c in store.conflicts([t for t in merged if t]):
            said = ", ".join(f"{who} {value}" for who, value in sorted(c["scores"].items()))
            report.conflicts.append(f"{c['dimension']} of “{c['text'][:40]}”: {said}")


def write(
    store: Store, media: Media, out: Path, tree_ids: list[str], progress: Progress, report: Report, annotator: str = ""
) -> None:
    """Write trees to ``out``: a zip if it ends in ``.zip``, else a folder. A tree at a time, so memory stays small.

    ``annotator``: who sends it; judges of this home are known by that name where it is read.
    """
    temp = out.with_name(f".{out.name}.new")
    hashes: set[str] = set()  # of the pictures of the trees that were written
    lines = _lines(store, tree_ids, progress, report, hashes, annotator)
    try:
        if out.suffix.lower() == ".zip":
            with zipfile.ZipFile(temp, "w", zipfile.ZIP_DEFLATED) as archive:
                _write_zip(media, archive, lines, hashes, report)
            with temp.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temp, out)
        else:
            _write_folder(media, out, lines, hashes, report)
    except OSError as error:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise StudioError(
            f"Cannot write {out}: {error.strerror or error}. Free some space, or choose another place."
        ) from error


def _lines(
    store: Store, tree_ids: list[str], progress: Progress, report: Report, hashes: set[str], annotator: str
) -> Iterator[str]:
    header = {"format": FORMAT, "version": VERSION, "made_by": __version__, "made_at": now(), "trees": len(tree_ids)}
    yield json.dumps(header | ({"annotator": annotator} if annotator else {})) + "\n"
    for i, tree_id in enumerate(tree_ids):
        dump = store.dump_tree(tree_id)
        hashes |= {row["sha256"] for row in dump["images"]}
        report.trees += 1
        report.nodes += len(dump["nodes"])
        report.scores += len(dump["scores"])
        yield json.dumps(dump, ensure_ascii=False) + "\n"
        progress(i + 1, len(tree_ids), "trees")


def _write_zip(media: Media, archive: zipfile.ZipFile, lines: Iterator[str], hashes: set[str], report: Report) -> None:
    with archive.open(LINES, "w", force_zip64=True) as file:
        for line in lines:
            file.write(line.encode())
    for sha256 in sorted(hashes):
        if path := media.path(sha256):
            archive.write(path, f"media/{path.name}", zipfile.ZIP_STORED)  # pictures are compressed already
            report.images += 1


def _write_folder(media: Media, out: Path, lines: Iterator[str], hashes: set[str], report: Report) -> None:
    (out / "media").mkdir(parents=True, exist_ok=True)
    temp = out / f".{LINES}.new"
    with temp.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line)
        file.flush()
        os.fsync(file.fileno())
    for sha256 in sorted(hashes):
        if path := media.path(sha256):
            (out / "media" / path.name).write_bytes(path.read_bytes())
            report.images += 1
    os.replace(temp, out / LINES)  # last: a folder without it is no export


def _dumps(name: str, lines: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every line with its number, from 1: the header, then the trees."""
    number = 0
    while True:
        try:
            line = lines.readline(MAX_LINE)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise StudioError(f"{name} line {number + 1}: the file breaks off ({error}). Get it again.") from error
        if not line:
            break
        number += 1
        try:
            dump = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise StudioError(
                f"{name} line {number}: it is no whole line of JSON. Was the file cut short? Get it again."
            ) from error
        if number == 1:
            _check_header(name, dump)
        yield number, dump
    expect(number, name, "it is empty")


def _check_header(name: str, header: Any) -> None:
    expect(
        isinstance(header, dict) and header.get("format") == FORMAT, name, "its first line is not that of a studio file"
    )
    expect(isinstance(header.get("version"), int), name, "its first line names no version")
    if header["version"] > VERSION:
        raise StudioError(
            f"{name} was made by a newer intermt-studio ({header.get('made_by')}). Install that version to import it."
        )


def _sender(header: dict[str, Any]) -> str:
    """Who made a file, "" where it does not say."""
    annotator = header.get("annotator")
    return annotator if isinstance(annotator, str) else ""


def _load(
    store: Store,
    media: Media,
    source: Source,
    dump: Any,
    where: str,
    report: Report,
    left_out: list[str] | None,
    people: tuple[str, str],
) -> str | None:
    """Bring one tree in; returns its id if it was here before. ``people``: who made the file, and who imports it."""
    expect(isinstance(dump, dict) and isinstance(dump.get("tree"), dict), where, "it holds no tree")
    for row in dump.get("images", []):
        expect(isinstance(row, dict) and isinstance(row.get("sha256"), str), where, "a picture has no hash")
        if media.path(row["sha256"]) is None and (data := source.picture(row["sha256"])) is not None:
            media.add_verbatim(data, row["sha256"])
            report.images += 1
    added = store.load_dump(dump, where, left_out, *people)
    report.trees += added["trees"]
    report.nodes += added["nodes"]
    report.scores += added["scores"]
    report.known += len(dump.get("nodes", [])) - added["nodes"]
    if added["trees"]:
        return None
    report.merged += sum(added[table] for table in JUDGEMENTS)
    return str(dump["tree"]["id"])
