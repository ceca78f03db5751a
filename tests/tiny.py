"""Tiny backbones with random weights: a Llama, a Qwen2.5-VL, a Qwen3-VL, a SmolVLM, saved to a folder as a real one would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
)
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def tokenizer(folder: Path, specials: list[str], image: str) -> Any:
    """A byte-level tokenizer of 256 letters and the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=core)
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *specials]})
    fast.add_special_tokens({"pad_token": "<|im_end|>", "eos_token": "<|im_end|>"})
    fast.chat_template = CHATML.replace("IMAGE", image)
    fast.save_pretrained(folder)
    return fast


def llama(folder: Path, hidden: int = 48, layers: int = 3) -> Path:
    """A Llama with grouped keys."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    tok = tokenizer(folder, [], "")
    torch.manual_seed(0)
    LlamaModel(LlamaConfig(vocab_size=len(tok), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
                           num_attention_heads=6, num_key_value_heads=2, head_dim=8, max_position_embeddings=4096)).save_pretrained(folder)  # fmt: skip
    return folder


def qwen(folder: Path, hidden: int = 48, layers: int = 3) -> Path:
    """A Qwen2.5-VL with M-RoPE and a two-layer vision tower; ``hidden`` a multiple of 8."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLImageProcessorPil

    tok = tokenizer(folder, ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], QWEN_IMAGE)
    ids = {k: tok.convert_tokens_to_ids(v) for k, v in (("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>"),
           ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>"))}  # fmt: skip
    half = hidden // 4 // 2  # of a head's dimensions
    config = Qwen2_5_VLConfig(
        text_config=dict(vocab_size=len(tok), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=4096,
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [half - 2 * (half // 3), half // 3, half // 3]}),
        vision_config=dict(depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=hidden, patch_size=14, window_size=56,
                           fullatt_block_indexes=[1], spatial_merge_size=2, temporal_patch_size=2), **ids)  # fmt: skip
    torch.manual_seed(0)
    Qwen2_5_VLModel(config).save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, temporal_patch_size=2).save_pretrained(folder)
    return folder


def qwen3vl(folder: Path, hidden: int = 48, layers: int = 3) -> Path:
    """A Qwen3-VL, whose vision tower also writes into the first two layers of the text (deepstack)."""
    import torch
    from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLModel

    tok = tokenizer(folder, ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"], QWEN_IMAGE)
    ids = {k: tok.convert_tokens_to_ids(v) for k, v in (("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>"),
           ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>"))}  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=dict(vocab_size=len(tok), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
                         num_attention_heads=4, num_key_value_heads=2, head_dim=12, max_position_embeddings=4096, rope_parameters=rope),
        vision_config=dict(depth=3, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=hidden, patch_size=16,
                           spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=16,
                           deepstack_visual_indexes=[0, 1]), **ids)  # fmt: skip
    torch.manual_seed(0)
    Qwen3VLModel(config).save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, temporal_patch_size=2).save_pretrained(folder)
    return folder


def smolvlm(folder: Path, hidden: int = 48, layers: int = 3) -> Path:
    """A SmolVLM with pictures of 64 x 64 pixels in four tokens."""
    import torch
    from transformers import SmolVLMConfig, SmolVLMImageProcessorPil, SmolVLMModel

    tok = tokenizer(folder, ["<image>", "<fake_token_around_image>", "<global-img>"], "<image>")
    text = dict(model_type="llama", vocab_size=len(tok), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
                num_attention_heads=6, num_key_value_heads=2, head_dim=8, max_position_embeddings=4096, pad_token_id=0)  # fmt: skip
    vision = dict(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16
    )
    torch.manual_seed(0)
    SmolVLMModel(SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, pad_token_id=0,
                               image_token_id=tok.convert_tokens_to_ids("<image>"))).save_pretrained(folder)  # fmt: skip
    SmolVLMImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 64}).save_pretrained(folder)
    return folder
