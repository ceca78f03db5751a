"""Scores replies with a trained judge: a whole tree in one pass, or one new reply at the cost of its own tokens.

Keeps the keys and values of nodes it has read, within a bound. A path longer than ``max_path`` loses its beginning as in
training: whole nodes, the oldest first (``judge.sizes.read_path`` says how long it is). One thread at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from judge import files
from judge.encoding import Images
from judge.examples import Example
from judge.model import JudgeModel, ScoreHead
from judge.node_cache import KeysValues, NodeCache, agreeing, chain_keys, content_key
from judge.packing import Piece, bundle, pack, plan_items
from judge.readings import Reading, derived_on, read_off, scored_on, trained_on
from judge.rubric import JudgeError
from studio.tree import Node, Tree

__all__ = ["Reading", "Scorer", "derived_on", "read_off", "scored_on", "trained_on"]

PIECES_KEPT = 4096  # nodes whose tokens stay in memory: a template and a tokenizer cost as much as a few layers
DEFAULT_PATH = 2048  # tokens


class Scorer:
    """A judge at work. ``cache_mb``: memory for keys and values; ``max_tokens``: a packed sequence.

    ``skipped``: replies that the last call of ``tree`` could not read, each with the reason.
    """

    def __init__(
        self,
        model: JudgeModel,
        *,
        max_tokens: int = 4096,
        max_path: int = DEFAULT_PATH,
        cache_mb: int = 512,
        trained: Mapping[str, int] | None = None,
        scored: Mapping[str, int] | None = None,
    ) -> None:
        """``trained``: labels by row, silent on the others; ``scored``: scores by row, no scale on the others (None: all)."""
        self.model = model.eval()
        self.trained, self.scored = trained, scored
        self.max_tokens, self.max_path = max_tokens, max_path
        self.cache = NodeCache(cache_mb * 2**20)
        self.skipped: list[tuple[str, str]] = []
        self._pieces: OrderedDict[str, Piece] = OrderedDict()
        self._partial: dict[str, str] = {}  # reply that grows -> the key of what is kept of it

    @classmethod
    def load(cls, folder: Path, cache: Path, **settings: Any) -> Scorer:
        """A judge from its folder. Raises JudgeError."""
        model, card = files.load_judge(folder, cache)
        if model.lora.rank and model.dtype == torch.float32:  # in lower precision the sum would lose what was learned
            backbone: Any = model.backbone
            backbone.merge_adapter()
        return cls.of(model, card, **settings)

    @classmethod
    def of(cls, model: JudgeModel, card: Mapping[str, Any], **settings: Any) -> Scorer:
        """A judge that is loaded, with what its card says of its labels and of where it cuts a path."""
        sizes = {**card["settings"], **card["data"].get("sizes", {})}
        known = {
            "max_path": sizes.get("read_path") or sizes.get("max_path") or DEFAULT_PATH,
            "trained": derived_on(card) | trained_on(card),
            "scored": scored_on(card),
        }
        return cls(model, **{**known, **settings})

    @property
    def memory_mb(self) -> float:
        """Of weights and kept keys and values."""
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return (weights + self.cache.bytes) / 2**20

    @property
    def head(self) -> ScoreHead:
        """What turns hidden states into scores."""
        return self.model.head

    def reading(self, scalars: torch.Tensor) -> Reading:
        """Scalars (1 + copies, rows) in words a person reads."""
        return read_off(self.head, scalars, self.trained, self.scored)

    def tokens(self, example: Example, node: str) -> int:
        """How long a node is, its pictures with it. Raises JudgeError when it cannot be read."""
        path = example.tree.path(node)
        return len(self._piece(path, self._keys(path, example.images), example.images))

    # ---- a whole tree

    @torch.no_grad()
    def tree(self, example: Example, nodes: Iterable[str] | None = None) -> dict[str, Reading]:
        """Readings of a tree's replies (or of some of them), each token of the tree encoded once.

        A reply that is longer than the judge reads, or under a picture that cannot be read, has none: see ``skipped``.
        """
        tree = example.tree
        window = _Window(self, tree, example.images)
        replies = [n.id for n in tree.walk() if n.role == "assistant"] if nodes is None else list(nodes)
        self.skipped = [(n, why) for n in replies if (why := window.unreadable(n))]
        readable = set(replies) - {n for n, _ in self.skipped}
        room = max(self.max_tokens, self.max_path)
        made = plan_items(tree, [(n,) for n in replies if n in readable], window.piece, room, self.max_path)
        self.skipped += [(item[0], _too_long(why)) for item, why in made.left_out.items()]
        readings: dict[str, Reading] = {}
        for group in bundle(made.parts, room):
            forest = pack(group, lambda _, node: window.piece(node))
            forest.images = self.model.encoder.pixels(forest.pictures, example.images)
            ends = [(i, item[0]) for i, part in enumerate(group) for item in part.items]
            scalars = self.model.read(forest, [forest.ends[i][n] for i, n in ends])
            readings |= {n: self.reading(scalars[j]) for j, (_, n) in enumerate(ends)}
        return readings

    # ---- one reply

    @torch.no_grad()
    def reply(self, path: Sequence[Node], images: Images | None = None, growing: bool = False) -> Reading:
        """The reading of the last node of ``path``, given the ones above; costs the tokens that were not read before.

        ``growing``: the reply is not done; the next call reads on from where its tokens still agree.

        Raises:
            JudgeError: the reply is longer than the judge reads, or a picture cannot be read.
        """
        images = images or {}
        pieces = self._window(path, images, growing)
        keys, partial = chain_keys(pieces), self._partial_key(path[-1].id, pieces, growing)
        if growing:
            keys[-1] = partial
        read: list[KeysValues] = []
        for key in keys[:-1]:
            if (known := self.cache.get(key)) is None:
                break
            read.append(known[1])
        fresh, agreed = pieces[len(read) :], 0
        begun = self.cache.get(keys[-1]) or self.cache.get(partial)
        if len(fresh) == 1 and begun is not None and not fresh[0].pictures:
            agreed = min(agreeing(begun[0], fresh[0].ids), len(fresh[0]) - 1)
            if agreed:
                read.append([(k[:, :, :agreed], v[:, :, :agreed]) for k, v in begun[1]])
        hidden, computed = self._extend(pieces, fresh, agreed, read, images)
        self._keep(keys, fresh, computed, agreed, read[-1] if agreed else None)
        if not growing:
            self.cache.drop(partial)
        return self.reading(self.model.head(hidden[-1:].float())[0])

    def _partial_key(self, reply: str, pieces: Sequence[Piece], growing: bool) -> str:
        """Where a growing reply is kept: another place under another beginning, for keys hold for their own prefix only."""
        above = chain_keys(pieces[:-1])
        key = f"growing {above[-1] if above else ''} {reply}"
        if (old := self._partial.pop(reply, key)) != key:  # the beginning was cut further since then
            self.cache.drop(old)
        if growing:
            self._partial[reply] = key
        return key

    def _keep(
        self, keys: Sequence[str], fresh: Sequence[Piece], computed: KeysValues, agreed: int, before: KeysValues | None
    ) -> None:
        """Put the keys and values of what was read now into the cache; ``before``: of the last node's first tokens."""
        at = 0
        for key, piece in zip(keys[len(keys) - len(fresh) :], fresh, strict=True):
            last = piece is fresh[-1]
            n = len(piece) - (agreed if last else 0)
            own = [(k[:, :, at : at + n].clone(), v[:, :, at : at + n].clone()) for k, v in computed]
            if last and before is not None:
                own = [(torch.cat([a, k], 2), torch.cat([b, v], 2)) for (a, b), (k, v) in zip(before, own, strict=True)]
            self.cache.put(key, piece.ids, own)
            at += n

    def _extend(
        self, pieces: Sequence[Piece], fresh: Sequence[Piece], agreed: int, read: Sequence[KeysValues], images: Images
    ) -> tuple[torch.Tensor, KeysValues]:
        """Run the fresh tokens over what was read. Returns hidden states (n, h) and the new keys and values."""
        from transformers import DynamicCache

        past = DynamicCache()
        for layer in range(len(read[0]) if read else 0):
            past.update(torch.cat([r[layer][0] for r in read], 2), torch.cat([r[layer][1] for r in read], 2), layer)
        prefix = past.get_seq_length()
        first = sum(p.advance for p in pieces[: len(pieces) - len(fresh)])
        ids, positions = [], []
        for piece in fresh:
            skip = agreed if piece is fresh[-1] else 0
            ids.append(piece.ids[skip:])
            positions.append(piece.positions[..., skip:] + first)
            first += piece.advance
        where = torch.cat(positions, -1)  # (n,) or (3, n)
        pictures = [s for p in fresh for s in p.pictures]
        out = self.model.backbone(
            input_ids=torch.cat(ids)[None].to(self.model.device),
            position_ids=(where[None] if where.dim() == 1 else where[:, None]).to(self.model.device),
            past_key_values=past, use_cache=True, **self.model.placed(self.model.encoder.pixels(pictures, images)),
        )  # fmt: skip
        kept = [(layer.keys[:, :, prefix:], layer.values[:, :, prefix:]) for layer in out.past_key_values.layers]
        return out.last_hidden_state[0], kept

    # ---- nodes as tokens

    def _window(self, path: Sequence[Node], images: Images, growing: bool) -> list[Piece]:
        """The nodes of a path that are read: the last one, and as many above it as fit. Raises JudgeError."""
        above = self._keys(path[:-1], images)
        last = content_key(above[-1] if above else "", path[-1], images)
        pieces = [self._piece(path, [last], images, keep=not growing)]
        room = self.max_path - len(pieces[0])
        if room < 0:
            raise JudgeError(
                f"A reply of {len(pieces[0]):,} tokens is longer than the {self.max_path:,} that this judge reads."
            )
        for end in range(len(path) - 1, 0, -1):
            piece = self._piece(path[:end], above[:end], images)
            room -= len(piece)
            if room < 0:
                break
            pieces.insert(0, piece)
        return pieces

    def _keys(self, path: Sequence[Node], images: Images) -> list[str]:
        keys: list[str] = []
        for node in path:
            keys.append(content_key(keys[-1] if keys else "", node, images))
        return keys

    def _piece(self, path: Sequence[Node], keys: Sequence[str], images: Images, keep: bool = True) -> Piece:
        """The last node of ``path`` as tokens; ``keys[-1]`` is its content key. Raises JudgeError."""
        if (known := self._pieces.get(keys[-1])) is not None:
            self._pieces.move_to_end(keys[-1])
            return known
        piece = self.model.encoder.piece(path, images)
        if keep:
            self._pieces[keys[-1]] = piece
            if len(self._pieces) > PIECES_KEPT:
                self._pieces.popitem(last=False)
        return piece


