"""Feedback on a passage, a picture or a dimension, and crucial steps: kept, checked, undone, carried, and an old home opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlite_utils import Database

from judge.examples import from_dump
from studio import actions, api, exchange, views
from studio.actions import Studio, marking
from studio.config import Config
from studio.migrations import migrations
from studio.store import Store
from studio.tree import Part
from tests.conftest import ECHO, SLOW, how, plant, settle

REPLY = "A **quokka** is a small 🦘 of Rottnest."
QUOTE = {"part": 0, "start": 4, "end": 10, "quote": "quokka"}


def illustrated(studio: Studio, tmp_path: Path) -> tuple[str, str]:
    """A reply of text, picture (40 x 30) and text; returns its id and the picture's hash."""
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "p.png")
    kept = studio.media.add((tmp_path / "p.png").read_bytes())
    studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "upload")
    tree = studio.store.create_tree("t")
    asked = studio.store.add_node(tree, None, "user", [Part("text", "Show one")])
    shown = [Part("text", REPLY), Part("image", image_sha256=kept.sha256), Part("text", "There.")]
    return studio.store.add_node(tree, asked, "assistant", shown), kept.sha256


def notes(studio: Studio, node: str) -> list[dict[str, Any]]:
    return views.said(studio, node)["notes"]


def test_a_note_on_a_passage_is_kept_changed_and_undone(studio: Studio, tmp_path: Path) -> None:
    r, _ = illustrated(studio, tmp_path)
    first = marking.say(studio, r, "local", "critique", "Which one?", "L1", QUOTE)
    again = marking.say(studio, r, "local", "critique", "Name the species.", "L1", QUOTE)
    marking.say(studio, r, "local", "critique", "Too dry.")  # on all of the reply: another thing
    assert marking.say(studio, r, "local", "critique", " Too dry. ") is None
    [note] = notes(studio, r)
    assert (note["text"], note["dimension"], note["span"], note["annotator"], note["round"]) == (
        "Name the species.", "L1", QUOTE, "ann", 1)  # fmt: skip
    assert views.said(studio, r)["feedback"] == {"local-critique": "Too dry."}
    assert studio.store.feedback([r], "ann") == {r: {("local", "critique"): "Too dry."}}
    assert first
    assert again
    actions.undo(studio, again.act, again.args)
    assert [n["text"] for n in notes(studio, r)] == ["Which one?"]
    actions.undo(studio, first.act, first.args)
    assert notes(studio, r) == []
    assert [r["text"] for r in studio.store.rows("SELECT text FROM feedback ORDER BY id")] == [
        "Which one?", "Name the species.", "Too dry.", "Which one?"]  # fmt: skip


def test_feedback_for_one_dimension_stands_beside_the_whole(studio: Studio) -> None:
    _, r = plant(studio, "q", "r")
    marking.say(studio, r, "local", "rationale", "clear")
    marking.say(studio, r, "local", "rationale", "but wrong", "L1")
    marking.say(studio, r, "global", "rationale", "one style", "G5")
    assert views.opened(studio, node=r)["shared"][1]["feedback"] == {
        "local-rationale": "clear", "local-rationale-L1": "but wrong", "global-rationale-G5": "one style"}  # fmt: skip


def test_places_are_characters_of_the_source(studio: Studio, tmp_path: Path) -> None:
    r, sha = illustrated(studio, tmp_path)
    at = REPLY.index("🦘")
    marking.say(
        studio, r, "local", "rationale", "charming", span={"part": 0, "start": at, "end": at + 1, "quote": "🦘"}
    )
    marking.say(studio, r, "local", "rationale", "grey", span={"image": sha})
    marking.say(
        studio, r, "local", "critique", "blurred", span={"image": sha, "x": 39, "y": 0, "w": 1, "h": 30, "odd": 1}
    )
    assert [n["span"] for n in notes(studio, r)] == [
        {"part": 0, "start": at, "end": at + 1, "quote": "🦘"}, {"image": sha}, {"image": sha, "x": 39, "y": 0, "w": 1, "h": 30}]  # fmt: skip
    parts = views.opened(studio, node=r)["shared"][1]["parts"]
    assert (parts[0]["length"], parts[1]["image"], parts[2]["length"]) == (len(REPLY), sha, 6)


