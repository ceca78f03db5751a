"""Runs a model: reads a prompt in portions whose keys and values are kept, then writes n candidates in one batch.

Portions are cut by what is in them, and one that was read before is taken from the store as it was computed: a reply
after a reused prefix is the same, bit for bit, as one after a cold start. Never knows where a model came from.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backends.base import Delta, Options
from backends.hf.hub import Stopped
from backends.hf.loading import Loaded
from backends.hf.prompt import Prompt, Writer
from backends.hf.text import Pieces

PORTION = 256  # tokens read at once: also how much of a prompt may be read again for nothing

Block = list[tuple[Any, Any]]  # keys and values (1, heads, tokens, head size) of each layer


class PrefixStore:
    """Keys and values of portions of prompts, by everything up to their end; the least recently used go first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()

    def get(self, key: bytes) -> Block | None:
        """A portion, if it is kept."""
        if key in self._blocks:
            self._blocks.move_to_end(key)
        return self._blocks.get(key)

    def put(self, key: bytes, block: Block) -> None:
        """Keep a portion, if it is not larger than the whole store."""
        size = _size(block)
        if key in self._blocks or size > self.max_bytes:
            return
        self._blocks[key] = block
        self.bytes += size
        while self.bytes > self.max_bytes:
            self.bytes -= _size(self._blocks.popitem(last=False)[1])


@dataclass
class Row:
    """One candidate while it grows."""

    index: int
    random: Any  # its own torch.Generator
    pieces: Pieces
    tokens: list[int]
    over: bool = False


