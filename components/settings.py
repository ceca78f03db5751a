"""The settings screen below the list of models: the form for a server, and about this studio. Builds widgets, nothing else."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from components.servers import ServerForm, server_form


class Settings(NamedTuple):
    """Widgets of the settings screen."""

    server: ServerForm
    where: gr.Markdown


def settings(where: str, presets: list[str], keyring: str) -> Settings:
    """Build the screen. ``where``: Markdown about the home folder; ``presets`` and ``keyring`` as in ``server_form``."""
    with gr.Column(elem_classes="page"):
        server = server_form(presets, keyring)
        gr.Markdown("## This studio")
        about = gr.Markdown(where)
    return Settings(server, about)
