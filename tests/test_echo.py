"""The echo: what it restates, how it is cut short, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from backends import BackendError, Delta, Image, Message, ModelSpec, Options, Pool
from backends.echo import Echo, create

QUESTION = Message("user", ("What is this?", Image(None, caption="a red kite"), "Look at the tail."))
DIALOGUE = [Message("user", ("Hello",)), Message("assistant", ("Hi",)), QUESTION]


def reply(echo: Echo, messages: list[Message], options: Options | None = None) -> list[Delta]:
    return list(echo.stream(messages, options or Options(seed=1), threading.Event()))


def text(deltas: list[Delta]) -> str:
    return "".join(d.text for d in deltas)


def test_restates_question_captions_and_turns() -> None:
    deltas = reply(create(delay_ms=0), DIALOGUE)
    assert text(deltas) == (
        "**This is an echo, not a model.** Your message was:\n\n> What is this?\n> Look at the tail.\n\n"
        "With 1 image: a red kite.\n\n1 turn came before it. Another reply starts with other words."
    )
    assert deltas[-1] == Delta(finish="stop", prompt_tokens=13, completion_tokens=len(deltas) - 1)


def test_no_words_no_question() -> None:
    assert "> (no words)" in text(reply(create(delay_ms=0), []))
    assert "Nothing came before it." in text(reply(create(delay_ms=0), [Message("user", ("",))]))


def test_seed_decides_the_wording() -> None:
    echo = create(delay_ms=0)
    replies = [text(reply(echo, DIALOGUE, Options(seed=seed))) for seed in range(15)]
    assert len(set(replies)) == 15
    assert replies[3] == text(reply(echo, DIALOGUE, Options(seed=3)))
    fresh = {text(reply(echo, DIALOGUE, Options(seed=None))) for _ in range(60)}
    assert 1 < len(fresh) <= 15
    assert fresh <= set(replies)


def test_max_tokens_counts_words() -> None:
    deltas = reply(create(delay_ms=0), DIALOGUE, Options(max_tokens=4, seed=1))
    assert text(deltas) == "**This is an echo,"
    assert deltas[-1] == Delta(finish="length", prompt_tokens=13, completion_tokens=4)


def test_stop_cuts_a_pause_short() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    start = time.perf_counter()
    deltas = list(create(delay_ms=5000).stream(DIALOGUE, Options(), stop))
    assert time.perf_counter() - start < 1
    assert deltas == [Delta(prompt_tokens=13, completion_tokens=0)]


def test_stop_between_words_keeps_what_came() -> None:
    stop, seen = threading.Event(), []
    for delta in create(delay_ms=0).stream(DIALOGUE, Options(seed=1), stop):
        seen.append(delta)
        if len(seen) == 3:
            stop.set()
    assert text(seen) == "**This is an"
    assert seen[-1] == Delta(prompt_tokens=13, completion_tokens=3)


def test_fails_where_told() -> None:
    stream = create(delay_ms=0, fail_after=2).stream(DIALOGUE, Options(), threading.Event())
    assert next(stream).text + next(stream).text == "**This is"
    with pytest.raises(BackendError, match="fail after 2 words"):
        next(stream)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"colour": "red"}, "colour"),
        ({"delay_ms": "fast"}, "'fast'"),
        ({"delay_ms": -1}, "-1"),
        ({"fail_after": 1.5}, "1.5"),
    ],
)
def test_refuses_settings_it_does_not_know(settings: dict[str, object], names: str) -> None:
    with pytest.raises(BackendError, match=names):
        Pool().get(ModelSpec("Echo", "echo", settings))


@pytest.mark.parametrize("name", ["echo", "builtin", "openai"])
def test_importing_a_backend_imports_no_engine(name: str) -> None:
    engines = ("openai", "httpx2", "llama_cpp", "numpy", "llm")
    code = f"import sys, backends.{name}; print([m for m in {engines} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
