"""A refusal names a next step, and who takes it has a judge."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from judge.examples import Comparison, Example, Score
from judge.groups import Split
from judge.model import LoraSettings
from judge.rubric import JudgeError
from judge.settings import Settings
from judge.training import train
from studio.tree import Part, Tree
from tests.test_training import base, taught  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def learned(examples: list[Example], home: Path, base: Path, max_path: int | None = None) -> bool:  # noqa: F811
    """Whether a judge comes of it; every dialogue is for training, but those called "kept" are for the test."""
    settings = Settings(base=str(base), epochs=1, max_path=max_path, lora=LoraSettings(rank=0))
    ids = [e.tree.id for e in examples]
    kept = tuple(e.tree.id for e in examples if e.tree.title == "kept")
    parts = Split(tuple(i for i in ids if i not in kept), (), kept, 0)
    return train(examples, "a", home / "judges", home / "cache", settings, parts=parts).folder is not None


def refusal(examples: list[Example], home: Path, base: Path, max_path: int | None = None) -> str:  # noqa: F811
    with pytest.raises(JudgeError) as raised:
        learned(examples, home, base, max_path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def lengthened(example: Example, **words: int) -> Example:
    """The same tree with so many words in these replies."""
    nodes = [
        replace(n, parts=[Part("text", "word " * words[n.id])]) if n.id in words else n for n in example.tree.walk()
    ]
    return replace(example, tree=Tree(example.tree.id, nodes=nodes))


def test_replies_that_are_too_long_name_the_path_that_is_long_enough(tmp_path: Path, base: Path) -> None:  # noqa: F811
    first, second = taught(2)
    examples = [lengthened(first, good=60, bad=90), lengthened(second, good=80, bad=80)]
    line = refusal(examples, tmp_path, base, 64)
    assert line.startswith("No label is left to train on: reply of ")
    (least,) = re.findall(r"Set --max-path to (\d+) or more", line)
    assert 80 * 5 < int(least) < 90 * 5  # of the shortest label; a first reply that is shorter misleads nobody
    refusal(examples, tmp_path, base, int(least) - 1)
    assert learned(examples, tmp_path, base, int(least))


def test_replies_longer_than_the_backbones_context_ask_for_no_longer_path(tmp_path: Path, base: Path) -> None:  # noqa: F811
    short = Path(shutil.copytree(base, tmp_path / "short"))
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
    examples = [lengthened(e, good=60, bad=60) for e in taught(2)]
    for max_path in (None, 1000):
        line = refusal(examples, tmp_path, short, max_path)
        assert "--max-path" not in line
        assert line.endswith("Choose a backbone with a longer context than 128 tokens, or rate shorter replies.")
    assert learned(examples, tmp_path / "longer context", base)
    assert learned([*examples, *taught(2, first=2)], tmp_path / "shorter replies", short)


def test_labels_that_are_alike_ask_for_others(tmp_path: Path, base: Path) -> None:  # noqa: F811
    tie, score, kept = taught(3)
    kept.tree.title = "kept"
    tie.comparisons = [replace(c, outcome="tie") for c in tie.comparisons]
    score.comparisons, score.scores = [], [Score("good", "L1", 2)]
    line = refusal([tie, score, kept], tmp_path, base)
    assert line.startswith("The labels to train on (1 score, 1 comparison) are all alike")  # the third is for the test
    assert line.endswith("Rate replies that differ.")
    score.scores.append(Score("bad", "L1", 1))
    assert learned([tie, score, kept], tmp_path, base)


def test_a_single_label_asks_for_more(tmp_path: Path, base: Path) -> None:  # noqa: F811
    tie, decided, more = taught(3)
    tie.comparisons = [replace(c, outcome="tie") for c in tie.comparisons]
    line = refusal([tie, decided], tmp_path, base)
    assert line.startswith("One label that says what is better is too little")  # there are two labels
    more.comparisons = [Comparison("good", "bad", "L1", "local", "left")]
    assert learned([tie, decided, more], tmp_path, base)
