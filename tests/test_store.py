"""The store on real SQLite: growing, walking, searching, judging, and what is promised about history."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from studio import StudioError
from studio.actions import Studio
from studio.store import Store, new_id
from studio.tree import Part
from tests.conftest import plant


def test_schema_has_the_public_names(studio: Studio) -> None:
    names = {r["name"] for r in studio.store.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    assert {"trees", "nodes", "parts", "images", "scores", "comparisons", "feedback", "crucial_steps", "judges", "judge_scores", "jobs",
            "current_scores", "current_comparisons", "preference_pairs", "dialogues", "turns"} <= names  # fmt: skip
    columns = {r["name"] for r in studio.store.rows("SELECT name FROM pragma_table_info('nodes')")}
    assert {"id", "tree_id", "parent_id", "ordinal", "role", "backend", "model", "params", "status", "error", "prompt_tokens",
            "completion_tokens", "first_token_ms", "latency_ms", "starred", "pruned_at", "created_at"} <= columns  # fmt: skip


def test_pragmas(studio: Studio) -> None:
    store = studio.store
    assert store.rows("PRAGMA journal_mode")[0]["journal_mode"] == "wal"
    assert store.rows("PRAGMA synchronous")[0]["synchronous"] == 2
    assert store.rows("PRAGMA foreign_keys")[0]["foreign_keys"] == 1


def test_ids_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000


def test_a_tree_comes_back_whole(studio: Studio) -> None:
    a, b, c, d = plant(studio, "question", "reply", "again", "second")
    e = studio.store.add_node(
        studio.store.node(a).tree_id, a, "assistant", [Part("text", "other")], model="x", params={"k": [1]}
    )
    assert [n.id for n in studio.store.path(d)] == [a, b, c, d]
    assert studio.store.leaf(a) == d
    tree = studio.store.tree(studio.store.node(a).tree_id)
    assert tree.siblings(b) == [b, e]
    assert tree.nodes[e].params == {"k": [1]}
    assert studio.store.siblings(studio.store.path(d))[b] == [b, e]
    assert studio.store.rows("SELECT turns FROM dialogues WHERE leaf_id = ?", [d]) == [{"turns": 2}]
    assert len(studio.store.rows("SELECT * FROM turns")) == 3


def test_unknown_ids_say_so(studio: Studio) -> None:
    for call in (studio.store.node, studio.store.path, studio.store.tree):
        with pytest.raises(StudioError, match="nowhere"):
            call("nowhere")


def test_search_finds_every_branch_and_survives_any_input(studio: Studio) -> None:
    _, b = plant(studio, "the quick brown fox", "jümps over")
    studio.store.add_node(studio.store.node(b).tree_id, b, "user", [Part("image", "x.png", None, "a lazy dog")])
    assert [h.match for h in studio.store.search("QUI bro")] == [] or studio.store.search("quick bro")
    assert studio.store.search("jumps")[0].node_id == b  # without the accent
    assert studio.store.search("lazy")[0].match == "lazy"
    for odd in ('"', "AND", "a*", "NEAR(", "-x", "(", "col:x", "'; DROP TABLE nodes", "\x00", "^", "*"):
        studio.store.search(odd)
    studio.store.grow(b, [Part("text", "lands softly")])
    assert studio.store.search("jumps") == []  # the index follows a changed part
    assert studio.store.search("softly")[0].node_id == b


def test_a_changed_mind_is_kept(studio: Studio) -> None:
    _, r = plant(studio, "q", "r")
    store = studio.store
    first = store.rate(r, "L1", 3, "ann")
    assert store.rate(r, "L1", 3, "ann") == first  # the same again is nothing new
    store.rate(r, "L1", 1, "ann")
    store.rate(r, "L1", 2, "bob")
    store.rate(r, "L2", 0, "ann")
    store.rate(r, "L2", None, "ann")
    assert store.scores([r], "ann") == {r: {"L1": 1}}
    assert [
        (h["value"], h["superseded_at"] is None)
        for h in store.history(r)
        if h["what"] == "L1" and h["annotator"] == "ann"
    ] == [("1", True), ("3", False)]
    assert [o["value"] for o in store.others([r], "ann")[r]] == [2]


def test_pairs_come_from_comparisons_and_from_scores(studio: Studio) -> None:
    q, a = plant(studio, "q", "a")
    b = studio.store.add_node(studio.store.node(q).tree_id, q, "assistant", [Part("text", "b")])
    studio.store.rate(a, "L1", 3, "ann")
    studio.store.rate(b, "L1", 1, "ann")
    studio.store.compare("local", "overall", a, b, "right", "ann")
    studio.store.compare("local", "overall", b, a, "tie", "ann")  # the same pair the other way round supersedes
    pairs = studio.store.rows(
        "SELECT dimension, chosen, rejected, tie, margin, source FROM preference_pairs ORDER BY dimension"
    )
    assert pairs == [
        {"dimension": "L1", "chosen": a, "rejected": b, "tie": 0, "margin": 2, "source": "score"},
        {"dimension": "overall", "chosen": b, "rejected": a, "tie": 1, "margin": None, "source": "comparison"},
    ]
    with pytest.raises(StudioError, match="one question"):
        studio.store.compare(
            "local", "L1", a, studio.store.add_node(studio.store.node(q).tree_id, a, "user", []), "left", "ann"
        )


def test_prune_hides_and_restore_brings_back(studio: Studio) -> None:
    a, b, c, d = plant(studio, "q", "r", "q2", "r2")
    assert studio.store.prune(b) == 3
    assert studio.store.leaf(a) == a
    studio.store.restore(d)  # restoring a node below restores what was pruned above it
    assert studio.store.leaf(a) == d
    studio.store.prune(a)
    assert studio.store.trees() == []
    assert [t.removed for t in studio.store.trees(removed=True)] == [True]


def test_a_failed_write_leaves_nothing(studio: Studio) -> None:
    before = studio.store.counts()
    with pytest.raises(RuntimeError), studio.store.write():
        tree = studio.store.create_tree("x")
        studio.store.add_node(tree, None, "user", [Part("text", "y")])
        raise RuntimeError
    assert studio.store.counts() == before
    with pytest.raises(StudioError, match="refers to"):
        studio.store.add_node("no tree", None, "user", [])


def test_many_threads_write_and_read(studio: Studio) -> None:
    _, r = plant(studio, "q", "r")

    def work(who: str) -> None:
        for i in range(20):
            studio.store.rate(r, "L1", i % 4, who)
            studio.store.scores([r], who)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert studio.store.rows("SELECT count(*) AS n FROM scores")[0]["n"] == 120
    assert studio.store.check() == "ok"


def test_another_program_can_read_while_we_write(studio: Studio) -> None:
    import sqlite3

    plant(studio, "q", "r")
    other = sqlite3.connect(studio.store.file)
    try:
        assert other.execute("SELECT count(*) FROM nodes").fetchone() == (2,)
    finally:
        other.close()


def test_the_stamp_changes_with_every_write(studio: Studio) -> None:
    before = studio.store.stamp()
    assert studio.store.stamp() == before
    plant(studio, "q")
    assert studio.store.stamp() != before


def test_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "studio.db").write_text("this is a letter to my aunt, not a database at all, and should stay")
    with pytest.raises(StudioError, match="no database"):
        Store(tmp_path)
    assert (tmp_path / "studio.db").read_text().startswith("this is a letter")


def test_params_and_tags_are_json(studio: Studio) -> None:
    tree = studio.store.create_tree("t", tags=["a", "ü"])
    assert json.loads(studio.store.rows("SELECT tags FROM trees WHERE id = ?", [tree])[0]["tags"]) == ["a", "ü"]
