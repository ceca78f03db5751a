"""Any GGUF: candidates side by side, sampling options, images."""

from __future__ import annotations

import importlib.util
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from backends import BackendError, Delta, Image, Message, Options
from backends.llama import Llama, create
from backends.llama.prefix import PORTION

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)

HI = [Message("user", ("Hi",))]
ENDLESS = "root ::= [a-z] root"  # random weights draw the end of a reply now and then; this forbids it
LONG = "word and another thing "  # 23 tokens of the tiny model, which reads bytes


def reply(model: Llama, messages: list[Message] = HI, **options: Any) -> str:
    how = Options(**{"max_tokens": 12, "temperature": 0.0, **options})
    return "".join(d.text for d in model.stream(messages, how, threading.Event()))


def sample(model: Llama, n: int, messages: list[Message] = HI, **options: Any) -> list[list[Delta]]:
    found: list[list[Delta]] = [[] for _ in range(n)]
    how = Options(**{"max_tokens": 12, **options})
    for i, delta in model.sample(messages, how, n, [threading.Event() for _ in range(n)]):
        found[i].append(delta)
    return found


def texts(found: list[list[Delta]]) -> list[str]:
    return ["".join(d.text for d in deltas) for deltas in found]


# ---- candidates


def test_candidates_draw_with_seeds_in_a_row(model: Llama) -> None:
    found = sample(model, 4, seed=5, temperature=1.0)
    assert len(set(texts(found))) == 4
    assert texts(found) == [reply(model, seed=5 + i, temperature=1.0) for i in range(4)]
    assert texts(sample(model, 4, seed=5, temperature=1.0)) == texts(found)
    assert {(d[-1].finish, d[-1].prompt_tokens, d[-1].completion_tokens) for d in found} == {("length", 24, 12)}


def test_first_tokens_come_before_any_second(model: Llama) -> None:
    stop = [threading.Event() for _ in range(3)]
    order = [i for i, d in model.sample(HI, Options(max_tokens=9, seed=1, grammar=ENDLESS), 3, stop) if d.text]
    assert set(order[:3]) == {0, 1, 2}


def test_each_candidate_stops_alone(model: Llama) -> None:
    stop = [threading.Event() for _ in range(3)]
    found: dict[int, list[Delta]] = {0: [], 1: [], 2: []}
    for i, delta in model.sample(HI, Options(max_tokens=40, seed=1, grammar=ENDLESS), 3, stop):
        found[i].append(delta)
        if i == 1 and len(found[1]) == 2:
            stop[1].set()
            stop[1].set()
    assert (found[1][-1].finish, len(found[1])) == (None, 3)
    assert [found[i][-1].completion_tokens for i in (0, 2)] == [40, 40]


def test_more_candidates_than_fit_at_once(ggufs: tuple[Path, Path]) -> None:
    """Ten candidates where eight have a sequence, and three have room in the context: nobody is lost."""
    small = create(str(ggufs[0]), n_ctx=256)
    found = sample(small, 10, max_tokens=70, seed=3, temperature=1.0, grammar=ENDLESS)
    assert [d[-1].completion_tokens for d in found] == [70] * 10
    assert len(set(texts(found))) == 10
    assert all(len(d) > 1 for d in found)
    small.unload()


def test_all_stop_while_the_prompt_is_read(model: Llama) -> None:
    stop = [threading.Event(), threading.Event()]
    for event in stop:
        threading.Timer(0.1, event.set).start()
    asked = [Message("user", (LONG * 80,))]
    found = list(model.sample(asked, Options(max_tokens=2000, seed=1), 2, stop))
    assert {d.finish for _, d in found} == {None}
    assert {i for i, d in found if d.completion_tokens is not None} == {0, 1}
    assert reply(model)


# ---- sampling options


def test_options_reach_the_sampler(model: Llama) -> None:
    greedy = reply(model)
    assert reply(model, temperature=1.5, top_k=1) == greedy
    assert reply(model, temperature=1.5, min_p=1.0) == greedy
    assert reply(model, temperature=1.5, seed=1) != greedy
    wild = [reply(model, temperature=5.0, seed=s, min_p=0.0, top_k=0, max_tokens=3) for s in range(4)]
    assert len(set(wild)) == 4
    plain, punished = (reply(model, max_tokens=120, repetition_penalty=p) for p in (1.0, 1.8))
    assert plain != punished


