"""What is known of picture folders, in ``HOME/retrieve.db``: files, their words (FTS5), vectors and looks.

A file of its own beside ``studio.db``: everything in it can be read from the folders again, so it is in no backup, no export and
no migration (another version's index is simply made anew), and 100,000 rows of it never slow a rating down. One connection,
used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from studio import StudioError
from studio.store.connection import now, transaction

VERSION = 1
COLUMNS = (
    "sha256",
    "width",
    "height",
    "bytes",
    "name",
    "caption",
    "said",
    "licence",
    "author",
    "source_url",
    "looks",
    "problem",
)
SCHEMA = """
CREATE TABLE folders(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, passed TEXT NOT NULL DEFAULT '{}', looked_at TEXT);
CREATE TABLE found(
  id INTEGER PRIMARY KEY, folder_id INTEGER NOT NULL REFERENCES folders(id) ON DELETE CASCADE, path TEXT NOT NULL, stamp TEXT NOT NULL,
  sha256 TEXT, width INTEGER, height INTEGER, bytes INTEGER, name TEXT NOT NULL DEFAULT '', caption TEXT NOT NULL DEFAULT '',
  said TEXT NOT NULL DEFAULT '', licence TEXT, author TEXT, source_url TEXT, looks INTEGER, problem TEXT, text TEXT, vector BLOB,
  UNIQUE(folder_id, path));  -- sha256 NULL: no picture can be had from it, and problem says why; vector NULL: still to be made of text
CREATE INDEX found_waiting ON found(folder_id) WHERE vector IS NULL AND text <> '';
CREATE VIRTUAL TABLE words USING fts5(name, caption, said, content='found', content_rowid='id', tokenize='unicode61 remove_diacritics 2');
INSERT INTO words(words, rank) VALUES ('rank', 'bm25(2.0, 4.0, 1.0)');
CREATE TRIGGER found_in AFTER INSERT ON found BEGIN
  INSERT INTO words(rowid, name, caption, said) VALUES (new.id, new.name, new.caption, new.said); END;
CREATE TRIGGER found_out AFTER DELETE ON found BEGIN
  INSERT INTO words(words, rowid, name, caption, said) VALUES ('delete', old.id, old.name, old.caption, old.said); END;
CREATE TRIGGER found_new AFTER UPDATE OF name, caption, said ON found BEGIN
  INSERT INTO words(words, rowid, name, caption, said) VALUES ('delete', old.id, old.name, old.caption, old.said);
  INSERT INTO words(rowid, name, caption, said) VALUES (new.id, new.name, new.caption, new.said); END;
