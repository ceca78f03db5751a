"""Chat backends, loaded by name on demand: importing this package imports none of them."""

from __future__ import annotations

import importlib
import threading

from backends.base import (
    SAMPLING,
    Backend,
    BackendError,
    Capabilities,
    Content,
    Delta,
    Image,
    Message,
    ModelSpec,
    Options,
)

__all__ = [
    "SAMPLING",
    "Backend",
    "BackendError",
    "Capabilities",
    "Content",
    "Delta",
    "Image",
    "Message",
    "ModelSpec",
    "Options",
    "Pool",
]

NAMES = ("echo", "builtin", "llama", "openai", "transformers")
MODULES = {"transformers": "hf"}  # where the module cannot have the name of the package it uses


class Pool:
    """Opens each model once and keeps it. Thread-safe."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[ModelSpec, Backend]] = {}
        self._lock = threading.Lock()

    def get(self, spec: ModelSpec) -> Backend:
        """The backend of ``spec``, opened on first use and again when its settings changed.

        Raises:
            BackendError: unknown backend, or what its module raises while opening.
        """
        with self._lock:
            known = self._open.get(spec.name)
            if known and known[0] == spec:
                return known[1]
            if spec.backend not in NAMES:
                raise BackendError(
                    f"No backend is called {spec.backend!r} (model {spec.name!r}). Known: {', '.join(NAMES)}."
                )
            backend: Backend = importlib.import_module(f"backends.{MODULES.get(spec.backend, spec.backend)}").create(
                **spec.settings
            )
            self._open[spec.name] = (spec, backend)
        if known:
            known[1].unload()
        return backend

    def opened(self) -> dict[str, Backend]:
        """The backends that were opened, by the name of their model."""
        with self._lock:
            return {name: backend for name, (_, backend) in self._open.items()}

    def close(self) -> None:
        """Free what is loaded; the next ``get`` opens it again."""
        with self._lock:
            opened = [backend for _, backend in self._open.values()]
            self._open.clear()
        for backend in opened:
            backend.unload()
