"""Which tool makes a picture: the rules on plain and on real captions, edits that need no model, a model that decides or fails to."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import Backend, BackendError, Capabilities, Delta, Image, Message, Options
from backends import images as edits
from studio import routing, tokens
from studio.routing import Call, Earlier, Hit, by_rules

BEFORE = [Earlier("1" * 64, "a red kite over a field"), Earlier("2" * 64, "a bar chart of rainfall")]


class Says(Backend):
    """Answers what it was told to, a letter at a time, and keeps what it was asked."""

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, list[list[Message]]()
        self.capabilities = Capabilities()

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        self.asked.append(messages)
        yield from (Delta(c) for c in self.text)


@pytest.mark.parametrize(
    ("caption", "tool", "source"),
    [
        ("the same picture but at night", "edit", "2"),
        ("the provided bar chart with 2020 highlighted", "edit", "2"),
        ("the first image in black and white", "edit", "1"),
        ("image 1, cropped to the kite", "edit", "1"),
        ("cropped view of the red kite", "edit", "1"),
        ("a brighter version of the chart", "edit", "2"),
        ("map of the Rhine valley", "retrieve", None),
        ("photo of the Eiffel Tower", "retrieve", None),
        ("a dragon drinking tea", "generate", None),
        ("a dog beside a red kite", "generate", None),
    ],
)
def test_rules(caption: str, tool: str, source: str | None) -> None:
    route = by_rules(caption, BEFORE)
    assert (route.tool, route.source and route.source.sha256[0], route.decided_by) == (tool, source, "rules")
    assert route.why


def test_nothing_is_edited_where_nothing_came_before() -> None:
    assert by_rules("the same picture but at night").tool == "generate"
    assert by_rules("x", [], None, Call("edit", "x", 1)).tool == "generate"


def test_a_close_picture_of_a_folder_is_taken_instead_of_drawn() -> None:
    assert by_rules("a dog on a beach", (), Hit(1, "something else", 0.7)).tool == "retrieve"
    assert by_rules("a dog on a beach", (), Hit(1, "dog, beach", 0.4)).tool == "retrieve"
    assert by_rules("a dog on a beach", (), Hit(1, "a cat on a beach", 0.4)).tool == "generate"


def test_what_the_model_called_goes_before_the_rules() -> None:
    route = by_rules("the same kite", BEFORE, None, Call("edit", "the same kite", 1))
    assert (route.tool, route.source, route.decided_by) == ("edit", BEFORE[0], "call")
    assert by_rules("the same kite", BEFORE, None, Call("generate", "the same kite")).tool == "generate"


@pytest.mark.parametrize(
    ("caption", "made"),
    [
        ("the same photo in greyscale", ["colour"]),
        ("the picture cropped to the left half", ["crop"]),
        ("the map rotated by 90 degrees", ["rotate"]),
        ("the image flipped vertically and brightened", ["flip", "brightness"]),
        ("the kite with a hat", []),
    ],
)
def test_edits_that_need_no_model(caption: str, made: list[str]) -> None:
    found = routing.edits_for(caption, 31, 17)
    assert [e["tool"] for e in found] == made
    if found:
        edits.checked_all(found)  # each is one that the tools take


def test_a_picture_that_is_only_pointed_to_is_shown_again() -> None:
    for again in ("the original image of a surfer riding a wave", "The same picture again.", "the provided bar chart"):
        assert routing.unchanged(again)
    for other in (
        "the same picture at night",
        "the same picture of the city in snow",
        "the provided chart with arrows",
        "the original image, cropped",
        "a kite",
    ):
        assert not routing.unchanged(other)


def test_real_captions(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """InterMT's agents cropped and highlighted most of the time; how many go where is printed, not asserted to a digit."""
    rows = json.loads((shared / "crucial_step.json").read_text(encoding="utf-8"))
    count: Counter[str] = Counter()
    again = 0
    for row in rows:
        before: list[Earlier] = []
        for turn in row["conversations"]:
            before += [Earlier(ref, "") for ref in turn["prompt_images"] if ref]
            for token in tokens.find(turn["response"]):
                tool = by_rules(token.caption, before).tool
                count[tool] += 1
                again += tool == "edit" and routing.unchanged(token.caption)
            before += [Earlier(ref, "") for ref in turn["response_images"] if ref]
    with capsys.disabled():
        print(
            f"\n{sum(count.values())} captions of InterMT by the rules: {dict(count)}; {again} of the edits show a picture again"
        )
    assert sum(count.values()) > 900
    assert count["edit"] > count["retrieve"] > 0
    assert count["generate"] > 300


# ---- a model


def ask(chat: Backend) -> routing.Route:
    return routing.by_model("Chat", chat, "a kite", BEFORE, Hit(3, "two kites", 0.5), threading.Event())


def test_a_model_decides_from_what_it_was_given() -> None:
    chat = Says('Sure! ```json\n{"tool": "edit", "picture": 1, "why": "same kite"}```')
    assert ask(chat) == routing.Route("edit", "same kite", "Chat", BEFORE[0])
    told = json.loads(str(chat.asked[0][1].content[0]))
    assert told == {
        "request": "a kite",
        "earlier pictures": {"1": BEFORE[0].caption, "2": BEFORE[1].caption},
        "best picture of the folder": "two kites",
    }


@pytest.mark.parametrize(
    "answer",
    [
        "I would edit it.",
        '{"tool": "paint"}',
        '{"tool": "edit", "picture": 3}',
        '{"tool": "edit", "picture": true}',
        "{" * 5000,
        "[1]",
        "",
    ],
)
def test_an_answer_that_is_no_choice_is_an_error(answer: str) -> None:
    with pytest.raises(BackendError, match="Chat"):
        ask(Says(answer))


def test_a_model_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Says):
        def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
            stop.wait(10)
            yield Delta("late")

    monkeypatch.setattr(routing, "ANSWER_S", 0.05)
    with pytest.raises(BackendError, match="took over"):
        ask(Slow(""))


def test_a_model_that_checks(tmp_path: Path) -> None:
    picture = Image(tmp_path / "x.png", "image/png", "a boat")
    chat = Says('{"fits": false, "why": "a boat"}')
    assert routing.verified("Chat", chat, "a kite", picture, threading.Event()) == (False, "a boat")
    assert chat.asked[0][1].content[1] == picture
    with pytest.raises(BackendError, match="did not say"):
        routing.verified("Chat", Says('{"fits": "maybe"}'), "a kite", picture, threading.Event())
