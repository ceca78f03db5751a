"""Labels, weights, derived pairs, groups, splits and hashes, against tables with known answers."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.datacard import data_card
from judge.examples import Comparison, Example, Score, data_hash, from_dump
from judge.groups import folds, group_of, grouped, split
from judge.labels import count, oriented, prepare, with_derived
from judge.rubric import row_of
from judge.standing import MIRRORED
from studio.tree import Node, Part, Tree

LONG = "please explain how a bridge of rope is built over a wide river"

HAN = "请解释一下怎样在一条很宽的河上用绳子搭一座桥"
THAI = "ช่วยอธิบายวิธีสร้างสะพานเชือกข้ามแม่น้ำที่กว้างให้หน่อย"


def tree(shape: dict[str, str | None], name: str = "t", pruned: str = "", texts: dict[str, str] | None = None) -> Tree:
    """Nodes by name with their parents; names that begin with q are questions. A text is the node's name and tree."""
    return Tree(name, nodes=[
        Node(i, name, parent, n, "user" if i[0] == "q" else "assistant", [Part("text", (texts or {}).get(i, f"{i} of {name}"))],
             pruned_at="2026-01-01" if i in pruned.split() else None)
        for n, (i, parent) in enumerate(shape.items())
    ])  # fmt: skip


SIBLINGS: dict[str, str | None] = {"q": None, "a": "q", "b": "q", "c": "q", "q2": "a", "d": "q2", "e": "q2"}


def dump(**tables: list[dict[str, Any]]) -> dict[str, Any]:
    """A line of a studio file with a question and three replies."""
    nodes = [
        {"id": i, "tree_id": "t", "parent_id": p, "ordinal": n, "role": "user" if i == "q" else "assistant"}
        for n, (i, p) in enumerate({"q": None, "a": "q", "b": "q", "c": "q"}.items())
    ]
    return {"tree": {"id": "t"}, "nodes": nodes, "parts": [], **tables}


def score(
    node: str, value: int, who: str = "ann", round: int = 1, at: str = "2026-01-01", dimension: str = "L1"
) -> Any:
    return {"node_id": node, "dimension": dimension, "value": value, "annotator": who, "round": round, "created_at": at}


def compared(left: str, right: str, outcome: str, who: str = "ann", round: int = 1) -> Any:
    return {"left_node": left, "right_node": right, "outcome": outcome, "dimension": "overall", "level": "local",
            "annotator": who, "round": round, "created_at": "2026-01-01"}  # fmt: skip


def returned(node: str, who: str, at: str, round: int = 2, level: str = "local") -> Any:
    return {"node_id": node, "kind": "rationale", "dimension": None, "span": None, "level": level, "text": "Look again.",
            "annotator": who, "round": round, "created_at": at}  # fmt: skip


@pytest.mark.parametrize(("rows", "feedback", "standing"), [
    ([score("a", 3)], [], {("ann", 3, 1.0)}),
    ([score("a", 3), score("a", 1, "bob")], [], {("ann", 3, 0.5), ("bob", 1, 0.5)}),
    ([score("a", 3), score("a", 1, "bob", 2)], [], {("bob", 1, 1.0)}),  # a correction replaces the first score
    ([score("a", 3), score("a", 3, "bob", 2)], [], {("bob", 3, 1.0)}),  # an agreement repeats it
    ([score("a", 3), score("a", 1, "bob", 2)], [returned("a", "bob", "2026-01-02")], set()),
    ([score("a", 2, at="2026-01-03"), score("a", 1, "bob", 2)], [returned("a", "bob", "2026-01-02")], {("ann", 2, 1.0)}),
    # one's own second thoughts replace one's own score, not another person's
    ([score("a", 3), score("a", 0, "bob"), score("a", 2, round=2)], [], {("ann", 2, 0.5), ("bob", 0, 0.5)}),
    ([score("a", 3), score("a", 0, "bob"), score("a", 2, "eve", 2)], [], {("eve", 2, 1.0)}),
    ([score("a", 3) | {"superseded_at": "2026-01-02"}, score("a", 0)], [], {("ann", 0, 1.0)}),
    ([score("a", 3)], [returned("a", "bob", "2026-01-02", level="global")], {("ann", 3, 1.0)}),
    ([score("a", 3)], [returned("a", "bob", "2026-01-02", round=1)], {("ann", 3, 1.0)}),  # a first pass's own reason
])  # fmt: skip
def test_which_scores_stand(rows: list[Any], feedback: list[Any], standing: set[tuple[str, int, float]]) -> None:
    example = from_dump(dump(scores=rows, feedback=feedback))
    assert {(s.annotator, s.value, s.weight) for s in example.scores} == standing


