"""The files of a model that draws: a folder as diffusers writes it, the hub's cache, or the hub itself.

Owns which files belong to it, what it can do as far as they tell, and that none of them can run code. Never imports diffusers,
and asks the hub only for a model that is not complete on this machine.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files as packaged
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.hf import files, hub
from backends.hf.files import HUB_NAME
from backends.hf.hub import Quiet, Stopped
from backends.painting.base import Task

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")  # the last one is where diffusers keeps a safety checker
NO_WEIGHTS = re.compile(r"(Tokenizer|TokenizerFast|Scheduler|Processor|FeatureExtractor)$")
WEIGHTS = re.compile(r"(?:model|diffusion_pytorch_model)(\.fp16)?(?:-\d+-of-\d+)?\.safetensors")
TEXTS = (".json", ".txt", ".model", ".jinja")
SHARDS = re.compile(r"\.safetensors\.index(\.fp16)?\.json$|(\.fp16)\.safetensors\.index\.json$")
SIDE = 1024  # where the files do not tell what size a model was trained with


@dataclass(frozen=True)
class Family:
    """Pipelines that work alike. The first of ``tasks`` is what the class itself does; ``steps``, ``guidance`` to begin with."""

    classes: tuple[str, ...]
    tasks: tuple[Task, ...]
    steps: int
    guidance: float
    negative: bool
    multiple: int
    guides: str = "guidance_scale"  # what its pipelines call the guidance


@dataclass(frozen=True)
class Index:
    """What ``model_index.json`` says: the pipeline's class, and library and class of each of its parts."""

    pipeline: str
    parts: dict[str, tuple[str, str]]

    @property
    def weighted(self) -> list[str]:
        """The parts that have weights."""
        return [name for name, (_, kind) in self.parts.items() if not NO_WEIGHTS.search(kind)]


@functools.cache
def families() -> tuple[Family, ...]:
    """The pipelines that the studio knows, from ``assets/painters.json``."""
    rows = json.loads(packaged("assets").joinpath("painters.json").read_text(encoding="utf-8"))
    return tuple(Family(**row | {k: tuple(row[k]) for k in ("classes", "tasks")}) for row in rows)


def family(index: Index, name: str) -> Family:
    """The family of a pipeline. Raises BackendError when the studio does not know it."""
    for known in families():
        if index.pipeline in known.classes:
            return known
    names = ", ".join(c.removesuffix("Pipeline") for f in families() for c in f.classes)
    raise BackendError(f"{name} is a {index.pipeline[:80]}, which is not known here. Choose one of: {names}.")


def parsed(text: str, name: str) -> Index:
    """The content of a ``model_index.json``.

    Raises:
        BackendError: it is none, or a part of it comes with code of its own.
    """
    try:
        found = json.loads(text)
        pipeline = found["_class_name"]
        parts = {k: (v[0], v[1]) for k, v in found.items() if isinstance(v, list) and v and v[0] is not None}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BackendError(
            f"The {INDEX} of {name} cannot be read ({error!r:.80}). Download the model again."
        ) from error
    foreign = [f"{lib}.{kind}" for lib, kind in parts.values() if lib not in LIBRARIES]
    if foreign or not isinstance(pipeline, str):
        raise BackendError(
            f"{name} brings code of its own ({', '.join(foreign)[:80] or 'its pipeline'}), which is never run. Choose a model that diffusers knows."
        )
    if any(not re.fullmatch(r"\w+", part) for part in parts):
        raise BackendError(
            f"The {INDEX} of {name} names parts that cannot be folders. Choose another copy of the model."
        )
    return Index(pipeline, parts)


def wanted(index: Index, names: Iterable[str]) -> list[str]:
    """Which of a repository's files are needed: the parts' texts and safetensors, of two precisions the smaller one."""
    found, names = [INDEX], list(names)
    for part in index.parts:
        inside = [n.removeprefix(f"{part}/") for n in names if n.startswith(f"{part}/") and n.count("/") == 1]
        weights = [(n, m[1] or "") for n in inside if (m := WEIGHTS.fullmatch(n))]
        precision = ".fp16" if any(p for _, p in weights) else ""
        kept = [n for n, p in weights if p == precision]
        kept += [
            n
            for n in inside
            if n.endswith(TEXTS) and (not (s := SHARDS.search(n)) or (s[1] or s[2] or "") == precision)
        ]
        found += [f"{part}/{n}" for n in sorted(kept)]
    return found


