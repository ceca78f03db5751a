"""Chat backends, loaded by name on demand: importing this package imports none of them."""

from __future__ import annotations

import importlib

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
from backends.pool import Kept

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


def create(spec: ModelSpec) -> Backend:
    """The backend of a model. Loads nothing yet.

    Raises:
        BackendError: unknown backend, or what its module raises while opening.
    """
    if spec.backend not in NAMES:
        raise BackendError(f"No backend is called {spec.backend!r} (model {spec.name!r}). Known: {', '.join(NAMES)}.")
    module = importlib.import_module(f"backends.{MODULES.get(spec.backend, spec.backend)}")
    backend: Backend = module.create(**spec.settings)
    return backend


class Pool(Kept[Backend]):
    """The backends of one run of the studio, each opened once."""

    def __init__(self) -> None:
        super().__init__(create)
