"""Pictures that replies ask for: proposed while they stream, accepted, changed, refused, taken back, made by themselves, broken off."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backends import ModelSpec
from studio import actions, api, imagetools, proposals, retrieving, tokens, views
from studio.actions import Studio
from studio.config import Config, load
from studio.store.proposals import BROKEN_OFF
from tests.conftest import ECHO, how, settle, wait
from tests.servers import Answer, events, piece, scripted, silence, status
from tests.test_painting_api import CHANGE, MAKE, png, sent
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


def test_a_painter_draws_and_edits_what_replies_ask_for(studio: Studio) -> None:
    made = {path: [sent(png(colour))] for path, colour in ((MAKE, "red"), (CHANGE, "blue"))}
    with scripted(paths=made) as server:
        settings = {"base_url": server.base_url, "model": "p", "tasks": ["generate", "edit"], "retries": 0}
        studio.config = replace(studio.config, image_models=(ModelSpec("Painter", "openai", settings),))
        reply = proposed(studio, "<Image, a dragon> and <Image, the same picture at night>", 2)
        for place in sorted(studio.store.proposals([reply])[reply]):
            call(studio, "proposal_accept", proposal=row(studio, reply, place)["id"])
            wait(lambda at=place: row(studio, reply, at)["state"] == "done", what="the picture")
    images = wait(lambda: len(i := studio.store.node(reply).images) == 2 and i, what="both in their places")
    drawn, edited = (studio.store.images([p.image_sha256])[p.image_sha256] for p in images)
    assert (drawn["origin"], drawn["tool"], drawn["prompt"]) == ("generate", "Painter", "a dragon")
    assert (edited["origin"], edited["prompt"], edited["source_sha256"]) == (
        "edit",
        "the same picture at night",
        drawn["sha256"],
    )


def test_cancelling_a_drawing_leaves_the_proposal(studio: Studio) -> None:
    with scripted(paths={MAKE: [silence]}) as server:
        settings = {"base_url": server.base_url, "model": "p", "tasks": ["generate"], "retries": 0}
        studio.config = replace(studio.config, image_models=(ModelSpec("Painter", "openai", settings),))
        reply = proposed(studio, "<Image, a dragon>", 1)
        told = call(studio, "proposal_accept", proposal=row(studio, reply)["id"])
        assert told["state"] == "running"
        call(studio, "proposal_back", proposal=told["id"])
        wait(lambda: server.hung_up.is_set(), what="the end of the request")
        wait(lambda: (t := proposals.of(studio).task(told["id"])) is None or t.over, what="the end of the run")
    assert row(studio, reply)["state"] == "proposed"


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
