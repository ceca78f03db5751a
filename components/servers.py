"""The form for a server with the OpenAI interface: choose one, list its models, try one, add it. Builds widgets, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import gradio as gr

OTHER = "Another one"


class ServerForm(NamedTuple):
    """Widgets of the form. ``said`` is plain text: models and servers write into it."""

    preset: gr.Dropdown
    url: gr.Textbox
    key_env: gr.Textbox
    key: gr.Textbox
    can: gr.CheckboxGroup
    model: gr.Dropdown
    offered: gr.Button
    test: gr.Button
    name: gr.Textbox
    add: gr.Button
    said: gr.Textbox

    @property
    def where(self) -> list[gr.components.Component]:
        """What decides which server is asked, in the order of ``studio.actions.servers.form``."""
        return [self.preset, self.url, self.key_env, self.key, self.can]


def server_form(presets: list[str], keyring: str, can: Sequence[tuple[str, str, bool]]) -> ServerForm:
    """Build the form. ``presets``: names of known servers; ``keyring``: why the OS keyring keeps no keys, '' when it does;
    ``can``: what a model may be ticked for: words, setting, and whether it is at first."""
    kept = (
        "Kept in the OS keyring, for this server only." if not keyring else "No OS keyring: used until the studio ends."
    )
    with gr.Group():
        gr.Markdown(
            "## Add a server to chat with\nAny server with the OpenAI interface, on this machine or elsewhere.",
            elem_classes="padded",
        )
        with gr.Row():
            preset = gr.Dropdown([*presets, OTHER], value=OTHER, label="Server", min_width=200)
            url = gr.Textbox(label="Base URL", placeholder="http://127.0.0.1:11434/v1", min_width=240)
        with gr.Row():
            key_env = gr.Textbox(label="Environment variable that holds the key", placeholder="OPENAI_API_KEY, or empty",
                                 min_width=240)  # fmt: skip
            key = gr.Textbox(
                label="Or the key itself", type="password", placeholder="Empty: none", info=kept, min_width=240
            )
        with gr.Row():
            model = gr.Dropdown(
                [], value=None, label="Model", allow_custom_value=True, min_width=240, elem_id="server-model"
            )
            name = gr.Textbox(label="Name in the list", placeholder="As the model", min_width=240)
        ticks = gr.CheckboxGroup([(words, setting) for words, setting, _ in can], label="What this model does",
                                 value=[setting for _, setting, default in can if default], elem_id="server-can")  # fmt: skip
        with gr.Row():
            listed = gr.Button("List models", size="md", min_width=90, elem_id="server-list")
            test = gr.Button("Test server", size="md", min_width=90, elem_id="server-test")
            add = gr.Button("Add server", variant="primary", size="md", min_width=90, elem_id="server-add")
        said = gr.Textbox(label="What came back", interactive=False, lines=2, max_lines=8, elem_id="server-said")
    return ServerForm(preset, url, key_env, key, ticks, model, listed, test, name, add, said)
