"""Killed, full, old, too new, read-only: what was shown as saved is still there, and the rest is said in one line.

Processes are really killed (SIGKILL) and the file system really refuses. This shows what a dying process leaves, not
what a power cut leaves: that rests on ``synchronous = FULL`` and on the disk. STUDIO_KILLS sets how many are killed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

import studio.store.connection as connection
from backends import ModelSpec
from studio import StudioError
from studio.actions import Studio, ask, rate
from studio.config import Config
from studio.migrations import migrations
from studio.store import Store
from studio.tree import Part
from tests.conftest import how, plant, wait

KILLS = int(os.environ.get("STUDIO_KILLS", "50"))
STREAM = ModelSpec("Echo (no model)", "echo", {"delay_ms": 2})
Line = list[Any]  # one thing the person was shown: ["rated", node, dimension, value] or ["reply", node, text, phase]


def config(home: Path) -> Config:
    """The settings of every process here."""
    return Config(home, annotator="ann", models=(STREAM,))


# ---- what the killed processes do


def show(out: int, line: Line) -> None:
    """Say what the person was shown. One write to the file itself, so no buffer dies with the process."""
    os.write(out, json.dumps(line).encode() + b"\n")


def rate_on(opened: Studio, node_id: str, out: int) -> None:
    """Rate for ever, never the same value twice in a row on one dimension, saying each rating once it is acknowledged."""
    for seq in itertools.count():
        dimension, value = f"L{seq % 4 + 1}", seq // 4 % 4
        rate(opened, node_id, dimension, value)
        show(out, ["rated", node_id, dimension, value])


def ask_on(opened: Studio, out: int) -> None:
    """Ask for ever, two replies at a time, saying every text that is published."""
    while True:
        question = "word " * random.choice((5, 200))  # some replies end in time, some never do
        replies = ask(opened, [], question, [], how(STREAM.name, replies=2))
        for snapshot in opened.live.follow(opened.store.node(replies[0]).tree_id):
            for r in snapshot:
                show(out, ["reply", r.node_id, r.text, r.phase])


def work(home: Path, node_id: str, shown: Path) -> None:
    """Rate in one thread and let replies grow in others until killed."""
    opened = Studio.open(config(home))
    out = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    threading.Thread(target=rate_on, args=(opened, node_id, out), daemon=True).start()
    ask_on(opened, out)


# ---- killing


def kill_one(home: Path, node_id: str, shown: Path, while_opening: bool) -> list[Line]:
    """Let a process rate and ask until it is killed at a random moment; returns what it had shown."""
    context = multiprocessing.get_context("forkserver")  # a fork of a server with this module loaded starts at once
    context.set_forkserver_preload([__name__])
    process = context.Process(target=work, args=(home, node_id, shown))
    process.start()
    try:
        if not while_opening:
            wait(lambda: shown.exists() and shown.stat().st_size, 30, "the first thing shown")
        time.sleep(random.uniform(0, 0.4))
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL  # it did not end by itself
    process.close()
    return lines(shown)


def lines(shown: Path) -> list[Line]:
    """Everything that was shown. A last line without its end was never shown."""
    text = shown.read_text() if shown.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def check_ratings(store: Store, node_id: str, shown: list[Line]) -> int:
    """Each acknowledged rating is a row, in order, at most one more was on its way, and the last is current; returns their number."""
    acknowledged = [(d, v) for kind, _, d, v in shown if kind == "rated"]
    rows = store.rows("SELECT dimension, value, superseded_at FROM scores WHERE node_id = ? ORDER BY id", [node_id])
    stored = [(r["dimension"], r["value"]) for r in rows]
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) - len(acknowledged) in (0, 1)
    current = [(r["dimension"], r["value"]) for r in rows if r["superseded_at"] is None]
    assert sorted(current) == sorted(dict(stored).items())  # both halves of a change of mind, or none
    return len(acknowledged)


def check_replies(store: Store, shown: list[Line]) -> int:
    """What was shown of each reply is stored, and a reply shown as done is done; returns the number of texts shown."""
    texts = [(node_id, text, phase) for kind, node_id, text, phase in shown if kind == "reply"]
    stored = {node_id: store.node(node_id) for node_id, *_ in texts}
    for node_id, text, phase in texts:
        assert stored[node_id].text.startswith(text)
        if phase == "done":
            assert (stored[node_id].status, stored[node_id].text) == ("done", text)
    return sum(bool(text) for _, text, _ in texts)


def check_recovery(store: Store) -> int:
    """Replies that were growing become stopped and keep their text; returns how many."""
    growing = {i: store.node(i).text for i in store.streaming()}
    assert store.recover() == len(growing)
    assert store.streaming() == []
    for node_id, text in growing.items():
        node = store.node(node_id)
        assert (node.status, node.text, bool(node.error)) == ("stopped", text, True)
    return len(growing)


@pytest.mark.slow
def test_killed_at_any_moment_loses_nothing_shown(tmp_path: Path) -> None:
    home = tmp_path / "home"
    opened = Studio.open(config(home))
    said: dict[str, list[Line]] = {}
    ratings = texts = stopped = 0
    for n in range(KILLS):
        node_id = plant(opened, "q", "r")[1]
        opened.close()
        said[node_id] = kill_one(home, node_id, tmp_path / f"shown-{n}", while_opening=n % 5 == 4)
        opened = Studio.open(config(home))
        assert opened.store.check() == "ok"
        ratings += check_ratings(opened.store, node_id, said[node_id])
        texts += check_replies(opened.store, said[node_id])
        stopped += check_recovery(opened.store)
    for node_id, lines_shown in said.items():  # nor has a later kill harmed what an earlier one left
        check_ratings(opened.store, node_id, lines_shown)
        check_replies(opened.store, lines_shown)
    opened.close()
    done = len({line[1] for shown in said.values() for line in shown if line[-1] == "done"})
    print(f"{KILLS} kills: {ratings} ratings, {texts} texts and {done} whole replies shown, {stopped} replies cut")
    assert done
    assert min(ratings, texts, stopped) > KILLS / 2


# ---- other versions


def content(file: Path) -> dict[str, list[Any]]:
    """Everything in a database: its schema, and the rows of each table."""
    with contextlib.closing(sqlite3.connect(str(file))) as other:
        schema = other.execute("SELECT name, type, sql FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for name, kind, _ in schema if kind == "table"]
        return {"schema": schema} | {t: other.execute(f"SELECT * FROM [{t}]").fetchall() for t in tables}


def test_a_newer_database_is_refused_and_untouched(tmp_path: Path) -> None:
    opened = Studio.open(config(tmp_path))
    plant(opened, "q", "r")
    with opened.store.write() as db:
        db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, 'm999_later', 'x')",
                   [migrations.name])  # fmt: skip
    opened.close()
    file = tmp_path / "studio.db"
    before = file.read_bytes(), content(file)
    with pytest.raises(StudioError, match=r"newer intermt-studio.*m999_later.*--home") as caught:
        Store(tmp_path)
    assert "\n" not in str(caught.value)
    assert (file.read_bytes(), content(file)) == before
    assert not (tmp_path / "backups").exists()


def old_database(home: Path, stop_before: str) -> Database:
    """A database as an earlier version, or one killed while it made it, left it."""
    home.mkdir()
    db = Database(home / "studio.db")
    migrations.apply(db, stop_before=stop_before)
    return db


def test_an_old_database_is_copied_then_brought_up_to_date(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with contextlib.closing(old_database(home, "m002_views")) as db:
        db["trees"].insert({"id": "t", "title": "kept", "created_at": "2020-01-01T00:00:00.000+00:00"})  # type: ignore[union-attr]
    old = content(home / "studio.db")
    with contextlib.closing(Store(home)) as store:
        assert [t.title for t in store.trees()] == ["kept"]
        node_id = store.add_node("t", None, "user", [Part("text", "findable")])
        assert [h.node_id for h in store.search("findable")] == [node_id]
    (backup,) = (home / "backups").iterdir()
    assert backup.name.endswith("-before-m002_views.db")
    assert content(backup) == old
    Store(home).close()
    assert list((home / "backups").iterdir()) == [backup]  # nothing to bring up to date, so no second copy


def test_a_home_left_before_its_first_table_opens(tmp_path: Path) -> None:
    old_database(tmp_path / "home", "m001_tables").close()  # killed between the record's table and the first step
    Store(tmp_path / "home").close()


def test_an_old_sqlite_uses_a_rollback_journal_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Studio.open(config(tmp_path))
    node_id = plant(opened, "q", "r")[1]
    opened.close()
    monkeypatch.setattr(connection, "SAFE_WAL", (99, 0, 0))
    with contextlib.closing(Store(tmp_path)) as store:
        (notice,) = store.notices
        assert f"SQLite {sqlite3.sqlite_version} " in notice
        assert "rollback journal" in notice
        assert store.rows("PRAGMA journal_mode")[0]["journal_mode"] == "delete"
        store.rate(node_id, "L1", 3, "ann")
        assert store.scores([node_id], "ann") == {node_id: {"L1": 3}}
        assert len(store.notices) == 1  # once, not once a connection
    assert not (tmp_path / "studio.db-wal").exists()


# ---- no room, no permission


def test_a_full_database_says_so_and_keeps_what_was_there(studio: Studio) -> None:
    reply = plant(studio, "q", "r")[1]
    rate(studio, reply, "L1", 3)
    with studio.store.write() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
    before = studio.store.counts()
    with pytest.raises(StudioError, match=r"full.*not saved") as caught:
        ask(studio, [], "x" * 100_000, [], how())
    assert "\n" not in str(caught.value)
    with pytest.raises(StudioError, match="full"):
        studio.store.grow(reply, [Part("text", "y" * 200_000)])
    assert studio.store.counts() == before
    assert [n.text for n in studio.store.path(reply)] == ["q", "r"]
    assert studio.store.scores([reply], "ann") == {reply: {"L1": 3}}
    assert studio.store.check() == "ok"
    with studio.store.write() as db:
        db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    studio.store.grow(reply, [Part("text", "y" * 200_000)])  # room again: the same program goes on
    assert studio.store.node(reply).text == "y" * 200_000


AS_NOBODY = """
import os, sys
from studio import cli, exchange, media, server, store  # before: afterwards this user may not read the program itself
if os.geteuid() == 0:
    os.setuid(65534)  # root writes anywhere
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def locked_home() -> Iterator[Path]:
    """A folder that anyone may read and nobody else may write."""
    made = Path(tempfile.mkdtemp(prefix="studio-locked-"))  # tmp_path is closed to other users
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


@pytest.mark.parametrize("command", [["serve", "--no-browser", "--port", "0"], ["export", "/nowhere/out.zip"]])
@pytest.mark.parametrize("used", [False, True], ids=["empty", "used"])
def test_a_read_only_home_is_one_line(locked_home: Path, command: list[str], used: bool) -> None:
    if used:
        Store(locked_home).close()
    for file in (before := sorted(locked_home.iterdir())):
        file.chmod(0o444)
    locked_home.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, *command, "--home", str(locked_home)],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(f"{locked_home}.*--home", done.stderr)
    assert sorted(locked_home.iterdir()) == before
