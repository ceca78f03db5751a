"""Pictures that replies ask for: proposed while they stream, accepted, changed, refused, taken back, made by themselves, broken off."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backends import ModelSpec
from studio import StudioError, actions, annotating, api, exchange, imagetools, proposals, retrieving, tokens, views
from studio.actions import Studio
from studio.config import Config, load
from studio.media import Media
from studio.store import Store
from studio.store.proposals import BROKEN_OFF
from studio.tree import Part
from tests.conftest import ECHO, how, plant, settle, wait
from tests.servers import Answer, events, piece, scripted, status
from tests.test_retrieve import indexed, put

WORDS = "Draw <Image, a brown couch in a living room> and <Image, the same picture in greyscale> please"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures told apart by what stands beside them."""
    put(tmp_path / "pictures", "a.jpg", 1, "A brown couch in a living room")
    put(tmp_path / "pictures", "b.jpg", 2, "Two dogs run on a beach")
    return tmp_path / "pictures"


def row(studio: Studio, node: str, place: int | None = None) -> dict[str, Any]:
    """The current proposal of a token, of the only one without a place."""
    found = studio.store.proposals([node]).get(node, {})
    return found[min(found) if place is None else place]


def kinds(studio: Studio, node: str) -> list[str]:
    return [p.text if p.kind == "text" else f"[{p.caption}]" for p in studio.store.node(node).parts]


def proposed(studio: Studio, words: str, count: int, system: str = "") -> str:
    """A reply of the echo to these words, with that many proposals."""
    proposals.of(studio)
    [reply] = actions.ask(studio, [], words, [], how(system=system))
    settle(studio)
    wait(lambda: len(studio.store.proposals([reply]).get(reply, {})) == count, what="the proposals")
    return reply


def call(studio: Studio, name: str, /, **data: Any) -> dict[str, Any]:
    answer = api.handle(studio, name, data)
    assert "error" not in answer, answer
    return answer


def pixel(studio: Studio, colour: str = "teal") -> str:
    """A small picture in the store."""
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, "PNG")
    return str(call(studio, "picture_add", name="x.png", data=base64.b64encode(data.getvalue()).decode())["sha256"])


# ---- proposed


def test_tokens_are_proposed_while_the_reply_streams(studio: Studio) -> None:
    proposals.of(studio)
    [reply] = actions.ask(studio, [], "<Image, a dragon> " + "and so on " * 60, [], how("Slow echo"))
    found = wait(lambda: studio.store.proposals([reply]).get(reply), what="a proposal")
    assert studio.store.node(reply).status == "streaming"
    [run] = studio.live.growing()
    assert views.growing(studio, run)["asked"] == [{"caption": "a dragon", "tool": "generate", "state": "proposed"}]
    actions.stop(studio, [reply])
    settle(studio)
    [place] = found
    card = views.opened(studio, node=reply)["shared"][-1]
    assert [(t["place"], t["caption"], t["proposal"]["tool"]) for t in card["asks"]] == [
        (place, "a dragon", "generate")
    ]
    assert card["unfit"] == "1 token without a picture"


def test_questions_and_quotes_are_not_proposed(studio: Studio) -> None:
    proposals.of(studio)
    [reply] = actions.ask(studio, [], "A question with no token but `<Image, quoted>`", [], how())
    settle(studio)
    studio.workers["proposals"].close()  # everything that was saved has been looked at
    assert studio.store.proposals([reply, studio.store.node(reply).parent_id or ""]) == {}
    del studio.workers["proposals"]


# ---- accepted, refused, taken back