@pytest.mark.parametrize(
    ("span", "says"),
    [
        (QUOTE | {"end": 400}, "Characters 4 to 400 are not within the 38"),
        (QUOTE | {"start": -1}, "Characters -1 to 10"),
        (QUOTE | {"start": 10}, "Characters 10 to 10"),
        (QUOTE | {"quote": "wombat"}, "read 'quokka', not 'wombat'"),
        (QUOTE | {"part": 1}, "Part 1 of this reply is no text"),
        (QUOTE | {"part": 9}, "Part 9"),
        (QUOTE | {"part": True}, "part of a place is a whole number, not True"),
        ({"part": 0}, "start of a place is a whole number, not None"),
        (
            {"image": "SHA", "x": 39, "y": 0, "w": 2, "h": 3},
            "box at 39, 0 of 2 × 3 is not within the picture of 40 × 30",
        ),
        ({"image": "SHA", "x": 0, "y": 0, "w": 0, "h": 3}, "of 0 × 3"),
        ({"image": "SHA", "x": 0.5, "y": 0, "w": 1, "h": 3}, "x of a place is a whole number, not 0.5"),
        ({"image": "SHA", "x": 1}, "y of a place"),
        ({"image": "f" * 64}, "has no picture 'fff"),
        ({"image": None}, "has no picture None"),
        ([], "is a passage or a picture"),
        ({}, "is a passage or a picture"),
    ],
)
def test_a_place_outside_the_reply_gets_one_line(studio: Studio, tmp_path: Path, span: Any, says: str) -> None:
    r, sha = illustrated(studio, tmp_path)
    if isinstance(span, dict) and span.get("image") == "SHA":
        span = span | {"image": sha}
    answer = api.handle(studio, "say", {"node": r, "level": "local", "kind": "critique", "text": "x", "span": span})
    assert says in answer["error"]
    assert "\n" not in answer["error"]
    assert studio.store.counts()["feedback"] == 0


def test_the_call_answers_with_what_is_now_said(studio: Studio, tmp_path: Path) -> None:
    r, _ = illustrated(studio, tmp_path)
    told = {"node": r, "level": "local", "kind": "critique", "text": "x"}
    answer = api.handle(studio, "say", told | {"span": QUOTE, "dimension": "L2"})
    assert [n["text"] for n in answer["notes"]] == ["x"]
    assert "undo" not in answer  # the page keeps it without a message: this saves itself while somebody types
    assert api.handle(studio, "undo", answer["takes_back"]) == {"saved": True}
    assert notes(studio, r) == []
    for more, says in (
        ({"dimension": "G1"}, "G1 is a global dimension; this feedback is local"),
        ({"dimension": "L9"}, "No dimension is called 'L9'"),
        ({"dimension": ["L1"]}, "without what it needs"),
        ({"node": studio.store.path(r)[0].id}, "is a question"),
    ):
        assert says in api.handle(studio, "say", told | more)["error"]
    assert studio.store.counts()["feedback"] == 1


def test_crucial_steps_are_numbered_along_the_path(studio: Studio) -> None:
    _, b, _, d, _, f = plant(studio, "q1", "r1", "q2", "r2", "q3", "r3")

    def seen(node: str = f) -> list[tuple[str, list[tuple[int | None, str, bool]]]]:
        shown = [c for c in views.opened(studio, node=node)["shared"] if c["role"] == "assistant"]
        return [(c["id"], [(s["number"], s["reason"], s["earlier"]) for s in c["steps"]]) for c in shown]

    late = marking.step(studio, f, d, "here it turned")
    assert seen() == [(b, []), (d, [(1, "here it turned", False)]), (f, [])]
    marking.step(studio, f, b, "")
    assert seen() == [(b, [(1, "", False)]), (d, [(2, "here it turned", False)]), (f, [])]
    changed = marking.step(studio, f, b, " laid the ground ")
    assert marking.step(studio, f, b, "laid the ground") is None
    gone = marking.step(studio, f, b, None)
    assert seen()[0] == (b, [])
    for undo, expected in (
        (gone, [(1, "laid the ground", False)]),
        (changed, [(1, "", False)]),
    ):
        assert undo
        actions.undo(studio, undo.act, undo.args)
        assert seen()[0] == (b, expected)
    assert late
    actions.undo(studio, late.act, late.args)
    assert seen()[1] == (d, [])
    marked = studio.store.rows("SELECT node_id, reason, superseded_at IS NULL AS now FROM crucial_steps ORDER BY rowid")
    assert [(m["node_id"], m["reason"], m["now"]) for m in marked] == [
        (d, "here it turned", 0), (b, "", 0), (b, "laid the ground", 0), (b, "laid the ground", 0), (b, "", 1)]  # fmt: skip


