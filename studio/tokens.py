"""``<Image, caption>`` tokens in a message: where they stand, which pictures they have, and a picture in the place of one.

Pure. A token's *place* is the number of characters before it in the text as it was written: it stays the same while the text
grows, and when a picture takes the place of this or another token. Such a picture keeps the token in its ``text``, so that it
can be given back to the letter. Never decides what becomes of a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from studio.tree import Part

LONGEST = 600  # characters of a caption: beyond that it is text
MOST = 64  # tokens of a message that are read
BEGIN = r"<\s{0,8}image\s{0,8},"
TOKEN = re.compile(BEGIN + rf"([^<>]{{0,{LONGEST}}})>", re.IGNORECASE)
UNFINISHED = re.compile(BEGIN + rf"[^<>]{{0,{LONGEST}}}\Z", re.IGNORECASE)
# what quotes a token asks for no picture: a fence (while the text grows, one without an end), or a piece between backticks
FENCE = r"^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)"
CODE = re.compile(FENCE + r"|(?<!`)(`+)(?!`)[^`]+(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Token:
    """A token in a text: ``place`` characters before it, ``raw`` as it stands there."""

    place: int
    raw: str
    caption: str


@dataclass(frozen=True, slots=True)
class Spot:
    """A token of a message: in text part ``part`` at ``start``, or, with ``image``, a picture that took its place."""

    place: int
    part: int
    start: int
    raw: str
    caption: str
    image: str | None = None


@dataclass(frozen=True)
class Matched:
    """How tokens and pictures of a message fit. ``pairs``: the place of a token and the number of the part that is its picture;
    ``open``: tokens without one; ``loose``: parts that are pictures without a token."""

    pairs: dict[int, int] = field(default_factory=dict)
    open: list[Spot] = field(default_factory=list)
    loose: list[int] = field(default_factory=list)

    def sentence(self) -> str:
        """What does not fit, in words; '' when all does."""
        said = [
            f"{len(some)} {what}{'s' * (len(some) > 1)} without {other}"
            for some, what, other in ((self.open, "token", "a picture"), (self.loose, "picture", "a token"))
            if some
        ]
        return " and ".join(said)


def find(text: str) -> list[Token]:
    """The whole tokens of a text, in order, ``MOST`` at most. What stands in code, or over an empty line, is none."""
    if "<" not in text:
        return []
    quoted = [m.span() for m in CODE.finditer(text)] if "`" in text or "~~~" in text else []
    found = []
    for m in TOKEN.finditer(text):
        if re.search(r"\n[ \t]*\n", m[0]) or any(a <= m.start() < b for a, b in quoted):
            continue
        found.append(Token(m.start(), m[0], " ".join(m[1].split())))
    return found[:MOST]


def closed(text: str) -> str:
    """A text that is still growing, with a token that is cut off at its end made whole, so that it can be drawn as one."""
    cut = text.rfind("<")
    return text + "…>" if cut >= 0 and UNFINISHED.match(text, cut) else text


def without_signs(caption: str) -> str:
    """A caption that can stand in a token: one line, no angle brackets, not too long."""
    return " ".join(re.sub(r"[<>]", " ", caption).split())[:LONGEST]


def as_token(caption: str) -> str:
    """A caption as a token."""
    return f"<Image, {without_signs(caption)}>"


# ---- in a message


def stood(part: Part) -> Token | None:
    """The token that a picture took the place of, if it did."""
    if part.kind != "image" or not part.image_sha256 or "<" not in part.text:
        return None
    found = TOKEN.fullmatch(part.text.strip())
    at = len(part.text) - len(part.text.lstrip())
    return Token(at, part.text, " ".join(found[1].split())) if found else None


def spots(parts: Sequence[Part]) -> list[Spot]:
    """Every token of a message, those whose place a picture took too, in order of their place."""
    return list(_walk(parts))


def whole(parts: Sequence[Part]) -> str:
    """The text as it was written, tokens where pictures took their place."""
    return "".join(p.text for p in parts if p.kind == "text" or stood(p))


def matched(parts: Sequence[Part]) -> Matched:
    """How tokens and pictures fit: a picture belongs to a token with its caption. One with another caption needs no token."""
    found = Matched()
    free = [i for i, p in enumerate(parts) if p.kind == "image" and not stood(p)]
    for spot in spots(parts):
        if spot.image:
            continue
        mine = next((i for i in free if spot.caption and _same(parts[i].caption, spot.caption)), None)
        if mine is None:
            found.open.append(spot)
        else:
            free.remove(mine)
            found.pairs[spot.place] = mine
    found.loose.extend(i for i in free if not parts[i].caption.strip())
    return found


def take(parts: Sequence[Part], place: int, sha256: str, caption: str) -> list[Part] | None:
    """The parts with a picture in the place of a token, its text split around it; None when no token stands there."""
    spot = next((s for s in spots(parts) if s.place == place and not s.image), None)
    if spot is None:
        return None
    text = parts[spot.part].text
    left, raw, right = text[: spot.start], spot.raw, text[spot.start + len(spot.raw) :]
    if not left.strip():  # no part is blank: the picture keeps what little there was
        left, raw = "", left + raw
    if not right.strip():
        right, raw = "", raw + right
    made = [Part("text", left), Part("image", raw, sha256, caption), Part("text", right)]
    return [*parts[: spot.part], *(p for p in made if p.text), *parts[spot.part + 1 :]]


def give_back(parts: Sequence[Part], place: int) -> list[Part] | None:
    """The parts with the token in its place again, its text in one piece; None when no picture took it."""
    spot = next((s for s in spots(parts) if s.place == place and s.image), None)
    if spot is None:
        return None
    found = list(parts[: spot.part])
    for piece in (Part("text", spot.raw), *parts[spot.part + 1 : spot.part + 2]):
        if piece.kind == "text" and found and found[-1].kind == "text":
            found[-1] = replace(found[-1], text=found[-1].text + piece.text)
        else:
            found.append(piece)
    return found + list(parts[spot.part + 2 :])


def moved(old: Sequence[Part], new: Sequence[Part], part: int, start: int, end: int) -> tuple[int, int, int] | None:
    """Where a passage of a text part went when ``take`` or ``give_back`` made ``new`` of ``old``: part, start, end. None: it is
    in no one text part any more."""
    if not 0 <= part < len(old) or old[part].kind != "text":
        return None
    before = sum(_length(p) for p in old[:part])
    at = 0
    for i, p in enumerate(new):
        if p.kind == "text" and at <= before + start and before + end <= at + len(p.text):
            return i, before + start - at, before + end - at
        at += _length(p)
    return None


def recomposed(text: str, parts: Sequence[Part]) -> list[Part]:
    """A changed text as parts: pictures of ``parts`` stand again where the text still has their tokens; those that never stood
    for one follow it."""
    placed = [p for p in parts if stood(p)]
    found = [Part("text", text)] if text.strip() else []
    for token in find(text):
        mine = next((p for p in placed if p.text.strip() == token.raw), None)
        if mine:
            placed.remove(mine)
            found = take(found, token.place, mine.image_sha256 or "", mine.caption) or found
    return found + [p for p in parts if p.kind == "image" and not stood(p)]


# ---- inside


def _walk(parts: Sequence[Part]) -> Iterator[Spot]:
    found, at = find(whole(parts)), 0  # of the whole text: a piece of it may look like code by itself
    for i, p in enumerate(parts):
        if p.kind == "text":
            mine = [t for t in found if at <= t.place and t.place + len(t.raw) <= at + len(p.text)]
            yield from (Spot(t.place, i, t.place - at, t.raw, t.caption) for t in mine)
        elif token := stood(p):
            yield Spot(at + token.place, i, 0, token.raw, token.caption, p.image_sha256)
        at += _length(p)


def _length(part: Part) -> int:
    return len(part.text) if part.kind == "text" or stood(part) else 0


def _same(a: str, b: str) -> bool:
    return " ".join(a.split()).casefold() == " ".join(b.split()).casefold()
