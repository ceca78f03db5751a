"""A judge learns what can be learned, and nothing else; its losses, its accumulation, what it reports and what it saves."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from safetensors.torch import load_file  # noqa: E402

from judge import backbones, check, files, training  # noqa: E402
from judge.batches import Forests  # noqa: E402
from judge.examples import Comparison, Example, Score  # noqa: E402
from judge.groups import Split  # noqa: E402
from judge.labels import with_derived  # noqa: E402
from judge.losses import comparison_loss, expected_score, label_losses, ordinal_loss  # noqa: E402
from judge.model import NINE, ROWS, JudgeModel, LoraSettings, ScoreHead  # noqa: E402
from judge.scoring import Scorer  # noqa: E402
from judge.trainer import Reporter, validate  # noqa: E402
from judge.training import Settings, Trained, train  # noqa: E402
from studio.tree import Node, Part, Tree  # noqa: E402
from tests import tiny  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

Labels = Literal["pairs", "scores", "random"]
QUICK = Settings(level="local", epochs=4, learning_rate=3e-3, head_learning_rate=1e-2, max_tokens=256, max_path=200,
                 batch_tokens=512, copies=2, patience=0, lora=LoraSettings(rank=4, alpha=8))  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of one layer."""
    return tiny.llama(tmp_path_factory.mktemp("base"), hidden=24, layers=1)


def taught(n: int, labels: Labels = "pairs", first: int = 0) -> list[Example]:
    """``n`` trees of a question and two replies that differ by a word: the good one is better (or, at random, either)."""
    made = []
    for i in range(first, first + n):
        rng = random.Random(i)
        words = rng.sample(["good", "bad"], 2)
        asked = Node("q", f"t{i:03}", None, 0, "user", [Part("text", f"Question {rng.randrange(10**4)}")])
        replies = [
            Node(w, f"t{i:03}", "q", j, "assistant", [Part("text", f"A {w} reply")]) for j, w in enumerate(words)
        ]
        example = Example(Tree(f"t{i:03}", nodes=[asked, *replies]))
        if labels == "scores":
            example.scores = [Score("good", "L1", 3), Score("bad", "L1", 0)]
        else:
            better = rng.choice(words) if labels == "random" else "good"
            example.comparisons = [
                Comparison(words[0], words[1], "L1", "local", "left" if words[0] == better else "right")
            ]
        made.append(example)
    return made


def dealt(examples: list[Example], validation: int = 10) -> Split:
    """The last ones are for validation; nothing is left for a test."""
    ids = [e.tree.id for e in examples]
    return Split(tuple(ids[: len(ids) - validation]), tuple(ids[len(ids) - validation :]), (), 0)


def quick(
    examples: list[Example], home: Path, base: Path, name: str = "a", validation: int = 10, **more: Any
) -> Trained:
    """Train a judge under ``home``; ``more``: settings, or ``progress``."""
    asked = {k: more.pop(k) for k in ("progress", "stop", "begin_again") if k in more}
    settings = replace(QUICK, base=str(base), **more)
    return train(examples, name, home / "judges", home / "cache", settings, parts=dealt(examples, validation), **asked)


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / files.TENSORS)


def apart(a: Path, b: Path) -> float:
    """The largest difference of two judges' weights."""
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    return max(float((one[k] - other[k]).abs().max()) for k in one)


def accuracy(judge: Path, held_out: list[Example]) -> float:
    """How often a saved judge puts the better of two replies first."""
    scorer = Scorer(files.load_judge(judge, judge.parent / "cache")[0])
    right = []
    for e in held_out:
        (c,) = e.comparisons
        read = scorer.tree(e)
        right.append((read[c.left].logits["L1"] > read[c.right].logits["L1"]) == (c.outcome == "left"))
    return sum(right) / len(right)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, base: Path) -> tuple[Trained, list[dict[str, Any]]]:
    """A judge trained on pairs, and the lines that told of it."""
    lines: list[dict[str, Any]] = []
    home = tmp_path_factory.mktemp("learned")
    return quick(taught(40), home, base, progress=lines.append), lines


def test_learns_from_comparisons(learned: tuple[Trained, Any]) -> None:
    assert learned[0].folder is not None
    assert accuracy(learned[0].folder, taught(40, first=100)) >= 0.9


def test_learns_from_scores_alone_and_reads_them_back(tmp_path: Path, base: Path) -> None:
    made = quick(taught(40, "scores"), tmp_path, base, derived=False, epochs=10)
    assert made.folder is not None
    assert accuracy(made.folder, taught(40, first=100)) >= 0.9
    scorer = Scorer(files.load_judge(made.folder, tmp_path)[0])
    read = [scorer.tree(e) for e in taught(10, "scores", first=100)]
    assert sum(abs(r["good"].expected["L1"] - 3) + abs(r["bad"].expected["L1"]) for r in read) / 20 < 0.75


def test_labels_at_random_teach_nothing(tmp_path: Path, base: Path) -> None:
    made = quick(taught(40, "random"), tmp_path, base)
    assert made.folder is not None
    assert 0.3 <= accuracy(made.folder, taught(40, "random", first=100)) <= 0.7


