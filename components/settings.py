"""The settings screen beside its lists of models: the form for a server, and about this studio. Builds widgets, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from components.servers import ServerForm, server_form


def server(presets: list[str], keyring: str, can: Sequence[tuple[str, str, bool]]) -> ServerForm:
    """Build the form for a server; all as in ``server_form``."""
    with gr.Column(elem_classes="page"):
        return server_form(presets, keyring, can)


def about(where: str) -> None:
    """Say where everything is kept: ``where``, as Markdown."""
    with gr.Column(elem_classes="page"):
        gr.Markdown(f"## This studio\n{where}")
