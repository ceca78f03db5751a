"""How long a dialogue a judge reads and how much at once: from the backbone's context, the data, and the memory.

Whatever a person set stands (within the context); what is left open is chosen here, and written into the judge's card.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from judge.backbones import Backbone
from judge.batches import Reader, label_nodes, labels_of
from judge.examples import Example
from judge.memory import available_mb, facts, peak_mb
from judge.rubric import JudgeError

if TYPE_CHECKING:
    from judge.settings import Settings
    from judge.trainer import Progress

LEAST_PATH, USUAL_TOKENS, STEP = 512, 2048, 64  # tokens
SHARE = 0.6  # of the free memory that a step of training may take


def resolve(settings: Settings, backbone: Backbone, examples: Sequence[Example], progress: Progress) -> Settings:
    """The settings with ``max_path``, ``max_tokens`` and ``checkpoint_over`` chosen.

    ``max_path``: the longest labelled dialogue, as far as context and memory allow. ``max_tokens``: of a packed sequence,
    2,048 or one whole path. ``checkpoint_over``: tokens of a sequence from which layers are computed twice; None: never.
    """
    context = backbone.max_positions
    room = SHARE * available_mb()
    fits = _longest(backbone, room, settings, checkpointing=settings.checkpointing is not False)
    if settings.max_path is None:
        wanted = max(LEAST_PATH, longest_path(backbone, examples, progress))
        path = min(context, max(LEAST_PATH, min(_up(wanted), fits)))
    else:
        path = min(context, settings.max_path)
    tokens = max(path, settings.max_tokens or min(USUAL_TOKENS, fits))
    over: int | None = None
    if settings.checkpointing is not False:
        over = 0 if settings.checkpointing else _longest(backbone, room, settings, checkpointing=False)
    return replace(settings, max_path=path, max_tokens=tokens, checkpoint_over=over)


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


def path_to_read(backbone: Backbone, examples: Sequence[Example]) -> int:
    """The longest path where nothing is trained: the context, unless the data needs less."""
    longest = longest_path(backbone, examples, lambda line: None)
    return min(backbone.max_positions, max(LEAST_PATH, _up(longest)))


def peak(backbone: Backbone, settings: Settings, longest_sequence: int) -> dict[str, Any]:
    """What one step of training will take at most: ``mb``, ``free_mb``, whether it ``fits``, ``checkpointing``."""
    over = settings.checkpoint_over
    twice = over is not None and longest_sequence > over
    free, most = available_mb(), _mb(backbone, settings, longest_sequence, twice)
    return {"mb": round(most), "free_mb": round(free), "fits": most <= free, "checkpointing": twice,
            "tokens": longest_sequence}  # fmt: skip


def _longest(backbone: Backbone, room_mb: float, settings: Settings, checkpointing: bool) -> int:
    """The longest sequence, in steps of STEP tokens, whose step of training takes at most ``room_mb``."""
    low, high = 1, backbone.max_positions // STEP + 1
    while low < high:
        middle = (low + high + 1) // 2
        if _mb(backbone, settings, middle * STEP, checkpointing) <= room_mb:
            low = middle
        else:
            high = middle - 1
    return low * STEP


def _mb(backbone: Backbone, settings: Settings, tokens: int, checkpointing: bool) -> float:
    return peak_mb(facts(backbone.model), tokens, checkpointing, settings.lora.rank)


def _up(tokens: int) -> int:
    return -(-tokens // STEP) * STEP