def read(folder: Path, name: str) -> Index:
    """The index of a folder that holds a whole model.

    Raises:
        BackendError: it is no folder of diffusers, parts or weights are missing, or they are pickles.
    """
    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(
            f"{name} has no {INDEX}, so it is no model of diffusers. Give the folder that holds it, or a name on the hub."
        ) from error
    index = parsed(text, name)
    for part in index.weighted:
        if not any((folder / part).glob("*.safetensors")):
            raise BackendError(
                f"{name} has no safetensors in {part}; weights of other forms can run code and are not read. Choose a copy that has them."
            )
    for shards in (p for part in index.weighted for p in (folder / part).glob("*.index*.json")):
        if lacking := _lacking(shards):
            raise BackendError(
                f"{name} lacks {shards.parent.name}/{lacking}. Download it again: what has arrived is kept."
            )
    return index


def _lacking(shards: Path) -> str:
    """The first file that an index of weights names and that is not there; '' when all are."""
    try:
        named = set(json.loads(shards.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return shards.name
    return next((str(n) for n in sorted(map(str, named)) if not (shards.parent / n).is_file()), "")


def precision(folder: Path, index: Index) -> str | None:
    """'fp16' when some part has its weights in that precision only, None otherwise: what diffusers calls a variant."""
    for part in index.weighted:
        found = [m[1] for p in (folder / part).glob("*.safetensors") if (m := WEIGHTS.fullmatch(p.name))]
        if found and all(found):
            return "fp16"
    return None


def weight_bytes(folder: Path, index: Index, float_bytes: int) -> int:
    """Memory that the weights take with ``float_bytes`` a number, from their headers. Raises BackendError for a cut file."""
    names = [p.relative_to(folder).as_posix() for part in index.weighted for p in (folder / part).glob("*.safetensors")]
    return sum(files.file_bytes(folder / n, float_bytes) for n in wanted(index, names) if n.endswith(".safetensors"))


def side(folder: Path, index: Index) -> int:
    """The width and height in pixels that a model was trained with: of its denoiser's latents, times its VAE's factor."""
    latents = next((_config(folder / p).get("sample_size") for p in ("unet", "transformer") if p in index.parts), None)
    blocks = _config(folder / "vae").get("block_out_channels")
    factor = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks else 8
    return latents * factor if isinstance(latents, int) and 1 <= latents <= 512 else SIDE


def guided(folder: Path, index: Index) -> bool:
    """Whether guidance does anything: a distilled FLUX has no place for it."""
    return index.pipeline != "FluxPipeline" or _config(folder / "transformer").get("guidance_embeds") is not False


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# ---- where it is


def cached(model: str, revision: str | None) -> Path | None:
    """The folder of a model that is on this machine already, complete or not; asks nobody."""
    return files.cached(model, revision, INDEX)


def absent(model: str) -> BackendError:
    """The line for a model that is neither a folder here nor a name on the hub."""
    return BackendError(
        f"There is no model at {model!r:.200}. Give a folder of diffusers, or a name on the hub like owner/model."
    )


def locate(model: str, revision: str | None, stop: hub.Flag, arrived: hub.Arrived) -> tuple[Path, Index]:
    """The folder and the index of a model, downloaded if need be; ``arrived`` is kept up to date meanwhile.

    Raises:
        BackendError: there is none, it is none that can be read, or the hub refuses. Stopped: ``stop`` was set meanwhile.
    """
    folder, on_hub = cached(model, revision), HUB_NAME.fullmatch(model) and not Path(model).expanduser().is_dir()
    if folder is None and not on_hub:
        raise absent(model)
    if folder is not None:
        try:
            return folder, read(folder, model)
        except BackendError:
            if not on_hub:
                raise
    folder = _from_hub(model, revision, stop, arrived)
    return folder, read(folder, model)


def _from_hub(name: str, revision: str | None, stop: hub.Flag, arrived: hub.Arrived) -> Path:
    import httpx2  # what huggingface_hub speaks with
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT")
    how: dict[str, Any] = {"revision": revision, "endpoint": endpoint, "cache_dir": os.environ.get("HF_HUB_CACHE"),
                           "tqdm_class": hub.silent(stop, arrived)}  # fmt: skip
    try:
        with Quiet("huggingface_hub"):
            first = Path(snapshot_download(name, allow_patterns=[INDEX], **how)) / INDEX
            if not first.is_file():
                raise BackendError(f"{name} has no {INDEX} on the hub, so it is no model of diffusers. Choose another.")
            index = parsed(first.read_text(encoding="utf-8"), name)
            listed = [f.path for f in HfApi(endpoint=endpoint).list_repo_tree(name, recursive=True, revision=revision)]
            return Path(snapshot_download(name, allow_patterns=wanted(index, listed), **how))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, httpx2.HTTPError, OSError) as error:
        if stop.is_set():
            raise Stopped from error
        raise hub.explain(error, name, revision) from error
