"""How a node becomes tokens for a backbone: its chat template, its pictures, its positions. One small class a family.

A node's tokens depend on the nodes above it only, and are made apart from theirs: the tokens of a path are those of its
nodes, joined. That is what lets a tree be packed. Nobody's text can write a token with a meaning of its own.
"""

from __future__ import annotations

import io
import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch

from judge.packing import Piece
from judge.rubric import JudgeError
from studio.tree import Node
from studio.tree import Part as NodePart

TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError, ValueError, KeyError)  # a template is a program of its own
PIXELS_KEPT = 256  # pictures whose pixels stay in memory
Images = dict[str, bytes | Path]


class Encoder:
    """Text only: pictures are read as ``<Image, caption>``. ``tokenizer``: a fast tokenizer of transformers."""

    images = False

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special = sorted({t for t in tokenizer.get_added_vocab() if len(t) > 1}, key=len, reverse=True)
        self.template = _usable(tokenizer)

    def piece(self, path: Sequence[Node], images: Images) -> Piece:
        """The last node of ``path`` as tokens. Raises JudgeError when the template cannot take the dialogue."""
        ids = self.ids(self.text(path, images))
        return Piece(ids, torch.arange(len(ids)), len(ids))

    def ids(self, text: str) -> torch.Tensor:
        """Tokens of a template's text, special ones read as such."""
        return torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)

    def text(self, path: Sequence[Node], images: Images) -> str:
        """What the template writes for the last node of ``path``, given the nodes above it."""
        messages = [{"role": n.role, "content": self.content(n, images)} for n in path]
        if not self.template:
            return f"{messages[-1]['role'].capitalize()}: {self.flat(path[-1], images)}\n\n"
        try:
            whole, before = self.render(messages), self.render(messages[:-1]) if len(messages) > 1 else ""
        except TEMPLATE_ERRORS as error:
            raise JudgeError(
                f"The chat template of this backbone refuses the dialogue ({error}). Choose another."
            ) from error
        return whole.removeprefix(before)

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The template's text for a dialogue, with no reply begun."""
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False))

    def content(self, node: Node, images: Images) -> Any:
        """A node in the form that the template reads."""
        return self.flat(node, images)

    def flat(self, node: Node, images: Images) -> str:
        """A node as plain text."""
        return "\n".join(self.plain(p.text) if p.kind == "text" else caption(p, self.plain) for p in node.parts)

    def plain(self, text: str) -> str:
        """The text with no special token left in it."""
        for token in self.special:
            text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
        return text

    def pixels(self, pictures: Sequence[str], images: Images) -> dict[str, torch.Tensor]:
        """What the model's forward takes beside the tokens for these pictures, in order."""
        return {}


class VisionEncoder(Encoder):
    """Pictures as pixels. ``mark``: what the template writes for a picture; ``expand``: what stands there instead."""

    images = True
    mark = "<image>"

    def __init__(self, tokenizer: Any, processor: Any) -> None:
        super().__init__(tokenizer)
        self.processor = processor
        self.special = sorted({*self.special, self.mark}, key=len, reverse=True)
        self._seen: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def content(self, node: Node, images: Images) -> Any:
        return [
            {"type": "image"} if _shown(p, images) else
            {"type": "text", "text": self.plain(p.text) if p.kind == "text" else caption(p, self.plain)}
            for p in node.parts
        ]  # fmt: skip

    def flat(self, node: Node, images: Images) -> str:
        return "\n".join(self.mark if c["type"] == "image" else c["text"] for c in self.content(node, images))

    def piece(self, path: Sequence[Node], images: Images) -> Piece:
        text = self.text(path, images)
        pictures = tuple(p.image_sha256 for p in path[-1].parts if _shown(p, images) and p.image_sha256)
        first, *rest = text.split(self.mark)
        if len(rest) != len(pictures):
            raise JudgeError(
                f"The chat template shows {len(rest)} of {len(pictures)} pictures. Choose another backbone."
            )
        seen = [self.process(sha, images) for sha in pictures]
        whole = first + "".join(self.expand(s) + more for s, more in zip(seen, rest, strict=True))
        ids = self.ids(whole)
        positions, advance = self.positions(ids, seen)
        return Piece(ids, positions, advance, pictures)

    def process(self, sha256: str, images: Images) -> dict[str, Any]:
        """The processor's tensors of one picture; the latest ones stay in memory."""
        if sha256 not in self._seen:
            picture = _open(images[sha256], sha256)
            try:
                self._seen[sha256] = dict(self.processor([picture], return_tensors="pt"))
            except ValueError as error:  # too narrow for its patches, say
                raise JudgeError(f"The backbone cannot take the picture {sha256[:12]} ({error}).") from error
            if len(self._seen) > PIXELS_KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(sha256)
        return self._seen[sha256]

    def expand(self, seen: dict[str, Any]) -> str:
        """The tokens that stand for one picture, as text."""
        raise NotImplementedError

    def positions(self, ids: torch.Tensor, seen: list[dict[str, Any]]) -> tuple[torch.Tensor, int]:
        """Positions of a node's tokens from 0, and how much later the next node starts."""
        return torch.arange(len(ids)), len(ids)


