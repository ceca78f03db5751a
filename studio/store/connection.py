"""Opening the database: one writer, a reader a thread, the pragmas, the backup, and errors in plain words."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3
from ulid import ULID

from studio import StudioError
from studio.migrations import migrations

SAFE_WAL = (3, 51, 3)  # earlier versions can corrupt a WAL file when two connections write and checkpoint at once
BUSY_TIMEOUT_MS = 10_000


def new_id() -> str:
    """A ULID: 26 characters, unique, sorted by time of creation, also within one millisecond."""
    return str(ULID())


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextlib.contextmanager
def transaction(db: Database) -> Iterator[None]:
    """Everything or nothing of what the block writes."""
    # IMMEDIATE waits for another process; a deferred BEGIN would fail at once on its first write
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.conn.execute("COMMIT")
    except BaseException:
        db.conn.rollback()
        raise


class Connection:
    """``HOME/studio.db``: one writing connection behind a lock and one reading connection a thread."""

    def __init__(self, home: Path) -> None:
        """Open or create the database in ``home``.

        Raises:
            StudioError: the home cannot be written, the file is no database of ours, or a newer version made it.
        """
        self.home = home
        self.file = home / "studio.db"
        self.notices: list[str] = []
        self.marked: dict[str, str] = {}  # messages that changed under a judge's scores in this run -> when
        self._lock = threading.RLock()
        self._local = threading.local()
        self._readers: list[Any] = []
        self._watch: Any = None
        with self._plain_errors():
            home.mkdir(parents=True, exist_ok=True)
            self._db = Database(self._connect())
            self._refuse_newer()
            self._migrate()

    def _connect(self) -> Any:
        conn = sqlite3.connect(str(self.file), check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)
        conn.row_factory = sqlite3.Row
        wal = sqlite3.sqlite_version_info >= SAFE_WAL
        if not wal and not self.notices:
            self.notices.append(
                f"SQLite {sqlite3.sqlite_version} can corrupt a write-ahead log (fixed in 3.51.3): using a rollback "
                "journal, which is slower. To mend: pip install -U pysqlite3"
            )
        conn.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA foreign_keys = ON")
        return conn

    def _refuse_newer(self) -> None:
        known = {m.name for m in migrations._migrations}
        unknown = sorted({m.name for m in migrations.applied(self._db)} - known)
        if unknown:
            raise StudioError(
                f"{self.file} was made by a newer intermt-studio (it has {unknown[-1]!r}). "
                "Install that version, or choose another folder with --home. Nothing was changed."
            )

    def _migrate(self) -> None:
        pending = migrations.pending(self._db)
        if not pending:
            return
        # a process killed in its first moment leaves nothing but the list of migrations
        tables = set(self._db.table_names()) - {migrations.migrations_table}
        if tables and "trees" not in tables:
            raise StudioError(f"{self.file} is a database of some other program. Choose another folder with --home.")
        if tables:
            self.backup(f"before-{pending[0].name}")
        with self._lock:
            migrations.apply(self._db)

    def backup(self, label: str) -> Path:
        """A whole copy of the database, made while it is in use; returns its path in ``HOME/backups``."""
        folder = self.home / "backups"
        folder.mkdir(exist_ok=True)
        target = folder / f"studio-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{label}.db"
        self._db.conn.execute("VACUUM INTO ?", [str(target)])
        return target

    @contextlib.contextmanager
    def write(self) -> Iterator[Database]:
        """One transaction on the one writer: durable when the block ends, gone when it raises. Nests as savepoints."""
        with self._lock, self._plain_errors():
            if self._db.conn.in_transaction:
                yield self._db
                return
            with transaction(self._db):
                yield self._db

    def rows(self, sql: str, args: Any = ()) -> list[dict[str, Any]]:
        """Rows of a SELECT as dicts, read from this thread's own connection."""
        if not hasattr(self._local, "conn"):
            self._local.conn = self._connect()
            self._local.conn.execute("PRAGMA query_only = ON")
            with self._lock:
                self._readers.append(self._local.conn)
        with self._plain_errors():
            return [dict(r) for r in self._local.conn.execute(sql, args)]

    def stamp(self) -> int:
        """A number that changes whenever another connection, of this program or any other, has written."""
        with self._lock:  # the number is only comparable on one connection, and the writer does not see its own changes
            if self._watch is None:
                self._watch = self._connect()
                self._readers.append(self._watch)
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    def check(self) -> str:
        """SQLite's own integrity check: 'ok', or the first thing that is wrong."""
        return str(next(iter(self.rows("PRAGMA integrity_check")[0].values())))

    def close(self) -> None:
        """Close every connection. Call once, when no other thread reads."""
        with self._lock:
            for conn in [*self._readers, self._db.conn]:
                conn.close()
            self._readers.clear()
            self._local = threading.local()

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StudioError(
                f"Cannot use the folder {self.home}: {error.strerror or error}. Choose one you can write to with --home."
            ) from error
        except sqlite3.DatabaseError as error:
            raise StudioError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        said = str(error)
        if "full" in said:
            free = shutil.disk_usage(self.home).free // 2**20
            return (
                f"The disk is full ({free} MB left at {self.home}): this was not saved. Free some space and try again."
            )
        if "readonly" in said or "unable to open" in said:
            return f"Cannot write to {self.file} ({said}). Choose a folder you can write to with --home."
        if "not a database" in said or "malformed" in said:
            return f"{self.file} is damaged or no database ({said}). Copies are in {self.home / 'backups'}."
        if "locked" in said:
            return f"{self.file} is being written by another program for over {BUSY_TIMEOUT_MS // 1000} s. Close it and try again."
        if "FOREIGN KEY" in said:
            return "Something refers to a message or picture that is not there, so nothing of it was saved. Is the file whole?"
        return f"The database refused this: {said}. Nothing was saved."
