"""Tokens to text while a reply grows: whole characters only, and nothing of a stop string. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"  # what a tokenizer writes for bytes that are no character yet
LONGEST = 4  # bytes of a character in UTF-8: what is unfinished after as many tokens never will be


class Pieces:
    """The text of one reply, token by token. Text that may be the beginning of a stop string waits."""

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.stops = tokenizer, [s for s in stops if s]
        self.stopped = False  # a stop string came
        self._ids: list[int] = []  # since the last whole character, and a little context before them
        self._shown = 0  # characters of their text that are out
        self._held = ""  # may become a stop string
        self._waiting = 0  # tokens since a character began

    def push(self, token: int) -> str:
        """The text that a token completes; empty while a character or a stop string may be under way."""
        self._ids.append(token)
        text = self._decode()
        if text.endswith(UNFINISHED) and self._waiting < LONGEST - 1:
            self._waiting += 1
            return ""
        self._waiting = 0
        new = text[self._shown :]
        self._shown = len(text)
        if len(self._ids) > 16:  # enough for how tokens join; the rest need not be decoded again
            self._ids = self._ids[-LONGEST:]
            self._shown = len(self._decode())
        return self._pass(new)

    def end(self) -> str:
        """What is left when no more tokens come."""
        if self.stopped:
            return ""
        rest = self._held + self._decode()[self._shown :]
        self._held, self._shown = "", self._shown + len(rest)
        return rest

    def _decode(self) -> str:
        return str(self.tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _pass(self, new: str) -> str:
        """What of the new text may be shown. The text before the first stop string is all of the reply."""
        text = self._held + new
        found = [at for s in self.stops if (at := text.find(s)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        wait = max((n for s in self.stops for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
        self._held = text[len(text) - wait :]
        return text[: len(text) - wait]
