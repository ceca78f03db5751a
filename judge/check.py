"""What becomes of every label, before any time is spent: used, cut or left out, each with its reason; and the memory it takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from judge.backbones import Backbone
from judge.batches import Forests, Reader, people_only
from judge.datacard import data_card
from judge.examples import Example, data_hash, level_of
from judge.groups import SETS, Split
from judge.labels import Prepared, Skipped, count, summary
from judge.model import scales_now
from judge.packing import TOO_LONG
from judge.rubric import JudgeError
from judge.settings import step_tokens
from judge.sizes import peak, read_path, resolve

if TYPE_CHECKING:
    from judge.settings import Settings
    from judge.trainer import Progress
    from judge.unfinished import Run


def planned(prepared: Prepared, parts: Split, backbone: Backbone, settings: Settings, progress: Progress,
            free: float | None = None) -> Run:  # fmt: skip
    """A run's data, sizes and card, from usable labels; nothing is read or written. ``free``: as of ``judge.sizes.resolve``.

    Raises:
        JudgeError: no label that can be read is left to train on.
    """
    from judge.unfinished import Run

    examples = prepared.examples
    sized = resolve(settings, backbone, examples, progress, free)
    skipped: list[Skipped] = []
    out: set[Skipped] = set()  # whatever the sets learn nothing from, pairs that follow from scores too
    longest = 0
    for part in SETS:
        some = parts.of(examples, part)
        lost, most, tokens = _lost(some, backbone, sized)
        skipped += people_only(lost, some)
        out |= {one for one in lost if not one.is_cut}
        if part == "train":
            if not most:
                raise JudgeError(_nothing(lost, some, backbone))
            longest = max(most, step_tokens(sized, tokens)[1])
    left_out = [*prepared.left_out, *(one for one in skipped if not one.is_cut)]
    context = backbone.max_positions
    reads = read_path(settings, sized, context, any(one.is_cut or TOO_LONG in one.reason for one in skipped))
    readable = replace(prepared, examples=[_without(e, out) for e in examples], left_out=left_out)
    card: dict[str, Any] = data_card(readable, parts) | {
        "labels": summary(count(examples) + len(prepared.left_out), [*prepared.left_out, *skipped]),
        "sizes": {"max_path": sized.max_path, "max_tokens": sized.max_tokens, "context": context, "read_path": reads},
        "memory": peak(backbone, sized, longest, free),
    }
    return Run(examples, parts, card, sized, data_hash(examples), scales_now())


def _without(example: Example, out: set[Skipped]) -> Example:
    """A tree without the labels that are left out: what the sets really learn from and are tested on."""
    lost = {(s.node, s.other, s.level, s.dimension) for s in out if s.tree == example.tree.id}
    return replace(
        example,
        scores=[s for s in example.scores if (s.node, None, level_of(s.dimension), s.dimension) not in lost],
        comparisons=[c for c in example.comparisons if (c.left, c.right, c.level, c.dimension) not in lost],
    )


def _lost(examples: list[Example], backbone: Backbone, s: Settings) -> tuple[list[Skipped], int, int]:
    """Labels of some trees that are cut or left out; the longest sequence and all tokens that the others make."""
    assert s.max_tokens is not None
    assert s.max_path is not None
    skipped: list[Skipped] = []
    longest = tokens = 0
    scales = scales_now()
    for example in examples:
        forests = Forests([example], backbone.encoder, scales, max_tokens=s.max_tokens, max_path=s.max_path, empty=True)
        skipped += forests.skipped
        longest, tokens = max(longest, forests.longest), tokens + forests.tokens
    return skipped, longest, tokens


def _nothing(lost: list[Skipped], examples: list[Example], backbone: Backbone) -> str:
    if not lost:
        return "No label is left to train on. Rate replies of more dialogues."
    reasons = Counter(one.reason for one in lost)
    why = "; ".join(f"{n:,} × {reason}" if n > 1 else reason for reason, n in reasons.most_common(3))
    step = "Mend that, or rate other replies."
    if long := [one for one in lost if TOO_LONG in one.reason]:
        least, context = min(_needed(one, examples, backbone) for one in long), backbone.max_positions
        step = f"Choose a backbone with a longer context than {context:,} tokens, or rate shorter replies."
        if least <= context:
            step = f"Set --max-path to {least} or more, which takes more memory, or rate shorter replies."
    return f"No label is left to train on: {why}. {step}"


def _needed(one: Skipped, examples: list[Example], backbone: Backbone) -> int:
    """Tokens of the longest reply that a label is about."""
    (example,) = (e for e in examples if e.tree.id == one.tree)
    reader = Reader(backbone.encoder, [example])
    return max(len(reader.piece(example.tree, n)) for n in (one.node, one.other) if n)
