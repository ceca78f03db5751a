"""What a queue asks about and in which order: every rule, every kind, filters, fairness of sides, and how much is read for it."""

from __future__ import annotations

import io
import math
from collections import Counter

import pytest
from PIL import Image

from studio import StudioError, annotating
from studio.actions import Studio
from studio.store.queues import NEXT
from studio.tree import Part
from tests.conftest import plant
from tests.test_annotating import family, item, judged, queue


def picture(studio: Studio, shade: int) -> str:
    """Keep a picture wider than any screen; returns its hash."""
    data = io.BytesIO()
    Image.new("L", (2000, 30), shade).save(data, "PNG")
    kept = studio.media.add(data.getvalue())
    studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "upload")
    return kept.sha256


def shown_picture(studio: Studio) -> str:
    return str(annotating.state(studio)["item"]["prefix"][0]["parts"][0]["view"])


def test_unrated_replies_come_first(studio: Studio) -> None:
    a, b, c = family(studio, 3)
    for dimension in ("L1", "L2"):
        studio.store.rate(a, dimension, 2, "ann")
    studio.store.rate(b, "L1", 2, "ann")
    studio.store.rate(c, "L1", 2, "bob")
    annotating.plan(studio, "rate", "unrated", 10)
    assert queue(studio) == [(c,), (b,), (a,)]


def test_where_the_judge_is_least_sure(studio: Studio) -> None:
    a, b, c = family(studio, 3)
    judged(studio, (a, "L1", 2.0, 0.1), (b, "L1", 2.0, 0.9), (c, "L1", 2.0, 0.5), (a, "G1", 2.0, 5.0))
    annotating.plan(studio, "rate", "unsure", 10)
    assert queue(studio) == [(b,), (c,), (a,)]


def test_where_judge_and_annotator_are_furthest_apart(studio: Studio) -> None:
    a, b, c = family(studio, 3)
    for node, mine, theirs in ((a, 2, 2.5), (b, 0, 3.0), (c, 1, 2.0)):
        studio.store.rate(node, "L1", mine, "ann")
        studio.store.rate(node, "L1", 3, "bob")
        judged(studio, (node, "L1", theirs, None))
    annotating.plan(studio, "rate", "apart", 10)
    assert queue(studio) == [(b,), (c,), (a,)]


def test_balanced_goes_round_the_dialogues(studio: Studio) -> None:
    of = {reply: i for i, n in enumerate((1, 3, 6)) for reply in family(studio, n, f"q{i}")}
    annotating.plan(studio, "rate", "balanced", 10, seed=1)
    order = [of[nodes[0]] for nodes in queue(studio)]
    assert sorted(order[:3]) == [0, 1, 2]
    assert [sorted(order[3:5]), sorted(order[5:7]), order[7:]] == [[1, 2], [1, 2], [2, 2, 2]]


def test_random_is_reproducible_by_its_seed(studio: Studio) -> None:
    family(studio, 8)
    orders = []
    for seed in (1, 1, 2):
        annotating.plan(studio, "rate", "random", 10, seed=seed)
        orders.append(queue(studio))
    assert orders[0] == orders[1] != orders[2]


def test_local_groups_are_two_to_four_siblings(studio: Studio) -> None:
    families = [family(studio, n, f"q{n}") for n in (1, 2, 3, 6)]
    annotating.plan(studio, "local", "random", 10)
    groups = sorted(queue(studio), key=len)
    assert [len(g) for g in groups] == [2, 3, 4]
    assert all(set(group) <= set(replies) for group, replies in zip(groups, families[1:], strict=True))


