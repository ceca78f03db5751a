"""The settings screen: the models in the list, and a form for a server that speaks the OpenAI interface."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr


class Settings(NamedTuple):
    """Widgets of the settings screen."""

    models: gr.Dataframe
    name: gr.Textbox
    url: gr.Textbox
    model: gr.Textbox
    key: gr.Textbox
    add: gr.Button
    remove: gr.Dropdown
    remove_button: gr.Button
    where: gr.Markdown


def settings(rows: list[list[str]], removable: list[str], where: str) -> Settings:
    """Build the screen. ``rows``: name, backend, details of each model; ``where``: Markdown about the home folder."""
    with gr.Column(elem_classes="page"):
        gr.Markdown("## Models")
        models = gr.Dataframe(rows, headers=["Name", "Backend", "Details"], interactive=False, wrap=True, elem_id="model-list",
                              show_label=False, column_widths=["42%", "28%", "30%"])  # fmt: skip
        with gr.Group():
            gr.Markdown("### Add a server\nAny server with the OpenAI interface: OpenAI, vLLM, Ollama, LM Studio, llama.cpp.",
                        elem_classes="padded")  # fmt: skip
            with gr.Row():
                name = gr.Textbox(label="Name in the list", placeholder="Qwen on my workstation")
                url = gr.Textbox(label="Base URL", placeholder="http://127.0.0.1:11434/v1")
            with gr.Row():
                model = gr.Textbox(label="Model", placeholder="qwen2.5vl:3b")
                key = gr.Textbox(label="Environment variable that holds the key", placeholder="OPENAI_API_KEY, or empty",
                                 info="Keys are never stored here.")  # fmt: skip
            add = gr.Button("Add", variant="primary")
        with gr.Row():
            remove = gr.Dropdown(removable, label="Take one out of the list", value=None)
            remove_button = gr.Button("Take out", scale=0, min_width=120)
        gr.Markdown("## This studio")
        about = gr.Markdown(where)
    return Settings(models, name, url, model, key, add, remove, remove_button, about)
