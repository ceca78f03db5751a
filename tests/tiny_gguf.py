"""A tiny GGUF and its mmproj with random weights, a few hundred kB, written as llama.cpp's converters write real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDTH, FF, HEADS, LAYERS = 64, 128, 4, 2
IMAGE, PATCH = 28, 7  # pixels a side: 16 patches, each a token
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def text_model(path: Path, template: str | None = TEMPLATE, context: int = 512, pairs: bool = False) -> Path:
    """A Llama of two layers whose tokens are bytes; with ``pairs`` also pairs of them, and the weights in eight bits, as
    SmolLM2's file has both."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(0)
    out = gguf.GGUFWriter(path, "llama")
    words = _pairs(out) if pairs else _bytes(out)
    out.add_context_length(context)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(FF)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS // 2)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(len(words))
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_add_space_prefix(False)
    if template is not None:
        out.add_chat_template(template)
    shapes = {"token_embd": (len(words), WIDTH), "output": (len(words), WIDTH)}
    for i in range(LAYERS):
        for name, shape in (("attn_q", (WIDTH, WIDTH)), ("attn_k", (WIDTH // 2, WIDTH)), ("attn_v", (WIDTH // 2, WIDTH)),
                            ("attn_output", (WIDTH, WIDTH)), ("ffn_gate", (FF, WIDTH)), ("ffn_up", (FF, WIDTH)), ("ffn_down", (WIDTH, FF))):  # fmt: skip
            shapes[f"blk.{i}.{name}"] = shape
        for name in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"blk.{i}.{name}.weight", np.ones(WIDTH, np.float32))
    out.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for name, shape in shapes.items():
        weights = rng.normal(0, 0.3, shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if pairs else gguf.GGMLQuantizationType.F32
        out.add_tensor(f"{name}.weight", gguf.quantize(weights, kind), raw_dtype=kind)
    return _written(out, path)


def _bytes(out: Any) -> list[str]:
    import gguf

    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁"]
    out.add_tokenizer_model("llama")
    out.add_token_list(words)
    out.add_token_scores([0.0] * len(words))
    out.add_token_types(
        [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256, gguf.TokenType.NORMAL]
    )
    return words


def _pairs(out: Any) -> list[str]:
    """A byte-level BPE: a character for each byte, as GPT-2 has them, and a few merges."""
    import gguf

    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    characters = [chr(b) for b in plain] + [chr(256 + i) for i in range(len(others))]
    merges = ["Ġ t", "h e", "Ġt he", "i n"]
    words = ["<unk>", "<s>", "</s>", *characters, *(m.replace(" ", "") for m in merges)]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(words)
    out.add_token_merges(merges)
    out.add_token_types([*[gguf.TokenType.CONTROL] * 3, *[gguf.TokenType.NORMAL] * (len(words) - 3)])
    return words


def projector(path: Path, width: int = WIDTH) -> Path:
    """A CLIP vision tower of two layers, of which LLaVA uses one, and LLaVA's projector into ``width``."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(1)
    out = gguf.GGUFWriter(path, "clip")
    out.add_clip_has_vision_encoder(True)
    out.add_clip_projector_type("mlp")
    out.add_vision_image_size(IMAGE)
    out.add_vision_patch_size(PATCH)
    out.add_vision_embedding_length(WIDTH)
    out.add_vision_feed_forward_length(FF)
    out.add_vision_block_count(2)
    out.add_vision_head_count(HEADS)
    out.add_vision_projection_dim(width)
    out.add_vision_attention_layernorm_eps(1e-5)
    out.add_vision_image_mean([0.5, 0.5, 0.5])
    out.add_vision_image_std([0.5, 0.5, 0.5])
    out.add_vision_use_gelu(True)

    def add(name: str, *shape: int) -> None:
        out.add_tensor(name, rng.normal(0, 0.3, shape).astype(np.float32))

    patches = (IMAGE // PATCH) ** 2
    add("v.class_embd", WIDTH)
    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    add("v.position_embd.weight", patches + 1, WIDTH)
    for i in range(2):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add(f"v.blk.{i}.{name}.weight", WIDTH, WIDTH)
            add(f"v.blk.{i}.{name}.bias", WIDTH)
        for name, shape in (("ffn_up", (FF, WIDTH)), ("ffn_down", (WIDTH, FF))):
            add(f"v.blk.{i}.{name}.weight", *shape)
            add(f"v.blk.{i}.{name}.bias", shape[0])
        for name in ("ln1", "ln2"):
            out.add_tensor(f"v.blk.{i}.{name}.weight", np.ones(WIDTH, np.float32))
            out.add_tensor(f"v.blk.{i}.{name}.bias", np.zeros(WIDTH, np.float32))
    for i, shape in ((0, (width, WIDTH)), (2, (width, width))):
        add(f"mm.{i}.weight", *shape)
        add(f"mm.{i}.bias", width)
    return _written(out, path)


def _written(out: Any, path: Path) -> Path:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path
