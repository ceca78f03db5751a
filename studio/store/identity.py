"""Whose judge it is: a judge is its name and the hash of its weights. Another person's comes in under a name of its own.

No judge that is trained here can be called "judge-1 (ann)": such a judge is never live, and never takes the place of one
of this home.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from judge.examples import NAME

WEIGHTS = "judge.safetensors"  # in HOME/judges/<name>
ZERO_SHOT = "zero-shot"  # what the config of a judge that was never trained calls its kind
SOMEBODY = "imported"  # who made a judge when no file says so
HASH = re.compile(r"[0-9a-f]{64}")
OF = re.compile(r"(.*) \(.+\)", re.DOTALL)  # a name and its maker
MAX_NAME = 64  # characters
Row = Mapping[str, Any]


def weights_hash(home: Path, name: str) -> str | None:
    """SHA-256 (hex) of the weights of a judge of this home; None where there are none."""
    if not NAME.fullmatch(name):
        return None
    path = home / "judges" / name / WEIGHTS
    try:
        told = path.stat()
        return _file_hash(path, told.st_size, told.st_mtime_ns)
    except OSError:
        return None


def name_here(row: Row, local: Mapping[str, Row], home: Path, sender: str, annotator: str) -> str:
    """The name that a judge of a file gets here: that of the same judge if it is known, its own where nobody objects, else
    its own with its maker's.

    ``local``: the judges of this home by name. ``sender``: who made the file, ``annotator``: who imports it ("": unknown).
    """
    base = base_name(row["name"])
    family = [ours for name, ours in local.items() if base_name(name) == base]
    for ours in sorted(family, key=lambda ours: ours["name"] != row["name"]):
        if same_judge(ours, row, home):
            return str(ours["name"])
    maker = maker_of(row, sender)
    # the name of a judge that was never trained holds a hash of the model and of how it is asked
    foreign = bool(annotator) and maker not in (annotator, SOMEBODY) and _kind(row) != ZERO_SHOT
    here = weights_hash(home, row["name"])  # a folder that no row names yet
    if not foreign and row["name"] not in local and here in (None, _known_hash(row)):
        return str(row["name"])
    return free_name(base, maker, local)


def same_judge(ours: Row, theirs: Row, home: Path) -> bool:
    """Whether two rows of one name are one judge: by the hash of the weights, else by when and from what it was made."""
    kinds = [_kind(ours), _kind(theirs)]
    if ZERO_SHOT in kinds:  # has no weights: the model and how it is asked are all of it
        return kinds[0] == kinds[1] and ours["base"] == theirs["base"] and _config(ours) == _config(theirs)
    mine, other = _known_hash(ours) or weights_hash(home, ours["name"]), _known_hash(theirs)
    if mine and other:
        return mine == other
    makers = {row.get("made_by") for row in (ours, theirs) if row.get("made_by")}
    alike = all(ours[column] == theirs.get(column) for column in ("base", "data_hash", "created_at"))
    return alike and len(makers) < 2


def belongs(row: Row, weights: str | None, data_hash: str) -> bool:
    """Whether a row is that of the judge with these weights, trained on this data."""
    if weights and _known_hash(row):
        return weights == _known_hash(row)
    return bool(row["data_hash"] == data_hash)


def maker_of(row: Row, sender: str) -> str:
    """Who made a judge: as its row says, else who sent the file, else "imported"."""
    named = row.get("made_by")
    text = named if isinstance(named, str) else sender
    return " ".join(re.sub(r"[()\x00-\x1f]", " ", text).split())[:MAX_NAME] or SOMEBODY


def free_name(base: str, maker: str, taken: Mapping[str, Row]) -> str:
    """ "judge-1 (ann)", or the first of "judge-1 (ann 2)", "judge-1 (ann 3)" ... that is free."""
    numbered = (f"{base} ({maker}{f' {n}' if n > 1 else ''})" for n in itertools.count(1))
    return next(name for name in numbered if name not in taken)


def base_name(name: str) -> str:
    """What a judge was called where it was made."""
    match = OF.fullmatch(name)
    return match[1] if match else name


@functools.lru_cache(maxsize=256)
def _file_hash(path: Path, _size: int, _changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known_hash(row: Row) -> str | None:
    value = row.get("weights_hash")
    return value if isinstance(value, str) and HASH.fullmatch(value) else None


def _config(row: Row) -> dict[str, Any]:
    config = row.get("config") or {}
    parsed = json.loads(config) if isinstance(config, str) else config
    return parsed if isinstance(parsed, dict) else {}


def _kind(row: Row) -> Any:
    return _config(row).get("kind")