def test_two_people_share_one_weight_whatever_side_they_saw() -> None:
    example = from_dump(dump(comparisons=[compared("a", "b", "left"), compared("b", "a", "right", "bob")]))
    assert [(c.left, c.right, c.outcome, c.weight) for c in example.comparisons] == [("a", "b", "left", 0.5)] * 2
    assert [r.agrees for r in example.repeats] == [True]
    apart = from_dump(dump(comparisons=[compared("a", "b", "left"), compared("b", "a", "left", "bob")]))
    assert sorted(c.outcome for c in apart.comparisons) == ["left", "right"]
    assert [r.agrees for r in apart.repeats] == [False]


def test_derived_pairs_weigh_as_their_ratings_and_no_rating_counts_twice() -> None:
    scores = [Score("a", "L1", 3), Score("b", "L1", 1), Score("c", "L1", 1)]
    full = with_derived(Example(tree(SIBLINGS), scores))
    assert [(c.left, c.right, c.outcome, c.margin, c.weight) for c in full.comparisons] == [
        ("a", "b", "left", 2, 0.75), ("a", "c", "left", 2, 0.75),
    ]  # fmt: skip
    assert [s.weight for s in full.scores] == [0.5, 0.5, 0.5]
    assert sum(c.weight for c in full.comparisons) + sum(s.weight for s in full.scores) == 3


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30))
@settings(max_examples=100, deadline=None)
def test_a_family_never_weighs_more_than_its_ratings(values: list[int]) -> None:
    shape: dict[str, str | None] = {"q": None, **{f"a{i}": "q" for i in range(len(values))}}
    scores = [Score(f"a{i}", "L4", v) for i, v in enumerate(values)]
    full = with_derived(Example(tree(shape), scores))
    total = sum(s.weight for s in full.scores) + sum(c.weight for c in full.comparisons)
    assert total == pytest.approx(len(values))
    if full.comparisons:
        assert sum(c.weight for c in full.comparisons) == pytest.approx(
            sum(s.weight for s in full.scores if s.weight < 1)
        )


def test_a_persons_pair_is_left_to_the_person_on_its_own_dimension_only() -> None:
    scores = [Score(n, d, v) for n, v in (("a", 3), ("b", 0)) for d in ("L1", "L2")]
    by_person = [Comparison("b", "a", "L1", "local", "left")]
    full = with_derived(Example(tree(SIBLINGS), scores, by_person))
    assert [(c.dimension, c.margin) for c in full.comparisons] == [("L1", None), ("L2", 3)]


def test_global_pairs_have_a_common_start_and_no_ancestor() -> None:
    two_roots: dict[str, str | None] = {**SIBLINGS, "q9": None, "z": "q9"}
    scores = [Score(n, "G2", v) for n, v in (("a", 0), ("d", 1), ("e", 2), ("z", 3))]
    full = with_derived(Example(tree(two_roots), scores))
    assert {(c.left, c.right) for c in full.comparisons} == {("d", "e")}  # a is their beginning, z another start


