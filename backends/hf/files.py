"""Where the files of a model are: a folder, a GGUF file, the hub's cache, or the hub itself.

Owns names, downloads, and whether a model would fit into memory. Never imports torch, never reads a pickle, and asks
the hub only for a model that is not complete on this machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.hf.hub import Arrived, Flag, Quiet, Stopped, explain, silent

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
WANTED = (
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "model*.safetensors",
)  # no pickles, no code, no second copy of weights
HEADER_BYTES = 100 * 2**20  # the longest header that safetensors itself accepts
FLOATS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
OTHERS = {"F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
ROOM = 1.1  # weights and what a reply needs beside them, over the weights


@dataclass(frozen=True)
class Files:
    """A folder with a model's files. ``gguf``: the name of the one file in it that holds everything, or None."""

    folder: Path
    gguf: str | None = None


def locate(model: str, gguf: str | None, revision: str | None, stop: Flag, arrived: Arrived | None = None) -> Files:
    """The files of a model: a folder, the path of a ``.gguf``, or the hub's ``owner/name``, downloaded if need be.

    ``arrived`` is kept up to date meanwhile.

    Raises:
        BackendError: there is none, it holds no safetensors, or the hub refuses; one line that says what to do.
        Stopped: ``stop`` was set while it was downloaded.
    """
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return Files(path.parent, path.name)
    if path.is_dir():
        return _checked(Files(path, gguf), model)
    if path.is_absolute() or model.startswith((".", "~")) or not HUB_NAME.fullmatch(model):
        raise BackendError(
            f"There is no model at {model!r}. Give a folder, a .gguf file, or a name on the hub like owner/model."
        )
    return _checked(Files(_from_hub(model, gguf, revision, stop, arrived or Arrived()), gguf), model)


def cached(model: str, revision: str | None = None, file: str = "config.json") -> Path | None:
    """The folder of a model that is on this machine already, complete or not; asks nobody. ``file``: what every such model has."""
    path = Path(model).expanduser()
    if path.is_dir() or not HUB_NAME.fullmatch(model):
        return path if path.is_dir() else None
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ModuleNotFoundError:
        return None
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=[file],
                                      cache_dir=os.environ.get("HF_HUB_CACHE")))  # fmt: skip
    except (LocalEntryNotFoundError, ValueError):
        return None


def sees(folder: Path) -> bool:
    """Whether the configuration in ``folder`` is that of a model which takes images."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "vision_config" in config


def _checked(files: Files, model: str) -> Files:
    needed = files.gguf or "config.json"
    if not (files.folder / needed).is_file():
        raise BackendError(
            f"{model} has no {needed}, so it is no model of transformers. Check the name, or its gguf_file."
        )
    if not files.gguf and not any(files.folder.glob("model*.safetensors")):
        raise BackendError(
            f"{model} has no safetensors; weights of other forms can run code and are not read. "
            "Choose a copy of the model that has them, or a GGUF."
        )
    return files


def _from_hub(name: str, gguf: str | None, revision: str | None, stop: Flag, arrived: Arrived) -> Path:
    import httpx2  # what huggingface_hub speaks with
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    folder: Path | None
    how: dict[str, Any] = {
        "revision": revision, "allow_patterns": [gguf] if gguf else list(WANTED), "ignore_patterns": ["*/*"],
        "cache_dir": os.environ.get("HF_HUB_CACHE"), "endpoint": os.environ.get("HF_ENDPOINT"), "tqdm_class": silent(stop, arrived),
    }  # fmt: skip
    try:
        try:
            folder = Path(snapshot_download(name, local_files_only=True, **how))
        except LocalEntryNotFoundError:
            folder = None
        if folder and _whole(folder, gguf):  # it may also come from another program that wanted its configuration only
            return folder
        with Quiet("huggingface_hub"):
            return Path(snapshot_download(name, **how))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, httpx2.HTTPError, OSError) as error:
        if stop.is_set():
            raise Stopped from error
        raise explain(error, name, revision) from error


def _whole(folder: Path, gguf: str | None) -> bool:
    """Whether the weights are all there: the one file, or those that the index names."""
    if gguf or (folder / "model.safetensors").is_file():
        return (folder / (gguf or "config.json")).is_file()
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return all((folder / str(shard)).is_file() for shard in set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def weight_bytes(files: Files, float_bytes: int) -> int:
    """Memory that the weights take once they are loaded with ``float_bytes`` a number, from their headers alone.

    Raises:
        BackendError: a file is no safetensors or GGUF file, or cut off.
    """
    if files.gguf:
        return sum(n * float_bytes for n in _gguf_sizes(files.folder / files.gguf))
    return sum(file_bytes(path, float_bytes) for path in sorted(files.folder.glob("model*.safetensors")))


def file_bytes(path: Path, float_bytes: int) -> int:
    """Memory that one safetensors file takes with ``float_bytes`` a number. Raises BackendError when it is none, or cut off."""
    return sum(n * (float_bytes if kind in FLOATS else OTHERS.get(kind, 1)) for kind, n in tensors(path))


def tensors(path: Path) -> Iterator[tuple[str, int]]:
    """(dtype, numbers) of each tensor in a safetensors file: 8 bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(HEADER_BYTES, path.stat().st_size):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
            last = max(
                (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0
            )
            if 8 + length + last > path.stat().st_size:
                raise ValueError("it is cut off")
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for side in entry["shape"]:
                    count *= int(side)
                yield str(entry["dtype"]), count
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"{path.name} is no whole safetensors file ({error}). Download the model again.") from error


def _gguf_sizes(path: Path) -> list[int]:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise BackendError(
                f"{path} is no GGUF file (it starts with {magic!r}). Download it again, or choose another."
            )
        import gguf

        return [int(tensor.n_elements) for tensor in gguf.GGUFReader(str(path)).tensors]
    except (OSError, ValueError, KeyError, IndexError) as error:  # cut off, or made up
        raise BackendError(
            f"{path.name} cannot be read ({error}). Download it again, or choose another GGUF."
        ) from error


def check_fits(
    name: str,
    needed: int,
    available: int,
    where: str,
    instead: str = "choose a smaller model, or a quantised GGUF with the llama backend",
) -> None:
    """Raises BackendError with advice when ``needed`` bytes of weights and a tenth more are over ``available``."""
    if needed * ROOM > available:
        raise BackendError(
            f"{name} needs about {needed * ROOM / 2**30:.1f} GiB on {where}, where {available / 2**30:.1f} GiB are free. "
            f"Close other programs, unload other models, {instead}."
        )
