"""How long a training will take and how much memory, said before it starts: from the last one here, else a guess that says so.

Reads what is rated and what earlier jobs reported. Never loads a backbone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from judge.examples import Level
from judge.groups import split
from judge.labels import prepare
from studio import jobs, labelcheck, teaching, trainingform
from studio.actions import Studio

# English in the vocabularies in use; the template; a caption or a small picture
LETTERS_A_TOKEN, TOKENS_A_NODE, TOKENS_A_PICTURE = 3.6, 8, 64
# that a processor core does in training, low and not high: an old laptop should not wait longer than was said
FLOPS = 25e9
# of SmolLM2-135M, with packed sequences of 2,048 tokens: measured
BUILTIN = {"parameters": 135e6, "activations_mb": 4000}
HEAD_ALONE = 0.12  # of the activations, where the backbone only reads: 1.0 GB in all of SmolLM2-135M, measured
LEVELS: dict[str, tuple[Level, ...]] = {"local": ("local",), "global": ("global",), "both": ("local", "global")}
_counted: dict[str, tuple[tuple[Any, ...], dict[str, int]]] = {}  # by home: the mark of its labels; tokens by level


def estimate(studio: Studio, data: Mapping[str, Any]) -> dict[str, Any]:
    """For what the form of a training holds: ``tokens`` of an epoch, ``minutes`` (low, high) or None, ``memory_mb`` or None,
    ``fits`` (None: unknown), and all of it in a sentence.

    Raises:
        StudioError: a value that does not fit its field, or ratings that a judge cannot read.
    """
    filled = trainingform.values({**data, "name": data.get("name") or "estimate"})
    base, level, rank = (filled[k] for k in ("base", "level", "rank"))
    tokens = _tokens(studio, level)
    if not tokens:
        says = "There is nothing of this level to train on yet."
        return {"tokens": 0, "minutes": None, "memory_mb": None, "fits": None, "says": says}
    speed, memory, measured = _measured(studio, base, rank)
    if speed is None:
        speed, memory = _guessed(base, rank)
    checked = labelcheck.memory(studio, base, level, rank, filled["max_path"])
    fits = checked["fits"] if checked else None
    if checked and not measured:
        memory = checked["mb"]
    minutes = None
    if speed:
        likely = tokens * filled["epochs"] / speed / 60
        minutes = (likely * (0.8 if measured else 0.4), likely * (1.3 if measured else 1.6))
    says = _sentence(tokens, minutes, memory, measured) + _room(checked)
    return {"tokens": tokens, "minutes": minutes, "memory_mb": memory, "fits": fits, "says": says}


def _room(checked: Mapping[str, Any] | None) -> str:
    """Whether it fits into the memory, as the check of the labels foresaw."""
    if not checked:
        return ""
    free = f"{checked['free_mb'] / 1024:.1f} GB"
    if checked["fits"]:
        return f" It fits: {free} were free at the check."
    return f" It does not fit: {free} were free at the check. Set a shorter longest path, or rank 0."


def _tokens(studio: Studio, level: str) -> int:
    """Tokens that one epoch reads, about; counted anew only when a label or a dialogue changed."""
    home, mark = str(studio.store.home), studio.store.labels_mark()
    if home not in _counted or _counted[home][0] != mark:
        _counted.clear()
        _counted[home] = (mark, {})
    by_level = _counted[home][1]
    if level not in by_level:
        by_level[level] = _count(studio, level)
    return by_level[level]


def _count(studio: Studio, level: str) -> int:
    """Each node that leads to a label once, of the dialogues to train on."""
    with teaching.judging():
        rated = teaching.examples(studio.store, studio.media, studio.store.rated_trees())
        labelled = prepare(rated, LEVELS[level]).examples
        training = split(labelled).of(labelled, "train") if labelled else []
    total = 0.0
    for e in training:
        ends = {s.node for s in e.scores} | {n for c in e.comparisons for n in (c.left, c.right)}
        for node in {n.id: n for end in ends for n in e.tree.path(end)}.values():
            pictures = sum(p.kind == "image" for p in node.parts)
            total += len(node.text) / LETTERS_A_TOKEN + TOKENS_A_NODE + TOKENS_A_PICTURE * pictures
    return round(total)


def _measured(studio: Studio, base: str, rank: int) -> tuple[float | None, float | None, bool]:
    """Tokens/s and memory in MB of the newest training of this backbone that came far enough to tell: with LoRA, or (rank 0)
    of the head alone."""
    for job in jobs.refresh(studio.store):
        asked, lines = job["payload"], [line for line in job["lines"] if line.get("tokens_per_s")]
        same = asked.get("base") == base and bool(asked.get("rank", 1)) == bool(rank)
        if job["kind"] == "train" and same and len(lines) >= 3:
            return lines[-1]["tokens_per_s"], lines[-1].get("memory_mb"), True
    return None, None, False


def _guessed(base: str, rank: int) -> tuple[float | None, float | None]:
    """The same from the size of the backbone; nothing for one that is not here yet.

    Forward and backward with frozen weights are 4 operations a weight and token; without LoRA the backbone only reads
    (2 operations) and keeps next to nothing for a backward pass.
    """
    if base == "builtin":
        parameters, more = BUILTIN["parameters"], BUILTIN["activations_mb"]
    else:
        size = sum(f.stat().st_size for f in Path(base).expanduser().glob("*.safetensors"))
        if not size:
            return None, None
        parameters, more = size / 2, BUILTIN["activations_mb"] * (size / 2 / BUILTIN["parameters"]) ** 0.5
    operations, kept = (4, more) if rank else (2, HEAD_ALONE * more)
    speed = FLOPS * max(1, (os.cpu_count() or 2) // 2) / (operations * parameters)
    return speed, parameters * 4 / 2**20 + kept


def _sentence(tokens: int, minutes: tuple[float, float] | None, memory: float | None, measured: bool) -> str:
    if minutes is None:
        return f"About {tokens:,} tokens per epoch. Time and memory can be said once the backbone is here."
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
    return f"About {tokens:,} tokens per epoch: {time}{room} ({why})."
