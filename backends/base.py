"""The contract of a chat backend: what it is asked, what it yields, and the one error it may raise.

Owns the words between the studio and whatever answers. Never loads a model, never touches the store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol


class BackendError(Exception):
    """Something the person can mend: what went wrong, the value, and the next step, in one line."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image in a message. ``path`` is None when the file is missing: backends then send the caption alone."""

    path: Path | None
    mime: str = "image/png"
    caption: str = ""

    def as_text(self) -> str:
        """The form InterMT uses for models that read text only: ``<Image, caption>``."""
        return f"<Image, {self.caption or 'no caption'}>"


Content = str | Image


@dataclass(frozen=True, slots=True)
class Message:
    """One message with its contents in order; text and images interleave."""

    role: Literal["system", "user", "assistant"]
    content: tuple[Content, ...]

    def as_text(self) -> str:
        """All contents as text, each image as ``<Image, caption>``, joined by newlines."""
        return "\n".join(c if isinstance(c, str) else c.as_text() for c in self.content)


@dataclass(frozen=True, slots=True)
class Options:
    """Sampling options. ``seed`` None means a fresh one; ``max_tokens`` counts the reply only.

    ``top_k`` and ``min_p`` None: as the backend does by itself. ``repetition_penalty`` 1 punishes nothing. A reply ends
    before the first of ``stop_strings``. It follows ``grammar`` (GBNF) or ``json_schema``, where the backend can.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    stop_strings: tuple[str, ...] = ()
    grammar: str = ""
    json_schema: dict[str, Any] | None = None

    def candidate(self, i: int) -> Options:
        """The options of candidate ``i`` of several: its seed is ``i`` above the first one's."""
        return self if self.seed is None else replace(self, seed=self.seed + i)

    def within(self, can: Sequence[str]) -> tuple[Options, list[str]]:
        """These options without those of ``SAMPLING`` that are not in ``can``, and the names that somebody had set."""
        plain = Options()
        lost = [n for n in SAMPLING if n not in can and getattr(self, n) != getattr(plain, n)]
        return replace(self, **{n: getattr(plain, n) for n in lost}), lost


# what a backend may or may not be able to do; temperature, max_tokens and seed all understand
SAMPLING = ("top_p", "top_k", "min_p", "repetition_penalty", "stop_strings", "grammar", "json_schema")


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply. Counts, where known, come with the last piece; so does ``finish``.

    ``finish`` is 'stop' (the model ended), 'length' (max_tokens or a full context) or None (more follows, or stopped by the person).
    ``phase`` tells, before the first word, what takes its time: 'waiting' for another reply of the model, 'downloading' (``told``:
    how far) and 'loading' its weights, then 'reading'; or 'server': it asked for patience.
    ``reasoning`` is what the model says to itself: kept apart, never sent back, never judged.
    ``image`` is a picture the model made, a whole file. ``facts`` go into the node's params. ``last``: this candidate is over.
    """

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    phase: Literal["waiting", "downloading", "loading", "reading", "server"] | None = None
    told: str = ""
    reasoning: str = ""
    image: bytes | None = None
    facts: dict[str, Any] | None = None
    last: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. ``context_length`` in tokens, None when unknown. ``parallel``: safe to stream several at once.

    ``together``: ``sample`` reads the prompt once for all its candidates, and writes them side by side.
    ``sampling``: which of ``SAMPLING`` it follows; a server nobody knows is asked for all of them.
    """

    images_in: bool = False
    images_out: bool = False
    parallel: bool = False
    token_counts: bool = False
    context_length: int | None = None
    together: bool = False
    sampling: tuple[str, ...] = SAMPLING


class Backend(Protocol):
    """Something that answers. Backends inherit, and so have what they need not do in a way of their own."""

    capabilities: Capabilities

    def stream(self, messages: list[Message], options: Options, stop: threading.Event) -> Iterator[Delta]:
        """Yield the reply in pieces; return early, without an error, soon after ``stop`` is set.

        Raises:
            BackendError: a missing package or model, a dead server, a full context: one line that says what to do.
        """
        ...

    def sample(
        self, messages: list[Message], options: Options, n: int, stop: Sequence[threading.Event]
    ) -> Iterator[tuple[int, Delta]]:
        """Yield the pieces of ``n`` candidates, each with its candidate's number; ``stop[i]`` stops candidate i alone.

        Candidate i draws with seed + i. With ``capabilities.together`` its last piece has ``completion_tokens`` or
        ``last``. Here: one candidate after the other.

        Raises:
            BackendError: as ``stream``.
        """
        for i in range(n):
            for delta in self.stream(messages, options.candidate(i), stop[i]):
                yield i, delta

    def unload(self, timeout_s: float = 10.0) -> bool:
        """Free memory; a reply under way ends with an error that says so. False when it still is after ``timeout_s``."""
        return True

    def describe(self) -> dict[str, Any]:
        """What is in the memory of this machine: ``loaded`` and ``memory_mb``. Here: nothing ever is."""
        return {"loaded": False, "memory_mb": 0}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model the person can choose: a display name, a backend by name, and that backend's own settings."""

    name: str
    backend: str
    settings: dict[str, Any] = field(default_factory=dict)
