"""A GGUF whose turn it is: unloading, other settings, siblings that grow together, waiting, and errors in the studio around it."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import BackendError, Delta, ModelSpec, Options, Pool
from backends.llama import Llama
from studio import actions
from studio.actions import Ask, Studio
from studio.config import Config
from tests.conftest import settle, wait
from tests.test_llama import ENDLESS, HI, reply

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)


def test_unload_while_it_answers(model: Llama) -> None:
    came: list[Delta] = []
    said: list[str] = []

    def ask() -> None:
        try:
            came.extend(model.stream(HI, Options(max_tokens=1500, seed=1, grammar=ENDLESS), threading.Event()))
        except BackendError as error:
            said.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    wait(lambda: model.describe()["loaded"], what="the model in memory")
    time.sleep(0.05)
    assert model.unload()
    asking.join(10)
    assert said == ["tiny.gguf was unloaded while it answered. Retry loads it again."]
    assert model.describe() == {"loaded": False, "device": "llama.cpp", "memory_mb": 0}
    assert reply(model)


def test_who_leaves_as_soon_as_the_turn_has_come_gives_it_back(model: Llama) -> None:
    first = model.stream(HI, Options(max_tokens=1500, seed=1, grammar=ENDLESS), threading.Event())
    next(first)
    second = model.stream(HI, Options(max_tokens=5, seed=1), threading.Event())
    assert next(second).phase == "waiting"
    first.close()
    assert next(second).phase == "reading"
    second.close()
    assert model.unload(timeout_s=1)


def test_other_settings_free_the_old_model(ggufs: tuple[Path, Path]) -> None:
    pool = Pool()
    first = pool.get(ModelSpec("Tiny", "llama", {"path": str(ggufs[0]), "n_ctx": 256}))
    assert isinstance(first, Llama)
    reply(first)
    second = pool.get(ModelSpec("Tiny", "llama", {"path": str(ggufs[0]), "n_ctx": 512}))
    assert isinstance(second, Llama)
    assert not first.describe()["loaded"]
    reply(second)
    assert second.capabilities.context_length == 512
    assert second.describe()["loaded"]
    pool.close()
    assert not second.describe()["loaded"]


@pytest.fixture
def studio(tmp_path: Path, ggufs: tuple[Path, Path]) -> Iterator[Studio]:
    spec = ModelSpec("Tiny", "llama", {"path": str(ggufs[0]), "n_ctx": 2048})
    opened = Studio.open(Config(tmp_path / "home", annotator="ann", models=(spec,)))
    yield opened
    opened.close()


def test_siblings_grow_together_and_stop_alone(studio: Studio) -> None:
    how = Ask(("Tiny",), 3, Options(max_tokens=600, seed=4, temperature=1.0, grammar=ENDLESS))
    replies = actions.ask(studio, [], "Hello", [], how)
    wait(lambda: all(studio.store.node(r).text for r in replies), what="words of all three")
    assert {studio.store.node(r).status for r in replies} == {"streaming"}
    actions.stop(studio, [replies[1]])
    actions.stop(studio, [replies[1]])
    wait(lambda: studio.store.node(replies[1]).status == "stopped", what="the second one's end")
    settle(studio)
    nodes = [studio.store.node(r) for r in replies]
    assert [n.status for n in nodes] == ["done", "stopped", "done"]
    assert [n.completion_tokens for n in nodes][::2] == [600, 600]
    assert 0 < (nodes[1].completion_tokens or 0) < 600
    assert all(n.first_token_ms and n.latency_ms and n.first_token_ms < n.latency_ms for n in nodes)
    assert [n.params["options"]["seed"] for n in nodes] == [4, 5, 6]


def test_a_second_question_is_told_that_it_waits(studio: Studio) -> None:
    first = actions.ask(studio, [], "Hello", [], Ask(("Tiny",), 1, Options(max_tokens=1500, seed=1, grammar=ENDLESS)))
    wait(lambda: studio.store.node(first[0]).text, what="the first word")
    second = actions.ask(studio, [], "Hello again", [], Ask(("Tiny",), 1, Options(max_tokens=5, seed=1)))
    wait(lambda: [r for r in studio.live.growing() if r.node_id == second[0] and r.phase == "waiting"], what="waiting")
    actions.stop(studio, first)
    settle(studio)
    assert [studio.store.node(r).status for r in (*first, *second)] == ["stopped", "done"]


def test_an_error_ends_every_sibling(studio: Studio, ggufs: tuple[Path, Path]) -> None:
    how = Ask(("Tiny",), 2, Options(grammar="nonsense"))
    replies = actions.ask(studio, [], "Hello", [], how)
    settle(studio)
    assert {studio.store.node(r).status for r in replies} == {"failed"}
    assert all("grammar" in (studio.store.node(r).error or "") for r in replies)
