"""Steering that is cancelled, stopped, closed or refused: nothing is lost, nothing is pruned, and one line says why."""

# ruff: noqa: F811 -- a fixture that is imported is asked for by its name

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: the judge's tests did not run (make test installs it)")

from backends import Options
from studio import StudioError, actions, steering, steering_view
from studio.actions import Studio
from studio.steering_run import Run, current
from studio.tree import Part
from tests.conftest import SLOW, how, plant, settle, wait
from tests.test_steering import WISH, judged, over, pruned, shown, siblings  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- cancelled, stopped, closed


def test_cancelling_keeps_what_was_written_and_prunes_nothing(judged: Studio) -> None:
    replies = steering.ask(judged, [], "word " * 200, [], how(SLOW.name), WISH | {"n": 2})
    wait(lambda: all(judged.store.node(n).text for n in replies), 20, "the first words")
    view = shown(judged)
    assert (view["going"], view["done"], view["of"]) == (True, 0, 2)
    with pytest.raises(StudioError, match="still choosing"):
        steering.ask(judged, [], "another", [], how(), WISH)
    assert steering.cancel(judged)
    run = over(judged)
    assert run.phase == "cancelled"
    settle(judged)
    assert [judged.store.node(n).status for n in replies] == ["stopped", "stopped"]
    assert all(judged.store.node(n).text for n in replies)
    assert not pruned(judged, replies)
    assert not steering.cancel(judged)


def test_the_time_left_comes_from_what_was_made(judged: Studio) -> None:
    asked, first = plant(judged, "q", "r")
    tree = judged.store.node(asked).tree_id
    done = judged.store.add_node(tree, asked, "assistant", [Part("text", "s")])
    grows = [judged.store.add_node(tree, asked, "assistant", status="streaming") for _ in range(2)]
    run = Run("best", tree, "one", "L4", 60, 4, made=[first, done, *grows], began=time.monotonic() - 10)
    current(judged).run = run
    assert shown(judged)["left_s"] == pytest.approx(10, abs=1)  # two in ten seconds, two to come
    assert shown(judged)["says"] == "2 of 4 written …"
    judged.store.grow(first, [Part("text", "r")], latency_ms=4000.0)
    current(judged).run = Run("better", tree, "one", "L4", 60, 4, base=first)
    assert shown(judged)["left_s"] == pytest.approx(16, abs=1)  # four times what the one to beat took


def test_stopping_a_reply_ends_the_attempts(judged: Studio) -> None:
    ranked = siblings(judged)
    steering.better(judged, ranked[0], "L4", replace(how(SLOW.name), options=Options(max_tokens=500)), most=4, margin=5)
    made = wait(lambda: current(judged).run.made, 20, "the first attempt")
    wait(lambda: judged.store.node(made[0]).text, 20, "its first words")
    actions.stop(judged, made)
    assert over(judged).phase == "cancelled"
    assert len(made) == 1


def test_closing_the_studio_ends_it(judged: Studio) -> None:
    (reply, _) = steering.ask(judged, [], "word " * 200, [], how(SLOW.name), WISH | {"n": 2})
    wait(lambda: judged.store.node(reply).text, 20, "the first words")
    steered = current(judged)
    judged.close()
    assert steered.thread
    assert not steered.thread.is_alive()
    assert steered.run
    assert steered.run.phase == "cancelled"


def test_a_judge_that_is_switched_off_ends_it(judged: Studio) -> None:
    replies = steering.ask(judged, [], "word " * 30, [], how(SLOW.name), WISH | {"n": 2})
    judged.judge.promote(None)
    run = over(judged)
    assert run.phase == "failed"
    assert "The live judge is not one any more" in run.note
    assert not pruned(judged, replies)


# ---- refused, and nothing is asked then


@pytest.mark.parametrize(
    ("wish", "line"),
    [({"blind": True}, "Blind mode hides"), ({"dimension": "L1"}, r"no labels of 'L1'.*Choose from: L4, overall"), ({"n": 1}, "2 to 8 replies in all; 1 of each of 1 is 1"),
     ({"n": 9}, "2 to 8"), ({"keep": 4}, "1 to 3 can be kept, not 4"), ({"keep": 0}, "not 0"), ({"n": "many"}, "two whole numbers"), ({"n": None}, "two whole numbers")],
)  # fmt: skip
def test_a_wish_that_cannot_be_granted(judged: Studio, wish: dict[str, Any], line: str) -> None:
    with pytest.raises(StudioError, match=line) as told:
        steering.ask(judged, [], "q", [], how(), WISH | wish)
    assert "\n" not in str(told.value)
    assert judged.store.counts()["nodes"] == 0


def test_no_judge_no_temperature_no_second_lane(judged: Studio) -> None:
    a, b = plant(judged, "q", "r")
    c = judged.store.add_node(judged.store.node(a).tree_id, a, "assistant", [Part("text", "s")])
    before = judged.store.counts()["nodes"]
    with pytest.raises(StudioError, match="one lane, and 2 are open"):
        steering.ask(judged, [b, c], "q", [], how(), WISH)
    with pytest.raises(StudioError, match="At temperature 0"):
        steering.better(judged, b, "L4", replace(how(), options=Options(temperature=0)))
    with pytest.raises(StudioError, match="1 to 8 attempts"):
        steering.better(judged, b, "L4", how(), most=9)
    with pytest.raises(StudioError, match="margin is 0 to"):
        steering.better(judged, b, "L4", how(), margin=-1)
    with pytest.raises(StudioError, match="works on a reply"):
        steering.better(judged, a, "L4", how())
    with pytest.raises(StudioError, match="Blind mode"):
        steering.better(judged, b, "L4", how(), blind=True)
    judged.judge.promote(None)
    for attempt in (lambda: steering.better(judged, b, "L4", how()), lambda: steering.best(judged, a, WISH, how())):
        with pytest.raises(StudioError, match="No judge is live"):
            attempt()
    assert judged.store.counts()["nodes"] == before
    assert shown(judged) is None


def test_blind_tells_nothing_of_what_was_chosen(judged: Studio) -> None:
    steering.ask(judged, [], "q", [], how(), WISH)
    over(judged)
    view = shown(judged, blind=True)
    assert view["says"] == steering_view.BLIND
    assert (view["rows"], view["show"], view["back"]) == ([], [], None)
