"""Sampling options from the page to the model: checked, sent only where set, left out and told where a model cannot follow them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends import SAMPLING, BackendError, ModelSpec, Options, Pool
from backends.servers import presets
from studio import StudioError, actions, api, sampling, views
from studio.actions import Studio
from tests.conftest import ECHO, settle
from tests.servers import events, piece, scripted

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
ANSWER = events(piece("Yes."), piece(finish="stop"))


def asked(*models: str, **more: Any) -> actions.Ask:
    return sampling.how_to_ask(list(models), 1, 0.5, 20, "", "", more)


def test_what_was_typed_becomes_options() -> None:
    typed = {
        "top_p": "0,9",
        "top_k": 0,
        "min_p": " 0.05 ",
        "repetition_penalty": "1.1",
        "stop": "\\n\\n\n end\nC:\\\\n\n",
    }
    assert sampling.further(typed) == {
        "top_p": 0.9, "top_k": 0, "min_p": 0.05, "repetition_penalty": 1.1, "stop_strings": ("\n\n", " end", "C:\\n")}  # fmt: skip
    assert sampling.further({"rules": 'root ::= "a"', "follow": "grammar"}) == {"grammar": 'root ::= "a"'}
    assert sampling.further({"rules": json.dumps(SCHEMA), "follow": "json_schema"}) == {"json_schema": SCHEMA}
    assert sampling.further({"top_p": "", "top_k": None, "stop": "\n\n", "rules": " ", "follow": "json_schema"}) == {}


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"top_p": "1.5"}, r"Top-p is a number from 0 to 1, not '1\.5'\. Leave it empty"),
        ({"top_k": "4.5"}, "Top-k is a whole number from 0 to 100,000, not '4.5'"),
        ({"min_p": "nan"}, "Min-p is a number"),
        ({"repetition_penalty": "0"}, "repetition penalty is a number from 0.1 to 10"),
        ({"stop": "x\n" * 17}, "At most 16 stop strings of 200 characters, one a line; there are 17"),
        ({"stop": "x" * 201}, "At most 16 stop strings"),
        ({"rules": "a ::= b", "follow": "grammar"}, r"needs a rule that begins with root ::="),
        ({"rules": "{", "follow": "json_schema"}, "The JSON schema is no JSON: .*Mend it"),
        ({"rules": "[1]", "follow": "json_schema"}, "an object in braces"),
        ({"rules": "x" * 100_001}, "has 100,001 characters"),
        ([1], "did not arrive as a table"),
    ],
)
def test_what_cannot_be_is_one_line(typed: Any, says: str) -> None:
    with pytest.raises(StudioError, match=says) as caught:
        sampling.how_to_ask(["m"], 1, 0.5, 20, "", "", typed)
    assert "\n" not in str(caught.value)


def test_sent_only_where_set_kept_and_shown(studio: Studio) -> None:
    with scripted(ANSWER) as server:
        actions.add_model(studio, ModelSpec("m", "openai", {"model": "m", "base_url": server.base_url}))
        plain, full = (
            actions.ask(studio, [], "Hi", [], how)[0]
            for how in (asked("m"), asked("m", top_p="0.9", min_p=0.1, stop="end", rules=json.dumps(SCHEMA), follow="json_schema"))
        )  # fmt: skip
        settle(studio)
    bodies = {"stop" in b: b for b in (r.body for r in server.requests)}
    assert set(bodies[False]) == {"model", "messages", "stream", "stream_options", "temperature", "max_tokens"}
    assert (bodies[True]["top_p"], bodies[True]["min_p"], bodies[True]["stop"]) == (0.9, 0.1, ["end"])
    assert bodies[True]["response_format"]["json_schema"]["schema"] == SCHEMA
    assert actions.sent(studio, plain)["options"] == {"temperature": 0.5, "max_tokens": 20, "seed": None}
    assert actions.sent(studio, full)["options"] == {
        "temperature": 0.5, "max_tokens": 20, "seed": None, "top_p": 0.9, "min_p": 0.1, "stop_strings": ["end"],
        "json_schema": SCHEMA}  # fmt: skip
    assert studio.store.node(full).params["options"]["json_schema"] == SCHEMA


def test_one_question_to_models_that_can_and_cannot(studio: Studio) -> None:
    """Nothing fails for an option that a model does not know: it is left out for that one, and the inspector says so."""
    with scripted(ANSWER) as server:
        settings = {"model": "m", "base_url": server.base_url, "sampling": ["top_p", "stop_strings"]}
        actions.add_model(studio, ModelSpec("m", "openai", settings))
        replies = actions.ask(
            studio, [], "Hi", [], asked("m", ECHO.name, top_p=0.9, top_k=5, rules='root ::= "a"', follow="grammar")
        )
        settle(studio)
    [body] = [r.body for r in server.requests]
    assert body["top_p"] == 0.9
    assert not {"top_k", "grammar"} & set(body)
    told = [dict(views.inspected(studio, r)["facts"]).get("Left out, as it cannot") for r in replies]
    assert told == ["top_k, grammar", "top_p, top_k, grammar"]
    assert {studio.store.node(r).status for r in replies} == {"done"}


def test_who_can_is_a_capability(studio: Studio) -> None:
    pool, able = Pool(), api.handle(studio, "sampling", {})["models"]
    assert able[ECHO.name] == []
    pytest.importorskip("torch")
    assert set(SAMPLING) - set(pool.get(ModelSpec("t", "transformers", {"model": "owner/m"})).capabilities.sampling) == {
        "grammar", "json_schema"}  # fmt: skip
    pytest.importorskip("llama_cpp")
    assert pool.get(ModelSpec("l", "llama", {"path": "x.gguf"})).capabilities.sampling == SAMPLING
    for preset in presets():
        made = pool.get(
            ModelSpec(preset.name, "openai", {"model": "m", "base_url": "http://127.0.0.1:1/v1"} | preset.settings)
        )
        assert "stop_strings" in made.capabilities.sampling
    with pytest.raises(BackendError, match=r"sampling = \['top'\] is no list of top_p"):
        pool.get(ModelSpec("bad", "openai", {"model": "m", "sampling": ["top"]}))
    assert Options(top_k=3).within(SAMPLING) == (Options(top_k=3), [])


def test_a_browser_remembers_what_still_can_be(studio: Studio) -> None:
    kept = json.dumps([["gone", ECHO.name], 3, 1.2, 64, "7", "Be brief."])
    assert sampling.remembered(studio, kept) == [[ECHO.name], 3, 1.2, 64, "7", "Be brief."]
    first = studio.config.models[0].name
    for odd in ("", "{", "7", "[]", "[1,2]", json.dumps([["x"], 1, 9, 1, "", ""]), json.dumps([7, 1, 1, 1, "", ""])):
        assert sampling.remembered(studio, odd) == [[first], None, None, None, None, None]
    assert sampling.remembered(studio, json.dumps([["gone"], 1, 0.7, 9, None, None]))[0] == [first]
