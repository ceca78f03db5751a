"""Everything that may go wrong with a model, asked at once beside one that works: each column fails alone, in one line, and the app lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: the faults of its models did not run")

from backends import ModelSpec, Options
from studio import actions, api, config
from studio.actions import Studio
from studio.config import Config
from tests import tiny_gguf
from tests.conftest import ECHO, how, settle, wait
from tests.servers import killed, piece, scripted, status

KEY = "sk-never-elsewhere"
ENDLESS = "root ::= [a-z] root"  # random weights draw the end of a reply now and then; this forbids it
SAYS = {
    "killed": "cut the reply off after 11 characters", "html": "does not answer like an OpenAI server", "redirect": "points elsewhere (status 307)", "truncated": "llama.cpp cannot load",
    "hostile": "refuses this dialogue", "huge": "needs about 4096", "gone": "cannot be read",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("faulty")
    found = {name: folder / f"{name}.gguf" for name in ("good", "truncated", "hostile", "huge", "gone")}
    tiny_gguf.text_model(found["good"], context=4096)
    tiny_gguf.text_model(found["hostile"], template="{{ 'x' * 10000000000 }}")
    found["truncated"].write_bytes(found["good"].read_bytes()[:100_000])
    with found["huge"].open("wb") as file:
        file.write(b"GGUF\x03\x00\x00\x00")
        file.truncate(2**42)  # a hole: takes no disk
    return found


@pytest.fixture
def studio(tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio whose list has every fault, one model that works, and an echo; ``elsewhere`` is where a redirect leads."""
    monkeypatch.setenv("FAULTY_KEY", KEY)
    with ExitStack() as stack:
        elsewhere = stack.enter_context(scripted(status(200, {})))
        served = {
            "killed": stack.enter_context(scripted(killed(piece("Half a "), piece("word")))),
            "html": stack.enter_context(scripted(status(200, "<html><title>Router</title>", "text/html"))),
            "redirect": stack.enter_context(scripted(status(307, location=f"{elsewhere.base_url}/chat/completions"))),
        }
        remote = [
            ModelSpec(n, "openai", {"model": n, "base_url": s.base_url, "key_env": "FAULTY_KEY", "retries": 0})
            for n, s in served.items()
        ]
        local = [ModelSpec(n, "llama", {"path": str(p)}) for n, p in files.items()]
        opened = Studio.open(Config(tmp_path / "home", models=(*remote, *local, ECHO)))
        yield opened
        opened.close()
        assert elsewhere.requests == []  # neither the question nor the key went there


def test_each_column_fails_alone(studio: Studio) -> None:
    names = [*SAYS, ECHO.name]
    replies = actions.ask(studio, [], "Hi", [], how(*names, options=Options(max_tokens=8)))
    settle(studio)
    nodes = dict(zip(names, map(studio.store.node, replies), strict=True))
    for name, says in SAYS.items():
        assert nodes[name].status == "failed", name
        assert says in (nodes[name].error or ""), nodes[name].error
        assert "\n" not in (nodes[name].error or "")
        assert KEY not in str(nodes[name])
    assert nodes["killed"].text == "Half a word"  # what came is kept, and marked
    assert nodes[ECHO.name].status == "done"
    lanes = api.handle(studio, "open", {"lanes": replies})
    assert len(lanes["columns"]) == len(names)
    [more] = actions.ask(studio, [replies[-1]], "And now?", [], how(ECHO.name))
    settle(studio)
    assert studio.store.node(more).status == "done"


def growing(studio: Studio) -> Any:
    """A reply of the good model that would go on for long, once it has its first words."""
    [reply] = actions.ask(studio, [], "Hi", [], how("good", options=Options(max_tokens=3000, seed=1, grammar=ENDLESS)))
    wait(lambda: studio.store.node(reply).text, what="the first words")
    return reply


def test_unloaded_and_taken_out_while_it_answers(studio: Studio) -> None:
    reply = growing(studio)
    told = api.handle(studio, "models_unload", {"name": "good"})
    settle(studio)
    node = studio.store.node(reply)
    assert (node.status, node.error) == ("failed", "good.gguf was unloaded while it answered. Retry loads it again.")
    assert node.text
    assert next(m for m in told["models"] if m["name"] == "good")["loaded"]["loaded"] is False
    config.add_model(studio.config.home, next(m for m in studio.config.models if m.name == "good"))
    reply = growing(studio)
    told = api.handle(studio, "models_take_out", {"name": "good"})
    settle(studio)
    assert studio.store.node(reply).status == "failed"
    assert studio.store.node(reply).text
    assert all(m["name"] != "good" for m in told["models"])


def test_two_tabs_and_a_stop_pressed_twice(studio: Studio) -> None:
    """The second question waits for the model, the first is stopped by both tabs, and nothing is lost."""
    first = growing(studio)
    [second] = actions.ask(
        studio, [], "Me too", [], how("good", options=Options(max_tokens=5, seed=1, grammar=ENDLESS))
    )
    wait(lambda: any(r.node_id == second and r.phase == "waiting" for r in studio.live.growing()), what="the wait")
    assert [api.handle(studio, "stop", {"nodes": [first]})["stopped"] for _ in range(2)][0] == 1
    settle(studio)
    assert api.handle(studio, "stop", {"nodes": [first]}) == {"stopped": 0}
    nodes = [studio.store.node(n) for n in (first, second)]
    assert [n.status for n in nodes] == ["stopped", "done"]
    assert all(n.text and not n.error for n in nodes)
