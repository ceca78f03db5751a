"""The experiments in miniature: what they deal, what they leave out, and that each figure stands beside its baselines."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from judge.evaluation import ScoreResult  # noqa: E402
from judge.examples import Comparison, Example, Score  # noqa: E402
from judge.experiments import human, unigram, words  # noqa: E402
from judge.experiments.run import figure, over_seeds  # noqa: E402
from judge.groups import grouped, split  # noqa: E402
from judge.rubric import JudgeError  # noqa: E402
from studio.tree import Node, Part, Tree  # noqa: E402
from tests import tiny  # noqa: E402

PLENTY = ("The owl is drawn with a soft pencil before the wings are given their colour . "
          "First the outline is made , and all of the feathers are added with care . "
          "You can always look at the light from the left and then darken the other side . ")  # fmt: skip


def dialogue(i: int, rng: random.Random, value: int, reply: str = "") -> Example:
    """A tree of two turns; the second reply has a G3, and words enough to be damaged."""
    own = " ".join(f"{rng.choice('bcdfg')}{rng.choice('aeiou')}{i}{k}" for k in range(12))
    texts = (
        f"question {own} {i}",
        f"answer {own}",
        f"and then {i} {own}",
        reply or f"Tree {own} is done . {PLENTY} {own} .",
    )
    nodes = [
        Node(
            f"{i}-{k}",
            f"tree-{i:02}",
            f"{i}-{k - 1}" if k else None,
            0,
            "assistant" if k % 2 else "user",
            [Part("text", t)],
        )
        for k, t in enumerate(texts)
    ]
    return Example(Tree(f"tree-{i:02}", nodes=nodes), scores=[Score(f"{i}-3", "G3", value)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def trees() -> list[Example]:
    rng = random.Random(0)
    return [dialogue(i, rng, i % 4) for i in range(24)]


@pytest.mark.slow
def test_a_reply_too_long_is_counted_and_stops_nothing(base: Path, trees: list[Example], tmp_path: Path) -> None:
    examples = human.on_dimension([*trees, dialogue(24, random.Random(1), 3, "word " * 2000)], "G3")
    plan = human.Plan(base=str(base), folds=3, max_path=1200)
    frozen = human.probe(examples, plan, tmp_path)
    assert len(frozen) == 24
    report = human.report_on({human.FROZEN: frozen}, examples)
    assert report["labels"] == {"total": 25, "cut": sum(r.score.cut for r in frozen.values()), "left_out": 1}
    assert report["pairs"]["n"] == 0  # nobody compared dialogues of different trees: these pairs follow from scores
    told = "\n".join(human.lines(report))
    for piece in ("25 scores", "1 left out", "pearson", "n=24", "always 3", "longer", "majority", "coin"):
        assert piece in told


@pytest.mark.slow
def test_lora_and_the_fitted_head_stand_beside_each_other(base: Path, trees: list[Example], tmp_path: Path) -> None:
    examples = human.on_dimension(trees, "G3")
    plan = human.Plan(base=str(base), folds=2, max_path=1200)
    judges = {human.LORA: human.trained(examples, plan, tmp_path), human.FROZEN: human.probe(examples, plan, tmp_path)}
    report = human.report_on(judges, examples)
    assert report["derived"]["others"][human.FROZEN]["n"] == report["derived"]["n"] > 20
    assert human.FROZEN in "\n".join(human.lines(report))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert (
        human.trained(examples, plan, tmp_path) == judges[human.LORA]
    )  # what a stopped run had done is not done again
    assert human.probe(examples, plan, tmp_path) == judges[human.FROZEN]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == kept
    with pytest.raises(JudgeError, match="is of other dialogues or settings"):
        human.trained(examples, replace(plan, rank=4), tmp_path)


def test_pairs_across_trees_are_of_different_groups_and_scores() -> None:
    def rated(tree: str, value: int, tokens: int) -> human.Rated:
        return human.Rated(ScoreResult(tree, "global", "G3", 1, 2, value, float(value)), tokens)

    found = {
        ("a", "1", ""): rated("a", 3, 9),
        ("a", "2", ""): rated("a", 0, 1),
        ("b", "3", ""): rated("b", 3, 2),
        ("c", "4", ""): rated("c", 1, 2),
    }
    pairs = human.across_trees(found)
    assert pairs
    for (a, b), p in pairs:
        assert found[a].score.tree != found[b].score.tree
        assert p.human_margin == abs(found[a].score.value - found[b].score.value) > 0
        assert p.outcome == ("left" if found[a].score.value > found[b].score.value else "right")
        assert (p.left_tokens, p.right_tokens) == (found[a].tokens, found[b].tokens)


def test_a_reply_is_swapped_within_its_part_only(trees: list[Example]) -> None:
    usable = grouped(trees)
    parts = split(usable, 0, validation=0.0)
    made, groups = words.damaged(usable, 0, parts)
    assert set(groups.values()) >= {"shuffled", "swapped", "broken off"}
    texts = {part: {n.text for e in parts.of(made, part) for n in e.tree.walk()} for part in ("train", "test")}  # type: ignore[arg-type]
    assert parts.test
    assert texts["train"].isdisjoint(texts["test"])
    assert [e.group for e in made] == [e.group for e in usable]


def replies(i: int, good: str, bad: str, flip: bool) -> Example:
    nodes = [Node("q", f"t{i}", None, 0, "user", [Part("text", "which")])]
    nodes += [
        Node(f"{i}{n}", f"t{i}", "q", k, "assistant", [Part("text", t)])
        for k, (n, t) in enumerate((("g", good), ("b", bad)))
    ]
    pair = (f"{i}b", f"{i}g", "overall", "local", "right") if flip else (f"{i}g", f"{i}b", "overall", "local", "left")
    return Example(Tree(f"t{i}", nodes=nodes), comparisons=[Comparison(*pair)])  # type: ignore[arg-type]


def test_unigrams_are_the_weights_of_a_logistic_regression() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = random.Random(3)
    train = [replies(i, f"soft {rng.choice('xyz')}", f"cold {rng.choice('xyz')}", bool(i % 2)) for i in range(20)]
    found = unigram.unigrams(train, train)
    vocabulary = sorted(
        {w for e in train for n in ("g", "b") for w in e.tree.nodes[f"{e.tree.id[1:]}{n}"].text.split()}
    )

    def counts(text: str) -> list[float]:
        return [torch.tensor(float(text.split().count(w))).log1p().item() for w in vocabulary]

    apart = [
        [a - b for a, b in zip(*(counts(e.tree.nodes[n].text) for n in (c.left, c.right)))]
        for e in train
        for c in e.comparisons
    ]
    model = linear.LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10).fit(
        apart, [c.outcome for e in train for c in e.comparisons]
    )
    weights = dict(zip(vocabulary, -model.coef_[0]))  # its positive class is "right"
    for e in train:
        for n in ("g", "b"):
            node = e.tree.nodes[f"{e.tree.id[1:]}{n}"]
            expected = sum(weights[w] * count for w, count in zip(vocabulary, counts(node.text)))
            assert found[node.id] == pytest.approx(expected, abs=1e-3)


def test_unigrams_know_no_order_and_no_new_word() -> None:
    train = [replies(i, "soft warm", "cold torn", bool(i % 2)) for i in range(8)]
    shuffled = replies(99, "soft cold", "cold soft", False)
    found = unigram.unigrams(train, [shuffled, replies(98, "unknown", "", True)])
    assert found["99g"] == pytest.approx(found["99b"])
    assert found["98g"] == found["98b"] == 0.0
    with pytest.raises(JudgeError, match="no decided comparison"):
        unigram.unigrams([], train)


@pytest.mark.slow
def test_words_are_told_beside_unigrams(base: Path, trees: list[Example], tmp_path: Path) -> None:
    report = words.run(trees, tmp_path, base=str(base), epochs=1.0, rank=4, rate=5e-4, seed=0)
    rows = [r for r in report["pairs_by"] if r["by"] == "group"]
    assert {r["key"] for r in rows} >= {"shuffled", "broken off"}
    for row in rows:
        assert row["others"][unigram.NAME]["n"] == row["n"]
    assert json.loads(json.dumps(report)) == report


def test_figures_over_seeds_by_hand() -> None:
    found = over_seeds([0.5, 0.7])
    assert found["mean"] == pytest.approx(0.6)
    assert found["interval"] == pytest.approx(
        [0.6 - 12.706 * 0.1, 0.6 + 12.706 * 0.1], abs=1e-3
    )  # t of one degree of freedom
    assert over_seeds([0.5])["interval"] is None
    assert figure(0.5, [-0.25, 0.75], 4) == "0.500 [−0.250, 0.750] n=4"
    assert figure(None, None, 0) == "– n=0"
