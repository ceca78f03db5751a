"""Questions that wait for a reply: asked in order when it ends, each column by itself, held after a failure, kept over a restart."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backends import Options
from studio import StudioError, actions, api, waiting
from studio.actions import Ask, Studio
from studio.config import Config
from studio.tree import Node
from tests.conftest import BROKEN, ECHO, SLOW, how, settle, wait

LONG = " ".join(f"word{i}" for i in range(30))


def slow(studio: Studio, text: str = LONG, *models: str) -> list[str]:
    """Replies that take some seconds."""
    return actions.ask(studio, [], text, [], how(*(models or (SLOW.name,))))


def later(studio: Studio, lanes: list[str], text: str = "And then?", ask: Ask | None = None, **more: Any) -> list[str]:
    return waiting.ask(studio, lanes, text, more.pop("images", []), ask or how(options=Options(max_tokens=4)), **more)


def rows(studio: Studio, *states: str) -> list[dict[str, Any]]:
    return studio.store.waiting_in(states or ("waiting", "held", "asking"))


def call(studio: Studio, name: str, row: dict[str, Any], **more: Any) -> dict[str, Any]:
    return api.handle(studio, name, {"id": row["id"], **more})


def children(studio: Studio, reply: str) -> list[Node]:
    found = studio.store.rows("SELECT id FROM nodes WHERE parent_id = ? ORDER BY id", [reply])
    return [studio.store.node(r["id"]) for r in found]


def held(studio: Studio) -> dict[str, Any]:
    return wait(lambda: rows(studio, "held"), what="a question that is held")[0]


def finish(studio: Studio) -> None:
    wait(lambda: not rows(studio, "waiting", "asking") and not studio.live.growing(), 20, "the end of all")


def test_asked_in_order_as_soon_as_the_reply_is_done(studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a red_square.png")
    [reply] = slow(studio, "one two three")
    ask = how(options=Options(max_tokens=5, seed=3, stop_strings=("x",)), system="Be brief.")
    assert later(studio, [reply], "First", ask, images=[tmp_path / "a red_square.png"]) == [reply]
    later(studio, [reply], "Second")
    view = api.handle(studio, "open", {"lanes": [reply]})
    assert [(w["text"], w["state"], w["models"], len(w["images"])) for w in view["waiting"]] == [
        ("First", "waiting", [ECHO.name], 1), ("Second", "waiting", [ECHO.name], 0)]  # fmt: skip
    assert studio.store.counts()["nodes"] == 2  # nothing of it is in the tree yet
    finish(studio)
    [first] = children(studio, reply)
    assert (first.text, first.images[0].caption) == ("First", "a red square")
    [answer] = children(studio, first.id)
    assert (answer.params["options"]["seed"], answer.params["options"]["stop_strings"], answer.params["system"]) == (
        3,
        [],
        "Be brief.",
    )
    [second] = children(studio, answer.id)
    assert second.text == "Second"
    [last] = children(studio, second.id)
    known = [w["id"] for w in view["waiting"]]
    assert api.handle(studio, "open", {"lanes": [reply], "waiting": known})["lanes"] == [
        last.id
    ]  # the page goes on with it
    assert api.handle(studio, "open", {"lanes": [reply]})["lanes"] == [reply]  # who goes there on purpose stays there


def test_each_column_gets_it_when_its_own_reply_ended(studio: Studio) -> None:
    lanes = slow(studio, LONG, SLOW.name, ECHO.name)
    wait(lambda: studio.store.node(lanes[1]).status == "done", what="the quick column")
    shown = later(studio, lanes, "Go on", how(ECHO.name))
    assert shown[0] == lanes[0]  # it grows, and the question waits there
    assert studio.store.path(shown[1])[1].id == lanes[1]  # this one was asked at once
    wait(lambda: studio.store.node(shown[1]).status == "done", what="the quick column's second reply")
    assert studio.store.node(lanes[0]).status == "streaming"
    finish(studio)
    [question] = children(studio, lanes[0])
    assert children(studio, question.id)[0].model == SLOW.name  # with the column's own model
    assert studio.store.node(shown[1]).model == ECHO.name


def test_behind_a_question_for_two_models_waits_one_for_each(studio: Studio) -> None:
    [reply] = slow(studio, "one")
    later(studio, [reply], "First", how(ECHO.name, SLOW.name, options=Options(max_tokens=3)))
    later(studio, [reply], "Second")
    known = [r["id"] for r in rows(studio)]
    finish(studio)
    answers = children(studio, children(studio, reply)[0].id)
    ends = [children(studio, children(studio, a.id)[0].id)[0] for a in answers]
    assert [e.model for e in ends] == [a.model for a in answers] == [ECHO.name, SLOW.name]
    view = api.handle(studio, "open", {"lanes": [reply], "waiting": known})
    assert view["lanes"][0] == ends[0].id


@pytest.mark.parametrize(
    ("model", "ends", "says"),
    [(SLOW, "stopped", "was stopped, so this was not asked"), (BROKEN, "failed", "failed, so this")],
)
def test_held_after_a_stop_or_a_failure(studio: Studio, model: Any, ends: str, says: str) -> None:
    if model is BROKEN:
        studio.config = Config(
            studio.config.home, models=(ECHO, type(ECHO)(BROKEN.name, "echo", {"delay_ms": 60, "fail_after": 6}))
        )
    [reply] = slow(studio, LONG, model.name)
    later(studio, [reply], "First")
    later(studio, [reply], "Second")
    if ends == "stopped":
        actions.stop(studio, [reply])
    row = held(studio)
    assert studio.store.node(reply).status == ends
    assert says in row["note"]
    settle(studio)
    assert children(studio, reply) == []
    answer = call(studio, "waiting_ask", row)["replies"]
    settle(studio)
    assert studio.store.path(answer[0])[2].text == "First"
    [second] = rows(studio, "held")  # one word of the person, one question
    assert second["reply_id"] == answer[0]
    assert "not wait any more" in call(studio, "waiting_ask", row)["error"]


def test_changed_taken_back_and_given_back(studio: Studio) -> None:
    [reply] = slow(studio)
    later(studio, [reply], "Frist")
    [row] = rows(studio)
    call(studio, "waiting_hold", row)
    assert "The message is empty" in call(studio, "waiting_edit", row, text=" ", again=True)["error"]
    assert rows(studio)[0]["state"] == "held"  # and nothing is sent while it is changed
    call(studio, "waiting_edit", row, text="First", again=True)
    assert [(r["state"], r["parts"][0]["text"]) for r in rows(studio)] == [("waiting", "First")]
    undo = call(studio, "waiting_take", row)["undo"]
    assert rows(studio) == []
    assert api.handle(studio, "open", {"lanes": [reply]})["waiting"] == []
    assert "not wait any more" in call(studio, "waiting_edit", row, text="x", again=True)["error"]
    api.handle(studio, "undo", undo)
    api.handle(studio, "undo", undo)  # twice is once
    actions.stop(studio, [reply])
    assert held(studio)["parts"][0]["text"] == "First"


def test_changed_until_after_the_end_it_is_asked_then(studio: Studio) -> None:
    [reply] = slow(studio, "one")
    later(studio, [reply], "Frist")
    [row] = rows(studio)
    call(studio, "waiting_hold", row)
    settle(studio)
    assert children(studio, reply) == []
    call(studio, "waiting_edit", row, text="First", again=True)
    finish(studio)
    assert [n.text for n in children(studio, reply)] == ["First"]


def test_two_tabs_ask_it_once(studio: Studio) -> None:
    [reply] = slow(studio)
    later(studio, [reply], "Once")
    actions.stop(studio, [reply])
    row, answers = held(studio), []
    tabs = [threading.Thread(target=lambda: answers.append(call(studio, "waiting_ask", row))) for _ in range(4)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    settle(studio)
    assert len(children(studio, reply)) == 1
    assert sorted("replies" in a for a in answers) == [False, False, False, True]


def test_what_cannot_be_asked_is_held_and_told(studio: Studio) -> None:
    [reply, other] = slow(studio, "one", SLOW.name, SLOW.name)
    gone = type(ECHO)("Gone", "echo", {})
    studio.config = Config(studio.config.home, models=(*studio.config.models, gone))
    later(studio, [reply], "To nobody", how("Gone"))
    studio.config = Config(studio.config.home, models=(ECHO, SLOW))
    assert "No model is called 'Gone'" in held(studio)["note"]
    later_row = rows(studio, "held")[0]
    assert "No model is called 'Gone'" in call(studio, "waiting_ask", later_row)["error"]
    settle(studio)
    [third] = slow(studio, LONG)
    later(studio, [third], "Pruned")
    actions.prune(studio, studio.store.node(third).parent_id)
    assert any(
        "was pruned" in r["note"] for r in wait(lambda: [r for r in rows(studio, "held") if r["reply_id"] == third])
    )


def test_refused_at_once_and_nothing_kept(studio: Studio) -> None:
    [reply] = slow(studio)
    for text, ask, best, says in (
        ("", None, None, "The message is empty"),
        ("x", Ask(()), None, "No model is chosen"),
        ("x", None, {"n": 2, "keep": 1, "dimension": "overall"}, "Best of n cannot wait"),
    ):
        with pytest.raises(StudioError, match=says):
            later(studio, [reply], text, ask, best=best)
    assert rows(studio) == []
    for i in range(waiting.MOST):
        later(studio, [reply], str(i))
    with pytest.raises(StudioError, match="20 questions wait"):
        later(studio, [reply], "one more")
    actions.stop(studio, [reply])
    held(studio)


def test_kept_over_a_restart(studio: Studio) -> None:
    replies = [slow(studio)[0] for _ in range(3)]
    for reply in replies:
        later(studio, [reply], "Later")
    done, claimed, stopped = rows(studio)
    studio.close()
    again = Studio.open(studio.config)
    try:
        with again.store.write() as db:  # as a kill in the very moment leaves them
            db.execute("UPDATE nodes SET status = 'done' WHERE id = ?", [done["reply_id"]])
        again.store.change_waiting(claimed["id"], only=["waiting"], state="asking")
        again.store.recover()
        assert {r["state"] for r in rows(again)} == {"waiting", "asking"}
        waiting.of(again).recover()
        wait(lambda: not rows(again, "waiting", "asking") and not again.live.growing())
        notes = {r["id"]: r["note"] for r in rows(again, "held")}
        assert "was stopped, so this was not asked" in notes.pop(stopped["id"])
        assert "closed while this was being asked" in notes.pop(claimed["id"])
        assert notes == {}
        assert [n.text for n in children(again, done["reply_id"])] == ["Later"]
    finally:
        again.close()


def test_one_stream_for_replies_and_what_waited_for_them(studio: Studio) -> None:
    """Whoever watches a tree sees all columns, and the replies to what waited, without asking for them."""
    lanes = slow(studio, "one two", SLOW.name, ECHO.name)
    later(studio, [lanes[0]], "Next", how(SLOW.name, options=Options(max_tokens=5)))
    seen: dict[str, str] = {}
    ends: list[bool] = []
    for runs, over in waiting.follow(studio, studio.store.node(lanes[0]).tree_id):
        seen |= {r.node_id: r.phase for r in runs}
        ends.append(over)
    [question] = children(studio, lanes[0])
    [answer] = children(studio, question.id)
    assert {lanes[0], answer.id} <= set(seen) <= {*lanes, answer.id}  # the quick one may be over before anybody looks
    assert set(seen.values()) == {"done"}
    assert ends == [False] * (len(ends) - 1) + [True]