def test_a_found_and_an_edited_picture_take_their_places_in_order(studio: Studio, folder: Path) -> None:
    indexed(studio, folder)
    reply = proposed(studio, WORDS, 2)
    find, edit = sorted(studio.store.proposals([reply])[reply])
    assert (row(studio, reply, find)["tool"], row(studio, reply, edit)["tool"]) == ("retrieve", "edit")
    before, early = studio.store.node(reply).parts, row(studio, reply, edit)["id"]
    assert call(studio, "proposal_accept", proposal=early)["note"] == imagetools.NOT_YET
    first = call(studio, "proposal_accept", proposal=row(studio, reply, find)["id"])
    assert first["state"] == "done"
    assert kinds(studio, reply)[1] == "[a brown couch in a living room]"
    second = call(studio, "proposal_accept", proposal=early)  # now there is one before it
    assert second["state"] == "done", second
    texts = kinds(studio, reply)
    assert texts[1:4:2] == ["[a brown couch in a living room]", "[the same picture in greyscale]"]
    pictures = [p.image_sha256 or "" for p in studio.store.node(reply).images]
    rows = studio.store.images(pictures)
    assert [(rows[s]["origin"], rows[s]["source_sha256"]) for s in pictures] == [
        ("retrieve", None),
        ("edit", pictures[0]),
    ]
    assert rows[pictures[0]]["params"]["file"] == "a.jpg"

    call(studio, "undo", **second["undo"])
    call(studio, "undo", **first["undo"])
    assert studio.store.node(reply).parts == before  # every letter is back
    call(
        studio, "proposal_accept", proposal=row(studio, reply, find)["id"]
    )  # the picture is there: nothing is made again
    assert [p.image_sha256 for p in studio.store.node(reply).images] == pictures[:1]


def test_refusing_and_proposing_again(studio: Studio) -> None:
    reply = proposed(studio, "<Image, a dragon>", 1)
    one = row(studio, reply)
    undo = call(studio, "proposal_refuse", proposal=one["id"])["undo"]
    assert row(studio, reply)["state"] == "refused"
    call(studio, "undo", **undo)
    assert row(studio, reply)["state"] == "proposed"
    call(studio, "proposal_refuse", proposal=one["id"])
    again = call(studio, "proposal_make", node=reply, place=one["place"])
    assert (again["state"], again["id"] != one["id"]) == ("proposed", True)
    assert studio.store.proposal(one["id"])["superseded_at"]  # what was is kept
    assert "decided already" in api.handle(studio, "proposal_accept", {"proposal": one["id"]})["error"]


def test_without_a_painter_nothing_is_made_up(studio: Studio) -> None:
    reply = proposed(studio, "<Image, a dragon>", 1)
    told = call(studio, "proposal_accept", proposal=row(studio, reply)["id"])
    assert (told["state"], "No model that draws" in told["note"]) == ("failed", True)
    assert studio.store.images() == {}
    options = call(studio, "proposal_options", node=reply, place=row(studio, reply)["place"], caption="a dragon")
    assert "No model that draws" in options["tools"]["generate"]
    assert options["tools"]["retrieve"] == imagetools.NO_FOLDER
    assert options["tools"]["edit"] == imagetools.NO_SOURCE


def test_tool_caption_and_source_can_be_changed(studio: Studio, folder: Path) -> None:
    indexed(studio, folder)
    reply = proposed(studio, "<Image, a dragon>", 1)
    changes = {"tool": "retrieve", "caption": "two dogs <on> a beach"}
    call(studio, "proposal_accept", proposal=row(studio, reply)["id"], changes=changes)
    assert kinds(studio, reply)[1] == "[two dogs on a beach]"  # the caption that a text-only model is told
    assert "<Image, a dragon>" in tokens.whole(studio.store.node(reply).parts)
    assert (row(studio, reply)["decided_by"], row(studio, reply)["caption"]) == ("person", "two dogs on a beach")
    for bad in ({"tool": "paint"}, {"source": "f" * 64, "tool": "edit"}):
        assert (
            "Choose"
            in api.handle(studio, "proposal_accept", {"proposal": row(studio, reply)["id"], "changes": bad})["error"]
        )


# ---- by itself, with and without a model that checks


def scripted_chat(studio: Studio, url: str) -> None:
    studio.config = Config(
        studio.config.home, annotator="ann", models=(ECHO, ModelSpec("Chat", "openai", {"base_url": url, "model": "m"}))
    )


def says(text: str) -> Answer:
    return events(piece(text), piece(finish="stop"))


def test_pictures_make_themselves_only_where_that_is_switched_on(studio: Studio, folder: Path) -> None:
    indexed(studio, folder)
    assert call(studio, "proposal_settings")["by_itself"] is False
    call(studio, "proposal_choose", by_itself=True, model="")
    assert load(studio.config.home).image_tools == {"by_itself": True, "model": ""}  # after a restart too
    reply = proposed(studio, "<Image, a brown couch in a living room> <Image, a dragon>", 2)
    wait(
        lambda: row(studio, reply)["state"] == "done" and len(studio.store.node(reply).images) == 1, what="the picture"
    )
    last = row(studio, reply, max(studio.store.proposals([reply])[reply]))
    assert (last["state"], "No model that draws" in last["note"]) == ("proposed", True)  # it waits for a person


