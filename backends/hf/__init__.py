"""Models of transformers on this machine, with images: any image-text-to-text or text model, by folder or hub name.

Owns which one is loaded: one at a time, freed when another is wanted, one reply at a time. Never runs code that comes
with a model, and imports torch at the first reply only.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backends.base import SAMPLING, Backend, BackendError, Capabilities, Delta, Message, Options
from backends.hf import files, hub
from backends.hf.files import HUB_NAME, cached
from backends.hf.hub import Stopped
from backends.turn import Resident, Turn

__all__ = ["Transformers", "cached", "create", "missing"]

NEEDED = ("torch", "transformers", "safetensors", "huggingface_hub", "psutil")
SETTINGS = ("model", "gguf_file", "revision", "device", "n_ctx", "cache_mb", "max_pixels")
MAX_PIXELS = 2**20  # of an image: some 1,300 tokens of a Qwen2.5-VL
CACHE_MB = 1024
FOLLOWS = tuple(name for name in SAMPLING if name not in ("grammar", "json_schema"))

TURN = Turn()  # of all models of transformers


class Transformers(Resident, Backend):
    """One model, loaded at its first reply; context length and images are certain from then on."""

    def __init__(self, model: str, gguf_file: str | None = None, revision: str | None = None, device: str | None = None,
                 n_ctx: int | None = None, cache_mb: int = CACHE_MB, max_pixels: int = MAX_PIXELS) -> None:  # fmt: skip
        super().__init__(TURN)
        self.model, self.gguf_file, self.revision, self.device = model, gguf_file, revision, device
        self.n_ctx, self.cache_mb, self.max_pixels = n_ctx, cache_mb, max_pixels
        self.name = model if HUB_NAME.fullmatch(model) else Path(model).name  # in messages
        folder = cached(model, revision)
        self.capabilities = Capabilities(
            images_in=folder is not None and files.sees(folder),
            token_counts=True,
            context_length=n_ctx,
            together=True,
            sampling=FOLLOWS,
        )
        self._decoder: Any = None
        self._writer: Any = None

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply token by token; stop within a token, and within a layer while the prompt is read.

        With a seed, or at temperature 0, equal questions have equal replies, whatever was asked before.

        Raises:
            BackendError: the model cannot be loaded, the dialogue does not fit, or memory ran out.
        """
        for _, delta in self.sample(messages, options, 1, [stop]):
            yield delta

    def sample(
        self, messages: list[Message], options: Options, n: int, stop: Sequence[threading.Event]
    ) -> Iterator[tuple[int, Delta]]:
        """Yield the pieces of ``n`` candidates, each with its number, written in one batch after one reading of the prompt.

        Candidate i draws with seed + i and ends by itself, or soon after ``stop[i]`` is set, without holding up the others.

        Raises:
            BackendError: as ``stream``.
        """
        if options.grammar or options.json_schema:
            raise BackendError(
                f"{self.name} runs in transformers, which follows no grammar and no JSON schema. Take it away, or use llama."
            )
        all_stopped = _AllSet(stop[:n])
        waiting = [(i, Delta(phase="waiting")) for i in range(n)]
        yield from self._in_turn(self._answer(messages, options, all_stopped), all_stopped.is_set, waiting)

    def describe(self) -> dict[str, Any]:
        """What is loaded where: ``loaded``, ``device``, ``dtype``, ``memory_mb`` of weights and of kept prefixes."""
        decoder = self._decoder
        if decoder is None:
            return {"loaded": False, "device": self.device, "dtype": None, "memory_mb": 0}
        kept = decoder.store.bytes if decoder.store else 0
        memory = (decoder.loaded.weight_bytes + kept) / 2**20
        return {
            "loaded": True,
            "device": decoder.loaded.device,
            "dtype": decoder.loaded.dtype,
            "memory_mb": round(memory),
        }

    # ---- while this has the turn

    def _answer(self, messages: list[Message], options: Options, all_stopped: _AllSet) -> Iterator[tuple[int, Delta]]:
        import torch

        stops, read = list(all_stopped.events), 0
        try:
            if all_stopped.is_set():
                return
            if not self._here():
                for delta in self._load(all_stopped):
                    yield from ((i, delta) for i in range(len(stops)))
            yield from ((i, Delta(phase="reading")) for i in range(len(stops)))
            prompt = self._writer.prompt(messages)
            read = len(prompt.ids)
            self._check_length(read)
            yield from self._decoder.candidates(prompt, self._writer, options, stops, self._leave.is_set)
        except Stopped:
            if self._leave.is_set():
                raise BackendError(f"{self.name} was unloaded while it answered. Retry loads it again.") from None
            for i in range(len(stops) if read else 0):
                yield i, Delta(prompt_tokens=read, completion_tokens=0)
            return
        except (torch.OutOfMemoryError, MemoryError):
            pass
        except RuntimeError as error:
            if "allocate memory" not in str(error):  # how torch says it on a processor
                raise
        else:
            return
        # outside of the handlers: an error that is still known keeps all that its frames hold
        self._free()
        raise BackendError(
            f"{self.name} ran out of memory. Branch from an earlier turn, ask for fewer replies at once, lower n_ctx or "
            "max_pixels for this model, or choose a smaller one. It was unloaded; a retry loads it again."
        )

    def _load(self, stop: _AllSet) -> Iterator[Delta]:
        """Load the weights, downloaded first if need be; yields how far that is."""
        self._take_over()
        from backends.hf.decoding import Decoder
        from backends.hf.loading import load
        from backends.hf.prompt import Writer

        halt = hub.Halt(stop, self._leave)
        found = yield from hub.fetched(
            lambda arrived: files.locate(self.model, self.gguf_file, self.revision, halt, arrived),
            lambda told: Delta(phase="downloading", told=told),
        )
        yield Delta(phase="loading")
        loaded = load(found, self.name, self.device)
        if self.n_ctx:
            loaded.context_length = min(self.n_ctx, loaded.context_length or self.n_ctx)
        self._writer = Writer(self.name, loaded.tokenizer, loaded.processor, self.max_pixels)
        self._decoder = Decoder(loaded, self.cache_mb * 2**20)
        self.capabilities = Capabilities(
            images_in=loaded.processor is not None,
            token_counts=True,
            context_length=loaded.context_length,
            together=True,
            sampling=FOLLOWS,
        )
        self._turn.holder = self

    def _here(self) -> bool:
        return self._decoder is not None

    def _drop(self) -> None:
        from backends.hf.loading import give_back

        self._decoder = self._writer = None
        give_back()

    def _check_length(self, count: int) -> None:
        room = self.capabilities.context_length
        if room and count >= room:
            raise BackendError(
                f"The dialogue has {count} tokens; the context of {self.name} holds {room}, its reply included. "
                "Branch from an earlier turn, shorten the question, or leave out images."
            )


