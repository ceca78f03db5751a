"""The list of models: what is in it, adding one to ``studio.toml``, taking one out, reading the file again."""

from __future__ import annotations

from dataclasses import replace

from backends import ModelSpec
from studio import __version__, config
from studio.actions.core import Studio
from studio.config import Table


def add_model(studio: Studio, spec: ModelSpec, table: Table = "model") -> None:
    """Add a model to ``studio.toml`` and to the list of those that chat, or that draw."""
    config.add_model(studio.config.home, spec, table)
    reload_models(studio)


def remove_model(studio: Studio, name: str, table: Table = "model") -> None:
    """Take a model of ``studio.toml`` out of its list."""
    config.remove_model(studio.config.home, name, table)
    reload_models(studio)


def reload_models(studio: Studio) -> None:
    """Read the models of ``studio.toml`` again."""
    found = config.load(studio.config.home)
    studio.config = replace(studio.config, models=found.models, image_models=found.image_models)


def about(studio: Studio) -> str:
    """Markdown about this studio: its version, its home, and what its store has to tell."""
    lines = [f"Version {__version__}. Everything is kept in `{studio.config.home}`; judgements are signed “{studio.config.annotator}”.",
             "Models and the signature are set in `studio.toml` there."]  # fmt: skip
    return "\n\n".join([*lines, *studio.store.notices])
