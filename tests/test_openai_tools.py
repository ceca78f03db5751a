"""Image tools that a model on a server calls by itself: offered where that is switched on, and tokens of its reply from then on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends import BackendError, ModelSpec
from backends.openai import create
from backends.openai.tools import schema, split
from studio import actions, proposals, views
from studio.actions import Studio
from studio.config import Config
from tests.conftest import how, plant, settle, wait
from tests.servers import Answer, events, piece, scripted, status
from tests.test_openai import HELLO, reply, text
from tests.test_openai_replies import facts
from tests.test_proposals import pixel


def called(*calls: tuple[str, Any], words: str = "") -> Answer:
    """A reply of these words that calls tools, their arguments cut into two pieces."""
    pieces = [piece(words)] if words else []
    for i, (name, arguments) in enumerate(calls):
        said = arguments if isinstance(arguments, str) else json.dumps(arguments)
        for cut, part in ((name, said[:7]), (None, said[7:])):
            pieces.append(piece(delta={"tool_calls": [{"index": i, "function": {"name": cut, "arguments": part}}]}))
    return events(*pieces, piece(finish="tool_calls"))


def test_tools_are_offered_only_where_that_is_switched_on() -> None:
    with scripted(HELLO) as server:
        reply(create("m", server.base_url))
        reply(create("m", server.base_url, image_tools=True))
    plain, offered = (r.body.get("tools") for r in server.requests)
    assert plain is None
    assert [t["function"]["name"] for t in offered] == ["generate_image", "edit_image", "find_image"]
    assert offered == schema()
    with pytest.raises(BackendError, match="neither true nor false"):
        create("m", "http://127.0.0.1:9/v1", image_tools="yes")


def test_a_call_is_a_token_after_what_was_written() -> None:
    calls = (
        ("generate_image", {"caption": "a <red>\nkite"}),
        ("rm", {"caption": "x"}),
        ("edit_image", {"caption": "the same", "picture": 2}),
    )
    with scripted(called(*calls, words="Here.")) as server:
        seen = reply(create("m", server.base_url, image_tools=True))
    assert text(seen) == "Here.\n\n<Image, a red kite>\n\n<Image, the same>"
    assert seen[-2].facts == {"image_calls": [{"tool": "generate", "caption": "a red kite", "picture": 0},
                                              {"tool": "edit", "caption": "the same", "picture": 2}]}  # fmt: skip
    assert facts(seen)["tool_calls"] == [{"name": "rm", "arguments": '{"caption": "x"}'}]  # that one nobody runs


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "{}", '{"caption": 3}', '{"caption": " <> "}', "[" * 5000])
def test_a_call_without_a_caption_is_none(arguments: str) -> None:
    call = {"name": "generate_image", "arguments": arguments}
    assert split([call]) == ([], [call])


def test_a_server_that_knows_no_tools_is_asked_without() -> None:
    refuses = status(400, {"error": {"message": "Unsupported parameter: tools"}})
    with scripted(refuses, HELLO) as server:
        seen = reply(create("m", server.base_url, image_tools=True))
    assert text(seen) == "Hello"
    assert "tools" not in server.requests[1].body
    assert facts(seen)["left_out"] == ["tools"]


def test_what_the_model_called_is_what_is_proposed(studio: Studio) -> None:
    proposals.of(studio)
    _, before = plant(studio, "Q", "Look: <Image, a kite>")
    proposals.attach(studio, before, 6, pixel(studio))
    [picture] = studio.store.images()
    calls = ("edit_image", {"caption": "a dragon", "picture": 1}), ("find_image", {"caption": "a dragon"})
    with scripted(called(*calls)) as server:
        chat = ModelSpec("Chat", "openai", {"base_url": server.base_url, "model": "m", "image_tools": True})
        studio.config = Config(studio.config.home, annotator="ann", models=(chat,))
        [node] = actions.ask(studio, [before], "And?", [], how("Chat"))
        settle(studio)
    found = wait(lambda: len(r := studio.store.proposals([node]).get(node, {})) == 2 and r, what="the proposals")
    assert studio.store.node(node).status == "done"  # calling is no failure to answer
    edit, find = (found[place] for place in sorted(found))
    assert [(r["tool"], r["decided_by"]) for r in (edit, find)] == [("edit", "call"), ("retrieve", "call")]
    assert edit["params"]["source"] == picture
    assert ["Called for pictures", "edit: a dragon; retrieve: a dragon"] in views.inspected(studio, node)["facts"]
