"""The pure tree: paths, siblings, order, where a dialogue ends."""

from __future__ import annotations

import pytest

from studio.tree import Node, Part, Tree


def node(id: str, parent: str | None, role: str = "user", ordinal: int = 0, **more: object) -> Node:
    return Node(id, "t", parent, ordinal, role, [Part("text", id)], **more)  # type: ignore[arg-type]


@pytest.fixture
def tree() -> Tree:
    return Tree("t", nodes=[
        node("q", None), node("b", "q", "assistant", 1), node("a", "q", "assistant", 0), node("c", "q", "assistant", 2, pruned_at="x"),
        node("q2", "a"), node("r2", "q2", "assistant"), node("q3", "c"),
    ])  # fmt: skip


def test_path_runs_from_the_root(tree: Tree) -> None:
    assert [n.id for n in tree.path("r2")] == ["q", "a", "q2", "r2"]
    with pytest.raises(KeyError):
        tree.path("nowhere")


def test_siblings_are_in_order_of_ordinal(tree: Tree) -> None:
    assert tree.siblings("b") == ["a", "b", "c"]
    assert tree.siblings("q") == ["q"]


def test_walk_gives_parents_before_children(tree: Tree) -> None:
    assert [n.id for n in tree.walk()] == ["q", "a", "q2", "r2", "b", "c", "q3"]
    assert [n.id for n in tree.walk("a")] == ["a", "q2", "r2"]


def test_a_leaf_is_where_the_dialogue_goes_on(tree: Tree) -> None:
    assert tree.leaf("q") == "r2"  # b is newer than a, but only a goes on
    assert tree.leaf("b") == "b"


def test_pruned_is_inherited(tree: Tree) -> None:
    assert tree.is_pruned("q3")
    assert not tree.is_pruned("r2")


def test_dialogues_end_at_replies_without_children(tree: Tree) -> None:
    assert sorted(tree.dialogues()) == ["b", "r2"]
    assert tree.depth("r2") == 2
    assert tree.nodes["q"].text == "q"
    assert tree.nodes["q"].images == []