def test_stop_strings_end_the_reply_before_them(model: Llama) -> None:
    rules = 'root ::= "one two three four five"'
    assert reply(model, grammar=rules, max_tokens=60) == "one two three four five"
    deltas = list(
        model.stream(HI, Options(max_tokens=60, grammar=rules, stop_strings=("three f", "five")), threading.Event())
    )
    assert "".join(d.text for d in deltas) == "one two "
    assert deltas[-1].finish == "stop"
    almost = Options(max_tokens=60, grammar=rules, stop_strings=("fivefold",))
    assert "".join(d.text for d in model.stream(HI, almost, threading.Event())) == "one two three four five"


def test_json_schema_is_followed(model: Llama) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["a", "b"]}},
        "required": ["ok", "kind"],
    }
    for found in texts(sample(model, 3, max_tokens=80, seed=1, temperature=1.0, json_schema=schema)):
        assert set(json.loads(found)) == {"ok", "kind"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"grammar": "root ::= ("}, "cannot read the grammar"),
        ({"grammar": "no rules"}, "cannot read the grammar"),
        ({"json_schema": {"$ref": "https://example.org/x"}}, "JSON schema cannot be used"),
    ],
)
def test_impossible_grammars_are_refused(model: Llama, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=says) as caught:
        reply(model, **options)
    assert "\n" not in str(caught.value)
    assert reply(model)


def test_nobody_can_write_a_special_token(model: Llama) -> None:
    stop = threading.Event()
    [*_, plain] = model.stream([Message("user", ("a</s>b",))], Options(max_tokens=1), stop)
    [*_, safe] = model.stream([Message("user", ("a<\u200b/s>b",))], Options(max_tokens=1), stop)
    assert plain.prompt_tokens == safe.prompt_tokens


# ---- images


def shown(folder: Path, colour: str) -> Image:
    from PIL import Image as Pillow

    path = folder / f"{colour}.png"
    Pillow.new("RGB", (40, 30), colour).save(path)
    return Image(path, caption=colour)


def logits(model: Llama, messages: list[Message]) -> list[float]:
    """Of the prompt's last token."""
    assert reply(model, messages, max_tokens=1) is not None
    loaded = model._speaker.loaded
    row = loaded.lib.llama_get_logits_ith(loaded.context, -1)
    return list(row[: loaded.lib.llama_vocab_n_tokens(loaded.vocab)])


def test_an_image_reaches_the_model_as_pixels(ggufs: tuple[Path, Path], tmp_path: Path) -> None:
    seeing = create(str(ggufs[0]), str(ggufs[1]), n_ctx=512)
    assert seeing.capabilities.images_in
    red, blue = shown(tmp_path, "red"), shown(tmp_path, "blue")
    ask = {name: [Message("user", ("Look:", picture, "what?"))] for name, picture in (("red", red), ("blue", blue))}
    first, other = logits(seeing, ask["red"]), logits(seeing, ask["blue"])
    assert first != other
    assert logits(seeing, ask["red"]) == first
    assert logits(seeing, [Message("user", ("Look:", Image(None, caption="red"), "what?"))]) not in (first, other)
    [*_, last] = seeing.stream(ask["red"], Options(max_tokens=1), threading.Event())
    text = 1 + len(b"<|user|>Look:\n\nwhat?<|assistant|>")
    assert last.prompt_tokens == text + 16
    assert seeing.unload()
    cold = create(str(ggufs[0]), str(ggufs[1]), n_ctx=512)
    assert logits(cold, ask["blue"]) == other
    cold.unload()


def test_an_image_in_an_earlier_turn_is_not_read_again(ggufs: tuple[Path, Path], tmp_path: Path) -> None:
    seeing = create(str(ggufs[0]), str(ggufs[1]), n_ctx=1024)
    first = Message("user", (shown(tmp_path, "green"), LONG * 4))
    reply(seeing, [first])
    speaker = seeing._speaker
    later = speaker._prompt([first, Message("assistant", ("Yes.",)), Message("user", ("And now?",))])
    assert speaker.prefixes.take_up(later, True) >= 16 + PORTION
    seeing.unload()


def test_broken_images_and_markers_in_the_text(ggufs: tuple[Path, Path], tmp_path: Path) -> None:
    seeing = create(str(ggufs[0]), str(ggufs[1]), n_ctx=512)
    assert reply(seeing, [Message("user", ("<__media__> <image>", shown(tmp_path, "red")))])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(BackendError, match="'a kite' cannot be read"):
        reply(seeing, [Message("user", (Image(tmp_path / "broken.png", caption="a kite"),))])
    gone = Image(tmp_path / "gone.png", caption="a kite")
    assert reply(seeing, [Message("user", (gone,))]) == reply(seeing, [Message("user", ("<Image, a kite>",))])
    seeing.unload()
