"""Finding a picture and putting it into a message: folders that are indexed beside the screen, searches, small copies for the grid.

Joins the index, the readers and the media. A search never waits for a folder: it answers from what is known, and looks through
the folder afterwards. Only pictures that the person chose are copied into the store.
"""

from __future__ import annotations

import collections
import functools
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import BackendError, retrieve
from backends.retrieve import meaning, web
from studio import StudioError, indexing
from studio.actions import Studio
from studio.background import Background, Task
from studio.seeing import Sight
from studio.store.retrieve import PictureIndex

if TYPE_CHECKING:
    import numpy as np

KEY = "retrieve"
SHOWN, POOL = 60, 200  # hits on the screen; of each ranking that are joined
NEAR = (
    0.2  # cosine below which two texts have nothing to do with each other (MiniLM: unrelated captions lie around 0.05)
)
LOOK_AGAIN_S = 20.0  # a search looks through the folders again when the last look is older
THUMB = 256  # pixels of the longer side
THUMBS = 400  # small copies kept in memory, about 10 KB each
OFF = 'The web is not searched. To search Openverse (open licences), write into studio.toml: [retrieve] and below it web = "openverse"; then restart.'
WAYS = ("both", "words", "meaning", "picture")


@dataclass(frozen=True)
class Answer:
    """Hits as the screen shows them, best first, and a line for the person ('' when there is nothing to say)."""

    hits: list[dict[str, Any]]
    note: str = ""


_opening = threading.Lock()


def of(studio: Studio) -> Retriever:
    """The one of this run of the studio; opens its index on first use."""
    with _opening:
        if "retrieve" not in studio.workers:
            studio.workers["retrieve"] = Retriever(studio)
        found = studio.workers["retrieve"]
    assert isinstance(found, Retriever)
    return found


