"""Tiny diffusion pipelines with random weights, a few hundred kB each, saved to a folder as a real one would be.

Pictures of 32 x 32 pixels over latents of 16 x 16; the tokenizer knows letters only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BLOCKS = (16, 32)


def stable(folder: Path, kind: str = "StableDiffusionPipeline", channels: int = 4, seed: int = 0) -> Path:
    """A Stable Diffusion; with 8 channels its instruction editor, with 9 its inpainting."""
    import diffusers
    import torch

    torch.manual_seed(seed)
    parts = dict(unet=_unet(channels), vae=_vae(4), text_encoder=_clip(), tokenizer=clip_tokenizer(folder / "words"),
                 scheduler=diffusers.EulerDiscreteScheduler(steps_offset=1, beta_schedule="scaled_linear"), safety_checker=None, feature_extractor=None)  # fmt: skip
    pipeline = getattr(diffusers, kind)(**parts, requires_safety_checker=False)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def xl(folder: Path) -> Path:
    """An SDXL: two text encoders, and the size of the picture as a condition."""
    import diffusers
    import torch

    torch.manual_seed(0)
    sizes = dict(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 32
    )
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=_vae(4), text_encoder=_clip(), text_encoder_2=_clip("CLIPTextModelWithProjection"), tokenizer=clip_tokenizer(folder / "words"),
        tokenizer_2=clip_tokenizer(folder / "words"), unet=_unet(4, **sizes | {"cross_attention_dim": 64}),
        scheduler=diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear"))  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def flux(folder: Path) -> Path:
    """A FLUX.1: latents in packs, a guidance that is no contrast, two text encoders."""
    import diffusers
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    words = _clip(size=16)
    t5 = T5EncoderModel(T5Config(vocab_size=520, d_model=16, d_ff=16, d_kv=8, num_heads=2, num_layers=1))
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=False)  # fmt: skip
    pipeline = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=_vae(4, shift_factor=0.1), text_encoder=words, tokenizer=clip_tokenizer(folder / "words"),
        text_encoder_2=t5, tokenizer_2=clip_tokenizer(folder / "words"), transformer=transformer)  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def clip_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer over 256 letters, each also as the end of a word."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def _unet(channels: int, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    known = dict(sample_size=16, in_channels=channels, out_channels=4, block_out_channels=BLOCKS, layers_per_block=1, norm_num_groups=8,
                 attention_head_dim=2, cross_attention_dim=32, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                 up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))  # fmt: skip
    return UNet2DConditionModel(**known | more)


def _vae(channels: int, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=BLOCKS, latent_channels=channels, norm_num_groups=8, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **more)  # fmt: skip


def _clip(kind: str = "CLIPTextModel", size: int = 32) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=514, hidden_size=size, intermediate_size=2 * size, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=size, bos_token_id=512, eos_token_id=513)  # fmt: skip
    return getattr(transformers, kind)(config)
