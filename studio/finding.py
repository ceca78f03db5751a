"""What the window that finds pictures shows and does: folders, ways of searching, a picture to find others like it.

Plain dicts for the page. Ids and pictures that come from a browser are untrusted: each is looked up or read within limits.
"""

from __future__ import annotations

import base64
import binascii
import collections
import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from backends import retrieve
from backends.retrieve import meaning
from studio import StudioError, retrieving, seeing
from studio.actions import Studio
from studio.media import HASH, MAX_BYTES
from studio.retrieving import KEY, OFF, Answer

if TYPE_CHECKING:
    import numpy as np

DROPPED = 20  # vectors of pictures that were dropped into the window
WAYS = {"both": "Words and meaning", "words": "Words", "meaning": "Meaning", "picture": "What it shows"}


def state(studio: Studio) -> dict[str, Any]:
    """What the window shows before a search: folders, ways, the look that is under way, what is missing, and the web provider."""
    own = retrieving.of(studio)
    provider, lacking, blind = own.provider, meaning.missing(), own.sight.trouble
    notes = [f"By words only: searching by meaning needs {', '.join(lacking)}. Get it with: {meaning.GET_IT}"] if lacking else []  # fmt: skip
    if not retrieve.can_compare():
        notes.append(f"Pictures that look alike are not joined: that needs imagehash. Get it with: {meaning.GET_IT}")
    ways = [[way, label] for way, label in WAYS.items() if way != "picture" or not blind]
    return {"folders": own.index.folders(), "task": own.task.told() if own.task else None, "notes": [*notes, *([blind] if blind else [])],
            "ways": ways, "web": provider.name if provider else None, "web_off": "" if provider else OFF, "changes": own.index.changes}  # fmt: skip


def act(studio: Studio, name: str, path: str | None = None, folder: int | None = None) -> None:
    """What the window's buttons do: ``add`` a path, ``look`` through a folder (all without one), ``forget`` one, ``cancel``."""
    own = retrieving.of(studio)
    if name == "add":
        own.add(path or "")
    elif name == "look":
        own.look([int(folder)] if folder else [f["id"] for f in own.index.folders()])
    elif name == "forget" and folder:
        own.index.forget(int(folder))
    elif name == "cancel":
        own.tasks.cancel(KEY)


def search(studio: Studio, words: str, way: str = "both", folder: int | None = None) -> Answer:
    """Pictures of the folders for some words; see ``Retriever.search``."""
    return retrieving.of(studio).search(words, way, folder)


def like(studio: Studio, picture: str, folder: int | None = None) -> Answer:
    """Pictures of the folders that show what another one does: one of the store by its hash, or one of ``dropped``.

    Raises:
        StudioError: no CLIP model is set up, no such picture, or it cannot be read. BackendError: the model cannot be used.
    """
    own = retrieving.of(studio)
    if own.sight.trouble:
        raise StudioError(own.sight.trouble)
    own.look_soon(folder)
    return own.like(_direction(studio, picture), folder)


def dropped(studio: Studio, name: str, data: str) -> str:
    """Look at a picture that the page sends as base64, to find others like it; returns what ``like`` takes. It is not kept.

    Raises:
        StudioError: no CLIP model, no base64, over 20 MB, or no picture. BackendError: the model cannot be used.
    """
    sight, shown = retrieving.of(studio).sight, name[:80] or "The picture"
    if sight.trouble:
        raise StudioError(sight.trouble)
    if len(data) > MAX_BYTES * 4 / 3 + 4:
        raise StudioError(f"{shown} has over {MAX_BYTES // 2**20} MB. Make it smaller.")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise StudioError(f"{shown} did not arrive whole ({error}). Drop it again.") from error
    try:
        retrieve.small(content, 16)
    except retrieve.Unusable as error:
        raise StudioError(f"{shown}: {error}. Take another picture.") from error
    key = hashlib.sha256(content).hexdigest()
    memory = _dropped(studio)
    memory[key] = sight.packed(content)
    while len(memory) > DROPPED:
        memory.popitem(last=False)
    return key


def _dropped(studio: Studio) -> collections.OrderedDict[str, bytes]:
    return retrieving.of(studio).dropped


def _direction(studio: Studio, picture: str) -> np.ndarray:
    packed = _dropped(studio).get(picture) if HASH.fullmatch(picture) else None
    found = seeing.direction(packed if packed is not None else of_store(studio, picture))
    if found is None:
        raise StudioError(f"The picture {picture[:16]!r} cannot be read, so none can be found that is like it.")
    return found


def of_store(studio: Studio, sha256: str) -> bytes:
    """The packed vector of a picture of the store, made when it is not kept yet; of no bytes when it cannot be read.

    Raises:
        StudioError: no such picture, or no CLIP model. BackendError: the model cannot be used.
    """
    sight = retrieving.of(studio).sight
    key = sight.model.key
    known = sight.kept.vectors_of([sha256], key)
    if sha256 not in known:
        path = studio.media.path(sha256) if HASH.fullmatch(sha256) else None
        if path is None:
            raise StudioError(
                f"No picture has the hash {sha256[:16]!r} here. Choose another, or drop one into the window."
            )
        known[sha256] = sight.packed(path.read_bytes())
        sight.kept.keep_vectors([(sha256, known[sha256])], key)
    return known[sha256]


# ---- the calls of the page


def _search(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    words, folder = str(data["words"])[:1000], data.get("folder")
    if folder == "web":
        return asdict(retrieving.of(studio).search_web(words))
    where = int(folder) if folder else None
    if data.get("like"):
        return asdict(like(studio, str(data["like"]), where))
    return asdict(search(studio, words, str(data.get("way", "both")), where))


def _folder(studio: Studio, data: dict[str, Any]) -> dict[str, Any]:
    act(studio, str(data["act"]), data.get("path"), data.get("folder"))
    return state(studio)


CALLS = {
    "retrieve": lambda studio, data: state(studio),
    "retrieve_folder": _folder,
    "retrieve_search": _search,
    "retrieve_drop": lambda studio, data: {"like": dropped(studio, str(data["name"]), str(data["data"]))},
    "retrieve_take": lambda studio, data: retrieving.of(studio).take(
        data["id"], str(data["words"])[:1000], str(data["way"])
    ),
}