def test_a_chosen_model_decides_and_checks(studio: Studio, folder: Path) -> None:
    indexed(studio, folder)
    decides, doubts = (
        says('{"tool": "retrieve", "picture": null, "why": "it is real"}'),
        says('{"fits": false, "why": "no dogs"}'),
    )
    with scripted(decides, doubts) as server:
        scripted_chat(studio, server.base_url)
        proposals.choose(studio, True, "Chat")
        reply = proposed(studio, "<Image, two dogs run on a beach>", 1)
        found = wait(lambda: (r := row(studio, reply))["note"] and r, what="the doubt")
    assert (found["decided_by"], found["why"], found["state"]) == ("Chat", "it is real", "proposed")
    assert found["note"] == "Chat says that it does not fit: no dogs"
    assert studio.store.node(reply).images == []  # a person decides
    assert server.requests[1].body["messages"][1]["content"][-1]["type"] == "image_url"
    call(studio, "proposal_accept", proposal=found["id"])
    assert len(studio.store.node(reply).images) == 1


@pytest.mark.parametrize("answer", [says("Draw it!"), status(500, "down")], ids=["no json", "down"])
def test_a_model_that_fails_leaves_it_to_the_rules(studio: Studio, answer: Answer) -> None:
    with scripted(answer) as server:
        scripted_chat(studio, server.base_url)
        studio.config = Config(studio.config.home, annotator="ann", models=(
            ECHO, ModelSpec("Chat", "openai", {"base_url": server.base_url, "model": "m", "retries": 0})), image_tools={"model": "Chat"})  # fmt: skip
        reply = proposed(studio, "<Image, a dragon>", 1)
    found = row(studio, reply)
    assert (found["tool"], found["decided_by"]) == ("generate", "rules")
    assert "By the rules: " in found["why"]


# ---- broken off


def test_what_was_at_work_when_the_studio_ended_can_be_run_again(studio: Studio, folder: Path) -> None:
    indexed(studio, folder)
    reply = proposed(studio, "<Image, a brown couch in a living room>", 1)
    one = row(studio, reply)["id"]
    assert studio.store.turn_proposal(one, "running", ("proposed",))  # as a process that was killed leaves it
    proposals.of(studio).close()
    del studio.workers["proposals"]
    proposals.of(studio)
    told = call(studio, "proposal_poll", proposals=[one])["proposals"]
    assert told == [{"id": one, "state": "failed", "note": BROKEN_OFF, "doing": ""}]
    assert call(studio, "proposal_accept", proposal=one)["state"] == "done"
    assert len(studio.store.node(reply).images) == 1


def test_undo_while_it_is_at_work(studio: Studio, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(studio, folder)
    reply = proposed(studio, "<Image, a brown couch in a living room>", 1)
    go, take = threading.Event(), retrieving.Retriever.take

    def slow(*given: Any) -> Any:
        go.wait(10)
        return take(*given)

    monkeypatch.setattr(retrieving.Retriever, "take", slow)
    monkeypatch.setattr(proposals, "QUICK_S", 0.05)
    told = call(studio, "proposal_accept", proposal=row(studio, reply)["id"])
    assert told["state"] == "running"
    call(studio, "undo", **told["undo"])
    go.set()
    wait(
        lambda: proposals.of(studio).task(told["id"]) is None or proposals.of(studio).task(told["id"]).over,
        what="the end",
    )  # type: ignore[union-attr]
    assert row(studio, reply)["state"] == "proposed"
    assert studio.store.node(reply).images == []


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


def test_a_growing_reply_is_left_alone(studio: Studio, folder: Path) -> None:
    indexed(studio, folder)
    proposals.of(studio)
    [reply] = actions.ask(
        studio, [], "<Image, a brown couch in a living room> " + "and so on " * 30, [], how("Slow echo")
    )
    [(place, one)] = wait(lambda: studio.store.proposals([reply]).get(reply), what="a proposal").items()
    assert call(studio, "proposal_accept", proposal=one["id"])["state"] == "done"
    assert (
        "still growing"
        in api.handle(studio, "proposal_attach", {"node": reply, "place": place, "sha256": pixel(studio)})["error"]
    )
    assert studio.store.node(reply).images == []
    actions.stop(studio, [reply])
    wait(lambda: studio.store.node(reply).images, what="the picture in its place, once the reply is whole")


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
