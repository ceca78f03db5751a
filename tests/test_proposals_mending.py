"""Tokens and pictures mended by hand; and what models, copies of the studio, judges and those who annotate see of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import ModelSpec
from studio import StudioError, actions, annotating, api, exchange, imagetools, proposals, tokens, views
from studio.actions import Studio
from studio.config import Config
from studio.media import Media
from studio.store import Store
from studio.tree import Part
from tests.conftest import ECHO, how, plant, settle
from tests.test_proposals import call, kinds, pixel, proposed, row

# ---- mending by hand


def test_a_picture_by_hand_and_notes_that_follow_their_words(studio: Studio) -> None:
    _, reply = plant(studio, "Q", "Look: <Image, a kite> flies high")
    span = {"part": 0, "start": 22, "end": 27, "quote": "flies"}
    actions.say(studio, reply, "local", "critique", "not quite", span=span)
    sha256 = pixel(studio)
    undo = call(studio, "proposal_attach", node=reply, place=6, sha256=sha256)["undo"]
    card = views.opened(studio, node=reply)["shared"][-1]
    assert kinds(studio, reply) == ["Look: ", "[a kite]", " flies high"]
    assert card["notes"][0]["span"] == {"part": 2, "start": 1, "end": 6, "quote": "flies"}
    assert (card["asks"], card["unfit"], card["written"]) == ([], "", "Look: <Image, a kite> flies high")
    call(studio, "undo", **undo)
    assert views.opened(studio, node=reply)["shared"][-1]["notes"][0]["span"] == span


def test_what_does_not_fit_in_an_imported_dialogue_is_seen_and_mended(studio: Studio) -> None:
    tree = studio.store.create_tree("t")
    asked = studio.store.add_node(tree, None, "user", [Part("text", "Q"), Part("image", "q.png", None, "")])
    sha256 = pixel(studio)
    parts = [
        Part("text", "A <Image, a kite> and <Image, a boat>"),
        Part("image", "1.png", sha256, ""),
        Part("image", "2.png", None, "a boat"),
    ]
    reply = studio.store.add_node(tree, asked, "assistant", parts)
    card = views.opened(studio, node=reply)["shared"][-1]
    assert card["unfit"] == "1 token without a picture and 1 picture without a token"
    assert [t["pair"] for t in card["asks"]] == [None, 2]
    undo = call(studio, "proposal_picture", node=reply, part=1, sha256=sha256, caption="a kite")["undo"]
    assert views.opened(studio, node=reply)["shared"][-1]["unfit"] == ""
    call(studio, "undo", **undo)
    call(studio, "proposal_picture", node=reply, part=2, sha256=sha256, caption="a boat")  # the file that was missing
    assert [r["reference"] for r in studio.store.missing_images()] == ["q.png"]
    shorter = call(studio, "proposal_without", node=reply, part=1)["reply"]
    assert [p.caption for p in studio.store.node(shorter).images] == ["a boat"]
    without = call(studio, "proposal_without", node=shorter, place=2)["reply"]
    assert studio.store.node(without).text == "A and <Image, a boat>"
    assert studio.store.node(reply).parts[:2] == parts[:2]  # nothing is deleted
    for name, data in (
        ("proposal_picture", {"part": 0, "sha256": sha256}),
        ("proposal_attach", {"place": 3, "sha256": sha256}),
        ("proposal_without", {"place": 3}),
    ):
        assert "error" in api.handle(studio, name, {"node": reply} | data)


# ---- what others see of it


def test_models_that_see_get_pixels_and_others_the_caption(studio: Studio) -> None:
    _, reply = plant(studio, "Q", "Look: <Image, a kite>")
    [early] = actions.ask(studio, [reply], "And?", [], how())
    settle(studio)
    proposals.attach(studio, reply, 6, pixel(studio))
    [late] = actions.ask(studio, [reply], "And now?", [], how())
    blind = ModelSpec(
        "Blind", "openai", {"base_url": "http://127.0.0.1:9", "model": "m", "images": False, "retries": 0}
    )
    studio.config = Config(studio.config.home, models=(ECHO, blind))
    [reader] = actions.ask(studio, [reply], "And you?", [], how("Blind"))
    settle(studio)

    def given(node: str) -> Any:
        return actions.sent(studio, node)["messages"][1].get("given")

    assert [given(n) for n in (early, late, reader)] == [[None, "later"], [None, "pixels"], [None, "caption"]]
    assert actions.sent(studio, late)["messages"][1]["content"] == [
        "Look: ",
        "<Image, a kite>",
    ]  # as the model wrote it


def test_a_copy_of_the_studio_keeps_proposals_and_places(studio: Studio, tmp_path: Path) -> None:
    _, reply = plant(studio, "Q", "Look: <Image, a kite> and <Image, a boat>")
    tree = studio.store.node(reply).tree_id
    exchange.export_studio(studio.store, studio.media, tmp_path / "early.zip", [tree])
    proposals.propose(studio, reply, 26)
    proposals.attach(studio, reply, 6, pixel(studio))
    exchange.export_studio(studio.store, studio.media, tmp_path / "late.zip", [tree])
    for order in (("late", "early"), ("early", "late")):
        store, media = Store(tmp_path / order[0]), Media(tmp_path / order[0])
        for name in order:
            exchange.import_path(store, media, tmp_path / f"{name}.zip")
        assert (
            tokens.whole(store.node(reply).parts) == "Look: <Image, a kite> and <Image, a boat>"
        )  # never half of one and half of the other
        if order[0] == "late":
            assert store.proposals([reply]) == studio.store.proposals([reply])
            assert store.node(reply).parts == studio.store.node(reply).parts
        store.close()


def test_annotate_shows_the_picture_and_nothing_of_how_it_came(studio: Studio) -> None:
    _, reply = plant(studio, "Q", "Look: <Image, a kite> and <Image, a boat>")
    proposals.attach(studio, reply, 6, pixel(studio))
    proposals.propose(studio, reply, 26)
    [card] = annotating.blind(studio, [studio.store.node(reply)])
    assert set(card) == {"role", "parts"}
    assert [p["kind"] for p in card["parts"]] == ["text", "image", "text"]
    assert not any(word in str(card) for word in ("generate", "person", "proposal"))


def test_judges_say_anew_what_they_said_without_the_picture(studio: Studio) -> None:
    ids = plant(studio, "Q", "Above", "And?", "Look: <Image, a kite>", "And?", "Below")
    tree = studio.store.node(ids[0]).tree_id
    studio.store.add_judge("one", "base", {}, "hash", {}, "judges/one")
    studio.store.rate(ids[3], "L1", 2, "ann")

    def judged() -> set[str]:
        return {n for n, r in studio.store.judge_scores(tree, "one").items() if not any(s.stale for s in r.values())}

    def judge() -> None:
        studio.store.save_judge_scores("one", [(n, "L1", 1.5, 0.1) for n in ids[1::2]])

    judge()
    undo = call(studio, "proposal_attach", node=ids[3], place=6, sha256=pixel(studio))["undo"]
    assert judged() == {ids[1]}  # not what stands above
    judge()
    call(studio, "undo", **undo)
    assert judged() == {ids[1]}
    assert studio.store.scores([ids[3]], "ann") == {ids[3]: {"L1": 2}}  # what a person said stays


def test_every_imported_dialogue_tells_what_does_not_fit(studio: Studio, shared: Path) -> None:
    """The web examples come with their pictures: most stand for a token each, and what does not is said."""
    exchange.import_path(studio.store, studio.media, shared / "intermt_examples")
    views_of = [views.opened(studio, tree) for tree in studio.store.tree_ids()]
    cards = [card for view in views_of for card in view["shared"] if card["role"] == "assistant"]
    paired = sum(ask["pair"] is not None for card in cards for ask in card["asks"])
    unfit = [card["unfit"] for card in cards if card["unfit"]]
    assert (len(cards), paired) == (75, 41)
    assert sorted(unfit) == ["1 picture without a token"] * 4 + [
        "1 token without a picture",
        "4 pictures without a token",
    ]


@pytest.mark.parametrize(
    "data", [{}, {"proposal": "x"}, {"node": "x", "place": 1}, {"proposal": None, "changes": 3}, {"proposals": ["x"]}]
)
def test_rubbish_from_the_page_is_one_line(studio: Studio, data: dict[str, Any]) -> None:
    for name in proposals_calls():
        if name in ("proposal_settings",):
            continue
        assert "\n" not in api.handle(studio, name, data)["error"]


def proposals_calls() -> Iterator[str]:
    return (name for name in api.CALLS if name.startswith("proposal"))


def test_no_proposal_of_that_name(studio: Studio) -> None:
    with pytest.raises(StudioError, match="Reload the page"):
        proposals.accept(studio, "nothing")


def test_without_a_painter_nothing_is_made_up(studio: Studio) -> None:
    reply = proposed(studio, "<Image, a dragon>", 1)
    told = call(studio, "proposal_accept", proposal=row(studio, reply)["id"])
    assert (told["state"], "No model that draws" in told["note"]) == ("failed", True)
    assert studio.store.images() == {}
    options = call(studio, "proposal_options", node=reply, place=row(studio, reply)["place"], caption="a dragon")
    assert "No model that draws" in options["tools"]["generate"]
    assert options["tools"]["retrieve"] == imagetools.NO_FOLDER
    assert options["tools"]["edit"] == imagetools.NO_SOURCE
