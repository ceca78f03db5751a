"""Tiny models with random weights that answer: those of ``tests.tiny`` with a language head, and more families that see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import tiny

TEXT = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=8,
            max_position_embeddings=4096)  # fmt: skip
SIGHT = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
)


def llama(folder: Path) -> Path:
    """A Llama that answers."""
    return _speaking(tiny.llama(_made(folder)))


def qwen(folder: Path) -> Path:
    """A Qwen2.5-VL that answers."""
    return _speaking(tiny.qwen(_made(folder)))


def smolvlm(folder: Path) -> Path:
    """A SmolVLM that answers."""
    tiny.smolvlm(_made(folder))
    _write(folder / "processor_config.json", {"processor_class": "SmolVLMProcessor", "image_seq_len": 4})
    return _speaking(folder)


def qwen3(folder: Path) -> Path:
    """A Qwen3-VL: M-RoPE in turns, features of the vision tower in several layers."""
    from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig

    tok = tiny.tokenizer(
        _made(folder), ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], tiny.QWEN_IMAGE
    )
    ids = {f"{k}_token_id": tok.convert_tokens_to_ids(f"<|{v}|>") for k, v in (("image", "image_pad"), ("video", "video_pad"),
           ("vision_start", "vision_start"), ("vision_end", "vision_end"))}  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=dict(TEXT, vocab_size=len(tok), rope_parameters=rope),
        vision_config=dict(depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=48, patch_size=14,
                           spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=64, deepstack_visual_indexes=[0]),
        **ids,
    )  # fmt: skip
    config.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, temporal_patch_size=2).save_pretrained(folder)
    return _speaking(folder)


def gemma3(folder: Path) -> Path:
    """A Gemma 3: layers with a sliding window, tokens of an image that see one another."""
    from transformers import Gemma3Config, Gemma3ImageProcessorPil

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tok = tiny.tokenizer(_made(folder), list(names.values()), "<start_of_image>")
    at = folder / "tokenizer_config.json"
    _write(at, json.loads(at.read_text()) | {"extra_special_tokens": names} | names)
    config = Gemma3Config(
        text_config=dict(TEXT, vocab_size=len(tok), sliding_window=64, query_pre_attn_scalar=8,
                         layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        vision_config=dict(SIGHT), mm_tokens_per_image=4, image_token_id=tok.convert_tokens_to_ids(names["image_token"]),
        boi_token_id=tok.convert_tokens_to_ids(names["boi_token"]), eoi_token_id=tok.convert_tokens_to_ids(names["eoi_token"]),
    )  # fmt: skip
    config.save_pretrained(folder)
    Gemma3ImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(folder)
    _write(folder / "processor_config.json", {"processor_class": "Gemma3Processor", "image_seq_length": 4})
    return _speaking(folder)


def llava(folder: Path) -> Path:
    """A LLaVA: a CLIP before a Llama."""
    from transformers import CLIPImageProcessorPil, LlavaConfig

    tok = tiny.tokenizer(_made(folder), ["<image>"], "<image>")
    config = LlavaConfig(text_config=dict(TEXT, model_type="llama", vocab_size=len(tok)),
                         vision_config=dict(SIGHT, model_type="clip_vision_model", projection_dim=32),
                         image_token_id=tok.convert_tokens_to_ids("<image>"), image_seq_length=16)  # fmt: skip
    config.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(folder)
    settings = {"processor_class": "LlavaProcessor", "patch_size": 14, "vision_feature_select_strategy": "default",
                "num_additional_image_tokens": 1}  # fmt: skip
    _write(folder / "processor_config.json", settings)
    return _speaking(folder)


def _speaking(folder: Path) -> Path:
    """Put random weights, language head included, into a folder that has a configuration."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    sees = hasattr(config, "vision_config")
    kind: Any = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind.from_config(config)
        for weight in model.parameters():
            if weight.ndim > 1 and not weight.any():  # a projector that begins with zeros would show nothing
                torch.nn.init.normal_(weight)
        model.save_pretrained(folder)
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
