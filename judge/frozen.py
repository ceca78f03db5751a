"""Judges without LoRA, many from one reading: hidden states are read once, and heads are fitted to parts of the labels.

Cheap enough to train dozens (a curve, a cross-validation, a simulation): after the reading a head takes a second. Knows no
store and keeps no judge; what it read may be kept in a folder, a file a tree.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from judge import files
from judge.batches import Placed, Reader, label_nodes, label_tensors, labels_of, resampled, row_of_label
from judge.examples import Example, Score
from judge.groups import group_of
from judge.losses import label_losses
from judge.model import JudgeModel, Scales, ScoreHead
from judge.packing import TOO_LONG, pack, plan
from judge.readings import Reading, read_off
from judge.rubric import JudgeError

STEPS, RATE, DECAY = 300, 3e-3, 1.0  # of AdamW on all labels at once; few labels and many columns: the decay is needed
TREES_A_SEQUENCE = 4  # a packed sequence is at most this many paths long
Key = tuple[str, str]  # tree, node
Progress = Callable[[int, int, float | None], None]  # trees read, of how many, seconds that are left


@dataclass
class Vectors:
    """What was read: ``states`` (h,) at the last token of each reply, ``tokens`` of each node on the way there.

    ``skipped``: replies that cannot be read, and why.
    """

    max_path: int
    states: dict[Key, torch.Tensor] = field(default_factory=dict)
    tokens: dict[Key, int] = field(default_factory=dict)
    skipped: dict[Key, str] = field(default_factory=dict)


@dataclass(frozen=True)
class States:
    """Hidden states, and what makes them comparable: their mean and scale (h,) over the replies that may be learned from."""

    vectors: Vectors
    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, vectors: Vectors, pool: Iterable[Example]) -> States:
        """``pool``: the trees to standardise by. Labels are not looked at; trees of a test must not be among them.

        Raises JudgeError: nothing of them was read.
        """
        known = {e.tree.id for e in pool}
        read = [v for (tree, _), v in sorted(vectors.states.items()) if tree in known]
        if not read:
            why = next((why for (tree, _), why in vectors.skipped.items() if tree in known), "there is none")
            raise JudgeError(
                f"No reply can be read to fit a head to: {why}. Set a longer --max-path, or rate other replies."
            )
        x = torch.stack(read)
        return cls(vectors, x.mean(0), x.std(0, correction=0) + 1e-3)

    def take(self, keys: Sequence[tuple[str, str]]) -> torch.Tensor:
        """Standardised states (n, h)."""
        return (torch.stack([self.vectors.states[key] for key in keys]) - self.mean) / self.scale


@dataclass(frozen=True)
class FrozenJudge:
    """A fitted head over states that were read before; it stands where ``judge.measure`` takes a scorer."""

    head: ScoreHead
    states: States
    scored: Mapping[str, int] | None = None  # how many scores each row learned from; None: not known

    @property
    def max_path(self) -> int:
        """Tokens of a dialogue that were read."""
        return self.states.vectors.max_path

    def tokens(self, example: Example, node: str) -> int:
        """How long a node is for the backbone that read it."""
        return self.states.vectors.tokens[example.tree.id, node]

    @torch.no_grad()
    def tree(self, example: Example, nodes: Iterable[str] | None = None) -> dict[str, Reading]:
        """Readings of some replies, by default of all that were read of this tree."""
        tree = example.tree.id
        known = {n for t, n in self.states.vectors.states if t == tree}
        some = sorted(known if nodes is None else known & set(nodes))
        if not some:
            return {}
        scalars = self.head(self.states.take([(tree, n) for n in some]))
        return {n: read_off(self.head, scalars[i], scored=self.scored) for i, n in enumerate(some)}


def fit(states: States, examples: Sequence[Example], scales: Scales, *, copies: int = 0, seed: int = 0,
        steps: int = STEPS) -> FrozenJudge:  # fmt: skip
    """A head fitted to the labels of ``examples`` by the judge's own losses; the same call gives the same head.

    It starts from zero, so a dimension without labels says the same of every reply. ``copies``: heads on bootstrap samples
    of the trees, drawn by ``seed``, for a spread. Raises JudgeError when there is no label.
    """
    labels = [
        (e, label) for e in examples for label in labels_of(e)
        if all((e.tree.id, n) in states.vectors.states for n in label_nodes(label)) and row_of_label(label) in scales
    ]  # fmt: skip
    if not labels:
        raise JudgeError("There is nothing to fit a head to: no score and no comparison. Rate some replies first.")
    keys = sorted({(e.tree.id, n) for e, label in labels for n in label_nodes(label)})
    at = {key: i for i, key in enumerate(keys)}
    placed: list[Placed] = [
        (label, [at[e.tree.id, n] for n in label_nodes(label)], resampled(group_of(e), copies, seed))
        for e, label in labels
    ]
    batch = label_tensors(placed, scales, copies)
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
    scored = Counter(label.dimension for _, label in labels if isinstance(label, Score))
    return FrozenJudge(head.requires_grad_(False), states, scored)


def read(
    model: JudgeModel, examples: Sequence[Example], max_path: int, kept: Path | None = None,
    progress: Progress = lambda done, of, left: None,
) -> Vectors:  # fmt: skip
    """Hidden states of every labelled reply, each tree read once. ``kept``: a folder where they wait for the next time,
    so that a reading that was interrupted goes on; what another data set left there is removed at the end.

    A reply longer than ``max_path`` tokens, or with a picture on its path that cannot be read, is named in ``skipped``.

    Raises:
        JudgeError: a full disk.
    """
    vectors = Vectors(max_path)
    used, fresh, spent = set(), 0, 0.0
    for done, e in enumerate(examples, 1):
        started = time.monotonic()
        reader = Reader(model.encoder, [e])
        wanted = sorted({n for label in labels_of(e) for n in label_nodes(label)})
        readable = _readable(reader, e, wanted, vectors)
        if not readable:
            continue
        file = kept / f"{_digest(model, reader, e, readable, max_path)}.safetensors" if kept else None
        states = _again(file, readable)
        if states is None:
            states = _read(model, reader, e, readable, max_path)
            fresh, spent = fresh + 1, spent + time.monotonic() - started
            _keep(states, file)
        vectors.states |= {(e.tree.id, n): state for n, state in states.items()}
        used.add(file)
        progress(done, len(examples), spent / fresh * (len(examples) - done) if fresh else None)
    for old in set(kept.glob("*.safetensors")) - used if kept else ():
        old.unlink(missing_ok=True)
    return vectors


def _readable(reader: Reader, e: Example, wanted: Sequence[str], vectors: Vectors) -> list[str]:
    """Those of the wanted replies that fit into a path; notes how long every node on the way is."""
    readable = []
    for node in wanted:
        try:
            lengths = {n.id: len(reader.piece(e.tree, n.id)) for n in e.tree.path(node)}
        except JudgeError as error:  # a picture that is broken, a template that refuses
            vectors.skipped[e.tree.id, node] = str(error)
            continue
        vectors.tokens |= {(e.tree.id, n): length for n, length in lengths.items()}
        if lengths[node] > vectors.max_path:
            vectors.skipped[e.tree.id, node] = f"reply of {lengths[node]:,} {TOO_LONG} {vectors.max_path:,}"
        else:
            readable.append(node)
    return readable


@torch.no_grad()
def _read(
    model: JudgeModel, reader: Reader, e: Example, wanted: Sequence[str], max_path: int
) -> dict[str, torch.Tensor]:
    read: dict[str, torch.Tensor] = {}
    items = [(n,) for n in wanted]
    for part in plan(e.tree, items, lambda n: reader.piece(e.tree, n), TREES_A_SEQUENCE * max_path, max_path):
        forest = pack([part], reader.piece)
        states = model.hidden(forest.ids, forest.positions, forest.layout, reader.pixels([part], forest.pictures))
        read |= {n: states[forest.ends[0][n]].float().cpu() for (n,) in part.items}
    return read


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
