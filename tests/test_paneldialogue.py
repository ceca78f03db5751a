"""One dialogue as several judges see it: scores on their own scales, else rank and probability, and where two part."""

from __future__ import annotations

import math
from typing import Any

import pytest

from studio import panel, paneldialogue
from studio.actions import Studio
from studio.tree import Part
from tests.conftest import plant


def listed(studio: Studio, name: str, metrics: dict[str, Any], kind: str = "") -> None:
    config = {"kind": kind} if kind else {"level": "both"}
    studio.store.add_judge(name, "base", config, "none", metrics, "" if kind else f"judges/{name}")
    if not kind:
        (studio.store.home / "judges" / name).mkdir(parents=True)


@pytest.fixture
def family(studio: Studio) -> tuple[Studio, str, list[str]]:
    """One question with three replies; returns the studio, the tree and the replies."""
    question, first = plant(studio, "q", "a")
    tree = studio.store.node(question).tree_id
    more = [studio.store.add_node(tree, question, "assistant", [Part("text", t)]) for t in "bc"]
    return studio, tree, [first, *more]


def said(studio: Studio, tree: str, *chosen: str) -> dict[str, dict[str, Any]]:
    """What the chosen judges say, by reply and judge."""
    return {r["id"]: r["said"] for r in panel.state(studio, chosen, tree, None, False)["shown"]["rows"]}


def test_a_row_with_scores_is_on_its_own_scale(family: tuple[Studio, str, list[str]]) -> None:
    studio, tree, (a, *_) = family
    listed(studio, "one", {"trained": {"G5": 60}, "scored": {"G5": 60}})
    studio.store.save_judge_scores("one", [(a, "G5", 1.0, 0.2, 0.4, (0.8, 1.2))])
    one = said(studio, tree, "one")[a]["one"]["G5"]
    assert (one["value"], one["low"], one["high"], one["share"]) == (1.0, -1, 3, 0.5)
    assert "rank" not in one


def test_a_row_without_scores_has_rank_and_probability(family: tuple[Studio, str, list[str]]) -> None:
    studio, tree, (a, b, c) = family
    listed(studio, "one", {"trained": {"overall": 60}, "scored": {}, "ties": {"overall": 0.4}})
    studio.store.save_judge_scores("one", [(n, "overall", v, 0.1, v, (v,)) for n, v in ((a, 2.0), (b, 1.0), (c, -1.0))])
    rows = said(studio, tree, "one")
    assert {n: (r["one"]["overall"]["rank"], r["one"]["overall"]["of"]) for n, r in rows.items()} == {
        a: (1, 3),
        b: (2, 3),
        c: (3, 3),
    }
    best = rows[a]["one"]["overall"]
    assert "value" not in best

    def beats(difference: float) -> float:
        return 1 / (1 + math.exp(-(difference - 0.4)))

    assert best["win"] == pytest.approx((beats(1.0) + beats(3.0)) / 2)
    assert best["share"] == best["win"]


def test_a_chat_model_gives_scores_on_every_row(family: tuple[Studio, str, list[str]]) -> None:
    studio, tree, (a, *_) = family
    listed(studio, "zero", {}, "zero-shot")
    studio.store.save_judge_scores("zero", [(a, "overall", 2.0), (a, "G5", -1.0)])
    one = said(studio, tree, "zero")[a]["zero"]
    assert (one["overall"]["value"], one["overall"]["high"], one["G5"]["low"], one["G5"]["share"]) == (2.0, 3, -1, 0.0)


def test_a_gap_is_a_share_of_the_range(family: tuple[Studio, str, list[str]]) -> None:
    studio, tree, (a, b, _) = family
    for name, values in (("one", {a: 3.0, b: 1.0}), ("two", {a: -1.0, b: 1.4})):
        listed(studio, name, {"trained": {"G5": 60}, "scored": {"G5": 60}})
        studio.store.save_judge_scores(name, [(n, "G5", v, None, v) for n, v in values.items()])
    apart = panel.state(studio, ("one", "two"), tree, None, False)["shown"]["apart"]
    assert [(p["id"], p["dimension"]) for p in apart] == [(a, "G5"), (b, "G5")]
    assert [p["gap"] for p in apart] == pytest.approx([1.0, 0.1])  # of -1 to 3


def test_a_rank_and_a_score_do_not_part(family: tuple[Studio, str, list[str]]) -> None:
    studio, tree, (a, b, _) = family
    listed(studio, "one", {"trained": {"overall": 60}, "scored": {}})
    listed(studio, "zero", {}, "zero-shot")
    for name, values in (("one", {a: -4.0, b: 4.0}), ("zero", {a: 3.0, b: 0.0})):
        studio.store.save_judge_scores(name, [(n, "overall", v, None, v) for n, v in values.items()])
    assert panel.state(studio, ("one", "zero"), tree, None, False)["shown"]["apart"] == []


def test_blind_hides_the_dialogue_row_with_the_dialogue(family: tuple[Studio, str, list[str]]) -> None:
    studio, tree, (a, *_) = family
    for dimension in ("L1", "L2", "L3", "L4"):
        studio.store.rate(a, dimension, 1, "ann")
    (row,) = (r for r in paneldialogue.rows(studio, tree, None) if r["id"] == a)
    hidden = paneldialogue.hidden(row)
    assert "overall_global" in hidden
    assert "overall" not in hidden
    assert "G5" in hidden
