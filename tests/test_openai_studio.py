"""Servers with the OpenAI interface in the studio: patience with a busy one, and what is saved, shown and sent again."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate
from typing import Any

import pytest

from backends import BackendError, Delta, ModelSpec, Options
from backends.openai import create
from backends.openai.patience import Patience, asked_s
from studio import actions, views
from studio.actions import Studio
from tests.conftest import how, settle, wait
from tests.servers import events, killed, piece, scripted, silence, status
from tests.test_openai import HELLO, HI, reply, text
from tests.test_openai_replies import END, USAGE, data_url, png

# ---- patience


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    busy = status(429, {"error": {"message": "Slow down"}}, retry_after="1")
    with scripted(busy, busy, HELLO) as server:
        start = time.perf_counter()
        deltas = reply(create("m", server.base_url))
        assert 1.9 < time.perf_counter() - start < 20
    assert [d.phase for d in deltas[:3]] == ["server", "server", None]
    assert text(deltas) == "Hello"


def test_patience_ends() -> None:
    busy = status(503, {"error": {"message": "Loading"}}, retry_after="0")
    with scripted(busy) as server, pytest.raises(BackendError, match=r"status 503 \(Loading\)"):
        reply(create("m", server.base_url, retries=2))
    assert len(server.requests) == 3
    long = status(429, {"error": {"message": "Enough"}}, retry_after="3600")
    with scripted(long) as server, pytest.raises(BackendError, match="Retry in 3600 s"):
        reply(create("m", server.base_url))
    assert len(server.requests) == 1
    empty = status(429, {"error": {"message": "No credit", "code": "insufficient_quota"}})
    with scripted(empty) as server, pytest.raises(BackendError, match="No credit"):
        reply(create("m", server.base_url))
    assert len(server.requests) == 1


def test_stop_while_waiting_for_a_busy_server() -> None:
    stop = threading.Event()
    with scripted(status(503, "", retry_after="30")) as server:
        start = time.perf_counter()
        for delta in create("m", server.base_url).stream(HI, Options(), stop):
            assert delta.phase == "server"
            stop.set()
        assert time.perf_counter() - start < 3
    assert len(server.requests) == 1


def test_waits_grow_and_are_bounded() -> None:
    class Busy:
        status_code, body = 503, None

        class response:
            headers: dict[str, str] = {}

    patience = Patience(10)
    waits = [w for w in (patience.wait_s(Busy) for _ in range(10)) if w is not None]
    assert [round(w / 2**i, 3) for i, w in enumerate(waits)] == [pytest.approx(0.5, rel=0.21)] * len(waits)
    assert sum(waits) <= 60 < sum(waits) + waits[-1] * 2.6


def test_retry_after_as_seconds_date_or_nonsense() -> None:
    assert asked_s({"retry-after": "1.5"}) == 1.5
    assert asked_s({"retry-after": formatdate(time.time() + 20, usegmt=True)}) == pytest.approx(20, abs=2)
    assert asked_s({"retry-after": formatdate(time.time() - 20, usegmt=True)}) == 0
    assert [asked_s({"retry-after": t}) for t in ("", "soon", "nan", "inf")] == [None] * 4


def test_killed_in_mid_stream_keeps_what_came() -> None:
    seen: list[Delta] = []
    with scripted(killed(piece("Hel"), piece("lo"))) as server:
        stream = create("m", server.base_url).stream(HI, Options(), threading.Event())
        with pytest.raises(BackendError, match="cut the reply off after 5 characters"):
            seen.extend(stream)
    assert text(seen) == "Hello"


# ---- in the studio


def ask(studio: Studio, base_url: str, **settings: Any) -> str:
    """Ask the scripted model 'm' and return its reply's id once it is over."""
    actions.add_model(studio, ModelSpec("m", "openai", {"model": "m", "base_url": base_url, **settings}))
    replies = actions.ask(studio, [], "Draw a kite.", [], how("m"))
    settle(studio)
    return replies[0]


def test_reasoning_is_saved_shown_and_never_sent_back(studio: Studio) -> None:
    pieces = [piece(delta={"reasoning": "<b>secret</b> thought"}), piece("Four."), END, USAGE]
    with scripted(events(*pieces)) as server:
        node = ask(studio, server.base_url, price_out=5.0)
        actions.ask(studio, [node], "And five?", [], how("m"))
        settle(studio)
    saved = studio.store.node(node)
    assert (saved.text, saved.params["reasoning"], saved.params["finish"]) == ("Four.", "<b>secret</b> thought", "stop")
    assert saved.params["options"]["max_tokens"] == 512  # what was there before stays
    assert "secret" not in str(server.requests[1].body)
    assert views.opened(studio, node=node)["shared"][1]["reasoning"] == "<b>secret</b> thought"
    shown = views.inspected(studio, node)
    assert ["Cost", "0.001"] in shown["facts"]
    assert shown["sent"]["request"]["model"] == "m"


