"""Judges without LoRA, many from one reading: hidden states are read once, and heads are fitted to parts of the labels.

Cheap enough to train dozens (a curve, a cross-validation, a simulation): after the reading a head takes a second. Knows no
store and keeps no judge; what it read may be kept in a folder, a file a tree.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from judge import files
from judge.batches import Placed, Reader, label_nodes, label_tensors, resampled
from judge.examples import Comparison, Example, Score
from judge.losses import label_losses
from judge.model import JudgeModel, Scales, ScoreHead
from judge.packing import pack, plan
from judge.rubric import JudgeError
from judge.scoring import Reading, read_off

STEPS, RATE, DECAY = 300, 3e-3, 1.0  # of AdamW on all labels at once; few labels and many columns: the decay is needed
TREES_A_SEQUENCE = 4  # a packed sequence is at most this many paths long
Vectors = dict[tuple[str, str], torch.Tensor]  # (tree, reply) -> hidden state (h,) at its last token
Progress = Callable[[int, int, float | None], None]  # trees read, of how many, seconds that are left


@dataclass(frozen=True)
class States:
    """Hidden states, and what makes them comparable: their mean and scale (h,) over the replies that may be learned from."""

    vectors: Vectors
    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, vectors: Vectors, pool: Iterable[Example]) -> States:
        """``pool``: the trees to standardise by. Labels are not looked at; trees of a test must not be among them."""
        known = {e.tree.id for e in pool}
        x = torch.stack([v for (tree, _), v in sorted(vectors.items()) if tree in known])
        return cls(vectors, x.mean(0), x.std(0, correction=0) + 1e-3)

    def take(self, keys: Sequence[tuple[str, str]]) -> torch.Tensor:
        """Standardised states (n, h)."""
        return (torch.stack([self.vectors[key] for key in keys]) - self.mean) / self.scale


@dataclass(frozen=True)
class FrozenJudge:
    """A fitted head over states that were read before; it stands where ``judge.measure`` takes a scorer."""

    head: ScoreHead
    states: States

    @torch.no_grad()
    def tree(self, example: Example, nodes: Iterable[str] | None = None) -> dict[str, Reading]:
        """Readings of some replies, by default of all that were read of this tree."""
        tree = example.tree.id
        wanted = [n for t, n in self.states.vectors if t == tree] if nodes is None else list(nodes)
        if not wanted:
            return {}
        scalars = self.head(self.states.take([(tree, n) for n in wanted]))
        return {n: read_off(self.head, scalars[i]) for i, n in enumerate(wanted)}


def fit(states: States, examples: Sequence[Example], scales: Scales, *, copies: int = 0, seed: int = 0,
        steps: int = STEPS) -> FrozenJudge:  # fmt: skip
    """A head fitted to the labels of ``examples`` by the judge's own losses; the same call gives the same head.

    It starts from zero, so a dimension without labels says the same of every reply. ``copies``: heads on bootstrap samples
    of the trees, drawn by ``seed``, for a spread. Raises JudgeError when there is no label.
    """
    labels = [(e.tree.id, label) for e in examples for label in labels_of(e)]
    if not labels:
        raise JudgeError("There is nothing to fit a head to: no score and no comparison. Rate some replies first.")
    keys = sorted({(tree, n) for tree, label in labels for n in label_nodes(label)})
    at = {key: i for i, key in enumerate(keys)}
    placed: list[Placed] = [
        (label, [at[tree, n] for n in label_nodes(label)], resampled(tree, copies, seed)) for tree, label in labels
    ]
    batch = label_tensors(placed, {row: i for i, row in enumerate(scales)}, copies)
    weight = float(batch["score_weights"][:, 0].sum() + batch["pair_weights"][:, 0].sum())
    x = states.take(keys)
    head = ScoreHead(x.shape[1], copies, scales)
    torch.nn.init.zeros_(head.weight)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is slower on several, and its sums would depend on their number
    try:
        for _ in range(steps):
            optimizer.zero_grad()
            (label_losses(head, head(x), batch).sum() / weight).backward()  # a copy's part moves that copy alone
            optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return FrozenJudge(head.requires_grad_(False), states)


def labels_of(e: Example) -> list[Score | Comparison]:
    """A tree's scores, then its comparisons."""
    return [*e.scores, *e.comparisons]


def read(
    model: JudgeModel, examples: Sequence[Example], max_path: int, kept: Path | None = None,
    progress: Progress = lambda done, of, left: None,
) -> Vectors:  # fmt: skip
    """Hidden states of every labelled reply, each tree read once. ``kept``: a folder where they wait for the next time,
    so that a reading that was interrupted goes on; what another data set left there is removed at the end.

    Raises:
        JudgeError: a reply longer than ``max_path`` tokens, a picture that cannot be read, a full disk.
    """
    found: Vectors = {}
    used, fresh, spent = set(), 0, 0.0
    for done, e in enumerate(examples, 1):
        started = time.monotonic()
        reader = Reader(model.encoder, [e])
        wanted = sorted({n for label in labels_of(e) for n in label_nodes(label)})
        file = kept / f"{_digest(model, reader, e, wanted, max_path)}.safetensors" if kept else None
        states = _again(file, wanted)
        if states is None:
            states = _read(model, reader, e, wanted, max_path)
            fresh, spent = fresh + 1, spent + time.monotonic() - started
            _keep(states, file)
        found |= {(e.tree.id, n): state for n, state in states.items()}
        used.add(file)
        progress(done, len(examples), spent / fresh * (len(examples) - done) if fresh else None)
    for old in set(kept.glob("*.safetensors")) - used if kept else ():
        old.unlink(missing_ok=True)
    return found


@torch.no_grad()
def _read(
    model: JudgeModel, reader: Reader, e: Example, wanted: Sequence[str], max_path: int
) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    items = [(n,) for n in wanted]
    for part in plan(e.tree, items, lambda n: reader.piece(e.tree, n), TREES_A_SEQUENCE * max_path, max_path):
        forest = pack([part], reader.piece)
        states = model.hidden(forest.ids, forest.positions, forest.layout, reader.pixels([part], forest.pictures))
        found |= {n: states[forest.ends[0][n]].float().cpu() for (n,) in part.items}
    return found


def _digest(model: JudgeModel, reader: Reader, e: Example, wanted: Sequence[str], max_path: int) -> str:
    """Changes with the backbone, the cut, and any word or picture above a wanted reply."""
    digest = hashlib.sha256(f"{model.base_card['fingerprint']} {max_path} {e.tree.id} {list(wanted)}".encode())
    for node in {n.id: n for w in wanted for n in e.tree.path(w)}.values():
        piece = reader.piece(e.tree, node.id)
        digest.update(f"{node.id} {node.parent_id} {piece.pictures}".encode() + piece.ids.numpy().tobytes())
    return digest.hexdigest()[:32]


def _again(file: Path | None, wanted: Sequence[str]) -> dict[str, torch.Tensor] | None:
    """What was kept, if it is whole."""
    if file is None or not file.is_file():
        return None
    try:
        states: dict[str, torch.Tensor] = load_file(file)
    except (OSError, SafetensorError):
        return None
    return states if set(states) == set(wanted) else None


def _keep(states: dict[str, torch.Tensor], file: Path | None) -> None:
    if file is None:
        return
    whole = file.with_suffix(".new")
    try:
        files.save_tensors(states, whole)
        whole.replace(file)
    except (OSError, SafetensorError) as error:
        raise JudgeError(
            f"Cannot keep what was read in {file.parent}: {error}. Free some space, then go on."
        ) from error
