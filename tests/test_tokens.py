"""Tokens in text and in messages: found wherever the text is cut, pictures in their places, and every letter back again."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import tokens
from studio.markdown import render
from studio.tree import Part

PIECES = st.sampled_from(
    ["<Image, a red kite>", "< image ,  two\nlines >", "<IMAGE,>", "<Image, a < b>", "<Image", ", x>", "<", ">", "words ", "\n\n", " ", "`", "```\n", "é<b>",
     "<Image, "]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=14).map("".join)


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        ("one <Image, a red kite> and <image , two\n lines>", ["a red kite", "two lines"]),
        ("<Image, a <Image, b>>", ["b"]),  # nested: the inner one is whole
        ("<Image, never closed", []),
        (f"<Image, {'x' * 601}>", []),  # endless: it is text
        ("<Image, over\n\nan empty line>", []),
        ("`<Image, quoted>` and\n```\n<Image, quoted>\n```\nand <Image, asked for>", ["asked for"]),
        ("```\n<Image, in a fence that has no end yet>", []),
        ("a ` b <Image, x> no code", ["x"]),
        ("<Image,>", [""]),
    ],
)
def test_what_is_a_token(text: str, captions: list[str]) -> None:
    assert [t.caption for t in tokens.find(text)] == captions


@given(TEXTS)
def test_a_token_is_where_it_says_and_drawn_as_one(text: str) -> None:
    found = tokens.find(text)
    assert all(text[t.place : t.place + len(t.raw)] == t.raw and "<" not in t.caption for t in found)
    drawn = [re.sub(r"\s+", " ", c).strip() for c in re.findall(r'class="image-token"[^>]*>([^<]*)<', render(text))]
    for t in found:  # nothing is proposed for what the page does not show as a token, but for odd quotes of quotes
        assert "`" in text or (t.caption or "picture") in drawn


@given(TEXTS, st.integers(0, 300))
def test_a_token_stays_where_it_is_while_the_text_grows(text: str, cut: int) -> None:
    if "`" in text:  # a backtick that comes later may make code of what stands before it
        return
    early = tokens.find(text[:cut])
    assert tokens.find(text)[: len(early)] == early


def test_a_token_that_is_cut_off_is_drawn_as_one() -> None:
    assert tokens.closed("See <Image, a red k") == "See <Image, a red k…>"
    for whole in ("See <Image, x>", "a < b", "<Imag", f"<Image, {'x' * 700}"):
        assert tokens.closed(whole) == whole


@pytest.mark.parametrize(
    "text", ["<image," + " " * 200_000, "<" * 200_000, "`a" * 100_000, "```\n" * 50_000, "<Image, x>" * 20_000]
)
def test_no_text_takes_long(text: str) -> None:
    start = time.perf_counter()
    assert len(tokens.find(text)) <= tokens.MOST
    tokens.closed(text)
    assert time.perf_counter() - start < 1


@given(TEXTS, TEXTS, st.randoms(use_true_random=False))
def test_pictures_take_places_and_give_them_back_in_any_order(first: str, second: str, random) -> None:  # type: ignore[no-untyped-def]
    parts = [Part("text", first), Part("image", "kite.png", "f" * 64, "made by a model"), Part("text", second)]
    parts = [p for p in parts if p.kind == "image" or p.text]
    places = [s.place for s in tokens.spots(parts)]
    now, order = parts, random.sample(places, len(places))
    for place in order:
        taken = tokens.take(now, place, "a" * 64, "caption")
        assert taken is not None
        now = taken
        assert tokens.whole(now) == first + second
        assert all(p.text for p in now)
    assert [s.place for s in tokens.spots(now)] == places  # and each has its picture
    assert all(s.image for s in tokens.spots(now))
    for place in random.sample(places, len(places)):
        now = tokens.give_back(now, place) or pytest.fail("the picture is gone")
    assert now == parts


def test_a_picture_between_its_words() -> None:
    parts = [Part("text", "Here: <Image, a kite>\n\n<Image, a boat>  ")]
    one = tokens.take(parts, 6, "1", "a kite") or []
    assert [(p.kind, p.text, p.image_sha256) for p in one] == [
        ("text", "Here: ", None), ("image", "<Image, a kite>", "1"), ("text", "\n\n<Image, a boat>  ", None)]  # fmt: skip
    both = tokens.take(one, 23, "2", "a boat") or []
    assert [p.image_sha256 for p in both] == [None, "1", "2"]  # no part is blank
    assert tokens.take(both, 23, "3", "again") is None
    assert tokens.give_back(both, 23) == one
    assert tokens.give_back(parts, 6) is None


def test_passages_follow_their_words() -> None:
    old = [Part("text", "Here <Image, a kite> flies")]
    new = tokens.take(old, 5, "1", "a kite") or []
    assert tokens.moved(old, new, 0, 0, 4) == (0, 0, 4)
    assert tokens.moved(old, new, 0, 21, 26) == (2, 1, 6)
    assert new[2].text[1:6] == "flies"
    assert tokens.moved(old, new, 0, 0, 26) is None  # it goes over the picture
    assert tokens.moved(new, old, 2, 1, 6) == (0, 21, 26)
    assert tokens.moved(new, old, 1, 0, 1) is None
    assert tokens.moved(new, old, 9, 0, 1) is None


def test_what_fits_and_what_does_not() -> None:
    text = Part("text", "<Image, a kite> <Image, a boat>")
    kite, nameless = Part("image", "1.png", None, "A  Kite"), Part("image", "2.png", "b" * 64, "")
    fit = tokens.matched([text, kite, nameless])
    assert (fit.pairs, [s.caption for s in fit.open], fit.loose) == ({0: 1}, ["a boat"], [2])
    assert fit.sentence() == "1 token without a picture and 1 picture without a token"
    assert tokens.matched([Part("text", "none"), kite]).sentence() == ""


def test_an_edit_keeps_the_pictures_whose_tokens_stay() -> None:
    placed = tokens.take([Part("text", "A <Image, kite> B")], 2, "1" * 64, "a better caption") or []
    other = Part("image", "x.png", "2" * 64, "x")
    again = tokens.recomposed("Now <Image, kite> stands later", [*placed, other])
    assert [(p.kind, p.image_sha256, p.caption) for p in again] == [
        ("text", None, ""), ("image", "1" * 64, "a better caption"), ("text", None, ""), ("image", "2" * 64, "x")]  # fmt: skip
    assert tokens.recomposed("No token", [*placed, other]) == [Part("text", "No token"), other]