class _Window:
    """A tree's nodes as tokens during one call: each is looked up once, and what cannot be read is told once."""

    def __init__(self, scorer: Scorer, tree: Tree, images: Images) -> None:
        self.scorer, self.tree, self.images = scorer, tree, images
        self._keys: dict[str, str] = {}
        self._read: dict[str, Piece | JudgeError] = {}

    def piece(self, node: str) -> Piece:
        """A node's tokens. Raises JudgeError."""
        if node not in self._read:
            path = self.tree.path(node)
            for n in path:
                if n.id not in self._keys:
                    self._keys[n.id] = content_key(self._keys.get(n.parent_id or "", ""), n, self.images)
            try:
                self._read[node] = self.scorer._piece(path, [self._keys[node]], self.images)
            except JudgeError as error:
                self._read[node] = error
        piece = self._read[node]
        if isinstance(piece, JudgeError):
            raise piece
        return piece

    def unreadable(self, node: str) -> str:
        """Why a reply cannot be read; "" where it can. Only what is read with it counts, not what is cut off."""
        room = self.scorer.max_path
        try:
            for above in reversed(self.tree.path(node)):
                room -= len(self.piece(above.id))
                if room < 0:
                    return ""  # too long alone: the plan says so
        except JudgeError as error:
            return str(error)
        return ""


def _too_long(why: str) -> str:
    return f"A {why}: longer than this judge reads."