def test_global_pairs_are_ends_of_dialogues_of_one_tree(studio: Studio) -> None:
    a, b, c, d = plant(studio, "q1", "r1", "q2", "r2")
    tree = studio.store.node(a).tree_id
    e = studio.store.add_node(tree, a, "assistant", [Part("text", "another")])
    plant(studio, "alone", "in its tree")
    shown = annotating.plan(studio, "global", "random", 10)
    assert [set(g) for g in queue(studio)] == [{d, e}]
    assert len(shown["item"]["prefix"]) == 1
    assert sorted(len(side["cards"]) for side in shown["item"]["sides"]) == [1, 3]
    many = set(family(studio, 60))
    annotating.plan(studio, "global", "random", 10)
    assert sum(set(g) <= many for g in queue(studio)) == annotating.PAIRS_A_TREE


def test_filters(studio: Studio) -> None:
    a, b, c = family(studio, 3)
    d, e = family(studio, 2)
    annotating.plan(studio, "rate", "random", 10, trees=[studio.store.node(d).tree_id])
    assert sorted(queue(studio)) == [(d,), (e,)]
    annotating.plan(studio, "rate", "random", 10, models=["model-1"])
    assert sorted(queue(studio)) == [(b,), (e,)]
    annotating.plan(studio, "local", "random", 10, models=["model-0", "model-2"])
    assert [set(g) for g in queue(studio)] == [{a, c}]
    with pytest.raises(StudioError, match="that the filters let through"):
        annotating.plan(studio, "rate", "random", 10, models=["none"])


def test_scenarios_are_a_filter_and_are_balanced(studio: Studio) -> None:
    store = studio.store
    of: dict[str, str] = {}
    for scenario, n in (("maps", 3), ("meals", 1), ("", 1)):
        for i in range(n):
            tree = store.create_tree(f"{scenario} {i}", [scenario] if scenario else [])
            asked = store.add_node(tree, None, "user", [Part("text", "q")])
            of[store.add_node(tree, asked, "assistant", [Part("text", "a")], model=f"m{i}")] = scenario
    assert store.queue_filters() == {"models": ["m0", "m1", "m2"], "scenarios": ["maps", "meals"]}
    annotating.plan(studio, "rate", "balanced", 10, seed=3)
    assert {of[n] for (n,) in queue(studio)[:3]} == {"maps", "meals", ""}
    annotating.plan(studio, "rate", "random", 10, scenarios=["meals"])
    assert [of[n] for (n,) in queue(studio)] == ["meals"]
    assert annotating.state(studio)["queue"]["filtered"] is True


def test_pictures_of_the_item_after_the_next_one(studio: Studio) -> None:
    tree = studio.store.create_tree("t")
    for h in [picture(studio, shade) for shade in (0, 120, 240)]:
        asked = studio.store.add_node(tree, None, "user", [Part("image", image_sha256=h)])
        studio.store.add_node(tree, asked, "assistant", [Part("text", "a")], model="m")
    annotating.plan(studio, "rate", "random", 10, seed=1)
    first, second = shown_picture(studio), annotating.ahead(studio)["pictures"]
    assert first not in second
    assert second[0].startswith("/view/")
    annotating.skip(studio, item(studio))
    assert [shown_picture(studio)] == second


def test_what_is_never_asked_about(studio: Studio) -> None:
    a, b, c, d = plant(studio, "q", "good", "pruned question", "below it")
    tree = studio.store.node(a).tree_id
    for status in ("streaming", "failed"):
        studio.store.add_node(tree, a, "assistant", [Part("text", "half")], status=status)
    for parts in ([], [Part("text", " \n\t")]):
        studio.store.add_node(tree, a, "assistant", parts)
    studio.store.prune(c)
    studio.store.prune(plant(studio, "removed", "reply")[0])
    annotating.plan(studio, "rate", "random", 10)
    assert queue(studio) == [(b,)]
    assert annotating.state(studio)["item"]["ends"]  # nothing goes on below it that was not pruned