"""
COMMON = frozenset(
    re.findall(r"\w+", "a an and are as at by for from in is it of on or that the this to was were with")
)


class PictureIndex:
    """Folders and the pictures in them. Safe to use from many threads."""

    def __init__(self, home: Path) -> None:
        """Open, or make. Raises StudioError when the folder cannot be used."""
        self.file = home / "retrieve.db"
        self._lock = threading.RLock()
        self.changes = 0  # counts what this program wrote: a reader's copy of the vectors is as old as its count
        with self._plain():
            home.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
            if self._version() not in (0, VERSION):
                self._again()
            if self._version() == 0:
                self._db.executescript(f"{SCHEMA}PRAGMA user_version = {VERSION};")

    def _version(self) -> int:
        try:
            return int(self._db.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.DatabaseError:  # damaged: nothing in it is lost that the folders do not have
            return -1

    def _open(self) -> Database:
        db = Database(sqlite3.connect(self.file, check_same_thread=False, isolation_level=None))
        with contextlib.suppress(sqlite3.DatabaseError):  # told by _version
            db.conn.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")
        return db

    def _again(self) -> None:
        self._db.conn.close()
        for end in ("", "-wal", "-shm"):
            self.file.with_name(self.file.name + end).unlink(missing_ok=True)
        self._db = self._open()

    @contextlib.contextmanager
    def _plain(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.DatabaseError) as error:
            raise StudioError(
                f"The index of pictures {self.file} cannot be used ({str(error)[:120]}). Free some space, or delete that file: it is made anew."
            ) from error

    def _rows(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._plain():
            return list(self._db.execute(sql, args).fetchall())

    @contextlib.contextmanager
    def _write(self) -> Iterator[Database]:
        with self._lock, self._plain():
            try:
                with transaction(self._db):
                    yield self._db
            finally:
                self.changes += 1

    # ---- folders

    def folder(self, path: Path) -> int:
        """The id of a folder, which is put on the list if it is not there."""
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO folders(path) VALUES (?)", [str(path)])
        return int(self._rows("SELECT id FROM folders WHERE path = ?", [str(path)])[0][0])

    def folders(self) -> list[dict[str, Any]]:
        """id, path, looked_at, pictures (their number), waiting (without a vector), passed ({reason: number}); in order of their paths."""
        counts: dict[int, dict[str, Any]] = {}
        rows = self._rows(
            "SELECT folder_id, problem, count(sha256), count(*), sum(vector IS NULL AND text <> '') FROM found GROUP BY 1, 2"
        )
        for folder, problem, pictures, files, waiting in rows:
            one = counts.setdefault(folder, {"pictures": 0, "waiting": 0, "bad": {}})
            one["pictures"] += pictures
            one["waiting"] += waiting or 0
            if problem:
                one["bad"][problem] = files
        return [
            {"id": i, "path": path, "looked_at": looked, "pictures": own.get("pictures", 0), "waiting": own.get("waiting", 0),
             "passed": own.get("bad", {}) | json.loads(passed)}
            for i, path, passed, looked in self._rows("SELECT id, path, passed, looked_at FROM folders ORDER BY path")
            for own in [counts.get(i, {})]
        ]  # fmt: skip

    def forget(self, folder: int) -> None:
        """Take a folder and what is known of it off the list; its files are not touched."""
        with self._write() as db:
            db.execute("DELETE FROM folders WHERE id = ?", [folder])

    def looked(self, folder: int, passed: Mapping[str, int]) -> None:
        """Record that a folder was looked through to its end, and how many entries were passed over."""
        with self._write() as db:
            db.execute(
                "UPDATE folders SET looked_at = ?, passed = ? WHERE id = ?", [now(), json.dumps(dict(passed)), folder]
            )

    # ---- files

    def stamps(self, folder: int) -> dict[str, str]:
        """Every known file of a folder with the stamp it had."""
        return dict(self._rows("SELECT path, stamp FROM found WHERE folder_id = ?", [folder]))

    def save(self, folder: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put files in, or in place of what was known of the same path: ``path, stamp, text`` and ``COLUMNS``. A vector stays
        while the text that it was made of does."""
        names = ("folder_id", "path", "stamp", "text", *COLUMNS)
        new = ", ".join(f"{n} = excluded.{n}" for n in names[2:])
        sql = (f"INSERT INTO found({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) ON CONFLICT(folder_id, path) DO UPDATE SET "
               f"vector = CASE WHEN text IS excluded.text THEN vector END, {new}")  # fmt: skip
        empty = {"name": "", "caption": "", "said": ""}
        with self._write() as db:
            db.conn.executemany(sql, [[folder, *(row.get(n, empty.get(n)) for n in names[1:])] for row in rows])

    def drop(self, folder: int, paths: Iterable[str]) -> None:
        """Forget files that are gone."""
        with self._write() as db:
            db.conn.executemany("DELETE FROM found WHERE folder_id = ? AND path = ?", [(folder, p) for p in paths])

    def get(self, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Rows by id, without vectors: ``folder`` (its path), ``path`` below it, and ``COLUMNS``."""
        names = ("id", "folder", "path", *COLUMNS)
        rows = self._rows(
            f"SELECT f.id, o.path, f.path, {', '.join('f.' + c for c in COLUMNS)} FROM json_each(?) j JOIN found f ON f.id = j.value "
            "JOIN folders o ON o.id = f.folder_id WHERE f.sha256 IS NOT NULL", [json.dumps(list(ids))],
        )  # fmt: skip
        return {r[0]: dict(zip(names, r, strict=True)) for r in rows}

    # ---- words and vectors

    def by_words(self, words: str, most: int, folder: int | None = None) -> list[int]:
        """Ids of pictures, those with every word first (the last one may be unfinished), then those with some. Any input is safe."""
        found = re.findall(r"\w+", words)[:64]
        telling = [w for w in found if w.lower() not in COMMON] or found
        if not telling:
            return []
        quoted = [f'"{w}"' for w in telling]
        quoted[-1] += "*"
        every = self._matching(" ".join(quoted), most, folder)
        if len(every) == most or len(quoted) == 1:
            return every
        return list(dict.fromkeys([*every, *self._matching(" OR ".join(quoted), most, folder)]))[:most]

    def _matching(self, query: str, most: int, folder: int | None) -> list[int]:
        if folder is None:
            return [
                r[0]
                for r in self._rows("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", [query, most])
            ]
        sql = ("SELECT words.rowid FROM words CROSS JOIN found ON found.id = words.rowid WHERE words MATCH ? AND folder_id = ? "
               "ORDER BY words.rank LIMIT ?")  # fmt: skip
        return [r[0] for r in self._rows(sql, [query, folder, most])]

    def newest(self, most: int, folder: int | None = None) -> list[int]:
        """Ids of the pictures that came last."""
        sql = (
            "SELECT id FROM found WHERE sha256 IS NOT NULL AND (?1 IS NULL OR folder_id = ?1) ORDER BY id DESC LIMIT ?2"
        )
        return [r[0] for r in self._rows(sql, [folder, most])]

    def waiting(self, folder: int, most: int) -> list[tuple[int, str]]:
        """Pictures whose text has no vector yet: id, text."""
        sql = "SELECT id, text FROM found WHERE folder_id = ? AND vector IS NULL AND text <> '' LIMIT ?"
        return [(r[0], r[1]) for r in self._rows(sql, [folder, most])]

    def give_vectors(self, vectors: Iterable[tuple[int, bytes]]) -> None:
        """Keep packed vectors by id."""
        with self._write() as db:
            db.conn.executemany("UPDATE found SET vector = ?2 WHERE id = ?1", list(vectors))

    def vectors(self) -> tuple[list[int], list[int], bytes]:
        """Ids, their folders, and their packed vectors one after the other."""
        with self._lock, self._plain():
            ids, folders, rows = [], [], bytearray()
            for i, folder, vector in self._db.execute(
                "SELECT id, folder_id, vector FROM found WHERE vector IS NOT NULL"
            ):
                ids.append(i)
                folders.append(folder)
                rows += vector
        return ids, folders, bytes(rows)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.conn.close()
