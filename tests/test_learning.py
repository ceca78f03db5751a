"""Accuracy against ratings: it rises where there is something to learn, stays at chance where there is not, and tests on unseen trees."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from judge import backbones, frozen, learning  # noqa: E402
from judge.datacard import data_card  # noqa: E402
from judge.evaluation import PairResult  # noqa: E402
from judge.examples import Comparison, Example, Score  # noqa: E402
from judge.experiments import human, queue  # noqa: E402
from judge.groups import split  # noqa: E402
from judge.labels import prepare, with_derived  # noqa: E402
from judge.losses import label_losses  # noqa: E402
from judge.measure import measure  # noqa: E402
from judge.model import NINE, JudgeModel, LoraSettings  # noqa: E402
from judge.readings import difference_spread  # noqa: E402
from judge.rubric import JudgeError  # noqa: E402
from judge.scoring import Scorer  # noqa: E402
from studio.tree import Node, Part, Tree  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

GOOD, BAD = ("soft", "clear", "warm", "kind", "calm"), ("cold", "torn", "blurred", "dull", "harsh")


def trees(n: int, learnable: bool = True, seed: int = 0) -> list[Example]:
    """Trees of one question and two replies of five words; the one with one more good word is better, or a coin says which."""
    rng, made = random.Random(seed), []
    for i in range(n):
        t = f"t{i:03}"
        fewer = rng.randrange(5)
        n_good = rng.sample((fewer, fewer + 1), 2)
        nodes = [Node(f"{t}q", t, None, 0, "user", [Part("text", f"Which one, {rng.random():.6f}?")])]
        for k, good in enumerate(n_good):
            words = [rng.choice(GOOD) for _ in range(good)] + [rng.choice(BAD) for _ in range(5 - good)]
            nodes.append(Node(f"{t}r{k}", t, f"{t}q", k, "assistant", [Part("text", " ".join(rng.sample(words, 5)))]))
        left = n_good[0] > n_good[1] if learnable else rng.random() < 0.5
        made.append(Example(Tree(t, nodes=nodes), comparisons=[
            Comparison(f"{t}r0", f"{t}r1", "overall", "local", "left" if left else "right")]))  # fmt: skip
    return made


def drawn(examples: list[Example], base: Path, **how: Any) -> dict[str, Any]:
    return learning.curve(examples, base.parent, learning.Plan(base=str(base), **how))


def test_it_rises_where_there_is_something_to_learn(base: Path) -> None:
    found = drawn(trees(160), base)
    first, *_, last = found["points"]
    assert [p["trees"] for p in found["points"]] == [16, 32, 64, 128]
    assert [p["ratings"] for p in found["points"]] == [16, 32, 64, 128]
    assert (found["n"], found["ratings"], found["trees"]) == (32, 160, {"train": 128, "test": 32})
    assert last["accuracy"] >= 0.9
    assert last["accuracy"] > first["accuracy"] + 0.1
    assert last["interval"][0] > 0.5 == found["baselines"]["coin"]["value"]
    assert len(first["seeds"]) == 5
    assert last["seeds"] == [last["accuracy"]]
    assert last["spread"] is None


def test_labels_at_random_stay_at_chance(base: Path) -> None:
    found = drawn(trees(200, learnable=False), base)
    for point in found["points"]:
        assert point["interval"][0] <= 0.5 <= point["interval"][1]
    assert found["verdict"]["kind"] == "flat"
    assert "not yet surely better than a coin" in found["verdict"]["text"]


def test_trees_of_the_test_are_never_learned_from(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, learned, tested = trees(60), set(), set()
    pool = frozen.States.of

    def fit(states: Any, chosen: Any, *rest: Any, **more: Any) -> Any:
        learned.update(e.tree.id for e in chosen)
        return real_fit(states, chosen, *rest, **more)

    def of(vectors: Any, standard: Any) -> Any:
        learned.update(e.tree.id for e in standard)
        tested.update({t for t, _ in vectors.states} - {e.tree.id for e in standard})
        return pool(vectors, standard)

    real_fit = frozen.fit
    monkeypatch.setattr(frozen, "fit", fit)
    monkeypatch.setattr(frozen.States, "of", of)
    drawn(examples, base, seed=3, orders=2)
    assert tested == set(split(examples, 3).test)
    assert learned == {e.tree.id for e in examples} - tested


def test_the_same_seed_gives_the_same_numbers_and_another_deals_anew(base: Path) -> None:
    examples = trees(60)
    one, again, other = (drawn(examples, base, seed=seed, orders=2) for seed in (0, 0, 1))
    del one["seconds"], again["seconds"]
    assert one == again
    assert other["points"] != one["points"]


def test_a_reading_goes_on_where_it_was_broken_off(base: Path, tmp_path: Path) -> None:
    examples = [with_derived(e) for e in trees(6)]
    model = JudgeModel(backbones.load(str(base), tmp_path), LoraSettings(rank=0), 0)
    whole = frozen.read(model, examples, 512)

    class Broken(Exception):
        pass

    def stop(done: int, of: int, left: float | None) -> None:
        if done == 4:
            raise Broken

    with pytest.raises(Broken):
        frozen.read(model, examples, 512, tmp_path / "kept", stop)
    files = sorted((tmp_path / "kept").glob("*.safetensors"))
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:50])  # cut short by a kill: read again
    told: list[Any] = []
    again = frozen.read(model, examples, 512, tmp_path / "kept", lambda *line: told.append(line))
    assert set(again.states) == set(whole.states)
    assert all(torch.equal(again.states[key], whole.states[key]) for key in whole.states)
    assert again.tokens == whole.tokens
    assert sum(left is not None for _, _, left in told) > 0
    changed = [replace(e, tree=Tree(e.tree.id, nodes=[replace(n, parts=[Part("text", "other")]) for n in e.tree.walk()]))
               for e in examples[:2]]  # fmt: skip
    third = frozen.read(model, changed, 512, tmp_path / "kept")
    assert not torch.equal(third.states["t000", "t000r0"], whole.states["t000", "t000r0"])  # other words are read anew
    assert len(list((tmp_path / "kept").glob("*.safetensors"))) == 2  # and what nobody needs any more is gone


def test_states_are_those_of_the_scorer_and_readings_stand_where_its_do(base: Path, tmp_path: Path) -> None:
    examples = trees(8)
    model = JudgeModel(backbones.load(str(base), tmp_path), LoraSettings(rank=0), 0)
    states = frozen.States.of(frozen.read(model, examples, 512), examples)
    raw = frozen.States(states.vectors, torch.zeros(48), torch.ones(48))
    ours, _ = measure(frozen.FrozenJudge(model.head, raw), examples)
    theirs, _ = measure(Scorer(model), examples)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.left, a.right) == pytest.approx((b.left, b.right), abs=1e-4)


def test_a_head_lowers_the_judges_own_loss_and_leaves_other_dimensions_alone(base: Path, tmp_path: Path) -> None:
    examples = [
        replace(e, scores=[Score(f"{e.tree.id}r0", "L2", 3), Score(f"{e.tree.id}r1", "L2", 1)]) for e in trees(12)
    ]
    model = JudgeModel(backbones.load(str(base), tmp_path), LoraSettings(rank=0), 0)
    states = frozen.States.of(frozen.read(model, examples, 512), examples)
    judge = frozen.fit(states, examples, NINE, copies=3)
    assert all(
        float(judge.head.weight[:, r].abs().sum()) == 0 for r, d in enumerate(NINE) if d not in ("overall", "L2")
    )
    batch = {"scores": torch.zeros(0, 3, dtype=torch.long), "score_weights": torch.zeros(0, 4), "margins": torch.tensor([-1.0]),
             "pairs": torch.tensor([[0, 1, 9, 1 if examples[0].comparisons[0].outcome == "left" else -1]]),
             "pair_weights": torch.ones(1, 4)}  # fmt: skip
    x = states.take([("t000", "t000r0"), ("t000", "t000r1")])
    fresh = frozen.fit(states, examples, NINE, copies=3, steps=0)
    assert float(label_losses(judge.head, judge.head(x), batch)[0]) < float(
        label_losses(fresh.head, fresh.head(x), batch)[0]
    )
    assert judge.tree(examples[0])["t000r0"].spread["overall"] > 0
    with pytest.raises(JudgeError, match="nothing to fit"):
        frozen.fit(states, [replace(examples[0], scores=[], comparisons=[])], NINE)


@pytest.mark.parametrize(
    ("n", "words"), [(0, "0 dialogues to learn from"), (12, "10 dialogues to learn from"), (20, "16 dialogues")]
)
def test_too_little_is_said_and_nothing_is_drawn(n: int, words: str, base: Path) -> None:
    found = drawn(trees(n), base)
    assert found["points"] == []
    assert found["verdict"]["kind"] == "too little"
    assert words in found["verdict"]["text"]


def test_an_unknown_level_is_named(base: Path) -> None:
    with pytest.raises(JudgeError, match="'sideways'"):
        drawn(trees(3), base, level="sideways")


def results(right: list[int]) -> list[PairResult]:
    """One pair a tree; 1: the judge agrees with the person."""
    return [PairResult(f"t{i}", "local", "L1", 1, 2, "left", 1.0 if r else 0.0, 0.5) for i, r in enumerate(right)]


def told(whole: list[int], halves: list[list[int]]) -> dict[str, Any]:
    """A verdict on these right and wrong pairs."""
    half = [results(h) for h in halves]
    measured = [
        (share, [trees(2 ** (i + 1))] * len(tested), tested)
        for i, (share, tested) in enumerate(zip(learning.SHARES, [half, half, half, [results(whole)]], strict=True))
    ]
    found = learning._told(measured)
    return found | {"verdict": learning.verdict(found)}


def test_the_verdict_claims_no_more_than_the_interval() -> None:
    up = told([1] * 60, [[1, 0] * 30, [0, 1] * 30])
    assert up["gain"]["value"] == 0.5
    assert up["verdict"]["kind"] == "rising"
    assert "from about 8 to 16 ratings, gave +50.0 points (95 % interval +" in up["verdict"]["text"]
    same = told([1, 0] * 30, [[1, 0] * 30, [0, 1] * 30])
    assert same["gain"]["value"] == 0.0
    assert same["verdict"]["kind"] == "flat"
    assert "points may be hidden in it" in same["verdict"]["text"]
    assert "no sign that there are enough" in same["verdict"]["text"]
    down = told([0] * 60, [[1, 0] * 30, [0, 1] * 30])
    assert down["verdict"]["kind"] == "falling"


def test_orders_that_disagree_widen_the_interval() -> None:
    right = [1] * 30 + [0] * 30
    alike, apart = told([1] * 60, [right, right]), told([1] * 60, [[1] * 60, [0] * 60])
    assert alike["gain"]["value"] == apart["gain"]["value"] == 0.5
    assert alike["verdict"]["kind"] == "rising"
    assert apart["verdict"]["kind"] == "flat"


def test_what_more_ratings_would_add_follows_the_mix_and_the_curve() -> None:
    made = trees(40)
    rated = [replace(e, scores=[Score(f"{e.tree.id}r0", "L4", 3), Score(f"{e.tree.id}r1", "L4", 1)] if i < 20 else [])
             for i, e in enumerate(made)]  # fmt: skip
    rated = [replace(e, comparisons=e.comparisons if i < 10 else []) for i, e in enumerate(rated)]
    prepared = prepare(rated)
    card = data_card(prepared, split(prepared.examples))  # 40 scores of L4, which are 20 pairs; 10 comparisons
    found = {"gain": {"value": 0.08, "interval": [0.02, 0.14]}, "by": [
        {"level": "local", "dimension": "L4", "gain": {"value": -0.04, "interval": [-0.1, 0.02]}},
        {"level": "local", "dimension": "overall", "gain": None}]}  # fmt: skip
    said = learning.next_ratings(card, found)
    assert said["total"] == {
        "ratings": 50,
        "gain": {"value": 0.08, "interval": [0.02, 0.14]},
    }  # 50 more are one doubling
    assert said["rows"] == [
        {
            "level": "local",
            "dimension": "L4",
            "labels": 40,
            "pairs": 20,
            "gain": {"value": -0.04, "interval": [-0.1, 0.02]},
        },
        {"level": "local", "dimension": "overall", "labels": 10, "pairs": 10, "gain": None},
    ]
    assert learning.next_ratings(card, None)["total"]["gain"] is None
    assert learning.next_ratings({"rows": []}, None) == {"more": 50, "rows": [], "total": None}


def test_the_queues_share_their_start_and_take_different_items(base: Path, tmp_path: Path) -> None:
    examples = [replace(e, comparisons=[replace(c, dimension="L4") for c in e.comparisons]) for e in trees(60)]
    model = JudgeModel(backbones.load(str(base), tmp_path), LoraSettings(rank=0), 0)
    states = frozen.States.of(frozen.read(model, examples, 512), examples)
    judge = frozen.fit(states, examples[:8], queue.SCALES, copies=8)
    items = [(i, 0) for i in range(8, 60)]
    order = queue.least_sure(judge, examples, items)
    assert sorted(order) == items
    reads = [judge.tree(examples[i]) for i, _ in order]
    two = [(r[f"t{i:03}r0"], r[f"t{i:03}r1"]) for (i, _), r in zip(order, reads, strict=True)]
    apart = [abs(a.value("L4") - b.value("L4")) / difference_spread(a, b, "L4") for a, b in two]
    assert apart == sorted(apart)
    recipe = queue.Recipe(first=8, batch=8, rounds=2)
    runs = {rule: queue._run(states, examples[:40], examples[40:], rule, recipe, 0) for rule in queue.RULES}
    assert len(runs["random"]) == len(runs["unsure"]) == 3
    assert runs["random"][0] == runs["unsure"][0]
    with pytest.raises(JudgeError, match="40 pairs to learn from are fewer than the 48 labels"):
        queue._run(states, examples[:40], examples[40:], "random", replace(recipe, rounds=5), 0)


def test_the_paired_difference_is_students() -> None:
    found = queue.paired([0.7, 0.8, 0.9], [0.6, 0.8, 0.7])
    assert found["mean"] == pytest.approx(0.1)
    assert found["interval"] == pytest.approx([0.1 - 4.303 * 0.1 / 3**0.5, 0.1 + 4.303 * 0.1 / 3**0.5], abs=1e-4)
    assert queue.paired([0.7], [0.6])["interval"] is None


def test_cross_validation_still_tells_words_apart(base: Path, tmp_path: Path) -> None:
    examples = []
    for e in trees(60):
        n_good = {n.id: sum(w in GOOD for w in n.text.split()) for n in e.tree.walk() if n.role == "assistant"}
        examples.append(replace(e, comparisons=[], scores=[Score(n, "G3", min(3, k)) for n, k in n_good.items()]))
    scores = human.probe(examples, human.Plan(base=str(base), folds=5, max_path=512), tmp_path)
    assert len(scores) == 120
    pairs = [pair for _, pair in human.across_trees(scores)]
    assert sum((p.left > p.right) == (p.outcome == "left") for p in pairs) / len(pairs) > 0.8


def test_what_the_curve_cuts_and_leaves_out_is_counted(base: Path) -> None:
    made = trees(60)
    made[0].tree.nodes["t000q"].parts[0] = Part("text", "a question that is far too long " * 60)
    made[1].tree.nodes["t001r0"].parts[0] = Part("text", "a reply that is far too long " * 300)
    found = drawn(made, base, max_path=512)
    assert (found["skipped"]["total"], found["skipped"]["cut"], found["skipped"]["left_out"]) == (60, 1, 1)
    assert "1 cut at their beginning" in found["skipped"]["sentence"]
    from studio.learning import sentences

    assert found["skipped"]["sentence"] in sentences(found)
