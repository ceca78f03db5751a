"""Every way in which a server with the OpenAI interface can fail, each one line."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from backends import BackendError, Delta, Options
from backends.openai import create, list_models
from tests.servers import Answer, Scripted, events, free_port, piece, scripted, silence, status
from tests.test_openai import HELLO, HI, KEY, reply, text


def failure(server: Scripted, **settings: Any) -> str:
    """The one line that asking a server ends with."""
    with pytest.raises(BackendError) as caught:
        reply(create("m", server.base_url, **{"retries": 0, **settings}))
    line = str(caught.value)
    assert "\n" not in line
    assert KEY not in line
    return line.replace(server.base_url, "URL")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            status(401, {"error": {"message": f"Incorrect key: {KEY}"}}),
            "URL wants a key, and the one in MY_KEY was refused (Incorrect key: ***). "
            "Set it and start the studio again.",
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
            "URL failed with status 503 (" + ("Loading " + "the model " * 90)[:200] + "). "
            "Look into its log, or retry later.",
        ),
        (
            status(502, "<html><head><title>Bad  gateway</title></head><body>...</body></html>", "text/html"),
            "URL failed with status 502 (a web page: Bad gateway). Look into its log, or retry later.",
        ),
        (
            status(413, {"error": {"message": "Payload Too Large"}}),
            "URL finds the request too large (Payload Too Large). Send fewer or smaller pictures, or branch earlier.",
        ),
        (
            status(400, {"error": {"message": "top_k: unknown"}}),
            "URL refused the request with status 400 (top_k: unknown). Mend what it names, or retry later.",
        ),
        (
            status(200, "<html>router login</html>", "text/html"),
            "URL does not answer like an OpenAI server (it sends text/html, no stream of events). Check the base URL.",
        ),
        (
            events("not json"),
            "URL does not answer like an OpenAI server (Expecting value: line 1 column 1 (char 0)). "
            "Check the base URL.",
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
        assert server.hung_up.wait(30)
    with scripted(events(piece("Hel"), piece("lo"), pause_s=0.6)) as server:
        assert "after 3 characters of the reply" in failure(server, timeout_s=0.2)


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