def test_outcomes_and_levels_sum_to_one() -> None:
    d, margin = torch.linspace(-8, 8, 41), torch.full((41,), 0.3)
    each = [torch.exp(-comparison_loss(d, torch.full((41,), o), margin)) for o in (1, 0, -1)]
    assert torch.allclose(sum(each), torch.ones(41), atol=1e-6)
    assert each[1].argmax() == 20  # a tie is likeliest between equals
    thresholds = ScoreHead(4).thresholds()
    for row, n in (("L1", 4), ("G5", 5)):
        cut = thresholds[ROWS.index(row)].expand(41, -1)
        levels = [torch.exp(-ordinal_loss(d, torch.full((41,), k), cut)) for k in range(n)]
        assert torch.allclose(sum(levels), torch.ones(41), atol=1e-6)
        lowest = torch.tensor(float(3 - (n - 1)))
        mean = sum(p * (lowest + k) for k, p in enumerate(levels))
        assert torch.allclose(mean, expected_score(d, cut, lowest), atol=1e-5)
        assert (levels[0].argmax(), levels[-1].argmax()) == (0, 40)


@pytest.mark.parametrize("row", ["L1", "G5"])
def test_gradients_are_those_of_finite_differences(row: str) -> None:
    head = ScoreHead(4).double()
    at, n = ROWS.index(row), int(head.n_levels[ROWS.index(row)])  # L1's last threshold is infinite
    score = torch.tensor([-2.0, -0.4, 0.1, 0.7, 3.0][:n], dtype=torch.float64, requires_grad=True)

    def ordinal(score: Any, first: Any, steps: Any) -> Any:
        weights: Any = SimpleNamespace(first=first, steps=steps, n_levels=head.n_levels)
        cut = ScoreHead.thresholds(weights)[at].expand(n, -1)
        return ordinal_loss(score, torch.arange(n), cut)

    first, steps = (p.detach().clone().requires_grad_() for p in (head.first, head.steps))
    assert torch.autograd.gradcheck(ordinal, (score, first, steps))
    d = torch.tensor([-1.3, 0.2, 0.9], dtype=torch.float64, requires_grad=True)
    margin = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    for outcome in (1, 0, -1):
        assert torch.autograd.gradcheck(lambda a, b, o=outcome: comparison_loss(a, torch.full((3,), o), b), (d, margin))


def gradients(base: Path, example: Example, column: slice) -> JudgeModel:
    """A model after the backward pass of some columns' losses on one tree."""
    model = JudgeModel(backbones.load(str(base), base / "cache"), QUICK.lora, 3)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p)
    batch = Forests([example], model.encoder, NINE, max_tokens=256, max_path=200, copies=3)[0]
    label_losses(model.head, model(batch), batch)[column].sum().backward()
    return model


def test_copies_do_not_teach_the_backbone(base: Path) -> None:
    (example,) = taught(1)
    example.scores = [Score("good", "L1", 2)]
    copies, own = (gradients(base, example, c) for c in (slice(1, None), slice(0, 1)))
    trained = [(k, p.grad) for k, p in copies.named_parameters() if p.requires_grad and k != "head.weight"]
    assert len(trained) > 10
    assert all(g is None or not g.any() for _, g in trained)
    assert copies.head.weight.grad is not None
    assert not copies.head.weight.grad[0].any()
    assert copies.head.weight.grad[1:].any()
    assert all(p.grad is not None and p.grad.any() for k, p in own.named_parameters() if "lora" in k)
    assert own.head.weight.grad is not None
    assert not own.head.weight.grad[1:].any()


def test_missing_labels_move_nothing(base: Path) -> None:
    grad = gradients(base, taught(1, "scores")[0], slice(None)).head.weight.grad
    assert grad is not None
    touched = {ROWS[i] for i in range(len(ROWS)) if grad[:, i].any()}
    assert touched == {"L1"}


def test_two_forests_in_one_step_equal_one_of_twice_the_size(tmp_path: Path, base: Path) -> None:
    examples = [with_derived(e) for e in taught(6, "scores")] + taught(6, first=6)
    two, one = (
        quick(examples, tmp_path, base, name, 0, max_tokens=tokens, batch_tokens=1000, epochs=3, warmup=0.0)
        for name, tokens in (("two", 500), ("one", 1000))
    )
    assert two.folder is not None
    assert one.folder is not None
    assert two.step == one.step == 3  # one step an epoch: all examples in each
    assert apart(two.folder, one.folder) < 1e-6


def test_lines_tell_how_far_and_how_fast(learned: tuple[Trained, list[dict[str, Any]]]) -> None:
    made, lines = learned
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, made.step + 1))
    for line in steps:
        assert line["steps"] == made.step
        assert math.isfinite(line["loss"])
        assert line["learning_rate"] >= 0
        assert line["tokens_per_s"] > 0
        assert line["eta_s"] >= 0
    assert steps[-1]["eta_s"] == 0
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert any("eval_accuracy_L1" in line for line in lines)