class _AllSet:
    """Several events as one that is set when all are."""

    def __init__(self, events: Sequence[threading.Event]) -> None:
        self.events = events

    def is_set(self) -> bool:
        return all(e.is_set() for e in self.events)


def missing() -> list[str]:
    """The packages that are not installed. Imports none."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def create(model: str = "", **settings: Any) -> Transformers:
    """A model by folder, ``.gguf`` file, or hub name. Loads and asks nothing yet.

    ``gguf_file``: the file to take from that folder or hub name. ``revision``: a branch, tag or commit on the hub.
    ``device``: cpu, cuda, cuda:1, mps; the quickest that there is. ``n_ctx`` in tokens: all that the model can.
    ``cache_mb``: how much memory prefixes that were read may take. ``max_pixels``: larger images are scaled down.

    Raises:
        BackendError: no model, an unknown or impossible setting, or packages that are not installed.
    """
    if unknown := set(settings) - set(SETTINGS):
        raise BackendError(
            f"A model of transformers has no setting {', '.join(sorted(unknown))}. It knows {', '.join(SETTINGS)}."
        )
    if not isinstance(model, str) or not model.strip():
        raise BackendError(
            'A model of transformers needs a folder or a name. Add model = "owner/model" in studio.toml.'
        )
    for name, least in (("n_ctx", 1), ("cache_mb", 0), ("max_pixels", 28 * 28)):
        value = settings.get(name)
        if value is not None and (type(value) is not int or value < least):
            raise BackendError(
                f"A model of transformers cannot work with {name} = {value!r}. Give a whole number from {least}."
            )
    device = settings.get("device")
    if device is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", str(device)):
        raise BackendError(f"A model of transformers cannot run on device = {device!r}. Give cpu, cuda, cuda:1 or mps.")
    if lacking := missing():
        raise BackendError(
            f"Models of transformers need {', '.join(lacking)}: pip install 'intermt-studio[transformers]' (a large download)."
        )
    return Transformers(model, **{k: v for k, v in settings.items() if v is not None})
