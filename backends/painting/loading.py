"""Reads a model of diffusers into memory, and finds the pipeline for a task among those that share its parts.

Weights are safetensors; no code that comes with a model is run. Never draws anything itself.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.hf.files import ROOM, check_fits
from backends.hf.hub import Quiet
from backends.hf.loading import default_device, free_bytes
from backends.painting import repository
from backends.painting.base import Task
from backends.painting.preview import Factors, fit
from backends.painting.repository import Family, Index

# what a broken or too new configuration makes diffusers and transformers raise
BROKEN = (OSError, ValueError, KeyError, IndexError, ImportError, TypeError, AttributeError, RuntimeError, MemoryError)


@dataclass
class Loaded:
    """A model ready to draw, best at ``side`` x ``side`` pixels. ``factors`` None: no previews. ``aside``: parts wait outside of the GPU."""

    pipeline: Any
    family: Family
    side: int
    device: str
    dtype: str
    weight_bytes: int
    revision: str | None
    factors: Factors | None
    aside: bool = False
    _others: dict[str, Any] = field(default_factory=dict)

    def for_task(self, task: Task) -> Any:
        """The pipeline of a task, made of the same parts: it takes no memory of its own."""
        if task == self.family.tasks[0] or task == "instruct":
            return self.pipeline
        if task not in self._others:
            with Quiet("transformers"):  # it would tell that torchvision is not here
                from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image

            kinds: dict[Task, Any] = {
                "generate": AutoPipelineForText2Image,
                "edit": AutoPipelineForImage2Image,
                "inpaint": AutoPipelineForInpainting,
            }
            self._others[task] = kinds[task].from_pipe(self.pipeline)
            self._others[task].set_progress_bar_config(disable=True)
        return self._others[task]


def load(folder: Path, index: Index, name: str, device: str | None) -> Loaded:
    """Read a model: bf16 on a GPU, fp32 on a processor; on a GPU that is too small, each part only while it works.

    Raises:
        BackendError: diffusers does not know it, parts are missing, or it does not fit; one line that says what to do.
    """
    import torch
    import transformers  # noqa: F401 (its log can be kept quiet from its first import on)

    family = repository.family(index, name)
    device = device or default_device()
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    size = repository.weight_bytes(folder, index, dtype.itemsize)
    aside = device.startswith("cuda") and size * ROOM > free_bytes(device) and size * ROOM < free_bytes("cpu")
    if not aside:
        check_fits(name, size, free_bytes(device), torch.cuda.get_device_name(device) if device.startswith("cuda") else f"this machine ({device})",
                   "choose a smaller image model")  # fmt: skip
    try:
        with warnings.catch_warnings(), Quiet("transformers"), Quiet("diffusers"):
            warnings.simplefilter("ignore")
            pipeline = _read(folder, repository.precision(folder, index), dtype)
            factors = fit(pipeline)
            if aside:
                pipeline.enable_model_cpu_offload(device=device)
            else:
                pipeline.to(device)
    except BROKEN as error:
        raise explain(error, name) from error
    return Loaded(
        pipeline,
        family,
        repository.side(folder, index),
        device,
        str(dtype).removeprefix("torch."),
        size,
        _commit(folder),
        factors,
        aside,
    )


def _read(folder: Path, precision: str | None, dtype: Any) -> Any:
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()  # standard error belongs to the command that runs
    transformers.utils.logging.disable_progress_bar()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        str(folder),
        dtype=dtype,
        variant=precision,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _commit(folder: Path) -> str | None:
    """The commit of a folder in the hub's cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def explain(error: Exception, name: str) -> BackendError:
    """The line for what loading raised."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said:
        return BackendError(
            f"{name} does not fit into the memory that is free. Choose a smaller model, or close other programs."
        )
    shown = said if len(said) <= 160 else f"{said[:160]} ..."
    return BackendError(f"diffusers cannot load {name} ({shown}). Update diffusers, or choose another model.")


def accepts(pipeline: Any) -> frozenset[str]:
    """The names of what a pipeline can be told."""
    return frozenset(inspect.signature(type(pipeline).__call__).parameters)


def hook(pipeline: Any, look: Callable[[], None]) -> list[Any]:
    """Call ``look`` before every block of every part: it may raise, long before a step is over. Returns what takes it back."""
    import torch

    blocks = {
        block
        for part in pipeline.components.values() if isinstance(part, torch.nn.Module)
        for several in part.modules() if isinstance(several, torch.nn.ModuleList)
        for block in several
    }  # fmt: skip
    return [block.register_forward_pre_hook(lambda *_: look()) for block in blocks]
