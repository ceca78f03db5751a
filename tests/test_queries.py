"""The page on queries: each of its ten runs on a filled home while the studio is open; Datasette's labels name what exists."""

from __future__ import annotations

import json
import re
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from studio.actions import Studio
from studio.tree import Part
from tests.conftest import plant

PAGE = Path(__file__).resolve().parents[1] / "docs" / "queries.md"
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
ANSWERS: list[list[tuple[Any, ...]]] = [
    [("assistant", 4, 2), ("user", 3, 2)],
    [("G2", 2, 1), ("L1", 0, 1), ("L1", 1, 1), ("L1", 3, 2)],
    [("m", "G2", 2.0, 1), ("m", "L1", 2.0, 3), ("other", "L1", 1.0, 1)],
    [("L1", "ann", 3, "bob", 0)],
    [("another", "m", "done")],
    [("global", "G2", "comparison", 1, 1), ("local", "L1", "score", 1, 0), ("local", "overall", "comparison", 1, 0)],
    [("ann", "critique", "too short", "no")],
    [("ann", "L1", 2, 3)],
    [(1, 2), (2, 1)],
    [("user", "another"), ("assistant", "fine")],
]  # fmt: skip


@pytest.fixture
def filled(studio: Studio) -> Studio:
    """Two trees: one with two turns and a sibling, one with one turn; scores by two people, one of them changed."""
    store = studio.store
    question, reply, _, last = plant(studio, "first", "no", "why?", "because")
    tree = store.node(question).tree_id
    sibling = store.add_node(tree, question, "assistant", [Part("text", "yes")], model="other")
    plant(studio, "another", "fine")
    store.rate(reply, "L1", 2, "ann")
    time.sleep(0.003)  # a person takes longer; the query tells a changed mind by its time
    store.rate(reply, "L1", 3, "ann")
    time.sleep(0.003)
    store.rate(reply, "L1", 0, "bob")
    store.rate(last, "L1", 3, "ann")
    store.rate(last, "G2", 2, "ann")
    store.rate(sibling, "L1", 1, "ann")
    store.compare("local", "overall", reply, sibling, "right", "ann")
    store.compare("global", "G2", last, sibling, "tie", "ann")
    store.say(reply, "local", "critique", "too short", "ann")
    return studio


def test_there_are_ten() -> None:
    assert len(QUERIES) == len(ANSWERS) == 10


@pytest.mark.parametrize("n", range(10))
def test_a_query_of_the_page(filled: Studio, n: int) -> None:
    database = Database(filled.store.file)  # another program's connection, the studio still open
    try:
        assert [tuple(row.values()) for row in database.query(QUERIES[n])] == ANSWERS[n]
    finally:
        database.close()


def test_every_label_names_what_exists(studio: Studio) -> None:
    labels = json.loads(files("assets").joinpath("datasette.json").read_text(encoding="utf-8"))
    [(database, content)] = labels["databases"].items()
    assert database == studio.store.file.stem  # Datasette calls a database by its file
    for name, table in content["tables"].items():
        columns = {r["name"] for r in studio.store.rows("SELECT name FROM pragma_table_info(?)", [name])}
        assert columns, f"there is no {name}"
        assert set(table.get("columns", {})) <= columns, name
    there = studio.store.rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    ours = {r["name"] for r in there if not re.match("_|sqlite_|parts_fts", r["name"])}
    assert ours == set(content["tables"])
