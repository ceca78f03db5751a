"""The models in the list as the Models screen shows them: what each can do, what is loaded, a test, and taking one out.

Plain dicts for the page. Never downloads: ``studio.models`` does. Backends are the pool's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from backends import Backend, BackendError, Message, ModelSpec, Options
from studio import StudioError, actions, config
from studio.actions import Studio
from studio.background import Background, Task

QUESTION = "What is the capital of France? Answer with one word."
TEST_TOKENS = 48
SHOWN = 300  # characters of what a test brought back
UNLOAD_S = 10.0


def test(studio: Studio, name: str) -> None:
    """Ask a model one short question in a thread; ``configured`` tells how it goes. Raises StudioError when it is under way."""
    spec = studio.config.model(name)
    _tests(studio).start(name, name, _asking(studio, spec))


def stop_test(studio: Studio, name: str) -> None:
    """Stop the test of a model."""
    if any(t.key == name and not t.over for t in _tests(studio).tasks()):
        _tests(studio).cancel(name)


def unload(studio: Studio, name: str) -> None:
    """Free the memory of a model; the next question loads it again.

    Raises:
        StudioError: it answers and did not stop in time.
    """
    backend = studio.pool.opened().get(name)
    if backend and not backend.unload(UNLOAD_S):
        raise StudioError(f"{name} still answers after {UNLOAD_S:.0f} s. Stop its replies, then unload it.")


def take_out(studio: Studio, name: str) -> None:
    """Take a model of ``studio.toml`` out of the list and free its memory; its files stay.

    Raises:
        StudioError: the file does not name it, or it still answers.
    """
    actions.remove_model(studio, name)
    unload(studio, name)


# ---- inside


def configured(studio: Studio, spec: ModelSpec) -> dict[str, Any]:
    """What the screen shows of one model: its settings, what it can do, how its test went, or why it cannot be used."""
    told: dict[str, Any] = {
        "name": spec.name,
        "backend": spec.backend,
        "settings": {k: str(v) for k, v in spec.settings.items()},
        "own": spec not in (config.BUILTIN, config.ECHO),  # of studio.toml: it can be taken out
    }
    tested = next((t for t in _tests(studio).tasks() if t.key == spec.name), None)
    told |= {"test": tested.told() if tested else None}
    try:
        backend = studio.pool.get(spec)
    except BackendError as error:
        return told | {"problem": str(error)}
    can = backend.capabilities
    return told | {
        "images": can.images_in, "draws": can.images_out, "together": can.together, "context": can.context_length,
        "loaded": backend.describe(),
    }  # fmt: skip


def _tests(studio: Studio) -> Background:
    worker = studio.workers.setdefault("tests", Background())
    assert isinstance(worker, Background)
    return worker


def _asking(studio: Studio, spec: ModelSpec) -> Callable[[Task], None]:
    def ask(task: Task) -> None:
        task.note = answer(studio.pool.get(spec), task.stop)

    return ask


def answer(backend: Backend, stop: threading.Event) -> str:
    """How one short question went: the time to the first token, tokens a second, what came. Raises BackendError."""
    began, text, first, tokens = time.monotonic(), "", None, None
    options = Options(temperature=0.0, max_tokens=TEST_TOKENS)
    with contextlib.closing(iter(backend.stream([Message("user", (QUESTION,))], options, stop))) as deltas:  # type: ignore[type-var]
        for delta in deltas:
            if first is None and (delta.text or delta.reasoning):
                first = time.monotonic() - began
            text += delta.text
            tokens = delta.completion_tokens if delta.completion_tokens is not None else tokens
    if first is None:
        return "" if stop.is_set() else "It answered with no word. Check that it is a chat model."
    rest = time.monotonic() - began - first
    pace = f", {(tokens - 1) / rest:.1f} tokens/s" if tokens and tokens > 1 and rest > 0 else ""
    said = text.strip()[:SHOWN] or "(only reasoning, no reply yet)"
    return f"First token after {first:.2f} s{pace}. It said: {said}"
