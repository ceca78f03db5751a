"""Models with weights in the memory of this machine: one at work at a time, freed when asked, also while it works.

Owns whose turn it is and whose weights are in memory. Never loads anything, and knows nothing of what a model does.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

POLL_S = 0.05  # how often who waits for the turn looks whether it is still wanted

Piece = TypeVar("Piece")


class Turn:
    """What models share of which one works at a time and one is in memory."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held while a model loads or works
        self.holder: Resident | None = None  # whose weights are in memory


class Resident(ABC):
    """A model whose weights are in memory from its first use until it is unloaded, or another one takes their place."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._leave = threading.Event()  # the weights are to be freed although it works
        self._working = False

    @abstractmethod
    def _here(self) -> bool:
        """Whether the weights are in memory."""

    @abstractmethod
    def _drop(self) -> None:
        """Free the weights, which are in memory."""

    def unload(self, timeout_s: float = 10.0) -> bool:
        """Free the memory; what is under way ends with an error that says so. False when it still is after ``timeout_s``."""
        if not self._here() and not self._working:
            return True
        self._leave.set()  # whoever holds the turn frees it too
        if not self._turn.lock.acquire(timeout=timeout_s):
            return False
        try:
            self._free()
        finally:
            self._turn.lock.release()
        return True

    def _in_turn(
        self,
        work: Iterator[Piece],
        given_up: Callable[[], bool],
        waiting: Iterable[Piece] = (),
        waited: Iterable[Piece] = (),
    ) -> Iterator[Piece]:
        """Yield what ``work`` yields once this has the turn; where another has it, ``waiting`` before and ``waited`` then.

        ``work`` never begins when ``given_up`` comes true meanwhile.
        """
        taken = not self._turn.lock.acquire(blocking=False)
        if taken:
            yield from waiting
            while not self._turn.lock.acquire(timeout=POLL_S):
                if given_up():
                    return
        self._working = True
        try:
            if taken:
                yield from waited
            yield from work
        finally:  # also when the caller closes the generator early
            self._working = False
            if self._leave.is_set():
                self._free()
            self._turn.lock.release()

    # ---- while this has the turn

    def _take_over(self) -> None:
        """Free the weights of whoever has some in memory: this is about to load its own."""
        if self._turn.holder is not None:
            self._turn.holder._free()

    def _free(self) -> None:
        self._leave.clear()
        if self._here():
            self._turn.holder = None
            self._drop()
