"""The settings screen: the models in the list, the form for a server, and about this studio. Builds widgets, nothing else."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from components.servers import ServerForm, server_form


class Settings(NamedTuple):
    """Widgets of the settings screen."""

    models: gr.Dataframe
    server: ServerForm
    remove: gr.Dropdown
    remove_button: gr.Button
    where: gr.Markdown


def settings(rows: list[list[str]], removable: list[str], where: str, presets: list[str], keyring: str) -> Settings:
    """Build the screen. ``rows``: name, backend, details of each model; ``where``: Markdown about the home folder;
    ``presets`` and ``keyring`` as in ``server_form``."""
    with gr.Column(elem_classes="page"):
        gr.Markdown("## Models")
        models = gr.Dataframe(rows, headers=["Name", "Backend", "Details"], interactive=False, wrap=True, elem_id="model-list",
                              show_label=False, column_widths=["42%", "28%", "30%"])  # fmt: skip
        server = server_form(presets, keyring)
        with gr.Row():
            remove = gr.Dropdown(removable, label="Take one out of the list", value=None)
            remove_button = gr.Button("Take out", scale=0, min_width=120)
        gr.Markdown("## This studio")
        about = gr.Markdown(where)
    return Settings(models, server, remove, remove_button, about)
