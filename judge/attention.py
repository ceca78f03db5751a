"""Attention over a packed forest: a token sees the nodes above its own, and its own node up to itself.

Registered with transformers under the name ``tree``, so that any backbone that looks its attention up there can run it.
Each run of nodes without a branch (a segment) attends its queries to the keys gathered from the segments above it: a
dense mask over the whole sequence would compute the other branches only to throw them away.

What a layer may see of its path (all, a sliding window, a chunk) is its ``Reach``; ``judge.support`` reads it off the
model's own mask once and writes it on the layer. Distances count tokens along the path, as the model's own mask does,
never the index in the packed sequence and never the rotary position of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "tree"


@dataclass(frozen=True)
class Reach:
    """How far back a layer sees: ``window`` tokens with the query's own, or from the start of its ``chunk``; None: all."""

    window: int | None = None
    chunk: int | None = None

    def first(self, query: torch.Tensor) -> torch.Tensor:
        """The first path index that queries at these path indices see."""
        if self.window is not None:
            return (query - self.window + 1).clamp_min(0)
        if self.chunk is not None:
            return query // self.chunk * self.chunk
        return torch.zeros_like(query)

    def dropped(self, at: int) -> int:
        """How many tokens at the start of a path nobody sees from path index ``at`` on."""
        return int(self.first(torch.tensor(at)))

    def mask(self, n: int, prefix: int, dropped: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor | None:
        """Additive mask (n, prefix + n - dropped) for the last ``n`` tokens of a path; None: plainly causal."""
        query = torch.arange(prefix, prefix + n)[:, None]  # (n, 1)
        key = torch.arange(dropped, prefix + n)  # (prefix + n - dropped,)
        if prefix == dropped and not bool((self.first(query) > dropped).any()):
            return None
        seen = ((key <= query) & (key >= self.first(query))).to(device)
        return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))


FULL = Reach()


@dataclass(frozen=True)
class Layout:
    """How a sequence falls into segments. ``lengths[i]`` tokens; ``above[i]``: indices of the segments above, root first."""

    lengths: tuple[int, ...]
    above: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Segment:
    """What one segment's queries attend to: ``path`` (segments, root first, itself last), the tokens ``dropped`` at the
    start of the first of them because no query reaches them, and the additive ``mask`` (None: causal)."""

    path: tuple[int, ...]
    dropped: int
    mask: torch.Tensor | None


@dataclass
class Gather:
    """A layout ready for use on a device: the masks of each reach are made once and shared by all layers."""

    layout: Layout
    device: torch.device
    dtype: torch.dtype
    _segments: dict[Reach, list[Segment]] = field(default_factory=dict)

    @classmethod
    def make(cls, layout: Layout, device: torch.device, dtype: torch.dtype) -> Gather:
        """For hidden states of ``dtype`` on ``device``."""
        return cls(layout, device, dtype)

    def segments(self, reach: Reach) -> list[Segment]:
        """What each segment attends to in a layer of this reach."""
        if reach not in self._segments:
            self._segments[reach] = [self._segment(i, reach) for i in range(len(self.layout.lengths))]
        return self._segments[reach]

    def _segment(self, i: int, reach: Reach) -> Segment:
        lengths, path = self.layout.lengths, (*self.layout.above[i], i)
        prefix = sum(lengths[a] for a in path[:-1])
        dropped = reach.dropped(prefix)
        mask = reach.mask(lengths[i], prefix, dropped, self.device, self.dtype)
        while dropped >= lengths[path[0]] and len(path) > 1:  # whole segments out of reach are not even gathered
            dropped, path = dropped - lengths[path[0]], path[1:]
        return Segment(path, dropped, mask)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    gather: Gather | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as ``gather`` and the layer's reach say. Shapes: query (1, heads, T, d), key and value (1, key heads, T, d);
    returns (1, T, heads, d). ``softcap``: of the logits (Gemma 2); ``s_aux``: a sink logit for each head (gpt-oss).

    Without ``gather`` the queries are the last tokens of one path, its earlier keys coming from a cache.
    """
    reach: Reach = getattr(module, "tree_reach", FULL)
    how = (scaling, dropout, softcap, s_aux)
    if gather is None:
        n, prefix = query.shape[2], key.shape[2] - query.shape[2]
        dropped = reach.dropped(prefix)
        mask = reach.mask(n, prefix, dropped, query.device, query.dtype)
        return attend(query, key[:, :, dropped:], value[:, :, dropped:], mask, *how).transpose(1, 2), None
    lengths = list(gather.layout.lengths)
    # split once and concatenate: the gradient of slices would fill a whole sequence of zeros for each of them
    queries, keys, values = (x.split(lengths, dim=2) for x in (query, key, value))
    seen = [
        attend(queries[i], _joined(keys, s), _joined(values, s), s.mask, *how)
        for i, s in enumerate(gather.segments(reach))
    ]
    return torch.cat(seen, dim=2).transpose(1, 2), None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Softmax attention of some queries; shapes as in ``tree_attention``, returns (1, heads, n, d). ``mask`` None: causal."""
    grouped = query.shape[1] != key.shape[1]
    if softcap is None and sinks is None:
        return F.scaled_dot_product_attention(
            query, key, value, mask, dropout, is_causal=mask is None, scale=scaling, enable_gqa=grouped
        )
    if grouped:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    if mask is None:
        mask = torch.full((query.shape[2], key.shape[2]), float("-inf"), dtype=query.dtype, device=query.device).triu(1)
    logits = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits + mask  # (1, heads, n, keys)
    if sinks is not None:  # one more key without a value takes its share of each query's attention
        sink = sinks.to(logits.dtype).view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        logits = torch.cat([logits, sink], dim=-1)
    precise = torch.promote_types(logits.dtype, torch.float32)
    weights = logits.softmax(-1, dtype=precise).to(value.dtype)[..., : key.shape[2]]
    return F.dropout(weights, dropout) @ value


def _joined(pieces: Sequence[torch.Tensor], segment: Segment) -> torch.Tensor:
    chosen = [pieces[i] for i in segment.path]
    if segment.dropped:
        chosen[0] = chosen[0][:, :, segment.dropped :]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=2)


def register() -> None:
    """Make ``attn_implementation="tree"`` known. The mask is ours: transformers must not make a dense one."""
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
