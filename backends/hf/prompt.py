"""A dialogue as a model's prompt: its chat template, its images, its tokens. Never runs the model.

Nobody's text can write a token with a meaning of its own, an image's placeholder least of all.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from backends.base import BackendError, Content, Message
from backends.llama.template import Template

PICTURES_KEPT = 16  # whose pixels stay in memory
TEXT_KEYS = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "text_replacement_offsets"}


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as the processor made it. ``text`` stands in the prompt, ``count`` of its tokens are filled with features."""

    sha256: str
    source: Any  # a PIL image
    text: str
    count: int
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """Token ids. ``keys`` tell tokens apart also by image; ``spans`` are the first and the end of each image's tokens."""

    ids: list[int]
    keys: list[Hashable]
    pictures: list[Picture]
    spans: list[tuple[int, int]]

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """The prompt in portions of at least ``size`` tokens (the last may be shorter) that cut no image apart.

        Where a portion ends depends only on what is in it, so that equal beginnings have equal portions.
        """
        found, start = [], 0
        for at in range(1, len(self.ids)):
            if at - start >= size and not any(a < at < b for a, b in self.spans):
                found.append((start, at))
                start = at
        return [*found, (start, len(self.ids))]

    def within(self, start: int, end: int) -> list[Picture]:
        """The images whose tokens are in a portion."""
        return [p for p, (a, b) in zip(self.pictures, self.spans, strict=True) if start <= a and b <= end]


class Writer:
    """Makes prompts for one model. ``max_pixels``: larger images are scaled down to that before the model's own processor."""

    def __init__(self, name: str, tokenizer: Any, processor: Any, max_pixels: int) -> None:
        self.name, self.tokenizer, self.processor, self.max_pixels = name, tokenizer, processor, max_pixels
        self.image_ids = set(processor.image_token_ids) if processor else set()
        self._seen: OrderedDict[str, Picture] = OrderedDict()

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """The tokens of a dialogue up to where the reply begins.

        Raises:
            BackendError: the model has no chat template, the template refuses or takes too long, or an image is broken.
        """
        pictures: list[Picture] = []
        sent = [{"role": m.role, "content": self._content(m, pictures)} for m in messages]
        text = self._render(sent)
        if pictures:
            first, *rest = text.split(self.processor.image_token)
            if len(rest) != len(pictures):
                raise BackendError(
                    f"The chat template of {self.name} shows {len(rest)} of {len(pictures)} images. Choose another model."
                )
            text = first + "".join(p.text + more for p, more in zip(pictures, rest, strict=True))
        ids = self._ids(text)
        return self._with_images(ids, pictures)

    def pixels(self, pictures: list[Picture]) -> dict[str, Any]:
        """What the model takes beside the tokens of these images, in order."""
        if len(pictures) == 1:
            return pictures[0].inputs
        return self._process([p.source for p in pictures])[0] if pictures else {}

    # ---- text

    def _content(self, message: Message, pictures: list[Picture]) -> Any:
        """A message in the form that the template reads; its images are added to ``pictures``."""
        if self.processor is None:
            return self._plain(message.as_text())
        found = [self._part(c, pictures) for c in message.content]
        return found or [{"type": "text", "text": ""}]

    def _part(self, content: Content, pictures: list[Picture]) -> dict[str, str]:
        if isinstance(content, str):
            return {"type": "text", "text": self._plain(content)}
        data = _read(content.path)
        if data is None:
            return {"type": "text", "text": self._plain(content.as_text())}
        pictures.append(self._picture(data, content.caption))
        return {"type": "image"}

    def _render(self, messages: list[dict[str, Any]]) -> str:
        if not self.template:
            raise BackendError(
                f"{self.name} has no chat template, so it is no chat model. Choose its instruct version."
            )
        return self.template.render(messages)

    def _ids(self, text: str) -> list[int]:
        """Tokens of a template's text. As in transformers, templates of text models write all special tokens themselves."""
        bos = self.tokenizer.bos_token
        lacks = self.processor is not None and not (bos and text.startswith(bos))
        return list(self.tokenizer(text, add_special_tokens=lacks)["input_ids"])

    @cached_property
    def template(self) -> Template | None:
        """The chat template, with what nobody may write: the special tokens, and other tokens that it uses."""
        source = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        if isinstance(source, dict):  # several by name
            source = source.get("default")
        if not source:
            return None
        added = self.tokenizer.added_tokens_decoder.values()
        marks = {t.content for t in added if t.special or (t.content in source and not t.content.isspace())}
        if self.processor is not None:
            marks.add(self.processor.image_token)
        bos, eos = (token or "" for token in (self.tokenizer.bos_token, self.tokenizer.eos_token))
        return Template(self.name, source, bos, eos, sorted(marks))

    def _plain(self, text: str) -> str:
        """The text with no special token left in it."""
        return self.template.plain(text) if self.template else text

    # ---- images

    def _with_images(self, ids: list[int], pictures: list[Picture]) -> Prompt:
        """Say which tokens belong to which image: each has its count of them, in order."""
        places = [i for i, token in enumerate(ids) if token in self.image_ids]
        if len(places) != sum(p.count for p in pictures):
            raise BackendError(f"{self.name} reads its images' placeholders as other tokens. Choose another model.")
        keys: list[Hashable] = list(ids)
        spans, at = [], 0
        for picture in pictures:
            mine = places[at : at + picture.count]
            at += picture.count
            spans.append((mine[0], mine[-1] + 1))
            for place in mine:
                keys[place] = picture.sha256
        return Prompt(ids, keys, pictures, spans)

    def _picture(self, data: bytes, caption: str) -> Picture:
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._seen:
            source = self._open(data, caption)
            inputs, text = self._process([source])
            count = sum(
                token in self.image_ids for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]
            )
            if not count:
                raise BackendError(f"{self.name} has no tokens for an image. Choose another model.")
            self._seen[sha256] = Picture(sha256, source, text, count, inputs)
            if len(self._seen) > PICTURES_KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(sha256)
        return self._seen[sha256]

    def _open(self, data: bytes, caption: str) -> Any:
        import io

        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            opened = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        except UnidentifiedImageError as error:
            raise BackendError(
                f"The image {caption!r} is none that Pillow reads. Take it out of the dialogue."
            ) from error
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise BackendError(
                f"The image {caption!r} cannot be read: {error}. Take it out of the dialogue."
            ) from error
        ratio = (self.max_pixels / (opened.width * opened.height)) ** 0.5
        if ratio < 1:
            opened = opened.resize((max(int(opened.width * ratio), 1), max(int(opened.height * ratio), 1)))
        return opened

    def _process(self, sources: list[Any]) -> tuple[dict[str, Any], str]:
        """(tensors of the processor, the text of the first image) for some images."""
        mark = self.processor.image_token
        try:
            made = self.processor(
                text=[mark * len(sources)], images=sources, return_tensors="pt", return_text_replacement_offsets=True
            )
        except (NotImplementedError, TypeError, ValueError, KeyError, ZeroDivisionError) as error:
            raise BackendError(
                f"The processor of {self.name} refuses an image: {error}. Choose another model."
            ) from error
        text = made["text_replacement_offsets"][0][0]["replacement"]
        return {k: v for k, v in made.items() if k not in TEXT_KEYS}, text


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError:  # deleted since: the caption goes instead, as for an image that never had a file
        return None