class QwenEncoder(VisionEncoder):
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL: M-RoPE positions (3, n), patches of all pictures joined."""

    mark = "<|image_pad|>"

    def __init__(self, tokenizer: Any, processor: Any, rope: Callable[..., Any]) -> None:
        super().__init__(tokenizer, processor)
        self.rope, self.image_id = rope, tokenizer.convert_tokens_to_ids(self.mark)

    def expand(self, seen: dict[str, Any]) -> str:
        return self.mark * int(seen["image_grid_thw"][0].prod() // self.processor.merge_size**2)

    def positions(self, ids: torch.Tensor, seen: list[dict[str, Any]]) -> tuple[torch.Tensor, int]:
        kinds = (ids == self.image_id).long()[None]
        grids = torch.cat([s["image_grid_thw"] for s in seen]) if seen else None
        positions, delta = self.rope(ids[None], mm_token_type_ids=kinds, image_grid_thw=grids)
        return positions[:, 0], len(ids) + int(delta[0, 0])

    def pixels(self, pictures: Sequence[str], images: Images) -> dict[str, torch.Tensor]:
        seen = [self.process(sha, images) for sha in pictures]
        return {k: torch.cat([s[k] for s in seen]) for k in ("pixel_values", "image_grid_thw")} if seen else {}


class SmolVLMEncoder(VisionEncoder):
    """SmolVLM and Idefics3: tiles of all pictures joined, one tile a picture (``do_image_splitting`` off)."""

    def __init__(self, tokenizer: Any, processor: Any, tokens_a_tile: int) -> None:
        super().__init__(tokenizer, processor)
        self.tokens_a_tile = tokens_a_tile

    def expand(self, seen: dict[str, Any]) -> str:
        from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

        rows, cols = (next(r for row in seen.get(k, [[0]]) for r in row) for k in ("rows", "cols"))
        return str(get_image_prompt_string(rows, cols, self.tokens_a_tile, image_token=self.mark,
                                           fake_token_around_image="<fake_token_around_image>",
                                           global_image_token="<global-img>"))  # fmt: skip

    def pixels(self, pictures: Sequence[str], images: Images) -> dict[str, torch.Tensor]:
        seen = [self.process(sha, images) for sha in pictures]
        return (
            {k: torch.cat([s[k] for s in seen], dim=1) for k in ("pixel_values", "pixel_attention_mask")}
            if seen
            else {}
        )


def caption(part: NodePart, plain: Callable[[str], str]) -> str:
    """A picture that cannot be shown, in InterMT's words for it."""
    return f"<Image, {plain(part.caption) or 'no caption'}>"


def _shown(part: NodePart, images: Images) -> bool:
    return part.kind == "image" and part.image_sha256 in images


def _open(data: bytes | Path, sha256: str) -> Any:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise JudgeError(
            f"The picture {sha256[:12]} cannot be read ({error}). Remove it, or import it again."
        ) from error


def _usable(tokenizer: Any) -> bool:
    """Whether a template exists and writes a dialogue as its beginning plus the last message."""
    if not tokenizer.chat_template:
        return False
    turns = [
        {"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ]
    listed = [{**t, "content": [{"type": "text", "text": t["content"]}]} for t in turns]
    for form in (turns, listed):
        try:
            texts = [str(tokenizer.apply_chat_template(form[:n], tokenize=False)) for n in (1, 2, 3, 4)]
        except TEMPLATE_ERRORS:
            continue
        if all(b.startswith(a) and b != a for a, b in itertools.pairwise(texts)):
            return True
    return False
