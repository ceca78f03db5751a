"""How much memory a step of training takes, said before it starts; and memory given back where it is short.

The formula counts what autograd keeps for the backward pass, by layer and token, from the shapes of the backbone. Its
constants were fitted to SmolLM2-135M at 512, 1,024 and 2,048 packed tokens (resident memory, one step after another).
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Any

MB = 2**20
M_MMAP_THRESHOLD = -3  # of mallopt(3)
WHOLE_PAGES_FROM = MB  # bytes: tensors this large are given back to the system as soon as they are freed


@dataclass(frozen=True)
class Facts:
    """Shapes of a backbone's text model. ``weights_mb``: of all its weights; ``element_bytes``: of one number."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_dim: int
    weights_mb: float
    element_bytes: int = 4


def facts(model: Any) -> Facts:
    """The facts of a loaded backbone's model."""
    text = model.config.get_text_config()
    parameters = list(model.parameters())
    heads = int(text.num_attention_heads)
    return Facts(
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        intermediate=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        heads=heads,
        key_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(text, "head_dim", None) or text.hidden_size // heads),
        weights_mb=sum(p.numel() * p.element_size() for p in parameters) / MB,
        element_bytes=parameters[0].element_size(),
    )


def peak_mb(f: Facts, tokens: int, checkpointing: bool, rank: int = 16, lean: bool = False) -> float:
    """Memory in MB that a training step over ``tokens`` packed tokens takes at most, weights included and pictures not.

    ``lean``: with ``give_back_freed`` in force.
    """
    attended = f.heads * f.head_dim
    keys = f.key_heads * f.head_dim
    # a layer keeps: states before and after each norm and in fp32 (7h), queries and output twice over (3 heads' worth),
    # keys and values with those gathered from above (8 kv heads' worth), the MLP's four products
    kept = 7 * f.hidden + 3 * attended + 8 * keys + 4 * f.intermediate + 7 * rank
    layer_mb = kept * tokens * f.element_bytes / MB
    inputs_mb = f.hidden * tokens * f.element_bytes * f.layers / MB  # all that checkpointing keeps of the others
    working_mb = FLOOR_MB + layer_mb * WORKING_LAYERS
    adapters_mb = 16 * rank * f.layers * (4 * f.hidden + 2 * attended + 2 * keys + 3 * (f.hidden + f.intermediate)) / MB
    if not rank:  # the head alone learns: no layer keeps anything for a backward pass
        return f.weights_mb + working_mb
    held = inputs_mb if checkpointing else layer_mb * f.layers
    holes = 0.0 if lean else layer_mb * f.layers * (HOLES_CHECKPOINTING if checkpointing else HOLES)
    return f.weights_mb + adapters_mb + held + working_mb + holes


FLOOR_MB, WORKING_LAYERS = 60.0, 2.0
HOLES, HOLES_CHECKPOINTING = 1.0, 0.6  # what glibc's heap leaves unused, in what all layers keep


def available_mb() -> float:
    """Memory that this machine can still give without swapping, in MB."""
    import psutil

    return float(psutil.virtual_memory().available / MB)


def give_back_freed() -> bool:
    """Let freed tensors of ``WHOLE_PAGES_FROM`` bytes and more go back to the system at once, for this whole process.

    glibc's heap keeps the holes that aligned blocks leave and seldom fits another one in (glibc bug 14581, mended in
    2.38): without this a step takes about twice the memory that its tensors add up to. It costs a tenth to a third more
    time, as the system clears each page anew, so it is for where memory is short. Returns whether it was done: only with
    glibc, and not where MALLOC_MMAP_THRESHOLD_ says otherwise.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, WHOLE_PAGES_FROM))
