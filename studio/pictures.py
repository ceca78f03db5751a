"""Pictures that are kept: edited into new ones, put into a message by their hash, followed back to where they came from.

Joins the image tools with store and media. Every result is a new row and a new file; no picture is ever changed.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from backends import images
from studio import StudioError, history
from studio.actions import Studio
from studio.media import MAX_BYTES
from studio.tree import Part

MAX_ATTACHED = 16
MAX_FOLLOWED = 60  # pictures in one lineage, each way
PREVIEW = 1600  # pixels of the longer side
Edits = Sequence[Mapping[str, Any]]
_turns = threading.BoundedSemaphore(2)  # 40 megapixels take 160 MB a copy: no more than two at a time


def apply_to(studio: Studio, sha256: str, edits: Edits) -> str:
    """Make a new picture of a stored one by ``edits``, one after the other; returns its hash.

    Its row says ``origin`` edit, ``tool`` (the names of the tools), ``params`` (``{"edits": [...], "notes": [...]}``) and
    ``source_sha256``; so the same list can be applied to any other picture. See ``backends.images`` for the tools.

    Raises:
        StudioError: no such picture.
        BackendError: an edit that does not fit, or a result that is too large.
    """
    checked = images.checked_all(edits)
    with _turns:
        made = images.apply(_file(studio, sha256), checked, lambda other: _opened(studio, other))
        kept = studio.media.add(made.data, "The result")
    studio.store.add_image(
        kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "edit", tool=", ".join(dict.fromkeys(e["tool"] for e in checked)),
        params={"edits": checked} | ({"notes": list(made.notes)} if made.notes else {}), source_sha256=sha256,
    )  # fmt: skip
    return kept.sha256


def preview(studio: Studio, sha256: str, edits: Edits) -> dict[str, Any]:
    """What ``apply_to`` would make, for the screen: ``url`` (data; '' when nothing is edited, so that the file itself can be
    shown), ``width`` and ``height`` of the real result, and ``how``, a line an edit."""
    if not edits:
        row = _row(studio, sha256)
        return {"url": "", "width": row["width"], "height": row["height"], "how": []}
    checked = images.checked_all(edits)
    with _turns:
        result = images.edited(_opened(studio, sha256), checked, lambda other: _opened(studio, other))
        small = images.smaller(result, PREVIEW)
    kind = "png" if small.startswith(history.PNG) else "webp"
    url = f"data:image/{kind};base64,{base64.b64encode(small).decode()}"
    return {"url": url, "width": result.width, "height": result.height, "how": [images.words(e) for e in checked]}


def add(studio: Studio, name: str, data: str) -> dict[str, Any]:
    """Keep a picture that the page sends as base64, with what its file claims of its making; returns ``shown``.

    Raises:
        StudioError: no base64, over 20 MB, or no picture (see ``Media.add``).
    """
    if len(data) > MAX_BYTES * 4 / 3 + 4:
        raise StudioError(f"{name[:80] or 'The picture'} has over {MAX_BYTES // 2**20} MB. Make it smaller.")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise StudioError(f"{name[:80] or 'The picture'} did not arrive whole ({error}). Add it again.") from error
    kept = studio.media.add(content, name)
    studio.store.add_image(
        kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "upload", **history.claimed(content)
    )
    return shown(studio, kept.sha256)


def shown(studio: Studio, sha256: str) -> dict[str, Any]:
    """What the page needs to show a picture and to edit it: size, addresses, and notes on how it was made."""
    row = _row(studio, sha256)
    return {"sha256": sha256, "width": row["width"], "height": row["height"], "thumb": f"/thumb/{sha256}",
            "notes": row["params"].get("notes", [])}  # fmt: skip


def attached(studio: Studio, pictures: str) -> list[Part]:
    """The parts of a message for pictures that are in the store: ``pictures`` is JSON, a list of ``{sha256, caption}``.

    Raises:
        StudioError: more than ``MAX_ATTACHED``, no such picture, or not what the page sends.
    """
    try:
        wanted = [(str(p["sha256"]), str(p.get("caption") or "")[:200]) for p in json.loads(pictures or "[]")]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudioError("The pictures of this message cannot be read. Reload the page and add them again.") from error
    if len(wanted) > MAX_ATTACHED:
        raise StudioError(
            f"{len(wanted)} pictures are too many for one message; at most {MAX_ATTACHED}. Take some out."
        )
    return [Part("image", image_sha256=_row(studio, sha256)["sha256"], caption=caption) for sha256, caption in wanted]


# ---- where a picture came from


def lineage(studio: Studio, sha256: str, blind: bool = False) -> dict[str, Any]:
    """The pictures that a picture was made of and those made of it, with tools, parameters and the messages that use them.

    ``pictures``: ``sha256, depth`` (0: this one, negative: its sources), ``from`` (hashes), ``origin, how`` (a line a step),
    ``params, prompt, size, source_url, licence, made_at, uses`` (messages), ``claimed`` (what the file said of itself).
    ``blind``: before a vote; see ``_unnamed``.
    """
    depths = {sha256: 0}
    rows = {sha256: _row(studio, sha256)}
    _follow(rows, depths, -1, lambda here: [s for r in here for s in _sources(r)], studio)
    _follow(rows, depths, 1, lambda here: studio.store.derived_images([r["sha256"] for r in here]), studio)
    uses: dict[str, list[dict[str, Any]]] = {}
    for use in studio.store.image_uses(rows):
        uses.setdefault(use["sha256"], []).append(use)
    found = [_told(row) | {"depth": depths[h], "uses": uses.get(h, [])} for h, row in rows.items()]
    ordered = sorted(found, key=lambda p: (p["depth"], p["made_at"]))
    return {"sha256": sha256, "pictures": [_unnamed(p) for p in ordered] if blind else ordered}


def copy_with_history(studio: Studio, sha256: str) -> bytes:
    """A picture as a PNG that carries the chain of its sources, tools and parameters, the oldest first."""
    _row(studio, sha256)
    path = studio.media.path(sha256)
    if path is None:
        raise _absent(sha256)
    chain = [p for p in lineage(studio, sha256)["pictures"] if p["depth"] <= 0]
    steps = [s for p in chain for s in (*p["claimed"], *_steps(p))]
    return history.with_history(path, steps[-history.MAX_STEPS :])


def _steps(told: dict[str, Any]) -> list[dict[str, Any]]:
    kept = {k: told[k] for k in ("origin", "tool", "prompt", "size", "source_url", "licence", "made_at", "params")}
    return [history.step(words="; ".join(told["how"]), **kept)]


def _follow(rows: dict[str, Any], depths: dict[str, int], step: int, onward: Any, studio: Studio) -> None:
    here, depth, most = list(rows.values())[:1], 0, len(rows) + MAX_FOLLOWED
    while here and len(rows) < most:
        depth += step
        new = [h for h in dict.fromkeys(onward(here)) if h not in rows][: most - len(rows)]
        known = studio.store.images(new)
        rows |= known
        depths |= dict.fromkeys(known, depth)
        here = list(known.values())


def _sources(row: dict[str, Any]) -> list[str]:
    """The hashes a picture was made of: its source, and the other pictures of a grid."""
    others = [h for e in row["params"].get("edits", ()) if e["tool"] == "grid" for h in e["params"]["others"]]
    return [h for h in (row["source_sha256"], *others) if h]


def _told(row: dict[str, Any]) -> dict[str, Any]:
    params = row["params"]
    how = [images.words(e) for e in params.get("edits", ())] or [row["tool"] or row["origin"]]
    return {
        "sha256": row["sha256"], "from": _sources(row), "origin": row["origin"], "tool": row["tool"], "how": how,
        "params": {k: v for k, v in params.items() if k != "history"}, "prompt": row["prompt"],
        "size": f"{row['width']} x {row['height']}", "source_url": row["source_url"], "licence": row["licence"],
        "made_at": row["created_at"], "claimed": params.get("history", []),
    }  # fmt: skip


def _unnamed(told: dict[str, Any]) -> dict[str, Any]:
    """A picture of a lineage as it may be seen before a vote: what a hand edited, and no model, prompt, place, time or message."""
    hand = {k: told[k] for k in ("origin", "tool", "how", "params")} if "edits" in told["params"] else {}
    hidden: dict[str, Any] = {"origin": "", "tool": None, "how": ["hidden until you have voted"], "params": {}}
    silent: dict[str, Any] = {
        "prompt": None,
        "source_url": None,
        "licence": None,
        "made_at": "",
        "claimed": [],
        "uses": [],
    }
    return {k: told[k] for k in ("sha256", "from", "size", "depth")} | hidden | hand | silent


# ---- inside


def _absent(sha256: str) -> StudioError:
    return StudioError(f"No picture has the hash {sha256[:16]!r} here. Import it again, or choose another.")


def _row(studio: Studio, sha256: str) -> dict[str, Any]:
    row = studio.store.images([sha256]).get(sha256)
    if row is None:
        raise _absent(sha256)
    return row


def _file(studio: Studio, sha256: str) -> bytes:
    _row(studio, sha256)
    path = studio.media.path(sha256)
    if path is None:
        raise _absent(sha256)
    return path.read_bytes()


def _opened(studio: Studio, sha256: str) -> Image.Image:
    return images.opened(_file(studio, sha256))[0]