def test_stops_early_and_saves_the_best(tmp_path: Path, base: Path) -> None:
    examples, lines = misleading(), list[dict[str, Any]]()
    made = quick(examples, tmp_path, base, epochs=20, patience=2, progress=lines.append)
    losses = [e["eval_loss"] for e in made.card["log"] if "eval_loss" in e]
    assert made.step == lines[-1]["step"] < lines[-1]["steps"]
    assert losses.index(min(losses)) == len(losses) - 3
    assert made.card["best"] == min(losses) < losses[-1]
    model, _ = files.load_judge(tmp_path / "judges" / "a", tmp_path)
    held_out = Forests(examples[30:], model.encoder, NINE, max_tokens=256, max_path=200)
    assert validate(model, held_out)["loss"] == pytest.approx(min(losses), abs=1e-5)

    for at in (1, made.step - 1):  # patience outlives an interruption, also one in the step when it ends
        stop, name = threading.Event(), f"after-{at}"
        more: dict[str, Any] = {"epochs": 20, "patience": 2, "stop": stop}

        def told(line: dict[str, Any], at: int = at, stop: threading.Event = stop) -> None:
            if line.get("step") == at:
                stop.set()

        quick(examples, tmp_path, base, name, progress=told, **more)
        stop.clear()
        if at == 1:
            assert quick(examples, tmp_path, base, name, **more).step == made.step
        assert apart(*(tmp_path / "judges" / n for n in (name, "a"))) < 1e-6


def misleading() -> list[Example]:
    """What the first thirty teach is wrong for the ten after them, which are for validation."""
    wrong = taught(10, first=30)
    for e in wrong:
        e.comparisons = [replace(c, outcome="right" if c.outcome == "left" else "left") for c in e.comparisons]
    return taught(30) + wrong


def test_saved_and_loaded_scores_are_equal(tmp_path: Path, base: Path) -> None:
    model = JudgeModel(backbones.load(str(base), tmp_path), QUICK.lora, 2, seed=3)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    files.save_judge(model, {"base": model.base_card, "model": model.settings}, tmp_path / "a")
    again, _ = files.load_judge(tmp_path / "a", tmp_path)
    (example,) = taught(1)
    before, after = (Scorer(m).tree(example) for m in (model.eval(), again))
    assert {n: r.logits for n, r in before.items()} == {n: r.logits for n, r in after.items()}
    assert {p.name for p in tmp_path.iterdir()} == {"a", "checked"}


def test_a_step_takes_no_more_sequences_than_there_are(tmp_path: Path, base: Path) -> None:
    settings = replace(QUICK, base=str(base), batch_tokens=10**6)
    examples = taught(12)
    backbone = backbones.load(str(base), tmp_path)
    run = check.planned(*training.usable(examples, settings, dealt(examples, 0)), backbone, settings, lambda line: None)
    model = JudgeModel(backbone, settings.lora, settings.copies)
    made = training._trainer(model, run, tmp_path / "run", Reporter(lambda line: None, threading.Event()))
    assert all(step.labelled() for step in made.train_dataset.steps)  # none was added to fill a step
    assert made.args.gradient_accumulation_steps == len(made.train_dataset) > 1
    assert quick(examples, tmp_path, base, "a", 0, batch_tokens=10**6, epochs=2).step == 2


def test_merged_copy_works_without_this_program(learned: tuple[Trained, Any], tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    assert learned[0].folder is not None
    files.export_merged(learned[0].folder, tmp_path, tmp_path / "merged")
    model, _ = files.load_judge(learned[0].folder, tmp_path)
    (example,) = taught(1)
    plain, tokenizer = (kind.from_pretrained(tmp_path / "merged") for kind in (AutoModel, AutoTokenizer))
    said = [{"role": n.role, "content": n.text} for n in example.tree.path("good")]
    ids = tokenizer.apply_chat_template(said, return_tensors="pt", return_dict=False)
    batch = Forests([example], model.encoder, NINE, max_tokens=256, max_path=200)[0]
    ours = model.hidden(batch["ids"], batch["positions"], batch["layout"], {})
    end = batch["ends"][0 if example.comparisons[0].left == "good" else 1]
    with torch.no_grad():
        theirs = plain(ids).last_hidden_state[0, -1]
    assert torch.allclose(ours[end], theirs, atol=1e-4)
    head = load_file(tmp_path / "merged" / "score_head.safetensors")
    scored = Scorer(model).tree(example)["good"].logits["L1"]
    assert float(head["weight"][0, ROWS.index("L1")] @ theirs) == pytest.approx(scored, abs=1e-4)


def test_a_step_holds_the_tokens_that_were_asked_for(tmp_path: Path, base: Path) -> None:
    """Trees longer than what short ones are packed to stand alone, and count as long as they are."""
    examples = taught(24)
    for e in examples:
        e.tree.nodes["q"].parts[0] = Part("text", "why " * 450)
    done = quick(examples, tmp_path, base, validation=4, epochs=1, batch_tokens=4096, max_tokens=None, max_path=None)
    assert done.card["settings"]["pack_tokens"] == 1024
    assert done.step == 10  # 20 trees of about 1,870 tokens