class Retriever:
    """What one run of the studio keeps for finding pictures: the index, the encoder, and the tasks that fill it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.index = PictureIndex(studio.config.home)
        self.tasks = Background()
        self.encoder = meaning.Encoder()
        self.sight = Sight(studio.config.retrieve, self.index)
        self.dropped: collections.OrderedDict[str, bytes] = (
            collections.OrderedDict()
        )  # vectors of the window's own pictures
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(2)  # a small copy may need 40 megapixels for a moment
        self._vectors: tuple[int, float, meaning.Vectors] | None = None
        self._looked: dict[int, float] = {}
        self._web: collections.OrderedDict[str, web.WebPicture] = collections.OrderedDict()
        self._thumb = functools.lru_cache(maxsize=THUMBS)(self._made_small)

    def close(self) -> None:
        """End the tasks, then close the index."""
        self.tasks.close()
        self.index.close()

    @property
    def provider(self) -> web.Provider | None:
        """The web provider that studio.toml switches on. Raises BackendError when it names one that there is not."""
        return web.provider(self.studio.config.retrieve)

    @property
    def task(self) -> Task | None:
        """The look through a folder that is under way, or the last one."""
        return next(iter(self.tasks.tasks()), None)

    @property
    def busy(self) -> bool:
        """Whether a look is under way."""
        return self.task is not None and not self.task.over

    # ---- indexing

    def add(self, path: str) -> int:
        """Put a folder on the list and begin to look through it; returns its id.

        Raises:
            StudioError, BackendError: no folder, may not be read, or a look is under way.
        """
        root = Path(path.strip()).expanduser()
        if not path.strip() or not root.is_absolute() or not root.is_dir():
            raise StudioError(
                f"{path.strip()[:200] or 'Nothing'!r} is no folder here. Type its whole path, such as /home/me/pictures."
            )
        root = root.resolve()
        retrieve.check(root)
        folder = self.index.folder(root)
        self.look([folder])
        return folder

    def look(self, folders: list[int]) -> Task:
        """Look through folders for what is new, changed or gone. Raises StudioError while that is under way."""
        known = {f["id"]: f["path"] for f in self.index.folders()}
        wanted = [(f, Path(known[f])) for f in folders if f in known]
        name = wanted[0][1].name if len(wanted) == 1 else f"{len(wanted)} folders"
        self._looked |= dict.fromkeys(folders, time.monotonic())
        return self.tasks.start(KEY, name, lambda task: self._look(task, wanted))

    def _look(self, task: Task, folders: list[tuple[int, Path]]) -> None:
        troubles = []
        for folder, root in folders:
            try:
                indexing.update(self.index, folder, root, task)
                if not meaning.missing():
                    indexing.encode(self.index, folder, self.encoder, task)
                if not self.sight.trouble:
                    self.sight.look(folder, root, task)
            except BackendError as error:  # one folder that is gone does not keep the others from being looked through
                troubles.append(str(error))
        if troubles:
            raise StudioError(" ".join(troubles))

    def look_soon(self, folder: int | None) -> None:
        """Look through folders again beside a search, unless that was done a moment ago or is under way."""
        if self.busy:
            return
        early = time.monotonic() - LOOK_AGAIN_S
        old = [
            f["id"]
            for f in self.index.folders()
            if folder in (None, f["id"]) and self._looked.get(f["id"], early) <= early
        ]
        if old:
            self.look(old)

    # ---- searching

    def search(self, words: str, way: str = "both", folder: int | None = None) -> Answer:
        """Pictures for some words: by them, by their meaning, by both (reciprocal rank fusion), or by what the ``picture`` shows.
        Without words the newest.

        A hit: ``id, path, folder, caption, licence, author, width, height, score, words`` (its rank by words or None), ``meaning``,
        ``shows`` (cosines or None), ``alike`` (how many that look the same were left out), ``thumb``.
        """
        if way not in WAYS:
            raise StudioError(f"A search is by {', '.join(WAYS)}; not {way!r:.40}.")
        self.look_soon(folder)
        if not words.strip():
            return Answer(self._told([(i, 0.0) for i in self.index.newest(POOL, folder)], [], {}))
        if way == "picture":
            return self.like(None if self.sight.trouble else self.sight.of_text(words), folder)
        by_words = self.index.by_words(words, POOL, folder) if way != "meaning" else []
        near, note = self._near(words, folder) if way != "words" else ({}, "")
        ranked = retrieve.fused({"words": by_words, "meaning": list(near)})
        return Answer(self._told(ranked, by_words, near), note)

    def like(self, direction: np.ndarray | None, folder: int | None = None) -> Answer:
        """Pictures that show what a vector of CLIP (of a text or of a picture, length 1) stands for."""
        if direction is None:
            return Answer([], self.sight.trouble)
        near = self.sight.nearest(direction, POOL, folder, self.busy)
        return Answer(self._told(list(near.items()), [], {}, near))

    def _near(self, words: str, folder: int | None) -> tuple[dict[int, float], str]:
        if lacking := meaning.missing():
            return {}, f"By words only: searching by meaning needs {', '.join(lacking)}. Get it with: {meaning.GET_IT}"
        vectors = self._current()
        if not len(vectors.ids):
            return {}, ""
        question = self.encoder.encode([words[:1_000]])[0]
        return {i: round(c, 4) for i, c in vectors.nearest(question, POOL, folder) if c >= NEAR}, ""

    def _current(self) -> meaning.Vectors:
        with self._lock:
            if self._vectors is None or (
                self._vectors[0] != self.index.changes and not (self.busy and time.monotonic() - self._vectors[1] < 3)
            ):
                self._vectors = (self.index.changes, time.monotonic(), meaning.Vectors(*self.index.vectors()))
            return self._vectors[2]

    def _told(
        self,
        ranked: list[tuple[int, float]],
        by_words: list[int],
        near: dict[int, float],
        shows: dict[int, float] | None = None,
    ) -> list[dict[str, Any]]:
        rows = self.index.get(i for i, _ in ranked)
        ranks = {found: rank for rank, found in enumerate(by_words, 1)}
        scores = dict(ranked)
        there = [retrieve.Candidate(i, rows[i]["sha256"], rows[i]["looks"]) for i, _ in ranked if i in rows]
        return [
            {k: rows[i][k] for k in ("id", "path", "folder", "caption", "licence", "author", "width", "height", "name")}
            | {"score": round(scores[i], 5), "words": ranks.get(i), "meaning": near.get(i), "shows": (shows or {}).get(i),
               "alike": len(alike), "thumb": f"/found/{i}-{rows[i]['sha256'][:12]}"}
            for i, alike in retrieve.folded(there, SHOWN)
        ]  # fmt: skip

    def search_web(self, words: str) -> Answer:
        """Pictures of the web provider; the same hits, with ``id`` a text. Raises when it is off or does not answer."""
        if self.provider is None:
            raise StudioError(OFF)
        if not words.strip():
            return Answer([], "Type some words, then press Enter.")
        found = self.provider.search(words.strip(), 20)
        with self._lock:
            self._web |= {p.id: p for p in found}
            while len(self._web) > THUMBS:
                self._web.popitem(last=False)
        hits = [
            {"id": p.id, "path": p.page_url, "folder": self.provider.name, "caption": p.title, "name": p.title, "licence": p.licence,
             "author": p.author, "width": p.width, "height": p.height, "alike": 0, "thumb": f"/found/web-{p.id}"}
            for p in found
        ]  # fmt: skip
        return Answer(hits, "" if hits else f"{self.provider.name} has nothing for these words.")

    # ---- small copies, and the picture itself

    def thumb(self, key: str) -> bytes:
        """A small copy of a hit as a WEBP; ``key`` is the end of its ``thumb``. Raises StudioError or BackendError."""
        return self._thumb(key)

    def _made_small(self, key: str) -> bytes:
        with self._turns:
            data = (
                self._web_data(key[4:], small=True)
                if key.startswith("web-")
                else self._file_data(key.partition("-")[0])[0]
            )
            return retrieve.small(data, THUMB)

    def _file_data(self, key: str | int) -> tuple[bytes, dict[str, Any]]:
        row = self.index.get([int(key)]).get(int(key)) if str(key).isdecimal() else None
        if row is None:
            raise StudioError("This picture is no longer in the index. Search again.")
        try:
            return retrieve.whole(retrieve.inside(Path(row["folder"]), row["path"])), row
        except retrieve.Unusable as error:
            raise StudioError(f"{row['path'][:200]}: {error}. Take another picture.") from error

    def _web_data(self, key: str, small: bool) -> bytes:
        picture = self._web.get(key)
        if picture is None or self.provider is None:
            raise StudioError("This picture was found too long ago. Search again.")
        if small:
            return web.fetch(picture.thumb_url, web.MAX_THUMB, self.provider)
        return web.fetch(picture.image_url, web.MAX_PICTURE, self.provider)

    def take(self, key: int | str, query: str, way: str) -> dict[str, Any]:
        """Copy a hit into the store with where it came from; returns ``sha256, caption, licence``."""
        if isinstance(key, int):
            data, row = self._file_data(key)
            where = Path(row["folder"], row["path"])
            said = {k: row[k] for k in ("author",) if row[k]} | {"by": way, "file": row["path"]}
            kept = self.studio.media.add(data, where.name)
            told = {
                "tool": "folder",
                "source_url": row["source_url"] or where.as_uri(),
                "licence": row["licence"] or None,
            }
            caption = row["caption"] or row["name"]
        else:
            data, picture = self._web_data(key, small=False), self._web[key]
            kept = self.studio.media.add(data, picture.title or "The picture")
            said = {
                k: v for k, v in asdict(picture).items() if k in ("author", "title", "licence_url", "image_url") and v
            }
            by = f", by {picture.author}" if picture.author else ""
            told = {
                "tool": self.provider.name if self.provider else "web",
                "source_url": picture.page_url,
                "licence": picture.licence + by,
            }
            caption = picture.title
        self.studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "retrieve", params=said,
                                    prompt=query[:500] or None, **told)  # fmt: skip
        return {"sha256": kept.sha256, "caption": caption[:200], "licence": told["licence"]}
