"""Reads a model of transformers into memory: weights, tokenizer, image processor, and where they are.

Weights are safetensors or GGUF; no code that comes with a model is run. Never answers anything itself.
"""

from __future__ import annotations

import gc
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.hf.files import Files, check_fits, weight_bytes
from backends.hf.hub import Quiet

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
# expands images alike, and asks neither for torchvision nor for num2words, which only videos need
INSTEAD = {"SmolVLMProcessor": "Idefics3Processor"}


@dataclass
class Loaded:
    """A model ready to answer. ``processor`` is None when it reads text only; ``context_length`` None when unknown."""

    model: Any
    tokenizer: Any
    processor: Any
    device: str
    dtype: str
    context_length: int | None
    ends: frozenset[int]
    weight_bytes: int


def default_device() -> str:
    """The quickest device here: an NVIDIA GPU, an Apple one, or the processor."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(files: Files, name: str, device: str | None) -> Loaded:
    """Read a model: bf16 on a GPU, fp32 on a processor.

    Raises:
        BackendError: transformers does not know it, parts are missing, or it does not fit; one line that says what to do.
    """
    import torch

    device = device or default_device()
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    try:
        size = weight_bytes(files, dtype.itemsize)
        check_fits(name, size, free_bytes(device), _called(device))
        with warnings.catch_warnings(), Quiet("transformers"):
            warnings.simplefilter("ignore")
            config = _config(files)
            model = _weights(files, name, config, device, dtype)
            tokenizer = _tokenizer(files)
            processor = _processor(files, config, tokenizer)
    except BackendError:
        raise
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        # what a broken or too new configuration makes transformers raise
        raise _explain(error, name) from error
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return Loaded(
        model, tokenizer, processor, device, str(dtype).removeprefix("torch."), limit, _ends(model, tokenizer), size
    )


def _explain(error: Exception, name: str) -> BackendError:
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said:
        return BackendError(
            f"{name} does not fit into the memory that is free. Choose a smaller model, or close other programs."
        )
    if "trust_remote_code" in said:
        return BackendError(
            f"{name} brings code of its own, which is never run. Choose a model that transformers knows."
        )
    shown = said if len(said) <= 160 else f"{said[:160]} ..."
    return BackendError(f"transformers cannot load {name} ({shown}). Update transformers, or choose another model.")


def free_bytes(device: str) -> int:
    """Memory that is free on a device, in bytes."""
    import psutil
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def give_back() -> None:
    """Return to the machine what nothing refers to any more."""
    import torch

    gc.collect()  # modules and their hooks refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _called(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"this machine ({device})"


def _config(files: Files) -> Any:
    import transformers

    more = {"gguf_file": files.gguf} if files.gguf else {}
    return transformers.AutoConfig.from_pretrained(str(files.folder), trust_remote_code=False, **more)


def _weights(files: Files, name: str, config: Any, device: str, dtype: Any) -> Any:
    import transformers
    from transformers.models.auto import modeling_auto as auto

    kind: Any
    if type(config) in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        kind = transformers.AutoModelForImageTextToText
    elif type(config) in auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = transformers.AutoModelForCausalLM
    else:
        raise BackendError(f"{name} is a {config.model_type}, which writes no text. Choose a model that chats.")
    how: dict[str, Any] = {"gguf_file": files.gguf} if files.gguf else {"use_safetensors": True}
    if device != "cpu":
        how["device_map"] = {"": device}  # straight to where it stays
    transformers.utils.logging.disable_progress_bar()  # standard error belongs to the command that runs
    model, told = kind.from_pretrained(
        str(files.folder), dtype=dtype, trust_remote_code=False, output_loading_info=True, **how
    )
    missing = sorted(told["missing_keys"])
    if missing:  # transformers would make up numbers for them
        raise BackendError(
            f"{name} lacks {len(missing)} of its weights, such as {missing[0]}: it was saved without them. Choose a whole copy."
        )
    return model.eval().requires_grad_(False)


def _tokenizer(files: Files) -> Any:
    import transformers

    more = {"gguf_file": files.gguf} if files.gguf else {}
    return transformers.AutoTokenizer.from_pretrained(str(files.folder), trust_remote_code=False, **more)


def _processor(files: Files, config: Any, tokenizer: Any) -> Any:
    """What turns images into tokens and pixels, working with Pillow; None for a model that reads text only.

    Video processors need torchvision and nobody asks about videos, so they are left out.
    """
    import transformers

    if files.gguf or not hasattr(config, "vision_config"):
        return None
    kind: Any = _processor_class(files.folder, config)

    class Pictures(kind):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [a for a in kind.get_attributes() if "video" not in a]

    parts = {
        "image_processor": transformers.AutoImageProcessor.from_pretrained(
            str(files.folder), backend="pil", trust_remote_code=False
        ),
        "tokenizer": tokenizer,
    }
    if set(Pictures.get_attributes()) - set(parts):
        raise ValueError(f"images of a {config.model_type} need more than Pillow.")
    settings, _ = Pictures.get_processor_dict(str(files.folder))
    return Pictures.from_args_and_dict([parts[a] for a in Pictures.get_attributes()], settings)


def _processor_class(folder: Path, config: Any) -> Any:
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    for name in PROCESSOR_FILES:
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")).get("processor_class")
        except FileNotFoundError:
            continue
        if found and hasattr(transformers, INSTEAD.get(found, found)):
            return getattr(transformers, INSTEAD.get(found, found))
    kind: Any = PROCESSOR_MAPPING[type(config)]
    return getattr(transformers, INSTEAD.get(kind.__name__, kind.__name__))


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: those of the model's generation config, and the tokenizer's."""
    named = model.generation_config.eos_token_id
    ids = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return frozenset(i for i in ids if i is not None)
