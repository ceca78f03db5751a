"""Any GGUF: candidates side by side, prefixes across branches, sampling options, images, the studio around it."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import BackendError, Delta, Image, Message, ModelSpec, Options, Pool
from backends.llama import Llama, create
from backends.llama.loading import Loaded
from backends.llama.prefix import PORTION, Portion, Prefixes, Prompt, portions
from studio import actions
from studio.actions import Ask, Studio
from studio.config import Config
from tests import tiny_gguf
from tests.conftest import settle, wait

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)

HI = [Message("user", ("Hi",))]
ENDLESS = "root ::= [a-z] root"  # random weights draw the end of a reply now and then; this forbids it
LONG = "word and another thing "  # 23 tokens of the tiny model, which reads bytes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    return tiny_gguf.text_model(folder / "tiny.gguf", context=4096), tiny_gguf.projector(folder / "mmproj.gguf")


@pytest.fixture
def model(files: tuple[Path, Path]) -> Iterator[Llama]:
    opened = create(str(files[0]), n_ctx=2048)
    yield opened
    assert opened.unload()


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


def test_more_candidates_than_fit_at_once(files: tuple[Path, Path]) -> None:
    """Ten candidates where eight have a sequence, and three have room in the context: nobody is lost."""
    small = create(str(files[0]), n_ctx=256)
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


# ---- prefixes


def dialogue(*texts: str) -> list[Message]:
    return [Message("assistant" if i % 2 else "user", (t,)) for i, t in enumerate(texts)]


def test_branches_answer_as_a_cold_model_does(model: Llama, files: tuple[Path, Path]) -> None:
    """To and fro between branches and another dialogue: greedy and seeded replies are those of a model just loaded."""
    trunk = (LONG * 9, "An answer. " * 5)
    asked = [
        dialogue(trunk[0]),
        dialogue(*trunk, "Go on."),
        dialogue("Something else altogether. " * 12),
        dialogue(*trunk, "No, say it otherwise."),
        dialogue(*trunk, "Go on.", "Well.", "And?"),
        dialogue(trunk[0]),
    ]
    warm = [
        (reply(model, d), reply(model, d, seed=1, temperature=0.9), texts(sample(model, 3, d, seed=2))) for d in asked
    ]
    for d, found in zip(asked, warm, strict=True):
        for kind, how in enumerate(({}, {"seed": 1, "temperature": 0.9})):
            cold = create(str(files[0]), n_ctx=2048)
            assert reply(cold, d, **how) == found[kind]
            cold.unload()
        cold = create(str(files[0]), n_ctx=2048)
        assert texts(sample(cold, 3, d, seed=2)) == found[2]
        cold.unload()


@pytest.fixture
def loaded(files: tuple[Path, Path]) -> Iterator[Loaded]:
    opened = Loaded(files[0], 2048, None, None)
    yield opened
    opened.free()


def prompt(*runs: list[int]) -> Prompt:
    return Prompt(tuple(p for run in runs for p in portions(run)))


def read(prefixes: Prefixes, what: Prompt, exact: bool = True) -> int:
    kept = prefixes.take_up(what, exact)
    assert prefixes.read(what, kept)
    assert prefixes.live.keys == what.keys
    return kept


def test_what_is_shared_is_not_read_again(loaded: Loaded) -> None:
    prefixes = Prefixes(loaded, 2**20)
    trunk, a, b, other = [5] * 300, [6] * 200, [7] * 200, [8] * 300
    assert read(prefixes, prompt(trunk + a)) == 0
    assert read(prefixes, prompt(trunk + a)) == 500 // PORTION * PORTION  # the last portion has the logits
    assert read(prefixes, prompt(trunk + b)) == 300 // PORTION * PORTION
    assert read(prefixes, prompt(other)) == 0
    assert read(prefixes, prompt([*trunk, *a, 9, 9])) == 448  # set aside, and found again
    assert read(prefixes, prompt(trunk + b)) == 448
    assert 0 < prefixes.memory_bytes <= 2**20


def test_what_it_wrote_itself_counts_unless_it_must_be_exact(loaded: Loaded) -> None:
    prefixes = Prefixes(loaded, 0)
    first = [5] * 100
    read(prefixes, prompt(first))
    for token in (7, 8, 9):
        assert prefixes._decode([token], prefixes.live.at[-1], True) == 0
        prefixes.wrote(token)
    longer = [*first, 7, 8, 9, *[4] * 80]
    assert prefixes.take_up(prompt(longer), exact=False) == 103
    assert read(prefixes, prompt(longer), exact=True) == 64
    assert read(prefixes, prompt(longer), exact=True) == 128


def test_a_portion_read_in_two_is_not_one_read_at_once(loaded: Loaded) -> None:
    prefixes = Prefixes(loaded, 0)
    read(prefixes, prompt([5] * 100))
    longer = prompt([5] * 100 + [6] * 100)
    assert read(prefixes, longer, exact=False) == 100  # so 100 to 128 were read apart from 64 to 100
    assert read(prefixes, longer, exact=True) == 64
    assert read(prefixes, longer, exact=True) == 192


def test_memory_for_other_dialogues_is_bounded(loaded: Loaded) -> None:
    one = Prefixes(loaded, 2**30)
    read(one, prompt([1] * 200))
    read(one, prompt([2] * 200))
    size = one.memory_bytes
    assert size > 200 * 2 * 32 * 2 * 2  # layers, width of keys and of values, two bytes each
    two = Prefixes(loaded, 2 * size + 100)
    one.clear()
    for token in (1, 2, 3, 4):
        read(two, prompt([token] * 200))
    assert [h.keys[0] for h in two.aside] == [2, 3]
    assert read(two, prompt([2] * 200)) == 192
    assert [h.keys[0] for h in two.aside] == [2, 4]  # 3 was unused for longer


def test_positions_of_images_are_not_counts_of_tokens() -> None:
    image = Portion(tuple(("sha", i) for i in range(9)), 3)
    found = Prompt((*portions([1, 2]), image, *portions([3])))
    assert (found.bounds, found.at) == ([2, 11, 12], [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 5, 6])


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


def test_an_image_reaches_the_model_as_pixels(files: tuple[Path, Path], tmp_path: Path) -> None:
    seeing = create(str(files[0]), str(files[1]), n_ctx=512)
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
    cold = create(str(files[0]), str(files[1]), n_ctx=512)
    assert logits(cold, ask["blue"]) == other
    cold.unload()


def test_an_image_in_an_earlier_turn_is_not_read_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    seeing = create(str(files[0]), str(files[1]), n_ctx=1024)
    first = Message("user", (shown(tmp_path, "green"), LONG * 4))
    reply(seeing, [first])
    speaker = seeing._speaker
    later = speaker._prompt([first, Message("assistant", ("Yes.",)), Message("user", ("And now?",))])
    assert speaker.prefixes.take_up(later, True) >= 16 + PORTION
    seeing.unload()


def test_broken_images_and_markers_in_the_text(files: tuple[Path, Path], tmp_path: Path) -> None:
    seeing = create(str(files[0]), str(files[1]), n_ctx=512)
    assert reply(seeing, [Message("user", ("<__media__> <image>", shown(tmp_path, "red")))])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(BackendError, match="'a kite' cannot be read"):
        reply(seeing, [Message("user", (Image(tmp_path / "broken.png", caption="a kite"),))])
    gone = Image(tmp_path / "gone.png", caption="a kite")
    assert reply(seeing, [Message("user", (gone,))]) == reply(seeing, [Message("user", ("<Image, a kite>",))])
    seeing.unload()


# ---- turns, unloading, the studio


def test_unload_while_it_answers(model: Llama) -> None:
    came: list[Delta] = []
    said: list[str] = []

    def ask() -> None:
        try:
            came.extend(model.stream(HI, Options(max_tokens=1500, seed=1, grammar=ENDLESS), threading.Event()))
        except BackendError as error:
            said.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    wait(lambda: model.describe()["loaded"], what="the model in memory")
    time.sleep(0.05)
    assert model.unload()
    asking.join(10)
    assert said == ["tiny.gguf was unloaded while it answered. Retry loads it again."]
    assert model.describe() == {"loaded": False, "device": "llama.cpp", "memory_mb": 0}
    assert reply(model)


def test_other_settings_free_the_old_model(files: tuple[Path, Path]) -> None:
    pool = Pool()
    first = pool.get(ModelSpec("Tiny", "llama", {"path": str(files[0]), "n_ctx": 256}))
    assert isinstance(first, Llama)
    reply(first)
    second = pool.get(ModelSpec("Tiny", "llama", {"path": str(files[0]), "n_ctx": 512}))
    assert isinstance(second, Llama)
    assert not first.describe()["loaded"]
    reply(second)
    assert second.capabilities.context_length == 512
    assert second.describe()["loaded"]
    pool.close()
    assert not second.describe()["loaded"]


@pytest.fixture
def studio(tmp_path: Path, files: tuple[Path, Path]) -> Iterator[Studio]:
    spec = ModelSpec("Tiny", "llama", {"path": str(files[0]), "n_ctx": 2048})
    opened = Studio.open(Config(tmp_path / "home", annotator="ann", models=(spec,)))
    yield opened
    opened.close()


def test_siblings_grow_together_and_stop_alone(studio: Studio) -> None:
    how = Ask(("Tiny",), 3, Options(max_tokens=600, seed=4, temperature=1.0, grammar=ENDLESS))
    replies = actions.ask(studio, [], "Hello", [], how)
    wait(lambda: all(studio.store.node(r).text for r in replies), what="words of all three")
    assert {studio.store.node(r).status for r in replies} == {"streaming"}
    actions.stop(studio, [replies[1]])
    actions.stop(studio, [replies[1]])
    wait(lambda: studio.store.node(replies[1]).status == "stopped", what="the second one's end")
    settle(studio)
    nodes = [studio.store.node(r) for r in replies]
    assert [n.status for n in nodes] == ["done", "stopped", "done"]
    assert [n.completion_tokens for n in nodes][::2] == [600, 600]
    assert 0 < (nodes[1].completion_tokens or 0) < 600
    assert all(n.first_token_ms and n.latency_ms and n.first_token_ms < n.latency_ms for n in nodes)
    assert [n.params["options"]["seed"] for n in nodes] == [4, 5, 6]


def test_a_second_question_is_told_that_it_waits(studio: Studio) -> None:
    first = actions.ask(studio, [], "Hello", [], Ask(("Tiny",), 1, Options(max_tokens=1500, seed=1, grammar=ENDLESS)))
    wait(lambda: studio.store.node(first[0]).text, what="the first word")
    second = actions.ask(studio, [], "Hello again", [], Ask(("Tiny",), 1, Options(max_tokens=5, seed=1)))
    wait(lambda: [r for r in studio.live.growing() if r.node_id == second[0] and r.phase == "waiting"], what="waiting")
    actions.stop(studio, first)
    settle(studio)
    assert [studio.store.node(r).status for r in (*first, *second)] == ["stopped", "done"]


def test_an_error_ends_every_sibling(studio: Studio, files: tuple[Path, Path]) -> None:
    how = Ask(("Tiny",), 2, Options(grammar="nonsense"))
    replies = actions.ask(studio, [], "Hello", [], how)
    settle(studio)
    assert {studio.store.node(r).status for r in replies} == {"failed"}
    assert all("grammar" in (studio.store.node(r).error or "") for r in replies)