@pytest.mark.parametrize(("label", "reason"), [
    (Score("gone", "L1", 1), "a reply that is not in its tree"),
    (Score("q", "L1", 1), "a label of a question"),
    (Score("e", "L1", 1), "a pruned branch"),
    (Score("a", "L1", 7), "a score off the scale of L1"),
    (Score("a", "mood", 1), "no dimension mood in the rubric here (take over its rubric.json)"),
    (Comparison("a", "d", "L1", "local", "left"), "two replies to different questions"),
    (Comparison("a", "d", "overall", "global", "left"), "a dialogue compared with its own beginning"),
    (Comparison("a", "a", "overall", "local", "tie"), "a reply compared with itself"),
])  # fmt: skip
def test_what_teaches_nothing_is_counted_with_its_reason(label: Any, reason: str) -> None:
    good = Comparison("a", "b", "overall", "local", "left")
    example = Example(tree(SIBLINGS, pruned="e"), [Score("b", "L1", 2)], [good])
    (example.scores if isinstance(label, Score) else example.comparisons).append(label)
    prepared = prepare([example])
    assert [s.reason for s in prepared.left_out] == [reason]
    assert count(prepared.examples) == 2
    card = data_card(prepared, split(prepared.examples))
    assert card["skipped"]["sentence"] == f"3 labels; 1 left out: {reason}."


def test_a_branch_below_a_pruned_reply_is_pruned() -> None:
    prepared = prepare([Example(tree(SIBLINGS, pruned="a"), [Score("d", "L1", 2), Score("b", "L1", 2)])])
    assert [s.node for s in prepared.left_out] == ["d"]


def test_people_who_agree_about_a_pruned_reply_are_no_ceiling() -> None:
    rows = [score("a", 3), score("a", 3, "bob"), score("b", 1), score("b", 2, "bob")]
    example = from_dump(dump(scores=rows))
    assert [(r.nodes, r.agrees) for r in example.repeats] == [(("a",), True), (("b",), False)]
    gone = replace(example, tree=tree({"q": None, "a": "q", "b": "q", "c": "q"}, pruned="a"))
    assert [r.nodes for r in prepare([gone]).examples[0].repeats] == [("b",)]


def test_sides_are_chance_whatever_was_stored() -> None:
    """On imported rankings the better one always stood left, and "always left" was right in every pair."""
    shape: dict[str, str | None] = {"q": None, "a": "q", "b": "q"}
    stored = [
        Example(tree(shape, f"t{i}"), comparisons=[Comparison("a", "b", "overall", "local", "left")])
        for i in range(400)
    ]
    turned = [replace(e, comparisons=[Comparison("b", "a", "overall", "local", "right")]) for e in stored]
    dealt = [c for e in prepare(stored).examples for c in e.comparisons]
    assert 150 < sum(c.outcome == "left" for c in dealt) < 250
    assert dealt == [c for e in prepare(turned).examples for c in e.comparisons]
    other = [c.outcome for e in prepare(stored, seed=1).examples for c in e.comparisons]
    assert other != [c.outcome for c in dealt]
    assert all((c.left if c.outcome == "left" else c.right) == "a" for c in dealt)


@given(st.sampled_from(["left", "right", "tie"]), st.integers(0, 99), st.booleans())
def test_orientation_keeps_who_is_better(outcome: Any, seed: int, swap: bool) -> None:
    label = (
        Comparison("b", "a", "L1", "local", MIRRORED[outcome]) if swap else Comparison("a", "b", "L1", "local", outcome)
    )
    (dealt,) = oriented(Example(tree(SIBLINGS), comparisons=[label]), seed).comparisons
    assert dealt.canonical() == ("a", "b", outcome)


def test_the_level_of_a_comparison_is_in_the_hash_and_its_side_is_not() -> None:
    def hashed(*labels: Comparison) -> str:
        return data_hash([Example(tree(SIBLINGS), comparisons=list(labels))])

    local = Comparison("b", "c", "overall", "local", "left")
    assert hashed(local) == hashed(Comparison("c", "b", "overall", "local", "right"))
    assert hashed(local) != hashed(replace(local, level="global"))
    assert hashed(local) != hashed(replace(local, outcome="tie"))
    assert (row_of("local", "overall"), row_of("global", "overall")) == ("overall", "overall_global")
    assert local.row != replace(local, level="global").row


# ---- groups


def asking(name: str, *questions: str, pictures: dict[str, bytes | Path] | None = None, later: str = "") -> Example:
    """A tree with these root questions, each with its own reply; ``later``: a second turn's question."""
    nodes = []
    for i, text in enumerate(questions):
        parts = [Part("text", text), *(Part("image", "", sha) for sha in pictures or {})]
        nodes += [
            Node(f"q{i}", name, None, i, "user", parts),
            Node(f"a{i}", name, f"q{i}", 0, "assistant", [Part("text", f"{name} says {i}")]),
        ]
    if later:
        nodes += [
            Node("q9", name, "a0", 0, "user", [Part("text", later)]),
            Node("a9", name, "q9", 0, "assistant", [Part("text", f"{name} goes on")]),
        ]
    return Example(Tree(name, nodes=nodes), [Score("a0", "L1", 1)], images=pictures or {})


