"""What must hold of every report, whatever the pairs are (hypothesis)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings, strategies

from judge.evaluation import PairResult, evaluate, pair_accuracy
from judge.standing import MIRRORED
from tests.scored import pair

QUICK = settings(deadline=None, max_examples=40)
PAIRS = strategies.lists(
    strategies.builds(
        pair, strategies.sampled_from(["left", "right", "tie"]), strategies.integers(-4, 4), strategies.integers(-4, 4),
        strategies.sampled_from("abcdefgh"), tie_margin=strategies.sampled_from([0.0, 0.25, 1.0]), left_tokens=strategies.integers(0, 9),
        right_tokens=strategies.integers(0, 9), spread=strategies.sampled_from([None, 0.5, 1.0]),
        human_margin=strategies.sampled_from([None, None, 1.0]),
    ), max_size=40,
)  # fmt: skip


@QUICK
@given(PAIRS)
def test_swapping_both_sides_changes_nothing(pairs: list[PairResult]) -> None:
    swapped = [replace(p, outcome=MIRRORED[p.outcome], left=p.right, right=p.left, left_tokens=p.right_tokens,
                       right_tokens=p.left_tokens) for p in pairs]  # fmt: skip
    ours, theirs = (evaluate(some, [], n_boot=20) for some in (pairs, swapped))
    for report in (ours, theirs):
        for row in (report["pairs"], report["derived"], *report["pairs_by"], *report["derived_by"]):
            majority = row["baselines"]["majority"]
            if majority["value"] == 0.5:  # both sides are the majority: the left one is taken
                del majority["interval"]
            del majority["side"]
    assert theirs == ours


@QUICK
@given(PAIRS, strategies.sampled_from([-8.0, 0.5, 64.0]))
def test_a_constant_on_both_logits_changes_nothing(pairs: list[PairResult], constant: float) -> None:
    moved = [replace(p, left=p.left + constant, right=p.right + constant) for p in pairs]
    assert evaluate(moved, [], n_boot=20) == evaluate(pairs, [], n_boot=20)


@QUICK
@given(PAIRS)
def test_a_judge_that_is_always_right_has_one(pairs: list[PairResult]) -> None:
    right = {"left": 9.0, "tie": 0.0, "right": -9.0}
    perfect = [replace(p, left=right[p.outcome], right=0.0) for p in pairs]
    found = pair_accuracy(perfect, n_boot=20)
    assert found["accuracy"] in (1.0, None)
    assert found["three_way"]["value"] in (1.0, None)
    assert found["interval"] in (None, [1.0, 1.0])


def test_fewer_trees_never_make_a_narrower_interval() -> None:
    right = [0, 1, 1, 0, 1, 1, 1, 0] * 8
    widths = []
    for trees in (64, 32, 16, 8):  # the same pairs in fewer and larger trees, each of one kind
        order = sorted(range(64), key=lambda i: right[i])
        found = pair_accuracy(
            [pair("left", right[i], 0.5, f"{at * trees // 64}") for at, i in enumerate(order)], n_boot=2000
        )
        widths.append(found["interval"][1] - found["interval"][0])
    assert widths == sorted(widths)
