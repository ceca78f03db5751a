"""A baseline that reads no order: does the bag of words of a reply tell which of two is better?

Logistic regression on the difference of two replies' word counts, fitted to the same training pairs as the judge beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch

from judge.examples import Comparison, Example
from judge.rubric import JudgeError

PENALTY, STEPS = 1.0, 100  # of the squared weights; steps of L-BFGS, which it never needs all of
NAME = "unigrams"
TOKEN = re.compile(r"\w+|[^\w\s]")  # words and single marks: a reply that breaks off has no last stop


def unigrams(train: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """A score of every compared reply of ``test``, by its id: the sum of the weights of its words.

    A weight is learned for each word of the training replies; counts are log(1 + n). Ties teach nothing, and an unknown
    word counts nothing. Raises JudgeError without a decided comparison to learn from.
    """
    pairs = [(e, c) for e in train for c in e.comparisons if c.outcome != "tie"]
    if not pairs:
        raise JudgeError("There is no decided comparison for the words to learn from. Give more dialogues.")
    known = sorted({w for e, c in pairs for side in _texts(e, c) for w in _words(side)})
    at = {word: i for i, word in enumerate(known)}
    apart = torch.stack([_counts(left, at) - _counts(right, at) for left, right in (_texts(e, c) for e, c in pairs)])
    left_is_better = torch.tensor([float(c.outcome == "left") for _, c in pairs], dtype=torch.float64)
    weights = _fitted(apart, left_is_better)
    replies = {node: e.tree.nodes[node].text for e in test for c in e.comparisons for node in (c.left, c.right)}
    return {node: float(_counts(text, at) @ weights) for node, text in replies.items()}


def _fitted(apart: torch.Tensor, left_is_better: torch.Tensor) -> torch.Tensor:
    """Weights (words,) that explain ``left_is_better`` (pairs,) by ``apart`` (pairs, words); no intercept: no side is better."""
    weights = torch.zeros(apart.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        fit = torch.nn.functional.binary_cross_entropy_with_logits(apart @ weights, left_is_better, reduction="sum")
        total = fit + PENALTY / 2 * (weights**2).sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def _texts(e: Example, c: Comparison) -> tuple[str, str]:
    return e.tree.nodes[c.left].text, e.tree.nodes[c.right].text


def _words(text: str) -> Counter[str]:
    return Counter(TOKEN.findall(text.casefold()))


def _counts(text: str, at: dict[str, int]) -> torch.Tensor:
    counts = torch.zeros(len(at), dtype=torch.float64)
    for word, n in _words(text).items():
        if word in at:
            counts[at[word]] = n
    return counts.log1p()
