"""Numbers of pictures: of one, of those of a dialogue, and of a picture with the words beside it. Never a verdict.

What a screen asks for is computed beside it (``studio.measuring``) and kept by the content's hash; a script measures at once with
``measure``. The rows of a screen are ``key, name, value, range, means, source, note``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from backends import checks
from studio import measuring, retrieving, seeing
from studio.actions import Studio
from studio.measuring import Known
from studio.tree import Node

ALONE = ("quality", "blur", "noise", "jpeg", "flat")
BRIEF = ("quality", "blur")  # of each picture of a dialogue
USES, WORDS = 3, 1_000  # messages whose words a picture is compared with, and characters of each
PICTURES = 40  # of one dialogue: 780 pairs
Row = dict[str, Any]


def measure(studio: Studio, hashes: Iterable[str]) -> dict[str, Row]:
    """The numbers of stored pictures by hash, measured now where they are not kept; see ``checks.measured``.

    Raises:
        StudioError: no such picture. BackendError: a package is missing, or a picture cannot be read.
    """
    wanted = list(dict.fromkeys(hashes))
    known = retrieving.of(studio).sight.kept.numbers(wanted, checks.VERSION)
    return {sha256: known.get(sha256) or measuring.measured(studio, sha256) for sha256 in wanted}


def picture(studio: Studio, sha256: str) -> Row:
    """What is known of a picture: ``numbers`` (rows), ``waiting`` (more will come), ``notes`` (what is missing, lines).

    Raises StudioError when there is no such picture.
    """
    measuring.path(studio, sha256)
    texts = _words_beside(studio, sha256)
    known = measuring.of(studio).known([sha256], [text for _, text in texts])
    rows = _alone(known, sha256, ALONE)
    if sha256 in known.looks:
        rows.append(_nearest(sha256, known.looks, studio.store.counts()["images"]))
    rows += [row for said, text in texts for row in _fit(known, sha256, said, text)]
    return {"sha256": sha256, "numbers": rows, "waiting": known.waiting, "notes": known.notes}


def dialogue(studio: Studio, leaf: str) -> Row:
    """What is known of the pictures of the dialogue that ends at a node: ``pictures`` (each with ``n, sha256, numbers``), ``numbers`` of
    all pairs (the mean, and in ``note`` the two furthest apart), ``waiting``, ``notes``. Raises StudioError for an unknown node."""
    shown = _shown(studio.store.path(leaf))
    order = [sha256 for sha256, _, _ in shown]
    known = measuring.of(studio).known(list(dict.fromkeys(order)), [text for _, _, text in shown if text])
    pictures = [{"n": n, "sha256": sha256, "numbers": _alone(known, sha256, BRIEF) + _fit(known, sha256, said, text)}
                for n, (sha256, said, text) in enumerate(shown, 1)]  # fmt: skip
    return {"leaf": leaf, "pictures": pictures, "numbers": _pairs(order, known), "waiting": known.waiting, "notes": known.notes}  # fmt: skip


# ---- rows


def _row(key: str, value: Any, note: str = "") -> Row:
    what = checks.measures()[key]
    return {"key": key, "name": what.name, "value": value, "range": what.range, "means": what.means, "source": what.source, "note": note}  # fmt: skip


def _alone(known: Known, sha256: str, keys: Sequence[str]) -> list[Row]:
    numbers = known.numbers.get(sha256, {})
    return [_row(key, numbers[key]) for key in keys if key in numbers]


def _fit(known: Known, sha256: str, said: str, text: str) -> list[Row]:
    value = known.fit(sha256, text)
    return [] if value is None else [_row("similarity", value, f"{said}: “{' '.join(text.split())[:80]}”")]


def _nearest(sha256: str, looks: dict[str, int | None], pictures: int) -> Row:
    """The other picture of the store that looks most like one."""
    mine = looks[sha256]
    if mine is None:
        return _row("nearest", None, "too plain to be compared")
    others = [(checks.bits(mine, theirs), h) for h, theirs in looks.items() if h != sha256 and theirs is not None]
    if not others:
        return _row("nearest", None, "no other picture here to compare with yet")
    least, other = min(others)
    later = f", {left} more not looked at yet" if (left := pictures - len(looks)) > 0 else ""
    return _row("nearest", least, f"among {len(others)} of the store{later}") | {"other": other}


def _words_beside(studio: Studio, sha256: str) -> list[tuple[str, str]]:
    """The captions of a picture and the words of the messages that show it, without those that say the same: what it is, text."""
    found: dict[str, str] = {}
    for use in studio.store.image_uses([sha256])[:USES]:
        who = "question" if use["role"] == "user" else "reply"
        for said, text in (("caption", use["caption"]), (who, studio.store.node(use["node_id"]).text)):
            if text.strip():
                found.setdefault(text.strip()[:WORDS], said)
    return [(said, text) for text, said in found.items()]


def _shown(path: Sequence[Node]) -> list[tuple[str, str, str]]:
    """The pictures of a path in order: hash, what its text is, and the text (its caption, else the words of its message)."""
    return [(p.image_sha256, "caption" if p.caption.strip() else "message", (p.caption.strip() or node.text.strip())[:WORDS])
            for node in path for p in node.images if p.image_sha256][:PICTURES]  # fmt: skip


def _pairs(order: Sequence[str], known: Known) -> list[Row]:
    """Distances over all pairs of a dialogue's pictures: for style the mean, for looks the least."""
    found: dict[str, list[tuple[float, int, int]]] = {}
    for (i, a), (j, b) in itertools.combinations(enumerate(order, 1), 2):
        for key, value in _distances(a, b, known).items():
            if value is not None:
                found.setdefault(key, []).append((value, i, j))
    rows = []
    for key in ("palette", "texture", "apart"):
        if pairs := found.get(key):
            most, i, j = max(pairs)
            note = f"mean of {len(pairs)} pairs; furthest apart are pictures {i} and {j}, {most:.2f}"
            mean = sum(value for value, _, _ in pairs) / len(pairs)
            rows.append(_row(key, round(mean, 4), note if len(pairs) > 1 else f"pictures {i} and {j}"))
    if pairs := found.get("nearest"):
        least, i, j = min(pairs)
        rows.append(_row("nearest", least, f"the two most alike: pictures {i} and {j}"))
    return rows


def _distances(one: str, other: str, known: Known) -> dict[str, float | None]:
    looks, others = known.looks.get(one), known.looks.get(other)
    bits = checks.bits(looks, others) if looks is not None and others is not None else None
    near = seeing.cosine(known.directions.get(one), known.directions.get(other))
    styles = [known.numbers[h]["style"] for h in (one, other) if h in known.numbers]
    return {"nearest": 0 if one == other else bits, "apart": None if near is None else round(1 - near, 4)} | (
        dict(checks.apart(*styles)) if len(styles) == 2 else {}
    )


CALLS = {
    "checks_picture": lambda studio, data: picture(studio, str(data["sha256"])),
    "checks_dialogue": lambda studio, data: dialogue(studio, str(data["leaf"])),
}
