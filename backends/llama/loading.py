"""One GGUF in memory: the checks before it is loaded, the model, its context, its words.

Owns llama.cpp's objects and when they are freed, and what llama.cpp logs. Never reads a dialogue.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.threads import waiting

DEFAULT_N_CTX = 8192
CANDIDATES = 8  # at once; more wait for one of these to end
SPARE = 256 * 2**20  # bytes that loading and working take beside weights and keys and values
LOG_ERROR = 4  # of llama.cpp's log levels
COMPLAINTS: list[str] = []  # errors that llama.cpp logged since this was cleared; the first one tells most
_listener: Any = None  # llama.cpp keeps a pointer to it, so Python must keep it alive


class Loaded:
    """A model and a context of ``room`` tokens, prompt and reply together. ``lib``: llama.cpp's functions."""

    def __init__(self, path: Path, n_ctx: int | None, n_threads: int | None, gpu_layers: int | None) -> None:
        """Load ``path``. Raises BackendError: no GGUF, truncated, of an unknown kind, or too large for this machine."""
        self.lib = lib = _library()
        self.path = path
        self.model: Any = None
        self.context: Any = None
        self.memory: Any = None
        self._owned: list[tuple[Callable[[Any], None], Any]] = []
        self._release = weakref.finalize(self, _release, self._owned)
        self._release.atexit = False  # the system is quicker
        self.threads = n_threads or max((os.cpu_count() or 2) // 2, 1)
        self.abort = ctypes.create_string_buffer(2)  # as a C string: empty = go on, one character = give up
        check_memory(path.name, path.stat().st_size, "choose a smaller or more strongly quantised GGUF")
        COMPLAINTS.clear()
        params = lib.llama_model_default_params()
        if gpu_layers is not None:
            params.n_gpu_layers = gpu_layers
        self.model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise BackendError(f"llama.cpp cannot load {path}{complaint()}. Download it again, or choose another GGUF.")
        self._owned.append((lib.llama_model_free, self.model))
        self.vocab = lib.llama_model_get_vocab(self.model)
        trained = lib.llama_model_n_ctx_train(self.model)
        self.room = n_ctx or min(DEFAULT_N_CTX, trained or DEFAULT_N_CTX)
        try:
            self._open_context(n_threads or os.cpu_count() or 2)
        except BackendError:
            self.free()
            raise
        self._piece = ctypes.create_string_buffer(256)

    def _open_context(self, batch_threads: int) -> None:
        lib, size = self.lib, self.path.stat().st_size
        advice = f"lower n_ctx (now {self.room}), or choose a smaller or more strongly quantised GGUF"
        check_memory(self.path.name, size + self._kv_bytes(), advice)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = self.room, CANDIDATES + 1, True
        params.n_threads, params.n_threads_batch = self.threads, batch_threads
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED  # with it, how the cache is split changes the sums
        # After each of thousands of steps llama.cpp asks this function whether to give up. strlen answers from the flag
        # at once; a Python function would wait for the interpreter's lock every time.
        strlen = ctypes.CDLL("msvcrt" if os.name == "nt" else None).strlen
        params.abort_callback = ctypes.cast(strlen, lib.ggml_abort_callback)
        params.abort_callback_data = ctypes.cast(self.abort, ctypes.c_void_p)
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise BackendError(f"llama.cpp cannot load {self.path}{complaint()}. For want of memory, {advice}.")
        self._owned.append((lib.llama_free, self.context))
        self.memory = lib.llama_get_memory(self.context)
        self.cells: int = lib.llama_n_ctx(self.context)
        if lib.llama_model_has_encoder(self.model) or not self.memory:
            raise BackendError(f"{self.path.name} is no model that chats. Choose another GGUF.")

    def _kv_bytes(self) -> int:
        """What keys and values of the whole context take, at two bytes a number; an estimate."""
        lib, model = self.lib, self.model
        heads = max(lib.llama_model_n_head(model), 1)
        width = lib.llama_model_n_embd(model) // heads * lib.llama_model_n_head_kv(model)
        return int(self.room * lib.llama_model_n_layer(model) * width * 2 * 2)

    @property
    def memory_bytes(self) -> int:
        """What weights, keys and values take."""
        return int(self.lib.llama_model_size(self.model)) + self._kv_bytes()

    def free(self) -> None:
        """Give the memory back, which also happens when nobody refers to this any more."""
        self._release()
        self.model = self.context = self.memory = None

    def meta(self, key: str) -> str | None:
        """A value of the GGUF's metadata, None where there is none."""
        size = 2**12
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self.lib.llama_model_meta_val_str(self.model, key.encode(), buffer, size)
            if length < size:
                return buffer.value.decode("utf-8", "replace") if length >= 0 else None
            size = length + 1

    def word(self, token: int) -> str:
        """A token as the vocabulary spells it; empty for none."""
        return self.lib.llama_vocab_get_text(self.vocab, token).decode("utf-8", "replace") if token >= 0 else ""

    def special(self) -> list[str]:
        """The tokens that steer the model and that no text should contain."""
        lib, vocab = self.lib, self.vocab
        return [self.word(t) for t in range(lib.llama_vocab_n_tokens(vocab)) if lib.llama_vocab_is_control(vocab, t)]

    def piece(self, token: int) -> bytes:
        """The bytes of a token in a reply; none for a special one."""
        length = self.lib.llama_token_to_piece(self.vocab, token, self._piece, len(self._piece), 0, False)
        if length < 0:
            self._piece = ctypes.create_string_buffer(-length)
            length = self.lib.llama_token_to_piece(self.vocab, token, self._piece, -length, 0, False)
        return self._piece.raw[:length]

    def tokens(self, text: str, begin: bool) -> list[int]:
        """Token ids of a prompt, special tokens understood; ``begin``: with the model's beginning-of-text token."""
        data = text.encode("utf-8", "surrogatepass")
        size = len(data) + 16
        found = (self.lib.llama_token * size)()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), found, size, begin, True)
        if count < 0:
            raise BackendError(f"{self.path.name} cannot take this dialogue apart into tokens. Choose another model.")
        return found[:count]


