"""The judge moderates: what is kept and why, what stays when something breaks, and when it refuses."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the judge's tests did not run (make test installs it)"
)

from backends import ModelSpec  # noqa: E402
from studio import StudioError, api, steering, steering_view  # noqa: E402
from studio.actions import Studio  # noqa: E402
from studio.steering_run import Run, current  # noqa: E402
from studio.store.judges import JudgeScore  # noqa: E402
from studio.tree import Part  # noqa: E402
from tests import servers, teach  # noqa: E402
from tests.conftest import BROKEN, ECHO, how, plant, settle, wait  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "yes",
    "An owl sees well in the dark.",
    "No idea at all",
    "owl owl owl owl",
    "A bird of the night, with large eyes",
]
WISH = {"n": 4, "keep": 1, "dimension": "L4"}


@pytest.fixture
def judged(studio: Studio, base: Path) -> Studio:
    """A studio whose live judge 'one' has random weights and scores L4 and overall."""
    teach.untrained(studio.store, "one", str(base), {"L4": 60, "overall": 40})
    studio.judge.promote("one")
    return studio


def said(*texts: str) -> list[servers.Answer]:
    return [servers.events(servers.piece(t), servers.piece(finish="stop")) for t in texts]


@contextmanager
def answering(studio: Studio, *answers: servers.Answer) -> Iterator[str]:
    """A model whose server gives these answers in turn; yields its name."""
    with servers.scripted(*answers) as server:
        spec = ModelSpec("Server", "openai", {"base_url": server.base_url, "model": "m"})
        studio.config = replace(studio.config, models=(*studio.config.models, spec))
        yield spec.name


def over(studio: Studio) -> Run:
    """The run, once it is over."""
    run = current(studio).run
    assert run
    wait(lambda: not run.going, 60, "the end of the run")
    return run


def scores(studio: Studio, nodes: list[str], dimension: str = "L4") -> dict[str, JudgeScore]:
    told = studio.store.judge_scores(studio.store.node(nodes[0]).tree_id, "one")
    return {n: told[n][dimension] for n in nodes if n in told}


def pruned(studio: Studio, nodes: list[str]) -> set[str]:
    return {n for n in nodes if studio.store.node(n).pruned_at}


def shown(studio: Studio, blind: bool = False) -> dict[str, Any]:
    return steering_view.state(studio, blind)["run"]


def siblings(studio: Studio) -> list[str]:
    """A question and TEXTS as its replies, scored; lowest on L4 first."""
    asked, first = plant(studio, "What is an owl?", TEXTS[0])
    tree = studio.store.node(asked).tree_id
    ids = [
        first,
        *(studio.store.add_node(tree, asked, "assistant", [Part("text", t)], model="Server") for t in TEXTS[1:]),
    ]
    studio.judge.look(tree)
    assert studio.judge.settle(60), studio.judge.note
    found = scores(studio, ids)
    return sorted(ids, key=lambda n: found[n][0])


# ---- best of n


@pytest.mark.parametrize("keep", [1, 2])
def test_the_best_are_kept_and_one_undo_brings_the_others_back(judged: Studio, keep: int) -> None:
    with answering(judged, *said(*TEXTS[:4])) as model:
        replies = steering.ask(judged, [], "What is an owl?", [], how(model), WISH | {"keep": keep})
        run = over(judged)
    assert (run.phase, run.note) == ("done", "")
    told = scores(judged, replies)
    order = sorted(replies, key=lambda n: -told[n][0])
    assert pruned(judged, replies) == set(order[keep:])
    state = steering_view.state(judged, False)
    view = state["run"]
    assert [r["id"] for r in view["rows"]] == order
    assert [(r["value"], r["spread"]) for r in view["rows"]] == [told[n][:2] for n in order]
    assert [r["fate"] for r in view["rows"]] == ["kept"] * keep + ["pruned"] * (4 - keep)
    assert view["show"] == order[:keep]
    for row, (a, b) in zip(view["rows"], pairwise(order), strict=False):
        spread = statistics.stdev(x - y for x, y in zip(told[a].heads, told[b].heads, strict=True))  # of paired heads
        assert row["above_next"]["difference"] == pytest.approx(told[a][0] - told[b][0])
        assert row["above_next"]["spread"] == pytest.approx(spread)
        assert row["above_next"]["close"] == (told[a][0] - told[b][0] <= spread)
    assert view["rows"][-1]["above_next"] is None
    assert view["says"].startswith(f"Kept {keep} of 4 by L4.")
    last = view["rows"][keep - 1]["above_next"]
    assert f" {last['difference']:.2f} above the next: " in view["says"]
    assert ("too close to call" in view["says"]) == last["close"]

    assert "undo" not in steering_view.state(judged, False)  # it was offered once
    assert api.handle(judged, "undo", state["undo"]) == {"saved": True}
    assert pruned(judged, replies) == set()
    assert [r["fate"] for r in shown(judged)["rows"]] == ["kept"] * keep + ["brought back"] * (4 - keep)
    assert shown(judged)["back"] is None


def test_a_question_that_is_there_is_answered_anew(judged: Studio) -> None:
    asked, old = plant(judged, "q", "an old reply")
    answer = api.handle(
        judged, "steer_best", {"node": asked, "wish": WISH | {"n": 2, "blind": False}, "how": asking(ECHO.name)}
    )
    over(judged)
    assert len(answer["replies"]) == 2
    assert {judged.store.node(n).parent_id for n in answer["replies"]} == {asked}
    assert len(pruned(judged, answer["replies"])) == 1
    assert not judged.store.node(old).pruned_at  # it was no candidate
    with pytest.raises(StudioError, match="that message is a reply"):
        steering.best(judged, old, WISH, how())


def asking(model: str) -> dict[str, Any]:
    return {"models": [model], "replies": 1, "temperature": 0.7, "max_tokens": 64, "seed": None, "system": ""}


def test_few_labels_are_told_with_the_choice(judged: Studio) -> None:
    steering.ask(judged, [], "q", [], how(), WISH | {"dimension": "overall"})
    over(judged)
    assert "The judge learned from 40 labels of overall, below 50: too few to trust." in shown(judged)["says"]


def test_what_failed_or_was_gone_on_with_is_not_pruned(judged: Studio) -> None:
    asked, first = plant(judged, "q", "r")
    tree = judged.store.node(asked).tree_id
    with answering(judged, *said("a word", "quite another word")) as model:
        replies = steering.best(judged, asked, WISH | {"n": 1, "dimension": "L4"}, how(model, BROKEN.name, ECHO.name))
        settle(judged)
        for n in replies:
            judged.store.add_node(tree, n, "user", [Part("text", "go on")])
        run = over(judged)
    failed = [n for n in replies if judged.store.node(n).status == "failed"]
    assert len(failed) == 1
    assert pruned(judged, replies) <= set(replies) - set(failed)
    rows = {r["id"]: r for r in shown(judged)["rows"]}
    assert (rows[failed[0]]["fate"], rows[failed[0]]["value"]) == ("failed", None)
    assert "1 had no score and stayed." in shown(judged)["says"]
    assert run.pruned == [n for n in run.pruned if judged.store.node(n).pruned_at]


def test_all_dead_is_one_line_and_keeps_everything(judged: Studio) -> None:
    with servers.scripted() as server:
        dead = ModelSpec("Dead", "openai", {"base_url": server.base_url, "model": "m"})
    judged.config = replace(judged.config, models=(dead,))
    replies = steering.ask(judged, [], "q", [], how(dead.name), WISH)
    run = over(judged)
    assert run.phase == "failed"
    assert "None of the replies is whole" in shown(judged)["says"]
    assert "\n" not in shown(judged)["says"]
    assert not pruned(judged, replies)
    assert {judged.store.node(n).status for n in replies} == {"failed"}


# ---- until one is better


def test_it_stops_at_the_first_that_is_better(judged: Studio) -> None:
    ranked = siblings(judged)
    low, high = (judged.store.node(n) for n in (ranked[0], ranked[-1]))
    with answering(judged, *said(low.text, high.text, "never asked for")) as model:
        steering.better(judged, low.id, "L4", how(model), most=4, margin=0.0)
        run = over(judged)
    assert (run.phase, len(run.made)) == ("done", 2)
    assert run.found == run.made[1]
    assert judged.store.node(run.found).text == high.text
    told = scores(judged, [low.id, *run.made])
    assert told[run.made[0]][0] == pytest.approx(told[low.id][0], abs=1e-4)  # the same text is no better
    assert not pruned(judged, [*ranked, *run.made])
    view = shown(judged)
    assert view["says"].startswith(
        f"Attempt 2 of 4 has {told[run.found][0]:.2f} on L4, more than 0.00 above {told[low.id][0]:.2f}:"
    )
    assert view["rows"][0]["fate"] == "better"
    assert {r["id"]: r["fate"] for r in view["rows"]}[low.id] == "the one to beat"


def test_at_most_so_often_and_then_it_says_what_the_best_was(judged: Studio) -> None:
    ranked = siblings(judged)
    with answering(judged, *said("one", "two words", "three words here")) as model:
        steering.better(judged, ranked[-1], "L4", how(model), most=3, margin=5)
        run = over(judged)
    assert (run.phase, len(run.made), run.found) == ("done", 3, None)
    told = scores(judged, [*run.made, ranked[-1]])
    best = max(told[n][0] for n in run.made)
    assert shown(judged)["says"] == (
        f"None of 3 is more than 5.00 above {told[ranked[-1]][0]:.2f} on L4. The best has {best:.2f}."
    )
    assert not pruned(judged, run.made)


def test_the_margin_is_the_spread_unless_given(judged: Studio) -> None:
    ranked = siblings(judged)
    with answering(judged, *said("word")) as model:
        api.handle(
            judged,
            "steer_better",
            {"node": ranked[-1], "dimension": "L4", "most": 1, "margin": "", "blind": False, "how": asking(model)},
        )
        run = over(judged)
    assert run.margin == pytest.approx(scores(judged, ranked)[ranked[-1]][1], abs=1e-9)


def test_a_server_that_dies_in_the_middle_keeps_what_was_made(judged: Studio) -> None:
    ranked = siblings(judged)
    with answering(judged, *said("first"), servers.status(500, {"error": {"message": "out of memory"}})) as model:
        steering.better(judged, ranked[-1], "L4", how(model), most=4, margin=5)
        run = over(judged)
    assert run.phase == "failed"
    assert shown(judged)["says"].startswith("Attempt 2 failed: ")
    assert [judged.store.node(n).status for n in run.made] == ["done", "failed"]
    assert not pruned(judged, run.made)