def test_a_picture_becomes_a_part_with_its_origin(studio: Studio) -> None:
    drawn = piece(delta={"images": [{"image_url": {"url": data_url(png())}}]})
    with scripted(events(piece("Here: "), drawn, piece("nice?"), END)) as server:
        saved = studio.store.node(ask(studio, server.base_url))
    assert [(p.kind, p.text, p.caption) for p in saved.parts] == [
        ("text", "Here: ", ""), ("image", "", "Draw a kite."), ("text", "nice?", "")]  # fmt: skip
    sha256 = saved.images[0].image_sha256
    assert sha256
    assert studio.media.verify(sha256)
    row = studio.store.images([sha256])[sha256]
    assert (row["origin"], row["tool"], row["prompt"]) == ("generate", "m", "Draw a kite.")


def test_a_picture_alone_is_a_reply_and_a_broken_one_is_said(studio: Studio) -> None:
    drawn, torn = (piece(delta={"images": [{"image_url": {"url": data_url(d)}}]}) for d in (png(), png()[:40]))
    with scripted(events(drawn, END), events(piece("Look: "), torn, END)) as server:
        alone = studio.store.node(ask(studio, server.base_url))
        broken = studio.store.node(actions.retry(studio, alone.id, how("m"))[0])
        settle(studio)
        broken = studio.store.node(broken.id)
    assert (alone.status, len(alone.images), alone.text) == ("done", 1, "")
    assert (broken.status, broken.text) == ("failed", "Look: ")
    assert "picture that m made" in str(broken.error)


def test_tools_asked_for_are_shown(studio: Studio) -> None:
    called = piece(
        delta={"tool_calls": [{"index": 0, "function": {"name": "rm", "arguments": "{}"}}]}, finish="tool_calls"
    )
    with scripted(events(called)) as server:
        node = ask(studio, server.base_url)
    assert studio.store.node(node).status == "failed"
    assert "asked for a tool (rm)" in str(studio.store.node(node).error)
    assert views.inspected(studio, node)["tools"] == ["rm({})"]


def test_several_replies_of_one_request_are_saved_each(studio: Studio) -> None:
    pieces = [
        piece("a", index=0),
        piece("b", index=1),
        piece(finish="stop", index=0),
        piece(finish="stop", index=1),
        USAGE,
    ]
    with scripted(events(*pieces)) as server:
        actions.add_model(studio, ModelSpec("m", "openai", {"model": "m", "base_url": server.base_url}))
        replies = actions.ask(studio, [], "Two, please.", [], how("m", replies=2))
        settle(studio)
    nodes = [studio.store.node(r) for r in replies]
    assert [(n.text, n.status, n.prompt_tokens) for n in nodes] == [("a", "done", 1000), ("b", "done", 1000)]
    assert len(server.requests) == 1


def test_the_card_says_that_the_server_is_waited_for(studio: Studio) -> None:
    with scripted(status(503, "", retry_after="30"), silence) as server:
        actions.add_model(studio, ModelSpec("m", "openai", {"model": "m", "base_url": server.base_url}))
        node = actions.ask(studio, [], "Hi", [], how("m"))[0]
        wait(lambda: [r.phase for r in studio.live.growing()] == ["server"], what="the phase")
        actions.stop(studio, [node])
        settle(studio)
    assert studio.store.node(node).status == "stopped"


def test_one_slow_column_holds_up_nobody(studio: Studio) -> None:
    with scripted(silence) as slow, scripted(HELLO) as quick:
        for name, server in (("slow", slow), ("quick", quick)):
            actions.add_model(studio, ModelSpec(name, "openai", {"model": "m", "base_url": server.base_url}))
        replies = actions.ask(studio, [], "Hi", [], how("slow", "quick"))
        wait(lambda: studio.store.node(replies[1]).status == "done", what="the quick reply")
        assert studio.store.node(replies[0]).status == "streaming"
        actions.stop(studio, replies)
        settle(studio)


def test_messages_of_a_dialogue_are_those_of_its_path(studio: Studio) -> None:
    """A branch never carries words of its siblings to the server."""
    with scripted(HELLO) as server:
        first = ask(studio, server.base_url)
        actions.retry(studio, first, how("m"))
        settle(studio)
        actions.ask(studio, [first], "Next", [], how("m"))
        settle(studio)
    roles = [[m["role"] for m in r.body["messages"]] for r in server.requests]
    assert roles == [["user"], ["user"], ["user", "assistant", "user"]]
