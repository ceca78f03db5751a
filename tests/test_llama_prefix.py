"""Prefixes of a GGUF kept across branches: what is shared is not read again, memory is bounded, replies are those of a cold model."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import Message
from backends.llama import Llama, create
from backends.llama.loading import Loaded
from backends.llama.prefix import PORTION, Portion, Prefixes, Prompt, portions
from tests.test_llama import LONG, reply, sample, texts

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)


def dialogue(*texts: str) -> list[Message]:
    return [Message("assistant" if i % 2 else "user", (t,)) for i, t in enumerate(texts)]


def test_branches_answer_as_a_cold_model_does(model: Llama, ggufs: tuple[Path, Path]) -> None:
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
            cold = create(str(ggufs[0]), n_ctx=2048)
            assert reply(cold, d, **how) == found[kind]
            cold.unload()
        cold = create(str(ggufs[0]), n_ctx=2048)
        assert texts(sample(cold, 3, d, seed=2)) == found[2]
        cold.unload()


@pytest.fixture
def loaded(ggufs: tuple[Path, Path]) -> Iterator[Loaded]:
    opened = Loaded(ggufs[0], 2048, None, None)
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
