"""The losses on one scalar a reply and dimension, and what that scalar says to a person.

- comparison: Bradley-Terry (Biometrika 1952) with ties by Rao and Kupper (JASA 1967): with a margin m >= 0,
  P(left) = sigma(l - r - m), P(right) = sigma(r - l - m), P(tie) = the rest;
- score: cumulative logits with ordered thresholds (McCullagh, JRSS B 1980): P(y > k) = sigma(s - b_k);
- centring: 0.01 * mean(s^2), so that the scalar stays near 0 (Eisenstein et al., arXiv 2312.09244).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from judge.model import ScoreHead

CENTRING = 0.01


def comparison_loss(difference: torch.Tensor, outcome: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood a pair. ``difference``: left - right; ``outcome``: 1 left, -1 right, 0 tie; ``margin`` >= 0.

    All of one shape; returns that shape.
    """
    tie = outcome == 0
    sign = torch.where(tie, 1.0, outcome.to(difference.dtype))
    decided = -F.logsigmoid(sign * difference - margin)
    # P(tie) = sigma(m - d) - sigma(-m - d) = (1 - exp(-2m)) * sigma(m - d) * sigma(m + d); m > 0 keeps the log finite
    tied = -(
        torch.log(-torch.expm1(-2 * margin)) + F.logsigmoid(margin - difference) + F.logsigmoid(margin + difference)
    )
    return torch.where(tie, tied, decided)


def ordinal_loss(score: torch.Tensor, level: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood a score. ``score`` (n,), ``level`` (n,) counted from 0, ``thresholds`` (n, K - 1) ascending, inf where
    a scale is shorter; returns (n,)."""
    above = score[:, None] - thresholds
    k = level[:, None]
    log_above = F.logsigmoid(above)  # log P(y > k)
    log_below = F.logsigmoid(-above)  # log P(y <= k)
    n = thresholds.shape[1]
    # P(y = k) = sigma(s - b_{k-1}) - sigma(s - b_k) = (1 - exp(b_{k-1} - b_k)) sigma(s - b_{k-1}) sigma(b_k - s)
    first = torch.gather(log_above, 1, (k - 1).clamp(min=0))[:, 0]
    second = torch.gather(log_below, 1, k.clamp(max=n - 1))[:, 0]
    low = torch.gather(thresholds, 1, (k - 1).clamp(min=0))[:, 0]
    high = torch.gather(thresholds, 1, k.clamp(max=n - 1))[:, 0]
    bottom, top = level == 0, (level == n) | torch.isinf(high)
    gap = torch.where(bottom | top, torch.ones_like(high), (high - low).nan_to_num(posinf=1.0))
    likelihood = torch.where(bottom, 0.0, first) + torch.where(top, 0.0, second.nan_to_num(neginf=0.0))
    return -(likelihood + torch.where(bottom | top, 0.0, torch.log(-torch.expm1(-gap))))


def expected_score(
    score: torch.Tensor, thresholds: torch.Tensor, lowest: torch.Tensor, widths: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """What score a person would give on average: lowest + sum of P(y > k) times how far the next level is above k.

    ``score`` (...,), ``thresholds`` and ``widths`` (..., K - 1).
    """
    return lowest + (torch.sigmoid(score[..., None] - thresholds) * widths).sum(-1)


def preference(difference: torch.Tensor) -> torch.Tensor:
    """Probability that the left one is better, given that it is no tie."""
    return torch.sigmoid(difference)


def label_losses(head: ScoreHead, scalars: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Weighted sums over a batch's labels, (1 + copies,): the judge's first; to be divided by the labels' weight.

    ``scalars``: (replies, 1 + copies, rows) from the head; ``batch``: see ``judge.batches``. Only the judge's own column
    moves thresholds and tie margins.
    """
    total = 0.0 * (
        scalars.sum((0, 2)) + head.first.sum() + head.steps.sum() + head.tie.sum()
    )  # every weight has a gradient
    scores, pairs = batch["scores"], batch["pairs"]
    if len(scores):
        s = scalars[scores[:, 0], :, scores[:, 1]]  # (n, 1 + copies)
        cut = _own_column(head.thresholds()[scores[:, 1]], s.shape[1])
        level = scores[:, 2, None].expand_as(s)
        loss = ordinal_loss(s.flatten(), level.flatten(), cut.flatten(0, 1)).view_as(s) + CENTRING * s**2
        total = total + (loss * batch["score_weights"]).sum(0)
    if len(pairs):
        left, right = (scalars[pairs[:, i], :, pairs[:, 2]] for i in (0, 1))
        tie = _own_column(head.tie_margins()[pairs[:, 2]], left.shape[1])
        outcome = pairs[:, 3, None].expand_as(left)
        derived = batch["margins"][:, None]  # of scores: Llama 2's margin (arXiv 2307.09288, eq. 2), and no tie margin
        loss = torch.where(
            derived < 0,
            comparison_loss(left - right, outcome, tie),
            -F.logsigmoid(outcome * (left - right) - derived.clamp(min=0)),
        )
        loss = loss + CENTRING * (left**2 + right**2) / 2
        total = total + (loss * batch["pair_weights"]).sum(0)
    return total


def _own_column(parameter: torch.Tensor, columns: int) -> torch.Tensor:
    """(n, ...) -> (n, columns, ...), with a gradient in the first column only."""
    rest = parameter.detach()[:, None].expand(-1, columns - 1, *parameter.shape[1:])
    return torch.cat([parameter[:, None], rest], dim=1)
