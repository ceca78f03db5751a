"""Judges beside a person and beside each other: the figures are scikit-learn's and a plain bootstrap's, on unseen trees only."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score

from judge import sidebyside
from judge.examples import Comparison, Example, Score
from judge.labels import with_derived
from studio.tree import Node, Part, Tree

Said = dict[str, dict[str, float]]


def grown(n: int, seed: int = 0) -> list[Example]:
    """``n`` trees of a question and three replies; L4 and L1 scored at random, two of the replies compared."""
    rng, made = random.Random(seed), []
    for i in range(n):
        tree = f"t{i}"
        nodes = [Node(f"q{i}", tree, None, 0, "user", [Part("text", f"question {i}")])]
        nodes += [
            Node(f"r{i}{c}", tree, f"q{i}", j, "assistant", [Part("text", "word " * (j + 1))])
            for j, c in enumerate("abc")
        ]
        scores = [Score(f"r{i}{c}", d, rng.randrange(4)) for c in "abc" for d in ("L4", "L1")]
        compared = [Comparison(f"r{i}a", f"r{i}b", "overall", "local", rng.choice(["left", "right", "tie"]))]
        made.append(with_derived(Example(Tree(tree, nodes=nodes), scores, compared)))
    return made


def guesses(examples: list[Example], noise: float, seed: int = 1) -> Said:
    """What a judge says that is ``noise`` away from the person, on every dimension; on overall anything."""
    rng = random.Random(seed)
    said: Said = {}
    for e in examples:
        for s in e.scores:
            said.setdefault(s.node, {"overall": rng.random()})[s.dimension] = s.value + rng.gauss(0, noise)
    return said


def test_agreement_is_scikit_learns() -> None:
    examples = grown(40)
    said = guesses(examples, 1.0)
    rows = {r["dimension"]: r for r in sidebyside.beside_person(examples, said)}
    assert list(rows) == ["overall", "L1", "L4"]
    assert rows["overall"]["scores"] is None
    for code in ("L1", "L4"):
        human = [s.value for e in examples for s in e.scores if s.dimension == code]
        judge = [
            min(3, max(0, int(np.floor(said[s.node][code] + 0.5))))
            for e in examples
            for s in e.scores
            if s.dimension == code
        ]
        found = rows[code]["scores"]
        assert found["n"] == 120
        assert found["agreement"]["value"] == pytest.approx(accuracy_score(human, judge))
        assert found["constant"]["value"] == pytest.approx(accuracy_score(human, [3] * 120))
        assert found["kappa"]["value"] == pytest.approx(cohen_kappa_score(human, judge, weights="quadratic"))
        low, high = found["agreement"]["interval"]
        assert low < found["agreement"]["value"] < high
    # what the person compared, and apart from it the pairs that follow from scores
    assert (rows["L4"]["pairs"]["n"], rows["overall"]["derived"]) == (0, None)
    for code, what in (("overall", "pairs"), ("L4", "derived")):
        decided = [(c, e) for e in examples for c in e.comparisons if c.dimension == code and c.outcome != "tie"]
        what = (
            "pairs" if code == "overall" else "derived"
        )  # nobody compared replies on L4: its pairs follow from scores
        meant = [c.outcome == "left" for c, _ in decided]
        preferred = [said[c.left][code] > said[c.right][code] for c, _ in decided]
        assert rows[code][what]["n"] == len(decided) > 10
        assert rows[code][what]["accuracy"] == pytest.approx(accuracy_score(meant, preferred))
        assert rows[code][what]["baselines"]["longer"]["value"] == pytest.approx(
            accuracy_score(meant, [c.left > c.right for c, _ in decided])
        )


def test_what_a_judge_did_not_score_is_not_counted() -> None:
    examples = grown(12)
    said = guesses(examples, 0.5)
    del said["r0a"]
    del said["r1b"]["L4"]
    rows = {r["dimension"]: r for r in sidebyside.beside_person(examples, said)}
    assert (rows["L4"]["scores"]["n"], rows["L1"]["scores"]["n"]) == (34, 35)
    assert sidebyside.beside_person(examples, {}) == []
    assert sidebyside.beside_person([], said) == []


def test_trees_of_the_training_and_of_its_questions_are_left_out() -> None:
    examples = grown(6)
    again = grown(7)[6]
    again.tree.nodes["q6"].parts = [Part("text", " Question  1 ")]  # the question of t1 in a new tree
    kept = sidebyside.unseen([*examples, again], {"train": ["t1", "t2"], "validation": ["t3"], "test": ["t0", "t4"]})
    assert [e.tree.id for e in kept] == ["t0", "t4", "t5"]
    assert sidebyside.unseen(examples, {}) == examples


def test_the_better_of_two_is_told_and_equal_ones_are_not() -> None:
    examples = grown(60)
    near, far = guesses(examples, 0.3), guesses(examples, 2.0, seed=2)
    rows = {r["dimension"]: r for r in sidebyside.versus(examples, near, far)}
    for code in ("L1", "L4"):
        assert rows[code]["derived"]["better"] == rows[code]["error"]["better"] == "a"
        assert (rows[code]["pairs"]["n"], rows[code]["pairs"]["better"]) == (0, None)
        assert rows[code]["error"]["interval"][0] > 0
    turned = {r["dimension"]: r for r in sidebyside.versus(examples, far, near)}
    assert turned["L4"]["derived"]["better"] == turned["L4"]["error"]["better"] == "b"
    assert turned["L4"]["error"]["difference"] == pytest.approx(-rows["L4"]["error"]["difference"])
    same = sidebyside.versus(examples, near, near)
    assert all(r[what] is None or r[what]["better"] is None for r in same for what in ("pairs", "derived", "error"))


def test_the_error_and_its_interval_are_a_paired_bootstrap_by_tree() -> None:
    examples = grown(30)
    a, b = guesses(examples, 0.5), guesses(examples, 0.8, seed=3)
    [found] = [r["error"] for r in sidebyside.versus(examples, a, b) if r["dimension"] == "L4"]
    gains = np.array([[abs(b[s.node]["L4"] - s.value) - abs(a[s.node]["L4"] - s.value) for s in e.scores if s.dimension == "L4"] for e in examples])  # fmt: skip
    assert (found["n"], found["trees"]) == (90, 30)
    assert found["difference"] == pytest.approx(gains.mean())
    rng = np.random.default_rng(5)
    means = [gains[rng.integers(30, size=30)].mean() for _ in range(4000)]
    assert found["interval"] == pytest.approx(list(np.percentile(means, [2.5, 97.5])), abs=0.03)


def test_few_trees_settle_nothing() -> None:
    examples = grown(5)
    right, wrong = guesses(examples, 0.0), {n: {d: 3 - v for d, v in by.items()} for n, by in guesses(examples, 0.0).items()}  # fmt: skip
    [row] = [r for r in sidebyside.versus(examples, right, wrong) if r["dimension"] == "L4"]
    assert row["derived"]["beyond_chance"]
    assert (row["derived"]["better"], row["error"]["better"]) == (None, None)
    assert "only 5 trees" in row["error"]["interval_note"]
    one = sidebyside.versus(examples[:1], right, wrong)
    assert all(r["pairs"]["interval"] is None and r["pairs"]["better"] is None for r in one)


def test_people_and_derived_pairs_stand_apart() -> None:
    example = grown(1)[0]
    example.comparisons += [Comparison("r0a", "r0b", "L4", "local", "left")]
    said = {n: {"L4": v} for n, v in (("r0a", 3.0), ("r0b", 0.0), ("r0c", 1.0))}
    [row] = [r for r in sidebyside.beside_person([example], said) if r["dimension"] == "L4"]
    derived = [c for c in example.comparisons if c.dimension == "L4" and c.margin is not None]
    assert (row["pairs"]["n"], row["pairs"]["accuracy"]) == (1, 1.0)
    assert row["derived"] is None if not derived else row["derived"]["n"] == len(derived)


def dialogues() -> tuple[Example, Said]:
    """Two dialogues of a tree, two turns each; the left one has the longer turns above, the right one the longer end."""
    texts = {
        "q": "draw",
        "a": "one two three four five six",
        "b": "one",
        "qa": "more",
        "qb": "more",
        "ea": "one",
        "eb": "one two",
    }
    above = {"q": None, "a": "q", "b": "q", "qa": "a", "qb": "b", "ea": "qa", "eb": "qb"}
    nodes = [
        Node(n, "t", above[n], 0, "user" if n[0] == "q" else "assistant", [Part("text", text)])
        for n, text in texts.items()
    ]
    example = Example(Tree("t", nodes=nodes), comparisons=[Comparison("ea", "eb", "overall", "global", "left")])
    return example, {"ea": {"overall_global": 1.0}, "eb": {"overall_global": 0.0}}


def test_overall_of_dialogues_has_its_own_row_and_the_whole_chain_is_measured() -> None:
    example, said = dialogues()
    [row] = sidebyside.beside_person([example], said)
    assert (row["level"], row["row"], row["length"]) == ("global", "overall_global", "words")
    assert row["pairs"]["accuracy"] == 1.0
    assert (
        row["pairs"]["baselines"]["longer"]["value"] == 1.0
    )  # nine words against five, though the last reply is shorter
    [row] = sidebyside.beside_person([example], said, tokens={"ea": 1, "eb": 9})
    assert (row["length"], row["pairs"]["baselines"]["longer"]["value"]) == ("tokens", 0.0)
    earlier = {node: {"overall": by["overall_global"]} for node, by in said.items()}  # a judge with one row for both
    assert sidebyside.beside_person([example], earlier)[0]["pairs"]["accuracy"] == 1.0


def test_win_probabilities_are_rao_kuppers() -> None:
    example, said = dialogues()
    [row] = sidebyside.beside_person([example], said, logits=said, ties={"overall_global": 0.5})
    assert row["probability"]["value"] == pytest.approx(1 / (1 + np.exp(-0.5)))  # sigma(1 - .5)
    assert sidebyside.beside_person([example], said)[0]["probability"] is None


def test_a_tree_of_the_same_group_as_a_training_tree_is_not_unseen() -> None:
    examples = grown(4)
    for e in examples:
        e.group = "pair" if e.tree.id in ("t0", "t3") else e.tree.id
    assert [e.tree.id for e in sidebyside.unseen(examples, {"train": ["t0"], "validation": ["t1"]})] == ["t2"]


@pytest.mark.parametrize(("expected", "level"), [(-0.7, 0), (0.49, 0), (0.5, 1), (2.5, 3), (3.4, 3), (7.0, 3)])
def test_an_expected_score_as_a_level(expected: float, level: int) -> None:
    assert sidebyside.nearest(expected, (0, 1, 2, 3)) == level


def test_the_probability_of_what_the_person_said_is_rao_and_kuppers() -> None:
    examples = grown(20)
    logits = guesses(examples, 1.0)
    ties = {"overall": 0.6}
    [row] = [
        r for r in sidebyside.beside_person(examples, logits, logits=logits, ties=ties) if r["dimension"] == "overall"
    ]

    def probability(c: Comparison) -> float:
        d = logits[c.left]["overall"] - logits[c.right]["overall"]
        left, right = (1 / (1 + np.exp(-(x - 0.6))) for x in (d, -d))
        return {"left": left, "right": right, "tie": 1 - left - right}[c.outcome]

    given = [probability(c) for e in examples for c in e.comparisons if c.margin is None]
    assert (row["probability"]["n"], row["probability"]["trees"]) == (20, 20)
    assert row["probability"]["value"] == pytest.approx(np.mean(given))
    [without] = [r for r in sidebyside.beside_person(examples, logits) if r["dimension"] == "overall"]
    assert without["probability"] is None


def test_longer_is_measured_in_the_judges_tokens_over_the_chain() -> None:
    examples = grown(30)
    said = guesses(examples, 1.0)
    tokens = {n.id: 100 - len(n.text.split()) for e in examples for n in e.tree.walk()}  # more words, fewer tokens
    words, counted = (
        next(r for r in sidebyside.beside_person(examples, said, tokens=t) if r["dimension"] == "overall")
        for t in (None, tokens)
    )
    assert (words["length"], counted["length"]) == ("words", "tokens")
    longer = [r["pairs"]["baselines"]["longer"]["value"] for r in (words, counted)]
    assert longer[0] == pytest.approx(1 - longer[1])
