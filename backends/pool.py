"""What was opened stays open: one thing a model, by its display name. Knows nothing of what it opens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from backends.base import ModelSpec


class Unloadable(Protocol):
    """Something with memory to free."""

    def unload(self, timeout_s: float = 10.0) -> bool:
        """Free it; False when it is still at work after ``timeout_s``."""
        ...


Opened = TypeVar("Opened", bound=Unloadable)


class Kept(Generic[Opened]):
    """Opens each model once with ``make`` and keeps it. Thread-safe."""

    def __init__(self, make: Callable[[ModelSpec], Opened]) -> None:
        self._make = make
        self._open: dict[str, tuple[ModelSpec, Opened]] = {}
        self._lock = threading.Lock()

    def get(self, spec: ModelSpec) -> Opened:
        """What was made of ``spec``: on first use, and again when its settings changed.

        Raises:
            BackendError: what ``make`` raises.
        """
        with self._lock:
            known = self._open.get(spec.name)
            if known and known[0] == spec:
                return known[1]
            made = self._make(spec)
            self._open[spec.name] = (spec, made)
        if known:
            known[1].unload()
        return made

    def opened(self) -> dict[str, Opened]:
        """All that were opened, by the name of their model."""
        with self._lock:
            return {name: made for name, (_, made) in self._open.items()}

    def close(self) -> None:
        """Free what is loaded; the next ``get`` opens it again."""
        with self._lock:
            opened = [made for _, made in self._open.values()]
            self._open.clear()
        for made in opened:
            made.unload()
