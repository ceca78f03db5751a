"""Eight candidates of one prompt from a model of transformers in one batch, against one after the other.

The peers, on the same network with the same weights: eight calls of transformers' own ``generate``, and this backend asked
eight times for one reply, which reads the prompt once and takes it from its store seven times.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.perf import Peak, Row, compare
from tests.perf.makings import need

N, TOKENS, RUNS = 8, 32, 3
PROMPT = "A word of the prompt. " * 45  # 1,000 tokens of one letter
# 36 million weights, as wide as a SmolLM2-135M: the network, not Python, takes the time
SHAPE = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=10, num_attention_heads=9, num_key_value_heads=3, head_dim=64,
             max_position_embeddings=4096)  # fmt: skip


def measure() -> list[Row]:
    """Rows for the whole of eight candidates against both peers, and for the moment when all eight have begun."""
    need("torch", "transformers", how="pip install 'intermt-studio[transformers]'")
    import torch

    from backends.hf import create

    with tempfile.TemporaryDirectory() as folder:
        model: Any = create(str(_network(Path(folder))), device="cpu")
        _ours(model, N, 1)  # loads it
        model._decoder.loaded.ends = frozenset()  # random weights end anywhere: all replies shall be as long
        times: dict[str, list[tuple[float, float]]] = {"together": [], "one by one": [], "generate": []}
        memory = {}
        for run in range(RUNS):
            for side in list(times) if run % 2 else list(reversed(times)):
                model._decoder.store._blocks.clear()
                model._decoder.store.bytes = 0
                with Peak() as peak, torch.inference_mode():
                    times[side].append(_side(model, side))
                memory[side] = peak.mb
        model.unload()
    first, whole = ({side: [t[i] for t in found] for side, found in times.items()} for i in (0, 1))
    used = " / ".join(f"+{memory[side]:.0f}" for side in ("together", "generate", "one by one"))
    said = f"{{ours:.1f}} / {{peer:.1f}} s for {N} x {TOKENS} tokens; {used} MB (together, generate, one by one)"
    return [
        compare("transformers, eight candidates: generate called eight times / together", whole["generate"], whole["together"], ">= 1.4", said),
        compare("transformers, eight candidates: eight replies of ours / together", whole["one by one"], whole["together"], ">= 1", said),
        compare("transformers, first token of all eight: generate / together", first["generate"], first["together"], ">= 4", said),
    ]  # fmt: skip


def _side(model: Any, side: str) -> tuple[float, float]:
    """(seconds until all eight have begun, seconds until all are over)."""
    if side == "together":
        return _ours(model, N, TOKENS)
    start = time.perf_counter()
    began = 0.0
    for _ in range(N):
        begun = time.perf_counter() - start
        first, whole = _generate(model) if side == "generate" else _ours(model, 1, TOKENS)
        began = begun + first
    return began, time.perf_counter() - start


def _ours(model: Any, n: int, tokens: int) -> tuple[float, float]:
    from backends import Message, Options

    options, started = Options(max_tokens=tokens, temperature=1.0, seed=1), set()
    start, began = time.perf_counter(), 0.0
    for i, delta in model.sample([Message("user", (PROMPT,))], options, n, [threading.Event() for _ in range(n)]):
        if delta.phase is None and i not in started:
            started.add(i)
            began = time.perf_counter() - start
    return began, time.perf_counter() - start


def _generate(model: Any) -> tuple[float, float]:
    """One call of transformers' own loop; the first token as its streamer is given it."""
    import torch
    from transformers.generation.streamers import BaseStreamer

    from backends import Message

    start, began = time.perf_counter(), []

    class Watch(BaseStreamer):
        def put(self, value: Any) -> None:
            began.append(time.perf_counter() - start)

        def end(self) -> None:
            pass

    ids = torch.tensor([model._writer.prompt([Message("user", (PROMPT,))]).ids])
    model._decoder.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, min_new_tokens=TOKENS,
                                  max_new_tokens=TOKENS, streamer=Watch(), pad_token_id=0)  # fmt: skip
    return began[1], time.perf_counter() - start  # the streamer is given the prompt first


def _network(folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests import tiny

    tok = tiny.tokenizer(folder, [], "")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tok), **SHAPE)).save_pretrained(folder)
    return folder