def _release(owned: list[tuple[Callable[[Any], None], Any]]) -> None:
    while owned:  # the context before its model
        free, pointer = owned.pop()
        free(pointer)


def check_file(path: Path) -> None:
    """Raise BackendError unless ``path`` begins as a GGUF does."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise BackendError(
            f"The model file {path} cannot be read: {error.strerror}. Mend its path in studio.toml."
        ) from error
    if magic != b"GGUF":  # llama.cpp would only say that it failed
        raise BackendError(f"{path} is no GGUF file (it starts with {magic!r}). Download it again, or choose another.")


def check_memory(name: str, needed: int, advice: str) -> None:
    """Raise BackendError when ``needed`` bytes are more than this machine has left."""
    free = available_bytes()
    if needed + SPARE > free:
        raise BackendError(
            f"{name} needs about {(needed + SPARE) / 2**30:.1f} GiB of memory; {free / 2**30:.1f} GiB are free. "
            f"Unload another model or close other programs, or {advice}."
        )


def available_bytes() -> int:
    """Memory that can be taken without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def complaint() -> str:
    """What llama.cpp first complained of, in brackets, or nothing."""
    return f" ({COMPLAINTS[0].split(': ', 1)[-1][:300]})" if COMPLAINTS else ""


def _library() -> Any:
    """llama.cpp, loaded once: its errors are kept for messages, and everything else off the terminal.

    Its threads look for a moment whether the others are done, then sleep. Asleep at once, as PASSIVE has it, they wake up too
    late for the next of thousands of steps: half the tokens of a batch of eight. Awake for as long as OpenMP's default has it,
    they burn what a browser or a judge needs on the same cores: beside three busy processes on two cores, 2.5 times the time.
    """
    global _listener
    added = waiting()
    os.environ.update(added)  # OpenMP looks once, while it is loaded
    try:
        import llama_cpp.llama_cpp as lib
        import llama_cpp.mtmd_cpp as mtmd
    finally:
        for name in added:  # what this process starts later decides for itself
            del os.environ[name]
    if _listener is None:

        def hear(level: int, text: bytes, _: Any) -> None:
            if level == LOG_ERROR and text.strip():
                COMPLAINTS.append(" ".join(text.decode("utf-8", "replace").split()))

        _listener = lib.llama_log_callback(hear)
        lib.llama_backend_init()
        for listen in (lib.llama_log_set, mtmd.mtmd_log_set, mtmd.mtmd_helper_log_set):
            listen(_listener, None)
    return lib
