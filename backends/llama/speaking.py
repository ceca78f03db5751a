"""From a dialogue to replies with one loaded GGUF: prompt, reading, and one batch a token for all candidates.

Owns the decode loop. Never waits for a turn and never loads twice: that is the package's own module.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backends.base import BackendError, Content, Delta, Message, Options
from backends.llama.loading import CANDIDATES, COMPLAINTS, Loaded, complaint
from backends.llama.prefix import Prefixes, Prompt, portions
from backends.llama.sampling import Candidate, Sampler
from backends.llama.template import Template
from backends.llama.vision import Vision

Pieces = Iterator[tuple[int, Delta]]


class Speaker:
    """A loaded model that answers one question at a time."""

    def __init__(
        self, path: Path, mmproj: Path | None, n_ctx: int | None, n_threads: int | None, gpu_layers: int | None, cache_bytes: int
    ) -> None:  # fmt: skip
        """Load model, projector and template. Raises BackendError, with nothing left in memory."""
        self.loaded = Loaded(path, n_ctx, n_threads, gpu_layers)
        self.vision: Vision | None = None
        self._batch: Any = None
        try:
            self.template = self._template()
            if mmproj:
                self.vision = Vision(mmproj, self.loaded)
        except BackendError:
            self.free()
            raise
        self.prefixes = Prefixes(self.loaded, cache_bytes)
        self._batch = self.loaded.lib.llama_batch_init(CANDIDATES, 0, 1)

    def free(self) -> None:
        """Give all memory back."""
        if self._batch:
            self.loaded.lib.llama_batch_free(self._batch)
        if self.vision:
            self.vision.free()
        self.loaded.free()

    @property
    def memory_bytes(self) -> int:
        """Weights, context and prefixes set aside."""
        return self.loaded.memory_bytes + self.prefixes.memory_bytes

    def answer(self, messages: Sequence[Message], options: Options, stops: list[threading.Event]) -> Pieces:
        """Yield the pieces of one candidate a stop event. Raises BackendError for what cannot be answered."""
        COMPLAINTS.clear()
        prompt = self._prompt(messages)
        length = len(prompt.keys)
        limit = max(min(options.max_tokens, self.loaded.room - length), 0)
        seed = random.randrange(2**31) if options.seed is None else options.seed
        recent = [k for k in prompt.keys if isinstance(k, int)]
        candidates: list[Candidate] = []
        try:
            for i, stop in enumerate(stops):
                sampler = Sampler(self.loaded, options, seed + i, recent)
                candidates.append(Candidate(self.loaded, i, options, limit, stop, sampler))
            exact = options.seed is not None or options.temperature <= 0
            if limit and self.prefixes.read(prompt, self.prefixes.take_up(prompt, exact)):
                yield from self._write(candidates, length)
            else:  # nothing was asked for, or it was stopped while it read
                yield from ((c.number, c.last(length)) for c in candidates)
        finally:
            for candidate in candidates:
                candidate.sampler.free()

    # ---- the prompt

    def _template(self) -> Template:
        loaded, lib = self.loaded, self.loaded.lib
        source = loaded.meta("tokenizer.chat_template")
        if not source:
            raise BackendError(
                f"llama.cpp cannot load {loaded.path} as a chat model: it has no chat template. Choose its instruct version."
            )
        bos, eos = loaded.word(lib.llama_vocab_bos(loaded.vocab)), loaded.word(lib.llama_vocab_eos(loaded.vocab))
        return Template(loaded.path.name, source, bos, eos, loaded.special())

    def _prompt(self, messages: Sequence[Message]) -> Prompt:
        """The portions of a dialogue. Raises BackendError when it leaves no room for a reply."""
        images: list[Any] = []
        sent = [{"role": m.role, "content": "\n".join(self._content(c, images) for c in m.content)} for m in messages]
        text = self.template.render(sent)
        # the beginning-of-text token is not written twice
        begin = not (self.template.bos and text.startswith(self.template.bos))
        vision = self.vision if images else None
        made = vision.portions(text, images, begin) if vision else portions(self.loaded.tokens(text, begin))
        prompt = Prompt(tuple(made))
        count, room, name = len(prompt.keys), self.loaded.room, self.loaded.path.name
        if count >= room:
            raise BackendError(
                f"The dialogue has {count} tokens; the context of {name} holds {room}, its reply "
                "included. Branch from an earlier turn, shorten the question, or raise n_ctx for this model."
            )
        if not count:
            raise BackendError(f"The chat template of {name} makes nothing of this dialogue. Choose another model.")
        return prompt

    def _content(self, content: Content, images: list[Any]) -> str:
        if isinstance(content, str):
            return self.template.plain(content)
        pixels = self.vision.read(content) if self.vision else None
        if pixels is None or self.vision is None:
            return self.template.plain(content.as_text())
        images.append(pixels)
        return self.vision.marker

    # ---- the replies

    def _write(self, candidates: list[Candidate], length: int) -> Pieces:
        """Draw and decode until every candidate is over; ``length``: keys of the prompt that sequence 0 holds."""
        alone = len(candidates) == 1
        for candidate in candidates:  # all first tokens are drawn before any is decoded
            if not candidate.over and (text := candidate.draw(-1)):
                yield candidate.number, Delta(text)
        waiting, active = deque(candidates), list[Candidate]()
        free = [0] if alone else list(range(CANDIDATES, 0, -1))
        position, lib, memory = self.prefixes.live.at[-1], self.loaded.lib, self.loaded.memory
        try:
            while True:
                for ended in [c for c in (*active, *waiting) if c.over]:
                    if ended in active:
                        active.remove(ended)
                        free.append(ended.sequence)
                        if not alone:
                            lib.llama_memory_seq_rm(memory, ended.sequence, -1, -1)
                    else:
                        waiting.remove(ended)
                    yield ended.number, ended.last(length)
                while waiting and free and self._fits(length, active, waiting[0]):
                    active.append(waiting.popleft())
                    active[-1].sequence = free.pop()
                    if not alone:
                        lib.llama_memory_seq_cp(memory, 0, active[-1].sequence, -1, -1)
                if not active:
                    return
                if not self._step(active, position):
                    continue  # nobody waits any more
                for row, candidate in enumerate(active):
                    if text := candidate.draw(row):
                        yield candidate.number, Delta(text)
        finally:
            self.prefixes.back()

    def _fits(self, length: int, active: list[Candidate], more: Candidate) -> bool:
        """Whether the context has cells left for all that these may write."""
        return length + sum(c.limit for c in (*active, more)) <= self.loaded.cells

    def _step(self, active: list[Candidate], position: int) -> bool:
        """Decode one token of each. False when llama.cpp was made to give up."""
        batch = self._batch
        batch.n_tokens = len(active)
        for i, c in enumerate(active):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = c.token, position + c.count - 1, 1
            batch.seq_id[i][0], batch.logits[i] = c.sequence, 1
        code = self.loaded.lib.llama_decode(self.loaded.context, batch)
        if code == 0:
            if active[0].sequence == 0:
                self.prefixes.wrote(active[0].token)
            return True
        if all(c.stop.is_set() for c in active):
            return False
        raise BackendError(f"llama.cpp could not go on (code {code}){complaint()}. Retry, or shorten the dialogue.")
