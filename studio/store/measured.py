"""What was computed from pictures once and is not computed again: numbers, looks, and CLIP's vectors, by the hash of the content.

In the same file as the index of folders, ``HOME/retrieve.db``, and for the same reason: all of it can be had from the pictures again.
Rows of another version of the measures are not read; vectors carry the model that they are of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from studio.store.connection import transaction
from studio.store.retrieve import PictureIndex

SCHEMA = """
CREATE TABLE IF NOT EXISTS measured(sha256 TEXT PRIMARY KEY, version INTEGER NOT NULL, numbers TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looks(sha256 TEXT PRIMARY KEY, looks INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shown(
  sha256 TEXT NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (model, sha256)) WITHOUT ROWID;
"""  # looks NULL: too plain to be compared; a vector of no bytes: no picture could be had from the file


class Measured:
    """Numbers, looks and vectors of pictures. Safe to use from many threads."""

    def __init__(self, index: PictureIndex) -> None:
        """Over an open index. Raises StudioError when it cannot be written."""
        self._index = index
        with index._lock, index._plain():
            index._db.executescript(SCHEMA)

    # ---- numbers

    def numbers(self, hashes: Iterable[str], version: int) -> dict[str, dict[str, Any]]:
        """The numbers of those pictures that were measured by this version."""
        rows = self._index._rows(
            "SELECT m.sha256, m.numbers FROM json_each(?) wanted JOIN measured m ON m.sha256 = wanted.value WHERE m.version = ?",
            [json.dumps(list(hashes)), version],
        )
        return {sha256: json.loads(numbers) for sha256, numbers in rows}

    def keep_numbers(self, sha256: str, version: int, numbers: dict[str, Any]) -> None:
        """Keep what was measured of a picture."""
        self._put("INSERT OR REPLACE INTO measured VALUES (?, ?, ?)", [(sha256, version, json.dumps(numbers))])

    # ---- looks

    def looks(self) -> dict[str, int | None]:
        """Every picture whose looks are known, and those that are too plain to be compared as None."""
        return dict(self._index._rows("SELECT sha256, looks FROM looks"))

    def keep_looks(self, rows: Sequence[tuple[str, int | None]]) -> None:
        """Keep looks (64 bits as a signed integer) by hash."""
        self._put("INSERT OR REPLACE INTO looks VALUES (?, ?)", rows)

    # ---- what a picture shows, for CLIP

    def vectors_of(self, hashes: Iterable[str], model: str) -> dict[str, bytes]:
        """Packed vectors by hash; of no bytes where none could be made."""
        rows = self._index._rows(
            "SELECT s.sha256, s.vector FROM json_each(?) wanted JOIN shown s ON s.sha256 = wanted.value AND s.model = ?",
            [json.dumps(list(hashes)), model],
        )
        return dict(rows)

    def keep_vectors(self, rows: Sequence[tuple[str, bytes]], model: str) -> None:
        """Keep packed vectors by hash."""
        self._put("INSERT OR REPLACE INTO shown VALUES (?, ?, ?)", [(sha256, model, vector) for sha256, vector in rows])
        self._index.changes += 1  # a reader's copy of them is old now

    def unseen(self, folder: int, model: str, most: int) -> list[tuple[str, str]]:
        """Pictures of a folder without a vector of this model: content's hash, and one path below the folder."""
        sql = ("SELECT f.sha256, min(f.path) FROM found f LEFT JOIN shown s ON s.model = ?1 AND s.sha256 = f.sha256 "
               "WHERE f.folder_id = ?2 AND f.sha256 IS NOT NULL AND s.sha256 IS NULL GROUP BY 1 LIMIT ?3")  # fmt: skip
        return [(r[0], r[1]) for r in self._index._rows(sql, [model, folder, most])]

    def count_unseen(self, folder: int, model: str) -> int:
        """How many ``unseen`` there are."""
        sql = ("SELECT count(DISTINCT f.sha256) FROM found f LEFT JOIN shown s ON s.model = ? AND s.sha256 = f.sha256 "
               "WHERE f.folder_id = ? AND f.sha256 IS NOT NULL AND s.sha256 IS NULL")  # fmt: skip
        return int(self._index._rows(sql, [model, folder])[0][0])

    def vectors(self, model: str) -> tuple[list[int], list[int], bytes]:
        """Ids of the pictures of folders, their folders, and their packed vectors one after the other."""
        sql = ("SELECT f.id, f.folder_id, s.vector FROM found f JOIN shown s ON s.sha256 = f.sha256 "
               "WHERE s.model = ? AND length(s.vector) > 0")  # fmt: skip
        rows = self._index._rows(sql, [model])
        return [r[0] for r in rows], [r[1] for r in rows], b"".join(r[2] for r in rows)

    def _put(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._index._lock, self._index._plain(), transaction(self._index._db):
            self._index._db.conn.executemany(sql, rows)
