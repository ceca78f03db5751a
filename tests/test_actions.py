"""What a click does: asking in one lane and in several, retry, edit, stop, undo, and every refusal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from backends import Options
from studio import StudioError, actions, api
from studio.actions import Studio
from studio.tree import Part
from tests.conftest import BROKEN, ECHO, SLOW, how, plant, settle, wait


def picture(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    Image.new("RGB", size, "red").save(path)
    return path


def test_a_question_grows_a_tree(studio: Studio, tmp_path: Path) -> None:
    [reply] = actions.ask(studio, [], "What is it?", [picture(tmp_path / "a_red-box.png")], how())
    settle(studio)
    question, answer = studio.store.path(reply)
    assert [p.kind for p in question.parts] == ["text", "image"]
    assert question.images[0].caption == "a red box"
    assert answer.status == "done"
    assert "What is it?" in answer.text
    assert "a red box" in answer.text
    assert answer.completion_tokens
    assert answer.first_token_ms is not None
    assert studio.store.images()[question.images[0].image_sha256]["origin"] == "upload"
    assert studio.store.title(answer.tree_id) == "What is it? a red box"


def test_several_models_and_replies_are_siblings(studio: Studio) -> None:
    replies = actions.ask(
        studio, [], "Hello", [], how(ECHO.name, SLOW.name, replies=2, options=Options(max_tokens=4, seed=5))
    )
    settle(studio)
    nodes = [studio.store.node(r) for r in replies]
    assert len({n.parent_id for n in nodes}) == 1
    assert sorted(n.model for n in nodes) == sorted([ECHO.name, SLOW.name] * 2)
    assert sorted(n.params["options"]["seed"] for n in nodes) == [5, 5, 6, 6]  # replies of one model differ


def test_each_lane_keeps_its_own_history(studio: Studio) -> None:
    lanes = actions.ask(studio, [], "Hello", [], how(ECHO.name, SLOW.name, options=Options(max_tokens=3)))
    settle(studio)
    later = actions.ask(studio, lanes, "And then?", [], how(options=Options(max_tokens=3)))
    settle(studio)
    for first, second in zip(lanes, later, strict=True):
        path = studio.store.path(second)
        assert path[1].id == first
        assert path[3].model == path[1].model  # not the model that the composer has chosen
        assert [m.as_text() for m in actions.messages_for(studio, path[2].id, "")][1] == path[1].text


def test_what_was_sent_is_shown(studio: Studio) -> None:
    [reply] = actions.ask(studio, [], "Hi", [], how(system="Be brief.", options=Options(temperature=0.1)))
    settle(studio)
    sent = actions.sent(studio, reply)
    assert sent["messages"] == [{"role": "system", "content": ["Be brief."]}, {"role": "user", "content": ["Hi"]}]
    assert sent["options"]["temperature"] == 0.1


def test_stop_keeps_what_was_written(studio: Studio) -> None:
    [reply] = actions.ask(studio, [], "one two three four five six seven", [], how(SLOW.name))
    wait(lambda: len(studio.store.node(reply).text) > 10)
    assert actions.stop(studio, [reply]) == 1
    settle(studio)
    node = studio.store.node(reply)
    assert node.status == "stopped"
    assert node.text
    assert "seven" not in node.text


def test_follow_shows_only_what_is_saved(studio: Studio) -> None:
    [reply] = actions.ask(studio, [], "one two three four", [], how(SLOW.name))
    seen = []
    for runs in studio.live.follow(studio.store.node(reply).tree_id):
        seen.append(runs[0].text)
        assert studio.store.node(reply).text.startswith(runs[0].text)
    assert len(seen) > 3
    assert seen[-1] == studio.store.node(reply).text


def test_a_model_that_fails_keeps_its_words_and_says_why(studio: Studio) -> None:
    good, bad = actions.ask(studio, [], "Hi", [], how(ECHO.name, BROKEN.name))
    settle(studio)
    assert studio.store.node(good).status == "done"
    node = studio.store.node(bad)
    assert node.status == "failed"
    assert "fail" in (node.error or "")
    assert node.text == "**This is an"


def test_retry_and_edit_make_siblings(studio: Studio) -> None:
    [first] = actions.ask(studio, [], "Hi", [], how())
    settle(studio)
    [again] = actions.retry(studio, first, how(SLOW.name))
    settle(studio)
    assert studio.store.node(again).parent_id == studio.store.node(first).parent_id
    assert studio.store.node(again).model == ECHO.name  # the reply's own model, whatever is chosen
    [kept] = actions.edit(studio, first, "Better words", how())
    assert studio.store.node(kept).text == "Better words"
    assert studio.store.node(first).text != "Better words"
    question = studio.store.node(first).parent_id
    [other] = actions.edit(studio, question, "Hello there", how())
    settle(studio)
    assert [n.text for n in studio.store.path(other)][0] == "Hello there"
    assert len(studio.store.siblings(studio.store.path(other))[studio.store.path(other)[0].id]) == 2


@pytest.mark.parametrize(
    ("text", "ask", "says"),
    [
        ("", {}, "empty"),
        ("   \n", {}, "empty"),
        ("x" * 2_000_000, {}, "2,000,000 characters"),
        ("hi", {"models": ()}, "No model is chosen"),
        ("hi", {"models": ("nobody",)}, "nobody"),
        ("hi", {"replies": 99}, "99 replies"),
    ],
)
def test_bad_questions_get_one_line_and_save_nothing(studio: Studio, text: str, ask: dict, says: str) -> None:
    before = studio.store.counts()
    given = actions.Ask(**({"models": (ECHO.name,)} | ask))
    with pytest.raises(StudioError, match=says) as caught:
        actions.ask(studio, [], text, [], given)
    assert "\n" not in str(caught.value)
    assert studio.store.counts() == before


def test_bad_pictures_get_one_line_and_save_nothing(studio: Studio, tmp_path: Path) -> None:
    bomb = io.BytesIO()
    Image.new("1", (8000, 7500)).save(bomb, "PNG", optimize=True)
    assert len(bomb.getvalue()) < 10_000
    (tmp_path / "bomb.png").write_bytes(bomb.getvalue())
    (tmp_path / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    before = studio.store.counts()
    for name, says in (("bomb.png", "60 megapixels"), ("drawing.png", "no PNG"), ("gone.png", "Cannot read")):
        with pytest.raises(StudioError, match=says):
            actions.ask(studio, [], "Look", [tmp_path / name], how())
    assert studio.store.counts() == before


def test_ratings_are_checked(studio: Studio) -> None:
    q, r = plant(studio, "q", "r")
    for node, dimension, value, says in (
        (q, "L1", 1, "a question"),
        (r, "L9", 1, "L9"),
        (r, "L1", 4, "not '4'"),
        (r, "L1", -1, "not '-1'"),
        (r, "G5", True, "G5"),
    ):
        with pytest.raises(StudioError, match=says):
            actions.rate(studio, node, dimension, value)
    actions.rate(studio, r, "G5", -1)
    assert studio.store.scores([r], "ann") == {r: {"G5": -1}}


def test_a_growing_reply_is_not_rated_or_edited(studio: Studio) -> None:
    [reply] = actions.ask(studio, [], "one two three", [], how(SLOW.name))
    for act in (
        lambda: actions.rate(studio, reply, "L1", 1),
        lambda: actions.edit(studio, reply, "x", how()),
        lambda: actions.ask(studio, [reply], "x", [], how()),
    ):
        with pytest.raises(StudioError, match="still growing"):
            act()
    actions.stop(studio, [reply])
    settle(studio)


def test_everything_can_be_undone(studio: Studio) -> None:
    a, b = plant(studio, "q", "r")
    tree = studio.store.node(a).tree_id
    actions.rate(studio, b, "L1", 1)
    for act, seen in (
        (lambda: actions.rate(studio, b, "L1", 3), lambda: studio.store.scores([b], "ann")),
        (lambda: actions.rate(studio, b, "L2", 3), lambda: studio.store.scores([b], "ann")),
        (lambda: actions.prune(studio, b), lambda: bool(studio.store.node(b).pruned_at)),
        (lambda: actions.prune(studio, a), lambda: len(studio.store.trees())),
        (lambda: actions.rename(studio, tree, "other"), lambda: studio.store.title(tree)),
    ):
        before = seen()
        undo = act()
        assert seen() != before
        actions.undo(studio, undo.act, undo.args)
        assert seen() == before


def test_feedback_is_kept_and_changeable(studio: Studio) -> None:
    _, r = plant(studio, "q", "r")
    actions.say(studio, r, "local", "critique", "  too short ")
    actions.say(studio, r, "local", "critique", "too long")
    actions.say(studio, r, "global", "rationale", "fine")
    actions.say(studio, r, "global", "rationale", "")
    assert studio.store.feedback([r], "ann") == {r: {("local", "critique"): "too long"}}
    assert len(studio.store.history(r)) == 3
    with pytest.raises(StudioError, match="rationale, critique or refinement"):
        actions.say(studio, r, "local", "rant", "x")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"node": None},
        {"node": 7, "dimension": [], "value": {}},
        {"node": "../../etc/passwd", "dimension": "L1", "value": 1},
        {"lanes": "abc"},
        {"lanes": [None]},
    ],
)
@pytest.mark.parametrize("name", [*sorted(api.CALLS), "no such call"])
def test_the_page_cannot_break_the_server(studio: Studio, name: str, data: dict) -> None:
    plant(studio, "q", "r")
    answer = api.handle(studio, name, data)
    assert isinstance(answer, dict)
    assert "\n" not in answer.get("error", "")


def test_parts_interleave_in_order(studio: Studio, tmp_path: Path) -> None:
    kept = studio.media.add(picture(tmp_path / "x.png").read_bytes())
    studio.store.add_image(kept.sha256, kept.mime, kept.width, kept.height, kept.bytes, "upload")
    tree = studio.store.create_tree("t")
    parts = [
        Part("text", "a"),
        Part("image", image_sha256=kept.sha256, caption="c"),
        Part("text", "b"),
        Part("image", "gone.png", None, "lost"),
    ]
    q = studio.store.add_node(tree, None, "user", parts)
    assert studio.store.node(q).parts == parts
    content = actions.messages_for(studio, q, "")[0].content
    assert [c if isinstance(c, str) else (c.caption, c.path is not None) for c in content] == [
        "a",
        ("c", True),
        "b",
        ("lost", False),
    ]
