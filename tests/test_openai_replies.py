"""What servers with the OpenAI interface send beside text: several replies, reasoning, pictures, tools and counts."""

from __future__ import annotations

import base64
import io
import threading
import time
from typing import Any

import pytest
from PIL import Image as Picture

from backends import BackendError, Delta, Options
from backends.openai import OpenAIChat, create
from tests.servers import events, piece, scripted, status
from tests.test_openai import HELLO, HI, reply, text

USAGE = {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 200}}
END = piece(finish="stop")


def png(colour: str = "red") -> bytes:
    """A small picture as a server would send it."""
    out = io.BytesIO()
    Picture.new("RGB", (8, 6), colour).save(out, "PNG")
    return out.getvalue()


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def sampled(model: OpenAIChat, n: int, stops: list[threading.Event] | None = None, **options: Any) -> dict[int, str]:
    """The text of each of n candidates."""
    found = dict.fromkeys(range(n), "")
    for i, delta in model.sample(HI, Options(**options), n, stops or [threading.Event() for _ in range(n)]):
        found[i] += delta.text
    return found


def facts(deltas: list[Delta]) -> dict[str, Any]:
    return {k: v for d in deltas for k, v in (d.facts or {}).items()}


# ---- several replies


def test_several_replies_in_one_request() -> None:
    pieces = [piece("a", index=0), piece("b", index=1), piece("A", index=0), piece("B", index=1)]
    ends = [piece(finish="length", index=1), piece(finish="stop", index=0), USAGE]
    with scripted(events(*pieces, *ends)) as server:
        model = create("m", server.base_url, price_in=1.0, price_out=10.0)
        assert model.capabilities.together
        deltas = list(model.sample(HI, Options(), 2, [threading.Event(), threading.Event()]))
    assert [r.body["n"] for r in server.requests] == [2]
    assert "".join(d.text for i, d in deltas if i == 1) == "bB"
    ends_by = {i: d for i, d in deltas if d.last}
    assert [ends_by[i].finish for i in (0, 1)] == ["stop", "length"]
    assert ends_by[0].prompt_tokens == 1000
    assert ends_by[0].completion_tokens is None  # the server counts both together
    assert ends_by[0].facts
    assert ends_by[0].facts["tokens_of_all"] == 200
    assert ends_by[0].facts["cost"] == pytest.approx((1000 * 1.0 + 200 * 10.0) / 1e6 / 2)


def test_a_server_that_answers_once_is_asked_again_for_the_others() -> None:
    with scripted(events(piece("x"), END)) as server:
        model = create("m", server.base_url)
        assert sampled(model, 3) == {0: "x", 1: "x", 2: "x"}
        assert [r.body.get("n") for r in server.requests] == [3, None, None]
        assert not model.capabilities.together
        assert sampled(model, 2) == {0: "x", 1: "x"}  # and it is not asked for several any more
        assert [r.body.get("n") for r in server.requests[3:]] == [None, None]


def test_a_server_that_refuses_n_gets_a_request_for_each() -> None:
    no = status(400, {"error": {"message": "'n' must be 1"}})
    with scripted(no, events(piece("x"), END)) as server:
        assert sampled(create("m", server.base_url), 2) == {0: "x", 1: "x"}
    assert [r.body.get("n") for r in server.requests] == [2, None, None]


def test_candidates_with_a_seed_are_requests_of_their_own_at_once() -> None:
    slow = events(*[piece("a")] * 10, END, pause_s=0.15)
    with scripted(slow) as server:
        start = time.perf_counter()
        assert sampled(create("m", server.base_url, n=True), 4, seed=7) == dict.fromkeys(range(4), "a" * 10)
        assert time.perf_counter() - start < 3 * 1.65  # one after the other they would take four times 1.65 s
    assert sorted(r.body["seed"] for r in server.requests) == [7, 8, 9, 10]
    assert not any("n" in r.body for r in server.requests)


def test_one_candidate_that_fails_does_not_spoil_the_others() -> None:
    with scripted(status(500, {"error": {"message": "boom"}}), events(piece("x"), piece("y"), END)) as server:
        came: list[str] = []
        with pytest.raises(BackendError, match=r"status 500 \(boom\)"):
            for _, delta in create("m", server.base_url, n=False).sample(
                HI, Options(), 3, [threading.Event() for _ in range(3)]
            ):
                came.append(delta.text)
    assert "".join(came).count("x") == "".join(came).count("y") == 2


def test_candidates_stop_alone_and_all_together() -> None:
    stops = [threading.Event(), threading.Event()]
    both = [p for _ in range(60) for p in (piece("a", index=0), piece("b", index=1))]
    with scripted(events(*both, pause_s=0.01)) as server:
        counts = {0: 0, 1: 0}
        for i, _ in create("m", server.base_url).sample(HI, Options(), 2, stops):
            counts[i] += 1
            if counts[0] == 3:
                stops[0].set()
            if counts[1] == 10:
                stops[1].set()
        assert counts == {0: 3, 1: 10}
        assert server.hung_up.wait(30)
    assert len(server.requests) == 1


