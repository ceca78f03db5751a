"""Painters: what makes pictures from words, and changes pictures by words. Importing this package imports no library."""

from __future__ import annotations

import importlib

from backends.base import BackendError, ModelSpec
from backends.painting.base import TASKS, Can, Painter, Step, Task, Wish
from backends.painting.checks import DOES, MAX_SIDE, MAX_VARIANTS, Checked, checked
from backends.pool import Kept

__all__ = [
    "DOES","MAX_SIDE", "MAX_VARIANTS", "NAMES", "TASKS", "Can", "Checked", "Painter", "Painters", "Step", "Task", "Wish", "checked"]  # fmt: skip

MODULES = {"diffusers": "diffusion", "openai": "api"}  # a module cannot have the name of the package it uses
NAMES = tuple(MODULES)


def create(spec: ModelSpec) -> Painter:
    """The painter of an ``[[image_model]]``. Loads nothing yet.

    Raises:
        BackendError: no such backend, or an impossible setting.
    """
    if spec.backend not in MODULES:
        raise BackendError(
            f"No painter is called {spec.backend!r} (image model {spec.name!r}). Known: {', '.join(NAMES)}."
        )
    painter: Painter = importlib.import_module(f"backends.painting.{MODULES[spec.backend]}").create(
        spec.name, **spec.settings
    )
    return painter


class Painters(Kept[Painter]):
    """The painters of one run of the studio, each opened once."""

    def __init__(self) -> None:
        super().__init__(create)