def test_a_step_stays_with_its_dialogue(studio: Studio) -> None:
    _, b, _, d = plant(studio, "q1", "r1", "q2", "r2")
    tree = studio.store.node(b).tree_id
    marking.step(studio, d, b, "why")
    q = studio.store.add_node(tree, d, "user", [Part("text", "q3")])
    f = studio.store.add_node(tree, q, "assistant", [Part("text", "r3")])
    other = studio.store.add_node(tree, studio.store.node(d).parent_id, "assistant", [Part("text", "else")])
    cards = {c["id"]: c for c in views.opened(studio, node=f)["shared"]}
    assert [(s["number"], s["earlier"]) for s in cards[b]["steps"]] == [(None, True)]  # the dialogue went on since
    side = views.opened(studio, lanes=[f, other])
    shared = {c["id"]: c for c in side["shared"]}
    assert shared[b]["leaf"] is None  # of two dialogues: which one is marked must be said
    assert [c["leaf"] for column in side["columns"] for c in column if c["role"] == "assistant"] == [f, f, other]


def test_what_is_no_step_gets_one_line(studio: Studio) -> None:
    a, b, _, d = plant(studio, "q1", "r1", "q2", "r2")
    other = studio.store.add_node(studio.store.node(a).tree_id, a, "assistant", [Part("text", "else")])
    for leaf, node, says in (
        (d, a, "is a question"),
        (d, other, "not part of the dialogue"),
        (b, d, "not part"),
        (d, "no", "'no'"),
    ):
        answer = api.handle(studio, "step", {"leaf": leaf, "node": node, "reason": ""})
        assert says in answer["error"]
    [reply] = actions.ask(studio, [d], "one two three four five six seven eight", [], how(SLOW.name))
    assert "still growing" in api.handle(studio, "step", {"leaf": reply, "node": b, "reason": ""})["error"]
    assert "still growing" in api.handle(
        studio, "say", {"node": reply, "level": "local", "kind": "critique", "text": "x"}
    )["error"]  # fmt: skip
    actions.stop(studio, [reply])
    settle(studio)
    assert studio.store.counts()["crucial_steps"] == 0


def test_steps_of_one_millisecond_are_two_rows(studio: Studio) -> None:
    _, b = plant(studio, "q", "r")
    for i in range(20):
        studio.store.mark_step(b, b, str(i), "ann")
    assert len({r["created_at"] for r in studio.store.rows("SELECT created_at FROM crucial_steps")}) == 20
    assert studio.store.steps([b], "ann")[b][b]["reason"] == "19"


def test_the_history_tells_every_judgement(studio: Studio, tmp_path: Path) -> None:
    r, sha = illustrated(studio, tmp_path)
    store = studio.store
    other = store.add_node(store.node(r).tree_id, store.node(r).parent_id, "assistant", [Part("text", "Another reply")])
    actions.rate(studio, r, "L1", 2)
    store.compare("local", "overall", other, r, "right", "bob", round=2)
    store.compare("local", "L1", other, r, "tie", "ann")
    marking.say(studio, r, "local", "critique", "vague", "L1", QUOTE)
    marking.say(studio, r, "local", "rationale", "grey", span={"image": sha})
    marking.say(studio, r, "local", "critique", "dark", span={"image": sha, "x": 1, "y": 2, "w": 3, "h": 4})
    marking.step(studio, r, r, "because")
    store.say(r, "local", "critique", "odd", "eve", span='{"image": 1, "x": 2}')
    told = {(h["what"], h["value"], h["annotator"]) for h in views.inspected(studio, r)["history"]}
    assert told == {
        ("L1", "2", "ann, round 1"),
        ("overall compared", "better than “Another reply”", "bob, round 2"),
        ("L1 compared", "as good as “Another reply”", "ann, round 1"),
        ("critique of L1", "On “quokka”: vague", "ann, round 1"),
        ("rationale", "On a picture: grey", "ann, round 1"),
        ("critique", "On 3 × 4 of a picture at 1, 2: dark", "ann, round 1"),
        ("crucial step", f"because (of the dialogue that ends with “{REPLY}”)", "ann, round 1"),
        ("critique", "On a place that cannot be read: odd", "eve, round 1"),
    }
    assert ("overall compared", "worse than “A **quokka** is a small 🦘 of Rottnest.”") in {
        (h["what"], h["value"]) for h in views.inspected(studio, other)["history"]
    }


