"""The orders that ask the judge, against orders worked out by hand; and what a score is said to rest on."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from studio import StudioError, annotating, api, ordering
from studio.actions import Studio
from studio.store import Candidate
from studio.uncertainty import entropy, gap, margin_in_spreads, probability
from tests.conftest import plant
from tests.test_annotating import family, item, judged, queue


def reply(name: str, tree: str = "t") -> Candidate:
    return Candidate(name, tree, f"q-{tree}", 2, "m", "", True, 0, None)


def test_two_scores_and_their_spreads() -> None:
    assert gap((2.5, 0.3), (2.0, 0.4)) == pytest.approx((0.5, 0.5))
    assert margin_in_spreads((2.0, 0.4), (2.5, 0.3)) == pytest.approx(1.0)
    assert margin_in_spreads((2.0, None), (2.5, None)) == math.inf
    assert margin_in_spreads((2.0, 0.0), (2.0, 0.0)) == 0.0
    assert probability((2.5, 0.3), (2.0, 0.4)) == pytest.approx(0.841345, abs=1e-6)  # Phi(1)
    assert [probability(a, b) for a, b in (((1, 0), (0, 0)), ((0, None), (1, None)), ((1, 0), (1, 0)))] == [
        1.0,
        0.0,
        0.5,
    ]
    assert [entropy(p) for p in (0.0, 0.5, 1.0)] == [0.0, 1.0, 0.0]
    assert entropy(0.25) == pytest.approx(0.811278, abs=1e-6)


def test_the_closest_call_first_by_difference_and_spread() -> None:
    told = {
        "a": {"overall": (2.0, 0.3)},
        "b": {"overall": (2.5, 0.4)},  # 0.5 / 0.5 = 1
        "c": {"overall": (2.0, 0.6)},
        "d": {"overall": (2.5, 0.8)},  # 0.5 / 1 = 0.5: as far apart, less sure
        "e": {"overall": (1.0, 0.03)},
        "f": {"overall": (1.1, 0.04)},  # 0.1 / 0.05 = 2: closer, but sure of it
        "g": {"L1": (1.0, 0.3), "L2": (3.0, 0.1)},
        "h": {"L1": (1.1, 0.4), "L2": (0.0, 0.1)},
    }  # 0.1 / 0.5 = 0.2 on L1
    pairs = [[reply(x), reply(y)] for x, y in ("ef", "ab", "xy", "gh", "cd")]
    order = ["".join(c.id for c in g) for g in ordering.unsure(pairs, told)]
    assert order == ["gh", "cd", "ab", "ef", "xy"]  # of xy the judge has said nothing


def test_a_group_comes_where_its_closest_pair_would() -> None:
    told = {n: {"overall": (v, 0.5)} for n, v in zip("abcde", (0.0, 1.0, 3.0, 1.5, 1.4), strict=True)}
    groups = [[reply("a"), reply("b"), reply("c")], [reply("d"), reply("e")]]  # 1 / 0.707, and 0.1 / 0.707
    assert ordering.unsure(groups, told) == groups[::-1]


def test_what_teaches_most_a_minute_is_worked_out_by_hand() -> None:
    told = {
        "a": {"overall": (2.0, 0.3)},
        "b": {"overall": (2.0, 0.4)},  # 1 bit * 0.5
        "c": {"overall": (2.5, 0.3)},
        "d": {"overall": (2.0, 0.4)},  # H(Phi(1)) = 0.631 bit * 0.5 = 0.315
        "e": {"overall": (2.0, 0.06)},
        "f": {"overall": (2.0, 0.08)},  # 1 bit * 0.1
        "g": {"overall": (2.0, 0.3)},
        "h": {"overall": (2.0, 0.4)},
        "i": {"overall": (2.0, 0.0)},
    }
    # g, h, i: 0.5 + 0.3 + 0.4 = 1.2 over three replies is 0.4 a reply; a, b: 0.5 over two is 0.25
    groups = [
        [reply(x, t) for x in names] for names, t in (("ef", "1"), ("cd", "2"), ("ab", "3"), ("ghi", "4"), ("xy", "5"))
    ]
    order = ["".join(c.id for c in g) for g in ordering.teach(groups, "local", told, 10.0, {}, set())]
    assert order == ["ghi", "ab", "cd", "ef", "xy"]
    done = {frozenset("gh"), frozenset("hi")}  # left of it: 0.3 over three, less than a, b and than c, d
    order = ["".join(c.id for c in g) for g in ordering.teach(groups, "local", told, 10.0, {}, done)]
    assert order == ["ab", "cd", "ghi", "ef", "xy"]


def test_no_tree_twice_before_each_had_one() -> None:
    spreads = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.2, "e": 0.1, "f": 0.3}
    told = {n: {"L1": (1.0, s)} for n, s in spreads.items()}
    groups = [
        [reply(n, tree)]
        for n, tree in (("a", "1"), ("b", "1"), ("c", "1"), ("d", "2"), ("e", "2"), ("f", "3"), ("x", "4"))
    ]
    order = "".join(g[0].id for g in ordering.teach(groups, "rate", told, 1.0, {}, set()))
    assert order == "afd" + "be" + "c" + "x"  # best of each, second of each, ...; what was never scored


def test_what_was_rated_teaches_nothing_more() -> None:
    told = {
        "a": {"L1": (1.0, 0.5), "L2": (1.0, 0.6)},
        "b": {"L1": (1.0, 0.4), "L2": (1.0, 0.3)},
        "c": {"overall": (1.0, 0.65)},
    }
    groups = [[reply(n, n)] for n in "abc"]
    order = lambda rated: "".join(g[0].id for g in ordering.teach(groups, "rate", told, 1.0, rated, set()))  # noqa: E731
    assert order({}) == "abc"  # 1.1, 0.7, 0.65
    assert order({"a": {"L2"}}) == "bca"  # 0.5 is left
    assert order({"a": {"L1", "L2"}, "b": {"L1"}}) == "cba"


def test_the_pace_is_the_median_of_what_was_recorded() -> None:
    assert ordering.pace("local", [(10.0, 2), (40.0, 4), (90.0, 3)]) == 10.0  # 5, 10 and 30 s a reply
    assert ordering.pace("rate", []) == ordering.PACE_S["rate"] == 30.0
    assert ordering.pace("rate", [(0.0, 1)]) == 30.0


# ---- through the queue


def pairs(studio: Studio, *said: tuple[float, float, float, float]) -> dict[str, frozenset[str]]:
    """A tree with two replies for each (value, spread, value, spread) on L1; the pair of each, by its name."""
    made = {}
    for i, (a, sa, b, sb) in enumerate(said):
        left, right = family(studio, 2, f"q{i}")
        judged(studio, (left, "L1", a, sa), (right, "L1", b, sb))
        made[f"p{i}"] = frozenset((left, right))
    return made


def order(studio: Studio, made: dict[str, frozenset[str]]) -> list[str]:
    names = {nodes: name for name, nodes in made.items()}
    return [names[frozenset(nodes)] for nodes in queue(studio)]


def test_unsure_pairs_use_spread_and_margin(studio: Studio) -> None:
    made = pairs(studio, (2.0, 0.9, 0.1, 0.9), (2.0, 0.1, 1.95, 0.1), (2.0, 0.4, 1.7, 0.4))  # 1.49, 0.35, 0.53 spreads
    annotating.plan(studio, "local", "unsure", 10)
    assert order(studio, made) == ["p1", "p2", "p0"]
    annotating.plan(
        studio, "local", "teach", 10
    )  # bits times spread: 0.36 * 1.27 = 0.45, 0.94 * 0.14 = 0.13, 0.88 * 0.57 = 0.50
    assert order(studio, made) == ["p2", "p0", "p1"]  # neither the surest nor the flattest teaches most


def test_the_live_judge_is_asked_before_the_newest(studio: Studio, tmp_path: Any) -> None:
    a, b = family(studio, 2)
    judged(studio, (a, "L1", 2.0, 0.9), (b, "L1", 2.0, 0.1))
    studio.store.add_judge("newer", "tiny", {}, "", {}, "")
    studio.store.save_judge_scores("newer", [(a, "L1", 2.0, 0.1), (b, "L1", 2.0, 0.9)])
    annotating.plan(studio, "rate", "unsure", 10)
    assert queue(studio) == [(b,), (a,)]
    (studio.store.home / "judges" / "jane").mkdir(parents=True)
    studio.judge.choice.file.write_text("jane", encoding="utf-8")
    annotating.plan(studio, "rate", "teach", 10)
    assert queue(studio) == [(a,), (b,)]


def test_own_pace_is_read_from_the_items_done(studio: Studio) -> None:
    family(studio, 3)
    assert studio.store.work("ann", "rate") == []
    annotating.plan(studio, "rate", "random", 10)
    for node, seconds in zip("ab", (4.0, 8.0), strict=True):
        annotating.finish(studio, item(studio), seconds)
    assert sorted(studio.store.work("ann", "rate")) == [(4.0, 1), (8.0, 1)]
    assert studio.store.work("ann", "local") == studio.store.work("bob", "rate") == []


def test_a_rule_says_in_a_sentence_what_it_does(studio: Studio) -> None:
    told = annotating.state(studio)
    assert set(told["hints"]) == {"unsure", "teach"} <= set(told["rules"])
    assert "30 s a reply to rate" in told["hints"]["teach"]
    with pytest.raises(StudioError, match="No judge has said how sure"):
        plant(studio, "q", "r")
        annotating.plan(studio, "rate", "teach", 10)


# ---- what a score rests on


REPORT = {
    "pairs_by": [{"by": "dimension", "key": "L4", "n": 24, "trees": 8, "accuracy": 0.75, "interval": [0.5, 0.9], "interval_note": "only 8 trees",
                  "baselines": {"coin": {"value": 0.5}, "longer": {"value": 0.6}, "majority": {"value": 0.55, "side": "left"}}},
                 {"by": "level", "key": "local", "n": 99}],
    "scores_by": [{"by": "dimension", "key": "L4", "n": 30, "trees": 9, "mae": {"value": 0.4, "interval": [0.3, 0.5]}, "interval_note": None,
                   "baselines": {"always_3": {"mae": {"value": 0.9}}, "majority": {"mae": {"value": 0.6}}}}],
}  # fmt: skip


def live(studio: Studio, metrics: dict[str, Any], report: Any = None) -> None:
    studio.store.add_judge("one", "tiny", {}, "", {"trained": {"L4": 60, "L1": 20}} | metrics, "")
    folder = studio.store.home / "judges" / "one"
    folder.mkdir(parents=True)
    if report is not None:
        (folder / "report.json").write_text(report if isinstance(report, str) else json.dumps(report), encoding="utf-8")
    studio.judge.choice.file.write_text("one", encoding="utf-8")


def about(studio: Studio, dimension: str) -> dict[str, Any]:
    return api.handle(studio, "judge_about", {"dimension": dimension})


def test_a_score_rests_on_its_own_dimension(studio: Studio) -> None:
    live(studio, {}, REPORT)
    told = about(studio, "L4")
    assert (told["judge"], told["labels"], told["enough"]) == ("one", 60, 50)
    assert told["pairs"] == {"n": 24, "trees": 8, "apart": True, "accuracy": 0.75, "interval": [0.5, 0.9], "note": "only 8 trees",
                             "beside": {"a coin": 0.5, "the longer reply": 0.6, "majority class": 0.55}}  # fmt: skip
    assert told["scores"] == {"n": 30, "trees": 9, "apart": True, "error": 0.4, "interval": [0.3, 0.5], "note": None,
                              "beside": {"always 3": 0.9, "always the commonest score": 0.6}}  # fmt: skip
    assert told["untested"] is None
    other = about(studio, "L1")
    assert (other["labels"], other["pairs"], other["scores"]) == (20, None, None)
    assert "No unseen dialogue had a label of L1" in other["untested"]


@pytest.mark.parametrize("report", [None, "{ cut short", "[1, 2]"])
def test_without_a_whole_report_the_stored_figures_say_that_they_are_of_all(studio: Studio, report: str | None) -> None:
    pooled = REPORT["pairs_by"][0] | {"by": None}
    live(studio, {"pairs": pooled}, report)
    told = about(studio, "L1")
    assert (told["pairs"]["n"], told["pairs"]["apart"]) == (24, False)
    assert told["untested"] is None


def test_why_there_is_no_figure(studio: Studio) -> None:
    assert "No judge is live" in about(studio, "L4")["error"]
    live(studio, {"untested": "None of the 2 test trees of judge 'one' has a label: rate more."})
    told = about(studio, "L4")
    assert (told["pairs"], told["scores"]) == (None, None)
    assert told["untested"].startswith("None of the 2 test trees")
