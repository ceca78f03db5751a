"""How long a dialogue a judge reads and how much at once: from the backbone's context, the data, and the memory.

Whatever a person set stands (within the context); what is left open is chosen here, and written into the judge's card.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from judge import ranks
from judge.backbones import Backbone
from judge.batches import Reader, label_nodes, labels_of
from judge.examples import Example
from judge.memory import MB, available_mb, facts, peak_mb
from judge.rubric import JudgeError

if TYPE_CHECKING:
    from judge.settings import Settings
    from judge.trainer import Progress

LEAST_PATH, USUAL_TOKENS, STEP = 512, 2048, 64  # tokens
SHARE = 0.6  # of the free memory that a step of training may take
QUICK_SHARE = (
    0.25  # of the free memory that it may take rather than compute activations twice, which takes a third longer
)
PACKED_ON_CPU = 1024  # tokens: short trees are packed no further on a processor, where more at once is no quicker
USUAL_READ = 4096  # tokens that a judge reads where nothing it learned from was cut


def resolve(settings: Settings, backbone: Backbone, examples: Sequence[Example], progress: Progress,
            free: float | None = None) -> Settings:  # fmt: skip
    """The settings with ``max_path``, ``max_tokens``, ``pack_tokens`` and ``checkpoint_over`` chosen.

    ``max_path``: the longest labelled dialogue, as far as context and memory allow. ``max_tokens``: of one tree's packed
    sequence, 2,048 or one whole path. ``pack_tokens``: of several trees behind one another. ``checkpoint_over``: tokens of
    a sequence from which layers are computed twice; None: never. ``free``: memory in MB for everything, weights too
    (default: what is free now, and what the backbone has of it already).
    """
    context = backbone.max_positions
    free = free_mb(backbone) if free is None else free
    fits = _longest(backbone, SHARE * free, settings, checkpointing=settings.checkpointing is not False, lean=True)
    if settings.max_path is None:
        wanted = max(LEAST_PATH, longest_path(backbone, examples, progress))
        path = min(context, max(LEAST_PATH, min(_up(wanted), fits)))
    else:
        path = min(context, settings.max_path)
    tokens = max(path, settings.max_tokens or min(USUAL_TOKENS, fits))
    over: int | None = None
    if settings.checkpointing is not False:
        over = 0 if settings.checkpointing else _longest(backbone, QUICK_SHARE * free, settings, checkpointing=False)
    pack = tokens if torch.cuda.is_available() or settings.max_tokens else min(tokens, PACKED_ON_CPU)
    return replace(settings, max_path=path, max_tokens=tokens, pack_tokens=pack, checkpoint_over=over)


def longest_path(backbone: Backbone, examples: Sequence[Example], progress: Progress) -> int:
    """Tokens of the longest dialogue that a label is about, of those that can be read."""
    longest = 0
    for done, example in enumerate(examples, 1):
        reader = Reader(backbone.encoder, [example])
        for node in {n for label in labels_of(example) for n in label_nodes(label)}:
            path = example.tree.path(node)
            with contextlib.suppress(JudgeError):  # it is left out, and named, where labels are planned
                longest = max(longest, sum(len(reader.piece(example.tree, n.id)) for n in path))
        progress({"stage": "check", "done": done, "of": len(examples), "eta_s": None})
    return longest


def read_path(asked: Settings, sized: Settings, context: int, is_cut: bool) -> int:
    """Tokens up to which a trained judge reads a dialogue.

    Where it learned, if somebody set that or a label was cut there; else, however short its labels were, as far as the
    backbone's context allows, at most ``USUAL_READ``.
    """
    assert sized.max_path is not None
    if asked.max_path is not None or is_cut:
        return sized.max_path
    return max(sized.max_path, min(context, USUAL_READ))


def path_to_read(backbone: Backbone, examples: Sequence[Example]) -> int:
    """The longest path where nothing is trained: the context, unless the data needs less."""
    longest = longest_path(backbone, examples, lambda line: None)
    return min(backbone.max_positions, max(LEAST_PATH, _up(longest)))


def free_mb(backbone: Backbone) -> float:
    """Memory for a training with this backbone, its weights included: the accelerator's, or else the machine's (of which
    each of several processes has its part)."""
    free = torch.cuda.mem_get_info()[0] / MB if torch.cuda.is_available() else available_mb() / ranks.beside()
    return free + backbone.loaded_mb


def peak(backbone: Backbone, settings: Settings, longest_sequence: int, free: float | None = None) -> dict[str, Any]:
    """What one step of training will take at most: ``mb``, ``free_mb``, whether it ``fits``, ``checkpointing``, ``lean``."""
    free = free_mb(backbone) if free is None else free
    lean = is_short(backbone, settings, longest_sequence, free)
    most = _most(backbone, settings, longest_sequence, lean)
    twice = settings.checkpoint_over is not None and longest_sequence > settings.checkpoint_over
    return {"mb": round(most), "free_mb": round(free), "fits": most <= free, "checkpointing": twice, "lean": lean,
            "tokens": longest_sequence}  # fmt: skip


def is_short(backbone: Backbone, settings: Settings, longest_sequence: int, free: float | None = None) -> bool:
    """Whether a step keeps to its share of the free memory only if freed tensors are given back to the system at once."""
    room = SHARE * (free_mb(backbone) if free is None else free)
    return _most(backbone, settings, longest_sequence, lean=False) > room


def _most(backbone: Backbone, s: Settings, longest: int, lean: bool) -> float:
    """Of the longest sequence, or of the longest one whose activations are all kept."""
    over = s.checkpoint_over
    kept = longest if over is None else min(over, longest)
    most = _mb(backbone, s, kept, False, lean) if kept else 0.0
    return max(most, _mb(backbone, s, longest, True, lean)) if longest > kept else most


def _longest(backbone: Backbone, room_mb: float, settings: Settings, checkpointing: bool, lean: bool = False) -> int:
    """The longest sequence, in steps of STEP tokens, whose step of training takes at most ``room_mb``."""
    low, high = 1, backbone.max_positions // STEP + 1
    while low < high:
        middle = (low + high + 1) // 2
        if _mb(backbone, settings, middle * STEP, checkpointing, lean) <= room_mb:
            low = middle
        else:
            high = middle - 1
    return low * STEP


def _mb(backbone: Backbone, settings: Settings, tokens: int, checkpointing: bool, lean: bool) -> float:
    whole = lean or torch.cuda.is_available()  # its own allocator leaves no such holes
    return peak_mb(facts(backbone.model), tokens, checkpointing, settings.lora.rank, whole)


def _up(tokens: int) -> int:
    return -(-tokens // STEP) * STEP
