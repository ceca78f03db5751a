"""Dialogues in and out. One module a format; this one recognises them and keeps the promises they share.

Importing twice adds nothing; a broken row is named; with a folder of pictures, those that were missing are filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from studio import StudioError
from studio.exchange import intermt_bench, intermt_web, oasst, oasst_labels, studio_file
from studio.exchange.records import Folder, Report, add, fill_in, read_json
from studio.media import Media
from studio.store import Store

Progress = Callable[[int, int | None, str], None]
FORMATS = ("auto", "intermt-bench", "intermt-web", "oasst", "studio")
__all__ = ["FORMATS", "Report", "export_studio", "import_path"]


def import_path(
    store: Store,
    media: Media,
    path: Path,
    format: str = "auto",
    images: Path | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
    *,
    annotator: str = "",
    states: Collection[str] = (),
    labels: Collection[str] = (),
) -> Report:
    """Import a file or folder. ``images``: where pictures are that the file only refers to; ``progress(done, total, what)``.

    ``annotator``: who imports it; another person's judges get that person's name. Of OpenAssistant's files: ``states`` of trees
    to bring in (none: the finished ones; "all"), ``labels`` whose averages are kept as scores ("all").

    Raises:
        StudioError: nothing there, no known format, or a bad row (named) when ``skip_bad`` is off. Each tree is whole or absent.
    """
    show = progress or (lambda done, total, what: None)
    report, folder = Report(), Folder(images)
    if not path.exists():
        raise StudioError(f"There is nothing at {path}. Check the path.")
    chosen = detect(path) if format == "auto" else format
    if chosen == "studio":
        studio_file.read(store, media, path, skip_bad, show, report, annotator)
    elif chosen == "intermt-web":
        for file in intermt_web.files(path):
            beside = folder if folder.root else Folder(file.parent)
            _each(store, media, list(intermt_web.read(file, skip_bad, report)), beside, show, report)
    elif chosen == "intermt-bench":
        _each(store, media, list(intermt_bench.read(path, skip_bad, report)), folder, show, report)
    elif chosen == "oasst":
        _oasst(store, media, oasst.Reader(path, states, labels, skip_bad, report), folder, show, report)
    else:
        raise StudioError(f"No format is called {format!r:.30}. Known: {', '.join(FORMATS)}.")
    fill_in(store, media, folder, report)
    return report


def export_studio(
    store: Store,
    media: Media,
    out: Path,
    tree_ids: list[str] | None = None,
    progress: Progress | None = None,
    force: bool = False,
    annotator: str = "",
) -> Report:
    """Write trees (all, when ``tree_ids`` is None) to a zip or a folder that ``import_path`` reads back without loss.

    ``annotator``: who sends it; judges of this home are known by that name where the file is read.

    Raises:
        StudioError: something is at ``out`` already and ``force`` is off, or it cannot be written.
    """
    if out.exists() and not force:
        raise StudioError(f"{out} is there already. Choose another name, or add --force to replace it.")
    report = Report()
    ids = tree_ids if tree_ids is not None else store.tree_ids()
    studio_file.write(store, media, out, ids, progress or (lambda done, total, what: None), report, annotator)
    return report


def detect(path: Path) -> str:
    """The format of a file or folder, from what is in it. Raises StudioError when it is none that is known."""
    if studio_file.fits(path):
        return "studio"
    if path.is_dir() and intermt_web.files(path):
        return "intermt-web"
    if path.is_file() and oasst.fits(path):
        return "oasst"
    data: Any = read_json(path) if path.is_file() else None
    for name, module in (("intermt-web", intermt_web), ("intermt-bench", intermt_bench)):
        if module.fits(data):
            return name
    raise StudioError(f"{path.name} is none of the formats that can be imported: {', '.join(FORMATS[1:])}.")


def _each(store: Store, media: Media, records: list[Any], folder: Folder, progress: Progress, report: Report) -> None:
    for i, record in enumerate(records):
        add(store, media, record, folder, report)
        progress(i + 1, len(records), "dialogues")


def _oasst(
    store: Store, media: Media, reader: oasst.Reader, folder: Folder, progress: Progress, report: Report
) -> None:
    new_dimensions = oasst_labels.add_dimensions(store, reader.codes) if reader.codes else 0
    for done, total, where, record in reader.trees():
        try:
            if record:
                add(store, media, record, folder, report)
        except StudioError as error:
            if not reader.skip_bad:
                raise StudioError(f"{where}: {error}") from error
            report.skipped.append(f"{where}: {error}")
        progress(done, total, "trees")
    report.notes += reader.census.notes()
    if new_dimensions:
        report.notes.append(f"{new_dimensions} dimensions were added to rubric.json: restart the studio to see them")