def png(seed: int, change: int = 0) -> bytes:
    """A picture of random blocks; ``change`` moves every pixel a little."""
    from PIL import Image

    rng = random.Random(seed)
    small = Image.new("L", (8, 8))
    small.putdata([rng.randrange(30, 220) for _ in range(64)])
    large = small.resize((64, 64)).point(lambda v: v + change)
    out = io.BytesIO()
    large.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(("a", "b", "together"), [
    (asking("a", "One"), asking("b", "Two"), False),
    (asking("a", "One"), asking("b", "  ONE! "), True),
    (asking("a", "One", "Two"), asking("b", "Three", "Two"), True),  # each root counts, not the list of them
    (asking("a", LONG), asking("b", LONG + " in winter"), True),
    (asking("a", LONG), asking("b", "please explain how a bridge of rope is built by three children"), False),
    (asking("a", "One", later=LONG), asking("b", "Two", later=LONG), True),  # a copied later turn
    (asking("a", "One", later="Go on"), asking("b", "Two", later="Go on"), False),
    (asking("a", HAN), asking("b", HAN + "谢谢"), True),  # written without spaces: letters count
    (asking("a", HAN), asking("b", "请告诉我明天早上去火车站坐哪一路公共汽车最快"), False),
    (asking("a", "One", later=HAN), asking("b", "Two", later=HAN), True),
    (asking("a", THAI), asking("b", THAI + " นะ"), True),
    (asking("a", "🎉🎉"), asking("b", " 🎉🎉"), True),  # symbols alone
    (asking("a", "🎉🎉"), asking("b", "🚀"), False),
    (asking("a", "What is it?", pictures={"1": png(1)}), asking("b", "What is it?", pictures={"2": png(2)}), False),
    (asking("a", "What is it?", pictures={"1": png(1)}), asking("b", "Where is it?", pictures={"1": png(1)}), True),
    (asking("a", "What is it?", pictures={"1": png(1)}), asking("b", "Where is it?", pictures={"3": png(1, 4)}), True),
])  # fmt: skip
def test_which_trees_belong_together(a: Example, b: Example, together: bool) -> None:
    first, second = grouped([a, b])
    assert (group_of(first) == group_of(second)) is together


def test_groups_are_transitive_and_never_divided() -> None:
    chain = [asking("a", "One", "Two"), asking("b", "Two", "Three"), asking("c", "Three")]
    rest = [asking(f"t{i}", f"Question {i}") for i in range(30)]
    for seed in range(20):
        parts = split([*chain, *rest], seed)
        assert sum({"a", "b", "c"} <= set(s) for s in (parts.train, parts.validation, parts.test)) == 1
        assert sorted((*parts.train, *parts.validation, *parts.test)) == sorted(e.tree.id for e in (*chain, *rest))
    for fold in folds([*chain, *rest], 5):
        assert {"a", "b", "c"} <= set(fold.test) or not {"a", "b", "c"} & set(fold.test)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_folds_and_splits_hold_every_tree_once(questions: list[int], seed: int) -> None:
    examples = grouped([asking(f"t{i:02}", f"Question {q}") for i, q in enumerate(questions)])
    ids = sorted(e.tree.id for e in examples)
    groups = {e.tree.id: group_of(e) for e in examples}
    parts = split(examples, seed)
    sides = [set(parts.train), set(parts.validation), set(parts.test)]
    assert sorted(i for side in sides for i in side) == ids
    assert not {groups[i] for i in sides[0]} & {groups[i] for i in sides[2]}
    dealt = folds(examples, 3, seed)
    assert sorted(i for fold in dealt for i in fold.test) == ids
    for fold in dealt:
        assert not {groups[i] for i in fold.train} & {groups[i] for i in fold.test}
