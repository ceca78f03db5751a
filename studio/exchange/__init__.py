"""Dialogues in and out. One module a format; this one recognises them and keeps the promises they share.

Importing twice adds nothing; a broken row is named; with a folder of pictures, those that were missing are filled in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import StudioError
from studio.exchange import intermt_bench, intermt_web, studio_file
from studio.exchange.records import Folder, Report, add, fill_in, read_json
from studio.media import Media
from studio.store import Store

Progress = Callable[[int, int | None, str], None]
FORMATS = ("auto", "intermt-bench", "intermt-web", "studio")
__all__ = ["FORMATS", "Report", "export_studio", "import_path"]


def import_path(store: Store, media: Media, path: Path, format: str = "auto", images: Path | None = None,
                skip_bad: bool = False, progress: Progress | None = None) -> Report:  # fmt: skip
    """Import a file or folder. ``images``: where pictures are that the file only refers to; ``progress(done, total, what)``.

    Raises:
        StudioError: nothing there, no known format, or a bad row (named) when ``skip_bad`` is off. Each tree is whole or absent.
    """
    show = progress or (lambda done, total, what: None)
    report, folder = Report(), Folder(images)
    if not path.exists():
        raise StudioError(f"There is nothing at {path}. Check the path.")
    chosen = detect(path) if format == "auto" else format
    if chosen == "studio":
        studio_file.read(store, media, path, skip_bad, show, report)
    elif chosen == "intermt-web":
        for file in intermt_web.files(path):
            beside = folder if folder.root else Folder(file.parent)
            _each(store, media, list(intermt_web.read(file, skip_bad, report)), beside, show, report)
    elif chosen == "intermt-bench":
        _each(store, media, list(intermt_bench.read(path, skip_bad, report)), folder, show, report)
    else:
        raise StudioError(f"No format is called {format!r:.30}. Known: {', '.join(FORMATS)}.")
    fill_in(store, media, folder, report)
    return report


def export_studio(store: Store, media: Media, out: Path, tree_ids: list[str] | None = None,
                  progress: Progress | None = None, force: bool = False) -> Report:  # fmt: skip
    """Write trees (all, when ``tree_ids`` is None) to a zip or a folder that ``import_path`` reads back without loss.

    Raises:
        StudioError: something is at ``out`` already and ``force`` is off, or it cannot be written.
    """
    if out.exists() and not force:
        raise StudioError(f"{out} is there already. Choose another name, or add --force to replace it.")
    report = Report()
    ids = tree_ids if tree_ids is not None else store.tree_ids()
    studio_file.write(store, media, out, ids, progress or (lambda done, total, what: None), report)
    return report


def detect(path: Path) -> str:
    """The format of a file or folder, from what is in it. Raises StudioError when it is none that is known."""
    if studio_file.fits(path):
        return "studio"
    if path.is_dir() and intermt_web.files(path):
        return "intermt-web"
    data: Any = read_json(path) if path.is_file() else None
    for name, module in (("intermt-web", intermt_web), ("intermt-bench", intermt_bench)):
        if module.fits(data):
            return name
    raise StudioError(f"{path.name} is none of the formats that can be imported: {', '.join(FORMATS[1:])}.")


def _each(store: Store, media: Media, records: list[Any], folder: Folder, progress: Progress, report: Report) -> None:
    for i, record in enumerate(records):
        add(store, media, record, folder, report)
        progress(i + 1, len(records), "dialogues")
