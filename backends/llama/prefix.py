"""What the model has read: the sequence in the context, others set aside, and how much of a prompt they save reading.

Owns sequence 0 of the context and a bounded store of sequence states. Never samples and never sees text.

Equal replies need equal rounding, and llama.cpp rounds otherwise when the same tokens are read in other portions. So a
prompt has portions that depend on nothing but its content, and what was read in such portions can be told from the rest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from backends.base import BackendError
from backends.llama.loading import Loaded, complaint

PORTION = 64  # tokens; the last portion of a prompt is always read, for its logits


@dataclass(frozen=True)
class Portion:
    """Tokens, or an image, that are read at once. ``keys`` tell equal ones; ``positions`` is how many they take."""

    keys: tuple[Hashable, ...]
    positions: int
    read_image: Callable[[int], int] | None = None  # from a position on; returns 0 when it went well


@dataclass(frozen=True)
class Prompt:
    """Portions in order. ``keys``: of all of them; ``bounds``: where one ends; ``at``: each key's position, then the end."""

    portions: tuple[Portion, ...]
    keys: list[Hashable] = field(init=False)
    bounds: list[int] = field(init=False)
    at: list[int] = field(init=False)

    def __post_init__(self) -> None:
        keys: list[Hashable] = []
        bounds, at, next_at = [], [], 0
        for portion in self.portions:
            keys += portion.keys
            bounds.append(len(keys))
            # an image's tokens share positions in some models; only where it begins and ends matters
            at += [next_at + min(i, portion.positions - 1) for i in range(len(portion.keys))]
            next_at += portion.positions
        for name, value in (("keys", keys), ("bounds", bounds), ("at", [*at, next_at])):
            object.__setattr__(self, name, value)


def portions(tokens: Sequence[int]) -> list[Portion]:
    """A run of text in portions."""
    return [
        Portion(tuple(tokens[i : i + PORTION]), len(tokens[i : i + PORTION])) for i in range(0, len(tokens), PORTION)
    ]


@dataclass(eq=False)
class Held:
    """What a sequence holds. ``bounds``: ends of the portions that were read as a cold prompt is; ``prompt``: keys that were read."""

    keys: list[Hashable] = field(default_factory=list)
    at: list[int] = field(default_factory=lambda: [0])
    bounds: set[int] = field(default_factory=set)
    prompt: int = 0
    state: Any = None  # a copy of the sequence, for one that was set aside

    def shared(self, prompt: Prompt, exact: bool) -> int:
        """How many keys of the prompt need not be read. ``exact``: so that nothing differs from a cold run."""
        same = common(self.keys, prompt.keys)
        if exact:
            return max((b for b in prompt.bounds[:-1] if b <= same and b in self.bounds), default=0)
        return min(same, len(prompt.keys) - 1)

    def cut(self, length: int) -> None:
        """Forget all keys from ``length`` on."""
        del self.keys[length:], self.at[length + 1 :]
        self.bounds = {b for b in self.bounds if b <= length}
        self.prompt = min(self.prompt, length)


def common(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The length of the longest common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


class Prefixes:
    """Sequence 0 of a context, and states of other dialogues within ``budget`` bytes, the longest unused given up first."""

    def __init__(self, loaded: Loaded, budget: int) -> None:
        self.loaded, self.budget = loaded, budget
        self.live = Held()
        self.aside: list[Held] = []  # the last used at the end

    @property
    def memory_bytes(self) -> int:
        """What the states take that were set aside."""
        return sum(len(h.state) for h in self.aside)

    def take_up(self, prompt: Prompt, exact: bool) -> int:
        """Bring as much of the prompt as is held into sequence 0, and nothing else; returns how many keys that is."""
        best = max([self.live, *self.aside], key=lambda h: h.shared(prompt, exact))
        keep = best.shared(prompt, exact)
        if best is not self.live:  # used last, so given up last
            self.aside.remove(best)
            self.aside.append(best)
        if self.live.prompt - common(self.live.keys, prompt.keys) >= PORTION:
            self._set_aside()
        if best is not self.live:
            keep = keep if self._restore(best) else 0
        if keep and not self._remove_from(keep):
            keep = 0
        if not keep:
            self.clear()
        self.live.cut(keep)
        return keep

    def read(self, prompt: Prompt, start: int) -> bool:
        """Read the prompt from key ``start`` on, the logits of its end last. False when it was given up on the way."""
        exact = start == 0 or (start in self.live.bounds and start in prompt.bounds)
        end = 0
        for portion in prompt.portions:
            begin, end = end, end + len(portion.keys)
            if end <= start:
                continue
            first = max(begin, start)
            if portion.read_image:
                code = portion.read_image(prompt.at[begin])
            else:
                code = self._decode(portion.keys[first - begin :], prompt.at[first], end == len(prompt.keys))
            if code:
                self._remove_from(first)
                if code != 2:  # 2: we asked for it
                    raise BackendError(f"llama.cpp could not read the dialogue{complaint()}. Retry, or shorten it.")
                return False
            self.live.keys += prompt.keys[first:end]
            self.live.at[first:] = prompt.at[first : end + 1]
            self.live.prompt = end
            if exact:
                self.live.bounds.add(end)
        return True

    def wrote(self, token: int) -> None:
        """The reply's ``token`` has been added to sequence 0."""
        self.live.keys.append(token)
        self.live.at.append(self.live.at[-1] + 1)

    def back(self) -> None:
        """Take away whatever an interrupted step has left behind, and every other sequence."""
        lib, memory = self.loaded.lib, self.loaded.memory
        lib.llama_memory_seq_keep(memory, 0)
        self._remove_from(len(self.live.keys))

    def clear(self) -> None:
        """Empty the context; what was set aside stays."""
        self.loaded.lib.llama_memory_clear(self.loaded.memory, False)
        self.live = Held()

    # ---- inside

    def _decode(self, tokens: Sequence[Any], position: int, last: bool) -> int:
        lib, count = self.loaded.lib, len(tokens)
        batch = lib.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position + i, 1, 0
                batch.logits[i] = last and i == count - 1
            return int(lib.llama_decode(self.loaded.context, batch))
        finally:
            lib.llama_batch_free(batch)

    def _remove_from(self, length: int) -> bool:
        """Take keys from ``length`` on out of the context. A recurrent model cannot: then all are taken, and False."""
        position = self.live.at[length] if length < len(self.live.at) else self.live.at[-1]
        if self.loaded.lib.llama_memory_seq_rm(self.loaded.memory, 0, position, -1):
            return True
        self.clear()
        return False

    def _set_aside(self) -> None:
        lib, context = self.loaded.lib, self.loaded.context
        read = self.live.keys[: self.live.prompt]
        if any(h.keys[: len(read)] == read for h in self.aside):
            return
        size = lib.llama_state_seq_get_size(context, 0)
        if size > self.budget:
            return
        self.aside = [h for h in self.aside if self.live.keys[: len(h.keys)] != h.keys]
        while self.aside and self.memory_bytes + size > self.budget:
            del self.aside[0]
        state = (ctypes.c_uint8 * size)()
        if lib.llama_state_seq_get_data(context, state, size, 0) == size:
            live = self.live
            self.aside.append(Held(list(live.keys), list(live.at), set(live.bounds), live.prompt, state))

    def _restore(self, held: Held) -> bool:
        self.clear()
        size = len(held.state)
        if self.loaded.lib.llama_state_seq_set_data(self.loaded.context, held.state, size, 0) != size:
            self.clear()
            return False
        self.live = Held(list(held.keys), list(held.at), set(held.bounds), held.prompt)
        return True