def test_a_place_that_came_from_elsewhere_breaks_nothing(studio: Studio) -> None:
    _, r = plant(studio, "q", "r")
    for span in ("no json", "[1]", "7", '{"part": 5}', '{"part": 0, "start": 0, "end": 1, "quote": "x"}', "null"):
        studio.store.say(r, "local", "critique", f"on {span}", "ann", span=span)
    shown = notes(studio, r)
    assert len(shown) == 6
    assert {n["span"] for n in shown} == {None}
    assert len(views.inspected(studio, r)["history"]) == 6


def test_all_of_it_goes_out_and_in_without_loss(studio: Studio, tmp_path: Path) -> None:
    r, sha = illustrated(studio, tmp_path)
    marking.say(studio, r, "local", "critique", "vague", "L1", QUOTE)
    marking.say(studio, r, "local", "critique", "vaguer", "L1", QUOTE)
    marking.say(studio, r, "local", "critique", "dark", span={"image": sha, "x": 1, "y": 2, "w": 3, "h": 4})
    for reason in ("", "because", None, "after all"):
        marking.step(studio, r, r, reason)
    for name in ("all.zip", "folder"):
        exchange.export_studio(studio.store, studio.media, tmp_path / name)
        copy = Studio.open(Config(tmp_path / "other", annotator="ann", models=(ECHO,)))
        exchange.import_path(copy.store, copy.media, tmp_path / name)
        again = exchange.import_path(copy.store, copy.media, tmp_path / name)
        assert (again.trees, again.nodes) == (0, 0)
        [tree] = studio.store.tree_ids()
        dump = copy.store.dump_tree(tree)
        assert dump == studio.store.dump_tree(tree)
        assert (len(dump["feedback"]), len(dump["crucial_steps"])) == (3, 3)
        assert notes(copy, r) == notes(studio, r)
        assert views.opened(copy, node=r)["shared"] == views.opened(studio, node=r)["shared"]
        assert [n.id for n in from_dump(dump).tree.walk()] == [n.id for n in studio.store.path(r)]
        copy.close()
        shutil.rmtree(tmp_path / "other")


def test_an_old_home_opens_with_its_rows_and_a_backup(tmp_path: Path) -> None:
    home = tmp_path / "old"
    home.mkdir()
    old = Database(home / "studio.db")
    migrations.apply(old, stop_before="m005_places")
    rows: dict[str, list[dict[str, Any]]] = {
        "trees": [{"id": "t", "title": "old", "created_at": "2026-01-01"}],
        "nodes": [{"id": "q", "tree_id": "t", "parent_id": None, "ordinal": 0, "role": "user", "created_at": "2026-01-01"},
                  {"id": "r", "tree_id": "t", "parent_id": "q", "ordinal": 0, "role": "assistant", "created_at": "2026-01-01"}],
        "parts": [{"node_id": "r", "ordinal": 0, "kind": "text", "text": REPLY}],
        "feedback": [{"id": "1", "node_id": "r", "level": "local", "kind": "critique", "text": "dry", "annotator": "ann", "created_at": "2026-01-02"}],
        "crucial_steps": [{"leaf_id": "r", "node_id": "r", "annotator": "ann", "created_at": "2026-01-03"}],
    }  # fmt: skip
    for table, given in rows.items():
        old[table].insert_all(given)  # type: ignore[union-attr]
    old.close()
    store = Store(home)
    for table, given in rows.items():
        kept = store.rows(f"SELECT * FROM {table}")
        assert [{k: row[k] for k in want} for row, want in zip(kept, given, strict=True)] == given
    assert store.rows("SELECT span FROM current_feedback") == [{"span": None}]
    assert store.steps(["r"], "ann") == {"r": {"r": {"reason": "", "created_at": "2026-01-03"}}}
    assert store.feedback(["r"], "ann") == {"r": {("local", "critique"): "dry"}}
    store.mark_step("r", "r", "why", "ann")
    assert store.steps(["r"], "ann")["r"]["r"]["reason"] == "why"
    [backup] = (home / "backups").glob("*before-m005_places.db")
    copied = Database(backup)
    assert [row["text"] for row in copied["feedback"].rows] == ["dry"]
    assert "span" not in copied["feedback"].columns_dict
    copied.close()
    store.close()


def test_a_number_without_end_is_an_error_line(studio: Studio) -> None:
    plant(studio, "q", "r")
    endless = json.loads('{"kind": "rate", "rule": "oldest", "goal": 1e999}')
    assert "without what it needs (OverflowError" in api.handle(studio, "annotate_plan", endless)["error"]