# ---- what comes beside the text


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_kept_apart(name: str) -> None:
    pieces = [piece(delta={name: "Let me "}), piece(delta={name: "see.", "content": None}), piece("4"), END]
    usage = {"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 8}}
    with scripted(events(*pieces, {"choices": [], "usage": usage})) as server:
        deltas = reply(create("m", server.base_url))
    assert "".join(d.reasoning for d in deltas) == "Let me see."
    assert text(deltas) == "4"
    assert facts(deltas)["reasoning_tokens"] == 8


def test_pictures_wherever_servers_put_them() -> None:
    red, blue, green = png("red"), png("blue"), png("green")
    link = "https://elsewhere.example/cat.png"
    pieces = [
        piece(delta={"content": "Here: ", "images": [{"type": "image_url", "image_url": {"url": data_url(red)}}]}),
        piece(
            delta={"content": [{"type": "text", "text": "and "}, {"image_url": data_url(blue), "type": "image_url"}]}
        ),
        piece(delta={"images": [{"b64_json": base64.b64encode(green).decode()}, {"image_url": {"url": link}}]}),
        piece(delta={"images": [{"image_url": {"url": data_url(red)}}]}, finish="stop"),  # the whole again
    ]
    with scripted(events(*pieces)) as server:
        deltas = reply(create("m", server.base_url, images_out=True))
    assert [d.image for d in deltas if d.image] == [red, blue, green]
    assert [d.text for d in deltas if d.text] == ["Here: ", "and "]
    assert facts(deltas)["images_elsewhere"] == [link]
    assert server.requests[0].body["modalities"] == ["image", "text"]
    assert len(server.requests) == 1  # nobody else was asked for anything


def test_a_picture_that_is_none() -> None:
    bad = piece(delta={"images": [{"image_url": {"url": "data:image/png;base64,A"}}]})
    with scripted(events(bad, END)) as server, pytest.raises(BackendError, match="not answer like an OpenAI server"):
        reply(create("m", server.base_url))


def test_tool_calls_are_kept_and_nothing_is_run() -> None:
    def call(name: str | None, arguments: str) -> dict[str, Any]:
        return piece(delta={"tool_calls": [{"index": 0, "function": {"name": name, "arguments": arguments}}]})

    pieces = [call("weather", '{"city": '), call(None, '"Rome"}'), piece(finish="tool_calls")]
    with scripted(events(*pieces)) as server:
        stream, seen = create("m", server.base_url).stream(HI, Options(), threading.Event()), list[Delta]()
        with pytest.raises(BackendError, match=r"asked for a tool \(weather\) instead of answering"):
            seen.extend(stream)
    assert facts(seen)["tool_calls"] == [{"name": "weather", "arguments": '{"city": "Rome"}'}]
    with scripted(events(piece("Wait. "), *pieces)) as server:
        deltas = reply(create("m", server.base_url))
    assert (text(deltas), facts(deltas)["finish"]) == ("Wait. ", "tool_calls")


def test_logprobs_and_cost_when_asked_for() -> None:
    some = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}
    answer = events(piece("ab", logprobs=some), piece("c", logprobs={"content": [{"logprob": -1.0}]}), END, USAGE)
    with scripted(answer) as server:
        known = facts(reply(create("m", server.base_url, logprobs=True, price_in=2.0, price_out=8.0)))
        plain = facts(reply(create("m", server.base_url)))
    assert known["mean_logprob"] == pytest.approx(-1.0)
    assert known["cost"] == pytest.approx(0.002 + 0.0016)
    assert [r.body.get("logprobs") for r in server.requests] == [True, None]
    assert "cost" not in plain


def test_only_options_that_were_set_are_sent() -> None:
    schema = {"type": "object"}
    with scripted(HELLO) as server:
        model = create("m", server.base_url, penalty="repeat_penalty", extra={"reasoning_effort": "low"})
        reply(model, top_k=5, min_p=0.1, repetition_penalty=1.2, stop_strings=("END",), json_schema=schema)
        reply(create("m", server.base_url), grammar="root ::= [a-z]+")
    first, second = (r.body for r in server.requests)
    assert (first["top_k"], first["min_p"], first["repeat_penalty"], first["stop"]) == (5, 0.1, 1.2, ["END"])
    assert first["response_format"]["json_schema"]["schema"] == schema
    assert first["reasoning_effort"] == "low"
    assert second["grammar"] == "root ::= [a-z]+"
    assert not {"top_k", "min_p", "repetition_penalty", "stop", "response_format", "n", "logprobs"} & set(second)


def test_a_temperature_that_is_refused_is_left_out_and_noted() -> None:
    no = status(400, {"error": {"message": "Unsupported value: 'temperature' does not support 0.7 with this model."}})
    with scripted(no, HELLO) as server:
        model = create("m", server.base_url)
        assert facts(reply(model))["left_out"] == ["temperature"]
        reply(model)
    assert ["temperature" in r.body for r in server.requests] == [True, False, False]


def test_a_server_that_does_not_stream() -> None:
    message = {"role": "assistant", "content": "Whole.", "reasoning_content": "Hm."}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE["usage"]}
    with scripted(status(200, whole)) as server:
        deltas = reply(create("m", server.base_url))
    assert (text(deltas), deltas[0].reasoning, deltas[-1].completion_tokens) == ("Whole.", "Hm.", 200)
