"""The CLIP model that finds pictures by what they show, chosen on Settings: its line in ``studio.toml``, in effect at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backends.retrieve import clip
from studio import config, retrieving
from studio.actions import Studio
from studio.seeing import Sight

DOES = "finds pictures by what they show, and compares them with words"
KEY = "clip"


def choose(studio: Studio, folder: Path) -> None:
    """Find pictures with the model in a folder from now on.

    Raises:
        BackendError: it is no CLIP model. StudioError: ``studio.toml`` cannot be written.
    """
    clip.found(folder)
    _set(studio, str(folder))


def leave(studio: Studio, folder: Path) -> None:
    """Use the model of this folder no longer, if it is the one in use; what it saw is kept for the next time."""
    if used(studio, folder):
        _set(studio, None)


def used(studio: Studio, folder: Path) -> bool:
    """Whether the model of this folder is the one in use."""
    return studio.config.retrieve.get(KEY) == str(folder)


def _set(studio: Studio, folder: str | None) -> None:
    config.set_retrieve(studio.config.home, KEY, folder)
    others = {k: v for k, v in studio.config.retrieve.items() if k != KEY}
    studio.config = replace(studio.config, retrieve=others | ({KEY: folder} if folder else {}))
    own = retrieving.of(studio)
    own.sight = Sight(studio.config.retrieve, own.index)
    if checker := studio.workers.pop("checks", None):  # it holds the model from before
        checker.close()
