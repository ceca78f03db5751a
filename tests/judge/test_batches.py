"""No label stops a run: what does not fit into one sequence is scored in two of one step, or left out and named."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from judge import backbones  # noqa: E402
from judge.batches import Forests  # noqa: E402
from judge.examples import Comparison, Example, Score  # noqa: E402
from judge.labels import summary  # noqa: E402
from judge.losses import label_losses  # noqa: E402
from judge.model import NINE, JudgeModel, LoraSettings  # noqa: E402
from judge.packing import Piece, plan_items  # noqa: E402
from studio.tree import Node, Part, Tree  # noqa: E402
from tests import tiny  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of one layer, a token a character."""
    return tiny.llama(tmp_path_factory.mktemp("base"), hidden=24, layers=1)


def random_tree(rng: random.Random, longest: int) -> tuple[Tree, dict[str, int]]:
    """A tree of up to 24 nodes, and how long each is."""
    nodes = [Node("n00", "t", None, 0, "user", [Part("text", "q")])]
    for i in range(1, rng.randint(2, 24)):
        above = rng.choice(nodes)
        role: Any = "assistant" if above.role == "user" else "user"
        nodes.append(Node(f"n{i:02}", "t", above.id, i, role, [Part("text", "x")]))
    return Tree("t", nodes=nodes), {n.id: rng.randint(1, longest) for n in nodes}


@given(st.integers(0, 10**6), st.integers(8, 60), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_every_item_is_placed_or_named(seed: int, max_path: int, more: int) -> None:
    rng = random.Random(seed)
    tree, lengths = random_tree(rng, 40)
    max_tokens = max_path + more
    replies = [n for n in tree.nodes if tree.nodes[n].role == "assistant"]
    items = {tuple(sorted(rng.sample(replies, min(len(replies), rng.choice((1, 2)))))) for _ in range(20)}

    def piece(node: str) -> Piece:
        return Piece(torch.zeros(lengths[node]), torch.arange(lengths[node]), lengths[node])

    plan = plan_items(tree, items, piece, max_tokens, max_path)
    whole = [item for part in plan.parts for item in part.items]
    linked = [item for step in plan.linked_items for item in step]
    assert sorted([*whole, *linked, *plan.left_out]) == sorted(items)
    for item in items:
        assert (item in plan.left_out) == any(lengths[n] > max_path for n in item)
        longest = max(sum(lengths[n.id] for n in tree.path(node)) for node in item)
        assert (item in plan.cut) == (longest > max_path and item not in plan.left_out)
    for part in [*plan.parts, *(p for step in plan.linked for p in step)]:
        assert part.tokens == sum(lengths[n] for n in part.nodes) <= max_tokens
        for node in (n for item in part.items for n in item):
            path = [n.id for n in tree.path(node)]
            kept = path[path.index(part.root) :]
            assert set(kept) <= set(part.nodes)
            assert sum(lengths[n] for n in kept) <= max_path
    for parts, step in zip(plan.linked, plan.linked_items, strict=True):
        assert {n for p in parts for item in p.items for n in item} == {n for item in step for n in item}


def pair(words: int, other: int = 0) -> Example:
    """A long question, and two replies of so many words of which the first is better and was scored."""
    nodes = [
        Node("q", "t", None, 0, "user", [Part("text", "why " * 4)]),
        Node("a", "t", "q", 0, "assistant", [Part("text", "good " * words)]),
        Node("b", "t", "q", 1, "assistant", [Part("text", "bad " * (other or words))]),
    ]
    labels = [Comparison("a", "b", "overall", "local", "left"), Comparison("b", "a", "L4", "local", "tie")]
    return Example(Tree("t", nodes=nodes), [Score("a", "L4", 3)], labels)


def gradients(model: JudgeModel, data: Forests) -> tuple[float, dict[str, Any]]:
    """The loss of all batches together, and every gradient."""
    model.zero_grad()
    total = torch.zeros(())
    for i in range(len(data)):
        batch = data[i]
        loss = label_losses(model.head, model(batch), batch).sum()
        loss.backward()
        total = total + loss.detach()
    return float(total), {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


def test_a_pair_that_fits_into_no_sequence_has_the_same_loss_and_gradient_in_two(base: Path) -> None:
    model = JudgeModel(backbones.load(str(base), base, "cpu"), LoraSettings(rank=4), 2, seed=1)
    together = Forests([pair(12)], model.encoder, NINE, max_tokens=1000, max_path=200, copies=2)
    apart = Forests([pair(12)], model.encoder, NINE, max_tokens=150, max_path=150, copies=2)
    assert [len(s.sequences) for s in together.steps] == [1]
    assert sorted(len(s.sequences) for s in apart.steps) == [1, 2]
    assert apart.longest <= 150 < apart.tokens
    assert not together.skipped
    assert not apart.skipped
    (loss, one), (again, two) = gradients(model, together), gradients(model, apart)
    assert again == pytest.approx(loss, rel=1e-5)
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        assert torch.allclose(gradient, two[name], atol=1e-6 + 1e-4 * float(gradient.abs().max())), name


def test_what_is_cut_or_left_out_is_named(base: Path) -> None:
    model = JudgeModel(backbones.load(str(base), base, "cpu"), LoraSettings(rank=0), 0)
    cut = Forests([pair(15)], model.encoder, NINE, max_tokens=95, max_path=95)
    told = summary(3, cut.skipped)
    assert (told["used"], told["cut"], told["left_out"]) == (3, 3, 0)
    assert told["sentence"] == "3 labels; 3 cut at their beginning."
    lost = Forests([pair(8, 30)], model.encoder, NINE, max_tokens=95, max_path=95)
    told = summary(3, lost.skipped)
    assert (told["used"], told["left_out"]) == (1, 2)
    (row,) = [r for r in told["reasons"] if not r["reason"].startswith("cut")]
    assert row["reason"].startswith("reply of 1")
    assert row["reason"].endswith("tokens, over 95")
    assert {(x["node"], x["other"]) for x in row["labels"]} == {("a", "b"), ("b", "a")}