def test_a_branch_pruned_since_is_passed_over_until_it_is_restored(studio: Studio) -> None:
    a, b, c, d = plant(studio, "q1", "r1", "q2", "r2")
    studio.store.rate(b, "L1", 1, "ann")
    annotating.plan(studio, "rate", "unrated", 10)
    assert queue(studio) == [(d,), (b,)]
    studio.store.prune(c)
    assert studio.store.queue_item(item(studio)).nodes == (b,)
    studio.store.restore(c)
    assert studio.store.queue_item(item(studio)).nodes == (d,)


@pytest.mark.parametrize(
    ("kind", "rule", "line"),
    [("rate", "random", "it takes a reply"), ("local", "random", "two replies"), ("global", "random", "two dialogues"),
     ("rate", "best", "not 'rate' by 'best'"), ("sort", "random", "A queue is one of"), ("rate", "unsure", "it takes a reply")],
)  # fmt: skip
def test_nothing_to_plan_is_one_line(studio: Studio, kind: str, rule: str, line: str) -> None:
    with pytest.raises(StudioError, match=line) as told:
        annotating.plan(studio, kind, rule, 10)
    assert "\n" not in str(told.value)
    assert annotating.state(studio)["queue"] is None


def test_rules_that_need_a_judge_say_what_is_missing(studio: Studio) -> None:
    [a] = family(studio, 1)
    with pytest.raises(StudioError, match="No judge has said how sure"):
        annotating.plan(studio, "rate", "unsure", 10)
    judged(studio, (a, "L1", 2.0, 0.5))
    with pytest.raises(StudioError, match="both a judge's score and yours"):
        annotating.plan(studio, "rate", "apart", 10)


def test_each_side_is_first_about_as_often(studio: Studio) -> None:
    """Over 1,000 seeds; the bounds are five standard deviations of a fair draw."""
    for n in (2, 4):
        replies = family(studio, n, f"q{n}")
        first: Counter[str] = Counter()
        for seed in range(1000):
            annotating.plan(studio, "local", "random", 1, [studio.store.node(replies[0]).tree_id], seed=seed)
            first[queue(studio)[0][0]] += 1
        away = 5 * math.sqrt(1000 / n * (1 - 1 / n))
        assert all(abs(first[r] - 1000 / n) < away for r in replies), first


# ---- how much is read


def test_the_next_item_is_one_look_at_the_index(studio: Studio) -> None:
    [a] = family(studio, 1)
    annotating.plan(studio, "rate", "random", 10)
    plan = [r["detail"] for r in studio.store.rows(f"EXPLAIN QUERY PLAN {NEXT}", ["x", 0])]
    assert plan[0].startswith("SEARCH i USING INDEX queue_next (queue_id=? AND state=?)")
    assert not [
        s for s in plan if "TEMP B-TREE" in s or (s.startswith("SCAN") and s != "SCAN up" and "json_each" not in s)
    ]  # up: the branch


@pytest.mark.parametrize("act", ["finish", "skip", "reopen"])
def test_a_long_queue_costs_no_more_steps(studio: Studio, act: str) -> None:
    """Counts SQLite's own steps, so that a busy machine changes nothing."""
    replies = family(studio, 1)
    taken = {}
    for n in (20, 4000):
        studio.store.plan_queue("rate", "random", {}, 1, "ann", 1, n, [replies] * n)
        for _ in range(10):
            annotating.finish(studio, item(studio), 1.0)
        last, counted = (
            studio.store.rows("SELECT id FROM queue_items WHERE state = 'done' ORDER BY done_at DESC LIMIT 1")[0]["id"],
            [0],
        )
        mine = item(studio)
        conns = [studio.store._db.conn, studio.store._local.conn]
        for conn in conns:
            conn.set_progress_handler(lambda: counted.__setitem__(0, counted[0] + 1), 1)
        if act == "reopen":
            studio.store.reopen_item(last)
            annotating.state(studio)
        else:
            getattr(annotating, act)(studio, mine, *([1.0] if act == "finish" else []))
        for conn in conns:
            conn.set_progress_handler(None, 1)
        taken[n] = counted[0]
    assert 0 < taken[4000] <= taken[20] * 1.2, taken
