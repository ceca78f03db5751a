"""From ratings in the store to a judge and back: the command line, the rows, and the page that shows it in twenty lines."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from judge import measure
from judge.scoring import Scorer
from studio import api, cli, teaching
from studio.actions import Studio
from studio.config import Config
from studio.media import Media
from studio.store import Store
from studio.tree import Part

DOCS = Path(__file__).resolve().parents[1] / "docs" / "judge.md"


@pytest.fixture
def rated(own_home: Path) -> Path:
    """A home of forty trees: two replies each, rated and compared; the good one says so."""
    store, rng = Store(own_home), random.Random(0)
    with store.write():
        for i in range(40):
            tree = store.create_tree(f"tree {i}")
            asked = store.add_node(tree, None, "user", [Part("text", f"Question {rng.random():.6f}")])
            texts = [f"{rng.choice('abcdef') * 4} {w} {rng.choice('uvwxyz')}" for w in ("good", "bad")]
            better, worse = (store.add_node(tree, asked, "assistant", [Part("text", t)]) for t in texts)
            store.rate(better, "L4", 3, "ann")
            store.rate(worse, "L4", rng.choice([0, 1]), "ann")
            store.compare("local", "overall", better, worse, "left", "ann")
    store.close()
    return own_home


def test_train_and_score_from_the_command_line(rated: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["train", "--name", "first", "--base", str(base), "--epochs", "4", "--rate", "0.002", "--json"]) == 0
    )
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["steps"] >= 4
    assert answer["data"]["rows"][0] == {
        "level": "local",
        "dimension": "L4",
        "test_scores": 16,
        "train_scores": 56,
        "validation_scores": 8,
        "test_derived": 8,  # a 3 and a 0 or 1 of siblings: one pair a tree
        "train_derived": 28,
        "validation_derived": 4,
    }
    assert any("below 50" in w for w in answer["data"]["warnings"])
    assert answer["report"]["pairs"]["n"] == 8
    assert answer["report"]["pairs"]["interval"] is not None
    assert set(answer["report"]["pairs"]["baselines"]) >= {"coin", "longer"}
    assert measure.FITTED in answer["report"]["others"]
    lines = [json.loads(line) for line in told.err.splitlines() if line.startswith("{")]
    began, card = next((i, line["data"]) for i, line in enumerate(lines) if "data" in line)
    assert card == answer["data"]
    assert not any("step" in line for line in lines[:began])  # what is too little is said before training
    assert {"step", "steps", "loss", "eta_s"} <= set(next(line for line in lines if "step" in line))
    folder = rated / "judges" / "first"
    assert {p.name for p in folder.iterdir()} == {
        "judge.safetensors", "card.json", "data.json", "report.json", "report.html",
    }  # fmt: skip

    assert cli.main(["score", "--judge", "first", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["replies"] == 80
    store = Store(rated)
    (row,) = store.judges()
    assert (row["name"], row["path"], row["metrics"]["pairs"]["n"]) == ("first", "judges/first", 8)
    tree = store.tree_ids()[3]
    kept, scorer = store.judge_scores(tree, "first"), Scorer.load(folder, rated / "backbones")
    (example,) = teaching.examples(store, Media(rated), [tree])
    for node, reading in scorer.tree(example).items():
        assert set(kept[node]) == set(reading.logits)
        for dimension, score in kept[node].items():
            assert score.value == pytest.approx(reading.value(dimension), abs=1e-4)
            assert score.spread == pytest.approx(reading.spread[dimension], abs=1e-4)
            assert score.logit == pytest.approx(reading.logits[dimension], abs=1e-4)
            assert score.value == pytest.approx(scored["scores"][node][dimension]["value"], abs=1e-9)
    store.close()

    assert cli.main(["train", "--name", "first", "--base", str(base)]) == 1
    assert "There is a judge 'first' already" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "line"), [
    (["score", "--judge", "none"], "There is no judge 'none'. Train one first."),
    (["train", "--name", "x", "--base", "/no/such/folder"], "There is no backbone '/no/such/folder'."),
    (["train", "--name", "../x"], "A judge cannot be called '../x'"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line(
    rated: Path, command: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command) == 1
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("intermt-studio:")]
    assert len(said) == 1
    assert line in said[0]


def test_an_empty_home_has_nothing_to_learn_from(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--name", "x"]) == 1
    assert "Rate some replies first" in capsys.readouterr().err


def test_unknown_tree_is_named(rated: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--name", "a", "--base", str(base), "--epochs", "1", "--rank", "0"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"On 8 comparisons of people in 8 unseen dialogues it is right in \d\.\d{3} \(\d\.\d{3} to \d\.\d{3}\)", said
    )
    assert re.search(r"Beside it: a coin 0\.500 .*the longer one 1\.000 .*frozen backbone, fitted head \d\.", said)
    assert cli.main(["score", "--judge", "a", "--tree", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_page_of_twenty_lines_is_true(
    rated: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith(("from", "import"))]) <= 20
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "trees.zip"]) == 0
    exec(compile(code.replace('"builtin"', repr(str(base))), str(DOCS), "exec"), {})
    said = capsys.readouterr().out
    assert "+-" in said
    assert "'accuracy'" in said


def test_a_judge_of_an_imported_file_cannot_name_another_folder(rated: Path) -> None:
    store = Store(rated)
    (rated / "media").mkdir(exist_ok=True)
    for name in ("../media", "a/b", "", ".live"):
        store.add_judge(name, "x", {}, "", {}, "judges/x")
    assert store.judges() == []
    store.close()
    studio = Studio.open(Config(rated))
    answer = api.handle(studio, "judge_remove", {"judge": "../media"})
    assert answer["error"].startswith("There is no judge")
    assert (rated / "media").is_dir()
    studio.close()


def test_the_closing_lines_put_every_rival_and_the_ceiling_beside_the_figure() -> None:
    figures: dict[str, Any] = {"n": 40, "trees": 9, "accuracy": 0.7, "interval": [0.6, 0.8],
               "baselines": {"coin": {"value": 0.5}, "longer": {"value": None}},
               "others": {"frozen backbone, fitted head": {"value": 0.65, "interval": [0.5, 0.7]}},
               "ceiling": {"n": 12, "value": 0.8, "interval": None}}  # fmt: skip
    answer = {
        "interrupted": False,
        "name": "a",
        "steps": 3,
        "ended": "finished",
        "data": {},
        "report": {"pairs": figures, "derived": figures},
    }
    lines = teaching.sentence(answer).splitlines()
    beside = ("Beside it: a coin 0.500; frozen backbone, fitted head 0.650 (0.500 to 0.700); people among themselves 0.800 on 12 "
              "that were judged twice.")  # fmt: skip
    assert [lines[2], lines[4]] == [beside, beside]
    figures["baselines"]["longer"] = {"value": 0.75, "difference_interval": [-0.1, 0.02]}
    assert teaching.sentence(answer).splitlines()[3] == "That is not better than picking the longer reply."
    figures["interval"] = None
    assert teaching.sentence(answer).splitlines()[3] == "There are too few dialogues for an interval."
