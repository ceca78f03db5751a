"""How long a training will take and how much memory, said before it starts: from the last one here, else a guess that says so.

Reads what is rated and what earlier jobs reported. Never loads a backbone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from judge.examples import split, with_derived
from studio import StudioError, jobs, teaching
from studio.actions import Studio

LETTERS_A_TOKEN, TOKENS_A_NODE, TOKENS_A_PICTURE = (
    3.6,
    8,
    64,
)  # English in the vocabularies in use; the template; a caption or a small picture
FLOPS = (
    25e9  # that a processor core does in training, low and not high: an old laptop should not wait longer than was said
)
BUILTIN = {
    "parameters": 135e6,
    "activations_mb": 4000,
}  # of SmolLM2-135M, with packed sequences of 2,048 tokens: measured
LEVELS: dict[str, tuple[str, ...]] = {"local": ("local",), "global": ("global",), "both": ("local", "global")}


def estimate(studio: Studio, base: str, level: str, epochs: float) -> dict[str, Any]:
    """``tokens`` of an epoch, ``minutes`` (low, high) or None, ``memory_mb`` or None, and both in a sentence.

    Raises:
        StudioError: an unknown level, epochs out of range, or ratings that a judge cannot read.
    """
    if level not in LEVELS or not 0 < epochs <= 100:
        raise StudioError(
            f"No training has level {level!r:.20} and {epochs} epochs. Epochs are above 0 and at most 100."
        )
    tokens = _tokens(studio, level)
    if not tokens:
        return {
            "tokens": 0,
            "minutes": None,
            "memory_mb": None,
            "says": "There is nothing of this level to train on yet.",
        }
    speed, memory, measured = _measured(studio, base)
    if speed is None:
        speed, memory = _guessed(base)
    minutes = None
    if speed:
        likely = tokens * epochs / speed / 60
        minutes = (likely * (0.8 if measured else 0.4), likely * (1.3 if measured else 1.6))
    return {
        "tokens": tokens,
        "minutes": minutes,
        "memory_mb": memory,
        "says": _sentence(tokens, minutes, memory, measured),
    }


def _tokens(studio: Studio, level: str) -> int:
    """Tokens that one epoch reads, about: each node that leads to a label once, of the dialogues to train on, and the checks between."""
    with teaching.judging():
        rated = teaching.examples(studio.store, studio.media, studio.store.rated_trees())
        some = [with_derived(e.restrict(LEVELS[level])) for e in rated]  # type: ignore[arg-type]
        labelled = [e for e in some if e.scores or e.comparisons]
        training = split(labelled).of(labelled, "train") if labelled else []
    total = 0.0
    for e in training:
        ends = {s.node for s in e.scores} | {n for c in e.comparisons for n in (c.left, c.right)}
        for node in {n.id: n for end in ends for n in e.tree.path(end)}.values():
            pictures = sum(p.kind == "image" for p in node.parts)
            total += len(node.text) / LETTERS_A_TOKEN + TOKENS_A_NODE + TOKENS_A_PICTURE * pictures
    return round(total)


def _measured(studio: Studio, base: str) -> tuple[float | None, float | None, bool]:
    """Tokens/s and memory in MB of the newest training of this backbone that came far enough to tell."""
    for job in jobs.refresh(studio.store):
        said = [line for line in job["lines"] if line.get("tokens_per_s")]
        if job["kind"] == "train" and job["payload"].get("base") == base and len(said) >= 3:
            return said[-1]["tokens_per_s"], said[-1].get("memory_mb"), True
    return None, None, False


def _guessed(base: str) -> tuple[float | None, float | None]:
    """The same from the size of the backbone; nothing for one that is not here yet."""
    if base == "builtin":
        parameters, more = BUILTIN["parameters"], BUILTIN["activations_mb"]
    else:
        size = sum(f.stat().st_size for f in Path(base).expanduser().glob("*.safetensors"))
        if not size:
            return None, None
        parameters, more = size / 2, BUILTIN["activations_mb"] * (size / 2 / BUILTIN["parameters"]) ** 0.5
    # forward and backward without gradients of the frozen weights: 4 operations a weight and token
    return FLOPS * max(1, (os.cpu_count() or 2) // 2) / (4 * parameters), parameters * 4 / 2**20 + more


def _sentence(tokens: int, minutes: tuple[float, float] | None, memory: float | None, measured: bool) -> str:
    if minutes is None:
        return f"About {tokens:,} tokens an epoch. Time and memory can be said once the backbone is here."
    low, high = (max(1, round(m)) for m in minutes)
    time = (
        "about a minute"
        if high == 1
        else f"{low} to {high} minutes"
        if high < 120
        else f"{low / 60:.1f} to {high / 60:.1f} hours"
    )
    room = f", {memory / 1024:.1f} GB of memory" if memory else ""
    why = (
        "as the last training of this backbone went"
        if measured
        else "a guess; after the first training this is measured"
    )
    return f"About {tokens:,} tokens an epoch: {time}{room} ({why})."
