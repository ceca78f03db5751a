"""One label, picture or dimension that a judge cannot take ends nothing: it is named, and the rest is learned and tested."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from PIL import Image  # noqa: E402

from judge import backbones, check, frozen, learning, measure  # noqa: E402
from judge.evaluation import evaluate, pair_accuracy  # noqa: E402
from judge.examples import Comparison, Example, Score  # noqa: E402
from judge.groups import Split  # noqa: E402
from judge.labels import prepare  # noqa: E402
from judge.model import JudgeModel, LoraSettings  # noqa: E402
from judge.readings import scored_on, trained_on  # noqa: E402
from judge.rubric import JudgeError, load_own  # noqa: E402
from judge.scoring import Scorer  # noqa: E402
from judge.settings import Settings  # noqa: E402
from judge.training import train, usable  # noqa: E402
from studio import teaching  # noqa: E402
from studio.tree import Node, Part, Tree  # noqa: E402
from tests import tiny  # noqa: E402
from tests.scored import pair  # noqa: E402
from tests.test_rubric import TONE, write  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llama(tmp_path_factory.mktemp("llama"), hidden=24, layers=1)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.qwen(tmp_path_factory.mktemp("qwen"), layers=1)


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "PNG")
    return out.getvalue()


def dialogue(i: int, picture: bytes | None = None) -> Example:
    """A question and two replies, of which the first is better; ``picture`` in the second question, with two more replies."""
    t = f"t{i:02}"
    nodes = [
        Node(f"{t}q", t, None, 0, "user", [Part("text", f"Which of number {i * 7919}?")]),
        Node(f"{t}a", t, f"{t}q", 0, "assistant", [Part("text", f"the good one {i}")]),
        Node(f"{t}b", t, f"{t}q", 1, "assistant", [Part("text", f"bad {i}")]),
    ]
    pairs = [Comparison(f"{t}a", f"{t}b", "overall", "local", "left")]
    images: dict[str, Any] = {}
    if picture is not None:
        sha = f"{i:064x}"
        images[sha] = picture
        nodes += [
            Node(f"{t}q2", t, f"{t}a", 0, "user", [Part("image", "", sha, "a thing")]),
            Node(f"{t}c", t, f"{t}q2", 0, "assistant", [Part("text", "seen")]),
            Node(f"{t}d", t, f"{t}q2", 1, "assistant", [Part("text", "not seen at all")]),
        ]
        pairs.append(Comparison(f"{t}c", f"{t}d", "overall", "local", "left"))
    return Example(Tree(t, nodes=nodes), comparisons=pairs, images=images)


def parts_of(examples: list[Example], test: int) -> Split:
    ids = tuple(e.tree.id for e in examples)
    return Split(ids[:-test], (), ids[-test:], 0)


BROKEN = b"no picture"


def test_a_test_label_on_a_row_that_nobody_taught_is_left_out(base: Path, tmp_path: Path) -> None:
    examples = [dialogue(i) for i in range(8)]
    odd = Comparison("t07a", "t07b", "L1", "local", "right")
    examples[7] = replace(examples[7], comparisons=[*examples[7].comparisons, odd])
    settings = Settings(base=str(base), epochs=1, lora=LoraSettings(rank=0))
    done = train(examples, "one", tmp_path / "judges", tmp_path, settings, parts=parts_of(examples, 2))
    assert done.folder
    report = measure.assess(done.folder, tmp_path, examples)
    assert report["pairs"]["n"] == 2
    assert any("L1 (local) has 0 labels of people to train on" in w for w in done.card["data"]["warnings"])


@pytest.mark.parametrize("picture", [BROKEN, png(2, 600)], ids=["broken", "too narrow for its patches"])
def test_a_picture_that_cannot_be_read_leaves_out_its_own_labels(picture: bytes, seeing: Path, tmp_path: Path) -> None:
    examples = [dialogue(i, picture if i in (0, 7) else png(56, 56)) for i in range(8)]
    settings = Settings(base=str(seeing), epochs=1, lora=LoraSettings(rank=0))
    prepared, parts = usable(examples, settings, parts_of(examples, 2))
    backbone = backbones.load(str(seeing), tmp_path)
    card = check.planned(prepared, parts, backbone, settings, lambda line: None).card
    assert (card["labels"]["total"], card["labels"]["left_out"]) == (16, 2)
    assert "picture" in card["labels"]["sentence"]
    (row,) = card["rows"]
    assert (row["train_pairs"], row["test_pairs"]) == (11, 3)

    done = train(examples, "one", tmp_path / "judges", tmp_path, settings, parts=parts_of(examples, 2))
    assert done.folder
    assert measure.assess(done.folder, tmp_path, examples)["pairs"]["n"] == 3
    scorer = Scorer.load(done.folder, tmp_path)
    assert set(scorer.tree(examples[0])) == {"t00a", "t00b"}
    assert {node for node, _ in scorer.skipped} == {"t00c", "t00d"}
    vectors = frozen.read(JudgeModel(backbone, LoraSettings(rank=0), 0), examples[:1], 512)
    assert {n for _, n in vectors.states} == {"t00a", "t00b"}
    assert {n for _, n in vectors.skipped} == {"t00c", "t00d"}


def test_a_broken_picture_above_the_cut_does_not_spoil_the_test(seeing: Path, tmp_path: Path) -> None:
    first, sha = dialogue(0, BROKEN), f"{0:064x}"
    scorer = Scorer(JudgeModel(backbones.load(str(seeing), tmp_path), LoraSettings(rank=0), 0), max_path=60)
    assert scorer.tree(first, ["t00c"]) == {}  # its question does not fit, so it is read as a reply alone or not at all
    nodes = [*first.tree.walk()]
    nodes += [Node("q3", "t00", "t00c", 0, "user", [Part("text", "why " * 8)])]
    nodes += [Node(n, "t00", "q3", i, "assistant", [Part("text", "so")]) for i, n in enumerate(("x", "y"))]
    long = Example(
        Tree("t00", nodes=nodes), comparisons=[Comparison("x", "y", "overall", "local", "left")], images={sha: BROKEN}
    )
    assert set(scorer.tree(long, ["x", "y"])) == {"x", "y"}
    pairs, _ = measure.measure(scorer, [long])
    assert [p.cut for p in pairs] == [True]


def test_learned_from_counts_what_was_read(base: Path, tmp_path: Path) -> None:
    examples = [dialogue(i) for i in range(8)]
    tree = examples[0].tree
    nodes = [replace(n, parts=[Part("text", "x " * 600)]) if n.id == "t00b" else n for n in tree.walk()]
    examples[0] = replace(examples[0], tree=Tree("t00", nodes=nodes), scores=[Score("t00b", "L2", 3)])
    settings = Settings(base=str(base), epochs=1, max_path=600, lora=LoraSettings(rank=0))
    done = train(examples, "one", tmp_path / "judges", tmp_path, settings, parts=parts_of(examples, 2))
    card = done.card
    assert card["data"]["labels"]["left_out"] == 2
    assert trained_on(card) == {"overall": 5}
    assert scored_on(card) == {}


def test_a_baseline_that_cannot_be_measured_is_told_and_the_rest_stands(base: Path, tmp_path: Path) -> None:
    examples = [dialogue(i) for i in range(8)]
    settings = Settings(base=str(base), epochs=1, lora=LoraSettings(rank=0))
    done = train(examples, "one", tmp_path / "judges", tmp_path, settings, parts=parts_of(examples, 2))
    assert done.folder
    card = json.loads((done.folder / "card.json").read_text())
    card["settings"]["max_path"] = 4  # the baseline can read nothing of what it would be fitted to
    (done.folder / "card.json").write_text(json.dumps(card))
    report = measure.assess(done.folder, tmp_path, examples)
    assert report["pairs"]["n"] == 2
    assert not report["others"]
    why = (
        "The frozen backbone with a fitted head could not be measured beside it: No reply can be read to fit a head to"
    )
    assert report["baseline_failed"].startswith(why)
    assert why in (done.folder / "report.html").read_text()
    answer = {"interrupted": False, "name": "one", "steps": 1, "ended": "finished", "data": {}, "report": report}
    assert why in teaching.sentence(answer).splitlines()[-1]


def test_a_paused_run_goes_on_after_the_rubric_has_grown(base: Path, tmp_path: Path) -> None:
    import threading

    examples, stop = [dialogue(i) for i in range(8)], threading.Event()
    settings = Settings(base=str(base), epochs=4, max_tokens=512, batch_tokens=100, lora=LoraSettings(rank=2))

    def once(line: dict[str, Any]) -> None:
        if "step" in line:
            stop.set()

    first = train(
        examples, "one", tmp_path / "judges", tmp_path, settings, parts=parts_of(examples, 2), stop=stop, progress=once
    )
    assert first.ended == "interrupted"
    load_own(write(tmp_path, TONE))
    try:
        done = train(examples, "one", tmp_path / "judges", tmp_path, settings, parts=parts_of(examples, 2))
    finally:
        load_own(None)
    assert done.folder


def test_the_fitted_heads_ties_are_told_by_its_own_margin() -> None:
    pairs = [pair("tie", 0.0, 0.1, f"{i}", tie_margin=1.0) for i in range(10)]
    pairs += [pair("left", 5.0, 0.0, f"w{i}", tie_margin=1.0) for i in range(10)]
    twin = [(p.left, p.right, 1.0) for p in pairs]
    told = evaluate(pairs, [], others={"twin": twin})
    assert told["pairs"]["three_way"]["value"] == told["others"]["twin"]["three_way"]["value"] == 1.0


def test_a_curve_of_one_test_group_says_what_is_missing(base: Path, tmp_path: Path) -> None:
    """Thirty dialogues with a score, but only one with comparisons: no interval can be given."""
    examples = [replace(dialogue(i), comparisons=[], scores=[Score(f"t{i:02}a", "L1", i % 4)]) for i in range(30)]
    prepared = prepare(examples)
    held = learning.split(prepared.examples, 0).test[0]
    i = int(held[1:])
    nodes = [*examples[i].tree.walk()]
    nodes += [Node(f"x{k}", held, f"{held}q", k + 2, "assistant", [Part("text", f"answer {k}")]) for k in range(12)]
    pairs = [Comparison(f"x{k}", f"x{k + 1}", "overall", "local", "left") for k in range(11)]
    examples[i] = replace(examples[i], tree=Tree(held, nodes=nodes), comparisons=pairs)
    found = learning.curve(examples, tmp_path, learning.Plan(base=str(base)))
    assert found["points"] == []
    assert "1 with a decided pair kept apart for the test" in found["verdict"]["text"]


def test_a_gain_without_an_interval_has_a_verdict() -> None:
    point = {"ratings": 10, "interval": None} | pair_accuracy([pair("left", 1, 0, "t")], n_boot=0)
    told = learning.verdict({"gain": {"value": 0.1, "interval": None}, "points": [point, point]})
    assert told["kind"] == "unknown"
    assert "compare replies of more dialogues" in told["text"]


def test_no_label_at_all_is_one_line(base: Path, tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="nothing to fit a head to"):
        frozen.fit(frozen.States(frozen.Vectors(10), torch.zeros(1), torch.ones(1)), [], {"L1": (0, 1, 2, 3)})
