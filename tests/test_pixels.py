"""A judge that starts from random weights tells right pictures from wrong ones, by their pixels and by nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from judge.examples import Example  # noqa: E402
from judge.experiments import pixels  # noqa: E402
from judge.model import JudgeModel  # noqa: E402
from judge.scoring import Scorer  # noqa: E402
from studio.tree import Tree  # noqa: E402

RECIPE = pixels.Recipe(seed=0)


@pytest.fixture(scope="module")
def made() -> pixels.Scenes:
    return pixels.scenes(RECIPE)


@pytest.fixture(scope="module")
def judge(made: pixels.Scenes, tmp_path_factory: pytest.TempPathFactory) -> JudgeModel:
    """Trained once, on one thread, so that sums are added up in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return pixels.learn(made.train, pixels.make_backbone(tmp_path_factory.mktemp("backbone"), RECIPE), RECIPE)
    finally:
        torch.set_num_threads(threads)


def swapped(example: Example) -> Example:
    """The same tree with the other sibling first, in the tree and in the comparison."""
    question, first, second = example.tree.walk()
    tree = Tree(example.tree.id, nodes=[question, replace(second, ordinal=0), replace(first, ordinal=1)])
    (label,) = example.comparisons
    outcome = "right" if label.outcome == "left" else "left"
    return replace(
        example, tree=tree, comparisons=[replace(label, left=label.right, right=label.left, outcome=outcome)]
    )


def scores(judge: JudgeModel, example: Example) -> dict[str, float]:
    return {node: reading.logits["L1"] for node, reading in Scorer(judge).tree(example).items()}


def words(example: Example) -> str:
    return next(example.tree.walk()).text


def test_scenes_of_the_test_are_unseen_and_say_nothing_in_words(made: pixels.Scenes) -> None:
    trained, tested = ({sha for e in part for sha in e.images} for part in (made.train, made.test))
    assert len(trained) == 2 * len(made.train)  # no two pictures are alike
    assert len(tested) == 2 * len(made.test)
    assert not trained & tested
    assert not {e.tree.id for e in made.train} & {e.tree.id for e in made.test}
    new = {f"Draw a {colour} {shape} ." for colour, shape in pixels.NEW}
    assert not new & {words(e) for e in made.train}
    assert new < {words(e) for e in made.test}
    for e in made.test:
        _, first, second = e.tree.walk()
        assert first.text == second.text
    left = sum(e.comparisons[0].outcome == "left" for e in made.test) / len(made.test)
    assert abs(left - 0.5) < 3 * math.sqrt(0.25 / len(made.test))  # nor does the order


@pytest.mark.slow
def test_judge_learns_from_pixels(judge: JudgeModel, made: pixels.Scenes) -> None:
    report = pixels.report_on(judge, made.test, made.groups)
    assert report["pairs"]["n"] == RECIPE.test_trees
    assert report["pairs"]["accuracy"] >= 0.9
    groups = {row["key"]: row["accuracy"] for row in report["pairs_by"] if row["by"] == "group"}
    assert len(groups) == 4
    assert min(groups.values()) > 0.75  # kinds that training never showed included


@pytest.mark.slow
def test_without_pixels_it_is_a_coin(judge: JudgeModel, made: pixels.Scenes) -> None:
    found = pixels.report_on(judge, pixels.blanked(made.test, pixels.GREYS))["pairs"]
    assert abs(found["accuracy"] - 0.5) <= 3 * math.sqrt(0.25 / found["n"])
    for e in pixels.blanked(made.test[:20], [128]):  # the very same grey: nothing is left to differ
        first, second = scores(judge, e).values()
        assert first == pytest.approx(second, abs=1e-4)


@pytest.mark.slow
def test_order_of_siblings_changes_nothing(judge: JudgeModel, made: pixels.Scenes) -> None:
    for e in made.test[:50]:
        assert scores(judge, swapped(e)) == pytest.approx(scores(judge, e), abs=1e-4)
    as_listed, turned = (pixels.report_on(judge, part)["pairs"]["accuracy"] for part in
                         (made.test, [swapped(e) for e in made.test]))  # fmt: skip
    assert turned == as_listed


def test_command_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pixels.main([str(tmp_path), "--train-trees", "12", "--test-trees", "12", "--epochs", "1"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["recipe"]["epochs"], report["pairs"]["n"], report["blanked"]["n"]) == (1, 12, 12)
    assert f"pictures: {report['pairs']['accuracy']:.3f}" in capsys.readouterr().out


def test_command_says_what_is_too_little(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pixels.main([str(tmp_path), "--epochs", "0"]) == 1
    assert "at least one tree and one epoch, not 0" in capsys.readouterr().err
