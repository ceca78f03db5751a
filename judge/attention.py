"""Attention over a packed forest: a token sees the nodes above its own, and its own node up to itself.

Registered with transformers under the name ``tree``, so that any backbone that looks its attention up there can run it.
Each run of nodes without a branch (a segment) attends its queries to the keys gathered from the segments above it: a
dense mask over the whole sequence would compute the other branches only to throw them away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "tree"


@dataclass(frozen=True)
class Layout:
    """How a sequence falls into segments. ``lengths[i]`` tokens; ``above[i]``: indices of the segments above, root first."""

    lengths: tuple[int, ...]
    above: tuple[tuple[int, ...], ...]

    def masks(self, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor | None]:
        """What each segment's queries may see of its gathered keys, as an additive mask (n, prefix + n); None: causal."""
        masks: list[torch.Tensor | None] = []
        for n, above in zip(self.lengths, self.above, strict=True):
            prefix = sum(self.lengths[a] for a in above)
            masks.append(lower_right(n, prefix, device, dtype) if above else None)
        return masks


@dataclass(frozen=True)
class Gather:
    """A layout ready for use: its masks are made once and shared by all layers."""

    layout: Layout
    masks: list[torch.Tensor | None]

    @classmethod
    def make(cls, layout: Layout, device: torch.device, dtype: torch.dtype) -> Gather:
        return cls(layout, layout.masks(device, dtype))


def lower_right(n: int, prefix: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """An additive causal mask (n, prefix + n) for the last ``n`` of ``prefix + n`` tokens."""
    hidden = torch.ones(n, prefix + n, dtype=torch.bool, device=device).triu(prefix + 1)
    return torch.zeros(n, prefix + n, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    gather: Gather | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as ``gather`` says. Shapes: query (1, heads, T, d), key and value (1, key heads, T, d); returns (1, T, heads, d).

    Without ``gather`` the queries are the last tokens of one path, its earlier keys coming from a cache.
    """

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return F.scaled_dot_product_attention(
            q, k, v, mask, dropout, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )

    if gather is None:
        n, prefix = query.shape[2], key.shape[2] - query.shape[2]
        mask = lower_right(n, prefix, query.device, query.dtype) if prefix else None
        return attend(query, key, value, mask).transpose(1, 2), None
    lengths = list(gather.layout.lengths)
    # split once and concatenate: the gradient of slices would fill a whole sequence of zeros for each of them
    queries, keys, values = (x.split(lengths, dim=2) for x in (query, key, value))
    seen = []
    for i, (above, mask) in enumerate(zip(gather.layout.above, gather.masks, strict=True)):
        path = (*above, i)
        seen.append(attend(queries[i], _cat(keys, path), _cat(values, path), mask))
    return torch.cat(seen, dim=2).transpose(1, 2), None


def _cat(pieces: tuple[torch.Tensor, ...], which: Iterable[int]) -> torch.Tensor:
    chosen = [pieces[i] for i in which]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=2)


def register() -> None:
    """Make ``attn_implementation="tree"`` known. The mask is ours: transformers must not make a dense one."""
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
