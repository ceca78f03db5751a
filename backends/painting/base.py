"""The contract of a painter: what is wished for, what it yields while it draws, and what it can do.

Owns the words between the studio and whatever makes pictures. Never loads a model, never touches the store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Task = Literal["generate", "edit", "inpaint", "instruct"]
TASKS: tuple[Task, ...] = ("generate", "edit", "inpaint", "instruct")


@dataclass(frozen=True, slots=True)
class Wish:
    """A picture that somebody wants. None: as the model does by itself. ``width``, ``height`` in pixels.

    ``source`` is the file of the picture to change; ``mask`` one of the same size in pixels, white where it may change.
    ``strength`` 0-1: how much of the source is given up. Variant i of ``variants`` is drawn with ``seed`` + i.
    """

    task: Task
    prompt: str
    negative: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    variants: int = 1
    strength: float | None = None
    source: bytes | None = None
    mask: bytes | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How far a variant is: ``step`` of ``steps`` (0 of 0: nobody knows).

    ``preview``: a small picture of what is there so far, or b"". ``image``: the whole PNG, with the variant's last step; then
    ``facts`` say how it was made, ``seed`` None: nobody knows it. ``told``: how far a download is.
    """

    variant: int
    step: int = 0
    steps: int = 0
    preview: bytes = b""
    image: bytes = b""
    seed: int | None = None
    phase: Literal["downloading", "loading", "running"] = "running"
    told: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Can:
    """What a painter can do. ``defaults``: width, height, steps, guidance, strength, None where it decides by itself.

    ``negative``, ``guidance``: it takes such; ``preview``: it shows what is there after each step. Sides are multiples of
    ``multiple`` pixels. ``needs``: what comes before the first picture, such as a download; '' when nothing does.
    """

    tasks: tuple[Task, ...]
    defaults: dict[str, Any]
    negative: bool = False
    guidance: bool = False
    preview: bool = False
    multiple: int = 1
    needs: str = ""


class Painter(Protocol):
    """Something that makes pictures."""

    name: str

    @property
    def can(self) -> Can:
        """What it can do, as far as is known before it is loaded. Quick: asks nobody.

        Raises:
            BackendError: its files are none of a model that draws.
        """
        ...

    def paint(self, wish: Wish, stop: threading.Event) -> Iterator[Step]:
        """Yield the steps of one variant after the other; return early, without an error, soon after ``stop`` is set.

        Raises:
            BackendError: an impossible wish, a missing model, no memory, a server that fails: one line that says what to do.
        """
        ...

    def unload(self, timeout_s: float = 10.0) -> bool:
        """Free memory; a picture under way ends with an error that says so. False when it still is after ``timeout_s``."""
        ...

    def describe(self) -> dict[str, Any]:
        """What is in the memory of this machine: ``loaded``, ``memory_mb``, ``device``."""
        ...
