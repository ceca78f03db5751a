"""Any GGUF by llama.cpp: with images where it has an mmproj, several candidates in one batch, prefixes kept across branches.

Owns one loaded model. Never downloads anything, and imports llama_cpp at the first reply only.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backends.base import Backend, BackendError, Capabilities, Delta, Message, Options
from backends.llama.loading import DEFAULT_N_CTX, check_file
from backends.turn import POLL_S, Resident, Turn

CACHE_MB = 512
SETTINGS = ("path", "mmproj", "n_ctx", "n_threads", "gpu_layers", "cache_mb")


class Llama(Resident, Backend):
    """One GGUF, loaded at the first reply; context length and images are certain from then on. One question at a time."""

    def __init__(
        self, path: Path, mmproj: Path | None = None, n_ctx: int | None = None, n_threads: int | None = None,
        gpu_layers: int | None = None, cache_mb: int = CACHE_MB,
    ) -> None:  # fmt: skip
        super().__init__(Turn())
        self.path, self.mmproj, self.n_ctx, self.n_threads = path, mmproj, n_ctx, n_threads
        self.gpu_layers, self.cache_mb = gpu_layers, cache_mb
        self.capabilities = self._can(n_ctx or DEFAULT_N_CTX)
        self._speaker: Any = None

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply token by token; stop within a token, or within 0.1 s while reading the prompt or waiting.

        With a seed, or at temperature 0, equal questions have equal replies, whatever was asked before. Without, what the
        model has just written itself is not read again either: quicker, other in the last digits.

        Raises:
            BackendError: the dialogue does not fit into the context, or the model cannot be loaded.
        """
        for _, delta in self.sample(messages, options, 1, [stop]):
            yield delta

    def sample(
        self, messages: list[Message], options: Options, n: int, stop: Sequence[threading.Event]
    ) -> Iterator[tuple[int, Delta]]:
        """Yield the pieces of ``n`` candidates, each with its number: one reading of the prompt, one batch a token.

        Candidate i draws with seed + i and ends by itself, or at the next token after ``stop[i]`` is set.

        Raises:
            BackendError: as ``stream``, and when the model was unloaded meanwhile.
        """
        stops = list(stop)[:n]
        yield from self._in_turn(
            self._answer(messages, options, stops),
            lambda: all(s.is_set() for s in stops),
            waiting=[(i, Delta(phase="waiting")) for i in range(n)],
            waited=[(i, Delta(phase="reading")) for i in range(n)],
        )

    def describe(self) -> dict[str, Any]:
        """What is loaded: ``loaded``, ``device``, and ``memory_mb`` of weights, context and prefixes set aside."""
        speaker = self._speaker
        memory = 0 if speaker is None else speaker.memory_bytes // 2**20
        return {"loaded": speaker is not None, "device": "llama.cpp", "memory_mb": memory}

    # ---- while this has the turn

    def _answer(
        self, messages: list[Message], options: Options, stops: list[threading.Event]
    ) -> Iterator[tuple[int, Delta]]:
        if all(s.is_set() for s in stops):
            return
        if self._speaker is None:
            yield from ((i, Delta(phase="loading")) for i in range(len(stops)))
            self._load()
            yield from ((i, Delta(phase="reading")) for i in range(len(stops)))
        speaker = self._load()
        over = threading.Event()
        watch = threading.Thread(
            target=self._watch, args=(speaker.loaded.abort, stops, over), name="llama-stop", daemon=True
        )
        watch.start()
        try:
            yield from speaker.answer(messages, options, stops)
            if self._leave.is_set():
                raise BackendError(f"{self.path.name} was unloaded while it answered. Retry loads it again.")
        finally:
            over.set()
            watch.join()
            speaker.loaded.abort[0] = b"\x00"

    def _watch(self, abort: Any, stops: list[threading.Event], over: threading.Event) -> None:
        """Make llama.cpp give up when nobody waits any more: while it reads or decodes, its own thread runs no Python."""
        while not over.wait(POLL_S):
            if self._leave.is_set():
                for stop in stops:
                    stop.set()
            if all(s.is_set() for s in stops):
                abort[0] = b"\x01"

    def _load(self) -> Any:
        if self._speaker is None:
            for file in filter(None, (self.path, self.mmproj)):
                check_file(file)
            from backends.llama.speaking import Speaker

            self._speaker = Speaker(
                self.path, self.mmproj, self.n_ctx, self.n_threads, self.gpu_layers, self.cache_mb * 2**20
            )
            self.capabilities = self._can(self._speaker.loaded.room)
        return self._speaker

    def _here(self) -> bool:
        return self._speaker is not None

    def _drop(self) -> None:
        self._speaker.free()
        self._speaker = None

    def _can(self, room: int) -> Capabilities:
        return Capabilities(images_in=self.mmproj is not None, token_counts=True, context_length=room, together=True)


def create(path: str = "", mmproj: str | None = None, **settings: Any) -> Llama:
    """The GGUF at ``path``, with images by ``mmproj``. Loads nothing yet.

    ``n_ctx`` in tokens: 8192, or what the model was trained for if that is less. ``n_threads``: half the processors.
    ``gpu_layers``: how many run on a GPU; all that fit. ``cache_mb``: memory for dialogues that were read before.

    Raises:
        BackendError: no path, an unknown or impossible setting, or llama-cpp-python is not installed.
    """
    check_settings("A model of llama.cpp", settings, SETTINGS)
    if not isinstance(path, str) or not path.strip():
        raise BackendError('A model of llama.cpp needs a file. Add path = "….gguf" to its entry in studio.toml.')
    eyes = Path(mmproj).expanduser() if mmproj else None
    return Llama(Path(path).expanduser(), eyes, **{k: v for k, v in settings.items() if v is not None})


def check_settings(who: str, settings: dict[str, Any], known: Sequence[str]) -> None:
    """Raise BackendError for a setting that is unknown or impossible, or when llama-cpp-python is not installed."""
    if unknown := set(settings) - set(known):
        raise BackendError(f"{who} has no setting {', '.join(sorted(unknown))}. It knows {', '.join(known)}.")
    for name, least in (("n_ctx", 1), ("n_threads", 1), ("gpu_layers", 0), ("cache_mb", 0)):
        value = settings.get(name)
        if value is not None and (type(value) is not int or value < least):
            said = "above 0" if least else "from 0"
            raise BackendError(f"{who} cannot work with {name} = {value!r}. Give a whole number {said}.")
    if importlib.util.find_spec("llama_cpp") is None:
        raise BackendError(
            f"{who} needs llama-cpp-python: pip install 'intermt-studio[llama]' (it compiles for minutes)."
        )