class Decoder:
    """One loaded model and the prefixes it has read. One caller at a time."""

    def __init__(self, loaded: Loaded, cache_bytes: int) -> None:
        self.loaded, self.model = loaded, loaded.model
        self._simple = _keeps_all(self.model.config)
        self.store = PrefixStore(cache_bytes) if self._simple and cache_bytes else None
        self.reused = 0  # tokens of the last prompt that were not read again
        self._halt: Callable[[], bool] = lambda: False
        self._takes = set(inspect.signature(self.model.forward).parameters)
        self._watch_layers()

    def candidates(
        self,
        prompt: Prompt,
        writer: Writer,
        options: Options,
        stops: Sequence[threading.Event],
        halt: Callable[[], bool],
    ) -> Iterator[tuple[int, Delta]]:
        """Yield the pieces of ``len(stops)`` candidates, each with its number; the last piece of each has its counts.

        Candidate i draws with seed + i. ``halt``: whether to end all at once, asked before every layer.

        Raises:
            Stopped: ``halt`` said so, or all candidates were stopped, while the prompt was read.
        """
        n_prompt, room = len(prompt.ids), options.max_tokens
        if self.loaded.context_length:
            room = min(room, self.loaded.context_length - n_prompt)
        rows = [self._row(i, options) for i in range(len(stops))]
        self._halt = lambda: halt() or all(stop.is_set() for stop in stops)
        logits, cache, place = self._read(prompt, writer)
        self._halt = halt
        if len(rows) > 1:
            cache.batch_repeat_interleave(len(rows))
            logits = logits.expand(len(rows), -1)
        warp, penalty = _warp(options), options.repetition_penalty
        text = [i for i, key in zip(prompt.ids, prompt.keys, strict=True) if key == i]  # no placeholders of images
        while rows:
            seen = None if penalty == 1 else self._tensor([text + row.tokens for row in rows])
            chosen = self._choose(warp(seen, logits), rows, options)
            for row, token in zip(rows, chosen, strict=True):
                yield from self._grow(row, token, room, stops[row.index], n_prompt)
            going = [i for i, row in enumerate(rows) if not row.over]
            if 0 < len(going) < len(rows):
                cache.batch_select_indices(self._tensor(going))
            rows = [rows[i] for i in going]
            if rows:
                at = n_prompt + len(rows[0].tokens) - 1
                last = self._tensor([[row.tokens[-1]] for row in rows])
                logits = self._forward(last, cache, position_ids=place(at, at + 1, len(rows)))

    def _row(self, index: int, options: Options) -> Row:
        import torch

        chosen = options.candidate(index).seed
        seed = random.randrange(2**31) if chosen is None else chosen
        # on the processor, so that a seed draws alike wherever the model is; nobody else's random numbers are touched
        drawn = torch.Generator().manual_seed(seed % 2**63)
        return Row(index, drawn, Pieces(self.loaded.tokenizer, options.stop_strings), [])

    def _grow(
        self, row: Row, token: int, room: int, stop: threading.Event, n_prompt: int
    ) -> Iterator[tuple[int, Delta]]:
        """Add a token to a candidate and yield what it shows; its counts too when it is over."""
        finish = "stop" if token in self.loaded.ends else None
        if finish is None and room > 0 and not stop.is_set():
            row.tokens.append(token)
            if text := row.pieces.push(token):
                yield row.index, Delta(text)
            finish = "stop" if row.pieces.stopped else None
        if finish is None and len(row.tokens) >= room:
            finish = "length"
        row.over = finish is not None or stop.is_set()
        if row.over:
            yield row.index, Delta(row.pieces.end(), finish, n_prompt, len(row.tokens))

    def _choose(self, scores: Any, rows: list[Row], options: Options) -> list[int]:
        """One token for each candidate from its scores (n, vocabulary): the likeliest, or one that it draws."""
        import torch

        if options.temperature <= 0:
            return list(scores.argmax(-1).tolist())
        odds = torch.softmax(scores, -1).cpu()
        return [int(torch.multinomial(o, 1, generator=r.random)) for o, r in zip(odds, rows, strict=True)]

    # ---- the model

    def _read(self, prompt: Prompt, writer: Writer) -> tuple[Any, Any, Any]:
        """(logits (1, vocabulary) after the prompt, its cache, what gives the positions of later tokens)."""
        cache, blocks = self._new_cache(), prompt.blocks(PORTION)
        keys: list[bytes] = []
        for start, end in blocks:
            keys.append(_chained(keys[-1] if keys else b"", prompt.keys[start:end]))
        known = [] if self.store is None else self._known(keys[:-1])
        for layer, pairs in enumerate(zip(*known, strict=True)):
            cache.update(_joined([k for k, _ in pairs]), _joined([v for _, v in pairs]), layer)
        self.reused = blocks[len(known)][0]
        ids = self._tensor([prompt.ids])
        types = self._tensor([[int(isinstance(key, str)) for key in prompt.keys]])  # 1 where an image's features go
        place = self._places(ids, types, prompt)
        logits = None
        for (start, end), key in list(zip(blocks, keys, strict=True))[len(known) :]:
            more = self._placed(writer.pixels(prompt.within(start, end)))
            if prompt.pictures:
                # from the beginning: masks in which an image's tokens see one another count from there
                more |= {k: types[:, :end] for k in ("token_type_ids", "mm_token_type_ids") if k in self._takes}
            logits = self._forward(ids[:, start:end], cache, position_ids=place(start, end, 1), **more)
            if self.store is not None and end < len(prompt.ids):
                self.store.put(
                    key, [(k[..., start:end, :].clone(), v[..., start:end, :].clone()) for k, v, *_ in cache]
                )
        return logits, cache, place

    def _known(self, keys: list[bytes]) -> list[Block]:
        """The first portions that were read before."""
        assert self.store is not None
        return list(itertools.takewhile(lambda b: b is not None, map(self.store.get, keys)))  # type: ignore[arg-type]

    def _forward(self, ids: Any, cache: Any, **more: Any) -> Any:
        """Logits (n, vocabulary), fp32, after the last of the tokens (n, t); their keys and values go into the cache."""
        import torch

        if "logits_to_keep" in self._takes:
            more["logits_to_keep"] = 1
        with torch.inference_mode():
            given = {k: v for k, v in more.items() if v is not None}
            return self.model(input_ids=ids, past_key_values=cache, use_cache=True, **given).logits[:, -1].float()

    def _places(self, ids: Any, types: Any, prompt: Prompt) -> Callable[[int, int, int], Any]:
        """What gives position ids (3, n, t) from a start to an end where the model has M-RoPE, None elsewhere.

        Left to itself the model would take the positions of the images in a portion for those of the whole.
        """
        import torch

        rope = getattr(getattr(self.model, "model", None), "get_rope_index", None)
        if rope is None:
            return lambda start, end, n: None
        grids = [p.inputs["image_grid_thw"] for p in prompt.pictures]
        whole, _ = rope(ids, mm_token_type_ids=types, image_grid_thw=torch.cat(grids).to(ids.device) if grids else None)
        ahead = int(whole.max()) + 1 - ids.shape[1]  # of a later token's position against its number

        def place(start: int, end: int, n: int) -> Any:
            if end <= whole.shape[2]:
                return whole[:, :, start:end]
            later = torch.arange(start + ahead, end + ahead, device=ids.device)
            return later.expand(3, n, -1)

        return place

    def _new_cache(self) -> Any:
        """A cache that keeps every token of every layer, where the model's layers allow that: it can be cut and joined."""
        import transformers

        return transformers.DynamicCache() if self._simple else transformers.DynamicCache(config=self.model.config)

    def _placed(self, pixels: dict[str, Any]) -> dict[str, Any]:
        """Pixels where the model is, in its precision; grids and masks as they are."""
        model = self.model
        return {
            k: v.to(model.device, model.dtype if v.is_floating_point() else None)
            for k, v in pixels.items()
            if k in self._takes
        }

    def _tensor(self, numbers: Any) -> Any:
        import torch

        return torch.tensor(numbers, device=self.model.device)

    def _watch_layers(self) -> None:
        """Let every layer ask first whether to go on: on a processor a long prompt takes minutes."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        def ask(*_: Any) -> None:
            if self._halt():
                raise Stopped

        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.register_forward_pre_hook(ask)


def _keeps_all(config: Any) -> bool:
    """Whether all layers attend to keys and values that a plain cache holds: no recurrent states, none shared."""
    text = config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return kinds <= {"full_attention", "sliding_attention"} and not getattr(text, "num_kv_shared_layers", 0)


def _warp(options: Options) -> Any:
    """What changes the scores before one is drawn, in the order of transformers' own ``generate``."""
    import transformers as t

    found = t.LogitsProcessorList()
    if options.repetition_penalty != 1:
        found.append(t.RepetitionPenaltyLogitsProcessor(float(options.repetition_penalty)))
    if options.temperature > 0:
        found.append(t.TemperatureLogitsWarper(float(options.temperature)))
        if options.top_k:
            found.append(t.TopKLogitsWarper(options.top_k))
        if options.top_p < 1:
            found.append(t.TopPLogitsWarper(float(options.top_p)))
        if options.min_p:
            found.append(t.MinPLogitsWarper(options.min_p))
    return found


def _chained(before: bytes, keys: Sequence[Hashable]) -> bytes:
    return hashlib.sha256(before + repr(keys).encode()).digest()


def _joined(parts: list[Any]) -> Any:
    import torch

    return torch.cat(parts, dim=-2)


def _size(block: Block) -> int:
    return sum(t.numel() * t.element_size() for pair in block for t in pair)
