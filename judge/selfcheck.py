"""A backbone's own attention against ours, at first use: two small trees, packed, and every path of them alone.

The result is kept beside the unpacked weights, by fingerprint and versions, so that it costs once: two forwards of some
dozens of tokens (up to ``CROSSED`` where a sliding window is to be crossed). One set of weights in memory, no copy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from judge.attention import FULL, Gather, Layout, Reach
from judge.rubric import JudgeError
from judge.support import INSTEAD, own_attention

TOLERANCE = 1e-4  # relative, of hidden states in fp32
# bf16 keeps 8 bits: two right ways of adding up differ by about 1e-2 after some layers; a wrong mask by 0.3 and more
TOLERANCE_16 = 5e-2
CROSSED = (
    1024  # tokens: windows up to this are crossed; larger ones rest on the rule that was read off the model's mask
)
SCHEMA = 1


def ensure(model: Any, ids: torch.Tensor, mrope: bool, cache: Path, fingerprint: str) -> float | None:
    """Check a backbone unless it was checked before. ``ids``: some plain tokens (n,), repeated as needed.
    Returns the relative gap, None where the check was made earlier.

    Raises:
        JudgeError: packed hidden states differ from the model's own.
    """
    import transformers

    from judge.files import write_whole  # that module reads this one through the backbones

    dtype = str(next(model.parameters()).dtype)
    key = f"{fingerprint[:16]}-{transformers.__version__}-{torch.__version__}-{dtype}-{SCHEMA}".replace("/", "-")
    note = cache / "checked" / f"{key}.json"
    if note.is_file():
        return None
    gap = relative_gap(model, ids, mrope)
    limit = TOLERANCE if next(model.parameters()).dtype in (torch.float32, torch.float64) else TOLERANCE_16
    if not gap <= limit:  # NaN is refused too
        raise JudgeError(
            f"The backbone is a {model.config.model_type}: packed, its hidden states differ from its own by {gap:.2g} "
            f"(relative; {limit:g} is allowed). {INSTEAD}"
        )
    write_whole(note, json.dumps({"gap": gap}).encode())
    return gap


@torch.no_grad()
def relative_gap(model: Any, ids: torch.Tensor, mrope: bool) -> float:
    """The largest relative difference (of norms over a path) of last hidden states: packed and cached against own."""
    root = _root(model)
    lengths = (root, 7, 5, 9, 6, 4, 3, 5)  # a tree of five segments, then one of three
    layout = Layout(lengths, ((), (0,), (0, 1), (0, 1), (0,), (), (5,), (5,)))
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    where = [torch.arange(starts[i], starts[i] + n) for i, n in enumerate(lengths)]
    total = sum(lengths)
    ids = ids.repeat(total // len(ids) + 1)[:total].to(next(model.parameters()).device)
    at = torch.cat([torch.arange(n) + sum(lengths[a] for a in up) for n, up in zip(lengths, layout.above, strict=True)])
    gather = Gather.make(layout, ids.device, next(model.parameters()).dtype)
    packed = _states(model, ids, at, mrope, gather=gather)
    gaps = []
    for leaf in (2, 3, 4, 6, 7):
        path = torch.cat([where[i] for i in (*layout.above[leaf], leaf)]).to(ids.device)
        with own_attention(model, "eager"):
            own = _states(model, ids[path], torch.arange(len(path)), mrope)
        gaps.append(float((packed[path] - own).norm() / own.norm()))
    cached = _cached(model, ids[path], mrope)
    gaps.append(float((cached - own[-len(cached) :]).norm() / own[-len(cached) :].norm()))
    return max(gaps, key=lambda gap: (gap != gap, gap))


def _cached(model: Any, ids: torch.Tensor, mrope: bool) -> torch.Tensor:
    """States of the second half of a path, the first half read before and kept, as the live judge does."""
    from transformers import DynamicCache

    past, half, at = DynamicCache(), len(ids) // 2, torch.arange(len(ids))
    _states(model, ids[:half], at[:half], mrope, past_key_values=past, use_cache=True)
    return _states(model, ids[half:], at[half:], mrope, past_key_values=past, use_cache=True)


def _states(model: Any, ids: torch.Tensor, at: torch.Tensor, mrope: bool, **more: Any) -> torch.Tensor:
    positions = at.to(ids.device).expand(3, 1, -1) if mrope else at.to(ids.device)[None]
    out = model(input_ids=ids[None], position_ids=positions, **{"use_cache": False, **more})
    states: torch.Tensor = out.last_hidden_state[0].float()
    return states


def _root(model: Any) -> int:
    reaches: set[Reach] = {getattr(m, "tree_reach", FULL) for m in model.modules()}
    sizes = [r.window or r.chunk or 0 for r in reaches]
    return max([12, *(size + 3 for size in sizes if size <= CROSSED)])
